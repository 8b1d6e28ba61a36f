//! One file per provider: request JSON from inputs, outputs from response JSON. No I/O and no clock.

pub mod anthropic;
pub mod bedrock;
pub mod body;
pub mod chat;
pub mod cohere;
pub mod custom;
pub mod dummy;
pub mod encoding_format;
pub mod google;
pub mod hugging_face;
pub mod image;
pub mod local;
pub mod mistral;
pub mod nvidia_nim;
pub mod ollama;
pub mod open_ai;
pub mod rerank;
pub mod table;
pub mod usage;
pub mod voyage;

use url::Url;

use self::rerank::{RankLimits, Ranking};
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::role::Role;

use crate::catalog::model::{Model, ModelType};
use crate::credentials::google::cloud::Cloud;

/// Capabilities of a provider's models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Embed texts.
    pub embedding: bool,
    /// Generate text.
    pub generate: bool,
    /// Rank documents for a query.
    pub rerank: bool,
    /// Embed images.
    pub image: bool,
}

/// The header of a model's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyHeader {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `NAME: KEY`.
    Named(&'static str),
}

/// The vectors in an answer, in the order of the texts.
#[derive(Debug, Default, PartialEq)]
pub struct Embeddings {
    /// One vector for each text.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens, if the provider reports them.
    pub tokens: Option<u64>,
}

/// Limits of one embedding request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The default number of texts.
    pub texts: usize,
    /// The most texts.
    pub most: usize,
    /// The most tokens of all texts together.
    pub tokens: u64,
}

impl BatchLimits {
    /// One text a request.
    pub const ONE: BatchLimits = BatchLimits { texts: 1, most: 1, tokens: u64::MAX };
}

/// A provider's API: pure functions from models and inputs to requests, and from answers to outputs.
pub trait Provider: Sync {
    /// Capabilities of its models.
    fn capabilities(&self) -> Capabilities;

    /// Options it accepts besides the common ones.
    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    /// Options among them that this model ignores; setting one is an error.
    fn unused_options(&self, _model: &Model) -> &'static [&'static str] {
        &[]
    }

    /// The URL of a model's requests: the registered one, completed if it is a base or a part, or the provider's own.
    /// An error if neither is enough.
    fn endpoint(&self, model: &Model, cloud: &Cloud) -> Result<String>;

    /// The header of the key in requests to `url`.
    fn key_header(&self, _url: &Url) -> KeyHeader {
        KeyHeader::Bearer
    }

    /// Further headers that the API requires: name, value.
    fn headers(&self, _model: &Model) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Checks this provider's rules for a registration. Ids, enumerations, options and secrets are already checked.
    fn check(&self, model: &Model) -> Result<()>;

    /// Limits of one embedding request.
    fn batch(&self, _model: &Model) -> BatchLimits {
        BatchLimits::ONE
    }

    /// The request body for `texts`, at least one.
    fn embedding_request(&self, model: &Model, texts: &[&str], role: Role) -> Result<Vec<u8>>;

    /// The vectors in the answer to `count` texts; an error if the number differs.
    fn read_embeddings(&self, model: &Model, answer: &[u8], count: usize) -> Result<Embeddings>;

    /// The request body for an image.
    fn image_request(&self, model: &Model, _image: &image::Image) -> Result<Vec<u8>> {
        Err(Error::invalid(format!(
            "provider {} embeds no images; SELECT * FROM mysql.ml_model_providers lists the providers that do",
            model.provider.as_str()
        )))
    }

    /// The vector in the answer to an image.
    fn read_image_embedding(&self, model: &Model, answer: &[u8]) -> Result<Embeddings> {
        self.read_embeddings(model, answer, 1)
    }

    /// Limits of one ranking request.
    fn rank_limits(&self, _model: &Model) -> RankLimits {
        RankLimits::together(1000)
    }

    /// The request body that ranks documents for a query. [`rerank::read`] reads the answers of all providers.
    fn rerank_request(&self, model: &Model, _ranking: &Ranking<'_>) -> Result<Vec<u8>> {
        Err(Error::invalid(format!(
            "how a model of provider {} ranks documents is not known; call ml_predict_row with its own JSON, or register its URL with provider open_ai if it takes query and documents",
            model.provider.as_str()
        )))
    }

    /// The chat shape of a model; `None` if none is known.
    fn chat(&self, _model: &Model) -> Option<chat::Chat> {
        None
    }

    /// The request body of a generic call: `body`, with the members that the API requires.
    fn predict_request(&self, _model: &Model, body: &str) -> Result<Vec<u8>> {
        Ok(body.as_bytes().to_vec())
    }

    /// The smallest request body to check a model that does not embed; `None` if its shape is unknown.
    fn probe(&self, _model: &Model) -> Option<String> {
        None
    }
}

