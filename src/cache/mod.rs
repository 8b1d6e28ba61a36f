//! Caches of embeddings.

pub mod memory;
