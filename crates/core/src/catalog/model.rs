//! A registered model.

use sha2::{Digest, Sha256};

use super::function_name::FunctionName;
pub use super::ids::{check_id, MAX_ID_CHARS};
use super::options::ModelOptions;
use crate::json::template::{JsonPath, JsonTemplate};
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{Error, Result};

/// An enumeration of the SQL surface: its values, spelled as users write them, matched without case.
macro_rules! sql_enum {
    ($(#[$doc:meta])* $name:ident, $argument:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal $(| $alias:literal)*,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The spelling in storage and in output.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Reads a value; the error names the argument, the value and the accepted ones.
            pub fn parse(text: &str) -> Result<Self> {
                let wanted = text.trim().to_ascii_lowercase();
                match wanted.as_str() {
                    $($text $(| $alias)* => Ok(Self::$variant),)*
                    _ => Err(Error::invalid(format!(
                        concat!($argument, " '{}' is not known; accepted: {}"),
                        mysql_ml_base::error::cut(text, 60),
                        [$($text),*].join(", ")
                    ))),
                }
            }
        }
    };
}

sql_enum! {
    /// The provider: selects the shape of requests and answers.
    ProviderId, "model_provider" {
        /// Vertex AI, the Gemini API, Discovery Engine.
        Google = "google" | "vertex_ai" | "gemini",
        /// OpenAI, Azure OpenAI and any service with OpenAI's API.
        OpenAi = "open_ai" | "openai" | "azure_openai",
        /// Anthropic's Messages API.
        Anthropic = "anthropic",
        /// Hugging Face Inference and Text Embeddings Inference.
        HuggingFace = "hugging_face" | "huggingface",
        /// NVIDIA NIM.
        NvidiaNim = "nvidia_nim" | "nim",
        /// Cohere.
        Cohere = "cohere",
        /// Voyage AI.
        Voyage = "voyage" | "voyage_ai" | "voyageai",
        /// Mistral AI.
        Mistral = "mistral" | "mistral_ai",
        /// Ollama's own API.
        Ollama = "ollama",
        /// Amazon Bedrock, with a Bedrock API key.
        Bedrock = "bedrock" | "aws_bedrock",
        /// Any JSON service, by transform functions or templates.
        Custom = "custom",
        /// An encoder of the BERT family that runs inside the server.
        BertLocal = "bert_local",
        /// CLIP inside the server.
        ClipLocal = "clip_local",
        /// T5 inside the server.
        T5Local = "t5_local",
        /// A static embedding inside the server.
        StaticLocal = "static_local" | "model2vec",
        /// A cross-encoder of the BERT family inside the server.
        BertRerankLocal = "bert_rerank_local",
        /// A lexical embedding computed in the server, without a model.
        Dummy = "dummy",
    }
}

sql_enum! {
    /// The kind of a model's input and output.
    ModelType, "model_type" {
        /// `ml_embedding`.
        TextEmbedding = "text_embedding",
        /// `ml_embedding` of texts, by a model that also embeds images.
        MultimodalEmbedding = "multimodal_embedding",
        /// Ranks documents for a query, by `ai.rerank`.
        Reranking = "reranking",
        /// A language model, by `ml_predict_row`.
        Llm = "llm",
        /// Any JSON service, by `ml_predict_row`.
        Generic = "generic",
    }
}

impl ModelType {
    /// Whether `ml_embedding` accepts the model.
    pub fn embeds(self) -> bool {
        matches!(self, ModelType::TextEmbedding | ModelType::MultimodalEmbedding)
    }
}

sql_enum! {
    /// The authentication of requests.
    AuthType, "model_auth_type" {
        /// A registered secret, named by `model_auth_id`.
        SecretManager = "auth_type_secret_manager" | "secret_manager",
        /// The identity of the cloud machine.
        ServiceAgentIam = "auth_type_cloudsql_service_agent_iam" | "cloudsql_service_agent_iam" | "alloydb_service_agent_iam",
    }
}

/// Makes a request body from a text.
#[derive(Debug, Clone, PartialEq)]
pub enum InputTransform {
    /// A stored function `(model_id, input_text) -> JSON`.
    Function(FunctionName),
    /// `json:` and a JSON document with `{{input}}` in it.
    Template(JsonTemplate),
}

/// Finds the vector in an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputTransform {
    /// A stored function `(model_id, response_json) -> BLOB`.
    Function(FunctionName),
    /// `path:` and a JSON path to an array of numbers.
    Path(JsonPath),
}

