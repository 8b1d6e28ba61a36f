//! Embeddings in memory, bounded by bytes.

use std::sync::{Arc, PoisonError, RwLock};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;

/// A cache key: digest of the model's fingerprint, the input and its role.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// An embedding and its model.
#[derive(Clone)]
pub struct Kept {
    /// The model's id.
    pub model: Arc<str>,
    /// The vector's bytes.
    pub vector: Arc<[u8]>,
}

/// Overhead of one entry, bytes: key, pointers, the model's id, the cache's own bookkeeping.
const ENTRY_OVERHEAD: usize = 240;

/// Vectors by key. Clones share the entries.
pub type EmbeddingCache = Cache<Key, Kept>;

/// A cache whose size may change while it is in use.
#[derive(Default)]
pub struct MemoryCache {
    current: RwLock<Option<SizedCache>>,
}

struct SizedCache {
    bytes: u64,
    cache: EmbeddingCache,
}

impl MemoryCache {
    /// Number of vectors and their bytes.
    pub fn size(&self) -> (u64, u64) {
        match self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(current) => (current.cache.entry_count(), current.cache.weighted_size()),
            None => (0, 0),
        }
    }

    /// The keys of a model's embeddings; `None`: of all models.
    pub fn keys_of(&self, model: Option<&str>, interrupt: &dyn Interrupt) -> Result<Vec<Key>> {
        let cache = self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|c| c.cache.clone());
        let mut keys = Vec::new();
        for (n, (key, kept)) in cache.iter().flatten().enumerate() {
            // Millions may be there.
            if n % 4096 == 0 {
                interrupt.check()?;
            }
            if model.is_none_or(|model| *kept.model == *model) {
                keys.push(*key);
            }
        }
        Ok(keys)
    }

    /// Removes a model's embeddings; `None`: all.
    pub fn remove(&self, model: Option<&str>, interrupt: &dyn Interrupt) -> Result<()> {
        let keys = self.keys_of(model, interrupt)?;
        if let Some(current) = self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            for key in &keys {
                current.cache.invalidate(key);
            }
        }
        Ok(())
    }

    /// The cache for a size in bytes. A changed size starts an empty cache. `None` for size 0, which frees the old one.
    pub fn sized(&self, bytes: u64) -> Option<EmbeddingCache> {
        if bytes == 0 && self.current.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            return None;
        }
        if let Some(current) = self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref()
            && current.bytes == bytes
        {
            return Some(current.cache.clone());
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
            // Not the default TinyLFU: a full cache may then refuse a new entry, and a query's vector would be fetched
            // again for every row.
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_, kept: &Kept| u32::try_from(kept.vector.len() + ENTRY_OVERHEAD).unwrap_or(u32::MAX))
            .build();
        *current = Some(SizedCache { bytes, cache: cache.clone() });
        Some(cache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(&[7; 32], 0, text)
    }

    fn kept(model: &str, vector: &[u8]) -> Kept {
        Kept { model: model.into(), vector: vector.into() }
    }

    #[test]
    fn entries_are_found_until_the_size_changes() {
        let cache = MemoryCache::default();
        let sized = |bytes| cache.sized(bytes);
        sized(1 << 20).unwrap().insert(key("a"), kept("m", &[1, 2, 3, 4]));
        assert_eq!(sized(1 << 20).unwrap().get(&key("a")).unwrap().vector[..], [1, 2, 3, 4]);
        assert!(sized(1 << 20).unwrap().get(&key("b")).is_none());
        assert!(sized(0).is_none());
        assert!(sized(1 << 20).unwrap().get(&key("a")).is_none(), "turned off and on: empty");
    }

    #[test]
    fn the_bound_in_bytes_holds() {
        let cache = MemoryCache::default();
        let inner = cache.sized(100_000).unwrap();
        for i in 0..2000 {
            inner.insert(key(&i.to_string()), kept("m", &[0; 800]));
        }
        assert!(inner.get(&key("1999")).is_some(), "the newest entry is always kept");
        inner.run_pending_tasks();
        assert!(inner.weighted_size() <= 100_000);
    }

    #[test]
    fn a_models_embeddings_are_removed_and_others_stay() {
        use mysql_ml_base::interrupt::Never;
        let cache = MemoryCache::default();
        let inner = cache.sized(1 << 20).unwrap();
        for (text, model) in [("a", "m"), ("b", "m"), ("c", "n")] {
            inner.insert(key(text), kept(model, &[0; 4]));
        }
        assert_eq!(cache.keys_of(Some("m"), &Never).unwrap().len(), 2);
        cache.remove(Some("m"), &Never).unwrap();
        assert!(inner.get(&key("a")).is_none() && inner.get(&key("c")).is_some());
        cache.remove(None, &Never).unwrap();
        assert!(inner.get(&key("c")).is_none());
    }

    #[test]
    fn another_size_starts_anew_and_the_size_is_reported() {
        let cache = MemoryCache::default();
        assert_eq!(cache.size(), (0, 0));
        let first = cache.sized(1 << 20).unwrap();
        first.insert(key("a"), kept("m", &[0; 4]));
        first.insert(key("b"), kept("m", &[0; 400]));
        first.run_pending_tasks();
        assert_eq!(cache.size(), (2, 404 + 2 * ENTRY_OVERHEAD as u64));
        let second = cache.sized(2 << 20).unwrap();
        assert_eq!((cache.size(), second.policy().max_capacity()), ((0, 0), Some(2 << 20)));
        assert!(second.get(&key("a")).is_none());
    }

    /// Interrupts at the second check.
    struct StopsSoon(std::cell::Cell<u32>);

    impl Interrupt for StopsSoon {
        fn check(&self) -> Result<()> {
            self.0.set(self.0.get() + 1);
            if self.0.get() > 1 {
                return Err(mysql_ml_base::error::Error::interrupted(1317));
            }
            Ok(())
        }
    }

    #[test]
    fn a_look_at_very_many_hears_kill_now_and_then() {
        let cache = MemoryCache::default();
        let inner = cache.sized(64 << 20).unwrap();
        for i in 0..5000 {
            inner.insert(key(&i.to_string()), kept("m", &[0; 4]));
        }
        let interrupt = StopsSoon(std::cell::Cell::new(0));
        assert!(cache.remove(None, &interrupt).is_err());
        assert!(inner.get(&key("1")).is_some(), "nothing of it is done");
        for i in 2000..5000 {
            inner.invalidate(&key(&i.to_string()));
        }
        cache.remove(None, &StopsSoon(std::cell::Cell::new(0))).unwrap();
        assert!(inner.get(&key("1")).is_none());
    }
}
