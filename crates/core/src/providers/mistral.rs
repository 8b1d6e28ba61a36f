//! Mistral AI: `POST /v1/embeddings`, `/v1/chat/completions`. Answers have OpenAI's form.
//!
//! Follows Mistral's API reference.

use serde::Serialize;

use super::body::{self, Input};
use super::chat::Chat;
use super::encoding_format::encoding_format;
use super::open_ai::{path, read_list, CHAT_PROBE};
use super::{
    complete, name_of, probe_of, require_capability, require_name, BatchLimits, Capabilities, Cloud, Embeddings,
    Provider, Role,
};
use crate::catalog::model::Model;
use mysql_ml_base::error::Result;

/// The provider `mistral`.
pub struct Mistral;

const BASE: &str = "https://api.mistral.ai";

#[derive(Serialize)]
struct EmbeddingRequest<'a> {
    model: &'a str,
    input: Input<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'static str>,
}

impl Provider for Mistral {
    fn capabilities(&self) -> Capabilities {
        Capabilities { embedding: true, generate: true, ..Capabilities::default() }
    }

    fn options(&self) -> &'static [&'static str] {
        &["encoding_format"]
    }

    fn endpoint(&self, model: &Model, _cloud: &Cloud) -> Result<String> {
        Ok(complete(model.request_url.as_deref().unwrap_or(BASE), "/v1", path(model.model_type)))
    }

    fn check(&self, model: &Model) -> Result<()> {
        require_capability(model, self.capabilities())?;
        if model.model_type.embeds() {
            require_name(model, "mistral-embed")?;
        }
        Ok(())
    }

    fn batch(&self, _model: &Model) -> BatchLimits {
        BatchLimits { texts: 64, most: 512, tokens: 16_000 }
    }

    fn embedding_request(&self, model: &Model, texts: &[&str], _role: Role) -> Result<Vec<u8>> {
        // Only some models can shorten. The width of mistral-embed is fixed, and the parameter is refused.
        let output_dimension = model.options.dimensions.filter(|_| name_of(model) != "mistral-embed");
        body::write(&EmbeddingRequest {
            model: name_of(model),
            input: Input::new(texts),
            output_dimension,
            encoding_format: encoding_format(model, BASE),
        })
    }

    fn read_embeddings(&self, _model: &Model, answer: &[u8], count: usize) -> Result<Embeddings> {
        read_list(answer, count)
    }

    fn predict_request(&self, model: &Model, body: &str) -> Result<Vec<u8>> {
        body::with_model(body, model.qualified_name.as_deref())
    }

    fn chat(&self, _model: &Model) -> Option<Chat> {
        Some(Chat::OpenAi { limit: "max_tokens", seed: "random_seed" })
    }

    fn probe(&self, model: &Model) -> Option<String> {
        probe_of(self, model, &["/chat/completions"], CHAT_PROBE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{endpoint, model, named, request};

    #[test]
    fn the_request_is_mistrals() {
        let m = named("mistral", "text_embedding", "codestral-embed", r#"{"dimensions":512}"#);
        let golden = r#"{"model":"codestral-embed","input":"a","output_dimension":512}"#;
        assert_eq!(request(&m, &["a"], Role::Document), golden);
        let m = named("mistral", "text_embedding", "mistral-embed", r#"{"dimensions":1024}"#);
        assert_eq!(request(&m, &["a"], Role::Document), r#"{"model":"mistral-embed","input":"a"}"#);
        assert_eq!(endpoint(&m), "https://api.mistral.ai/v1/embeddings");
        assert_eq!(endpoint(&model("mistral", "llm")), "https://api.mistral.ai/v1/chat/completions");
    }

    #[test]
    fn the_answer_is_read() {
        let golden = br#"{"id":"e","object":"list","model":"mistral-embed",
            "usage":{"prompt_tokens":15,"completion_tokens":0,"total_tokens":15},
            "data":[{"object":"embedding","embedding":[0.1,0.2],"index":0}]}"#;
        let read = Mistral.read_embeddings(&model("mistral", "text_embedding"), golden, 1).unwrap();
        assert_eq!((read.vectors, read.tokens), (vec![vec![0.1, 0.2]], Some(15)));
    }
}
