//! Amazon Bedrock's runtime under `/bedrock`.

use serde_json::{json, Value};

use super::call::{either, reply_to, vector, Call};
use super::strict::{self, optional, required, Fault, Kind, Member, Violation};
use crate::answer::Answer;
use crate::embedding::tokens;

const TITAN_1: &str = "amazon.titan-embed-text-v1";
const TITAN_2: &str = "amazon.titan-embed-text-v2:0";
const MAX_TOKENS: usize = 8192;
const MAX_TEXTS: usize = 96;
const MAX_CHARACTERS: usize = 2048;

fn error(status: u16, kind: &str, message: &str) -> Answer {
    Answer::json(status, &json!({ "message": message })).with_header("x-amzn-ErrorType", kind)
}

fn invalid(message: &str) -> Answer {
    error(400, "ValidationException", message)
}

fn refuse(violation: &Violation) -> Answer {
    let place = violation.place.as_str();
    let malformed =
        |what: &str| invalid(&format!("Malformed input request: {what}, please reformat your input and try again."));
    match &violation.fault {
        Fault::Method => error(405, "UnsupportedOperationException", "Method Not Allowed"),
        Fault::ContentType(given) => {
            invalid(&format!("The provided content type is invalid or not supported for this model: {given}"))
        }
        Fault::Syntax(_) | Fault::NotAnObject => malformed("expected a JSON object"),
        Fault::Missing => malformed(&format!("#: required key [{place}] not found")),
        Fault::Unknown => malformed(&format!("#: extraneous key [{place}] is not permitted")),
        Fault::Type(kind) => malformed(&format!("#/{}: expected type: {}", place.replace('.', "/"), kind.name())),
        Fault::Value(message) => invalid(message),
    }
}

/// The routes under `/bedrock`.
pub(super) fn route(call: &Call<'_>) -> Answer {
    either(serve(call))
}

fn serve(call: &Call<'_>) -> Result<Answer, Answer> {
    let ["model", model, operation @ ("invoke" | "converse")] = call.parts else {
        return Err(error(
            404,
            "UnknownOperationException",
            "Unable to determine service/operation name to be authorized",
        ));
    };
    match call.bearer() {
        None | Some("") => {
            return Err(error(403, "MissingAuthenticationTokenException", "Missing Authentication Token"))
        }
        Some(key) if !call.is_key(key) => {
            let message = "Authentication failed: Please make sure your API Key is valid.";
            return Err(error(403, "AccessDeniedException", message));
        }
        Some(_) => {}
    }
    let no_model = || invalid("The provided model identifier is invalid.");
    let serve: fn(&Value, &str) -> Result<Answer, Violation> = match (*operation, *model) {
        ("invoke", TITAN_1 | TITAN_2) => titan,
        ("invoke", "cohere.embed-english-v3" | "cohere.embed-multilingual-v3") => cohere,
        ("converse", model) if model.contains(".titan-embed") || model.contains("cohere.embed") => {
            return Err(invalid("This action doesn't support the model that you provided. Try again with a supported text or chat model."));
        }
        ("converse", model) if model.contains('.') => converse,
        _ => return Err(no_model()),
    };
    strict::body(call).and_then(|body| serve(&body, model)).map_err(|violation| refuse(&violation))
}

fn titan(body: &Value, model: &str) -> Result<Answer, Violation> {
    const FIRST: &[Member] = &[required("inputText", Kind::Text)];
    const SECOND: &[Member] = &[
        required("inputText", Kind::Text),
        optional("dimensions", Kind::Whole),
        optional("normalize", Kind::Flag),
        optional("embeddingTypes", Kind::List),
    ];
    let second = model == TITAN_2;
    let body = strict::object(body, "", if second { SECOND } else { FIRST })?;
    let text = body.text("inputText").unwrap_or_default();
    if text.is_empty() {
        let message = "Malformed input request: expected minLength: 1, actual: 0, please reformat your input and try \
                       again.";
        return Err(Violation::value("inputText", message));
    }
    let count = tokens(text);
    if count > MAX_TOKENS {
        let message = format!(
            "400 Bad Request: Too many input tokens. Max input tokens: {MAX_TOKENS}, request input token count: {count} "
        );
        return Err(Violation::value("inputText", message));
    }
    let width = match second {
        true => body.width("dimensions", &[256, 512, 1024])?.unwrap_or(1024),
        false => 1536,
    };
    if let Some(types) = body.get("embeddingTypes")
        && strict::texts(Some(types), "embeddingTypes")?.iter().any(|name| name != "float")
    {
        return Err(Violation::value("embeddingTypes", "The local endpoint has embeddings of type float only."));
    }
    let embedding = vector(text, width);
    let mut answer = json!({"embedding": embedding, "inputTextTokenCount": count});
    if let (true, Some(answer)) = (second, answer.as_object_mut()) {
        answer.insert("embeddingsByType".into(), json!({ "float": embedding }));
    }
    Ok(Answer::json(200, &answer).with_header("X-Amzn-Bedrock-Input-Token-Count", &count.to_string()))
}

