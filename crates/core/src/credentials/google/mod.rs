//! Google's application default credentials, found in the order of Google's own libraries.
//!
//! The order is that of google-auth: the file in `GOOGLE_APPLICATION_CREDENTIALS`, the file of `gcloud auth
//! application-default login`, the metadata server of a Google Cloud machine.

pub mod cloud;
mod exchange;
pub mod hosts;
mod metadata;
mod source;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use ureq::http::HeaderName;

use self::cloud::Cloud;
use self::source::Source;
use self::token::Minted;
use super::http::Http;
use super::refreshing_secret::{Fetched, RefreshingSecret};
use mysql_ml_base::error::Result;

/// A token is renewed this long before its end, as Google's libraries do.
const REFRESH_BEFORE: Duration = Duration::from_secs(225);

/// Beyond this many identities the table is emptied.
const MAX_IDENTITIES: usize = 256;

/// Identities by the digest of their credentials file; a changed file is another identity at once.
#[derive(Default)]
pub struct Identities {
    known: Mutex<HashMap<[u8; 32], Arc<Identity>>>,
}

#[derive(Default)]
struct Identity {
    token: RefreshingSecret,
    project: Mutex<Option<String>>,
    location: Mutex<Option<String>>,
}

/// An access token.
pub struct Token {
    /// The token itself.
    pub value: SecretString,
    /// The quota project, if the credentials name one.
    quota_project: Option<String>,
}

impl Token {
    /// The header with the quota project.
    pub fn quota_header(&self) -> Option<(HeaderName, SecretString)> {
        let project = self.quota_project.clone()?;
        Some((HeaderName::from_static("x-goog-user-project"), project.into()))
    }
}

impl Identities {
    /// The identity of a credentials file, or the process's default one. The file is read each time; only tokens are
    /// cached.
    fn find(&self, document: Option<&SecretString>, http: &Http<'_>) -> Result<(Source, Arc<Identity>)> {
        let (source, key) = match document {
            Some(text) => (Source::from_secret(text.expose_secret(), http.hosts)?, digest(text)),
            None => match source::default_file()? {
                Some((text, place)) => (Source::from_json(text.expose_secret(), place)?, digest(&text)),
                None => (Source::Metadata, [0; 32]),
            },
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_IDENTITIES && !known.contains_key(&key) {
            known.clear();
        }
        Ok((source, Arc::clone(known.entry(key).or_default())))
    }

    /// An access token of the default identity, or of the credentials in `document`. `rejected`: a token that a service
    /// refused.
    pub fn token(
        &self,
        document: Option<&SecretString>,
        rejected: Option<&SecretString>,
        http: &Http<'_>,
    ) -> Result<Token> {
        let (source, identity) = self.find(document, http)?;
        let value = identity.token.get(rejected, Duration::MAX, http, |http| {
            let Minted { value, lifetime } = source.mint(http)?;
            Ok(Fetched {
                value,
                fresh_for: lifetime.saturating_sub(REFRESH_BEFORE.min(lifetime / 2)),
                usable_for: lifetime.saturating_sub(Duration::from_secs(10).min(lifetime / 10)),
            })
        })?;
        Ok(Token { value, quota_project: source.quota_project() })
    }

    /// Fills in missing project and location from the credentials.
    pub fn complete(&self, cloud: &mut Cloud, document: Option<&SecretString>, http: &Http<'_>) -> Result<()> {
        if cloud.project.is_some() && cloud.location.is_some() {
            return Ok(());
        }
        let (source, identity) = self.find(document, http)?;
        if cloud.project.is_none() {
            cloud.project = remembered(&identity.project, || source.project(http))?;
        }
        if cloud.location.is_none() {
            cloud.location = remembered(&identity.location, || source.location(http))?;
        }
        Ok(())
    }
}

fn digest(text: &SecretString) -> [u8; 32] {
    Sha256::digest(text.expose_secret()).into()
}

fn remembered(place: &Mutex<Option<String>>, find: impl FnOnce() -> Result<Option<String>>) -> Result<Option<String>> {
    if let Some(known) = place.lock().unwrap_or_else(PoisonError::into_inner).clone() {
        return Ok(Some(known));
    }
    let found = find()?;
    place.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&found);
    Ok(found)
}
