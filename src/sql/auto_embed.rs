//! Loadable functions behind the routines of the schema `ai`: `ml_initialize_embeddings`, `ml_refresh_embeddings`,
//! `ml_drop_embedding_config`, `ml_embedding_progress`. Names and arguments follow AlloyDB's automatic embeddings.

use super::command::command;
use crate::jobs::Jobs;
use mysql_ml_base::error::Error;

command! {
    /// `ml_initialize_embeddings(model_id, table_name, content_column, embedding_column, batch_size,
    /// incremental_refresh_mode)`: stores a configuration for a column and embeds its rows. Returns a JSON object
    /// with `embedded`, `failed`, `skipped`, `seconds` and optionally `note`.
    InitializeEmbeddings = ml_initialize_embeddings, |v, interrupt| {
        let arguments = [
            v.required(0)?,
            v.required(1)?,
            v.required(2)?,
            v.required(3)?,
        ];
        let [batch_size, mode] = [4, 5].map(|i| v.text(i));
        Jobs::global().initialize_embeddings(arguments, batch_size, mode, interrupt)
    }
}
command! {
    /// `ml_refresh_embeddings(table_name, embedding_column, batch_size)`: embeds rows without a vector. A NULL column
    /// means all configured columns of the table; a NULL table, all configured tables. Returns the object of
    /// `ml_initialize_embeddings`. A column's event calls it with a fourth argument, `'event'`.
    RefreshEmbeddings = ml_refresh_embeddings, |v, interrupt| {
        let [table, embedding, batch_size, caller] = [0, 1, 2, 3].map(|i| v.text(i));
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
    /// `ml_drop_embedding_config(table_name, embedding_column)`: removes the configuration of a column, of a table's
    /// columns, or of all. Vectors stay. Returns the number of removed configurations.
    DropEmbeddingConfig = ml_drop_embedding_config, |v, interrupt| {
        let [table, embedding] = [0, 1].map(|i| v.text(i));
        Jobs::global().drop_embedding_config(table, embedding, interrupt).map(|n| n.to_string())
    }
}
command! {
    /// `ml_embedding_progress()`: a JSON array, one object for each configured column of tables that the caller can
    /// see.
    EmbeddingProgress = ml_embedding_progress, |_, interrupt| Jobs::global().embedding_progress(interrupt)
}
