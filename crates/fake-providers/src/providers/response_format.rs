//! The member `response_format` of `OpenAI`'s chat interface, and of those who follow it.

use serde_json::Value;

use super::dialogue::Dialogue;
use super::openai_chat::Kin;
use super::outcome::Form;
use super::schemas;
use super::strict::{self, nullable, optional, required, Kind, Member, Violation};

const MEMBERS: &[Member] = &[required("type", Kind::Text), nullable("json_schema", Kind::Object)];

const SCHEMA: &[Member] = &[
    required("name", Kind::Text),
    optional("description", Kind::Text),
    optional("schema", Kind::Object),
    nullable("strict", Kind::Flag),
];

const LONGEST_NAME: usize = 64;

/// The format that a request requires. Only `OpenAI` itself and Azure check schemas.
pub(super) fn read<'a>(format: Option<&'a Value>, dialogue: &Dialogue, kin: Kin) -> Result<Form<'a>, Violation> {
    let Some(format) = format else { return Ok(Form::Free) };
    let place = "response_format";
    let format = strict::object(format, place, MEMBERS)?;
    let is_original = matches!(kin, Kin::OpenAi | Kin::Azure);
    match format.text("type") {
        Some("text") => Ok(Form::Free),
        Some("json_object") => {
            let says_json = dialogue.texts().any(|text| text.to_ascii_lowercase().contains("json"));
            if is_original && !says_json {
                let message = "'messages' must contain the word 'json' in some form, to use 'response_format' of type \
                               'json_object'.";
                return Err(Violation::value("messages", message));
            }
            Ok(Form::Json)
        }
        Some("json_schema") => {
            let place = strict::join(place, "json_schema");
            let wanted = format.get("json_schema").ok_or_else(|| Violation::missing(place.clone()))?;
            let wanted = strict::object(wanted, &place, SCHEMA)?;
            let name = wanted.text("name").unwrap_or_default();
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fits) {
                let message = format!(
                    "Invalid '{place}.name': string does not match pattern. Expected a string that matches the pattern \
                     '^[a-zA-Z0-9_-]+$'."
                );
                return Err(Violation::value(strict::join(&place, "name"), message));
            }
            let Some(schema) = wanted.get("schema") else { return Ok(Form::Json) };
            if is_original && wanted.flag("strict") == Some(true) {
                schemas::openai::check(schema).map_err(|why| {
                    Violation::value("response_format", format!("Invalid schema for response_format '{name}': {why}"))
                })?;
            }
            Ok(Form::Schema(schema))
        }
        other => {
            let message = format!(
                "Invalid value: '{}'. Supported values are: 'json_object', 'json_schema', and 'text'.",
                other.unwrap_or_default()
            );
            Err(Violation::value("response_format.type", message))
        }
    }
}
