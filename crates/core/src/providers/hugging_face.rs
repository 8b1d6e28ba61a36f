//! Hugging Face: the inference router's feature extraction, the text-generation shape of older endpoints, and Text
//! Embeddings Inference (`POST /embed`, `/rerank`).
//!
//! Follows the documentation of Inference Providers and the OpenAPI file of Text Embeddings Inference.

use serde::Serialize;
use url::Url;

use super::body::{self, Input};
use super::chat::Chat;
use super::open_ai::CHAT_PROBE;
use super::rerank::{RankLimits, Ranking};
use super::{
    complete, is_base, name_of, probe_of, require_capability, require_name, BatchLimits, Capabilities, Cloud,
    Embeddings, Provider, Role,
};
use crate::catalog::model::{Model, ModelType};
use crate::json::numbers::{parse, Numbers};
use crate::json::scan::Scan;
use mysql_ml_base::error::{Error, Result};

/// The provider `hugging_face`.
pub struct HuggingFace;

const ROUTER: &str = "https://router.huggingface.co";

#[derive(Serialize)]
struct EmbedRequest<'a> {
    inputs: Input<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normalize: Option<bool>,
    /// The router's models have their own defaults; Text Embeddings Inference would truncate silently.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
}

#[derive(Serialize)]
struct RerankRequest<'a> {
    query: &'a str,
    texts: &'a [&'a str],
    truncate: bool,
}

/// Whether the URL is that of Text Embeddings Inference and not of Hugging Face's own hosts.
fn is_tei(model: &Model) -> bool {
    model.request_url.as_deref().is_some_and(|url| !url.contains("/models/"))
}

/// Whether a URL is that of a dedicated Inference Endpoint, which takes `{"inputs": ...}` at its root.
fn is_dedicated(url: &str) -> bool {
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| host.ends_with(".endpoints.huggingface.cloud"))
}

impl Provider for HuggingFace {
    fn capabilities(&self) -> Capabilities {
        Capabilities { embedding: true, generate: true, rerank: true, image: false }
    }

