//! Mistral under `/mistral`.

use serde_json::{json, Value};

use super::call::{either, test_width, Call};
use super::openai_chat::{chat, Kin};
use super::strict::{self, failure, nullable, optional, required, Fault, Kind, Member, Violation};
use super::{cohere, openai};
use crate::answer::Answer;
use crate::embedding::{embedding_for, tokens};

const MAX_TOKENS: usize = 8192;

const CHAT: &[Member] = &[
    required("model", Kind::Text),
    required("messages", Kind::List),
    nullable("temperature", Kind::Number),
    optional("top_p", Kind::Number),
    nullable("max_tokens", Kind::Whole),
    optional("stream", Kind::Flag),
    optional("stop", Kind::TextOrList),
    nullable("random_seed", Kind::Whole),
    optional("response_format", Kind::Object),
    nullable("tools", Kind::List),
    optional("tool_choice", Kind::Any),
    optional("presence_penalty", Kind::Number),
    optional("frequency_penalty", Kind::Number),
    nullable("n", Kind::Whole),
    optional("safe_prompt", Kind::Flag),
];

fn error(status: u16, kind: &str, code: &str, message: &str) -> Answer {
    let body = json!({"object": "error", "message": message, "type": kind, "param": null, "code": code});
    Answer::json(status, &body)
}

/// An error about a request's shape, in FastAPI's form.
fn detail(kind: &str, place: &str, message: &str) -> Answer {
    let path = ["body"].into_iter().chain(place.split('.').filter(|part| !part.is_empty()));
    let path: Value = path.map(|part| part.parse::<u64>().map_or_else(|_| Value::from(part), Value::from)).collect();
    Answer::json(422, &json!({"detail": [{"type": kind, "loc": path, "msg": message}]}))
}

fn refuse(violation: &Violation) -> Answer {
    let place = violation.place.as_str();
    match &violation.fault {
        Fault::Method => Answer::json(405, &json!({"detail": "Method Not Allowed"})),
        Fault::ContentType(_) | Fault::NotAnObject => detail(
            "model_attributes_type",
            place,
            "Input should be a valid dictionary or object to extract fields from",
        ),
        Fault::Syntax(_) => detail("json_invalid", place, "JSON decode error"),
        Fault::Missing => detail("missing", place, "Field required"),
        Fault::Unknown => detail("extra_forbidden", place, "Extra inputs are not permitted"),
        Fault::Type(kind) => {
            detail(&format!("{}_type", kind.name()), place, &format!("Input should be a valid {}", kind.name()))
        }
        Fault::Value(message) => error(400, "invalid_request_error", "3000", message),
        Fault::Status(429) => error(429, "rate_limited", "1300", &failure(429)),
        Fault::Status(status @ 500..) => error(*status, "internal_server_error", "3000", &failure(*status)),
        Fault::Status(status) => error(*status, "invalid_request_error", "3000", &failure(*status)),
    }
}

/// The routes under `/mistral`.
pub(super) fn route(call: &Call<'_>) -> Answer {
    either(serve(call))
}

fn serve(call: &Call<'_>) -> Result<Answer, Answer> {
    let embeds = match call.parts {
        ["v1", "embeddings"] => true,
        ["v1", "chat", "completions"] => false,
        _ => return Err(Answer::json(404, &json!({"detail": "Not Found"}))),
    };
    if !call.bearer().is_some_and(|key| call.is_key(key)) {
        return Err(error(401, "invalid_request_error", "1901", "Unauthorized"));
    }
    let body = strict::body(call).map_err(|violation| refuse(&violation))?;
    if embeds {
        embed(&body)
    } else {
        chat(call.shared, &body, CHAT, Kin::Mistral, None).map_err(|violation| refuse(&violation))
    }
}

fn embed(body: &Value) -> Result<Answer, Answer> {
    const MEMBERS: &[Member] = &[
        required("model", Kind::Text),
        required("input", Kind::TextOrList),
        nullable("output_dimension", Kind::Whole),
        optional("output_dtype", Kind::Text),
        optional("encoding_format", Kind::Text),
    ];
    let read = || {
        let body = strict::object(body, "", MEMBERS)?;
        let whole = body.choice("output_dtype", &["float", "int8"])? == Some("int8");
        let base64 = body.choice("encoding_format", &["float", "base64"])? == Some("base64");
        if whole && base64 {
            return Err(Violation::value("encoding_format", "The local endpoint encodes floats only."));
        }
        Ok((body, strict::texts(body.get("input"), "input")?, whole, base64))
    };
    let (body, texts, whole, base64) = read().map_err(|violation| refuse(&violation))?;
    let model = body.text("model").unwrap_or_default();
    let native = match model {
        "mistral-embed" => Some(1024),
        "codestral-embed" => Some(1536),
        _ => test_width(model),
    };
    let invalid = |message: &str| error(400, "invalid_request_error", "3000", message);
    let native = native.ok_or_else(|| error(400, "invalid_model", "1500", &format!("Invalid model: {model}")))?;
    let width = match body.whole("output_dimension") {
        None => native,
        Some(_) if model != "codestral-embed" => {
            return Err(invalid("This model does not support output_dimension."));
        }
        Some(asked) => usize::try_from(asked)
            .ok()
            .filter(|width| (1..=3072).contains(width))
            .ok_or_else(|| invalid("output_dimension must be between 1 and 3072."))?,
    };
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(invalid("The input must not be empty, nor contain an empty string."));
    }
    for (index, text) in texts.iter().enumerate() {
        let count = tokens(text);
        if count > MAX_TOKENS {
            let message = format!("Input id {index} has {count} tokens, exceeding max {MAX_TOKENS} tokens.");
            return Err(error(400, "invalid_request_prompt", "3051", &message));
        }
    }
    let used: usize = texts.iter().map(|text| tokens(text)).sum();
    let data = texts.iter().enumerate().map(|(index, text)| {
        let vector = embedding_for(text, width);
        let embedding = if whole { cohere::int8(&vector) } else { openai::encoded(&vector, base64) };
        json!({"object": "embedding", "embedding": embedding, "index": index})
    });
    let answer = json!({
        "id": "test-embeddings",
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": model,
        "usage": {"prompt_tokens": used, "completion_tokens": 0, "total_tokens": used},
    });
    Ok(Answer::json(200, &answer))
}
