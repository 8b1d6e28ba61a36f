//! Cohere under `/cohere`.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::{json, Map, Value};

use super::call::{either, ranking, test_width, Call};
use super::images;
use super::outcome::{decide, Form, Outcome, TOOL};
use super::strict::{self, failure, nullable, optional, required, Fault, Kind, Member, Object, Violation};
use crate::answer::Answer;
use crate::embedding::{embedding_for, tokens};
use crate::shared::Shared;

const MAX_TEXTS: usize = 96;
const INPUT_TYPES: &[&str] = &["search_document", "search_query", "classification", "clustering", "image"];

fn error(status: u16, message: &str) -> Answer {
    Answer::json(status, &json!({ "message": message }))
}

fn refuse(violation: &Violation) -> Answer {
    let place = violation.place.as_str();
    match &violation.fault {
        Fault::Method => error(405, "method not allowed"),
        Fault::ContentType(_) => error(400, "invalid request: content type must be application/json"),
        Fault::Syntax(message) => error(400, &format!("invalid json syntax: {message}")),
        Fault::NotAnObject => error(400, "invalid type: parameter is not an object"),
        Fault::Missing => error(400, &format!("invalid request: {place} is required")),
        Fault::Unknown => error(422, &format!("unknown field: parameter '{place}' is not a valid field")),
        Fault::Type(kind) => {
            error(400, &format!("invalid type: parameter {place} is of the wrong type but should be {}", kind.name()))
        }
        Fault::Value(message) => error(400, message),
        Fault::Status(status) => error(*status, &failure(*status)),
    }
}

/// The routes under `/cohere`.
pub(super) fn route(call: &Call<'_>) -> Answer {
    either(serve(call))
}

fn serve(call: &Call<'_>) -> Result<Answer, Answer> {
    let serve: fn(&Shared, &Value) -> Result<Answer, Violation> = match call.parts {
        ["v2", "embed"] => |_, body| embed(body),
        ["v2", "rerank"] => |_, body| rerank(body),
        ["v2", "chat"] => chat,
        _ => return Err(error(404, "404 page not found")),
    };
    match call.bearer() {
        None | Some("") => return Err(error(401, "no api key supplied")),
        Some(key) if !call.is_key(key) => return Err(error(401, "invalid api token")),
        Some(_) => {}
    }
    strict::body(call).and_then(|body| serve(call.shared, &body)).map_err(|violation| refuse(&violation))
}

fn embed(body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("model", Kind::Text),
        required("input_type", Kind::Text),
        optional("texts", Kind::List),
        optional("images", Kind::List),
        optional("embedding_types", Kind::List),
        optional("output_dimension", Kind::Whole),
        optional("max_tokens", Kind::Whole),
        optional("truncate", Kind::Text),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    let model = body.text("model").unwrap_or_default();
    let kind = body.choice("input_type", INPUT_TYPES)?;
    body.choice("truncate", &["NONE", "START", "END"])?;
    let (inputs, are_images) = match (body.get("texts"), body.get("images")) {
        (Some(texts), None) => (strict::texts(Some(texts), "texts")?, false),
        (None, Some(images)) => (strict::texts(Some(images), "images")?, true),
        (None, None) => return Err(Violation::value("texts", "invalid request: one of texts or images must be set")),
        (Some(_), Some(_)) => {
            return Err(Violation::value("texts", "invalid request: only one of texts or images may be set"));
        }
    };
    if are_images != (kind == Some("image")) {
        return Err(Violation::value("input_type", "invalid request: input_type 'image' goes with images only"));
    }
    if are_images && inputs.iter().any(|image| !image.starts_with("data:image/")) {
        return Err(Violation::value("images", "invalid request: images must be data URIs"));
    }
    if inputs.is_empty() || inputs.iter().any(String::is_empty) {
        let message = "invalid request: list of texts must not be empty and must not contain empty strings";
        return Err(Violation::value("texts", message));
    }
    if inputs.len() > MAX_TEXTS {
        let count = inputs.len();
        let message = format!("invalid request: total number of texts must be at most {MAX_TEXTS} - received {count}");
        return Err(Violation::value("texts", message));
    }
    let native = match model {
        "embed-english-v3.0" | "embed-multilingual-v3.0" => 1024,
        "embed-english-light-v3.0" | "embed-multilingual-light-v3.0" => 384,
        _ => test_width(model).unwrap_or(1536),
    };
    let asked = body.width("output_dimension", &[256, 512, 1024, 1536])?;
    if asked.is_some() && model.ends_with("-v3.0") {
        let message = format!("invalid request: output_dimension is not supported by model {model}");
        return Err(Violation::value("output_dimension", message));
    }
    let vectors: Vec<Vec<f32>> = inputs.iter().map(|text| embedding_for(text, asked.unwrap_or(native))).collect();
    let types = match body.get("embedding_types") {
        None => vec!["float".to_owned()],
        Some(types) => strict::texts(Some(types), "embedding_types")?,
    };
    let mut embeddings = Map::new();
    for name in types {
        let all: Value = match name.as_str() {
            "float" => vectors.iter().cloned().map(Value::from).collect(),
            "int8" => vectors.iter().map(|vector| int8(vector)).collect(),
            "base64" => vectors
                .iter()
                .map(|vector| {
                    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                    STANDARD.encode(bytes)
                })
                .collect(),
            _ => {
                let message = format!("invalid request: '{name}' is not a supported embedding type");
                return Err(Violation::value("embedding_types", message));
            }
        };
        embeddings.insert(name, all);
    }
    let used: usize = inputs.iter().map(|text| tokens(text)).sum();
    let mut answer = json!({
        "id": "test-embed",
        "embeddings": embeddings,
        "response_type": "embeddings_by_type",
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": used}},
    });
    if let (false, Some(answer)) = (are_images, answer.as_object_mut()) {
        answer.insert("texts".into(), inputs.into());
    }
    Ok(Answer::json(200, &answer))
}

