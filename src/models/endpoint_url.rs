//! The URL a model's requests are sent to.

use url::Url;

use super::model::Model;
use crate::error::{cut, Error, Result};
use crate::providers::provider;

/// The endpoint of a model.
pub fn url_of(model: &Model) -> Result<Url> {
    let api = provider(model.provider);
    let text = match &model.request_url {
        Some(url) => api.complete_url(url, model.model_type),
        None => api
            .default_url(model.model_type)
            .ok_or_else(|| Error::invalid("model_request_url is required; give the endpoint's https URL"))?
            .to_owned(),
    };
    parse_url(&text)
}

/// Reads a URL that requests may be sent to; whether they may go there is the egress policy's matter.
pub fn parse_url(text: &str) -> Result<Url> {
    // The text is not repeated: it may hold a key.
    let url = Url::parse(text)
        .map_err(|e| Error::invalid(format!("model_request_url is not a URL ({e}); write https://host/path")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::invalid(
            "model_request_url holds a user name or password; register a secret and name it in model_auth_id",
        ));
    }
    if url.fragment().is_some() {
        return Err(Error::invalid("model_request_url has a #fragment, which no endpoint would see; leave it out"));
    }
    if let Some((name, _)) = url.query_pairs().find(|(name, _)| looks_like_a_key(name)) {
        return Err(Error::invalid(format!(
            "model_request_url holds a key in its parameter {}; register a secret and name it in model_auth_id, or send it by a header function",
            cut(&name, 40)
        )));
    }
    Ok(url)
}

/// Parameters in which services take keys. Everybody who may call a model can see its URL.
fn looks_like_a_key(parameter: &str) -> bool {
    const NAMES: [&str; 12] = [
        "key",
        "apikey",
        "api_key",
        "api-key",
        "access_token",
        "accesstoken",
        "token",
        "auth",
        "secret",
        "password",
        "sig",
        "signature",
    ];
    NAMES.iter().any(|name| parameter.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_credentials_are_refused() {
        assert!(parse_url("https://user:pw@h/").is_err());
        assert!(parse_url("https://h/#x").is_err());
        let e = parse_url("https://h/x?alt=sse&Key=AIzaSecret").unwrap_err();
        assert!(e.message().contains("parameter Key") && !e.message().contains("AIza"));
        assert!(parse_url("https://h/x?api-version=2024-10-21").is_ok());
        assert!(!parse_url("nonsense sk-key").unwrap_err().message().contains("sk-key"));
    }
}
