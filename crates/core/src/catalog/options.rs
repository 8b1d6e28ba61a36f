//! Model options: the JSON object that `ml_set_model_options` patches.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use ureq::http::{HeaderName, HeaderValue};

use crate::http::leaked_key;
use crate::json::check_document;
use mysql_ml_base::error::{cut, Error, Result};
use mysql_ml_base::vector::MAX_DIMENSIONS;

/// The checked options of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelOptions {
    /// Time limit of a call in ms, all tries together.
    pub timeout_ms: Option<u64>,
    /// How often a failed request is sent again.
    pub max_retries: Option<u64>,
    /// The width of the vectors: requested from providers that can shorten, checked for all.
    pub dimensions: Option<u64>,
    /// The purpose of a vector, in Google's terms (`RETRIEVAL_DOCUMENT`).
    pub task_type: Option<String>,
    /// The title of the texts, for Google's task type `RETRIEVAL_DOCUMENT`.
    pub title: Option<String>,
    /// The purpose of a vector, in the terms of Cohere, Voyage and NVIDIA (`search_document`).
    pub input_type: Option<String>,
    /// The same for `ml_query_embedding`; for Google a task type.
    pub query_input_type: Option<String>,
    /// Whether vectors are scaled to length 1 here, whatever the provider does.
    pub normalize: Option<bool>,
    /// Whether a too long text may be truncated; otherwise it is an error.
    pub truncate: Option<bool>,
    /// The requested encoding of vectors.
    pub encoding_format: Option<EncodingFormat>,
    /// Headers to send besides the provider's own.
    pub headers: BTreeMap<String, String>,
    /// Parameters to add to the URL's query.
    pub query_parameters: BTreeMap<String, String>,
    /// A PEM file of certificate authorities to trust besides the system's; over the setting of that name.
    pub ca_file: Option<String>,
    /// The URL of a proxy, or `none`; over the setting of that name.
    pub proxy: Option<String>,
    /// The version of the provider's API.
    pub api_version: Option<String>,
    /// The cloud's location (region).
    pub location: Option<String>,
    /// The cloud project.
    pub project: Option<String>,
    /// The most requests of this server to the model within any minute.
    pub requests_per_minute: Option<u64>,
    /// The most tokens, as estimated before sending, of this server to the model within any minute.
    pub tokens_per_minute: Option<u64>,
    /// The most concurrent requests of this server to the model.
    pub max_in_flight: Option<u64>,
    /// Texts in one request of a bulk call.
    pub batch_size: Option<u64>,
    /// The most concurrent requests of one bulk call.
    pub concurrency: Option<u64>,
    /// Handling of a text that fails in a bulk call.
    pub on_error: Option<OnError>,
}

/// Handling of a text that fails in `ml_embedding_batch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The statement fails with the text's number.
    Fail,
    /// An object with the error replaces the vector.
    Inline,
}

/// The requested encoding of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodingFormat {
    /// Base64 from hosts known to support it, else the service's default.
    Auto,
    /// JSON numbers.
    Float,
    /// Base64 of little-endian 32-bit floats.
    Base64,
}

/// An option: name, description of accepted values, reader. `read` returns `None` for a value that is not accepted.
struct Spec {
    name: &'static str,
    takes: &'static str,
    read: fn(&mut ModelOptions, &Value) -> Option<()>,
}

/// Options that every provider understands or that concern the call only.
const COMMON: [&str; 14] = [
    "timeout_ms",
    "max_retries",
    "dimensions",
    "normalize",
    "headers",
    "query_parameters",
    "ca_file",
    "proxy",
    "requests_per_minute",
    "tokens_per_minute",
    "max_in_flight",
    "batch_size",
    "concurrency",
    "on_error",
];