/// A vector in integers of one byte.
pub(super) fn int8(vector: &[f32]) -> Value {
    vector.iter().map(|value| (value * 127.0).round() as i8).collect()
}

fn rerank(body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("model", Kind::Text),
        required("query", Kind::Text),
        required("documents", Kind::List),
        optional("top_n", Kind::Whole),
        optional("max_tokens_per_doc", Kind::Whole),
        optional("priority", Kind::Whole),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    let query = body.text("query").unwrap_or_default();
    if query.is_empty() {
        return Err(Violation::value("query", "invalid request: query must not be empty"));
    }
    let documents = strict::texts(body.get("documents"), "documents")?;
    if documents.is_empty() {
        return Err(Violation::value("documents", "invalid request: list of documents must not be empty"));
    }
    let top = match body.whole("top_n") {
        None => documents.len(),
        Some(top) => usize::try_from(top)
            .ok()
            .filter(|top| *top > 0)
            .ok_or_else(|| Violation::value("top_n", "invalid request: top_n must be greater than 0"))?,
    };
    let results = ranking(query, &documents)
        .into_iter()
        .take(top)
        .map(|(index, score)| json!({"index": index, "relevance_score": score}));
    let meta = json!({"api_version": {"version": "2"}, "billed_units": {"search_units": 1}});
    let answer = json!({"id": "test-rerank", "results": results.collect::<Vec<_>>(), "meta": meta});
    Ok(Answer::json(200, &answer))
}

fn chat(shared: &Shared, body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("model", Kind::Text),
        required("messages", Kind::List),
        optional("stream", Kind::Flag),
        optional("temperature", Kind::Number),
        optional("max_tokens", Kind::Whole),
        optional("stop_sequences", Kind::List),
        optional("p", Kind::Number),
        optional("k", Kind::Whole),
        optional("seed", Kind::Whole),
        optional("frequency_penalty", Kind::Number),
        optional("presence_penalty", Kind::Number),
        optional("response_format", Kind::Object),
        optional("safety_mode", Kind::Text),
        optional("tools", Kind::List),
        optional("documents", Kind::List),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    if body.flag("stream") == Some(true) {
        return Err(Violation::value("stream", "invalid request: the local endpoint does not stream"));
    }
    let more = [nullable("tool_calls", Kind::List), nullable("tool_call_id", Kind::Text)];
    let roles = ["system", "user", "assistant", "tool"];
    let dialogue = strict::conversation(body.list("messages").unwrap_or_default(), &roles, &more, images::image_urls)?;
    let outcome = decide(shared, &dialogue, form(body)?)?;
    let finish = match &outcome {
        Outcome::Text(_) | Outcome::Empty => "COMPLETE",
        Outcome::Cut(_) => "MAX_TOKENS",
        Outcome::Tool => "TOOL_CALL",
        // The service documents no refusal, but that generating may fail.
        Outcome::Refused => "ERROR",
    };
    let message = match &outcome {
        Outcome::Text(text) | Outcome::Cut(text) => {
            json!({"role": "assistant", "content": [{"type": "text", "text": text}]})
        }
        Outcome::Tool => {
            let call = json!({"id": "test-call", "type": "function", "function": {"name": TOOL, "arguments": "{}"}});
            json!({"role": "assistant", "tool_plan": "I will look it up.", "tool_calls": [call]})
        }
        Outcome::Refused | Outcome::Empty => json!({"role": "assistant", "content": []}),
    };
    let units = json!({"input_tokens": tokens(dialogue.last()), "output_tokens": tokens(outcome.text())});
    let answer = json!({
        "id": "test-chat",
        "finish_reason": finish,
        "message": message,
        "usage": {"billed_units": units, "tokens": units},
    });
    Ok(Answer::json(200, &answer))
}

/// The format that the member `response_format` requires.
fn form(body: Object<'_>) -> Result<Form<'_>, Violation> {
    const MEMBERS: &[Member] = &[required("type", Kind::Text), optional("json_schema", Kind::Object)];
    let place = "response_format";
    let Some(format) = body.get(place) else { return Ok(Form::Free) };
    let format = strict::object(format, place, MEMBERS)?;
    let schema = format.get("json_schema");
    match (format.text("type"), schema) {
        (Some("text"), None) => Ok(Form::Free),
        (Some("json_object"), _) if body.get("tools").is_some() || body.get("documents").is_some() => {
            let message = "invalid request: response_format json_object is not supported with tools or documents";
            Err(Violation::value(place, message))
        }
        (Some("json_object"), None) => Ok(Form::Json),
        (Some("json_object"), Some(schema)) => {
            check_schema(schema, true).map_err(|why| {
                let message = format!("invalid request: response_format.json_schema is invalid: {why}");
                Violation::value(place, message)
            })?;
            Ok(Form::Schema(schema))
        }
        _ => Err(Violation::value(place, "invalid request: response_format.type must be 'text' or 'json_object'")),
    }
}

/// Checks the service's rules for schemas: an object at the top, and a required property in each object.
fn check_schema(schema: &Value, top: bool) -> Result<(), &'static str> {
    let is_object = schema.get("type").is_some_and(|kind| kind == "object");
    if top && !is_object {
        return Err("the top level must be of type object");
    }
    if is_object && schema.get("required").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return Err("an object must have at least one required field");
    }
    for group in ["properties", "$defs"] {
        let parts = schema.get(group).and_then(Value::as_object);
        parts.into_iter().flatten().try_for_each(|(_, part)| check_schema(part, false))?;
    }
    schema.get("items").map_or(Ok(()), |items| check_schema(items, false))
}
