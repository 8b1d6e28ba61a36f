//! The backend of local models.

mod hub;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::host::current_account;
use mysql_ml_base::interrupt::{CancelToken, Interrupt};
use mysql_ml_base::memory::{self, Held, Reservation};
use mysql_ml_base::role::Role;
use mysql_ml_local::batcher::{Batcher, Caller};
use mysql_ml_local::loaded::{stamp, Entry, Key, Loaded};
use mysql_ml_local::sentence::TOKENS_AT_ONCE;
use mysql_ml_local::turn::Turn;
use mysql_ml_local::{self as local, files, Architecture, EmbedOptions, LocalModel};

use super::{encoded, By, Embed, Generate, Predict, Rerank};
use crate::catalog::local_place::Place;
use crate::catalog::model::{Model, ModelType, ProviderId};
use crate::catalog::settings::Settings;
use crate::chunk::{chunks, Chunk, Rule, Tokens, BYTES_A_TOKEN};
use crate::engine::call::{Call, Input};
use crate::providers::chat::Question;
use crate::providers::rerank::{Ranking, Scored};
use crate::providers::usage::Usage;

/// Time limit of `ml_load_model`.
const LOAD_WITHIN: Duration = Duration::from_secs(3600);

/// The default of the most tokens in an answer.
const MAX_TOKENS: u64 = 256;

/// Bytes that a tokenizer needs for a byte of text, if each is a token.
const BESIDE_A_BYTE: usize = 128;

/// The models in memory and the threads that compute with them.
#[derive(Default)]
pub(in crate::engine) struct Local {
    loaded: Loaded,
    batcher: Batcher,
}

fn key(model: &Model) -> Result<Key> {
    let architecture = match model.api {
        ProviderId::BertLocal => Architecture::Bert,
        ProviderId::ClipLocal => Architecture::Clip,
        ProviderId::T5Local => Architecture::T5,
        ProviderId::StaticLocal => Architecture::Static,
        ProviderId::BertRerankLocal => Architecture::CrossEncoder,
        other => return Err(Error::internal(format!("provider {} has no local models", other.as_str()))),
    };
    Ok(Key { architecture, directory: Place::of(model)?.directory() })
}

/// The account of a call and its threads. Accounts share the threads.
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

/// A model's tokenizer on a thread of local models.
struct ModelTokens<'m> {
    model: &'m dyn LocalModel,
    turn: &'m Turn,
}

impl Tokens for ModelTokens<'_> {
    fn ends(&self, text: &str) -> Result<Vec<usize>> {
        self.model.token_ends(text, self.turn)
    }

    fn count(&self, text: &str) -> Result<usize> {
        self.model.count_tokens(text, self.turn)
    }
}

