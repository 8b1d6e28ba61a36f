//! Which columns are kept embedded, in a table of the library.

use std::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::server::session::{Param, Row, Session};
use crate::server::sql::{with_session, As, Purpose, SQL_TIMEOUT};
use crate::threads::interrupt::Interrupt;

/// A column of vectors.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its schema.
    pub schema: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub embedding: String,
}

/// When rows that lack a vector are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// When somebody asks for it.
    Manual,
    /// By an event of the server's scheduler; a trigger marks changed rows.
    Transactional,
}

impl Mode {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Manual => "manual",
            Mode::Transactional => "transactional",
        }
    }

    /// Reads it, without regard to case.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "manual" => Ok(Mode::Manual),
            "transactional" => Ok(Mode::Transactional),
            _ => Err(Error::invalid(format!(
                "incremental_refresh_mode '{}' is not known; accepted: manual, transactional",
                crate::error::cut(text, 60)
            ))),
        }
    }
}

/// What is kept of a column.
#[derive(Debug, Clone)]
pub struct EmbedConfig {
    /// The column.
    pub place: Place,
    /// What its vectors are made of.
    pub content: String,
    /// By which model.
    pub model_id: String,
    /// Texts in a request; `None`: as many as the model takes.
    pub batch_size: Option<u64>,
    /// When.
    pub mode: Mode,
    /// Why the last run by the event failed.
    pub last_error: Option<String>,
}

/// A configured column and how far it is.
#[derive(Debug, Clone)]
pub struct EmbedState {
    /// What is configured.
    pub config: EmbedConfig,
    /// The rows that lacked a vector when somebody last asked for them.
    pub to_embed: Option<u64>,
    /// `running`, `finished`, `stopped` or `failed`; `None` before the first run.
    pub status: Option<String>,
    /// Rows of the last run that are done or failed.
    pub processed: u64,
    /// How long the last run took, or takes by now, in seconds.
    pub seconds: Option<f64>,
    /// Why it ended.
    pub message: Option<String>,
}

const ER_DUP_ENTRY: u32 = 1062;
const ER_NO_SUCH_TABLE: u32 = 1146;

const OF_PLACE: &str = "table_schema = ? AND table_name = ? AND embedding_column = ?";

fn library<T: Send + 'static>(
    interrupt: &dyn Interrupt,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<T> {
    let deadline = Instant::now() + SQL_TIMEOUT;
    with_session(&As::Library, Purpose::Own, interrupt, deadline, work).map_err(|e| match e.kind() {
        Kind::Server(ER_NO_SUCH_TABLE) => Error::new(Kind::NotFound, format!("{}; run install.sql", e.message())),
        _ => e,
    })
}

fn of_place(place: &Place) -> [Param<'_>; 3] {
    [Param::Text(&place.schema), Param::Text(&place.table), Param::Text(&place.embedding)]
}

fn read(row: &Row) -> Result<EmbedState> {
    Ok(EmbedState {
        config: EmbedConfig {
            place: Place { schema: row.get(0)?, table: row.get(1)?, embedding: row.get(2)? },
            content: row.get(3)?,
            model_id: row.get(4)?,
            batch_size: row.get(5)?,
            mode: Mode::parse(&row.get::<String>(6)?)?,
            last_error: row.get(7)?,
        },
        to_embed: row.get(8)?,
        status: row.get(9)?,
        processed: row.get::<Option<u64>>(10)?.unwrap_or(0),
        seconds: row.get(11)?,
        message: row.get(12)?,
    })
}

/// All configured columns, in the order of their names.
pub fn all(interrupt: &dyn Interrupt) -> Result<Vec<EmbedState>> {
    library(interrupt, |s| {
        let rows = s.query(
            "SELECT table_schema, table_name, embedding_column, c.content_column, c.model_id, c.batch_size, \
             c.incremental_refresh_mode, c.last_error, c.rows_to_embed, p.status, p.embedded + p.failed, \
             TIMESTAMPDIFF(MICROSECOND, p.started_at, IF(p.status = 'running', CURRENT_TIMESTAMP(6), p.updated_at)) / 1e6, \
             p.message FROM mysql.cloudsql_ml_embed_configs c LEFT JOIN mysql.cloudsql_ml_embed_progress p \
             USING (table_schema, table_name, embedding_column) ORDER BY table_schema, table_name, embedding_column",
            &[],
        )?;
        rows.rows.iter().map(read).collect()
    })
}

