//! A model's tokenizer: its tokenizer.json without padding and truncation.
//!
//! The file is untrusted. `sizes` counts its contents before they are read, and `rules` applies its rules within
//! bounds. A panic of the tokenizers crate becomes an error of the file.

mod rules;
mod sizes;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::tokenizer::pre_tokenizer::OffsetType;
use tokenizers::utils::truncation::truncate_encodings;
use tokenizers::{
    AddedToken, DecoderWrapper, Encoding, Model as _, ModelWrapper, PostProcessor as _, PostProcessorWrapper,
    PreTokenizerWrapper, TokenizerImpl, TruncationDirection, TruncationParams,
};

use self::rules::{check_pairs, check_template, Normal, Texts, Watched, Words};
use super::files::ModelDir;
use super::turn::Turn;
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::panics;

/// The file with the tokenizer.
pub const FILE: &str = "tokenizer.json";

/// The maximum of bytes in a tokenizer.json. The largest vocabularies take 35 MB.
pub(super) const MAX_FILE: u64 = 64 << 20;

/// The maximum of bytes in a text; no model takes more. Longer texts are cut here with `truncate`, or refused.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// The maximum of tokens in a text, for any model. The time of attention grows with its square.
pub const MOST_TOKENS: usize = 8192;

/// Bytes per token of the part that is tokenized first. The part grows only if it has too few tokens.
const BYTES_A_TOKEN: usize = 24;

/// Tokens beyond the maximum. A part with so many proves a text too long, and has the same first tokens as the whole.
const BEYOND: usize = 64;

type Inner = TokenizerImpl<ModelWrapper, Normal, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// The parts of a file, and why it joins no pairs of texts, if it does not.
type Made = (Inner, Words, Texts, std::result::Result<(), String>);

/// A tokenizer.
pub struct Tokenizer {
    inner: Inner,
    words: Words,
    texts: Texts,
    /// The file's name in errors.
    name: String,
    max_tokens: usize,
    /// The number of special tokens around a text.
    around: usize,
    memory: u64,
    special: bool,
    /// Why it joins no pairs of texts, if it does not.
    pairs: std::result::Result<(), String>,
}

/// A text as tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The tokens' numbers, including special tokens around the text.
    pub ids: Vec<u32>,
    /// The segment of each token.
    pub types: Vec<u32>,
}

/// The members of the file that define rules.
#[derive(Deserialize)]
struct File {
    version: Option<String>,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    model: ModelWrapper,
}

/// The members of tokenizer_config.json that replace some of tokenizer.json in transformers' BERT classes.
#[derive(Deserialize, Default)]
struct Config {
    tokenizer_class: Option<String>,
    do_lower_case: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
    #[serde(default)]
    strip_accents: Option<Value>,
}

impl Config {
    fn apply(self, normalizer: &mut Option<Value>) {
        let of_bert = self.tokenizer_class.as_deref().is_none_or(|class| {
            let class = class.strip_suffix("Fast").unwrap_or(class);
            matches!(class, "BertTokenizer" | "DistilBertTokenizer" | "MPNetTokenizer")
        });
        let Some(Value::Object(rule)) = normalizer.as_mut().filter(|_| of_bert) else { return };
        if rule.get("type").and_then(Value::as_str) != Some("BertNormalizer") {
            return;
        }
        let mut set = |name: &str, value: Option<Value>| value.map(|value| rule.insert(name.to_owned(), value));
        set("lowercase", self.do_lower_case.map(Value::Bool));
        set("handle_chinese_chars", self.tokenize_chinese_chars.map(Value::Bool));
        set("strip_accents", self.strip_accents.filter(|v| v.is_boolean() || v.is_null()));
    }
}

/// An estimate of the bytes that a directory's tokenizer will take; 0 without a tokenizer.
pub fn estimate(dir: &ModelDir) -> Result<u64> {
    if !dir.has(FILE) {
        return Ok(0);
    }
    sizes::check(&dir.bytes(FILE, MAX_FILE)?).map_err(|e| unusable(&dir.name(FILE), &e))
}

