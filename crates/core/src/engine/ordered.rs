//! Embeds the texts of one call as they arrive, each distinct text once.
//!
//! Each vector is kept once and written at all its places in the result. A too large result fails as soon as the
//! vectors' width is known.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use serde_json::json;
use surface::functions;

use super::pipeline::Pipeline;
use super::Engine;
use crate::catalog::options::OnError;
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{self, Held, Reservation};
use mysql_ml_base::role::Role;

/// The most texts in one call.
pub const MAX_TEXTS: usize = 1_000_000;

/// Overhead of a text, bytes: its entries in the lists of known, waiting, sent and answered texts.
const BESIDE_A_TEXT: usize = 256;

/// Assumed width of vectors, in elements, when deciding whether to request one vector alone first.
const LIKELY_WIDTH: usize = 4096;

/// Texts in progress.
pub struct OrderedBatch<'e> {
    model_id: String,
    on_error: OnError,
    pipeline: Pipeline<'e>,
    numbers: HashMap<Arc<str>, u64>,
    /// Numbered texts that are not in the pipeline yet.
    unsent: VecDeque<Arc<str>>,
    answers: Vec<Option<Result<Arc<[u8]>>>>,
    /// The first text that failed.
    failed: Option<u64>,
    /// The memory of all of it.
    share: Reservation,
    /// Number of vectors in the result, and its other bytes.
    places: usize,
    beside: usize,
    largest: usize,
    /// Bytes of a vector, once known.
    width: Option<usize>,
}

/// Results of the texts.
pub struct Answers {
    answers: Vec<Option<Result<Arc<[u8]>>>>,
    largest: usize,
    _share: Reservation,
}

