//! Embedding of texts, as work of a pipeline.

use std::sync::Arc;

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt};
use mysql_ml_base::role::Role;

use super::work::{Finished, Text, WhenDone, Work};
use crate::catalog::model::{Backend, Model};
use crate::engine::backends::remote::api_of;
use crate::engine::backends::{check_width, encoded, must_not_be_zero, of_text};
use crate::engine::cached::CacheLookup;
use crate::engine::call::{Call, Input};
use crate::engine::rate_limit::tokens_in;
use crate::engine::transforms::transform_functions;
use crate::engine::Engine;
use crate::http::Answer;
use crate::json::length::encoded_length;
use crate::providers::table::provider;
use crate::providers::usage::Usage;
use crate::providers::BatchLimits;

/// Vectors of texts, as the bytes of a VECTOR.
pub struct Texts {
    role: Role,
    /// Bytes of the first vector; all others must match.
    width: Option<usize>,
}

impl Texts {
    /// Texts of one role.
    pub fn new(role: Role) -> Self {
        Texts { role, width: None }
    }
}

impl Work for Texts {
    type Input = Text;
    type Place = CacheLookup;
    type Raw = Vec<u8>;
    type Output = Arc<[u8]>;
    type Form = ();
    const CONCURRENCY: u64 = 8;

    fn limits(&self, model: &Model) -> BatchLimits {
        provider(model.api).batch(model)
    }

    fn probe(&self) -> (Text, &'static str) {
        ("mysql-ml".into(), "the probe 'mysql-ml'")
    }

    fn refused(&self, call: &Call, text: &Text) -> Option<Error> {
        let refused = call.model().backend() == Backend::Remote && !is_visible(text);
        refused.then(|| Error::invalid(NOTHING_VISIBLE))
    }

    fn one_by_one(&self, model: &Model) -> bool {
        let functions = transform_functions(model);
        let here = model.backend() == Backend::Dummy;
        model.header_fn.is_some() || functions.0.is_some() || functions.1.is_some() || here
    }

    fn look_up(
        &self,
        engine: &Engine,
        call: &Call,
        text: &Text,
        interrupt: &dyn Interrupt,
    ) -> Result<(CacheLookup, Option<Arc<[u8]>>)> {
        let place = engine.lookup(call, Input::Text(text), self.role)?;
        let found = engine.embeddings.get_kept(&place, call, interrupt)?;
        Ok((place, found))
    }

    fn bytes(text: &Text) -> usize {
        text.len()
    }

    fn encoded(text: &Text) -> usize {
        encoded_length(text)
    }

    fn tokens(text: &Text) -> u64 {
        tokens_in(text)
    }

    fn compute(&self, engine: &Engine, call: &Call, text: &Text, interrupt: &dyn Interrupt) -> Result<Vec<u8>> {
        engine.embed(call, Input::Text(text), self.role, None, interrupt)
    }

    fn compute_locally(
        &self,
        engine: &Engine,
        call: &Call,
        texts: Vec<Text>,
        cancel: &CancelToken,
        done: WhenDone<Vec<u8>>,
        interrupt: &dyn Interrupt,
    ) -> Result<()> {
        let resolved = Arc::clone(&call.resolved);
        let encode = move |vectors: Vec<Result<Vec<f32>>>| {
            let encode = |vector: Result<Vec<f32>>| vector.and_then(|v| encoded(&resolved.model, v));
            done(vectors.into_iter().map(encode).collect());
        };
        engine.local.embed_batch(call, texts, self.role, cancel, encode, interrupt)
    }

    fn body(&self, _engine: &Engine, call: &Call, texts: &[&Text]) -> Result<(Vec<u8>, ())> {
        let texts: Vec<&str> = texts.iter().map(|text| text.as_ref()).collect();
        Ok((api_of(call.model()).embedding_request(call.model(), &texts, self.role)?, ()))
    }

    fn read(call: &Call, texts: &[&Text], answer: &Answer) -> Result<(Vec<Result<Vec<u8>>>, Usage)> {
        let model = call.model();
        let read = api_of(model).read_embeddings(model, &answer.body, texts.len())?;
        let encode = |vector: Vec<f32>| must_not_be_zero(&vector).and_then(|()| encoded(model, vector));
        let vectors: Vec<_> = read.vectors.into_iter().map(encode).collect();
        if vectors.len() != texts.len() {
            return Err(Error::response("the endpoint answered with another number of vectors"));
        }
        Ok((vectors, Usage { input: read.tokens, output: None }))
    }

    fn size(vector: &Vec<u8>) -> usize {
        vector.len()
    }

    fn counted(texts: usize) -> u64 {
        texts as u64
    }

    fn finish(
        &mut self,
        engine: &Engine,
        call: &Call,
        _text: &Text,
        place: Option<&CacheLookup>,
        bytes: Vec<u8>,
    ) -> Finished<Text, Arc<[u8]>> {
        if let Err(e) = check_width(&bytes, call.model().options.dimensions) {
            return Finished::Failed(e);
        }
        let width = *self.width.get_or_insert(bytes.len());
        if bytes.len() != width {
            return Finished::Failed(Error::response(format!(
                "the endpoint answered with {} dimensions after {} before; vectors of several widths cannot be compared",
                bytes.len() / 4,
                width / 4
            )));
        }
        let bytes: Arc<[u8]> = bytes.into();
        if let Some(place) = place {
            engine.embeddings.keep_computed(place, &bytes);
        }
        Finished::Done(bytes)
    }

    fn explained(&self, error: Error, text: &Text) -> Error {
        of_text(error, text)
    }
}

/// The error of a text without visible characters.
const NOTHING_VISIBLE: &str =
    "the text has no visible character and is not sent; leave such rows out, or give NULL with NULLIF(text, '')";

/// Whether a text has a visible character. Many providers refuse other texts, and their vectors mean nothing.
fn is_visible(text: &str) -> bool {
    text.chars().any(|c| {
        !c.is_whitespace()
            && !c.is_control()
            && !matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
                | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_told() {
        for text in ["", "  ", "\n\t", "\u{200b}\u{feff}", "\u{a0}\u{3000}", "\0", "\u{e0041}\u{ad}"] {
            assert!(!is_visible(text), "{text:?}");
        }
        for text in [".", " x ", "\u{200b}é", "日", "\u{1f600}", "-"] {
            assert!(is_visible(text), "{text:?}");
        }
    }
}
