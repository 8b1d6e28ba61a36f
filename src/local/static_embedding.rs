//! Static embeddings, as Model2Vec makes them: a vector for each token, of which a text's is the mean. Thousands of texts
//! a second on one core, at some cost in quality.

use serde::Deserialize;

use super::files::ModelDir;
use super::tokenizer::Tokenizer;
use super::weights::Weights;
use super::{check, EmbedOptions, LocalModel};
use crate::error::{Error, Kind, Result};
use crate::threads::interrupt::CancelToken;
use crate::vector;

/// The most tokens of a text, as Model2Vec has it.
const MAX_TOKENS: usize = 512;

/// A static model in memory.
pub struct StaticModel {
    tokenizer: Tokenizer,
    /// Row after row.
    vectors: Vec<f32>,
    width: usize,
    /// The row of each token; `None`: its number.
    mapping: Option<Vec<u32>>,
    /// How much each token counts; `None`: all the same.
    weights: Option<Vec<f32>>,
    normalize: bool,
    /// The token that stands for what is unknown, which does not count.
    unknown: Option<u32>,
}

#[derive(Deserialize)]
struct Config {
    normalize: Option<bool>,
}

/// Of tokenizer.json what names the unknown token.
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
    /// Loads the model in `dir`; the files may also be in `0_StaticEmbedding`, as sentence-transformers has them.
    pub fn open(dir: &ModelDir) -> Result<Self> {
        let inner = if dir.has("0_StaticEmbedding") { Some(dir.below("0_StaticEmbedding")?) } else { None };
        let files = inner.as_ref().unwrap_or(dir);
        let config: Option<Config> = dir.optional_json("config.json")?;
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
        let tokenizer = Tokenizer::without_special_tokens(files, MAX_TOKENS)?;
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
        let file: TokenizerFile = files.large_json(super::tokenizer::FILE)?;
        let unknown = file.model.unk_token.and_then(|t| tokenizer.id_of(&t)).or(file.model.unk_id);
        Ok(StaticModel {
            tokenizer,
            vectors,
            width,
            mapping,
            weights: token_weights,
            // sentence-transformers has a module for it, of which its own static models make no use.
            normalize: config.and_then(|c| c.normalize).unwrap_or(false),
            unknown,
        })
    }

    fn embed_one(&self, text: &str, truncate: bool) -> Result<Vec<f32>> {
        if text.trim().is_empty() {
            return Err(Error::invalid("the text is empty; there is nothing to embed"));
        }
        let tokens = self.tokenizer.encode(text, truncate)?;
        let mut sum = vec![0.0_f32; self.width];
        let mut count = 0.0_f32;
        for id in tokens.ids.iter().filter(|id| Some(**id) != self.unknown) {
            let id = *id as usize;
            let row = self.mapping.as_ref().map_or(Some(id), |m| m.get(id).map(|row| *row as usize));
            let row = row.and_then(|row| self.vectors.get(row.checked_mul(self.width)?..)?.get(..self.width));
            let row = row.ok_or_else(|| Error::internal("a token without a row"))?;
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
        if self.normalize {
            vector::normalize(&mut sum);
        }
        Ok(sum)
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
            + self.tokenizer.memory_bytes()
    }

    fn dimensions(&self) -> Option<usize> {
        Some(self.width)
    }

    fn embed(&self, texts: &[&str], options: EmbedOptions, cancel: &CancelToken) -> Result<Vec<Result<Vec<f32>>>> {
        texts
            .iter()
            .map(|text| {
                check(cancel)?;
                Ok(self.embed_one(text, options.truncate))
            })
            .collect()
    }
}
