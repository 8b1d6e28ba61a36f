//! Vector indexes: created, rebuilt and dropped, kept in step with their tables, compared with them.
//!
//! An index is made of rows in the library's tables. Triggers on its table record the keys of new and changed rows;
//! `refresh` moves them into blocks. All work on the table runs as the account that created the index.

pub(super) mod access;
mod build;
mod check;
mod cloud_sql;
pub(super) mod measures;
mod refresh;
mod wanted;

use std::sync::Arc;
use std::time::Instant;

use mysql_ml_index::Layout;
use serde_json::{json, Value};
use surface::functions;

use super::at_work::Held;
use super::rights::{advised, as_account, let_record, must_be_alterable, refuse_on_replica, refuse_temporary_table};
use super::Jobs;
use crate::mysql::caller::current_account;
use crate::mysql::error_numbers::ER_BAD_DB;
use crate::mysql::session::Session;
use crate::mysql::sql::{job_turn, As};
use crate::mysql::statement::ProgressState;
use crate::tables::configs::{is_source, Source};
use crate::tables::keyed::Keyed;
use crate::tables::layout::quoted;
use crate::tables::marking::{is_body, qualified, random};
use crate::tables::vector_indexes::{self as store, VectorIndex, MOST_CHANGES};
use crate::tables::vector_triggers as triggers;
use access::{files_of, look_up, must_be_theirs, obstacle, place, table_of, the_index, wrong_triggers, EXCHANGED};
use measures::{name_of, take_measure};
use mysql_ml_base::error::{Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::shares::Share;
use mysql_ml_core::catalog::members::{self};
use wanted::{Wanted, DEFAULT_BITS};

/// What an account does that needs triggers.
const CREATE: &str = "create the index";

/// Creates what is missing of triggers and event, as the definer; with `anew`, all triggers. Returns a note if there is no event.
fn set_up(index: &VectorIndex, keyed: &Keyed, anew: bool, interrupt: &dyn Interrupt) -> Result<Option<String>> {
    let (index, keyed) = (index.clone(), keyed.clone());
    // With the rights that the triggers will have.
    as_account(&As::Account(index.definer.clone()), interrupt, move |s| {
        keyed.must_be_readable(s)?;
        let wanted = if anew { triggers::triggers(&index, &keyed) } else { wrong_triggers(s, &index, &keyed)? };
        for trigger in wanted {
            let drop = format!("DROP TRIGGER IF EXISTS {}", qualified(&keyed.schema, &trigger.name));
            let advise = |e| advised(e, &trigger.name, CREATE);
            s.run(drop.as_bytes()).map_err(advise)?;
            s.run(trigger.create(&keyed).as_bytes()).map_err(advise)?;
        }
        let name = qualified(&index.schema, &triggers::event_name(&index));
        let event = s.query(
            "SELECT EVENT_DEFINITION, DEFINER, STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ? AND EVENT_NAME = ?",
            &[index.schema.as_str().into(), triggers::event_name(&index).as_str().into()],
        )?;
        if let Some(row) = event.rows.first() {
            let (body, definer, status): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let replicated = status != "ENABLED" && status != "DISABLED";
            let right = is_body(&body, &triggers::event_body(&index)) && definer == index.definer.to_string();
            if right && !replicated {
                return Ok(None);
            }
        }
        let dropped = s.run(format!("DROP EVENT IF EXISTS {name}").as_bytes());
        let created = dropped.and_then(|_| s.run(triggers::create_event(&index).as_bytes()));
        Ok(created.err().map(|e| {
            format!(
                "no event moves changes into the index ({}); call ai.refresh_vector_index now and then",
                e.message()
            )
        }))
    })
}

/// Removes triggers and event. They are gone with their table or schema.
fn take_down(s: &mut Session, index: &VectorIndex) -> Result<()> {
    let name = triggers::event_name(index);
    let objects = [("EVENT", name.clone()), ("TRIGGER", format!("{name}_i")), ("TRIGGER", format!("{name}_u"))];
    let mut first = Ok(());
    for (what, object) in objects {
        let statement = format!("DROP {what} IF EXISTS {}", qualified(&index.schema, &object));
        let done = match s.run(statement.as_bytes()) {
            Err(e) if e.kind() == Kind::Server(ER_BAD_DB) => Ok(()),
            result => result.map(|_| ()).map_err(|e| advised(e, &object, "drop the index")),
        };
        first = first.and(done);
    }
    first
}

/// Builds a version of an index that is held. `notes` come first in that of the result.
fn build_index(
    index: &VectorIndex,
    keyed: &Keyed,
    wanted: &Wanted,
    mut notes: Vec<String>,
    interrupt: &dyn Interrupt,
) -> Result<String> {
    let start = Instant::now();
    let share = Share { account: Some(index.definer.to_string().into()), source: None };
    let _turn = job_turn(share, true, interrupt)?;
    // Changes are recorded before the first row is read. CREATE TRIGGER waits for transactions that write the table.
    let recorded = let_record(&index.recorder(), interrupt)?;
    if index.version.is_none() {
        // The build reads all rows.
        index.recorder().delete_all_changes(interrupt)?;
    }
    // Writers whose changes were lost may not have committed yet: new triggers wait for them.
    let note = set_up(index, keyed, !recorded || index.stale.is_some(), interrupt)?;
    let files = files_of(index, interrupt)?;
    let mut state = ProgressState::begin();
    let built = build::build(index, keyed, wanted, &mut state, interrupt);
    let built = built.inspect_err(|_| {
        let never = mysql_ml_base::interrupt::Never;
        let _ = store::delete_versions(index.id, index.version, &never);
    })?;
    store::publish(index.id, &built, &files, interrupt)?;
    state.show("vector index: removing the old version");
    store::delete_versions(index.id, Some(built.version), interrupt)?;
    let index = VectorIndex { version: Some(built.version), layout: built.layout.clone(), ..index.clone() };
    refresh::fold(&index, keyed, &mut state, interrupt)?;
    super::search::known::forget_version(&index);
    notes.extend(note);
    if built.left_out > 0 {
        notes.push(format!(
            "{} rows are left out: their vectors have another width, or are zero; searches find them by reading the table",
            built.left_out
        ));
    }
    Ok(json!({
        "rows": built.rows, "left_out": built.left_out, "lists": built.lists,
        "seconds": (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        "note": (!notes.is_empty()).then(|| notes.join("; ")),
    })
    .to_string())
}

impl Jobs {
    /// Creates an index on a column and builds it. Returns a JSON object: `rows`, `left_out`, `lists`, `seconds`, `note`.
    pub fn create_vector_index(
        &self,
        table: &str,
        column: &str,
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        self.engine.may_call(functions::ai_create_vector_index, interrupt)?;
        self.create_index(None, table, column, &Wanted::read(options)?, Vec::new(), interrupt)
    }

    /// Creates an index, with a name if it is given one.
    fn create_index(
        &self,
        name: Option<String>,
        table: &str,
        column: &str,
        wanted: &Wanted,
        notes: Vec<String>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        refuse_temporary_table(table)?;
        refuse_on_replica(interrupt)?;
        let definer = current_account()?;
        let keyed = look_up(&As::Owner(definer.clone()), table, column, interrupt)?;
        must_be_alterable(&keyed.name(), interrupt)?;
        let layout = Layout::new(wanted.dimensions.unwrap_or(keyed.width), wanted.metric, wanted.bits, 1)?;
        let mut index = VectorIndex {
            id: 0,
            name,
            schema: keyed.schema.clone(),
            table: keyed.table.clone(),
            column: keyed.column.clone(),
            definer,
            object: random(),
            measure: name_of(wanted.metric).to_owned(),
            layout: layout.to_bytes(),
            version: None,
            lists: 0,
            coverage: Vec::new(),
            rows: 0,
            left_out: 0,
            stale: None,
            changes: 0,
            codes: 0,
            bytes: 0,
            recall: None,
            built_at: None,
            files: None,
            spaces: store::spaces(&keyed.schema, &keyed.table, interrupt)?,
        };
        let _held = self.indexing.hold(&[place(&index)], &index.definer.to_string(), interrupt)?;
        index.id = store::create(&index, interrupt)?;
        let made = build_index(&index, &keyed, wanted, notes, interrupt);
        if made.is_err() {
            // Removed as a whole, also after a KILL.
            let never = mysql_ml_base::interrupt::Never;
            let _ = as_account(&As::Owner(index.definer.clone()), &never, {
                let index = index.clone();
                move |s| take_down(s, &index)
            });
            let _ = store::delete(&index, &never);
        }
        made
    }

    /// Builds an index again, while the old version serves.
    pub fn rebuild_vector_index(
        &self,
        table: &str,
        column: &str,
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        self.engine.may_call(functions::ai_rebuild_vector_index, interrupt)?;
        refuse_on_replica(interrupt)?;
        let mut members = members::of(options)?;
        let measure = take_measure(&mut members)?;
        let (_held, index) = self.reserve(table, column, measure.as_deref(), interrupt)?;
        let wanted = Wanted::of(&index)?.with(&mut members)?;
        let keyed = table_of(&index, interrupt)?;
        build_index(&index, &keyed, &wanted, Vec::new(), interrupt)
    }

    /// Reserves the index of a column for a job of the caller, who must have created it or may alter its table.
    fn reserve(
        &self,
        table: &str,
        column: &str,
        measure: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<(Arc<Held>, VectorIndex)> {
        let index = the_index(table, column, measure, interrupt)?;
        must_be_theirs(&index, interrupt)?;
        self.hold_index(&index, interrupt)
    }

    /// Reserves an index for a job, and reads it again: another job may have changed it meanwhile.
    fn hold_index(&self, index: &VectorIndex, interrupt: &dyn Interrupt) -> Result<(Arc<Held>, VectorIndex)> {
        let held = self.indexing.hold(&[place(index)], &index.definer.to_string(), interrupt)?;
        let index = the_index(&index.table_name(), &quoted(&index.column), Some(&index.measure), interrupt)?;
        Ok((held, index))
    }

    /// Moves changes into the index. Returns a JSON object: `rows` moved, `lists` merged, `note`.
    pub fn refresh_vector_index(
        &self,
        table: &str,
        column: &str,
        options: Option<&str>,
        by_event: bool,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        if !by_event {
            self.engine.may_call(functions::ai_refresh_vector_index, interrupt)?;
        }
        let mut members = members::of(options)?;
        let measure = take_measure(&mut members)?;
        members::none_left(&members, "distance_measure")?;
        let index = the_index(table, column, measure.as_deref(), interrupt)?;
        if by_event {
            // Another account's event of this text, or one on a replica, does nothing.
            if current_account()? != index.definer || is_source(interrupt)? == Source::No {
                return Ok(json!({"rows": 0, "lists": 0, "note": "nothing is done"}).to_string());
            }
        } else {
            refuse_on_replica(interrupt)?;
            must_be_theirs(&index, interrupt)?;
        }
        let (_held, index) = match self.hold_index(&index, interrupt) {
            // The event comes again.
            Err(e) if by_event && e.kind() == Kind::Busy => {
                return Ok(json!({"rows": 0, "lists": 0, "note": e.message()}).to_string());
            }
            held => held?,
        };
        if by_event && index.version.is_none() {
            return Ok(json!({"rows": 0, "lists": 0, "note": "it is not built yet"}).to_string());
        }
        let keyed = table_of(&index, interrupt)?;
        match obstacle(&index, &keyed, interrupt)? {
            Some(reason) => {
                store::set_stale(index.id, &reason, interrupt)?;
                if reason == EXCHANGED && index.stale.as_ref().is_none_or(|stale| *stale == reason) {
                    // Its triggers are those that were made.
                    let sound = VectorIndex { stale: None, ..index.clone() };
                    return build_again(&sound, &keyed, 0, 0, &reason, interrupt);
                }
            }
            None => {
                let files = files_of(&index, interrupt)?;
                if index.files.as_ref() != Some(&files) {
                    store::set_files(index.id, &files, interrupt)?;
                }
            }
        }
        let mut state = ProgressState::begin();
        let done = refresh::refresh(&index, &keyed, &mut state, interrupt)?;
        if store::codes(index.id, index.version.unwrap_or_default(), interrupt)? > 2 * index.rows + OUTGROWN {
            // It has outgrown its lists.
            return build_again(&index, &keyed, done.rows, done.lists, "it has twice as many rows", interrupt);
        }
        Ok(json!({"rows": done.rows, "lists": done.lists, "note": Value::Null}).to_string())
    }

    /// Removes an index.
    pub fn drop_vector_index(
        &self,
        table: &str,
        column: &str,
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        self.engine.may_call(functions::ai_drop_vector_index, interrupt)?;
        let mut members = members::of(options)?;
        let measure = take_measure(&mut members)?;
        members::none_left(&members, "distance_measure")?;
        let (_held, index) = self.reserve(table, column, measure.as_deref(), interrupt)?;
        Self::remove_index(&index, interrupt)
    }

    /// Removes an index that is held.
    fn remove_index(index: &VectorIndex, interrupt: &dyn Interrupt) -> Result<String> {
        let account = if current_account()? == index.definer { As::Owner(index.definer.clone()) } else { As::Caller };
        as_account(&account, interrupt, {
            let index = index.clone();
            move |s| take_down(s, &index)
        })?;
        store::delete(index, interrupt)?;
        super::search::known::forget_version(index);
        Ok(json!({"dropped": 1}).to_string())
    }

    /// All indexes of tables that the caller can see, as a JSON array.
    pub fn vector_indexes(&self, interrupt: &dyn Interrupt) -> Result<String> {
        let mut shown = Vec::new();
        for mut index in store::all(interrupt)? {
            let names = [index.schema.clone(), index.table.clone(), index.column.clone()];
            let seen = as_account(&As::Caller, interrupt, move |s| {
                let [schema, table, column] = &names;
                let found = s.query(
                    "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND COLUMN_NAME = ?",
                    &[schema.as_str().into(), table.as_str().into(), column.as_str().into()],
                )?;
                found.rows.first().map_or(Ok(0), |row| row.get::<u64>(0))
            })?;
            let own = current_account()? == index.definer;
            if seen == 0 && !own {
                continue;
            }
            store::measure(&mut index, interrupt)?;
            let stale = if seen == 0 { Some("its table or column is gone".to_owned()) } else { index.stale.clone() };
            let status = match (&stale, index.version) {
                (Some(_), _) => "stale",
                (None, None) => "building",
                (None, Some(_)) if index.changes > MOST_CHANGES => "behind",
                (None, Some(_)) => "ready",
            };
            let (bits, dimensions) = form_of(&index);
            shown.push(json!({
                "index_name": index.shown_name(), "index_type": cloud_sql::INDEX_TYPE, "dimensions": dimensions,
                "table_name": format!("{}.{}", index.schema, index.table), "column_name": index.column,
                "distance_measure": index.measure, "status": status, "rows": index.rows, "codes": index.codes,
                "changes": index.changes, "lists": index.lists, "bits": bits, "bytes": index.bytes,
                "left_out": index.left_out, "recall": index.recall, "definer": index.definer.to_string(), "note": stale,
            }));
        }
        Ok(Value::Array(shown).to_string())
    }
}

/// Builds an index again that is held, and returns the object of a refresh, which moved `rows` and merged `lists` before.
fn build_again(
    index: &VectorIndex,
    keyed: &Keyed,
    rows: u64,
    lists: u64,
    reason: &str,
    interrupt: &dyn Interrupt,
) -> Result<String> {
    build_index(index, keyed, &Wanted::of(index)?, Vec::new(), interrupt)?;
    Ok(json!({"rows": rows, "lists": lists, "note": format!("the index was built again: {reason}")}).to_string())
}

/// Codes beyond twice those of the build, with which an index is built again.
const OUTGROWN: u64 = 5000;

/// Bits a dimension, and dimensions.
fn form_of(index: &VectorIndex) -> (u8, usize) {
    Layout::from_bytes(&index.layout).map_or((DEFAULT_BITS, 0), |layout| (layout.bits(), layout.dimensions()))
}
