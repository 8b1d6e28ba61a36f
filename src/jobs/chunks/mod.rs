//! Chunk tables: created, kept in step with their sources, dropped.
//!
//! Triggers on the source record the keys of changed rows in the library's schema; an event cuts these rows again. All work
//! on users' tables runs as the account that created the chunk table.

mod access;
mod run;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{json, Value};
use surface::functions;

use super::at_work::Held;
use super::rights::{as_account, must_be_alterable, refuse_on_replica, refuse_temporary_table};
use super::Jobs;
use crate::mysql::caller::current_account;
use crate::mysql::sql::{check_account_may_execute, job_turn, As};
use crate::mysql::statement::ProgressState;
use crate::tables::chunk_rows::{must_be_free, ChunkTable};
use crate::tables::chunk_tables::{self as store, ChunkConfig};
use crate::tables::configs::{is_source, Place, Source};
use crate::tables::layout::{parse_table, unquoted};
use crate::tables::marking::random;
use access::{create_table, is_gone, look_up, must_fit, obstacle, set_up, take_down, unseen, Made};
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{Interrupt, Never};
use mysql_ml_base::role::Role;
use mysql_ml_base::shares::Share;
use mysql_ml_core::catalog::members;
use mysql_ml_core::chunk::RULES;
use mysql_ml_core::engine::TextCutter;
use run::{Done, Run};

/// The chunk table among the columns under work.
fn place(config: &ChunkConfig) -> Place {
    Place { schema: config.schema.clone(), table: config.table.clone(), embedding: "chunk".into() }
}

/// An error unless the caller created the chunk table or may alter it.
fn must_be_theirs(config: &ChunkConfig, interrupt: &dyn Interrupt) -> Result<()> {
    if current_account()? == config.definer {
        return Ok(());
    }
    must_be_alterable(&config.name(), interrupt)
}

/// What embedding has done, as [`Jobs::refresh_embeddings`] returns it.
#[derive(Default)]
struct Embedded {
    rows: u64,
    failed: u64,
    note: Option<String>,
}

impl Embedded {
    fn read(json: &str) -> Self {
        let value: Value = serde_json::from_str(json).unwrap_or_default();
        let number = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
        let note = value.get("note").and_then(Value::as_str).map(str::to_owned);
        Embedded { rows: number("embedded"), failed: number("failed"), note }
    }
}

