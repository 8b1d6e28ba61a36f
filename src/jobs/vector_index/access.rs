//! Access to vector indexes and their tables: who may do what, in which account's sessions.

use crate::jobs::rights::{as_account, must_be_alterable};
use crate::mysql::caller::current_account;
use crate::mysql::error_numbers::{ER_NO_SUCH_TABLE, ER_OPTION_PREVENTS_STATEMENT};
use crate::mysql::session::Session;
use crate::mysql::sql::As;
use crate::tables::configs::Place;
use crate::tables::keyed::Keyed;
use crate::tables::layout::{parse_table, quoted, unquoted};
use crate::tables::recorder::{self, RowTrigger};
use crate::tables::vector_indexes::{self as store, VectorIndex};
use crate::tables::vector_triggers as triggers;
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

/// Looks a table up with the rights of an account.
pub(in crate::jobs) fn look_up(account: &As, table: &str, column: &str, interrupt: &dyn Interrupt) -> Result<Keyed> {
    let (table, column) = (table.to_owned(), column.to_owned());
    as_account(account, interrupt, move |s| Keyed::look_up(s, &table, &column))
}

/// Looks the table of an index up with the rights of its account.
pub(in crate::jobs) fn table_of(index: &VectorIndex, interrupt: &dyn Interrupt) -> Result<Keyed> {
    look_up(&As::Owner(index.definer.clone()), &index.table_name(), &quoted(&index.column), interrupt)
}

/// The triggers that are missing, or are not those that were made.
pub(in crate::jobs) fn wrong_triggers(s: &mut Session, index: &VectorIndex, keyed: &Keyed) -> Result<Vec<RowTrigger>> {
    let wanted = triggers::triggers(index, keyed);
    // Triggers that were made after the build are those of a restored table, whose rows were never recorded.
    recorder::wrong_triggers(s, keyed, &index.definer, wanted, index.built_at.unwrap_or(f64::MAX))
}

/// Why changes of the table do not reach the index, if they do not. Any other error may pass. Reads the server's metadata
/// only, with the rights that the triggers have: those of the account and its default roles.
pub(in crate::jobs) fn obstacle(
    index: &VectorIndex,
    keyed: &Keyed,
    interrupt: &dyn Interrupt,
) -> Result<Option<String>> {
    let (index, keyed) = (index.clone(), keyed.clone());
    as_account(&As::Account(index.definer.clone()), interrupt, move |s| {
        if let Some(wrong) = wrong_triggers(s, &index, &keyed)?.first() {
            return Ok(Some(format!("its trigger {} is missing or is not the one that was made", wrong.name)));
        }
        match index.recorder().may_record(s).and_then(|()| keyed.must_be_readable(s)) {
            Ok(()) => {}
            // A replica records nothing itself.
            Err(e) if e.kind() == Kind::Server(ER_OPTION_PREVENTS_STATEMENT) => {}
            Err(e) if LOST.iter().any(|code| e.kind() == Kind::Server(*code)) => {
                return Ok(Some(format!("its account may not record changes: {}", e.message())));
            }
            Err(e) => return Err(e),
        }
        Ok(is_exchanged(s, &index)?.then(|| EXCHANGED.to_owned()))
    })
}

/// Why an index is stale whose table got other files; a refresh builds it again.
pub(super) const EXCHANGED: &str = "a partition was exchanged, or the table or a partition truncated";

/// Whether the table has other tablespaces and was not written anew: every ALTER TABLE that copies rows changes the time of
/// the table's creation, EXCHANGE PARTITION and TRUNCATE do not.
fn is_exchanged(s: &mut Session, index: &VectorIndex) -> Result<bool> {
    let Some((spaces, created)) = index.files.as_deref().and_then(|files| files.rsplit_once(' ')) else {
        return Ok(false);
    };
    let server = |spaces: &str| spaces.split(' ').next().map(str::to_owned);
    // Numbers of another server, as on a replica, say nothing.
    let comparable = spaces != index.spaces && server(spaces) == server(&index.spaces);
    Ok(comparable && created == created_at(s, index)?)
}

/// When the table was created, seconds since 1970.
fn created_at(s: &mut Session, index: &VectorIndex) -> Result<String> {
    let found = s.query(
        "SELECT COALESCE(UNIX_TIMESTAMP(CREATE_TIME), 0) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
        &[index.schema.as_str().into(), index.table.as_str().into()],
    )?;
    found.rows.first().map_or_else(|| Ok(String::new()), |row| row.get::<u64>(0).map(|seconds| seconds.to_string()))
}

/// [`VectorIndex::files`] of an index whose tablespaces were read.
pub(super) fn files_of(index: &VectorIndex, interrupt: &dyn Interrupt) -> Result<String> {
    let known = index.clone();
    let created =
        as_account(&As::Owner(index.definer.clone()), interrupt, move |s: &mut Session| created_at(s, &known))?;
    Ok(format!("{} {created}", index.spaces))
}

/// Errors of a lost right: on a table, a column, a schema; of a table or view that is gone, of a view without its account.
const LOST: [u32; 6] = [1142, 1143, 1044, ER_NO_SUCH_TABLE, 1356, 1449];

/// The index of a column; an error if there is none, or several and no measure is given.
pub(in crate::jobs) fn the_index(
    table: &str,
    column: &str,
    measure: Option<&str>,
    interrupt: &dyn Interrupt,
) -> Result<VectorIndex> {
    let (schema, name) = parse_table(table)?;
    let bare = unquoted(column);
    let mut found = store::of_column(&schema, &name, &bare, interrupt)?;
    found.retain(|index| measure.is_none_or(|m| m == index.measure));
    match found.len() {
        0 => Err(Error::new(
            Kind::NotFound,
            format!(
                "column {} of {} has no vector index; create one with ai.create_vector_index",
                cut(&bare, 64),
                cut(table, 130)
            ),
        )),
        1 => found.pop().ok_or_else(|| Error::internal("an index is missing")),
        _ => Err(Error::invalid(format!(
            "column {} of {} has several vector indexes; name one with the option distance_measure",
            cut(&bare, 64),
            cut(table, 130)
        ))),
    }
}

/// An error unless the caller created the index or may alter its table.
pub(in crate::jobs) fn must_be_theirs(index: &VectorIndex, interrupt: &dyn Interrupt) -> Result<()> {
    if current_account()? == index.definer {
        return Ok(());
    }
    must_be_alterable(&index.table_name(), interrupt)
}

/// The index among the columns under work.
pub(in crate::jobs) fn place(index: &VectorIndex) -> Place {
    Place {
        schema: index.schema.clone(),
        table: index.table.clone(),
        embedding: format!("{} ({})", index.column, index.measure),
    }
}
