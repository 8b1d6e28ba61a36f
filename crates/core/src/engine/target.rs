//! The address of a request.
//!
//! URL, headers and key are resolved on a worker before anything is sent. Each step may be slow: a file on a hanging
//! mount, a token to fetch.

use secrecy::{ExposeSecret, SecretString};
use ureq::http::{header, HeaderName};
use url::Url;

use mysql_ml_base::error::{cut, Error, Kind, Result};

use super::requester::Request;
use crate::catalog::model::{AuthType, ProviderId};
use crate::credentials::http::Http;
use crate::credentials::Credentials;
use crate::providers::google::target;
use crate::providers::table::provider;
use crate::providers::KeyHeader;
use crate::registration::endpoint_url::{cloud_of, google_hosts, url_of};

/// The address of one try.
pub(super) struct Address {
    pub url: Url,
    /// All headers; values are secret.
    pub headers: Vec<(HeaderName, SecretString)>,
    /// The key among them; `None` if the model has none or its header function sets its own.
    pub key: Option<SecretString>,
}

impl Address {
    /// Resolves the address of a request. `rejected`: a key that the provider refused; the key is then read again.
    pub fn of(
        credentials: &Credentials,
        request: &Request,
        rejected: Option<&SecretString>,
        http: &Http<'_>,
    ) -> Result<Self> {
        let url = url(credentials, request, http)?;
        let (headers, key) = headers(credentials, request, &url, rejected, http)?;
        Ok(Address { url, headers, key })
    }
}

/// The credentials document of a model with its own Google identity.
fn document(credentials: &Credentials, request: &Request, http: &Http<'_>) -> Result<Option<SecretString>> {
    let secret = match (request.call.resolved.model.auth_type, &request.call.resolved.secret) {
        (Some(AuthType::ServiceAgentIam), Some(secret)) => secret,
        _ => return Ok(None),
    };
    credentials.document(&secret.path, http).map(Some)
}

/// The model's URL; a missing Google project comes from the credentials.
fn url(credentials: &Credentials, request: &Request, http: &Http<'_>) -> Result<Url> {
    let model = &request.call.resolved.model;
    let mut cloud = cloud_of(model, http.settings);
    if model.api == ProviderId::Google && target::needs_project(model) {
        credentials.google().complete(&mut cloud, document(credentials, request, http)?.as_ref(), http)?;
    }
    let mut url = url_of(model, &cloud)?;
    if let Some(chat) = request.counts {
        let counts = || Error::internal("a URL at which tokens are not counted");
        url = chat.counting_url(&url).ok_or_else(counts)?;
    }
    if let Some(secret) = &request.call.resolved.secret {
        secret.check_url(&url)?;
    }
    Ok(url)
}

/// Adds a header, unless one of its name is present; returns whether it was added.
fn add(headers: &mut Vec<(HeaderName, SecretString)>, name: &str, value: SecretString) -> Result<bool> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Error::invalid(format!("'{}' is not a header name; correct it", cut(name, 60))))?;
    if headers.iter().any(|(present, _)| *present == name) {
        return Ok(false);
    }
    headers.push((name, value));
    Ok(true)
}

/// The headers of the header function, of the model's options and of the provider.
fn without_key(request: &Request) -> Result<Vec<(HeaderName, SecretString)>> {
    let model = &request.call.resolved.model;
    let mut headers = request.headers.clone();
    for (name, value) in &model.options.headers {
        add(&mut headers, name, value.clone().into())?;
    }
    for (name, value) in provider(model.api).headers(model) {
        add(&mut headers, name, value.into())?;
    }
    Ok(headers)
}

/// The names of all headers, with the values that the provider's documentation fixes. Reads no key.
pub(super) fn header_names(request: &Request, url: &Url) -> Result<Vec<(HeaderName, Option<String>)>> {
    let model = &request.call.resolved.model;
    let api = provider(model.api);
    let mut headers = without_key(request)?;
    let own = api.headers(model);
    let authorized = request.headers.iter().any(|(name, _)| *name == header::AUTHORIZATION);
    let name = match (model.auth_type, &request.call.resolved.secret) {
        (Some(AuthType::SecretManager), Some(_)) if authorized => None,
        (Some(AuthType::SecretManager), Some(_)) => match api.key_header(url) {
            KeyHeader::Bearer => Some(header::AUTHORIZATION.as_str()),
            KeyHeader::Named(name) => Some(name),
        },
        (Some(AuthType::ServiceAgentIam), _) => Some(header::AUTHORIZATION.as_str()),
        _ => None,
    };
    if let Some(name) = name {
        add(&mut headers, name, SecretString::default())?;
    }
    let shown = |name: &HeaderName, value: &SecretString| {
        let same = |(own, fixed): &&(&str, String)| *name == **own && value.expose_secret() == fixed;
        own.iter().find(same).map(|(_, fixed)| fixed.clone())
    };
    Ok(headers.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect())
}

/// All headers, and the key among them. Precedence: header function, model's options, provider.
#[allow(clippy::type_complexity)]
fn headers(
    credentials: &Credentials,
    request: &Request,
    url: &Url,
    rejected: Option<&SecretString>,
    http: &Http<'_>,
) -> Result<(Vec<(HeaderName, SecretString)>, Option<SecretString>)> {
    let model = &request.call.resolved.model;
    let api = provider(model.api);
    let mut headers = without_key(request)?;
    let mut add = |name: &str, value: SecretString| add(&mut headers, name, value);
    let key = match (model.auth_type, &request.call.resolved.secret) {
        (Some(AuthType::SecretManager), Some(secret)) => {
            // A header function may authorize the request itself.
            if request.headers.iter().any(|(name, _)| *name == header::AUTHORIZATION) {
                return Ok((headers, None));
            }
            let key = credentials.secret(&secret.path, rejected, http)?;
            let added = match api.key_header(url) {
                KeyHeader::Bearer => {
                    add(header::AUTHORIZATION.as_str(), format!("Bearer {}", key.expose_secret()).into())?
                }
                KeyHeader::Named(name) => add(name, key.clone())?,
            };
            added.then_some(key)
        }
        (Some(AuthType::ServiceAgentIam), _) => {
            if !google_hosts().may_have_token(url) {
                return Err(Error::new(
                    Kind::Denied,
                    "the server's Google identity is sent to Vertex AI, the Gemini API and Discovery Engine only; correct model_request_url",
                ));
            }
            let document = document(credentials, request, http)?;
            let token = credentials.google().token(document.as_ref(), rejected, http)?;
            if let Some((name, value)) = token.quota_header() {
                add(name.as_str(), value)?;
            }
            let bearer = format!("Bearer {}", token.value.expose_secret());
            add(header::AUTHORIZATION.as_str(), bearer.into())?.then_some(token.value)
        }
        _ => None,
    };
    Ok((headers, key))
}