fn summary(done: &Done, embedded: Embedded, mut notes: Vec<String>, start: Instant) -> String {
    if done.failed > 0 {
        notes.push(format!("{} rows were not cut; ai.chunk_failures says why", done.failed));
    }
    notes.extend(embedded.note);
    let mut said = HashSet::new();
    notes.retain(|note| said.insert(note.clone()));
    json!({
        "rows": done.rows, "inserted": done.applied.inserted, "moved": done.applied.moved,
        "removed": done.applied.removed, "failed": done.failed + embedded.failed, "embedded": embedded.rows,
        "seconds": (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        "note": (!notes.is_empty()).then(|| notes.join("; ")),
    })
    .to_string()
}

impl Jobs {
    /// Creates a chunk table and fills it. Returns a JSON object: `rows`, `inserted`, `moved`, `removed`, `failed`,
    /// `embedded`, `seconds`, `note`.
    pub fn create_chunks(
        &self,
        source: &str,
        column: &str,
        table: &str,
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        let start = Instant::now();
        self.engine.may_call(functions::ai_create_chunks, interrupt)?;
        let mut members = members::of(options)?;
        let chunk = members::take(&mut members, "chunk", "an object of options of ai.chunk", |value| match value {
            Value::Object(_) => Some(value.to_string()),
            _ => None,
        })?;
        let model = members::text(&mut members, "model_id")?;
        let embedding = members::text(&mut members, "embedding_column")?;
        members::none_left(&members, "chunk, model_id, embedding_column")?;
        if model.is_none() && embedding.is_some() {
            return Err(Error::invalid("option embedding_column is given without model_id; name the model"));
        }
        refuse_temporary_table(source)?;
        refuse_temporary_table(table)?;
        refuse_on_replica(interrupt)?;
        let cutter = self.engine.text_cutter(chunk.as_deref(), interrupt)?;
        let (source_schema, source_table) = parse_table(source)?;
        let (schema, table) = parse_table(table)?;
        let definer = current_account()?;
        let embedding =
            model.as_ref().map(|_| embedding.map_or_else(|| "embedding".to_owned(), |name| unquoted(&name)));
        let mut config = ChunkConfig {
            id: 0,
            schema,
            table,
            source_schema,
            source_table,
            text_column: unquoted(column),
            definer,
            object: random(),
            options: cutter.options(),
            rules: RULES,
            embedding,
            source_created: None,
            pass_due: true,
            pass_position: None,
            last_error: None,
            changes: 0,
            failures: 0,
        };
        let (both, texts) = look_up(&config, interrupt)?;
        must_be_free(&both.source, config.embedding.as_deref())?;
        // As the server writes the names.
        config.source_schema = both.source.schema.clone();
        config.source_table = both.source.table.clone();
        config.text_column = both.source.column.clone();
        if (&config.schema, &config.table) == (&config.source_schema, &config.source_table) {
            return Err(Error::invalid("chunk_table is the source table; name another one"));
        }
        let width = model.as_ref().map(|model| self.width_of(model, interrupt)).transpose()?;
        let held = self.indexing.hold(&[place(&config)], &config.definer.to_string(), interrupt)?;
        config.id = store::create(&config, interrupt)?;
        let undo = |config: &ChunkConfig, is_new: bool| {
            // Removed as a whole, also after a KILL.
            let own = config.clone();
            let _ = as_account(&As::Owner(config.definer.clone()), &Never, move |s| {
                let down = take_down(s, &own);
                match is_new {
                    true => s.run(format!("DROP TABLE IF EXISTS {}", own.name()).as_bytes()).map(|_| ()),
                    false => down,
                }
            });
            if let Some(column) = &config.embedding {
                let _ = self.drop_embedding_config(Some(&config.name()), Some(column), &Never);
            }
            let _ = store::delete(config, &Never);
        };
        let is_new = create_table(&config, &both, &texts, width, interrupt).inspect_err(|_| undo(&config, false))?;
        let mut notes = Vec::new();
        let made = (|| {
            notes.extend(set_up(&config, &both, false, interrupt)?.note);
            let (Some(model), Some(column)) = (&model, &config.embedding) else { return Ok(()) };
            let name = config.name();
            let arguments = [model.as_str(), name.as_str(), "chunk", column.as_str()];
            let made = self.initialize_embeddings(arguments, None, Some("transactional"), interrupt)?;
            notes.extend(Embedded::read(&made).note);
            Ok(())
        })();
        made.inspect_err(|_| undo(&config, is_new))?;
        notes.extend(unseen(&config, interrupt)?);
        let filled = self.run(&config, both, cutter, held, true, interrupt).and_then(|done| {
            let embedded = self.embed_chunks(&config, interrupt)?;
            Ok(summary(&done, embedded, notes, start))
        });
        filled
            .map_err(|e| e.context("the chunk table is created, and its event or ai.refresh_chunks goes on filling it"))
    }

    /// The dimensions of a model's vectors: those of its registration, else of a text.
    fn width_of(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<usize> {
        let call = self.engine.call(functions::ml_embed_table, model_id, interrupt)?;
        call.model().must_embed()?;
        if let Some(dimensions) = call.model().options.dimensions {
            return Ok(usize::try_from(dimensions).unwrap_or(usize::MAX));
        }
        let vector = self.engine.embedding(functions::ml_embed_table, model_id, "text", Role::Document, interrupt)?;
        let vector = vector.ok_or_else(|| Error::invalid("a chunk table cannot be created inside ai.query"))?;
        Ok(vector.len() / 4)
    }

    /// Brings a chunk table in step with its source. Returns the object of [`Self::create_chunks`].
    pub fn refresh_chunks(
        &self,
        table: &str,
        options: Option<&str>,
        by_event: bool,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        let start = Instant::now();
        if !by_event {
            self.engine.may_call(functions::ai_refresh_chunks, interrupt)?;
        }
        let mut members = members::of(options)?;
        let full = members::flag(&mut members, "full")?.unwrap_or(false);
        members::none_left(&members, "full")?;
        let (schema, name) = parse_table(table)?;
        let config = store::of_table(&schema, &name, interrupt);
        if by_event {
            return self.chunks_by_event(config, start, interrupt);
        }
        let config = config?;
        refuse_on_replica(interrupt)?;
        must_be_theirs(&config, interrupt)?;
        let (done, note) = self.bring_in_step(&config, full, false, interrupt)?;
        let embedded = self.embed_chunks(&config, interrupt)?;
        let notes = note.into_iter().chain(unseen(&config, interrupt)?).collect();
        Ok(summary(&done, embedded, notes, start))
    }

    /// A run by the event. Its errors are for the view, because nobody reads those of events.
    fn chunks_by_event(
        &self,
        config: Result<ChunkConfig>,
        start: Instant,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        let nothing = || Ok(summary(&Done::default(), Embedded::default(), Vec::new(), start));
        let config = match config {
            Err(e) if e.kind() == Kind::NotFound => return nothing(),
            config => config?,
        };
        // Another account's event of this text, or one on a replica, does nothing.
        let other = current_account()? != config.definer || is_source(interrupt)? == Source::No;
        if other || self.watches.rests(&place(&config), start) {
            return nothing();
        }
        match self.bring_in_step(&config, false, true, interrupt) {
            Ok((done, note)) => {
                self.watches.succeeded(&place(&config), None, false, start);
                if config.last_error.is_some() {
                    store::set_last_error(config.id, None, interrupt)?;
                }
                Ok(summary(&done, Embedded::default(), note.into_iter().collect(), start))
            }
            // Another job is at it, or too many are; the next run looks again.
            Err(e) if matches!(e.kind(), Kind::Busy | Kind::NoTurn) => nothing(),
            Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => Err(e),
            Err(e) => {
                self.watches.failed(&place(&config), Instant::now());
                store::set_last_error(config.id, Some(e.message()), interrupt)?;
                if is_gone(&e) {
                    // Nobody works the changes off: all rows are compared once it is well again.
                    store::begin_pass(config.id, config.rules, None, interrupt)?;
                    config.recorder().delete_all_changes(interrupt)?;
                }
                nothing()
            }
        }
    }

    /// Repairs triggers and event, and works changes off; all rows if they must be compared.
    fn bring_in_step(
        &self,
        config: &ChunkConfig,
        full: bool,
        by_event: bool,
        interrupt: &dyn Interrupt,
    ) -> Result<(Done, Option<String>)> {
        let held = self.indexing.hold(&[place(config)], &config.definer.to_string(), interrupt)?;
        // Another job may have changed it.
        let config = store::of_table(&config.schema, &config.table, interrupt)?;
        let cutter = self.engine.text_cutter(Some(&config.options), interrupt)?;
        if current_account()? != config.definer {
            check_account_may_execute(&As::Owner(config.definer.clone()), functions::ai_chunk, interrupt)?;
        }
        let (both, texts) = look_up(&config, interrupt)?;
        must_fit(&config, &texts, interrupt)?;
        let Made { anew, note } = set_up(&config, &both, by_event, interrupt)?;
        store::retry_failures(config.id, !by_event, interrupt)?;
        let done = self.run(&config, both, cutter, held, full || anew, interrupt)?;
        if !by_event && config.last_error.is_some() {
            store::set_last_error(config.id, None, interrupt)?;
        }
        Ok((done, note))
    }

    /// Works changes off on a chunk table that is held; compares all rows first if that is due, or `anew` from the
    /// beginning.
    fn run(
        &self,
        config: &ChunkConfig,
        table: ChunkTable,
        cutter: TextCutter<'_>,
        held: Arc<Held>,
        anew: bool,
        interrupt: &dyn Interrupt,
    ) -> Result<Done> {
        let share = Share { account: Some(config.definer.to_string().into()), source: None };
        let _turn = job_turn(share, true, interrupt)?;
        let (schema, name) = (config.source_schema.clone(), config.source_table.clone());
        // A restored table is another one, and much of ALTER TABLE makes another one.
        let created =
            as_account(&As::Owner(config.definer.clone()), interrupt, move |s| store::created(s, &schema, &name))?;
        let anew = anew || config.rules != RULES || config.source_created != created;
        let mut run = Run {
            config,
            table: Arc::new(table),
            cutter,
            held,
            state: ProgressState::begin(),
            done: Done::default(),
            failed: HashSet::new(),
            interrupt,
        };
        if anew {
            store::begin_pass(config.id, RULES, created, interrupt)?;
            run.compare_all(None)?;
        } else if config.pass_due {
            run.compare_all(config.pass_position.as_deref())?;
        }
        run.drain()?;
        let after = self.looked.lock().remove(&config.id);
        if let Some(next) = run.look_for_gone(after)? {
            self.looked.lock().insert(config.id, next);
        }
        Ok(run.done)
    }

    /// Embeds new chunks, if the chunk table has vectors.
    fn embed_chunks(&self, config: &ChunkConfig, interrupt: &dyn Interrupt) -> Result<Embedded> {
        let Some(column) = &config.embedding else { return Ok(Embedded::default()) };
        match self.refresh_embeddings(Some(&config.name()), Some(column), None, interrupt) {
            Ok(done) => Ok(Embedded::read(&done)),
            Err(e) if e.kind() == Kind::NotFound => Ok(Embedded {
                note: Some(format!("new chunks are not embedded: {}", e.message())),
                ..Embedded::default()
            }),
            Err(e) => Err(e.context("the chunks are in step with the source, but not all are embedded")),
        }
    }

    /// Removes triggers, event and configuration of a chunk table; its rows stay, unless the table is to be dropped.
    pub fn drop_chunks(&self, table: &str, options: Option<&str>, interrupt: &dyn Interrupt) -> Result<String> {
        self.engine.may_call(functions::ai_drop_chunks, interrupt)?;
        let mut members = members::of(options)?;
        let drop_table = members::flag(&mut members, "drop_table")?.unwrap_or(false);
        members::none_left(&members, "drop_table")?;
        let (schema, name) = parse_table(table)?;
        let config = store::of_table(&schema, &name, interrupt)?;
        must_be_theirs(&config, interrupt)?;
        let _held = self.indexing.hold(&[place(&config)], &config.definer.to_string(), interrupt)?;
        let own = config.clone();
        if let Err(e) = as_account(&As::Owner(config.definer.clone()), interrupt, move |s| take_down(s, &own)) {
            // The account may be gone or lack the right; one that may alter the table may have it.
            if matches!(e.kind(), Kind::Interrupted(_)) || current_account()? == config.definer {
                return Err(e);
            }
            let own = config.clone();
            as_account(&As::Caller, interrupt, move |s| take_down(s, &own))?;
        }
        if let Some(column) = &config.embedding {
            match self.drop_embedding_config(Some(&config.name()), Some(column), interrupt) {
                Err(e) if e.kind() != Kind::NotFound => return Err(e),
                _ => {}
            }
        }
        store::delete(&config, interrupt)?;
        if drop_table {
            let statement = format!("DROP TABLE IF EXISTS {}", config.name());
            as_account(&As::Caller, interrupt, move |s| s.run(statement.as_bytes()))?;
        }
        Ok(json!({"dropped": 1}).to_string())
    }

    /// All chunk tables that the caller can see, as a JSON array. Reads metadata, no table of users.
    pub fn chunk_tables(&self, interrupt: &dyn Interrupt) -> Result<String> {
        let account = current_account()?;
        let mut shown = Vec::new();
        for config in store::all(interrupt)? {
            let own = account == config.definer;
            let (schema, name) = (config.schema.clone(), config.table.clone());
            // Errors may quote rows: only the account and readers of the registry may see them.
            let (rows, reads) = as_account(&As::Caller, interrupt, move |s| {
                let rows = s.query(
                    "SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
                    &[schema.as_str().into(), name.as_str().into()],
                )?;
                let reads = s.query("SELECT last_error FROM mysql_ml.chunk_tables LIMIT 0", &[]).is_ok();
                Ok((rows.rows.first().map(|row| row.get::<Option<u64>>(0)).transpose()?, reads))
            })?;
            if rows.is_none() && !own {
                continue;
            }
            let stale = match obstacle(&config, interrupt) {
                Ok(obstacle) => obstacle,
                Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => return Err(e),
                Err(e) => Some(e.message().to_owned()),
            };
            let status = match (&stale, config.pass_due) {
                (Some(_), _) => "stale",
                (None, true) => "building",
                (None, false) => "ready",
            };
            let (error, failures) = match own || reads {
                true => (config.last_error.clone(), store::failures(config.id, interrupt)?),
                false => (None, json!([])),
            };
            shown.push(json!({
                "source_table": format!("{}.{}", config.source_schema, config.source_table),
                "text_column": config.text_column, "chunk_table": format!("{}.{}", config.schema, config.table),
                "status": status, "estimated_chunks": rows.flatten(), "changes": config.changes,
                "failed": config.failures, "options": config.options, "embedding_column": config.embedding,
                "definer": config.definer.to_string(), "last_error": error, "note": stale, "failures": failures,
            }));
        }
        Ok(Value::Array(shown).to_string())
    }
}
