//! The providers' own interfaces, each under a prefix that stands for its host.
//!
//! They are strict where the default routes are lenient: a wrong header or shape, a missing or an unknown member is
//! refused with the status and the body that the real service sends.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;

use crate::answer::Answer;
use crate::embedding::embedding_for;
use crate::reply::Reply;
use crate::request::Request;
use crate::shared::{lock, Route, Shared};

mod anthropic;
mod bedrock;
mod cohere;
mod google;
pub(crate) mod google_identity;
mod hugging_face;
mod limits;
mod mistral;
mod nvidia;
mod ollama;
mod openai;
mod secret_manager;
mod strict;
#[cfg(test)]
mod tests;
mod voyage;

/// What the providers remember between requests.
#[derive(Default)]
pub(crate) struct State {
    tokens: Mutex<google_identity::Tokens>,
    secrets: Mutex<HashMap<String, Vec<u8>>>,
    limits: Mutex<limits::Limits>,
}

impl State {
    pub(crate) fn tokens(&self) -> MutexGuard<'_, google_identity::Tokens> {
        lock(&self.tokens)
    }

    pub(crate) fn secrets(&self) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
        lock(&self.secrets)
    }

    pub(crate) fn limits(&self) -> MutexGuard<'_, limits::Limits> {
        lock(&self.limits)
    }
}

/// A request to a provider.
struct Call<'a> {
    state: &'a State,
    /// All routes: where a limiter sends what it lets through.
    routes: &'a dyn Route,
    shared: &'a Shared,
    request: &'a Request<'a>,
    /// The decoded parts of the path below the prefix.
    parts: &'a [&'a str],
}

impl Call<'_> {
    /// A header as text; None also when it is not UTF-8.
    fn header(&self, name: &str) -> Option<&str> {
        self.request.header(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// What follows `Bearer ` in the header `Authorization`.
    fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// Whether this is the expected key, or any where none is expected.
    fn is_key(&self, given: &str) -> bool {
        let expected = lock(&self.shared.expected_key);
        !given.is_empty() && (expected.is_empty() || given == expected.as_str())
    }

    /// The first value of a parameter of the query.
    fn parameter(&self, name: &str) -> Option<String> {
        form(self.request.query).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// Answers a request below a provider's prefix; None when the path has no such prefix.
pub(crate) fn route(
    state: &State,
    routes: &dyn Route,
    shared: &Shared,
    request: &Request<'_>,
    path: &str,
) -> io::Result<Option<Reply>> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    let decoded: Vec<String> = rest.split('/').map(|part| decode(part, false)).collect();
    let whole: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let whole = whole.as_slice();
    let Some((family, parts)) = whole.split_first() else {
        return Ok(None);
    };
    let call = Call { state, routes, shared, request, parts };
    // What comes after a limiter is another route's path, which is to be decoded there.
    let (_, raw) = rest.split_once('/').unwrap_or((rest, ""));
    let answer = match *family {
        // A local Ollama has its own interface beside that of OpenAI.
        "api" => ollama::route(&Call { parts: whole, ..call }),
        "anthropic" => anthropic::route(&call),
        "azure" => openai::azure(&call),
        "bedrock" => bedrock::route(&call),
        "cohere" => cohere::route(&call),
        "computeMetadata" => google_identity::metadata(&call),
        "concurrent" => return limits::concurrent(&call, raw),
        "discovery" => google::discovery(&call),
        "gemini" => google::gemini(&call),
        "google-oauth" => google_identity::oauth(&call),
        "google-sts" => google_identity::sts(&call),
        "huggingface" => hugging_face::route(&call),
        "iamcredentials" => google_identity::iam_credentials(&call),
        "limited" => return limits::limited(&call, raw).map(Some),
        "mistral" => mistral::route(&call),
        "nim" => nvidia::route(&call),
        "ollama" => ollama::route(&call),
        "openai" => openai::route(&call),
        "pause-once" => return limits::pause_once(&call, raw),
        "secretmanager" => secret_manager::route(&call),
        "spend-limit" => limits::spend_limit(),
        "tei" => hugging_face::tei(&call),
        "vertex" => google::vertex(&call),
        "voyage" => voyage::route(&call),
        _ => return Ok(None),
    };
    Ok(Some(answer.into()))
}

/// Undoes percent-encoding; what is malformed stays as it is. In forms a plus sign is a space.
fn decode(text: &str, form: bool) -> String {
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
fn form(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        })
        .collect()
}

/// What the rerankers answer for a text, between 0 and 1: mostly how many of the query's words it has.
///
/// Different texts with the same words of the query get slightly different numbers.
pub fn relevance_for(query: &str, text: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
    };
    let (wanted, found) = (words(query), words(text));
    let shared = wanted.iter().filter(|word| found.contains(word)).count();
    let share = shared as f64 / wanted.len().max(1) as f64;
    // The first number of a vector tells texts apart, and is the same on every machine.
    let detail = embedding_for(text, 2).first().copied().map_or(0.0, f64::from);
    0.05 + 0.85 * share + 0.04 * detail
}

/// The texts' places and scores, best first.
fn ranking(query: &str, texts: &[String]) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> =
        texts.iter().enumerate().map(|(index, text)| (index, relevance_for(query, text))).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

/// What the local models say to a text.
fn reply_to(said: &str) -> String {
    format!("You said: {said}")
}

/// The first half of a text and the rest, where an answer comes in pieces.
fn halves(text: &str) -> (&str, &str) {
    let mut middle = text.len() / 2;
    while !text.is_char_boundary(middle) {
        middle += 1;
    }
    text.split_at(middle)
}

/// The N of the models `test-N`, up to what a test may want.
fn test_width(model: &str) -> Option<usize> {
    model.strip_prefix("test-")?.parse().ok().filter(|width| (1..=65_536).contains(width))
}

/// The vector of a text as JSON.
fn vector(text: &str, width: usize) -> Value {
    Value::from(embedding_for(text, width))
}

/// The result of a route, whichever it is.
fn either(answer: Result<Answer, Answer>) -> Answer {
    match answer {
        Ok(answer) | Err(answer) => answer,
    }
}
