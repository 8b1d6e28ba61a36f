//! Anthropic under `/anthropic`, and its messages in Vertex AI's form.

use serde_json::{json, Value};

use super::call::{either, Call};
use super::images;
use super::outcome::{decide, Form, Outcome, TOOL};
use super::schemas;
use super::strict::{self, failure, nullable, optional, required, Fault, Kind, Member, Object, Violation};
use crate::answer::Answer;
use crate::embedding::tokens;
use crate::shared::Shared;

const VERSION: &str = "2023-06-01";
const VERTEX_VERSION: &str = "vertex-2023-10-16";

const COMMON: &[Member] = &[
    required("max_tokens", Kind::Whole),
    required("messages", Kind::List),
    optional("system", Kind::TextOrList),
    optional("temperature", Kind::Number),
    optional("top_p", Kind::Number),
    optional("top_k", Kind::Whole),
    optional("stop_sequences", Kind::List),
    optional("stream", Kind::Flag),
    optional("metadata", Kind::Object),
    optional("thinking", Kind::Object),
    optional("tools", Kind::List),
    optional("tool_choice", Kind::Object),
    nullable("output_config", Kind::Object),
    // Its name in the beta.
    nullable("output_format", Kind::Any),
];

/// An error in Anthropic's shape.
pub(super) fn error(status: u16, kind: &str, message: &str) -> Answer {
    let error = json!({"type": kind, "message": message});
    Answer::json(status, &json!({"type": "error", "error": error, "request_id": "req_test"}))
        .with_header("request-id", "req_test")
}

fn invalid(message: &str) -> Answer {
    error(400, "invalid_request_error", message)
}

/// Anthropic's answer to an invalid request.
pub(super) fn refuse(violation: &Violation) -> Answer {
    let place = violation.place.as_str();
    match &violation.fault {
        Fault::Method => error(405, "invalid_request_error", "Method Not Allowed"),
        Fault::ContentType(_) => invalid("Content type must be application/json"),
        Fault::Syntax(error) => invalid(&format!("The request body is not valid JSON: {error}")),
        Fault::NotAnObject if place.is_empty() => invalid("Input should be a valid dictionary"),
        Fault::NotAnObject => invalid(&format!("{place}: Input should be a valid dictionary")),
        Fault::Missing => invalid(&format!("{place}: Field required")),
        Fault::Unknown => invalid(&format!("{place}: Extra inputs are not permitted")),
        Fault::Type(kind) => invalid(&format!("{place}: Input should be a valid {}", kind.name())),
        Fault::Value(message) if place.is_empty() => invalid(message),
        Fault::Value(message) => invalid(&format!("{place}: {message}")),
        Fault::Status(status) => {
            let kind = match status {
                401 => "authentication_error",
                403 => "permission_error",
                404 => "not_found_error",
                413 => "request_too_large",
                429 => "rate_limit_error",
                504 => "timeout_error",
                529 => "overloaded_error",
                500.. => "api_error",
                _ => "invalid_request_error",
            };
            error(*status, kind, &failure(*status))
        }
    }
}

/// The routes under `/anthropic`.
pub(super) fn route(call: &Call<'_>) -> Answer {
    either(serve(call))
}

fn serve(call: &Call<'_>) -> Result<Answer, Answer> {
    let serve: fn(&Call<'_>, &Value) -> Result<Answer, Violation> = match call.parts {
        ["v1", "messages"] => |call, body| messages(call.shared, body, None),
        ["v1", "messages", "count_tokens"] => |_, body| count_tokens(body, false),
        _ => return Err(error(404, "not_found_error", "Not found")),
    };
    match call.header("x-api-key") {
        None | Some("") => return Err(error(401, "authentication_error", "x-api-key header is required")),
        Some(key) if !call.is_key(key) => return Err(error(401, "authentication_error", "invalid x-api-key")),
        Some(_) => {}
    }
    match call.header("anthropic-version") {
        None => return Err(invalid("anthropic-version: header is required")),
        Some(VERSION) => {}
        Some(other) => return Err(invalid(&format!("anthropic-version: \"{other}\" is not a valid version"))),
    }
    let body = strict::body(call).map_err(|violation| refuse(&violation))?;
    let answer = serve(call, &body).map_err(|violation| refuse(&violation))?;
    Ok(answer
        .with_header("request-id", "req_test")
        .with_header("anthropic-ratelimit-requests-limit", "50")
        .with_header("anthropic-ratelimit-requests-remaining", "49")
        .with_header("anthropic-ratelimit-requests-reset", "2030-01-01T00:00:00Z"))
}

/// Tokens that the service adds to a message.
const BESIDE_A_MESSAGE: usize = 7;

/// Counts the tokens of messages. There is no model `claude-2...` for it.
pub(super) fn count_tokens(body: &Value, on_vertex: bool) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("model", Kind::Text),
        required("messages", Kind::List),
        optional("system", Kind::TextOrList),
        optional("tools", Kind::List),
        optional("tool_choice", Kind::Object),
        optional("thinking", Kind::Object),
        nullable("output_config", Kind::Object),
    ];
    const VERTEX: &[Member] = &[required("anthropic_version", Kind::Text)];
    let body = strict::object(body, "", &[MEMBERS, if on_vertex { VERTEX } else { &[] }].concat())?;
    if body.text("model").unwrap_or_default().starts_with("claude-2") {
        return Err(Violation::status(404));
    }
    let messages = body.list("messages").unwrap_or_default();
    let dialogue = strict::conversation(messages, &["user", "assistant"], &[], images::anthropic)?;
    if dialogue.texts().any(str::is_empty) {
        return Err(Violation::value("messages", "text content blocks must be non-empty"));
    }
    let count: usize = dialogue.texts().map(|text| tokens(text) + BESIDE_A_MESSAGE).sum();
    Ok(Answer::json(200, &json!({"input_tokens": count})))
}

