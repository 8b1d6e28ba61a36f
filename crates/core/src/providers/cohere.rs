//! Cohere: `POST /v2/embed`, `/v2/rerank`, `/v2/chat`.
//!
//! Follows Cohere's v2 API reference. A text that is too long is an error unless the option `truncate` is true:
//! Cohere's own default truncates silently.

use serde::{Deserialize, Serialize};

use super::chat::Chat;
use super::open_ai::CHAT_PROBE;
use super::rerank::{RankLimits, Ranking, RerankRequest};
use super::usage::EmbeddingUsage;
use super::{body, complete, input_type, name_of, probe_of, require_capability, require_name};
use super::{BatchLimits, Capabilities, Cloud, Embeddings, Provider, Role};
use crate::catalog::model::{Model, ModelType};
use crate::json::numbers::{parse, Numbers};
use mysql_ml_base::error::{Error, Result};

/// The provider `cohere`.
pub struct Cohere;

const BASE: &str = "https://api.cohere.com";

#[derive(Serialize)]
struct EmbedRequest<'a> {
    model: &'a str,
    texts: &'a [&'a str],
    input_type: &'a str,
    embedding_types: [&'static str; 1],
    truncate: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<u64>,
}

#[derive(Deserialize)]
struct EmbedAnswer {
    embeddings: ByType,
    #[serde(default)]
    meta: Option<EmbeddingUsage>,
}

#[derive(Deserialize)]
struct ByType {
    float: Vec<Numbers>,
}

/// Cohere's and NVIDIA's parameter: `NONE`, or `END` if truncation is allowed.
pub fn truncate(model: &Model) -> &'static str {
    match model.options.truncate {
        Some(true) => "END",
        _ => "NONE",
    }
}

impl Provider for Cohere {
    fn capabilities(&self) -> Capabilities {
        Capabilities { embedding: true, generate: true, rerank: true, image: false }
    }

    fn options(&self) -> &'static [&'static str] {
        &["input_type", "query_input_type", "truncate"]
    }

    fn endpoint(&self, model: &Model, _cloud: &Cloud) -> Result<String> {
        let path = match model.model_type {
            ModelType::TextEmbedding | ModelType::MultimodalEmbedding => "/embed",
            ModelType::Reranking => "/rerank",
            ModelType::Llm | ModelType::Generic => "/chat",
        };
        Ok(complete(model.request_url.as_deref().unwrap_or(BASE), "/v2", path))
    }

    fn check(&self, model: &Model) -> Result<()> {
        require_capability(model, self.capabilities())?;
        if model.model_type.embeds() {
            require_name(model, "embed-v4.0")?;
        }
        Ok(())
    }

    fn batch(&self, _model: &Model) -> BatchLimits {
        BatchLimits { texts: 96, most: 96, tokens: 100_000 }
    }

    fn embedding_request(&self, model: &Model, texts: &[&str], role: Role) -> Result<Vec<u8>> {
        body::write(&EmbedRequest {
            model: name_of(model),
            texts,
            input_type: input_type(model, role, "search_document", "search_query"),
            embedding_types: ["float"],
            truncate: truncate(model),
            output_dimension: model.options.dimensions,
        })
    }

    fn read_embeddings(&self, _model: &Model, answer: &[u8], count: usize) -> Result<Embeddings> {
        let EmbedAnswer { embeddings, meta } = parse(answer)?;
        if embeddings.float.len() != count {
            return Err(Error::response(format!(
                "the endpoint answered with {} vectors for {count} texts",
                embeddings.float.len()
            )));
        }
        let tokens = meta.and_then(|m| m.tokens());
        Ok(Embeddings { vectors: embeddings.float.into_iter().map(|n| n.0).collect(), tokens })
    }

    /// Cohere documents 10,000. A document beyond `max_tokens_per_doc`, 4096 tokens, is cut by the service.
    fn rank_limits(&self, _model: &Model) -> RankLimits {
        RankLimits::together(10_000)
    }

    fn rerank_request(&self, model: &Model, ranking: &Ranking<'_>) -> Result<Vec<u8>> {
        RerankRequest::new(Some(name_of(model)), ranking).write()
    }

    fn predict_request(&self, model: &Model, body: &str) -> Result<Vec<u8>> {
        body::with_model(body, model.qualified_name.as_deref())
    }

    fn chat(&self, _model: &Model) -> Option<Chat> {
        Some(Chat::Cohere)
    }

    fn probe(&self, model: &Model) -> Option<String> {
        match model.model_type {
            ModelType::Reranking => probe_of(self, model, &["/rerank"], r#"{"query":"a","documents":["a"]}"#),
            _ => probe_of(self, model, &["/chat"], CHAT_PROBE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{endpoint, model, named, ranking, request};

    #[test]
    fn the_request_is_coheres() {
        let m = named("cohere", "text_embedding", "embed-v4.0", r#"{"dimensions":256,"truncate":true}"#);
        assert_eq!(
            request(&m, &["a"], Role::Document),
            r#"{"model":"embed-v4.0","texts":["a"],"input_type":"search_document","embedding_types":["float"],"truncate":"END","output_dimension":256}"#
        );
        let m = named("cohere", "text_embedding", "embed-v4.0", r#"{"query_input_type":"classification"}"#);
        assert_eq!(
            request(&m, &["a", "b"], Role::Query),
            r#"{"model":"embed-v4.0","texts":["a","b"],"input_type":"classification","embedding_types":["float"],"truncate":"NONE"}"#
        );
        assert_eq!(endpoint(&m), "https://api.cohere.com/v2/embed");
        assert_eq!(endpoint(&model("cohere", "reranking")), "https://api.cohere.com/v2/rerank");
    }

    #[test]
    fn the_answer_is_read() {
        let golden = br#"{"id":"x","embeddings":{"float":[[0.5,-1],[1,2]]},"texts":["a","b"],
            "meta":{"api_version":{"version":"2"},"billed_units":{"input_tokens":4}}}"#;
        let read = Cohere.read_embeddings(&model("cohere", "text_embedding"), golden, 2).unwrap();
        assert_eq!((read.vectors, read.tokens), (vec![vec![0.5, -1.0], vec![1.0, 2.0]], Some(4)));
        for bad in [&b"{}"[..], br#"{"embeddings":{"float":[]}}"#, br#"{"embeddings":{"int8":[[1]]}}"#] {
            assert!(Cohere.read_embeddings(&model("cohere", "text_embedding"), bad, 1).is_err());
        }
    }

    #[test]
    fn the_ranking_request_is_coheres() {
        let m = named("cohere", "reranking", "rerank-v3.5", "{}");
        let golden = r#"{"model":"rerank-v3.5","query":"q","documents":["a","b"],"top_n":1}"#;
        assert_eq!(ranking(&m, 1), golden);
    }
}
