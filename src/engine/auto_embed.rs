//! Columns that are kept embedded, as AlloyDB's automatic embeddings: which columns these are is remembered, and rows
//! that lack a vector are found on request, or by an event of the server's scheduler.
//!
//! The source of truth is the table itself: a row without a vector is one to embed. So nothing has to be replayed after
//! a crash or on another server, and there is no queue to lose or to clean up.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::embed_table::{lock_of, must_fit, Options, Summary};
use super::Engine;
use crate::error::{cut, Error, Kind, Result};
use crate::models::embed_config_store::{self as store, EmbedConfig, EmbedState, Mode, Place};
use crate::models::store::Routine;
use crate::server::caller::current_account;
use crate::server::log;
use crate::server::session::Session;
use crate::server::sql::{with_session, As, Purpose, SQL_TIMEOUT};
use crate::tables::layout::{parse_table, quoted, Layout};
use crate::tables::{marking, statements};
use crate::threads::interrupt::Interrupt;

const ER_BAD_DB: u32 = 1049;
const ER_BAD_FIELD: u32 = 1054;
const ER_LOCK_WAIT_TIMEOUT: u32 = 1205;
const ER_NO_SUCH_TABLE: u32 = 1146;
const ER_TRIGGER_NEEDS_SUPER: u32 = 1419;

/// How long the event leaves a column alone after a run that failed, doubled each time.
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// Rows that failed are looked at again after this.
const FAILED_ROWS_REST: Duration = Duration::from_secs(60);

/// What the event remembers of a column between its runs.
#[derive(Debug, Default)]
struct Watch {
    /// When the table was last changed, as the server told before a run that left nothing to do.
    seen: Option<String>,
    /// Then it is looked at although it was not changed.
    again: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

/// What the events of all columns remember.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<HashMap<Place, Watch>>);

impl Watches {
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Watch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, place: &Place) {
        self.lock().remove(place);
    }

    fn rests(&self, place: &Place, now: Instant) -> bool {
        self.lock().get(place).and_then(|w| w.not_before).is_some_and(|at| now < at)
    }

    fn has_seen(&self, place: &Place, change: Option<&str>, now: Instant) -> bool {
        let watches = self.lock();
        let Some(watch) = watches.get(place) else { return false };
        change.is_some() && watch.seen.as_deref() == change && watch.again.is_none_or(|at| now < at)
    }

    fn succeeded(&self, place: &Place, change: Option<String>, failed_rows: bool, now: Instant) {
        let again = failed_rows.then(|| now + FAILED_ROWS_REST);
        let watch = Watch { seen: change, again, failures: 0, not_before: None };
        self.lock().insert(place.clone(), watch);
    }

    fn failed(&self, place: &Place, now: Instant) {
        let mut watches = self.lock();
        let watch = watches.entry(place.clone()).or_default();
        let rest = FIRST_REST.saturating_mul(1 << watch.failures.min(10)).min(LONGEST_REST);
        watch.failures = watch.failures.saturating_add(1);
        watch.not_before = Some(now + rest);
    }
}

/// What a configured column's table looks like to the caller.
enum Found {
    There(Box<Layout>),
    /// The table or one of the columns does not exist any more.
    Gone(Error),
}

impl EmbedConfig {
    fn table_name(&self) -> String {
        format!("{}.{}", quoted(&self.place.schema), quoted(&self.place.table))
    }
}

fn as_caller<T: Send + 'static>(
    interrupt: &dyn Interrupt,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<T> {
    with_session(&As::Caller, Purpose::Own, interrupt, Instant::now() + SQL_TIMEOUT, work)
}

