//! `ml_generate(model_id, prompt [, options])`.

use surface::{functions, Function};

use super::named::{bind, Bound};
use crate::jobs::engine;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{BytesFunction, SqlFunction};
use crate::mysql::sql::refuse_inside_user_functions;
use crate::mysql::statement::{check_result, ProcessState, StatementInterrupt};
use mysql_ml_base::error::Result;
use mysql_ml_base::memory::Held;
use mysql_ml_core::providers::chat::GenerateOptions;

/// `ml_generate(model_id, prompt [, options])`: a model's answer to a prompt, as utf8mb4 text. `options` is a JSON
/// object with `max_tokens`, `temperature`, `top_p`, `seed`, `system`. NULL for a NULL model or prompt, without a
/// call. A truncated, refused or empty answer is an error.
pub struct Generate {
    bound: Bound,
    answer: Held<String>,
}

impl SqlFunction for Generate {
    const FUNCTION: &'static Function = functions::ml_generate;
    const IN_PASSES: bool = false;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, Self::FUNCTION)?;
        setup.returns_text(0x3fff_ffff)?;
        Ok(Generate { bound, answer: Held::default() })
    }
}

impl BytesFunction for Generate {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        let model_id = self.bound.text(args, 0)?;
        let prompt = self.bound.text(args, 1)?;
        let options = self.bound.text(args, 2)?;
        let (Some(model_id), Some(prompt)) = (model_id, prompt) else { return Ok(None) };
        refuse_inside_user_functions()?;
        let options = options.map(GenerateOptions::parse).transpose()?.unwrap_or_default();
        let _state = ProcessState::set(c"waiting for a model: ml_generate");
        let interrupt = StatementInterrupt::current();
        self.answer = engine().generate(model_id, prompt, &options, &interrupt)?;
        check_result(self.answer.len())?;
        Ok(Some(self.answer.as_bytes()))
    }
}
