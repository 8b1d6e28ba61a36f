//! Google's model interfaces: Vertex AI, the Gemini API, and ranking of Discovery Engine.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::{json, Value};

use super::call::{either, halves, ranking, vector, Call};
use super::dialogue::Dialogue;
use super::outcome::{decide, Form, Outcome, TOOL};
use super::strict::{self, failure, nullable, optional, required, Fault, Kind, Member, Object, Violation};
use super::{anthropic, google_identity, images, schemas};
use crate::answer::Answer;
use crate::embedding::tokens;

const PROJECTS: &[&str] = &["test-project", "other-project", "my-project"];
const LOCATIONS: &[&str] = &["us-central1", "europe-west1", "global", "us", "eu"];
const MAX_INSTANCES: usize = 250;
const MAX_TOKENS_OF_REQUEST: usize = 20_000;
const MAX_TOKENS: usize = 2048;
const MAX_TOKENS_OF_GEMINI_2: usize = 8192;
const GEMINI_2: &str = "gemini-embedding-2";
const MAX_BATCH: usize = 100;
const MAX_RECORDS: usize = 200;

const TASKS: &[&str] = &[
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
];

/// An error in Google's shape.
pub(super) fn error(code: u16, status: &str, message: &str) -> Answer {
    Answer::json(code, &json!({"error": {"code": code, "message": message, "status": status}}))
}

/// An error for an invalid request.
pub(super) fn invalid(message: &str) -> Answer {
    error(400, "INVALID_ARGUMENT", message)
}

/// Google's front end's answer to an unknown path or method.
pub(super) fn no_such_page(call: &Call<'_>) -> Answer {
    let body = format!(
        "<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)!!1</title><p>The requested URL <code>{}</code> was \
         not found on this server.",
        call.request.path
    );
    Answer::new(404, "text/html; charset=UTF-8", body)
}

/// Google's answer to an invalid request.
pub(super) fn refuse(call: &Call<'_>, violation: &Violation) -> Answer {
    let place = violation.indexed_place();
    let place = place.as_str();
    match &violation.fault {
        Fault::Method => no_such_page(call),
        Fault::ContentType(given) => invalid(&format!("Invalid content type: '{given}'. Expected application/json.")),
        Fault::Syntax(error) => invalid(&format!("Invalid JSON payload received. {error}")),
        Fault::NotAnObject => {
            invalid(&format!("Invalid JSON payload received. Root element must be a message. At '{place}'."))
        }
        Fault::Missing => invalid(&format!("Required field is not set: {place}")),
        Fault::Unknown => {
            let message = match place.rsplit_once('.') {
                Some((around, name)) => format!("Unknown name \"{name}\" at '{around}': Cannot find field."),
                None => format!("Unknown name \"{place}\": Cannot find field."),
            };
            invalid(&format!("Invalid JSON payload received. {message}"))
        }
        Fault::Type(kind) => invalid(&format!("Invalid value at '{place}' (expected {})", kind.name())),
        Fault::Value(message) => invalid(message),
        Fault::Status(code) => {
            let status = match code {
                401 => "UNAUTHENTICATED",
                403 => "PERMISSION_DENIED",
                404 => "NOT_FOUND",
                429 => "RESOURCE_EXHAUSTED",
                499 => "CANCELLED",
                503 => "UNAVAILABLE",
                504 => "DEADLINE_EXCEEDED",
                500.. => "INTERNAL",
                _ => "INVALID_ARGUMENT",
            };
            error(*code, status, &failure(*code))
        }
    }
}

/// Converts the names of all members to Google's JSON spelling; its services accept `snake_case` too.
pub(super) fn camel(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let member = |(name, value): (String, Value)| match camel_name(&name) {
                name if name == "responseSchema" => (name, camel_schema(value)),
                // Any JSON, which is not Google's.
                name if name == "responseJsonSchema" => (name, value),
                name => (name, camel(value)),
            };
            members.into_iter().map(member).collect::<Value>()
        }
        Value::Array(items) => items.into_iter().map(camel).collect(),
        other => other,
    }
}

/// The same for a schema, in which the names of properties are the user's.
fn camel_schema(schema: Value) -> Value {
    let Value::Object(members) = schema else { return schema };
    let member = |(name, value): (String, Value)| match (camel_name(&name), value) {
        (name, Value::Object(properties)) if name == "properties" => {
            let properties = properties.into_iter().map(|(name, schema)| (name, camel_schema(schema)));
            (name, properties.collect::<Value>())
        }
        (name, Value::Array(options)) if name == "anyOf" => {
            (name, options.into_iter().map(camel_schema).collect::<Value>())
        }
        (name, value) if name == "items" => (name, camel_schema(value)),
        (name, value) => (name, value),
    };
    members.into_iter().map(member).collect::<Value>()
}

