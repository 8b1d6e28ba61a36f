//! Embeddings in memory, bounded by bytes.

use std::sync::{Arc, PoisonError, RwLock};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use sha2::{Digest, Sha256};

/// What an embedding depends on: the model's fingerprint and the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of `text` under a model, embedded in a role.
    pub fn new(fingerprint: &[u8; 32], role: u8, text: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(fingerprint);
        hash.update([role]);
        hash.update(text.as_bytes());
        Key(hash.finalize().into())
    }
}

/// What one entry costs besides its bytes: key, pointers, the cache's own bookkeeping.
const ENTRY_OVERHEAD: usize = 200;

/// Vectors by key. Clones share the entries.
pub type EmbeddingCache = Cache<Key, Arc<[u8]>>;

/// A cache whose size may change while it is in use.
#[derive(Default)]
pub struct MemoryCache {
    current: RwLock<Option<Sized>>,
}

struct Sized {
    bytes: u64,
    cache: EmbeddingCache,
}

impl MemoryCache {
    /// How many vectors are kept, and their bytes.
    pub fn size(&self) -> (u64, u64) {
        match self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(current) => (current.cache.entry_count(), current.cache.weighted_size()),
            None => (0, 0),
        }
    }

    /// The cache for a size in bytes; another size than before starts an empty one. `None` for size 0, which
    /// frees what was there.
    pub fn sized(&self, bytes: u64) -> Option<EmbeddingCache> {
        if bytes == 0 && self.current.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            return None;
        }
        if let Some(current) = self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            if current.bytes == bytes {
                return Some(current.cache.clone());
            }
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if bytes == 0 {
            *current = None;
            return None;
        }
        if let Some(same) = current.as_ref().filter(|c| c.bytes == bytes) {
            return Some(same.cache.clone());
        }
        let cache = Cache::builder()
            .max_capacity(bytes)
            // Not the default TinyLFU: that may refuse a new entry when the cache is full, and a query's own
            // vector would then be fetched again for row after row.
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_, vector: &Arc<[u8]>| u32::try_from(vector.len() + ENTRY_OVERHEAD).unwrap_or(u32::MAX))
            .build();
        *current = Some(Sized { bytes, cache: cache.clone() });
        Some(cache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(&[7; 32], 0, text)
    }

    #[test]
    fn what_was_put_is_found_until_the_size_changes() {
        let cache = MemoryCache::default();
        let sized = |bytes| cache.sized(bytes);
        sized(1 << 20).unwrap().insert(key("a"), vec![1, 2, 3, 4].into());
        assert_eq!(sized(1 << 20).unwrap().get(&key("a")).as_deref(), Some(&[1, 2, 3, 4][..]));
        assert!(sized(1 << 20).unwrap().get(&key("b")).is_none());
        assert!(sized(0).is_none());
        assert!(sized(1 << 20).unwrap().get(&key("a")).is_none(), "turned off and on: empty");
    }

    #[test]
    fn the_bound_in_bytes_holds() {
        let cache = MemoryCache::default();
        let inner = cache.sized(100_000).unwrap();
        for i in 0..2000 {
            inner.insert(key(&i.to_string()), vec![0; 800].into());
        }
        assert!(inner.get(&key("1999")).is_some(), "the newest entry is always kept");
        inner.run_pending_tasks();
        assert!(inner.weighted_size() <= 100_000);
    }
}
