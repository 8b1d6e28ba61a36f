//! The Google API and URL of a model.

use url::Url;

use super::Cloud;
use crate::catalog::model::{AuthType, Model, ModelType};
use mysql_ml_base::error::{cut, Error, Kind, Result};

/// The default location.
const LOCATION: &str = "us-central1";

/// An API of Google's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Vertex AI `:predict` with `instances` of texts.
    Predict,
    /// Vertex AI `:predict` of the multimodal embedding model.
    Multimodal,
    /// Vertex AI `:embedContent`.
    EmbedContent,
    /// The Gemini Developer API's `:embedContent`.
    GeminiEmbedContent,
    /// Discovery Engine's ranking.
    Ranking,
    /// A Claude model on Vertex AI.
    Claude,
    /// Other methods, selected by the model's name: `:generateContent` and others.
    AsGiven,
}

/// A model's name in its parts: `[projects/P/locations/L/][publishers/PUB/models/]NAME[:METHOD]`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Name<'m> {
    project: Option<&'m str>,
    location: Option<&'m str>,
    publisher: Option<&'m str>,
    /// An endpoint of one's own instead of a publisher's model.
    endpoint: Option<&'m str>,
    name: &'m str,
    method: Option<&'m str>,
}

impl<'m> Name<'m> {
    fn read(text: &'m str) -> Option<Self> {
        let text = text.trim_matches('/');
        let (path, method) = match text.rsplit_once(':') {
            Some((path, method)) if !method.is_empty() && method.bytes().all(|b| b.is_ascii_alphabetic()) => {
                (path, Some(method))
            }
            _ => (text, None),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let (place, rest) = match parts.as_slice() {
            ["projects", project, "locations", location, rest @ ..] => ((Some(*project), Some(*location)), rest),
            rest => ((None, None), rest),
        };
        let mut name = Name { project: place.0, location: place.1, method, ..Name::default() };
        match rest {
            ["publishers", publisher, "models", model] => {
                name.publisher = Some(publisher);
                name.name = model;
            }
            ["endpoints", endpoint] => name.endpoint = Some(endpoint),
            ["models", model] | [model] => name.name = model,
            _ => return None,
        }
        let plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 200
                && !part.contains("..")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@'))
        };
        // Projects of an organisation are `example.com:project`.
        let project = name.project.into_iter().flat_map(|p| p.split(':'));
        let model = Some(name.name).filter(|_| name.endpoint.is_none());
        let others = [name.location, name.publisher, name.endpoint, model].into_iter().flatten();
        project.chain(others).all(plain).then_some(name)
    }
}

/// The registered URL if it is absolute.
fn absolute(model: &Model) -> Option<Url> {
    model.request_url.as_deref().and_then(|url| Url::parse(url).ok()).filter(Url::has_host)
}

/// The text that names the model: a relative URL, the qualified name, or the id.
fn name_text(model: &Model) -> &str {
    let relative = model.request_url.as_deref().filter(|_| absolute(model).is_none());
    relative.or(model.qualified_name.as_deref()).unwrap_or(&model.model_id)
}

fn name(model: &Model) -> Result<Name<'_>> {
    let text = name_text(model);
    Name::read(text).ok_or_else(|| {
        Error::invalid(format!(
            "'{}' does not name a Google model; give model_request_url or model_qualified_name as 'gemini-embedding-001' or 'publishers/google/models/gemini-embedding-001'",
            cut(text, 100)
        ))
    })
}

/// The bare name of the model, even from an absolute URL.
pub fn model_name(model: &Model) -> String {
    if let Some(url) = absolute(model) {
        let last = url.path().rsplit('/').next().unwrap_or_default();
        let in_url = url.path().contains("/models/");
        if in_url && !last.is_empty() {
            return last.split(':').next().unwrap_or(last).to_owned();
        }
    }
    match (&model.qualified_name, name(model)) {
        (Some(name), _) if absolute(model).is_some() => name.clone(),
        (_, Ok(name)) => name.name.to_owned(),
        (_, Err(_)) => model.model_id.clone(),
    }
}