impl Local {
    /// The model in memory; loads it if needed, until `deadline`.
    fn entry(&self, call: &Call, deadline: Instant, interrupt: &dyn Interrupt) -> Result<Arc<Entry>> {
        let model = call.model();
        let loaded = self.loaded.get(&key(model)?, call.settings.local_memory, deadline, interrupt);
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

    /// A text that changes with the model's files, for cache keys; empty for other models.
    pub fn stamp(&self, model: &Model) -> String {
        let Ok(key) = key(model) else { return String::new() };
        self.loaded.stamp(&key).unwrap_or_else(|| stamp(&key.directory))
    }

    /// Embeds texts on the threads of local models. `done` gets one result a text, in order, on such a thread.
    pub fn embed_batch(
        &self,
        call: &Call,
        texts: Vec<Arc<str>>,
        role: Role,
        cancel: &CancelToken,
        done: impl FnOnce(Vec<Result<Vec<f32>>>) + Send + 'static,
        interrupt: &dyn Interrupt,
    ) -> Result<()> {
        let entry = self.entry(call, Instant::now() + call.time(), interrupt)?;
        let options = embed_options(call.model(), role);
        self.batcher.embed(entry, texts, options, &caller(&call.settings), cancel.clone(), done)
    }

    /// Loads a model; returns its description as a JSON object.
    pub fn load(&self, call: &Call, place: &Place, interrupt: &dyn Interrupt) -> Result<String> {
        let (began, model_id) = (Instant::now(), &call.model().model_id);
        let entry =
            self.entry(call, began + LOAD_WITHIN, interrupt).map_err(|e| e.context(&format!("model '{model_id}'")))?;
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

    /// Computes with the model, loaded if needed, until `limit` or the call's own time limit; counts request and latency.
    fn compute<T>(
        &self,
        call: &Call,
        limit: Option<Instant>,
        interrupt: &dyn Interrupt,
        compute: impl FnOnce(Arc<Entry>, &Caller, Instant) -> Result<T>,
    ) -> Result<T> {
        let deadline = limit.unwrap_or_else(|| Instant::now() + call.time());
        let entry = self.entry(call, deadline, interrupt)?;
        call.meter.requested(false);
        let began = Instant::now();
        let computed = compute(entry, &caller(&call.settings), deadline)?;
        call.meter.answered(began.elapsed());
        Ok(computed)
    }

    /// The tokens of a text, by the model's own tokenizer; loads the model if needed.
    pub fn count_tokens(&self, call: &Call, text: &str, interrupt: &dyn Interrupt) -> Result<usize> {
        let _tokens = Reservation::take(text.len().saturating_mul(BESIDE_A_BYTE), "the tokens")?;
        let text = text.to_owned();
        let deadline = Instant::now() + call.time();
        let entry = self.entry(call, deadline, interrupt)?;
        let count = move |model: &dyn LocalModel, turn: &Turn| model.count_tokens(&text, turn);
        self.batcher.call(entry, &caller(&call.settings), deadline, interrupt, count)
    }

    /// The chunks of a text, counted in the model's tokens; loads the model if needed. `rule` gets the most tokens that the
    /// model reads.
    pub fn chunk(
        &self,
        call: &Call,
        text: &str,
        rule: impl FnOnce(Option<usize>) -> Result<Rule> + Send + 'static,
        largest: usize,
        interrupt: &dyn Interrupt,
    ) -> Result<Held<Vec<Chunk>>> {
        let share = Reservation::take(text.len(), "the text")?;
        let text = Held::new(text.to_owned(), share);
        let deadline = Instant::now() + call.time();
        let entry = self.entry(call, deadline, interrupt)?;
        let holder = memory::holder();
        let cut = move |model: &dyn LocalModel, turn: &Turn| {
            memory::working_for(holder, || {
                let rule = rule(model.max_tokens())?;
                let most = text.len().min(rule.size.saturating_mul(BYTES_A_TOKEN));
                let _tokens = Reservation::take(most.saturating_mul(BESIDE_A_BYTE), "the tokens")?;
                chunks(&text, rule, Some(&ModelTokens { model, turn }), largest, &|| turn.check())
            })
        };
        self.batcher.call(entry, &caller(&call.settings), deadline, interrupt, cut)
    }

    /// Unloads a model; returns whether it was in memory.
    pub fn unload(&self, model: &Model, interrupt: &dyn Interrupt) -> Result<bool> {
        self.loaded.unload(&key(model)?, interrupt)
    }

    /// Ends batches that nobody waits for.
    pub fn sweep(&self) {
        self.batcher.sweep();
    }

    /// Threads and models, as a JSON object for `ml_status`.
    pub fn status(&self) -> Value {
        let (threads, waiting) = self.batcher.load();
        json!({"threads": threads, "waiting": waiting, "models": self.loaded.status()})
    }
}

impl Embed for Local {
    fn embed(
        &self,
        call: &Call,
        input: Input<'_>,
        role: Role,
        limit: Option<Instant>,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<u8>> {
        let vector = match input {
            Input::Text(text) => {
                let options = embed_options(call.model(), role);
                self.compute(call, limit, interrupt, |entry, caller, deadline| {
                    self.batcher.embed_one(entry, text, options, caller, deadline, interrupt)
                })?
            }
            Input::Image(image) => {
                let bytes = image.bytes()?.to_vec();
                let embed = move |model: &dyn LocalModel, turn: &Turn| {
                    let vector = model.embed_images(&[&bytes], turn)?.into_iter().next();
                    vector.unwrap_or_else(|| Err(Error::internal("an image got no vector")))
                };
                self.compute(call, limit, interrupt, |entry, caller, deadline| {
                    entry.used(1);
                    self.batcher.call(entry, caller, deadline, interrupt, embed)
                })?
            }
        };
        let bytes = encoded(call.model(), vector)?;
        call.meter.used(1, Usage::default());
        Ok(bytes)
    }
}

impl Predict for Local {
    fn predict(&self, call: &Call, _body: &str, _interrupt: &dyn Interrupt) -> Result<Held<String>> {
        let model = call.model();
        let other = match model.model_type {
            ModelType::Reranking => "ai.rerank",
            model_type if model_type.embeds() => "ml_embedding",
            _ => "ml_generate",
        };
        Err(Error::invalid(format!("provider {} takes no JSON; call {other}", model.provider.as_str())))
    }
}

impl Generate for Local {
    fn generate(
        &self,
        call: &Call,
        question: &Question,
        limit: Option<Instant>,
        interrupt: &dyn Interrupt,
    ) -> Result<(Held<String>, By)> {
        let options = &question.options;
        if options.system.is_some() {
            return Err(Error::invalid("T5 takes no system; leave the option system out, or write it into the prompt"));
        }
        if !question.images.is_empty() {
            return Err(Error::invalid(format!(
                "provider {} takes no images; leave them out, or use a model of a provider that takes them",
                call.model().provider.as_str()
            )));
        }
        if question.schema.is_some() {
            return Err(Error::invalid(format!(
                "model '{}' of provider {} gives no JSON by a schema; use a model of a provider with structured output",
                call.model().model_id,
                call.model().provider.as_str()
            )));
        }
        let options = local::GenerateOptions {
            max_tokens: usize::try_from(options.max_tokens.unwrap_or(MAX_TOKENS)).unwrap_or(usize::MAX),
            // Greedy decoding, as the model's authors do; answers are repeatable.
            temperature: options.temperature.unwrap_or(0.0) as f32,
            top_p: options.top_p.unwrap_or(1.0) as f32,
            seed: options.seed.unwrap_or_else(|| fastrand::u64(..)),
            truncate: call.model().options.truncate == Some(true),
        };
        // T5 learnt tasks as the beginning of its text.
        let prompt = match &question.instruction {
            Some(instruction) => format!("{instruction}\n\n{}", question.text),
            None => question.text.to_string(),
        };
        let generate = move |model: &dyn LocalModel, turn: &Turn| model.generate(&prompt, &options, turn);
        let answer = self.compute(call, limit, interrupt, |entry, caller, deadline| {
            entry.used(1);
            self.batcher.call(entry, caller, deadline, interrupt, generate)
        })?;
        call.meter.used(0, Usage { input: Some(answer.tokens_in), output: Some(answer.tokens_out) });
        Ok((Held::new(answer.text, Reservation::default()), By::Model))
    }
}

impl Local {
    /// The scores of documents, computed in groups on as many threads as are free.
    fn rank(&self, call: &Call, ranking: &Ranking<'_>, interrupt: &dyn Interrupt) -> Result<Vec<Scored>> {
        let truncate = call.model().options.truncate == Some(true);
        let bytes = ranking.documents.iter().fold(ranking.query.len(), |sum, text| sum.saturating_add(text.len()));
        let share = Arc::new(Reservation::take(bytes, "the documents")?);
        let query: Arc<str> = ranking.query.into();
        let groups = groups(&query, ranking.documents);
        let calls = groups
            .into_iter()
            .map(|group| {
                let (query, share) = (Arc::clone(&query), Arc::clone(&share));
                move |model: &dyn LocalModel, turn: &Turn| {
                    let _share = share;
                    let texts: Vec<(usize, &str)> = group.iter().map(|(number, text)| (*number, &**text)).collect();
                    let ranked = model.rank(&query, &texts, truncate, turn)?;
                    if ranked.scores.len() != texts.len() {
                        return Err(Error::internal("a local model gave another number of scores"));
                    }
                    Ok(ranked)
                }
            })
            .collect();
        let made: Vec<local::Ranked> = self.compute(call, None, interrupt, |entry, caller, deadline| {
            entry.used(ranking.documents.len() as u64);
            self.batcher.calls(&entry, caller, deadline, interrupt, calls)
        })?;
        let tokens = made.iter().map(|ranked| ranked.tokens as u64).sum();
        call.meter.used(0, Usage { input: Some(tokens), output: None });
        let scores = made.into_iter().flat_map(|ranked| ranked.scores).enumerate();
        Ok(scores.map(|(index, score)| Scored { index, score: score.into() }).collect())
    }
}

/// Divides documents into those that are computed together, in order. Each has its number, from 1.
fn groups(query: &str, documents: &[&str]) -> Vec<Vec<(usize, Box<str>)>> {
    // The estimate is four bytes a token.
    let tokens = |text: &str| text.len() / 4 + 2;
    let mut groups: Vec<Vec<(usize, Box<str>)>> = Vec::new();
    let mut sum = TOKENS_AT_ONCE;
    for (i, document) in documents.iter().enumerate() {
        let own = tokens(query) + tokens(document);
        if sum + own > TOKENS_AT_ONCE {
            groups.push(Vec::new());
            sum = 0;
        }
        sum += own;
        if let Some(group) = groups.last_mut() {
            group.push((i + 1, (*document).into()));
        }
    }
    groups
}

impl Rerank for &Local {
    fn rerank(&self, call: &Call, ranking: &Ranking<'_>, interrupt: &dyn Interrupt) -> Result<Vec<Scored>> {
        call.meter.called();
        call.counted(self.rank(call, ranking, interrupt))
    }
}
