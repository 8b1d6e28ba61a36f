//! The engine: a call finds its model, looks into the caches, computes or sends, and reads the answer.
//!
//! Runs without a server: the registry is a trait ([`store::Store`]). This file wires the parts; each is a file.

pub mod aggregate;
pub mod answers;
mod asking;
mod attempt;
mod backends;
mod batch;
mod cached;
mod call;
mod chunk;
pub mod collected;
mod count_tokens;
mod embedding;
pub mod explain;
mod generate;
mod health;
mod local_models;
mod meter;
pub mod ordered;
pub mod pipeline;
mod predict;
mod rate_limit;
pub mod registry_cache;
mod requester;
mod rerank;
mod resolver;
mod route;
mod single_flight;
pub mod store;
mod target;
mod transforms;
mod validate;
pub mod vectors;

use std::sync::Arc;

use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::shares::Share;

pub use self::asking::{About, AskOptions, Asked, Packing, SetOptions};
use self::backends::local::Local;
use self::backends::remote::Remote;
use self::backends::{dummy, Embed, Generate, Predict};
use self::cached::CachedEmbeddings;
pub use self::call::{Call, Input};
pub use self::chunk::TextCutter;
use self::meter::Meters;
use self::registry_cache::Registry;
use self::requester::Requester;
use self::store::{Routine, Store};
use crate::catalog::model::{check_id, Backend, Model};
use crate::credentials::keyring::Keyring;

/// The engine: one per process.
pub struct Engine {
    store: Arc<dyn Store>,
    registry: Registry,
    embeddings: CachedEmbeddings,
    remote: Remote,
    local: Local,
    meters: Meters,
}

impl Engine {
    /// An engine over any registry and keyring.
    pub fn new(store: Box<dyn Store>, keyring: Box<dyn Keyring>) -> Self {
        let store: Arc<dyn Store> = store.into();
        Engine {
            registry: Registry::default(),
            embeddings: CachedEmbeddings::default(),
            remote: Remote::new(Requester::new(Arc::clone(&store), keyring)),
            local: Local::default(),
            meters: Meters::default(),
            store,
        }
    }

    /// The registry's cache, to invalidate after changes.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The server's own error if the current user may not execute the routine.
    pub fn may_call(&self, routine: Routine, interrupt: &dyn Interrupt) -> Result<()> {
        self.store.check(routine, interrupt)
    }

    /// The share of the current user's work with a model, for threads and other places.
    pub fn share(&self, model: &Model) -> Result<Share> {
        self.remote.requester.share(model)
    }

    /// Removes a model's embeddings from memory and disk; `None`: all. Returns their number.
    pub fn clear_cache(&self, model_id: Option<&str>, interrupt: &dyn Interrupt) -> Result<u64> {
        if let Some(model_id) = model_id {
            check_id("model_id", model_id)?;
        }
        // Also opens the disk cache if it is not open yet.
        self.settings(interrupt)?;
        self.embeddings.clear(model_id, interrupt)
    }

    /// The counters of all models, as a JSON document.
    pub fn status_json(&self) -> String {
        self.meters.to_json(self.embeddings.status(), self.local.status())
    }

    /// Brings the gauges among the status variables up to date, without waiting for work.
    pub fn observe(&self) {
        mysql_ml_base::memory::observe();
        self.embeddings.observe();
    }

    /// Sets the counters to zero.
    pub fn reset_status(&self) {
        self.meters.reset();
        self.embeddings.disk.reset_status();
        mysql_ml_base::memory::reset_status();
    }

    /// The backend that embeds with a model.
    fn embedder(&self, model: &Model) -> &dyn Embed {
        match model.backend() {
            Backend::Remote => &self.remote,
            Backend::Local => &self.local,
            Backend::Dummy => &dummy::Dummy,
        }
    }

    /// The backend that answers a model's own JSON.
    fn predictor(&self, model: &Model) -> &dyn Predict {
        match model.backend() {
            Backend::Remote => &self.remote,
            Backend::Local => &self.local,
            Backend::Dummy => &dummy::Dummy,
        }
    }

    /// The backend that generates with a model. For provider `dummy` the remote backend returns the error.
    fn generator(&self, model: &Model) -> &dyn Generate {
        match model.backend() {
            Backend::Remote | Backend::Dummy => &self.remote,
            Backend::Local => &self.local,
        }
    }
}
