//! Ollama under `/ollama`.

use serde_json::{json, Value};

use super::call::{either, halves, test_width, vector, Call};
use super::dialogue::Dialogue;
use super::images;
use super::outcome::{decide, Form, Outcome, REFUSAL, TOOL};
use super::strict::{self, failure, nullable, optional, required, Fault, Kind, Member, Object, Violation};
use crate::answer::Answer;
use crate::embedding::tokens;
use crate::shared::Shared;

const WIDTH: usize = 768;
const MAX_BYTES: usize = 8000;
const CREATED: &str = "2025-01-01T00:00:00Z";

fn error(status: u16, message: &str) -> Answer {
    Answer::json(status, &json!({ "error": message }))
}

fn refuse(violation: &Violation) -> Answer {
    let place = violation.place.as_str();
    match &violation.fault {
        Fault::Method => Answer::new(405, "text/plain", "405 method not allowed"),
        Fault::ContentType(given) => error(400, &format!("unsupported content type {given}")),
        Fault::Syntax(message) => error(400, message),
        Fault::NotAnObject => error(400, "json: cannot unmarshal into Go value of the request's type"),
        Fault::Missing => error(400, &format!("{place} is required")),
        Fault::Unknown => error(400, &format!("json: unknown field \"{place}\"")),
        Fault::Type(_) if place == "input" || place.starts_with("input.") => error(400, "invalid input type"),
        Fault::Type(kind) => error(400, &format!("json: cannot unmarshal {place}, expected {}", kind.name())),
        Fault::Value(message) => error(400, message),
        Fault::Status(status) => error(*status, &failure(*status)),
    }
}

/// The routes under `/ollama`.
pub(super) fn route(call: &Call<'_>) -> Answer {
    either(serve(call))
}

fn serve(call: &Call<'_>) -> Result<Answer, Answer> {
    let serve: fn(&Shared, &Value) -> Result<Answer, Violation> = match call.parts {
        ["api", "embed"] => |_, body| embed(body),
        ["api", "chat"] => chat,
        ["api", "generate"] => generate,
        _ => return Err(Answer::new(404, "text/plain", "404 page not found")),
    };
    let body = strict::body_of_any_type(call).map_err(|violation| refuse(&violation))?;
    match body.get("model").and_then(Value::as_str) {
        Some("") => return Err(error(400, "model is required")),
        Some("missing") => return Err(error(404, "model \"missing\" not found, try pulling it first")),
        _ => {}
    }
    serve(call.shared, &body).map_err(|violation| refuse(&violation))
}

fn embed(body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("model", Kind::Text),
        required("input", Kind::TextOrList),
        nullable("truncate", Kind::Flag),
        optional("dimensions", Kind::Whole),
        nullable("options", Kind::Object),
        nullable("keep_alive", Kind::Any),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    let model = body.text("model").unwrap_or_default();
    let texts = strict::texts(body.get("input"), "input")?;
    if body.flag("truncate") == Some(false) && texts.iter().any(|text| text.len() > MAX_BYTES) {
        return Err(Violation::value("input", "the input length exceeds the context length"));
    }
    let native = test_width(model).unwrap_or(WIDTH);
    let width = match body.whole("dimensions") {
        // Zero means the same as a missing member.
        None | Some(0) => native,
        Some(asked) => usize::try_from(asked)
            .ok()
            .map(|width| width.min(native))
            .ok_or_else(|| Violation::value("dimensions", "dimensions must not be negative"))?,
    };
    let embeddings: Value = texts.iter().map(|text| vector(text, width)).collect();
    let count: usize = texts.iter().map(|text| tokens(text)).sum();
    let answer = json!({
        "model": model,
        "embeddings": embeddings,
        "total_duration": 14_143_917,
        "load_duration": 1_019_500,
        "prompt_eval_count": count,
    });
    Ok(Answer::json(200, &answer))
}