/// The input type of a request: the model's option for the role, else the provider's default.
fn input_type<'m>(model: &'m Model, role: Role, document: &'m str, query: &'m str) -> &'m str {
    let options = &model.options;
    match role {
        Role::Document => options.input_type.as_deref().unwrap_or(document),
        Role::Query => options.query_input_type.as_deref().unwrap_or(query),
    }
}

/// The provider's name of the model; [`require_name`] ensures that it exists.
fn name_of(model: &Model) -> &str {
    model.qualified_name.as_deref().unwrap_or(&model.model_id)
}

/// `body` as the health check of a model, if its URL ends in one of `calls` and its name is known. Without a registered
/// name, callers put it into their bodies.
fn probe_of(api: &dyn Provider, model: &Model, calls: &[&str], body: &str) -> Option<String> {
    let url = Url::parse(&api.endpoint(model, &Cloud::default()).ok()?).ok()?;
    let path = url.path().trim_end_matches('/');
    let named = model.qualified_name.is_some() || path.contains("/deployments/");
    (named && calls.iter().any(|call| path.ends_with(call))).then(|| body.to_owned())
}

/// An error if a registration lacks the provider's name of the model.
fn require_name(model: &Model, example: &str) -> Result<()> {
    if model.qualified_name.is_some() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "model_qualified_name is required for provider {}; give the provider's name of the model, e.g. '{example}'",
        model.provider.as_str()
    )))
}

/// An error if the provider lacks the capability of the registered type.
fn require_capability(model: &Model, capabilities: Capabilities) -> Result<()> {
    let fits = match model.model_type {
        ModelType::TextEmbedding => capabilities.embedding,
        ModelType::MultimodalEmbedding => capabilities.image,
        ModelType::Reranking => capabilities.rerank,
        ModelType::Llm => capabilities.generate,
        ModelType::Generic => true,
    };
    if fits {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "provider {} has no models of model_type {}; SELECT * FROM mysql.ml_model_providers lists the capabilities of each",
        model.provider.as_str(),
        model.model_type.as_str()
    )))
}

/// Base paths of OpenAI-compatible APIs: Gemini, Vertex AI and Cloudflare, GitHub, Databricks.
const BASES: [&str; 5] = ["openai", "openapi", "compat", "inference", "serving-endpoints"];

