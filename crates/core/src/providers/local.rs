//! Models that run inside the server: `bert_local`, `clip_local`, `t5_local`, `static_local`,
//! `bert_rerank_local`. This file checks their registrations; `mysql_ml_local` computes them, and nothing is sent.

use super::{require_capability, BatchLimits, Capabilities, Cloud, Embeddings, Provider, Role};
use crate::catalog::local_place::Place;
use crate::catalog::model::{Model, ModelType, ProviderId};
use mysql_ml_base::error::{Error, Kind, Result};

/// One of the providers.
pub struct Local {
    capabilities: Capabilities,
    options: &'static [&'static str],
}

const TEXTS: Capabilities = Capabilities { embedding: true, generate: false, rerank: false, image: false };

/// Encoders of the BERT family.
pub static BERT: Local = Local { capabilities: TEXTS, options: &["truncate"] };
/// CLIP.
pub static CLIP: Local = Local { capabilities: Capabilities { image: true, ..TEXTS }, options: &["truncate"] };
/// T5.
pub static T5: Local =
    Local { capabilities: Capabilities { generate: true, embedding: false, ..TEXTS }, options: &["truncate"] };
/// Static embeddings, as Model2Vec makes them.
pub static STATIC: Local = Local { capabilities: TEXTS, options: &["truncate"] };
/// Cross-encoders.
pub static RERANK: Local =
    Local { capabilities: Capabilities { rerank: true, embedding: false, ..TEXTS }, options: &["truncate"] };

/// The default model type.
pub fn default_type(provider: ProviderId) -> Option<ModelType> {
    Some(match provider {
        ProviderId::BertLocal | ProviderId::StaticLocal => ModelType::TextEmbedding,
        ProviderId::ClipLocal => ModelType::MultimodalEmbedding,
        ProviderId::T5Local => ModelType::Llm,
        ProviderId::BertRerankLocal => ModelType::Reranking,
        _ => return None,
    })
}

/// An error for a call of a local model in a build without the feature `local`.
pub fn no_local_models() -> Error {
    Error::new(
        Kind::Unsupported,
        "this build of the library has no models inside the server; use one that was built with the feature local, or provider ollama with a server on this machine",
    )
}

impl Provider for Local {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn options(&self) -> &'static [&'static str] {
        self.options
    }

    fn endpoint(&self, model: &Model, _cloud: &Cloud) -> Result<String> {
        Err(Error::invalid(format!(
            "provider {} has no endpoint; its models run in the server",
            model.provider.as_str()
        )))
    }

    fn check(&self, model: &Model) -> Result<()> {
        let provider = model.provider.as_str();
        if cfg!(not(feature = "local")) {
            return Err(no_local_models());
        }
        if Some(model.model_type) != default_type(model.provider)
            && !(model.provider == ProviderId::ClipLocal && model.model_type == ModelType::TextEmbedding)
        {
            let wanted = default_type(model.provider).map_or("", ModelType::as_str);
            return Err(Error::invalid(format!(
                "provider {provider} has models of model_type {wanted}; use that, or NULL"
            )));
        }
        require_capability(model, self.capabilities)?;
        if model.input.is_some() || model.output.is_some() || model.header_fn.is_some() {
            return Err(Error::invalid(format!("provider {provider} calls no endpoint; leave the functions NULL")));
        }
        if model.auth_type.is_some() || model.auth_id.is_some() {
            return Err(Error::invalid(format!("provider {provider} calls no endpoint; leave model_auth_type NULL")));
        }
        Place::of(model).map(|_| ())
    }

    fn batch(&self, _model: &Model) -> BatchLimits {
        // Small batches, so that a job's first rows are written soon; threads combine texts of several batches.
        BatchLimits { texts: 64, most: 10_000, tokens: u64::MAX }
    }

    fn embedding_request(&self, _model: &Model, _texts: &[&str], _role: Role) -> Result<Vec<u8>> {
        Err(Error::internal("a local model sends no requests"))
    }

    fn read_embeddings(&self, _model: &Model, _answer: &[u8], _count: usize) -> Result<Embeddings> {
        Err(Error::internal("a local model reads no answers"))
    }

    fn predict_request(&self, model: &Model, _body: &str) -> Result<Vec<u8>> {
        Err(Error::invalid(format!(
            "provider {} takes no JSON; call {}",
            model.provider.as_str(),
            match self.capabilities {
                Capabilities { generate: true, .. } => "ml_generate",
                Capabilities { rerank: true, .. } => "ai.rerank",
                _ => "ml_embedding",
            }
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{model, named};

    #[test]
    #[cfg(feature = "local")]
    fn registrations_are_checked() {
        let check = |m: Model| crate::providers::table::provider(m.provider).check(&m);
        assert!(check(named("bert_local", "text_embedding", "a/b", "{}")).is_ok());
        assert!(check(model("bert_local", "text_embedding")).unwrap_err().message().contains("model_request_url"));
        assert!(check(named("t5_local", "text_embedding", "a/b", "{}")).is_err());
        assert!(check(named("clip_local", "text_embedding", "a/b", "{}")).is_ok());
        assert!(check(named("bert_rerank_local", "reranking", "a/b", "{}")).is_ok());
        assert!(check(named("bert_rerank_local", "text_embedding", "a/b", "{}")).is_err());
        let url = Model { request_url: Some("https://h/".into()), ..model("bert_local", "text_embedding") };
        assert!(check(url).unwrap_err().message().contains("no endpoint"));
    }
}
