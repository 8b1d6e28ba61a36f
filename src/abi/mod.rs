//! The C ABI between mysqld and the library: what an entry point is, raw server symbols, the panic guard.
//!
//! Unsafe code lives here and in [`crate::server`], and in what the macro of [`crate::functions::exports`] writes.

#![allow(unsafe_code)]

pub mod args;
pub mod function;
pub mod guard;
pub mod service;
pub mod stored_program;
pub mod symbols;
