//! Google: Vertex AI, the Gemini Developer API, Discovery Engine's ranking, and Claude on Vertex AI.
//!
//! Follows the reference of the text embeddings API, the multimodal embeddings API, the Gemini API and the ranking API.
//! A text that is too long is an error unless the option `truncate` is true: Vertex AI's own default truncates
//! silently.

pub mod target;

use serde::{Deserialize, Serialize};
use url::Url;

use self::target::{api, model_name, Api};
use super::chat::Chat;
use super::image::{Image, Source};
use super::rerank::{RankLimits, Ranking};
use super::usage::{self, count, Usage};
use super::{body, require_capability, BatchLimits, Capabilities, Cloud, Embeddings, KeyHeader, Provider, Role};
use crate::catalog::model::{AuthType, Model};
use crate::json::numbers::{parse, Numbers};
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::vector;

/// The provider `google`.
pub struct Google;

/// Google's task types.
const TASK_TYPES: [&str; 8] = [
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
];

/// The width at which this model's vectors have length 1; shortened ones have another length.
const GEMINI_001_FULL: usize = 3072;

#[derive(Serialize)]
struct PredictRequest<'a> {
    instances: Vec<Instance<'a>>,
    parameters: Parameters,
}

#[derive(Serialize)]
struct Instance<'a> {
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    auto_truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
}

#[derive(Serialize)]
struct MultimodalRequest<'a> {
    instances: [TextInstance<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Dimension>,
}

#[derive(Serialize)]
struct TextInstance<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct ImageRequest<'a> {
    instances: [ImageInstance<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Dimension>,
}

#[derive(Serialize)]
struct ImageInstance<'a> {
    image: ImageContent<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageContent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_base64_encoded: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gcs_uri: Option<&'a str>,
    mime_type: &'a str,
}

#[derive(Serialize)]
struct Dimension {
    dimension: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EmbedContentRequest<'a> {
    content: Content<'a>,
    embed_content_config: ContentConfig<'a>,
}

#[derive(Serialize)]
struct GeminiRequest<'a> {
    content: Content<'a>,
    #[serde(flatten)]
    config: ContentConfig<'a>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [TextInstance<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContentConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_truncate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RankRequest<'a> {
    model: String,
    top_n: usize,
    query: &'a str,
    records: Vec<Record<'a>>,
    ignore_record_details_in_response: bool,
}

#[derive(Serialize)]
struct Record<'a> {
    id: String,
    content: &'a str,
}

/// The answers of all embedding APIs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    predictions: Vec<Prediction>,
    #[serde(default)]
    embedding: Option<Values>,
    #[serde(default, deserialize_with = "usage::of_object")]
    usage_metadata: Usage,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prediction {
    #[serde(default)]
    embeddings: Option<Values>,
    #[serde(default)]
    text_embedding: Option<Numbers>,
    #[serde(default)]
    image_embedding: Option<Numbers>,
}

#[derive(Deserialize)]
struct Values {
    values: Numbers,
    #[serde(default)]
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    #[serde(default, deserialize_with = "count")]
    token_count: Option<u64>,
}

fn task_type(model: &Model, role: Role) -> Option<&str> {
    let options = &model.options;
    match (role, options.task_type.as_deref()) {
        (Role::Document, task) => task,
        (Role::Query, task) => options.query_input_type.as_deref().or(match task {
            Some("RETRIEVAL_DOCUMENT") => Some("RETRIEVAL_QUERY"),
            task => task,
        }),
    }
}

impl Provider for Google {
    fn capabilities(&self) -> Capabilities {
        Capabilities { embedding: true, generate: true, rerank: true, image: true }
    }

