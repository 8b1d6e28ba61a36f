//! `ml_predict_row(model_id, request_body)`.

use super::named::{bind, Bound};
use crate::abi::args::{Args, Setup};
use crate::abi::function::{BytesFunction, SqlFunction};
use crate::engine::Engine;
use crate::error::Result;
use crate::server::statement::{ProcessState, StatementInterrupt};

const PARAMETERS: &[&[&str]] = &[&["model_id"], &["request_body"]];

/// `ml_predict_row(model_id, request_body)`: sends a JSON document to a model and returns its answer as utf8mb4
/// JSON text. NULL for a NULL model or body, without a call. Follows Cloud SQL's `mysql.ml_predict_row`.
pub struct PredictRow {
    bound: Bound,
    /// The statement's last call: a constant one in a SELECT list is evaluated for each row.
    last: Option<(String, String)>,
    result: String,
}

impl SqlFunction for PredictRow {
    const NAME: &'static str = "ml_predict_row";

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, PARAMETERS, 2)?;
        setup.returns_text(0x3fff_ffff)?;
        Ok(PredictRow { bound, last: None, result: String::new() })
    }
}

impl BytesFunction for PredictRow {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        let model = self.bound.text(args, 0, PARAMETERS)?;
        let body = self.bound.text(args, 1, PARAMETERS)?;
        let (Some(model), Some(body)) = (model, body) else { return Ok(None) };
        let same = self.last.as_ref().is_some_and(|(m, b)| m == model && b == body);
        if !same {
            let _state = ProcessState::set(c"waiting for a model: ml_predict_row");
            self.last = None;
            self.result = Engine::global()?.predict(model, body, &StatementInterrupt::current())?;
            self.last = Some((model.to_owned(), body.to_owned()));
        }
        Ok(Some(self.result.as_bytes()))
    }
}
