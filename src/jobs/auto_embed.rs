//! Automatic embeddings, after AlloyDB's: configured columns, whose rows without a vector are embedded on request or by
//! an event of the server's scheduler.
//!
//! The table itself is the queue: a row without a vector is one to embed. Nothing is replayed after a crash or on
//! another server.

use std::collections::HashSet;
use std::time::Instant;

use serde_json::{json, Value};
use surface::functions;

use super::rights::{advised, as_account, must_be_alterable, refuse_temporary_table};
use super::table_job::{must_fit, Options, Summary};
use super::watches::COLUMNS_A_LOOK;
use super::Jobs;
use crate::mysql::caller::current_account;
use crate::mysql::error_numbers::{ER_BAD_DB, ER_BAD_FIELD, ER_NO_SUCH_TABLE};
use crate::mysql::log::{self, Subject};
use crate::mysql::meaning::Meaning;
use crate::mysql::session::{Row, Session};
use crate::mysql::sql::{check_may_execute, As};
use crate::tables::configs::{self as store, EmbedConfig, EmbedState, Mode, Place};
use crate::tables::layout::{is_named, parse_table, quoted, Layout, Writes};
use crate::tables::{marking, statements};
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

/// What an account does that needs triggers.
const INITIALIZE: &str = "initialize the embeddings";

/// A configured column's table, as the caller sees it.
enum Found {
    There(Box<Layout>),
    /// The table or a column no longer exists.
    Gone(Error),
}

impl Place {
    /// As SQL.
    fn table_name(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    /// As an argument of calls, in backquotes only if needed.
    fn display(&self) -> String {
        let plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
        if plain(&self.schema) && plain(&self.table) {
            format!("{}.{}", self.schema, self.table)
        } else {
            self.table_name()
        }
    }

    /// The call that repairs the column.
    fn refresh_call(&self) -> String {
        let text = |t: &str| t.replace('\\', "\\\\").replace('\'', "''");
        format!("CALL ai.refresh_embeddings('{}', '{}', NULL)", text(&self.display()), text(&self.embedding))
    }
}

/// A configuration holds text of its definer. It runs with the definer's rights for any caller.
fn as_definer<T: Send + 'static>(
    config: &EmbedConfig,
    interrupt: &dyn Interrupt,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<T> {
    as_account(&As::Owner(config.definer.clone()), interrupt, work)
}

/// Checks that the table exists.
fn look(config: &EmbedConfig, interrupt: &dyn Interrupt) -> Result<Found> {
    let config = config.clone();
    as_definer(&config.clone(), interrupt, move |s| {
        let table = config.place.table_name();
        let probe = format!("SELECT {} FROM {table} LIMIT 0", quoted(&config.place.embedding));
        match s.run(probe.as_bytes()).map_err(|e| (e.kind(), e)) {
            Ok(_) => {}
            Err((Kind::Server(ER_BAD_DB | ER_NO_SUCH_TABLE | ER_BAD_FIELD), e)) => return Ok(Found::Gone(e)),
            Err((_, e)) => return Err(e),
        }
        match Layout::look_up(
            s,
            &table,
            &config.content,
            &config.place.embedding,
            None,
            None,
            &config.meaning,
            Writes::Vectors,
        ) {
            Ok(layout) => Ok(Found::There(Box::new(layout))),
            // The expression was checked when the column was configured: its columns existed then.
            Err(e) => {
                let probe = format!("SELECT (\n{}\n) FROM {table} LIMIT 0", config.content);
                match s.run(probe.as_bytes()).map_err(|e| (e.kind(), e)) {
                    Err((Kind::Server(ER_BAD_FIELD), gone)) => Ok(Found::Gone(gone)),
                    _ => Err(e),
                }
            }
        }
    })
}

/// A trigger as the server describes it.
struct Trigger {
    name: String,
    table: String,
    body: String,
    /// `BEFORE UPDATE`.
    when: String,
    definer: String,
}

/// An event as the server describes it.
struct Event {
    name: String,
    status: String,
    body: String,
    definer: String,
    /// `10 SECOND`; `None` if it does not run for ever at regular times.
    every: Option<String>,
}

impl Trigger {
    fn read(row: &Row) -> Result<Self> {
        Ok(Trigger {
            name: row.get(0)?,
            table: row.get(1)?,
            body: row.get(2)?,
            when: row.get(3)?,
            definer: row.get(4)?,
        })
    }

    /// Whether it equals the trigger that the configuration's definer would create now.
    fn is_right(&self, config: &EmbedConfig, layout: &Layout) -> Result<bool> {
        Ok(self.table == layout.table
            && marking::is_body(&self.body, &marking::trigger_body(layout)?)
            && self.when == "BEFORE UPDATE"
            && self.definer == config.definer.to_string())
    }
}

impl Event {
    fn read(row: &Row) -> Result<Self> {
        Ok(Event {
            name: row.get(0)?,
            status: row.get(1)?,
            body: row.get(2)?,
            definer: row.get(3)?,
            every: row.get(4)?,
        })
    }

