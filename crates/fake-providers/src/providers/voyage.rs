//! Voyage AI under `/voyage`.

use serde_json::{json, Value};

use super::call::{either, ranking, test_width, Call};
use super::strict::{self, failure, nullable, optional, required, Fault, Kind, Member, Violation};
use super::{cohere, openai};
use crate::answer::Answer;
use crate::embedding::{embedding_for, tokens};

const MAX_TEXTS: usize = 1000;
const MAX_TOKENS: usize = 32_000;

fn error(status: u16, detail: &str) -> Answer {
    Answer::json(status, &json!({ "detail": detail }))
}

fn refuse(violation: &Violation) -> Answer {
    let place = violation.place.as_str();
    match &violation.fault {
        Fault::Method => error(405, "Method Not Allowed"),
        Fault::ContentType(_) | Fault::Syntax(_) | Fault::NotAnObject => {
            error(400, "The request body is not valid JSON, or some arguments were not specified properly.")
        }
        Fault::Missing => error(400, &format!("The request body is missing a required argument: '{place}'.")),
        Fault::Unknown => error(400, &format!("Argument '{place}' is not supported by our API.")),
        Fault::Type(kind) => error(400, &format!("Argument '{place}' is of the wrong type: expected {}.", kind.name())),
        Fault::Value(message) => error(400, message),
        Fault::Status(status) => error(*status, &failure(*status)),
    }
}

/// The routes under `/voyage`.
pub(super) fn route(call: &Call<'_>) -> Answer {
    either(serve(call))
}

fn serve(call: &Call<'_>) -> Result<Answer, Answer> {
    let serve = match call.parts {
        ["v1", "embeddings"] => embed,
        ["v1", "rerank"] => rerank,
        _ => return Err(error(404, "Not Found")),
    };
    if !call.bearer().is_some_and(|key| call.is_key(key)) {
        return Err(error(401, "Provided API key is invalid."));
    }
    strict::body(call).and_then(|body| serve(&body)).map_err(|violation| refuse(&violation))
}

fn check_texts(texts: &[String], place: &str, truncates: bool) -> Result<usize, Violation> {
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        let message = format!("Argument '{place}' must not be empty, nor contain an empty string.");
        return Err(Violation::value(place, message));
    }
    if texts.len() > MAX_TEXTS {
        let message = format!("The batch size limit is {MAX_TEXTS}. Your batch size is {}.", texts.len());
        return Err(Violation::value(place, message));
    }
    let longest = texts.iter().map(|text| tokens(text)).max().unwrap_or(0);
    if longest > MAX_TOKENS && !truncates {
        let message = format!("The example has {longest} tokens, which exceeds the max length of {MAX_TOKENS}.");
        return Err(Violation::value(place, message));
    }
    Ok(texts.iter().map(|text| tokens(text)).sum())
}

fn embed(body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("model", Kind::Text),
        required("input", Kind::TextOrList),
        nullable("input_type", Kind::Text),
        optional("truncation", Kind::Flag),
        nullable("output_dimension", Kind::Whole),
        optional("output_dtype", Kind::Text),
        nullable("encoding_format", Kind::Text),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    let model = body.text("model").unwrap_or_default();
    body.choice("input_type", &["query", "document"])?;
    let base64 = body.choice("encoding_format", &["base64"])?.is_some();
    let whole = body.choice("output_dtype", &["float", "int8"])? == Some("int8");
    if whole && base64 {
        return Err(Violation::value("encoding_format", "The local endpoint encodes floats only."));
    }
    let asked = body.width("output_dimension", &[256, 512, 1024, 2048])?;
    let width = asked.unwrap_or_else(|| test_width(model).unwrap_or(1024));
    let texts = strict::texts(body.get("input"), "input")?;
    let used = check_texts(&texts, "input", body.flag("truncation").unwrap_or(true))?;
    let data = texts.iter().enumerate().map(|(index, text)| {
        let vector = embedding_for(text, width);
        let embedding = if whole { cohere::int8(&vector) } else { openai::encoded(&vector, base64) };
        json!({"object": "embedding", "embedding": embedding, "index": index})
    });
    let data: Vec<Value> = data.collect();
    let usage = json!({"total_tokens": used});
    Ok(Answer::json(200, &json!({"object": "list", "data": data, "model": model, "usage": usage})))
}

fn rerank(body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("query", Kind::Text),
        required("documents", Kind::List),
        required("model", Kind::Text),
        nullable("top_k", Kind::Whole),
        optional("return_documents", Kind::Flag),
        optional("truncation", Kind::Flag),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    let documents = strict::texts(body.get("documents"), "documents")?;
    let used = check_texts(&documents, "documents", body.flag("truncation").unwrap_or(true))?;
    let top = match body.whole("top_k") {
        None => documents.len(),
        Some(top) => usize::try_from(top)
            .ok()
            .filter(|top| *top > 0)
            .ok_or_else(|| Violation::value("top_k", "Argument 'top_k' must be positive."))?,
    };
    let with_text = body.flag("return_documents") == Some(true);
    let ranked = ranking(body.text("query").unwrap_or_default(), &documents).into_iter().take(top);
    let data = ranked.map(|(index, score)| match documents.get(index).filter(|_| with_text) {
        Some(text) => json!({"index": index, "relevance_score": score, "document": text}),
        None => json!({"index": index, "relevance_score": score}),
    });
    let data: Vec<Value> = data.collect();
    let usage = json!({"total_tokens": used});
    Ok(Answer::json(200, &json!({"object": "list", "data": data, "model": body.text("model"), "usage": usage})))
}
