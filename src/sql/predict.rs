//! `ml_predict_row(model_id, request_body)`.

use std::ffi::CStr;

use surface::{functions, Function};

use super::model_call::ModelCall;
use crate::mysql::ffi::args::Setup;
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Held;
use mysql_ml_core::engine::Engine;

/// `ml_predict_row(model_id, request_body)`: sends a JSON document to a model and returns its answer as utf8mb4
/// JSON text. NULL for a NULL model or body, without a call. Follows Cloud SQL's `mysql.ml_predict_row`.
pub struct PredictRow;

impl ModelCall for PredictRow {
    const FUNCTION: &'static Function = functions::ml_predict_row;
    const STATE: &'static CStr = c"waiting for a model: ml_predict_row";
    const IN_PASSES: bool = false;
    const REPEATABLE: bool = false; // a language model may answer differently each time
    type Output = Held<String>;

    fn declare(setup: &Setup<'_>) -> Result<()> {
        setup.returns_text(0x3fff_ffff)
    }

    fn call(engine: &Engine, model_id: &str, input: &str, interrupt: &dyn Interrupt) -> Result<Option<Held<String>>> {
        engine.predict(model_id, input, interrupt).map(Some)
    }
}
