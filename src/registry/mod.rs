//! Models, secrets and settings in the library's tables, and the engine over them.

mod called;
pub mod engine;
mod keyring_reader;
pub mod sql_store;
