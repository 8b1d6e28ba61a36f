//! The SQL surface as data: each SQL function and each setting in one row.
//!
//! The library derives its exported symbols, argument names and privilege checks from the rows. `cargo xtask sql`
//! writes the generated sections of the SQL scripts. Tests and developer commands read the rows too. This crate has
//! no dependencies, so that a developer command need not build the library, whose tests need the developer commands.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod functions;
pub mod scripts;
pub mod settings;

pub use functions::{Body, Exported, Function, Kind, Parameter, Role, Routine, Security};
pub use settings::{Setting, SETTINGS};
