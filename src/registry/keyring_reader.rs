//! Implements the credentials' keyring over the server's.

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Never;
use mysql_ml_core::credentials::keyring::Keyring;

use crate::mysql::keyring;
use crate::mysql::sql::{with_session, As, SessionKind};

/// Time limit of a keyring; some are services on the network.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The server's keyring, read on threads of internal sessions.
pub struct ServerKeyring;

impl Keyring for ServerKeyring {
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let key = name.to_owned();
        let deadline = Instant::now() + TIMEOUT;
        let found = with_session(&As::Library, SessionKind::Keyring, &Never, deadline, move |session| {
            keyring::read(session, &key)
        });
        found.map_err(|e| match e.kind() {
            Kind::Timeout => Error::new(
                Kind::Timeout,
                format!(
                    "the secret keyring:{name} was not read within {} s; see the server's keyring",
                    TIMEOUT.as_secs()
                ),
            ),
            _ => e,
        })
    }
}
