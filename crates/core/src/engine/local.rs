//! Models that run inside the server, as the engine calls them. A build without the feature `local` refuses them here.

use std::sync::Arc;
#[cfg(feature = "local")]
use std::time::Duration;
use std::time::Instant;

use super::status::Activity;
use super::Engine;
use crate::catalog::local_place::Place;
use crate::catalog::model::{check_id, Model};
use crate::catalog::settings::Settings;
use crate::engine::store::{ResolvedModel, Routine};
use crate::providers::local::is_local;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

/// How long `ml_load_model` waits for a model.
#[cfg(feature = "local")]
const LOAD_WITHIN: Duration = Duration::from_secs(3600);

/// Whether a model is computed here from files.
pub(super) fn is_here(model: &Model) -> bool {
    model.input.is_none() && is_local(model.speaks)
}

impl Engine {
    /// The model and its settings, for `ml_load_model` and its like; an error where it does not run in the server.
    pub(super) fn local_model(
        &self,
        routine: Routine,
        model_id: &str,
        interrupt: &dyn Interrupt,
    ) -> Result<(Arc<ResolvedModel>, Arc<Settings>, Place)> {
        check_id("model_id", model_id)?;
        let settings = self.settings(interrupt)?;
        let resolved = self.registry.model(self.store.as_ref(), routine, model_id, &settings, interrupt)?;
        if !is_here(&resolved.model) {
            return Err(Error::invalid(format!(
                "model '{model_id}' is one of provider {} and does not run inside the server",
                resolved.model.provider.as_str()
            )));
        }
        let place = Place::of(&resolved.model)?;
        Ok((resolved, settings, place))
    }
}

#[cfg(not(feature = "local"))]
mod absent {
    use super::*;
    use crate::engine::bulk::Batch;
    use crate::providers::chat::GenerateOptions;
    use crate::providers::image::Image;
    use crate::providers::local::no_local_models;
    use mysql_ml_base::role::Role;

    #[allow(clippy::too_many_arguments, clippy::unused_self)]
    impl Engine {
        pub(in crate::engine) fn local_stamp(&self, _model: &Model) -> String {
            String::new()
        }

        pub(in crate::engine) fn embed_locally(
            &self,
            _resolved: &Arc<ResolvedModel>,
            _text: &str,
            _role: Role,
            _settings: &Settings,
            _activity: &Activity,
            _limit: Option<Instant>,
            _interrupt: &dyn Interrupt,
        ) -> Result<Vec<f32>> {
            Err(no_local_models())
        }

        pub(in crate::engine) fn embed_image_locally(
            &self,
            _resolved: &Arc<ResolvedModel>,
            _image: &Image,
            _settings: &Settings,
            _activity: &Activity,
            _limit: Option<Instant>,
            _interrupt: &dyn Interrupt,
        ) -> Result<Vec<f32>> {
            Err(no_local_models())
        }

        pub(in crate::engine) fn generate_locally(
            &self,
            _resolved: &Arc<ResolvedModel>,
            _prompt: &str,
            _options: &GenerateOptions,
            _settings: &Settings,
            _activity: &Activity,
            _interrupt: &dyn Interrupt,
        ) -> Result<String> {
            Err(no_local_models())
        }

        pub(in crate::engine) fn embed_batch_locally(
            &self,
            _resolved: &Arc<ResolvedModel>,
            _batch: Batch,
            _role: Role,
            _settings: &Settings,
            _cancel: &mysql_ml_base::interrupt::CancelToken,
            _done: impl FnOnce(Batch, Vec<Result<Vec<f32>>>) + Send + 'static,
            _interrupt: &dyn Interrupt,
        ) -> Result<()> {
            Err(no_local_models())
        }

        pub(in crate::engine) fn sweep_local(&self) {}

        pub(in crate::engine) fn local_status(&self) -> serde_json::Value {
            serde_json::Value::Null
        }

        /// Refuses.
        pub fn load_model(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
            self.local_model(Routine::LOAD_MODEL, model_id, interrupt)?;
            Err(no_local_models())
        }

        /// Refuses.
        pub fn unload_model(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
            self.local_model(Routine::UNLOAD_MODEL, model_id, interrupt)?;
            Err(no_local_models())
        }

        /// Refuses.
        pub fn fetch_model(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
            self.local_model(Routine::FETCH_MODEL, model_id, interrupt)?;
            Err(no_local_models())
        }
    }
}

#[cfg(feature = "local")]
pub use self::present::Local;

