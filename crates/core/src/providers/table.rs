//! The table of providers, one line each.

use super::{
    anthropic, bedrock, cohere, custom, dummy, google, hugging_face, local, mistral, nvidia_nim, ollama, open_ai,
    voyage, Provider,
};
use crate::catalog::model::ProviderId;

/// The provider's code.
pub fn provider(id: ProviderId) -> &'static dyn Provider {
    match id {
        ProviderId::Google => &google::Google,
        ProviderId::OpenAi => &open_ai::OpenAi,
        ProviderId::Anthropic => &anthropic::Anthropic,
        ProviderId::HuggingFace => &hugging_face::HuggingFace,
        ProviderId::NvidiaNim => &nvidia_nim::NvidiaNim,
        ProviderId::Cohere => &cohere::Cohere,
        ProviderId::Voyage => &voyage::Voyage,
        ProviderId::Mistral => &mistral::Mistral,
        ProviderId::Ollama => &ollama::Ollama,
        ProviderId::Bedrock => &bedrock::Bedrock,
        ProviderId::Custom => &custom::Custom,
        ProviderId::BertLocal => &local::BERT,
        ProviderId::ClipLocal => &local::CLIP,
        ProviderId::T5Local => &local::T5,
        ProviderId::StaticLocal => &local::STATIC,
        ProviderId::BertRerankLocal => &local::RERANK,
        ProviderId::Dummy => &dummy::Dummy,
    }
}