impl InputTransform {
    /// Reads the stored text.
    pub fn parse(text: &str) -> Result<Self> {
        match text.strip_prefix("json:") {
            Some(template) => Ok(Self::Template(JsonTemplate::parse(template)?)),
            None => Ok(Self::Function(FunctionName::parse(text)?)),
        }
    }
}

impl OutputTransform {
    /// Reads the stored text.
    pub fn parse(text: &str) -> Result<Self> {
        match text.strip_prefix("path:") {
            Some(path) => Ok(Self::Path(JsonPath::parse(path)?)),
            None => Ok(Self::Function(FunctionName::parse(text)?)),
        }
    }
}

/// A registered model, as the engine uses it.
#[derive(Debug, Clone)]
pub struct Model {
    /// The id in SQL.
    pub model_id: String,
    /// The endpoint's URL; `None` if the provider has a default or needs none.
    pub request_url: Option<String>,
    /// The registered provider.
    pub provider: ProviderId,
    /// The wire format: the provider's, or that of a built-in function in the registration.
    pub api: ProviderId,
    /// The registered model type.
    pub model_type: ModelType,
    /// The provider's name of the model.
    pub qualified_name: Option<String>,
    /// The authentication of requests; `None`: no key.
    pub auth_type: Option<AuthType>,
    /// The secret's id.
    pub auth_id: Option<String>,
    /// Stored function that makes headers from the input.
    pub header_fn: Option<FunctionName>,
    /// Transform that makes the request body; `None`: the provider's own.
    pub input: Option<InputTransform>,
    /// Transform that reads the answer; `None`: the provider's own.
    pub output: Option<OutputTransform>,
    /// The options set with `ml_set_model_options`.
    pub options: ModelOptions,
    /// Whether it comes from the built-in catalogue and is not registered.
    pub built_in: bool,
    /// The account that registered it; its functions run as this account.
    pub definer: Account,
    /// SHA-256 of everything that may change a result.
    pub fingerprint: [u8; 32],
}

/// The backend that computes a model's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// An endpoint.
    Remote,
    /// A model in this process.
    Local,
    /// A hash of the text: provider `dummy`.
    Dummy,
}

impl Model {
    /// An error if the model does not embed.
    pub fn must_embed(&self) -> Result<()> {
        if self.model_type.embeds() {
            return Ok(());
        }
        let other = if self.model_type == ModelType::Reranking { "ai.rerank" } else { "ml_predict_row" };
        Err(Error::invalid(format!(
            "model '{}' has model_type {}; call {other}, or register it as text_embedding",
            self.model_id,
            self.model_type.as_str()
        )))
    }

    /// The backend. Registrations with transforms are always remote.
    pub fn backend(&self) -> Backend {
        if self.input.is_some() {
            return Backend::Remote;
        }
        match self.api {
            ProviderId::BertLocal
            | ProviderId::ClipLocal
            | ProviderId::T5Local
            | ProviderId::StaticLocal
            | ProviderId::BertRerankLocal => Backend::Local,
            ProviderId::Dummy => Backend::Dummy,
            _ => Backend::Remote,
        }
    }

    /// A SHA-256 digest of everything that determines a model's answers.
    pub fn fingerprint(parts: &[Option<&str>]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in parts {
            match part {
                None => hash.update([0]),
                Some(text) => {
                    hash.update([1]);
                    hash.update((text.len() as u64).to_le_bytes());
                    hash.update(text.as_bytes());
                }
            }
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enumerations_are_matched_without_case_and_by_alias() {
        assert_eq!(ProviderId::parse("OPEN_AI").unwrap(), ProviderId::OpenAi);
        assert_eq!(AuthType::parse("SECRET_MANAGER").unwrap().as_str(), "auth_type_secret_manager");
        let e = ModelType::parse("embeddings").unwrap_err();
        assert_eq!(e.message(), "model_type 'embeddings' is not known; accepted: text_embedding, multimodal_embedding, reranking, llm, generic");
    }

    #[test]
    fn fingerprints_distinguish_null_from_empty_and_keep_borders() {
        let f = Model::fingerprint;
        assert_ne!(f(&[None]), f(&[Some("")]));
        assert_ne!(f(&[Some("ab"), Some("c")]), f(&[Some("a"), Some("bc")]));
    }

    #[test]
    fn ids_are_checked() {
        assert!(check_id("model_id", "gpt-4o").is_ok());
        assert!(check_id("model_id", "").is_err());
        assert!(check_id("model_id", " a").is_err());
        assert!(check_id("model_id", &"é".repeat(100)).is_ok());
        assert!(check_id("model_id", &"é".repeat(101)).is_err());
    }
}
