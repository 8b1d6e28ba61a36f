//! Voyage AI: `POST /v1/embeddings`, `/v1/rerank`. Answers have OpenAI's form.
//!
//! Follows Voyage's API reference. A text that is too long is an error unless the option `truncate` is true: Voyage's
//! own default truncates silently.

use serde::Serialize;

use super::body::{self, Input};
use super::encoding_format::encoding_format;
use super::open_ai::read_list;
use super::rerank::Ranking;
use super::{complete, input_type, name_of, probe_of, require_capability, require_name};
use super::{BatchLimits, Capabilities, Cloud, Embeddings, Provider, Role};
use crate::catalog::model::Model;
use mysql_ml_base::error::Result;

/// The provider `voyage`.
pub struct Voyage;

const BASE: &str = "https://api.voyageai.com";

#[derive(Serialize)]
struct EmbeddingRequest<'a> {
    model: &'a str,
    input: Input<'a>,
    input_type: &'a str,
    truncation: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'static str>,
}

#[derive(Serialize)]
struct RerankRequest<'a> {
    query: &'a str,
    documents: &'a [&'a str],
    model: &'a str,
    top_k: usize,
    truncation: bool,
}

impl Provider for Voyage {
    fn capabilities(&self) -> Capabilities {
        Capabilities { embedding: true, rerank: true, ..Capabilities::default() }
    }

    fn options(&self) -> &'static [&'static str] {
        &["input_type", "query_input_type", "truncate", "encoding_format"]
    }

    fn endpoint(&self, model: &Model, _cloud: &Cloud) -> Result<String> {
        let path = if model.model_type.embeds() { "/embeddings" } else { "/rerank" };
        Ok(complete(model.request_url.as_deref().unwrap_or(BASE), "/v1", path))
    }

    fn check(&self, model: &Model) -> Result<()> {
        require_capability(model, self.capabilities())?;
        if model.model_type.embeds() {
            require_name(model, "voyage-3.5")?;
        }
        Ok(())
    }

    fn batch(&self, _model: &Model) -> BatchLimits {
        BatchLimits { texts: 128, most: 1000, tokens: 100_000 }
    }

    fn embedding_request(&self, model: &Model, texts: &[&str], role: Role) -> Result<Vec<u8>> {
        body::write(&EmbeddingRequest {
            model: name_of(model),
            input: Input::new(texts),
            input_type: input_type(model, role, "document", "query"),
            truncation: model.options.truncate.unwrap_or(false),
            output_dimension: model.options.dimensions,
            // Numbers are the default; the API has no value for them.
            encoding_format: encoding_format(model, BASE).filter(|format| *format == "base64"),
        })
    }

    fn read_embeddings(&self, _model: &Model, answer: &[u8], count: usize) -> Result<Embeddings> {
        read_list(answer, count)
    }

    fn rerank_request(&self, model: &Model, ranking: &Ranking<'_>) -> Result<Vec<u8>> {
        body::write(&RerankRequest {
            query: ranking.query,
            documents: ranking.documents,
            model: name_of(model),
            top_k: ranking.top,
            truncation: model.options.truncate.unwrap_or(false),
        })
    }

    fn predict_request(&self, model: &Model, body: &str) -> Result<Vec<u8>> {
        body::with_model(body, model.qualified_name.as_deref())
    }

    fn probe(&self, model: &Model) -> Option<String> {
        probe_of(self, model, &["/rerank"], r#"{"query":"a","documents":["a"]}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{endpoint, model, named, ranking, request};

    #[test]
    fn the_request_is_voyages() {
        let m = named("voyage", "text_embedding", "voyage-3.5", r#"{"dimensions":512}"#);
        assert_eq!(
            request(&m, &["a"], Role::Document),
            r#"{"model":"voyage-3.5","input":"a","input_type":"document","truncation":false,"output_dimension":512,"encoding_format":"base64"}"#
        );
        let m = named("voyage", "text_embedding", "voyage-3.5", r#"{"truncate":true,"encoding_format":"float"}"#);
        assert_eq!(
            request(&m, &["a", "b"], Role::Query),
            r#"{"model":"voyage-3.5","input":["a","b"],"input_type":"query","truncation":true}"#
        );
        assert_eq!(endpoint(&m), "https://api.voyageai.com/v1/embeddings");
        assert_eq!(endpoint(&model("voyage", "reranking")), "https://api.voyageai.com/v1/rerank");
    }

    #[test]
    fn the_answer_is_read() {
        let golden = br#"{"object":"list","data":[{"object":"embedding","embedding":[0.5,1],"index":0}],
            "model":"voyage-3.5","usage":{"total_tokens":7}}"#;
        let read = Voyage.read_embeddings(&model("voyage", "text_embedding"), golden, 1).unwrap();
        assert_eq!((read.vectors, read.tokens), (vec![vec![0.5, 1.0]], Some(7)));
    }

    #[test]
    fn the_ranking_request_is_voyages() {
        let m = named("voyage", "reranking", "rerank-2.5", "{}");
        let golden = r#"{"query":"q","documents":["a","b"],"model":"rerank-2.5","top_k":2,"truncation":false}"#;
        assert_eq!(ranking(&m, 2), golden);
        let m = named("voyage", "reranking", "rerank-2.5", r#"{"truncate":true}"#);
        assert!(ranking(&m, 2).ends_with(r#""truncation":true}"#));
    }
}
