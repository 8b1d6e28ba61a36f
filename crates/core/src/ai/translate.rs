//! `ai.translate`: a text in another language.

use mysql_ml_base::error::{cut, Error, Result};

use super::{instruction, Reading, Task};
use crate::providers::chat::GenerateOptions;

/// The longest name of a language, bytes.
const MAX_LANGUAGE: usize = 100;

/// The task for a language by its name or code: `German`, `de`, `pt-BR`.
pub fn task(language: &str, options: GenerateOptions) -> Result<Task> {
    let language = language_of(language)?;
    let task = format!(
        "Translate the user's message into this language: {language}. Keep its meaning and layout. Answer with the translation only."
    );
    Task::new(instruction(&task), None, Reading::Text, options)
}

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