/// The error for a token without a row in the model.
pub fn unknown(token: u32) -> Error {
    Error::invalid(format!(
        "the tokenizer makes a token {token} that the model does not know; the files do not belong together"
    ))
}

fn unusable(name: &str, what: &str) -> Error {
    Error::invalid(format!("{name} is no tokenizer that can be used ({}); fetch it anew", cut(what, 160)))
}

impl Tokenizer {
    /// Reads a tokenizer for at most `max_tokens` tokens, including special ones.
    pub fn open(dir: &ModelDir, max_tokens: usize) -> Result<Self> {
        Self::read(dir, max_tokens, true)
    }

    /// [`Tokenizer::open`] without special tokens around texts.
    pub fn without_special_tokens(dir: &ModelDir, max_tokens: usize) -> Result<Self> {
        Self::read(dir, max_tokens, false)
    }

    fn read(dir: &ModelDir, max_tokens: usize, special: bool) -> Result<Self> {
        let bytes = dir.bytes(FILE, MAX_FILE)?;
        let name = dir.name(FILE);
        let unusable = |e: &str| unusable(&name, e);
        let memory = sizes::check(&bytes).map_err(|e| unusable(&e))?;
        // The tokenizers crate panics for some files. Without special tokens only tokenizer.json counts, as in
        // sentence-transformers.
        let config = if special { dir.optional_json("tokenizer_config.json")? } else { None };
        let made = panics::catch(|| Ok(Self::make(&bytes, config.unwrap_or_default())))
            .unwrap_or_else(|_| Err("its reader fails".into()));
        let (inner, words, texts, pairs) = made.map_err(|e| unusable(&e))?;
        let max_tokens = max_tokens.min(MOST_TOKENS);
        let added = inner.get_post_processor().map_or(0, |p| p.added_tokens(false));
        let around = if special { added } else { 0 };
        if max_tokens <= added {
            return Err(Error::invalid(format!(
                "{}: {max_tokens} tokens are allowed and {added} are added to each text; correct max_seq_length",
                dir.shown()
            )));
        }
        let made = Tokenizer { inner, words, texts, name, max_tokens, around, memory, special, pairs };
        // A first text finds errors that any text causes, so loading reports them.
        made.encode("The first text, 1.", true, &Turn::default())?;
        Ok(made)
    }

    fn make(bytes: &[u8], config: Config) -> std::result::Result<Made, String> {
        let mut file: File = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if file.version.as_deref().is_some_and(|v| v != "1.0") {
            return Err("its version is not 1.0".into());
        }
        config.apply(&mut file.normalizer);
        check_template(file.post_processor.as_ref())?;
        let pairs = check_pairs(file.post_processor.as_ref());
        let mut inner = Inner::new(file.model);
        inner.with_normalizer(Some(Normal::read(file.normalizer.as_ref())?)).map_err(|e| e.to_string())?;
        if let Some(value) = file.post_processor.filter(|v| !v.is_null()) {
            let processor: PostProcessorWrapper = serde_json::from_value(value).map_err(|e| e.to_string())?;
            inner.with_post_processor(Some(processor));
        }
        inner.add_tokens(file.added_tokens).map_err(|e| e.to_string())?;
        Ok((inner, Words::read(file.pre_tokenizer.as_ref())?, Texts::read(file.decoder.as_ref())?, pairs))
    }

    /// The maximum of tokens in a text, including special ones.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Lowers the maximum of tokens.
    pub fn limit(&mut self, max_tokens: usize) {
        self.max_tokens = self.max_tokens.min(max_tokens.max(self.around + 1));
    }

    /// An estimate of the bytes that it keeps.
    pub fn memory_bytes(&self) -> u64 {
        self.memory
    }

    /// The largest number of a token plus one.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The number of a token.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The tokens of a text. Too many tokens are cut with `truncate`, and an error without.
    pub fn encode(&self, text: &str, truncate: bool, turn: &Turn) -> Result<Tokens> {
        let most = self.max_tokens.saturating_sub(self.around);
        let ids = self.first_ids(text, truncate, turn)?;
        if ids.len() > most && !truncate {
            return Err(self.too_long("the text has"));
        }
        self.around(ids.into_iter().take(most).collect())
    }

