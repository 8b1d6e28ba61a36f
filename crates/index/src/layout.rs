//! The layout of an index: what all its bytes depend on.

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::vector::MAX_DIMENSIONS;

/// The most bits a dimension.
pub const MAX_BITS: u8 = 4;

/// The version of all formats of this crate. A reader refuses other versions.
pub(crate) const VERSION: u8 = 1;

const MAGIC: [u8; 2] = *b"vl";

/// A way to compare vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// The squared Euclidean distance.
    L2,
    /// 1 - cosine of the angle. Vectors are normalised by this crate; zero vectors are refused.
    Cosine,
    /// The inner product with its sign turned, so that smaller is closer.
    Dot,
}

/// The layout of an index. Centroids, codes and blocks of one layout fit no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    dimensions: u16,
    metric: Metric,
    bits: u8,
    seed: u64,
}

impl Layout {
    /// A layout of vectors with 1 to 16383 dimensions and codes of 1 to [`MAX_BITS`] bits a dimension. `seed` decides
    /// the random rotation and the sampling of k-means.
    pub fn new(dimensions: usize, metric: Metric, bits: u8, seed: u64) -> Result<Layout> {
        let dimensions = match u16::try_from(dimensions) {
            Ok(n) if (1..=MAX_DIMENSIONS).contains(&dimensions) => n,
            _ => {
                return Err(Error::invalid(format!(
                    "an index of {dimensions} dimensions is not possible; MySQL stores vectors of 1 to {MAX_DIMENSIONS}"
                )))
            }
        };
        if !(1..=MAX_BITS).contains(&bits) {
            return Err(Error::invalid(format!(
                "codes of {bits} bits a dimension do not exist; accepted: 1 to {MAX_BITS}"
            )));
        }
        Ok(Layout { dimensions, metric, bits, seed })
    }

    /// The number of dimensions.
    pub fn dimensions(&self) -> usize {
        usize::from(self.dimensions)
    }

    /// The metric.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Bits a dimension.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The bytes that [`Layout::from_bytes`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let metric = match self.metric {
            Metric::L2 => 0,
            Metric::Cosine => 1,
            Metric::Dot => 2,
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend([VERSION, metric, self.bits]);
        bytes.extend(self.dimensions.to_le_bytes());
        bytes.extend(self.seed.to_le_bytes());
        bytes
    }

    /// Reads a layout. Errors for bytes that are none, and for another version of the format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Layout> {
        let broken = || Error::invalid("the layout of the vector index is damaged; rebuild the index");
        let bytes: &[u8; 15] = bytes.try_into().map_err(|_| broken())?;
        let [m0, m1, version, metric, bits, d0, d1, seed @ ..] = *bytes;
        if [m0, m1] != MAGIC {
            return Err(broken());
        }
        check_version(version)?;
        let metric = match metric {
            0 => Metric::L2,
            1 => Metric::Cosine,
            2 => Metric::Dot,
            _ => return Err(broken()),
        };
        Layout::new(usize::from(u16::from_le_bytes([d0, d1])), metric, bits, u64::from_le_bytes(seed))
            .map_err(|_| broken())
    }

    /// The dimensions of rotated vectors: a multiple of 64.
    pub(crate) fn padded(&self) -> usize {
        self.dimensions().next_multiple_of(64)
    }

    /// 64-bit words of a code.
    pub(crate) fn words(&self) -> usize {
        self.padded() / 64 * usize::from(self.bits)
    }

    /// A number that tells blocks of different layouts apart (FNV-1a).
    pub(crate) fn fingerprint(&self) -> u32 {
        self.to_bytes().iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    }
}

/// Refuses bytes of another version.
pub(crate) fn check_version(version: u8) -> Result<()> {
    if version == VERSION {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the vector index has format {version}, and this library reads format {VERSION}; rebuild the index"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_what_was_written() {
        for (dimensions, metric, bits) in [(1, Metric::L2, 1), (768, Metric::Cosine, 2), (16_383, Metric::Dot, 4)] {
            let layout = Layout::new(dimensions, metric, bits, 7).unwrap();
            assert_eq!(Layout::from_bytes(&layout.to_bytes()).unwrap(), layout);
        }
    }

    #[test]
    fn wrong_layouts_are_refused() {
        for (dimensions, bits) in [(0, 1), (16_384, 1), (70_000, 1), (3, 0), (3, 5)] {
            assert!(Layout::new(dimensions, Metric::L2, bits, 0).is_err(), "{dimensions} {bits}");
        }
        let bytes = Layout::new(3, Metric::L2, 1, 0).unwrap().to_bytes();
        assert!(Layout::from_bytes(&bytes[1..]).is_err());
        assert!(Layout::from_bytes(&[]).is_err());
        for (at, value) in [(0, b'x'), (2, VERSION + 1), (3, 3), (4, 0), (4, 5), (5, 0)] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            assert!(Layout::from_bytes(&wrong).is_err(), "byte {at} is {value}");
        }
    }
}
