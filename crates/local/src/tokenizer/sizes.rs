//! The contents of a tokenizer.json, counted before they are read. Files that take more memory or time than real
//! tokenizers are refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;

/// The maximum of tokens in a vocabulary, and of its merges.
const MOST_TOKENS: u64 = 1 << 20;
const MOST_MERGES: u64 = 2 << 20;

/// The maximum of added tokens, and of their bytes.
const MOST_ADDED: u64 = 1 << 16;
const MOST_ADDED_BYTES: u64 = 1 << 20;

/// The maximum of bytes in a token, which bounds the depth of token trees.
pub const LONGEST_TOKEN: u64 = 1024;

/// The maximum of other values and bytes, such as normalizers and templates.
const MOST_RULES: u64 = 20_000;
const MOST_RULE_BYTES: u64 = 4 << 20;

/// The longest word of WordPiece. Its time grows with the third power of the length.
const LONGEST_WORD: u64 = 1000;

/// The counts of a part of the file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Values of any kind, including nested ones.
    values: u64,
    /// The bytes of all strings.
    bytes: u64,
    /// The bytes of the longest string.
    longest: u64,
    /// The nesting of arrays and objects.
    depth: u64,
}

impl Tally {
    fn text(&mut self, text: &str) {
        let bytes = text.len() as u64;
        self.bytes = self.bytes.saturating_add(bytes);
        self.longest = self.longest.max(bytes);
    }

    fn add(&mut self, inner: Tally) {
        self.values = self.values.saturating_add(inner.values);
        self.bytes = self.bytes.saturating_add(inner.bytes);
        self.longest = self.longest.max(inner.longest);
        self.depth = self.depth.max(inner.depth + 1);
    }
}

impl<'de> Deserialize<'de> for Tally {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Counting)
    }
}

struct Counting;

