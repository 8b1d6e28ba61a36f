//! Names of languages.

use mysql_ml_base::error::{cut, Error, Result};

/// The longest name of a language, bytes.
const MAX_LANGUAGE: usize = 100;

/// The name or code of a language, which an instruction may hold.
pub(super) fn language_of(language: &str) -> Result<&str> {
    let language = language.trim();
    let plain = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '(' | ')' | '\'' | ',' | '.');
    if language.is_empty() || language.len() > MAX_LANGUAGE || !language.chars().all(plain) {
        return Err(Error::invalid(format!(
            "language '{}' is not the name or code of a language; give one such as 'German' or 'pt-BR'",
            cut(language, 60)
        )));
    }
    Ok(language)
}
