//! Google credentials: kinds of files, and the places they are read from.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::super::http::Http;
use super::token::{none_found, Minted};
use super::{exchange, metadata};
use crate::credentials::google::hosts::Hosts;
use mysql_ml_base::error::{Error, Kind, Result};

/// The largest credentials file, bytes.
const MAX_FILE: u64 = 256 * 1024;

/// The deepest nesting of credentials.
const MAX_DEPTH: u32 = 3;

/// Credentials of one kind.
pub enum Source {
    /// A service account's key.
    ServiceAccount(Box<ServiceAccount>),
    /// A user's login with `gcloud`.
    AuthorizedUser(Box<AuthorizedUser>),
    /// A token of another identity provider.
    ExternalAccount(Box<ExternalAccount>),
    /// One identity that acts as a service account.
    Impersonated(Box<Impersonated>),
    /// The identity of the machine.
    Metadata,
}

/// `"type": "service_account"`.
#[derive(Deserialize)]
pub struct ServiceAccount {
    pub client_email: String,
    pub private_key: SecretString,
    #[serde(default)]
    pub private_key_id: Option<String>,
    #[serde(default)]
    pub token_uri: Option<String>,
    #[serde(default)]
    pub project_id: Option<String>,
    #[serde(default)]
    pub quota_project_id: Option<String>,
}

/// `"type": "authorized_user"`.
#[derive(Deserialize)]
pub struct AuthorizedUser {
    pub client_id: String,
    pub client_secret: SecretString,
    pub refresh_token: SecretString,
    #[serde(default)]
    pub token_uri: Option<String>,
    #[serde(default)]
    pub quota_project_id: Option<String>,
}

/// `"type": "external_account"`.
#[derive(Deserialize)]
pub struct ExternalAccount {
    pub audience: String,
    pub subject_token_type: String,
    pub token_url: String,
    pub credential_source: CredentialSource,
    #[serde(default)]
    pub service_account_impersonation_url: Option<String>,
    #[serde(default)]
    pub quota_project_id: Option<String>,
}

/// The place of an external account's own token.
#[derive(Deserialize)]
pub struct CredentialSource {
    #[serde(default)]
    pub file: Option<String>,
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub format: Option<Format>,
}

/// The format of that token.
#[derive(Deserialize)]
pub struct Format {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub subject_token_field_name: Option<String>,
}

/// `"type": "impersonated_service_account"`.
pub struct Impersonated {
    pub url: String,
    pub source: Source,
    pub quota_project_id: Option<String>,
}

impl Source {
    /// Reads a credentials file's text; `place` names it in errors, which never repeat the text.
    pub fn from_json(text: &str, place: &str) -> Result<Self> {
        crate::json::check_document(place, text)?;
        let value: Value = serde_json::from_str(text)
            .map_err(|_| Error::invalid(format!("{place} is not a Google credentials file: it is not JSON")))?;
        Self::from_value(value, place, 0)
    }

    /// Reads a credentials file in a secret. The secret's registrant may have written it. So it must not make the
    /// server read files, send requests to other machines, or send them credentials. It may be a key or login, which
    /// is exchanged at Google's own hosts.
    pub fn from_secret(text: &str, hosts: &Hosts) -> Result<Self> {
        let source = Self::from_json(text, "the secret")?;
        source.check_foreign(hosts)?;
        Ok(source)
    }

    // The depth is bounded by `from_value`.
    fn check_foreign(&self, hosts: &Hosts) -> Result<()> {
        let refuse = |what: &str| {
            Err(Error::new(
                Kind::Denied,
                format!("the secret holds Google credentials {what}; such credentials can only be the server's own (GOOGLE_APPLICATION_CREDENTIALS)"),
            ))
        };
        let googles = |url: &Option<String>| url.as_deref().is_none_or(|url| hosts.exchanges_tokens(url));
        match self {
            Source::ServiceAccount(a) if !googles(&a.token_uri) => refuse("with a token_uri that is not Google's"),
            Source::AuthorizedUser(u) if !googles(&u.token_uri) => refuse("with a token_uri that is not Google's"),
            Source::ServiceAccount(_) | Source::AuthorizedUser(_) => Ok(()),
            Source::Impersonated(i) if !hosts.exchanges_tokens(&i.url) => {
                refuse("that are exchanged elsewhere than at Google")
            }
            Source::Impersonated(i) => i.source.check_foreign(hosts),
            Source::ExternalAccount(_) => refuse("of type external_account"),
            Source::Metadata => Ok(()),
        }
    }

