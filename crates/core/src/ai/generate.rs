//! `ai.generate`: the answer to a prompt, as text or as JSON that conforms to a schema.

use mysql_ml_base::error::Result;

use super::{Reading, Task};
use crate::providers::chat::GenerateOptions;

/// The task without instruction. With the option `json_schema` the answer is JSON.
pub fn task(mut options: GenerateOptions) -> Result<Task> {
    let schema = options.json_schema.take();
    let reading = if schema.is_some() { Reading::Document } else { Reading::Text };
    Task::new(None, schema, reading, options)
}
