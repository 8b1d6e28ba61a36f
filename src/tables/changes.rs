//! Changes that triggers recorded: read, counted by their last number, removed when they are done.

use super::recorder::Recorder;
use super::vector_indexes::{library, SCHEMA};
use crate::mysql::session::{Param, Session};
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;

/// Changes: their numbers and the keys of their rows.
#[derive(Debug, Default)]
pub struct Changes {
    /// The numbers.
    pub ids: Vec<u64>,
    /// The keys; equal ones may repeat.
    pub keys: Vec<Vec<u8>>,
}

impl Recorder {
    /// At most `limit` changes.
    pub fn changes(&self, limit: u64, interrupt: &dyn Interrupt) -> Result<Changes> {
        let (table, column, id) = (self.changes, self.column, self.id);
        library(interrupt, move |s| {
            let select = [
                "SELECT change_id, row_key FROM mysql_ml.",
                table,
                " WHERE ",
                column,
                " = ? ORDER BY change_id LIMIT ?",
            ];
            let mut changes = Changes::default();
            for mut row in s.query_pieces(&select, &[Param::Number(id), Param::Number(limit)])?.rows {
                changes.ids.push(row.get(0)?);
                changes.keys.push(row.take_bytes(1)?.unwrap_or_default());
            }
            Ok(changes)
        })
    }

    /// The number of the last change.
    pub fn last_change(&self, interrupt: &dyn Interrupt) -> Result<Option<u64>> {
        let (table, column, id) = (self.changes, self.column, self.id);
        library(interrupt, move |s| {
            let select = ["SELECT MAX(change_id) FROM mysql_ml.", table, " WHERE ", column, " = ?"];
            let found = s.query_pieces(&select, &[Param::Number(id)])?;
            found.rows.first().map_or(Ok(None), |row| row.get(0))
        })
    }

    /// Removes changes whose rows are done, in a session of the library's account.
    pub fn delete_changes(&self, s: &mut Session, changes: &[u64]) -> Result<()> {
        let (table, column, id) = (self.changes, self.column, self.id);
        for part in changes.chunks(1000) {
            let ids: Vec<String> = part.iter().map(|id| format!("ROW({id})")).collect();
            // One by one: a scan would wait for uncommitted changes of others.
            let delete = format!(
                "DELETE {SCHEMA}.{table} FROM (VALUES {}) AS d (id) STRAIGHT_JOIN {SCHEMA}.{table} FORCE INDEX (PRIMARY) \
                 ON {table}.{column} = {id} AND {table}.change_id = d.id",
                ids.join(",")
            );
            s.run(delete.as_bytes())?;
        }
        Ok(())
    }

    /// Removes all changes, some at a time.
    pub fn delete_all_changes(&self, interrupt: &dyn Interrupt) -> Result<()> {
        let (table, column, id) = (self.changes, self.column, self.id);
        while library(interrupt, move |s| {
            let delete = ["DELETE FROM mysql_ml.", table, " WHERE ", column, " = ? LIMIT 10000"];
            Ok(s.query_pieces(&delete, &[Param::Number(id)])?.affected > 0)
        })? {}
        Ok(())
    }
}
