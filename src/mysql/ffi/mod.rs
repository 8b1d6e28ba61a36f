//! The C ABI between mysqld and the library: what an entry point is, and raw server symbols.
//!
//! Unsafe code lives in [`crate::mysql`], of which this is a part, and in what the macro of [`crate::sql::exports`] writes.

pub mod args;
pub mod function;
pub mod service;
pub mod stored_program;
pub mod symbols;
