//! OpenAI, Azure OpenAI, and every service with OpenAI's API: `POST /v1/embeddings`, `POST /v1/chat/completions`;
//! of others also `POST /v1/rerank`.
//!
//! Follows OpenAI's published API specification and Azure's.

use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use super::body::{self, Input};
use super::chat::Chat;
use super::encoding_format::encoding_format;
use super::rerank::{Ranking, RerankRequest};
use super::usage::{count, EmbeddingUsage};
use super::{
    complete, name_of, probe_of, require_capability, require_name, BatchLimits, Capabilities, Cloud, Embeddings,
    KeyHeader, Provider, Role,
};
use crate::catalog::model::{Model, ModelType};
use crate::json::numbers::{parse, Numbers};
use crate::json::scan::Scan;
use mysql_ml_base::error::{Error, Result};

/// The provider `open_ai`.
pub struct OpenAi;

/// The API's base.
pub const BASE: &str = "https://api.openai.com";

/// The default of the option `api_version` on Azure.
const AZURE_API_VERSION: &str = "2024-10-21";

/// The same for the models that Azure serves besides OpenAI's, at `/models`.
const AZURE_MODELS_VERSION: &str = "2024-05-01-preview";

#[derive(Serialize)]
struct EmbeddingRequest<'a> {
    model: &'a str,
    input: Input<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'static str>,
}

/// The list of vectors in answers of OpenAI and many others.
#[derive(Deserialize)]
struct EmbeddingList {
    data: Vec<Item>,
    #[serde(default)]
    usage: Option<EmbeddingUsage>,
}

#[derive(Deserialize)]
struct Item {
    embedding: Numbers,
    #[serde(default, deserialize_with = "place")]
    index: Option<usize>,
}

/// An index in the list, as a number or a text.
fn place<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<usize>, D::Error> {
    Ok(count(deserializer)?.and_then(|place| usize::try_from(place).ok()))
}

fn scan_list(scan: &mut Scan<'_>) -> Option<EmbeddingList> {
    let (mut data, mut usage) = (None, None);
    scan.object(|name, scan| {
        match name {
            "data" => {
                let mut items = Vec::new();
                scan.array(|scan| {
                    items.push(scan_item(scan)?);
                    Some(())
                })?;
                data = Some(items);
            }
            "usage" => usage = scan.value()?,
            _ => scan.skip()?,
        }
        Some(())
    })?;
    Some(EmbeddingList { data: data?, usage })
}

fn scan_item(scan: &mut Scan<'_>) -> Option<Item> {
    let (mut embedding, mut index) = (None, None);
    scan.object(|name, scan| {
        match name {
            "embedding" => embedding = Some(Numbers(scan.vector()?)),
            "index" => index = scan.value()?,
            _ => scan.skip()?,
        }
        Some(())
    })?;
    Some(Item { embedding: embedding?, index })
}

/// The documented width of an OpenAI model's vectors, to detect wrong widths that base64 would hide.
fn known_width(model: &Model) -> Option<usize> {
    let own = model.request_url.as_deref().is_none_or(|url| url.starts_with("https://api.openai.com/"));
    match name_of(model) {
        _ if !own || model.options.dimensions.is_some() => None,
        "text-embedding-3-small" | "text-embedding-ada-002" => Some(1536),
        "text-embedding-3-large" => Some(3072),
        _ => None,
    }
}

/// Reads an answer in OpenAI's form: `count` vectors, sorted by their indexes if they have any.
pub fn read_list(answer: &[u8], count: usize) -> Result<Embeddings> {
    let EmbeddingList { mut data, usage } = match Scan::whole(answer, scan_list) {
        Some(list) => list,
        None => parse(answer)?,
    };
    if data.len() != count {
        return Err(Error::response(format!("the endpoint answered with {} vectors for {count} texts", data.len())));
    }
    if data.iter().all(|item| item.index.is_some()) {
        data.sort_by_key(|item| item.index);
        // Some servers give every item the index 0; their items are in order.
        let in_order = data.iter().enumerate().all(|(i, item)| item.index == Some(i));
        let all_same = data.iter().all(|item| item.index == Some(0));
        if !in_order && !all_same {
            return Err(Error::response("the endpoint's vectors have indexes that are not those of the texts"));
        }
    }
    let vectors = data.into_iter().map(|item| item.embedding.0).collect();
    Ok(Embeddings { vectors, tokens: usage.and_then(|u| u.tokens()) })
}

