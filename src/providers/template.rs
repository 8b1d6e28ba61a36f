//! Request templates (`json:`) and answer paths (`path:`): what a custom model needs without a stored function.

use serde_json::Value;

use crate::error::{cut, Error, Result};

/// A JSON document in which `{{input}}` stands for the text and `{{model}}` for the model's qualified name.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonTemplate(Value);

const INPUT: &str = "{{input}}";
const MODEL: &str = "{{model}}";

impl JsonTemplate {
    /// Reads a template; it must hold `{{input}}` somewhere.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|e| {
            Error::invalid(format!(
                "input transform json: is not valid JSON ({e}); write e.g. json:{{\"prompt\":[\"{INPUT}\"]}}"
            ))
        })?;
        let mut found = false;
        visit(&value, &mut |s| found |= s.contains(INPUT));
        if !found {
            return Err(Error::invalid(format!("input transform json: has no {INPUT}, where the text is to go")));
        }
        Ok(JsonTemplate(value))
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
        // The model's name first: text that contains the marker must stay as it is.
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

    /// The value at the path; an error that names the step that fails.
    pub fn find<'v>(&self, document: &'v Value) -> Result<&'v Value> {
        let mut value = document;
        for (i, step) in self.steps.iter().enumerate() {
            let next = match step {
                Step::Key(key) => value.get(key.as_str()),
                Step::Index(index) => value.get(*index),
            };
            value = next.ok_or_else(|| {
                Error::response(format!(
                    "the endpoint's answer has nothing at {} (step {} of {}); it begins: {}",
                    self.text,
                    i + 1,
                    self.steps.len(),
                    cut(&document.to_string(), 120)
                ))
            })?;
        }
        Ok(value)
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
    use serde_json::json;

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
        let doc = json!({"data": [{"embedding": [1.5]}], "a b": {"c": 2}});
        let find = |p: &str| JsonPath::parse(p).unwrap().find(&doc).cloned();
        assert_eq!(find("$.data[0].embedding").unwrap(), json!([1.5]));
        assert_eq!(find("$.\"a b\".c").unwrap(), json!(2));
        assert_eq!(find("$").unwrap(), doc);
        assert!(find("$.data[1]").unwrap_err().message().contains("step 2 of 2"));
    }

    #[test]
    fn bad_paths_are_refused() {
        for bad in ["", "data", "$..a", "$[x]", "$[0", "$.a.*", "$.\"a"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }
}
