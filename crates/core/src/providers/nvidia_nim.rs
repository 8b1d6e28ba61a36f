//! NVIDIA NIM, hosted or one's own: `POST /v1/embeddings` with `input_type`, `/v1/ranking`, `/v1/chat/completions`.
//!
//! Follows NVIDIA's NeMo Retriever reference. The embedding API is OpenAI's with an obligatory `input_type`, except
//! for NV-CLIP, which has none.

use serde::Serialize;

use super::body::{self, Input};
use super::chat::Chat;
use super::cohere::truncate;
use super::encoding_format::encoding_format;
use super::image::Image;
use super::open_ai::{read_list, CHAT_PROBE};
use super::rerank::{RankLimits, Ranking};
use super::{complete, input_type, name_of, probe_of, require_capability, require_name};
use super::{BatchLimits, Capabilities, Cloud, Embeddings, Provider, Role};
use crate::catalog::model::{Model, ModelType};
use mysql_ml_base::error::Result;

/// The provider `nvidia_nim`.
pub struct NvidiaNim;

const BASE: &str = "https://integrate.api.nvidia.com";

/// NVIDIA serves each hosted ranking model at a path of its own.
const RANKING_BASE: &str = "https://ai.api.nvidia.com/v1/retrieval/";

#[derive(Serialize)]
struct EmbeddingRequest<'a> {
    model: &'a str,
    input: Input<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'static str>,
}

#[derive(Serialize)]
struct RankingRequest<'a> {
    model: &'a str,
    query: Text<'a>,
    passages: Vec<Text<'a>>,
    truncate: &'static str,
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

fn is_clip(model: &Model) -> bool {
    model.model_type == ModelType::MultimodalEmbedding || name_of(model).contains("nvclip")
}

impl Provider for NvidiaNim {
    fn capabilities(&self) -> Capabilities {
        Capabilities { embedding: true, generate: true, rerank: true, image: true }
    }