/// The path of a call.
pub fn path(model_type: ModelType) -> &'static str {
    match model_type {
        ModelType::TextEmbedding | ModelType::MultimodalEmbedding => "/embeddings",
        ModelType::Reranking => "/rerank",
        ModelType::Llm | ModelType::Generic => "/chat/completions",
    }
}

/// The smallest chat request.
pub const CHAT_PROBE: &str = r#"{"messages":[{"role":"user","content":"Say OK"}]}"#;

/// Whether a host is Azure's.
fn is_azure(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let azure = [".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com", ".openai.azure.us"];
    azure.iter().any(|suffix| host.ends_with(suffix)) || url.path().contains("/openai/deployments/")
}

/// Whether a URL is one of Ollama's own calls, which have other shapes. Other services have `/api/embeddings` too.
fn is_ollamas(url: &Url) -> bool {
    match url.path().trim_end_matches('/') {
        "/api/embed" | "/api/chat" | "/api/generate" => true,
        "/api/embeddings" => url.port() == Some(11434),
        _ => false,
    }
}

/// Azure's URL: `/openai/deployments/NAME/embeddings?api-version=`, from a resource's base; `/openai/v1` takes calls
/// as OpenAI's own API does.
fn azure_endpoint(mut url: Url, model: &Model) -> String {
    let base = url.path().trim_end_matches('/').to_owned();
    let call = path(model.model_type);
    if base.ends_with("/openai/v1") {
        url.set_path(&format!("{base}{call}"));
        return url.into();
    }
    if base == "/models" {
        // Models of other makers; the request names them.
        url.set_path(&format!("{base}{call}"));
        if !url.query_pairs().any(|(name, _)| name == "api-version") {
            let version = model.options.api_version.as_deref().unwrap_or(AZURE_MODELS_VERSION);
            url.query_pairs_mut().append_pair("api-version", version);
        }
        return url.into();
    }
    if base.is_empty() || base == "/openai" {
        url.set_path(&format!("/openai/deployments/{}{call}", name_of(model)));
    } else if base.rsplit('/').nth(1) == Some("deployments") {
        url.set_path(&format!("{base}{call}"));
    }
    if url.path().contains("/deployments/") && !url.query_pairs().any(|(name, _)| name == "api-version") {
        let version = model.options.api_version.as_deref().unwrap_or(AZURE_API_VERSION);
        url.query_pairs_mut().append_pair("api-version", version);
    }
    url.into()
}

impl Provider for OpenAi {
    fn capabilities(&self) -> Capabilities {
        Capabilities { embedding: true, generate: true, rerank: true, image: false }
    }

