//! Exchanges credentials for an access token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ureq::http::{header, HeaderName};
use url::form_urlencoded::Serializer;

use super::super::http::Http;
use super::source::{AuthorizedUser, ExternalAccount, ServiceAccount};
use super::token::{Minted, MAX_LIFETIME, SCOPE};
use crate::http::Method;
use mysql_ml_base::error::{Error, Kind, Result};

/// Google's token endpoint.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

const LIFETIME: u64 = 3600;

/// The largest file or answer with another provider's token, bytes.
const MAX_SUBJECT_TOKEN: u64 = 256 * 1024;

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: SecretString,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// A service account: an assertion signed with its key (RFC 7523).
pub fn service_account(account: &ServiceAccount, http: &Http<'_>) -> Result<Minted> {
    let token_uri = account.token_uri.as_deref().or(http.hosts.token.as_deref()).unwrap_or(TOKEN_URI);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = Claims { iss: &account.client_email, scope: SCOPE, aud: token_uri, iat: now, exp: now + LIFETIME };
    let unusable = || {
        Error::invalid(
            "the private_key of the Google service account is not an RSA key in PEM form; make the key file anew",
        )
    };
    let key = EncodingKey::from_rsa_pem(account.private_key.expose_secret().as_bytes()).map_err(|_| unusable())?;
    let mut header = Header::new(Algorithm::RS256);
    header.kid.clone_from(&account.private_key_id);
    let assertion = SecretString::from(jsonwebtoken::encode(&header, &claims, &key).map_err(|_| unusable())?);
    let form =
        [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion.expose_secret())];
    post_form(token_uri, &form, vec![assertion.clone(), account.private_key.clone()], http)
}

/// A user's refresh token (RFC 6749).
pub fn authorized_user(user: &AuthorizedUser, http: &Http<'_>) -> Result<Minted> {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", user.client_id.as_str()),
        ("client_secret", user.client_secret.expose_secret()),
        ("refresh_token", user.refresh_token.expose_secret()),
    ];
    let private = vec![user.client_secret.clone(), user.refresh_token.clone()];
    let token_uri = user.token_uri.as_deref().or(http.hosts.token.as_deref()).unwrap_or(TOKEN_URI);
    post_form(token_uri, &form, private, http)
}

/// Another identity provider's token, exchanged at Google's security token service (RFC 8693), then perhaps for that
/// of a service account.
pub fn external_account(account: &ExternalAccount, http: &Http<'_>) -> Result<Minted> {
    let subject = subject_token(account, http)?;
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("audience", account.audience.as_str()),
        ("scope", SCOPE),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("subject_token", subject.expose_secret()),
        ("subject_token_type", account.subject_token_type.as_str()),
    ];
    let minted = post_form(&account.token_url, &form, vec![subject.clone()], http)?;
    match &account.service_account_impersonation_url {
        Some(url) => impersonate(url, &minted.value, http),
        None => Ok(minted),
    }
}

/// The token of the other provider: in a file or at a URL.
fn subject_token(account: &ExternalAccount, http: &Http<'_>) -> Result<SecretString> {
    let source = &account.credential_source;
    let text = match (&source.file, &source.url) {
        (Some(path), _) => {
            use std::io::Read;
            let mut text = String::new();
            mysql_ml_base::files::open(std::path::Path::new(path))
                .and_then(|file| file.take(MAX_SUBJECT_TOKEN).read_to_string(&mut text))
                .map_err(|e| {
                    Error::new(Kind::NotFound, format!("the token file of the Google external account cannot be read: {e}"))
                })?;
            SecretString::from(text)
        }
        (None, Some(url)) => {
            let mut call = http.call(Method::Get, url)?;
            // Other clouds serve tokens at the address of Google's metadata server.
            call.metadata = call.url.host_str() == Some("169.254.169.254");
            for (name, value) in &source.headers {
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| Error::invalid("a header in the Google external account is none; correct it"))?;
                call.headers.push((name, value.clone().into()));
            }
            let body = http.send(&call)?.body;
            SecretString::from(String::from_utf8(body).map_err(|_| Error::response("the identity provider's token is not text"))?)
        }
        (None, None) => {
            return Err(Error::new(
                Kind::Unsupported,
                "the Google external account takes its token from AWS, a program or a certificate, which is not supported; use a file or url source, or a service account's key",
            ))
        }
    };
    let field = source
        .format
        .as_ref()
        .filter(|f| f.kind == "json")
        .map(|f| f.subject_token_field_name.as_deref().unwrap_or("access_token"));
    let Some(field) = field else { return Ok(text.expose_secret().trim().into()) };
    crate::json::check_document("the token of the Google external account", text.expose_secret())?;
    let document: Value = serde_json::from_str(text.expose_secret())
        .map_err(|_| Error::invalid("the token of the Google external account is not JSON, as its format says"))?;
    match document.get(field).and_then(Value::as_str) {
        Some(token) => Ok(token.into()),
        None => Err(Error::invalid("the token of the Google external account lacks the field that its format names")),
    }
}

/// A token of the service account that `url` names, for the holder of `token`.
pub fn impersonate(url: &str, token: &SecretString, http: &Http<'_>) -> Result<Minted> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Generated {
        access_token: SecretString,
        expire_time: String,
    }
    let own = http.hosts.iam_credentials.as_deref();
    let url = match (own, url.strip_prefix("https://iamcredentials.googleapis.com")) {
        (Some(_), Some(rest)) => format!("{}{rest}", http.hosts.iam_credentials_base()),
        _ => url.to_owned(),
    };
    let body = serde_json::json!({"scope": [SCOPE], "lifetime": format!("{LIFETIME}s")}).to_string();
    let mut call = http.call(Method::Json(body.into_bytes().into()), &url)?;
    call.headers = vec![(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()).into())];
    let answer = http.send(&call)?.body;
    let generated: Generated = serde_json::from_slice(&answer).map_err(|_| unexpected())?;
    let ends = humantime::parse_rfc3339(&generated.expire_time).map_err(|_| unexpected())?;
    let lifetime = ends.duration_since(SystemTime::now()).unwrap_or_default().min(MAX_LIFETIME);
    Ok(Minted { value: generated.access_token, lifetime })
}

fn unexpected() -> Error {
    Error::response("the answer of Google's token service is not a token; try again")
}

fn post_form(url: &str, form: &[(&str, &str)], private: Vec<SecretString>, http: &Http<'_>) -> Result<Minted> {
    let body = SecretString::from(Serializer::new(String::new()).extend_pairs(form).finish());
    let mut call = http.call(Method::Form(body), url)?;
    call.private = private;
    let answer = http.send(&call)?.body;
    let token: TokenAnswer = serde_json::from_slice(&answer).map_err(|_| unexpected())?;
    let lifetime = Duration::from_secs(token.expires_in.unwrap_or(LIFETIME)).min(MAX_LIFETIME);
    Ok(Minted { value: token.access_token, lifetime })
}