    /// Whether it has the wanted body and runs as the configuration's definer.
    fn is_right(&self, config: &EmbedConfig) -> bool {
        marking::is_body(&self.body, &marking::event_body(&config.place))
            && self.definer == config.definer.to_string()
            && self.every.is_some()
    }

    fn came_by_replication(&self) -> bool {
        self.status != "ENABLED" && self.status != "DISABLED"
    }
}

/// The trigger of a column, and others with the same effect on its table, as a restored dump leaves them.
fn triggers_of(s: &mut Session, config: &EmbedConfig) -> Result<(Option<Trigger>, Vec<Trigger>)> {
    let Place { schema, table, embedding } = &config.place;
    let rows = s
        .query(
            "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_STATEMENT, CONCAT(ACTION_TIMING, ' ', EVENT_MANIPULATION), \
             DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ? AND (TRIGGER_NAME = ? OR \
             (EVENT_OBJECT_TABLE = ? AND LEFT(TRIGGER_NAME, 14) = ?))",
            &[
                schema.as_str().into(),
                config.object.as_str().into(),
                table.as_str().into(),
                marking::PREFIX.into(),
            ],
        )?
        .rows;
    let found = rows.iter().map(Trigger::read).collect::<Result<Vec<_>>>()?;
    let (mine, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|t| t.name == config.object);
    let same = others.into_iter().filter(|t| marking::looks_like_ours(&t.body, embedding)).collect();
    Ok((mine.into_iter().next(), same))
}

fn events_of(s: &mut Session, config: &EmbedConfig) -> Result<(Option<Event>, Vec<Event>)> {
    let rows = s
        .query(
            "SELECT EVENT_NAME, STATUS, EVENT_DEFINITION, DEFINER, IF(EVENT_TYPE = 'RECURRING' AND ENDS IS NULL, \
             CONCAT(QUOTE(INTERVAL_VALUE), ' ', INTERVAL_FIELD), NULL) FROM information_schema.EVENTS \
             WHERE EVENT_SCHEMA = ? AND (EVENT_NAME = ? OR LEFT(EVENT_NAME, 14) = ?)",
            &[config.place.schema.as_str().into(), config.object.as_str().into(), marking::PREFIX.into()],
        )?
        .rows;
    let found = rows.iter().map(Event::read).collect::<Result<Vec<_>>>()?;
    let (mine, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|e| e.name == config.object);
    let same = others.into_iter().filter(|e| marking::calls_for(&e.body, &config.place)).collect();
    Ok((mine.into_iter().next(), same))
}

/// Creates or repairs trigger and event as the definer. Existing ones are compared by body and definer, not by name
/// alone. Wrong ones are dropped and created again, never altered: ALTER EVENT would change the account it runs as.
/// Returns notes for the caller.
///
/// A run `by_event` does not create its event again: it was dropped on purpose.
fn set_up(s: &mut Session, config: &EmbedConfig, layout: &Layout, by_event: bool) -> Result<Made> {
    let name = marking::qualified(&layout.schema, &config.object);
    let drop = |s: &mut Session, what: &str, object: &str| {
        let qualified = marking::qualified(&layout.schema, object);
        s.run(format!("DROP {what} IF EXISTS {qualified}").as_bytes())
            .map(|_| ())
            .map_err(|e| advised(e, &name, INITIALIZE))
    };
    let mut foreign = None;
    let (trigger, same) = triggers_of(s, config)?;
    for other in &same {
        drop(s, "TRIGGER", &other.name)?;
    }
    if !trigger.as_ref().map_or(Ok(false), |t| t.is_right(config, layout))? {
        if let Some(t) = trigger.filter(|t| t.definer != config.definer.to_string()) {
            foreign = Some(format!("the trigger {name} was one of {}, and is replaced", t.definer));
        }
        drop(s, "TRIGGER", &config.object)?;
        s.run(marking::create_trigger(layout, &config.object)?.as_bytes())
            .map_err(|e| advised(e, &name, INITIALIZE))?;
    }
    let (event, same) = events_of(s, config)?;
    for other in same.iter().filter(|_| !by_event) {
        drop(s, "EVENT", &other.name)?;
    }
    let right = by_event || event.as_ref().is_some_and(|e| e.is_right(config));
    if !right || event.as_ref().is_some_and(Event::came_by_replication) {
        let every = event.as_ref().filter(|_| right).and_then(|e| e.every.clone());
        if let Some(e) = event.filter(|e| e.definer != config.definer.to_string()) {
            foreign = Some(format!("the event {name} was one of {}, and is replaced", e.definer));
        }
        drop(s, "EVENT", &config.object)?;
        let create = marking::create_event(&config.place, &config.object, every.as_deref().unwrap_or(marking::EVERY));
        s.run(create.as_bytes()).map_err(|e| advised(e, &name, INITIALIZE))?;
    }
    let mut notes: Vec<String> = foreign.iter().cloned().chain(obstacle(s, config, layout)?.map(|o| o.text)).collect();
    notes.extend(layout.unnoticed(s)?);
    Ok(Made { foreign, note: (!notes.is_empty()).then(|| notes.join("; ")) })
}

/// Notes about created triggers and events.
#[derive(Debug, Default)]
struct Made {
    /// Replaced ones of other accounts.
    foreign: Option<String>,
    note: Option<String>,
}

impl Made {
    /// Writes replaced ones of other accounts to the error log, on the statement's own thread.
    fn report(self) -> Option<String> {
        if let Some(what) = &self.foreign {
            log::write(Subject::AutoEmbeddings, true, what, what);
        }
        self.note
    }
}

/// An obstacle that stops automatic runs.
#[derive(Debug)]
struct Obstacle {
    text: String,
    /// Whether trigger or event must be created again.
    mendable: bool,
}

/// An obstacle that stops automatic runs. Reads the server's metadata only.
fn obstacle(s: &mut Session, config: &EmbedConfig, layout: &Layout) -> Result<Option<Obstacle>> {
    if config.mode != Mode::Transactional {
        return Ok(None);
    }
    let call = config.place.refresh_call();
    let name = marking::qualified(&config.place.schema, &config.object);
    let mendable = |text: String| Ok(Some(Obstacle { text, mendable: true }));
    let other = |text: &str| Ok(Some(Obstacle { text: text.to_owned(), mendable: false }));
    match triggers_of(s, config)?.0 {
        None => {
            return mendable(format!("its trigger is missing, so that changed rows keep their old vectors; {call}"))
        }
        Some(t) if !t.is_right(config, layout)? => {
            return mendable(format!("the trigger {name}, of {}, is not the one that was made; {call}", t.definer))
        }
        Some(_) => {}
    }
    let scheduler = s.query("SELECT @@GLOBAL.event_scheduler", &[])?;
    let scheduler: Option<String> = scheduler.rows.first().map(|row| row.get(0)).transpose()?;
    match (events_of(s, config)?.0, scheduler.as_deref()) {
        (None, _) => mendable(format!("its event is missing, so that nothing is embedded by itself; {call}")),
        (Some(e), _) if !e.is_right(config) => {
            mendable(format!("the event {name}, of {}, is not the one that was made; {call}", e.definer))
        }
        (Some(e), _) if e.came_by_replication() => mendable(format!(
            "its event came by replication and does not run on this server; where this is the source now, {call}"
        )),
        (_, Some("OFF" | "DISABLED")) => {
            other("the event scheduler is off; SET GLOBAL event_scheduler = ON, or call ai.refresh_embeddings")
        }
        (Some(e), _) if e.status == "DISABLED" => {
            other("its event is disabled; ALTER EVENT ... ENABLE, or call ai.refresh_embeddings")
        }
        _ => Ok(None),
    }
}

/// Removes trigger and event. They are gone with their schema.
fn take_down(s: &mut Session, config: &EmbedConfig) -> Result<()> {
    let qualified = marking::qualified(&config.place.schema, &config.object);
    let mut drop = |what| match s.run(format!("DROP {what} IF EXISTS {qualified}").as_bytes()) {
        Err(e) if e.kind() == Kind::Server(ER_BAD_DB) => Ok(()),
        result => result.map(|_| ()).map_err(|e| advised(e, &qualified, INITIALIZE)),
    };
    // Both, even if the account may drop only one of them.
    let (event, trigger) = (drop("EVENT"), drop("TRIGGER"));
    event.and(trigger)
}

/// Removes the current user's events for a column without a configuration, and its triggers. A schema restored into
/// another server brings such events. A trigger that removes vectors must not stay if no run restores them. Returns
/// whether there were any.
fn take_down_orphans(s: &mut Session, place: &Place, account: &Account) -> Result<bool> {
    let account = account.to_string();
    let events = s
        .query(
            "SELECT EVENT_SCHEMA, EVENT_NAME, EVENT_DEFINITION FROM information_schema.EVENTS \
             WHERE LEFT(EVENT_NAME, 14) = ? AND DEFINER = ?",
            &[marking::PREFIX.into(), account.as_str().into()],
        )?
        .rows;
    let body = marking::event_body(place);
    let calls = |row: &Row| row.get::<String>(2).map(|displayed| marking::is_body(&displayed, &body));
    let mut found = Vec::new();
    for row in events {
        if calls(&row)? {
            found.push(row);
        }
    }
    let events = found;
    if events.is_empty() {
        return Ok(false);
    }
    let triggers = s
        .query(
            "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS \
             WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ? AND DEFINER = ? AND LEFT(TRIGGER_NAME, 14) = ?",
            &[
                place.schema.as_str().into(),
                place.table.as_str().into(),
                account.as_str().into(),
                marking::PREFIX.into(),
            ],
        )?
        .rows;
    let mut drop = |what: &str, row: &Row| {
        let qualified = marking::qualified(&row.get::<String>(0)?, &row.get::<String>(1)?);
        s.run(format!("DROP {what} IF EXISTS {qualified}").as_bytes())
    };
    for row in &triggers {
        if marking::looks_like_ours(&row.get::<String>(2)?, &place.embedding) {
            drop("TRIGGER", row)?;
        }
    }
    for row in &events {
        drop("EVENT", row)?;
    }
    Ok(true)
}

impl Jobs {
    /// Configures a column and embeds its rows; see docs/functions.md. Returns a JSON object with the counts.
    pub fn initialize_embeddings(
        &self,
        arguments: [&str; 4],
        batch_size: Option<&str>,
        mode: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        let [model_id, table, content, embedding] = arguments;
        let mode = mode.map_or(Ok(Mode::Manual), Mode::parse)?;
        let batch_size = batch_size.map(read_batch_size).transpose()?;
        refuse_temporary_table(table)?;
        let (schema, table) = parse_table(table)?;
        let call = self.engine.call(functions::ml_embed_table, model_id, interrupt)?;
        call.model().must_embed()?;
        let mut config = EmbedConfig {
            place: Place { schema, table, embedding: embedding.to_owned() },
            content: content.to_owned(),
            model_id: model_id.to_owned(),
            batch_size,
            mode,
            definer: current_account()?,
            object: marking::new_name(),
            meaning: Meaning::of_caller(),
            last_error: None,
        };
        let (layout, count) = {
            let config = config.clone();
            as_definer(&config.clone(), interrupt, move |s| {
                let Place { embedding, .. } = &config.place;
                let mut layout = Layout::look_up(
                    s,
                    &config.place.table_name(),
                    &config.content,
                    embedding,
                    None,
                    None,
                    &config.meaning,
                    Writes::Vectors,
                )?;
                if mode == Mode::Transactional {
                    marking::create_trigger(&layout, &config.object)?;
                }
                layout.must_be_writable(s)?;
                let count = rows_to_embed(s, &layout)?;
                Ok((layout, count))
            })?
        };
        if let Some(wanted) = call.model().options.dimensions {
            must_fit(&layout, usize::try_from(wanted).unwrap_or(usize::MAX))?;
        }
        config.meaning = layout.meaning.clone();
        // As the server writes the names.
        config.place =
            Place { schema: layout.schema.clone(), table: layout.table.clone(), embedding: layout.embedding.clone() };
        if let Err(e) = store::create(&config, count, interrupt) {
            return self.repaired(&config, e, interrupt);
        }
        let note = if mode == Mode::Transactional {
            let made = {
                let (layout, config) = (layout.clone(), config.clone());
                as_definer(&config.clone(), interrupt, move |s| {
                    set_up(s, &config, &layout, false).inspect_err(|_| {
                        // Remove the created objects; report the first error.
                        let _ = take_down(s, &config);
                    })
                })
            };
            match made {
                Ok(made) => made.report(),
                Err(e) => {
                    store::delete(&config, interrupt)?;
                    return Err(e);
                }
            }
        } else {
            None
        };
        let summary = self.embed_configured(&config, HashSet::new(), None, false, interrupt).map_err(|e| {
            e.context("the embeddings are initialized, and ai.refresh_embeddings goes on with them, but not all rows are embedded")
        })?;
        Ok(summary_to_json(summary, note))
    }

