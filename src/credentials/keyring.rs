//! `keyring:NAME`: a key of the server's keyring that `ml_create_secret` stored.

use std::time::{Duration, Instant};

use secrecy::SecretString;

use super::checked;
use crate::error::{Error, Kind, Result};
use crate::server::keyring;
use crate::server::sql::{with_session, As, Purpose};
use crate::threads::interrupt::Never;

/// How long a keyring may take. Some are services on the network.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a key whose name was checked at registration. Waits for a thread on which the server can be asked.
pub fn read(name: &str) -> Result<SecretString> {
    let source = format!("keyring:{name}");
    let key = name.to_owned();
    let deadline = Instant::now() + TIMEOUT;
    let found =
        with_session(&As::Library, Purpose::Keyring, &Never, deadline, move |session| keyring::read(session, &key));
    let value = found.map_err(|e| match e.kind() {
        Kind::Timeout => Error::new(
            Kind::Timeout,
            format!("the secret {source} was not read within {} s; see the server's keyring", TIMEOUT.as_secs()),
        ),
        _ => e,
    })?;
    let value = value.ok_or_else(|| {
        Error::new(
            Kind::NotFound,
            format!("the secret {source} is not in this server's keyring; put it there with CALL mysql.ml_alter_secret(...)"),
        )
    })?;
    let text = std::str::from_utf8(&value)
        .map_err(|_| Error::invalid(format!("the secret {source} is not valid UTF-8; store the key anew")))?;
    checked(text, &source)
}
