//! `ml_embedding_batch`: a JSON array of texts in, a JSON array of vectors out.

use std::sync::Arc;

use serde_json::Value;

use super::gather::{Gather, MAX_TEXTS};
use super::Engine;
use crate::error::{Error, Kind, Result};
use crate::threads::interrupt::Interrupt;

impl Engine {
    /// The vectors of the texts in a JSON array, as a JSON array of base64 strings (little-endian 32-bit floats) in the
    /// order of the texts. NULL for null. A text that occurs more than once is sent once.
    pub fn embedding_batch(&self, model_id: &str, contents: &str, interrupt: &dyn Interrupt) -> Result<String> {
        let texts = read_texts(contents)?;
        let mut gather = Gather::new(self, model_id, interrupt)?;
        let numbers = texts
            .into_iter()
            .map(|text| text.map(|text| gather.push(text, interrupt)).transpose())
            .collect::<Result<Vec<_>>>()?;
        let place = |number: u64| {
            let first = numbers.iter().position(|n| *n == Some(number)).unwrap_or_default();
            format!("text {first} of the array (from 0)")
        };
        let answers = gather.finish(place, interrupt)?;
        let values = numbers.iter().map(|number| number.map_or(Value::Null, |n| answers.value(n))).collect();
        Ok(Value::Array(values).to_string())
    }
}

fn read_texts(contents: &str) -> Result<Vec<Option<Arc<str>>>> {
    let values: Vec<Value> = serde_json::from_str(contents).map_err(|e| {
        Error::invalid(format!("contents is not a JSON array ({e}); give one of texts, such as JSON_ARRAY('a', 'b')"))
    })?;
    if values.len() > MAX_TEXTS {
        return Err(Error::new(Kind::TooLarge, format!("contents has more than {MAX_TEXTS} texts; split it")));
    }
    values
        .into_iter()
        .enumerate()
        .map(|(i, value)| match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(Arc::from(text))),
            _ => Err(Error::invalid(format!(
                "element {i} of contents (from 0) is neither text nor null; CAST it to CHAR"
            ))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_texts_and_nulls() {
        let texts = read_texts(r#"["a", null, "a"]"#).unwrap();
        assert_eq!(texts, [Some("a".into()), None, Some("a".into())]);
        for bad in ["{}", "[1]", "[[\"a\"]]", "\"a\"", "[", ""] {
            assert!(read_texts(bad).is_err(), "{bad}");
        }
    }
}
