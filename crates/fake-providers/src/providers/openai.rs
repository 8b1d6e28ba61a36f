//! `OpenAI` under `/openai`, and Azure's form of the same interface under `/azure`.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::{json, Value};

use super::call::{either, halves, reply_to, test_width, Call};
use super::strict::{self, nullable, optional, required, Fault, Kind, Member, Violation};
use crate::answer::Answer;
use crate::embedding::{embedding_for, tokens};

const MAX_TEXTS: usize = 2048;
const MAX_TOKENS: usize = 8192;
const MAX_TOKENS_OF_REQUEST: usize = 300_000;

const EMBEDDINGS: &[Member] = &[
    optional("model", Kind::Text),
    required("input", Kind::TextOrList),
    optional("encoding_format", Kind::Text),
    optional("dimensions", Kind::Whole),
    optional("user", Kind::Text),
];

/// The members of a chat request for `OpenAI` and compatible services.
pub(super) const CHAT: &[Member] = &[
    optional("model", Kind::Text),
    required("messages", Kind::List),
    nullable("temperature", Kind::Number),
    nullable("top_p", Kind::Number),
    nullable("n", Kind::Whole),
    nullable("max_tokens", Kind::Whole),
    nullable("max_completion_tokens", Kind::Whole),
    nullable("stop", Kind::TextOrList),
    nullable("presence_penalty", Kind::Number),
    nullable("frequency_penalty", Kind::Number),
    nullable("response_format", Kind::Object),
    nullable("seed", Kind::Whole),
    nullable("stream", Kind::Flag),
    nullable("stream_options", Kind::Object),
    nullable("tools", Kind::List),
    nullable("tool_choice", Kind::Any),
    nullable("reasoning_effort", Kind::Text),
    nullable("user", Kind::Text),
];

const MESSAGE: &[Member] = &[
    nullable("name", Kind::Text),
    nullable("tool_calls", Kind::List),
    nullable("tool_call_id", Kind::Text),
    nullable("refusal", Kind::Text),
];

const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool"];

/// An error in `OpenAI`'s shape.
pub(super) fn error(status: u16, message: &str, kind: &str, param: Option<&str>, code: Option<&str>) -> Answer {
    let error = json!({"message": message, "type": kind, "param": param, "code": code});
    Answer::json(status, &json!({ "error": error }))
}

/// `OpenAI`'s answer to an invalid request.
pub(super) fn refuse(violation: &Violation) -> Answer {
    let place = violation.indexed_place();
    let place = place.as_str();
    let invalid = |message: &str, code: Option<&str>| {
        error(400, message, "invalid_request_error", Some(place).filter(|place| !place.is_empty()), code)
    };
    match &violation.fault {
        Fault::Method => {
            error(405, "Not allowed; use POST.", "invalid_request_error", None, Some("method_not_supported"))
        }
        Fault::ContentType(given) => {
            let message = format!(
                "Unsupported content type: '{given}'. This API method only accepts 'application/json' requests, but you \
                 specified the header 'Content-Type: {given}'. Please try again with a supported content type."
            );
            invalid(&message, Some("unsupported_content_type"))
        }
        Fault::Syntax(_) | Fault::NotAnObject => {
            invalid("We could not parse the JSON body of your request. The OpenAI API expects a JSON payload.", None)
        }
        Fault::Missing if place == "model" => invalid("you must provide a model parameter", None),
        Fault::Missing => {
            invalid(&format!("Missing required parameter: '{place}'."), Some("missing_required_parameter"))
        }
        Fault::Unknown if place.contains('.') => {
            invalid(&format!("Unknown parameter: '{place}'."), Some("unknown_parameter"))
        }
        // The service names no parameter here.
        Fault::Unknown => {
            let message = format!("Unrecognized request argument supplied: {place}");
            error(400, &message, "invalid_request_error", None, None)
        }
        Fault::Type(_) if place == "input" || place.starts_with("input[") => invalid(INVALID_INPUT, None),
        Fault::Type(kind) => {
            let message = format!("Invalid type for '{place}': expected a value of type {}.", kind.name());
            invalid(&message, Some("invalid_type"))
        }
        Fault::Value(message) => invalid(message, None),
    }
}

const INVALID_INPUT: &str =
    "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference.";

/// The routes under `/openai`.
pub(super) fn route(call: &Call<'_>) -> Answer {
    let answer = either(serve(call));
    // The service reports the rest of the limit with each answer.
    answer
        .with_header("x-ratelimit-limit-requests", "500")
        .with_header("x-ratelimit-remaining-requests", "499")
        .with_header("x-ratelimit-reset-requests", "120ms")
}

