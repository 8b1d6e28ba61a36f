//! Schemas of Gemini's `responseSchema`: a Google message with few fields, not a JSON Schema.

use serde_json::{Map, Value};

const FIELDS: &[&str] = &[
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "items",
    "minItems",
    "maxItems",
    "properties",
    "propertyOrdering",
    "required",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "example",
    "default",
    "anyOf",
];

const TYPES: &[&str] = &["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"];

/// Accepts a schema, or returns the service's message of its refusal.
pub(in crate::providers) fn check(schema: &Value, on_vertex: bool) -> Result<(), String> {
    let place = "generation_config.response_schema";
    fields(schema, place)?;
    // The fields are checked before their meaning.
    meaning(schema, place)?;
    if on_vertex {
        lone_unions(schema, place)?;
    }
    Ok(())
}

/// Vertex AI wants `anyOf` alone; the Gemini API takes other fields beside it.
fn lone_unions(schema: &Value, place: &str) -> Result<(), String> {
    let Value::Object(members) = schema else { return Ok(()) };
    if members.contains_key("anyOf") && members.len() > 1 {
        return Err("Unable to submit request because one or more response schemas specified other fields alongside \
                    any_of. When using any_of, it must be the only field set. Learn more: \
                    https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/control-generated-output"
            .into());
    }
    each_part(members, place, |name, _| format!("[{name}]"), lone_unions)
}

fn unreadable(what: &str) -> String {
    format!("Invalid JSON payload received. {what}")
}

/// Checks that a schema is a valid message.
fn fields(schema: &Value, place: &str) -> Result<(), String> {
    let Value::Object(members) = schema else {
        return Err(format!(
            "Invalid value at '{place}' (type.googleapis.com/google.ai.generativelanguage.v1beta.Schema), {schema}"
        ));
    };
    if let Some(name) = members.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(unreadable(&format!("Unknown name \"{name}\" at '{place}': Cannot find field.")));
    }
    for name in ["type", "format", "nullable", "minimum", "maximum"] {
        if members.get(name).is_some_and(Value::is_array) {
            let what =
                format!("Unknown name \"{name}\" at '{place}': Proto field is not repeating, cannot start list.");
            return Err(unreadable(&what));
        }
    }
    if let Some(kind) = members.get("type")
        && !kind.as_str().is_some_and(|kind| TYPES.contains(&kind.to_ascii_uppercase().as_str()))
    {
        let message = format!(
            "Invalid value at '{place}.type' (type.googleapis.com/google.ai.generativelanguage.v1beta.Type), {kind}"
        );
        return Err(message);
    }
    for name in ["enum", "required", "propertyOrdering"] {
        for (index, value) in members.get(name).and_then(Value::as_array).into_iter().flatten().enumerate() {
            if !value.is_string() {
                let name = if name == "propertyOrdering" { "property_ordering" } else { name };
                return Err(format!("Invalid value at '{place}.{name}[{index}]' (TYPE_STRING), {value}"));
            }
        }
    }
    each_part(members, place, |_, index| format!("[{index}].value"), fields)
}

/// Checks the meaning of a schema.
fn meaning(schema: &Value, place: &str) -> Result<(), String> {
    let Value::Object(members) = schema else { return Ok(()) };
    let kind = members.get("type").and_then(Value::as_str).map(str::to_ascii_uppercase);
    let properties = members.get("properties").and_then(Value::as_object);
    let wrong = |what: &str| Err(format!("* GenerateContentRequest.{place}{what}"));
    match kind.as_deref() {
        None if !members.contains_key("anyOf") => return wrong(".type: must be specified"),
        Some("OBJECT") if properties.is_none_or(Map::is_empty) => {
            return wrong(".properties: should be non-empty for OBJECT type");
        }
        Some("ARRAY") if !members.contains_key("items") => return wrong(".items: missing field."),
        _ => {}
    }
    if members.contains_key("enum") && kind.as_deref() != Some("STRING") {
        return wrong(".enum: only allowed for STRING type");
    }
    for (index, value) in members.get("enum").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if value == "" {
            return wrong(&format!(".enum[{index}]: cannot be empty"));
        }
    }
    for (index, name) in members.get("required").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if !properties.is_some_and(|p| name.as_str().is_some_and(|name| p.contains_key(name))) {
            return wrong(&format!(".required[{index}]: property is not defined"));
        }
    }
    each_part(members, place, |name, _| format!("[{name}]"), meaning)
}

/// Checks the schemas inside a schema.
fn each_part(
    members: &Map<String, Value>,
    place: &str,
    name_of: fn(&str, usize) -> String,
    check: fn(&Value, &str) -> Result<(), String>,
) -> Result<(), String> {
    if let Some(items) = members.get("items") {
        check(items, &format!("{place}.items"))?;
    }
    for (index, option) in members.get("anyOf").and_then(Value::as_array).into_iter().flatten().enumerate() {
        check(option, &format!("{place}.any_of[{index}]"))?;
    }
    for (index, (name, part)) in members.get("properties").and_then(Value::as_object).into_iter().flatten().enumerate()
    {
        check(part, &format!("{place}.properties{}", name_of(name, index)))?;
    }
    Ok(())
}
