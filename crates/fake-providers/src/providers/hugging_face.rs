//! Hugging Face's router under `/huggingface`, and a Text Embeddings Inference server under `/tei`.

use serde_json::{json, Value};

use super::call::{either, ranking, vector, Call};
use super::dialogue::Dialogue;
use super::images;
use super::openai;
use super::openai_chat::{self, chat, Kin};
use super::outcome::{decide, Form, Outcome, REFUSAL};
use super::strict::{self, failure, nullable, optional, required, Fault, Kind, Member, Object, Violation};
use crate::answer::Answer;
use crate::embedding::tokens;
use crate::shared::Shared;

const WIDTH: usize = 384;
const MAX_BATCH: usize = 32;
/// The longest text in bytes that a TEI server accepts without truncation.
const MAX_BYTES: usize = 2000;

fn error(status: u16, message: &str) -> Answer {
    Answer::json(status, &json!({ "error": message }))
}

fn refuse(violation: &Violation) -> Answer {
    let place = violation.place.as_str();
    match &violation.fault {
        Fault::Method => error(405, "Method Not Allowed"),
        Fault::ContentType(given) => error(
            415,
            &format!("Content type \"{given}\" not supported. Supported content types are: application/json"),
        ),
        Fault::Syntax(message) => error(400, &format!("Malformed JSON: {message}")),
        Fault::NotAnObject => error(400, "The body must be a JSON object."),
        // The service answers with a list here.
        Fault::Missing => Answer::json(400, &json!({"error": [format!("Error in `{place}`: field required")]})),
        Fault::Unknown => error(400, &format!("Unknown parameter: `{place}`")),
        Fault::Type(kind) => error(400, &format!("Error in `{place}`: value is not a valid {}", kind.name())),
        Fault::Value(message) => error(400, message),
        Fault::Status(status) => error(*status, &failure(*status)),
    }
}

/// The routes under `/huggingface`.
pub(super) fn route(call: &Call<'_>) -> Answer {
    either(serve(call))
}

fn serve(call: &Call<'_>) -> Result<Answer, Answer> {
    enum Route {
        Features,
        Generate,
        Chat,
    }
    let (route, org, name) = match call.parts {
        ["hf-inference", "models", org, name, "pipeline", "feature-extraction"] => (Route::Features, *org, *name),
        ["models", org, name] => (Route::Generate, *org, *name),
        ["v1", "chat", "completions"] => (Route::Chat, "", ""),
        _ => return Err(error(404, "Not Found")),
    };
    if !call.bearer().is_some_and(|key| call.is_key(key)) {
        return Err(error(401, "Invalid username or password."));
    }
    let body = strict::body(call).map_err(|violation| refuse(&violation))?;
    if name.ends_with("-loading") {
        let message = format!("Model {org}/{name} is currently loading");
        return Err(Answer::json(503, &json!({"error": message, "estimated_time": 20.0})));
    }
    match route {
        Route::Features => features(&body, name).map_err(|violation| refuse(&violation)),
        Route::Generate => generate(call.shared, &body).map_err(|violation| refuse(&violation)),
        Route::Chat => {
            let answer = chat(call.shared, &body, openai_chat::MEMBERS, Kin::Follower, None);
            answer.map_err(|violation| match violation.fault {
                Fault::Status(_) => refuse(&violation),
                _ => openai::refuse(&violation),
            })
        }
    }
}

fn features(body: &Value, name: &str) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] = &[
        required("inputs", Kind::TextOrList),
        nullable("normalize", Kind::Flag),
        nullable("prompt_name", Kind::Text),
        nullable("truncate", Kind::Flag),
        nullable("truncation_direction", Kind::Text),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    body.choice("truncation_direction", &["left", "right", "Left", "Right"])?;
    let inputs = body.get("inputs");
    let texts = strict::texts(inputs, "inputs")?;
    if texts.is_empty() {
        return Err(Violation::value("inputs", "Error in `inputs`: ensure this value has at least 1 items"));
    }
    // Depending on the model, the answer is one vector, one a text, or one a token.
    let answer: Value = match texts.as_slice() {
        [text] if name.ends_with("-flat") && inputs.is_some_and(Value::is_string) => vector(text, WIDTH),
        texts if name.ends_with("-tokens") => texts
            .iter()
            .map(|text| text.split_whitespace().map(|token| vector(token, WIDTH)).collect::<Value>())
            .collect(),
        texts => texts.iter().map(|text| vector(text, WIDTH)).collect(),
    };
    Ok(Answer::json(200, &answer))
}

