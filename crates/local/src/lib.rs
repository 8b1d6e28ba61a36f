//! Models that run in the server's own process: one copy for all sessions, on threads of the library's own, bounded in
//! memory and threads.
//!
//! A model is a directory in the layout of Hugging Face ([`files`]): its weights as safetensors ([`weights`]), its
//! tokenizer as tokenizer.json ([`tokenizer`]). What computes is a [`LocalModel`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod batcher;
pub mod bert;
pub mod clip;
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

/// A family of models that are read and computed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Encoders of texts: BERT, RoBERTa, MPNet and their kin.
    Bert,
    /// CLIP: texts and images in one space.
    Clip,
    /// T5: text from text.
    T5,
    /// Static embeddings, as Model2Vec makes them.
    Static,
}

impl Architecture {
    /// The provider that stands for it in registrations.
    pub fn provider(self) -> &'static str {
        match self {
            Architecture::Bert => "bert_local",
            Architecture::Clip => "clip_local",
            Architecture::T5 => "t5_local",
            Architecture::Static => "static_local",
        }
    }
}

/// How texts are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedOptions {
    /// What the texts are, where the model makes a difference.
    pub role: Role,
    /// Whether a text that is longer than the model takes is cut; otherwise it is an error.
    pub truncate: bool,
    /// How many numbers of each vector are kept, the first ones; `None`: all.
    pub dimensions: Option<usize>,
}

/// How a text is generated.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// The most tokens of the answer.
    pub max_tokens: usize,
    /// 0 takes the likeliest token each time.
    pub temperature: f32,
    /// Of the likeliest tokens, which together have this probability, one is drawn; 1 draws among all.
    pub top_p: f32,
    /// What random numbers begin with, so that an answer can be had again.
    pub seed: u64,
    /// As [`EmbedOptions::truncate`].
    pub truncate: bool,
}

/// A text that a model wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The text.
    pub text: String,
    /// The tokens of the prompt.
    pub tokens_in: u64,
    /// The tokens that were made.
    pub tokens_out: u64,
}

/// A model in memory. Called by several threads at once; each call computes on the thread that makes it, looks at
/// its [`Turn`] at least every 100 ms and ends with the error that it gives.
pub trait LocalModel: Send + Sync {
    /// What it is, in a word that a status shows: `bert`, `clip`.
    fn kind(&self) -> &'static str;

    /// The bytes it keeps in memory.
    fn memory_bytes(&self) -> u64;

    /// The width of its vectors; `None` where it does not embed.
    fn dimensions(&self) -> Option<usize>;

    /// Embeds texts: a result for each, in their order. The outer error concerns all.
    fn embed(&self, texts: &[&str], options: EmbedOptions, turn: &Turn) -> Result<Vec<Result<Vec<f32>>>>;

    /// Embeds images, the bytes of their files, into the space of the texts.
    fn embed_images(&self, _images: &[&[u8]], _turn: &Turn) -> Result<Vec<Result<Vec<f32>>>> {
        Err(Error::invalid("this model embeds no images; use one of provider clip_local"))
    }

    /// Answers a prompt.
    fn generate(&self, _prompt: &str, _options: &GenerateOptions, _turn: &Turn) -> Result<Generated> {
        Err(Error::invalid("this model generates no text; use one of provider t5_local"))
    }
}

/// Reads a JSON object. Structures with defaults would be read from an empty array too.
pub(crate) fn read_object<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(Value::Object(serde_json::from_slice(json)?))
}

/// The first numbers of a vector, as models that were trained for it allow; brought back to length 1 where they make vectors
/// of that length.
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
