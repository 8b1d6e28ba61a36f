//! Loadable functions behind the routines for chunk tables.

use super::command::command;
use crate::jobs::Jobs;
use mysql_ml_base::error::Error;

command! {
    /// `ai_create_chunks(source_table, text_column, chunk_table [, options])`: creates a table of a column's chunks and fills
    /// it. Returns a JSON object with `rows`, `inserted`, `moved`, `removed`, `failed`, `embedded`, `seconds` and `note`.
    Create = ai_create_chunks, |v, interrupt| {
        Jobs::global().create_chunks(v.required(0)?, v.required(1)?, v.required(2)?, v.text(3), interrupt)
    }
}
command! {
    /// `ai_refresh_chunks(chunk_table [, options])`: brings a chunk table in step with its source. Returns the object of
    /// `ai_create_chunks`. Its event calls it with a third argument, `'event'`.
    Refresh = ai_refresh_chunks, |v, interrupt| {
        let by_event = match v.text(2) {
            None => false,
            Some("event") => true,
            Some(_) => return Err(Error::invalid("argument caller takes 'event'; leave it out")),
        };
        Jobs::global().refresh_chunks(v.required(0)?, v.text(1), by_event, interrupt)
    }
}
command! {
    /// `ai_drop_chunks(chunk_table [, options])`: a chunk table follows its source no more. Returns a JSON object with
    /// `dropped`.
    Drop = ai_drop_chunks, |v, interrupt| Jobs::global().drop_chunks(v.required(0)?, v.text(1), interrupt)
}
command! {
    /// `ai_chunk_tables()`: a JSON array, one object for each chunk table that the caller can see.
    ChunkTables = ai_chunk_tables, |_, interrupt| Jobs::global().chunk_tables(interrupt)
}
