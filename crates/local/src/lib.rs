//! Models inside the server process: one copy for all sessions, on the library's own threads, with bounded memory.
//!
//! A model is a directory in the layout of Hugging Face ([`files`]): weights as safetensors ([`weights`]) and a
//! tokenizer.json ([`tokenizer`]). A [`LocalModel`] computes; [`layers`] has the arithmetic.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod batcher;
pub mod bert;
pub mod clip;
pub mod cross_encoder;
pub mod files;
pub mod layers;
pub mod loaded;
pub mod sentence;
pub mod static_embedding;
pub mod t5;
pub mod tokenizer;
pub mod turn;
pub mod weights;

use serde::de::DeserializeOwned;
use serde_json::Value;

use self::turn::Turn;
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::role::Role;

/// A family of models with the same files and computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Encoders of texts: BERT, RoBERTa, MPNet and relatives.
    Bert,
    /// CLIP: texts and images in one space.
    Clip,
    /// T5: text from text.
    T5,
    /// Static embeddings in the layout of Model2Vec.
    Static,
    /// Cross-encoders of the BERT family: scores of documents for a query.
    CrossEncoder,
}

impl Architecture {
    /// The name of its provider in registrations.
    pub fn provider(self) -> &'static str {
        match self {
            Architecture::Bert => "bert_local",
            Architecture::Clip => "clip_local",
            Architecture::T5 => "t5_local",
            Architecture::Static => "static_local",
            Architecture::CrossEncoder => "bert_rerank_local",
        }
    }
}

/// Options of an embedding call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedOptions {
    /// The role of the texts. Models with prompts distinguish roles.
    pub role: Role,
    /// Whether longer texts than the model's maximum are cut. Otherwise they are errors.
    pub truncate: bool,
    /// The length of returned vectors, which keep their first numbers; `None` keeps all.
    pub dimensions: Option<usize>,
}

/// Options of a generation call.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// The maximum of tokens in the answer.
    pub max_tokens: usize,
    /// The sampling temperature. 0 takes the most likely token each time.
    pub temperature: f32,
    /// Sampling draws from the most likely tokens with this total probability. 1 draws from all.
    pub top_p: f32,
    /// The seed of random numbers. The same seed repeats an answer.
    pub seed: u64,
    /// The same as [`EmbedOptions::truncate`].
    pub truncate: bool,
}

/// A generated text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The text.
    pub text: String,
    /// The number of prompt tokens.
    pub tokens_in: u64,
    /// The number of generated tokens.
    pub tokens_out: u64,
}

/// The scores of documents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranked {
    /// A finite score for each document, in order; higher is better.
    pub scores: Vec<f32>,
    /// The number of tokens of all pairs.
    pub tokens: usize,
}

/// A model in memory.
///
/// Several threads call it at once, and each call computes on its own thread. A call checks its [`Turn`] at least
/// every 100 ms and returns its error.
pub trait LocalModel: Send + Sync {
    /// A word for status output: `bert`, `clip`.
    fn kind(&self) -> &'static str;

    /// Bytes of memory that the model keeps.
    fn memory_bytes(&self) -> u64;

    /// The length of its vectors; `None` if it does not embed.
    fn dimensions(&self) -> Option<usize>;

    /// The number of tokens that it reads for a text, special tokens and prompt included, whatever its own limit.
    fn count_tokens(&self, _text: &str, _turn: &Turn) -> Result<usize> {
        Err(Error::invalid("this model has no tokenizer"))
    }

    /// The ends of a text's own tokens in bytes, ascending.
    fn token_ends(&self, _text: &str, _turn: &Turn) -> Result<Vec<usize>> {
        Err(Error::invalid("this model has no tokenizer"))
    }

    /// The most tokens that it reads of a text, special tokens and prompt included.
    fn max_tokens(&self) -> Option<usize> {
        None
    }

    /// Embeds texts. Returns a result for each, in order; an outer error concerns all.
    fn embed(&self, texts: &[&str], options: EmbedOptions, turn: &Turn) -> Result<Vec<Result<Vec<f32>>>>;

    /// Embeds images, given as the bytes of files, into the space of the texts.
    fn embed_images(&self, _images: &[&[u8]], _turn: &Turn) -> Result<Vec<Result<Vec<f32>>>> {
        Err(Error::invalid("this model embeds no images; use one of provider clip_local"))
    }

    /// The scores of documents for a query. Pairs that are too long are cut with `truncate`, and an error without. Each
    /// document has its number in the call, from 1, for errors.
    fn rank(&self, _query: &str, _documents: &[(usize, &str)], _truncate: bool, _turn: &Turn) -> Result<Ranked> {
        Err(Error::invalid("this model ranks no documents; use one of provider bert_rerank_local"))
    }

    /// Generates the answer to a prompt.
    fn generate(&self, _prompt: &str, _options: &GenerateOptions, _turn: &Turn) -> Result<Generated> {
        Err(Error::invalid("this model generates no text; use one of provider t5_local"))
    }
}

/// Reads a JSON object. Without this check serde reads structures with defaults from an empty array too.
pub(crate) fn read_object<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(Value::Object(serde_json::from_slice(json)?))
}

/// The first numbers of a vector, for models that were trained for shorter vectors. `unit` normalises the result to
/// length 1.
pub(crate) fn shortened(mut vector: Vec<f32>, dimensions: Option<usize>, unit: bool) -> Result<Vec<f32>> {
    let Some(wanted) = dimensions.filter(|wanted| *wanted != vector.len()) else { return Ok(vector) };
    if wanted > vector.len() {
        return Err(Error::invalid(format!(
            "the model's vectors have {} dimensions, and its option dimensions asks for {wanted}; set it to at most that",
            vector.len()
        )));
    }
    vector.truncate(wanted);
    if unit {
        mysql_ml_base::vector::normalize(&mut vector);
    }
    Ok(vector)
}
