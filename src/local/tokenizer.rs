//! A model's tokenizer: its tokenizer.json, without the padding and truncation that some of these files ask for.

use tokenizers::{Tokenizer as HuggingFace, TruncationDirection, TruncationParams, TruncationStrategy};

use super::files::ModelDir;
use crate::abi::guard;
use crate::error::{cut, Error, Kind, Result};

/// The file with the tokenizer.
pub const FILE: &str = "tokenizer.json";

/// The largest tokenizer.json that is read; those of the largest vocabularies have 30 MB.
pub(super) const MAX_FILE: u64 = 128 << 20;

/// Of a longer text nothing more is looked at where it may be cut; otherwise it is refused. No model takes so much.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// Texts as tokens.
pub struct Tokenizer {
    inner: HuggingFace,
    max_tokens: usize,
    file_bytes: u64,
    special: bool,
}

/// A text as the numbers of its tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The numbers, with those of the special tokens that the tokenizer puts around.
    pub ids: Vec<u32>,
    /// The segment of each.
    pub types: Vec<u32>,
}

impl Tokenizer {
    /// Reads the tokenizer of a model that takes `max_tokens`, special ones included.
    pub fn open(dir: &ModelDir, max_tokens: usize) -> Result<Self> {
        Self::read(dir, max_tokens, true)
    }

    /// The same, without the special tokens that stand around texts.
    pub fn without_special_tokens(dir: &ModelDir, max_tokens: usize) -> Result<Self> {
        Self::read(dir, max_tokens, false)
    }

    fn read(dir: &ModelDir, max_tokens: usize, special: bool) -> Result<Self> {
        let bytes = dir.bytes(FILE, MAX_FILE)?;
        let file_bytes = bytes.len() as u64;
        let unusable =
            |e: String| Error::invalid(format!("{} is no tokenizer ({}); fetch it anew", dir.name(FILE), cut(&e, 120)));
        // The package panics at some files that are no JSON.
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map_err(|e| unusable(e.to_string()))?;
        let parsed = guard::catch(|| Ok(HuggingFace::from_bytes(bytes)));
        let mut inner = match parsed {
            Ok(parsed) => parsed.map_err(|e| unusable(e.to_string()))?,
            Err(_) => return Err(unusable("its reader fails".into())),
        };
        inner.with_padding(None);
        let added = {
            use tokenizers::PostProcessor as _;
            inner.get_post_processor().map_or(0, |p| p.added_tokens(false))
        };
        if max_tokens <= added {
            return Err(Error::invalid(format!(
                "{}: {max_tokens} tokens are allowed and {added} are added to each text; correct max_seq_length",
                dir.shown()
            )));
        }
        inner
            .with_truncation(Some(TruncationParams {
                direction: TruncationDirection::Right,
                max_length: max_tokens,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            }))
            .map_err(|e| unusable(e.to_string()))?;
        Ok(Tokenizer { inner, max_tokens, file_bytes, special })
    }

    /// The most tokens that a text may have, special ones included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The bytes it keeps, as an estimate: some twenty times its file, in tables of the vocabulary both ways.
    pub fn memory_bytes(&self) -> u64 {
        self.file_bytes * 20
    }

    /// One more than the largest number of a token.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The number of a token.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The tokens of a text, of which those that are too many are cut with `truncate` and an error without.
    pub fn encode(&self, text: &str, truncate: bool) -> Result<Tokens> {
        let looked_at = if text.len() > MAX_TEXT_BYTES {
            if !truncate {
                return Err(self.too_long());
            }
            let end = (0..4).map(|back| MAX_TEXT_BYTES - back).find(|end| text.is_char_boundary(*end));
            text.get(..end.unwrap_or_default()).unwrap_or_default()
        } else {
            text
        };
        let encoding = self
            .inner
            .encode_fast(looked_at, self.special)
            .map_err(|e| Error::invalid(format!("the text cannot be made into tokens ({e})")))?;
        // How many tokens it has is not known: the tokenizer stops when there are too many.
        if !truncate && !encoding.get_overflowing().is_empty() {
            return Err(self.too_long());
        }
        Ok(Tokens { ids: encoding.get_ids().to_vec(), types: encoding.get_type_ids().to_vec() })
    }

    /// The text of tokens, without special ones.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(|e| Error::response(format!("the model's tokens are no text ({e})")))
    }

    fn too_long(&self) -> Error {
        Error::new(
            Kind::TooLarge,
            format!(
                "the text has more than the {} tokens that the model takes; shorten it, or set the model's option truncate to true, which cuts the end off",
                self.max_tokens
            ),
        )
    }
}