    /// Repairs an equal configuration of the same account whose trigger or event is missing, for example after a
    /// restore. Otherwise the error that it exists already.
    fn repaired(&self, wanted: &EmbedConfig, exists: Error, interrupt: &dyn Interrupt) -> Result<String> {
        if exists.kind() != Kind::AlreadyExists {
            return Err(exists);
        }
        let found = store::all(interrupt)?.into_iter().map(|s| s.config).find(|c| c.place == wanted.place);
        let same = |c: &EmbedConfig| {
            (&c.definer, &c.content, &c.model_id, c.mode)
                == (&wanted.definer, &wanted.content, &wanted.model_id, wanted.mode)
        };
        let Some(config) = found.filter(same) else { return Err(exists) };
        if !self.state(&config, interrupt)?.obstacle.is_some_and(|o| o.mendable) {
            return Err(exists);
        }
        let (summary, note) = self.refresh(&config, wanted.batch_size, interrupt)?;
        let again = "it was initialized before; its trigger and event are put right";
        Ok(summary_to_json(summary, Some(note.map_or_else(|| again.to_owned(), |note| format!("{again}; {note}")))))
    }

    /// The state of a configuration, as its definer sees it.
    fn state(&self, config: &EmbedConfig, interrupt: &dyn Interrupt) -> Result<State> {
        let config = config.clone();
        as_definer(&config.clone(), interrupt, move |s| state_in(s, &config))
    }