    fn options(&self) -> &'static [&'static str] {
        &["api_version", "encoding_format"]
    }

    /// A base URL (`http://localhost:11434`, `.../v1`) gets the call's path; other URLs are used unchanged.
    fn endpoint(&self, model: &Model, _cloud: &Cloud) -> Result<String> {
        let url = model.request_url.as_deref().unwrap_or(BASE);
        Ok(match Url::parse(url) {
            Ok(parsed) if is_azure(&parsed) => azure_endpoint(parsed, model),
            _ => complete(url, "/v1", path(model.model_type)),
        })
    }

    fn key_header(&self, url: &Url) -> KeyHeader {
        if is_azure(url) {
            KeyHeader::Named("api-key")
        } else {
            KeyHeader::Bearer
        }
    }

    fn check(&self, model: &Model) -> Result<()> {
        require_capability(model, self.capabilities())?;
        if model.model_type.embeds() {
            require_name(model, "text-embedding-3-small")?;
        }
        let url = model.request_url.as_deref().and_then(|url| Url::parse(url).ok());
        let own = url.as_ref().is_none_or(|url| url.host_str() == Some("api.openai.com") || is_azure(url));
        if model.model_type == ModelType::Reranking && own {
            return Err(Error::invalid(
                "OpenAI and Azure OpenAI have no models that rank; give the URL of a server with /v1/rerank, such as 'https://api.jina.ai/v1', as model_request_url",
            ));
        }
        if url.is_some_and(|url| is_ollamas(&url)) {
            return Err(Error::invalid(
                "model_request_url is that of Ollama's own API; use provider ollama with it, or give the base http://localhost:11434",
            ));
        }
        Ok(())
    }

    fn batch(&self, model: &Model) -> BatchLimits {
        // OpenAI's own limits. Compatible servers have others and report them when a request is too large.
        match &model.request_url {
            Some(url) if !url.contains("api.openai.com") && !url.contains(".azure.com") => {
                BatchLimits { texts: 64, most: 4096, tokens: 300_000 }
            }
            _ => BatchLimits { texts: 128, most: 2048, tokens: 300_000 },
        }
    }

    fn embedding_request(&self, model: &Model, texts: &[&str], _role: Role) -> Result<Vec<u8>> {
        body::write(&EmbeddingRequest {
            model: name_of(model),
            input: Input::new(texts),
            dimensions: model.options.dimensions,
            encoding_format: encoding_format(model, BASE),
        })
    }

    fn read_embeddings(&self, model: &Model, answer: &[u8], count: usize) -> Result<Embeddings> {
        let read = read_list(answer, count)?;
        match (known_width(model), read.vectors.iter().map(Vec::len).find(|n| Some(*n) != known_width(model))) {
            (Some(wanted), Some(width)) => Err(Error::response(format!(
                "the endpoint answered with {width} dimensions, but {} has {wanted}; check what answers in OpenAI's place",
                name_of(model)
            ))),
            _ => Ok(read),
        }
    }

    /// Jina's form, which servers with OpenAI's API have beside it.
    fn rerank_request(&self, model: &Model, ranking: &Ranking<'_>) -> Result<Vec<u8>> {
        RerankRequest { return_documents: Some(false), ..RerankRequest::new(Some(name_of(model)), ranking) }.write()
    }

    fn predict_request(&self, model: &Model, body: &str) -> Result<Vec<u8>> {
        body::with_model(body, model.qualified_name.as_deref())
    }

    fn chat(&self, model: &Model) -> Option<Chat> {
        let url = Url::parse(model.request_url.as_deref().unwrap_or(BASE)).ok()?;
        // OpenAI's newer models refuse the older name; other services know only that one.
        let own = is_azure(&url) || url.host_str() == Some("api.openai.com");
        Some(if own { Chat::OpenAi { limit: "max_completion_tokens", seed: "seed" } } else { Chat::COMPATIBLE })
    }

    fn probe(&self, model: &Model) -> Option<String> {
        match model.model_type {
            ModelType::Reranking => probe_of(self, model, &["/rerank"], r#"{"query":"a","documents":["a"]}"#),
            _ => probe_of(self, model, &["/chat/completions"], CHAT_PROBE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{endpoint, model, named, ranking, request};

    #[test]
    fn the_request_is_openais() {
        let m = named("open_ai", "text_embedding", "text-embedding-3-small", "{}");
        let golden = r#"{"model":"text-embedding-3-small","input":"a \"b\" é\n","encoding_format":"base64"}"#;
        assert_eq!(request(&m, &["a \"b\" é\n"], Role::Document), golden);
        let m = named("open_ai", "text_embedding", "text-embedding-3-small", r#"{"dimensions":256}"#);
        let golden =
            r#"{"model":"text-embedding-3-small","input":["x","y"],"dimensions":256,"encoding_format":"base64"}"#;
        assert_eq!(request(&m, &["x", "y"], Role::Query), golden);
        let mut m = named("open_ai", "text_embedding", "nomic", "{}");
        m.request_url = Some("http://localhost:8080".into());
        assert_eq!(request(&m, &["x"], Role::Query), r#"{"model":"nomic","input":"x"}"#);
    }

    #[test]
    fn the_answer_is_read_in_the_order_of_the_indexes() {
        let m = model("open_ai", "text_embedding");
        let golden = br#"{"object":"list","data":[{"object":"embedding","index":1,"embedding":[0.5,-0.25]},
            {"object":"embedding","index":0,"embedding":[1,0]}],
            "model":"text-embedding-3-small","usage":{"prompt_tokens":5,"total_tokens":5}}"#;
        let read = OpenAi.read_embeddings(&m, golden, 2).unwrap();
        assert_eq!(read.vectors, [[1.0, 0.0], [0.5, -0.25]]);
        assert_eq!(read.tokens, Some(5));
        assert!(OpenAi.read_embeddings(&m, golden, 1).is_err());
        for bad in [&b"{\"data\":[]}"[..], b"{}", b"[]", b"", br#"{"data":[{"embedding":null}]}"#] {
            assert!(OpenAi.read_embeddings(&m, bad, 1).is_err());
        }
        for odd in [
            r#"{"data":[{"index":"1","embedding":[0.5,-0.25]},{"index":0.0,"embedding":[1,0]}],"usage":"none"}"#,
            r#"{"data":[],"data":[{"index":1,"embedding":[0.5,-0.25]},{"index":0,"embedding":[1,0]}],"usage":[1]}"#,
        ] {
            assert_eq!(
                OpenAi.read_embeddings(&m, odd.as_bytes(), 2).unwrap().vectors,
                [[1.0, 0.0], [0.5, -0.25]],
                "{odd}"
            );
        }
        let base64 = br#"{"data":[{"index":0,"embedding":"AACAPwAAIMA="}]}"#;
        assert_eq!(OpenAi.read_embeddings(&m, base64, 1).unwrap().vectors, [[1.0, -2.5]]);
        let named = named("open_ai", "text_embedding", "text-embedding-3-small", "{}");
        let error = OpenAi.read_embeddings(&named, base64, 1).unwrap_err();
        assert!(error.message().contains("2 dimensions, but text-embedding-3-small has 1536"), "{error}");
        let wrong = br#"{"data":[{"index":3,"embedding":[1]},{"index":1,"embedding":[2]}]}"#;
        assert!(OpenAi.read_embeddings(&m, wrong, 2).is_err());
    }

    #[test]
    fn urls_are_openais_or_completed() {
        let mut m = named("open_ai", "text_embedding", "text-embedding-3-small", "{}");
        assert_eq!(endpoint(&m), "https://api.openai.com/v1/embeddings");
        m.request_url = Some("http://localhost:11434".into());
        assert_eq!(endpoint(&m), "http://localhost:11434/v1/embeddings");
        assert_eq!(endpoint(&model("open_ai", "generic")), "https://api.openai.com/v1/chat/completions");
    }

    #[test]
    fn azures_urls_and_header() {
        let mut m = named("open_ai", "text_embedding", "my-deployment", "{}");
        for (url, wanted) in [
            (
                "https://r.openai.azure.com",
                "https://r.openai.azure.com/openai/deployments/my-deployment/embeddings?api-version=2024-10-21",
            ),
            (
                "https://r.openai.azure.com/openai/deployments/d",
                "https://r.openai.azure.com/openai/deployments/d/embeddings?api-version=2024-10-21",
            ),
            (
                "https://r.openai.azure.com/openai/deployments/d/embeddings?api-version=2023-05-15",
                "https://r.openai.azure.com/openai/deployments/d/embeddings?api-version=2023-05-15",
            ),
            ("https://r.openai.azure.com/openai/v1/", "https://r.openai.azure.com/openai/v1/embeddings"),
            (
                "https://r.services.ai.azure.com/models",
                "https://r.services.ai.azure.com/models/embeddings?api-version=2024-05-01-preview",
            ),
        ] {
            m.request_url = Some(url.into());
            assert_eq!(endpoint(&m), wanted);
            assert_eq!(OpenAi.key_header(&Url::parse(wanted).unwrap()), KeyHeader::Named("api-key"));
        }
        assert_eq!(OpenAi.key_header(&Url::parse(BASE).unwrap()), KeyHeader::Bearer);
    }

    #[test]
    fn a_missing_model_is_filled_in() {
        let m = named("open_ai", "generic", "gpt-4o", "{}");
        let filled = OpenAi.predict_request(&m, r#"{"messages":[]}"#).unwrap();
        assert_eq!(filled, br#"{"model":"gpt-4o","messages":[]}"#);
    }

    #[test]
    fn the_ranking_request_is_jinas() {
        let mut m = named("open_ai", "reranking", "jina-reranker-v2-base-multilingual", "{}");
        assert!(OpenAi.check(&m).unwrap_err().message().contains("/v1/rerank"));
        m.request_url = Some("https://api.jina.ai/v1".into());
        assert!(OpenAi.check(&m).is_ok());
        assert_eq!(endpoint(&m), "https://api.jina.ai/v1/rerank");
        let golden = r#"{"model":"jina-reranker-v2-base-multilingual","query":"q","documents":["a","b"],"top_n":1,"return_documents":false}"#;
        assert_eq!(ranking(&m, 1), golden);
    }
}
