//! Readers of values that may hold trees of any size: what is not needed is skipped, never kept.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Number;

/// A value without what is inside of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Shallow {
    /// null, or a number that is none.
    Null,
    /// true or false.
    Flag(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
    /// An array; whether it has elements.
    Array(bool),
    /// An object.
    Object,
}

impl Shallow {
    /// The text.
    pub fn text(self) -> Option<String> {
        match self {
            Shallow::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it says something: neither null, false, nor empty.
    pub fn is_filled(&self) -> bool {
        match self {
            Shallow::Null | Shallow::Flag(false) | Shallow::Array(false) => false,
            Shallow::Text(text) => !text.trim().is_empty(),
            _ => true,
        }
    }
}

impl<'de> Deserialize<'de> for Shallow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShallowVisitor)
    }
}

struct ShallowVisitor;

impl<'de> Visitor<'de> for ShallowVisitor {
    type Value = Shallow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Shallow, E> {
        Ok(Shallow::Null)
    }
    fn visit_bool<E>(self, yes: bool) -> Result<Shallow, E> {
        Ok(Shallow::Flag(yes))
    }
    fn visit_u64<E>(self, n: u64) -> Result<Shallow, E> {
        Ok(Shallow::Number(n.into()))
    }
    fn visit_i64<E>(self, n: i64) -> Result<Shallow, E> {
        Ok(Shallow::Number(n.into()))
    }
    fn visit_f64<E>(self, n: f64) -> Result<Shallow, E> {
        Ok(Number::from_f64(n).map_or(Shallow::Null, Shallow::Number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Shallow, E> {
        Ok(Shallow::Text(text.to_owned()))
    }
    fn visit_string<E>(self, text: String) -> Result<Shallow, E> {
        Ok(Shallow::Text(text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shallow, A::Error> {
        let some = seq.next_element::<IgnoredAny>()?.is_some();
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Shallow::Array(some))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shallow, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Shallow::Object)
    }
}

/// The first of an array of objects, or an object that stands for itself. `None` for an empty array or null.
#[derive(Debug, PartialEq)]
pub struct First<T>(pub Option<T>);

impl<T> Default for First<T> {
    fn default() -> Self {
        First(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FirstVisitor(PhantomData))
    }
}

struct FirstVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FirstVisitor<T> {
    type Value = First<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_unit<E>(self) -> Result<First<T>, E> {
        Ok(First(None))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<First<T>, A::Error> {
        let first = seq.next_element()?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(First(first))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<First<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|one| First(Some(one)))
    }
}

/// Bytes of a tree of [`serde_json::Value`]: of an array with its first places, of an object with its first node, and of
/// each further element or member while its list grows.
const ARRAY: usize = 128;
const OBJECT: usize = 704;
const ELEMENT: usize = 136;

/// The most memory that the tree of a JSON document takes, bytes.
pub fn memory_of_tree(document: &[u8]) -> usize {
    let (mut arrays, mut objects, mut colons, mut commas) = (0_usize, 0_usize, 0_usize, 0_usize);
    let (mut in_text, mut escaped) = (false, false);
    for byte in document {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' => arrays += 1,
            b'{' => objects += 1,
            b':' => colons += 1,
            b',' => commas += 1,
            _ => {}
        }
    }
    // An empty object has no node.
    let objects = objects.min(colons);
    let inside = arrays.saturating_mul(ARRAY).saturating_add(objects.saturating_mul(OBJECT));
    // Texts are read into a buffer first, which grows by doubling.
    document.len().saturating_mul(4).saturating_add(inside).saturating_add(commas.saturating_mul(ELEMENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_seen_without_their_inside() {
        let read = |json: &str| serde_json::from_str::<Shallow>(json).unwrap();
        for (json, filled) in [
            ("null", false),
            ("false", false),
            ("true", true),
            ("0", true),
            ("1.5", true),
            (r#"" ""#, false),
            (r#""x""#, true),
            ("[]", false),
            ("[null]", true),
            ("{}", true),
            (r#"{"a": [1]}"#, true),
        ] {
            assert_eq!(read(json).is_filled(), filled, "{json}");
        }
        assert_eq!(read(r#""x""#).text().as_deref(), Some("x"));
        assert_eq!(read("1").text(), None);
    }

    #[test]
    fn the_first_of_an_array_is_read() {
        let read = |json: &str| serde_json::from_str::<First<serde_json::Map<String, serde_json::Value>>>(json);
        for (json, members) in
            [(r#"[{"a": 1}, 5, "x"]"#, Some(1)), (r#"{"a": 1}"#, Some(1)), ("[]", None), ("null", None)]
        {
            assert_eq!(read(json).unwrap().0.map(|first| first.len()), members, "{json}");
        }
        assert!(read("[1]").is_err() && read("5").is_err() && read("[{}, ").is_err());
    }

    #[test]
    fn a_tree_takes_no_more_than_is_reserved_for_it() {
        let many = |one: &str| format!("[{}]", vec![one; 50_001].join(","));
        let nested = format!("{}{}", "[".repeat(100), "]".repeat(100));
        let members: Vec<String> = (0..20_000).map(|i| format!("\"{i}\":0")).collect();
        for document in [
            many("1"),
            many("[]"),
            many("[1]"),
            many("{}"),
            many(r#"{"":0}"#),
            many(r#"{"a":{"b":[0]}}"#),
            many("\"\""),
            many("\"x,{[\""),
            many(&nested),
            format!("{{{}}}", members.join(",")),
            format!("\"{}\"", "\\n".repeat(300_000)),
            format!("\"{}x\"", "y".repeat(300_000)),
        ] {
            let reserved = memory_of_tree(document.as_bytes());
            let read = allocation_counter::measure(|| {
                serde_json::from_str::<serde_json::Value>(&document).unwrap();
            });
            let start = document.get(..20).unwrap();
            assert!(read.bytes_max as usize <= reserved, "{start}: {} of {reserved}", read.bytes_max);
            assert!(reserved <= (read.bytes_max as usize).max(document.len()) * 12, "{start}: too much is reserved");
        }
    }
}
