//! Models, secrets and settings in the library's tables.

mod called;
pub mod keyring_reader;
pub mod sql_store;