/// The length of a vector's bytes as base64.
fn encoded(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

impl Answers {
    fn of(&self, number: Option<u64>) -> Option<&Result<Arc<[u8]>>> {
        self.answers.get(usize::try_from(number?).ok()?)?.as_ref()
    }

    /// The text of a result: `beside` bytes, and the values of `numbers`. `write` gets the text and a function that
    /// appends a value: the base64 of a vector, an object with a text's error, or null.
    pub fn write(
        &self,
        beside: usize,
        numbers: impl Iterator<Item = Option<u64>>,
        write: impl FnOnce(&mut String, &dyn Fn(Option<u64>, &mut String)),
    ) -> Result<Held<String>> {
        let failed = |e: &Error| json!({"error": e.message()}).to_string();
        let bytes = numbers.fold(beside, |sum, number| {
            sum.saturating_add(match self.of(number) {
                Some(Ok(vector)) => encoded(vector.len()) + 2,
                Some(Err(e)) => failed(e).len(),
                None => 4,
            })
        });
        if bytes > self.largest {
            return Err(too_large(bytes, self.largest));
        }
        let share = Reservation::take(bytes, "the result")?;
        let mut result = memory::text_of(bytes, "the result")?;
        write(&mut result, &|number, result| match self.of(number) {
            Some(Ok(vector)) => {
                result.push('"');
                BASE64_STANDARD.encode_string(vector, result);
                result.push('"');
            }
            Some(Err(e)) => result.push_str(&failed(e)),
            None => result.push_str("null"),
        });
        Ok(Held::new(result, share))
    }
}

fn too_large(bytes: usize, largest: usize) -> Error {
    Error::result_too_large(&format!("the result would have {bytes} bytes"), largest)
}

impl<'e> OrderedBatch<'e> {
    /// A batch for a model that the caller may use.
    pub fn new(engine: &'e Engine, model_id: &str, interrupt: &dyn Interrupt) -> Result<Self> {
        let call = engine.call(functions::ml_embedding_batch, model_id, interrupt)?;
        call.model().must_embed()?;
        let on_error = call.model().options.on_error.unwrap_or(OnError::Fail);
        let patience = call.time();
        let width = call.model().options.dimensions.and_then(|n| usize::try_from(n).ok()).map(|n| n.saturating_mul(4));
        let pipeline = Pipeline::new(engine, call, Role::Document, None, None, Some(patience))?;
        Ok(OrderedBatch {
            model_id: model_id.to_owned(),
            on_error,
            pipeline,
            numbers: HashMap::new(),
            unsent: VecDeque::new(),
            answers: Vec::new(),
            failed: None,
            share: Reservation::default(),
            places: 0,
            beside: 0,
            largest: mysql_ml_base::host::largest_result(),
            width,
        })
    }

    /// Adds `places` vectors and `beside` other bytes to the expected result. An error if it becomes too large.
    pub fn expect(&mut self, places: usize, beside: usize) -> Result<()> {
        self.places += places;
        self.beside += beside;
        // If most widths would be too large, a single request finds the width before others are paid for.
        let likely = self.places.saturating_mul(encoded(LIKELY_WIDTH * 4));
        self.pipeline.ask_first(self.width.is_none() && likely > self.largest);
        self.must_fit()
    }

    /// Removes vectors from the expected result.
    pub fn expect_less(&mut self, places: usize) {
        self.places = self.places.saturating_sub(places);
    }

    fn must_fit(&self) -> Result<()> {
        let Some(width) = self.width else { return Ok(()) };
        // With `on_error` inline an error may replace a vector; it is counted when it is written.
        let bytes = self.places.saturating_mul(encoded(width) + 2).saturating_add(self.beside);
        if bytes <= self.largest {
            return Ok(());
        }
        Err(self.context(too_large(bytes, self.largest)))
    }

    /// The number of a text; equal texts have the same one. [`OrderedBatch::send`] sends it.
    pub fn number(&mut self, text: &str) -> Result<u64> {
        if let Some(number) = self.numbers.get(text) {
            return Ok(*number);
        }
        self.share.spend(text.len() + BESIDE_A_TEXT, "the texts")?;
        let number = self.answers.len() as u64;
        let text: Arc<str> = text.into();
        self.answers.push(None);
        self.unsent.push_back(Arc::clone(&text));
        self.numbers.insert(text, number);
        Ok(number)
    }

    /// Reserves `bytes` for a list of the caller's.
    pub fn spend(&mut self, bytes: usize) -> Result<()> {
        self.share.spend(bytes, "the texts")
    }

    /// Sends numbered texts in full batches; waits while more texts wait than may be under way.
    pub fn send(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        while let Some(text) = self.unsent.pop_front() {
            let number = (self.answers.len() - self.unsent.len() - 1) as u64;
            self.pipeline.push(number, text, interrupt)?;
            if self.pipeline.waiting().is_multiple_of(self.pipeline.batch_size()) {
                self.advance(Duration::ZERO, false, interrupt)?;
            }
            while self.pipeline.waiting() > self.pipeline.batch_size().saturating_mul(self.pipeline.concurrency()) {
                self.advance(Duration::from_secs(1), false, interrupt)?;
            }
        }
        Ok(())
    }

    /// Waits for all texts. The error of a text names its place, `place` of its number.
    pub fn finish(mut self, place: impl Fn(u64) -> String, interrupt: &dyn Interrupt) -> Result<Answers> {
        self.send(interrupt)?;
        while !self.pipeline.is_empty() {
            self.advance(Duration::from_secs(1), true, interrupt)?;
            self.must_go_on(&place)?;
        }
        self.must_go_on(&place)?;
        Ok(Answers { answers: self.answers, largest: self.largest, _share: self.share })
    }

    /// A failed text ends the call, unless its error replaces the vector.
    fn must_go_on(&self, place: &impl Fn(u64) -> String) -> Result<()> {
        if self.on_error == OnError::Detail {
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
        while let Some(done) = self.pipeline.advance(wait, last, interrupt).map_err(|e| self.context(e))? {
            wait = Duration::ZERO;
            match &done.vector {
                Ok(vector) => {
                    self.share.spend(vector.len(), "the vectors").map_err(|e| self.context(e))?;
                    if self.width.is_none() {
                        self.width = Some(vector.len());
                        self.must_fit()?;
                    }
                }
                Err(e) => {
                    self.share.spend(e.message().len(), "the errors").map_err(|e| self.context(e))?;
                    self.failed = Some(self.failed.map_or(done.id, |first| first.min(done.id)));
                }
            }
            if let Some(slot) = usize::try_from(done.id).ok().and_then(|n| self.answers.get_mut(n)) {
                *slot = Some(done.vector);
            }
        }
        Ok(())
    }
}
