//! Writes request bodies.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::Value;

use mysql_ml_base::error::{Error, Result};

/// A document as bytes.
pub fn write(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|e| Error::internal(format!("cannot write a request: {e}")))
}

/// One text as a string, several as an array, as most embedding services accept.
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

/// The JSON object `body` unchanged, with missing `members` inserted at its start. Other documents are sent unchanged,
/// for the endpoint to refuse.
pub fn with_members(body: &str, members: &[(&str, Value)]) -> Result<Vec<u8>> {
    let unchanged = || Ok(body.as_bytes().to_vec());
    let Some(rest) = body.trim_start().strip_prefix('{') else { return unchanged() };
    let mut present = Present { wanted: members, found: vec![false; members.len()], any: false };
    let mut reader = serde_json::Deserializer::from_str(body);
    Members(&mut present)
        .deserialize(&mut reader)
        .and_then(|()| reader.end())
        .map_err(|e| Error::invalid(format!("request_body is not valid JSON: {e}")))?;
    let missing: Vec<String> = members
        .iter()
        .zip(&present.found)
        .filter(|(_, found)| !**found)
        .map(|((name, value), _)| format!("{}:{value}", Value::from(*name)))
        .collect();
    if missing.is_empty() {
        return unchanged();
    }
    let comma = if present.any { "," } else { "" };
    Ok(format!("{{{}{comma}{rest}", missing.join(",")).into_bytes())
}

/// The names to find in an object, and whether each was found.
struct Present<'a> {
    wanted: &'a [(&'a str, Value)],
    found: Vec<bool>,
    any: bool,
}

/// Scans an object without keeping its members, which may be millions.
struct Members<'p, 'a>(&'p mut Present<'a>);

impl<'de> DeserializeSeed<'de> for Members<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            self.0.any = true;
            for ((wanted, _), found) in self.0.wanted.iter().zip(&mut self.0.found) {
                *found |= name == *wanted;
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// As [`with_members`], with the model's name as `model` if it is known.
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
    fn missing_members_are_put_in_front_and_the_rest_stays() {
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
