//! Texts to tokens and back, as a model's `tokenizer.json` says.

use std::path::Path;

use tokenizers::{PostProcessor, Tokenizer, TruncationDirection};

use crate::error::{cut, Error, Kind, Result};

/// The most bytes of a tokenizer.json; that of a model of a hundred languages has 17 MB.
const MAX_FILE: u64 = 64 << 20;
/// The most bytes of a text: no model here takes a tenth of the tokens in it.
const MAX_TEXT: usize = 1 << 20;

/// A model's tokenizer, with a bound on tokens.
pub struct TextTokens {
    tokenizer: Tokenizer,
    limit: usize,
    /// Those of them that stand around every text.
    added: usize,
}

impl TextTokens {
    /// Reads tokenizer.json. `limit`: the tokens that the model takes; `vocabulary`: how many different ones it knows.
    pub fn load(path: &Path, limit: usize, vocabulary: usize) -> Result<Self> {
        let damaged = |e: &dyn std::fmt::Display| {
            Error::invalid(format!(
                "tokenizer.json is not a tokenizer ({}); take that of the model's Hugging Face folder",
                cut(&e.to_string(), 160)
            ))
        };
        let bytes = super::read_small(path, MAX_FILE)?;
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| damaged(&e))?;
        // Files carry the padding and cutting of whoever saved them.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| damaged(&e))?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        if largest as usize >= vocabulary {
            return Err(Error::invalid(format!(
                "tokenizer.json has the token {largest} and config.json a vocab_size of {vocabulary}; take both from the same model"
            )));
        }
        let added = tokenizer.get_post_processor().map_or(0, |p| p.added_tokens(false));
        if added >= limit {
            return Err(Error::invalid(format!(
                "the model takes {limit} tokens, which tokenizer.json's own {added} fill"
            )));
        }
        Ok(TextTokens { tokenizer, limit, added })
    }

    /// The tokens of a text, with those that the model wants around it. A text of too many is cut where `truncate`, and
    /// else an error.
    pub fn encode(&self, text: &str, truncate: bool) -> Result<Vec<u32>> {
        if text.len() > MAX_TEXT && !truncate {
            return Err(self.too_long(format!("{} bytes", text.len())));
        }
        let refused = |e: tokenizers::Error| {
            Error::invalid(format!("the tokenizer refuses the text ({})", cut(&e.to_string(), 160)))
        };
        let text = text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or(text);
        let mut encoding = self.tokenizer.encode_fast(text, false).map_err(refused)?;
        let room = self.limit - self.added;
        if encoding.len() > room {
            if !truncate {
                return Err(self.too_long(format!("{} tokens", encoding.len() + self.added)));
            }
            encoding.truncate(room, 0, TruncationDirection::Right);
        }
        let encoding = self.tokenizer.post_process(encoding, None, true).map_err(refused)?;
        let ids = encoding.get_ids();
        if ids.is_empty() {
            return Err(Error::invalid("the text has no tokens; give one that is not empty"));
        }
        Ok(ids.to_vec())
    }

    /// The text of tokens, without those that are no text.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|e| {
            Error::response(format!("the tokenizer cannot read the answer ({})", cut(&e.to_string(), 160)))
        })
    }

    fn too_long(&self, size: String) -> Error {
        Error::new(
            Kind::TooLarge,
            format!(
                "the text has {size} and the model takes {} tokens; shorten it, or let the option truncate cut it",
                self.limit
            ),
        )
    }
}
