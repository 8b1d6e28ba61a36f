//! Work on a table with an account's rights.

use std::time::Instant;

use crate::mysql::caller::has_temporary_table;
use crate::mysql::error_numbers::{
    ER_BAD_DB, ER_CANT_DROP_FIELD, ER_EVENT_EXISTS, ER_LOCK_WAIT_TIMEOUT, ER_NO_SUCH_TABLE, ER_TRIGGER_EXISTS,
    ER_TRIGGER_NEEDS_SUPER, ER_WRONG_OBJECT,
};
use crate::mysql::session::Session;
use crate::mysql::sql::{with_session, As, SessionKind, SQL_TIMEOUT};
use crate::tables::configs::{is_source, Source};
use crate::tables::layout::{parse_table, quoted};
use crate::tables::marking::no_column;
use crate::tables::recorder::Recorder;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

/// Runs `work` in a session of an account.
pub(super) fn as_account<T: Send + 'static>(
    account: &As,
    interrupt: &dyn Interrupt,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<T> {
    with_session(account, SessionKind::CallerStatement, interrupt, Instant::now() + SQL_TIMEOUT, work)
}

/// The server's error if the caller may not alter the table, named in SQL. The statement fails at a column that does not
/// exist, after the check of rights and before any row is read.
pub(super) fn must_be_alterable(table: &str, interrupt: &dyn Interrupt) -> Result<()> {
    let statement = format!("ALTER TABLE {table} DROP COLUMN {}", quoted(&no_column()));
    match as_account(&As::Caller, interrupt, move |s| s.run(statement.as_bytes())) {
        Err(e) => match e.kind() {
            Kind::Server(ER_CANT_DROP_FIELD | ER_NO_SUCH_TABLE | ER_BAD_DB | ER_WRONG_OBJECT) => Ok(()),
            _ => Err(e),
        },
        Ok(_) => Err(Error::internal("a column that does not exist was dropped")),
    }
}

/// Adds advice to common errors of CREATE TRIGGER and CREATE EVENT. `name`: of the object; `purpose`: what the account
/// wants to do.
pub(super) fn advised(error: Error, name: &str, purpose: &str) -> Error {
    match error.kind() {
        Kind::Server(ER_LOCK_WAIT_TIMEOUT) => Error::new(
            Kind::Busy,
            "the table is in use, so its trigger cannot be changed now; commit the transactions that use it and call again",
        ),
        Kind::Server(ER_TRIGGER_NEEDS_SUPER) => Error::new(
            Kind::Denied,
            format!(
                "with the binary log on, the server lets only accounts with SUPER make triggers; let one {purpose}, or SET GLOBAL log_bin_trust_function_creators = 1"
            ),
        ),
        Kind::Server(code @ (ER_TRIGGER_EXISTS | ER_EVENT_EXISTS)) => Error::new(
            Kind::AlreadyExists,
            format!(
                "the {what} {name} exists already and is not the library's; DROP {} {name}, and call again",
                if code == ER_EVENT_EXISTS { "EVENT" } else { "TRIGGER" },
                what = if code == ER_EVENT_EXISTS { "event" } else { "trigger" },
            ),
        ),
        _ => error,
    }
}

/// Lets an account record changes, as its triggers do. Accounts with SYSTEM_USER, to whom the library may not grant anything,
/// usually may do it anyway. Returns whether the account could do it before.
pub(super) fn let_record(recorder: &Recorder, interrupt: &dyn Interrupt) -> Result<bool> {
    let may = || {
        let recorder = recorder.clone();
        as_account(&As::Account(recorder.account.clone()), interrupt, move |s| recorder.may_record(s))
    };
    if may().is_ok() {
        return Ok(true);
    }
    recorder.make_view(interrupt)?;
    if may().is_err() {
        recorder.grant(interrupt)?;
        may()?;
    }
    Ok(false)
}

/// An error on a server that takes no writes.
pub(super) fn refuse_on_replica(interrupt: &dyn Interrupt) -> Result<()> {
    if is_source(interrupt)? == Source::No {
        return Err(Error::new(Kind::Denied, "this server is read-only; call on its source, which it replicates"));
    }
    Ok(())
}

/// An error for a temporary table: it hides the table that the job's sessions see.
pub(super) fn refuse_temporary_table(table: &str) -> Result<()> {
    let (schema, table) = parse_table(table)?;
    if !has_temporary_table(&schema, &table) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{}.{} is a temporary table of your session, which no other session sees; embed a table that is none",
        quoted(&schema),
        quoted(&table)
    )))
}
