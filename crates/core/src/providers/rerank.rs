//! Rankings of documents for a query: the requests that several providers share, and the reader of all answers.

use std::collections::HashSet;
use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::body;
use crate::json::numbers::parse;
use mysql_ml_base::error::{Error, Result};

/// Documents to rank for a query.
#[derive(Debug, Clone, Copy)]
pub struct Ranking<'a> {
    /// The query.
    pub query: &'a str,
    /// The documents, at least one.
    pub documents: &'a [&'a str],
    /// The number of wanted documents, from 1 to that of the documents.
    pub top: usize,
}

/// A document's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Its place among the documents, from 0.
    pub index: usize,
    /// Its score, finite; higher is better.
    pub score: f64,
}

/// Limits of one ranking request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankLimits {
    /// The most documents.
    pub documents: usize,
    /// Whether a document's score depends on query and document only, so that a long list may be sent in parts.
    pub separable: bool,
}

impl RankLimits {
    /// Scores that may depend on the other documents of the request.
    pub const fn together(documents: usize) -> Self {
        RankLimits { documents, separable: false }
    }

    /// Scores of a cross-encoder, which sees one document at a time.
    pub const fn apart(documents: usize) -> Self {
        RankLimits { documents, separable: true }
    }
}

/// The request in Cohere's form, with the members that others leave out or add.
#[derive(Serialize)]
pub(super) struct RerankRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    pub query: &'a str,
    pub documents: &'a [&'a str],
    pub top_n: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_documents: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<u64>,
}

impl<'a> RerankRequest<'a> {
    /// The request for a ranking, without the members that not all have.
    pub fn new(model: Option<&'a str>, ranking: &Ranking<'a>) -> Self {
        RerankRequest {
            model,
            query: ranking.query,
            documents: ranking.documents,
            top_n: ranking.top,
            return_documents: None,
            api_version: None,
        }
    }

    /// Its body.
    pub fn write(&self) -> Result<Vec<u8>> {
        body::write(self)
    }
}

/// The names of the list and of its members differ by provider; no provider uses two for different values.
#[derive(Deserialize)]
struct Lists {
    #[serde(default)]
    results: Option<Items>,
    #[serde(default)]
    data: Option<Items>,
    #[serde(default)]
    rankings: Option<Items>,
    #[serde(default)]
    records: Option<Items>,
}

/// Entries of a ranking, up to the first that cannot be used: others may be many, and much smaller than their memory.
#[derive(Default)]
struct Items(Vec<Item>);

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Items, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Item>()? {
            let usable = item.index().is_some() && item.score().is_some();
            items.push(item);
            if !usable {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
        }
        Ok(Items(items))
    }
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    index: Option<usize>,
    /// Discovery Engine's, which is the text that the request gave.
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    relevance_score: Option<f64>,
    #[serde(default)]
    score: Option<f64>,
    #[serde(default)]
    logit: Option<f64>,
}

impl Item {
    fn index(&self) -> Option<usize> {
        self.index.or_else(|| self.id.as_ref()?.parse().ok())
    }

    fn score(&self) -> Option<f64> {
        self.relevance_score.or(self.score).or(self.logit).filter(|score| score.is_finite())
    }
}

