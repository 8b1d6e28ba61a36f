//! Amazon Bedrock's runtime under `/bedrock`.

use serde_json::{json, Value};

use super::call::{either, ranking, vector, Call};
use super::dialogue::Dialogue;
use super::images;
use super::outcome::{decide, Form, Outcome, REFUSAL, TOOL};
use super::schemas;
use super::strict::{self, failure, nullable, optional, required, Fault, Kind, Member, Object, Violation};
use crate::answer::Answer;
use crate::embedding::tokens;
use crate::shared::Shared;

const TITAN_1: &str = "amazon.titan-embed-text-v1";
const TITAN_2: &str = "amazon.titan-embed-text-v2:0";
const RERANK: &str = "cohere.rerank-v3-5:0";
/// Parts of the names of models without structured output.
const UNSTRUCTURED: &[&str] = &["claude-3", "claude-v2", "claude-instant", "amazon.titan", "amazon.nova"];
const MAX_DOCUMENTS: usize = 1000;
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
        Fault::Status(status) => {
            let kind = match status {
                403 => "AccessDeniedException",
                404 => "ResourceNotFoundException",
                408 => "ModelTimeoutException",
                424 => "ModelErrorException",
                429 => "ThrottlingException",
                503 => "ServiceUnavailableException",
                500.. => "InternalServerException",
                _ => "ValidationException",
            };
            error(*status, kind, &failure(*status))
        }
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
    let serve: fn(&Shared, &Value, &str) -> Result<Answer, Violation> = match (*operation, *model) {
        ("invoke", TITAN_1 | TITAN_2) => |_, body, model| titan(body, model),
        ("invoke", "cohere.embed-english-v3" | "cohere.embed-multilingual-v3") => |_, body, _| cohere(body),
        ("invoke", RERANK) => |_, body, _| rerank(body),
        ("converse", model) if [".titan-embed", "cohere.embed", "rerank"].iter().any(|name| model.contains(name)) => {
            return Err(invalid("This action doesn't support the model that you provided. Try again with a supported text or chat model."));
        }
        ("converse", model) if model.contains('.') => converse,
        _ => return Err(no_model()),
    };
    strict::body(call).and_then(|body| serve(call.shared, &body, model)).map_err(|violation| refuse(&violation))
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

fn cohere(body: &Value) -> Result<Answer, Violation> {
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

fn converse(shared: &Shared, body: &Value, model: &str) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("messages", Kind::List),
        optional("system", Kind::List),
        optional("inferenceConfig", Kind::Object),
        optional("toolConfig", Kind::Object),
        optional("guardrailConfig", Kind::Object),
        optional("additionalModelRequestFields", Kind::Any),
        optional("additionalModelResponseFieldPaths", Kind::List),
        optional("requestMetadata", Kind::Object),
        optional("outputConfig", Kind::Object),
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
    let mut dialogue = Dialogue::default();
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
        dialogue.say(expected, text);
    }
    dialogue.say("system", blocks(body.list("system").unwrap_or_default(), "system")?);
    if let Some(config) = body.get("inferenceConfig") {
        let config = strict::object(config, "inferenceConfig", CONFIG)?;
        if config.whole("maxTokens").is_some_and(|value| value < 1) {
            let message = "1 validation error detected: Value at 'inferenceConfig.maxTokens' failed to satisfy \
                           constraint: Member must have value greater than or equal to 1";
            return Err(Violation::value("inferenceConfig.maxTokens", message));
        }
    }
    // The service validates requests by model, and these do not have the member.
    if body.get("outputConfig").is_some() && UNSTRUCTURED.iter().any(|old| model.contains(old)) {
        return Err(Violation::unknown("outputConfig"));
    }
    let written = body.get("outputConfig").map_or(Ok(None), written_schema)?;
    let form = written.as_ref().map_or(Form::Free, Form::Schema);
    let outcome = decide(shared, &dialogue, form)?;
    let (content, stop_reason) = match &outcome {
        Outcome::Text(text) => (json!([{"text": text}]), "end_turn"),
        Outcome::Cut(text) => (json!([{"text": text}]), "max_tokens"),
        Outcome::Tool => (json!([{"toolUse": {"toolUseId": "tooluse_test", "name": TOOL, "input": {}}}]), "tool_use"),
        // A guardrail's text comes from its owner.
        Outcome::Refused if body.get("guardrailConfig").is_some() => {
            (json!([{"text": REFUSAL}]), "guardrail_intervened")
        }
        Outcome::Refused => (json!([]), "content_filtered"),
        Outcome::Empty => (json!([]), "end_turn"),
    };
    let (input, output) = (tokens(dialogue.last()), tokens(outcome.text()));
    let answer = json!({
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop_reason,
        "usage": {"inputTokens": input, "outputTokens": output, "totalTokens": input + output},
        "metrics": {"latencyMs": 1},
    });
    Ok(Answer::json(200, &answer))
}

