//! Rules for the values of secrets, wherever they come from.

use std::time::Duration;

use secrecy::SecretString;
use zeroize::Zeroize as _;

use mysql_ml_base::error::{Error, Kind, Result};

/// The longest secret, bytes.
pub(super) const MAX_SECRET_BYTES: usize = 64 * 1024;

/// How long a fetched value stays usable while its source is unreachable.
pub(super) const USABLE: Duration = Duration::from_secs(3600);

/// A value that was passed to a function, under the same rules. Errors do not repeat it.
pub fn given(value: &str) -> Result<SecretString> {
    checked(value, "in argument value")
}

/// Checks a value and overwrites the buffer it was read into.
pub(super) fn usable(mut value: String, source: &str) -> Result<SecretString> {
    let result = checked(&value, source);
    value.zeroize();
    result
}

/// Trims white space and line ends from editors and `echo`, and checks the rest.
pub(super) fn checked(value: &str, source: &str) -> Result<SecretString> {
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
