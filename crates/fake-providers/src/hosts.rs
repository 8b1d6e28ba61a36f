//! The hosts that the endpoint serves.

use std::borrow::Cow;

/// A host that the endpoint serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// Its paths are below this prefix.
    Under(&'static str),
    /// NVIDIA's host for ranking models, each with a path of its own.
    NvidiaRetrieval,
}

impl Host {
    pub(crate) fn find(name: &str) -> Option<Self> {
        let between = |prefix: &str, suffix: &str| {
            name.strip_prefix(prefix)
                .and_then(|rest| rest.strip_suffix(suffix))
                .is_some_and(|middle| !middle.is_empty() && !middle.contains('.'))
        };
        let prefix = match name {
            "api.openai.com" => "/openai",
            "api.anthropic.com" => "/anthropic",
            "router.huggingface.co" | "api-inference.huggingface.co" => "/huggingface",
            "aiplatform.googleapis.com" | "aiplatform.us.rep.googleapis.com" | "aiplatform.eu.rep.googleapis.com" => {
                "/vertex"
            }
            "generativelanguage.googleapis.com" => "/gemini",
            "discoveryengine.googleapis.com" => "/discovery",
            "oauth2.googleapis.com" => "/google-oauth",
            "sts.googleapis.com" => "/google-sts",
            "iamcredentials.googleapis.com" => "/iamcredentials",
            "secretmanager.googleapis.com" => "/secretmanager",
            "integrate.api.nvidia.com" => "/nim",
            "ai.api.nvidia.com" => return Some(Self::NvidiaRetrieval),
            "api.cohere.com" => "/cohere",
            "api.voyageai.com" => "/voyage",
            "api.mistral.ai" => "/mistral",
            "cymbal.com" | "huggingface.co" => "",
            _ if between("", ".openai.azure.com") => "/azure",
            _ if between("", "-aiplatform.googleapis.com") => "/vertex",
            _ if between("secretmanager.", ".rep.googleapis.com") => "/secretmanager",
            _ if between("bedrock-runtime.", ".amazonaws.com") => "/bedrock",
            _ => match name.strip_suffix(".example")?.split('.').next() {
                Some("tei") => "/tei",
                Some("nim") => "/nim",
                Some("ollama") => "/ollama",
                _ => "",
            },
        };
        Some(Self::Under(prefix))
    }

    /// The endpoint's path for a path of the host.
    pub(crate) fn local_path<'p>(&self, path: &'p str) -> Cow<'p, str> {
        match self {
            Self::Under("") => path.into(),
            Self::Under(prefix) => format!("{prefix}{path}").into(),
            Self::NvidiaRetrieval => match path.split('/').collect::<Vec<_>>().as_slice() {
                ["", "v1", "retrieval", _, _, "reranking"] => "/nim/v1/ranking".into(),
                _ => format!("/nim{path}").into(),
            },
        }
    }
}
