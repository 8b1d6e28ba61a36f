//! Reads vectors out of JSON without building a tree for them.

use std::fmt;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use mysql_ml_base::error::{cut, Error, Result};
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::vector::MAX_DIMENSIONS;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::shallow::memory_of_tree;

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
        // No capacity in advance: an answer may hold millions of arrays.
        let mut numbers = Vec::new();
        while let Some(x) = seq.next_element::<Option<f32>>()? {
            let x =
                x.ok_or_else(|| A::Error::custom("a vector holds null, or NaN or Infinity, in a number's place"))?;
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

/// Bytes that reading an answer takes for each array, object and text, and for each number of a vector.
const BESIDE_A_VALUE: usize = 48;
const NUMBER: usize = 4;

/// The most memory that the readers of answers take, bytes. They keep no trees.
pub fn memory_to_read(answer: &[u8]) -> usize {
    let (mut commas, mut values) = (0_usize, 0_usize);
    for byte in answer {
        commas += usize::from(*byte == b',');
        values += usize::from(matches!(byte, b'[' | b'{' | b'"'));
    }
    answer.len().max(commas.saturating_mul(NUMBER)).saturating_add(values.saturating_mul(BESIDE_A_VALUE))
}

/// Answers up to this size, bytes, are read again with a reader that needs more memory if the usual one fails.
const SMALL: usize = 1 << 20;

/// Reads a whole answer.
pub fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T> {
    read(answer).map_err(|e| unreadable(&e, answer))
}

/// Reads a whole answer. The last of repeated members counts, as in most JSON readers.
pub fn read<T: DeserializeOwned>(answer: &[u8]) -> serde_json::Result<T> {
    match serde_json::from_slice(answer) {
        Err(e) if e.is_data() && answer.len() <= SMALL => {
            let Ok(_tree) = Reservation::take(memory_of_tree(answer), "reading the endpoint's answer") else {
                return Err(e);
            };
            let document = serde_json::from_slice::<serde_json::Value>(answer);
            document.and_then(serde_json::from_value).map_err(|_| e)
        }
        read => read,
    }
}

/// The error for an unexpected answer: position of the fault and the answer's beginning.
pub fn unreadable(error: &serde_json::Error, answer: &[u8]) -> Error {
    if crate::http::dressed::is_stream(answer) {
        return Error::response(format!(
            "the endpoint answered with a stream of events or lines, which is not read; leave the request's member stream out, or set it to false. It begins: {}",
            start_of(answer)
        ));
    }
    let what = if error.is_data() { "has an unexpected shape" } else { "is not valid JSON" };
    let detail = error.to_string();
    Error::response(format!("the endpoint's answer {what} ({}); it begins: {}", cut(&detail, 120), start_of(answer)))
}

/// The beginning of an answer, for an error.
pub fn start_of(answer: &[u8]) -> String {
    let start = String::from_utf8_lossy(answer.get(..answer.len().min(120)).unwrap_or_default());
    cut(&start, 120).into_owned()
}

/// A vector: [`Numbers`], or an array that holds exactly one array of numbers.
#[derive(Debug, PartialEq)]
pub struct Vector(pub Vec<f32>);

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(VectorVisitor)
    }
}

struct VectorVisitor;

/// A number, or an array of numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrNumbers {
    Number(f32),
    Numbers(Vec<f32>),
}

impl<'de> Visitor<'de> for VectorVisitor {
    type Value = Vector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers or base64 text")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Vector, A::Error> {
        let first = match seq.next_element::<NumberOrNumbers>()? {
            None => return Ok(Vector(Vec::new())),
            Some(NumberOrNumbers::Number(first)) => first,
            Some(NumberOrNumbers::Numbers(numbers)) => {
                return match seq.next_element::<IgnoredAny>()? {
                    None => Ok(Vector(numbers)),
                    Some(_) => Err(A::Error::custom("several vectors where one was expected")),
                };
            }
        };
        let mut rest = NumbersVisitor.visit_seq(seq)?.0;
        rest.insert(0, first);
        Ok(Vector(rest))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Vector, E> {
        NumbersVisitor.visit_str(text).map(|n| Vector(n.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_base64_are_read() {
        assert_eq!(parse::<Numbers>(b"[1, 2.5, -3e1]").unwrap().0, [1.0, 2.5, -30.0]);
        assert_eq!(parse::<Numbers>(b"\"AACAPwAAIMA=\"").unwrap().0, [1.0, -2.5]);
        for vector in ["[1, 2]", "[[1, 2]]"] {
            assert_eq!(parse::<Vector>(vector.as_bytes()).unwrap().0, [1.0, 2.0]);
        }
        assert!(parse::<Vector>(b"[[1],[2]]").is_err());
    }

    #[test]
    fn damage_is_an_error() {
        for bad in ["[1,NaN]", "[1,null]", "[1,", "[\"a\"]", "\"####\"", "\"AAAA\"", "{}", "null"] {
            assert!(parse::<Numbers>(bad.as_bytes()).is_err(), "{bad}");
        }
        let twice = parse::<std::collections::BTreeMap<String, Numbers>>(br#"{"a":[1],"a":[2]}"#).unwrap();
        assert_eq!(twice.get("a").unwrap().0, [2.0]);
        let stream = parse::<Numbers>(b"data: [1]\n\n").unwrap_err();
        assert!(stream.message().contains("a stream"), "{stream}");
        let long = format!("[{}]", vec!["0"; MAX_DIMENSIONS + 1].join(","));
        assert!(parse::<Numbers>(long.as_bytes()).is_err());
    }
}
