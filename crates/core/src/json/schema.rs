//! JSON Schemas of answers, checked by the crate `jsonschema`.
//!
//! Checking cannot be interrupted, so that its time is bounded before it begins: by the size of the schema with all
//! references expanded, by the answer's size, and by linear-time regular expressions. References stay in the document and
//! do not recur.

use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use mysql_ml_base::error::{cut, Error, Result};

/// The largest schema, bytes of its text.
const MAX_BYTES: usize = 64 << 10;

/// The deepest schema. Validators recurse through it on the server's threads, whose stacks are small.
const MAX_DEPTH: usize = 32;

/// The deepest answer that is checked.
const MAX_ANSWER_DEPTH: usize = 64;

/// The most schemas in a schema, each counted as often as references reach it.
const MAX_EXPANDED: usize = 10_000;

/// The deepest place, in levels of JSON, with references expanded.
const MAX_EXPANDED_DEPTH: usize = 64;

/// The most steps of a check: schemas times values of the answer. Each may leave a record of a failure.
const MAX_STEPS: usize = 2_000_000;

/// The most regular expressions, and bytes of each when compiled.
const MAX_PATTERNS: usize = 64;
const MAX_PATTERN: usize = 256 << 10;

/// Keywords that reach other places than a pointer of `$ref` does.
const REACHING: [&str; 6] = ["$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"];

/// A schema, ready to check answers.
pub struct Schema {
    document: Value,
    text: String,
    validator: Validator,
    /// Schemas in it, with references expanded.
    expanded: usize,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Schema {
    /// Compiles a schema. `$ref` reaches its own document only; regular expressions take linear time.
    pub fn new(document: Value) -> Result<Self> {
        let text = document.to_string();
        if text.len() > MAX_BYTES || !is_shallow(&document, MAX_DEPTH) {
            return Err(Error::invalid(format!(
                "json_schema has {} bytes and is nested too deep or too large; at most {MAX_BYTES} bytes and {MAX_DEPTH} levels are taken",
                text.len()
            )));
        }
        if !document.is_object() {
            return Err(Error::invalid("json_schema is not a JSON object; give a JSON Schema"));
        }
        let expanded = expanded(&document)?;
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN);
        let validator = jsonschema::options().with_pattern_options(patterns).build(&document).map_err(|e| {
            Error::invalid(format!("json_schema is not a JSON Schema ({}); correct it", cut(&e.to_string(), 300)))
        })?;
        Ok(Schema { document, text, validator, expanded })
    }

    /// The schema.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The schema's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The reason why a value does not conform.
    pub fn check(&self, value: &Value) -> std::result::Result<(), String> {
        if !is_shallow(value, MAX_ANSWER_DEPTH) {
            return Err(format!("it is nested deeper than {MAX_ANSWER_DEPTH} levels"));
        }
        if values(value).saturating_mul(self.expanded) > MAX_STEPS {
            return Err("it is too large to be checked against this schema".to_owned());
        }
        if self.validator.is_valid(value) {
            return Ok(());
        }
        match self.validator.validate(value) {
            Ok(()) => Ok(()),
            Err(error) => {
                let place = error.instance_path().to_string();
                let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
                Err(cut(&format!("{error}{place}"), 300).into_owned())
            }
        }
    }
}

