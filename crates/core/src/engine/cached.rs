//! Cached embeddings: memory, another session's identical request, disk; and clearing them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use serde_json::{json, Value};
use sha2::{Digest, Sha256};

use mysql_ml_base::account::Account;
use mysql_ml_base::counters;
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::role::Role;

use super::call::{Call, Input};
use super::single_flight::{Origin, SingleFlight};
use super::store::ResolvedModel;
use crate::cache::disk::DiskCache;
use crate::cache::memory::{EmbeddingCache, Kept, Key, MemoryCache};
use crate::catalog::model::{Backend, ProviderId};
use crate::registration::endpoint_url::cloud_of;

/// The role bytes of images and of answers in a cache key.
const IMAGE: u8 = 2;
const ANSWER: u8 = 3;

/// The embedding caches and the requests under way.
#[derive(Default)]
pub(super) struct CachedEmbeddings {
    memory: MemoryCache,
    pub disk: DiskCache,
    /// Keyed by account too: the leader may wait for a place of its account's share.
    under_way: SingleFlight<(Account, Key, u64), Arc<[u8]>>,
    /// Each clear increments it. A result requested in an earlier epoch is neither kept nor shared with later requests.
    /// Read-locked while a cache is written.
    epoch: RwLock<u64>,
}

/// A requested embedding or answer.
pub struct CacheLookup {
    key: Key,
    /// The epoch of the request.
    epoch: u64,
    resolved: Arc<ResolvedModel>,
    memory: Option<EmbeddingCache>,
    /// Whether the disk cache is used; not for embeddings that are faster to compute.
    on_disk: bool,
    /// Whether concurrent identical requests are sent once.
    shared: bool,
    /// Whether the caches must not keep the result: another model gave it.
    unkept: AtomicBool,
}

impl CacheLookup {
    /// The caches do not keep the result.
    pub(super) fn keep_nothing(&self) {
        self.unkept.store(true, Ordering::Relaxed);
    }
}

impl CachedEmbeddings {
    /// The request for the embedding of `input`. `stamp`: a text that changes with a local model's files.
    pub fn lookup(
        &self,
        call: &Call,
        input: Input<'_>,
        role: Role,
        stamp: impl FnOnce() -> String,
    ) -> Result<CacheLookup> {
        let fingerprint = fingerprint(call, stamp);
        let key = match input {
            Input::Text(text) => Key::new(&fingerprint, role as u8, text),
            Input::Image(image) => Key::new(&fingerprint, IMAGE, &image.digest()),
        };
        Ok(CacheLookup {
            key,
            epoch: *self.epoch.read().unwrap_or_else(PoisonError::into_inner),
            resolved: Arc::clone(&call.resolved),
            memory: self.memory.sized(call.settings.cache_memory),
            on_disk: call.model().backend() != Backend::Dummy,
            shared: call.model().backend() != Backend::Dummy,
            unkept: AtomicBool::default(),
        })
    }

    /// The request for the answer to a question about a text. `task`: a digest of task and images. `packed`: whether the
    /// question may share its request with others. `kept`: whether the caches keep the answer.
    pub fn answer_lookup(
        &self,
        call: &Call,
        task: &[u8; 32],
        text: &str,
        packed: bool,
        kept: bool,
        stamp: impl FnOnce() -> String,
    ) -> CacheLookup {
        let mut hash = Sha256::new();
        hash.update(fingerprint(call, stamp));
        hash.update(task);
        // A model that sees other rows may answer otherwise: such answers stay among themselves.
        if packed {
            hash.update(b"packed");
        }
        CacheLookup {
            key: Key::new(&hash.finalize().into(), ANSWER, text),
            epoch: *self.epoch.read().unwrap_or_else(PoisonError::into_inner),
            resolved: Arc::clone(&call.resolved),
            memory: if kept { self.memory.sized(call.settings.cache_memory) } else { None },
            on_disk: kept,
            shared: true,
            unkept: AtomicBool::default(),
        }
    }