fn camel_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for letter in name.chars() {
        match letter {
            '_' => upper = true,
            _ if upper => {
                out.push(letter.to_ascii_uppercase());
                upper = false;
            }
            _ => out.push(letter),
        }
    }
    out
}

/// The routes under `/vertex`.
pub(super) fn vertex(call: &Call<'_>) -> Answer {
    either(serve_vertex(call))
}

fn serve_vertex(call: &Call<'_>) -> Result<Answer, Answer> {
    let ["v1", "projects", project, "locations", location, rest @ ..] = call.parts else {
        return Err(no_such_page(call));
    };
    let (publisher, last) = match rest {
        ["publishers", publisher, "models", last] => (Some(*publisher), *last),
        ["endpoints", last] => (None, *last),
        _ => return Err(no_such_page(call)),
    };
    let (model, method) = last.rsplit_once(':').ok_or_else(|| no_such_page(call))?;
    google_identity::authorise(call)?;
    let resource = match publisher {
        Some(publisher) => format!("projects/{project}/locations/{location}/publishers/{publisher}/models/{model}"),
        None => format!("projects/{project}/locations/{location}/endpoints/{model}"),
    };
    if !PROJECTS.contains(project) {
        let message = format!(
            "Permission 'aiplatform.endpoints.predict' denied on resource '//aiplatform.googleapis.com/{resource}' (or \
             it may not exist)."
        );
        return Err(error(403, "PERMISSION_DENIED", &message));
    }
    if !LOCATIONS.contains(location) {
        return Err(invalid(&format!("Unsupported region for Vertex AI: {location}")));
    }
    let refused = |violation: Violation| refuse(call, &violation);
    let body = || strict::body(call).map_err(refused);
    let not_found = || {
        let message = format!(
            "Publisher Model `{resource}` not found. Please ensure you are using a valid model and that your project has \
             access to it."
        );
        error(404, "NOT_FOUND", &message)
    };
    // Single regions do not serve this model.
    let gemini_2 = model == GEMINI_2 && publisher == Some("google");
    if gemini_2 && !matches!(*location, "global" | "us" | "eu") {
        return Err(not_found());
    }
    match (publisher, method) {
        (None, "predict") => custom_endpoint(&body()?).map_err(refused),
        (Some("anthropic"), "rawPredict") => {
            if !model.starts_with("claude-") && model != "count-tokens" {
                return Err(not_found());
            }
            let body = strict::body(call).map_err(|violation| anthropic::refuse(&violation))?;
            let answer = match model {
                "count-tokens" => anthropic::count_tokens(&body, true),
                _ => anthropic::messages(call.shared, &body, Some(model)),
            };
            answer.map_err(|violation| anthropic::refuse(&violation))
        }
        (Some("google"), "predict") if gemini_2 => {
            Err(invalid(&format!("{model} is not supported in the predict API. Please use embedContent.")))
        }
        (Some("google"), "predict") if model == "multimodalembedding@001" => multimodal(&body()?).map_err(refused),
        (Some("google"), "predict") => {
            let native = text_width(model).ok_or_else(not_found)?;
            predict(&body()?, model, native).map_err(refused)
        }
        (Some("google"), "embedContent") if gemini_2 => embed_content_on_vertex(&camel(body()?)).map_err(refused),
        (Some("google"), "embedContent") => {
            text_width(model).ok_or_else(not_found)?;
            Err(invalid(&format!(
                "{model} is not supported in the embedContent API. Please use embedContent with {GEMINI_2}, or predict."
            )))
        }
        (Some("google"), "generateContent" | "streamGenerateContent") => {
            if !generates(model) {
                return Err(not_found());
            }
            let body = camel(body()?);
            generate(call, model, &body, true, method == "streamGenerateContent").map_err(refused)
        }
        (Some("google"), "countTokens") if generates(model) => count_tokens(&camel(body()?), true).map_err(refused),
        _ => Err(no_such_page(call)),
    }
}

/// The width of a text embedding model with `:predict`.
fn text_width(model: &str) -> Option<usize> {
    match model {
        "text-embedding-004"
        | "text-embedding-005"
        | "text-multilingual-embedding-002"
        | "textembedding-gecko@001"
        | "textembedding-gecko@003"
        | "text-embedding-gecko@001" => Some(768),
        "gemini-embedding-001" => Some(3072),
        _ => None,
    }
}

