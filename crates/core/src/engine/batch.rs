//! `ml_embedding_batch`: a JSON array of texts in, a JSON array of vectors out.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::ordered::{Answered, MAX_TEXTS};
use super::vectors::VectorBatch;
use super::Engine;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

/// Bytes of one place in the array: the number of its text, in a list that grows by doubling.
pub(super) const PLACE: usize = 4 * size_of::<Option<u64>>();

impl Engine {
    /// The vectors of the texts in a JSON array, as a JSON array of base64 strings (little-endian 32-bit floats) in the
    /// order of the texts. null for null. A text that occurs more than once is sent once. By the model's option `on_error` a
    /// failed text is the call's error, null, or an object with the member `error`.
    pub fn embedding_batch(&self, model_id: &str, contents: &str, interrupt: &dyn Interrupt) -> Result<Answered> {
        let mut gather = VectorBatch::new(self, model_id, interrupt)?;
        let numbers = read_texts("contents", contents, |text| {
            gather.spend(PLACE)?;
            text.map(|text| gather.number(text)).transpose()
        })?;
        let nulls = numbers.iter().filter(|number| number.is_none()).count();
        // A comma after each element, and the brackets.
        let beside = numbers.len() + 2;
        gather.expect(numbers.len() - nulls, beside + nulls * 4)?;
        let place = |number: u64| {
            let first = numbers.iter().position(|n| *n == Some(number)).unwrap_or_default();
            format!("text {first} of the array (from 0)")
        };
        let answers = gather.finish(place, interrupt)?;
        answers.write(beside, numbers.iter().copied(), |result, value| {
            result.push('[');
            for (i, number) in numbers.iter().enumerate() {
                if i > 0 {
                    result.push(',');
                }
                value(*number, result);
            }
            result.push(']');
        })
    }
}

/// Reads an array of texts and nulls without building a tree; returns `take` of each.
fn read_texts<T>(name: &str, contents: &str, mut take: impl FnMut(Option<&str>) -> Result<T>) -> Result<Vec<T>> {
    read_array(name, contents, |i, element| match element {
        Element::Text(text) => take(Some(&text)),
        Element::Null => take(None),
        Element::Other => Err(neither_text_nor_null(name, i)),
    })
}

/// The error of element `i` of an array.
pub(super) fn neither_text_nor_null(name: &str, i: usize) -> Error {
    Error::invalid(format!("element {i} of {name} (from 0) is neither text nor null; CAST it to CHAR"))
}

/// Reads an array without building a tree; returns `take` of each element and its place.
pub(super) fn read_array<'c, E: Deserialize<'c>, T>(
    name: &str,
    contents: &'c str,
    mut take: impl FnMut(usize, E) -> Result<T>,
) -> Result<Vec<T>> {
    let mut failure = None;
    let mut reader = serde_json::Deserializer::from_str(contents);
    let read = Array { name, take: &mut take, failure: &mut failure, _element: PhantomData }
        .deserialize(&mut reader)
        .and_then(|taken| reader.end().map(|()| taken));
    match (read, failure) {
        (_, Some(failure)) => Err(failure),
        (Ok(taken), None) => Ok(taken),
        (Err(e), None) => Err(Error::invalid(format!(
            "{name} is not a JSON array ({e}); give one of texts, such as JSON_ARRAY('a', 'b')"
        ))),
    }
}

struct Array<'f, F, E> {
    name: &'f str,
    take: &'f mut F,
    failure: &'f mut Option<Error>,
    _element: PhantomData<E>,
}

impl<'de, E: Deserialize<'de>, T, F: FnMut(usize, E) -> Result<T>> DeserializeSeed<'de> for Array<'_, F, E> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, E: Deserialize<'de>, T, F: FnMut(usize, E) -> Result<T>> Visitor<'de> for Array<'_, F, E> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Vec<T>, A::Error> {
        let mut taken = Vec::new();
        while let Some(element) = seq.next_element::<E>()? {
            let one = match taken.len() {
                MAX_TEXTS => {
                    Err(Error::new(Kind::TooLarge, format!("{} has more than {MAX_TEXTS} texts; split it", self.name)))
                }
                i => (self.take)(i, element),
            };
            match one {
                Ok(one) => taken.push(one),
                Err(e) => {
                    *self.failure = Some(e);
                    return Err(A::Error::custom("refused"));
                }
            }
        }
        Ok(taken)
    }
}

/// An element of the array.
pub(super) enum Element<'a> {
    Null,
    Text(Cow<'a, str>),
    Other,
}

impl<'de> Deserialize<'de> for Element<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or null")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> std::result::Result<Element<'de>, E> {
        Ok(Element::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> std::result::Result<Element<'de>, E> {
        Ok(Element::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_unit<E>(self) -> std::result::Result<Element<'de>, E> {
        Ok(Element::Null)
    }
    fn visit_bool<E>(self, _: bool) -> std::result::Result<Element<'de>, E> {
        Ok(Element::Other)
    }
    fn visit_i64<E>(self, _: i64) -> std::result::Result<Element<'de>, E> {
        Ok(Element::Other)
    }
    fn visit_u64<E>(self, _: u64) -> std::result::Result<Element<'de>, E> {
        Ok(Element::Other)
    }
    fn visit_f64<E>(self, _: f64) -> std::result::Result<Element<'de>, E> {
        Ok(Element::Other)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Element<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Element::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Element<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Element::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_texts_and_nulls() {
        let read = |contents: &str| read_texts("contents", contents, |text| Ok(text.map(str::to_owned)));
        assert_eq!(read(r#"["a", null, "\u0061"]"#).unwrap(), [Some("a".to_owned()), None, Some("a".to_owned())]);
        for bad in ["{}", "[1]", "[[\"a\"]]", "[{\"a\":1}]", "\"a\"", "[", "", "[\"a\"] x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("[1]").unwrap_err().message().contains("element 0"));
    }
}
