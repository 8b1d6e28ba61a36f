//! Blots keys out of what endpoints answer: some repeat the key they were given.

use secrecy::{ExposeSecret, SecretString};
use ureq::http::HeaderName;

/// Shorter values are no keys.
const SHORTEST: usize = 8;

/// The keys among a request's headers.
pub fn secrets_of(headers: &[(HeaderName, SecretString)]) -> Vec<SecretString> {
    headers.iter().filter(|(name, value)| is_secret(name, value)).map(|(_, value)| value.clone()).collect()
}

/// Headers whose value is, or may be, a key.
fn is_secret(name: &HeaderName, value: &SecretString) -> bool {
    let name = name.as_str();
    bare(value.expose_secret()).len() >= SHORTEST
        && ["auth", "key", "token", "secret", "password", "cookie"].iter().any(|word| name.contains(word))
}

/// The key in a header's value, without its scheme.
fn bare(value: &str) -> &str {
    match value.split_once(' ') {
        Some(("Bearer" | "bearer" | "Basic" | "Token", key)) => key,
        _ => value,
    }
}

/// Replaces each occurrence of a secret in a body by `*` of the same length.
pub fn blot_out(body: &mut [u8], secrets: &[SecretString]) {
    for secret in secrets {
        let needle = bare(secret.expose_secret()).as_bytes();
        // A short one, such as the `none` that some servers take, is a word like any other.
        if needle.len() < SHORTEST {
            continue;
        }
        let found: Vec<usize> = memchr::memmem::find_iter(body, needle).collect();
        for at in found {
            if let Some(place) = body.get_mut(at..at + needle.len()) {
                place.fill(b'*');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_answers_are_blotted_out() {
        let secrets = [SecretString::from("Bearer sk-12345678")];
        let mut body = b"{\"you sent\":\"sk-12345678\"}".to_vec();
        blot_out(&mut body, &secrets);
        assert_eq!(body, b"{\"you sent\":\"***********\"}");
        let mut body = b"none of the above".to_vec();
        blot_out(&mut body, &[SecretString::from("none")]);
        assert_eq!(body, b"none of the above");
    }

    #[test]
    fn only_key_headers_are_secret() {
        let secret = |n: &'static str, v: &str| is_secret(&HeaderName::from_static(n), &SecretString::from(v));
        assert!(secret("x-auth", "12345678") && secret("proxy-authorization", "Basic 12345678"));
        assert!(secret("x-api-key", "12345678") && secret("authorization", "Bearer 12345678"));
        assert!(!secret("anthropic-version", "2023-06-01") && !secret("x-api-key", "short"));
    }
}
