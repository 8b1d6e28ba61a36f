//! Recognises texts that look like keys, so that they are not stored where every caller of a model can read them.
//!
//! A guess by parameter names and the providers' key prefixes. Findings never contain the text itself.

use std::borrow::Cow;

use serde_json::{Map, Value};
use url::Url;

use mysql_ml_base::error::cut;

/// Names of parameters and headers that carry keys.
const KEY_NAMES: [&str; 20] = [
    "key",
    "apikey",
    "api_key",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "access_token",
    "accesstoken",
    "token",
    "auth",
    "authorization",
    "proxy-authorization",
    "secret",
    "client_secret",
    "password",
    "passwd",
    "sig",
    "signature",
    "cookie",
    "credentials",
];

/// Known keys: prefix, least length in bytes, description.
const PREFIXES: [(&str, usize, &str); 17] = [
    ("sk-ant-", 20, "an Anthropic key"),
    ("sk-", 20, "an OpenAI key"),
    ("AIza", 30, "a Google API key"),
    ("ya29.", 20, "a Google access token"),
    ("hf_", 20, "a Hugging Face token"),
    ("nvapi-", 20, "an NVIDIA key"),
    ("pa-", 30, "a Voyage key"),
    ("gsk_", 20, "a Groq key"),
    ("AKIA", 16, "an AWS key id"),
    ("ABSK", 30, "a Bedrock key"),
    ("xai-", 20, "an xAI key"),
    ("ghp_", 20, "a GitHub token"),
    ("r8_", 20, "a Replicate token"),
    ("Bearer ", 15, "a bearer token"),
    ("Basic ", 12, "a password"),
    ("eyJ", 40, "a signed token"),
    ("-----BEGIN", 20, "a private key"),
];

/// The kind of key that a query parameter seems to hold.
pub fn in_parameter(name: &str, value: &str) -> Option<&'static str> {
    if is_key_name(name) {
        return Some("a key");
    }
    in_text(value)
}

/// The kind of key that a header seems to hold.
pub fn in_header(name: &str, value: &str) -> Option<&'static str> {
    in_parameter(name, value)
}

fn is_key_name(name: &str) -> bool {
    KEY_NAMES.iter().any(|key| name.eq_ignore_ascii_case(key))
        || ["-key", "_key", "-token", "_token", "-secret", "_secret", "-signature"]
            .iter()
            .any(|end| name.to_ascii_lowercase().ends_with(end))
}

/// The kind of key that a URL or another text seems to hold.
pub fn in_url_or_text(text: &str) -> Option<&'static str> {
    let of_url = Url::parse(text).ok().and_then(|url| {
        if url.password().is_some() {
            return Some("a password");
        }
        url.query_pairs().find_map(|(name, value)| in_parameter(&name, &value))
    });
    of_url.or_else(|| in_text(text))
}

