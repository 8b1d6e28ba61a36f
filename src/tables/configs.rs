//! Configurations of automatic embeddings, in a table of the library.

use std::time::Instant;

use crate::mysql::error_numbers::{ER_DUP_ENTRY, ER_NO_SUCH_TABLE};
use crate::mysql::meaning::Meaning;
use crate::mysql::session::{Param, Row, Session};
use crate::mysql::sql::{with_session, As, SessionKind, SQL_TIMEOUT};
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

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

/// When rows without a vector are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// On request.
    Manual,
    /// By an event of the server's scheduler; a trigger marks changed rows.
    Transactional,
}

impl Mode {
    /// The stored spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Manual => "manual",
            Mode::Transactional => "transactional",
        }
    }

    /// Reads the spelling, case-insensitively.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "manual" => Ok(Mode::Manual),
            "transactional" => Ok(Mode::Transactional),
            _ => Err(Error::invalid(format!(
                "incremental_refresh_mode '{}' is not known; accepted: manual, transactional",
                mysql_ml_base::error::cut(text, 60)
            ))),
        }
    }
}

/// The configuration of a column.
#[derive(Debug, Clone)]
pub struct EmbedConfig {
    /// The column.
    pub place: Place,
    /// The column or expression to embed.
    pub content: String,
    /// The model's id.
    pub model_id: String,
    /// Texts in a request; `None`: the model's limit.
    pub batch_size: Option<u64>,
    /// When rows are embedded.
    pub mode: Mode,
    /// The account that configured it; all its parts run as this account.
    pub definer: Account,
    /// The random name of its trigger and event, so that no other account can take it first.
    pub object: String,
    /// Session variables that affect `content`, of the session that configured it.
    pub meaning: Meaning,
    /// The error of the last run by the event; `None` after success.
    pub last_error: Option<String>,
}

/// A configured column and its progress.
#[derive(Debug, Clone)]
pub struct EmbedState {
    /// The configuration.
    pub config: EmbedConfig,
    /// Rows without a vector at the last count.
    pub to_embed: Option<u64>,
    /// `running`, `finished`, `stopped` or `failed`; `None` before the first run.
    pub status: Option<String>,
    /// Embedded rows of the last run.
    pub embedded: u64,
    /// Failed rows of the last run.
    pub failed: u64,
    /// Rows that failed in any run and are not embedded since.
    pub failures: u64,
    /// Duration of the last or current run, seconds.
    pub seconds: Option<f64>,
    /// The error that ended it, if any.
    pub message: Option<String>,
}

/// The condition of [`of_config`]: includes the definer, because another account may have replaced the configuration.
const OF_CONFIG: &str = "table_schema = ? AND table_name = ? AND embedding_column = ? AND definer = ?";
/// The same for notes of jobs.
const OF_NOTES: &str = "table_schema = ? AND table_name = ? AND embedding_column = ? AND account = ?";

fn library<T: Send + 'static>(
    interrupt: &dyn Interrupt,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<T> {
    let deadline = Instant::now() + SQL_TIMEOUT;
    with_session(&As::Library, SessionKind::LibraryStatement, interrupt, deadline, work).map_err(|e| match e.kind() {
        Kind::Server(ER_NO_SUCH_TABLE) => Error::new(Kind::NotFound, format!("{}; run install.sql", e.message())),
        _ => e,
    })
}

fn of_config<'a>(place: &'a Place, definer: &'a str) -> [Param<'a>; 4] {
    [&place.schema, &place.table, &place.embedding, definer].map(Param::Text)
}

