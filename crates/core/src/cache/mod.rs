//! Caches of embeddings.

pub mod disk;
pub mod memory;
