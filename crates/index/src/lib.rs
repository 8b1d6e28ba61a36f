//! The arithmetic of a vector index whose storage is a table. No SQL, no I/O.
//!
//! Vectors are divided into lists by k-means ([`train`], [`Encoder::assign`]). In its list, a vector is a code of 1 to 4
//! bits a dimension ([`Encoder::encode`]). Codes with their rows' keys form blocks ([`BlockBuilder`], [`Block`]). A
//! search chooses lists ([`ListChooser`]), estimates the distances of their codes ([`Scan`]), and returns candidates.
//! The caller computes the exact distances of the candidates. [`Calibration`] measures how many lists it has to read.
//!
//! Codes and estimates are those of RaBitQ (Gao and Long, SIGMOD 2024) and its extension to several bits (SIGMOD 2025):
//! the difference between a vector and its list's centroid is rotated at random and rounded to a grid. The estimate is
//! unbiased, and its error bound is known for each code.
//!
//! Values of a seed, and bytes of every format, are the same on every processor except for rounding in k-means.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod block;
mod calibration;
mod centroids;
mod chooser;
mod code;
mod encoder;
mod kmeans;
mod layout;
mod nearest;
mod parallel;
mod random;
mod rotation;
mod scan;
mod space;
mod sums;

pub use block::{Block, BlockBuilder};
pub use calibration::{Calibrated, Calibration};
pub use centroids::Centroids;
pub use chooser::{ListChooser, Near};
pub use code::Code;
pub use encoder::{Encoder, LEFT_OUT};
pub use kmeans::{recommended_lists, recommended_sample, train, train_bytes};
pub use layout::{Layout, Metric, MAX_BITS};
pub use parallel::Stopped;
pub use scan::{Candidate, Limits, Scan};
