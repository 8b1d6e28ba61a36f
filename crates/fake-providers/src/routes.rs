//! The default routes.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{json, Value};

use crate::answer::Answer;
use crate::embedding::{embedding_for, tokens, write_vector, Encoding};
use crate::misbehave;
use crate::providers;
use crate::reply::{Misbehaviour, Reply};
use crate::request::Request;
use crate::shared::{lock, Route, Shared};

const DEFAULT_DIMS: usize = 1536;
const MAX_DIMS: usize = 1 << 20;
/// The width of the custom model in Google's documentation.
const CUSTOM_MODEL_DIMS: usize = 50;
const DEPTH: usize = 100_000;
const HUGE_HEADER: usize = 1 << 20;
const MAX_BYTES: usize = 1 << 30;

/// The routes of an endpoint, with the providers' state.
#[derive(Default)]
pub(crate) struct Routes {
    pub(crate) providers: providers::State,
}

impl Route for Routes {
    fn route(&self, shared: &Shared, request: &Request<'_>, path: &str) -> io::Result<Reply> {
        if let Some((name, arguments)) = split_parameters(path) {
            return parametrised(self, shared, request, name, arguments);
        }
        let reply = match path {
            "/v1/embeddings" => Reply::from(embeddings(shared, request, None)),
            "/v1/chat/completions" => chat(shared, request).into(),
            "/v1/rerank" => rerank(request).into(),
            "/models/text/embeddings/v1" => custom_model(request).into(),
            "/auth/embeddings" => authorised(shared, request).into(),
            "/echo" => echo(request).into(),
            "/ratelimit" => rate_limited().with_header("Retry-After", "3600").into(),
            "/quota" => Answer::error(
                429,
                "You exceeded your current quota, please check your plan and billing details.",
                "insufficient_quota",
                Some("insufficient_quota"),
            )
            .into(),
            "/drip" => Misbehaviour::Drip.into(),
            "/truncated" => Misbehaviour::Truncated.into(),
            "/huge" => Misbehaviour::Huge.into(),
            "/reset" => Misbehaviour::Reset.into(),
            "/eof" => Misbehaviour::Eof.into(),
            "/hang" => Misbehaviour::Hang.into(),
            "/close-keepalive" => {
                let answer = embeddings(shared, request, None);
                Misbehaviour::CloseAfter(answer.with_header("Connection", "keep-alive")).into()
            }
            "/huge-header" => embeddings(shared, request, None).with_header("X-Huge", &"a".repeat(HUGE_HEADER)).into(),
            "/redirect" => redirect(302).into(),
            "/redirect-post" => redirect(307).into(),
            "/gzip" => misbehave::gzip(embeddings(shared, request, None))?.into(),
            "/gzip-bomb" => misbehave::gzip_bomb()?.into(),
            "/not-json" => Answer::new(
                200,
                "text/html; charset=utf-8",
                "<!doctype html><html><body><h1>Sign in</h1></body></html>",
            )
            .into(),
            "/broken-json" => raw("{\"object\":\"list\",\"data\":[{\"index\":0,\"embedding\":[0.5,").into(),
            "/nan" => raw("{\"data\":[{\"index\":0,\"embedding\":[NaN,1.0]}]}").into(),
            "/inf" => raw("{\"data\":[{\"index\":0,\"embedding\":[1e999]}]}").into(),
            "/empty-embedding" => embeddings(shared, request, Some(0)).into(),
            "/no-data" => raw("{\"object\":\"list\"}").into(),
            "/deep" => raw("[".repeat(DEPTH) + &"]".repeat(DEPTH)).into(),
            _ => match providers::route(&self.providers, self, shared, request, path)? {
                Some(reply) => reply,
                None => no_such_path(path).into(),
            },
        };
        Ok(reply)
    }
}

/// Splits `/name/arguments` if the name is that of a route with arguments.
fn split_parameters(path: &str) -> Option<(&str, &str)> {
    let (name, arguments) = path.strip_prefix('/')?.split_once('/')?;
    matches!(name, "bytes" | "status" | "retry" | "delay" | "wrong-width").then_some((name, arguments))
}

