//! `ai.extract`: named fields of a text, with their types.

use serde_json::{json, Map, Value};

use mysql_ml_base::error::{cut, Error, Result};

use super::{argument, instruction, object, Reading, Task};
use crate::providers::chat::GenerateOptions;

/// The most fields, and the longest name in bytes.
const MAX_FIELDS: usize = 100;
const MAX_NAME: usize = 100;

/// The types of fields, as JSON Schema has them.
const TYPES: [(&str, &str); 8] = [
    ("text", "string"),
    ("string", "string"),
    ("integer", "integer"),
    ("int", "integer"),
    ("number", "number"),
    ("double", "number"),
    ("boolean", "boolean"),
    ("bool", "boolean"),
];

/// The task for `fields`: a JSON array of names, or a JSON object of names with a type (`text`, `integer`, `number`,
/// `boolean`; with `[]` an array of it) or with an object of `type`, `description` and `enum`. A field that the text
/// does not state is null.
pub fn task(fields: &str, options: GenerateOptions) -> Result<Task> {
    let value = argument("fields", fields)?;
    let fields: Vec<(&str, Value)> = match &value {
        Value::Array(names) => names
            .iter()
            .map(|name| Ok((name.as_str().ok_or_else(wrong)?, Value::from("text"))))
            .collect::<Result<_>>()?,
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.as_str(), field.clone())).collect(),
        _ => return Err(wrong()),
    };
    if fields.is_empty() || fields.len() > MAX_FIELDS {
        return Err(Error::invalid(format!("fields has {} fields; give 1 to {MAX_FIELDS}", fields.len())));
    }
    let members: Map<String, Value> = fields
        .into_iter()
        .map(|(name, field)| {
            if name.trim().is_empty() || name.len() > MAX_NAME {
                return Err(Error::invalid(format!(
                    "the name of field '{}' is empty or longer than {MAX_NAME} bytes; shorten it",
                    cut(name, 60)
                )));
            }
            Ok((name.to_owned(), schema_of(name, &field)?))
        })
        .collect::<Result<_>>()?;
    let task = "Extract the fields of the given schema from the user's message. \
A field is null where the message does not state it: never guess, and keep the message's own words and spelling.";
    Task::new(instruction(task), Some(object(members)), Reading::Document, options)
}

fn wrong() -> Error {
    Error::invalid(
        "fields must be a JSON array of names or an object of names with types, such as '{\"name\": \"text\", \"year\": \"integer\"}'",
    )
}

fn schema_of(name: &str, field: &Value) -> Result<Value> {
    let described = field.as_object();
    let known = ["type", "description", "enum"];
    if described.is_some_and(|members| members.keys().any(|member| !known.contains(&member.as_str()))) {
        return Err(wrong());
    }
    let type_name = match described {
        Some(members) => members.get("type").map_or(Some("text"), Value::as_str),
        None => field.as_str(),
    };
    let type_name = type_name.ok_or_else(wrong)?.trim().to_ascii_lowercase();
    let (single, list) = match type_name.strip_suffix("[]") {
        Some(single) => (single, true),
        None => (type_name.as_str(), false),
    };
    let Some((_, json_type)) = TYPES.iter().find(|(name, _)| *name == single) else {
        return Err(Error::invalid(format!(
            "field '{}' has the type '{}'; give text, integer, number or boolean, with [] an array of it",
            cut(name, 60),
            cut(&type_name, 60)
        )));
    };
    let values = described.and_then(|members| members.get("enum"));
    let texts = values.map(|values| values.as_array().filter(|all| all.iter().all(Value::is_string)));
    let mut schema = match (texts, *json_type, list) {
        (Some(Some(all)), "string", false) => {
            json!({"anyOf": [{"type": "string", "enum": all}, {"type": "null"}]})
        }
        (Some(Some(all)), "string", true) => {
            json!({"type": ["array", "null"], "items": {"type": "string", "enum": all}})
        }
        (Some(_), ..) => return Err(wrong()),
        (None, _, false) => json!({"type": [json_type, "null"]}),
        (None, _, true) => json!({"type": ["array", "null"], "items": {"type": json_type}}),
    };
    let description = described.and_then(|members| members.get("description"));
    if let (Some(description), Some(schema)) = (description, schema.as_object_mut()) {
        schema.insert("description".into(), description.as_str().ok_or_else(wrong)?.into());
    }
    Ok(schema)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::Answer;

    fn of(fields: &str) -> Result<Task> {
        task(fields, GenerateOptions::default())
    }

    #[test]
    fn an_answer_has_just_the_fields_with_their_types() {
        let task = of(r#"{"name": "text", "year": {"type": "integer", "description": "of birth"}, "tags": "text[]",
            "mood": {"enum": ["good", "bad"]}}"#)
        .unwrap();
        let good = r#"{"name":"Ada","year":1815,"tags":["math"],"mood":null}"#;
        assert_eq!(task.read(good), Ok(Answer::Json(good.into())));
        for bad in [
            r#"{"name":"Ada","year":"1815","tags":[],"mood":null}"#,
            r#"{"name":"Ada","year":1815,"tags":[1],"mood":null}"#,
            r#"{"name":"Ada","year":1815,"tags":[],"mood":"angry"}"#,
            r#"{"name":"Ada","year":1815,"tags":[]}"#,
            r#"{"name":"Ada","year":1815,"tags":[],"mood":null,"more":1}"#,
        ] {
            assert!(task.read(bad).is_err(), "{bad}");
        }
        assert!(of(r#"["name", "year"]"#).unwrap().read(r#"{"name":"Ada","year":null}"#).is_ok());
    }

    #[test]
    fn fields_are_checked() {
        for bad in [
            "[]",
            "{}",
            "[1]",
            "x",
            r#"{"a":"date"}"#,
            r#"{"a":{"type":"text","x":1}}"#,
            r#"{"a":{"enum":[1]}}"#,
            r#"{"a":{"type":"integer","enum":["1"]}}"#,
            r#"{"":"text"}"#,
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
