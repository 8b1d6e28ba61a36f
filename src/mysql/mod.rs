//! Safe wrappers over mysqld: current user, statement, internal sessions, keyring, error log.

#![allow(unsafe_code)]

pub mod caller;
pub mod error_numbers;
pub mod ffi;
pub mod guard;
pub mod keyring;
pub mod log;
pub mod meaning;
pub mod memory;
pub mod performance_schema;
pub mod session;
pub mod sql;
pub mod statement;
pub mod status_variables;
