//! OpenAI and every service with its API: `POST /v1/embeddings`, `POST /v1/chat/completions`.
//!
//! Follows OpenAI's published API specification. Vectors are asked for as numbers: compatible servers often get
//! `encoding_format: base64` wrong. An answer in base64 is read all the same.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::numbers::{parse, Numbers};
use super::Provider;
use crate::error::{Error, Result};
use crate::models::model::{Model, ModelType};

/// The provider `open_ai`.
pub struct OpenAi;

const EMBEDDINGS: &str = "https://api.openai.com/v1/embeddings";
const CHAT: &str = "https://api.openai.com/v1/chat/completions";

#[derive(Serialize)]
struct EmbeddingRequest<'a> {
    model: &'a str,
    input: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
}

#[derive(Deserialize)]
struct EmbeddingAnswer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    embedding: Numbers,
}

impl Provider for OpenAi {
    fn default_url(&self, model_type: ModelType) -> Option<&'static str> {
        Some(match model_type {
            ModelType::TextEmbedding => EMBEDDINGS,
            ModelType::Generic => CHAT,
        })
    }

    /// A base URL (`http://localhost:11434`, `.../v1`) gets the call's path; any other is taken as it is.
    fn complete_url(&self, url: &str, model_type: ModelType) -> String {
        let path = match model_type {
            ModelType::TextEmbedding => "/embeddings",
            ModelType::Generic => "/chat/completions",
        };
        let Ok(mut parsed) = url::Url::parse(url) else { return url.to_owned() };
        let base = parsed.path().trim_end_matches('/').to_owned();
        if base.is_empty() {
            parsed.set_path(&format!("/v1{path}"));
        } else if base.ends_with("/v1") {
            parsed.set_path(&format!("{base}{path}"));
        } else {
            return url.to_owned();
        }
        parsed.into()
    }

    fn check(&self, model: &Model) -> Result<()> {
        if model.model_type == ModelType::TextEmbedding && model.qualified_name.is_none() {
            return Err(Error::invalid(
                "model_qualified_name is required for provider open_ai; give the provider's name of the model, e.g. 'text-embedding-3-small'",
            ));
        }
        Ok(())
    }

    fn embedding_request(&self, model: &Model, text: &str) -> Result<Vec<u8>> {
        let request = EmbeddingRequest {
            model: model.qualified_name.as_deref().unwrap_or(&model.model_id),
            input: text,
            dimensions: model.options.dimensions,
        };
        serde_json::to_vec(&request).map_err(|e| Error::internal(format!("cannot write a request: {e}")))
    }

    fn read_embedding(&self, _model: &Model, answer: &[u8]) -> Result<Vec<f32>> {
        let EmbeddingAnswer { data } = parse(answer)?;
        let count = data.len();
        match (data.into_iter().next(), count) {
            (Some(item), 1) => Ok(item.embedding.0),
            _ => Err(Error::response(format!("the endpoint answered with {count} vectors for one text"))),
        }
    }

    /// The body as given, byte for byte; a missing `model` is put in front.
    fn predict_request(&self, model: &Model, body: &str) -> Result<Vec<u8>> {
        #[derive(Deserialize)]
        struct Shallow {
            model: Option<IgnoredAny>,
        }
        let Some(name) = &model.qualified_name else { return Ok(body.as_bytes().to_vec()) };
        let Some(members) = body.trim_start().strip_prefix('{') else { return Ok(body.as_bytes().to_vec()) };
        let shallow: Shallow =
            serde_json::from_str(body).map_err(|e| Error::invalid(format!("request_body is not valid JSON: {e}")))?;
        if shallow.model.is_some() {
            return Ok(body.as_bytes().to_vec());
        }
        let comma = if members.trim_start().starts_with('}') { "" } else { "," };
        Ok(format!("{{\"model\":{}{comma}{members}", Value::from(name.as_str())).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::model;

    #[test]
    fn the_request_is_openais() {
        let mut m = model("open_ai", "text_embedding");
        m.qualified_name = Some("text-embedding-3-small".into());
        let body = OpenAi.embedding_request(&m, "a \"b\" é\n").unwrap();
        let golden = r#"{"model":"text-embedding-3-small","input":"a \"b\" é\n"}"#;
        assert_eq!(String::from_utf8(body).unwrap(), golden);
        m.options.dimensions = Some(256);
        let body = String::from_utf8(OpenAi.embedding_request(&m, "x").unwrap()).unwrap();
        assert_eq!(body, r#"{"model":"text-embedding-3-small","input":"x","dimensions":256}"#);
    }

    #[test]
    fn the_answer_is_read() {
        let m = model("open_ai", "text_embedding");
        let golden = br#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-0.25]}],
            "model":"text-embedding-3-small","usage":{"prompt_tokens":5,"total_tokens":5}}"#;
        assert_eq!(OpenAi.read_embedding(&m, golden).unwrap(), [0.5, -0.25]);
        for bad in [&b"{\"data\":[]}"[..], b"{}", b"[]", b"", br#"{"data":[{"embedding":null}]}"#] {
            assert!(OpenAi.read_embedding(&m, bad).is_err());
        }
    }

    #[test]
    fn base_urls_are_completed_and_others_kept() {
        let e = |u| OpenAi.complete_url(u, ModelType::TextEmbedding);
        assert_eq!(e("http://localhost:11434"), "http://localhost:11434/v1/embeddings");
        assert_eq!(e("https://h/openai/v1/"), "https://h/openai/v1/embeddings");
        assert_eq!(e("https://h/v1/embeddings?api-version=2"), "https://h/v1/embeddings?api-version=2");
        assert_eq!(OpenAi.complete_url("https://h/v1", ModelType::Generic), "https://h/v1/chat/completions");
    }

    #[test]
    fn a_missing_model_is_filled_in() {
        let mut m = model("open_ai", "generic");
        m.qualified_name = Some("gpt-4o".into());
        let filled = OpenAi.predict_request(&m, r#"{"messages":[]}"#).unwrap();
        assert_eq!(filled, br#"{"model":"gpt-4o","messages":[]}"#);
        let order = OpenAi.predict_request(&m, r#" {"z": 1, "a": 18446744073709551617} "#).unwrap();
        assert_eq!(order, br#"{"model":"gpt-4o","z": 1, "a": 18446744073709551617} "#);
        assert_eq!(OpenAi.predict_request(&m, "{}").unwrap(), br#"{"model":"gpt-4o"}"#);
        let kept = OpenAi.predict_request(&m, r#"{"model":"o","messages":[]}"#).unwrap();
        assert_eq!(kept, br#"{"model":"o","messages":[]}"#);
        assert!(OpenAi.predict_request(&m, "{").is_err());
    }
}
