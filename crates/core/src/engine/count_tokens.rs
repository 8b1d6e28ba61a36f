//! `ai_count_tokens`: the tokens of a text.

use serde_json::json;
use surface::functions;

use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;

use super::Engine;
use crate::catalog::model::Backend;

/// Bytes of a token, for estimates. English has some four; other languages may have more tokens or fewer.
const BYTES_A_TOKEN: usize = 4;

impl Engine {
    /// The tokens of a text for a model, as a JSON object: `tokens`, and whether the number is `exact`. It is for models
    /// inside the server, by their own tokenizers. Nothing is sent.
    pub fn count_tokens(&self, model_id: &str, text: &str, interrupt: &dyn Interrupt) -> Result<String> {
        let call = self.call_beside(functions::ai_count_tokens, model_id, text, interrupt)?;
        let exact = call.model().backend() == Backend::Local;
        let tokens = if exact {
            let counted = self.local.count_tokens(&call, text, interrupt);
            counted.map_err(|e| e.context(&format!("model '{model_id}'")))?
        } else {
            text.len().div_ceil(BYTES_A_TOKEN)
        };
        Ok(json!({"tokens": tokens, "exact": exact}).to_string())
    }
}
