//! Embeds the texts of one call as they come in; each different text once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use serde_json::{json, Value};

use super::bulk::Bulk;
use super::Engine;
use crate::error::{Error, Kind, Result};
use crate::models::model::check_id;
use crate::models::options::OnError;
use crate::models::store::Routine;
use crate::providers::Role;
use crate::threads::interrupt::Interrupt;

/// More texts than this in one call are refused.
pub const MAX_TEXTS: usize = 1_000_000;

/// A result of more bytes than this is refused: no packet could hold it.
const MAX_BYTES: usize = 1 << 30;

/// Texts that are on their way.
pub struct Gather<'e> {
    model_id: String,
    on_error: OnError,
    bulk: Bulk<'e>,
    numbers: HashMap<Arc<str>, u64>,
    answers: Vec<Option<Result<Arc<[u8]>>>>,
    bytes: usize,
    /// The first text that failed.
    failed: Option<u64>,
}

/// What came of the texts.
pub struct Answers(Vec<Value>);

impl Answers {
    /// The base64 of the vector of a text, or an object with its error.
    pub fn value(&self, number: u64) -> Value {
        usize::try_from(number).ok().and_then(|n| self.0.get(n)).cloned().unwrap_or_default()
    }
}

impl<'e> Gather<'e> {
    /// For a model that the caller may embed batches with.
    pub fn new(engine: &'e Engine, model_id: &str, interrupt: &dyn Interrupt) -> Result<Self> {
        check_id("model_id", model_id)?;
        let settings = engine.settings(interrupt)?;
        let resolved =
            engine.registry.model(engine.store.as_ref(), Routine::EMBEDDING_BATCH, model_id, &settings, interrupt)?;
        super::must_embed(&resolved.model)?;
        let on_error = resolved.model.options.on_error.unwrap_or(OnError::Fail);
        let patience = resolved.model.options.timeout_ms.map_or(settings.timeout, Duration::from_millis);
        let bulk = Bulk::new(engine, resolved, settings, Role::Document, None, None, Some(patience))?;
        let model_id = model_id.to_owned();
        Ok(Gather { model_id, on_error, bulk, numbers: HashMap::new(), answers: Vec::new(), bytes: 0, failed: None })
    }

    /// Takes a text and returns its number. Sends what makes full batches, and waits where more are waiting than can be
    /// under way.
    pub fn push(&mut self, text: Arc<str>, interrupt: &dyn Interrupt) -> Result<u64> {
        if let Some(number) = self.numbers.get(&text) {
            return Ok(*number);
        }
        let number = self.answers.len() as u64;
        self.answers.push(None);
        self.numbers.insert(Arc::clone(&text), number);
        self.bulk.push(number, text, interrupt)?;
        if self.bulk.waiting().is_multiple_of(self.bulk.batch_size()) {
            self.advance(Duration::ZERO, false, interrupt)?;
        }
        while self.bulk.waiting() > self.bulk.batch_size().saturating_mul(self.bulk.concurrency()) {
            self.advance(Duration::from_secs(1), false, interrupt)?;
        }
        Ok(number)
    }

    /// Waits for all. An error of one text says where it stands, as `place` of its number tells.
    pub fn finish(mut self, place: impl Fn(u64) -> String, interrupt: &dyn Interrupt) -> Result<Answers> {
        while !self.bulk.is_empty() {
            self.advance(Duration::from_secs(1), true, interrupt)?;
            self.must_go_on(&place)?;
        }
        self.must_go_on(&place)?;
        let value = |answer: Option<Result<Arc<[u8]>>>| match answer {
            Some(Ok(bytes)) => Value::String(BASE64_STANDARD.encode(&bytes)),
            Some(Err(e)) => json!({"error": e.message()}),
            None => Value::Null,
        };
        Ok(Answers(self.answers.into_iter().map(value).collect()))
    }

    /// A text that failed ends the call, unless its error is to stand in its place.
    fn must_go_on(&self, place: &impl Fn(u64) -> String) -> Result<()> {
        if self.on_error == OnError::Inline {
            return Ok(());
        }
        let Some(number) = self.failed else { return Ok(()) };
        match usize::try_from(number).ok().and_then(|n| self.answers.get(n)) {
            Some(Some(Err(e))) => Err(self.context(e.clone().context(&place(number)))),
            _ => Err(Error::internal("a text failed without an error")),
        }
    }

    fn context(&self, error: Error) -> Error {
        error.context(&format!("model '{}'", self.model_id))
    }

    fn advance(&mut self, wait: Duration, last: bool, interrupt: &dyn Interrupt) -> Result<()> {
        let mut wait = wait;
        while let Some(done) = self.bulk.advance(wait, last, interrupt).map_err(|e| self.context(e))? {
            wait = Duration::ZERO;
            self.bytes += done.vector.as_ref().map_or(0, |v| v.len());
            if self.bytes > MAX_BYTES / 4 * 3 {
                return Err(Error::new(Kind::TooLarge, "the vectors are more than 1 GB; embed fewer texts in a call"));
            }
            if done.vector.is_err() {
                self.failed = Some(self.failed.map_or(done.id, |first| first.min(done.id)));
            }
            if let Some(slot) = usize::try_from(done.id).ok().and_then(|n| self.answers.get_mut(n)) {
                *slot = Some(done.vector);
            }
        }
        Ok(())
    }
}
