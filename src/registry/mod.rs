//! Where models, secrets and settings are stored, and the engine over them.

mod called;
pub mod engine;
mod keyring_reader;
pub mod sql_store;
