//! Vectors to lists and codes.

use std::sync::OnceLock;

use mysql_ml_base::error::{Error, Result};

use crate::centroids::Centroids;
use crate::code::Code;
use crate::nearest::{Nearest, Panels, Rows};
use crate::parallel;
use crate::space::Space;

/// The list of vectors that the index leaves out: with non-finite elements, longer than 1e18, or zero with
/// [`Metric::Cosine`](crate::Metric::Cosine).
pub const LEFT_OUT: u32 = u32::MAX;

/// Assigns vectors to lists and encodes them.
pub struct Encoder<'a> {
    space: Space,
    centroids: &'a Centroids,
    panels: OnceLock<Panels>,
}

impl<'a> Encoder<'a> {
    /// An encoder for the layout of the centroids.
    pub fn new(centroids: &'a Centroids) -> Self {
        Encoder { space: Space::new(centroids.layout()), centroids, panels: OnceLock::new() }
    }

    /// The nearest list of each vector, or [`LEFT_OUT`]. `vectors` is row-major; a trailing part of a vector is
    /// dropped. Works on the calling thread and up to `threads - 1` others.
    pub fn assign(&self, vectors: &[f32], threads: usize) -> Vec<u32> {
        self.nearest(vectors, threads).iter().map(|n| n.lists[0]).collect()
    }

    /// The nearest two lists of each vector. The second is [`LEFT_OUT`] if the distance from it is more than `reach`
    /// times that from the first.
    pub fn assign_twice(&self, vectors: &[f32], reach: f32, threads: usize) -> Vec<[u32; 2]> {
        let nearest = self.nearest(vectors, threads);
        let rows = vectors.chunks_exact(self.space.layout.dimensions());
        let twice = nearest.iter().zip(rows).map(|(nearest, row)| {
            let [first, second] = nearest.lists;
            let Ok(scale) = self.space.scale(row) else { return [LEFT_OUT; 2] };
            let length = crate::sums::squares(row) as f32 * scale * scale;
            let [near, far] = nearest.scores.map(|score| (length + 2.0 * score).max(0.0));
            if far <= reach * reach * near {
                [first, second]
            } else {
                [first, LEFT_OUT]
            }
        });
        twice.collect()
    }

    fn nearest(&self, vectors: &[f32], threads: usize) -> Vec<Nearest> {
        let (dimensions, padded) = (self.space.layout.dimensions(), self.space.padded);
        let panels = self.panels.get_or_init(|| Panels::new(self.centroids.values(), padded));
        let chunk = Panels::chunk(padded);
        let mut nearest = vec![Nearest::NONE; vectors.len() / dimensions];
        let work = vectors.chunks(chunk * dimensions).zip(nearest.chunks_mut(chunk));
        let never = || false;
        let done = parallel::for_each(threads, &never, work, |rows: &mut Rows, (vectors, nearest)| {
            rows.clear();
            let vectors = vectors.chunks_exact(dimensions);
            for vector in vectors.clone() {
                // A vector that is left out takes the place of a zero vector.
                let scale = self.space.scale(vector);
                rows.push(padded, |place| match scale {
                    Ok(scale) => self.space.rotate(vector, scale, place),
                    Err(_) => place.fill(0.0),
                });
            }
            panels.nearest(rows, nearest);
            for (vector, nearest) in vectors.zip(nearest) {
                if self.space.scale(vector).is_err() {
                    *nearest = Nearest::NONE;
                }
            }
        });
        debug_assert_eq!(done, Ok(()));
        nearest
    }

    /// The code of a vector in a list. Errors for vectors that the index leaves out, and for a list that does not
    /// exist.
    pub fn encode(&self, vector: &[f32], list: u32) -> Result<Code> {
        let centroid = usize::try_from(list).ok().and_then(|list| self.centroids.get(list));
        let centroid = centroid
            .ok_or_else(|| Error::invalid(format!("the vector index has no list {list}; rebuild the index")))?;
        let mut residual = self.space.prepare(vector)?;
        for (x, c) in residual.iter_mut().zip(centroid) {
            *x -= c;
        }
        Ok(Code::new(&self.space.layout, &residual, centroid))
    }
}
