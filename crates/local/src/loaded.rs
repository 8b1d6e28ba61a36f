//! The models in memory. The first call of a model loads it on one thread, and others wait; the server has one copy.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{json, Value};

use super::clip::Clip;
use super::cross_encoder::CrossEncoder;
use super::files::{self, ModelDir};
use super::sentence::SentenceModel;
use super::static_embedding::StaticModel;
use super::t5::T5;
use super::weights::Weights;
use super::{Architecture, LocalModel};
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt, Waiting, POLL};
use mysql_ml_base::shares::Share;
use mysql_ml_base::wait::Wait;
use mysql_ml_base::workers::{Config, Workers};

/// The maximum of concurrent loads. Further ones wait.
const LOADERS: usize = 4;

/// The maximum time that `ml_unload_model` waits for computing calls of the model.
const FREED_WITHIN: Duration = Duration::from_secs(30);

/// The key of a model: its provider, and its directory in the registration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The family of the model.
    pub architecture: Architecture,
    /// The directory, absolute or relative to the directory of models.
    pub directory: String,
}

/// A model in memory.
pub struct Entry {
    /// The model.
    pub model: Box<dyn LocalModel>,
    /// The [`stamp`] at loading. It changes with the model's files.
    pub stamp: String,
    bytes: u64,
    loaded_at: SystemTime,
    took: Duration,
    inputs: AtomicU64,
}

impl Entry {
    /// Bytes of memory that the model takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// An entry without files, for tests.
    #[cfg(test)]
    pub fn of(model: Box<dyn LocalModel>) -> Self {
        Entry {
            model,
            stamp: String::new(),
            bytes: 0,
            loaded_at: SystemTime::now(),
            took: Duration::ZERO,
            inputs: AtomicU64::new(0),
        }
    }

    /// Counts texts, images or prompts for the status.
    pub fn used(&self, inputs: u64) {
        self.inputs.fetch_add(inputs, Ordering::Relaxed);
    }
}

enum State {
    Loading,
    Ready(Arc<Entry>),
    Failed(Error),
}