fn generates(model: &str) -> bool {
    model.starts_with("gemini-") && !model.starts_with("gemini-embedding")
}

const PREDICT: &[Member] =
    &[required("instances", Kind::List), optional("parameters", Kind::Object), optional("labels", Kind::Object)];

fn instances(body: Object<'_>) -> Result<&[Value], Violation> {
    match body.list("instances") {
        Some([]) | None => Err(Violation::value("instances", "Empty instances.")),
        Some(instances) => Ok(instances),
    }
}

fn custom_endpoint(body: &Value) -> Result<Answer, Violation> {
    let members = [required("instances", Kind::List), optional("parameters", Kind::Any)];
    let body = strict::object(body, "", &members)?;
    let first = instances(body)?.first();
    Ok(Answer::json(200, &json!({"predictions": [{"echo": first}]})))
}

/// Checks a task, and that a title comes with the task it belongs to.
fn check_task(task: Option<&str>, title: Option<&str>, place: &str) -> Result<(), Violation> {
    if let Some(task) = task.filter(|task| !TASKS.contains(task)) {
        return Err(Violation::value(
            place,
            format!("Unsupported task type: {task}. Supported: {}.", TASKS.join(", ")),
        ));
    }
    if title.is_some() && task != Some("RETRIEVAL_DOCUMENT") {
        let message = "The title is only valid with task_type=RETRIEVAL_DOCUMENT.";
        return Err(Violation::value(place, message));
    }
    Ok(())
}

/// The requested width, or the model's own.
fn output_width(body: Object<'_>, native: usize) -> Result<usize, Violation> {
    match body.whole("outputDimensionality") {
        None => Ok(native),
        Some(asked) => usize::try_from(asked).ok().filter(|width| (1..=native).contains(width)).ok_or_else(|| {
            let message = format!("outputDimensionality must be between 1 and {native}, got {asked}.");
            Violation::value("outputDimensionality", message)
        }),
    }
}

fn too_long(given: usize, most: usize) -> Violation {
    let message = format!("The input token count is {given} but the model supports up to {most}.");
    Violation::value("content", format!("Unable to submit request. {message}"))
}

fn predict(body: &Value, model: &str, native: usize) -> Result<Answer, Violation> {
    const INSTANCE: &[Member] =
        &[required("content", Kind::Text), optional("task_type", Kind::Text), optional("title", Kind::Text)];
    const PARAMETERS: &[Member] =
        &[optional("autoTruncate", Kind::Flag), optional("outputDimensionality", Kind::Whole)];
    let body = strict::object(body, "", PREDICT)?;
    let instances = instances(body)?;
    let (mut width, mut truncates) = (native, true);
    if let Some(parameters) = body.get("parameters") {
        let parameters = strict::object(parameters, "parameters", PARAMETERS)?;
        truncates = parameters.flag("autoTruncate").unwrap_or(true);
        if parameters.get("outputDimensionality").is_some() && model.contains("gecko") {
            let message = "output_dimensionality is not supported by this model.";
            return Err(Violation::value("outputDimensionality", message));
        }
        width = output_width(parameters, native)?;
    }
    let most = if model == "gemini-embedding-001" { 1 } else { MAX_INSTANCES };
    if instances.len() > most {
        let message = format!("{} instance(s) given but the model {model} supports at most {most}.", instances.len());
        return Err(Violation::value("instances", message));
    }
    let mut predictions = Vec::new();
    let (mut total, mut characters) = (0, 0);
    for (index, instance) in instances.iter().enumerate() {
        let place = format!("instances.{index}");
        let instance = strict::object(instance, &place, INSTANCE)?;
        check_task(instance.text("task_type"), instance.text("title"), &place)?;
        let text = instance.text("content").unwrap_or_default();
        if text.is_empty() {
            return Err(Violation::value(place, "The text content is empty."));
        }
        let count = tokens(text);
        if count > MAX_TOKENS && !truncates {
            return Err(too_long(count, MAX_TOKENS));
        }
        total += count;
        characters += text.chars().filter(|letter| !letter.is_whitespace()).count();
        let statistics = json!({"token_count": count.min(MAX_TOKENS), "truncated": count > MAX_TOKENS});
        predictions.push(json!({"embeddings": {"values": vector(text, width), "statistics": statistics}}));
    }
    if total > MAX_TOKENS_OF_REQUEST {
        return Err(too_long(total, MAX_TOKENS_OF_REQUEST));
    }
    let metadata = json!({"billableCharacterCount": characters});
    Ok(Answer::json(200, &json!({"predictions": predictions, "metadata": metadata})))
}

