//! What is known of a column's index and of an account's rights, kept for a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;

use super::centroids::drop_those_of;
use crate::jobs::rights::as_account;
use crate::jobs::vector_index::access::{look_up, obstacle, the_index};
use crate::mysql::caller::current_account;
use crate::mysql::sql::As;
use crate::tables::keyed::Keyed;
use crate::tables::layout::{parse_table, quoted, unquoted};
use crate::tables::vector_indexes::{count_changes, set_stale, VectorIndex, MOST_CHANGES};
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

/// The recall that a search aims at by default.
pub(super) const RECALL: f64 = 0.98;
/// How long what is known of a column is kept between searches.
const KEPT: Duration = Duration::from_secs(1);
/// The most columns and accounts that are known.
const MOST_KNOWN: usize = 10_000;

/// What is known of a column and an account.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) index: Option<VectorIndex>,
    pub(super) keyed: Keyed,
    pub(super) obstacle: Option<String>,
    read_at: Instant,
}

/// An account, and schema, table, column and measure as it named them.
type Asked = (Account, String, String, String, Option<String>);

static KNOWN: Lazy<Mutex<HashMap<Asked, Arc<Known>>>> = Lazy::new(Mutex::default);

/// Forgets what is known of an index that was built or dropped.
pub(in crate::jobs) fn forget_version(index: &VectorIndex) {
    drop_those_of(index.id);
    forget(index);
}

/// Forgets what is known of an index's column.
pub(in crate::jobs) fn forget(index: &VectorIndex) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|_, known| {
        known.keyed.schema != index.schema || known.keyed.table != index.table || known.keyed.column != index.column
    });
}

/// What is known of a column, read with the caller's rights at most a second ago.
pub(super) fn known(table: &str, column: &str, measure: Option<&str>, interrupt: &dyn Interrupt) -> Result<Arc<Known>> {
    // Bounded by the longest names.
    let (schema, bare) = parse_table(table)?;
    let column_name = unquoted(column);
    if column_name.len() > 256 {
        return Err(Error::new(Kind::NotFound, "a column's name has at most 64 characters; check it"));
    }
    let name = (current_account()?, schema, bare, column_name, measure.map(str::to_owned));
    {
        let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&name).filter(|known| known.read_at.elapsed() < KEPT) {
            return Ok(Arc::clone(known));
        }
    }
    let read_at = Instant::now();
    let keyed = look_up(&As::Caller, table, column, interrupt)?;
    let readable = keyed.clone();
    as_account(&As::Caller, interrupt, move |s| readable.must_be_readable(s))?;
    let index = match the_index(&keyed.name(), &quoted(&keyed.column), measure, interrupt) {
        Ok(index) => Some(VectorIndex { changes: count_changes(index.id, interrupt)?, ..index }),
        Err(e) if e.kind() == Kind::NotFound => None,
        Err(e) => return Err(e),
    };
    let obstacle = match &index {
        Some(index) if index.stale.is_none() && index.version.is_some() => {
            match obstacle(index, &keyed, interrupt) {
                Ok(Some(reason)) => {
                    // Changes are lost, also if the cause goes. A replica cannot note it.
                    let _ = set_stale(index.id, &reason, interrupt);
                    Some(reason)
                }
                Ok(None) => None,
                // For example, the account that created it is gone, or a lock holds the view.
                Err(e) => Some(e.message().to_owned()),
            }
        }
        _ => None,
    };
    let known = Arc::new(Known { index, keyed, obstacle, read_at });
    let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() >= MOST_KNOWN {
        all.retain(|_, known| known.read_at.elapsed() < KEPT);
    }
    all.insert(name, Arc::clone(&known));
    Ok(known)
}

/// Reads of an index in such a transaction would lock other accounts' changes out, or miss rows.
pub(super) const LOCKING: &str =
    "the transaction reads with locks or uncommitted rows; an index needs REPEATABLE READ or READ COMMITTED and the binlog_format ROW";

/// Why an index cannot serve, if it cannot.
pub(super) fn unusable(index: &VectorIndex, obstacle: Option<&str>) -> Option<String> {
    if index.version.is_none() {
        return Some("the index was never built to its end; CALL ai.rebuild_vector_index".to_owned());
    }
    if let Some(reason) = index.stale.as_deref().or(obstacle) {
        return Some(format!("the index is stale: {reason}; CALL ai.rebuild_vector_index"));
    }
    if index.changes > MOST_CHANGES {
        return Some(format!("more than {MOST_CHANGES} changes wait; CALL ai.refresh_vector_index"));
    }
    None
}

/// Lists to read by default.
pub(in crate::jobs) fn default_lists(index: &VectorIndex) -> u64 {
    lists_for(index, RECALL)
}

/// Lists to read for a recall, by the measured shares of neighbours.
pub(super) fn lists_for(index: &VectorIndex, recall: f64) -> u64 {
    // The shares are measured on some hundred neighbours, and candidates lose a little too.
    let wanted = recall + (1.0 - recall) * 0.4;
    index.coverage.iter().find(|(_, share)| *share >= wanted).map_or(index.lists, |(lists, _)| *lists).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_recall_reads_more_lists() {
        let index = |coverage: Vec<(u64, f64)>| VectorIndex {
            id: 1,
            name: None,
            schema: "s".into(),
            table: "t".into(),
            column: "v".into(),
            definer: Account { user: "a".into(), host: "b".into() },
            object: "x".into(),
            measure: "cosine".into(),
            layout: Vec::new(),
            version: Some(1),
            lists: 50,
            coverage,
            rows: 1,
            left_out: 0,
            stale: None,
            changes: 0,
            codes: 0,
            bytes: 0,
            recall: None,
            built_at: None,
            files: None,
            spaces: String::new(),
        };
        let measured = index(vec![(1, 0.5), (5, 0.9), (20, 0.99), (50, 1.0)]);
        assert_eq!(lists_for(&measured, 0.5), 5);
        assert_eq!(lists_for(&measured, 0.98), 20);
        assert_eq!(lists_for(&measured, 1.0), 50);
        assert_eq!(lists_for(&index(Vec::new()), 0.98), 50);
    }
}
