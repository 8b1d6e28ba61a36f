//! `ml_embedding_batch(model_id, contents)`.

use std::ffi::CStr;

use surface::{functions, Function};

use super::model_call::ModelCall;
use crate::mysql::ffi::args::Setup;
use crate::mysql::statement::push_warning;
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Held;
use mysql_ml_core::engine::Engine;

/// `ml_embedding_batch(model_id, contents)`: embeds the texts of a JSON array. Returns utf8mb4 JSON text: an array of
/// base64 strings of little-endian 32-bit floats, in the order of the texts. A null text gives null. NULL for a NULL
/// model or array, without a call.
///
/// A failed text fails the statement. With the model's option `on_error` null takes its place, or an object with the
/// member `error`; a warning has the number of such texts and the first error.
pub struct EmbeddingBatch;

impl ModelCall for EmbeddingBatch {
    const FUNCTION: &'static Function = functions::ml_embedding_batch;
    const STATE: &'static CStr = c"waiting for a model: ml_embedding_batch";
    const IN_PASSES: bool = false;
    const REPEATABLE: bool = true;
    type Output = Held<String>;

    fn declare(setup: &Setup<'_>) -> Result<()> {
        setup.returns_text(0x3fff_ffff)
    }

    fn call(engine: &Engine, model_id: &str, input: &str, interrupt: &dyn Interrupt) -> Result<Option<Held<String>>> {
        let answered = engine.embedding_batch(model_id, input, interrupt)?;
        answered.warning().inspect(|warning| push_warning(Self::FUNCTION.name, warning));
        Ok(Some(answered.json))
    }
}