/// The data of an image or a video in either form.
fn media<'a>(value: &'a Value, place: &str, more: &[Member]) -> Result<&'a str, Violation> {
    let members = [&[optional("bytesBase64Encoded", Kind::Text), optional("gcsUri", Kind::Text)], more].concat();
    let media = strict::object(value, place, &members)?;
    match (media.text("bytesBase64Encoded"), media.text("gcsUri")) {
        (Some(data), None) if !data.is_empty() && STANDARD.decode(data).is_ok() => Ok(data),
        (None, Some(uri)) if uri.starts_with("gs://") => Ok(uri),
        (Some(_), None) => Err(Violation::value(place, "Invalid image bytes: Base64 decoding failed.")),
        (None, Some(_)) => Err(Violation::value(place, "Invalid GCS URI.")),
        _ => Err(Violation::value(place, "Exactly one of bytesBase64Encoded and gcsUri must be set.")),
    }
}

fn multimodal(body: &Value) -> Result<Answer, Violation> {
    const INSTANCE: &[Member] =
        &[optional("text", Kind::Text), optional("image", Kind::Object), optional("video", Kind::Object)];
    const SEGMENT: &[Member] = &[
        optional("startOffsetSec", Kind::Whole),
        optional("endOffsetSec", Kind::Whole),
        optional("intervalSec", Kind::Whole),
    ];
    let body = strict::object(body, "", PREDICT)?;
    let mut width = 1408;
    if let Some(parameters) = body.get("parameters") {
        let parameters = strict::object(parameters, "parameters", &[optional("dimension", Kind::Whole)])?;
        width = parameters.width("dimension", &[128, 256, 512, 1408])?.unwrap_or(width);
    }
    let mut predictions = Vec::new();
    for (index, instance) in instances(body)?.iter().enumerate() {
        let place = format!("instances.{index}");
        let instance = strict::object(instance, &place, INSTANCE)?;
        let mut prediction = serde_json::Map::new();
        if let Some(text) = instance.text("text").filter(|text| !text.is_empty()) {
            prediction.insert("textEmbedding".into(), vector(text, width));
        }
        if let Some(image) = instance.get("image") {
            let place = strict::join(&place, "image");
            let data = media(image, &place, &[optional("mimeType", Kind::Text)])?;
            let kind = image.get("mimeType").and_then(Value::as_str).unwrap_or("image/png");
            if !matches!(kind, "image/png" | "image/jpeg" | "image/gif" | "image/bmp") {
                return Err(Violation::value(place, format!("Unsupported image MIME type: {kind}")));
            }
            prediction.insert("imageEmbedding".into(), vector(data, width));
        }
        if let Some(video) = instance.get("video") {
            let place = strict::join(&place, "video");
            let data = media(video, &place, &[optional("videoSegmentConfig", Kind::Object)])?;
            let (mut start, mut end) = (0, 16);
            if let Some(segment) = video.get("videoSegmentConfig") {
                let segment = strict::object(segment, &strict::join(&place, "videoSegmentConfig"), SEGMENT)?;
                start = segment.whole("startOffsetSec").unwrap_or(start);
                end = segment.whole("endOffsetSec").unwrap_or(end);
            }
            let embedding = json!({"startOffsetSec": start, "endOffsetSec": end, "embedding": vector(data, width)});
            prediction.insert("videoEmbeddings".into(), json!([embedding]));
        }
        if prediction.is_empty() {
            return Err(Violation::value(place, "At least one of text, image and video must be set."));
        }
        predictions.push(Value::Object(prediction));
    }
    Ok(Answer::json(200, &json!({"predictions": predictions})))
}

const PART: &[Member] = &[
    optional("text", Kind::Text),
    optional("inlineData", Kind::Object),
    optional("fileData", Kind::Object),
    optional("functionCall", Kind::Object),
    optional("functionResponse", Kind::Object),
    optional("thought", Kind::Flag),
    optional("thoughtSignature", Kind::Text),
];