    fn options(&self) -> &'static [&'static str] {
        &["truncate"]
    }

    fn endpoint(&self, model: &Model, _cloud: &Cloud) -> Result<String> {
        let Some(url) = &model.request_url else {
            return Ok(if model.model_type.embeds() {
                format!("{ROUTER}/hf-inference/models/{}/pipeline/feature-extraction", name_of(model))
            } else {
                format!("{ROUTER}/v1/chat/completions")
            });
        };
        // The base of a server is a Text Embeddings Inference; other URLs are whole.
        Ok(match model.model_type {
            ModelType::TextEmbedding | ModelType::MultimodalEmbedding => complete(url, "", "/embed"),
            ModelType::Reranking if is_base(url) => complete(url, "/v1", "/rerank"),
            ModelType::Reranking => complete(url, "", "/rerank"),
            ModelType::Generic if is_dedicated(url) => url.clone(),
            ModelType::Llm | ModelType::Generic => complete(url, "/v1", "/chat/completions"),
        })
    }

    fn check(&self, model: &Model) -> Result<()> {
        require_capability(model, self.capabilities())?;
        let url = model.request_url.as_deref().and_then(|url| Url::parse(url).ok());
        match (model.model_type, &url) {
            (ModelType::Reranking, None) => Err(Error::invalid(
                "model_request_url is required for a hugging_face model that ranks; give the URL of a Text Embeddings Inference server",
            )),
            (t, None) if t.embeds() => require_name(model, "sentence-transformers/all-MiniLM-L6-v2"),
            (t, Some(url)) if t.embeds() && url.path().ends_with("/v1/embeddings") => Err(Error::invalid(
                "model_request_url is that of an OpenAI-compatible API; use provider open_ai with it, or give the server's base",
            )),
            _ => Ok(()),
        }
    }

    fn batch(&self, _model: &Model) -> BatchLimits {
        // Text Embeddings Inference accepts 32 by default.
        BatchLimits { texts: 32, most: 4096, tokens: 16_000 }
    }

    fn embedding_request(&self, model: &Model, texts: &[&str], _role: Role) -> Result<Vec<u8>> {
        let options = &model.options;
        body::write(&EmbedRequest {
            inputs: Input::new(texts),
            normalize: options.normalize,
            truncate: options.truncate.or(is_tei(model).then_some(false)),
            dimensions: options.dimensions.filter(|_| is_tei(model)),
        })
    }

    /// `[[f]]`, or for one text `[f]`. One vector a token is an error: pooling depends on the model.
    fn read_embeddings(&self, _model: &Model, answer: &[u8], count: usize) -> Result<Embeddings> {
        let per_token = || {
            Error::response(
                "the endpoint answered with one vector a token; choose a sentence-transformers model, or serve the model with Text Embeddings Inference, which pools them",
            )
        };
        let scanned = Scan::whole(answer, Scan::vectors).map(|rows| rows.into_iter().map(Numbers).collect());
        let vectors = match scanned.map_or_else(|| parse::<Vec<Numbers>>(answer), Ok) {
            Ok(rows) => rows,
            Err(error) => match serde_json::from_slice::<Numbers>(answer) {
                Ok(flat) => vec![flat],
                Err(_) if serde_json::from_slice::<Vec<Vec<Numbers>>>(answer).is_ok() => return Err(per_token()),
                Err(_) => return Err(error),
            },
        };
        if vectors.len() != count {
            return Err(if count == 1 && vectors.len() > 1 {
                per_token()
            } else {
                Error::response(format!("the endpoint answered with {} vectors for {count} texts", vectors.len()))
            });
        }
        Ok(Embeddings { vectors: vectors.into_iter().map(|n| n.0).collect(), tokens: None })
    }

    /// Text Embeddings Inference scores each document apart, and accepts 32 by default.
    fn rank_limits(&self, _model: &Model) -> RankLimits {
        RankLimits::apart(32)
    }

    fn rerank_request(&self, model: &Model, ranking: &Ranking<'_>) -> Result<Vec<u8>> {
        body::write(&RerankRequest {
            query: ranking.query,
            texts: ranking.documents,
            truncate: model.options.truncate.unwrap_or(false),
        })
    }

    /// The name goes into chat requests; the older shape has none, and its URL says the model.
    fn predict_request(&self, model: &Model, body: &str) -> Result<Vec<u8>> {
        let chat = self.endpoint(model, &Cloud::default())?.ends_with("/chat/completions");
        body::with_model(body, model.qualified_name.as_deref().filter(|_| chat))
    }

    fn chat(&self, model: &Model) -> Option<Chat> {
        let chat = self.endpoint(model, &Cloud::default()).is_ok_and(|url| url.ends_with("/chat/completions"));
        Some(if chat { Chat::COMPATIBLE } else { Chat::TextGeneration { details: true } })
    }

    fn probe(&self, model: &Model) -> Option<String> {
        let chat = self.endpoint(model, &Cloud::default()).is_ok_and(|url| url.ends_with("/chat/completions"));
        match model.model_type {
            ModelType::Reranking => Some(r#"{"query":"a","texts":["a"]}"#.into()),
            _ if chat => probe_of(self, model, &["/chat/completions"], CHAT_PROBE),
            _ => Some(r#"{"inputs":"Say OK"}"#.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{endpoint, model, named, ranking, request};

    #[test]
    fn the_request_is_feature_extractions_or_tei() {
        let mut m = named("hugging_face", "text_embedding", "BAAI/bge-small-en-v1.5", r#"{"normalize":true}"#);
        assert_eq!(request(&m, &["a"], Role::Document), r#"{"inputs":"a","normalize":true}"#);
        assert_eq!(
            endpoint(&m),
            "https://router.huggingface.co/hf-inference/models/BAAI/bge-small-en-v1.5/pipeline/feature-extraction"
        );
        m.request_url = Some("http://127.0.0.1:8080".into());
        assert_eq!(
            request(&m, &["a", "b"], Role::Document),
            r#"{"inputs":["a","b"],"normalize":true,"truncate":false}"#
        );
        assert_eq!(endpoint(&m), "http://127.0.0.1:8080/embed");
    }

    #[test]
    fn every_shape_of_an_answer() {
        let m = model("hugging_face", "text_embedding");
        let read = |answer: &str, count| HuggingFace.read_embeddings(&m, answer.as_bytes(), count);
        assert_eq!(read("[0.5,1]", 1).unwrap().vectors, [[0.5, 1.0]]);
        assert_eq!(read("[[0.5,1]]", 1).unwrap().vectors, [[0.5, 1.0]]);
        assert_eq!(read("[[0.5,1],[2,3]]", 2).unwrap().vectors.len(), 2);
        for tokens in ["[[1,2],[3,4]]", "[[[1,2],[3,4]]]"] {
            assert!(read(tokens, 1).unwrap_err().message().contains("one vector a token"), "{tokens}");
        }
        assert!(read("{\"error\":\"x\"}", 1).is_err() && read("[]", 1).is_err());
    }

    #[test]
    fn generation_goes_to_the_router_or_as_it_is() {
        let mut m = named("hugging_face", "generic", "meta-llama/Llama-3.1-8B-Instruct", "{}");
        assert_eq!(endpoint(&m), "https://router.huggingface.co/v1/chat/completions");
        assert!(HuggingFace.predict_request(&m, "{}").unwrap().starts_with(b"{\"model\":"));
        m.request_url = Some("https://api-inference.huggingface.co/models/facebook/bart-large-mnli".into());
        assert_eq!(endpoint(&m), m.request_url.clone().unwrap());
        assert_eq!(HuggingFace.predict_request(&m, r#"{"inputs":"x"}"#).unwrap(), br#"{"inputs":"x"}"#);
        let dedicated = "https://abc123.us-east-1.aws.endpoints.huggingface.cloud/";
        m.request_url = Some(dedicated.into());
        assert_eq!(endpoint(&m), dedicated);
        assert_eq!(HuggingFace.predict_request(&m, r#"{"inputs":"x"}"#).unwrap(), br#"{"inputs":"x"}"#);
        let mut chat = named("hugging_face", "llm", "tgi", "{}");
        chat.request_url = m.request_url;
        assert_eq!(endpoint(&chat), format!("{dedicated}v1/chat/completions"));
    }

    #[test]
    fn the_ranking_request_is_teis() {
        let m = model("hugging_face", "reranking");
        assert_eq!(ranking(&m, 1), r#"{"query":"q","texts":["a","b"],"truncate":false}"#);
        let m = named("hugging_face", "reranking", "x", r#"{"truncate":true}"#);
        assert_eq!(ranking(&m, 1), r#"{"query":"q","texts":["a","b"],"truncate":true}"#);
    }
}
