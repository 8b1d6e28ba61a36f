//! `OpenAI`'s chat interface: its own, and those of compatible services.

use serde_json::{json, Value};

use super::call::halves;
use super::dialogue::Dialogue;
use super::images;
use super::outcome::{decide, Form, Outcome, REFUSAL, TOOL};
use super::strict::{self, nullable, optional, required, Kind, Member, Violation};
use super::{openai, response_format};
use crate::answer::Answer;
use crate::embedding::tokens;
use crate::shared::Shared;

/// The members of a chat request for `OpenAI` and compatible services.
pub(super) const MEMBERS: &[Member] = &[
    optional("model", Kind::Text),
    required("messages", Kind::List),
    nullable("temperature", Kind::Number),
    nullable("top_p", Kind::Number),
    nullable("n", Kind::Whole),
    nullable("max_tokens", Kind::Whole),
    nullable("max_completion_tokens", Kind::Whole),
    nullable("stop", Kind::TextOrList),
    nullable("presence_penalty", Kind::Number),
    nullable("frequency_penalty", Kind::Number),
    nullable("response_format", Kind::Object),
    nullable("seed", Kind::Whole),
    nullable("stream", Kind::Flag),
    nullable("stream_options", Kind::Object),
    nullable("tools", Kind::List),
    nullable("tool_choice", Kind::Any),
    nullable("reasoning_effort", Kind::Text),
    nullable("user", Kind::Text),
];

const MESSAGE: &[Member] = &[
    nullable("name", Kind::Text),
    nullable("tool_calls", Kind::List),
    nullable("tool_call_id", Kind::Text),
    nullable("refusal", Kind::Text),
];

const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool"];

/// The service. Services differ in their checks and in their refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kin {
    OpenAi,
    Azure,
    Mistral,
    /// Servers of open models; they accept any schema.
    Follower,
}

/// Answers a chat request. `in_path`: the path's model, for interfaces whose body need not name it.
pub(super) fn chat(
    shared: &Shared,
    body: &Value,
    members: &[Member],
    kin: Kin,
    in_path: Option<&str>,
) -> Result<Answer, Violation> {
    let body = strict::object(body, "", members)?;
    let model = body.text("model").filter(|model| !model.is_empty()).or(in_path);
    let model = model.ok_or_else(|| Violation::missing("model"))?;
    let messages = body.list("messages").unwrap_or_default();
    if kin == Kin::OpenAi && is_blind(model) && messages.iter().any(has_image) {
        let message = "Invalid content type. image_url is only supported by certain models.";
        return Err(Violation::value("messages.0.content.0.type", message));
    }
    let dialogue = strict::conversation(messages, ROLES, MESSAGE, images::image_urls)?;
    for (name, most) in [("temperature", 2.0), ("top_p", 1.0)] {
        if body.number(name).is_some_and(|value| !(0.0..=most).contains(&value)) {
            let message = format!("Invalid '{name}': expected a value between 0 and {most}.");
            return Err(Violation::value(name, message));
        }
    }
    for name in ["n", "max_tokens", "max_completion_tokens"] {
        if body.whole(name).is_some_and(|value| value < 1) {
            let message = format!("Invalid '{name}': integer below minimum value. Expected a value >= 1.");
            return Err(Violation::value(name, message));
        }
    }
    let form = response_format::read(body.get("response_format"), &dialogue, kin)?;
    if kin == Kin::OpenAi && matches!(form, Form::Schema(_)) && is_unstructured(model) {
        let message = "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model. \
                       Learn more about supported models at the Structured Outputs guide: \
                       https://platform.openai.com/docs/guides/structured-outputs";
        return Err(Violation::value("", message));
    }
    let outcome = decide(shared, &dialogue, form)?;
    if body.flag("stream") == Some(true) {
        return Ok(streamed(model, &outcome, kin));
    }
    Ok(completion(model, &dialogue, &outcome, kin, body.whole("n").unwrap_or(1).min(128)))
}

/// Whether a model of `OpenAI`'s is older than structured output.
fn is_unstructured(model: &str) -> bool {
    model == "gpt-4" || ["gpt-3.5-", "gpt-4-", "gpt-4o-2024-05-13"].iter().any(|old| model.starts_with(old))
}

