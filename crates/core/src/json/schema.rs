//! JSON Schemas of answers: bounded, without references to other documents, checked by the crate `jsonschema`.

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

/// Bytes of a compiled regular expression in a schema.
const MAX_PATTERN: usize = 1 << 20;

/// A schema, ready to check answers.
pub struct Schema {
    document: Value,
    text: String,
    validator: Validator,
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
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN);
        let validator = jsonschema::options().with_pattern_options(patterns).build(&document).map_err(|e| {
            Error::invalid(format!("json_schema is not a JSON Schema ({}); correct it", cut(&e.to_string(), 300)))
        })?;
        Ok(Schema { document, text, validator })
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
        match self.validator.iter_errors(value).next() {
            None => Ok(()),
            Some(error) => {
                let place = error.instance_path().to_string();
                let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
                Err(cut(&format!("{error}{place}"), 300).into_owned())
            }
        }
    }
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
    fn schemas_that_reach_elsewhere_or_have_no_end_are_refused_or_harmless() {
        for (bad, says) in [
            (json!({"$ref": "https://example.com/x.json"}), "is not a JSON Schema"),
            (json!({"$ref": "file:///etc/passwd"}), "is not a JSON Schema"),
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
        // Circles of references end.
        let circle = json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"});
        for circle in [json!({"$ref": "#"}), circle] {
            let _ = Schema::new(circle).unwrap().check(&json!({"a": 1}));
        }
        let list = json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}});
        let list = Schema::new(list).unwrap();
        assert!(list.check(&json!({"next": {"next": {}}})).is_ok());
        assert!(list.check(&json!({"next": {"next": 1}})).is_err());
    }

    #[test]
    fn the_deepest_schema_and_answer_fit_a_small_stack() {
        let work = || {
            let mut schema = json!({"type": "object"});
            for _ in 0..(MAX_DEPTH / 2 - 1) {
                schema = json!({"properties": {"a": schema}});
            }
            Schema::new(schema).unwrap();
            let recursive =
                Schema::new(json!({"properties": {"a": {"$ref": "#"}}, "additionalProperties": false})).unwrap();
            let mut answer = json!({});
            for _ in 0..(MAX_ANSWER_DEPTH - 2) {
                answer = json!({ "a": answer });
            }
            recursive.check(&answer).unwrap();
        };
        std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap().join().unwrap();
    }
}