    /// The vector from the fastest source. `compute` takes the latest deadline, which is set when this call has already
    /// waited for another session's request.
    pub fn get(
        &self,
        lookup: &CacheLookup,
        account: impl FnOnce() -> Result<Account>,
        call: &Call,
        interrupt: &dyn Interrupt,
        compute: impl Fn(Option<Instant>) -> Result<Vec<u8>>,
    ) -> Result<Arc<[u8]>> {
        if let Some(hit) = self.in_memory(lookup) {
            call.meter.hit();
            return Ok(hit);
        }
        if !lookup.shared {
            let vector: Arc<[u8]> = compute(None)?.into();
            self.keep(lookup, &vector, false);
            return Ok(vector);
        }
        let mut leads = false;
        let flight = (account()?, lookup.key, lookup.epoch);
        let shared = self.under_way.share(&flight, call.time(), interrupt, |limit| {
            leads = true;
            // Another call may have finished since the first look into memory.
            if let Some(hit) = self.in_memory(lookup) {
                call.meter.hit();
                return Ok(hit);
            }
            let deadline = limit.unwrap_or_else(|| Instant::now() + call.time());
            let on_disk = if lookup.on_disk { self.disk.get(&lookup.key, interrupt, deadline)? } else { None };
            if let Some(vector) = on_disk {
                call.meter.disk_hit();
                self.keep(lookup, &vector, false);
                return Ok(vector);
            }
            counters::CACHE_MISSES.add(1);
            let vector: Arc<[u8]> = compute(limit)?.into();
            self.keep(lookup, &vector, lookup.on_disk);
            Ok(vector)
        });
        match shared {
            Ok((vector, Origin::Own)) => Ok(vector),
            Ok((vector, Origin::Shared)) => {
                call.meter.shared();
                Ok(vector)
            }
            Err(error) if leads => Err(error),
            Err(error) => call.counted(Err(error)),
        }
    }

    /// The cached vector of one of many texts, without computing it.
    pub fn get_kept(&self, lookup: &CacheLookup, call: &Call, interrupt: &dyn Interrupt) -> Result<Option<Arc<[u8]>>> {
        if let Some(hit) = self.in_memory(lookup) {
            call.meter.hit();
            return Ok(Some(hit));
        }
        let found = match lookup.on_disk {
            true => self.disk.get(&lookup.key, interrupt, Instant::now() + call.settings.timeout)?,
            false => None,
        };
        match &found {
            Some(vector) => {
                call.meter.disk_hit();
                self.keep(lookup, vector, false);
            }
            None => counters::CACHE_MISSES.add(1),
        }
        Ok(found)
    }

    fn in_memory(&self, lookup: &CacheLookup) -> Option<Arc<[u8]>> {
        let hit = lookup.memory.as_ref()?.get(&lookup.key)?;
        self.disk.touch(&lookup.key);
        Some(hit.vector)
    }

    /// Keeps a computed vector.
    pub fn keep_computed(&self, lookup: &CacheLookup, vector: &Arc<[u8]>) {
        self.keep(lookup, vector, lookup.on_disk);
    }

    /// Keeps a vector, unless a clear followed its request.
    fn keep(&self, lookup: &CacheLookup, vector: &Arc<[u8]>, on_disk: bool) {
        let epoch = self.epoch.read().unwrap_or_else(PoisonError::into_inner);
        if *epoch != lookup.epoch || lookup.unkept.load(Ordering::Relaxed) {
            return;
        }
        let model: Arc<str> = lookup.resolved.model.model_id.as_str().into();
        if on_disk {
            self.disk.put(lookup.key, &model, vector);
        }
        if let Some(memory) = &lookup.memory {
            memory.insert(lookup.key, Kept { model, vector: Arc::clone(vector) });
        }
    }

    /// Removes a model's embeddings from memory and disk; `None`: all. Returns their number.
    pub fn clear(&self, model_id: Option<&str>, interrupt: &dyn Interrupt) -> Result<u64> {
        *self.epoch.write().unwrap_or_else(PoisonError::into_inner) += 1;
        // The disk first: until it is cleared, a lookup may copy an embedding from there into memory.
        let in_memory = self.memory.keys_of(model_id, interrupt)?;
        let removed = self.disk.clear(model_id, in_memory, interrupt);
        self.memory.remove(model_id, interrupt)?;
        removed
    }

    /// Brings the gauges of the caches up to date.
    pub fn observe(&self) {
        let (entries, bytes) = self.memory.size();
        counters::CACHE_ENTRIES.set(entries);
        counters::CACHE_BYTES.set(bytes);
        let (entries, bytes) = self.disk.size();
        counters::CACHE_DISK_ENTRIES.set(entries);
        counters::CACHE_DISK_BYTES.set(bytes);
    }

    /// Entries, bytes and the disk's state, as a JSON object.
    pub fn status(&self) -> Value {
        let (entries, bytes) = self.memory.size();
        json!({"entries": entries, "bytes": bytes, "disk": self.disk.status()})
    }
}

/// SHA-256 of everything that determines a model's answers: the registration, for Google the project in the settings,
/// for local models their files (`stamp`).
fn fingerprint(call: &Call, stamp: impl FnOnce() -> String) -> [u8; 32] {
    let model = call.model();
    if model.backend() == Backend::Local {
        let mut hash = Sha256::new();
        hash.update(model.fingerprint);
        hash.update(stamp());
        return hash.finalize().into();
    }
    if model.api != ProviderId::Google {
        return model.fingerprint;
    }
    let cloud = cloud_of(model, &call.settings);
    let mut hash = Sha256::new();
    hash.update(model.fingerprint);
    for part in [cloud.project, cloud.location] {
        hash.update([u8::from(part.is_some())]);
        hash.update(part.unwrap_or_default());
        hash.update([0]);
    }
    hash.finalize().into()
}
