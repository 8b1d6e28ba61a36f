//! The hosts of Google's services, and which hosts a Google access token may be sent to.

use url::Url;

use mysql_ml_base::url::is_below;

/// Hosts in place of Google's own, as the `gcloud` tool and Google's SDKs name them in the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    /// `CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM`.
    pub vertex: Option<String>,
    /// `CLOUDSDK_API_ENDPOINT_OVERRIDES_DISCOVERYENGINE`.
    pub discovery: Option<String>,
    /// `CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER`.
    pub secret_manager: Option<String>,
    /// `CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS`.
    pub iam_credentials: Option<String>,
    /// `GOOGLE_GEMINI_BASE_URL`.
    pub gemini: Option<String>,
    /// `CLOUDSDK_AUTH_TOKEN_HOST`, a whole URL.
    pub token: Option<String>,
}

impl Hosts {
    /// Reads the variables through `get`. The administrator of mysqld's environment is trusted with its credentials.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let base =
            |name: &str| get(name).map(|url| url.trim().trim_end_matches('/').to_owned()).filter(|url| !url.is_empty());
        Hosts {
            vertex: base("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"),
            discovery: base("CLOUDSDK_API_ENDPOINT_OVERRIDES_DISCOVERYENGINE"),
            secret_manager: base("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER"),
            iam_credentials: base("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS"),
            gemini: base("GOOGLE_GEMINI_BASE_URL"),
            token: base("CLOUDSDK_AUTH_TOKEN_HOST"),
        }
    }

    /// Vertex AI in a location: a region, a multi-region, or `global`.
    pub fn vertex_base(&self, location: &str) -> String {
        match (&self.vertex, location) {
            (Some(base), _) => base.clone(),
            (None, "global") => "https://aiplatform.googleapis.com".into(),
            (None, "us" | "eu") => format!("https://aiplatform.{location}.rep.googleapis.com"),
            (None, region) => format!("https://{region}-aiplatform.googleapis.com"),
        }
    }

    /// Discovery Engine, which has hosts of its own for the multi-regions.
    pub fn discovery_base(&self, location: &str) -> String {
        match (&self.discovery, location) {
            (Some(base), _) => base.clone(),
            (None, "us" | "eu") => format!("https://{location}-discoveryengine.googleapis.com"),
            (None, _) => "https://discoveryengine.googleapis.com".into(),
        }
    }

    /// The Gemini Developer API.
    pub fn gemini_base(&self) -> &str {
        self.gemini.as_deref().unwrap_or("https://generativelanguage.googleapis.com")
    }

    /// Secret Manager; regional secrets are served by their region.
    pub fn secret_manager_base(&self, location: Option<&str>) -> String {
        match (&self.secret_manager, location) {
            (Some(base), _) => base.clone(),
            (None, None) => "https://secretmanager.googleapis.com".into(),
            (None, Some(location)) => format!("https://secretmanager.{location}.rep.googleapis.com"),
        }
    }

    /// The service that lets one identity act as another.
    pub fn iam_credentials_base(&self) -> &str {
        self.iam_credentials.as_deref().unwrap_or("https://iamcredentials.googleapis.com")
    }

    /// Whether the server's Google access token may be sent to a model's URL. Only hosts that serve models may get
    /// it, so that registrants cannot use the server's identity elsewhere.
    pub fn may_have_token(&self, url: &Url) -> bool {
        let overridden = [&self.vertex, &self.discovery, &self.gemini]
            .into_iter()
            .flatten()
            .filter_map(|base| Url::parse(base).ok())
            .find(|base| is_below(base, url));
        let base = overridden.as_ref().map_or("", |base| base.path().trim_end_matches('/'));
        // Only calls of models; not methods that make jobs or change endpoints.
        if !calls_a_model(url.path().strip_prefix(base).unwrap_or_default()) {
            return false;
        }
        if overridden.is_some() {
            return true;
        }
        let host = url.host_str().unwrap_or_default();
        let google = host == "aiplatform.googleapis.com"
            || host.strip_suffix("-aiplatform.googleapis.com").is_some_and(|region| !region.contains('.'))
            || host.strip_suffix(".rep.googleapis.com").is_some_and(|rest| rest.starts_with("aiplatform."))
            || host.strip_suffix(".p.googleapis.com").is_some_and(|rest| rest.contains("aiplatform"))
            || host == "discoveryengine.googleapis.com"
            || host.strip_suffix("-discoveryengine.googleapis.com").is_some_and(|region| !region.contains('.'))
            || host == "generativelanguage.googleapis.com";
        google && url.scheme() == "https" && url.port().is_none()
    }
}