/// Looks whether the table is there; an error where the caller may not know.
fn look(config: &EmbedConfig, interrupt: &dyn Interrupt) -> Result<Found> {
    let config = config.clone();
    as_caller(interrupt, move |s| {
        let probe = format!("SELECT {} FROM {} LIMIT 0", quoted(&config.place.embedding), config.table_name());
        match s.run(probe.as_bytes()).map_err(|e| (e.kind(), e)) {
            Ok(_) => {}
            Err((Kind::Server(ER_BAD_DB | ER_NO_SUCH_TABLE | ER_BAD_FIELD), e)) => return Ok(Found::Gone(e)),
            Err((_, e)) => return Err(e),
        }
        match Layout::look_up(s, &config.table_name(), &config.content, &config.place.embedding, None) {
            Ok(layout) => Ok(Found::There(Box::new(layout))),
            // The text was looked at when the column was configured: what it names was there then.
            Err(e) => {
                let probe = format!("SELECT (\n{}\n) FROM {} LIMIT 0", config.content, config.table_name());
                match s.run(probe.as_bytes()).map_err(|e| (e.kind(), e)) {
                    Err((Kind::Server(ER_BAD_FIELD), gone)) => Ok(Found::Gone(gone)),
                    _ => Err(e),
                }
            }
        }
    })
}

/// The server's refusal where the caller may not write vectors.
fn must_be_writable(s: &mut Session, layout: &Layout) -> Result<()> {
    let v = quoted(&layout.embedding);
    s.run(format!("UPDATE {} SET {v} = {v} WHERE FALSE", layout.name()).as_bytes()).map(|_| ())
}

/// Advice for what commonly keeps a trigger or event from being made.
fn advised(error: Error) -> Error {
    match error.kind() {
        Kind::Server(ER_LOCK_WAIT_TIMEOUT) => Error::new(
            Kind::Busy,
            "the table is in use, so its trigger cannot be changed now; commit the transactions that use it and call again",
        ),
        Kind::Server(ER_TRIGGER_NEEDS_SUPER) => Error::new(
            Kind::Denied,
            "with the binary log on, the server lets only accounts with SUPER make triggers; let one initialize the embeddings, or SET GLOBAL log_bin_trust_function_creators = 1",
        ),
        _ => error,
    }
}

/// Makes the trigger and the event, or puts them right; returns what keeps them from working.
fn set_up(s: &mut Session, layout: &Layout) -> Result<Option<&'static str>> {
    let name = marking::name_of(&layout.table, &layout.embedding);
    let found = s.query(
        "SELECT EVENT_OBJECT_TABLE, ACTION_STATEMENT FROM information_schema.TRIGGERS \
         WHERE TRIGGER_SCHEMA = ? AND TRIGGER_NAME = ?",
        &[layout.schema.as_str().into(), name.as_str().into()],
    )?;
    let body = marking::trigger_body(layout)?;
    let right = match found.rows.first() {
        Some(row) => row.get::<String>(0)? == layout.table && row.get::<String>(1)?.trim() == body,
        None => false,
    };
    if !right {
        let qualified = marking::qualified(&layout.schema, &layout.table, &layout.embedding);
        s.run(format!("DROP TRIGGER IF EXISTS {qualified}").as_bytes()).map_err(advised)?;
        s.run(marking::create_trigger(layout)?.as_bytes()).map_err(advised)?;
    }
    let found = s.query(
        "SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ? AND EVENT_NAME = ?",
        &[layout.schema.as_str().into(), name.as_str().into()],
    )?;
    let status = match found.rows.first() {
        Some(row) => row.get::<String>(0)?,
        None => {
            s.run(marking::create_event(layout).as_bytes()).map_err(advised)?;
            "ENABLED".to_owned()
        }
    };
    // On a server that was a replica: events that came by replication do not run until somebody says so.
    if status != "ENABLED" && status != "DISABLED" {
        let qualified = marking::qualified(&layout.schema, &layout.table, &layout.embedding);
        s.run(format!("ALTER EVENT {qualified} ENABLE").as_bytes()).map_err(advised)?;
    }
    let scheduler = s.query("SELECT @@GLOBAL.event_scheduler", &[])?;
    let scheduler: Option<String> = scheduler.rows.first().map(|row| row.get(0)).transpose()?;
    Ok(match (status.as_str(), scheduler.as_deref()) {
        (_, Some("OFF" | "DISABLED")) => {
            Some("the event scheduler is off; SET GLOBAL event_scheduler = ON, or call ai.refresh_embeddings")
        }
        ("DISABLED", _) => Some("its event is disabled; ALTER EVENT ... ENABLE, or call ai.refresh_embeddings"),
        _ => None,
    })
}

