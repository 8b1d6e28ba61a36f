//! The URL a model's requests are sent to.

use once_cell::sync::Lazy;
use url::Url;

use crate::catalog::model::Model;
use crate::catalog::model::ProviderId;
use crate::catalog::settings::Settings;
use crate::credentials::google::cloud::Cloud;
use crate::credentials::google::hosts::Hosts;
use crate::http::leaked_key;
use crate::providers::google::target;
use crate::providers::table::provider;
use mysql_ml_base::error::{cut, Error, Result};

/// Google's hosts for this process.
pub fn google_hosts() -> &'static Hosts {
    static HOSTS: Lazy<Hosts> = Lazy::new(|| Hosts::from_variables(|name| std::env::var(name).ok()));
    &HOSTS
}

/// The cloud project from the model's options and the settings.
pub fn cloud_of(model: &Model, settings: &Settings) -> Cloud {
    let or_setting = |option: &Option<String>, setting: &str| {
        option.clone().or_else(|| (!setting.is_empty()).then(|| setting.to_owned()))
    };
    Cloud {
        project: or_setting(&model.options.project, &settings.google_project),
        location: or_setting(&model.options.location, &settings.google_location),
        hosts: google_hosts().clone(),
    }
}

/// The endpoint of a model.
pub fn url_of(model: &Model, cloud: &Cloud) -> Result<Url> {
    let mut url = parse_url(&provider(model.api).endpoint(model, cloud)?)?;
    if !model.options.query_parameters.is_empty() {
        url.query_pairs_mut().extend_pairs(&model.options.query_parameters);
    }
    Ok(url)
}

/// The model's URL, without asking Google for a missing project.
pub fn checked_url(model: &Model, settings: &Settings) -> Result<Url> {
    let mut cloud = cloud_of(model, settings);
    if cloud.project.is_none() && is_google(model) && target::needs_project(model) {
        cloud.project = Some("project".into());
    }
    url_of(model, &cloud)
}

/// Whether the model speaks Google's APIs.
pub fn is_google(model: &Model) -> bool {
    model.api == ProviderId::Google
}

/// Whether the model's whole URL is known at registration.
pub fn url_is_certain(model: &Model, settings: &Settings) -> bool {
    !(is_google(model) && target::needs_project(model)) || cloud_of(model, settings).project.is_some()
}

/// Parses a request URL. The egress policy is checked later.
pub fn parse_url(text: &str) -> Result<Url> {
    // The text is not repeated: it may hold a key.
    let url = Url::parse(text)
        .map_err(|e| Error::invalid(format!("model_request_url is not a URL ({e}); write https://host/path")))?;
    if !matches!(url.scheme(), "https" | "http") && text.contains(':') && !text.contains("://") {
        // localhost:8080/v1 is read as a URL with the scheme localhost.
        return Err(Error::invalid(
            "model_request_url has no scheme; write https:// (or http:// for this machine) before the host",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::invalid(
            "model_request_url holds a user name or password; register a secret and name it in model_auth_id",
        ));
    }
    if url.fragment().is_some() {
        return Err(Error::invalid("model_request_url has a #fragment, which no endpoint would see; leave it out"));
    }
    let parameter = url.query_pairs().find(|(name, value)| leaked_key::in_parameter(name, value).is_some());
    if let Some((name, _)) = parameter {
        return Err(Error::invalid(format!(
            "model_request_url holds a key in its parameter {}; register a secret and name it in model_auth_id, or send it by a header function",
            cut(&name, 40)
        )));
    }
    if let Some(what) = leaked_key::in_text(url.path()) {
        return Err(Error::invalid(format!(
            "model_request_url appears to hold {what}; register a secret and name it in model_auth_id"
        )));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::named;

    #[test]
    fn urls_with_credentials_are_refused() {
        assert!(parse_url("https://user:pw@h/").is_err());
        assert!(parse_url("https://h/#x").is_err());
        let e = parse_url("https://h/x?alt=sse&Key=AIzaSecret").unwrap_err();
        assert!(e.message().contains("parameter Key") && !e.message().contains("AIza"));
        assert!(parse_url("https://h/x?api-version=2024-10-21").is_ok());
        assert!(!parse_url("nonsense sk-key").unwrap_err().message().contains("sk-key"));
        let e = parse_url("https://h/hf_AbCdEfGhIjKlMnOpQrStUv/x").unwrap_err();
        assert!(e.message().contains("Hugging Face token") && !e.message().contains("hf_"));
        assert!(parse_url("localhost:8099/v1").unwrap_err().message().contains("no scheme"));
    }

    #[test]
    fn query_parameters_are_added() {
        let m = named("open_ai", "generic", "x", r#"{"query_parameters":{"route":"a b"}}"#);
        let url = url_of(&m, &Cloud::default()).unwrap();
        assert_eq!(url.as_str(), "https://api.openai.com/v1/chat/completions?route=a+b");
    }
}
