//! The registry of chunk tables, and the changes and failures of their sources' rows, in the library's schema.

use super::layout::quoted;
use super::recorder::Recorder;
use super::vector_indexes::library;
use crate::mysql::error_numbers::ER_DUP_ENTRY;
use crate::mysql::session::{hex_literal, Param, Row, Session};
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

/// A registered chunk table.
#[derive(Debug, Clone)]
pub struct ChunkConfig {
    /// Its number.
    pub id: u64,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The schema of the source.
    pub source_schema: String,
    /// The source.
    pub source_table: String,
    /// The column of texts.
    pub text_column: String,
    /// The account that created it, as which triggers, event and jobs run.
    pub definer: Account,
    /// The random part of the names of triggers, event and view.
    pub object: String,
    /// The options of `ai.chunk`, as JSON.
    pub options: String,
    /// The version of the rules by which the texts were cut.
    pub rules: u64,
    /// The column of the chunks' vectors, if automatic embeddings were set up for it.
    pub embedding: Option<String>,
    /// When the source was created, as the server writes it.
    pub source_created: Option<String>,
    /// Whether all rows are to be compared with their chunks.
    pub pass_due: bool,
    /// How far they are; `None`: at the beginning.
    pub pass_position: Option<Vec<u8>>,
    /// The error of the last run, if it failed.
    pub last_error: Option<String>,
    /// Changes that wait.
    pub changes: u64,
    /// Rows that failed.
    pub failures: u64,
}