/// The format that the member `format` requires.
fn form(body: Object<'_>) -> Result<Form<'_>, Violation> {
    match body.get("format") {
        None => Ok(Form::Free),
        Some(Value::String(name)) if name.is_empty() => Ok(Form::Free),
        Some(Value::String(name)) if name == "json" => Ok(Form::Json),
        Some(schema @ Value::Object(_)) => Ok(Form::Schema(schema)),
        Some(other) => {
            let message = format!("invalid format: {other}; expected \"json\" or a valid JSON Schema object");
            Err(Violation::value("format", message))
        }
    }
}

/// A single answer, or its pieces as lines unless the request turned that off.
fn answer(
    shared: &Shared,
    body: Object<'_>,
    dialogue: &Dialogue,
    piece: impl Fn(&str, bool) -> (&'static str, Value),
) -> Result<Answer, Violation> {
    let outcome = decide(shared, dialogue, form(body)?)?;
    // The server knows no refusal: a model that does not want to says so.
    let text = if outcome == Outcome::Refused { REFUSAL } else { outcome.text() };
    let calls = outcome == Outcome::Tool;
    let reason = if matches!(outcome, Outcome::Cut(_)) { "length" } else { "stop" };
    let line = |text: &str, last: bool| {
        let (name, value) = piece(text, calls);
        let mut line = json!({"model": body.text("model"), "created_at": CREATED, name: value, "done": last});
        if let (true, Some(line)) = (last, line.as_object_mut()) {
            line.insert("done_reason".into(), reason.into());
            for (name, value) in [
                ("total_duration", 14_143_917),
                ("load_duration", 1_019_500),
                ("prompt_eval_count", tokens(dialogue.last())),
                ("prompt_eval_duration", 1_000_000),
                ("eval_count", tokens(outcome.text())),
                ("eval_duration", 2_000_000),
            ] {
                line.insert(name.into(), value.into());
            }
        }
        line
    };
    if body.flag("stream") == Some(false) {
        return Ok(Answer::json(200, &line(text, true)));
    }
    let (first, rest) = halves(text);
    let lines = format!("{}\n{}\n{}\n", line(first, false), line(rest, false), line("", true));
    Ok(Answer::new(200, "application/x-ndjson", lines))
}

fn chat(shared: &Shared, body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("model", Kind::Text),
        required("messages", Kind::List),
        nullable("stream", Kind::Flag),
        nullable("format", Kind::Any),
        nullable("options", Kind::Object),
        nullable("keep_alive", Kind::Any),
        nullable("tools", Kind::List),
        nullable("think", Kind::Any),
    ];
    const MESSAGE: &[Member] = &[
        nullable("images", Kind::List),
        nullable("tool_calls", Kind::List),
        nullable("tool_name", Kind::Text),
        nullable("thinking", Kind::Text),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    let messages = body.list("messages").unwrap_or_default();
    // Content parts of other services are no texts to this one.
    let mut seen = String::new();
    for (index, message) in messages.iter().enumerate() {
        let list = message.get("images").and_then(Value::as_array).map(Vec::as_slice);
        seen += &images::ollama(list.unwrap_or_default(), &format!("messages.{index}.images"))?;
        if message.get("content").is_some_and(Value::is_array) {
            return Err(Violation::kind(format!("messages.{index}.content"), Kind::Text));
        }
    }
    let mut dialogue = strict::conversation(messages, &["system", "user", "assistant", "tool"], MESSAGE, images::none)?;
    dialogue.shows(&seen);
    answer(shared, body, &dialogue, |text, calls| {
        let mut message = json!({"role": "assistant", "content": text});
        if let (true, Some(message)) = (calls, message.as_object_mut()) {
            message.insert("tool_calls".into(), json!([{"function": {"name": TOOL, "arguments": {}}}]));
        }
        ("message", message)
    })
}

fn generate(shared: &Shared, body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("model", Kind::Text),
        required("prompt", Kind::Text),
        nullable("suffix", Kind::Text),
        nullable("system", Kind::Text),
        nullable("template", Kind::Text),
        nullable("images", Kind::List),
        nullable("format", Kind::Any),
        nullable("options", Kind::Object),
        nullable("stream", Kind::Flag),
        nullable("raw", Kind::Flag),
        nullable("keep_alive", Kind::Any),
        nullable("context", Kind::List),
        nullable("think", Kind::Any),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    let dialogue = Dialogue::of(body.text("prompt").unwrap_or_default());
    answer(shared, body, &dialogue, |text, _| ("response", text.into()))
}
