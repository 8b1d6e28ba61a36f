//! Access to vector indexes and their tables: who may do what, in which account's sessions.

use crate::jobs::rights::{as_account, must_be_alterable};
use crate::mysql::caller::current_account;
use crate::mysql::error_numbers::{ER_NO_SUCH_TABLE, ER_OPTION_PREVENTS_STATEMENT};
use crate::mysql::session::Session;
use crate::mysql::sql::As;
use crate::tables::configs::Place;
use crate::tables::keyed::Keyed;
use crate::tables::layout::{parse_table, quoted, unquoted};
use crate::tables::marking::is_body;
use crate::tables::vector_indexes::{self as store, VectorIndex};
use crate::tables::vector_triggers::{self as triggers, VectorTrigger};
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
pub(in crate::jobs) fn wrong_triggers(
    s: &mut Session,
    index: &VectorIndex,
    keyed: &Keyed,
) -> Result<Vec<VectorTrigger>> {
    let made = s.query(
        "SELECT TRIGGER_NAME, ACTION_STATEMENT, CONCAT(ACTION_TIMING, ' ', EVENT_MANIPULATION), DEFINER, \
         UNIX_TIMESTAMP(CREATED) + 0e0 FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ? AND EVENT_OBJECT_TABLE = ? \
         AND LEFT(TRIGGER_NAME, 11) = ?",
        &[index.schema.as_str().into(), index.table.as_str().into(), triggers::PREFIX.into()],
    )?;
    // Triggers that were made after the build are those of a restored table, whose rows were never recorded.
    let built = index.built_at.unwrap_or(f64::MAX);
    let is_right = |wanted: &VectorTrigger| -> Result<bool> {
        for row in &made.rows {
            let text = |i| row.get::<String>(i);
            if text(0)? == wanted.name {
                return Ok(is_body(&text(1)?, &wanted.body)
                    && text(2)? == format!("AFTER {}", wanted.on)
                    && text(3)? == index.definer.to_string()
                    && row.get::<f64>(4)? <= built);
            }
        }
        Ok(false)
    };
    let mut wrong = Vec::new();
    for wanted in triggers::triggers(index, keyed) {
        if !is_right(&wanted)? {
            wrong.push(wanted);
        }
    }
    Ok(wrong)
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
        match may_record(s, &index).and_then(|()| keyed.must_be_readable(s)) {
            Ok(()) => Ok(None),
            // A replica records nothing itself.
            Err(e) if e.kind() == Kind::Server(ER_OPTION_PREVENTS_STATEMENT) => Ok(None),
            Err(e) if LOST.iter().any(|code| e.kind() == Kind::Server(*code)) => {
                Ok(Some(format!("its account may not record changes: {}", e.message())))
            }
            Err(e) => Err(e),
        }
    })
}

/// Errors of a lost right: on a table, a column, a schema; of a table or view that is gone, of a view without its account.
const LOST: [u32; 6] = [1142, 1143, 1044, ER_NO_SUCH_TABLE, 1356, 1449];

/// The server's error if the session may not record changes; none is recorded.
pub(in crate::jobs) fn may_record(s: &mut Session, index: &VectorIndex) -> Result<()> {
    let insert = format!("INSERT INTO {} (index_id, row_key) SELECT 0, '' FROM DUAL WHERE FALSE", index.view());
    s.run(insert.as_bytes()).map(|_| ())
}

/// Lets the index's account record changes. The library may not grant anything to accounts with SYSTEM_USER, which
/// usually may do it anyway. Returns whether the account could do it before.
pub(in crate::jobs) fn let_record(index: &VectorIndex, interrupt: &dyn Interrupt) -> Result<bool> {
    let may = |index: &VectorIndex| {
        let probed = index.clone();
        as_account(&As::Account(probed.definer.clone()), interrupt, move |s| may_record(s, &probed))
    };
    if may(index).is_ok() {
        return Ok(true);
    }
    store::make_view(index, interrupt)?;
    if may(index).is_err() {
        store::grant(index, interrupt)?;
        may(index)?;
    }
    Ok(false)
}

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
