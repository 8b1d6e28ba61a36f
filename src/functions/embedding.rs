//! `ml_embedding(model_id, content)`.

use std::sync::Arc;

use super::named::{bind, Bound};
use crate::abi::args::{Args, Setup};
use crate::abi::function::{BytesFunction, SqlFunction};
use crate::engine::Engine;
use crate::error::Result;
use crate::server::statement::{ProcessState, StatementInterrupt};
use crate::vector::MAX_DIMENSIONS;

const PARAMETERS: &[&[&str]] = &[&["model_id"], &["content", "contents"]];

/// `ml_embedding(model_id, content)`: the embedding of a text as VECTOR bytes (little-endian 32-bit floats), at
/// most 16383 dimensions. NULL for a NULL model or text, without a call. Follows Cloud SQL's `mysql.ml_embedding`.
pub struct Embedding {
    bound: Bound,
    /// The statement's last call: a constant one in a SELECT list is evaluated for each row.
    last: Option<(String, String)>,
    result: Arc<[u8]>,
}

impl SqlFunction for Embedding {
    const NAME: &'static str = "ml_embedding";

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, PARAMETERS, 2)?;
        setup.returns_binary((MAX_DIMENSIONS * 4) as u32);
        Ok(Embedding { bound, last: None, result: Arc::from([]) })
    }
}

impl BytesFunction for Embedding {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        let model = self.bound.text(args, 0, PARAMETERS)?;
        let text = self.bound.text(args, 1, PARAMETERS)?;
        let (Some(model), Some(text)) = (model, text) else { return Ok(None) };
        let same = self.last.as_ref().is_some_and(|(m, t)| m == model && t == text);
        if !same {
            let _state = ProcessState::set(c"waiting for a model: ml_embedding");
            self.last = None;
            self.result = Engine::global()?.embedding(model, text, &StatementInterrupt::current())?;
            self.last = Some((model.to_owned(), text.to_owned()));
        }
        Ok(Some(&self.result))
    }
}
