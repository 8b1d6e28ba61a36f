//! Structured output: a JSON Schema in the form that each API takes.
//!
//! An API that takes less of JSON Schema gets a schema without the rest; the answer is checked against the whole one.

use serde_json::{json, Map, Value};

/// Keywords of limits that Anthropic's and Bedrock's APIs refuse.
const LIMITS: [&str; 12] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "pattern",
];

/// Keywords of OpenAI's strict mode.
const STRICT: [&str; 21] = [
    "$defs",
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "description",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maximum",
    "minItems",
    "minimum",
    "multipleOf",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
];

/// Whether OpenAI's strict mode takes a schema: an object of known keywords, whose objects are closed and require all
/// their properties.
pub(super) fn is_strict(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("object") && is_strict_below(schema)
}

fn is_strict_below(schema: &Value) -> bool {
    let Some(members) = schema.as_object() else { return true };
    let here = match members.get("properties").and_then(Value::as_object) {
        Some(properties) => {
            let required = members.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            members.get("additionalProperties") == Some(&Value::Bool(false))
                && properties.keys().all(|name| required.iter().any(|r| r.as_str() == Some(name)))
        }
        None => members.get("type").and_then(Value::as_str) != Some("object"),
    };
    let known = members.keys().all(|name| STRICT.contains(&name.as_str()));
    here && known && subschemas(members).all(is_strict_below)
}

/// The schemas directly below one. Schemas are at most 32 levels deep: [`Schema`](crate::json::schema::Schema).
fn subschemas(members: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let of_name = ["properties", "$defs", "definitions"].into_iter().filter_map(|name| members.get(name)?.as_object());
    let lists = ["anyOf", "allOf", "oneOf", "prefixItems"].into_iter().filter_map(|name| members.get(name)?.as_array());
    let single = ["items", "not", "if", "then", "else"].into_iter().filter_map(|name| members.get(name));
    of_name.flat_map(Map::values).chain(lists.flatten()).chain(single)
}

/// Applies `change` to a schema and all below it.
fn changed(schema: &Value, change: &impl Fn(&mut Map<String, Value>)) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    let all = |value: &Value| match value {
        Value::Object(named) => named.iter().map(|(name, s)| (name.clone(), changed(s, change))).collect(),
        other => other.clone(),
    };
    let mut members: Map<String, Value> = members
        .iter()
        .map(|(name, value)| {
            let value = match (name.as_str(), value) {
                ("properties" | "$defs" | "definitions", value) => all(value),
                ("anyOf" | "allOf" | "oneOf" | "prefixItems", Value::Array(list)) => {
                    list.iter().map(|s| changed(s, change)).collect()
                }
                ("items" | "not" | "if" | "then" | "else", value) => changed(value, change),
                (_, value) => value.clone(),
            };
            (name.clone(), value)
        })
        .collect();
    change(&mut members);
    Value::Object(members)
}

/// The schema for APIs that want closed objects and take no limits: Anthropic's, Bedrock's.
pub(super) fn closed(schema: &Value) -> Value {
    changed(schema, &|members| {
        LIMITS.iter().for_each(|limit| drop(members.remove(*limit)));
        // More than one required item is a limit too.
        if members.get("minItems").and_then(Value::as_u64).is_some_and(|n| n > 1) {
            members.insert("minItems".into(), 1.into());
        }
        if members.contains_key("properties") || members.get("type").and_then(Value::as_str) == Some("object") {
            members.insert("additionalProperties".into(), Value::Bool(false));
        }
    })
}

/// Keywords of Gemini's `responseSchema`, a part of OpenAPI 3.0.
const OPEN_API: [&str; 17] = [
    "type",
    "format",
    "title",
    "description",
    "enum",
    "items",
    "minItems",
    "maxItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "anyOf",
];

