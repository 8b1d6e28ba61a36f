//! T5: text from text, by the models that are named so and those of their shape (T5 1.1, FLAN-T5).
//!
//! The layout is that of google-t5/t5-small and google/flan-t5-small: `config.json`, `tokenizer.json`,
//! `model.safetensors`, `generation_config.json`. Follows transformers' T5ForConditionalGeneration. Tokens are written
//! one after the other, and each looks whether anybody still waits.

mod config;
mod sampling;
mod stack;

use std::path::Path;
use std::time::Instant;

use self::config::T5Config;
pub use self::sampling::Sampling;
use self::stack::{Decoder, Encoder};
use super::layers::Linear;
use super::read_small;
use super::text::TextTokens;
use super::weights::Weights;
use crate::error::{Error, Kind, Result};
use crate::threads::interrupt::CancelToken;

/// The most bytes of config.json and generation_config.json.
const MAX_CONFIG: u64 = 1 << 20;
/// The most tokens of an answer.
pub const MAX_NEW_TOKENS: usize = 4096;

/// A loaded T5 model.
pub struct T5 {
    config: T5Config,
    tokens: TextTokens,
    /// The embeddings of tokens: also what tells how likely each is, where the model has nothing of its own for that.
    shared: Linear,
    head: Option<Linear>,
    encoder: Encoder,
    decoder: Decoder,
}

/// How an answer is made.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The most tokens.
    pub max_new_tokens: usize,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Cuts a prompt of more tokens than the model takes, which is else an error.
    pub truncate: bool,
    /// Until when it may take.
    pub deadline: Option<Instant>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The text.
    pub text: String,
    /// Its tokens, with the one that ended it.
    pub tokens: Vec<u32>,
    /// The tokens of the prompt.
    pub prompt_tokens: usize,
    /// Whether the model ended it, and not the bound on tokens.
    pub finished: bool,
}

impl T5 {
    /// Loads the model in a folder.
    pub fn load(folder: &Path) -> Result<Self> {
        let generation = match read_small(&folder.join("generation_config.json"), MAX_CONFIG) {
            Ok(json) => Some(json),
            Err(e) if e.kind() == Kind::NotFound => None,
            Err(e) => return Err(e),
        };
        let config = T5Config::parse(&read_small(&folder.join("config.json"), MAX_CONFIG)?, generation.as_deref())?;
        let tokens = TextTokens::load(&folder.join("tokenizer.json"), config.n_positions, config.vocab_size)?;
        let weights = &Weights::open(&folder.join("model.safetensors"))?;
        let (vocabulary, width) = (config.vocab_size, config.d_model);
        // Files keep one of the three names that mean the same tensor.
        let names = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
        let shared = names.into_iter().find(|name| weights.contains(name)).unwrap_or("shared.weight");
        let shared = Linear::new(weights.read(shared, &[vocabulary, width])?, width);
        let head = (!config.tie_word_embeddings)
            .then(|| Linear::load(weights, "lm_head", width, vocabulary, false))
            .transpose()?;
        Ok(T5 {
            encoder: Encoder::load(weights, &config)?,
            decoder: Decoder::load(weights, &config)?,
            shared,
            head,
            tokens,
            config,
        })
    }

    /// Bytes of its weights.
    pub fn memory_bytes(&self) -> usize {
        let head = self.head.as_ref().map_or(0, Linear::size);
        4 * (self.shared.size() + head + self.encoder.size() + self.decoder.size())
    }

    /// The answer to a prompt.
    pub fn generate(&self, prompt: &str, wish: &Wish, cancel: &CancelToken) -> Result<Generated> {
        let prompt = self.tokens.encode(prompt, wish.truncate)?;
        let most = wish.max_new_tokens.clamp(1, MAX_NEW_TOKENS);
        let mut embedded = Vec::with_capacity(prompt.len() * self.config.d_model);
        for token in &prompt {
            embedded.extend_from_slice(self.embedding(*token)?);
        }
        let mut answer = self.decoder.begin(&self.encoder.apply(embedded, cancel)?, most, cancel)?;
        let mut choice = wish.sampling.start();
        let mut tokens = Vec::new();
        let mut last = self.config.start();
        let mut finished = false;
        while !finished && tokens.len() < most {
            if wish.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Error::new(
                    Kind::Timeout,
                    format!(
                        "the time for this call is up after {} tokens; raise the option timeout_ms, or lower max_new_tokens",
                        tokens.len()
                    ),
                ));
            }
            let logits = self.next(&mut answer, last, cancel)?;
            last = choice.pick(&logits).ok_or_else(|| {
                Error::response("the model computed numbers that are not finite; its weights are damaged")
            })?;
            tokens.push(last);
            finished = self.config.eos_token_id.contain(last);
        }
        let text = self.tokens.decode(&tokens)?;
        Ok(Generated { text, tokens, prompt_tokens: prompt.len(), finished })
    }

    fn embedding(&self, token: u32) -> Result<&[f32]> {
        self.shared.row(token as usize).ok_or_else(|| Error::internal("a token outside of the vocabulary"))
    }

    /// How likely each token is after `last`, as logarithms up to a constant.
    fn next(&self, answer: &mut stack::Answer, last: u32, cancel: &CancelToken) -> Result<Vec<f32>> {
        let mut x = self.decoder.step(answer, self.embedding(last)?, cancel)?;
        if self.config.tie_word_embeddings {
            let scale = 1.0 / (self.config.d_model as f32).sqrt();
            x.iter_mut().for_each(|v| *v *= scale);
        }
        let mut logits = Vec::new();
        self.head.as_ref().unwrap_or(&self.shared).apply(&x, &mut logits)?;
        Ok(logits)
    }
}

#[cfg(test)]
mod tests;
