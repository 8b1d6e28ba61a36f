//! `ml_embedding_batch`: a JSON array of texts in, a JSON array of vectors out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use serde_json::{json, Value};

use super::bulk::Bulk;
use super::Engine;
use crate::error::{Error, Kind, Result};
use crate::models::model::check_id;
use crate::models::options::OnError;
use crate::models::store::Routine;
use crate::providers::Role;
use crate::threads::interrupt::Interrupt;

/// More texts than this in one call are refused: the result must fit into a packet.
const MAX_TEXTS: usize = 1_000_000;

impl Engine {
    /// The vectors of the texts in a JSON array, as a JSON array of base64 strings (little-endian 32-bit floats) in the
    /// order of the texts. NULL for null. A text that occurs more than once is sent once.
    pub fn embedding_batch(&self, model_id: &str, contents: &str, interrupt: &dyn Interrupt) -> Result<String> {
        check_id("model_id", model_id)?;
        let texts = read_texts(contents)?;
        let settings = self.settings(interrupt)?;
        let resolved =
            self.registry.model(self.store.as_ref(), Routine::EMBEDDING_BATCH, model_id, &settings, interrupt)?;
        super::must_embed(&resolved.model)?;
        let on_error = resolved.model.options.on_error.unwrap_or(OnError::Fail);
        let context = |e: Error| e.context(&format!("model '{model_id}'"));
        let patience = resolved.model.options.timeout_ms.map_or(settings.timeout, Duration::from_millis);
        let mut bulk = Bulk::new(self, resolved, settings, Role::Document, None, None, Some(patience));

        // Where each different text stands.
        let mut numbers: HashMap<Arc<str>, u64> = HashMap::new();
        let mut places: Vec<Vec<usize>> = Vec::new();
        for (place, text) in texts.iter().enumerate() {
            let Some(text) = text else { continue };
            match numbers.get(text).and_then(|n| usize::try_from(*n).ok()).and_then(|n| places.get_mut(n)) {
                Some(same) => same.push(place),
                None => {
                    let number = places.len() as u64;
                    numbers.insert(Arc::clone(text), number);
                    places.push(vec![place]);
                    bulk.push(number, Arc::clone(text), interrupt)?;
                }
            }
        }
        let mut vectors = vec![Value::Null; texts.len()];
        while !bulk.is_empty() {
            let Some(done) = bulk.advance(Duration::from_secs(1), true, interrupt).map_err(context)? else { continue };
            let at = usize::try_from(done.id).ok().and_then(|n| places.get(n)).map_or(&[][..], Vec::as_slice);
            let value = match done.vector {
                Ok(bytes) => Value::String(BASE64_STANDARD.encode(&bytes)),
                Err(e) if on_error == OnError::Inline => json!({"error": e.message()}),
                Err(e) => {
                    let first = at.first().copied().unwrap_or_default();
                    return Err(context(e.context(&format!("text {first} of the array (from 0)"))));
                }
            };
            for place in at {
                if let Some(slot) = vectors.get_mut(*place) {
                    slot.clone_from(&value);
                }
            }
        }
        Ok(Value::Array(vectors).to_string())
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
