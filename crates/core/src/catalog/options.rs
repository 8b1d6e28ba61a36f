//! Model options: the JSON object that `ml_set_model_options` patches.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use ureq::http::{HeaderName, HeaderValue};

use super::endpoints::{self, EndpointOption, HedgeAfter};
use super::members::{self, Members};
use crate::http::leaked_key;
use crate::json::check_document;
use mysql_ml_base::error::{cut, Error, Result};

/// Declares the options, one row each: field, type, providers that accept it (`every` or `some`), and reader of its
/// value. The reader has the words for errors.
macro_rules! options {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $who:ident, $how:ident $arguments:tt;)+) => {
        /// The checked options of one model.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct ModelOptions {
            $($(#[$doc])* pub $field: $type,)+
        }

        /// All options, in the order of error messages.
        const OPTIONS: &[ModelOption] = &[$(ModelOption {
            name: stringify!($field),
            special: options!(@special $who),
            takes: options!(@takes $how $arguments),
            read: |options, value| {
                let read: fn(&Value, &mut $type) -> Option<()> = options!(@read $how $arguments);
                read(value, &mut options.$field)
            },
            is_set: |options| options.$field != <$type>::default(),
        }),+];
    };
    (@special every) => { false };
    (@special some) => { true };
    (@takes number($min:literal, $max:literal)) => { concat!("a whole number from ", $min, " to ", $max) };
    (@takes flag()) => { "true or false" };
    (@takes $how:ident($takes:literal $($rest:tt)*)) => { $takes };
    (@takes $how:ident($takes:expr, $($rest:tt)*)) => { $takes };
    (@read number($min:literal, $max:literal)) => { |value, place| number(value, $min, $max, place) };
    (@read flag()) => { flag };
    (@read word($takes:literal)) => { word };
    (@read read($takes:expr, $read:expr)) => { $read };
}

/// An option, as [`options!`] declares it.
struct ModelOption {
    name: &'static str,
    /// Whether not every provider understands it.
    special: bool,
    /// The values that it takes, for errors.
    takes: &'static str,
    /// Reads a value; `None` where it is not taken.
    read: fn(&mut ModelOptions, &Value) -> Option<()>,
    is_set: fn(&ModelOptions) -> bool,
}

options! {
    /// Time limit of a call in ms, all tries together.
    timeout_ms: Option<u64> = every, number(1, 3_600_000);
    /// How often a failed request is sent again.
    max_retries: Option<u64> = every, number(0, 10);
    /// The width of the vectors: requested from providers that can shorten, checked for all.
    dimensions: Option<u64> = every, number(1, 16_383);
    /// The purpose of a vector, in Google's terms (`RETRIEVAL_DOCUMENT`).
    task_type: Option<String> = some, word("a text such as RETRIEVAL_DOCUMENT");
    /// The title of the texts, for Google's task type `RETRIEVAL_DOCUMENT`.
    title: Option<String> = some, read("a text of at most 1000 bytes", |v, o| text(v, 1000, o));
    /// The purpose of a vector, in the terms of Cohere, Voyage and NVIDIA (`search_document`).
    input_type: Option<String> = some, word("a text such as search_document");
    /// The same for `ml_query_embedding`; for Google a task type.
    query_input_type: Option<String> = some, word("a text such as search_query");
    /// Whether vectors are scaled to length 1 here, whatever the provider does.
    normalize: Option<bool> = every, flag();
    /// Whether a too long text may be truncated; otherwise it is an error.
    truncate: Option<bool> = some, flag();
    /// The requested encoding of vectors.
    encoding_format: Option<EncodingFormat> = some, read("'auto', 'float' or 'base64'", |v, o| {
        use EncodingFormat::{Auto, Base64, Float};
        one_of(v, o, &[("auto", Auto), ("float", Float), ("base64", Base64)])
    });
    /// Headers to send besides the provider's own.
    headers: BTreeMap<String, String> = every, read(
        "an object of at most 20 header names with text values; never a key, which belongs into a secret",
        |v, o| texts(v, o, header_is_allowed)
    );
    /// Parameters to add to the URL's query.
    query_parameters: BTreeMap<String, String> = every, read(
        "an object of at most 20 parameter names with text values; never a key, which belongs into a secret",
        |v, o| texts(v, o, parameter_is_allowed)
    );
    /// A PEM file of certificate authorities to trust besides the system's; over the setting of that name.
    ca_file: Option<String> = every, read("the absolute path of a PEM file", |v, o| {
        text(v, 1000, o)?;
        o.as_ref().is_some_and(|path| path.starts_with('/')).then_some(())
    });
    /// The URL of a proxy, or `none`; over the setting of that name.
    proxy: Option<String> = every, read("the URL of an HTTP proxy, or 'none'", |v, o| {
        text(v, 1000, o)?;
        let value = o.as_deref().filter(|value| !value.is_empty())?;
        crate::http::proxy::check_setting(value).is_ok().then_some(())
    });
    /// The version of the provider's API.
    api_version: Option<String> = some, word("a text such as 2024-10-21");
    /// The cloud's location (region).
    location: Option<String> = some, word("a text such as us-central1");
    /// The cloud project.
    project: Option<String> = some, word("the id of a cloud project");
    /// The most requests of this server to the model within any minute.
    requests_per_minute: Option<u64> = every, number(1, 1_000_000_000);
    /// The most tokens, as estimated before sending, of this server to the model within any minute.
    tokens_per_minute: Option<u64> = every, number(1, 1_000_000_000_000);
    /// The most concurrent requests of this server to the model.
    max_in_flight: Option<u64> = every, number(1, 10_000);
    /// Texts in one request of a bulk call.
    batch_size: Option<u64> = every, number(1, 10_000);
    /// The most concurrent requests of one bulk call.
    concurrency: Option<u64> = every, number(1, 64);
    /// Handling of a text that fails in a bulk call.
    on_error: Option<OnError> = every, read("'error', 'null' or 'detail'", |v, o| {
        *o = Some(OnError::parse(v.as_str()?)?);
        Some(())
    });
    /// The endpoints among which requests are divided; empty: that of the registration.
    endpoints: Vec<EndpointOption> = every, read(endpoints::TAKES, endpoints::read);
    /// The model that answers if this one cannot.
    fallback: Option<String> = every, read("the id of another model", endpoints::read_fallback);
    /// Time limit of one try in ms, after which another endpoint is tried.
    try_timeout_ms: Option<u64> = every, number(1, 3_600_000);
    /// When a call without an answer is sent to another endpoint too.
    hedge_after_ms: Option<HedgeAfter> = every, read(
        "a whole number of ms from 1 to 600000, or a percentile of the latencies from 'p50' to 'p99'",
        endpoints::read_hedge
    );
    /// Whether the caches keep answers of AI functions; only those with temperature 0.
    cache_answers: Option<bool> = every, flag();
    /// How a JSON answer is requested from a language model.
    structured_output: Option<StructuredOutput> = every, read("'json_schema', 'json_object' or 'prompt'", |v, o| {
        use StructuredOutput::{JsonObject, JsonSchema, Prompt};
        one_of(v, o, &[("json_schema", JsonSchema), ("json_object", JsonObject), ("prompt", Prompt)])
    });
}