const SPECS: [Spec; 23] = [
    spec("timeout_ms", "a whole number from 1 to 3600000", |o, v| number(v, 1, 3_600_000, &mut o.timeout_ms)),
    spec("max_retries", "a whole number from 0 to 10", |o, v| number(v, 0, 10, &mut o.max_retries)),
    spec("dimensions", "a whole number from 1 to 16383", |o, v| number(v, 1, MAX_DIMENSIONS as u64, &mut o.dimensions)),
    spec("task_type", "a text such as RETRIEVAL_DOCUMENT", |o, v| word(v, &mut o.task_type)),
    spec("title", "a text of at most 1000 bytes", |o, v| text(v, 1000, &mut o.title)),
    spec("input_type", "a text such as search_document", |o, v| word(v, &mut o.input_type)),
    spec("query_input_type", "a text such as search_query", |o, v| word(v, &mut o.query_input_type)),
    spec("normalize", "true or false", |o, v| flag(v, &mut o.normalize)),
    spec("truncate", "true or false", |o, v| flag(v, &mut o.truncate)),
    spec("encoding_format", "'auto', 'float' or 'base64'", |o, v| {
        o.encoding_format = Some(match v.as_str()? {
            "auto" => EncodingFormat::Auto,
            "float" => EncodingFormat::Float,
            "base64" => EncodingFormat::Base64,
            _ => return None,
        });
        Some(())
    }),
    spec(
        "headers",
        "an object of at most 20 header names with text values; never a key, which belongs into a secret",
        |o, v| texts(v, &mut o.headers, header_is_allowed),
    ),
    spec(
        "query_parameters",
        "an object of at most 20 parameter names with text values; never a key, which belongs into a secret",
        |o, v| texts(v, &mut o.query_parameters, parameter_is_allowed),
    ),
    spec("ca_file", "the absolute path of a PEM file", |o, v| {
        text(v, 1000, &mut o.ca_file)?;
        o.ca_file.as_ref().is_some_and(|path| path.starts_with('/')).then_some(())
    }),
    spec("proxy", "the URL of an HTTP proxy, or 'none'", |o, v| {
        text(v, 1000, &mut o.proxy)?;
        let value = o.proxy.as_deref().filter(|value| !value.is_empty())?;
        crate::http::proxy::check_setting(value).is_ok().then_some(())
    }),
    spec("api_version", "a text such as 2024-10-21", |o, v| word(v, &mut o.api_version)),
    spec("location", "a text such as us-central1", |o, v| word(v, &mut o.location)),
    spec("project", "the id of a cloud project", |o, v| word(v, &mut o.project)),
    spec("requests_per_minute", "a whole number from 1 to 1000000000", |o, v| {
        number(v, 1, 1_000_000_000, &mut o.requests_per_minute)
    }),
    spec("tokens_per_minute", "a whole number from 1 to 1000000000000", |o, v| {
        number(v, 1, 1_000_000_000_000, &mut o.tokens_per_minute)
    }),
    spec("max_in_flight", "a whole number from 1 to 10000", |o, v| number(v, 1, 10_000, &mut o.max_in_flight)),
    spec("batch_size", "a whole number from 1 to 10000", |o, v| number(v, 1, 10_000, &mut o.batch_size)),
    spec("concurrency", "a whole number from 1 to 64", |o, v| number(v, 1, 64, &mut o.concurrency)),
    spec("on_error", "'fail' or 'inline'", |o, v| {
        o.on_error = Some(match v.as_str()? {
            "fail" => OnError::Fail,
            "inline" => OnError::Inline,
            _ => return None,
        });
        Some(())
    }),
];

const fn spec(name: &'static str, takes: &'static str, read: fn(&mut ModelOptions, &Value) -> Option<()>) -> Spec {
    Spec { name, takes, read }
}

fn number(value: &Value, min: u64, max: u64, place: &mut Option<u64>) -> Option<()> {
    *place = Some(value.as_u64().filter(|n| (min..=max).contains(n))?);
    Some(())
}

fn flag(value: &Value, place: &mut Option<bool>) -> Option<()> {
    *place = Some(value.as_bool()?);
    Some(())
}

fn text(value: &Value, max: usize, place: &mut Option<String>) -> Option<()> {
    let text = value.as_str().filter(|t| !t.is_empty() && t.len() <= max && !t.chars().any(char::is_control))?;
    *place = Some(text.to_owned());
    Some(())
}

/// A name without characters that have a meaning in a URL.
fn word(value: &Value, place: &mut Option<String>) -> Option<()> {
    text(value, 100, place)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    place.as_ref().is_some_and(|t| t.chars().all(plain)).then_some(())
}

