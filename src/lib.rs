//! mysql-ml: AI functions for self-hosted MySQL.
//!
//! A shared library that an unmodified MySQL server loads with `CREATE FUNCTION ... SONAME 'mysql_ml.so'`. The
//! SQL surface follows Cloud SQL for MySQL's model endpoint management.
//!
//! Calls go one way: [`functions`] -> [`engine`] -> [`models`], [`providers`], [`credentials`], [`http`],
//! [`cache`]; the registry of [`models`] -> [`server`] -> [`abi`]. ARCHITECTURE.md tells why.

#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod abi;
pub mod cache;
pub mod credentials;
pub mod engine;
pub mod error;
pub mod functions;
pub mod http;
#[cfg(feature = "local")]
pub mod local;
pub mod memory;
pub mod models;
pub mod providers;
pub mod server;
pub mod tables;
pub mod threads;
pub mod vector;
