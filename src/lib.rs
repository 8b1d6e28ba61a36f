//! mysql-ml: AI functions for self-hosted MySQL.
//!
//! A shared library that an unmodified MySQL server loads with `CREATE FUNCTION ... SONAME 'mysql_ml.so'`. The
//! SQL surface follows Cloud SQL for MySQL's model endpoint management.
//!
//! This crate holds the code that needs mysqld; `mysql-ml-core` holds the rest of a call. Rooms import only those
//! below them: [`sql`] -> [`jobs`] -> [`registry`] -> [`tables`] -> [`mysql`]. ARCHITECTURE.md has the diagram.

#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod jobs;
pub mod mysql;
pub mod registry;
pub mod sql;
pub mod tables;