/// Removes trigger and event. They are gone with their schema.
fn take_down(s: &mut Session, place: &Place) -> Result<()> {
    let qualified = marking::qualified(&place.schema, &place.table, &place.embedding);
    let mut drop = |what| match s.run(format!("DROP {what} IF EXISTS {qualified}").as_bytes()) {
        Err(e) if e.kind() == Kind::Server(ER_BAD_DB) => Ok(()),
        result => result.map(|_| ()).map_err(advised),
    };
    // Both, also where the caller may drop one of them only.
    let (event, trigger) = (drop("EVENT"), drop("TRIGGER"));
    event.and(trigger)
}

impl Engine {
    /// Remembers a column and embeds its rows; see docs/functions.md. The result is a JSON object of what was done.
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
        let (schema, table) = parse_table(table)?;
        let settings = self.settings(interrupt)?;
        let resolved =
            self.registry.model(self.store.as_ref(), Routine::EMBED_TABLE, model_id, &settings, interrupt)?;
        super::must_embed(&resolved.model)?;
        let mut config = EmbedConfig {
            place: Place { schema, table, embedding: embedding.to_owned() },
            content: content.to_owned(),
            model_id: model_id.to_owned(),
            batch_size,
            mode,
            last_error: None,
        };
        let (layout, count) = {
            let config = config.clone();
            as_caller(interrupt, move |s| {
                let layout = Layout::look_up(s, &config.table_name(), &config.content, &config.place.embedding, None)?;
                if mode == Mode::Transactional {
                    marking::create_trigger(&layout)?;
                }
                must_be_writable(s, &layout)?;
                let count = rows_to_embed(s, &layout)?;
                Ok((layout, count))
            })?
        };
        if let Some(wanted) = resolved.model.options.dimensions {
            must_fit(&layout, usize::try_from(wanted).unwrap_or(usize::MAX))?;
        }
        config.place.embedding.clone_from(&layout.embedding);
        store::create(&config, &current_account()?.to_string(), count, interrupt)?;
        let note = if mode == Mode::Transactional {
            let made = {
                let (layout, place) = (layout.clone(), config.place.clone());
                as_caller(interrupt, move |s| {
                    set_up(s, &layout).inspect_err(|_| {
                        // What was made of it goes again; the first error is the one to tell.
                        let _ = take_down(s, &place);
                    })
                })
            };
            match made {
                Ok(note) => note,
                Err(e) => {
                    store::delete(&config.place, interrupt)?;
                    return Err(e);
                }
            }
        } else {
            None
        };
        let summary = self.embed_configured(&config, HashSet::new(), None, interrupt).map_err(|e| {
            e.context("the embeddings are initialized, and ai.refresh_embeddings goes on with them, but not all rows are embedded")
        })?;
        Ok(told(&summary, note))
    }

    /// Embeds what lacks a vector in configured columns: of a column, of a table, or of all that the caller can see.
    pub fn refresh_embeddings(
        &self,
        table: Option<&str>,
        embedding: Option<&str>,
        batch_size: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        let batch_size = batch_size.map(read_batch_size).transpose()?;
        let chosen = self.chosen(table, embedding, interrupt)?;
        let (mut sum, mut note, mut failure) = (Summary::default(), None, None);
        for config in chosen {
            match self.refresh(&config, batch_size, interrupt) {
                Ok((summary, n)) => {
                    sum.embedded += summary.embedded;
                    sum.failed += summary.failed;
                    sum.skipped += summary.skipped;
                    sum.seconds += summary.seconds;
                    note = note.or(n);
                }
                Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => return Err(e),
                // Of several columns the others are refreshed all the same.
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        match failure {
            Some(e) => Err(e),
            None => Ok(told(&sum, note)),
        }
    }

    fn refresh(
        &self,
        config: &EmbedConfig,
        batch_size: Option<u64>,
        interrupt: &dyn Interrupt,
    ) -> Result<(Summary, Option<&'static str>)> {
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
        let transactional = config.mode == Mode::Transactional;
        let (note, count) = as_caller(interrupt, move |s| {
            let note = if transactional { set_up(s, &layout)? } else { None };
            Ok((note, rows_to_embed(s, &layout)?))
        })?;
        store::set_rows_to_embed(&config.place, Some(count), interrupt)?;
        self.watches.forget(&config.place);
        let summary = self.embed_configured(config, HashSet::new(), batch_size, interrupt)?;
        if config.last_error.is_some() {
            store::set_last_error(&config.place, None, interrupt)?;
        }
        Ok((summary, note))
    }

    /// What the event of a column calls: quick where there is nothing to do, and patient where something fails. There is
    /// nobody to tell an error, so it is noted for the view of the progress.
    pub fn refresh_by_event(&self, table: &str, embedding: &str, interrupt: &dyn Interrupt) -> Result<String> {
        let (schema, table) = parse_table(table)?;
        let place = Place { schema, table, embedding: embedding.to_owned() };
        let nothing = || Ok(told(&Summary::default(), None));
        if self.watches.rests(&place, Instant::now()) {
            return nothing();
        }
        let Some(config) = store::all(interrupt)?.into_iter().map(|s| s.config).find(|c| c.place == place) else {
            // As when a schema is restored into a server that does not know it: a trigger that takes vectors away must
            // not stay where nobody gives them back.
            log::write(
                true,
                &format!(
                    "mysql-ml: {}.{} has no automatic embeddings; its event and trigger are removed",
                    place.schema, place.table
                ),
            );
            as_caller(interrupt, move |s| take_down(s, &place))?;
            return nothing();
        };
        let result = self.run_by_event(&config, interrupt);
        match result {
            Ok(()) => {
                if config.last_error.is_some() {
                    store::set_last_error(&place, None, interrupt)?;
                }
            }
            // Another job is at it.
            Err(e) if e.kind() == Kind::Busy => {}
            Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => return Err(e),
            Err(e) => {
                self.watches.failed(&place, Instant::now());
                store::set_last_error(&place, Some(e.message()), interrupt)?;
            }
        }
        nothing()
    }

    fn run_by_event(&self, config: &EmbedConfig, interrupt: &dyn Interrupt) -> Result<()> {
        let place = &config.place;
        let layout = match look(config, interrupt)? {
            Found::There(layout) => *layout,
            Found::Gone(e) => {
                log::write(true, &format!("mysql-ml: {}; its automatic embeddings are removed", cut(e.message(), 200)));
                return self.remove(config, interrupt);
            }
        };
        let (schema, table) = (place.schema.clone(), place.table.clone());
        // What the server says of the table before the run: a change during it is seen by the next one. A change in the
        // same second as the reading might be missed, so one that is so young is not remembered.
        let (change, settled, read_only) = as_caller(interrupt, move |s| {
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
        as_caller(interrupt, move |s| set_up(s, &layout))?;
        let resting: HashSet<String> = store::resting(place, interrupt)?.into_iter().collect();
        let rest = !resting.is_empty();
        store::set_rows_to_embed(place, None, interrupt)?;
        let summary = self.embed_configured(config, resting, None, interrupt)?;
        let change = change.filter(|_| settled && summary.embedded == 0 && summary.skipped == 0);
        self.watches.succeeded(place, change, rest || summary.failed > 0, now);
        Ok(())
    }

    fn embed_configured(
        &self,
        config: &EmbedConfig,
        resting: HashSet<String>,
        batch_size: Option<u64>,
        interrupt: &dyn Interrupt,
    ) -> Result<Summary> {
        let options = Options::of(batch_size.or(config.batch_size), resting);
        let table = config.table_name();
        let arguments = [config.model_id.as_str(), &table, &config.content, &config.place.embedding];
        let summary = self.embed_rows(arguments, options, interrupt);
        // A run that was stopped is tidied up by the next one.
        let tidied = store::tidy(&config.place, interrupt);
        summary.and_then(|summary| tidied.map(|()| summary))
    }

    /// Forgets configured columns; their vectors stay. Returns how many there were.
    pub fn drop_embedding_config(
        &self,
        table: Option<&str>,
        embedding: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<u64> {
        let mut removed = 0;
        for config in self.chosen(table, embedding, interrupt)? {
            if let Found::There(layout) = look(&config, interrupt)? {
                as_caller(interrupt, move |s| must_be_writable(s, &layout))?;
            }
            self.remove(&config, interrupt)?;
            removed += 1;
        }
        Ok(removed)
    }

    fn remove(&self, config: &EmbedConfig, interrupt: &dyn Interrupt) -> Result<()> {
        if config.mode == Mode::Transactional {
            let place = config.place.clone();
            as_caller(interrupt, move |s| take_down(s, &place))?;
        }
        self.watches.forget(&config.place);
        store::delete(&config.place, interrupt)
    }

    /// The columns that are meant; without a table all those that the caller can see. An error where there is none of
    /// that name.
    fn chosen(
        &self,
        table: Option<&str>,
        embedding: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<EmbedConfig>> {
        let all = store::all(interrupt)?.into_iter().map(|s| s.config);
        let Some(name) = table else {
            if embedding.is_some() {
                return Err(Error::invalid("argument table_name is NULL, but embedding_column is not; name the table"));
            }
            return Ok(all.filter(|config| look(config, interrupt).is_ok()).collect());
        };
        let (schema, table) = parse_table(name)?;
        let chosen: Vec<EmbedConfig> = all
            .filter(|c| c.place.schema == schema && c.place.table == table)
            .filter(|c| embedding.is_none_or(|e| e.trim().trim_matches('`').eq_ignore_ascii_case(&c.place.embedding)))
            .collect();
        if chosen.is_empty() {
            let column = embedding.map(|e| format!("column {} of ", cut(e, 64))).unwrap_or_default();
            return Err(Error::new(
                Kind::NotFound,
                format!("{column}{schema}.{table} has no automatic embeddings; CALL ai.initialize_embeddings first"),
            ));
        }
        Ok(chosen)
    }

    /// How far the configured columns are, of tables that the caller can see, as a JSON array.
    pub fn embedding_progress(&self, interrupt: &dyn Interrupt) -> Result<String> {
        let mut rows = Vec::new();
        for state in store::all(interrupt)? {
            // A table of somebody else's, or one that is gone.
            if let Ok(Found::There(_)) = look(&state.config, interrupt) {
                let busy = is_busy(&state.config.place, interrupt)?;
                rows.push(shown(&state, busy));
            }
        }
        Ok(Value::Array(rows).to_string())
    }
}

/// Whether a job is at the column now. What died with the server left its progress as it was.
fn is_busy(place: &Place, interrupt: &dyn Interrupt) -> Result<bool> {
    let lock = lock_of(&place.schema, &place.table, &place.embedding);
    as_caller(interrupt, move |s| {
        let rows = s.query("SELECT IS_FREE_LOCK(?)", &[lock.as_str().into()])?.rows;
        Ok(rows.first().map_or(Ok(None), |row| row.get::<Option<u64>>(0))? == Some(0))
    })
}

fn shown(state: &EmbedState, busy: bool) -> Value {
    let config = &state.config;
    let status = match state.status.as_deref() {
        Some("running") if !busy => "stopped",
        Some(status) => status,
        None if busy => "running",
        None => "not started",
    };
    let percent = match (status, state.to_embed) {
        ("finished", _) | (_, Some(0)) => Some(100.0),
        (_, Some(rows)) => Some((state.processed as f64 * 1000.0 / rows as f64).floor().min(1000.0) / 10.0),
        (_, None) => None,
    };
    json!({
        "table_name": format!("{}.{}", config.place.schema, config.place.table),
        "content_column": config.content,
        "embedding_column": config.place.embedding,
        "model_id": config.model_id,
        "percent_progress": percent,
        "status": status,
        "elapsed_time": state.seconds,
        "rows_processed": state.processed,
        "incremental_refresh_mode": config.mode.as_str(),
        "last_error": config.last_error.as_deref().or(state.message.as_deref()),
    })
}

fn rows_to_embed(s: &mut Session, layout: &Layout) -> Result<u64> {
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

fn told(summary: &Summary, note: Option<&str>) -> String {
    let mut value = summary.to_json();
    if let (Some(note), Some(object)) = (note, value.as_object_mut()) {
        object.insert("note".into(), note.into());
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { schema: "s".into(), table: "t".into(), embedding: "v".into() }
    }

    #[test]
    fn a_column_that_fails_rests_longer_each_time() {
        let (watches, now) = (Watches::default(), Instant::now());
        assert!(!watches.rests(&place(), now));
        let mut rests = Vec::new();
        for _ in 0..9 {
            watches.failed(&place(), now);
            let until = watches.lock().get(&place()).unwrap().not_before.unwrap();
            rests.push((until - now).as_secs());
        }
        assert_eq!(rests, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert!(watches.rests(&place(), now + Duration::from_secs(599)));
        assert!(!watches.rests(&place(), now + Duration::from_secs(600)));
        watches.succeeded(&place(), None, false, now);
        assert!(!watches.rests(&place(), now));
    }

    #[test]
    fn a_table_without_changes_is_left_alone_but_for_rows_that_failed() {
        let (watches, now) = (Watches::default(), Instant::now());
        let change = Some("2026-01-01 00:00:00");
        assert!(!watches.has_seen(&place(), change, now));
        watches.succeeded(&place(), change.map(str::to_owned), false, now);
        assert!(watches.has_seen(&place(), change, now));
        assert!(!watches.has_seen(&place(), Some("2026-01-01 00:00:01"), now));
        assert!(!watches.has_seen(&place(), None, now), "after a restart the server does not know");
        watches.succeeded(&place(), change.map(str::to_owned), true, now);
        assert!(watches.has_seen(&place(), change, now));
        assert!(!watches.has_seen(&place(), change, now + FAILED_ROWS_REST));
        watches.succeeded(&place(), None, false, now);
        assert!(!watches.has_seen(&place(), None, now), "a change that was too young is not remembered");
    }

    #[test]
    fn a_job_that_died_with_the_server_is_not_shown_as_running() {
        let mut state = EmbedState {
            config: EmbedConfig {
                place: place(),
                content: "body".into(),
                model_id: "m".into(),
                batch_size: None,
                mode: Mode::Manual,
                last_error: None,
            },
            to_embed: Some(300),
            status: Some("running".into()),
            processed: 100,
            seconds: Some(1.5),
            message: None,
        };
        assert_eq!(shown(&state, true)["status"], "running");
        assert_eq!(shown(&state, true)["percent_progress"], 33.3);
        assert_eq!(shown(&state, false)["status"], "stopped");
        state.status = Some("finished".into());
        assert_eq!(shown(&state, false)["percent_progress"], 100.0);
    }
}