fn parametrised(
    routes: &Routes,
    shared: &Shared,
    request: &Request<'_>,
    name: &str,
    arguments: &str,
) -> io::Result<Reply> {
    let bad = || Reply::from(no_such_path(request.path));
    let (first, rest) = arguments.split_once('/').unwrap_or((arguments, ""));
    let Ok(number) = first.parse::<u32>() else {
        return Ok(bad());
    };
    let reply = match name {
        "bytes" if number as usize <= MAX_BYTES => raw(format!("\"{}\"", "a".repeat(number as usize))).into(),
        "status" => match status_code(first) {
            Some(code) => status(code).into(),
            None => bad(),
        },
        "wrong-width" if number as usize <= MAX_DIMS => embeddings(shared, request, Some(number as usize)).into(),
        "delay" => {
            shared.pause(Duration::from_millis(number.into()));
            return routes.route(shared, request, &format!("/{rest}"));
        }
        "retry" => {
            let (code, after) = match rest.split_once('/') {
                Some((code, after)) => (code, Some(after)),
                None => (rest, None),
            };
            match (status_code(code), after) {
                (None, _) => bad(),
                (Some(_), _) if request.nth > u64::from(number) => embeddings(shared, request, None).into(),
                (Some(code), Some(after)) => status(code).with_header("Retry-After", after).into(),
                (Some(code), None) => status(code).into(),
            }
        }
        _ => bad(),
    };
    Ok(reply)
}

fn status_code(text: &str) -> Option<u16> {
    // Informational statuses would not be the final answer.
    text.parse().ok().filter(|code| (200..1000).contains(code))
}

fn status(code: u16) -> Answer {
    if matches!(code, 204 | 304) {
        return Answer { status: code, ..Answer::default() };
    }
    let message = format!("status {code} for testing");
    Answer::json(code, &json!({"error": {"message": message}}))
}

fn raw(body: impl Into<Vec<u8>>) -> Answer {
    Answer::raw_json(200, body)
}

fn redirect(code: u16) -> Answer {
    Answer { status: code, headers: vec![("Location".into(), "/v1/embeddings".into())], body: Vec::new() }
}

fn rate_limited() -> Answer {
    let message = "Rate limit reached for requests";
    Answer::error(429, message, "requests", Some("rate_limit_exceeded"))
}

fn no_such_path(path: &str) -> Answer {
    let message = format!("Invalid URL ({path})");
    Answer::error(404, &message, "invalid_request_error", None)
}

fn bad_request(message: &str) -> Answer {
    Answer::error(400, message, "invalid_request_error", None)
}

fn echo(request: &Request<'_>) -> Answer {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let headers: serde_json::Map<String, Value> =
        request.headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value).into())).collect();
    let body: Value = serde_json::from_slice(request.body).unwrap_or_else(|_| text(request.body).into());
    let echo = json!({
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": headers,
        "body": body,
    });
    Answer::json(200, &echo)
}

/// The body of a request to a model interface, or the error to answer.
fn model_request(request: &Request<'_>) -> Result<Value, Answer> {
    if request.method != "POST" {
        let message = format!("Not allowed to {} on {}", request.method, request.path);
        return Err(Answer::error(405, &message, "invalid_request_error", None));
    }
    serde_json::from_slice(request.body).map_err(|_| bad_request("We could not parse the JSON body of your request."))
}

fn authorised(shared: &Shared, request: &Request<'_>) -> Answer {
    let header = request.header("authorization").unwrap_or_default();
    let given = String::from_utf8_lossy(header);
    let key = given.strip_prefix("Bearer ").unwrap_or(&given);
    let expected = lock(&shared.expected_key).clone();
    if given.starts_with("Bearer ") && key == expected && !expected.is_empty() {
        return embeddings(shared, request, None);
    }
    // Repeats the whole key, as some endpoints do: callers must not pass it on.
    let message = format!("Incorrect API key provided: {key}");
    Answer::error(401, &message, "invalid_request_error", Some("invalid_api_key"))
}

