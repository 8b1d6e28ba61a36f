//! Runs the inputs of one call through a pipeline as they arrive, each distinct text once, and returns results in order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::pipeline::work::{Text, Work};
use super::pipeline::Pipeline;
use crate::catalog::options::OnError;
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{Held, Reservation};

/// The most texts in one call.
pub const MAX_TEXTS: usize = 1_000_000;

/// Overhead of a text, bytes: its entries in the lists of known, waiting, sent and answered texts.
const BESIDE_A_TEXT: usize = 256;

/// Texts in progress.
pub struct OrderedBatch<'e, W: Work> {
    model_id: String,
    on_error: OnError,
    pipeline: Pipeline<'e, W>,
    /// The input of a text.
    input: Box<dyn Fn(Text) -> W::Input>,
    numbers: HashMap<Text, u64>,
    /// Numbers of inputs that are more than a text, by a digest.
    others: HashMap<[u8; 32], u64>,
    /// Numbered inputs that are not in the pipeline yet.
    unsent: VecDeque<(u64, Unsent<W>)>,
    results: Vec<Option<Result<W::Output>>>,
    /// The first text that failed.
    failed: Option<u64>,
    /// The memory of all of it.
    share: Reservation,
}

/// An input that is not in the pipeline yet.
enum Unsent<W: Work> {
    Text(Text),
    Other(W::Input),
}

/// The results of the texts, by their numbers.
pub struct Results<T> {
    results: Vec<Option<Result<T>>>,
    /// The error of the first text that failed, with its place.
    first: Option<Error>,
    _share: Reservation,
}

/// The result of a call with many inputs, and its failures.
pub struct Answered {
    /// JSON: for each input its value, null for NULL and unknown.
    pub json: Held<String>,
    /// The number of failed inputs, and the first error.
    pub failures: Option<(u64, Error)>,
}

impl Answered {
    /// The warning about inputs that failed.
    pub fn warning(&self) -> Option<Error> {
        let (failed, first) = self.failures.as_ref()?;
        Some(Error::new(first.kind(), format!("inputs that failed: {failed}; the first: {}", first.message())))
    }
}

impl<T> Results<T> {
    /// The result of a number; `None` for none.
    pub fn of(&self, number: Option<u64>) -> Option<&Result<T>> {
        self.results.get(usize::try_from(number?).ok()?)?.as_ref()
    }

    /// The failures, if `failed` inputs are among them.
    pub fn failures(&self, failed: u64) -> Option<(u64, Error)> {
        self.first.clone().filter(|_| failed > 0).map(|first| (failed, first))
    }

    /// The errors of the texts.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.results.iter().flatten().filter_map(|result| result.as_ref().err())
    }
}

impl<'e, W: Work> OrderedBatch<'e, W> {
    /// A batch over a pipeline of `model_id`. `input`: the input of a text.
    pub fn new(
        model_id: &str,
        on_error: OnError,
        pipeline: Pipeline<'e, W>,
        input: impl Fn(Text) -> W::Input + 'static,
    ) -> Self {
        OrderedBatch {
            model_id: model_id.to_owned(),
            on_error,
            pipeline,
            input: Box::new(input),
            numbers: HashMap::new(),
            others: HashMap::new(),
            unsent: VecDeque::new(),
            results: Vec::new(),
            failed: None,
            share: Reservation::default(),
        }
    }

    /// Sets whether the first request must be answered before others are sent.
    pub fn ask_first(&mut self, yes: bool) {
        self.pipeline.ask_first(yes);
    }

    /// The number of a text; equal texts have the same one. [`OrderedBatch::send`] sends it.
    pub fn number(&mut self, text: &str) -> Result<u64> {
        if let Some(number) = self.numbers.get(text) {
            return Ok(*number);
        }
        self.share.spend(text.len() + BESIDE_A_TEXT, "the texts")?;
        let number = self.results.len() as u64;
        let text: Text = text.into();
        self.results.push(None);
        self.unsent.push_back((number, Unsent::Text(Arc::clone(&text))));
        self.numbers.insert(text, number);
        Ok(number)
    }

