//! Request templates (`json:`) and answer paths (`path:`), for custom models without stored functions.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::numbers::{start_of, unreadable, Vector};
use crate::json::check_document;
use mysql_ml_base::error::{cut, Error, Result};

/// A JSON document in which `{{input}}` stands for the text and `{{model}}` for the model's qualified name.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonTemplate(Value);

const INPUT: &str = "{{input}}";
const MODEL: &str = "{{model}}";

impl JsonTemplate {
    /// Reads a template; it must hold `{{input}}` somewhere.
    pub fn parse(text: &str) -> Result<Self> {
        check_document("input transform json:", text)?;
        let value: Value = serde_json::from_str(text).map_err(|e| {
            Error::invalid(format!(
                "input transform json: is not valid JSON ({e}); write e.g. json:{{\"prompt\":[\"{INPUT}\"]}}"
            ))
        })?;
        let mut found = false;
        visit(&value, &mut |s| found |= s.contains(INPUT));
        if !found {
            return Err(Error::invalid(format!("input transform json: has no {INPUT}, the place for the text")));
        }
        Ok(JsonTemplate(value))
    }

    /// The most bytes that [`JsonTemplate::render`] returns for a text of `input` bytes and a name of `model` bytes.
    pub fn bytes_for(&self, input: usize, model: usize) -> usize {
        let mut bytes = 0_usize;
        visit(&self.0, &mut |s| {
            let here = s
                .matches(INPUT)
                .count()
                .saturating_mul(input)
                .saturating_add(s.matches(MODEL).count().saturating_mul(model));
            bytes = bytes.saturating_add(here).saturating_add(s.len());
        });
        bytes.saturating_mul(4)
    }

    /// The document with the text in it.
    pub fn render(&self, input: &str, model: &str) -> Vec<u8> {
        let mut value = self.0.clone();
        fill(&mut value, input, model);
        value.to_string().into_bytes()
    }
}

// The depth of both walks is bounded: serde_json refuses documents nested deeper than 128.
fn visit(value: &Value, f: &mut impl FnMut(&str)) {
    match value {
        Value::String(s) => f(s),
        Value::Array(items) => items.iter().for_each(|v| visit(v, f)),
        Value::Object(map) => map.values().for_each(|v| visit(v, f)),
        _ => {}
    }
}

fn fill(value: &mut Value, input: &str, model: &str) {
    match value {
        // The model's name first: a text that contains the marker must stay unchanged.
        Value::String(s) if s.contains("{{") => {
            *s = s.split(INPUT).map(|part| part.replace(MODEL, model)).collect::<Vec<_>>().join(input);
        }
        Value::Array(items) => items.iter_mut().for_each(|v| fill(v, input, model)),
        Value::Object(map) => map.values_mut().for_each(|v| fill(v, input, model)),
        _ => {}
    }
}

/// A path to one place in a JSON document: `$`, `.key`, `."any key"`, `[index]`, as MySQL writes them.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    text: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

impl JsonPath {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let steps = steps(text).ok_or_else(|| {
            Error::invalid(format!(
                "output transform path: '{}' is not a JSON path; write e.g. path:$[0] or path:$.data[0].embedding",
                cut(text, 80)
            ))
        })?;
        Ok(JsonPath { text: text.to_owned(), steps })
    }

    /// The vector at the path of a document. Only that vector is built: the rest may be large.
    pub fn find_vector(&self, document: &[u8]) -> Result<Vec<f32>> {
        let mut reader = serde_json::Deserializer::from_slice(document);
        let found = Walk { steps: &self.steps }.deserialize(&mut reader).and_then(|found| reader.end().map(|()| found));
        match found {
            Ok(Some(vector)) => Ok(vector),
            Ok(None) => Err(Error::response(format!(
                "the endpoint's answer has nothing at {}; it begins: {}",
                self.text,
                start_of(document)
            ))),
            Err(e) => Err(unreadable(&e, document)),
        }
    }
}