/// Answers messages. On Vertex AI the path has the model and the body the version.
pub(super) fn messages(shared: &Shared, body: &Value, vertex_model: Option<&str>) -> Result<Answer, Violation> {
    let first = match vertex_model {
        None => required("model", Kind::Text),
        Some(_) => required("anthropic_version", Kind::Text),
    };
    let members = [&[first], COMMON].concat();
    let body = strict::object(body, "", &members)?;
    if vertex_model.is_some() && body.text("anthropic_version") != Some(VERTEX_VERSION) {
        return Err(Violation::value("anthropic_version", format!("Input should be '{VERTEX_VERSION}'")));
    }
    let model = vertex_model.or(body.text("model")).unwrap_or_default();
    if model.is_empty() {
        return Err(Violation::value("model", "String should have at least 1 character"));
    }
    let most = usize::try_from(body.whole("max_tokens").unwrap_or_default()).unwrap_or_default();
    if most == 0 {
        return Err(Violation::value("max_tokens", "Input should be greater than or equal to 1"));
    }
    for name in ["temperature", "top_p"] {
        if body.number(name).is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            return Err(Violation::value(name, "range: 0..1"));
        }
    }
    if body.flag("stream") == Some(true) {
        return Err(Violation::value("stream", "the local endpoint does not stream"));
    }
    if let Some(system) = body.get("system") {
        strict::content(system, "system", images::none)?;
    }
    let messages = body.list("messages").unwrap_or_default();
    if let Some(first) = messages.first() {
        match first.get("role").and_then(Value::as_str) {
            Some("system") => {
                let message =
                    "Unexpected role \"system\". The Messages API accepts a top-level `system` parameter, not \
                               \"system\" as an input message role.";
                return Err(Violation::value("messages", message));
            }
            Some("assistant") => {
                return Err(Violation::value("messages", "first message must use the \"user\" role"));
            }
            _ => {}
        }
    }
    let dialogue = strict::conversation(messages, &["user", "assistant"], &[], images::anthropic)?;
    let mut outcome = decide(shared, &dialogue, form(body, model)?)?;
    if let Outcome::Text(text) = &mut outcome
        && tokens(text) > most
    {
        let mut end = most.saturating_mul(4).min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        outcome = Outcome::Cut(std::mem::take(text));
    }
    let (content, stop_reason) = match &outcome {
        Outcome::Text(text) => (json!([{"type": "text", "text": text}]), "end_turn"),
        Outcome::Cut(text) => (json!([{"type": "text", "text": text}]), "max_tokens"),
        Outcome::Tool => (json!([{"type": "tool_use", "id": "toolu_test", "name": TOOL, "input": {}}]), "tool_use"),
        Outcome::Refused => (json!([]), "refusal"),
        Outcome::Empty => (json!([]), "end_turn"),
    };
    let mut answer = json!({
        "id": "msg_test",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {"input_tokens": tokens(dialogue.last()), "output_tokens": tokens(outcome.text())},
    });
    if let (Outcome::Refused, Some(answer)) = (&outcome, answer.as_object_mut()) {
        let details = json!({"type": "refusal", "category": null, "explanation": "This request was declined."});
        answer.insert("stop_details".into(), details);
    }
    Ok(Answer::json(200, &answer))
}

/// The format that the member `output_config` requires.
fn form<'a>(body: Object<'a>, model: &str) -> Result<Form<'a>, Violation> {
    const CONFIG: &[Member] = &[nullable("format", Kind::Object), nullable("effort", Kind::Text)];
    const FORMAT: &[Member] = &[required("type", Kind::Text), required("schema", Kind::Object)];
    if body.get("output_format").is_some() {
        let message = "This field is deprecated. Use 'output_config.format' instead. See \
                       https://platform.claude.com/docs/en/build-with-claude/structured-outputs for more information.";
        return Err(Violation::value("output_format", message));
    }
    let place = "output_config";
    let Some(config) = body.get(place) else { return Ok(Form::Free) };
    let config = strict::object(config, place, CONFIG)?;
    let place = "output_config.format";
    let Some(format) = config.get("format") else { return Ok(Form::Free) };
    if ["claude-2", "claude-3"].iter().any(|old| model.contains(old)) {
        return Err(Violation::value("", format!("'{model}' does not support output format.")));
    }
    let format = strict::object(format, place, FORMAT)?;
    if format.text("type") != Some("json_schema") {
        return Err(Violation::value(strict::join(place, "type"), "Input should be 'json_schema'"));
    }
    let Some(schema) = format.get("schema") else { return Ok(Form::Free) };
    schemas::closed::check(schema).map_err(|why| Violation::value("output_config.format.schema", why))?;
    Ok(Form::Schema(schema))
}