/// Adds a column.
pub fn create(config: &EmbedConfig, definer: &str, to_embed: u64, interrupt: &dyn Interrupt) -> Result<()> {
    let (config, definer) = (config.clone(), definer.to_owned());
    library(interrupt, move |s| {
        let batch_size = config.batch_size.map_or_else(|| "NULL".to_owned(), |n| n.to_string());
        let sql = format!(
            "INSERT INTO mysql.cloudsql_ml_embed_configs (table_schema, table_name, embedding_column, content_column, \
             model_id, batch_size, incremental_refresh_mode, definer, rows_to_embed) \
             VALUES (?, ?, ?, ?, ?, {batch_size}, ?, ?, {to_embed})"
        );
        let mut params = of_place(&config.place).to_vec();
        params.extend([config.content.as_str(), &config.model_id, config.mode.as_str(), &definer].map(Param::Text));
        s.query(&sql, &params).map(|_| ()).map_err(|e| match e.kind() {
            Kind::Server(ER_DUP_ENTRY) => Error::new(
                Kind::AlreadyExists,
                format!(
                    "embeddings of column {} of {}.{} are initialized already; refresh them, or drop the configuration first",
                    config.place.embedding, config.place.schema, config.place.table
                ),
            ),
            _ => e,
        })
    })
}

/// Notes how many rows lack a vector; `None` where nobody counted.
pub fn set_rows_to_embed(place: &Place, rows: Option<u64>, interrupt: &dyn Interrupt) -> Result<()> {
    let place = place.clone();
    library(interrupt, move |s| {
        let rows = rows.map_or_else(|| "NULL".to_owned(), |n| n.to_string());
        let sql = format!("UPDATE mysql.cloudsql_ml_embed_configs SET rows_to_embed = {rows} WHERE {OF_PLACE}");
        s.query(&sql, &of_place(&place)).map(|_| ())
    })
}

/// Notes why a run by the event failed, or that it did not.
pub fn set_last_error(place: &Place, error: Option<&str>, interrupt: &dyn Interrupt) -> Result<()> {
    let (place, error) = (place.clone(), error.map(str::to_owned));
    library(interrupt, move |s| {
        let mut params = vec![Param::from(error.as_deref())];
        params.extend(of_place(&place));
        let sql = format!(
            "UPDATE mysql.cloudsql_ml_embed_configs SET last_error = ?, updated_at = CURRENT_TIMESTAMP(6) WHERE {OF_PLACE}"
        );
        s.query(&sql, &params).map(|_| ())
    })
}

/// Removes a column, and what is known of its last run.
pub fn delete(place: &Place, interrupt: &dyn Interrupt) -> Result<()> {
    let place = place.clone();
    library(interrupt, move |s| delete_in(s, &place))
}

fn delete_in(s: &mut Session, place: &Place) -> Result<()> {
    for table in ["cloudsql_ml_embed_configs", "cloudsql_ml_embed_failures", "cloudsql_ml_embed_progress"] {
        s.query(&format!("DELETE FROM mysql.{table} WHERE {OF_PLACE}"), &of_place(place))?;
    }
    Ok(())
}

/// Removes what a run wrote of a column that somebody dropped meanwhile.
pub fn tidy(place: &Place, interrupt: &dyn Interrupt) -> Result<()> {
    let place = place.clone();
    library(interrupt, move |s| {
        let rows = s.query(
            &format!("SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_configs WHERE {OF_PLACE}"),
            &of_place(&place),
        )?;
        if rows.rows.first().map_or(Ok(1), |row| row.get::<u64>(0))? > 0 {
            return Ok(());
        }
        delete_in(s, &place)
    })
}

/// The keys of rows that failed and should rest: a minute after the first failure, and each time twice as long, up to
/// an hour.
pub fn resting(place: &Place, interrupt: &dyn Interrupt) -> Result<Vec<String>> {
    let place = place.clone();
    library(interrupt, move |s| {
        let rows = s.query(
            &format!(
                "SELECT CAST(row_key AS CHAR) FROM mysql.cloudsql_ml_embed_failures WHERE {OF_PLACE} AND \
                 failed_at > CURRENT_TIMESTAMP(6) - INTERVAL LEAST(3600, 60 * POW(2, LEAST(tries, 10) - 1)) SECOND LIMIT 100000"
            ),
            &of_place(&place),
        )?;
        // The server writes JSON in its own way.
        let shown = |key: String| serde_json::from_str::<serde_json::Value>(&key).map_or(key, |v| v.to_string());
        rows.rows.iter().map(|row| row.get(0).map(shown)).collect()
    })
}