fn texts(value: &Value, place: &mut BTreeMap<String, String>, allowed: fn(&str, &str) -> bool) -> Option<()> {
    let map = value.as_object().filter(|map| map.len() <= 20)?;
    *place = map
        .iter()
        .map(|(name, value)| {
            let value = value.as_str().filter(|v| v.len() <= 1000)?;
            allowed(name, value).then(|| (name.clone(), value.to_owned()))
        })
        .collect::<Option<_>>()?;
    Some(())
}

/// Options must not set the library's own headers or carry keys: every caller may read options.
fn header_is_allowed(name: &str, value: &str) -> bool {
    const RESERVED: [&str; 11] = [
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "expect",
        "te",
        "upgrade",
        // Some services read these as another method than POST.
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ];
    let name = name.to_ascii_lowercase();
    HeaderName::from_bytes(name.as_bytes()).is_ok()
        && HeaderValue::from_str(value).is_ok()
        && !RESERVED.contains(&name.as_str())
        && leaked_key::in_header(&name, value).is_none()
}

fn parameter_is_allowed(name: &str, value: &str) -> bool {
    !name.is_empty() && name.len() <= 100 && leaked_key::in_parameter(name, value).is_none()
}

impl ModelOptions {
    /// Reads a stored object.
    pub fn from_json(text: Option<&str>) -> Result<Self> {
        match text {
            None => Ok(Self::default()),
            Some(text) => Self::from_map(&parse_object(text)?),
        }
    }

    /// Reads an object; unknown and wrongly typed options are errors.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self> {
        let mut options = Self::default();
        for (name, value) in map {
            let spec = SPECS.iter().find(|s| s.name == name).ok_or_else(|| {
                Error::invalid(format!(
                    "option '{}' is not known; accepted: {}",
                    cut(name, 60),
                    SPECS.iter().map(|s| s.name).collect::<Vec<_>>().join(", ")
                ))
            })?;
            // The value is not repeated: it may be a key.
            (spec.read)(&mut options, value).ok_or_else(|| {
                let what = match (spec.name, value.as_object()) {
                    ("headers", Some(map)) => refused_entry(map, header_is_allowed),
                    ("query_parameters", Some(map)) => refused_entry(map, parameter_is_allowed),
                    _ => described(value),
                };
                Error::invalid(format!(
                    "option {} has a value that is not accepted ({what}); it takes {}",
                    spec.name, spec.takes
                ))
            })?;
        }
        Ok(options)
    }

    /// The names of set options that only some providers understand.
    pub fn special(&self) -> impl Iterator<Item = &'static str> + '_ {
        let set = |name: &str| match name {
            "task_type" => self.task_type.is_some(),
            "title" => self.title.is_some(),
            "input_type" => self.input_type.is_some(),
            "query_input_type" => self.query_input_type.is_some(),
            "truncate" => self.truncate.is_some(),
            "encoding_format" => self.encoding_format.is_some(),
            "api_version" => self.api_version.is_some(),
            "location" => self.location.is_some(),
            "project" => self.project.is_some(),
            _ => false,
        };
        SPECS.iter().map(|s| s.name).filter(move |name| !COMMON.contains(name) && set(name))
    }
}

/// The name of the first entry that is not accepted.
fn refused_entry(map: &Map<String, Value>, allowed: fn(&str, &str) -> bool) -> String {
    let refused = map.iter().find(|(name, value)| !value.as_str().is_some_and(|value| allowed(name, value)));
    refused.map_or_else(|| "too many entries".into(), |(name, _)| format!("the entry {}", cut(name, 60)))
}

/// A number or flag itself, of other values their type.
fn described(value: &Value) -> String {
    match value {
        Value::Number(n) => cut(&n.to_string(), 40).into_owned(),
        Value::Bool(b) => b.to_string(),
        Value::String(_) => "a text".into(),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
        Value::Null => "null".into(),
    }
}

/// Applies `patch` (RFC 7396: null removes a key) to the stored object; the result must pass `check` and is `None`
/// where nothing is left.
pub fn merge(
    stored: Option<&str>,
    patch: &str,
    check: impl FnOnce(&Map<String, Value>) -> Result<()>,
) -> Result<Option<String>> {
    let stored = match stored {
        None => Map::new(),
        Some(text) => parse_object(text)?,
    };
    let map = merge_objects(stored, parse_object(patch)?);
    check(&map)?;
    Ok((!map.is_empty()).then(|| Value::Object(map).to_string()))
}