    /// The number of an input that is more than a text and has `bytes`; equal digests have the same one.
    pub fn number_other(&mut self, digest: [u8; 32], bytes: usize, input: impl FnOnce() -> W::Input) -> Result<u64> {
        if let Some(number) = self.others.get(&digest) {
            return Ok(*number);
        }
        self.share.spend(bytes.saturating_add(BESIDE_A_TEXT), "the inputs")?;
        let number = self.results.len() as u64;
        self.results.push(None);
        self.unsent.push_back((number, Unsent::Other(input())));
        self.others.insert(digest, number);
        Ok(number)
    }

    /// The number of an input that failed before it could be sent.
    pub fn number_failed(&mut self, error: Error) -> Result<u64> {
        self.share.spend(error.message().len() + BESIDE_A_TEXT, "the errors")?;
        let number = self.results.len() as u64;
        self.results.push(Some(Err(error)));
        self.failed = Some(self.failed.map_or(number, |first| first.min(number)));
        Ok(number)
    }

    /// Reserves `bytes` for a list of the caller's.
    pub fn spend(&mut self, bytes: usize) -> Result<()> {
        self.share.spend(bytes, "the texts")
    }

    /// Sends numbered texts in full batches; waits while more texts wait than may be under way. `seen` is given each
    /// result, and may end the call.
    pub fn send(
        &mut self,
        interrupt: &dyn Interrupt,
        seen: &mut dyn FnMut(&Result<W::Output>) -> Result<usize>,
    ) -> Result<()> {
        while let Some((number, unsent)) = self.unsent.pop_front() {
            let input = match unsent {
                Unsent::Text(text) => (self.input)(text),
                Unsent::Other(input) => input,
            };
            self.pipeline.push(number, input, interrupt)?;
            if self.pipeline.waiting().is_multiple_of(self.pipeline.batch_size()) {
                self.advance(Duration::ZERO, false, interrupt, seen)?;
            }
            while self.pipeline.waiting() > self.pipeline.batch_size().saturating_mul(self.pipeline.concurrency()) {
                self.advance(Duration::from_secs(1), false, interrupt, seen)?;
            }
        }
        Ok(())
    }

    /// Waits for all texts. The error of a text names its place, `place` of its number.
    pub fn finish(
        mut self,
        place: impl Fn(u64) -> String,
        interrupt: &dyn Interrupt,
        seen: &mut dyn FnMut(&Result<W::Output>) -> Result<usize>,
    ) -> Result<Results<W::Output>> {
        self.send(interrupt, seen)?;
        while !self.pipeline.is_empty() {
            self.advance(Duration::from_secs(1), true, interrupt, seen)?;
            self.must_go_on(&place)?;
        }
        self.must_go_on(&place)?;
        let first = self.first_failure(&place);
        Ok(Results { results: self.results, first, _share: self.share })
    }

    /// A failed text ends the call, unless something stands in its place.
    fn must_go_on(&self, place: &impl Fn(u64) -> String) -> Result<()> {
        if self.on_error != OnError::Fail {
            return Ok(());
        }
        self.first_failure(place).map_or(Ok(()), |error| Err(self.context(error)))
    }

    /// The error of the first text that failed.
    fn first_failure(&self, place: &impl Fn(u64) -> String) -> Option<Error> {
        let number = self.failed?;
        let result = self.results.get(usize::try_from(number).ok()?)?.as_ref()?;
        result.as_ref().err().map(|error| error.clone().context(&place(number)))
    }

    /// The error with the model's name.
    pub fn context(&self, error: Error) -> Error {
        error.context(&format!("model '{}'", self.model_id))
    }

    /// Takes results for `wait`. `seen` returns the bytes that a result keeps.
    fn advance(
        &mut self,
        wait: Duration,
        last: bool,
        interrupt: &dyn Interrupt,
        seen: &mut dyn FnMut(&Result<W::Output>) -> Result<usize>,
    ) -> Result<()> {
        let mut wait = wait;
        while let Some(done) = self.pipeline.advance(wait, last, interrupt).map_err(|e| self.context(e))? {
            wait = Duration::ZERO;
            let kept = seen(&done.result).map_err(|e| self.context(e))?;
            self.share.spend(kept, "the results").map_err(|e| self.context(e))?;
            if let Err(e) = &done.result {
                self.share.spend(e.message().len(), "the errors").map_err(|e| self.context(e))?;
                self.failed = Some(self.failed.map_or(done.id, |first| first.min(done.id)));
            }
            if let Some(slot) = usize::try_from(done.id).ok().and_then(|n| self.results.get_mut(n)) {
                *slot = Some(done.result);
            }
        }
        Ok(())
    }
}
