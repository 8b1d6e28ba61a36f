//! `ai.translate`: a text in another language.

use mysql_ml_base::error::Result;

use super::language::language_of;
use super::{instruction, Reading, Task};
use crate::providers::chat::GenerateOptions;

/// The task for a language by its name or code: `German`, `de`, `pt-BR`.
pub fn task(language: &str, options: GenerateOptions) -> Result<Task> {
    let language = language_of(language)?;
    let task = format!(
        "Translate the user's message into this language: {language}. Keep its meaning and layout. Answer with the translation only."
    );
    Task::new(instruction(&task), None, Reading::Text, options)
}