    fn options(&self) -> &'static [&'static str] {
        &["task_type", "title", "query_input_type", "truncate", "location", "project"]
    }

    fn unused_options(&self, model: &Model) -> &'static [&'static str] {
        match api(model) {
            // This API has no parameter for truncation.
            Api::GeminiEmbedContent => &["truncate", "location", "project"],
            Api::Multimodal => &["task_type", "title", "query_input_type", "truncate"],
            Api::Ranking | Api::Claude | Api::AsGiven => &["task_type", "title", "query_input_type", "truncate"],
            Api::Predict | Api::EmbedContent => &[],
        }
    }

    fn endpoint(&self, model: &Model, cloud: &Cloud) -> Result<String> {
        target::endpoint(model, cloud)
    }

    fn key_header(&self, _url: &Url) -> KeyHeader {
        KeyHeader::Named("x-goog-api-key")
    }

    fn check(&self, model: &Model) -> Result<()> {
        require_capability(model, self.capabilities())?;
        let options = &model.options;
        for task in [&options.task_type, &options.query_input_type].into_iter().flatten() {
            if !TASK_TYPES.contains(&task.as_str()) {
                return Err(Error::invalid(format!(
                    "'{task}' is not a task type of Google's; accepted: {}",
                    TASK_TYPES.join(", ")
                )));
            }
        }
        if options.title.is_some() && options.task_type.as_deref() != Some("RETRIEVAL_DOCUMENT") {
            return Err(Error::invalid("option title needs the option task_type RETRIEVAL_DOCUMENT; set both"));
        }
        match target::endpoint(model, &Cloud { project: Some("p".into()), ..Cloud::default() }) {
            Ok(_) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn batch(&self, model: &Model) -> BatchLimits {
        match api(model) {
            Api::Predict if model_name(model) != "gemini-embedding-001" => {
                BatchLimits { texts: 100, most: 250, tokens: 20_000 }
            }
            _ => BatchLimits::ONE,
        }
    }

    fn embedding_request(&self, model: &Model, texts: &[&str], role: Role) -> Result<Vec<u8>> {
        let options = &model.options;
        let task_type = task_type(model, role);
        // Only documents have titles.
        let title = options.title.as_deref().filter(|_| task_type == Some("RETRIEVAL_DOCUMENT"));
        let one = || match texts {
            [text] => Ok([TextInstance { text }]),
            _ => Err(Error::internal("this Google model takes one text a request")),
        };
        let cut = options.truncate.unwrap_or(false);
        match api(model) {
            Api::Multimodal => body::write(&MultimodalRequest {
                instances: one()?,
                parameters: options.dimensions.map(|dimension| Dimension { dimension }),
            }),
            Api::EmbedContent => body::write(&EmbedContentRequest {
                content: Content { parts: one()? },
                embed_content_config: ContentConfig {
                    task_type,
                    title,
                    auto_truncate: Some(cut),
                    output_dimensionality: options.dimensions,
                },
            }),
            Api::GeminiEmbedContent => body::write(&GeminiRequest {
                content: Content { parts: one()? },
                config: ContentConfig {
                    task_type,
                    title,
                    auto_truncate: None,
                    output_dimensionality: options.dimensions,
                },
            }),
            _ => body::write(&PredictRequest {
                instances: texts.iter().map(|content| Instance { content, task_type, title }).collect(),
                parameters: Parameters { auto_truncate: cut, output_dimensionality: options.dimensions },
            }),
        }
    }

    fn read_embeddings(&self, model: &Model, answer: &[u8], count: usize) -> Result<Embeddings> {
        let Answer { predictions, embedding, usage_metadata } = parse(answer)?;
        let mut tokens = usage_metadata.input;
        let mut vectors = Vec::with_capacity(count);
        for prediction in predictions {
            if let Some(values) = prediction.embeddings {
                let counted = values.statistics.and_then(|s| s.token_count);
                tokens = match (tokens, counted) {
                    (Some(a), Some(b)) => Some(a.saturating_add(b)),
                    (a, b) => a.or(b),
                };
                vectors.push(values.values.0);
            } else if let Some(numbers) = prediction.text_embedding {
                vectors.push(numbers.0);
            }
        }
        vectors.extend(embedding.map(|values| values.values.0));
        if vectors.len() != count {
            return Err(Error::response(format!(
                "the endpoint answered with {} vectors for {count} texts",
                vectors.len()
            )));
        }
        let shortened = |v: &Vec<f32>| v.len() < GEMINI_001_FULL && model_name(model) == "gemini-embedding-001";
        if model.options.normalize.is_none() && vectors.first().is_some_and(shortened) {
            vectors.iter_mut().for_each(|v| vector::normalize(v));
        }
        Ok(Embeddings { vectors, tokens })
    }

    fn rank_limits(&self, _model: &Model) -> RankLimits {
        RankLimits::together(200)
    }

    fn rerank_request(&self, model: &Model, ranking: &Ranking<'_>) -> Result<Vec<u8>> {
        if api(model) != Api::Ranking {
            return Err(Error::invalid(
                "this Google model ranks nothing; use semantic-ranker-default-003 with model_type reranking",
            ));
        }
        body::write(&RankRequest {
            model: model_name(model),
            top_n: ranking.top,
            query: ranking.query,
            records: ranking
                .documents
                .iter()
                .enumerate()
                .map(|(i, content)| Record { id: i.to_string(), content })
                .collect(),
            ignore_record_details_in_response: true,
        })
    }

    fn predict_request(&self, model: &Model, body: &str) -> Result<Vec<u8>> {
        match api(model) {
            Api::Ranking => body::with_members(body, &[("model", model_name(model).into())]),
            Api::Claude => body::with_members(body, &[("anthropic_version", "vertex-2023-10-16".into())]),
            _ => Ok(body.as_bytes().to_vec()),
        }
    }

    fn image_request(&self, model: &Model, image: &Image) -> Result<Vec<u8>> {
        if api(model) != Api::Multimodal {
            return Err(Error::invalid(
                "this Google model embeds no images; use multimodalembedding@001 with model_type multimodal_embedding",
            ));
        }
        let (bytes, uri) = match &image.source {
            Source::GoogleStorage(uri) => (None, Some(uri.as_str())),
            _ => (Some(image.base64()?), None),
        };
        let image = ImageContent { bytes_base64_encoded: bytes, gcs_uri: uri, mime_type: &image.mime_type };
        body::write(&ImageRequest {
            instances: [ImageInstance { image }],
            parameters: model.options.dimensions.map(|dimension| Dimension { dimension }),
        })
    }

    fn read_image_embedding(&self, _model: &Model, answer: &[u8]) -> Result<Embeddings> {
        let Answer { predictions, .. } = parse(answer)?;
        let vectors: Vec<Vec<f32>> = predictions.into_iter().filter_map(|p| p.image_embedding).map(|n| n.0).collect();
        if vectors.len() != 1 {
            return Err(Error::response(format!("the endpoint answered with {} vectors for an image", vectors.len())));
        }
        Ok(Embeddings { vectors, tokens: None })
    }

    fn chat(&self, model: &Model) -> Option<Chat> {
        match api(model) {
            Api::Claude => Some(Chat::Anthropic),
            Api::AsGiven if model_name(model).starts_with("gemini") => Some(Chat::Gemini),
            _ => None,
        }
    }

    fn probe(&self, model: &Model) -> Option<String> {
        match api(model) {
            Api::Ranking => Some(r#"{"query":"a","records":[{"id":"1","content":"a"}]}"#.into()),
            Api::Claude => Some(r#"{"max_tokens":16,"messages":[{"role":"user","content":"Say OK"}]}"#.into()),
            Api::AsGiven if model_name(model).starts_with("gemini") => {
                Some(r#"{"contents":[{"role":"user","parts":[{"text":"Say OK"}]}]}"#.into())
            }
            _ => None,
        }
    }
}

/// Whether a model is called with the server's Google identity.
pub fn uses_identity(model: &Model) -> bool {
    model.auth_type == Some(AuthType::ServiceAgentIam)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{named, ranking, request};

    #[test]
    fn predict_requests() {
        let m = named("google", "text_embedding", "text-embedding-005", "{}");
        assert_eq!(
            request(&m, &["a", "b"], Role::Document),
            r#"{"instances":[{"content":"a"},{"content":"b"}],"parameters":{"autoTruncate":false}}"#
        );
        let m = named(
            "google",
            "text_embedding",
            "gemini-embedding-001",
            r#"{"task_type":"RETRIEVAL_DOCUMENT","title":"t","dimensions":256,"truncate":true}"#,
        );
        assert_eq!(
            request(&m, &["a"], Role::Document),
            r#"{"instances":[{"content":"a","task_type":"RETRIEVAL_DOCUMENT","title":"t"}],"parameters":{"autoTruncate":true,"outputDimensionality":256}}"#
        );
        assert_eq!(
            request(&m, &["a"], Role::Query),
            r#"{"instances":[{"content":"a","task_type":"RETRIEVAL_QUERY"}],"parameters":{"autoTruncate":true,"outputDimensionality":256}}"#
        );
    }

    #[test]
    fn the_other_requests() {
        let m = named("google", "text_embedding", "gemini-embedding-2", r#"{"task_type":"CLUSTERING","dimensions":8}"#);
        assert_eq!(
            request(&m, &["a"], Role::Document),
            r#"{"content":{"parts":[{"text":"a"}]},"embedContentConfig":{"taskType":"CLUSTERING","autoTruncate":false,"outputDimensionality":8}}"#
        );
        let mut m = named("google", "text_embedding", "gemini-embedding-001", r#"{"task_type":"CLUSTERING"}"#);
        m.auth_type = Some(AuthType::SecretManager);
        assert_eq!(
            request(&m, &["a"], Role::Document),
            r#"{"content":{"parts":[{"text":"a"}]},"taskType":"CLUSTERING"}"#
        );
        let m = named("google", "multimodal_embedding", "multimodalembedding@001", r#"{"dimensions":128}"#);
        assert_eq!(
            request(&m, &["a"], Role::Document),
            r#"{"instances":[{"text":"a"}],"parameters":{"dimension":128}}"#
        );
        let claude = named("google", "llm", "claude-3-haiku@20240307", "{}");
        let body = Google.predict_request(&claude, r#"{"max_tokens":5}"#).unwrap();
        assert_eq!(body, br#"{"anthropic_version":"vertex-2023-10-16","max_tokens":5}"#);
        let ranker = named("google", "reranking", "semantic-ranker-default-003", "{}");
        let body = Google.predict_request(&ranker, r#"{"query":"q"}"#).unwrap();
        assert_eq!(body, br#"{"model":"semantic-ranker-default-003","query":"q"}"#);
    }

    #[test]
    fn images() {
        let m = named("google", "multimodal_embedding", "multimodalembedding@001", r#"{"dimensions":128}"#);
        let request = |image: &Image| String::from_utf8(Google.image_request(&m, image).unwrap()).unwrap();
        assert_eq!(
            request(&Image::read(b"GIF89a", None).unwrap()),
            r#"{"instances":[{"image":{"bytesBase64Encoded":"R0lGODlh","mimeType":"image/gif"}}],"parameters":{"dimension":128}}"#
        );
        assert_eq!(
            request(&Image::read(b"gs://b/cat.png", None).unwrap()),
            r#"{"instances":[{"image":{"gcsUri":"gs://b/cat.png","mimeType":"image/png"}}],"parameters":{"dimension":128}}"#
        );
        let golden = br#"{"predictions":[{"imageEmbedding":[0.5,-1]}],"deployedModelId":"1"}"#;
        assert_eq!(Google.read_image_embedding(&m, golden).unwrap().vectors, [[0.5, -1.0]]);
        for bad in [&b"{}"[..], br#"{"predictions":[{"textEmbedding":[1]}]}"#, b"[]", b"x"] {
            assert!(Google.read_image_embedding(&m, bad).is_err());
        }
        let text = named("google", "text_embedding", "text-embedding-005", "{}");
        assert!(Google.image_request(&text, &Image::read(b"GIF89a", None).unwrap()).is_err());
    }

    #[test]
    fn only_models_that_write_have_a_chat() {
        let chat = |model_type: &str, name: &str| Google.chat(&named("google", model_type, name, "{}"));
        assert_eq!(chat("llm", "gemini-2.5-flash"), Some(Chat::Gemini));
        assert_eq!(chat("llm", "claude-3-haiku@20240307"), Some(Chat::Anthropic));
        assert_eq!(chat("reranking", "semantic-ranker-default-003"), None);
    }

    #[test]
    fn every_answer_is_read() {
        let m = named("google", "text_embedding", "text-embedding-005", "{}");
        let golden =
            br#"{"predictions":[{"embeddings":{"statistics":{"token_count":6,"truncated":false},"values":[0.5,1]}},
            {"embeddings":{"statistics":{"token_count":2},"values":[2,3]}}],"metadata":{"billableCharacterCount":20}}"#;
        let read = Google.read_embeddings(&m, golden, 2).unwrap();
        assert_eq!((read.vectors, read.tokens), (vec![vec![0.5, 1.0], vec![2.0, 3.0]], Some(8)));
        let golden = br#"{"predictions":[{"textEmbedding":[0.25]}],"deployedModelId":"1"}"#;
        assert_eq!(Google.read_embeddings(&m, golden, 1).unwrap().vectors, [[0.25]]);
        let golden = br#"{"embedding":{"values":[1]},"usageMetadata":{"promptTokenCount":4},"truncated":false}"#;
        let read = Google.read_embeddings(&m, golden, 1).unwrap();
        assert_eq!((read.vectors, read.tokens), (vec![vec![1.0]], Some(4)));
        for bad in [&b"{}"[..], br#"{"predictions":[{"imageEmbedding":[1]}]}"#, b"[]"] {
            assert!(Google.read_embeddings(&m, bad, 1).is_err());
        }
    }

    #[test]
    fn shortened_gemini_vectors_are_scaled_to_length_one() {
        let m = named("google", "text_embedding", "gemini-embedding-001", r#"{"dimensions":2}"#);
        let golden = br#"{"predictions":[{"embeddings":{"values":[3,4]}}]}"#;
        assert_eq!(Google.read_embeddings(&m, golden, 1).unwrap().vectors, [[0.6, 0.8]]);
        let m = named("google", "text_embedding", "gemini-embedding-001", r#"{"dimensions":2,"normalize":false}"#);
        assert_eq!(Google.read_embeddings(&m, golden, 1).unwrap().vectors, [[3.0, 4.0]]);
    }

    #[test]
    fn options_that_google_does_not_take_are_errors() {
        let check = |options: &str| Google.check(&named("google", "text_embedding", "text-embedding-005", options));
        assert!(check("{}").is_ok() && check(r#"{"task_type":"CLUSTERING"}"#).is_ok());
        assert!(check(r#"{"task_type":"search_document"}"#).is_err());
        assert!(check(r#"{"title":"x"}"#).is_err());
    }

    #[test]
    fn the_ranking_request_is_discovery_engines() {
        let m = named("google", "reranking", "semantic-ranker-default-003", "{}");
        let golden = r#"{"model":"semantic-ranker-default-003","topN":1,"query":"q","records":[{"id":"0","content":"a"},{"id":"1","content":"b"}],"ignoreRecordDetailsInResponse":true}"#;
        assert_eq!(ranking(&m, 1), golden);
    }
}