fn read(row: &Row) -> Result<EmbedState> {
    Ok(EmbedState {
        config: EmbedConfig {
            place: Place { schema: row.get(0)?, table: row.get(1)?, embedding: row.get(2)? },
            content: row.get(3)?,
            model_id: row.get(4)?,
            batch_size: row.get(5)?,
            mode: Mode::parse(&row.get::<String>(6)?)?,
            definer: {
                let text: String = row.get(13)?;
                // Skip a definer that is not an account name.
                Account::parse(&text).unwrap_or(Account { user: text, host: String::new() })
            },
            object: row.get(14)?,
            meaning: row.get::<Option<String>>(17)?.map(|text| Meaning::from_json(&text)).unwrap_or_default(),
            last_error: row.get(7)?,
        },
        to_embed: row.get(8)?,
        status: row.get(9)?,
        embedded: row.get::<Option<u64>>(10)?.unwrap_or(0),
        failed: row.get::<Option<u64>>(15)?.unwrap_or(0),
        failures: row.get(16)?,
        seconds: row.get(11)?,
        message: row.get(12)?,
    })
}

/// All configured columns, ordered by name.
pub fn all(interrupt: &dyn Interrupt) -> Result<Vec<EmbedState>> {
    library(interrupt, |s| {
        let rows = s.query(
            "SELECT c.table_schema, c.table_name, c.embedding_column, c.content_column, c.model_id, c.batch_size, \
             c.incremental_refresh_mode, c.last_error, c.rows_to_embed, p.status, p.embedded, \
             TIMESTAMPDIFF(MICROSECOND, p.started_at, IF(p.status = 'running', CURRENT_TIMESTAMP(6), p.updated_at)) / 1e6, \
             p.message, c.definer, c.object_name, p.failed, (SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_failures f \
             WHERE f.table_schema = c.table_schema AND f.table_name = c.table_name \
             AND f.embedding_column = c.embedding_column AND f.account = c.definer), \
             CAST(c.session_variables AS CHAR) FROM mysql.cloudsql_ml_embed_configs c \
             LEFT JOIN mysql.cloudsql_ml_embed_progress p ON p.table_schema = c.table_schema \
             AND p.table_name = c.table_name AND p.embedding_column = c.embedding_column AND p.account = c.definer \
             ORDER BY c.table_schema, c.table_name, c.embedding_column",
            &[],
        )?;
        rows.rows.iter().map(read).collect()
    })
}

/// The server's role in replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Writable, without a source.
    Yes,
    /// Writable, but with a replication channel, or one of several writable members.
    Perhaps,
    /// Read-only.
    No,
}

/// Whether this server is a source. A replica with paused replication is not.
pub fn is_source(interrupt: &dyn Interrupt) -> Result<Source> {
    library(interrupt, |s| {
        let number = |rows: &[Row]| rows.first().map_or(Ok(0), |row| row.get::<u64>(0));
        if number(&s.query("SELECT @@GLOBAL.read_only OR @@GLOBAL.super_read_only", &[])?.rows)? > 0 {
            return Ok(Source::No);
        }
        let channels = s.query(
            "SELECT COUNT(*) FROM performance_schema.replication_connection_configuration \
             WHERE CHANNEL_NAME NOT LIKE 'group\\_replication\\_%'",
            &[],
        )?;
        let group = s.query("SHOW GLOBAL VARIABLES LIKE 'group\\_replication\\_single\\_primary\\_mode'", &[])?;
        let several = group.rows.first().map_or(Ok(String::new()), |row| row.get::<String>(1))? == "OFF";
        Ok(if number(&channels.rows)? > 0 || several { Source::Perhaps } else { Source::Yes })
    })
}

