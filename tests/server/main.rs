//! Everything that needs a MySQL server, as one program with a module a subject: `cargo test --test server bulk::`.
//!
//! Each test has servers of its own. They run side by side, as many as libtest has threads; [`common`] says how.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

mod answers;
mod auto_embed;
mod backup;
mod bulk;
mod cache;
mod clients;
mod deputy;
mod fuzz;
mod jobs;
mod keyring;
#[cfg(feature = "local")]
mod local_models;
mod memory;
mod operation;
mod providers;
mod shares;
mod sql;
mod variables;