/// Whether a model of `OpenAI`'s takes no images.
fn is_blind(model: &str) -> bool {
    model == "gpt-4" || model.starts_with("gpt-3.5-") || model.starts_with("o1-mini")
}

fn has_image(message: &Value) -> bool {
    let parts = message.get("content").and_then(Value::as_array);
    parts.is_some_and(|parts| parts.iter().any(|part| part.get("image_url").is_some()))
}

/// Answers a chat request; ignores unknown members.
pub(super) fn lenient(shared: &Shared, body: &Value) -> Result<Answer, Answer> {
    let bad = |message: &str| openai::error(400, message, "invalid_request_error", None, None);
    let model = body.get("model").and_then(Value::as_str);
    let model = model.ok_or_else(|| bad("you must provide a model parameter"))?;
    let mut dialogue = Dialogue::default();
    for message in body.get("messages").and_then(Value::as_array).into_iter().flatten() {
        let text = match message.get("content") {
            // The content is a text or a list of parts.
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
            }
            Some(other) => other.as_str().unwrap_or_default().to_owned(),
            None => continue,
        };
        dialogue.say(message.get("role").and_then(Value::as_str).unwrap_or_default(), text);
    }
    if dialogue.users().next().is_none() {
        return Err(bad("Missing required parameter: 'messages'."));
    }
    let format = body.get("response_format").filter(|format| !format.is_null());
    let outcome = response_format::read(format, &dialogue, Kin::Follower)
        .and_then(|form| decide(shared, &dialogue, form))
        .map_err(|violation| openai::refuse(&violation))?;
    Ok(completion(model, &dialogue, &outcome, Kin::Follower, 1))
}

/// The message of an answer.
fn message(outcome: &Outcome, kin: Kin) -> Value {
    match (outcome, kin) {
        (Outcome::Tool, _) => {
            let function = json!({"name": TOOL, "arguments": "{}"});
            let call = json!({"id": "call_test", "type": "function", "function": function});
            json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [call]})
        }
        (Outcome::Refused, Kin::OpenAi | Kin::Follower) => {
            json!({"role": "assistant", "content": null, "refusal": REFUSAL})
        }
        // A filtered answer has no content at all.
        (Outcome::Refused, Kin::Azure) => json!({"role": "assistant"}),
        (outcome, _) => json!({"role": "assistant", "content": outcome.text(), "refusal": null}),
    }
}

fn finish_reason(outcome: &Outcome, kin: Kin) -> &'static str {
    match (outcome, kin) {
        (Outcome::Cut(_), _) => "length",
        (Outcome::Tool, _) => "tool_calls",
        (Outcome::Refused, Kin::Azure) => "content_filter",
        // Mistral documents no refusal, but a failed generation.
        (Outcome::Refused, Kin::Mistral) => "error",
        _ => "stop",
    }
}

fn completion(model: &str, dialogue: &Dialogue, outcome: &Outcome, kin: Kin, count: i64) -> Answer {
    let (prompt, completion) = (tokens(dialogue.last()), tokens(outcome.text()));
    let usage = json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    });
    let count = if *outcome == Outcome::Empty { 0 } else { count };
    let (message, finish) = (message(outcome, kin), finish_reason(outcome, kin));
    let choices: Vec<Value> = (0..count)
        .map(|index| json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish}))
        .collect();
    let answer = json!({
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": choices,
        "usage": usage,
    });
    Answer::json(200, &answer)
}

fn streamed(model: &str, outcome: &Outcome, kin: Kin) -> Answer {
    let (first, rest) = halves(outcome.text());
    let chunk = |delta: Value, finish: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let chunk = json!({
            "id": "chatcmpl-test",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": model,
            "choices": [choice],
        });
        format!("data: {chunk}\n\n")
    };
    let body = [
        chunk(json!({"role": "assistant", "content": first}), None),
        chunk(json!({"content": rest}), None),
        chunk(json!({}), Some(finish_reason(outcome, kin))),
        "data: [DONE]\n\n".to_owned(),
    ];
    Answer::new(200, "text/event-stream; charset=utf-8", body.concat())
}
