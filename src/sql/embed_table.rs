//! `ml_embed_table(model_id, table, content_column, embedding_column, options)`.

use super::command::command;
use crate::jobs::Jobs;

command! {
    /// `ml_embed_table(model_id, table, content_column, embedding_column, options)`: embeds the rows of a table that
    /// lack a vector. Returns a JSON object with `embedded`, `failed`, `skipped` and `seconds`.
    EmbedTable = ml_embed_table, |v, interrupt| {
        let arguments = [
            v.required(0)?,
            v.required(1)?,
            v.required(2)?,
            v.required(3)?,
        ];
        Jobs::global().embed_table(arguments, v.text(4), interrupt)
    }
}
