//! A deterministic embedding without a model: words and character n-grams hashed into a fixed width.
//!
//! Lexical: texts that share words or word parts come close, synonyms do not. For tests, demos and offline use.
//! The vectors are part of the contract of a version: the same text gives the same bytes on every machine.

use super::{require_capability, Capabilities, Cloud, Embeddings, Provider, Role};
use crate::catalog::model::{Model, ModelType};
use mysql_ml_base::error::{Error, Kind, Result};

/// The provider `dummy`.
pub struct Dummy;

/// The default of the option `dimensions`.
pub const DEFAULT_DIMENSIONS: usize = 384;

/// The longest text, bytes: it bounds the work.
const MAX_TEXT_BYTES: usize = 16 << 20;

/// Weight of a whole word; each of its n-grams has weight 1.
const WORD_WEIGHT: f32 = 3.0;

/// Common English words, which are ignored.
const STOP_WORDS: [&str; 40] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "can", "do", "does", "for", "from", "has", "have", "how",
    "i", "if", "in", "is", "it", "me", "my", "not", "of", "on", "or", "so", "that", "the", "this", "to", "was", "we",
    "what", "when", "with", "you", "your",
];

impl Provider for Dummy {
    fn capabilities(&self) -> Capabilities {
        Capabilities { embedding: true, ..Capabilities::default() }
    }

    fn endpoint(&self, _model: &Model, _cloud: &Cloud) -> Result<String> {
        Err(Error::invalid("provider dummy has no endpoint; it computes vectors in the server"))
    }

    fn check(&self, model: &Model) -> Result<()> {
        if model.model_type != ModelType::TextEmbedding {
            return Err(Error::invalid("provider dummy only embeds text; use model_type text_embedding"));
        }
        require_capability(model, self.capabilities())?;
        if model.request_url.is_some() || model.input.is_some() || model.output.is_some() || model.header_fn.is_some() {
            return Err(Error::invalid("provider dummy calls no endpoint; leave the URL and the functions NULL"));
        }
        Ok(())
    }

    fn embedding_request(&self, _model: &Model, _texts: &[&str], _role: Role) -> Result<Vec<u8>> {
        Err(Error::internal("provider dummy sends no requests"))
    }

    fn read_embeddings(&self, _model: &Model, _answer: &[u8], _count: usize) -> Result<Embeddings> {
        Err(Error::internal("provider dummy reads no answers"))
    }

    fn predict_request(&self, _model: &Model, _body: &str) -> Result<Vec<u8>> {
        Err(Error::invalid("provider dummy only embeds text; call ml_embedding"))
    }
}

/// The unit vector of `text` in `width` dimensions.
pub fn embed(text: &str, width: usize) -> Result<Vec<f32>> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::new(Kind::TooLarge, "a text for provider dummy is larger than 16 MiB"));
    }
    if text.trim().is_empty() {
        return Err(Error::invalid("the text is empty; there is nothing to embed"));
    }
    let mut vector = vec![0.0_f32; width];
    let mut add = |hash: u64, weight: f32| {
        // Two places and signs from one hash: collisions of two features rarely hit both.
        for part in [hash, hash.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15] {
            let slot = (part >> 8) as usize % width;
            let sign = if part & 1 == 0 { 1.0 } else { -1.0 };
            if let Some(x) = vector.get_mut(slot) {
                *x += sign * weight;
            }
        }
    };
    let lower = text.to_lowercase();
    let mut any = false;
    // "Wi-Fi" is also "wifi", "can't" also "cant".
    let joined = lower
        .split_whitespace()
        .filter(|w| w.contains(['-', '\'', '’']))
        .map(|w| w.chars().filter(|c| c.is_alphanumeric()).collect::<String>());
    let plain = lower.split(|c: char| !c.is_alphanumeric()).map(str::to_owned);
    for word in plain.chain(joined).filter(|w| !w.is_empty()) {
        let word = word.as_str();
        any = true;
        if STOP_WORDS.contains(&word) {
            add(hash(b'w', word.as_bytes()), 0.1);
            continue;
        }
        add(hash(b'w', word.as_bytes()), WORD_WEIGHT);
        let marked: Vec<char> = std::iter::once('<').chain(word.chars()).chain(std::iter::once('>')).collect();
        for n in [3, 4] {
            for gram in marked.windows(n) {
                let gram: String = gram.iter().collect();
                add(hash(b'g', gram.as_bytes()), 1.0);
            }
        }
    }
    if !any {
        // Only punctuation or symbols: the characters themselves.
        for c in lower.chars().filter(|c| !c.is_whitespace()) {
            add(hash(b'c', c.to_string().as_bytes()), 1.0);
        }
    }
    let norm = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if norm == 0.0 {
        // All features cancelled out: use a fixed direction.
        if let Some(first) = vector.first_mut() {
            *first = 1.0;
        }
        return Ok(vector);
    }
    for x in &mut vector {
        *x = (f64::from(*x) / norm) as f32;
    }
    Ok(vector)
}

/// FNV-1a with a final mix: stable over versions and machines, which the standard library's hasher is not.
fn hash(kind: u8, bytes: &[u8]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    for b in std::iter::once(&kind).chain(bytes) {
        h = (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
    }
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_ml_base::vector::{to_bytes, Measure};

    fn distance(a: &str, b: &str) -> f64 {
        let v = |t| to_bytes(&embed(t, DEFAULT_DIMENSIONS).unwrap()).unwrap();
        Measure::Cosine.compare(&v(a), &v(b)).unwrap()
    }

    #[test]
    fn texts_that_share_words_are_closer() {
        let question = "I forgot my password and cannot log in";
        assert!(distance(question, "Reset a forgotten password") < 0.75);
        assert!(
            distance(question, "Reset a forgotten password") + 0.2 < distance(question, "Printer jams on thick paper")
        );
        assert!(distance("refund", "refunds") < 0.6, "word parts count");
        assert!(distance("wifi", "Wi-Fi") < 0.7, "hyphens do not separate for good");
    }

    #[test]
    fn vectors_have_unit_length_and_do_not_change() {
        for text in ["a", "???", "日本語 テキスト", "the the the", "😀"] {
            let v = embed(text, 384).unwrap();
            let norm: f32 = v.iter().map(|x| x * x).sum();
            assert!((norm - 1.0).abs() < 1e-5, "{text}");
        }
        // Golden: users have stored such vectors, so they must not change.
        let v = embed("hello world", 8).unwrap();
        let rounded: Vec<i32> = v.iter().map(|x| (x * 1000.0).round() as i32).collect();
        assert_eq!(rounded, GOLDEN_HELLO_WORLD_8);
    }

    const GOLDEN_HELLO_WORLD_8: [i32; 8] = [213, -426, 426, -107, 0, -107, 107, 746];

    #[test]
    fn nothing_to_embed_is_an_error() {
        assert!(embed("", 8).is_err() && embed(" \n", 8).is_err());
    }
}