/// The number of schemas, with references expanded. An error if they recur, are too many or too deep, or reach elsewhere.
fn expanded(document: &Value) -> Result<usize> {
    let refused = |what: &str| Error::invalid(format!("json_schema {what}; simplify it"));
    let (mut count, mut patterns) = (0_usize, 0_usize);
    // Places to visit, each with its depth and the references that led to it.
    let mut places: Vec<(&Value, usize, Vec<&str>)> = vec![(document, 0, Vec::new())];
    while let Some((place, depth, path)) = places.pop() {
        count += 1;
        if count > MAX_EXPANDED {
            return Err(refused("has more than 10000 schemas when its references are expanded"));
        }
        if depth > MAX_EXPANDED_DEPTH {
            return Err(refused("is nested too deep when its references are expanded"));
        }
        match place {
            Value::Array(items) => places.extend(items.iter().map(|item| (item, depth + 1, path.clone()))),
            Value::Object(members) => {
                let reaching = |(name, value): &(&String, &Value)| {
                    REACHING.contains(&name.as_str()) || (*name == "id" && value.is_string())
                };
                if let Some((name, _)) = members.iter().find(reaching) {
                    return Err(refused(&format!("has the keyword {name}, which is not taken")));
                }
                patterns += usize::from(members.contains_key("pattern"));
                patterns += members.get("patternProperties").and_then(Value::as_object).map_or(0, |all| all.len());
                if patterns > MAX_PATTERNS {
                    return Err(refused("has more than 64 regular expressions"));
                }
                if let Some(Value::String(reference)) = members.get("$ref") {
                    if path.contains(&reference.as_str()) || reference == "#" {
                        return Err(refused("refers to itself, and recursive schemas are not taken"));
                    }
                    // The validator decodes percent signs, which would lead it to another place.
                    let pointer = reference.strip_prefix('#').filter(|pointer| !pointer.contains('%'));
                    let target = pointer.and_then(|pointer| document.pointer(pointer));
                    let target =
                        target.ok_or_else(|| refused("has a $ref that is not '#/...' of an existing place"))?;
                    let mut path = path.clone();
                    path.push(reference);
                    places.push((target, depth + 1, path));
                }
                places.extend(members.values().map(|member| (member, depth + 1, path.clone())));
            }
            _ => {}
        }
    }
    Ok(count)
}

/// The number of values in a value.
fn values(value: &Value) -> usize {
    let (mut count, mut places) = (0_usize, vec![value]);
    while let Some(place) = places.pop() {
        count += 1;
        match place {
            Value::Array(items) => places.extend(items),
            Value::Object(members) => places.extend(members.values()),
            _ => {}
        }
    }
    count
}

