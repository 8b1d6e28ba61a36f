//! `ml_generate`: text from a prompt.

use surface::functions;

use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{Held, Reservation};

use super::Engine;
use crate::providers::chat::GenerateOptions;

impl Engine {
    /// The model's answer to a prompt, as text.
    pub fn generate(
        &self,
        model_id: &str,
        prompt: &str,
        options: &GenerateOptions,
        interrupt: &dyn Interrupt,
    ) -> Result<Held<String>> {
        let _prompt = Reservation::take(prompt.len().saturating_mul(4), "the prompt")?;
        let call = self.call(functions::ml_generate, model_id, interrupt)?;
        call.meter.called();
        let generated = self.generator(call.model()).generate(&call, prompt, options, interrupt);
        call.counted(generated).map_err(|e| e.context(&format!("model '{model_id}'")))
    }
}
