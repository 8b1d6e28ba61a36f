//! The C ABI between mysqld and the library: entry points, raw server symbols, the panic guard.
//!
//! Unsafe code lives here and in [`crate::server`], nowhere else.

#![allow(unsafe_code)]

pub mod args;
#[allow(missing_docs, reason = "the `register` macro makes functions without docs")]
pub mod exports;
pub mod function;
pub mod guard;
pub mod service;
pub mod stored_program;
pub mod symbols;
