//! Common parts of mysql-ml: errors, interrupts, bounded memory and threads, vectors.
//!
//! Nothing here knows MySQL. [`host`] holds functions of the process around the library.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod account;
pub mod counters;
pub mod error;
pub mod files;
pub mod host;
pub mod interrupt;
pub mod memory;
pub mod panics;
pub mod role;
pub mod shares;
pub mod status;
pub mod symbol;
pub mod threads;
pub mod url;
pub mod vector;
pub mod wait;
pub mod workers;
