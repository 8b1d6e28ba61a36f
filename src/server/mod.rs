//! Safe wrappers over mysqld: who calls, whether the statement was stopped, SQL inside the server, the keyring, the error log.

#![allow(unsafe_code)]

pub mod caller;
pub mod error_numbers;
pub mod keyring;
pub mod log;
pub mod meaning;
pub mod memory;
pub mod session;
pub mod sql;
pub mod statement;
