//! An answer with numbers of sources, as a model gave it, and its check.

use serde::Deserialize;
use serde_json::{json, Value};

/// A model's answer.
#[derive(Debug, Deserialize)]
struct Said {
    answered: bool,
    answer: String,
    citations: Vec<u64>,
}

/// The answer as a JSON object; the reason where it cites what was not given, or nothing although it must.
pub(super) fn checked(value: Value, sources: usize, must_cite: bool) -> std::result::Result<String, String> {
    let Said { answered, answer, citations } = serde_json::from_value(value).map_err(|e| e.to_string())?;
    if !answered {
        return Ok(json!({"answered": false, "answer": null, "citations": []}).to_string());
    }
    if answer.trim().is_empty() {
        return Err("answered is true, but answer is empty".to_owned());
    }
    let mut numbers: Vec<u64> = Vec::new();
    for number in citations {
        if number == 0 || number > sources as u64 {
            return Err(format!("citations has {number}, and there are {sources} sources"));
        }
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    if must_cite && numbers.is_empty() {
        return Err(
            "citations is empty; an answer from the sources cites at least one, and else answered is false".to_owned()
        );
    }
    Ok(json!({"answered": true, "answer": answer, "citations": numbers}).to_string())
}
