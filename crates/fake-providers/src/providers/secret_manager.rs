//! Google's Secret Manager under `/secretmanager`.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::json;

use super::call::{either, Call};
use super::{google, google_identity};
use crate::answer::Answer;

/// The version of `latest`.
const LATEST: &str = "3";

/// The routes under `/secretmanager`.
pub(super) fn route(call: &Call<'_>) -> Answer {
    either(access(call))
}

fn access(call: &Call<'_>) -> Result<Answer, Answer> {
    let (parent, secret, version) = match call.parts {
        ["v1", "projects", project, "secrets", secret, "versions", version] => {
            (format!("projects/{project}"), *secret, *version)
        }
        ["v1", "projects", project, "locations", location, "secrets", secret, "versions", version] => {
            (format!("projects/{project}/locations/{location}"), *secret, *version)
        }
        _ => return Err(google::no_such_page(call)),
    };
    let version = version.strip_suffix(":access").ok_or_else(|| google::no_such_page(call))?;
    if call.request.method != "GET" {
        return Err(google::no_such_page(call));
    }
    google_identity::authorise(call)?;
    if secret == "forbidden" {
        let message = format!(
            "Permission 'secretmanager.versions.access' denied for resource '{parent}/secrets/{secret}/versions/{version}' (or it may not exist)."
        );
        return Err(google::error(403, "PERMISSION_DENIED", &message));
    }
    let name = |version: &str| format!("{parent}/secrets/{secret}/versions/{version}");
    let secrets = call.state.secrets();
    let stored = secrets.get(&name(version)).or_else(|| match version {
        LATEST => secrets.get(&name("latest")),
        _ => None,
    });
    let Some(value) = stored else {
        let known = secrets.keys().any(|key| key.starts_with(&name("")));
        let message = if known {
            format!("Secret Version [{}] not found.", name(version))
        } else {
            format!("Secret [{parent}/secrets/{secret}] not found or has no versions.")
        };
        return Err(google::error(404, "NOT_FOUND", &message));
    };
    let number = if version == "latest" { LATEST } else { version };
    let sum = crc32c(value) ^ u32::from(secret == "broken-crc");
    let payload = json!({"data": STANDARD.encode(value), "dataCrc32c": sum.to_string()});
    Ok(Answer::json(200, &json!({"name": name(number), "payload": payload})))
}

/// CRC-32C (Castagnoli), bit by bit: secrets are short.
fn crc32c(bytes: &[u8]) -> u32 {
    let sum = bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 * (sum & 1)))
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn checksum() {
        // From RFC 3720, B.4, and the usual check value.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
