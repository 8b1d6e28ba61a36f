//! Safe wrappers over mysqld: who calls, whether the statement was stopped, and SQL inside the server.

#![allow(unsafe_code)]

pub mod caller;
pub mod session;
pub mod sql;
pub mod statement;