/// The depth is bounded: serde_json refuses documents nested deeper than 128.
fn merge_objects(mut into: Map<String, Value>, patch: Map<String, Value>) -> Map<String, Value> {
    for (name, value) in patch {
        match value {
            Value::Null => {
                into.remove(&name);
            }
            Value::Object(patch) => {
                let old = match into.remove(&name) {
                    Some(Value::Object(old)) => old,
                    _ => Map::new(),
                };
                into.insert(name, Value::Object(merge_objects(old, patch)));
            }
            value => {
                into.insert(name, value);
            }
        }
    }
    into
}

/// Reads a JSON object.
pub fn parse_object(text: &str) -> Result<Map<String, Value>> {
    check_document("options", text)?;
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::invalid("options must be a JSON object, e.g. '{\"timeout_ms\": 5000}'")),
        Err(e) => Err(Error::invalid(format!("options are not valid JSON: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(stored: Option<&str>, patch: &str) -> Result<Option<String>> {
        super::merge(stored, patch, |map| ModelOptions::from_map(map).map(|_| ()))
    }

    #[test]
    fn a_patch_sets_keeps_and_removes() {
        let merged = merge(Some(r#"{"timeout_ms":5,"dimensions":8}"#), r#"{"timeout_ms":null,"max_retries":1}"#);
        assert_eq!(merged.unwrap().unwrap(), r#"{"dimensions":8,"max_retries":1}"#);
        assert_eq!(merge(Some(r#"{"dimensions":8}"#), r#"{"dimensions":null}"#).unwrap(), None);
        let headers = merge(Some(r#"{"headers":{"a":"1","b":"2"}}"#), r#"{"headers":{"a":null,"c":"3"}}"#);
        assert_eq!(headers.unwrap().unwrap(), r#"{"headers":{"b":"2","c":"3"}}"#);
    }

    #[test]
    fn unknown_and_wrongly_typed_options_are_refused() {
        for patch in [
            r#"{"timeout":1}"#,
            r#"{"timeout_ms":"1"}"#,
            r#"{"timeout_ms":0}"#,
            r#"{"dimensions":16384}"#,
            r#"{"normalize":1}"#,
            r#"{"location":"us/../x"}"#,
            r#"{"headers":{"a b":"x"}}"#,
            r#"{"headers":{"Content-Type":"text/plain"}}"#,
            r#"{"headers":{"x-api-key":"abc"}}"#,
            r#"{"headers":{"x-team":"sk-proj-abcdefghijklmnopqrstuvwxyz"}}"#,
            r#"{"query_parameters":{"key":"abc"}}"#,
            r#"{"ca_file":"relative.pem"}"#,
            r#"{"proxy":"socks5://h:1"}"#,
            r#"{"encoding_format":"int8"}"#,
            r#"{"requests_per_minute":0}"#,
            "[]",
            "{",
        ] {
            let error = merge(None, patch).unwrap_err();
            assert!(!error.message().contains("abc"), "{error}");
        }
    }

    #[test]
    fn every_option_is_read() {
        let all = r#"{"timeout_ms":1,"max_retries":0,"dimensions":8,"task_type":"CLUSTERING","title":"t","input_type":"d",
            "query_input_type":"q","normalize":true,"truncate":false,"encoding_format":"base64","headers":{"X-Team":"a"},"query_parameters":{"p":"v"},
            "ca_file":"/ca.pem","proxy":"none","api_version":"2024-10-21","location":"eu","project":"p-1",
            "requests_per_minute":1,"tokens_per_minute":1,"max_in_flight":1,"batch_size":1,"concurrency":1,"on_error":"inline"}"#;
        let options = ModelOptions::from_json(Some(all)).unwrap();
        assert_eq!(options.headers.get("X-Team").map(String::as_str), Some("a"));
        let special: Vec<_> = options.special().collect();
        let wanted = [
            "task_type",
            "title",
            "input_type",
            "query_input_type",
            "truncate",
            "encoding_format",
            "api_version",
            "location",
            "project",
        ];
        assert_eq!(special, wanted);
        assert_eq!(SPECS.len(), COMMON.len() + wanted.len());
    }
}
