//! Where an embedding is looked for before a request is sent: in memory, with another session that is asking for the
//! same, on disk. And how embeddings are removed from there.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::flights::{Flights, From};
use super::status::Activity;
use super::Engine;
use crate::cache::memory::{EmbeddingCache, Kept, Key};
use crate::catalog::model::{check_id, Model, ProviderId};
use crate::catalog::settings::Settings;
use crate::engine::store::ResolvedModel;
use crate::providers::image::Image;
use mysql_ml_base::account::Account;
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::{Interrupt, POLL};
use mysql_ml_base::role::Role;

/// How long a change of the cache's size is waited for, until it has happened on disk.
const SETTLE: Duration = Duration::from_secs(10);

/// Stands in a key where texts have their role.
const IMAGE: u8 = 2;

/// What is under way, and how often something was cleared.
#[derive(Default)]
pub(super) struct Lookups {
    /// By account too: who leads may be waiting for a place of its account's share.
    flights: Flights<(Account, Key, u64), Arc<[u8]>>,
    /// Counts clears. What was asked for before one is not kept after it, nor given to those who ask after it. Read
    /// while something is put into the caches.
    epoch: RwLock<u64>,
}

impl Lookups {
    fn epoch(&self) -> u64 {
        *self.epoch.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An embedding that is asked for.
struct Wanted<'a> {
    key: Key,
    epoch: u64,
    model: &'a Model,
    memory: Option<EmbeddingCache>,
}

impl Engine {
    /// The vector of `text`, from wherever it is had soonest.
    pub(super) fn looked_up(
        &self,
        resolved: &Arc<ResolvedModel>,
        text: &str,
        role: Role,
        settings: &Arc<Settings>,
        activity: &Activity,
        interrupt: &dyn Interrupt,
    ) -> Result<Arc<[u8]>> {
        let wanted = self.wanted(resolved, text, role as u8, settings, self.lookups.epoch());
        let local = resolved.model.speaks == ProviderId::Dummy && resolved.model.input.is_none();
        self.found_or_computed(&wanted, local, settings, activity, interrupt, |limit| {
            self.embed(resolved, text, role, settings, activity, limit, interrupt)
        })
    }

    /// The vector of an image, as [`Engine::looked_up`] finds that of a text.
    pub(super) fn looked_up_image(
        &self,
        resolved: &Arc<ResolvedModel>,
        image: &Image,
        settings: &Arc<Settings>,
        activity: &Activity,
        interrupt: &dyn Interrupt,
    ) -> Result<Arc<[u8]>> {
        let wanted = self.wanted(resolved, &image.digest(), IMAGE, settings, self.lookups.epoch());
        self.found_or_computed(&wanted, false, settings, activity, interrupt, |limit| {
            self.embed_image(resolved, image, settings, activity, limit, interrupt)
        })
    }

    /// `local`: what is computed here is computed sooner than looked up on disk.
    fn found_or_computed(
        &self,
        wanted: &Wanted<'_>,
        local: bool,
        settings: &Arc<Settings>,
        activity: &Activity,
        interrupt: &dyn Interrupt,
        compute: impl Fn(Option<Instant>) -> Result<Vec<u8>>,
    ) -> Result<Arc<[u8]>> {
        let model = wanted.model;
        if let Some(hit) = self.in_memory(wanted) {
            activity.hit();
            return Ok(hit);
        }
        if local {
            let vector: Arc<[u8]> = compute(None)?.into();
            self.keep(wanted, &vector, false);
            return Ok(vector);
        }
        let time = model.options.timeout_ms.map_or(settings.timeout, Duration::from_millis);
        let mut leads = false;
        let flight = (self.store.caller()?, wanted.key, wanted.epoch);
        let shared = self.lookups.flights.share(&flight, time, interrupt, |limit| {
            leads = true;
            // Another call may have ended between the look into memory and now.
            if let Some(hit) = self.in_memory(wanted) {
                activity.hit();
                return Ok(hit);
            }
            let deadline = limit.unwrap_or_else(|| Instant::now() + time);
            if let Some(vector) = self.disk.get(&wanted.key, interrupt, deadline)? {
                activity.disk_hit();
                self.keep(wanted, &vector, false);
                return Ok(vector);
            }
            let vector: Arc<[u8]> = compute(limit)?.into();
            self.keep(wanted, &vector, true);
            Ok(vector)
        });
        match shared {
            Ok((vector, From::Own)) => Ok(vector),
            Ok((vector, From::Shared)) => {
                activity.shared();
                Ok(vector)
            }
            Err(error) => {
                if !leads {
                    activity.failed(&error);
                }
                Err(error)
            }
        }
    }

