//! What an index proposes: keys of candidates.

use serde_json::{Map, Value};

use mysql_ml_base::error::{Error, Result};
use mysql_ml_index::{Candidate, Limits};

/// The most candidates that are compared exactly; beyond, the table is read.
pub(super) const MOST_CANDIDATES: usize = 20_000;

/// Candidates to compare exactly for a number of rows.
pub(in crate::jobs) fn candidates_for(rows: u64) -> usize {
    Limits::of(usize::try_from(rows).unwrap_or(usize::MAX)).most.min(MOST_CANDIDATES)
}

/// An answer of `mysql_ml.vector_candidates`.
pub(in crate::jobs) struct Proposed {
    /// The keys of changes and candidates, each once.
    pub keys: Vec<Vec<u8>>,
    /// The numbers of changes and of candidates.
    pub(super) changed: usize,
    pub(super) candidates: usize,
    /// The version that was read, and its lists; 0: there is no index.
    pub(super) version: u64,
    pub(super) lists: u64,
    /// Rows that it leaves out.
    pub(super) left_out: u64,
}

/// Reads an answer of `mysql_ml.vector_candidates`.
pub(in crate::jobs) fn read_candidates(found: &str) -> Result<Proposed> {
    let wrong = || Error::internal("the candidates cannot be read");
    let document: Map<String, Value> = serde_json::from_str(found).map_err(|_| wrong())?;
    let list = |name: &str| -> Result<Vec<Vec<u8>>> {
        let Some(Value::Array(keys)) = document.get(name) else { return Ok(Vec::new()) };
        let key = |key: &Value| key.as_str().map(crate::tables::statements::unhex).ok_or_else(wrong);
        keys.iter().map(key).collect()
    };
    let (candidates, changed) = (list("candidates")?, list("changed")?);
    let (proposed, count) = (candidates.len(), changed.len());
    let mut seen = std::collections::HashSet::new();
    let keys = changed.into_iter().chain(candidates).filter(|key| seen.insert(key.clone())).collect();
    let number = |name: &str| document.get(name).and_then(Value::as_u64).ok_or_else(wrong);
    Ok(Proposed {
        keys,
        changed: count,
        candidates: proposed,
        version: number("version")?,
        lists: number("lists")?,
        left_out: number("left_out")?,
    })
}

/// The keys of candidates as `mysql_ml.vector_candidates` passes them on: a JSON array of hexadecimal digits.
pub fn to_json(candidates: &[Candidate]) -> String {
    let keys = candidates.iter().map(|c| Value::String(crate::mysql::session::hex(&c.key)));
    Value::Array(keys.collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_read_once_each() {
        let found = r#"{"version":2,"lists":3,"left_out":0,"candidates":["31","32"],"changed":["32","33"]}"#;
        let proposed = read_candidates(found).unwrap();
        assert_eq!(proposed.keys, [b"2", b"3", b"1"]);
        assert_eq!((proposed.changed, proposed.lists, proposed.left_out), (2, 3, 0));
        assert_eq!((proposed.version, proposed.candidates), (2, 2));
        assert!(read_candidates("{}").is_err() && read_candidates("[]").is_err());
    }
}
