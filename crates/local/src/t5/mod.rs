//! T5: text from text. Models of its shape work too (T5 1.1, FLAN-T5).
//!
//! The layout is that of google-t5/t5-small and google/flan-t5-small: `config.json`, `tokenizer.json`,
//! `model.safetensors`, `generation_config.json`. The computation follows transformers' T5ForConditionalGeneration. It
//! generates token by token and checks the call's [`Turn`] for each.

mod config;
mod sampling;
mod stack;

use self::config::T5Config;
use self::sampling::Choice;
use self::stack::{Decoder, Encoder};
use super::files::ModelDir;
use super::layers::{Activation, Embedding, Linear};
use super::tokenizer::{unknown, Tokenizer};
use super::turn::Turn;
use super::weights::Weights;
use super::{EmbedOptions, GenerateOptions, Generated, LocalModel};
use mysql_ml_base::error::{Error, Result};

/// The maximum of bytes in config.json and generation_config.json.
const MAX_CONFIG: u64 = 1 << 20;
/// The optional file with settings of generation.
const GENERATION_CONFIG: &str = "generation_config.json";
/// The maximum of tokens in an answer.
pub const MAX_NEW_TOKENS: usize = 4096;

/// A loaded T5 model.
pub struct T5 {
    config: T5Config,
    tokenizer: Tokenizer,
    /// The embeddings of tokens. A model without a `head` computes logits with them too.
    shared: Embedding,
    head: Option<Linear>,
    encoder: Encoder,
    decoder: Decoder,
}

/// An answer as tokens.
#[derive(Debug, PartialEq)]
struct Written {
    /// The tokens, including the end token.
    tokens: Vec<u32>,
    /// The number of prompt tokens.
    prompt_tokens: usize,
    /// Whether the model ended the answer, and not the maximum of tokens.
    finished: bool,
}

impl T5 {
    /// Loads the model in a directory.
    pub fn load(dir: &ModelDir) -> Result<Self> {
        let generation = dir.has(GENERATION_CONFIG).then(|| dir.bytes(GENERATION_CONFIG, MAX_CONFIG)).transpose()?;
        let config = T5Config::parse(&dir.bytes("config.json", MAX_CONFIG)?, generation.as_deref())?;
        let tokenizer = Tokenizer::open(dir, config.n_positions)?;
        if tokenizer.vocabulary() > config.vocab_size {
            return Err(Error::invalid(format!(
                "tokenizer.json has {} tokens and config.json a vocab_size of {}; take both from the same model",
                tokenizer.vocabulary(),
                config.vocab_size
            )));
        }
        let weights = &Weights::open(dir)?;
        let (vocabulary, width) = (config.vocab_size, config.d_model);
        // Files keep one of three names of the same tensor.
        let names = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
        let shared = names.into_iter().find(|name| weights.has(name)).unwrap_or("shared.weight");
        let shared = Embedding::load(weights, shared, vocabulary, width)?;
        let head = (!config.tie_word_embeddings)
            .then(|| Linear::load(weights, "lm_head", width, vocabulary, false))
            .transpose()?;
        Ok(T5 {
            encoder: Encoder::load(weights, &config)?,
            decoder: Decoder::load(weights, &config)?,
            shared,
            head,
            tokenizer,
            config,
        })
    }

    fn write(&self, prompt: &str, options: &GenerateOptions, turn: &Turn) -> Result<Written> {
        let prompt = self.tokenizer.encode(prompt, options.truncate, turn)?.ids;
        if prompt.is_empty() {
            return Err(Error::invalid("the prompt has no tokens; give one that is not empty"));
        }
        let most = options.max_tokens.clamp(1, MAX_NEW_TOKENS.min(self.config.most_tokens()));
        let mut embedded = Vec::with_capacity(prompt.len() * self.config.d_model);
        for token in &prompt {
            embedded.extend_from_slice(self.embedding(*token)?);
        }
        let mut answer = self.decoder.begin(&self.encoder.apply(embedded, turn)?, most, turn)?;
        let mut choice = Choice::new(options);
        let mut tokens = Vec::new();
        let mut last = self.config.start();
        let mut finished = false;
        while !finished && tokens.len() < most {
            let logits = self.next(&mut answer, last, turn)?;
            last = choice.pick(&logits).ok_or_else(|| {
                Error::response("the model computed numbers that are not finite; its weights are damaged")
            })?;
            tokens.push(last);
            finished = self.config.eos_token_id.contain(last);
        }
        Ok(Written { tokens, prompt_tokens: prompt.len(), finished })
    }

    fn embedding(&self, token: u32) -> Result<&[f32]> {
        self.shared.row(token as usize).ok_or_else(|| unknown(token))
    }

    /// The logits of the token after `last`, `[vocabulary]`.
    fn next(&self, answer: &mut stack::Answer, last: u32, turn: &Turn) -> Result<Vec<f32>> {
        let mut x = self.decoder.step(answer, self.embedding(last)?, turn)?;
        if self.config.tie_word_embeddings {
            let scale = 1.0 / (self.config.d_model as f32).sqrt();
            x.iter_mut().for_each(|v| *v *= scale);
        }
        match &self.head {
            Some(head) => head.output(&x, Activation::Identity, turn),
            None => self.shared.products(&x),
        }
    }
}

impl LocalModel for T5 {
    fn kind(&self) -> &'static str {
        "t5"
    }

    fn memory_bytes(&self) -> u64 {
        let head = self.head.as_ref().map_or(0, Linear::memory_bytes);
        let halves = self.encoder.memory_bytes() + self.decoder.memory_bytes();
        self.shared.memory_bytes() + head + halves + self.tokenizer.memory_bytes()
    }

    fn dimensions(&self) -> Option<usize> {
        None
    }

    fn count_tokens(&self, text: &str, turn: &Turn) -> Result<usize> {
        self.tokenizer.count(text, turn)
    }

    fn token_ends(&self, text: &str, turn: &Turn) -> Result<Vec<usize>> {
        self.tokenizer.ends(text, turn)
    }

    fn max_tokens(&self) -> Option<usize> {
        Some(self.tokenizer.max_tokens())
    }

    fn embed(&self, _texts: &[&str], _options: EmbedOptions, _turn: &Turn) -> Result<Vec<Result<Vec<f32>>>> {
        Err(Error::invalid(
            "this model generates text and embeds none; call ml_generate, or use one of provider bert_local",
        ))
    }

    /// Generates the answer to a prompt. An answer that the maximum of tokens cuts is an error, and so is an empty
    /// one.
    fn generate(&self, prompt: &str, options: &GenerateOptions, turn: &Turn) -> Result<Generated> {
        let written = self.write(prompt, options, turn)?;
        if !written.finished {
            return Err(Error::response(format!(
                "the answer was cut at the limit of {} tokens; raise max_tokens in the options, or ask for less",
                written.tokens.len()
            )));
        }
        let text = self.tokenizer.decode(&written.tokens, turn)?;
        if text.trim().is_empty() {
            return Err(Error::response("the model answered with an empty text; change the prompt"));
        }
        Ok(Generated { text, tokens_in: written.prompt_tokens as u64, tokens_out: written.tokens.len() as u64 })
    }
}

#[cfg(test)]
mod tests;