/// Findings in a model's options: option, name inside it, kind of key.
pub fn in_options(options: &Map<String, Value>) -> Vec<(String, String, &'static str)> {
    let mut found = Vec::new();
    for (option, value) in options {
        match value {
            Value::String(text) => {
                if let Some(what) = in_url_or_text(text) {
                    found.push((option.clone(), String::new(), what));
                }
            }
            Value::Object(inner) => {
                for (name, value) in inner {
                    let text = value.as_str().unwrap_or_default();
                    if let Some(what) = in_parameter(name, text) {
                        found.push((option.clone(), name.clone(), what));
                    }
                }
            }
            Value::Array(items) => {
                let members = items.iter().filter_map(Value::as_object).flatten();
                for (name, text) in members.filter_map(|(name, value)| Some((name, value.as_str()?))) {
                    if let Some(what) = in_url_or_text(text) {
                        found.push((option.clone(), name.clone(), what));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// The kind of key in a request template: a member with a key's name and a constant text, or a text that looks like a
/// key.
pub fn in_template(template: &Value) -> Option<&'static str> {
    match template {
        Value::String(text) => in_text(text),
        // The depth is bounded: serde_json refuses documents nested deeper than 128.
        Value::Array(items) => items.iter().find_map(in_template),
        Value::Object(map) => map.iter().find_map(|(name, value)| match value {
            Value::String(text) if is_literal(text) && is_clear_key_name(name) => Some("a key"),
            value => in_template(value),
        }),
        _ => None,
    }
}

/// Whether a template's text goes into the request unchanged.
fn is_literal(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains("{{")
}

/// Whether a member's name almost certainly means a key. `key` and `token` have other meanings in request bodies.
fn is_clear_key_name(name: &str) -> bool {
    is_key_name(name)
        && !["key", "token", "auth", "sig", "signature", "credentials"].iter().any(|n| name.eq_ignore_ascii_case(n))
}

/// A text for an error message: at most `max` bytes, and replaced if it looks like a key.
pub fn display(text: &str, max: usize) -> Cow<'_, str> {
    match in_text(text) {
        Some(what) => Cow::Owned(format!("({what}, not repeated)")),
        None => cut(text, max),
    }
}

/// The kind of key anywhere in a text: a known prefix at the beginning of a word.
pub fn in_text(text: &str) -> Option<&'static str> {
    PREFIXES.iter().find_map(|(prefix, length, what)| {
        let found = text.match_indices(prefix).any(|(at, _)| {
            let at_start = text.get(..at).is_some_and(|before| {
                before.chars().next_back().is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
            });
            let rest = text.get(at + prefix.len()..).unwrap_or_default();
            let run = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"-_.+=".contains(b)).count();
            let random = rest.bytes().take(run).any(|b| b.is_ascii_digit() || b.is_ascii_uppercase()) || run >= 24;
            at_start && prefix.len() + run >= *length && random
        });
        found.then_some(*what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_recognised_by_name_and_by_prefix() {
        assert_eq!(in_parameter("Key", "x"), Some("a key"));
        assert_eq!(in_header("ocp-apim-subscription-key", "x"), Some("a key"));
        assert_eq!(in_text("https://h/v1?x=sk-proj-abc123def456ghi789"), Some("an OpenAI key"));
        assert_eq!(in_text("SELECT JSON_OBJECT('x-api-key', 'sk-ant-api03-AbCdEf123456')"), Some("an Anthropic key"));
        assert_eq!(in_text("https://h/hf_AbCdEfGhIjKlMnOpQrStUv/embed"), Some("a Hugging Face token"));
    }

    #[test]
    fn templates_are_walked() {
        let found = |text: &str| in_template(&serde_json::from_str(text).unwrap());
        assert_eq!(found(r#"{"input":"{{input}}","auth":{"api_key":"abc"}}"#), Some("a key"));
        assert_eq!(found(r#"[{"x":["{{input}}","hf_AbCdEfGhIjKlMnOpQrStUv"]}]"#), Some("a Hugging Face token"));
        for fine in [
            r#"{"input":"{{input}}","key":"doc","token":"cls","return_token":true,"api_key":""}"#,
            r#"{"password":"{{input}}"}"#,
        ] {
            assert_eq!(found(fine), None, "{fine}");
        }
    }

    #[test]
    fn a_key_is_not_displayed() {
        assert_eq!(display("openai", 10), "openai");
        assert_eq!(display("sk-proj-abc123def456ghi789", 100), "(an OpenAI key, not repeated)");
    }

    #[test]
    fn ordinary_texts_are_none() {
        for text in [
            "https://api.openai.com/v1/embeddings",
            "https://h/models/task-sk-learn-text-embedding-model",
            "projects/p/locations/us-central1/publishers/google/models/gemini-embedding-001",
            "2024-10-21",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/sk-analytics-prod/locations/us-central1/publishers",
            "https://h/v1/projects/pa-data-platform/locations/europe-west1/publishers/google/models/x",
            "sk-short",
        ] {
            assert_eq!(in_text(text), None, "{text}");
        }
        for name in ["api-version", "alt", "model", "keyword", "X-Team", "anthropic-version"] {
            assert_eq!(in_parameter(name, "v1"), None, "{name}");
        }
    }
}