    fn options(&self) -> &'static [&'static str] {
        &["input_type", "query_input_type", "truncate", "encoding_format"]
    }

    fn endpoint(&self, model: &Model, _cloud: &Cloud) -> Result<String> {
        let path = match model.model_type {
            ModelType::TextEmbedding | ModelType::MultimodalEmbedding => "/embeddings",
            ModelType::Reranking => "/ranking",
            ModelType::Llm | ModelType::Generic => "/chat/completions",
        };
        Ok(match &model.request_url {
            Some(url) => complete(url, "/v1", path),
            None if model.model_type == ModelType::Reranking => {
                format!("{RANKING_BASE}{}/reranking", name_of(model).replace('.', "_"))
            }
            None => complete(BASE, "/v1", path),
        })
    }

    fn check(&self, model: &Model) -> Result<()> {
        require_capability(model, self.capabilities())?;
        match model.model_type {
            ModelType::TextEmbedding => require_name(model, "nvidia/nv-embedqa-e5-v5"),
            ModelType::MultimodalEmbedding => require_name(model, "nvidia/nvclip"),
            ModelType::Reranking => require_name(model, "nvidia/llama-3.2-nv-rerankqa-1b-v2"),
            ModelType::Llm | ModelType::Generic => Ok(()),
        }
    }

    fn batch(&self, _model: &Model) -> BatchLimits {
        BatchLimits { texts: 64, most: 8192, tokens: 300_000 }
    }

    fn embedding_request(&self, model: &Model, texts: &[&str], role: Role) -> Result<Vec<u8>> {
        let name = name_of(model);
        // The model's name may contain the input type.
        let named = name.ends_with("-query") || name.ends_with("-passage");
        let clip = is_clip(model);
        body::write(&EmbeddingRequest {
            model: name,
            input: Input::new(texts),
            input_type: (!clip && !named).then(|| input_type(model, role, "passage", "query")),
            truncate: (!clip).then(|| truncate(model)),
            dimensions: model.options.dimensions.filter(|_| !clip),
            encoding_format: encoding_format(model, BASE),
        })
    }

    fn read_embeddings(&self, _model: &Model, answer: &[u8], count: usize) -> Result<Embeddings> {
        read_list(answer, count)
    }

    fn rank_limits(&self, _model: &Model) -> RankLimits {
        RankLimits::apart(512)
    }

    fn rerank_request(&self, model: &Model, ranking: &Ranking<'_>) -> Result<Vec<u8>> {
        body::write(&RankingRequest {
            model: name_of(model),
            query: Text { text: ranking.query },
            passages: ranking.documents.iter().map(|text| Text { text }).collect(),
            truncate: truncate(model),
        })
    }

    fn predict_request(&self, model: &Model, body: &str) -> Result<Vec<u8>> {
        body::with_model(body, model.qualified_name.as_deref())
    }

    fn chat(&self, _model: &Model) -> Option<Chat> {
        Some(Chat::COMPATIBLE)
    }

    fn image_request(&self, model: &Model, image: &Image) -> Result<Vec<u8>> {
        self.embedding_request(model, &[&image.data_url()?], Role::Document)
    }

    fn probe(&self, model: &Model) -> Option<String> {
        match model.model_type {
            ModelType::Reranking => {
                let body = r#"{"query":{"text":"a"},"passages":[{"text":"a"}]}"#;
                probe_of(self, model, &["/ranking", "/reranking"], body)
            }
            _ => probe_of(self, model, &["/chat/completions"], CHAT_PROBE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{endpoint, named, ranking, request};

    #[test]
    fn the_requests_are_nims() {
        let m = named("nvidia_nim", "text_embedding", "nvidia/nv-embedqa-e5-v5", "{}");
        assert_eq!(
            request(&m, &["a"], Role::Document),
            r#"{"model":"nvidia/nv-embedqa-e5-v5","input":"a","input_type":"passage","truncate":"NONE"}"#
        );
        assert!(request(&m, &["a"], Role::Query).contains(r#""input_type":"query""#));
        assert_eq!(endpoint(&m), "https://integrate.api.nvidia.com/v1/embeddings");
        let clip = named("nvidia_nim", "multimodal_embedding", "nvidia/nvclip", "{}");
        assert_eq!(request(&clip, &["a"], Role::Document), r#"{"model":"nvidia/nvclip","input":"a"}"#);
    }

    #[test]
    fn images_go_as_data_urls() {
        let clip = named("nvidia_nim", "multimodal_embedding", "nvidia/nvclip", "{}");
        let body = NvidiaNim.image_request(&clip, &Image::read(b"GIF89a", None).unwrap()).unwrap();
        assert_eq!(body, br#"{"model":"nvidia/nvclip","input":"data:image/gif;base64,R0lGODlh"}"#);
        assert!(NvidiaNim.image_request(&clip, &Image::read(b"gs://b/c.png", None).unwrap()).is_err());
    }

    #[test]
    fn ranking_has_a_place_of_its_own() {
        let mut m = named("nvidia_nim", "reranking", "nvidia/llama-3.2-nv-rerankqa-1b-v2", "{}");
        assert_eq!(endpoint(&m), "https://ai.api.nvidia.com/v1/retrieval/nvidia/llama-3_2-nv-rerankqa-1b-v2/reranking");
        m.request_url = Some("http://localhost:8000/v1".into());
        assert_eq!(endpoint(&m), "http://localhost:8000/v1/ranking");
        let body = NvidiaNim.predict_request(&m, r#"{"query":{"text":"q"},"passages":[]}"#).unwrap();
        assert!(body.starts_with(br#"{"model":"nvidia/llama-3.2"#));
    }

    #[test]
    fn the_answer_is_read() {
        let golden = br#"{"object":"list","data":[{"index":0,"embedding":[0.25,-0.5],"object":"embedding"}],
            "model":"nvidia/nv-embedqa-e5-v5","usage":{"prompt_tokens":6,"total_tokens":6}}"#;
        let m = named("nvidia_nim", "text_embedding", "x", "{}");
        let read = NvidiaNim.read_embeddings(&m, golden, 1).unwrap();
        assert_eq!((read.vectors, read.tokens), (vec![vec![0.25, -0.5]], Some(6)));
    }

    #[test]
    fn the_ranking_request_is_nims() {
        let m = named("nvidia_nim", "reranking", "nvidia/llama-3.2-nv-rerankqa-1b-v2", "{}");
        let golden = r#"{"model":"nvidia/llama-3.2-nv-rerankqa-1b-v2","query":{"text":"q"},"passages":[{"text":"a"},{"text":"b"}],"truncate":"NONE"}"#;
        assert_eq!(ranking(&m, 1), golden);
    }
}