/// Whether a value has at most `depth` levels.
fn is_shallow(value: &Value, depth: usize) -> bool {
    let mut level: Vec<&Value> = vec![value];
    for _ in 0..depth {
        level = level
            .into_iter()
            .flat_map(|value| -> Box<dyn Iterator<Item = &Value>> {
                match value {
                    Value::Array(items) => Box::new(items.iter()),
                    Value::Object(members) => Box::new(members.values()),
                    _ => Box::new(std::iter::empty()),
                }
            })
            .collect();
        if level.is_empty() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_checked_and_the_place_is_named() {
        let schema = Schema::new(json!({
            "type": "object",
            "properties": {"n": {"type": "integer", "maximum": 9}},
            "required": ["n"],
            "additionalProperties": false
        }))
        .unwrap();
        assert!(schema.check(&json!({"n": 3})).is_ok());
        for (bad, says) in [
            (json!({"n": 10}), "at /n"),
            (json!({"n": "3"}), "\"integer\""),
            (json!({}), "required"),
            (json!({"n": 1, "m": 2}), "'m'"),
            (json!([1]), "\"object\""),
        ] {
            let reason = schema.check(&bad).unwrap_err();
            assert!(reason.contains(says), "{bad}: {reason}");
        }
    }

    #[test]
    fn schemas_that_are_wrong_or_reach_elsewhere_are_refused() {
        for (bad, says) in [
            (json!({"$ref": "https://example.com/x.json"}), "has a $ref that is not"),
            (json!({"$ref": "file:///etc/passwd"}), "has a $ref that is not"),
            (json!({"type": "strung"}), "is not a JSON Schema"),
            (json!({"pattern": "("}), "is not a JSON Schema"),
            (json!({"pattern": "((a{1000}){1000}){1000}"}), "is not a JSON Schema"),
            (json!(true), "is not a JSON object"),
            (json!({"description": "x".repeat(MAX_BYTES)}), "bytes"),
        ] {
            let error = Schema::new(bad.clone()).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
        let mut deep = json!({});
        for _ in 0..MAX_DEPTH {
            deep = json!({ "items": deep });
        }
        assert!(Schema::new(deep).is_err());
    }

    #[test]
    fn a_check_that_would_take_long_is_refused_before_it_begins() {
        let circle = json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"});
        // Each level of an answer would double the work.
        let doubling = json!({"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}});
        let by_pointer = json!({"$defs": {"n": {"properties": {"a": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"});
        // Properties that are named like definitions, and a name that only the validator decodes.
        let hidden = json!({"properties": {"definitions": {"properties": {"a": {"allOf": [
            {"$ref": "#/properties/definitions"}, {"$ref": "#/properties/definitions"}]}}}}});
        for recursive in [json!({"$ref": "#"}), circle, doubling, by_pointer, hidden] {
            let error = Schema::new(recursive).unwrap_err();
            assert!(error.message().contains("refers to itself"), "{error}");
        }
        let mut defs = serde_json::Map::new();
        for i in 0..20 {
            let next = format!("#/$defs/d{}", i + 1);
            defs.insert(format!("d{i}"), json!({"allOf": [{"$ref": next}, {"$ref": next}]}));
        }
        defs.insert("d20".into(), json!({}));
        let error = Schema::new(json!({"$defs": defs, "$ref": "#/$defs/d0"})).unwrap_err();
        assert!(error.message().contains("10000 schemas"), "{error}");
        let patterns: Vec<Value> = (0..65).map(|i| json!({"pattern": format!("a{i}")})).collect();
        assert!(Schema::new(json!({"anyOf": patterns})).unwrap_err().message().contains("64 regular"));
        let encoded = json!({"%24defs": {"a": {}}, "$defs": {"a": {"properties": {"k": {"$ref": "#/%24defs/a"}}}}, "$ref": "#/%24defs/a"});
        let mut chain = serde_json::Map::new();
        for i in 0..200 {
            chain.insert(format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)}));
        }
        chain.insert("d200".into(), json!({}));
        let chain = json!({"$defs": chain, "$ref": "#/$defs/d0"});
        for reaching in [
            json!({"$id": "https://x.example/"}),
            json!({"id": "https://x.example/"}),
            json!({"$dynamicRef": "#a"}),
            json!({"$ref": "#a"}),
            encoded,
            chain,
        ] {
            assert!(Schema::new(reaching).is_err());
        }
        let all: Vec<Value> = (0..1000).map(|_| json!({"type": "integer"})).collect();
        let wide = Schema::new(json!({"items": {"allOf": all}})).unwrap();
        assert!(wide.check(&json!(vec![1; 100])).is_ok());
        assert!(Schema::new(json!({"properties": {"id": {"type": "string"}}}))
            .unwrap()
            .check(&json!({"id": "x"}))
            .is_ok());
        assert!(wide.check(&json!(vec![1; 100_000])).unwrap_err().contains("too large"));
        // References that do not recur are taken, several times too.
        let person = json!({"$defs": {"p": {"type": "object"}}, "properties": {"a": {"$ref": "#/$defs/p"}, "b": {"$ref": "#/$defs/p"}}});
        let person = Schema::new(person).unwrap();
        assert!(person.check(&json!({"a": {}, "b": {}})).is_ok() && person.check(&json!({"a": 1})).is_err());
    }

    #[test]
    fn the_deepest_schema_and_answer_fit_a_small_stack() {
        let work = || {
            let mut schema = json!({"type": "object"});
            for _ in 0..(MAX_DEPTH / 2 - 1) {
                schema = json!({"properties": {"a": schema}});
            }
            Schema::new(schema).unwrap();
            let mut nested = json!({"type": "integer"});
            let mut answer = json!(1);
            for _ in 0..(MAX_DEPTH / 2 - 1) {
                nested = json!({"properties": {"a": nested}});
                answer = json!({ "a": answer });
            }
            Schema::new(nested).unwrap().check(&answer).unwrap();
        };
        std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap().join().unwrap();
    }
}
