//! A registered secret: where a key is found, never the key.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::Url;

use super::model::check_id;
use super::options::parse_object;
use crate::http::leaked_key;
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::url::is_below;

/// A registered secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// The source of its value.
    pub path: SecretPath,
    /// The URL prefix it may be sent to; `None`: anywhere.
    pub url_prefix: Option<Url>,
}

impl Secret {
    /// Reads a stored secret.
    pub fn from_stored(path: &str, options: Option<&str>) -> Result<Self> {
        let url_prefix = match options {
            Some(options) => url_prefix(&parse_object(options)?)?,
            None => None,
        };
        Ok(Secret { path: SecretPath::parse(path)?, url_prefix })
    }

    /// An error if the secret's prefix does not cover `url`: same scheme, host and port, and a path equal to or below
    /// the prefix's.
    pub fn check_url(&self, url: &Url) -> Result<()> {
        let Some(prefix) = &self.url_prefix else { return Ok(()) };
        if is_below(prefix, url) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Denied,
            format!("its secret is bound to {}; the request URL must begin with that", cut(prefix.as_str(), 120)),
        ))
    }
}

/// Reads the options of a secret, of which there is one: `url_prefix`.
pub fn url_prefix(options: &Map<String, Value>) -> Result<Option<Url>> {
    if let Some(name) = options.keys().find(|name| *name != "url_prefix") {
        return Err(Error::invalid(format!("option '{}' is not known; accepted: url_prefix", cut(name, 60))));
    }
    let Some(value) = options.get("url_prefix") else { return Ok(None) };
    let url = value.as_str().and_then(|text| Url::parse(text).ok()).filter(|url| {
        matches!(url.scheme(), "https" | "http")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    url.map(Some).ok_or_else(|| {
        Error::invalid(
            "option url_prefix takes the beginning of a URL without query, such as 'https://api.openai.com/'",
        )
    })
}

/// The source of a secret's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPath {
    /// A variable of mysqld's environment.
    Env(String),
    /// A file in the secrets directory.
    File(String),
    /// A key that the library stored in the server's keyring.
    Keyring(String),
    /// `projects/P[/locations/L]/secrets/S/versions/V` of Google Secret Manager.
    GoogleSecretManager(String),
}

/// Environment variables that may be read besides `MYSQL_ML_SECRET_*`: the variables in the providers' own
/// documentation.
pub const PROVIDER_KEY_VARIABLES: [&str; 15] = [
    "OPENAI_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "COHERE_API_KEY",
    "CO_API_KEY",
    "VOYAGE_API_KEY",
    "MISTRAL_API_KEY",
    "NVIDIA_API_KEY",
    "NGC_API_KEY",
    "OPENROUTER_API_KEY",
    "AWS_BEARER_TOKEN_BEDROCK",
];

impl SecretPath {
    /// Reads and checks a path.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(name) = text.strip_prefix("env:") {
            let allowed = PROVIDER_KEY_VARIABLES.contains(&name)
                || name.strip_prefix("MYSQL_ML_SECRET_").is_some_and(|rest| {
                    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                });
            if !allowed {
                return Err(Error::invalid(format!(
                    "secret_path env:{} may not be read; name the variable MYSQL_ML_SECRET_<something>, or use one of {}",
                    cut(name, 60),
                    PROVIDER_KEY_VARIABLES.join(", ")
                )));
            }
            return Ok(SecretPath::Env(name.to_owned()));
        }
        if let Some(name) = text.strip_prefix("file:") {
            let parts_ok = name.split('/').all(|p| !p.is_empty() && p != "." && p != "..");
            if !parts_ok || name.contains(['\0', '\\']) || name.len() > 255 {
                return Err(Error::invalid(format!(
                    "secret_path file:{} is not a name inside the secrets directory; write file:NAME without leading / and without ..",
                    cut(name, 60)
                )));
            }
            return Ok(SecretPath::File(name.to_owned()));
        }
        if let Some(name) = text.strip_prefix("keyring:") {
            if !is_keyring_name(name) {
                // Not repeated either: it may be the key.
                return Err(Error::invalid(
                    "secret_path keyring: is not followed by a name; write keyring:NAME (never the key itself) with 1 to 100 letters, digits, _ - . or /, without empty parts and ..",
                ));
            }
            return Ok(SecretPath::Keyring(name.to_owned()));
        }
        let parts: Vec<&str> = text.split('/').collect();
        // The location becomes part of a host that receives the server's Google token.
        let name = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let project = |part: &str| part.split(['.', ':']).all(name);
        let google = match parts.as_slice() {
            ["projects", p, "secrets", s, "versions", v] => project(p) && name(s) && name(v),
            ["projects", p, "locations", l, "secrets", s, "versions", v] => project(p) && name(l) && name(s) && name(v),
            _ => false,
        };
        if google && text.len() <= 512 {
            return Ok(SecretPath::GoogleSecretManager(text.to_owned()));
        }
        // The text is not repeated: users paste the key itself here.
        Err(Error::invalid(
            "secret_path is not a path; accepted: env:VARIABLE, file:NAME, keyring:NAME, projects/P/secrets/S/versions/V (never the key itself)",
        ))
    }
}

