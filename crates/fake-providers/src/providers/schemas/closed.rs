//! Schemas of services that require closed objects and accept no bounds: Anthropic and Bedrock.

use serde_json::Value;

/// Refused keywords, by the types to which they apply.
const REFUSED: &[(&str, &[&str])] = &[
    ("number", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
    ("integer", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
    ("string", &["minLength", "maxLength"]),
    ("array", &["maxItems", "uniqueItems", "contains", "prefixItems"]),
    ("object", &["minProperties", "maxProperties", "patternProperties", "propertyNames"]),
];

/// Accepts a schema, or returns the reason of its refusal.
pub(in crate::providers) fn check(schema: &Value) -> Result<(), String> {
    let Value::Object(members) = schema else {
        return Err("Input should be a valid dictionary".into());
    };
    for name in ["oneOf", "not", "if", "dependentSchemas"] {
        if members.contains_key(name) {
            return Err(format!("Schema type '{name}' is not supported"));
        }
    }
    if let Some(target) = members.get("$ref").and_then(Value::as_str).filter(|target| !target.starts_with('#')) {
        return Err(format!("External $ref '{target}' is not supported"));
    }
    let kinds: Vec<&str> = match members.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    for kind in &kinds {
        let refused = REFUSED.iter().find(|(name, _)| name == kind).map_or(&[][..], |(_, refused)| refused);
        let mut found: Vec<&str> = refused.iter().copied().filter(|name| members.contains_key(*name)).collect();
        found.sort_unstable();
        match found.as_slice() {
            [] => {}
            [one] => return Err(format!("For '{kind}' type, property '{one}' is not supported")),
            more => return Err(format!("For '{kind}' type, properties {} are not supported", more.join(", "))),
        }
    }
    if kinds.contains(&"array") && members.get("minItems").is_some_and(|least| !matches!(least.as_u64(), Some(0 | 1))) {
        return Err("For 'array' type, 'minItems' values other than 0 or 1 are not supported".into());
    }
    let is_object = kinds.contains(&"object") || members.contains_key("properties");
    if is_object && members.get("additionalProperties") != Some(&Value::Bool(false)) {
        return Err("For 'object' type, 'additionalProperties' must be explicitly set to false".into());
    }
    for group in ["properties", "$defs", "definitions"] {
        members.get(group).and_then(Value::as_object).into_iter().flatten().try_for_each(|(_, part)| check(part))?;
    }
    for group in ["anyOf", "allOf"] {
        members.get(group).and_then(Value::as_array).into_iter().flatten().try_for_each(check)?;
    }
    members.get("items").map_or(Ok(()), check)
}
