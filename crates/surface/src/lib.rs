//! The SQL surface as data: each SQL function and each setting in one row.
//!
//! The library makes its exported symbols, argument names and privilege checks of the rows; `cargo xtask sql` makes the
//! generated sections of the SQL scripts; tests and developer commands read the rows too. So this crate has no
//! dependencies: a developer command reads it without building the library, whose tests need the developer commands.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod functions;
pub mod scripts;
pub mod settings;

pub use functions::{Body, Exported, Function, Kind, Parameter, Role, Routine, Security};
pub use settings::{Setting, SETTINGS};