/// The texts of `input`, or the message of the error.
fn texts(input: Option<&Value>) -> Result<Vec<Cow<'_, str>>, &'static str> {
    const INVALID: &str = "'$.input' is invalid. Please check the API reference: \
                           https://platform.openai.com/docs/api-reference.";
    let texts: Vec<Cow<'_, str>> = match input {
        Some(Value::String(text)) => vec![text.into()],
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(Cow::from).ok_or(INVALID)).collect::<Result<_, _>>()?
        }
        _ => return Err(INVALID),
    };
    if texts.is_empty() || texts.iter().any(|text| text.is_empty()) {
        return Err(INVALID);
    }
    Ok(texts)
}

fn embeddings(shared: &Shared, request: &Request<'_>, width: Option<usize>) -> Answer {
    match model_request(request).and_then(|body| embed(shared, &body, width)) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn embed(shared: &Shared, body: &Value, width: Option<usize>) -> Result<Answer, Answer> {
    let model = body.get("model").and_then(Value::as_str);
    let model = model.ok_or_else(|| bad_request("you must provide a model parameter"))?;
    let texts = texts(body.get("input")).map_err(bad_request)?;
    let encoding = match body.get("encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => Encoding::Float,
        Some(Some("base64")) => Encoding::Base64,
        Some(_) => return Err(bad_request("Invalid value for 'encoding_format'.")),
    };
    let asked = match body.get("dimensions") {
        None => named_dims(model),
        Some(dims) => dims
            .as_u64()
            .and_then(|dims| usize::try_from(dims).ok())
            .filter(|dims| (1..=MAX_DIMS).contains(dims))
            .ok_or_else(|| bad_request("Invalid value for 'dimensions'."))?,
    };
    let dims = width.unwrap_or(asked);

    let load = |nanoseconds: &std::sync::atomic::AtomicU64| nanoseconds.load(Ordering::Acquire);
    let per_text = load(&shared.latency_per_text).saturating_mul(texts.len() as u64);
    shared.pause(Duration::from_nanos(load(&shared.latency_fixed).saturating_add(per_text)));

    // A width that a route requires overrides the fixed vector.
    let fixed = width.is_none().then(|| shared.fixed_vector()).flatten();
    let mut out = Vec::with_capacity(256 + texts.len() * (64 + dims * 13));
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"object\":\"embedding\",\"index\":");
        out.extend_from_slice(index.to_string().as_bytes());
        out.extend_from_slice(b",\"embedding\":");
        match &fixed {
            Some(fixed) => out.extend_from_slice(fixed.json(encoding)),
            None => write_vector(&embedding_for(text, dims), encoding, &mut out),
        }
        out.push(b'}');
    }
    let used: usize = texts.iter().map(|text| tokens(text)).sum();
    let tail =
        format!("],\"model\":{},\"usage\":{{\"prompt_tokens\":{used},\"total_tokens\":{used}}}}}", Value::from(model));
    out.extend_from_slice(tail.as_bytes());
    Ok(raw(out))
}

fn named_dims(model: &str) -> usize {
    model
        .strip_prefix("test-")
        .and_then(|dims| dims.parse().ok())
        .filter(|dims| *dims <= MAX_DIMS)
        .unwrap_or(DEFAULT_DIMS)
}

fn chat(shared: &Shared, request: &Request<'_>) -> Answer {
    match model_request(request).and_then(|body| providers::lenient_chat(shared, &body)) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn rerank(request: &Request<'_>) -> Answer {
    match model_request(request).map(|body| providers::rerank(&body)) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn custom_model(request: &Request<'_>) -> Answer {
    let answer = model_request(request).and_then(|body| {
        let prompts = texts(body.get("prompt")).map_err(|_| bad_request("'prompt' is invalid"))?;
        let vectors: Vec<Vec<f32>> = prompts.iter().map(|prompt| embedding_for(prompt, CUSTOM_MODEL_DIMS)).collect();
        let body = serde_json::to_vec(&vectors).map_err(|error| bad_request(&error.to_string()))?;
        Ok(raw(body))
    });
    match answer {
        Ok(answer) | Err(answer) => answer,
    }
}