/// The text of a content's parts.
fn parts(value: &Value, place: &str) -> Result<String, Violation> {
    let content = strict::object(value, place, &[optional("role", Kind::Text), required("parts", Kind::List)])?;
    let place = strict::join(place, "parts");
    let parts = content.list("parts").unwrap_or_default();
    if parts.is_empty() {
        let message = "Unable to submit request because it must include at least one parts field, which describes the \
                       prompt input.";
        return Err(Violation::value(place, message));
    }
    let mut said = String::new();
    for (index, part) in parts.iter().enumerate() {
        let place = format!("{place}.{index}");
        let part = strict::object(part, &place, PART)?;
        let data = ["text", "inlineData", "fileData", "functionCall", "functionResponse"];
        if data.iter().filter(|name| part.get(name).is_some()).count() != 1 {
            let message = format!("{place}: required oneof field 'data' must have one initialized field");
            return Err(Violation::value(place, message));
        }
        said.push_str(part.text("text").unwrap_or_default());
        said.push_str(&images::gemini(part, &place)?);
    }
    Ok(said)
}

/// The text of the content to embed.
fn content_to_embed(value: Option<&Value>, place: &str) -> Result<String, Violation> {
    let text = parts(value.unwrap_or(&Value::Null), place)?;
    if text.is_empty() {
        return Err(Violation::value(place, "The text content is empty."));
    }
    Ok(text)
}

fn embed_content_on_vertex(body: &Value) -> Result<Answer, Violation> {
    const CONFIG: &[Member] = &[
        optional("title", Kind::Text),
        optional("taskType", Kind::Text),
        optional("autoTruncate", Kind::Flag),
        optional("outputDimensionality", Kind::Whole),
        optional("documentOcr", Kind::Flag),
        optional("audioTrackExtraction", Kind::Flag),
    ];
    let members = [required("content", Kind::Object), optional("embedContentConfig", Kind::Object)];
    let body = strict::object(body, "", &members)?;
    let text = content_to_embed(body.get("content"), "content")?;
    let (mut width, mut truncates) = (3072, true);
    if let Some(config) = body.get("embedContentConfig") {
        let place = "embedContentConfig";
        let config = strict::object(config, place, CONFIG)?;
        check_task(config.text("taskType"), config.text("title"), place)?;
        truncates = config.flag("autoTruncate").unwrap_or(true);
        width = output_width(config, width)?;
    }
    let count = tokens(&text);
    let truncated = count > MAX_TOKENS_OF_GEMINI_2;
    if truncated && !truncates {
        return Err(too_long(count, MAX_TOKENS_OF_GEMINI_2));
    }
    let used = count.min(MAX_TOKENS_OF_GEMINI_2);
    let answer = json!({
        "embedding": {"values": vector(&text, width)},
        "usageMetadata": {"promptTokenCount": used, "totalTokenCount": used},
        "truncated": truncated,
    });
    Ok(Answer::json(200, &answer))
}

/// Counts the tokens of a prompt.
fn count_tokens(body: &Value, on_vertex: bool) -> Result<Answer, Violation> {
    const COMMON: &[Member] = &[required("contents", Kind::List)];
    const VERTEX: &[Member] = &[
        optional("model", Kind::Text),
        optional("instances", Kind::List),
        optional("systemInstruction", Kind::Object),
        optional("generationConfig", Kind::Object),
        optional("tools", Kind::List),
    ];
    const GEMINI: &[Member] = &[optional("generateContentRequest", Kind::Object)];
    let body = strict::object(body, "", &[COMMON, if on_vertex { VERTEX } else { GEMINI }].concat())?;
    let mut count = 0;
    for (index, content) in body.list("contents").unwrap_or_default().iter().enumerate() {
        count += tokens(&parts(content, &format!("contents.{index}"))?) + 1;
    }
    Ok(Answer::json(200, &json!({"totalTokens": count})))
}