/// An error for an invalid new id. An id that looks like a key is not repeated: users confuse the two arguments.
pub fn check_new_id(secret_id: &str) -> Result<()> {
    if let Some(what) = leaked_key::in_text(secret_id) {
        return Err(Error::invalid(format!(
            "secret_id appears to hold {what}, and ids are seen by many; choose a name for the secret"
        )));
    }
    check_id("secret_id", secret_id)
}

/// An error for an invalid path, or for a name that looks like a key.
pub fn check_new_path(path: &str) -> Result<()> {
    let name = ["env:", "file:", "keyring:"].iter().find_map(|scheme| path.strip_prefix(scheme));
    if let Some(what) = name.and_then(leaked_key::in_text) {
        return Err(Error::invalid(format!(
            "secret_path appears to hold {what}; give the path of the key, never the key itself"
        )));
    }
    SecretPath::parse(path).map(|_| ())
}

/// Whether a keyring accepts this key name. Some keyrings use it as a URL or file name, hence the rule about its parts.
fn is_keyring_name(name: &str) -> bool {
    name.len() <= 100
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b))
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// The keyring's key name for a secret: its id, or a digest if the id is not a valid name.
pub fn keyring_name(secret_id: &str) -> String {
    if is_keyring_name(secret_id) {
        return secret_id.to_owned();
    }
    let digest = Sha256::digest(secret_id.as_bytes());
    digest.iter().fold("id-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read() {
        assert_eq!(SecretPath::parse("env:OPENAI_API_KEY").unwrap(), SecretPath::Env("OPENAI_API_KEY".into()));
        assert_eq!(SecretPath::parse("file:team/openai").unwrap(), SecretPath::File("team/openai".into()));
        for google in ["projects/p/secrets/s/versions/latest", "projects/p/locations/l/secrets/s/versions/3"] {
            assert!(matches!(SecretPath::parse(google).unwrap(), SecretPath::GoogleSecretManager(_)));
        }
    }

    #[test]
    fn other_variables_and_escapes_are_refused() {
        for bad in [
            "env:PATH",
            "env:MYSQL_ML_SECRET_",
            "file:../x",
            "file:/etc/passwd",
            "file:",
            "projects/p/secrets//versions/1",
            "projects/p/locations/x@evil.example#/secrets/s/versions/1",
            "projects/p/locations/evil.example/secrets/s/versions/1",
            "projects/../secrets/s/versions/1",
        ] {
            assert!(SecretPath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_of_the_keyring_have_plain_names() {
        let longest = "x".repeat(100);
        for name in ["openai", "team/open_ai-2.key", longest.as_str()] {
            assert_eq!(SecretPath::parse(&format!("keyring:{name}")).unwrap(), SecretPath::Keyring(name.into()));
            assert_eq!(keyring_name(name), name);
        }
        for bad in ["", "a b", "a~new", "ä", "/a", "a//b", "a/../b", ".", "a\0", &"x".repeat(101)] {
            assert!(SecretPath::parse(&format!("keyring:{bad}")).is_err(), "{bad}");
            let name = keyring_name(bad);
            assert!(SecretPath::parse(&format!("keyring:{name}")).is_ok() && name.len() == 67, "{name}");
        }
        assert_ne!(keyring_name("a b"), keyring_name("a  b"));
    }

    #[test]
    fn a_bound_secret_goes_nowhere_else() {
        let secret = |prefix: &str| {
            let options = serde_json::json!({ "url_prefix": prefix }).to_string();
            Secret::from_stored("env:OPENAI_API_KEY", Some(&options)).unwrap()
        };
        let ok = |prefix: &str, url: &str| secret(prefix).check_url(&Url::parse(url).unwrap()).is_ok();
        assert!(ok("https://api.openai.com", "https://api.openai.com/v1/embeddings"));
        assert!(ok("https://API.openai.com/v1/", "https://api.openai.com:443/v1/embeddings?x=1"));
        assert!(ok("https://h/v1", "https://h/v1"));
        assert!(ok("https://h/v1", "https://h/v1/model%20a/x.y"));
        for (prefix, url) in [
            ("https://api.openai.com", "https://api.openai.com.evil.org/"),
            ("https://api.openai.com", "http://api.openai.com/"),
            ("https://api.openai.com", "https://api.openai.com:8443/"),
            ("https://h/v1", "https://h/v10"),
            ("https://h/v1", "https://h/v1/../v2"),
            ("https://h/v1", "https://h/v1/%2e%2e/v2"),
            ("https://h/v1", "https://h/v1/..%2fv2"),
            ("https://h/v1", "https://h/v1/%2e%2e%2fv2"),
            ("https://h/v1", "https://h/v1/%252e%252e/v2"),
            ("https://h/v1", "https://h/v1/%25252e./v2"),
            ("https://h/v1", "https://h/v1/a%5cb"),
        ] {
            assert!(!ok(prefix, url), "{prefix} {url}");
        }
        for bad in ["api.openai.com", "ftp://h/", "https://u:p@h/", "https://h/?q"] {
            let options = serde_json::json!({ "url_prefix": bad }).to_string();
            assert!(Secret::from_stored("env:OPENAI_API_KEY", Some(&options)).is_err(), "{bad}");
        }
        assert!(Secret::from_stored("env:OPENAI_API_KEY", Some("{\"prefix\":1}")).is_err());
    }

    #[test]
    fn a_key_in_place_of_a_path_is_not_repeated() {
        let e = SecretPath::parse("sk-verysecretkey").unwrap_err();
        assert!(!e.message().contains("verysecret"));
    }
}
