//! `ai_count_tokens(model_id, text)`.

use std::ffi::CStr;

use surface::{functions, Function};

use super::model_call::ModelCall;
use crate::mysql::ffi::args::Setup;
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_core::catalog::default_model::DefaultModel;
use mysql_ml_core::engine::Engine;

/// `ai_count_tokens(model_id, text)`: a JSON object with `tokens` and `exact`. A NULL model is that of the setting
/// `default_llm`. NULL for a NULL text.
pub struct CountTokens;

impl ModelCall for CountTokens {
    const FUNCTION: &'static Function = functions::ai_count_tokens;
    const STATE: &'static CStr = c"waiting for a model: ai_count_tokens";
    const REPEATABLE: bool = true;
    const IN_PASSES: bool = false;
    const DEFAULT: Option<DefaultModel> = Some(DefaultModel::Llm);
    type Output = String;

    fn declare(setup: &Setup<'_>) -> Result<()> {
        setup.returns_text(1024)
    }

    fn call(engine: &Engine, model_id: &str, input: &str, interrupt: &dyn Interrupt) -> Result<Option<String>> {
        engine.count_tokens(model_id, input, interrupt).map(Some)
    }
}