    fn from_value(mut value: Value, place: &str, depth: u32) -> Result<Self> {
        fn typed<T: serde::de::DeserializeOwned>(value: Value, place: &str) -> Result<Box<T>> {
            // serde's message may quote a value, so only the kind of error is reported.
            serde_json::from_value(value).map(Box::new).map_err(|_| {
                Error::invalid(format!(
                    "{place} is not a whole Google credentials file: it lacks or mistypes a field of its type"
                ))
            })
        }
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "service_account" => typed(value, place).map(Source::ServiceAccount),
            "authorized_user" => typed(value, place).map(Source::AuthorizedUser),
            "external_account" => typed(value, place).map(Source::ExternalAccount),
            "impersonated_service_account" if depth < MAX_DEPTH => {
                let url = value.get("service_account_impersonation_url").and_then(Value::as_str).map(str::to_owned);
                let quota = value.get("quota_project_id").and_then(Value::as_str).map(str::to_owned);
                let inner = value.get_mut("source_credentials").map(Value::take).unwrap_or_default();
                let url = url.ok_or_else(|| {
                    Error::invalid(format!("{place} has no service_account_impersonation_url; make it anew"))
                })?;
                let source = Self::from_value(inner, place, depth + 1)?;
                Ok(Source::Impersonated(Box::new(Impersonated { url, source, quota_project_id: quota })))
            }
            other => Err(Error::new(
                Kind::Unsupported,
                format!(
                    "{place} holds Google credentials of {}; use service_account, authorized_user, external_account or impersonated_service_account",
                    if other.is_empty() { "no type" } else { "a type that is not supported" }
                ),
            )),
        }
    }

    /// Fetches an access token.
    pub fn mint(&self, http: &Http<'_>) -> Result<Minted> {
        match self {
            Source::ServiceAccount(account) => exchange::service_account(account, http),
            Source::AuthorizedUser(user) => exchange::authorized_user(user, http),
            Source::ExternalAccount(account) => exchange::external_account(account, http),
            // The depth is bounded by `from_value`.
            Source::Impersonated(i) => exchange::impersonate(&i.url, &i.source.mint(http)?.value, http),
            Source::Metadata => metadata::token(http),
        }
    }

    /// The quota project.
    pub fn quota_project(&self) -> Option<String> {
        match self {
            Source::ServiceAccount(a) => a.quota_project_id.clone(),
            Source::AuthorizedUser(u) => u.quota_project_id.clone(),
            Source::ExternalAccount(a) => a.quota_project_id.clone(),
            Source::Impersonated(i) => i.quota_project_id.clone(),
            Source::Metadata => None,
        }
    }

    /// The default project of models.
    pub fn project(&self, http: &Http<'_>) -> Result<Option<String>> {
        let of_environment = ["GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|p| !p.is_empty()));
        if of_environment.is_some() {
            return Ok(of_environment);
        }
        match self {
            Source::ServiceAccount(a) => Ok(a.project_id.clone()),
            Source::Metadata => metadata::project(http).map(Some),
            other => Ok(other.quota_project()),
        }
    }

    /// The default location of models.
    pub fn location(&self, http: &Http<'_>) -> Result<Option<String>> {
        if let Ok(location) = std::env::var("GOOGLE_CLOUD_LOCATION")
            && !location.is_empty()
        {
            return Ok(Some(location));
        }
        match self {
            Source::Metadata => metadata::location(http).map(Some),
            _ => Ok(None),
        }
    }
}

/// The process's application default credentials file and its name in errors; `None` for the machine's own identity.
pub fn default_file() -> Result<Option<(SecretString, &'static str)>> {
    if let Some(path) = std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").filter(|p| !p.is_empty()) {
        let path = PathBuf::from(path);
        let text = read(&path).map_err(|e| {
            none_found(&format!("GOOGLE_APPLICATION_CREDENTIALS names {}, which cannot be read ({e})", path.display()))
        })?;
        return Ok(Some((text.into(), "the file of GOOGLE_APPLICATION_CREDENTIALS")));
    }
    let directory = std::env::var_os("CLOUDSDK_CONFIG")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config/gcloud")));
    let Some(path) = directory.map(|d| d.join("application_default_credentials.json")) else { return Ok(None) };
    match read(&path) {
        Ok(text) => Ok(Some((text.into(), "application_default_credentials.json"))),
        // An unreadable home directory must not disable the machine's identity.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied) => {
            Ok(None)
        }
        Err(e) => Err(none_found(&format!("{} cannot be read ({e})", path.display()))),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = mysql_ml_base::files::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "not a file"));
    }
    file.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_or_named_in_an_error() {
        let of = |text: &str| Source::from_json(text, "x");
        let user = r#"{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r","quota_project_id":"q"}"#;
        assert_eq!(of(user).unwrap().quota_project().as_deref(), Some("q"));
        let impersonated = format!(
            r#"{{"type":"impersonated_service_account","service_account_impersonation_url":"https://h/x","source_credentials":{user}}}"#
        );
        assert!(matches!(of(&impersonated).unwrap(), Source::Impersonated(_)));
        let hosts = Hosts::default();
        let of_secret = |text: &str| Source::from_secret(text, &hosts).map(|_| ());
        assert!(of_secret(user).is_ok());
        for foreign in [
            r#"{"type":"external_account","audience":"a","subject_token_type":"t","token_url":"https://sts.googleapis.com/v1/token","credential_source":{"file":"/etc/passwd"}}"#,
            r#"{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r","token_uri":"https://evil.example/"}"#,
            &format!(
                r#"{{"type":"impersonated_service_account","service_account_impersonation_url":"https://evil.example/x","source_credentials":{user}}}"#
            ),
        ] {
            assert_eq!(of_secret(foreign).unwrap_err().kind(), Kind::Denied, "{foreign}");
        }
        for bad in [
            "{}",
            "[]",
            "nonsense 5ecret",
            r#"{"type":"service_account","private_key":"5ecret"}"#,
            r#"{"type":"gdch_service_account","x":"5ecret"}"#,
            r#"{"type":"authorized_user","client_secret":"5ecret"}"#,
        ] {
            let error = of(bad).err().unwrap();
            assert!(!error.message().contains("5ecret"), "{error}");
        }
    }
}
