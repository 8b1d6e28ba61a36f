//! All tests that need a MySQL server, as one program with a module for each subject: `cargo test --test server
//! bulk::`.
//!
//! Each test has its own servers. Tests run in parallel, as many as libtest has threads; see [`common`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

mod ai;
mod answers;
mod auto_embed;
mod backup;
mod bulk;
mod cache;
mod chunks;
mod clients;
mod deputy;
mod endpoints;
mod fuzz;
mod jobs;
mod keyring;
#[cfg(feature = "local")]
mod local_models;
mod memory;
mod observation;
mod operation;
mod providers;
mod retrieval;
mod shares;
mod sql;
mod upgrade;
mod variables;
mod vector_index;
