//! `keyring:NAME`: a key of the server's keyring that `ml_create_secret` stored.

use secrecy::SecretString;
use zeroize::Zeroizing;

use mysql_ml_base::error::{Error, Kind, Result};

use super::value::checked;

/// A keyring: values by name.
pub trait Keyring: Send + Sync {
    /// The value of `name`; `None` if it does not exist.
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>>;
}

/// No keyring, for a process without a server.
pub struct NoKeyring;

impl Keyring for NoKeyring {
    fn read(&self, _name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
        Err(Error::new(Kind::Unsupported, "there is no keyring in this process"))
    }
}

/// Reads a key whose name was checked at registration.
pub(super) fn read(keyring: &dyn Keyring, name: &str) -> Result<SecretString> {
    let source = format!("keyring:{name}");
    let value = keyring.read(name)?.ok_or_else(|| {
        Error::new(
            Kind::NotFound,
            format!("the secret {source} is not in this server's keyring; put it there with CALL mysql.ml_alter_secret(...)"),
        )
    })?;
    let text = std::str::from_utf8(&value)
        .map_err(|_| Error::invalid(format!("the secret {source} is not valid UTF-8; store the key anew")))?;
    checked(text, &source)
}