#[cfg(feature = "local")]
mod present {
    use serde_json::{json, Value};

    use super::*;
    use crate::catalog::model::ProviderId;
    use crate::engine::bulk::Batch;
    use crate::providers::chat::GenerateOptions;
    use crate::providers::image::Image;
    use crate::providers::usage::Usage;
    use mysql_ml_base::host::current_account;
    use mysql_ml_base::interrupt::CancelToken;
    use mysql_ml_base::role::Role;
    use mysql_ml_local::batcher::{Batcher, Caller};
    use mysql_ml_local::loaded::{stamp, Entry, Key, Loaded};
    use mysql_ml_local::turn::Turn;
    use mysql_ml_local::{self as local, files, Architecture, EmbedOptions};

    /// Tokens of an answer where nobody says how many.
    const MAX_TOKENS: u64 = 256;

    /// The models in memory and the threads that compute with them.
    #[derive(Default)]
    pub struct Local {
        loaded: Loaded,
        batcher: Batcher,
    }

    fn key(model: &Model) -> Result<Key> {
        let architecture = match model.speaks {
            ProviderId::BertLocal => Architecture::Bert,
            ProviderId::ClipLocal => Architecture::Clip,
            ProviderId::T5Local => Architecture::T5,
            ProviderId::StaticLocal => Architecture::Static,
            other => return Err(Error::internal(format!("provider {} has no local models", other.as_str()))),
        };
        Ok(Key { architecture, directory: Place::of(model)?.directory() })
    }

