//! mysql-ml: AI functions for self-hosted MySQL.

#![deny(unsafe_code)]

pub mod abi;
pub mod error;
pub mod functions;