impl ChunkConfig {
    /// The chunk table's name as SQL.
    pub fn name(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    /// The source's name as SQL.
    pub fn source_name(&self) -> String {
        format!("{}.{}", quoted(&self.source_schema), quoted(&self.source_table))
    }

    /// Where its triggers record changes.
    pub fn recorder(&self) -> Recorder {
        Recorder {
            changes: "chunk_changes",
            column: "chunk_table_id",
            id: self.id,
            name: format!("chunk_changes_{}", self.object),
            account: self.definer.clone(),
        }
    }
}

const SELECT: &str = "SELECT c.chunk_table_id, c.table_schema, c.table_name, c.source_schema, c.source_table, \
     c.text_column, c.definer, c.object_name, CAST(c.chunk_options AS CHAR), c.rules, c.embedding_column, \
     c.source_created, c.pass_due + 0, c.pass_position, c.last_error, \
     (SELECT COUNT(*) FROM mysql_ml.chunk_changes h WHERE h.chunk_table_id = c.chunk_table_id), \
     (SELECT COUNT(*) FROM mysql_ml.chunk_failures f WHERE f.chunk_table_id = c.chunk_table_id) \
     FROM mysql_ml.chunk_tables c";

fn read(mut row: Row) -> Result<ChunkConfig> {
    let definer: String = row.get(6)?;
    Ok(ChunkConfig {
        id: row.get(0)?,
        schema: row.get(1)?,
        table: row.get(2)?,
        source_schema: row.get(3)?,
        source_table: row.get(4)?,
        text_column: row.get(5)?,
        definer: Account::parse(&definer).unwrap_or(Account { user: definer, host: String::new() }),
        object: row.get(7)?,
        options: row.get(8)?,
        rules: row.get(9)?,
        embedding: row.get(10)?,
        source_created: row.get(11)?,
        pass_due: row.get::<u64>(12)? > 0,
        pass_position: row.take_bytes(13)?,
        last_error: row.get(14)?,
        changes: row.get(15)?,
        failures: row.get(16)?,
    })
}

/// All chunk tables, ordered by name.
pub fn all(interrupt: &dyn Interrupt) -> Result<Vec<ChunkConfig>> {
    library(interrupt, |s| {
        let found = s.query_pieces(&[SELECT, " ORDER BY c.table_schema, c.table_name"], &[])?;
        found.rows.into_iter().map(read).collect()
    })
}

/// The chunk table of this name.
pub fn of_table(schema: &str, table: &str, interrupt: &dyn Interrupt) -> Result<ChunkConfig> {
    let (schema, table) = (schema.to_owned(), table.to_owned());
    library(interrupt, move |s| {
        let params = [schema.as_str().into(), table.as_str().into()];
        let found = s.query_pieces(&[SELECT, " WHERE c.table_schema = ? AND c.table_name = ?"], &params)?;
        found.rows.into_iter().next().map_or_else(
            || {
                Err(Error::new(
                    Kind::NotFound,
                    format!(
                        "{}.{} is no chunk table; create one with ai.create_chunks",
                        cut(&schema, 64),
                        cut(&table, 64)
                    ),
                ))
            },
            read,
        )
    })
}

/// Registers a chunk table. Returns its number.
pub fn create(config: &ChunkConfig, interrupt: &dyn Interrupt) -> Result<u64> {
    let config = config.clone();
    library(interrupt, move |s| {
        let definer = config.definer.to_string();
        let texts = [
            &config.schema,
            &config.table,
            &config.source_schema,
            &config.source_table,
            &config.text_column,
            &definer,
            &config.object,
            &config.options,
        ];
        let mut params: Vec<Param<'_>> = texts.into_iter().map(|text| Param::Text(text)).collect();
        params.extend([Param::Number(config.rules), config.embedding.as_deref().into()]);
        s.query(
            "INSERT INTO mysql_ml.chunk_tables (table_schema, table_name, source_schema, source_table, text_column, \
             definer, object_name, chunk_options, rules, embedding_column) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            &params,
        )
        .map_err(|e| match e.kind() {
            Kind::Server(ER_DUP_ENTRY) => Error::new(
                Kind::AlreadyExists,
                format!("{} is a chunk table already; refresh it, or drop it first with ai.drop_chunks", config.name()),
            ),
            _ => e,
        })?;
        let id = s.query("SELECT LAST_INSERT_ID()", &[])?;
        id.rows.first().map_or(Ok(0), |row| row.get(0))
    })
}

/// Removes a chunk table from the registry, with all that belongs to it in the library's schema.
pub fn delete(config: &ChunkConfig, interrupt: &dyn Interrupt) -> Result<()> {
    let registered = config.clone();
    library(interrupt, move |s| {
        registered.recorder().remove(s)?;
        let id = [Param::Number(registered.id)];
        s.query("DELETE FROM mysql_ml.chunk_tables WHERE chunk_table_id = ?", &id)?;
        s.query("DELETE FROM mysql_ml.chunk_failures WHERE chunk_table_id = ?", &id).map(|_| ())
    })?;
    config.recorder().delete_all_changes(interrupt)
}

/// Begins a comparison of all rows, by the rules of this version, of the source that was created then.
pub fn begin_pass(id: u64, rules: u64, source_created: Option<String>, interrupt: &dyn Interrupt) -> Result<()> {
    library(interrupt, move |s| {
        s.query(
            "UPDATE mysql_ml.chunk_tables SET pass_due = TRUE, pass_position = NULL, rules = ?, source_created = ? \
             WHERE chunk_table_id = ?",
            &[Param::Number(rules), source_created.as_deref().into(), Param::Number(id)],
        )
        .map(|_| ())
    })
}

/// Records how far a comparison of all rows is; `None`: at its end.
pub fn set_position(id: u64, position: Option<Vec<u8>>, interrupt: &dyn Interrupt) -> Result<()> {
    library(interrupt, move |s| {
        let bytes = position.as_deref().map_or(Param::Null, Param::Bytes);
        let params = [Param::Number(u64::from(position.is_some())), bytes, Param::Number(id)];
        let set = "UPDATE mysql_ml.chunk_tables SET pass_due = ?, pass_position = ? WHERE chunk_table_id = ?";
        s.query(set, &params).map(|_| ())
    })
}

/// Records the error of a run; `None`: success.
pub fn set_last_error(id: u64, error: Option<&str>, interrupt: &dyn Interrupt) -> Result<()> {
    let error = error.map(str::to_owned);
    library(interrupt, move |s| {
        s.query(
            "UPDATE mysql_ml.chunk_tables SET last_error = ? WHERE chunk_table_id = ?",
            &[error.as_deref().into(), Param::Number(id)],
        )
        .map(|_| ())
    })
}

/// A row that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its key, as changes have it.
    pub key: Vec<u8>,
    /// Its key as a JSON object.
    pub shown: String,
    /// Why.
    pub reason: String,
}