/// Adds a column.
pub fn create(config: &EmbedConfig, to_embed: u64, interrupt: &dyn Interrupt) -> Result<()> {
    let config = config.clone();
    library(interrupt, move |s| {
        let definer = config.definer.to_string();
        let mut params = of_config(&config.place, &definer).to_vec();
        let meaning = config.meaning.to_json();
        params.extend(
            [config.content.as_str(), &config.model_id, config.mode.as_str(), &config.object, &meaning]
                .map(Param::Text),
        );
        params.extend([number(config.batch_size), Param::Number(to_embed)]);
        let inserted = s.query(
            "INSERT INTO mysql.cloudsql_ml_embed_configs (table_schema, table_name, embedding_column, definer, \
             content_column, model_id, incremental_refresh_mode, object_name, session_variables, batch_size, rows_to_embed) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            &params,
        );
        inserted.map(|_| ()).map_err(|e| match e.kind() {
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

fn number(value: Option<u64>) -> Param<'static> {
    value.map_or(Param::Null, Param::Number)
}

/// Records the number of rows without a vector; `None`: not counted.
pub fn set_rows_to_embed(config: &EmbedConfig, rows: Option<u64>, interrupt: &dyn Interrupt) -> Result<()> {
    let (place, definer) = (config.place.clone(), config.definer.to_string());
    library(interrupt, move |s| {
        let mut params = vec![number(rows)];
        params.extend(of_config(&place, &definer));
        let set = "UPDATE mysql.cloudsql_ml_embed_configs SET rows_to_embed = ? WHERE ";
        s.query_pieces(&[set, OF_CONFIG], &params).map(|_| ())
    })
}

/// Records the error of a run by the event; `None`: success.
pub fn set_last_error(config: &EmbedConfig, error: Option<&str>, interrupt: &dyn Interrupt) -> Result<()> {
    let (place, definer, error) = (config.place.clone(), config.definer.to_string(), error.map(str::to_owned));
    library(interrupt, move |s| {
        let mut params = vec![Param::from(error.as_deref())];
        params.extend(of_config(&place, &definer));
        let set = "UPDATE mysql.cloudsql_ml_embed_configs SET last_error = ?, updated_at = CURRENT_TIMESTAMP(6) WHERE ";
        s.query_pieces(&[set, OF_CONFIG], &params).map(|_| ())
    })
}

/// Removes a configuration and the notes of its last run.
pub fn delete(config: &EmbedConfig, interrupt: &dyn Interrupt) -> Result<()> {
    let (place, definer) = (config.place.clone(), config.definer.to_string());
    library(interrupt, move |s| {
        s.query_pieces(
            &["DELETE FROM mysql.cloudsql_ml_embed_configs WHERE ", OF_CONFIG],
            &of_config(&place, &definer),
        )?;
        delete_notes(s, &place, &definer)
    })
}

fn delete_notes(s: &mut Session, place: &Place, account: &str) -> Result<()> {
    for delete in
        ["DELETE FROM mysql.cloudsql_ml_embed_failures WHERE ", "DELETE FROM mysql.cloudsql_ml_embed_progress WHERE "]
    {
        s.query_pieces(&[delete, OF_NOTES], &of_config(place, account))?;
    }
    Ok(())
}

/// Removes a run's notes if its configuration was dropped meanwhile. Returns whether the configuration still exists.
pub fn tidy(config: &EmbedConfig, interrupt: &dyn Interrupt) -> Result<bool> {
    let (place, definer) = (config.place.clone(), config.definer.to_string());
    library(interrupt, move |s| {
        let count = ["SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_configs WHERE ", OF_CONFIG];
        let rows = s.query_pieces(&count, &of_config(&place, &definer))?;
        if rows.rows.first().map_or(Ok(1), |row| row.get::<u64>(0))? > 0 {
            return Ok(true);
        }
        delete_notes(s, &place, &definer).map(|()| false)
    })
}

/// Keys of failed rows that must rest: a minute after the first failure, then twice as long each time, up to an hour.
pub fn resting(config: &EmbedConfig, interrupt: &dyn Interrupt) -> Result<Vec<String>> {
    let (place, definer) = (config.place.clone(), config.definer.to_string());
    library(interrupt, move |s| {
        let rows = s.query_pieces(
            &[
                "SELECT CAST(row_key AS CHAR) FROM mysql.cloudsql_ml_embed_failures WHERE ",
                OF_NOTES,
                " AND failed_at > CURRENT_TIMESTAMP(6) - INTERVAL LEAST(3600, 60 * POW(2, LEAST(tries, 10) - 1)) SECOND \
                 LIMIT 100000",
            ],
            &of_config(&place, &definer),
        )?;
        // The server formats JSON in its own way.
        let shown = |key: String| serde_json::from_str::<serde_json::Value>(&key).map_or(key, |v| v.to_string());
        rows.rows.iter().map(|row| row.get(0).map(shown)).collect()
    })
}