/// Whether the model uses the Gemini Developer API: by its URL, or by an API key without a URL.
fn is_gemini_api(model: &Model, cloud: &Cloud) -> bool {
    match absolute(model) {
        Some(url) => {
            url.host_str() == Some("generativelanguage.googleapis.com")
                || cloud.hosts.gemini.as_deref().is_some_and(|base| url.as_str().starts_with(base))
                || url.path().starts_with("/v1beta/models/")
        }
        None => model.request_url.is_none() && model.auth_type == Some(AuthType::SecretManager),
    }
}

/// The API by which a model is called.
pub fn api(model: &Model) -> Api {
    let given = name(model).ok().and_then(|name| name.method).map(str::to_owned);
    let name = model_name(model);
    let method = absolute(model).map_or(given, |url| url.path().rsplit_once(':').map(|(_, m)| m.to_owned()));
    if model.model_type == ModelType::Reranking || name.starts_with("semantic-ranker") {
        return Api::Ranking;
    }
    if !model.model_type.embeds() {
        return if name.starts_with("claude") { Api::Claude } else { Api::AsGiven };
    }
    if is_gemini_api(model, &Cloud::default()) || absolute(model).is_some_and(|u| u.path().contains("/v1beta/models/"))
    {
        return Api::GeminiEmbedContent;
    }
    if name.starts_with("multimodalembedding") {
        return Api::Multimodal;
    }
    match method.as_deref() {
        Some("predict") => Api::Predict,
        Some("embedContent") => Api::EmbedContent,
        // Only the first gemini model is served by :predict.
        _ if name.starts_with("gemini") && name != "gemini-embedding-001" => Api::EmbedContent,
        _ => Api::Predict,
    }
}