/// Checks a request to generate and answers it.
fn generate(call: &Call<'_>, model: &str, body: &Value, on_vertex: bool, streams: bool) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        optional("model", Kind::Text),
        required("contents", Kind::List),
        optional("systemInstruction", Kind::Object),
        optional("generationConfig", Kind::Object),
        optional("safetySettings", Kind::List),
        optional("tools", Kind::List),
        optional("toolConfig", Kind::Object),
        optional("labels", Kind::Object),
        optional("cachedContent", Kind::Text),
    ];
    const CONFIG: &[Member] = &[
        optional("temperature", Kind::Number),
        optional("topP", Kind::Number),
        optional("topK", Kind::Number),
        optional("candidateCount", Kind::Whole),
        optional("maxOutputTokens", Kind::Whole),
        optional("stopSequences", Kind::List),
        optional("presencePenalty", Kind::Number),
        optional("frequencyPenalty", Kind::Number),
        optional("seed", Kind::Whole),
        optional("responseMimeType", Kind::Text),
        optional("responseSchema", Kind::Object),
        optional("responseJsonSchema", Kind::Any),
        optional("responseModalities", Kind::List),
        optional("responseLogprobs", Kind::Flag),
        optional("logprobs", Kind::Whole),
        optional("thinkingConfig", Kind::Object),
        optional("mediaResolution", Kind::Text),
    ];
    const SAFETY: &[Member] =
        &[required("category", Kind::Text), required("threshold", Kind::Text), optional("method", Kind::Text)];
    let body = strict::object(body, "", MEMBERS)?;
    let contents = body.list("contents").unwrap_or_default();
    if contents.is_empty() {
        let message = "Unable to submit request because at least one contents field is required.";
        return Err(Violation::value("contents", message));
    }
    let mut dialogue = Dialogue::default();
    for (index, content) in contents.iter().enumerate() {
        let place = format!("contents.{index}");
        let said = parts(content, &place)?;
        match content.get("role").and_then(Value::as_str) {
            Some(role @ ("user" | "model")) => dialogue.say(role, said),
            // For the Gemini API, content without a role is the user's.
            None if !on_vertex => dialogue.say("user", said),
            _ => return Err(Violation::value(place, "Please use a valid role: user, model.")),
        }
    }
    if let Some(instruction) = body.get("systemInstruction") {
        dialogue.say("system", parts(instruction, "systemInstruction")?);
    }
    let mut wanted = Form::Free;
    if let Some(config) = body.get("generationConfig") {
        let config = strict::object(config, "generationConfig", CONFIG)?;
        if config.number("temperature").is_some_and(|value| !(0.0..=2.0).contains(&value)) {
            let message = "Unable to submit request because it has a temperature value that is out of the supported \
                           range from 0 (inclusive) to 2.0001 (exclusive).";
            return Err(Violation::value("generationConfig.temperature", message));
        }
        if config.whole("maxOutputTokens").is_some_and(|value| value < 1) {
            let message = "Unable to submit request because it has a maxOutputTokens value that is not positive.";
            return Err(Violation::value("generationConfig.maxOutputTokens", message));
        }
        wanted = form(config, on_vertex)?;
    }
    for (index, setting) in body.list("safetySettings").unwrap_or_default().iter().enumerate() {
        strict::object(setting, &format!("safetySettings.{index}"), SAFETY)?;
    }
    let outcome = decide(call.shared, &dialogue, wanted)?;
    Ok(generated(call, model, &dialogue, &outcome, streams))
}