fn generate(shared: &Shared, body: &Value) -> Result<Answer, Violation> {
    const MEMBERS: &[Member] =
        &[required("inputs", Kind::Text), optional("parameters", Kind::Object), optional("options", Kind::Object)];
    const PARAMETERS: &[Member] = &[
        nullable("details", Kind::Flag),
        nullable("do_sample", Kind::Flag),
        nullable("grammar", Kind::Any),
        nullable("max_new_tokens", Kind::Whole),
        nullable("repetition_penalty", Kind::Number),
        nullable("return_full_text", Kind::Flag),
        nullable("seed", Kind::Whole),
        nullable("stop", Kind::List),
        nullable("temperature", Kind::Number),
        nullable("top_k", Kind::Whole),
        nullable("top_p", Kind::Number),
        nullable("truncate", Kind::Whole),
        nullable("typical_p", Kind::Number),
        nullable("watermark", Kind::Flag),
    ];
    let body = strict::object(body, "", MEMBERS)?;
    let parameters = body.get("parameters");
    if let Some(parameters) = parameters {
        strict::object(parameters, "parameters", PARAMETERS)?;
    }
    let form = parameters.and_then(|parameters| parameters.get("grammar")).map_or(Ok(Form::Free), grammar)?;
    let dialogue = Dialogue::of(&images::markdown(body.text("inputs").unwrap_or_default())?);
    let outcome = decide(shared, &dialogue, form)?;
    // The interface has texts only: a model that does not want to says so.
    let text = if outcome == Outcome::Refused { REFUSAL } else { outcome.text() };
    let mut answer = json!({ "generated_text": text });
    let detailed = parameters.and_then(|parameters| parameters.get("details")) == Some(&Value::Bool(true));
    if let (true, Some(answer)) = (detailed, answer.as_object_mut()) {
        let reason = if matches!(outcome, Outcome::Cut(_)) { "length" } else { "eos_token" };
        let count = tokens(text);
        let details =
            json!({"finish_reason": reason, "generated_tokens": count, "prefill": [], "seed": null, "tokens": []});
        answer.insert("details".into(), details);
    }
    Ok(Answer::json(200, &json!([answer])))
}

/// The format that the parameter `grammar` requires.
fn grammar(grammar: &Value) -> Result<Form<'_>, Violation> {
    const MEMBERS: &[Member] = &[required("type", Kind::Text), required("value", Kind::Any)];
    if grammar.is_null() {
        return Ok(Form::Free);
    }
    let place = "parameters.grammar";
    let grammar = strict::object(grammar, place, MEMBERS)?;
    let schema = match (grammar.text("type"), grammar.get("value")) {
        (Some("json"), Some(schema)) => Some(schema),
        (Some("json_schema"), Some(named)) => named.get("schema"),
        _ => None,
    };
    match schema {
        Some(schema @ Value::Object(_)) => Ok(Form::Schema(schema)),
        _ => Err(Violation::value(place, "Input validation error: grammar is not valid: expected a JSON Schema")),
    }
}

fn tei_error(status: u16, kind: &str, message: &str) -> Answer {
    Answer::json(status, &json!({"error": message, "error_type": kind}))
}

fn refuse_tei(violation: &Violation) -> Answer {
    let plain = |status: u16, text: &str| Answer::new(status, "text/plain; charset=utf-8", text);
    let place = violation.place.as_str();
    let data = |what: &str| {
        plain(422, &format!("Failed to deserialize the JSON body into the target type: {what} at line 1 column 2"))
    };
    match &violation.fault {
        Fault::Method => Answer { status: 405, headers: vec![("Allow".into(), "POST".into())], body: Vec::new() },
        Fault::ContentType(_) => plain(415, "Expected request with `Content-Type: application/json`"),
        Fault::Syntax(error) => plain(400, &format!("Failed to parse the request body as JSON: {error}")),
        Fault::NotAnObject => data("invalid type, expected a map"),
        Fault::Missing => data(&format!("missing field `{place}`")),
        Fault::Unknown => data(&format!("unknown field `{place}`")),
        Fault::Type(kind) => data(&format!("{place}: invalid type, expected {}", kind.name())),
        Fault::Value(message) => tei_error(422, "Tokenizer", message),
        Fault::Status(status) => tei_error(*status, "Backend", &failure(*status)),
    }
}