    /// Whose call it is. Accounts share the threads.
    fn caller(settings: &Settings) -> Caller {
        let threads = match settings.local_threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get).div_ceil(2),
            n => n,
        };
        Caller { account: current_account().map(|a| a.to_string()).unwrap_or_default(), threads }
    }

    fn embed_options(model: &Model, role: Role) -> EmbedOptions {
        EmbedOptions {
            role,
            truncate: model.options.truncate == Some(true),
            dimensions: model.options.dimensions.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        }
    }

    fn time(model: &Model, settings: &Settings) -> Duration {
        model.options.timeout_ms.map_or(settings.timeout, Duration::from_millis)
    }

    impl Engine {
        fn local_entry(
            &self,
            model: &Model,
            settings: &Settings,
            deadline: Instant,
            interrupt: &dyn Interrupt,
        ) -> Result<Arc<Entry>> {
            let loaded = self.local.loaded.get(&key(model)?, settings.local_memory, deadline, interrupt);
            loaded.map_err(|e| match (e.kind(), Place::of(model)) {
                (Kind::NotFound, Ok(Place::Repository(repository))) => {
                    let directory = files::directory().join(repository.directory());
                    Error::new(
                        Kind::NotFound,
                        format!(
                            "{}; CALL mysql.ml_fetch_model('{}') fetches it, or put the files of {} into {} by hand",
                            e.message().split(';').next().unwrap_or_default(),
                            model.model_id,
                            repository.id,
                            directory.display()
                        ),
                    )
                }
                _ => e,
            })
        }

        /// A text that changes when the model's files do: part of the key of its embeddings in the caches.
        pub(in crate::engine) fn local_stamp(&self, model: &Model) -> String {
            let Ok(key) = key(model) else { return String::new() };
            self.local.loaded.stamp(&key).unwrap_or_else(|| stamp(&key.directory))
        }

        #[allow(clippy::too_many_arguments)]
        pub(in crate::engine) fn embed_locally(
            &self,
            resolved: &Arc<ResolvedModel>,
            text: &str,
            role: Role,
            settings: &Settings,
            activity: &Activity,
            limit: Option<Instant>,
            interrupt: &dyn Interrupt,
        ) -> Result<Vec<f32>> {
            let model = &resolved.model;
            let deadline = limit.unwrap_or_else(|| Instant::now() + time(model, settings));
            let entry = self.local_entry(model, settings, deadline, interrupt)?;
            let options = embed_options(model, role);
            activity.requested(false);
            let began = Instant::now();
            let vector = self.local.batcher.embed_one(entry, text, options, &caller(settings), deadline, interrupt)?;
            activity.answered(began.elapsed());
            Ok(vector)
        }

        /// Hands a batch over; `done` gets it back with the vectors, on one of the threads.
        #[allow(clippy::too_many_arguments)]
        pub(in crate::engine) fn embed_batch_locally(
            &self,
            resolved: &Arc<ResolvedModel>,
            batch: Batch,
            role: Role,
            settings: &Settings,
            cancel: &CancelToken,
            done: impl FnOnce(Batch, Vec<Result<Vec<f32>>>) + Send + 'static,
            interrupt: &dyn Interrupt,
        ) -> Result<()> {
            let model = &resolved.model;
            let entry = self.local_entry(model, settings, Instant::now() + time(model, settings), interrupt)?;
            let options = embed_options(model, role);
            let texts = batch.texts();
            let done = move |vectors| done(batch, vectors);
            self.local.batcher.embed(entry, texts, options, &caller(settings), cancel.clone(), done)
        }

        pub(in crate::engine) fn embed_image_locally(
            &self,
            resolved: &Arc<ResolvedModel>,
            image: &Image,
            settings: &Settings,
            activity: &Activity,
            limit: Option<Instant>,
            interrupt: &dyn Interrupt,
        ) -> Result<Vec<f32>> {
            let model = &resolved.model;
            let bytes = image.bytes()?.to_vec();
            let deadline = limit.unwrap_or_else(|| Instant::now() + time(model, settings));
            let entry = self.local_entry(model, settings, deadline, interrupt)?;
            activity.requested(false);
            let began = Instant::now();
            entry.used(1);
            let call = move |model: &dyn local::LocalModel, turn: &Turn| {
                let vector = model.embed_images(&[&bytes], turn)?.into_iter().next();
                vector.unwrap_or_else(|| Err(Error::internal("an image got no vector")))
            };
            let vector = self.local.batcher.call(entry, &caller(settings), deadline, interrupt, call)?;
            activity.answered(began.elapsed());
            Ok(vector)
        }

        pub(in crate::engine) fn generate_locally(
            &self,
            resolved: &Arc<ResolvedModel>,
            prompt: &str,
            options: &GenerateOptions,
            settings: &Settings,
            activity: &Activity,
            interrupt: &dyn Interrupt,
        ) -> Result<String> {
            let model = &resolved.model;
            let options = local::GenerateOptions {
                max_tokens: usize::try_from(options.max_tokens.unwrap_or(MAX_TOKENS)).unwrap_or(usize::MAX),
                // The likeliest words, as this model's makers do; and so the same answer each time.
                temperature: options.temperature.unwrap_or(0.0) as f32,
                top_p: options.top_p.unwrap_or(1.0) as f32,
                seed: options.seed.unwrap_or_else(|| fastrand::u64(..)),
                truncate: model.options.truncate == Some(true),
            };
            let deadline = Instant::now() + time(model, settings);
            let entry = self.local_entry(model, settings, deadline, interrupt)?;
            activity.requested(false);
            let began = Instant::now();
            entry.used(1);
            let prompt = prompt.to_owned();
            let call = move |model: &dyn local::LocalModel, turn: &Turn| model.generate(&prompt, &options, turn);
            let answer = self.local.batcher.call(entry, &caller(settings), deadline, interrupt, call)?;
            activity.answered(began.elapsed());
            activity.used(0, Usage { input: Some(answer.tokens_in), output: Some(answer.tokens_out) });
            Ok(answer.text)
        }

        /// Stops what nobody waits for any more.
        pub(in crate::engine) fn sweep_local(&self) {
            self.local.batcher.sweep();
        }

        pub(in crate::engine) fn local_status(&self) -> Value {
            let (threads, waiting) = self.local.batcher.load();
            json!({"threads": threads, "waiting": waiting, "models": self.local.loaded.status()})
        }

        /// Loads a model, and tells what it is as a JSON object.
        pub fn load_model(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
            let (resolved, settings, place) = self.local_model(Routine::LOAD_MODEL, model_id, interrupt)?;
            let began = Instant::now();
            let entry = self
                .local_entry(&resolved.model, &settings, began + LOAD_WITHIN, interrupt)
                .map_err(|e| e.context(&format!("model '{model_id}'")))?;
            Ok(json!({
                "model_id": model_id,
                "directory": place.directory(),
                "kind": entry.model.kind(),
                "dimensions": entry.model.dimensions(),
                "memory_bytes": entry.bytes(),
                "ms": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
            .to_string())
        }

        /// Takes a model out of memory; 1 if it was there.
        pub fn unload_model(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
            let (resolved, ..) = self.local_model(Routine::UNLOAD_MODEL, model_id, interrupt)?;
            let was_there = self.local.loaded.unload(&key(&resolved.model)?, interrupt)?;
            Ok(u8::from(was_there).to_string())
        }
    }
}
