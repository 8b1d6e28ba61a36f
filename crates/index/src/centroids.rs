//! Centroids, and their rows in a table.

use mysql_ml_base::error::{Error, Result};

use crate::layout::{check_version, Layout, VERSION};

const MAGIC: [u8; 2] = *b"vc";

/// The largest integer of a coordinate.
const LARGEST: f32 = 32_767.0;

/// The centroids of all lists, rotated.
///
/// A row has 16 bits for each coordinate, a common power of two, and the spread of the list's vectors. Every centroid here was rounded so, because codes
/// are relative to what the row says.
#[derive(Debug, Clone, PartialEq)]
pub struct Centroids {
    layout: Layout,
    values: Vec<f32>,
    /// For each list, the mean squared distance of the sample's vectors from the centroid.
    spreads: Vec<f32>,
}

impl Centroids {
    /// No centroids yet.
    pub fn new(layout: &Layout) -> Self {
        Centroids { layout: *layout, values: Vec::new(), spreads: Vec::new() }
    }

    /// Reads rows in the order of their lists. Errors for rows of another layout or version.
    pub fn from_rows<R: AsRef<[u8]>>(layout: &Layout, rows: impl IntoIterator<Item = R>) -> Result<Self> {
        let mut centroids = Centroids::new(layout);
        for row in rows {
            centroids.push(row.as_ref())?;
        }
        Ok(centroids)
    }

    /// Reads the row of the next list.
    pub fn push(&mut self, row: &[u8]) -> Result<()> {
        let row = Row::parse(&self.layout, row)?;
        self.values.extend(row.values());
        self.spreads.push(row.spread);
        Ok(())
    }

    /// The row of a list; `None` without such a list.
    pub fn encode(&self, list: usize) -> Option<Vec<u8>> {
        let centroid = self.get(list)?;
        let exponent = exponent(centroid);
        let scale = 2.0_f32.powi(-i32::from(exponent));
        let mut row = MAGIC.to_vec();
        row.push(VERSION);
        row.push(exponent.to_le_bytes()[0]);
        row.extend(self.spreads.get(list)?.to_le_bytes());
        row.extend(centroid.iter().flat_map(|x| ((x * scale).round() as i16).to_le_bytes()));
        Some(row)
    }

    /// The number of lists.
    pub fn len(&self) -> usize {
        self.values.len() / self.layout.padded()
    }

    /// Whether there are no lists.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The rotated centroid of a list: a multiple of 64 numbers. `None` without such a list.
    pub fn get(&self, list: usize) -> Option<&[f32]> {
        self.values.chunks_exact(self.layout.padded()).nth(list)
    }

    /// The layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Adds a centroid, rounded to what its row can say.
    pub(crate) fn add(&mut self, centroid: &[f32], spread: f32) {
        let exponent = i32::from(exponent(centroid));
        let (down, up) = (2.0_f32.powi(-exponent), 2.0_f32.powi(exponent));
        self.values.extend(centroid.iter().map(|x| (x * down).round() * up));
        self.spreads.push(spread);
    }

    /// All centroids, one after the other.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }
}

/// The power of two by which the coordinates are integers of 16 bits.
fn exponent(centroid: &[f32]) -> i8 {
    let largest = centroid.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let mut exponent = -100;
    while exponent < 100 && (largest * 2.0_f32.powi(-i32::from(exponent))).round() > LARGEST {
        exponent += 1;
    }
    exponent
}

/// The row of a centroid, as it is stored.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// Little-endian 16-bit integers.
    pub(crate) integers: &'a [[u8; 2]],
    /// The factor of all of them.
    pub(crate) scale: f32,
    /// The mean squared distance of the list's vectors from the centroid.
    pub(crate) spread: f32,
}

impl<'a> Row<'a> {
    pub(crate) fn parse(layout: &Layout, row: &'a [u8]) -> Result<Row<'a>> {
        let broken = || Error::invalid("a centroid of the vector index is damaged; rebuild the index");
        let (&[m0, m1, version, exponent, spread @ ..], integers) = row.split_first_chunk::<8>().ok_or_else(broken)?;
        let spread = f32::from_le_bytes(spread);
        if [m0, m1] != MAGIC {
            return Err(broken());
        }
        check_version(version)?;
        let (integers, rest) = integers.as_chunks::<2>();
        let exponent = i8::from_le_bytes([exponent]);
        if integers.len() != layout.padded()
            || !rest.is_empty()
            || !(-100..=100).contains(&exponent)
            || !spread.is_finite()
        {
            return Err(broken());
        }
        Ok(Row { integers, scale: 2.0_f32.powi(i32::from(exponent)), spread })
    }

    pub(crate) fn values(self) -> impl Iterator<Item = f32> + 'a {
        self.integers.iter().map(move |x| f32::from(i16::from_le_bytes(*x)) * self.scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Metric;

    #[test]
    fn rows_say_what_the_centroids_are() {
        let layout = Layout::new(100, Metric::L2, 1, 1).unwrap();
        let mut rng = fastrand::Rng::with_seed(4);
        let mut centroids = Centroids::new(&layout);
        let mut wanted = Vec::new();
        for size in [0.0, 1e-37, 1e-20, 1e-3, 1.0, 7e4, 1e17] {
            let centroid: Vec<f32> = (0..128).map(|_| (rng.f32() - 0.5) * size).collect();
            centroids.add(&centroid, size);
            wanted.push(centroid);
        }
        for (list, wanted) in wanted.iter().enumerate() {
            let largest = wanted.iter().fold(1e-25_f32, |m, x| m.max(x.abs()));
            for (a, b) in wanted.iter().zip(centroids.get(list).unwrap()) {
                assert!((a - b).abs() <= largest / 16_384.0, "{a} {b}");
            }
        }
        let rows: Vec<_> = (0..centroids.len()).map(|list| centroids.encode(list).unwrap()).collect();
        assert_eq!(Centroids::from_rows(&layout, &rows).unwrap(), centroids);
        assert_eq!(centroids.encode(centroids.len()), None);
    }

    #[test]
    fn damaged_rows_are_refused() {
        let layout = Layout::new(3, Metric::L2, 1, 1).unwrap();
        let mut centroids = Centroids::new(&layout);
        centroids.add(&[0.5; 64], 1.0);
        let row = centroids.encode(0).unwrap();
        assert!(centroids.push(&row).is_ok());
        for end in 0..row.len() {
            assert!(centroids.push(&row[..end]).is_err());
        }
        for (at, value) in [(0, 0), (1, 0), (2, VERSION + 1), (3, 127), (7, 0x7f)] {
            let mut wrong = row.clone();
            wrong[at] = value;
            wrong[6] |= 0x80 * u8::from(at == 7);
            assert!(centroids.push(&wrong).is_err(), "byte {at}");
        }
        assert_eq!(centroids.len(), 2);
    }
}