    /// What is there of a text of many, and the number of clears so far, which [`Engine::keep_one`] wants back.
    pub(super) fn cached_one(
        &self,
        resolved: &ResolvedModel,
        text: &str,
        role: Role,
        settings: &Settings,
        activity: &Activity,
        interrupt: &dyn Interrupt,
    ) -> Result<(Option<Arc<[u8]>>, u64)> {
        let wanted = self.wanted(resolved, text, role as u8, settings, self.lookups.epoch());
        if let Some(hit) = self.in_memory(&wanted) {
            activity.hit();
            return Ok((Some(hit), wanted.epoch));
        }
        if resolved.model.speaks == ProviderId::Dummy {
            return Ok((None, wanted.epoch));
        }
        let found = self.disk.get(&wanted.key, interrupt, Instant::now() + settings.timeout)?;
        if let Some(vector) = &found {
            activity.disk_hit();
            self.keep(&wanted, vector, false);
        }
        Ok((found, wanted.epoch))
    }

    /// Keeps the vector of a text of many.
    pub(super) fn keep_one(
        &self,
        resolved: &ResolvedModel,
        text: &str,
        role: Role,
        settings: &Settings,
        epoch: u64,
        vector: &Arc<[u8]>,
    ) {
        let on_disk = resolved.model.speaks != ProviderId::Dummy;
        self.keep(&self.wanted(resolved, text, role as u8, settings, epoch), vector, on_disk);
    }

    fn wanted<'a>(
        &self,
        resolved: &'a ResolvedModel,
        text: &str,
        role: u8,
        settings: &Settings,
        epoch: u64,
    ) -> Wanted<'a> {
        Wanted {
            key: Key::new(&super::fingerprint(resolved, settings, || self.local_stamp(&resolved.model)), role, text),
            epoch,
            model: &resolved.model,
            memory: self.cache.sized(settings.cache_memory),
        }
    }

    fn in_memory(&self, wanted: &Wanted<'_>) -> Option<Arc<[u8]>> {
        let hit = wanted.memory.as_ref()?.get(&wanted.key)?;
        self.disk.touch(&wanted.key);
        Some(hit.vector)
    }

    /// Keeps a vector, unless something was cleared since it was asked for.
    fn keep(&self, wanted: &Wanted<'_>, vector: &Arc<[u8]>, on_disk: bool) {
        let epoch = self.lookups.epoch.read().unwrap_or_else(PoisonError::into_inner);
        if *epoch != wanted.epoch {
            return;
        }
        let model: Arc<str> = wanted.model.model_id.as_str().into();
        if on_disk {
            self.disk.put(wanted.key, &model, vector);
        }
        if let Some(memory) = &wanted.memory {
            memory.insert(wanted.key, Kept { model, vector: Arc::clone(vector) });
        }
    }

    /// Removes a model's embeddings from memory and disk, or with `None` all; returns how many there were.
    pub fn clear_cache(&self, model_id: Option<&str>, interrupt: &dyn Interrupt) -> Result<u64> {
        if let Some(model_id) = model_id {
            check_id("model_id", model_id)?;
        }
        // Also opens the file of the cache on disk, where nothing did so before.
        self.settings(interrupt)?;
        *self.lookups.epoch.write().unwrap_or_else(PoisonError::into_inner) += 1;
        // The disk first: until it is done a lookup may bring an embedding from there into memory.
        let in_memory = self.cache.keys_of(model_id, interrupt)?;
        let removed = self.disk.clear(model_id, in_memory, interrupt);
        self.cache.remove(model_id, interrupt)?;
        removed
    }

    /// Puts the size of the cache on disk in force now, and waits until it is.
    pub fn settle_disk(&self, interrupt: &dyn Interrupt) -> Result<()> {
        let end = Instant::now() + SETTLE;
        loop {
            let (_, in_force) = self.settings_in_force(interrupt)?;
            if (in_force && self.disk.settled()) || Instant::now() >= end {
                return Ok(());
            }
            interrupt.check()?;
            std::thread::sleep(POLL);
        }
    }

    /// The settings, with whether they are in force also where it takes a while.
    pub(super) fn settings_in_force(&self, interrupt: &dyn Interrupt) -> Result<(Arc<Settings>, bool)> {
        let (settings, reading) = self.registry.settings(self.store.as_ref(), interrupt)?;
        mysql_ml_base::memory::set_limit(settings.call_memory);
        let in_force = self.disk.follow(reading, settings.cache_disk, || self.store.data_directory(interrupt));
        if self.disk.has_notices() {
            for notice in self.disk.take_notices() {
                self.store.log(notice.warning, &notice.text);
            }
        }
        Ok((settings, in_force))
    }
}
