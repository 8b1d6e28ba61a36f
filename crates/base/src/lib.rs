//! What every part of mysql-ml uses: errors, interrupts, bounded memory and threads, vectors.
//!
//! Nothing in here knows MySQL. What only the process around the library can do is asked of [`host`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod account;
pub mod error;
pub mod files;
pub mod host;
pub mod interrupt;
pub mod memory;
pub mod panics;
pub mod role;
pub mod shares;
pub mod url;
pub mod vector;
pub mod workers;