/// The default method of a model.
fn method(model: &Model, name: &Name<'_>) -> &'static str {
    match api(model) {
        Api::EmbedContent | Api::GeminiEmbedContent => "embedContent",
        Api::Claude => "rawPredict",
        Api::AsGiven if name.name.starts_with("gemini") => "generateContent",
        _ => "predict",
    }
}

/// The URL of a model.
pub fn endpoint(model: &Model, cloud: &Cloud) -> Result<String> {
    if let Some(mut url) = absolute(model) {
        // An absolute URL may lack only the method.
        let path = url.path().to_owned();
        let last = path.rsplit('/').next().unwrap_or_default();
        if path.contains("/models/") && !last.is_empty() && !last.contains(':') {
            let name = Name { name: last, ..Name::default() };
            url.set_path(&format!("{path}:{}", method(model, &name)));
        }
        return Ok(url.into());
    }
    let name = name(model)?;
    if is_gemini_api(model, cloud) {
        let call = name.method.unwrap_or(method(model, &name));
        return Ok(format!("{}/v1beta/models/{}:{call}", cloud.hosts.gemini_base(), name.name));
    }
    let project = name.project.or(cloud.project.as_deref()).ok_or_else(no_project)?;
    if api(model) == Api::Ranking {
        // Ranking is served from the location global unless the model names one.
        let location = name.location.or(model.options.location.as_deref()).unwrap_or("global");
        return Ok(format!(
            "{}/v1/projects/{project}/locations/{location}/rankingConfigs/default_ranking_config:rank",
            cloud.hosts.discovery_base(location)
        ));
    }
    let of_model = name.location.or(model.options.location.as_deref());
    let location = if api(model) == Api::EmbedContent {
        // Served by no single region, so the default location of settings or machine is ignored.
        of_model.or(cloud.location.as_deref().filter(|l| matches!(*l, "global" | "us" | "eu"))).unwrap_or("global")
    } else {
        of_model.or(cloud.location.as_deref()).unwrap_or(LOCATION)
    };
    let base = format!("{}/v1/projects/{project}/locations/{location}", cloud.hosts.vertex_base(location));
    if let Some(endpoint) = name.endpoint {
        return Ok(format!("{base}/endpoints/{endpoint}:{}", name.method.unwrap_or("predict")));
    }
    let publisher = name.publisher.unwrap_or(if name.name.starts_with("claude") { "anthropic" } else { "google" });
    Ok(format!("{base}/publishers/{publisher}/models/{}:{}", name.name, name.method.unwrap_or(method(model, &name))))
}

/// Whether the URL depends on the cloud project.
pub fn needs_project(model: &Model) -> bool {
    absolute(model).is_none()
        && !is_gemini_api(model, &Cloud::default())
        && name(model).is_ok_and(|name| name.project.is_none())
}

/// The error for a model without a known project. Registration, which does not read credentials, recognises it by its
/// kind.
pub fn no_project() -> Error {
    Error::new(
        Kind::NotFound,
        "the Google Cloud project is not known; CALL mysql.ml_set_setting('google_project', '<project id>'), or set the model's option project",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{model, named};

    fn cloud() -> Cloud {
        Cloud { project: Some("p".into()), location: Some("europe-west1".into()), ..Cloud::default() }
    }

    fn url(m: &Model) -> String {
        endpoint(m, &cloud()).unwrap()
    }

    const EU: &str = "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/europe-west1/publishers";

    #[test]
    fn names_become_urls() {
        for (model_type, text, wanted) in [
            ("text_embedding", "text-embedding-005", format!("{EU}/google/models/text-embedding-005:predict")),
            ("text_embedding", "textembedding-gecko@001", format!("{EU}/google/models/textembedding-gecko@001:predict")),
            ("text_embedding", "gemini-embedding-001", format!("{EU}/google/models/gemini-embedding-001:predict")),
            (
                "text_embedding",
                "gemini-embedding-2",
                "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google/models/gemini-embedding-2:embedContent"
                    .into(),
            ),
            ("generic", "gemini-2.5-flash", format!("{EU}/google/models/gemini-2.5-flash:generateContent")),
            (
                "generic",
                "gemini-1.5-pro:streamGenerateContent",
                format!("{EU}/google/models/gemini-1.5-pro:streamGenerateContent"),
            ),
            ("llm", "claude-3-5-sonnet-v2@20241022", format!("{EU}/anthropic/models/claude-3-5-sonnet-v2@20241022:rawPredict")),
            (
                "reranking",
                "semantic-ranker-default-003",
                "https://discoveryengine.googleapis.com/v1/projects/p/locations/global/rankingConfigs/default_ranking_config:rank"
                    .into(),
            ),
            (
                "text_embedding",
                "projects/o/locations/global/publishers/google/models/text-embedding-005",
                "https://aiplatform.googleapis.com/v1/projects/o/locations/global/publishers/google/models/text-embedding-005:predict"
                    .into(),
            ),
        ] {
            assert_eq!(url(&named("google", model_type, text, "{}")), wanted);
        }
    }

    #[test]
    fn relative_and_whole_urls() {
        let mut m = model("google", "text_embedding");
        m.request_url = Some("publishers/google/models/gemini-embedding-001".into());
        assert_eq!(url(&m), format!("{EU}/google/models/gemini-embedding-001:predict"));
        assert!(needs_project(&m));
        m.request_url = Some("/projects/o/locations/us/endpoints/123".into());
        assert_eq!(
            url(&m),
            "https://aiplatform.us.rep.googleapis.com/v1/projects/o/locations/us/endpoints/123:predict"
        );
        assert!(!needs_project(&m));
        let whole = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google/models/gemini-1.0-pro:streamGenerateContent";
        m.request_url = Some(whole.into());
        assert_eq!(url(&m), whole);
        m.request_url =
            Some(whole.replace(":streamGenerateContent", "").replace("gemini-1.0-pro", "text-embedding-005"));
        assert!(url(&m).ends_with("/text-embedding-005:predict"));
        m.request_url = Some("../../x".into());
        assert!(endpoint(&m, &cloud()).is_err());
    }

    #[test]
    fn a_key_without_a_url_means_the_gemini_api() {
        let mut m = named("google", "text_embedding", "gemini-embedding-001", "{}");
        m.auth_type = Some(AuthType::SecretManager);
        assert_eq!(api(&m), Api::GeminiEmbedContent);
        assert_eq!(
            endpoint(&m, &Cloud::default()).unwrap(),
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:embedContent"
        );
    }

    #[test]
    fn a_missing_project_is_an_error() {
        let m = named("google", "text_embedding", "text-embedding-005", "{}");
        assert!(endpoint(&m, &Cloud::default()).unwrap_err().message().contains("google_project"));
        let located = Cloud { project: Some("p".into()), ..Cloud::default() };
        assert!(endpoint(&m, &located).unwrap().starts_with("https://us-central1-"));
    }
}
