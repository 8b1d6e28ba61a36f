//! Values that fit a JSON Schema, read from a text by fixed rules: the answers of the fake models.
//!
//! | schema | value |
//! |---|---|
//! | `enum` | the first of its values that occurs in the text in any case; else the last one |
//! | boolean | whether the text has the word `yes` or `true`; null for `unsure` where null is allowed |
//! | number, integer | the number after the property's name (`score=0.75`, `age: 7`); else as below |
//! | number from 0 to 1 | the number after `score`; else 0.5 |
//! | other number | the first one in the text; else 0. Whole ones are read for integers |
//! | string | the text after `NAME:` up to a comma, a semicolon or the line's end; else NAME in upper case |
//! | array | one item; for items with an `enum` all values that occur in the text; for items with `index` and `score` one a document, if the text is a JSON object with `query` and `documents` |
//! | object | all properties; `answered`, `answer` and `citations` from the sources, if the text is a JSON object with `question` and `sources` |
//!
//! Numbers stay between `minimum` and `maximum`. Strings and values of an `enum` that are not found are null where the
//! schema allows null. References to other parts of the schema are followed. The words of Google's schemas
//! (`nullable`, types in upper case) mean the same.

use std::cell::Cell;

use serde_json::{json, Map, Number, Value};

use super::call::relevance_for;

/// The maximum depth of a value; deeper parts are null.
const MAX_DEPTH: usize = 24;
/// The maximum number of parts of a value; the rest is null.
const MAX_PARTS: usize = 10_000;
/// The maximum of `minItems`.
const MAX_ITEMS: u64 = 1000;

/// The value for a schema and a text.
pub(super) fn value(schema: &Value, text: &str) -> Value {
    part(schema, schema, text)
}

/// The value for a part of a schema and a text.
pub(super) fn part(root: &Value, schema: &Value, text: &str) -> Value {
    let builder =
        Builder { root, text, ascii: text.to_ascii_lowercase(), lower: text.to_lowercase(), parts: Cell::new(0) };
    builder.build(schema, "answer", 0)
}

struct Builder<'a> {
    root: &'a Value,
    text: &'a str,
    /// In lower case, with each byte where it is in the text.
    ascii: String,
    lower: String,
    parts: Cell<usize>,
}