fn cohere(body: &Value, _: &str) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("texts", Kind::List),
        required("input_type", Kind::Text),
        optional("truncate", Kind::Text),
        optional("embedding_types", Kind::List),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    body.choice("input_type", &["search_document", "search_query", "classification", "clustering"])?;
    let truncate = body.choice("truncate", &["NONE", "START", "END"])?;
    let texts = strict::texts(body.get("texts"), "texts")?;
    if texts.is_empty() || texts.len() > MAX_TEXTS || texts.iter().any(String::is_empty) {
        let message = format!(
            "Malformed input request: #/texts: expected between 1 and {MAX_TEXTS} texts that are not empty, please \
             reformat your input and try again."
        );
        return Err(Violation::value("texts", message));
    }
    if truncate.is_none_or(|how| how == "NONE") && texts.iter().any(|text| text.chars().count() > MAX_CHARACTERS) {
        let message = format!(
            "Malformed input request: expected maxLength: {MAX_CHARACTERS}, please reformat your input and try again."
        );
        return Err(Violation::value("texts", message));
    }
    let vectors: Value = texts.iter().map(|text| vector(text, 1024)).collect();
    let (embeddings, kind) = match body.get("embedding_types") {
        None => (vectors, "embeddings_floats"),
        Some(types) => {
            if strict::texts(Some(types), "embedding_types")?.iter().any(|name| name != "float") {
                let message = "The local endpoint has embeddings of type float only.";
                return Err(Violation::value("embedding_types", message));
            }
            (json!({ "float": vectors }), "embeddings_by_type")
        }
    };
    let answer = json!({"embeddings": embeddings, "id": "test-embed", "response_type": kind, "texts": texts});
    Ok(Answer::json(200, &answer))
}

fn converse(body: &Value, _: &str) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("messages", Kind::List),
        optional("system", Kind::List),
        optional("inferenceConfig", Kind::Object),
        optional("toolConfig", Kind::Object),
        optional("guardrailConfig", Kind::Object),
        optional("additionalModelRequestFields", Kind::Any),
        optional("additionalModelResponseFieldPaths", Kind::List),
        optional("requestMetadata", Kind::Object),
    ];
    const CONFIG: &[Member] = &[
        optional("maxTokens", Kind::Whole),
        optional("temperature", Kind::Number),
        optional("topP", Kind::Number),
        optional("stopSequences", Kind::List),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    let messages = body.list("messages").unwrap_or_default();
    if messages.is_empty() {
        let message = "The messages field cannot be empty. Add at least one message and try again.";
        return Err(Violation::value("messages", message));
    }
    let mut said = String::new();
    for (index, message) in messages.iter().enumerate() {
        let place = format!("messages.{index}");
        let message =
            strict::object(message, &place, &[required("role", Kind::Text), required("content", Kind::List)])?;
        let expected = if index % 2 == 0 { "user" } else { "assistant" };
        match message.text("role") {
            Some(role) if role == expected => {}
            Some("user" | "assistant") if index == 0 => {
                let message =
                    "A conversation must start with a user message. Try again with a conversation that starts \
                               with a user message.";
                return Err(Violation::value(place, message));
            }
            Some("user" | "assistant") => {
                let message = "A conversation must alternate between user and assistant roles. Make sure the \
                               conversation alternates between user and assistant roles and try again.";
                return Err(Violation::value(place, message));
            }
            _ => {
                let message = format!(
                    "1 validation error detected: Value at '{place}.role' failed to satisfy constraint: Member must \
                     satisfy enum value set: [user, assistant]"
                );
                return Err(Violation::value(place, message));
            }
        }
        let text = blocks(message.list("content").unwrap_or_default(), &strict::join(&place, "content"))?;
        if expected == "user" {
            said = text;
        }
    }
    blocks(body.list("system").unwrap_or_default(), "system")?;
    if let Some(config) = body.get("inferenceConfig") {
        let config = strict::object(config, "inferenceConfig", CONFIG)?;
        if config.whole("maxTokens").is_some_and(|value| value < 1) {
            let message = "1 validation error detected: Value at 'inferenceConfig.maxTokens' failed to satisfy \
                           constraint: Member must have value greater than or equal to 1";
            return Err(Violation::value("inferenceConfig.maxTokens", message));
        }
    }
    let text = reply_to(&said);
    let (input, output) = (tokens(&said), tokens(&text));
    let answer = json!({
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": input, "outputTokens": output, "totalTokens": input + output},
        "metrics": {"latencyMs": 1},
    });
    Ok(Answer::json(200, &answer))
}

/// The text of content blocks, which may hold text only.
fn blocks(blocks: &[Value], place: &str) -> Result<String, Violation> {
    let mut said = String::new();
    for (index, block) in blocks.iter().enumerate() {
        let block = strict::object(block, &format!("{place}.{index}"), &[required("text", Kind::Text)])?;
        let text = block.text("text").unwrap_or_default();
        if text.is_empty() {
            let message =
                "The text field in the ContentBlock object is blank. Add text to the text field, and try again.";
            return Err(Violation::value(place, message));
        }
        said.push_str(text);
    }
    Ok(said)
}