impl<'de> Visitor<'de> for Counting {
    type Value = Tally;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Tally, E> {
        Ok(Tally { values: 1, ..Tally::default() })
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Tally, E> {
        self.visit_bool(true)
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Tally, E> {
        self.visit_bool(true)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Tally, E> {
        self.visit_bool(true)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Tally, E> {
        self.visit_bool(true)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Tally, E> {
        let mut tally = Tally { values: 1, ..Tally::default() };
        tally.text(text);
        Ok(tally)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tally, A::Error> {
        let mut tally = Tally { values: 1, ..Tally::default() };
        while let Some(inner) = seq.next_element::<Tally>()? {
            tally.add(inner);
        }
        Ok(tally)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tally, A::Error> {
        let mut tally = Tally { values: 1, ..Tally::default() };
        while let Some(key) = map.next_key::<String>()? {
            tally.text(&key);
            tally.add(map.next_value()?);
        }
        Ok(tally)
    }
}

/// The counts of the whole file.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Tally,
    #[serde(default)]
    normalizer: Tally,
    #[serde(default)]
    pre_tokenizer: Tally,
    #[serde(default)]
    post_processor: Tally,
    #[serde(default)]
    decoder: Tally,
    model: Model,
}

/// The counts of the model's members, and its scalars.
struct Model(BTreeMap<String, Tally>, Scalars);

/// Scalar members of the model.
#[derive(Default)]
struct Scalars {
    kind: Option<String>,
    numbers: BTreeMap<String, f64>,
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Model;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a model")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Model, A::Error> {
                let mut model = Model(BTreeMap::new(), Scalars::default());
                while let Some(key) = map.next_key::<String>()? {
                    if model.0.len() > 64 || model.0.contains_key(&key) {
                        return Err(serde::de::Error::custom("its model has a member twice, or too many"));
                    }
                    let tally = map.next_value_seed(Noting { key: &key, scalars: &mut model.1 })?;
                    model.0.insert(key, tally);
                }
                Ok(model)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Counts a member, and keeps it if it is a number or the model's type.
struct Noting<'a> {
    key: &'a str,
    scalars: &'a mut Scalars,
}

impl<'de> DeserializeSeed<'de> for Noting<'_> {
    type Value = Tally;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tally, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Noting<'_> {
    type Value = Tally;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member of a model")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Tally, E> {
        Counting.visit_bool(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Tally, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Tally, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tally, E> {
        self.scalars.numbers.insert(self.key.to_owned(), value);
        Counting.visit_f64(value)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Tally, E> {
        Counting.visit_unit()
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Tally, E> {
        if self.key == "type" && text.len() < 64 {
            self.scalars.kind = Some(text.to_owned());
        }
        Counting.visit_str(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Tally, A::Error> {
        Counting.visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tally, A::Error> {
        Counting.visit_map(map)
    }
}

/// Counts the contents of a tokenizer.json. Returns an estimate of the bytes that its tables will take.
///
/// An error names the excess, without the file's name.
pub fn check(json: &[u8]) -> Result<u64, String> {
    let file: File = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    for (name, part) in [
        ("normalizer", file.normalizer),
        ("pre_tokenizer", file.pre_tokenizer),
        ("post_processor", file.post_processor),
        ("decoder", file.decoder),
    ] {
        if part.values > MOST_RULES || part.bytes > MOST_RULE_BYTES || part.depth > 16 {
            return Err(format!("its {name} has {} values and {} bytes of text", part.values, part.bytes));
        }
    }
    let added = file.added_tokens;
    // Each has seven members.
    if added.values / 8 > MOST_ADDED || added.bytes > MOST_ADDED_BYTES + added.values * 16 || added.depth > 3 {
        return Err(format!("added_tokens has {} values and {} bytes of text", added.values, added.bytes));
    }
    let Model(members, scalars) = &file.model;
    let empty = Tally::default();
    let (vocabulary, merges) = (members.get("vocab").unwrap_or(&empty), members.get("merges").unwrap_or(&empty));
    if vocabulary.values / 3 > MOST_TOKENS || merges.values / 3 > MOST_MERGES || vocabulary.depth.max(merges.depth) > 2
    {
        return Err(format!(
            "its model has {} values in its vocabulary and {} in its merges",
            vocabulary.values, merges.values
        ));
    }
    let longest = [*vocabulary, *merges, added].iter().map(|t| t.longest).max().unwrap_or(0);
    if longest > 2 * LONGEST_TOKEN {
        return Err(format!("a token has {longest} bytes, more than {LONGEST_TOKEN}"));
    }
    for (name, member) in members.iter().filter(|(name, _)| !matches!(name.as_str(), "vocab" | "merges")) {
        if member.values > 16 || member.longest > LONGEST_TOKEN {
            return Err(format!("{} of its model is too large", mysql_ml_base::error::cut(name, 40)));
        }
    }
    if scalars.numbers.get("max_input_chars_per_word").is_some_and(|n| *n > LONGEST_WORD as f64) {
        return Err(format!("max_input_chars_per_word is more than {LONGEST_WORD}"));
    }
    if scalars.numbers.get("dropout").is_some_and(|p| *p != 0.0) {
        return Err("its model draws tokens by chance (dropout), and a text would have other vectors each time".into());
    }
    let tree = match scalars.kind.as_deref() {
        Some("Unigram") => nodes(json)?,
        _ => 0,
    };
    // The sum counts strings in two tables, pairs of merges and the nodes of Unigram's tree. Added tokens form another
    // tree, and parsing needs memory too.
    let tables = vocabulary.values / 2 * 250 + merges.values / 2 * 120 + tree * 350 + added.bytes * 120;
    Ok(tables + 4 * json.len() as u64)
}

/// The nodes in the byte tree of a Unigram model's tokens.
fn nodes(json: &[u8]) -> Result<u64, String> {
    #[derive(Deserialize)]
    struct File {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        vocab: Vec<(String, IgnoredAny)>,
    }
    let file: File = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let mut tokens: Vec<String> = file.model.vocab.into_iter().map(|(token, _)| token).collect();
    tokens.sort_unstable();
    let mut before: &[u8] = &[];
    let mut nodes = 0;
    for token in &tokens {
        let token = token.as_bytes();
        let same = token.iter().zip(before).take_while(|(a, b)| a == b).count();
        nodes += (token.len() - same) as u64;
        before = token;
    }
    Ok(nodes)
}