/// Handling of an input that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The statement fails, and names the input.
    Fail,
    /// NULL, and a warning with the number of failures and the first reason.
    Null,
    /// An object with the error, where the result is JSON.
    Detail,
}

impl OnError {
    /// Reads a value; `fail` and `inline` are the names of earlier versions.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "error" | "fail" => OnError::Fail,
            "null" => OnError::Null,
            "detail" | "inline" => OnError::Detail,
            _ => return None,
        })
    }
}

impl OnError {
    /// Takes the option `on_error` out of the members of an object.
    pub fn take(members: &mut Members) -> Result<Option<Self>> {
        let known = |value: Value| value.as_str().and_then(OnError::parse);
        members::take(members, "on_error", "'error', 'null' or 'detail'", known)
    }
}

/// How a JSON answer is requested from a language model. The answer is checked in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StructuredOutput {
    /// By a JSON Schema in the API's own form.
    JsonSchema,
    /// By the API's JSON mode, and the schema in words.
    JsonObject,
    /// By the schema in words only.
    Prompt,
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

fn number(value: &Value, min: u64, max: u64, place: &mut Option<u64>) -> Option<()> {
    *place = Some(value.as_u64().filter(|n| (min..=max).contains(n))?);
    Some(())
}

fn one_of<T: Copy>(value: &Value, place: &mut Option<T>, names: &[(&str, T)]) -> Option<()> {
    let text = value.as_str()?;
    *place = Some(names.iter().find(|(name, _)| *name == text)?.1);
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
            let spec = OPTIONS.iter().find(|s| s.name == name).ok_or_else(|| {
                Error::invalid(format!(
                    "option '{}' is not known; accepted: {}",
                    cut(name, 60),
                    OPTIONS.iter().map(|s| s.name).collect::<Vec<_>>().join(", ")
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

    /// The names of the options that are set and that not every provider understands.
    pub fn special(&self) -> impl Iterator<Item = &'static str> + '_ {
        OPTIONS.iter().filter(|s| s.special && (s.is_set)(self)).map(|s| s.name)
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
            "requests_per_minute":1,"tokens_per_minute":1,"max_in_flight":1,"batch_size":1,"concurrency":1,"on_error":"inline",
            "structured_output":"prompt","cache_answers":true,"endpoints":[{}],"fallback":"m","try_timeout_ms":1,"hedge_after_ms":1}"#;
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
        assert!(OPTIONS.iter().all(|option| (option.is_set)(&options)));
        assert_eq!(mysql_ml_base::vector::MAX_DIMENSIONS, 16_383);
    }
}
