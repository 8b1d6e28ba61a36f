//! The hosts of Google's services, and which hosts a Google access token may be sent to.

use url::Url;

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
}

impl Hosts {
    /// Reads the variables through `get`. Whoever sets mysqld's environment is trusted with its credentials.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let base =
            |name: &str| get(name).map(|url| url.trim().trim_end_matches('/').to_owned()).filter(|url| !url.is_empty());
        Hosts {
            vertex: base("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"),
            discovery: base("CLOUDSDK_API_ENDPOINT_OVERRIDES_DISCOVERYENGINE"),
            secret_manager: base("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER"),
            iam_credentials: base("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS"),
            gemini: base("GOOGLE_GEMINI_BASE_URL"),
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

    /// Discovery Engine.
    pub fn discovery_base(&self) -> &str {
        self.discovery.as_deref().unwrap_or("https://discoveryengine.googleapis.com")
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

    /// Whether a model's URL may be sent the server's Google access token: hosts that serve models, no others, so that
    /// who registers models does not become the server's identity everywhere.
    pub fn may_have_token(&self, url: &Url) -> bool {
        let overridden = [&self.vertex, &self.discovery, &self.gemini]
            .into_iter()
            .flatten()
            .filter_map(|base| Url::parse(base).ok())
            .any(|base| base.origin() == url.origin() && url.path().starts_with(base.path().trim_end_matches('/')));
        if overridden {
            return true;
        }
        let host = url.host_str().unwrap_or_default();
        let google = host == "aiplatform.googleapis.com"
            || host.strip_suffix("-aiplatform.googleapis.com").is_some_and(|region| !region.contains('.'))
            || host.strip_suffix(".rep.googleapis.com").is_some_and(|rest| rest.starts_with("aiplatform."))
            || host.strip_suffix(".p.googleapis.com").is_some_and(|rest| rest.contains("aiplatform"))
            || host.ends_with(".prediction.vertexai.goog")
            || host == "discoveryengine.googleapis.com"
            || host.strip_suffix("-discoveryengine.googleapis.com").is_some_and(|region| !region.contains('.'))
            || host == "generativelanguage.googleapis.com";
        google && url.scheme() == "https" && url.port().is_none()
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
            "https://us-central1-aiplatform.googleapis.com/v1/x",
            "https://aiplatform.googleapis.com/v1/x",
            "https://aiplatform.eu.rep.googleapis.com/",
            "https://123.us-central1-456.prediction.vertexai.goog/v1/x",
            "https://discoveryengine.googleapis.com/v1/x",
        ] {
            assert!(may(url), "{url}");
        }
        for url in [
            "http://us-central1-aiplatform.googleapis.com/",
            "https://storage.googleapis.com/",
            "https://secretmanager.googleapis.com/",
            "https://evil.example/us-central1-aiplatform.googleapis.com",
            "https://aiplatform.googleapis.com.evil.example/",
            "https://evil.example.x-aiplatform.googleapis.com.evil/",
            "https://us-central1-aiplatform.googleapis.com:8443/",
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
        assert!(hosts.may_have_token(&Url::parse("https://psc.corp.example/vertex/v1/x").unwrap()));
        assert!(!hosts.may_have_token(&Url::parse("https://psc.corp.example/other").unwrap()));
        assert_eq!(
            hosts.secret_manager_base(Some("europe-west1")),
            "https://secretmanager.europe-west1.rep.googleapis.com"
        );
    }
}
