//! The arguments of a search: options, query, number of rows.

use serde_json::Value;

use super::retrieval;
use crate::jobs::vector_index::measures::take_measure;
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::vector::{check_bytes, to_bytes};
use mysql_ml_core::catalog::members::{self, Members};

/// The most rows that a search returns.
const MOST_ROWS: u64 = 10_000;

/// Reads the argument `k`.
pub(super) fn read_rows(text: &str) -> Result<u64> {
    let rows = text.trim().parse::<u64>().ok().filter(|n| (1..=MOST_ROWS).contains(n));
    rows.ok_or_else(|| Error::invalid(format!("k takes a whole number from 1 to {MOST_ROWS}")))
}

/// The options of a search.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Options {
    pub(super) columns: Vec<String>,
    pub(super) filter: Option<String>,
    pub(super) measure: Option<String>,
    pub(super) recall: Option<f64>,
    pub(super) exact: bool,
    pub(super) model_id: Option<String>,
    /// Words, fusion, reranking.
    pub(super) retrieval: retrieval::Options,
}

impl Options {
    /// Reads the options of a search that returns `rows` rows.
    pub(super) fn read(mut members: Members, rows: u64) -> Result<Self> {
        let names = |value: Value| match value {
            Value::Array(names) if !names.is_empty() => {
                names.into_iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            }
            _ => None,
        };
        let options = Options {
            measure: take_measure(&mut members)?,
            filter: members::text(&mut members, "where")?,
            model_id: members::text(&mut members, "model_id")?,
            exact: members::flag(&mut members, "exact")?.unwrap_or(false),
            recall: take_recall(&mut members)?,
            columns: members::take(&mut members, "columns", "an array of columns", names)?.unwrap_or_default(),
            retrieval: retrieval::Options::take(&mut members, rows)?,
        };
        let accepted = format!("columns, where, distance_measure, recall, exact, model_id, {}", retrieval::OPTIONS);
        members::none_left(&members, &accepted)?;
        Ok(options)
    }

    /// The options with one more condition on the rows.
    pub(super) fn with_condition(mut self, condition: &str) -> Self {
        let filter = self.filter.take().map(|filter| format!("(\n{filter}\n) AND ")).unwrap_or_default();
        self.filter = Some(format!("{filter}{condition}"));
        self
    }
}

pub(super) fn take_recall(members: &mut Members) -> Result<Option<f64>> {
    let recall = |value: Value| value.as_f64().filter(|recall| *recall > 0.0 && *recall <= 1.0);
    members::take(members, "recall", "a number above 0, at most 1", recall)
}

/// A vector from an argument: bytes of a VECTOR, or a text like `[1, 2]`; otherwise a text to embed.
pub(super) enum Query {
    Vector(Vec<u8>),
    Text(String),
}

/// Reads the argument `query`. `widths`: bytes of the column's vectors.
pub(super) fn read_query(bytes: &[u8], widths: &[usize]) -> Result<Query> {
    let text = std::str::from_utf8(bytes).ok();
    let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    match text.filter(|text| !text.contains(control)) {
        Some(text) if text.trim_start().starts_with('[') => {
            let numbers: Vec<f32> = serde_json::from_str(text).map_err(|_| {
                Error::invalid("the query begins like a vector, but is no array of numbers; write [0.1, 0.2]")
            })?;
            Ok(Query::Vector(to_bytes(&numbers)?))
        }
        // Bytes that could be both.
        Some(_) if widths.contains(&bytes.len()) => Err(Error::invalid(format!(
            "the query has {} bytes, as a vector of the column has, and is text too; write a vector as [0.1, 0.2], or add a space to a text",
            bytes.len()
        ))),
        Some(text) if !text.trim().is_empty() => Ok(Query::Text(text.to_owned())),
        Some(_) => Err(Error::invalid("the query is empty; give a vector or a text")),
        None if bytes.len().is_multiple_of(4) && widths.iter().any(|width| bytes.len() <= *width) => {
            check_bytes(bytes)?;
            Ok(Query::Vector(bytes.to_vec()))
        }
        None => Err(Error::invalid(format!(
            "the query has {} bytes, which are neither text in UTF-8 nor a vector for the column; pass a VECTOR, or a text in utf8mb4",
            bytes.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_a_vector_a_text_or_refused() {
        let vector = |bytes: &[u8]| matches!(read_query(bytes, &[8]), Ok(Query::Vector(_)));
        assert!(vector(&[0, 0, 128, 63, 0, 0, 0, 64]) && vector(b"[1, 2]") && vector(&[0, 0, 128, 63]));
        assert!(matches!(read_query("grün".as_bytes(), &[8]), Ok(Query::Text(text)) if text == "grün"));
        let refused: [&[u8]; 5] = [b"", b"  ", b"12345678", &[255, 0, 1], &[0, 0, 192, 127]];
        for bytes in refused {
            assert!(read_query(bytes, &[8]).is_err(), "{bytes:?}");
        }
    }
}
