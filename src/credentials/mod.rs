//! Where keys come from. A value is read at use, lives as long as one call and is never printed.

mod env;
mod file;
mod keyring;

use secrecy::SecretString;
use zeroize::Zeroize as _;

use crate::error::{Error, Kind, Result};
use crate::models::secret::SecretPath;

/// A secret longer than this is no key.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Reads the value behind a path. Errors name the path, never the value.
pub fn read(path: &SecretPath) -> Result<SecretString> {
    match path {
        SecretPath::Env(name) => env::read(name),
        SecretPath::File(name) => file::read(name, &file::directory()),
        SecretPath::Keyring(name) => keyring::read(name),
        SecretPath::GoogleSecretManager(_) => Err(Error::new(
            Kind::Unsupported,
            "its secret is in Google Secret Manager, which this version cannot read; use env:VARIABLE or file:NAME",
        )),
    }
}

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

/// Trims the line break that editors and `echo` leave, and checks what is left.
fn checked(value: &str, source: &str) -> Result<SecretString> {
    let value = value.trim_end_matches(['\n', '\r']);
    if value.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("the secret {source} is empty; put the key there")));
    }
    if value.len() > MAX_SECRET_BYTES || value.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "the secret {source} is not a key: it is longer than 64 KiB or has a line break or control character in it"
        )));
    }
    Ok(SecretString::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_trailing_line_break_is_not_part_of_the_key() {
        assert_eq!(usable("k-1\r\n".into(), "x").unwrap().expose_secret(), "k-1");
        assert!(usable("\n".into(), "x").is_err());
        assert!(!usable("a\nb-secret".into(), "x").unwrap_err().message().contains("b-secret"));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = usable("sk-hidden".into(), "x").unwrap();
        assert!(!format!("{secret:?}").contains("hidden"));
    }
}
