//! `ai.summarize`: a summary of a text.

use mysql_ml_base::error::Result;

use super::{instruction, Reading, Task};
use crate::providers::chat::GenerateOptions;

/// The task.
pub fn task(options: GenerateOptions) -> Result<Task> {
    let task = "Summarize the user's message briefly, in its own language. Answer with the summary only.";
    Task::new(instruction(task), None, Reading::Text, options)
}
