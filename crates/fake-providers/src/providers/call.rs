//! A request to a provider, and helpers shared by the providers.

use serde_json::Value;

use super::state::State;
use crate::answer::Answer;
use crate::embedding::embedding_for;
use crate::request::Request;
use crate::shared::{lock, Route, Shared};

/// A request to a provider.
pub(crate) struct Call<'a> {
    pub(crate) state: &'a State,
    /// All routes, for the requests that a limiter accepts.
    pub(crate) routes: &'a dyn Route,
    pub(crate) shared: &'a Shared,
    pub(crate) request: &'a Request<'a>,
    /// The decoded parts of the path below the prefix.
    pub(crate) parts: &'a [&'a str],
}

impl Call<'_> {
    /// A header as text; None if it is missing or not UTF-8.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.request.header(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The text after `Bearer ` in the header `Authorization`.
    pub(crate) fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// Whether this is the expected key; true for any key if none is expected.
    pub(crate) fn is_key(&self, given: &str) -> bool {
        let expected = lock(&self.shared.expected_key);
        !given.is_empty() && (expected.is_empty() || given == expected.as_str())
    }

    /// The first value of a parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        form(self.request.query).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// Decodes percent-encoding; malformed sequences stay. In forms a plus sign is a space.
pub(crate) fn decode(text: &str, form: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let encoded = match (first, tail.get(..2)) {
            (b'%', Some(digits)) if digits.iter().all(u8::is_ascii_hexdigit) => {
                std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok())
            }
            _ => None,
        };
        match encoded {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(if form && *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The names and values of a form or a query.
pub(crate) fn form(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        })
        .collect()
}

/// The rerankers' score of a text, from 0 to 1: mostly the share of the query's words in it.
///
/// Texts with the same words of the query get slightly different scores.
pub fn relevance_for(query: &str, text: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
    };
    let (wanted, found) = (words(query), words(text));
    let shared = wanted.iter().filter(|word| found.contains(word)).count();
    let share = shared as f64 / wanted.len().max(1) as f64;
    // The first number of a vector distinguishes texts, and is the same on every machine.
    let detail = embedding_for(text, 2).first().copied().map_or(0.0, f64::from);
    0.05 + 0.85 * share + 0.04 * detail
}

/// The texts' positions and scores, best first.
pub(crate) fn ranking(query: &str, texts: &[String]) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> =
        texts.iter().enumerate().map(|(index, text)| (index, relevance_for(query, text))).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

/// The local models' answer to a text.
pub(crate) fn reply_to(said: &str) -> String {
    format!("You said: {said}")
}

/// The two halves of a text, for an answer in pieces.
pub(crate) fn halves(text: &str) -> (&str, &str) {
    let mut middle = text.len() / 2;
    while !text.is_char_boundary(middle) {
        middle += 1;
    }
    text.split_at(middle)
}

/// The N of a model `test-N`, within the bounds that tests need.
pub(crate) fn test_width(model: &str) -> Option<usize> {
    model.strip_prefix("test-")?.parse().ok().filter(|width| (1..=65_536).contains(width))
}

/// The vector of a text as JSON.
pub(crate) fn vector(text: &str, width: usize) -> Value {
    Value::from(embedding_for(text, width))
}

/// The result of a route, successful or not.
pub(crate) fn either(answer: Result<Answer, Answer>) -> Answer {
    match answer {
        Ok(answer) | Err(answer) => answer,
    }
}
