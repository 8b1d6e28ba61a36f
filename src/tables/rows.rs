//! Reads rows and writes vectors so that one bad row does not fail the others. A failing statement is repeated in
//! halves, down to single rows.

use std::sync::Arc;

use super::layout::Layout;
use super::statements::{self, Between, Found, Key};
use crate::mysql::error_numbers::{
    is_locked, ER_CUT_VALUE_GROUP_CONCAT, ER_LOCK_DEADLOCK, ER_LOCK_WAIT_TIMEOUT, ER_QUERY_INTERRUPTED,
    ER_QUERY_TIMEOUT, ER_SERVER_SHUTDOWN, ER_UPDATE_TABLE_USED,
};
use crate::mysql::session::Session;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::memory::Reservation;

/// The most tries of a write after deadlocks.
const WRITE_TRIES: u32 = 5;

/// The most rows read one by one after a failed page.
const CAREFUL_PAGE: usize = 256;

/// A page of rows.
#[derive(Default)]
pub struct Page {
    /// Rows to embed.
    pub rows: Vec<Found>,
    /// Rows whose text cannot be read, with errors.
    pub bad: Vec<(Found, Error)>,
    /// The last key.
    pub last: Option<Key>,
    /// Whether more rows may follow.
    pub more: bool,
    /// Whether GROUP_CONCAT truncated a text.
    pub cut: bool,
}

/// A row with its vector.
pub struct Vector {
    /// The row.
    pub found: Found,
    /// Its vector.
    pub bytes: Arc<[u8]>,
    /// The reservation of the vector's memory.
    pub share: Reservation,
}

/// The result of writing a group of rows.
#[derive(Default)]
pub struct Written {
    /// Number of rows with their vector.
    pub affected: u64,
    /// The rows that were written or had changed.
    pub done: Vec<Found>,
    /// Rows that cannot be written, with errors.
    pub failed: Vec<(Found, Error)>,
    /// Rows locked by another session.
    pub locked: Vec<Vector>,
    /// The error if the whole table is locked.
    pub table_locked: Option<Error>,
}

/// Whether an error of the server may concern a single row.
fn may_be_a_rows(error: &Error) -> bool {
    let stopped = matches!(
        error.kind(),
        Kind::Server(ER_QUERY_INTERRUPTED | ER_QUERY_TIMEOUT | ER_SERVER_SHUTDOWN) | Kind::Interrupted(_)
    );
    matches!(error.kind(), Kind::Server(_)) && !stopped && !is_locked(error)
}

/// Adds the job's context to an error; keeps the server's number.
#[must_use]
pub fn in_context(error: Error, context: &str) -> Error {
    match error.kind() {
        Kind::Server(ER_LOCK_WAIT_TIMEOUT) => Error::new(
            error.kind(),
            format!(
                "{context}: {}; another session has the table or its rows locked, or this one has with LOCK TABLES, which holds up the job's own sessions too: wait, or UNLOCK TABLES",
                error.message()
            ),
        ),
        Kind::Server(_) => Error::new(error.kind(), format!("{context}: {}", error.message())),
        _ => error.context(context),
    }
}

/// Runs both statements for no row, to find errors of all rows before anything is sent.
pub fn prepare(s: &mut Session, layout: &Layout, filter: Option<&str>) -> Result<()> {
    let read = statements::select(layout, filter, Between::default(), 0);
    s.run(read.as_bytes()).map_err(|e| match e.kind() {
        Kind::Server(_) if filter.is_some() && may_be_a_rows(&e) => {
            Error::invalid(format!("option where: {}; give a condition on the table's columns", e.message()))
        }
        _ => e,
    })?;
    s.run(&statements::update_nothing(layout)).map(|_| ()).map_err(|e| match e.kind() {
        Kind::Server(ER_UPDATE_TABLE_USED) => Error::invalid(format!(
            "content_column reads {} itself in a subquery, and MySQL can then not write to it (1093); store the looked-up value in a column, or let a stored function look it up",
            layout.name()
        )),
        _ => e,
    })
}

/// Reads at most `limit` rows after a key.
pub fn read_page(
    s: &mut Session,
    layout: &Layout,
    filter: Option<&str>,
    after: Option<&Key>,
    limit: usize,
) -> Result<Page> {
    let between = Between { after, until: None };
    let statement = statements::select(layout, filter, between, limit);
    match s.run(statement.as_bytes()) {
        Ok(result) => {
            let more = result.rows.len() == limit;
            let cut = result.warnings > 0 && was_cut(s, layout)?;
            let (rows, bad, last) = statements::read(layout, result)?;
            let bad = bad.into_iter().map(|found| (found, not_readable())).collect();
            Ok(Page { rows, bad, last, more, cut })
        }
        Err(error) if may_be_a_rows(&error) => {
            // If it also fails for no row, no row is at fault.
            s.run(statements::select(layout, filter, between, 0).as_bytes())?;
            read_carefully(s, layout, filter, after, limit.min(CAREFUL_PAGE))
        }
        Err(error) => Err(error),
    }
}