/// Gemini's members for a schema: `responseSchema` where it can express the schema, else `responseJsonSchema`.
pub(super) fn gemini(schema: &Value) -> (&'static str, Value) {
    if !is_open_api(schema) {
        return ("responseJsonSchema", schema.clone());
    }
    let open_api = changed(schema, &|members| {
        members.remove("additionalProperties");
        members.remove("$schema");
        let types = match members.get("type") {
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect::<Vec<_>>(),
            Some(Value::String(one)) => vec![one.as_str()],
            _ => Vec::new(),
        };
        let nullable = types.len() > 1 && types.contains(&"null");
        let first = types.iter().find(|t| **t != "null").map(|t| t.to_ascii_uppercase());
        if let Some(first) = first {
            members.insert("type".into(), first.into());
        }
        if nullable {
            members.insert("nullable".into(), Value::Bool(true));
        }
    });
    ("responseSchema", open_api)
}

fn is_open_api(schema: &Value) -> bool {
    let Some(members) = schema.as_object() else { return false };
    let known = |name: &str, value: &Value| match name {
        "additionalProperties" => *value == Value::Bool(false),
        "$schema" => true,
        // One type, or one beside null.
        "type" => value.as_array().is_none_or(|types| types.iter().filter(|t| *t != "null").count() == 1),
        // Texts only.
        "enum" => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        _ => OPEN_API.contains(&name),
    };
    // A type, which decides what else is needed; a choice stands alone, but for its description.
    let whole = match members.get("type").map(|t| t.as_str().unwrap_or_default()) {
        Some("array") => members.contains_key("items"),
        Some("object") => members.contains_key("properties"),
        Some(_) => true,
        None => members.contains_key("anyOf") && members.len() == 1,
    };
    whole && members.iter().all(|(name, value)| known(name, value)) && subschemas(members).all(is_open_api)
}

/// OpenAI's `response_format`.
pub(super) fn response_format(schema: &Value) -> Value {
    json!({
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": is_strict(schema)}
    })
}

/// The instruction for APIs that are not given the schema in a form of their own.
pub(super) fn in_words(schema: &str) -> String {
    format!("Answer with one JSON document and nothing else. It conforms to this JSON Schema: {schema}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person() -> Value {
        json!({
            "type": "object",
            "properties": {"name": {"type": ["string", "null"]}, "age": {"type": "integer", "minimum": 0}},
            "required": ["name", "age"],
            "additionalProperties": false
        })
    }

    #[test]
    fn strict_mode_is_asked_for_where_it_is_possible() {
        assert!(is_strict(&person()));
        let mut open = person();
        open["additionalProperties"] = json!(true);
        let mut optional = person();
        optional["required"] = json!(["name"]);
        let nested = json!({"type": "array", "items": open.clone()});
        let with_default = json!({"type": "object", "properties": {"a": {"type": "string", "default": "x"}}, "required": ["a"], "additionalProperties": false});
        for schema in [open, optional, nested, json!({"type": "object"}), with_default] {
            assert!(!is_strict(&schema), "{schema}");
        }
    }

    #[test]
    fn what_an_api_refuses_is_left_out() {
        let closed = closed(&json!({"type": "object", "properties": {"a": {"type": "number", "maximum": 1}}}));
        assert_eq!(
            closed,
            json!({"type": "object", "properties": {"a": {"type": "number"}}, "additionalProperties": false})
        );
        let (member, schema) = gemini(&person());
        assert_eq!(member, "responseSchema");
        assert_eq!(
            schema,
            json!({
                "type": "OBJECT",
                "properties": {"name": {"type": "STRING", "nullable": true}, "age": {"type": "INTEGER", "minimum": 0}},
                "required": ["name", "age"]
            })
        );
        for schema in [
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}}),
            json!({"type": ["string", "integer"]}),
            json!({"enum": [1, 2]}),
            json!({"const": "x"}),
            json!({"enum": ["x"]}),
            json!({"type": "array"}),
            json!({"anyOf": [{"type": "string"}], "description": "x"}),
        ] {
            assert_eq!(gemini(&schema), ("responseJsonSchema", schema.clone()));
        }
    }
}
