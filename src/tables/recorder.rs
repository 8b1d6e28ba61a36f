//! Triggers that record keys of changed rows in a table of the library.
//!
//! An account's triggers write through a view with a check option, on which it gets INSERT: it records changes of its own
//! only. They are plain SQL, so writes work without the library, and an error in them never fails a write.

use super::keyed::Keyed;
use super::layout::{quoted, KeyKind};
use super::marking::{is_body, qualified};
use super::vector_indexes::{library, SCHEMA};
use crate::mysql::session::Session;
use mysql_ml_base::account::Account;
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;

/// The place where the triggers of an account record changes.
#[derive(Debug, Clone)]
pub struct Recorder {
    /// The table of changes, in the library's schema.
    pub changes: &'static str,
    /// Its column with the number of what the changes are for.
    pub column: &'static str,
    /// That number.
    pub id: u64,
    /// The name of the view.
    pub name: String,
    /// The account.
    pub account: Account,
}

impl Recorder {
    /// The view as SQL.
    pub fn view(&self) -> String {
        qualified(SCHEMA, &self.name)
    }

    fn account(&self) -> String {
        format!("{}@{}", quoted(&self.account.user), quoted(&self.account.host))
    }

    /// Creates the view. Its check option refuses changes for others.
    pub fn make_view(&self, interrupt: &dyn Interrupt) -> Result<()> {
        let statement = format!(
            "CREATE OR REPLACE DEFINER = `mysql_ml`@`localhost` SQL SECURITY DEFINER VIEW {} AS \
             SELECT {column}, row_key FROM {SCHEMA}.{} WHERE {column} = {} WITH CHECK OPTION",
            self.view(),
            self.changes,
            self.id,
            column = self.column,
        );
        library(interrupt, move |s| s.run(statement.as_bytes()).map(|_| ()))
    }

    /// Lets the account record changes, which it may not by itself.
    pub fn grant(&self, interrupt: &dyn Interrupt) -> Result<()> {
        let statement = format!("GRANT INSERT ON {} TO {}", self.view(), self.account());
        library(interrupt, move |s| s.run(statement.as_bytes()).map(|_| ()))
    }

    /// Removes the view and the right, in a session of the library's account.
    pub fn remove(&self, s: &mut Session) -> Result<()> {
        // It cannot be revoked from an account with SYSTEM_USER, which was given nothing.
        let revoke = format!("REVOKE IF EXISTS INSERT ON {} FROM {}", self.view(), self.account());
        let _ = s.run(revoke.as_bytes());
        s.run(format!("DROP VIEW IF EXISTS {}", self.view()).as_bytes()).map(|_| ())
    }

    /// The server's error if the session may not record changes; none is recorded.
    pub fn may_record(&self, s: &mut Session) -> Result<()> {
        let insert =
            format!("INSERT INTO {} ({}, row_key) SELECT 0, '' FROM DUAL WHERE FALSE", self.view(), self.column);
        s.run(insert.as_bytes()).map(|_| ())
    }

    /// The statement of a trigger that records the key of a row; `row` is NEW or OLD.
    pub fn record(&self, keyed: &Keyed, row: &str) -> String {
        format!(
            "INSERT INTO {} ({}, row_key) VALUES ({}, {});",
            self.view(),
            self.column,
            self.id,
            keyed.key_in_trigger(row)
        )
    }
}

/// The condition of a trigger that a row keeps its key. Different texts may be equal, so bytes are compared.
pub fn same_key(keyed: &Keyed) -> String {
    let same = keyed.key.iter().map(|k| match k.kind {
        KeyKind::Text { .. } => format!("CAST(NEW.{0} AS BINARY) <=> CAST(OLD.{0} AS BINARY)", quoted(&k.name)),
        _ => format!("NEW.{0} <=> OLD.{0}", quoted(&k.name)),
    });
    same.collect::<Vec<_>>().join(" AND ")
}

/// A body that never fails the write.
pub fn harmless(statements: &str) -> String {
    format!("BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN END; {statements} END")
}

/// A trigger after a change of a row.
#[derive(Debug, Clone)]
pub struct RowTrigger {
    /// Its name.
    pub name: String,
    /// `INSERT`, `UPDATE` or `DELETE`.
    pub on: &'static str,
    /// Its body.
    pub body: String,
}

impl RowTrigger {
    /// The CREATE TRIGGER statement.
    pub fn create(&self, keyed: &Keyed) -> String {
        format!(
            "CREATE TRIGGER {} AFTER {} ON {} FOR EACH ROW {}",
            qualified(&keyed.schema, &self.name),
            self.on,
            keyed.name(),
            self.body
        )
    }
}

/// The wanted triggers that are missing on a table, or are not the account's with this body. `until`: those made later than
/// this, in seconds since 1970, do not count.
pub fn wrong_triggers(
    s: &mut Session,
    keyed: &Keyed,
    account: &Account,
    wanted: Vec<RowTrigger>,
    until: f64,
) -> Result<Vec<RowTrigger>> {
    let made = s.query(
        "SELECT TRIGGER_NAME, ACTION_STATEMENT, CONCAT(ACTION_TIMING, ' ', EVENT_MANIPULATION), DEFINER, \
         UNIX_TIMESTAMP(CREATED) + 0e0 FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ? AND EVENT_OBJECT_TABLE = ?",
        &[keyed.schema.as_str().into(), keyed.table.as_str().into()],
    )?;
    let is_right = |wanted: &RowTrigger| -> Result<bool> {
        for row in &made.rows {
            let text = |i| row.get::<String>(i);
            if text(0)? == wanted.name {
                return Ok(is_body(&text(1)?, &wanted.body)
                    && text(2)? == format!("AFTER {}", wanted.on)
                    && text(3)? == account.to_string()
                    && row.get::<f64>(4)? <= until);
            }
        }
        Ok(false)
    };
    let mut wrong = Vec::new();
    for trigger in wanted {
        if !is_right(&trigger)? {
            wrong.push(trigger);
        }
    }
    Ok(wrong)
}
