//! The options of a build.

use mysql_ml_index::{Layout, Metric, MAX_BITS};

use super::measures::{metric, take_measure};
use crate::tables::vector_indexes::VectorIndex;
use mysql_ml_base::error::Result;
use mysql_ml_base::vector::MAX_DIMENSIONS;
use mysql_ml_core::catalog::members::{self, Members};

/// The most lists.
pub(super) const MOST_LISTS: usize = 8192;

/// Options of a build.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub metric: Metric,
    pub bits: u8,
    pub lists: Option<usize>,
    pub dimensions: Option<usize>,
}

/// The bits of a dimension, unless the user chooses.
pub(super) const DEFAULT_BITS: u8 = 1;

impl Wanted {
    /// Reads the options of a first build.
    pub fn read(options: Option<&str>) -> Result<Self> {
        let mut members = members::of(options)?;
        let metric = metric(&take_measure(&mut members)?.unwrap_or_else(|| "cosine".to_owned()))?;
        Wanted { metric, bits: DEFAULT_BITS, lists: None, dimensions: None }.with(&mut members)
    }

    /// The options of an index that is built again.
    pub fn of(index: &VectorIndex) -> Result<Self> {
        let layout = Layout::from_bytes(&index.layout)?;
        Ok(Wanted { metric: layout.metric(), bits: layout.bits(), lists: None, dimensions: None })
    }

    /// The same with the given options.
    pub fn with(self, members: &mut Members) -> Result<Self> {
        let bits = members::number(members, "bits", 1, MAX_BITS.into())?;
        let lists = members::number(members, "lists", 1, MOST_LISTS as u64)?;
        let dimensions = members::number(members, "dimensions", 1, MAX_DIMENSIONS as u64)?;
        members::none_left(members, "distance_measure, bits, lists, dimensions")?;
        Ok(Wanted {
            metric: self.metric,
            bits: bits.and_then(|b| u8::try_from(b).ok()).unwrap_or(self.bits),
            lists: lists.and_then(|n| usize::try_from(n).ok()),
            dimensions: dimensions.and_then(|n| usize::try_from(n).ok()),
        })
    }
}