/// The digest of a key in the table of failures.
fn digest(key: &[u8]) -> String {
    format!("UNHEX(SHA2(_binary {}, 256))", if key.is_empty() { "''".into() } else { hex_literal(key) })
}

/// Notes rows that failed.
pub fn note_failures(id: u64, failures: Vec<Failure>, interrupt: &dyn Interrupt) -> Result<()> {
    library(interrupt, move |s| {
        for failure in &failures {
            let statement =
                "INSERT INTO mysql_ml.chunk_failures (chunk_table_id, key_digest, row_key, shown_key, reason) \
                 SELECT ?, UNHEX(SHA2(k.row_key, 256)), k.row_key, ?, ? FROM (SELECT ? AS row_key) AS k \
                 ON DUPLICATE KEY UPDATE tries = tries + 1, reason = VALUES(reason), failed_at = CURRENT_TIMESTAMP(6)";
            let params = [
                Param::Number(id),
                failure.shown.as_str().into(),
                failure.reason.as_str().into(),
                Param::Bytes(&failure.key),
            ];
            s.query(statement, &params)?;
        }
        Ok(())
    })
}

/// Forgets failures of rows that are done.
pub fn forget_failures(id: u64, keys: &[Vec<u8>], interrupt: &dyn Interrupt) -> Result<()> {
    for part in keys.chunks(500) {
        let digests: Vec<String> = part.iter().map(|key| digest(key)).collect();
        let delete = format!(
            "DELETE FROM mysql_ml.chunk_failures WHERE chunk_table_id = {id} AND key_digest IN ({})",
            digests.join(",")
        );
        library(interrupt, move |s| s.run(delete.as_bytes()).map(|_| ()))?;
    }
    Ok(())
}

/// Makes changes of failed rows, so that they are tried again: all, or those that have rested: ten seconds after the first
/// failure, then twice as long each time, up to an hour. The failures stay until their rows are done.
pub fn retry_failures(id: u64, all: bool, interrupt: &dyn Interrupt) -> Result<()> {
    library(interrupt, move |s| {
        let due = match all {
            true => "TRUE",
            false => {
                "failed_at < CURRENT_TIMESTAMP(6) - INTERVAL LEAST(3600, 10 * POW(2, LEAST(tries, 10) - 1)) SECOND"
            }
        };
        let insert = format!(
            "INSERT INTO mysql_ml.chunk_changes (chunk_table_id, row_key) SELECT chunk_table_id, row_key \
             FROM mysql_ml.chunk_failures WHERE chunk_table_id = {id} AND {due} LIMIT 10000"
        );
        s.run(insert.as_bytes()).map(|_| ())
    })
}

/// The failures of a chunk table as a JSON array, at most 1000.
pub fn failures(id: u64, interrupt: &dyn Interrupt) -> Result<serde_json::Value> {
    library(interrupt, move |s| {
        let found = s.query(
            "SELECT CAST(shown_key AS CHAR), reason, tries, CAST(failed_at AS CHAR) FROM mysql_ml.chunk_failures \
             WHERE chunk_table_id = ? LIMIT 1000",
            &[Param::Number(id)],
        )?;
        let shown = |row: &Row| {
            Ok(serde_json::json!({
                "row_key": row.get::<String>(0)?, "reason": row.get::<String>(1)?,
                "tries": row.get::<u64>(2)?, "failed_at": row.get::<String>(3)?,
            }))
        };
        found.rows.iter().map(shown).collect::<Result<Vec<_>>>().map(Into::into)
    })
}

/// When a table was created, as the server writes it; `None` if the session cannot see it.
pub fn created(s: &mut Session, schema: &str, table: &str) -> Result<Option<String>> {
    let found = s.query(
        "SELECT CAST(CREATE_TIME AS CHAR) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
        &[schema.into(), table.into()],
    )?;
    found.rows.first().map_or(Ok(None), |row| row.get(0))
}