/// The format that the members `response...` of `generationConfig` require.
fn form(config: Object<'_>, on_vertex: bool) -> Result<Form<'_>, Violation> {
    let refused = |name: &str, message: String| Err(Violation::value(format!("generationConfig.{name}"), message));
    let kind = config.text("responseMimeType").unwrap_or("text/plain");
    if !matches!(kind, "text/plain" | "application/json" | "text/x.enum") {
        let message = "* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are \
                       `text/plain`, `application/json`, `application/xml`, `application/yaml` and `text/x.enum`.";
        return refused("responseMimeType", message.into());
    }
    let (schema, json_schema) = (config.get("responseSchema"), config.get("responseJsonSchema"));
    if schema.is_some() && json_schema.is_some() {
        let message = "Unable to submit request because response_schema and response_json_schema must not both be set.";
        return refused("responseJsonSchema", message.into());
    }
    if let Some(schema) = schema
        && let Err(message) = schemas::gemini::check(schema, on_vertex)
    {
        return refused("responseSchema", message);
    }
    match (kind, schema.or(json_schema)) {
        ("text/plain", None) => Ok(Form::Free),
        ("text/plain", Some(_)) => {
            let message = "Unable to submit request because a response schema needs the response_mime_type \
                           application/json or text/x.enum.";
            refused("responseMimeType", message.into())
        }
        ("text/x.enum", _) => refused("responseMimeType", "The local endpoint answers application/json only.".into()),
        (_, None) => Ok(Form::Json),
        (_, Some(schema)) => Ok(Form::Schema(schema)),
    }
}

fn generated(call: &Call<'_>, model: &str, dialogue: &Dialogue, outcome: &Outcome, streams: bool) -> Answer {
    let text = outcome.text();
    let (prompt, answer) = (tokens(dialogue.last()), tokens(text));
    let usage = json!({
        "promptTokenCount": prompt,
        "candidatesTokenCount": answer,
        "totalTokenCount": prompt + answer,
    });
    let candidate = |text: &str| json!({"content": {"role": "model", "parts": [{"text": text}]}});
    let last = |text: &str| {
        let mut answer = json!({"usageMetadata": usage, "modelVersion": model, "responseId": "test-response"});
        let (mut candidate, finish) = match outcome {
            Outcome::Text(_) => (candidate(text), "STOP"),
            Outcome::Cut(_) => (candidate(text), "MAX_TOKENS"),
            Outcome::Tool => {
                let call = json!({"functionCall": {"name": TOOL, "args": {}}});
                (json!({"content": {"role": "model", "parts": [call]}}), "STOP")
            }
            Outcome::Refused => {
                let rating =
                    json!({"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": true});
                (json!({"safetyRatings": [rating]}), "SAFETY")
            }
            // An empty list is left out, as all that is empty.
            Outcome::Empty => return answer,
        };
        if let (Some(candidate), Some(answer)) = (candidate.as_object_mut(), answer.as_object_mut()) {
            candidate.insert("finishReason".into(), finish.into());
            answer.insert("candidates".into(), json!([candidate]));
        }
        answer
    };
    if !streams {
        return Answer::json(200, &last(text));
    }
    let (head, tail) = halves(text);
    let first = json!({
        "candidates": [candidate(head)],
        "modelVersion": model,
        "responseId": "test-response",
    });
    if call.parameter("alt").as_deref() == Some("sse") {
        return Answer::new(200, "text/event-stream", format!("data: {first}\r\n\r\ndata: {}\r\n\r\n", last(tail)));
    }
    Answer::json(200, &json!([first, last(tail)]))
}

/// The routes under `/gemini`.
pub(super) fn gemini(call: &Call<'_>) -> Answer {
    either(serve_gemini(call))
}

fn serve_gemini(call: &Call<'_>) -> Result<Answer, Answer> {
    let ["v1beta", "models", last] = call.parts else {
        return Err(no_such_page(call));
    };
    let (model, method) = last.rsplit_once(':').ok_or_else(|| no_such_page(call))?;
    match call.header("x-goog-api-key") {
        None | Some("") => {
            let message =
                "Method doesn't allow unregistered callers (callers without established identity). Please use \
                           API Key or other form of API consumer identity to call this API.";
            return Err(error(403, "PERMISSION_DENIED", message));
        }
        Some(key) if !call.is_key(key) => return Err(invalid("API key not valid. Please pass a valid API key.")),
        Some(_) => {}
    }
    let refused = |violation: Violation| refuse(call, &violation);
    let width = match model {
        "gemini-embedding-001" | GEMINI_2 => Some(3072),
        "text-embedding-004" => Some(768),
        _ => None,
    };
    let not_found = || {
        let message = format!(
            "models/{model} is not found for API version v1beta, or is not supported for {method}. Call ListModels to \
             see the list of available models and their supported methods."
        );
        error(404, "NOT_FOUND", &message)
    };
    match method {
        "embedContent" => {
            let width = width.ok_or_else(not_found)?;
            let body = camel(strict::body(call).map_err(refused)?);
            let values = embed_content(&body, "", model, width, false).map_err(refused)?;
            Ok(Answer::json(200, &json!({"embedding": {"values": values}})))
        }
        "batchEmbedContents" => {
            let width = width.ok_or_else(not_found)?;
            let body = camel(strict::body(call).map_err(refused)?);
            let embeddings = batch(&body, model, width).map_err(refused)?;
            Ok(Answer::json(200, &json!({"embeddings": embeddings})))
        }
        "generateContent" | "streamGenerateContent" => {
            if !generates(model) {
                return Err(not_found());
            }
            let body = camel(strict::body(call).map_err(refused)?);
            generate(call, model, &body, false, method == "streamGenerateContent").map_err(refused)
        }
        "countTokens" if generates(model) => {
            let body = camel(strict::body(call).map_err(refused)?);
            count_tokens(&body, false).map_err(refused)
        }
        _ => Err(no_such_page(call)),
    }
}

fn batch(body: &Value, model: &str, width: usize) -> Result<Vec<Value>, Violation> {
    let body = strict::object(body, "", &[required("requests", Kind::List)])?;
    let requests = body.list("requests").unwrap_or_default();
    if requests.is_empty() {
        let message = "* BatchEmbedContentsRequest.requests: requests is not specified";
        return Err(Violation::value("requests", message));
    }
    if requests.len() > MAX_BATCH {
        let message = format!("* BatchEmbedContentsRequest.requests: at most {MAX_BATCH} requests can be in one batch");
        return Err(Violation::value("requests", message));
    }
    let embeddings = requests.iter().enumerate().map(|(index, request)| {
        let values = embed_content(request, &format!("requests.{index}"), model, width, true)?;
        Ok(json!({ "values": values }))
    });
    embeddings.collect()
}

fn embed_content(request: &Value, place: &str, model: &str, native: usize, batched: bool) -> Result<Value, Violation> {
    const MEMBERS: &[Member] = &[
        optional("model", Kind::Text),
        required("content", Kind::Object),
        optional("taskType", Kind::Text),
        optional("title", Kind::Text),
        optional("outputDimensionality", Kind::Whole),
    ];
    let request = strict::object(request, place, MEMBERS)?;
    match request.text("model") {
        None if batched => {
            let message = format!("* EmbedContentRequest.model: unexpected model name format at {place}");
            return Err(Violation::value(place, message));
        }
        Some(given) if given != format!("models/{model}") => {
            let message = format!("The model of a request must be that of the path: models/{model}, not {given}.");
            return Err(Violation::value(place, message));
        }
        _ => {}
    }
    let text = content_to_embed(request.get("content"), &strict::join(place, "content"))?;
    let task = request.text("taskType").filter(|task| *task != "TASK_TYPE_UNSPECIFIED");
    check_task(task, request.text("title"), place)?;
    Ok(vector(&text, output_width(request, native)?))
}

/// The routes under `/discovery`.
pub(super) fn discovery(call: &Call<'_>) -> Answer {
    either(serve_discovery(call))
}

fn serve_discovery(call: &Call<'_>) -> Result<Answer, Answer> {
    let ["v1", "projects", project, "locations", location, "rankingConfigs", last] = call.parts else {
        return Err(no_such_page(call));
    };
    let config = last.strip_suffix(":rank").ok_or_else(|| no_such_page(call))?;
    google_identity::authorise(call)?;
    let resource = format!("projects/{project}/locations/{location}/rankingConfigs/{config}");
    if !PROJECTS.contains(project) {
        let message = format!(
            "Permission 'discoveryengine.rankingConfigs.rank' denied on resource \
             '//discoveryengine.googleapis.com/{resource}' (or it may not exist)."
        );
        return Err(error(403, "PERMISSION_DENIED", &message));
    }
    if !matches!(*location, "global" | "us" | "eu") || config.is_empty() {
        return Err(error(404, "NOT_FOUND", &format!("RankingConfig {resource} not found.")));
    }
    let body = camel(strict::body(call).map_err(|violation| refuse(call, &violation))?);
    rank(&body).map_err(|violation| refuse(call, &violation))
}

fn rank(body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        optional("model", Kind::Text),
        optional("topN", Kind::Whole),
        required("query", Kind::Text),
        required("records", Kind::List),
        optional("ignoreRecordDetailsInResponse", Kind::Flag),
        optional("userLabels", Kind::Object),
    ];
    const RECORD: &[Member] =
        &[required("id", Kind::Text), nullable("title", Kind::Text), nullable("content", Kind::Text)];
    let body = strict::object(body, "", MEMBERS)?;
    if let Some(model) = body.text("model").filter(|model| !model.starts_with("semantic-ranker-")) {
        return Err(Violation::value("model", format!("Unsupported model: {model}.")));
    }
    let records = body.list("records").unwrap_or_default();
    if records.is_empty() || records.len() > MAX_RECORDS {
        let message = format!("The number of records must be between 1 and {MAX_RECORDS}, got {}.", records.len());
        return Err(Violation::value("records", message));
    }
    let top = match body.whole("topN") {
        None | Some(0) => records.len(),
        Some(top) => usize::try_from(top).map_err(|_| Violation::value("topN", "top_n must not be negative."))?,
    };
    let mut texts = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let place = format!("records.{index}");
        let record = strict::object(record, &place, RECORD)?;
        let text = [record.text("title"), record.text("content")].into_iter().flatten().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            return Err(Violation::value(place, "Each record must have a title or content."));
        }
        texts.push(text);
    }
    let bare = body.flag("ignoreRecordDetailsInResponse").unwrap_or(false);
    let ranked = ranking(body.text("query").unwrap_or_default(), &texts).into_iter().take(top);
    let ranked = ranked.filter_map(|(index, score)| {
        let mut record = records.get(index)?.as_object()?.clone();
        record.retain(|name, value| !value.is_null() && (!bare || name == "id"));
        record.insert("score".into(), score.into());
        Some(Value::Object(record))
    });
    Ok(Answer::json(200, &json!({"records": ranked.collect::<Vec<_>>()})))
}