impl Builder<'_> {
    fn build(&self, schema: &Value, name: &str, depth: usize) -> Value {
        self.parts.set(self.parts.get() + 1);
        if depth > MAX_DEPTH || self.parts.get() > MAX_PARTS {
            return Value::Null;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or(Value::Null, |target| self.build(target, name, depth + 1));
        }
        for choice in ["anyOf", "oneOf", "allOf"] {
            if let Some(options) = schema.get(choice).and_then(Value::as_array) {
                return self.build_one_of(options, is_nullable(schema), name, depth);
            }
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        let nullable = is_nullable(schema);
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return self.one_of_values(values, nullable);
        }
        match kind(schema) {
            Kind::Null => Value::Null,
            Kind::Boolean if nullable && self.has_word("unsure") => Value::Null,
            Kind::Boolean => (self.has_word("yes") || self.has_word("true")).into(),
            Kind::Number { whole } => self.number(schema, name, whole),
            Kind::Text => self.string(schema, name, nullable),
            Kind::Array => self.array(schema, name, depth),
            Kind::Object => self.object(schema, depth),
        }
    }

    /// The first option that is not null; null may be chosen as by `nullable`.
    fn build_one_of(&self, options: &[Value], nullable: bool, name: &str, depth: usize) -> Value {
        let nullable = nullable || options.iter().any(is_nullable);
        let option = options.iter().find(|option| !matches!(kind(option), Kind::Null));
        let Some(option) = option else { return Value::Null };
        match option {
            Value::Object(members) if nullable && !members.contains_key("$ref") => {
                let mut option = members.clone();
                option.insert("nullable".into(), true.into());
                self.build(&Value::Object(option), name, depth + 1)
            }
            option => self.build(option, name, depth + 1),
        }
    }

    fn one_of_values(&self, values: &[Value], nullable: bool) -> Value {
        match self.occurring(values).next() {
            Some(value) => value.clone(),
            None if nullable => Value::Null,
            None => values.last().cloned().unwrap_or_default(),
        }
    }

    /// The values of an enumeration that occur in the text.
    fn occurring<'v>(&'v self, values: &'v [Value]) -> impl Iterator<Item = &'v Value> {
        values.iter().filter(|value| match value {
            Value::Null => false,
            Value::String(text) => self.lower.contains(&text.to_lowercase()),
            other => self.has_word(&other.to_string()),
        })
    }

    fn has_word(&self, word: &str) -> bool {
        self.ascii.split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))).any(|found| {
            // A mark at the end of a sentence is no part of its last word.
            found.trim_end_matches(['.', '-', '_']) == word
        })
    }

    fn number(&self, schema: &Value, name: &str, whole: bool) -> Value {
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        let (least, most) = (bound("minimum"), bound("maximum"));
        let is_share = !whole && least == Some(0.0) && most == Some(1.0);
        let read = |text: &str| first_number(text, whole);
        let found = self.after(name).and_then(read).or_else(|| match is_share {
            true => self.after("score").and_then(read).or_else(|| Number::from_f64(0.5)),
            false => read(self.text),
        });
        let found = found.unwrap_or_else(|| 0.into());
        let asked = found.as_f64().unwrap_or_default();
        let kept = asked.max(least.unwrap_or(f64::MIN)).min(most.unwrap_or(f64::MAX));
        if kept == asked {
            return Value::Number(found);
        }
        if whole || kept.fract() == 0.0 {
            return (kept as i64).into();
        }
        kept.into()
    }

    fn string(&self, schema: &Value, name: &str, nullable: bool) -> Value {
        let text = match self.after(name) {
            Some(found) => found.to_owned(),
            None if nullable => return Value::Null,
            None => name.to_uppercase(),
        };
        match schema.get("maxLength").and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok()) {
            Some(most) => text.chars().take(most).collect::<String>().into(),
            None => text.into(),
        }
    }

    fn array(&self, schema: &Value, name: &str, depth: usize) -> Value {
        const ANYTHING: &Value = &Value::Bool(true);
        let items = schema.get("items").unwrap_or(ANYTHING);
        if let Some(ranking) = self.ranking(items) {
            return Value::Array(ranking);
        }
        // Google writes numbers of 64 bits as strings.
        let least = schema.get("minItems").and_then(|least| least.as_u64().or_else(|| least.as_str()?.parse().ok()));
        let least = least.unwrap_or(0).min(MAX_ITEMS);
        if let Some(values) = items.get("enum").and_then(Value::as_array) {
            let mut found: Vec<Value> = self.occurring(values).cloned().collect();
            while (found.len() as u64) < least {
                found.push(values.last().cloned().unwrap_or_default());
            }
            return Value::Array(found);
        }
        (0..least.max(1)).map(|_| self.build(items, name, depth + 1)).collect()
    }

    /// The scores of the documents in the text, if the items are scores and the text asks for them.
    fn ranking(&self, items: &Value) -> Option<Vec<Value>> {
        let properties = items.get("properties")?;
        properties.get("index").and(properties.get("score"))?;
        let asked: Value = serde_json::from_str(self.text).ok()?;
        let query = asked.get("query")?.as_str()?;
        let documents = asked.get("documents")?.as_array()?.iter();
        documents
            .map(|document| {
                let score = relevance_for(query, document.get("text")?.as_str()?).clamp(0.0, 1.0);
                Some(json!({"index": document.get("index")?, "score": score}))
            })
            .collect()
    }

    /// The answer from the sources in the text: those that share a word of four letters or more with the question. A model
    /// that can be led astray: it cites the number after `cite=` in any of them.
    fn cited(&self, schema: &Value) -> Option<Value> {
        schema.pointer("/properties/answered").and(schema.pointer("/properties/citations"))?;
        let asked: Value = serde_json::from_str(self.text).ok()?;
        let words = |text: &str| -> Vec<String> {
            let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() >= 4);
            words.map(str::to_lowercase).collect()
        };
        let wanted = words(asked.get("question")?.as_str()?);
        let (mut numbers, mut texts) = (Vec::new(), Vec::new());
        for source in asked.get("sources")?.as_array()? {
            let text = source.get("text")?.as_str()?;
            if let Some(number) = text.split_once("cite=").and_then(|(_, rest)| first_number(rest, true)) {
                numbers.push(Value::Number(number));
                texts.push(text);
            } else if words(text).iter().any(|word| wanted.contains(word)) {
                numbers.push(source.get("number")?.clone());
                texts.push(text);
            }
        }
        Some(json!({"answered": !texts.is_empty(), "answer": texts.join(" "), "citations": numbers}))
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        if let Some(answer) = self.cited(schema) {
            return answer;
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let members = properties.into_iter().flatten();
        Value::Object(
            members.map(|(name, schema)| (name.clone(), self.build(schema, name, depth + 1))).collect::<Map<_, _>>(),
        )
    }

    /// The text after a name and a colon or an equals sign.
    fn after(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        self.ascii.match_indices(&name).find_map(|(at, _)| {
            let before = self.ascii.get(..at)?.chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                return None;
            }
            let rest = self.text.get(at + name.len()..)?.trim_start_matches([' ', '"']);
            let rest = rest.strip_prefix([':', '='])?;
            let end = rest.find(['\n', ',', ';']).unwrap_or(rest.len());
            rest.get(..end).map(str::trim).filter(|found| !found.is_empty())
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Number { whole: bool },
    Text,
    Array,
    Object,
}

/// The type of a schema; of several types the first that is not null.
fn kind(schema: &Value) -> Kind {
    let named = |name: &str| match name.to_ascii_lowercase().as_str() {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "number" => Kind::Number { whole: false },
        "integer" => Kind::Number { whole: true },
        "array" => Kind::Array,
        "object" => Kind::Object,
        _ => Kind::Text,
    };
    match schema.get("type") {
        Some(Value::String(name)) => named(name),
        Some(Value::Array(names)) => {
            let mut kinds = names.iter().filter_map(Value::as_str).map(named);
            kinds.find(|kind| *kind != Kind::Null).unwrap_or(Kind::Null)
        }
        _ if schema.get("properties").is_some() => Kind::Object,
        _ if schema.get("items").is_some() => Kind::Array,
        _ => Kind::Text,
    }
}

/// Whether null is among the values of a schema.
fn is_nullable(schema: &Value) -> bool {
    let is_null = |name: &Value| name.as_str().is_some_and(|name| name.eq_ignore_ascii_case("null"));
    schema.get("nullable") == Some(&Value::Bool(true))
        || schema
            .get("type")
            .is_some_and(|kind| is_null(kind) || kind.as_array().is_some_and(|k| k.iter().any(is_null)))
        || schema.get("enum").and_then(Value::as_array).is_some_and(|values| values.iter().any(Value::is_null))
}

/// The first number of a text: of whole ones only, or of all.
fn first_number(text: &str, whole: bool) -> Option<Number> {
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let lead = rest.get(..at)?;
        let sign = if lead.ends_with('-') { "-" } else { "" };
        let previous = lead.strip_suffix(sign).unwrap_or(lead).chars().next_back().or(before);
        let digits = rest.get(at..)?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let fraction = digits.get(end..)?.strip_prefix('.').map_or(0, |tail| {
            let length = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
            if length > 0 {
                length + 1
            } else {
                0
            }
        });
        let end = end + fraction;
        let found = digits.get(..end)?;
        let next = digits.get(end..)?;
        // Digits in a word are no number.
        let in_word = previous.is_some_and(|c| c.is_alphanumeric() || c == '_')
            || next.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if !in_word && (fraction == 0 || !whole) {
            let written = format!("{sign}{found}");
            let number = match fraction {
                0 => written.parse::<i64>().ok().map(Number::from),
                _ => written.parse().ok().and_then(Number::from_f64),
            };
            if number.is_some() {
                return number;
            }
        }
        before = found.chars().next_back();
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(schema: Value, text: &str) -> Value {
        value(&schema, text)
    }

    #[test]
    fn enumerations() {
        let colours = json!({"type": "string", "enum": ["red", "Green", "other"]});
        assert_eq!(of(colours.clone(), "a GREEN and red car"), "red", "the first of the schema");
        assert_eq!(of(colours.clone(), "GREEN"), "Green");
        assert_eq!(of(colours, "blue"), "other");
        assert_eq!(of(json!({"enum": [1, 2, 3]}), "take 2."), 2);
        assert_eq!(of(json!({"enum": ["a", "b", null]}), "xyz"), Value::Null);
        assert_eq!(of(json!({"type": "STRING", "enum": ["ÄPFEL"], "nullable": true}), "äpfel"), "ÄPFEL");
        assert_eq!(of(json!({"const": "x"}), ""), "x");
    }

    #[test]
    fn booleans() {
        let plain = json!({"type": "boolean"});
        for (text, expected) in [("Yes.", true), ("is it true?", true), ("yesterday", false), ("", false)] {
            assert_eq!(of(plain.clone(), text), expected, "{text}");
        }
        assert_eq!(of(plain, "unsure"), false);
        for nullable in [
            json!({"type": ["boolean", "null"]}),
            json!({"type": "BOOLEAN", "nullable": true}),
            json!({"anyOf": [{"type": "boolean"}, {"type": "null"}]}),
            json!({"anyOf": [{"type": "null"}, {"type": "boolean"}]}),
        ] {
            assert_eq!(of(nullable.clone(), "I am UNSURE, yes"), Value::Null, "{nullable}");
            assert_eq!(of(nullable.clone(), "yes"), true, "{nullable}");
            assert_eq!(of(nullable, "no"), false);
        }
    }

    #[test]
    fn numbers() {
        let share = json!({"type": "number", "minimum": 0, "maximum": 1});
        assert_eq!(of(share.clone(), "3 cars, score=0.75"), 0.75);
        assert_eq!(of(share.clone(), "score=7"), 1, "kept below the maximum");
        assert_eq!(of(share, "3 cars"), 0.5);
        assert_eq!(of(json!({"type": "integer"}), "about 0.5 or v3 or 12 apples"), 12);
        assert_eq!(of(json!({"type": "integer"}), "none"), 0);
        assert_eq!(of(json!({"type": "integer", "minimum": 2, "maximum": 5}), "9"), 5);
        assert_eq!(of(json!({"type": "number"}), "it costs -2.50 or 3"), -2.5);
        assert_eq!(of(json!({"type": "number"}), "4."), 4);
        let people = json!({"properties": {"age": {"type": "integer"}, "Height": {"type": "number"}}});
        assert_eq!(of(people, "2 people, height: 1.8m, age = 40"), json!({"age": 40, "Height": 2}));
    }

    #[test]
    fn strings() {
        let schema = json!({"type": "object", "properties": {
            "name": {"type": "string"},
            "city": {"type": ["string", "null"]},
            "short": {"type": "string", "maxLength": 3},
        }});
        assert_eq!(
            of(schema.clone(), "surname: X\nName: Ada Lovelace , city: Löndon; more"),
            json!({"name": "Ada Lovelace", "city": "Löndon", "short": "SHO"})
        );
        assert_eq!(of(schema, "nothing"), json!({"name": "NAME", "city": null, "short": "SHO"}));
        assert_eq!(of(json!({"type": "string"}), "Answer: 42\nx"), "42");
        assert_eq!(of(json!({}), ""), "ANSWER");
    }

    #[test]
    fn rankings() {
        let score =
            json!({"type": "object", "properties": {"index": {"type": "integer"}, "score": {"type": "number"}}});
        let schema = json!({"type": "array", "items": score});
        let asked = json!({"query": "red apple", "documents": [{"index": 1, "text": "car"}, {"index": 2, "text": "red apple"}]});
        let built = of(schema.clone(), &asked.to_string());
        assert_eq!((&built[0]["index"], &built[1]["index"]), (&json!(1), &json!(2)));
        assert!(built[1]["score"].as_f64() > built[0]["score"].as_f64());
        assert_eq!(of(schema, "index=3, score=4"), json!([{"index": 3, "score": 4}]));
    }

    #[test]
    fn arrays_and_references() {
        let tags = json!({"type": "array", "items": {"enum": ["a1", "b2", "c3"]}});
        assert_eq!(of(tags.clone(), "C3 and a1"), json!(["a1", "c3"]));
        assert_eq!(of(tags, "none"), json!([]));
        assert_eq!(
            of(json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2}), "yes"),
            json!([true, true])
        );
        assert_eq!(of(json!({"type": "array", "minItems": "1", "items": {"enum": ["a", "b"]}}), ""), json!(["b"]));
        let linked = json!({
            "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "ok": {"type": "boolean"}}}},
            "$ref": "#/$defs/node",
        });
        let built = of(linked, "yes");
        assert_eq!((&built["ok"], &built["next"]["ok"]), (&json!(true), &json!(true)));
        let wide = json!({"$defs": {"n": {"properties": {"a": {"$ref": "#/$defs/n"}, "b": {"$ref": "#/$defs/n"}}}},
                          "$ref": "#/$defs/n"});
        assert!(of(wide, "").is_object(), "ends although it doubles with each level");
        assert_eq!(of(json!({"$ref": "https://example.com"}), ""), Value::Null);
    }
}
