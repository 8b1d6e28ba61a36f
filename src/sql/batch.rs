//! `ml_embedding_batch(model_id, contents)`.

use std::ffi::CStr;

use surface::{functions, Function};

use super::model_call::ModelCall;
use crate::mysql::ffi::args::Setup;
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Held;
use mysql_ml_core::engine::Engine;

/// `ml_embedding_batch(model_id, contents)`: the embeddings of the texts in a JSON array, as utf8mb4 JSON text: an
/// array of base64 strings of little-endian 32-bit floats, in the order of the texts, null for null. NULL for a NULL
/// model or array, without a call. A text that fails fails the statement, unless the model's option `on_error` is
/// `inline`; then an object with the member `error` stands in its place.
pub struct EmbeddingBatch;

impl ModelCall for EmbeddingBatch {
    const FUNCTION: &'static Function = functions::ml_embedding_batch;
    const STATE: &'static CStr = c"waiting for a model: ml_embedding_batch";
    const REPEATABLE: bool = true;
    type Output = Held<String>;

    fn declare(setup: &Setup<'_>) -> Result<()> {
        setup.returns_text(0x3fff_ffff)
    }

    fn call(engine: &Engine, model_id: &str, input: &str, interrupt: &dyn Interrupt) -> Result<Held<String>> {
        engine.embedding_batch(model_id, input, interrupt)
    }
}
