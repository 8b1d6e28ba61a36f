//! The space of rotated vectors, in which everything is computed.

use mysql_ml_base::error::{Error, Result};

use crate::layout::{Layout, Metric};
use crate::rotation::Rotation;
use crate::sums;

/// Longer vectors are refused: their squared distances overflow.
const LONGEST: f64 = 1e18;

/// A layout with its rotation.
pub(crate) struct Space {
    pub(crate) layout: Layout,
    pub(crate) padded: usize,
    rotation: Rotation,
}

impl Space {
    pub(crate) fn new(layout: &Layout) -> Self {
        let padded = layout.padded();
        Space { layout: *layout, padded, rotation: Rotation::new(layout.seed(), padded) }
    }

    /// The factor that makes a vector ready for the metric: 1, or 1 / its length. Errors for vectors that no index can
    /// hold: another width, non-finite elements, a length above 1e18; zero vectors with [`Metric::Cosine`].
    pub(crate) fn scale(&self, vector: &[f32]) -> Result<f32> {
        if vector.len() != self.layout.dimensions() {
            return Err(Error::invalid(format!(
                "the vector has {} dimensions, and the index {}; only vectors of one width can be compared",
                vector.len(),
                self.layout.dimensions()
            )));
        }
        let length = sums::squares(vector).sqrt();
        if !length.is_finite() {
            return Err(Error::invalid("the vector holds a value that is not a finite number"));
        }
        if length > LONGEST {
            return Err(Error::invalid("the vector is longer than 1e18, which a vector index cannot hold"));
        }
        match self.layout.metric() {
            Metric::L2 | Metric::Dot => Ok(1.0),
            Metric::Cosine if length == 0.0 => {
                Err(Error::invalid("a zero vector has no direction, so an index by cosine cannot hold it"))
            }
            // Below the smallest normal number the reciprocal is no f32.
            Metric::Cosine => Ok((1.0 / length).min(f64::from(f32::MAX)) as f32),
        }
    }

    /// Writes the rotated vector times `scale` to `out`, which has `padded` elements.
    pub(crate) fn rotate(&self, vector: &[f32], scale: f32, out: &mut [f32]) {
        let (own, rest) = out.split_at_mut(vector.len().min(out.len()));
        for (place, x) in own.iter_mut().zip(vector) {
            *place = x * scale;
        }
        rest.fill(0.0);
        self.rotation.apply(out);
    }

    /// The rotated vector, normalised if the metric asks for it.
    pub(crate) fn prepare(&self, vector: &[f32]) -> Result<Vec<f32>> {
        let scale = self.scale(vector)?;
        let mut out = vec![0.0; self.padded];
        self.rotate(vector, scale, &mut out);
        Ok(out)
    }
}
