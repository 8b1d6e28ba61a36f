//! Progress and failed rows of jobs, in tables of the library. Notes belong to the job's account, so jobs of other
//! accounts cannot change them.

use std::time::Instant;

use super::configs::Place;
use crate::mysql::session::{Param, Row, Session};
use crate::mysql::sql::{with_session, As, SessionKind, SQL_TIMEOUT};
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;

/// Progress of a table.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// `running`, `finished`, `stopped` or `failed`.
    pub status: &'static str,
    /// Rows that got a vector.
    pub embedded: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Rows that changed or were deleted while they were embedded.
    pub skipped: u64,
    /// The error that ended it, if any.
    pub message: Option<String>,
}

/// A row that failed.
#[derive(Debug, Clone)]
pub struct FailedRow {
    /// Its key, as JSON.
    pub key: String,
    /// The error's text.
    pub error: String,
}

/// The owner of notes: a column and an account.
#[derive(Debug, Clone)]
pub struct Notes {
    /// The column.
    pub place: Place,
    /// The account, as `user@host`.
    pub account: String,
}

/// The condition of [`Notes::params`].
const OF_NOTES: &str = "table_schema = ? AND table_name = ? AND embedding_column = ? AND account = ?";

impl Notes {
    fn params(&self) -> [Param<'_>; 4] {
        [&self.place.schema, &self.place.table, &self.place.embedding, &self.account].map(|text| Param::Text(text))
    }
}

fn library<T: Send + 'static>(
    interrupt: &dyn Interrupt,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<T> {
    with_session(&As::Library, SessionKind::LibraryStatement, interrupt, Instant::now() + SQL_TIMEOUT, work)
}

/// Writes progress; `start` replaces the notes of an earlier job.
pub fn write_progress(
    notes: &Notes,
    model_id: &str,
    progress: &Progress,
    start: bool,
    interrupt: &dyn Interrupt,
) -> Result<()> {
    let (notes, model_id, p) = (notes.clone(), model_id.to_owned(), progress.clone());
    library(interrupt, move |s| {
        let started = if start { "CURRENT_TIMESTAMP(6)" } else { "started_at" };
        let mut params = notes.params().to_vec();
        params.extend([model_id.as_str(), p.status].map(Param::Text));
        params.extend([p.embedded, p.failed, p.skipped].map(Param::Number));
        params.push(p.message.as_deref().into());
        s.query_pieces(
            &[
                "INSERT INTO mysql.cloudsql_ml_embed_progress (table_schema, table_name, embedding_column, account, \
                 model_id, status, embedded, failed, skipped, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) AS new \
                 ON DUPLICATE KEY UPDATE model_id = new.model_id, status = new.status, embedded = new.embedded, \
                 failed = new.failed, skipped = new.skipped, message = new.message, \
                 updated_at = CURRENT_TIMESTAMP(6), started_at = ",
                started,
            ],
            &params,
        )
        .map(|_| ())
    })
}

/// The most jobs that [`running`] reads.
const MOST_RUNNING: &str = " LIMIT 1000";

/// A job recorded as running.
#[derive(Debug, Clone)]
pub struct Running {
    /// Its column and account.
    pub notes: Notes,
    /// Time of the note, as the server formats it.
    noted_at: String,
}

/// The jobs recorded as running.
pub fn running(interrupt: &dyn Interrupt) -> Result<Vec<Running>> {
    library(interrupt, |s| {
        let jobs = [
            "SELECT table_schema, table_name, embedding_column, account, CAST(updated_at AS CHAR) \
             FROM mysql.cloudsql_ml_embed_progress WHERE status = 'running'",
            MOST_RUNNING,
        ];
        let read = |row: &Row| {
            let place = Place { schema: row.get(0)?, table: row.get(1)?, embedding: row.get(2)? };
            Ok(Running { notes: Notes { place, account: row.get(3)? }, noted_at: row.get(4)? })
        };
        s.query_pieces(&jobs, &[])?.rows.iter().map(read).collect()
    })
}

