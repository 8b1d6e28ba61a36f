//! The answer of a chat endpoint, independent of the provider's format.
//!
//! The text is `You said: ` and the user's last message. For a request for JSON, it is a value that [`structured`]
//! reads from the messages. [`Marker`]s in the user's messages change the answer.

use serde_json::{json, Value};

use super::call::{halves, reply_to};
use super::dialogue::Dialogue;
use super::marker::{self, Marked, Marker};
use super::packed::{self, Flaw};
use super::strict::Violation;
use super::structured;
use crate::shared::Shared;

/// The maximum number of places in a text that are tried as the start of a schema.
const MAX_STARTS: usize = 64;

/// The required format of an answer's text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Form<'s> {
    /// Any text. A schema in a message with the words "JSON Schema" is followed.
    Free,
    /// JSON of any shape. A schema in a message is followed.
    Json,
    /// JSON that this schema describes.
    Schema(&'s Value),
}

/// How an answer ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A whole text.
    Text(String),
    /// A text that stopped at the limit of tokens.
    Cut(String),
    /// The refusal of a model or of its filter.
    Refused,
    /// A call of the tool [`TOOL`] with the arguments `{}`, and no text.
    Tool,
    /// No answer, or one without content.
    Empty,
}

/// The tool that `[[tool]]` calls.
pub(super) const TOOL: &str = "lookup";

/// The text of a refusal.
pub(super) const REFUSAL: &str = "I'm sorry, but I can't help with that.";

impl Outcome {
    /// The text, which is empty where there is none.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Cut(text) => text,
            Self::Refused | Self::Tool | Self::Empty => "",
        }
    }
}

/// Determines the outcome of a chat. Waits first if a marker says so.
///
/// The markers are those of the user's last message with any. So they also apply to a client's next request, and
/// `once` ends with the first answer.
///
/// # Errors
///
/// The status that a marker requests.
pub(super) fn decide(shared: &Shared, dialogue: &Dialogue, form: Form<'_>) -> Result<Outcome, Violation> {
    let marked = dialogue.users().map(marker::take).find(|marked| !marked.markers.is_empty());
    let Marked { markers, rest } =
        marked.unwrap_or_else(|| Marked { markers: Vec::new(), rest: dialogue.last().to_owned() });
    for marker in &markers {
        match marker {
            Marker::Slow(delay) => shared.pause(*delay),
            Marker::Status(status) => return Err(Violation::status(*status)),
            Marker::Refuse => return Ok(Outcome::Refused),
            Marker::Tool => return Ok(Outcome::Tool),
            Marker::Empty => return Ok(Outcome::Empty),
            _ => {}
        }
    }
    let given = markers.iter().find_map(|marker| match marker {
        Marker::Once(text) if dialogue.is_before(text, &rest) => Some(text.clone()),
        Marker::Answer(text) => Some(text.clone()),
        _ => None,
    });
    let flaw = markers.iter().find_map(|marker| match marker {
        Marker::Rows(flaw) => Some(*flaw),
        _ => None,
    });
    let mut text = given.unwrap_or_else(|| answer(dialogue, &rest, form, flaw));
    if markers.contains(&Marker::Fenced) {
        text = format!("```json\n{text}\n```");
    }
    if markers.contains(&Marker::Cut) {
        let (half, _) = halves(&text);
        return Ok(Outcome::Cut(half.to_owned()));
    }
    Ok(Outcome::Text(text))
}

fn answer(dialogue: &Dialogue, said: &str, form: Form<'_>, flaw: Option<Flaw>) -> String {
    let value = |schema: &Value, said: &str| {
        packed::answers(schema, said, flaw).unwrap_or_else(|| structured::value(schema, said)).to_string()
    };
    if let Form::Schema(schema) = form {
        return value(schema, said);
    }
    // A model may follow a schema that a prompt has in words only.
    let heeds = |text: &&str| form == Form::Json || text.to_ascii_lowercase().contains("json schema");
    match dialogue.texts().filter(heeds).find_map(written_schema) {
        // The schema's own text is no part of the user's message.
        Some((schema, written)) => value(&schema, &said.replace(written, " ")),
        None if form == Form::Json => json!({"answer": reply_to(said)}).to_string(),
        None => reply_to(said),
    }
}

/// The first JSON Schema in a text, parsed and as text.
fn written_schema(text: &str) -> Option<(Value, &str)> {
    text.match_indices('{').take(MAX_STARTS).find_map(|(at, _)| {
        let rest = text.get(at..)?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let value = values.next()?.ok()?;
        let is_schema = ["properties", "$ref", "anyOf"].iter().any(|name| value.get(name).is_some())
            || value.get("type").is_some_and(|kind| kind.is_string() || kind.is_array());
        let end = values.byte_offset();
        is_schema.then_some(())?;
        Some((value, rest.get(..end)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_in_a_message_is_found() {
        let text = r#"Use {braces} and {"a": 1} for {"type": "object", "properties": {"a": {"type": "boolean"}}}. yes"#;
        let (schema, written) = written_schema(text).unwrap_or_default();
        assert_eq!(schema["properties"]["a"]["type"], "boolean");
        assert!(written.starts_with("{\"type\"") && written.ends_with("}}}"), "{written}");
        assert_eq!(written_schema("none {} here {"), None);
        let mut dialogue = Dialogue::of("yes");
        assert_eq!(answer(&dialogue, "yes", Form::Json, None), r#"{"answer":"You said: yes"}"#);
        dialogue.say("system", text.replace("yes", "").to_owned());
        assert_eq!(answer(&dialogue, "yes", Form::Json, None), r#"{"a":true}"#);
        assert_eq!(answer(&dialogue, "yes", Form::Free, None), "You said: yes", "nobody called it a schema");
        dialogue.say("system", "The JSON Schema: {\"type\": \"boolean\"}".to_owned());
        assert_eq!(answer(&dialogue, "yes", Form::Free, None), "true");
    }
}