    /// The numbers of a text's first tokens, without special ones: all of them, or more than the model takes. A text of more
    /// than [`MAX_TEXT_BYTES`] is cut with `truncate`, and an error without.
    pub fn first_ids(&self, text: &str, truncate: bool, turn: &Turn) -> Result<Vec<u32>> {
        let most = self.max_tokens.saturating_sub(self.around);
        // A part of a long text decides whether the text is too long, and gives its first tokens.
        let mut part = most.saturating_mul(BYTES_A_TOKEN).max(4096);
        loop {
            match beginning(text, part) {
                Some(beginning) if part < MAX_TEXT_BYTES => {
                    let ids = self.part(beginning, most + BEYOND, turn)?;
                    if ids.len() >= most + BEYOND {
                        return Ok(ids);
                    }
                    part = part.saturating_mul(8);
                }
                _ if text.len() <= MAX_TEXT_BYTES => return self.part(text, most + BEYOND, turn),
                _ if !truncate => return Err(self.too_long("the text has")),
                _ => {
                    let end = (0..4).map(|back| MAX_TEXT_BYTES - back).find(|end| text.is_char_boundary(*end));
                    return self.part(text.get(..end.unwrap_or_default()).unwrap_or_default(), most, turn);
                }
            }
        }
    }

    /// The tokens of a pair of texts, from those of [`Tokenizer::first_ids`]. If there are too many, `truncate` cuts the longer
    /// text, or both to the same length; without it they are an error.
    pub fn pair(&self, first: &[u32], second: &[u32], truncate: bool) -> Result<Tokens> {
        self.pairs.as_ref().map_err(|why| unusable(&self.name, why))?;
        let added = self.inner.get_post_processor().map_or(0, |p| p.added_tokens(true));
        let most = self.max_tokens.checked_sub(added).filter(|most| *most > 0).ok_or_else(|| {
            unusable(&self.name, &format!("{} tokens are allowed and {added} are added to a pair", self.max_tokens))
        })?;
        if first.len() + second.len() > most && !truncate {
            return Err(self.too_long("the query and the document have"));
        }
        let encoding = |ids: &[u32]| ids.iter().map(|id| (*id, String::new(), (0, 0), None, 0)).collect::<Encoding>();
        let params = TruncationParams { max_length: most, stride: 0, ..TruncationParams::default() };
        let made = panics::catch(|| {
            let parts = truncate_encodings(encoding(first), Some(encoding(second)), &params);
            let joined = parts.and_then(|(first, second)| self.inner.post_process(first, second, true));
            joined
                .map_err(|e| Error::invalid(format!("the texts cannot be put together ({})", cut(&e.to_string(), 120))))
        });
        self.checked(&made.map_err(|e| self.of_the_file(e))?)
    }

