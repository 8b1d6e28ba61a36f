//! The C ABI between mysqld and the library: traits of entry points, and raw server symbols.
//!
//! Unsafe code is in [`crate::mysql`], including this module, and in the code that the macro of
//! [`crate::sql::exports`] generates.

pub mod args;
pub mod function;
pub mod service;
pub mod stored_program;
pub mod symbols;
