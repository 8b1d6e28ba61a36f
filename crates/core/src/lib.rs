//! Calls of models without MySQL: a program can use this crate as the server's functions do.
//!
//! Rooms import only those below them: [`engine`] -> [`registration`] -> [`providers`] -> [`credentials`] -> [`catalog`] ->
//! [`json`] -> [`http`]; [`cache`] and [`chunk`] stand beside them.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod ai;
pub mod cache;
pub mod catalog;
pub mod chunk;
pub mod credentials;
pub mod engine;
pub mod http;
pub mod json;
pub mod providers;
pub mod registration;
