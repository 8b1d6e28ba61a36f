//! Sources of keys. A value is read at use, goes into a request header and is never printed.

mod env;
mod file;
pub mod google;
pub mod http;
pub mod keyring;
mod refreshing_secret;
mod secret_manager;
pub mod value;

use secrecy::SecretString;

use mysql_ml_base::error::{Error, Result};

use self::http::Http;
use self::keyring::Keyring;
use crate::catalog::secret::SecretPath;

/// All sources of credentials, with cached tokens and values.
pub struct Credentials {
    keyring: Box<dyn Keyring>,
    google: google::Identities,
    secret_manager: secret_manager::Values,
}

impl Credentials {
    /// Empty caches; `keyring` holds the values of `keyring:` paths.
    pub fn new(keyring: Box<dyn Keyring>) -> Self {
        Credentials {
            keyring,
            google: google::Identities::default(),
            secret_manager: secret_manager::Values::default(),
        }
    }

    /// The value of a registered secret. `rejected`: a value that the provider refused; a cached value equal to it is
    /// read again.
    pub fn secret(&self, path: &SecretPath, rejected: Option<&SecretString>, http: &Http<'_>) -> Result<SecretString> {
        match path {
            SecretPath::GoogleSecretManager(name) => self.secret_manager.get(name, rejected, &self.google, http),
            _ => self.read(path),
        }
    }

    /// The value of a secret that is a Google credentials document of several lines.
    pub fn document(&self, path: &SecretPath, http: &Http<'_>) -> Result<SecretString> {
        match path {
            SecretPath::File(name) => file::read_document(name, &file::directory()),
            _ => self.secret(path, None, http),
        }
    }

    /// Reads the value behind a path of this machine. Errors name the path, never the value.
    fn read(&self, path: &SecretPath) -> Result<SecretString> {
        match path {
            SecretPath::Env(name) => env::read(name),
            SecretPath::File(name) => file::read(name, &file::directory()),
            SecretPath::Keyring(name) => keyring::read(self.keyring.as_ref(), name),
            SecretPath::GoogleSecretManager(_) => {
                Err(Error::internal("a secret of Secret Manager was read as a local one"))
            }
        }
    }

    /// Google's identities.
    pub fn google(&self) -> &google::Identities {
        &self.google
    }
}
