//! Access tokens as services mint them.

use std::time::Duration;

use secrecy::SecretString;

use mysql_ml_base::error::Error;

/// The scope of tokens.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The longest lifetime of a token.
pub(super) const MAX_LIFETIME: Duration = Duration::from_secs(86_400);

/// A token as it was minted.
pub(super) struct Minted {
    pub value: SecretString,
    pub lifetime: Duration,
}

/// The error if no credentials exist.
pub(super) fn none_found(why: &str) -> Error {
    Error::new(
        mysql_ml_base::error::Kind::NotFound,
        format!(
            "no Google credentials: {why}; set GOOGLE_APPLICATION_CREDENTIALS to a key file in mysqld's environment and restart, or name a secret that holds one in model_auth_id"
        ),
    )
}