/// The schema of `outputConfig`, which is a text that has JSON; None when it wants no format.
fn written_schema(config: &Value) -> Result<Option<Value>, Violation> {
    const FORMAT: &[Member] = &[required("type", Kind::Text), required("structure", Kind::Object)];
    const SCHEMA: &[Member] =
        &[required("schema", Kind::Text), optional("name", Kind::Text), optional("description", Kind::Text)];
    let inside = |value: Object<'_>, name: &str| value.get(name).cloned().unwrap_or_default();
    let place = "outputConfig";
    let config = strict::object(config, place, &[optional("textFormat", Kind::Object)])?;
    let Some(format) = config.get("textFormat") else { return Ok(None) };
    let place = strict::join(place, "textFormat");
    let format = strict::object(format, &place, FORMAT)?;
    if format.text("type") != Some("json_schema") {
        let message = format!(
            "1 validation error detected: Value at '{place}.type' failed to satisfy constraint: Member must satisfy \
             enum value set: [json_schema]"
        );
        return Err(Violation::value(place, message));
    }
    let structure = inside(format, "structure");
    let place = strict::join(&place, "structure");
    let structure = strict::object(&structure, &place, &[required("jsonSchema", Kind::Object)])?;
    let named = inside(structure, "jsonSchema");
    let place = strict::join(&place, "jsonSchema");
    let named = strict::object(&named, &place, SCHEMA)?;
    let refused = |why: String| {
        // The message is of the interface that the models themselves have.
        let message = format!("The model returned the following errors: output_config.format.schema: {why}");
        Violation::value(place.clone(), message)
    };
    let schema: Value = serde_json::from_str(named.text("schema").unwrap_or_default())
        .map_err(|error| refused(format!("not valid JSON: {error}")))?;
    schemas::closed::check(&schema).map_err(refused)?;
    Ok(Some(schema))
}

fn rerank(body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("query", Kind::Text),
        required("documents", Kind::List),
        nullable("top_n", Kind::Whole),
        required("api_version", Kind::Whole),
        optional("max_tokens_per_doc", Kind::Whole),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    if body.whole("api_version") != Some(2) {
        return Err(Violation::value("api_version", "invalid request: api_version must be 2"));
    }
    let query = body.text("query").unwrap_or_default();
    if query.is_empty() {
        return Err(Violation::value("query", "invalid request: query must not be empty"));
    }
    let documents = strict::texts(body.get("documents"), "documents")?;
    if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
        let message = format!("invalid request: documents must have between 1 and {MAX_DOCUMENTS} items");
        return Err(Violation::value("documents", message));
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
    Ok(Answer::json(200, &json!({"results": results.collect::<Vec<_>>()})))
}

/// The text of content blocks, which may hold text and images only.
fn blocks(blocks: &[Value], place: &str) -> Result<String, Violation> {
    let mut said = String::new();
    for (index, block) in blocks.iter().enumerate() {
        if let (Some(image), None) = (block.get("image"), block.get("text")) {
            let place = format!("{place}.{index}");
            strict::object(block, &place, &[required("image", Kind::Object)])?;
            said.push_str(&images::converse(image, &strict::join(&place, "image"))?);
            continue;
        }
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
