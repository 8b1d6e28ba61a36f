//! `ai_rerank`: documents ranked for a query.

use serde_json::Value;
use surface::functions;

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{self, Held, Reservation};

use super::asking::{is_of_the_input, on_error_of, Asked};
use super::backends::by_llm::ByLlm;
use super::backends::Rerank;
use super::batch::Element;
use super::Engine;
use crate::ai::Answer;
use crate::catalog::default_model::DefaultModel;
use crate::catalog::model::{Backend, Model, ModelType};
use crate::catalog::options::OnError;
use crate::json::length::encoded_length;
use crate::providers::rerank::{Ranking, Scored};

/// The most documents in one call.
const MAX_DOCUMENTS: usize = 10_000;

impl Engine {
    /// The documents of a JSON array, ranked for `query` as a JSON array of objects with `index` (from 1), `score` and
    /// `document`: best first, equal scores by index. `model_id`: NULL for the model of the setting `default_reranker`.
    /// `top_n`: the most documents in the result; NULL for all. The model's option or the setting `on_error` decides
    /// about a ranking that fails.
    pub fn rerank(
        &self,
        model_id: Option<&str>,
        query: &str,
        documents: &str,
        top_n: Option<usize>,
        interrupt: &dyn Interrupt,
    ) -> Result<Asked> {
        let model_id = self.model_or_default(model_id, DefaultModel::Reranker, interrupt)?;
        let call = self.call(functions::ai_rerank, &model_id, interrupt)?;
        let on_error = on_error_of(&call, None);
        let reranker = self.reranker(call.model())?;
        let (documents, _documents) = read_documents(documents)?.into_parts();
        let documents: Vec<&str> = documents.iter().map(AsRef::as_ref).collect();
        if query.trim().is_empty() {
            return Err(Error::invalid("query is empty; give a text to rank by, or NULL for NULL"));
        }
        if documents.is_empty() {
            let none = Held::new(Answer::Json("[]".to_owned()), Reservation::default());
            return Ok(Asked::Answered(none, on_error));
        }
        let top = top_n.unwrap_or(documents.len()).min(documents.len());
        let ranking = Ranking { query, documents: &documents, top };
        let mut scores = match reranker.rerank(&call, &ranking, interrupt) {
            Ok(scores) => scores,
            Err(error) => {
                let input = on_error != OnError::Fail && is_of_the_input(&error);
                let error = error.context(&format!("model '{}'", call.model().model_id));
                return if input { Ok(Asked::Failed(error, on_error)) } else { Err(error) };
            }
        };
        scores.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
        scores.truncate(top);
        let (json, share) = write(&scores, &documents)?.into_parts();
        Ok(Asked::Answered(Held::new(Answer::Json(json), share), on_error))
    }

    /// What ranks documents for a model: its own service, a model inside the server, or questions to a language model.
    pub(super) fn reranker(&self, model: &Model) -> Result<Box<dyn Rerank + '_>> {
        match model.model_type {
            ModelType::Reranking => Ok(match model.backend() {
                Backend::Local => Box::new(&self.local),
                Backend::Remote | Backend::Dummy => Box::new(&self.remote),
            }),
            ModelType::Llm | ModelType::Generic => Ok(Box::new(ByLlm(self))),
            ModelType::TextEmbedding | ModelType::MultimodalEmbedding => Err(Error::invalid(format!(
                "model '{}' has model_type {}, which ranks nothing; use one of model_type reranking or llm",
                model.model_id,
                model.model_type.as_str()
            ))),
        }
    }
}

/// The texts of the array `documents`.
pub(super) fn read_documents(documents: &str) -> Result<Held<Vec<std::borrow::Cow<'_, str>>>> {
    let commas = documents.bytes().filter(|byte| *byte == b',').count();
    let places = commas.saturating_add(1).saturating_mul(2 * size_of::<Element<'_>>());
    let share = Reservation::take(documents.len().saturating_add(places), "documents")?;
    let elements: Vec<Element<'_>> = serde_json::from_str(documents).map_err(|e| {
        Error::invalid(format!("documents is not a JSON array ({e}); give one of texts, such as JSON_ARRAY('a', 'b')"))
    })?;
    if elements.len() > MAX_DOCUMENTS {
        return Err(Error::new(
            Kind::TooLarge,
            format!("documents has {} texts; at most {MAX_DOCUMENTS} are ranked in one call", elements.len()),
        ));
    }
    let texts = elements.into_iter().enumerate().map(|(i, element)| match element {
        Element::Text(text) => Ok(text),
        Element::Null => Err(Error::invalid(format!("element {} of documents (from 1) is null; leave it out", i + 1))),
        Element::Other => {
            Err(Error::invalid(format!("element {} of documents (from 1) is no text; CAST it to CHAR", i + 1)))
        }
    });
    Ok(Held::new(texts.collect::<Result<_>>()?, share))
}

/// The result.
fn write(scores: &[Scored], documents: &[&str]) -> Result<Held<String>> {
    /// Bytes of an object beside its text.
    const BESIDE: usize = 96;
    let document = |scored: &Scored| documents.get(scored.index).copied().unwrap_or_default();
    let bytes = scores
        .iter()
        .fold(2_usize, |sum, scored| sum.saturating_add(encoded_length(document(scored))).saturating_add(BESIDE));
    let largest = mysql_ml_base::host::largest_result();
    if bytes > largest {
        return Err(Error::result_too_large(&format!("the result would have {bytes} bytes"), largest));
    }
    let share = Reservation::take(bytes, "the result")?;
    let mut json = memory::text_of(bytes, "the result")?;
    json.push('[');
    for (i, scored) in scores.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        json.push_str(&format!(
            "{comma}{{\"index\":{},\"score\":{},\"document\":{}}}",
            scored.index + 1,
            Value::from(scored.score),
            Value::from(document(scored))
        ));
    }
    json.push(']');
    Ok(Held::new(json, share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_texts_and_a_wrong_one_is_named() {
        let read = |documents: &str| read_documents(documents).map(|held| held.into_parts().0.join("|"));
        assert_eq!(read(r#"["a", "b\n", "a"]"#).unwrap(), "a|b\n|a");
        assert_eq!(read("[]").unwrap(), "");
        for (bad, says) in [
            (r#"["a", null]"#, "element 2 of documents (from 1) is null"),
            (r#"[1]"#, "element 1 of documents (from 1) is no text"),
            (r#"["a", ["b"]]"#, "element 2 of documents (from 1) is no text"),
            (r#"[{"text":"a"}]"#, "element 1"),
            (r#"{"a":"b"}"#, "not a JSON array"),
            (r#""a""#, "not a JSON array"),
            ("[\"a\"", "not a JSON array"),
            ("", "not a JSON array"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.message().contains(says), "{bad}: {error}");
        }
        let many = format!("[{}]", vec!["\"a\""; MAX_DOCUMENTS + 1].join(","));
        assert!(read(&many).unwrap_err().message().contains("at most 10000"));
    }

    #[test]
    fn the_result_counts_from_one() {
        let scores = [Scored { index: 1, score: 0.5 }, Scored { index: 0, score: -1.0 }];
        let (json, _) = write(&scores, &["a \"q\"", "b"]).unwrap().into_parts();
        assert_eq!(json, r#"[{"index":2,"score":0.5,"document":"b"},{"index":1,"score":-1.0,"document":"a \"q\""}]"#);
    }
}
