//! Amazon Bedrock, authorized by a Bedrock API key as a bearer token: `POST /model/ID/invoke` for embeddings (Titan
//! and Cohere models) and rankings (Cohere and Amazon models), `/model/ID/converse` for the rest.
//!
//! Follows the Bedrock runtime API reference. Requests signed with an AWS account's keys are not supported.

use serde::{Deserialize, Serialize};

use super::chat::Chat;
use super::cohere::truncate;
use super::rerank::{Ranking, RerankRequest};
use super::usage::count;
use super::{body, input_type, name_of, require_capability, require_name};
use super::{BatchLimits, Capabilities, Cloud, Embeddings, Provider, Role};
use crate::catalog::model::{Model, ModelType};
use crate::json::numbers::{parse, Numbers};
use mysql_ml_base::error::{Error, Result};

/// The provider `bedrock`.
pub struct Bedrock;

/// The version of Cohere's ranking requests.
const RERANK_VERSION: u64 = 2;

/// The default region.
const REGION: &str = "us-east-1";

/// The region in the ARN of a model, an inference profile or the like.
fn region_of(name: &str) -> Option<&str> {
    let region = name.strip_prefix("arn:")?.split(':').nth(2)?;
    let plain = !region.is_empty() && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plain.then_some(region)
}

/// The request shape of an embedding model.
enum Family {
    Titan { can_shorten: bool },
    Cohere,
}

fn family(model: &Model) -> Result<Family> {
    let name = name_of(model);
    if name.contains("titan-embed") {
        return Ok(Family::Titan { can_shorten: name.contains("text-v2") });
    }
    if name.contains("cohere.embed") {
        return Ok(Family::Cohere);
    }
    Err(Error::invalid(
        "provider bedrock knows the embedding requests of amazon.titan-embed and cohere.embed models; for another one use provider custom with a json: template",
    ))
}

#[derive(Serialize)]
struct TitanRequest<'a> {
    #[serde(rename = "inputText")]
    input_text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
}

#[derive(Serialize)]
struct CohereRequest<'a> {
    texts: &'a [&'a str],
    input_type: &'a str,
    truncate: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    embedding: Option<Numbers>,
    #[serde(default)]
    embeddings: Option<Many>,
    #[serde(default, rename = "inputTextTokenCount", deserialize_with = "count")]
    tokens: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Many {
    Plain(Vec<Numbers>),
    ByType { float: Vec<Numbers> },
}

impl Provider for Bedrock {
    fn capabilities(&self) -> Capabilities {
        Capabilities { embedding: true, generate: true, rerank: true, image: false }
    }

