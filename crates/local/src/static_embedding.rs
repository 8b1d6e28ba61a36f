//! Static embeddings in the layout of Model2Vec: a text's vector is the mean of its tokens' vectors. One core embeds
//! thousands of texts a second, with some loss of quality.

use serde::Deserialize;

use super::files::ModelDir;
use super::sentence::{Modules, Prompts, Then};
use super::tokenizer::{Tokenizer, MOST_TOKENS};
use super::turn::Turn;
use super::weights::Weights;
use super::{shortened, EmbedOptions, LocalModel};
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::role::Role;
use mysql_ml_base::vector;

/// The folder of the files in sentence-transformers.
pub const FOLDER: &str = "0_StaticEmbedding";

/// Model2Vec's maximum of tokens in a text; sentence-transformers has none.
const MAX_TOKENS: usize = 512;

/// A static model in memory.
pub struct StaticModel {
    tokenizer: Tokenizer,
    /// The tokens' vectors, `[rows, width]`.
    vectors: Vec<f32>,
    width: usize,
    /// The row of each token; `None`: the token's number.
    mapping: Option<Vec<u32>>,
    /// The weight of each token; `None`: all are equal.
    weights: Option<Vec<f32>>,
    then: Then,
    prompts: Prompts,
    /// The unknown token, which has no weight.
    unknown: Option<u32>,
}

#[derive(Deserialize)]
struct Config {
    model_type: Option<String>,
    normalize: Option<bool>,
}

/// The members of tokenizer.json that name the unknown token.
#[derive(Deserialize)]
struct TokenizerFile {
    model: TokenizerModel,
}

#[derive(Deserialize)]
struct TokenizerModel {
    unk_token: Option<String>,
    unk_id: Option<u32>,
}

impl StaticModel {
    /// Loads the model in `dir`. The files may also be in `0_StaticEmbedding`, the folder of sentence-transformers.
    pub fn open(dir: &ModelDir) -> Result<Self> {
        let modules = Modules::read(dir)?;
        let inner = match modules.as_ref().map(|m| m.first(dir, "StaticEmbedding")).transpose()? {
            Some(inner) => inner,
            None if dir.has(FOLDER) => dir.below(FOLDER)?,
            None => dir.clone(),
        };
        // Model2Vec's files for both layouts have weights only at the top.
        let has_weights = |dir: &ModelDir| dir.has(super::weights::FILE) || dir.has(super::weights::INDEX);
        let files = if has_weights(&inner) { &inner } else { dir };
        let config: Option<Config> = dir.optional_json("config.json")?;
        let of_model2vec =
            modules.is_none() || config.as_ref().is_some_and(|c| c.model_type.as_deref() == Some("model2vec"));
        let weights = Weights::open(files)?;
        let table =
            ["embeddings", "embedding.weight"].into_iter().find(|name| weights.has(name)).unwrap_or("embeddings");
        let shape = weights.shape(table)?.to_vec();
        let (rows, width) = match shape.as_slice() {
            [rows, width] if *rows > 0 && (1..=vector::MAX_DIMENSIONS).contains(width) => (*rows, *width),
            _ => {
                return Err(Error::invalid(format!(
                    "{}: tensor {table} has the shape {shape:?}; it must have a row of 1 to {} numbers for each token",
                    files.name(super::weights::FILE),
                    vector::MAX_DIMENSIONS
                )))
            }
        };
        let vectors = weights.tensor(table, &shape)?;
        let most = if of_model2vec { MAX_TOKENS } else { MOST_TOKENS };
        let tokenizer = Tokenizer::without_special_tokens(files, most)?;
        let mapping = match weights.has("mapping") {
            false => None,
            true => Some(weights.integers("mapping")?),
        };
        let tokens = mapping.as_ref().map_or(rows, Vec::len);
        let token_weights = match weights.has("weights") {
            false => None,
            true => Some(weights.tensor("weights", &[tokens])?),
        };
        if mapping.iter().flatten().any(|row| *row as usize >= rows) || tokenizer.vocabulary() > tokens {
            return Err(Error::invalid(format!(
                "{}: the tokenizer has {} tokens and the weights know {tokens} in {rows} rows; the files do not belong together",
                dir.shown(),
                tokenizer.vocabulary()
            )));
        }
        let unknown = if of_model2vec {
            let file: TokenizerFile = files.large_json(super::tokenizer::FILE)?;
            file.model.unk_token.and_then(|t| tokenizer.id_of(&t)).or(file.model.unk_id)
        } else {
            // sentence-transformers treats the unknown token like any other.
            None
        };
        let mut then = match &modules {
            Some(modules) => modules.then(dir, width)?,
            None => Then::nothing(width),
        };
        if config.and_then(|c| c.normalize).unwrap_or(false) {
            then.normalize();
        }
        Ok(StaticModel {
            tokenizer,
            vectors,
            width,
            mapping,
            weights: token_weights,
            then,
            prompts: Prompts::read(dir)?,
            unknown,
        })
    }