/// Marks jobs as ended, unless a note of the same column was updated since it was read.
pub fn end_gone(gone: Vec<Running>, interrupt: &dyn Interrupt) -> Result<()> {
    library(interrupt, move |s| {
        for job in &gone {
            let mut params = job.notes.params().to_vec();
            params.push(Param::Text(&job.noted_at));
            let update = [
                "UPDATE mysql.cloudsql_ml_embed_progress SET status = 'stopped', \
                 message = 'its session is gone; what was embedded is kept, run it again for the rest' WHERE ",
                OF_NOTES,
                " AND status = 'running' AND CAST(updated_at AS CHAR) = ?",
            ];
            s.query_pieces(&update, &params)?;
        }
        Ok(())
    })
}

/// Writes rows that failed.
pub fn write_failures(notes: &Notes, rows: Vec<FailedRow>, interrupt: &dyn Interrupt) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let notes = notes.clone();
    library(interrupt, move |s| {
        let mut params: Vec<Param<'_>> = Vec::new();
        let mut pieces = vec![
            "INSERT INTO mysql.cloudsql_ml_embed_failures (table_schema, table_name, embedding_column, account, \
             row_key_hash, row_key, error) VALUES ",
        ];
        for (i, row) in rows.iter().enumerate() {
            pieces.push(if i == 0 { "" } else { ", " });
            pieces.push("(?, ?, ?, ?, UNHEX(SHA2(?, 256)), ?, ?)");
            params.extend(notes.params());
            params.extend([&row.key, &row.key, &row.error].map(|text| Param::Text(text)));
        }
        pieces.push(
            " AS new ON DUPLICATE KEY UPDATE error = new.error, tries = tries + 1, failed_at = CURRENT_TIMESTAMP(6)",
        );
        s.query_pieces(&pieces, &params).map(|_| ())
    })
}

/// Keys (JSON) of rows that failed before.
pub fn failed_keys(notes: &Notes, interrupt: &dyn Interrupt) -> Result<Vec<String>> {
    let notes = notes.clone();
    library(interrupt, move |s| {
        let keys = ["SELECT row_key FROM mysql.cloudsql_ml_embed_failures WHERE ", OF_NOTES, " LIMIT 100000"];
        let shown = s.query_pieces(&keys, &notes.params())?;
        // The server writes JSON with spaces.
        let plain = |key: String| serde_json::from_str::<serde_json::Value>(&key).map_or(key, |v| v.to_string());
        shown.rows.iter().map(|row| row.get(0).map(plain)).collect()
    })
}

/// Removes notes of failed rows that now have a vector. Returns the number left.
pub fn clear_failures(notes: &Notes, keys: Vec<String>, interrupt: &dyn Interrupt) -> Result<u64> {
    let notes = notes.clone();
    library(interrupt, move |s| {
        if !keys.is_empty() {
            let mut params = notes.params().to_vec();
            params.extend(keys.iter().map(|k| Param::Text(k)));
            let mut pieces =
                vec!["DELETE FROM mysql.cloudsql_ml_embed_failures WHERE ", OF_NOTES, " AND row_key_hash IN (NULL"];
            pieces.extend(keys.iter().map(|_| ", UNHEX(SHA2(?, 256))"));
            pieces.push(")");
            s.query_pieces(&pieces, &params)?;
        }
        let count = ["SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_failures WHERE ", OF_NOTES];
        let left = s.query_pieces(&count, &notes.params())?;
        left.rows.first().map_or(Ok(0), |row| row.get(0))
    })
}

/// Removes notes of rows that failed before the last job began. After a complete run such rows are deleted or embedded
/// otherwise.
pub fn forget_older_failures(notes: &Notes, interrupt: &dyn Interrupt) -> Result<()> {
    let notes = notes.clone();
    library(interrupt, move |s| {
        let mut params = notes.params().to_vec();
        params.extend(notes.params());
        s.query_pieces(
            &[
                "DELETE FROM mysql.cloudsql_ml_embed_failures WHERE ",
                OF_NOTES,
                " AND failed_at < (SELECT started_at FROM mysql.cloudsql_ml_embed_progress WHERE ",
                OF_NOTES,
                ")",
            ],
            &params,
        )
        .map(|_| ())
    })
}
