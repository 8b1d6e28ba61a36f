//! Reads vectors out of JSON without building a tree for them.

use std::fmt;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::{cut, Error, Result};
use crate::vector::MAX_DIMENSIONS;

/// A vector in an answer: an array of numbers, or base64 of little-endian 32-bit floats.
#[derive(Debug, PartialEq)]
pub struct Numbers(pub Vec<f32>);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(NumbersVisitor)
    }
}

struct NumbersVisitor;

impl<'de> Visitor<'de> for NumbersVisitor {
    type Value = Numbers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers or base64 text")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Numbers, A::Error> {
        let mut numbers = Vec::with_capacity(seq.size_hint().unwrap_or(1536).min(MAX_DIMENSIONS));
        while let Some(x) = seq.next_element::<f32>()? {
            if numbers.len() == MAX_DIMENSIONS {
                return Err(A::Error::custom(format!("more than {MAX_DIMENSIONS} numbers in a vector")));
            }
            numbers.push(x);
        }
        Ok(Numbers(numbers))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Numbers, E> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| E::custom("a vector is text that is not base64"))?;
        let (elements, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(E::custom("a base64 vector is not a whole number of 4-byte floats"));
        }
        Ok(Numbers(elements.iter().map(|e| f32::from_le_bytes(*e)).collect()))
    }
}

/// Reads a whole answer.
pub fn parse<'de, T: Deserialize<'de>>(answer: &'de [u8]) -> Result<T> {
    serde_json::from_slice(answer).map_err(|e| unreadable(&e, answer))
}

/// An answer that is not what was expected: where it goes wrong and how it begins.
pub fn unreadable(error: &serde_json::Error, answer: &[u8]) -> Error {
    let start = String::from_utf8_lossy(answer.get(..answer.len().min(120)).unwrap_or_default()).into_owned();
    let what = if error.is_data() { "has an unexpected shape" } else { "is not valid JSON" };
    let detail = error.to_string();
    Error::response(format!("the endpoint's answer {what} ({}); it begins: {}", cut(&detail, 120), cut(&start, 120)))
}

/// A JSON value as a vector: an array of numbers, base64 text, or an array that holds only one such array.
pub fn from_value(value: &Value) -> Result<Vec<f32>> {
    let inner = match value.as_array().map(Vec::as_slice) {
        Some([only @ Value::Array(_)]) => only,
        _ => value,
    };
    Numbers::deserialize(inner)
        .map(|n| n.0)
        .map_err(|e| Error::response(format!("the answer has no vector there: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_base64_are_read() {
        assert_eq!(parse::<Numbers>(b"[1, 2.5, -3e1]").unwrap().0, [1.0, 2.5, -30.0]);
        assert_eq!(parse::<Numbers>(b"\"AACAPwAAIMA=\"").unwrap().0, [1.0, -2.5]);
        assert_eq!(from_value(&serde_json::json!([[1, 2]])).unwrap(), [1.0, 2.0]);
    }

    #[test]
    fn damage_is_an_error() {
        for bad in ["[1,NaN]", "[1,", "[\"a\"]", "\"####\"", "\"AAAA\"", "{}", "null"] {
            assert!(parse::<Numbers>(bad.as_bytes()).is_err(), "{bad}");
        }
        let long = format!("[{}]", vec!["0"; MAX_DIMENSIONS + 1].join(","));
        assert!(parse::<Numbers>(long.as_bytes()).is_err());
    }
}
