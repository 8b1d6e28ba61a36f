//! What bulk embedding leaves for people to look at: progress and failed rows, in tables of the library.

use std::time::Instant;

use crate::error::Result;
use crate::server::session::{Param, Session};
use crate::server::sql::{with_session, As, Purpose, SQL_TIMEOUT};
use crate::tables::layout::Layout;
use crate::threads::interrupt::Interrupt;

/// How far a table is.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// `running`, `finished`, `stopped` or `failed`.
    pub status: &'static str,
    /// Rows that got a vector.
    pub embedded: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Rows that changed or went away while they were embedded.
    pub skipped: u64,
    /// Why it ended, if not because it was done.
    pub message: Option<String>,
}

/// A row that failed.
#[derive(Debug, Clone)]
pub struct FailedRow {
    /// Its key, as JSON.
    pub key: String,
    /// Why.
    pub error: String,
}

fn library<T: Send + 'static>(
    interrupt: &dyn Interrupt,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<T> {
    with_session(&As::Library, Purpose::Own, interrupt, Instant::now() + SQL_TIMEOUT, work)
}

/// Writes how far a table is; a `start` begins anew.
pub fn write_progress(
    layout: &Layout,
    model_id: &str,
    progress: &Progress,
    start: bool,
    interrupt: &dyn Interrupt,
) -> Result<()> {
    let (layout, model_id, p) = (layout.clone(), model_id.to_owned(), progress.clone());
    library(interrupt, move |s| {
        let started = if start { "CURRENT_TIMESTAMP(6)" } else { "started_at" };
        let numbers = [p.embedded.to_string(), p.failed.to_string(), p.skipped.to_string()];
        let [embedded, failed, skipped] = &numbers;
        s.query(
            &format!(
                "INSERT INTO mysql.cloudsql_ml_embed_progress (table_schema, table_name, embedding_column, model_id, status, \
                 embedded, failed, skipped, message) VALUES (?, ?, ?, ?, ?, {embedded}, {failed}, {skipped}, ?) AS new \
                 ON DUPLICATE KEY UPDATE model_id = new.model_id, status = new.status, embedded = new.embedded, \
                 failed = new.failed, skipped = new.skipped, message = new.message, started_at = {started}, \
                 updated_at = CURRENT_TIMESTAMP(6)"
            ),
            &[
                layout.schema.as_str().into(),
                layout.table.as_str().into(),
                layout.embedding.as_str().into(),
                model_id.as_str().into(),
                p.status.into(),
                p.message.as_deref().into(),
            ],
        )
        .map(|_| ())
    })
}

/// Writes rows that failed.
pub fn write_failures(layout: &Layout, rows: Vec<FailedRow>, interrupt: &dyn Interrupt) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let layout = layout.clone();
    library(interrupt, move |s| {
        let mut params: Vec<Param<'_>> = Vec::new();
        for row in &rows {
            params.extend([
                Param::Text(&layout.schema),
                Param::Text(&layout.table),
                Param::Text(&layout.embedding),
                Param::Text(&row.key),
                Param::Text(&row.key),
                Param::Text(&row.error),
            ]);
        }
        let values = vec!["(?, ?, ?, UNHEX(SHA2(?, 256)), ?, ?)"; rows.len()].join(", ");
        s.query(
            &format!(
                "INSERT INTO mysql.cloudsql_ml_embed_failures (table_schema, table_name, embedding_column, row_key_hash, \
                 row_key, error) VALUES {values} AS new ON DUPLICATE KEY UPDATE error = new.error, \
                 tries = tries + 1, failed_at = CURRENT_TIMESTAMP(6)"
            ),
            &params,
        )
        .map(|_| ())
    })
}

/// Forgets rows that failed before and have their vector now. Returns how many are left.
pub fn clear_failures(layout: &Layout, keys: Vec<String>, interrupt: &dyn Interrupt) -> Result<u64> {
    let layout = layout.clone();
    library(interrupt, move |s| {
        let place = [Param::Text(&layout.schema), Param::Text(&layout.table), Param::Text(&layout.embedding)];
        let of_table = "table_schema = ? AND table_name = ? AND embedding_column = ?";
        if !keys.is_empty() {
            let mut params = place.to_vec();
            params.extend(keys.iter().map(|k| Param::Text(k)));
            let digests = vec!["UNHEX(SHA2(?, 256))"; keys.len()].join(", ");
            s.query(
                &format!(
                    "DELETE FROM mysql.cloudsql_ml_embed_failures WHERE {of_table} AND row_key_hash IN ({digests})"
                ),
                &params,
            )?;
        }
        let left =
            s.query(&format!("SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_failures WHERE {of_table}"), &place)?;
        left.rows.first().map_or(Ok(0), |row| row.get(0))
    })
}