struct Slot {
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes that the model takes or will take.
    bytes: AtomicU64,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All models in memory.
pub struct Loaded {
    slots: Arc<Mutex<HashMap<Key, Arc<Slot>>>>,
    loaders: Workers,
    load: Load,
}

/// Loads a model. The loader reserves the bytes first.
type Load = fn(&Key, &mut dyn FnMut(u64) -> Result<()>) -> Result<Entry>;

impl Default for Loaded {
    fn default() -> Self {
        Loaded {
            slots: Arc::default(),
            load,
            loaders: Workers::new(Config {
                name: "mysql_ml-load",
                max_threads: LOADERS,
                max_waiting: 1024,
                idle: Duration::from_secs(5),
                stack: 2 << 20,
                wait: Some(Wait::ModelLoad),
                on_start: || Ok(()),
                on_stop: || {},
            }),
        }
    }
}

fn lock(slots: &Mutex<HashMap<Key, Arc<Slot>>>) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a load even if it panics, so waiting calls get an error.
struct Loading {
    slots: Arc<Mutex<HashMap<Key, Arc<Slot>>>>,
    key: Key,
    slot: Arc<Slot>,
    end: Option<State>,
}

impl Loading {
    fn ends(&mut self, state: State) {
        self.end = Some(state);
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let failed = || State::Failed(Error::internal("loading a model did not end"));
        let end = self.end.take().unwrap_or_else(failed);
        if matches!(end, State::Failed(_)) {
            let mut slots = lock(&self.slots);
            if slots.get(&self.key).is_some_and(|slot| Arc::ptr_eq(slot, &self.slot)) {
                slots.remove(&self.key);
            }
        }
        *self.slot.lock() = end;
        self.slot.changed.notify_all();
    }
}

impl Loaded {
    /// The model, loaded on its first use. All models together take at most `limit` bytes. Waits until `deadline`.
    pub fn get(&self, key: &Key, limit: u64, deadline: Instant, interrupt: &dyn Interrupt) -> Result<Arc<Entry>> {
        let slot = {
            let mut slots = lock(&self.slots);
            match slots.get(key) {
                Some(slot) => Arc::clone(slot),
                None => {
                    let bytes = AtomicU64::new(0);
                    let slot = Arc::new(Slot { state: Mutex::new(State::Loading), changed: Condvar::new(), bytes });
                    slots.insert(key.clone(), Arc::clone(&slot));
                    drop(slots);
                    self.begin(key, &slot, limit)?;
                    slot
                }
            }
        };
        let mut state = slot.lock();
        let mut waiting = None;
        loop {
            match &*state {
                State::Ready(entry) => return Ok(Arc::clone(entry)),
                State::Failed(error) => return Err(error.clone()),
                State::Loading => {}
            }
            interrupt.check()?;
            if Instant::now() >= deadline {
                return Err(Error::new(
                    Kind::Timeout,
                    "the model is still being loaded; raise timeout_ms or try again in a while",
                ));
            }
            waiting.get_or_insert_with(|| Waiting::begin(interrupt, Wait::ModelLoad));
            state = slot.changed.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Loads on an own thread, because the first caller may be killed while others wait.
    fn begin(&self, key: &Key, slot: &Arc<Slot>, limit: u64) -> Result<()> {
        let slots = Arc::clone(&self.slots);
        let mut loading = Loading { slots, key: key.clone(), slot: Arc::clone(slot), end: None };
        let load = self.load;
        self.loaders
            .run(&Share::default(), &CancelToken::default(), move || {
                let loaded = load(&loading.key, &mut |bytes| reserve(&loading, bytes, limit));
                loading.ends(match loaded {
                    Ok(entry) => {
                        loading.slot.bytes.store(entry.bytes, Ordering::Relaxed);
                        State::Ready(Arc::new(entry))
                    }
                    Err(e) => State::Failed(e),
                });
                Ok(())
            })
            .map(|_| ())
    }

    /// The stamp of the model; `None` if it is not in memory.
    pub fn stamp(&self, key: &Key) -> Option<String> {
        let slot = lock(&self.slots).get(key).cloned()?;
        let state = slot.lock();
        match &*state {
            State::Ready(entry) => Some(entry.stamp.clone()),
            _ => None,
        }
    }

    /// Removes the model from memory and waits until its memory is free. Returns whether it was there.
    pub fn unload(&self, key: &Key, interrupt: &dyn Interrupt) -> Result<bool> {
        let Some(slot) = lock(&self.slots).remove(key) else { return Ok(false) };
        let end = Instant::now() + FREED_WITHIN;
        // A model in loading is awaited, because the call that loads it uses it once.
        loop {
            let entry = match &*slot.lock() {
                State::Loading => None,
                State::Failed(_) => return Ok(false),
                State::Ready(entry) => Some(Arc::downgrade(entry)),
            };
            if let Some(entry) = entry {
                drop(slot);
                while entry.strong_count() > 0 && Instant::now() < end {
                    interrupt.check()?;
                    std::thread::sleep(POLL);
                }
                mysql_ml_base::host::release_free_memory();
                return Ok(true);
            }
            interrupt.check()?;
            std::thread::sleep(POLL);
        }
    }

    /// The models in memory as a JSON array.
    pub fn status(&self) -> Value {
        let slots: Vec<(Key, Arc<Slot>)> = lock(&self.slots).iter().map(|(k, s)| (k.clone(), Arc::clone(s))).collect();
        let mut shown: Vec<(String, Value)> = slots
            .iter()
            .map(|(key, slot)| {
                let mut value = json!({"provider": key.architecture.provider(), "directory": key.directory});
                let more = match &*slot.lock() {
                    State::Ready(e) => json!({
                        "state": "ready",
                        "kind": e.model.kind(),
                        "dimensions": e.model.dimensions(),
                        "memory_bytes": e.bytes,
                        "loaded_at": humantime::format_rfc3339_seconds(e.loaded_at).to_string(),
                        "load_ms": u64::try_from(e.took.as_millis()).unwrap_or(u64::MAX),
                        "inputs": e.inputs.load(Ordering::Relaxed),
                    }),
                    State::Loading => json!({"state": "loading"}),
                    State::Failed(_) => json!({"state": "failed"}),
                };
                if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
                    value.extend(more);
                }
                (key.directory.clone(), value)
            })
            .collect();
        shown.sort_by(|a, b| a.0.cmp(&b.0));
        Value::Array(shown.into_iter().map(|(_, value)| value).collect())
    }
}

/// Reserves the bytes of a model before loading. An error if all models together would exceed the limit.
fn reserve(loading: &Loading, bytes: u64, limit: u64) -> Result<()> {
    let slots = lock(&loading.slots);
    let others: u64 = slots
        .values()
        .filter(|slot| !Arc::ptr_eq(slot, &loading.slot))
        .map(|slot| slot.bytes.load(Ordering::Relaxed))
        .fold(0, u64::saturating_add);
    let mb = |bytes: u64| bytes.div_ceil(1 << 20);
    if others.saturating_add(bytes) > limit {
        return Err(Error::new(
            Kind::TooLarge,
            format!(
                "the model needs about {} MB and others take {} MB of the {} MB that the setting local_memory_mb allows; raise it, or CALL mysql.ml_unload_model(...) for one that is not needed",
                mb(bytes),
                mb(others),
                mb(limit)
            ),
        ));
    }
    loading.slot.bytes.store(bytes, Ordering::Relaxed);
    Ok(())
}

fn load(key: &Key, reserve: &mut dyn FnMut(u64) -> Result<()>) -> Result<Entry> {
    let began = Instant::now();
    let dir = ModelDir::open(&files::directory(), &key.directory)?;
    let stamp = dir.stamp();
    reserve(estimate(&dir)?)?;
    let model: Box<dyn LocalModel> = match key.architecture {
        Architecture::Bert => Box::new(SentenceModel::open(&dir)?),
        Architecture::Clip => Box::new(Clip::load(&dir)?),
        Architecture::T5 => Box::new(T5::load(&dir)?),
        Architecture::Static => Box::new(StaticModel::open(&dir)?),
        Architecture::CrossEncoder => Box::new(CrossEncoder::open(&dir)?),
    };
    Ok(Entry {
        bytes: model.memory_bytes(),
        model,
        stamp,
        loaded_at: SystemTime::now(),
        took: began.elapsed(),
        inputs: AtomicU64::new(0),
    })
}

/// An estimate of a model's bytes, from the headers of its weights and from its tokenizer.
fn estimate(dir: &ModelDir) -> Result<u64> {
    // The modules of sentence-transformers have their own folders.
    let modules: Option<Vec<Module>> = dir.optional_json("modules.json")?;
    let mut places = vec![dir.clone()];
    for module in modules.iter().flatten().take(MOST_MODULES).filter(|m| !m.path.is_empty() && dir.has(&m.path)) {
        places.push(dir.below(&module.path)?);
    }
    if modules.is_none() && dir.has(super::static_embedding::FOLDER) {
        places.push(dir.below(super::static_embedding::FOLDER)?);
    }
    let mut bytes = 0_u64;
    for place in &places {
        if place.has(super::weights::FILE) || place.has(super::weights::INDEX) {
            bytes = bytes.saturating_add(Weights::open(place)?.elements().saturating_mul(4));
        }
        bytes = bytes.saturating_add(super::tokenizer::estimate(place)?);
    }
    if bytes == 0 {
        // This error names the missing file.
        Weights::open(dir)?;
    }
    Ok(bytes)
}

/// The folders of modules in modules.json.
#[derive(serde::Deserialize)]
struct Module {
    path: String,
}

/// The maximum of modules in an estimate.
const MOST_MODULES: usize = 16;

/// A text that changes with the model's files. It reads only their metadata, and is empty without files.
pub fn stamp(directory: &str) -> String {
    ModelDir::open(&files::directory(), directory).map(|dir| dir.stamp()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Turn;
    use crate::EmbedOptions;
    use mysql_ml_base::interrupt::Never;

    /// The lock stops the loading of models while a test holds it.
    static FILES: Mutex<()> = Mutex::new(());

    fn slow(_: &Key, reserve: &mut dyn FnMut(u64) -> Result<()>) -> Result<Entry> {
        reserve(1)?;
        drop(FILES.lock());
        Ok(Entry::of(Box::new(Nothing)))
    }

    struct Nothing;

    impl LocalModel for Nothing {
        fn kind(&self) -> &'static str {
            "nothing"
        }

        fn memory_bytes(&self) -> u64 {
            1
        }

        fn dimensions(&self) -> Option<usize> {
            None
        }

        fn embed(&self, _: &[&str], _: EmbedOptions, _: &Turn) -> Result<Vec<Result<Vec<f32>>>> {
            Ok(Vec::new())
        }
    }

    struct Killed(CancelToken);

    impl Interrupt for Killed {
        fn check(&self) -> Result<()> {
            match self.0.is_cancelled() {
                true => Err(Error::interrupted(1317)),
                false => Ok(()),
            }
        }
    }

    #[test]
    fn who_waits_for_files_that_hang_hears_a_kill_and_the_deadline() {
        let loaded = Loaded { load: slow, ..Loaded::default() };
        let key = Key { architecture: Architecture::Bert, directory: "m".into() };
        let far = Instant::now() + Duration::from_secs(600);
        let hang = FILES.lock().unwrap();
        let killed = Killed(CancelToken::default());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| loaded.get(&key, 10, far, &killed).err().map(|e| e.sql_code()));
            while loaded.status()[0]["state"] != "loading" {
                std::thread::yield_now();
            }
            // A later caller has its own deadline.
            let error = loaded.get(&key, 10, Instant::now() + 2 * POLL, &Never).err().unwrap();
            assert!(error.kind() == Kind::Timeout && error.message().contains("still being loaded"), "{error}");
            killed.0.cancel();
            assert_eq!(waits.join().unwrap(), Some(1317));
            // Unloading does not wait forever either.
            assert_eq!(loaded.unload(&key, &killed).unwrap_err().sql_code(), 1317);
        });
        // After the files are read, all callers get the model, which is loaded once.
        let key = Key { directory: "n".into(), ..key };
        std::thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| loaded.get(&key, 10, far, &Never).unwrap()));
            drop(hang);
            let [a, b] = both.map(|thread| thread.join().unwrap());
            assert!(Arc::ptr_eq(&a, &b));
        });
    }

    #[test]
    fn a_model_whose_load_panics_is_waited_for_by_nobody() {
        #[allow(clippy::panic)]
        fn panics(_: &Key, _: &mut dyn FnMut(u64) -> Result<()>) -> Result<Entry> {
            panic!("loading")
        }
        let loaded = Loaded { load: panics, ..Loaded::default() };
        let key = Key { architecture: Architecture::Bert, directory: "m".into() };
        let far = Instant::now() + Duration::from_secs(600);
        assert!(loaded.get(&key, 10, far, &Never).is_err());
        assert_eq!(loaded.status(), json!([]), "the next one loads it anew");
    }
}