/// The scores in the answer to a ranking of `documents`, in the answer's order: at least `top` of them, each document at
/// most once.
pub fn read(answer: &[u8], documents: usize, top: usize) -> Result<Vec<Scored>> {
    let bare = answer.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let Items(items) = if bare {
        parse(answer)?
    } else {
        let Lists { results, data, rankings, records } = parse(answer)?;
        let list = results.or(data).or(rankings).or(records);
        list.ok_or_else(|| Error::response("the endpoint answered without a ranking"))?
    };
    let mut seen = HashSet::new();
    let mut scores = Vec::new();
    for item in items {
        let index =
            item.index().ok_or_else(|| Error::response("the endpoint's ranking has an entry without an index"))?;
        if index >= documents {
            return Err(Error::response(format!(
                "the endpoint's ranking of {documents} documents names index {index} (from 0)"
            )));
        }
        if !seen.insert(index) {
            return Err(Error::response(format!("the endpoint's ranking names index {index} (from 0) twice")));
        }
        let score = item.score().ok_or_else(|| {
            Error::response(format!("the endpoint's ranking has no score for index {index} (from 0)"))
        })?;
        scores.push(Scored { index, score });
    }
    if scores.len() < top {
        return Err(Error::response(format!("the endpoint's ranking has {} of {top} documents", scores.len())));
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_providers_answer_is_read() {
        let wanted = [Scored { index: 1, score: 0.75 }, Scored { index: 0, score: -2.5 }];
        for golden in [
            r#"{"results":[{"index":1,"relevance_score":0.75},{"index":0,"relevance_score":-2.5}],"id":"x","meta":{}}"#,
            r#"{"object":"list","data":[{"relevance_score":0.75,"index":1,"document":"b"},{"relevance_score":-2.5,"index":0}],"model":"rerank-2.5","usage":{"total_tokens":9}}"#,
            r#"{"rankings":[{"index":1,"logit":0.75},{"index":0,"logit":-2.5}],"usage":{"prompt_tokens":9}}"#,
            r#"{"records":[{"id":"1","score":0.75,"title":"t"},{"id":"0","score":-2.5}]}"#,
            r#" [{"index":1,"score":0.75,"text":"b"},{"index":0,"score":-2.5}]"#,
        ] {
            assert_eq!(read(golden.as_bytes(), 2, 2).unwrap(), wanted, "{golden}");
        }
        // A server that ignores the wanted number ranks them all.
        assert_eq!(read(br#"[{"index":1,"score":1},{"index":0,"score":0}]"#, 2, 1).unwrap().len(), 2);
        assert_eq!(read(br#"[{"index":1,"score":1}]"#, 2, 1).unwrap().len(), 1);
    }

    #[test]
    fn hostile_rankings_are_errors() {
        for (bad, says) in [
            (r#"[{"index":2,"score":1},{"index":0,"score":1}]"#, "names index 2"),
            (r#"[{"index":0,"score":1},{"index":0,"score":0.5}]"#, "index 0 (from 0) twice"),
            (r#"[{"index":0,"score":1}]"#, "1 of 2 documents"),
            (r#"[]"#, "0 of 2 documents"),
            (r#"[{"index":0},{"index":1,"score":1}]"#, "no score for index 0"),
            (r#"[{"index":0,"score":null},{"index":1,"score":1}]"#, "no score for index 0"),
            (r#"[{"index":0,"score":"0.5"},{"index":1,"score":1}]"#, "unexpected shape"),
            (r#"[{"index":0,"score":NaN},{"index":1,"score":1}]"#, "not valid JSON"),
            (r#"[{"index":0,"score":1e999},{"index":1,"score":1}]"#, "not valid JSON"),
            (r#"[{"index":-1,"score":1},{"index":1,"score":1}]"#, "unexpected shape"),
            (r#"[{"index":0.5,"score":1},{"index":1,"score":1}]"#, "unexpected shape"),
            (r#"[{"id":"x","score":1},{"index":1,"score":1}]"#, "without an index"),
            (r#"[{"index":18446744073709551615,"score":1}]"#, "names index 18446744073709551615"),
            (r#"{"results":[{"index":0,"relevance_score":1}]"#, "not valid JSON"),
            (r#"{"embeddings":[]}"#, "without a ranking"),
            (r#"{"results":{}}"#, "unexpected shape"),
            ("", "not valid JSON"),
        ] {
            let error = read(bad.as_bytes(), 2, 2).unwrap_err();
            assert!(error.message().contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn hostile_rankings_take_no_more_memory_than_is_reserved() {
        for one in [
            "1",
            "{}",
            "[]",
            "null",
            r#"{"id":"0","score":0}"#,
            r#"{"index":0,"logit":1}"#,
            r#"{"index":0,"score":null}"#,
        ] {
            let entries = vec![one; 30_000].join(",");
            for answer in [format!("[{entries}]"), format!("{{\"data\":[{entries}]}}")] {
                let reserved = crate::json::numbers::memory_to_read(answer.as_bytes()) as u64;
                // A larger one is not read again with a tree, which has a reservation of its own.
                let answer = answer + &" ".repeat(1 << 20);
                let taken = allocation_counter::measure(|| assert!(read(answer.as_bytes(), 2, 2).is_err()));
                assert!(taken.bytes_max <= reserved, "{one}: {} of {reserved}", taken.bytes_max);
            }
        }
    }
}
