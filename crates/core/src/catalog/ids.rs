//! Ids of models and secrets.

use crate::http::leaked_key;
use mysql_ml_base::error::{Error, Result};

/// The longest model or secret id, in characters.
pub const MAX_ID_CHARS: usize = 100;

/// Checks a model or secret id.
pub fn check_id(argument: &str, id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::invalid(format!(
            "{argument} is required; choose a name of at most {MAX_ID_CHARS} characters"
        )));
    }
    if id.chars().count() > MAX_ID_CHARS {
        return Err(Error::invalid(format!(
            "{argument} '{}' is longer than {MAX_ID_CHARS} characters; choose a shorter one",
            leaked_key::display(id, 60)
        )));
    }
    if id.trim() != id || id.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "{argument} '{}' has a control character or a space at an end; use a name without",
            leaked_key::display(id, 120)
        )));
    }
    Ok(())
}