fn serve(call: &Call<'_>) -> Result<Answer, Answer> {
    let embeddings = match call.parts {
        ["v1", "embeddings"] => true,
        ["v1", "chat", "completions"] => false,
        _ => {
            let message = format!("Invalid URL ({} {})", call.request.method, call.request.path);
            return Err(error(404, &message, "invalid_request_error", None, None));
        }
    };
    authorise(call)?;
    let body = strict::body(call).map_err(|violation| refuse(&violation))?;
    if embeddings {
        embed(&body, None)
    } else {
        chat(&body, CHAT, None).map_err(|violation| refuse(&violation))
    }
}

/// Requires the key as a Bearer token.
pub(super) fn authorise(call: &Call<'_>) -> Result<(), Answer> {
    let Some(key) = call.bearer().filter(|key| !key.is_empty()) else {
        let message =
            "You didn't provide an API key. You need to provide your API key in an Authorization header using \
                       Bearer auth (i.e. Authorization: Bearer YOUR_KEY).";
        return Err(error(401, message, "invalid_request_error", None, None));
    };
    if call.is_key(key) {
        return Ok(());
    }
    let shown: String = key.chars().take(3).collect();
    let message = format!(
        "Incorrect API key provided: {shown}********. You can find your API key at \
         https://platform.openai.com/account/api-keys."
    );
    Err(error(401, &message, "invalid_request_error", None, Some("invalid_api_key")))
}

/// The routes under `/azure`.
pub(super) fn azure(call: &Call<'_>) -> Answer {
    either(serve_azure(call))
}

fn serve_azure(call: &Call<'_>) -> Result<Answer, Answer> {
    let not_found = || Answer::json(404, &json!({"error": {"code": "404", "message": "Resource not found"}}));
    let (deployment, embeddings) = match call.parts {
        ["openai", "deployments", name, "embeddings"] if !name.is_empty() => (*name, true),
        ["openai", "deployments", name, "chat", "completions"] if !name.is_empty() => (*name, false),
        _ => return Err(not_found()),
    };
    if call.parameter("api-version").is_none_or(|version| version.is_empty()) {
        return Err(not_found());
    }
    if !call.header("api-key").is_some_and(|key| call.is_key(key)) {
        let message =
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid \
                       key for an active subscription and use a correct regional API endpoint for your resource.";
        return Err(Answer::json(401, &json!({"error": {"code": "401", "message": message}})));
    }
    let body = strict::body(call).map_err(|violation| refuse(&violation))?;
    if embeddings {
        embed(&body, Some(deployment))
    } else {
        chat(&body, CHAT, Some(deployment)).map_err(|violation| refuse(&violation))
    }
}

/// The width of a model's vectors; None for an unknown model.
fn width_of(model: &str) -> Option<usize> {
    match model {
        "text-embedding-3-small" | "text-embedding-ada-002" => Some(1536),
        "text-embedding-3-large" => Some(3072),
        _ => test_width(model),
    }
}

