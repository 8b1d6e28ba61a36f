//! `ml_embed_table(model_id, table, content_column, embedding_column, options)`.

use super::command::{command, required};
use crate::jobs::Jobs;

command! {
    /// `ml_embed_table(model_id, table, content_column, embedding_column, options)`: embeds the rows of a table that lack
    /// a vector. Returns a JSON object with `embedded`, `failed`, `skipped` and `seconds`.
    EmbedTable = "ml_embed_table",
    &[&["model_id"], &["table", "table_name"], &["content_column"], &["embedding_column"], &["options"]], 4,
    |v, _, interrupt| {
        let arguments = [
            required(v, 0, "model_id")?,
            required(v, 1, "table")?,
            required(v, 2, "content_column")?,
            required(v, 3, "embedding_column")?,
        ];
        Jobs::global().embed_table(arguments, v.get(4).copied().flatten(), interrupt)
    }
}