/// Whether a URL is an API's base: it ends in a version (`/v1`, `/api/paas/v4`, `/compatible-mode/v1`) or in one of the
/// [`BASES`] (`/v1beta/openai`).
fn is_base(url: &str) -> bool {
    let Ok(parsed) = Url::parse(url) else { return false };
    let last = parsed.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let version = last.strip_prefix('v').is_some_and(|number| {
        number.starts_with(|c: char| c.is_ascii_digit())
            && number.len() <= 8
            && number.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    version || BASES.contains(&last)
}

/// Completes a base URL with `path`, after `version` if its path is empty. Other URLs are used unchanged.
fn complete(url: &str, version: &str, path: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else { return url.to_owned() };
    let base = parsed.path().trim_end_matches('/').to_owned();
    if base.is_empty() {
        parsed.set_path(&format!("{version}{path}"));
    } else if !version.is_empty() && (base.ends_with(version) || is_base(url)) {
        parsed.set_path(&format!("{base}{path}"));
    } else {
        return url.to_owned();
    }
    parsed.into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::table::provider;
    use super::*;
    use crate::catalog::model::ProviderId;
    use crate::catalog::options::ModelOptions;
    use mysql_ml_base::account::Account;

    /// A model with provider and type only.
    pub(crate) fn model(provider: &str, model_type: &str) -> Model {
        Model {
            model_id: "m".into(),
            request_url: None,
            provider: ProviderId::parse(provider).unwrap(),
            api: ProviderId::parse(provider).unwrap(),
            model_type: ModelType::parse(model_type).unwrap(),
            qualified_name: None,
            auth_type: None,
            auth_id: None,
            header_fn: None,
            input: None,
            output: None,
            options: ModelOptions::default(),
            built_in: false,
            definer: Account::library(),
            fingerprint: [0; 32],
        }
    }

    /// A model with a name and options.
    pub(crate) fn named(provider: &str, model_type: &str, name: &str, options: &str) -> Model {
        Model {
            qualified_name: Some(name.into()),
            options: ModelOptions::from_json(Some(options)).unwrap(),
            ..model(provider, model_type)
        }
    }

    /// The embedding request for texts, as text.
    pub(crate) fn request(model: &Model, texts: &[&str], role: Role) -> String {
        String::from_utf8(provider(model.provider).embedding_request(model, texts, role).unwrap()).unwrap()
    }

    /// The ranking request for a query and two documents, as text.
    pub(crate) fn ranking(model: &Model, top: usize) -> String {
        let ranking = Ranking { query: "q", documents: &["a", "b"], top };
        String::from_utf8(provider(model.provider).rerank_request(model, &ranking).unwrap()).unwrap()
    }

    /// The URL of a model without a cloud project.
    pub(crate) fn endpoint(model: &Model) -> String {
        provider(model.provider).endpoint(model, &Cloud::default()).unwrap()
    }

    #[test]
    fn base_urls_are_completed_and_others_kept() {
        let e = |u| complete(u, "/v1", "/embeddings");
        assert_eq!(e("http://localhost:11434"), "http://localhost:11434/v1/embeddings");
        assert_eq!(e("https://h/openai/v1/"), "https://h/openai/v1/embeddings");
        assert_eq!(e("https://h/v1/embeddings?api-version=2"), "https://h/v1/embeddings?api-version=2");
        assert_eq!(e("https://h/v1?x=1"), "https://h/v1/embeddings?x=1");
        for base in [
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "https://open.bigmodel.cn/api/paas/v4",
            "https://ark.cn-beijing.volces.com/api/v3",
            "https://api.groq.com/openai/v1",
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
            "https://openrouter.ai/api/v1",
            "https://h/v2",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/endpoints/openapi",
            "https://gateway.ai.cloudflare.com/v1/a/g/compat",
            "https://models.github.ai/inference",
            "https://w.cloud.databricks.com/serving-endpoints",
        ] {
            assert_eq!(e(base), format!("{base}/embeddings"));
            let slash = format!("{base}/");
            assert_eq!(complete(&slash, "/v1", "/embeddings"), format!("{base}/embeddings"));
        }
        for whole in [
            "https://h/x",
            "https://h/v1/embed",
            "https://h/api/v3x/run",
            "https://h/vision",
            "https://h/v",
            "https://h/openai/x",
        ] {
            assert_eq!(e(whole), whole);
        }
        assert_eq!(complete("http://h:8000/v1", "/v2", "/rerank"), "http://h:8000/v1/rerank");
        assert_eq!(complete("https://h/", "", "/embed"), "https://h/embed");
    }

    #[test]
    fn requests_beyond_a_provider_are_errors() {
        let e = require_capability(&model("anthropic", "text_embedding"), Capabilities::default()).unwrap_err();
        assert!(e.message().contains("provider anthropic has no models of model_type text_embedding"), "{e}");
    }
}