    fn options(&self) -> &'static [&'static str] {
        &["input_type", "query_input_type", "truncate", "location"]
    }

    fn unused_options(&self, model: &Model) -> &'static [&'static str] {
        match family(model) {
            Ok(Family::Cohere) if model.model_type.embeds() => &[],
            _ => &["input_type", "query_input_type", "truncate"],
        }
    }

    fn endpoint(&self, model: &Model, _cloud: &Cloud) -> Result<String> {
        let invoked = model.model_type.embeds() || model.model_type == ModelType::Reranking;
        let call = if invoked { "invoke" } else { "converse" };
        let region = model.options.location.as_deref().or(region_of(name_of(model))).unwrap_or(REGION);
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let path = || format!("/model/{}/{call}", name_of(model).replace('/', "%2F"));
        Ok(match &model.request_url {
            None => format!("https://bedrock-runtime.{region}.amazonaws.com{suffix}{}", path()),
            Some(url) => match url::Url::parse(url) {
                Ok(mut base) if base.path().trim_end_matches('/').is_empty() => {
                    base.set_path(&path());
                    base.into()
                }
                _ => url.clone(),
            },
        })
    }

    fn check(&self, model: &Model) -> Result<()> {
        require_capability(model, self.capabilities())?;
        require_name(model, "amazon.titan-embed-text-v2:0")?;
        if model.model_type.embeds() {
            family(model)?;
        }
        if model.model_type == ModelType::Reranking && !name_of(model).contains(".rerank") {
            return Err(Error::invalid(
                "provider bedrock knows the ranking requests of cohere.rerank and amazon.rerank models; name one of them as model_qualified_name",
            ));
        }
        Ok(())
    }

    fn batch(&self, model: &Model) -> BatchLimits {
        match family(model) {
            Ok(Family::Cohere) => BatchLimits { texts: 96, most: 96, tokens: 100_000 },
            _ => BatchLimits::ONE,
        }
    }

    fn embedding_request(&self, model: &Model, texts: &[&str], role: Role) -> Result<Vec<u8>> {
        match (family(model)?, texts) {
            (Family::Titan { can_shorten }, [text]) => body::write(&TitanRequest {
                input_text: text,
                dimensions: model.options.dimensions.filter(|_| can_shorten),
            }),
            (Family::Titan { .. }, _) => Err(Error::internal("a Titan model takes one text a request")),
            (Family::Cohere, texts) => body::write(&CohereRequest {
                texts,
                input_type: input_type(model, role, "search_document", "search_query"),
                truncate: truncate(model),
            }),
        }
    }

    fn read_embeddings(&self, _model: &Model, answer: &[u8], count: usize) -> Result<Embeddings> {
        let Answer { embedding, embeddings, tokens } = parse(answer)?;
        let found = match (embedding, embeddings) {
            (_, Some(Many::Plain(many) | Many::ByType { float: many })) => many,
            (Some(one), None) => vec![one],
            (None, None) => Vec::new(),
        };
        if found.len() != count {
            return Err(Error::response(format!(
                "the endpoint answered with {} vectors for {count} texts",
                found.len()
            )));
        }
        Ok(Embeddings { vectors: found.into_iter().map(|n| n.0).collect(), tokens })
    }

    fn rerank_request(&self, model: &Model, ranking: &Ranking<'_>) -> Result<Vec<u8>> {
        let api_version = name_of(model).contains("cohere.rerank").then_some(RERANK_VERSION);
        RerankRequest { api_version, ..RerankRequest::new(None, ranking) }.write()
    }

    fn chat(&self, _model: &Model) -> Option<Chat> {
        Some(Chat::Converse)
    }

    fn probe(&self, model: &Model) -> Option<String> {
        if model.model_type == ModelType::Reranking {
            let body = self.rerank_request(model, &Ranking { query: "a", documents: &["a"], top: 1 }).ok()?;
            return String::from_utf8(body).ok();
        }
        Some(r#"{"messages":[{"role":"user","content":[{"text":"Say OK"}]}]}"#.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{endpoint, named, ranking, request};

    #[test]
    fn the_requests_are_those_of_the_models() {
        let titan = named(
            "bedrock",
            "text_embedding",
            "amazon.titan-embed-text-v2:0",
            r#"{"dimensions":256,"location":"eu-west-1"}"#,
        );
        assert_eq!(request(&titan, &["a"], Role::Document), r#"{"inputText":"a","dimensions":256}"#);
        assert_eq!(
            endpoint(&titan),
            "https://bedrock-runtime.eu-west-1.amazonaws.com/model/amazon.titan-embed-text-v2:0/invoke"
        );
        let cohere = named("bedrock", "text_embedding", "cohere.embed-english-v3", "{}");
        assert_eq!(
            request(&cohere, &["a", "b"], Role::Query),
            r#"{"texts":["a","b"],"input_type":"search_query","truncate":"NONE"}"#
        );
        assert!(Bedrock.check(&named("bedrock", "text_embedding", "meta.llama3", "{}")).is_err());
        let llm = named("bedrock", "llm", "anthropic.claude-3-haiku-20240307-v1:0", "{}");
        for (arn, wanted) in [
            (
                "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-3-haiku-20240307-v1:0",
                "https://bedrock-runtime.eu-west-1.amazonaws.com/model/arn:aws:bedrock:eu-west-1:123456789012:inference-profile%2Feu.",
            ),
            ("arn:aws-cn:bedrock:cn-north-1:1:x/y", "https://bedrock-runtime.cn-north-1.amazonaws.com.cn/model/arn:"),
            ("arn:aws:bedrock::1:x/y", "https://bedrock-runtime.us-east-1.amazonaws.com/model/arn:"),
            ("arn:aws:bedrock:evil.example/:1:x", "https://bedrock-runtime.us-east-1.amazonaws.com/model/arn:"),
        ] {
            assert!(endpoint(&named("bedrock", "llm", arn, "{}")).starts_with(wanted), "{arn}");
        }
        let option = named("bedrock", "llm", "arn:aws:bedrock:eu-west-1:1:x/y", r#"{"location":"us-west-2"}"#);
        assert!(endpoint(&option).starts_with("https://bedrock-runtime.us-west-2."));
        assert!(endpoint(&llm).ends_with("/model/anthropic.claude-3-haiku-20240307-v1:0/converse"));
    }

    #[test]
    fn the_answers_are_read() {
        let m = named("bedrock", "text_embedding", "amazon.titan-embed-text-v2:0", "{}");
        let titan = br#"{"embedding":[0.5,1],"embeddingsByType":{"float":[0.5,1]},"inputTextTokenCount":3}"#;
        let read = Bedrock.read_embeddings(&m, titan, 1).unwrap();
        assert_eq!((read.vectors, read.tokens), (vec![vec![0.5, 1.0]], Some(3)));
        let cohere = br#"{"embeddings":[[1,2],[3,4]],"id":"x","response_type":"embeddings_floats","texts":["a","b"]}"#;
        assert_eq!(Bedrock.read_embeddings(&m, cohere, 2).unwrap().vectors.len(), 2);
        let by_type = br#"{"embeddings":{"float":[[1,2]]}}"#;
        assert_eq!(Bedrock.read_embeddings(&m, by_type, 1).unwrap().vectors, [[1.0, 2.0]]);
        assert!(Bedrock.read_embeddings(&m, b"{}", 1).is_err());
    }

    #[test]
    fn the_ranking_requests_are_those_of_the_models() {
        let cohere = named("bedrock", "reranking", "cohere.rerank-v3-5:0", r#"{"location":"us-west-2"}"#);
        assert_eq!(ranking(&cohere, 1), r#"{"query":"q","documents":["a","b"],"top_n":1,"api_version":2}"#);
        let url = "https://bedrock-runtime.us-west-2.amazonaws.com/model/cohere.rerank-v3-5:0/invoke";
        assert_eq!(endpoint(&cohere), url);
        let amazon = named("bedrock", "reranking", "amazon.rerank-v1:0", "{}");
        assert_eq!(ranking(&amazon, 2), r#"{"query":"q","documents":["a","b"],"top_n":2}"#);
        assert!(Bedrock.check(&amazon).is_ok());
        assert!(Bedrock.check(&named("bedrock", "reranking", "amazon.nova-lite-v1:0", "{}")).is_err());
    }
}
