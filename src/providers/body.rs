//! Writes request bodies.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// A document as bytes.
pub fn write(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|e| Error::internal(format!("cannot write a request: {e}")))
}

/// One text as a string, several as an array: what most embedding services take.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Input<'a> {
    /// A text.
    One(&'a str),
    /// Several.
    Many(&'a [&'a str]),
}

impl<'a> Input<'a> {
    /// The texts of a request.
    pub fn new(texts: &'a [&'a str]) -> Self {
        match texts {
            [one] => Input::One(one),
            many => Input::Many(many),
        }
    }
}

/// A JSON object as given, byte for byte, with the `members` it lacks put in front. What is not an object is left to
/// the endpoint to refuse.
pub fn with_members(body: &str, members: &[(&str, Value)]) -> Result<Vec<u8>> {
    let unchanged = || Ok(body.as_bytes().to_vec());
    let Some(rest) = body.trim_start().strip_prefix('{') else { return unchanged() };
    let present: BTreeMap<Cow<'_, str>, IgnoredAny> =
        serde_json::from_str(body).map_err(|e| Error::invalid(format!("request_body is not valid JSON: {e}")))?;
    let missing: Vec<String> = members
        .iter()
        .filter(|(name, _)| !present.contains_key(*name))
        .map(|(name, value)| format!("{}:{value}", Value::from(*name)))
        .collect();
    if missing.is_empty() {
        return unchanged();
    }
    let comma = if present.is_empty() { "" } else { "," };
    Ok(format!("{{{}{comma}{rest}", missing.join(",")).into_bytes())
}

/// As [`with_members`], with the model's name as `model` where it is known.
pub fn with_model(body: &str, name: Option<&str>) -> Result<Vec<u8>> {
    match name {
        Some(name) => with_members(body, &[("model", name.into())]),
        None => Ok(body.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(body: &str) -> String {
        String::from_utf8(with_model(body, Some("gpt-4o")).unwrap()).unwrap()
    }

    #[test]
    fn what_is_missing_is_put_in_front_and_the_rest_stays() {
        assert_eq!(filled(r#"{"messages":[]}"#), r#"{"model":"gpt-4o","messages":[]}"#);
        let order = filled(r#" {"z": 1, "a": 18446744073709551617} "#);
        assert_eq!(order, r#"{"model":"gpt-4o","z": 1, "a": 18446744073709551617} "#);
        assert_eq!(filled("{}"), r#"{"model":"gpt-4o"}"#);
        assert_eq!(filled(r#"{"model":"o","messages":[]}"#), r#"{"model":"o","messages":[]}"#);
        assert_eq!(filled("[1]"), "[1]");
        assert!(with_model("{", Some("m")).is_err());
        let two = with_members(r#"{"a":1}"#, &[("a", 2.into()), ("b", false.into())]).unwrap();
        assert_eq!(two, br#"{"b":false,"a":1}"#);
    }
}