/// Follows the steps of a path into a document and reads the vector at its end, skipping everything else.
struct Walk<'p> {
    steps: &'p [Step],
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<Vec<f32>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        match self.steps {
            [] => Vector::deserialize(deserializer).map(|v| Some(v.0)),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<Vec<f32>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match self.steps {
                [Step::Key(wanted), rest @ ..] if key == wanted.as_str() => {
                    found = map.next_value_seed(Walk { steps: rest })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Self::Value, A::Error> {
        let mut found = None;
        let mut index = 0;
        loop {
            match self.steps {
                [Step::Index(wanted), rest @ ..] if index == *wanted => {
                    match seq.next_element_seed(Walk { steps: rest })? {
                        Some(value) => found = value,
                        None => return Ok(found),
                    }
                }
                _ => {
                    if seq.next_element::<IgnoredAny>()?.is_none() {
                        return Ok(found);
                    }
                }
            }
            index += 1;
        }
    }

    // A path into a number or text finds nothing.
    fn visit_bool<E>(self, _: bool) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_i64<E>(self, _: i64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_u64<E>(self, _: u64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E>(self, _: f64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_str<E>(self, _: &str) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }
}

fn steps(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[") {
            let (index, after) = after.split_once(']')?;
            steps.push(Step::Index(index.trim().parse().ok()?));
            rest = after;
        } else if let Some(after) = rest.strip_prefix(".\"") {
            let (key, after) = after.split_once('"')?;
            steps.push(Step::Key(key.to_owned()));
            rest = after;
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (key, after) = after.split_at_checked(end)?;
            if key.is_empty() || key.contains(['*', '"', ']', ' ']) {
                return None;
            }
            steps.push(Step::Key(key.to_owned()));
            rest = after;
        }
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, input: &str) -> String {
        String::from_utf8(JsonTemplate::parse(template).unwrap().render(input, "m-1")).unwrap()
    }

    #[test]
    fn the_text_is_put_in_as_json() {
        assert_eq!(render(r#"{"prompt":["{{input}}"]}"#, "a\"b\n"), r#"{"prompt":["a\"b\n"]}"#);
        assert_eq!(
            render(r#"{"q":"query: {{input}}","m":"{{model}}","n":3}"#, "x"),
            r#"{"m":"m-1","n":3,"q":"query: x"}"#
        );
    }

    #[test]
    fn markers_inside_the_text_stay() {
        assert_eq!(render(r#"["{{input}}"]"#, "{{model}} {{input}}"), r#"["{{model}} {{input}}"]"#);
    }

    #[test]
    fn templates_without_a_place_or_not_json_are_refused() {
        assert!(JsonTemplate::parse("{\"a\":1}").is_err());
        assert!(JsonTemplate::parse("{{input}}").is_err());
    }

    #[test]
    fn paths_find_their_place() {
        let doc = br#"{"x":[[0],{"y":[9]}],"data":[{"embedding":[1.5],"n":1},{"b64":"AACAPw=="}],"a b":{"c":[[2,3]]},"s":"t"}"#;
        let find = |p: &str| JsonPath::parse(p).unwrap().find_vector(doc);
        assert_eq!(find("$.data[0].embedding").unwrap(), [1.5]);
        assert_eq!(find("$.data[1].b64").unwrap(), [1.0]);
        assert_eq!(find("$.\"a b\".c").unwrap(), [2.0, 3.0], "one vector in a list of its own");
        assert_eq!(find("$.\"a b\".c[0]").unwrap(), [2.0, 3.0]);
        assert_eq!(JsonPath::parse("$").unwrap().find_vector(b"[1,2]").unwrap(), [1.0, 2.0]);
        for nothing in ["$.data[2].embedding", "$.none", "$.s.t", "$.data.embedding", "$.x[5]", "$[0]"] {
            assert!(find(nothing).unwrap_err().message().contains("nothing at"), "{nothing}");
        }
        for no_vector in ["$.data", "$.data[0]", "$.data[0].n", "$"] {
            assert!(find(no_vector).is_err(), "{no_vector}");
        }
        assert!(JsonPath::parse("$[0]").unwrap().find_vector(b"[[1]").is_err());
        assert!(JsonPath::parse("$[0]").unwrap().find_vector(b"[[1]] trailing").is_err());
    }

    #[test]
    fn bad_paths_are_refused() {
        for bad in ["", "data", "$..a", "$[x]", "$[0", "$.a.*", "$.\"a"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }
}
