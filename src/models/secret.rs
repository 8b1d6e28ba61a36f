//! A registered secret: where a key is found, never the key.

use crate::error::{cut, Error, Result};

/// Where a secret's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPath {
    /// A variable of mysqld's environment.
    Env(String),
    /// A file in the secrets directory.
    File(String),
    /// `projects/P[/locations/L]/secrets/S/versions/V` of Google Secret Manager.
    GoogleSecretManager(String),
}

/// The names of environment variables that may be read besides `MYSQL_ML_SECRET_*`: what the providers' own
/// documentation tells users to set.
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
        let parts: Vec<&str> = text.split('/').collect();
        let google = match parts.as_slice() {
            ["projects", p, "secrets", s, "versions", v] => [*p, "x", *s, *v].iter().all(|x| !x.is_empty()),
            ["projects", p, "locations", l, "secrets", s, "versions", v] => {
                [*p, *l, *s, *v].iter().all(|x| !x.is_empty())
            }
            _ => false,
        };
        if google && text.len() <= 512 && !text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Ok(SecretPath::GoogleSecretManager(text.to_owned()));
        }
        // The text is not repeated: people paste the key itself here.
        Err(Error::invalid(
            "secret_path is not a path; accepted: env:VARIABLE, file:NAME, projects/P/secrets/S/versions/V (never the key itself)",
        ))
    }
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
        ] {
            assert!(SecretPath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_in_place_of_a_path_is_not_repeated() {
        let e = SecretPath::parse("sk-verysecretkey").unwrap_err();
        assert!(!e.message().contains("verysecret"));
    }
}
