//! Schemas that `OpenAI` accepts with `strict`: closed objects with required properties only, and few keywords.

use serde_json::{Map, Value};

const PERMITTED: &[&str] = &[
    "$schema",
    "$id",
    "$ref",
    "$defs",
    "definitions",
    "title",
    "description",
    "type",
    "enum",
    "const",
    "anyOf",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
];

/// Accepts a schema, or returns the reason of its refusal. The service puts `Invalid schema for response_format
/// 'NAME': ` before it.
pub(in crate::providers) fn check(schema: &Value) -> Result<(), String> {
    match schema.get("type") {
        _ if schema.get("$ref").is_some() => {}
        Some(Value::String(kind)) if kind == "object" => {}
        Some(kind) => {
            let shown = kind.as_str().map_or_else(|| kind.to_string(), |kind| format!("\"{kind}\""));
            return Err(format!("schema must be a JSON Schema of 'type: \"object\"', got 'type: {shown}'."));
        }
        None => return Err("schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'.".into()),
    }
    part(schema, &mut Vec::new())
}

/// The path of a part as a Python tuple.
fn context(path: &[String]) -> String {
    match path {
        [one] => format!("In context=('{one}',)"),
        path => {
            let names: Vec<String> = path.iter().map(|name| format!("'{name}'")).collect();
            format!("In context=({})", names.join(", "))
        }
    }
}

fn part(schema: &Value, path: &mut Vec<String>) -> Result<(), String> {
    let Value::Object(members) = schema else {
        return Err(format!("{}, schema must be an object.", context(path)));
    };
    if let Some(name) = members.keys().find(|name| !PERMITTED.contains(&name.as_str())) {
        return Err(format!("{}, '{name}' is not permitted.", context(path)));
    }
    if !["type", "enum", "const", "anyOf", "$ref"].iter().any(|name| members.contains_key(*name)) {
        return Err(format!("{}, schema must have a 'type' key.", context(path)));
    }
    let is_object = match members.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        Some(kind) => kind == "object",
        None => false,
    };
    if is_object {
        object(members, path)?;
    }
    for group in ["properties", "$defs", "definitions"] {
        for (name, schema) in members.get(group).and_then(Value::as_object).into_iter().flatten() {
            inside(schema, path, &[group, name])?;
        }
    }
    if let Some(items) = members.get("items") {
        inside(items, path, &["items"])?;
    }
    for (index, option) in members.get("anyOf").and_then(Value::as_array).into_iter().flatten().enumerate() {
        inside(option, path, &["anyOf", &index.to_string()])?;
    }
    Ok(())
}

fn inside(schema: &Value, path: &mut Vec<String>, names: &[&str]) -> Result<(), String> {
    let length = path.len();
    path.extend(names.iter().map(|name| (*name).to_owned()));
    part(schema, path)?;
    path.truncate(length);
    Ok(())
}

fn object(members: &Map<String, Value>, path: &[String]) -> Result<(), String> {
    if members.get("additionalProperties") != Some(&Value::Bool(false)) {
        return Err(format!("{}, 'additionalProperties' is required to be supplied and to be false.", context(path)));
    }
    let properties = members.get("properties").and_then(Value::as_object);
    let required = members.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|required| required.iter().any(|given| given == name));
    if let Some(name) = properties.into_iter().flat_map(Map::keys).find(|name| !is_required(name)) {
        return Err(format!(
            "{}, 'required' is required to be supplied and to be an array including every key in properties. Missing \
             '{name}'.",
            context(path)
        ));
    }
    let is_known = |name: &Value| name.as_str().is_some_and(|n| properties.is_some_and(|p| p.contains_key(n)));
    if let Some(name) = required.into_iter().flatten().find(|name| !is_known(name)) {
        let name = name.as_str().unwrap_or_default();
        return Err(format!("{}, Extra required key '{name}' supplied.", context(path)));
    }
    Ok(())
}
