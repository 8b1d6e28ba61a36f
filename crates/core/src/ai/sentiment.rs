//! `ai.analyze_sentiment`: positive, negative, neutral or mixed.

use serde_json::json;

use mysql_ml_base::error::Result;

use super::{instruction, object_of, Reading, Task};
use crate::providers::chat::GenerateOptions;

/// The task.
pub fn task(options: GenerateOptions) -> Result<Task> {
    let schema = object_of("label", json!({"type": "string", "enum": ["positive", "negative", "mixed", "neutral"]}));
    let task =
        "Name the sentiment of the user's message: positive, negative, mixed if it is both, neutral if it is neither.";
    Task::new(instruction(task), Some(schema), Reading::Label, options)
}
