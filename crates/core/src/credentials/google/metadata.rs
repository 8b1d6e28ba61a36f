//! The metadata server of a Google Cloud machine: plain http at a link-local address, never through a proxy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde::Deserialize;
use ureq::http::HeaderName;

use super::super::http::Http;
use super::token::{none_found, Minted, MAX_LIFETIME};
use crate::http::{Call, Method};
use mysql_ml_base::error::{Error, Kind, Result};

const HOST: &str = "metadata.google.internal";

/// The address, for containers that cannot resolve the name.
const ADDRESS: &str = "169.254.169.254";

/// Default time limit; GCE_METADATA_TIMEOUT (seconds) replaces it.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Pause after no metadata server was found.
const ABSENT_FOR: Duration = Duration::from_secs(10);

/// Whether it ever answered; later failures are then network failures.
static PRESENT: AtomicBool = AtomicBool::new(false);

static ABSENT_SINCE: Mutex<Option<Instant>> = Mutex::new(None);

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: SecretString,
    expires_in: u64,
}

/// A token of the machine's service account.
pub fn token(http: &Http<'_>) -> Result<Minted> {
    let body = get("instance/service-accounts/default/token", http)?;
    let token: TokenAnswer =
        serde_json::from_slice(&body).map_err(|_| Error::response("the metadata server's answer is not a token"))?;
    Ok(Minted { value: token.access_token, lifetime: Duration::from_secs(token.expires_in).min(MAX_LIFETIME) })
}

/// The machine's project.
pub fn project(http: &Http<'_>) -> Result<String> {
    text("project/project-id", http)
}

/// The machine's region: its zone (`projects/123/zones/us-central1-a`) without the last letter.
pub fn location(http: &Http<'_>) -> Result<String> {
    let zone = text("instance/zone", http)?;
    let zone = zone.rsplit('/').next().unwrap_or_default();
    match zone.rsplit_once('-') {
        Some((region, _)) => Ok(region.to_owned()),
        None => Err(Error::response("the metadata server's zone is none; set the setting google_location")),
    }
}

fn text(path: &str, http: &Http<'_>) -> Result<String> {
    let body = get(path, http)?;
    let plain = |t: &String| !t.is_empty() && t.len() < 200 && t.bytes().all(|b| b.is_ascii_graphic());
    String::from_utf8(body)
        .ok()
        .map(|t| t.trim().to_owned())
        .filter(plain)
        .ok_or_else(|| Error::response("the metadata server's answer is not the requested value"))
}

fn get(path: &str, http: &Http<'_>) -> Result<Vec<u8>> {
    let none =
        || none_found("no credentials file is named or found, and this machine has no metadata server of Google's");
    let off = std::env::var("NO_GCE_CHECK").is_ok_and(|v| v.eq_ignore_ascii_case("true"));
    let absent = *ABSENT_SINCE.lock().unwrap_or_else(PoisonError::into_inner);
    if off || absent.is_some_and(|since| since.elapsed() < ABSENT_FOR) {
        return Err(none());
    }
    let named = ["GCE_METADATA_HOST", "GCE_METADATA_ROOT"].iter().find_map(|name| std::env::var(name).ok());
    let hosts = match &named {
        Some(host) => vec![host.as_str()],
        None => vec![HOST, ADDRESS],
    };
    let timeout = std::env::var("GCE_METADATA_TIMEOUT")
        .ok()
        .and_then(|s| s.parse().ok())
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .map_or(TIMEOUT, |t| t.min(Duration::from_secs(60)));
    let mut failure = None;
    for host in hosts {
        let mut call = Call {
            headers: vec![(HeaderName::from_static("metadata-flavor"), "Google".to_owned().into())],
            metadata: true,
            ..http.call(Method::Get, &format!("http://{host}/computeMetadata/v1/{path}"))?
        };
        call.deadline = call.deadline.min(Instant::now() + timeout);
        call.connect_timeout = call.connect_timeout.min(timeout / 2);
        match http.client.send(&call, 1, &http.settings.network, http.cancel) {
            Ok(answer) if answer.metadata_flavor => {
                PRESENT.store(true, Ordering::Relaxed);
                return Ok(answer.body);
            }
            Ok(_) => {
                return Err(Error::response(
                    "what answers as the metadata server is not Google's; set GCE_METADATA_HOST, or use a key file",
                ))
            }
            Err(e) if matches!(e.kind(), Kind::Connection | Kind::Timeout) => {
                http.check()?;
                failure = Some(e);
            }
            Err(e) => return Err(e.context("metadata server")),
        }
    }
    if let (true, Some(failure)) = (PRESENT.load(Ordering::Relaxed), failure) {
        return Err(failure.context("metadata server"));
    }
    *ABSENT_SINCE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    Err(none())
}
