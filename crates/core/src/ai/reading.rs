//! The JSON document of an answer.

use serde_json::Value;

use crate::json::shallow::memory_of_tree;
use mysql_ml_base::error::cut;

/// The largest document that is read, bytes: its tree takes many times as much.
const MAX_BYTES: usize = crate::json::MAX_DOCUMENT;

/// The most memory that reading an answer takes.
pub(super) fn memory(answer: &str) -> usize {
    // A longer answer is not read.
    memory_of_tree(answer.as_bytes().get(..MAX_BYTES).unwrap_or(answer.as_bytes()))
}

/// The document that an answer consists of, and its text. One Markdown code fence around all of it is taken off;
/// anything else beside it is an error.
pub(super) fn document(answer: &str) -> std::result::Result<(Value, &str), String> {
    let text = unfenced_document(answer)?;
    match serde_json::from_str(text) {
        Ok(value) => Ok((value, text)),
        Err(e) => Err(format!("it is not a JSON document ({})", cut(&e.to_string(), 120))),
    }
}

/// The text of the document that an answer consists of, unread; an error if it is too large.
pub(super) fn unfenced_document(answer: &str) -> std::result::Result<&str, String> {
    let text = unfenced(answer.trim());
    if text.len() > MAX_BYTES {
        return Err(format!("it has {} bytes, of at most 1 MiB", text.len()));
    }
    Ok(text)
}

fn unfenced(text: &str) -> &str {
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let inner = inner.and_then(|inner| inner.split_once('\n')).filter(|(language, _)| {
        let language = language.trim();
        language.is_empty() || language.eq_ignore_ascii_case("json")
    });
    inner.map_or(text, |(_, inner)| inner.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_stands_alone_or_in_one_fence() {
        for good in ["{\"a\":1}", " {\"a\":1}\n", "```json\n{\"a\":1}\n```", "```\n{\"a\":1}```"] {
            assert_eq!(document(good).unwrap().1, "{\"a\":1}", "{good}");
        }
        for bad in ["Sure! {\"a\":1}", "{\"a\":1} I hope this helps", "```sql\n{\"a\":1}\n```", "{\"a\":", "", "yes"] {
            assert!(document(bad).is_err(), "{bad}");
        }
    }
}