    /// Embeds rows without a vector: of a configured column, of a table's columns, or of all columns that the caller
    /// configured.
    pub fn refresh_embeddings(
        &self,
        table: Option<&str>,
        embedding: Option<&str>,
        batch_size: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        let batch_size = batch_size.map(read_batch_size).transpose()?;
        check_may_execute(functions::ml_embed_table, interrupt)?;
        let chosen = self.chosen(table, embedding, interrupt)?;
        let (mut sum, mut failure) = (Summary::default(), None);
        for config in chosen {
            match self.refresh(&config, batch_size, interrupt) {
                Ok((summary, n)) => {
                    sum.embedded += summary.embedded;
                    sum.failed += summary.failed;
                    sum.skipped += summary.skipped;
                    sum.seconds += summary.seconds;
                    for n in n.into_iter().chain(summary.notes) {
                        if !sum.notes.contains(&n) {
                            sum.notes.push(n);
                        }
                    }
                }
                Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => return Err(e),
                // The other columns are refreshed all the same.
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        match failure {
            Some(e) => Err(e),
            None => Ok(summary_to_json(sum, None)),
        }
    }

    fn refresh(
        &self,
        config: &EmbedConfig,
        batch_size: Option<u64>,
        interrupt: &dyn Interrupt,
    ) -> Result<(Summary, Option<String>)> {
        let layout = match look(config, interrupt)? {
            Found::There(layout) => *layout,
            Found::Gone(e) => {
                self.remove(config, interrupt)?;
                return Err(Error::new(
                    Kind::NotFound,
                    format!("{}; its automatic embeddings are removed", cut(e.message(), 200)),
                ));
            }
        };
        let (made, count) = {
            let config = config.clone();
            as_definer(&config.clone(), interrupt, move |s| {
                let transactional = config.mode == Mode::Transactional;
                let made = if transactional { set_up(s, &config, &layout, false)? } else { Made::default() };
                Ok((made, rows_to_embed(s, &layout)?))
            })?
        };
        let note = made.report();
        store::set_rows_to_embed(config, Some(count), interrupt)?;
        self.watches.forget(&config.place);
        let summary = self.embed_configured(config, HashSet::new(), batch_size, false, interrupt)?;
        if config.last_error.is_some() {
            store::set_last_error(config, None, interrupt)?;
        }
        Ok((summary, note))
    }

    /// Entry point of a column's event: fast without work, with growing rests after failures. Errors are recorded for
    /// the progress view, because nobody reads an event's error.
    ///
    /// Does nothing if the current user is not the configuration's definer: the event belongs to another account.
    pub fn refresh_by_event(&self, table: &str, embedding: &str, interrupt: &dyn Interrupt) -> Result<String> {
        let (schema, table) = parse_table(table)?;
        let place = Place { schema, table, embedding: embedding.to_owned() };
        let nothing = || Ok(summary_to_json(Summary::default(), None));
        if self.watches.rests(&place, Instant::now()) {
            return nothing();
        }
        let account = current_account()?;
        let all = match store::all(interrupt) {
            // The library is being uninstalled.
            Err(e) if e.kind() == Kind::NotFound => return nothing(),
            all => all?,
        };
        let Some(config) = all.into_iter().map(|s| s.config).find(|c| c.place == place) else {
            // An account without the right to embed tables has no event of ours; it could only write names to the log.
            check_may_execute(functions::ml_embed_table, interrupt)?;
            let orphan = place.clone();
            let removed = as_account(&As::Caller, interrupt, move |s| take_down_orphans(s, &orphan, &account))?;
            if removed {
                let name = format!("{}.{}", place.schema, place.table);
                let shown = cut(&name, 150);
                let text = format!("{shown} has no automatic embeddings; its event and trigger are removed");
                log::write(Subject::AutoEmbeddings, true, &name, &text);
            }
            return nothing();
        };
        if account != config.definer {
            // Reported to the caller. The progress view reports problems of the event itself.
            let note = format!(
                "nothing is done: the embeddings of {} are those of {}, and this runs as {account}",
                place.display(),
                config.definer
            );
            return Ok(summary_to_json(Summary::default(), Some(note)));
        }
        let result = self.run_by_event(&config, interrupt);
        match result {
            Ok(()) => {
                if config.last_error.is_some() {
                    store::set_last_error(&config, None, interrupt)?;
                }
            }
            // Another job is at it.
            Err(e) if e.kind() == Kind::Busy => {}
            // The next run looks again.
            Err(e) if e.kind() == Kind::NoTurn => store::set_last_error(&config, Some(e.message()), interrupt)?,
            Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => return Err(e),
            Err(e) => {
                self.watches.failed(&place, Instant::now());
                store::set_last_error(&config, Some(e.message()), interrupt)?;
            }
        }
        nothing()
    }

    fn run_by_event(&self, config: &EmbedConfig, interrupt: &dyn Interrupt) -> Result<()> {
        let place = &config.place;
        let layout = match look(config, interrupt)? {
            Found::There(layout) => *layout,
            Found::Gone(e) => {
                let name = format!("{}.{}", place.schema, place.table);
                let text = format!("{}; its automatic embeddings are removed", cut(e.message(), 200));
                log::write(Subject::AutoEmbeddings, true, &name, &text);
                return self.remove(config, interrupt);
            }
        };
        let (schema, table) = (place.schema.clone(), place.table.clone());
        // The table's last change, read before the run: the next run sees changes during this one. A change in the same
        // second may be missed, so such a young one is not remembered.
        let (change, settled, read_only) = as_definer(config, interrupt, move |s| {
            s.query("SET SESSION information_schema_stats_expiry = 0", &[])?;
            let rows = s
                .query(
                    "SELECT CAST(UPDATE_TIME AS CHAR), UPDATE_TIME < NOW() - INTERVAL 2 SECOND, \
                     @@GLOBAL.read_only OR @@GLOBAL.super_read_only FROM information_schema.TABLES \
                     WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
                    &[schema.as_str().into(), table.as_str().into()],
                )?
                .rows;
            let Some(row) = rows.first() else { return Ok((None, false, false)) };
            let read_only = row.get::<Option<u64>>(2)? == Some(1);
            Ok((row.get::<Option<String>>(0)?, row.get::<Option<u64>>(1)? == Some(1), read_only))
        })?;
        let now = Instant::now();
        if read_only || self.watches.has_seen(place, change.as_deref(), now) {
            return Ok(());
        }
        {
            let config = config.clone();
            as_definer(&config.clone(), interrupt, move |s| set_up(s, &config, &layout, true))?.report();
        }
        let resting: HashSet<String> = store::resting(config, interrupt)?.into_iter().collect();
        let rest = !resting.is_empty();
        store::set_rows_to_embed(config, None, interrupt)?;
        let summary = self.embed_configured(config, resting, None, true, interrupt)?;
        let change = change.filter(|_| settled && summary.embedded == 0 && summary.skipped == 0);
        self.watches.succeeded(place, change, rest || summary.failed > 0, now);
        Ok(())
    }

    fn embed_configured(
        &self,
        config: &EmbedConfig,
        resting: HashSet<String>,
        batch_size: Option<u64>,
        by_event: bool,
        interrupt: &dyn Interrupt,
    ) -> Result<Summary> {
        let options = Options::of(batch_size.or(config.batch_size), resting, by_event, config.meaning.clone());
        let table = config.place.table_name();
        let arguments = [config.model_id.as_str(), &table, &config.content, &config.place.embedding];
        let summary = self.embed_rows(As::Owner(config.definer.clone()), arguments, options, interrupt);
        // The next run cleans up after a killed one.
        let tidied = store::tidy(config, interrupt).and_then(|there| {
            if there || config.mode != Mode::Transactional {
                return Ok(());
            }
            let own = config.clone();
            as_definer(config, interrupt, move |s| take_down(s, &own))
        });
        summary.and_then(|summary| tidied.map(|()| summary))
    }

    /// Drops configurations; vectors stay. Returns the number of dropped ones.
    pub fn drop_embedding_config(
        &self,
        table: Option<&str>,
        embedding: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<u64> {
        let mut removed = 0;
        for config in self.chosen(table, embedding, interrupt)? {
            self.remove(&config, interrupt)?;
            removed += 1;
        }
        Ok(removed)
    }

    fn remove(&self, config: &EmbedConfig, interrupt: &dyn Interrupt) -> Result<()> {
        if config.mode == Mode::Transactional {
            let own = config.clone();
            if let Err(e) = as_definer(config, interrupt, move |s| take_down(s, &own)) {
                // The definer may be gone or lack the right; an account that may alter the table may have it.
                if matches!(e.kind(), Kind::Interrupted(_)) || current_account()? == config.definer {
                    return Err(e);
                }
                let own = config.clone();
                as_account(&As::Caller, interrupt, move |s| take_down(s, &own))?;
            }
        }
        self.watches.forget(&config.place);
        store::delete(config, interrupt)
    }

    /// The selected configurations. Without a table: the caller's own. With a table: also those of others if the caller
    /// may alter it, else the server's error. An error if there is none of that name.
    fn chosen(
        &self,
        table: Option<&str>,
        embedding: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<EmbedConfig>> {
        let account = current_account()?;
        let all = store::all(interrupt)?.into_iter().map(|s| s.config);
        let Some(name) = table else {
            if embedding.is_some() {
                return Err(Error::invalid("argument table_name is NULL, but embedding_column is not; name the table"));
            }
            return Ok(all.filter(|config| config.definer == account).collect());
        };
        let (schema, table) = parse_table(name)?;
        // Names are case-insensitive if the server's are.
        let folds = as_account(&As::Caller, interrupt, |s| {
            let rows = s.query("SELECT @@GLOBAL.lower_case_table_names", &[])?.rows;
            Ok(rows.first().map_or(Ok(0), |row| row.get::<u64>(0))? > 0)
        })?;
        let same = |a: &str, b: &str| a == b || folds && a.to_lowercase() == b.to_lowercase();
        let mut chosen: Vec<EmbedConfig> = all
            .filter(|c| same(&c.place.schema, &schema) && same(&c.place.table, &table))
            .filter(|c| embedding.is_none_or(|e| is_named(&c.place.embedding, e)))
            .collect();
        let Some(first) = chosen.first() else {
            let column = embedding.map(|e| format!("column {} of ", cut(e, 64))).unwrap_or_default();
            return Err(Error::new(
                Kind::NotFound,
                format!("{column}{schema}.{table} has no automatic embeddings; CALL ai.initialize_embeddings first"),
            ));
        };
        if chosen.iter().any(|c| c.definer != account)
            && let Err(e) = must_be_alterable(&first.place.table_name(), interrupt)
        {
            chosen.retain(|c| c.definer == account);
            if chosen.is_empty() {
                return Err(e);
            }
        }
        Ok(chosen)
    }

    /// Progress of configured columns, as a JSON array: those of tables that the caller can see, and the caller's own.
    /// Reads metadata, no table of users.
    pub fn embedding_progress(&self, interrupt: &dyn Interrupt) -> Result<String> {
        let account = current_account()?;
        // A job that begins or ends between the two readings does not count as dead.
        let mut held = self.at_work.all();
        let mut states = store::all(interrupt)?;
        held.extend(self.at_work.all());
        let busy = |held: &HashSet<(Place, String)>, state: &EmbedState| {
            held.contains(&(state.config.place.clone(), state.config.definer.to_string()))
        };
        if states.iter().any(|state| state.status.as_deref() == Some("running") && !busy(&held, state)) {
            // If that fails, the result is still correct.
            let _ = self.end_notes_of_gone_jobs(interrupt);
            states = store::all(interrupt)?;
        }
        let places: Vec<Place> = states.iter().map(|state| state.config.place.clone()).collect();
        let (visible, reads) = as_account(&As::Caller, interrupt, move |s| {
            // Errors may quote rows: only their account and readers of the table may see them.
            let reads = s.query("SELECT last_error FROM mysql.cloudsql_ml_embed_configs LIMIT 0", &[]).is_ok();
            Ok((places.iter().map(|place| sees(s, place)).collect::<Result<Vec<bool>>>()?, reads))
        })?;
        let mut rows = Vec::new();
        for (state, visible) in states.iter().zip(visible) {
            if visible || state.config.definer == account {
                let now = match self.state(&state.config, interrupt) {
                    Ok(now) => now,
                    Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => return Err(e),
                    Err(e) => State {
                        obstacle: Some(Obstacle { text: e.message().to_owned(), mendable: false }),
                        notes: Vec::new(),
                    },
                };
                let mut row = state_to_json(state, busy(&held, state), now);
                if !reads
                    && state.config.definer != account
                    && let Some(error) = row.get_mut("last_error")
                {
                    *error = Value::Null;
                }
                rows.push(row);
            }
        }
        Ok(Value::Array(rows).to_string())
    }
}

impl Jobs {
    /// Marks dead jobs as ended. After a failover, creates events again that came by replication and are disabled. Any
    /// call does this, at most once every 20 seconds.
    pub(super) fn look_after_jobs(&self, interrupt: &dyn Interrupt) {
        let due = self.watches.look_is_due(Instant::now());
        // The progress view reports failures of this.
        if self.at_work.end_is_missing() || due.is_some() {
            let _ = self.end_notes_of_gone_jobs(interrupt);
        }
        if let Some(before) = due {
            let _ = self.resume_events(before, interrupt);
        }
    }

    fn resume_events(&self, before: usize, interrupt: &dyn Interrupt) -> Result<()> {
        let mut configs = store::all(interrupt)?.into_iter().map(|s| s.config).collect::<Vec<_>>();
        configs.retain(|config| config.mode == Mode::Transactional);
        let Some(source) = Some(&configs).filter(|c| !c.is_empty()).map(|_| store::is_source(interrupt)).transpose()?
        else {
            return Ok(());
        };
        if source == store::Source::No {
            return Ok(());
        }
        let first = before % configs.len();
        for config in configs.iter().cycle().skip(first).take(COLUMNS_A_LOOK.min(configs.len())) {
            let (own, certain) = (config.clone(), source == store::Source::Yes);
            let resumed = as_definer(config, interrupt, move |s| {
                let Some(event) = events_of(s, &own)?.0.filter(|e| e.is_right(&own) && e.came_by_replication()) else {
                    return Ok(None);
                };
                if certain && sees(s, &own.place)? {
                    let Place { embedding, .. } = &own.place;
                    let layout = Layout::describe(
                        s,
                        &own.place.table_name(),
                        &own.content,
                        embedding,
                        None,
                        None,
                        &own.meaning,
                        Writes::Vectors,
                    )?;
                    set_up(s, &own, &layout, false)?;
                    return Ok(Some(format!(
                        "the event {} came by replication and runs on this server now",
                        event.name
                    )));
                }
                Ok(Some(format!(
                    "the event {} came by replication and does not run; where this server is the source now, {}",
                    event.name,
                    own.place.refresh_call()
                )))
            });
            match resumed {
                Ok(None) => {}
                Ok(Some(line)) => {
                    if self.watches.looks().reported.insert(config.place.clone()) {
                        log::write(Subject::AutoEmbeddings, true, &config.place.display(), &line);
                    }
                }
                Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => return Err(e),
                // The definer may be gone; continue with the others.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether the session's account may see the column.
fn sees(s: &mut Session, place: &Place) -> Result<bool> {
    let rows = s
        .query(
            "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND COLUMN_NAME = ?",
            &[place.schema.as_str().into(), place.table.as_str().into(), place.embedding.as_str().into()],
        )?
        .rows;
    Ok(rows.first().map_or(Ok(0), |row| row.get::<u64>(0))? > 0)
}

/// The state of a configuration.
#[derive(Debug, Default)]
struct State {
    obstacle: Option<Obstacle>,
    /// Further notes.
    notes: Vec<String>,
}

/// The state of a configuration, in a session of its definer.
fn state_in(s: &mut Session, config: &EmbedConfig) -> Result<State> {
    if !sees(s, &config.place)? {
        let text = format!(
            "its table or column is gone, or {} may not see it; CALL ai.drop_embedding_config, or initialize it again",
            config.definer
        );
        return Ok(State { obstacle: Some(Obstacle { text, mendable: false }), notes: Vec::new() });
    }
    let Place { embedding, .. } = &config.place;
    let layout = Layout::describe(
        s,
        &config.place.table_name(),
        &config.content,
        embedding,
        None,
        None,
        &config.meaning,
        Writes::Vectors,
    )?;
    let transactional = config.mode == Mode::Transactional;
    let notes = if transactional { layout.unnoticed(s)? } else { Vec::new() };
    Ok(State { obstacle: obstacle(s, config, &layout)?, notes })
}

fn state_to_json(state: &EmbedState, busy: bool, now: State) -> Value {
    let config = &state.config;
    let stopped = now.obstacle.is_some();
    let mut notes: Vec<String> = now.obstacle.into_iter().map(|o| o.text).chain(now.notes).collect();
    if state.failures > 0 {
        notes.push(format!("{} rows failed; mysql.cloudsql_ml_embed_failures says why", state.failures));
    }
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    let status = match state.status.as_deref() {
        Some("running") if !busy => "stopped",
        // The column does not run by itself, however the last run ended; last_error has the reason.
        Some("finished" | "failed") if stopped => "stopped",
        Some(status) => status,
        None if busy => "running",
        None => "not started",
    };
    // Failed rows are not done: 100 means all rows.
    let tenths = |done: u64, rows: u64| (done as f64 * 1000.0 / rows as f64).floor().min(1000.0) / 10.0;
    let percent = match (state.status.as_deref(), state.to_embed) {
        (Some("finished"), _) | (_, Some(0)) if state.failures == 0 => Some(100.0),
        (Some("finished"), Some(rows)) if rows > 0 => Some(tenths(rows.saturating_sub(state.failures), rows)),
        (_, Some(rows)) if rows > 0 => Some(tenths(state.embedded, rows)),
        _ => None,
    };
    json!({
        "table_name": config.place.display(),
        "content_column": config.content,
        "embedding_column": config.place.embedding,
        "model_id": config.model_id,
        "percent_progress": percent,
        "status": status,
        "elapsed_time": state.seconds,
        "rows_processed": state.embedded + state.failed,
        "incremental_refresh_mode": config.mode.as_str(),
        "last_error": config.last_error.as_deref().or(state.message.as_deref()),
        "note": note,
    })
}

fn rows_to_embed(s: &mut Session, layout: &Layout) -> Result<u64> {
    layout.meaning.set_in(s)?;
    let rows = s.run(statements::count(layout).as_bytes())?.rows;
    rows.first().map_or(Ok(0), |row| row.get(0))
}

fn read_batch_size(text: &str) -> Result<u64> {
    text.trim()
        .parse::<u64>()
        .ok()
        .filter(|n| (1..=10_000).contains(n))
        .ok_or_else(|| Error::invalid(format!("batch_size '{}' is not a whole number from 1 to 10000", cut(text, 40))))
}

fn summary_to_json(mut summary: Summary, note: Option<String>) -> String {
    summary.notes.splice(0..0, note);
    summary.to_json().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { schema: "s".into(), table: "t".into(), embedding: "v".into() }
    }

    #[test]
    fn a_job_that_died_with_the_server_is_not_reported_as_running() {
        let mut state = EmbedState {
            config: EmbedConfig {
                place: place(),
                content: "body".into(),
                model_id: "m".into(),
                batch_size: None,
                mode: Mode::Manual,
                definer: Account::library(),
                object: "ml_embeddings_0".into(),
                meaning: Meaning::default(),
                last_error: None,
            },
            to_embed: Some(300),
            status: Some("running".into()),
            embedded: 100,
            failed: 0,
            failures: 0,
            seconds: Some(1.5),
            message: None,
        };
        assert_eq!(state_to_json(&state, true, State::default())["status"], "running");
        assert_eq!(state_to_json(&state, true, State::default())["percent_progress"], 33.3);
        assert_eq!(state_to_json(&state, false, State::default())["status"], "stopped");
        state.status = Some("finished".into());
        assert_eq!(state_to_json(&state, false, State::default())["percent_progress"], 100.0);
        for ended in ["finished", "failed"] {
            state.status = Some(ended.into());
            assert_eq!(state_to_json(&state, false, State::default())["status"], ended);
            let broken = State {
                obstacle: Some(Obstacle { text: "its event is missing".into(), mendable: true }),
                notes: Vec::new(),
            };
            assert_eq!(state_to_json(&state, false, broken)["status"], "stopped");
        }
        state.status = Some("finished".into());
        (state.failures, state.failed) = (3, 3);
        assert_eq!(state_to_json(&state, false, State::default())["percent_progress"], 99.0);
        assert!(state_to_json(&state, false, State::default())["note"].as_str().unwrap().starts_with("3 rows failed"));
        state.to_embed = None;
        assert_eq!(state_to_json(&state, false, State::default())["percent_progress"], Value::Null);
    }
}