/// The routes under `/tei`.
pub(super) fn tei(call: &Call<'_>) -> Answer {
    either(serve_tei(call))
}

fn serve_tei(call: &Call<'_>) -> Result<Answer, Answer> {
    let embeds = match call.parts {
        ["embed"] => true,
        ["rerank"] => false,
        _ => return Err(Answer { status: 404, ..Answer::default() }),
    };
    let body = strict::body(call).map_err(|violation| refuse_tei(&violation))?;
    if embeds {
        tei_embed(&body)
    } else {
        tei_rerank(&body)
    }
}

fn check_batch(texts: &[String], place: &str, body: Object<'_>) -> Result<(), Answer> {
    if texts.is_empty() {
        return Err(tei_error(400, "Empty", &format!("`{place}` cannot be empty")));
    }
    if texts.len() > MAX_BATCH {
        let message = format!("batch size {} > maximum allowed batch size {MAX_BATCH}", texts.len());
        return Err(tei_error(413, "Validation", &message));
    }
    let long = texts.iter().find(|text| text.len() > MAX_BYTES);
    match long {
        Some(text) if body.flag("truncate") != Some(true) => {
            let message = format!(
                "Input validation error: `inputs` must have less than 512 tokens. Given: {}",
                tokens(text).max(513)
            );
            Err(tei_error(413, "Validation", &message))
        }
        _ => Ok(()),
    }
}

fn tei_embed(body: &Value) -> Result<Answer, Answer> {
    const MEMBERS: &[Member] = &[
        required("inputs", Kind::TextOrList),
        optional("normalize", Kind::Flag),
        nullable("truncate", Kind::Flag),
        optional("truncation_direction", Kind::Text),
        nullable("prompt_name", Kind::Text),
        nullable("dimensions", Kind::Whole),
    ];
    let read = || {
        let body = strict::object(body, "", MEMBERS)?;
        if body.choice("truncation_direction", &["left", "right", "Left", "Right"]).is_err() {
            return Err(Violation::kind("truncation_direction", Kind::Text));
        }
        Ok((body, strict::texts(body.get("inputs"), "inputs")?))
    };
    let (body, texts) = read().map_err(|violation: Violation| refuse_tei(&violation))?;
    check_batch(&texts, "inputs", body)?;
    let width = match body.whole("dimensions") {
        None => WIDTH,
        Some(asked) => usize::try_from(asked).ok().filter(|width| (1..=WIDTH).contains(width)).ok_or_else(|| {
            let message = format!("`dimensions` should be between 1 and {WIDTH}. Given: {asked}");
            tei_error(413, "Validation", &message)
        })?,
    };
    let vectors: Value = texts.iter().map(|text| vector(text, width)).collect();
    Ok(Answer::json(200, &vectors))
}

fn tei_rerank(body: &Value) -> Result<Answer, Answer> {
    const MEMBERS: &[Member] = &[
        required("query", Kind::Text),
        required("texts", Kind::List),
        optional("raw_scores", Kind::Flag),
        optional("return_text", Kind::Flag),
        nullable("truncate", Kind::Flag),
        optional("truncation_direction", Kind::Text),
    ];
    let read = || {
        let body = strict::object(body, "", MEMBERS)?;
        Ok((body, strict::texts(body.get("texts"), "texts")?))
    };
    let (body, texts) = read().map_err(|violation: Violation| refuse_tei(&violation))?;
    check_batch(&texts, "texts", body)?;
    let raw = body.flag("raw_scores") == Some(true);
    let with_text = body.flag("return_text") == Some(true);
    let ranks = ranking(body.text("query").unwrap_or_default(), &texts).into_iter().map(|(index, score)| {
        // Raw scores are the logits of the others.
        let score = if raw { (score / (1.0 - score)).ln() } else { score };
        match texts.get(index).filter(|_| with_text) {
            Some(text) => json!({"index": index, "score": score, "text": text}),
            None => json!({"index": index, "score": score}),
        }
    });
    Ok(Answer::json(200, &ranks.collect::<Value>()))
}
