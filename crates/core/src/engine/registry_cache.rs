//! Registrations and settings, cached briefly so that not every row reads the registry.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crate::catalog::settings::Settings;
use crate::engine::store::{ResolvedModel, Routine, Store};
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;

/// Beyond this many entries the cache is emptied: entries are cheap to read again.
const MAX_ENTRIES: usize = 4096;

/// The registry's cache. It holds no rights: they are checked on each call.
#[derive(Default)]
pub struct Registry {
    /// Number of changes through this library, which take effect at once.
    generation: AtomicU64,
    models: RwLock<HashMap<String, Read<ResolvedModel>>>,
    settings: RwLock<Option<(Read<Settings>, u64)>>,
    /// Number of readings of the settings.
    readings: AtomicU64,
}

struct Read<T> {
    at: Instant,
    generation: u64,
    value: Arc<T>,
}

impl Registry {
    /// Empties the cache after a change.
    pub fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// A model, read at most `registry_ttl` ago. An error if the current user may not execute `function` now.
    pub fn model(
        &self,
        store: &dyn Store,
        function: Routine,
        model_id: &str,
        settings: &Settings,
        interrupt: &dyn Interrupt,
    ) -> Result<Arc<ResolvedModel>> {
        store.check(function, interrupt)?;
        let generation = self.generation.load(Ordering::Acquire);
        let fresh = |r: &Read<ResolvedModel>| r.generation == generation && r.at.elapsed() < settings.registry_ttl;
        if let Some(read) =
            self.models.read().unwrap_or_else(PoisonError::into_inner).get(model_id).filter(|r| fresh(r))
        {
            return Ok(Arc::clone(&read.value));
        }
        let value = Arc::new(store.load(model_id, interrupt)?);
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if models.len() >= MAX_ENTRIES {
            models.clear();
        }
        models.insert(model_id.to_owned(), Read { at: Instant::now(), generation, value: Arc::clone(&value) });
        Ok(value)
    }

    /// The settings, read at most their own `registry_ttl` ago, and the reading's number, which increases.
    pub fn settings(&self, store: &dyn Store, interrupt: &dyn Interrupt) -> Result<(Arc<Settings>, u64)> {
        let generation = self.generation.load(Ordering::Acquire);
        let fresh =
            |r: &&(Read<Settings>, u64)| r.0.generation == generation && r.0.at.elapsed() < r.0.value.registry_ttl;
        if let Some((read, n)) = self.settings.read().unwrap_or_else(PoisonError::into_inner).as_ref().filter(fresh) {
            return Ok((Arc::clone(&read.value), *n));
        }
        let n = self.readings.fetch_add(1, Ordering::AcqRel) + 1;
        let value = Arc::new(store.settings(interrupt)?);
        let mut kept = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|(_, before)| *before < n) {
            *kept = Some((Read { at: Instant::now(), generation, value: Arc::clone(&value) }, n));
        }
        Ok((value, n))
    }
}
