//! Ollama's own API: `POST /api/embed`, `/api/chat`. No key, and usually plain http on the same machine.
//!
//! Follows docs/api.md of Ollama. A text that is too long is an error unless the option `truncate` is true: Ollama's
//! own default truncates silently.

use serde::{Deserialize, Serialize};

use super::body::{self, Input};
use super::chat::Chat;
use super::usage::count;
use super::{
    complete, name_of, require_capability, require_name, BatchLimits, Capabilities, Cloud, Embeddings, Provider, Role,
};
use crate::catalog::model::Model;
use crate::json::numbers::{parse, Numbers};
use crate::json::scan::Scan;
use mysql_ml_base::error::{Error, Result};

/// The provider `ollama`.
pub struct Ollama;

const BASE: &str = "http://localhost:11434";

#[derive(Serialize)]
struct EmbedRequest<'a> {
    model: &'a str,
    input: Input<'a>,
    truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
}

#[derive(Deserialize)]
struct EmbedAnswer {
    embeddings: Vec<Numbers>,
    #[serde(default, deserialize_with = "count")]
    prompt_eval_count: Option<u64>,
}

fn scan_answer(scan: &mut Scan<'_>) -> Option<EmbedAnswer> {
    let (mut embeddings, mut prompt_eval_count) = (None, None);
    scan.object(|name, scan| {
        match name {
            "embeddings" => embeddings = Some(scan.vectors()?.into_iter().map(Numbers).collect()),
            "prompt_eval_count" => prompt_eval_count = scan.value()?,
            _ => scan.skip()?,
        }
        Some(())
    })?;
    Some(EmbedAnswer { embeddings: embeddings?, prompt_eval_count })
}

impl Provider for Ollama {
    fn capabilities(&self) -> Capabilities {
        Capabilities { embedding: true, generate: true, ..Capabilities::default() }
    }

    fn options(&self) -> &'static [&'static str] {
        &["truncate"]
    }

    fn endpoint(&self, model: &Model, _cloud: &Cloud) -> Result<String> {
        let path = if model.model_type.embeds() { "/embed" } else { "/chat" };
        let url = model.request_url.as_deref().unwrap_or(BASE).trim_end_matches('/');
        // A gateway may serve it under a path.
        let url = if url.ends_with("/ollama") { format!("{url}/api") } else { url.to_owned() };
        Ok(complete(&url, "/api", path))
    }

    fn check(&self, model: &Model) -> Result<()> {
        require_capability(model, self.capabilities())?;
        require_name(model, "nomic-embed-text")?;
        if model.request_url.as_deref().and_then(|u| url::Url::parse(u).ok()).is_some_and(|u| u.path().contains("/v1"))
        {
            return Err(Error::invalid(
                "model_request_url is that of Ollama's OpenAI-compatible API; use provider open_ai with it, or give the base http://localhost:11434",
            ));
        }
        Ok(())
    }

    fn batch(&self, _model: &Model) -> BatchLimits {
        BatchLimits { texts: 32, most: 4096, tokens: 300_000 }
    }

    fn embedding_request(&self, model: &Model, texts: &[&str], _role: Role) -> Result<Vec<u8>> {
        body::write(&EmbedRequest {
            model: name_of(model),
            input: Input::new(texts),
            truncate: model.options.truncate.unwrap_or(false),
            dimensions: model.options.dimensions,
        })
    }

    fn read_embeddings(&self, _model: &Model, answer: &[u8], count: usize) -> Result<Embeddings> {
        let EmbedAnswer { embeddings, prompt_eval_count: tokens } = match Scan::whole(answer, scan_answer) {
            Some(read) => read,
            None => parse(answer)?,
        };
        if embeddings.len() != count {
            return Err(Error::response(format!(
                "the endpoint answered with {} vectors for {count} texts",
                embeddings.len()
            )));
        }
        Ok(Embeddings { vectors: embeddings.into_iter().map(|n| n.0).collect(), tokens })
    }

    /// `stream` is on by default and must be off: otherwise each word is an answer of its own.
    fn predict_request(&self, model: &Model, body: &str) -> Result<Vec<u8>> {
        body::with_members(body, &[("model", name_of(model).into()), ("stream", false.into())])
    }

    fn chat(&self, _model: &Model) -> Option<Chat> {
        Some(Chat::Ollama)
    }

    fn probe(&self, _model: &Model) -> Option<String> {
        Some(r#"{"messages":[{"role":"user","content":"Say OK"}]}"#.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{endpoint, named, request};

    #[test]
    fn the_requests_are_ollamas() {
        let m = named("ollama", "text_embedding", "nomic-embed-text", r#"{"dimensions":64}"#);
        assert_eq!(
            request(&m, &["a", "b"], Role::Document),
            r#"{"model":"nomic-embed-text","input":["a","b"],"truncate":false,"dimensions":64}"#
        );
        assert_eq!(endpoint(&m), "http://localhost:11434/api/embed");
        let mut gateway = m.clone();
        for (url, whole) in [
            ("http://h:3000/ollama", "http://h:3000/ollama/api/embed"),
            ("http://h/ollama/", "http://h/ollama/api/embed"),
            ("http://h/api/", "http://h/api/embed"),
            ("http://h/x/embed", "http://h/x/embed"),
        ] {
            gateway.request_url = Some(url.into());
            assert_eq!(endpoint(&gateway), whole);
        }
        let m = named("ollama", "llm", "llama3.2", "{}");
        let body = Ollama.predict_request(&m, r#"{"messages":[]}"#).unwrap();
        assert_eq!(body, br#"{"model":"llama3.2","stream":false,"messages":[]}"#);
    }

    #[test]
    fn the_answer_is_read_and_the_other_api_is_named() {
        let mut m = named("ollama", "text_embedding", "nomic-embed-text", "{}");
        let golden = br#"{"model":"all-minilm","embeddings":[[0.5,-0.5]],"total_duration":14143917,
            "load_duration":1019500,"prompt_eval_count":8}"#;
        let read = Ollama.read_embeddings(&m, golden, 1).unwrap();
        assert_eq!((read.vectors, read.tokens), (vec![vec![0.5, -0.5]], Some(8)));
        assert!(Ollama.read_embeddings(&m, br#"{"embedding":[1]}"#, 1).is_err());
        m.request_url = Some("http://localhost:11434/v1/embeddings".into());
        assert!(Ollama.check(&m).unwrap_err().message().contains("open_ai"));
    }
}
