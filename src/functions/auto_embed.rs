//! `ml_initialize_embeddings`, `ml_refresh_embeddings`, `ml_drop_embedding_config`, `ml_embedding_progress`: what the
//! routines of the schema `ai` call. Names and arguments are those of AlloyDB's automatic embeddings.

use super::command::{command, required};
use crate::jobs::Jobs;
use mysql_ml_base::error::Error;

command! {
    /// `ml_initialize_embeddings(model_id, table_name, content_column, embedding_column, batch_size,
    /// incremental_refresh_mode)`: remembers a column and embeds its rows. Returns a JSON object with `embedded`,
    /// `failed`, `skipped`, `seconds` and perhaps `note`.
    InitializeEmbeddings = "ml_initialize_embeddings",
    &[
        &["model_id"],
        &["table_name"],
        &["content_column"],
        &["embedding_column"],
        &["batch_size"],
        &["incremental_refresh_mode"],
    ], 4,
    |v, _, interrupt| {
        let arguments = [
            required(v, 0, "model_id")?,
            required(v, 1, "table_name")?,
            required(v, 2, "content_column")?,
            required(v, 3, "embedding_column")?,
        ];
        let [batch_size, mode] = [4, 5].map(|i| v.get(i).copied().flatten());
        Jobs::global().initialize_embeddings(arguments, batch_size, mode, interrupt)
    }
}
command! {
    /// `ml_refresh_embeddings(table_name, embedding_column, batch_size)`: embeds what lacks a vector, of all columns of
    /// the table where none is named, and of all tables where none is. The result is that of `ml_initialize_embeddings`.
    /// With a fourth argument `'event'` it is what the event of a column calls.
    RefreshEmbeddings = "ml_refresh_embeddings",
    &[&["table_name"], &["embedding_column"], &["batch_size"], &["caller"]], 1,
    |v, _, interrupt| {
        let [table, embedding, batch_size, caller] = [0, 1, 2, 3].map(|i| v.get(i).copied().flatten());
        match (caller, table, embedding) {
            (None, ..) => Jobs::global().refresh_embeddings(table, embedding, batch_size, interrupt),
            (Some("event"), Some(table), Some(embedding)) => {
                Jobs::global().refresh_by_event(table, embedding, interrupt)
            }
            _ => Err(Error::invalid("argument caller takes 'event' with a table and a column, else leave it out")),
        }
    }
}
command! {
    /// `ml_drop_embedding_config(table_name, embedding_column)`: forgets a column, all of a table, or all; vectors stay.
    /// Returns how many there were.
    DropEmbeddingConfig = "ml_drop_embedding_config", &[&["table_name"], &["embedding_column"]], 1,
    |v, _, interrupt| {
        let [table, embedding] = [0, 1].map(|i| v.get(i).copied().flatten());
        Jobs::global().drop_embedding_config(table, embedding, interrupt).map(|n| n.to_string())
    }
}
command! {
    /// `ml_embedding_progress()`: a JSON array of the columns that are kept embedded, of tables that the caller can see.
    EmbeddingProgress = "ml_embedding_progress", &[], 0,
    |_, _, interrupt| Jobs::global().embedding_progress(interrupt)
}