impl Hosts {
    /// Whether a URL is one where Google exchanges credentials for tokens.
    pub fn exchanges_tokens(&self, url: &str) -> bool {
        if self.token.as_deref() == Some(url.trim_end_matches('/')) {
            return true;
        }
        let Ok(url) = Url::parse(url) else { return false };
        let own = self.iam_credentials.as_deref().and_then(|base| Url::parse(base).ok());
        if own.is_some_and(|base| is_below(&base, &url)) {
            return true;
        }
        let host = url.host_str().unwrap_or_default();
        let google = matches!(host, "oauth2.googleapis.com" | "sts.googleapis.com" | "iamcredentials.googleapis.com");
        google && url.scheme() == "https" && url.port().is_none() && url.username().is_empty()
    }
}

/// Methods of models.
const METHODS: [&str; 14] = [
    "predict",
    "rawPredict",
    "streamRawPredict",
    "directPredict",
    "serverStreamingPredict",
    "generateContent",
    "streamGenerateContent",
    "embedContent",
    "batchEmbedContents",
    "countTokens",
    "computeTokens",
    "explain",
    "rank",
    "generateText",
];

/// Whether a path is that of a model call: a publisher or endpoint in Vertex AI, ranking, the Gemini API, or OpenAI's
/// API at Vertex AI.
fn calls_a_model(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let called =
        |last: &str| last.split_once(':').is_some_and(|(name, method)| !name.is_empty() && METHODS.contains(&method));
    match parts.as_slice() {
        ["v1" | "v1beta1", "projects", _, "locations", _, "publishers", _, "models", last]
        | ["v1" | "v1beta1", "projects", _, "locations", _, "endpoints", last]
        | ["v1" | "v1beta" | "v1alpha", "projects", _, "locations", _, "rankingConfigs", last]
        | ["v1" | "v1beta", "models", last] => called(last),
        ["v1" | "v1beta1", "projects", _, "locations", _, "endpoints", "openapi", "chat", "completions"]
        | ["v1" | "v1beta1", "projects", _, "locations", _, "endpoints", "openapi", "embeddings"] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_to_hosts_of_models_only() {
        let hosts = Hosts::default();
        let may = |url: &str| hosts.may_have_token(&Url::parse(url).unwrap());
        for url in [
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google/models/m:predict",
            "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/anthropic/models/c@1:rawPredict",
            "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu/endpoints/12:predict",
            "https://discoveryengine.googleapis.com/v1/projects/p/locations/global/rankingConfigs/c:rank",
            "https://generativelanguage.googleapis.com/v1beta/models/m:embedContent",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/openapi/chat/completions",
        ] {
            assert!(may(url), "{url}");
        }
        for url in [
            "http://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/1:predict",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/customJobs",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/1:undeployModel",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/1:predict/../../x",
            "https://discoveryengine.googleapis.com/v1/projects/p/locations/global/collections/c/dataStores",
            "https://1.us-central1-2.prediction.vertexai.goog/v1/projects/p/locations/l/endpoints/1:predict",
            "https://storage.googleapis.com/",
            "https://secretmanager.googleapis.com/",
            "https://evil.example/us-central1-aiplatform.googleapis.com",
            "https://aiplatform.googleapis.com.evil.example/",
            "https://evil.example.x-aiplatform.googleapis.com.evil/",
            "https://us-central1-aiplatform.googleapis.com:8443/v1/projects/p/locations/l/endpoints/1:predict",
        ] {
            assert!(!may(url), "{url}");
        }
    }

    #[test]
    fn the_environment_may_name_other_hosts() {
        let hosts = Hosts::from_variables(|name| {
            (name == "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM").then(|| "https://psc.corp.example/vertex/".into())
        });
        assert_eq!(hosts.vertex_base("eu"), "https://psc.corp.example/vertex");
        let may = |path: &str| hosts.may_have_token(&Url::parse(&format!("https://psc.corp.example{path}")).unwrap());
        let call = "/v1/projects/p/locations/l/endpoints/1:predict";
        assert!(may(&format!("/vertex{call}")));
        assert!(!may(&format!("/other{call}")) && !may(&format!("/vertex-of-others{call}")) && !may(call));
        assert!(!may("/vertex/v1/projects/p/locations/l/customJobs"));
        assert!(hosts.exchanges_tokens("https://oauth2.googleapis.com/token"));
        assert!(!hosts.exchanges_tokens("https://oauth2.googleapis.com.evil.example/token"));
        assert_eq!(
            hosts.secret_manager_base(Some("europe-west1")),
            "https://secretmanager.europe-west1.rep.googleapis.com"
        );
    }
}
