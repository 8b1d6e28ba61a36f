//! `OpenAI` under `/openai`, and Azure's form of the same interface under `/azure`.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::{json, Value};

use super::call::{either, ranking, test_width, Call};
use super::openai_chat::{self, chat, Kin};
use super::strict::{self, failure, nullable, optional, required, Fault, Kind, Member, Violation};
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
        Fault::Status(status) => {
            let (kind, code) = match status {
                401 => ("invalid_request_error", Some("invalid_api_key")),
                429 => ("requests", Some("rate_limit_exceeded")),
                500.. => ("server_error", None),
                _ => ("invalid_request_error", None),
            };
            error(*status, &failure(*status), kind, None, code)
        }
    }
}

/// The answer for an unknown path.
pub(super) fn no_such_url(call: &Call<'_>) -> Answer {
    let message = format!("Invalid URL ({} {})", call.request.method, call.request.path);
    error(404, &message, "invalid_request_error", None, None)
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
    enum Route {
        Embeddings,
        Chat,
        Rerank,
    }
    let route = match call.parts {
        ["v1", "embeddings"] => Route::Embeddings,
        ["v1", "chat", "completions"] => Route::Chat,
        // The service itself has no such route; compatible services have.
        ["v1", "rerank"] => Route::Rerank,
        _ => return Err(no_such_url(call)),
    };
    authorise(call)?;
    let refused = |violation| refuse(&violation);
    let body = strict::body(call).map_err(refused)?;
    match route {
        Route::Embeddings => embed(&body, None),
        Route::Chat => chat(call.shared, &body, openai_chat::MEMBERS, Kin::OpenAi, None).map_err(refused),
        Route::Rerank => rerank(&body).map_err(refused),
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
        return embed(&body, Some(deployment));
    }
    let answer = chat(call.shared, &body, openai_chat::MEMBERS, Kin::Azure, Some(deployment));
    answer.map_err(|violation| match violation.fault {
        Fault::Status(status) => {
            let error = json!({"code": status.to_string(), "message": failure(status)});
            Answer::json(status, &json!({ "error": error }))
        }
        _ => refuse(&violation),
    })
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

/// Ranks documents in Jina's format, which compatible services have beside `OpenAI`'s interface.
pub(super) fn rerank(body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("model", Kind::Text),
        required("query", Kind::Text),
        required("documents", Kind::List),
        nullable("top_n", Kind::Whole),
        nullable("return_documents", Kind::Flag),
        nullable("truncation", Kind::Flag),
        nullable("user", Kind::Text),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    let documents = strict::texts(body.get("documents"), "documents")?;
    if documents.is_empty() {
        return Err(Violation::value("documents", "Invalid 'documents': empty array. Expected at least one document."));
    }
    let top = match body.whole("top_n") {
        None => documents.len(),
        Some(top) => usize::try_from(top).ok().filter(|top| *top > 0).ok_or_else(|| {
            Violation::value("top_n", "Invalid 'top_n': integer below minimum value. Expected a value >= 1.")
        })?,
    };
    let query = body.text("query").unwrap_or_default();
    let with_text = body.flag("return_documents") == Some(true);
    let ranked = ranking(query, &documents).into_iter().take(top);
    let results = ranked.map(|(index, score)| match documents.get(index).filter(|_| with_text) {
        Some(text) => json!({"index": index, "relevance_score": score, "document": {"text": text}}),
        None => json!({"index": index, "relevance_score": score}),
    });
    let used = tokens(query) + documents.iter().map(|text| tokens(text)).sum::<usize>();
    let answer = json!({
        "model": body.text("model"),
        "usage": {"total_tokens": used},
        "results": results.collect::<Vec<_>>(),
    });
    Ok(Answer::json(200, &answer))
}
