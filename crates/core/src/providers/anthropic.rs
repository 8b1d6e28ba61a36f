//! Anthropic's Messages API: `POST /v1/messages`. It has no embeddings.
//!
//! Follows Anthropic's API reference: the key in `x-api-key`, the API's version in `anthropic-version`.

use url::Url;

use super::chat::Chat;
use super::{body, complete, probe_of, require_capability, Capabilities, Cloud, Embeddings, KeyHeader, Provider, Role};
use crate::catalog::model::Model;
use mysql_ml_base::error::{Error, Result};

/// The provider `anthropic`.
pub struct Anthropic;

/// The API's base.
pub const BASE: &str = "https://api.anthropic.com";

/// The header that names the API's version.
pub const VERSION_HEADER: &str = "anthropic-version";

/// The default of the option `api_version`.
pub const VERSION: &str = "2023-06-01";

impl Provider for Anthropic {
    fn capabilities(&self) -> Capabilities {
        Capabilities { generate: true, ..Capabilities::default() }
    }

    fn options(&self) -> &'static [&'static str] {
        &["api_version"]
    }

    fn endpoint(&self, model: &Model, _cloud: &Cloud) -> Result<String> {
        let url = model.request_url.as_deref().unwrap_or(BASE);
        // Anthropic's own clients append this path to a base URL.
        let bare = url.trim_end_matches('/');
        let url = if bare.ends_with("/anthropic") { format!("{bare}/v1") } else { url.to_owned() };
        Ok(complete(&url, "/v1", "/messages"))
    }

    fn key_header(&self, _url: &Url) -> KeyHeader {
        KeyHeader::Named("x-api-key")
    }

    fn headers(&self, model: &Model) -> Vec<(&'static str, String)> {
        vec![(VERSION_HEADER, model.options.api_version.as_deref().unwrap_or(VERSION).to_owned())]
    }

    fn check(&self, model: &Model) -> Result<()> {
        require_capability(model, self.capabilities())
    }

    fn embedding_request(&self, _model: &Model, _texts: &[&str], _role: Role) -> Result<Vec<u8>> {
        Err(Error::invalid("provider anthropic has no embeddings; use another provider for them"))
    }

    fn read_embeddings(&self, _model: &Model, _answer: &[u8], _count: usize) -> Result<Embeddings> {
        Err(Error::internal("an embedding of provider anthropic"))
    }

    fn predict_request(&self, model: &Model, body: &str) -> Result<Vec<u8>> {
        body::with_model(body, model.qualified_name.as_deref())
    }

    fn chat(&self, _model: &Model) -> Option<Chat> {
        Some(Chat::Anthropic)
    }

    fn probe(&self, model: &Model) -> Option<String> {
        probe_of(self, model, &["/messages"], r#"{"max_tokens":16,"messages":[{"role":"user","content":"Say OK"}]}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{endpoint, model, named};

    #[test]
    fn a_message_gets_its_model_version_and_key_header() {
        let m = named("anthropic", "generic", "claude-3-opus-20240229", "{}");
        let golden = r#"{"max_tokens":10,"messages":[{"role":"user","content":"hi"}]}"#;
        assert_eq!(
            String::from_utf8(Anthropic.predict_request(&m, golden).unwrap()).unwrap(),
            r#"{"model":"claude-3-opus-20240229","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}"#
        );
        assert_eq!(endpoint(&m), "https://api.anthropic.com/v1/messages");
        let mut other = m.clone();
        for url in ["https://api.deepseek.com/anthropic", "https://api.deepseek.com/anthropic/"] {
            other.request_url = Some(url.into());
            assert_eq!(endpoint(&other), "https://api.deepseek.com/anthropic/v1/messages");
        }
        assert_eq!(Anthropic.headers(&m), [("anthropic-version", "2023-06-01".to_owned())]);
        assert_eq!(Anthropic.key_header(&Url::parse(BASE).unwrap()), KeyHeader::Named("x-api-key"));
        assert!(Anthropic.check(&model("anthropic", "text_embedding")).is_err());
    }
}
