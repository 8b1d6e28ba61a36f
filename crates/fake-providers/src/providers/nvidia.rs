//! NVIDIA NIM under `/nim`.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use serde_json::{json, Value};

use super::call::{either, ranking, test_width, Call};
use super::openai;
use super::openai_chat::{self, chat, Kin};
use super::strict::{self, failure, nullable, optional, required, Fault, Kind, Member, Violation};
use crate::answer::Answer;
use crate::embedding::{embedding_for, tokens};
use crate::shared::Shared;

const CLIP: &str = "nvidia/nvclip";
const WIDTH: usize = 1024;
const MAX_TOKENS: usize = 512;
const MAX_PASSAGES: usize = 512;

fn error(status: u16, message: &str) -> Answer {
    let body = json!({"object": "error", "message": message, "detail": {}, "type": "invalid_request_error"});
    Answer::json(status, &body)
}

fn refuse(violation: &Violation) -> Answer {
    let place = violation.place.as_str();
    match &violation.fault {
        Fault::Method => Answer::json(405, &json!({"detail": "Method Not Allowed"})),
        Fault::ContentType(_) | Fault::NotAnObject => error(422, "Input should be a valid dictionary"),
        Fault::Syntax(message) => error(422, &format!("JSON decode error: {message}")),
        Fault::Missing => error(422, &format!("{place}: Field required")),
        Fault::Unknown => error(422, &format!("{place}: Extra inputs are not permitted")),
        Fault::Type(kind) => error(422, &format!("{place}: Input should be a valid {}", kind.name())),
        Fault::Value(message) => error(400, message),
        Fault::Status(status) => error(*status, &failure(*status)),
    }
}

/// The routes under `/nim`.
pub(super) fn route(call: &Call<'_>) -> Answer {
    either(serve(call))
}

fn serve(call: &Call<'_>) -> Result<Answer, Answer> {
    let serve: fn(&Shared, &Value) -> Result<Answer, Violation> = match call.parts {
        ["v1", "embeddings"] => |_, body| embed(body),
        ["v1", "ranking"] => |_, body| rank(body),
        ["v1", "chat", "completions"] => |shared, body| chat(shared, body, openai_chat::MEMBERS, Kin::Follower, None),
        _ => return Err(Answer::json(404, &json!({"detail": "Not Found"}))),
    };
    if !call.bearer().is_some_and(|key| call.is_key(key)) {
        let body = json!({"status": 401, "title": "Unauthorized", "detail": "Authentication failed"});
        return Err(Answer::json(401, &body));
    }
    strict::body(call).and_then(|body| serve(call.shared, &body)).map_err(|violation| refuse(&violation))
}

/// Refuses texts that are too long, unless they may be truncated.
fn check_length(texts: &[String], truncate: Option<&str>) -> Result<(), Violation> {
    let longest = texts.iter().map(|text| tokens(text)).max().unwrap_or(0);
    if longest > MAX_TOKENS && truncate.is_none_or(|how| how == "NONE") {
        let message = format!("Input length {longest} exceeds maximum allowed token size {MAX_TOKENS}");
        return Err(Violation::value("input", message));
    }
    Ok(())
}

/// NV-CLIP's images: PNG or JPEG in base64. It treats everything else as text.
fn check_image(input: &str) -> Result<(), Violation> {
    let Some(rest) = input.strip_prefix("data:") else { return Ok(()) };
    let data = ["image/png;base64,", "image/jpeg;base64,"].iter().find_map(|kind| rest.strip_prefix(kind));
    match data.map(|data| STANDARD.decode(data)) {
        Some(Ok(bytes)) if !bytes.is_empty() => Ok(()),
        Some(_) => Err(Violation::value("input", "Invalid base64 image")),
        None => Err(Violation::value("input", "Unsupported image format, expected png or jpeg")),
    }
}

fn embed(body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("model", Kind::Text),
        required("input", Kind::TextOrList),
        optional("input_type", Kind::Text),
        optional("truncate", Kind::Text),
        optional("encoding_format", Kind::Text),
        nullable("dimensions", Kind::Whole),
        nullable("user", Kind::Text),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    let model = body.text("model").unwrap_or_default();
    let kind = body.choice("input_type", &["query", "passage"])?;
    let base = model.strip_suffix("-query").or_else(|| model.strip_suffix("-passage"));
    if kind.is_none() && base.is_none() && model != CLIP {
        return Err(Violation::value("input_type", "'input_type' parameter is required"));
    }
    let truncate = body.choice("truncate", &["NONE", "START", "END"])?;
    let base64 = body.choice("encoding_format", &["float", "base64"])? == Some("base64");
    let texts = strict::texts(body.get("input"), "input")?;
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(Violation::value("input", "Input cannot be an empty list or contain empty strings"));
    }
    if model == CLIP {
        texts.iter().try_for_each(|text| check_image(text))?;
    } else {
        check_length(&texts, truncate)?;
    }
    let native = test_width(base.unwrap_or(model)).unwrap_or(WIDTH);
    let width = match body.whole("dimensions") {
        None => native,
        Some(asked) => usize::try_from(asked)
            .ok()
            .filter(|width| (1..=native).contains(width))
            .ok_or_else(|| Violation::value("dimensions", format!("dimensions must be between 1 and {native}")))?,
    };
    let used: usize = texts.iter().map(|text| tokens(text)).sum();
    let data = texts.iter().enumerate().map(|(index, text)| {
        let embedding = openai::encoded(&embedding_for(text, width), base64);
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let answer = json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": model,
        "usage": {"prompt_tokens": used, "total_tokens": used},
    });
    Ok(Answer::json(200, &answer))
}

fn rank(body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("model", Kind::Text),
        required("query", Kind::Object),
        required("passages", Kind::List),
        optional("truncate", Kind::Text),
    ];
    const TEXT: &[Member] = &[required("text", Kind::Text)];
    let body = strict::object(body, "", MEMBERS)?;
    let truncate = body.choice("truncate", &["NONE", "END"])?;
    let query = strict::object(body.get("query").unwrap_or(&Value::Null), "query", TEXT)?.text("text");
    let passages = body.list("passages").unwrap_or_default();
    if passages.is_empty() || passages.len() > MAX_PASSAGES {
        let message = format!("passages must have between 1 and {MAX_PASSAGES} items, got {}", passages.len());
        return Err(Violation::value("passages", message));
    }
    let mut texts = Vec::new();
    for (index, passage) in passages.iter().enumerate() {
        let passage = strict::object(passage, &format!("passages.{index}"), TEXT)?;
        texts.push(passage.text("text").unwrap_or_default().to_owned());
    }
    check_length(&texts, truncate)?;
    let rankings = ranking(query.unwrap_or_default(), &texts)
        .into_iter()
        .map(|(index, score)| json!({"index": index, "logit": (score / (1.0 - score)).ln()}));
    let used: usize = texts.iter().map(|text| tokens(text)).sum();
    let usage = json!({"prompt_tokens": used, "total_tokens": used});
    Ok(Answer::json(200, &json!({"rankings": rankings.collect::<Vec<_>>(), "usage": usage})))
}