    fn embed_one(&self, text: &str, options: EmbedOptions, turn: &Turn) -> Result<Vec<f32>> {
        if text.trim().is_empty() {
            return Err(Error::invalid("the text is empty; there is nothing to embed"));
        }
        let tokens = match self.prompts.of(options.role) {
            "" => self.tokenizer.encode(text, options.truncate, turn)?,
            prompt => self.tokenizer.encode(&format!("{prompt}{text}"), options.truncate, turn)?,
        };
        let mut sum = vec![0.0_f32; self.width];
        let mut count = 0.0_f32;
        for id in tokens.ids.iter().filter(|id| Some(**id) != self.unknown) {
            let id = *id as usize;
            let row = self.mapping.as_ref().map_or(Some(id), |m| m.get(id).map(|row| *row as usize));
            let row = row.and_then(|row| self.vectors.get(row.checked_mul(self.width)?..)?.get(..self.width));
            let row = row.ok_or_else(|| super::tokenizer::unknown(id as u32))?;
            let weight = self.weights.as_ref().map_or(Some(1.0), |w| w.get(id).copied()).unwrap_or(1.0);
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight * x);
            count += 1.0;
        }
        if count == 0.0 {
            return Err(Error::new(
                Kind::Invalid,
                "the model knows no token of the text; use a model for its language, such as one of provider bert_local",
            ));
        }
        sum.iter_mut().for_each(|x| *x /= count);
        shortened(self.then.apply(sum, turn)?, options.dimensions, self.then.has_unit_length())
    }
}

impl LocalModel for StaticModel {
    fn kind(&self) -> &'static str {
        "static"
    }

    fn memory_bytes(&self) -> u64 {
        let of = |n: usize| (n * size_of::<f32>()) as u64;
        of(self.vectors.len())
            + of(self.mapping.as_ref().map_or(0, Vec::len))
            + of(self.weights.as_ref().map_or(0, Vec::len))
            + self.then.memory_bytes()
            + self.tokenizer.memory_bytes()
    }

    fn dimensions(&self) -> Option<usize> {
        Some(self.then.dimensions())
    }

    fn count_tokens(&self, text: &str, turn: &Turn) -> Result<usize> {
        self.tokenizer.count(&format!("{}{text}", self.prompts.of(Role::Document)), turn)
    }

    fn token_ends(&self, text: &str, turn: &Turn) -> Result<Vec<usize>> {
        self.tokenizer.ends(text, turn)
    }

    fn max_tokens(&self) -> Option<usize> {
        Some(self.tokenizer.max_tokens())
    }

    fn embed(&self, texts: &[&str], options: EmbedOptions, turn: &Turn) -> Result<Vec<Result<Vec<f32>>>> {
        texts
            .iter()
            .map(|text| {
                let vector = self.embed_one(text, options, turn);
                turn.check()?;
                Ok(vector)
            })
            .collect()
    }
}
