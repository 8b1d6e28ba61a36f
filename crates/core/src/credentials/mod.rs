//! Where keys come from. A value is read at use, goes into a request header and is never printed.

mod env;
mod file;
pub mod google;
pub mod keyring;
mod secret_manager;
mod slot;

use std::time::{Duration, Instant};

use secrecy::SecretString;
use url::Url;
use zeroize::Zeroize as _;

use self::google::hosts::Hosts;
use self::keyring::Keyring;
use crate::catalog::secret::SecretPath;
use crate::catalog::settings::Settings;
use crate::http::{Answer, Call, Client, Method};
use mysql_ml_base::error::{Error, Kind, Result};

use mysql_ml_base::interrupt::CancelToken;

/// A secret longer than this is no key.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// The largest answer of a service that hands out credentials.
const MAX_ANSWER: usize = 1 << 20;

/// How often a request for a credential is sent again.
const RETRIES: u64 = 2;

/// What is needed to ask a service for a credential, on behalf of one call.
#[derive(Clone, Copy)]
pub struct Http<'a> {
    /// Sends.
    pub client: &'a Client,
    /// The network policy.
    pub settings: &'a Settings,
    /// Stops.
    pub cancel: &'a CancelToken,
    /// The call's.
    pub deadline: Instant,
    /// Google's hosts.
    pub hosts: &'a Hosts,
}

impl Http<'_> {
    /// An error where the call was stopped or its time is up.
    fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::interrupted(1317));
        }
        if Instant::now() >= self.deadline {
            return Err(Error::new(Kind::Timeout, "no credentials in time; raise timeout_ms or try later"));
        }
        Ok(())
    }

    fn call(&self, method: Method, url: &str) -> Result<Call> {
        let url = Url::parse(url)
            .ok()
            .filter(|u| u.username().is_empty() && u.password().is_none() && u.fragment().is_none())
            .ok_or_else(|| Error::invalid("a URL in the Google credentials is none; correct it"))?;
        let mut call = Call::new(method, url, self.deadline, &self.settings.network);
        call.max_response = MAX_ANSWER;
        call.hints = false;
        Ok(call)
    }

    fn send(&self, call: &Call) -> Result<Answer> {
        self.client.send(call, RETRIES, &self.settings.network, self.cancel)
    }
}

/// The credentials in use, with what is remembered of them.
pub struct Credentials {
    keyring: Box<dyn Keyring>,
    google: google::Identities,
    secret_manager: secret_manager::Values,
}

impl Credentials {
    /// Nothing is remembered yet; `keyring` holds the values of `keyring:` paths.
    pub fn new(keyring: Box<dyn Keyring>) -> Self {
        Credentials {
            keyring,
            google: google::Identities::default(),
            secret_manager: secret_manager::Values::default(),
        }
    }

    /// The value of a registered secret. `rejected` is one that the provider did not accept: a value that is only
    /// remembered is then read again.
    pub fn secret(&self, path: &SecretPath, rejected: Option<&SecretString>, http: &Http<'_>) -> Result<SecretString> {
        match path {
            SecretPath::GoogleSecretManager(name) => self.secret_manager.get(name, rejected, &self.google, http),
            _ => self.read(path),
        }
    }

    /// The value of a secret that is a file of Google credentials, which has several lines.
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

/// How long a value that is fetched stays usable while its source cannot be reached.
const USABLE: Duration = Duration::from_secs(3600);

/// A value that was passed to a function, under the same rules. Errors do not repeat it.
pub fn given(value: &str) -> Result<SecretString> {
    checked(value, "in argument value")
}

/// Checks a value that was read; what it was read into is overwritten.
fn usable(mut value: String, source: &str) -> Result<SecretString> {
    let result = checked(&value, source);
    value.zeroize();
    result
}

/// Trims what editors, `echo` and careless copying leave, and checks what is left.
fn checked(value: &str, source: &str) -> Result<SecretString> {
    let text = value.strip_prefix('\u{feff}').unwrap_or(value);
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("the secret {source} is empty; put the key there")));
    }
    if text.len() > MAX_SECRET_BYTES || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "the secret {source} is not a key: it is longer than 64 KiB or has a line break or control character in it"
        )));
    }
    if text.trim() != text {
        return Err(Error::invalid(format!("the secret {source} has a space at an end; remove it")));
    }
    if text.starts_with("Bearer ") {
        return Err(Error::invalid(format!(
            "the secret {source} begins with 'Bearer '; put the key alone there, the scheme is added"
        )));
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    /// Runs `f` with what it needs to ask services.
    pub(super) fn with_http<T>(f: impl FnOnce(&Http<'_>) -> T) -> T {
        f(&Http {
            client: &Client::default(),
            settings: &Settings::default(),
            cancel: &CancelToken::default(),
            deadline: Instant::now() + Duration::from_secs(20),
            hosts: &Hosts::default(),
        })
    }

    #[test]
    fn a_trailing_line_break_is_not_part_of_the_key() {
        assert_eq!(usable("k-1\r\n".into(), "x").unwrap().expose_secret(), "k-1");
        assert_eq!(usable("\u{feff}k-1\n".into(), "x").unwrap().expose_secret(), "k-1");
        assert!(usable("\n".into(), "x").is_err());
        assert!(!usable("a\nb-secret".into(), "x").unwrap_err().message().contains("b-secret"));
        for careless in [" k-secret", "k-secret \n", "Bearer k-secret"] {
            assert!(!usable(careless.into(), "x").unwrap_err().message().contains("k-secret"));
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = usable("sk-hidden".into(), "x").unwrap();
        assert!(!format!("{secret:?}").contains("hidden"));
    }
}
