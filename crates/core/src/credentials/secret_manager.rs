//! `projects/P/secrets/S/versions/V`: Google Secret Manager.
//!
//! Follows the reference of `projects.secrets.versions.access`; regional secrets are served by their region.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use ureq::http::header;
use url::Url;

use super::google::Identities;
use super::http::Http;
use super::refreshing_secret::{Fetched, RefreshingSecret};
use super::value::{usable, USABLE};
use crate::http::Method;
use mysql_ml_base::error::{cut, Error, Kind, Result};

/// Beyond this many secrets the cache is emptied.
const MAX_VALUES: usize = 1024;

/// Age limit of a cached value, above the largest `secret_ttl_ms` of a day.
const FOREVER: Duration = Duration::from_secs(2 * 86_400);

/// Cached values, each for `secret_ttl_ms`.
#[derive(Default)]
pub struct Values {
    secrets: Mutex<HashMap<String, Arc<RefreshingSecret>>>,
}

#[derive(Deserialize)]
struct Access {
    payload: Payload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    data: SecretString,
    #[serde(default)]
    data_crc32c: Option<String>,
}

impl Values {
    fn secret(&self, name: &str) -> Arc<RefreshingSecret> {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        if secrets.len() >= MAX_VALUES && !secrets.contains_key(name) {
            secrets.clear();
        }
        Arc::clone(secrets.entry(name.to_owned()).or_default())
    }

    /// The value of a secret's version.
    pub fn get(
        &self,
        name: &str,
        rejected: Option<&SecretString>,
        identities: &Identities,
        http: &Http<'_>,
    ) -> Result<SecretString> {
        self.secret(name).get(rejected, http.settings.secret_ttl, http, |http| {
            let value = access(name, identities, http)
                .map_err(|e| advised(e).context(&format!("secret {}", cut(name, 120))))?;
            Ok(Fetched { value, fresh_for: FOREVER, usable_for: http.settings.secret_ttl + USABLE })
        })
    }
}

/// The next step after a refusal.
fn advised(error: Error) -> Error {
    let advice = match error.kind() {
        Kind::Provider(403) => "the server's Google identity needs the role roles/secretmanager.secretAccessor",
        Kind::Provider(404) => "check the secret's path and version",
        _ => return error,
    };
    Error::new(error.kind(), format!("{}; {advice}", error.message()))
}

fn access(name: &str, identities: &Identities, http: &Http<'_>) -> Result<SecretString> {
    let location = name.split('/').skip_while(|part| *part != "locations").nth(1);
    let url = format!("{}/v1/{name}:access", http.hosts.secret_manager_base(location));
    let mut rejected = None;
    // The path was checked at registration; the token goes to no other host whatever it contains.
    let host = Url::parse(&url).ok().and_then(|u| u.host_str().map(str::to_owned)).unwrap_or_default();
    let regional = host.strip_prefix("secretmanager.").and_then(|h| h.strip_suffix(".rep.googleapis.com"));
    let known = host == "secretmanager.googleapis.com" || regional.is_some_and(|l| !l.contains('.'));
    if http.hosts.secret_manager.is_none() && !known {
        return Err(Error::new(Kind::Denied, "its path does not lead to Secret Manager; correct it"));
    }
    loop {
        let token = identities.token(None, rejected.as_ref(), http)?;
        let mut call = http.call(Method::Get, &url)?;
        call.headers = vec![(header::AUTHORIZATION, format!("Bearer {}", token.value.expose_secret()).into())];
        call.headers.extend(token.quota_header());
        match http.send(&call) {
            Ok(answer) => return read(&answer.body, name),
            Err(e) if e.kind() == Kind::Provider(401) && rejected.is_none() => rejected = Some(token.value),
            Err(e) => return Err(e),
        }
    }
}

/// The value in an answer, which is not repeated in errors.
fn read(body: &[u8], name: &str) -> Result<SecretString> {
    let damaged = |what: &str| Error::response(format!("Secret Manager's answer {what}; try again"));
    let Access { payload } = serde_json::from_slice(body).map_err(|_| damaged("is not that of a secret's version"))?;
    let data = BASE64_STANDARD.decode(payload.data.expose_secret()).map_err(|_| damaged("is not base64"))?;
    if let Some(sum) = payload.data_crc32c
        && sum.parse() != Ok(crc32c::crc32c(&data))
    {
        return Err(damaged("was damaged on its way (CRC-32C)"));
    }
    let text = String::from_utf8(data)
        .map_err(|_| Error::invalid(format!("the secret {} is not text; store the key as text", cut(name, 120))))?;
    usable(text, &cut(name, 120))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_answer_is_read_and_damage_is_an_error() {
        let answer = |data: &str, crc: u32| {
            let data = BASE64_STANDARD.encode(data);
            format!(
                r#"{{"name":"projects/1/secrets/s/versions/3","payload":{{"data":"{data}","dataCrc32c":"{crc}"}}}}"#
            )
        };
        // CRC-32C of "123456789", from its definition.
        let good = read(answer("123456789", 0xE306_9283).as_bytes(), "s").unwrap();
        assert_eq!(good.expose_secret(), "123456789");
        let bad = read(answer("sk-hidden", 1).as_bytes(), "s").unwrap_err();
        assert!(bad.message().contains("CRC-32C") && !bad.message().contains("hidden"), "{bad}");
        let newline = read(answer("sk-1\n", crc32c::crc32c(b"sk-1\n")).as_bytes(), "s").unwrap();
        assert_eq!(newline.expose_secret(), "sk-1");
        assert!(read(b"{}", "s").is_err());
    }
}
