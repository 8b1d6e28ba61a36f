//! Vectors of the texts of one call.
//!
//! Each vector is kept once and written at all its places in the result. A too large result fails as soon as the
//! vectors' width is known.

use std::sync::Arc;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use serde_json::json;
use surface::functions;

use super::asking::is_of_the_input;
use super::ordered::{Answered, OrderedBatch, Results};
use super::pipeline::texts::Texts;
use super::pipeline::Pipeline;
use super::Engine;
use crate::catalog::options::OnError;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{self, Held, Reservation};
use mysql_ml_base::role::Role;

/// Assumed width of vectors, in elements, when deciding whether to request one vector alone first.
const LIKELY_WIDTH: usize = 4096;

/// Texts whose vectors are under way.
pub struct VectorBatch<'e> {
    model_id: String,
    on_error: OnError,
    texts: OrderedBatch<'e, Texts>,
    result: Expected,
}

/// What is known of the result.
struct Expected {
    /// Number of vectors in the result, and its other bytes.
    places: usize,
    beside: usize,
    largest: usize,
    /// Bytes of a vector, once known.
    width: Option<usize>,
}

/// Vectors of the texts.
pub struct Vectors {
    results: Results<Arc<[u8]>>,
    on_error: OnError,
    largest: usize,
}

/// The length of a vector's bytes as base64.
fn encoded(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

impl Vectors {
    /// A text of `beside` bytes and the values of `numbers`, which `write` puts together: it is given a place to write
    /// to, and what writes the base64 of a vector there, null, or what stands in the place of a failed text.
    pub fn write(
        &self,
        beside: usize,
        numbers: impl Iterator<Item = Option<u64>>,
        write: impl FnOnce(&mut String, &dyn Fn(Option<u64>, &mut String)),
    ) -> Result<Answered> {
        let in_place_of = |e: &Error| match self.on_error {
            OnError::Null => "null".to_owned(),
            _ => json!({"error": e.message()}).to_string(),
        };
        let mut failed = 0;
        let bytes = numbers.fold(beside, |sum, number| {
            sum.saturating_add(match self.results.of(number) {
                Some(Ok(vector)) => encoded(vector.len()) + 2,
                Some(Err(e)) => {
                    failed += 1;
                    in_place_of(e).len()
                }
                None => 4,
            })
        });
        if bytes > self.largest {
            return Err(too_large(bytes, self.largest));
        }
        let share = Reservation::take(bytes, "the result")?;
        let mut result = memory::text_of(bytes, "the result")?;
        write(&mut result, &|number, result| match self.results.of(number) {
            Some(Ok(vector)) => {
                result.push('"');
                BASE64_STANDARD.encode_string(vector, result);
                result.push('"');
            }
            Some(Err(e)) => result.push_str(&in_place_of(e)),
            None => result.push_str("null"),
        });
        Ok(Answered { json: Held::new(result, share), failures: self.results.failures(failed) })
    }
}

fn too_large(bytes: usize, largest: usize) -> Error {
    Error::result_too_large(&format!("the result would have {bytes} bytes"), largest)
}

impl Expected {
    fn must_fit(&self) -> Result<()> {
        let Some(width) = self.width else { return Ok(()) };
        // An error may replace a vector; it is counted when it is written.
        let bytes = self.places.saturating_mul(encoded(width) + 2).saturating_add(self.beside);
        if bytes <= self.largest {
            return Ok(());
        }
        Err(too_large(bytes, self.largest))
    }

    /// Takes note of a result; returns the bytes that it keeps.
    fn seen(&mut self, result: &Result<Arc<[u8]>>) -> Result<usize> {
        let Ok(vector) = result else { return Ok(0) };
        if self.width.is_none() {
            self.width = Some(vector.len());
            self.must_fit()?;
        }
        Ok(vector.len())
    }
}

impl<'e> VectorBatch<'e> {
    /// A batch for a model that the caller may use.
    pub fn new(engine: &'e Engine, model_id: &str, interrupt: &dyn Interrupt) -> Result<Self> {
        let call = engine.call(functions::ml_embedding_batch, model_id, interrupt)?;
        call.model().must_embed()?;
        let on_error = call.model().options.on_error.unwrap_or(OnError::Fail);
        let patience = call.time();
        let width = call.model().options.dimensions.and_then(|n| usize::try_from(n).ok()).map(|n| n.saturating_mul(4));
        let pipeline = Pipeline::new(engine, call, Texts::new(Role::Document), None, None, Some(patience))?;
        let largest = mysql_ml_base::host::largest_result();
        Ok(VectorBatch {
            model_id: model_id.to_owned(),
            on_error,
            texts: OrderedBatch::new(model_id, on_error, pipeline, |text| text),
            result: Expected { places: 0, beside: 0, largest, width },
        })
    }

    /// Adds `places` vectors and `beside` other bytes to the expected result. An error if it becomes too large.
    pub fn expect(&mut self, places: usize, beside: usize) -> Result<()> {
        let result = &mut self.result;
        result.places += places;
        result.beside += beside;
        // If most widths would be too large, one request shows the width before others are paid for.
        let likely = result.places.saturating_mul(encoded(LIKELY_WIDTH * 4));
        self.texts.ask_first(result.width.is_none() && likely > result.largest);
        result.must_fit().map_err(|e| self.texts.context(e))
    }

    /// Removes vectors from the expected result.
    pub fn expect_less(&mut self, places: usize) {
        self.result.places = self.result.places.saturating_sub(places);
    }

    /// The number of a text; equal texts have the same one. [`VectorBatch::send`] sends it.
    pub fn number(&mut self, text: &str) -> Result<u64> {
        self.texts.number(text)
    }

    /// Reserves `bytes` for a list of the caller's.
    pub fn spend(&mut self, bytes: usize) -> Result<()> {
        self.texts.spend(bytes)
    }

    /// Sends numbered texts in full batches; waits while more texts wait than may be under way.
    pub fn send(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        self.texts.send(interrupt, &mut |result| self.result.seen(result))
    }

    /// Waits for all texts. The error of a text names its place, `place` of its number.
    pub fn finish(self, place: impl Fn(u64) -> String, interrupt: &dyn Interrupt) -> Result<Vectors> {
        let VectorBatch { model_id, on_error, texts, mut result } = self;
        let results = texts.finish(place, interrupt, &mut |vector| result.seen(vector))?;
        // A quota that is used up, or missing rights, must not look like texts without a vector.
        let of_the_call = |error: &&Error| error.kind() != Kind::Invalid && !is_of_the_input(error);
        if let (OnError::Null, Some(error)) = (on_error, results.errors().find(of_the_call)) {
            return Err(error.clone().context(&format!("model '{model_id}'")));
        }
        Ok(Vectors { results, on_error, largest: result.largest })
    }
}