/// Whether GROUP_CONCAT truncated a text in the last statement, which is only a warning.
fn was_cut(s: &mut Session, layout: &Layout) -> Result<bool> {
    if !layout.content.to_ascii_lowercase().contains("group_concat") {
        return Ok(false);
    }
    let codes = s.run(b"SHOW WARNINGS")?.rows.into_iter().map(|row| row.get::<u32>(1)).collect::<Result<Vec<_>>>()?;
    Ok(codes.contains(&ER_CUT_VALUE_GROUP_CONCAT))
}

fn not_readable() -> Error {
    Error::invalid(
        "its text cannot be read as UTF-8; correct it, or convert it in content_column with CONVERT(... USING ...)",
    )
}

/// Reads rows between known keys; in halves after a failure.
fn read_carefully(
    s: &mut Session,
    layout: &Layout,
    filter: Option<&str>,
    after: Option<&Key>,
    limit: usize,
) -> Result<Page> {
    let result = s.run(statements::select_keys(layout, after, limit).as_bytes())?;
    let keys = statements::read_keys(layout, result)?;
    let mut page = Page { more: keys.len() == limit, last: keys.last().cloned(), ..Page::default() };
    let mut parts = vec![(after.cloned(), keys.as_slice())];
    while let Some((after, keys)) = parts.pop() {
        let Some(last) = keys.last() else { continue };
        let between = Between { after: after.as_ref(), until: Some(last) };
        match s.run(statements::select(layout, filter, between, keys.len()).as_bytes()) {
            Ok(result) => {
                let (rows, bad, _) = statements::read(layout, result)?;
                page.rows.extend(rows);
                page.bad.extend(bad.into_iter().map(|found| (found, not_readable())));
            }
            Err(error) if may_be_a_rows(&error) => match keys {
                [key] => page.bad.push((
                    Found { key: key.clone(), content: Arc::from(""), share: Reservation::default() },
                    Error::invalid(format!("the server cannot read its text: {}; correct the row", error.message())),
                )),
                _ => {
                    let (first, second) = keys.split_at(keys.len() / 2);
                    parts.push((first.last().cloned(), second));
                    parts.push((after, first));
                }
            },
            Err(error) => return Err(error),
        }
    }
    Ok(page)
}

/// Writes vectors to rows whose text is unchanged.
pub fn write_group(s: &mut Session, layout: &Layout, group: Vec<Vector>) -> Result<Written> {
    let mut written = Written::default();
    let mut parts = vec![group];
    while let Some(mut part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let rows: Vec<(&Found, &[u8])> = part.iter().map(|v| (&v.found, v.bytes.as_ref())).collect();
        let statement = statements::update(layout, &rows);
        let mut tries = 1;
        let result = loop {
            match s.run(&statement) {
                Err(e) if e.kind() == Kind::Server(ER_LOCK_DEADLOCK) && tries < WRITE_TRIES => tries += 1,
                result => break result,
            }
        };
        drop(statement);
        let error = match result {
            Ok(done) => {
                written.affected += done.affected;
                written.done.extend(part.into_iter().map(|v| v.found));
                continue;
            }
            Err(error) => error,
        };
        let locked = is_locked(&error);
        if !locked && !may_be_a_rows(&error) {
            return Err(error);
        }
        // If it also fails for no row, no row is at fault.
        match s.run(&statements::update_nothing(layout)) {
            Err(e) if is_locked(&e) => {
                written.locked.append(&mut part);
                parts.drain(..).for_each(|rest| written.locked.extend(rest));
                written.table_locked = Some(e);
                return Ok(written);
            }
            result => result?,
        };
        if part.len() > 1 {
            let rest = part.split_off(part.len() / 2);
            parts.push(rest);
            parts.push(part);
        } else if locked {
            written.locked.append(&mut part);
        } else {
            let refused = Error::new(
                Kind::Invalid,
                format!(
                    "the server refuses to write its {}: {}; correct what stands against it",
                    layout.noun(),
                    error.message()
                ),
            );
            written.failed.extend(part.into_iter().map(|v| (v.found, refused.clone())));
        }
    }
    Ok(written)
}
