//! The provider names of EDB's model registry; each implies a provider and a type.

use crate::catalog::model::{ModelType, ProviderId};

/// The meaning of one of EDB's names.
pub struct EdbProvider {
    /// EDB's name.
    pub name: &'static str,
    /// Our provider.
    pub provider: ProviderId,
    /// The type it implies.
    pub model_type: ModelType,
    /// EDB's documented default model.
    pub default_model: Option<&'static str>,
}

/// EDB's names of remote models. Its local ones have the same names here.
const NAMES: [EdbProvider; 8] = [
    edb("embeddings", ProviderId::OpenAi, ModelType::TextEmbedding, Some("text-embedding-3-small")),
    edb("openai_embeddings", ProviderId::OpenAi, ModelType::TextEmbedding, Some("text-embedding-3-small")),
    edb("completions", ProviderId::OpenAi, ModelType::Llm, Some("gpt-4o")),
    edb("openai_completions", ProviderId::OpenAi, ModelType::Llm, Some("gpt-4o")),
    edb("nim_embeddings", ProviderId::NvidiaNim, ModelType::TextEmbedding, Some("nvidia/nv-embedqa-e5-v5")),
    edb("nim_completions", ProviderId::NvidiaNim, ModelType::Llm, None),
    edb("nim_clip", ProviderId::NvidiaNim, ModelType::MultimodalEmbedding, Some("nvidia/nvclip")),
    edb("nim_reranking", ProviderId::NvidiaNim, ModelType::Reranking, Some("nvidia/llama-3.2-nv-rerankqa-1b-v2")),
];

const fn edb(
    name: &'static str,
    provider: ProviderId,
    model_type: ModelType,
    default_model: Option<&'static str>,
) -> EdbProvider {
    EdbProvider { name, provider, model_type, default_model }
}

/// The meaning of an EDB name; `None` for other names.
pub fn find(name: &str) -> Option<&'static EdbProvider> {
    NAMES.iter().find(|e| e.name.eq_ignore_ascii_case(name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_without_case() {
        let clip = find("NIM_CLIP").unwrap();
        assert_eq!((clip.provider, clip.model_type), (ProviderId::NvidiaNim, ModelType::MultimodalEmbedding));
        assert!(find("bert_local").is_none());
    }
}