    /// The number of tokens of a text with the special tokens around it, whatever the maximum.
    pub fn count(&self, text: &str, turn: &Turn) -> Result<usize> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::new(
                Kind::TooLarge,
                format!("the text has {} bytes; tokens of at most 1 MiB are counted: divide it", text.len()),
            ));
        }
        Ok(self.part(text, usize::MAX, turn)?.len() + self.around)
    }

    /// The ends of a text's tokens in bytes, ascending, without special tokens.
    pub fn ends(&self, text: &str, turn: &Turn) -> Result<Vec<usize>> {
        let encoding = self.encoding(text, usize::MAX, OffsetType::Byte, turn)?;
        let mut ends: Vec<usize> = encoding.get_offsets().iter().map(|(_, end)| *end).collect();
        ends.sort_unstable();
        Ok(ends)
    }

    /// The number of tokens up to the end of `beginning` in a text, including special tokens before it.
    pub fn count_before(&self, beginning: &str, turn: &Turn) -> Result<usize> {
        let most = self.max_tokens.saturating_sub(self.around);
        let ids: Vec<u32> = self.part(beginning, most, turn)?.into_iter().take(most).collect();
        let whole = self.around(ids.clone())?;
        let before = (0..=self.around).find(|n| whole.ids.get(*n..).is_some_and(|rest| rest.starts_with(&ids)));
        Ok(before.unwrap_or(0) + ids.len())
    }

    /// The tokens of a text, or at least its first `most` tokens.
    fn part(&self, text: &str, most: usize, turn: &Turn) -> Result<Vec<u32>> {
        Ok(self.encoding(text, most, OffsetType::None, turn)?.get_ids().to_vec())
    }

    fn encoding(&self, text: &str, most: usize, offsets: OffsetType, turn: &Turn) -> Result<Encoding> {
        let made = panics::catch(|| {
            let empty = Normal::default();
            let normal = Watched::new(self.inner.get_normalizer().unwrap_or(&empty), turn);
            let mut words = self.inner.get_added_vocabulary().extract_and_normalize(Some(&normal), text);
            normal.fault()?;
            self.words.apply(&mut words, turn)?;
            let model = self.inner.get_model();
            let count = std::cell::Cell::new(0_usize);
            let made = words.tokenize_with_limit(
                |word| {
                    count.set(count.get() + 1);
                    if count.get().is_multiple_of(16) && turn.check().is_err() {
                        return Err("stopped".into());
                    }
                    model.tokenize(word.get())
                },
                most,
                TruncationDirection::Right,
            );
            turn.check()?;
            let failed = |e: tokenizers::Error| {
                Error::invalid(format!("the text cannot be made into tokens ({})", cut(&e.to_string(), 120)))
            };
            made.map_err(failed)?;
            words.into_encoding(None, 0, offsets).map_err(failed)
        });
        made.map_err(|e| self.of_the_file(e))
    }

    /// Adds the special tokens around `ids`.
    fn around(&self, ids: Vec<u32>) -> Result<Tokens> {
        let made = panics::catch(|| {
            let encoding = ids.into_iter().map(|id| (id, String::new(), (0, 0), None, 0)).collect();
            let made = self.inner.post_process(encoding, None, self.special);
            made.map_err(|e| {
                Error::invalid(format!("the tokens cannot be put together ({})", cut(&e.to_string(), 120)))
            })
        });
        self.checked(&made.map_err(|e| self.of_the_file(e))?)
    }

    fn checked(&self, encoding: &Encoding) -> Result<Tokens> {
        if encoding.len() > self.max_tokens {
            return Err(unusable(&self.name, "it puts more tokens around a text than it says"));
        }
        Ok(Tokens { ids: encoding.get_ids().to_vec(), types: encoding.get_type_ids().to_vec() })
    }

    /// Turns a panic of the tokenizers crate into an error of the file.
    fn of_the_file(&self, error: Error) -> Error {
        match error.kind() {
            Kind::Internal => unusable(&self.name, "its rules fail"),
            _ => error,
        }
    }

    /// The text of tokens, without special ones.
    pub fn decode(&self, ids: &[u32], turn: &Turn) -> Result<String> {
        let made = panics::catch(|| {
            let vocabulary = self.inner.get_added_vocabulary();
            let tokens = ids.iter().filter_map(|id| self.inner.id_to_token(*id));
            self.texts.apply(tokens.filter(|token| !vocabulary.is_special_token(token)).collect(), turn)
        });
        made.map_err(|e| self.of_the_file(e))
    }

    fn too_long(&self, what: &str) -> Error {
        Error::new(
            Kind::TooLarge,
            format!(
                "{what} more than the {} tokens that the model takes; shorten it, or set the model's option truncate to true, which cuts the end off",
                self.max_tokens
            ),
        )
    }
}

/// The beginning of a text much longer than `bytes`, up to a space between words.
fn beginning(text: &str, bytes: usize) -> Option<&str> {
    if text.len() <= bytes.saturating_mul(2) {
        return None;
    }
    let plain = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let all = text.as_bytes();
    let end = (bytes / 2..bytes).rev().find(|at| {
        all.get(*at) == Some(&b' ') && plain(at.checked_sub(1).and_then(|b| all.get(b))) && plain(all.get(at + 1))
    })?;
    text.get(..end)
}