fn embed(body: &Value, deployment: Option<&str>) -> Result<Answer, Answer> {
    let bad = |message: &str, param: Option<&str>| error(400, message, "invalid_request_error", param, None);
    let body = strict::object(body, "", EMBEDDINGS).map_err(|violation| refuse(&violation))?;
    let named = body.text("model");
    let model = match (deployment, named) {
        // A deployment may have any name; its name selects the model if it is a model's.
        (Some(name), _) if width_of(name).is_some() => name,
        (Some(_), Some(model)) if width_of(model).is_some() => model,
        (Some(_), _) => "text-embedding-3-small",
        (None, Some(model)) => model,
        (None, None) => return Err(refuse(&Violation::missing("model"))),
    };
    let Some(native) = width_of(model) else {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        return Err(error(404, &message, "invalid_request_error", None, Some("model_not_found")));
    };
    let texts = strict::texts(body.get("input"), "input").map_err(|violation| refuse(&violation))?;
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(bad(INVALID_INPUT, None));
    }
    if texts.len() > MAX_TEXTS {
        let message =
            format!("'$.input' is invalid: at most {MAX_TEXTS} items are allowed, {} were given.", texts.len());
        return Err(bad(&message, None));
    }
    if let Some(long) = texts.iter().find(|text| text.len() > MAX_TOKENS * 4) {
        let message = format!(
            "This model's maximum context length is {MAX_TOKENS} tokens, however you requested {} tokens ({} in your \
             prompt; 0 for the completion). Please reduce your prompt; or completion length.",
            tokens(long),
            tokens(long)
        );
        return Err(bad(&message, None));
    }
    let used: usize = texts.iter().map(|text| tokens(text)).sum();
    if used > MAX_TOKENS_OF_REQUEST {
        let message = format!("Requested {used} tokens, max {MAX_TOKENS_OF_REQUEST} tokens per request");
        return Err(error(400, &message, "max_tokens_per_request", None, Some("max_tokens_per_request")));
    }
    let encoding = body.choice("encoding_format", &["float", "base64"]).map_err(|violation| refuse(&violation))?;
    let base64 = encoding == Some("base64");
    let width = match body.whole("dimensions") {
        None => native,
        Some(_) if !model.starts_with("text-embedding-3") => {
            return Err(bad("This model does not support specifying dimensions.", None));
        }
        Some(asked) => usize::try_from(asked).ok().filter(|width| (1..=native).contains(width)).ok_or_else(|| {
            let message =
                format!("Invalid value for 'dimensions' = {asked}. Must be between 1 and {native} for this model.");
            bad(&message, Some("dimensions"))
        })?,
    };
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({"object": "embedding", "index": index, "embedding": encoded(&embedding_for(text, width), base64)})
        })
        .collect();
    let usage = json!({"prompt_tokens": used, "total_tokens": used});
    Ok(Answer::json(200, &json!({"object": "list", "data": data, "model": model, "usage": usage})))
}

/// A vector as a JSON array, or as the base64 of its bytes.
pub(super) fn encoded(vector: &[f32], base64: bool) -> Value {
    if base64 {
        let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
        return STANDARD.encode(bytes).into();
    }
    Value::from(vector.to_vec())
}

/// Answers a chat request. `in_path`: the path's model, for interfaces whose body need not name it.
pub(super) fn chat(body: &Value, members: &[Member], in_path: Option<&str>) -> Result<Answer, Violation> {
    let body = strict::object(body, "", members)?;
    let model = body.text("model").filter(|model| !model.is_empty()).or(in_path);
    let model = model.ok_or_else(|| Violation::missing("model"))?;
    let said = strict::conversation(body.list("messages").unwrap_or_default(), ROLES, MESSAGE)?;
    for (name, most) in [("temperature", 2.0), ("top_p", 1.0)] {
        if body.number(name).is_some_and(|value| !(0.0..=most).contains(&value)) {
            let message = format!("Invalid '{name}': expected a value between 0 and {most}.");
            return Err(Violation::value(name, message));
        }
    }
    for name in ["n", "max_tokens", "max_completion_tokens"] {
        if body.whole(name).is_some_and(|value| value < 1) {
            let message = format!("Invalid '{name}': integer below minimum value. Expected a value >= 1.");
            return Err(Violation::value(name, message));
        }
    }
    if let Some(format) = body.get("response_format") {
        match format.get("type").and_then(Value::as_str) {
            Some("text" | "json_object" | "json_schema") => {}
            Some(_) => {
                return Err(Violation::value("response_format.type", "Invalid value for 'response_format.type'."))
            }
            None => return Err(Violation::missing("response_format.type")),
        }
    }
    let content = reply_to(&said);
    let (prompt, completion) = (tokens(&said), tokens(&content));
    let usage = json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    });
    if body.flag("stream") == Some(true) {
        return Ok(streamed(model, &content));
    }
    let message = json!({"role": "assistant", "content": content, "refusal": null});
    let choices: Vec<Value> = (0..body.whole("n").unwrap_or(1).min(128))
        .map(|index| json!({"index": index, "message": message, "logprobs": null, "finish_reason": "stop"}))
        .collect();
    let answer = json!({
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": choices,
        "usage": usage,
    });
    Ok(Answer::json(200, &answer))
}

fn streamed(model: &str, content: &str) -> Answer {
    let (first, rest) = halves(content);
    let chunk = |delta: Value, finish: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let chunk = json!({
            "id": "chatcmpl-test",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": model,
            "choices": [choice],
        });
        format!("data: {chunk}\n\n")
    };
    let body = [
        chunk(json!({"role": "assistant", "content": first}), None),
        chunk(json!({"content": rest}), None),
        chunk(json!({}), Some("stop")),
        "data: [DONE]\n\n".to_owned(),
    ];
    Answer::new(200, "text/event-stream; charset=utf-8", body.concat())
}
