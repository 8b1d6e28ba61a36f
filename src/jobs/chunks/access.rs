//! The parts of a chunk table besides its rows: its definition, triggers and event, and what may be wrong with them.

use crate::jobs::rights::{advised, as_account, let_record};
use crate::mysql::error_numbers::{ER_BAD_DB, ER_NO_SUCH_TABLE, ER_OPTION_PREVENTS_STATEMENT};
use crate::mysql::session::Session;
use crate::mysql::sql::As;
use crate::tables::chunk_rows::{ChunkTable, COMMENT};
use crate::tables::chunk_tables::ChunkConfig;
use crate::tables::chunk_triggers as triggers;
use crate::tables::keyed::{Keyed, Texts};
use crate::tables::layout::quoted;
use crate::tables::marking::{is_body, qualified};
use crate::tables::recorder::wrong_triggers;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

/// What an account does that needs triggers.
const CREATE: &str = "create the chunk table";

/// Looks the source up with the rights of the chunk table's account, and the chunk table.
pub(super) fn look_up(config: &ChunkConfig, interrupt: &dyn Interrupt) -> Result<(ChunkTable, Texts)> {
    let config = config.clone();
    as_account(&As::Owner(config.definer.clone()), interrupt, move |s| look_up_in(s, &config))
}

fn look_up_in(s: &mut Session, config: &ChunkConfig) -> Result<(ChunkTable, Texts)> {
    let (source, texts) = Keyed::look_up_texts(s, &config.source_name(), &quoted(&config.text_column))?;
    Ok((ChunkTable::new(source, &config.schema, &config.table), texts))
}

/// The columns of a table as the session sees them: names, types, collations; and its comment.
#[allow(clippy::type_complexity)]
fn definition(
    s: &mut Session,
    config: &ChunkConfig,
) -> Result<Option<(Vec<(String, String, Option<String>)>, String)>> {
    let names = [config.schema.as_str().into(), config.table.as_str().into()];
    let table = s.query(
        "SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
         AND TABLE_TYPE = 'BASE TABLE'",
        &names,
    )?;
    let Some(table) = table.rows.first() else { return Ok(None) };
    let columns = s.query(
        "SELECT COLUMN_NAME, COLUMN_TYPE, COLLATION_NAME FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
        &names,
    )?;
    let columns = columns.rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    Ok(Some((columns.collect::<Result<_>>()?, table.get(0)?)))
}

/// The chunk table's column that is missing or has another type, if there is one; or that the table is.
fn lacks(s: &mut Session, config: &ChunkConfig, texts: &Texts, width: Option<usize>) -> Result<Option<String>> {
    let Some((columns, _)) = definition(s, config)? else {
        return Ok(Some(format!("table {} does not exist, or its account may not see it", config.name())));
    };
    let mut wanted = ChunkTable::must_have(texts);
    let vectors =
        config.embedding.iter().zip(width).map(|(name, width)| (name.clone(), format!("vector({width})"), None));
    wanted.extend(vectors);
    Ok(wanted.into_iter().find(|column| !columns.contains(column)).map(|(name, column_type, collation)| {
        let collate = collation.map(|c| format!(" COLLATE {c}")).unwrap_or_default();
        format!("table {} has no column {} {column_type}{collate}", config.name(), quoted(&name))
    }))
}

/// An error if the chunk table is gone, or a column of it.
pub(super) fn must_fit(config: &ChunkConfig, texts: &Texts, interrupt: &dyn Interrupt) -> Result<()> {
    let (config, texts) = (config.clone(), texts.clone());
    as_account(&As::Owner(config.definer.clone()), interrupt, move |s| match lacks(s, &config, &texts, None)? {
        None => Ok(()),
        Some(what) => Err(Error::new(Kind::NotFound, format!("{what}; call ai.drop_chunks, and create it again"))),
    })
}

/// Creates the chunk table; takes one over that was a chunk table of this source. Returns whether it is new.
pub(super) fn create_table(
    config: &ChunkConfig,
    table: &ChunkTable,
    texts: &Texts,
    width: Option<usize>,
    interrupt: &dyn Interrupt,
) -> Result<bool> {
    let (config, table, texts) = (config.clone(), table.clone(), texts.clone());
    as_account(&As::Owner(config.definer.clone()), interrupt, move |s| {
        let Some((_, comment)) = definition(s, &config)? else {
            let embedding = config.embedding.as_deref().zip(width);
            return s.run(table.create(&texts, embedding).as_bytes()).map(|_| true);
        };
        if !comment.starts_with(COMMENT) {
            return Err(Error::new(
                Kind::AlreadyExists,
                format!("table {} exists and is no chunk table; choose another name", config.name()),
            ));
        }
        match lacks(s, &config, &texts, width)? {
            None => Ok(false),
            Some(what) => Err(Error::invalid(format!("{what}; drop the table, or choose another name"))),
        }
    })
}

/// The event as the server describes it: whether it is the one that was made, and its status.
fn event(s: &mut Session, config: &ChunkConfig) -> Result<Option<(bool, String)>> {
    let found = s.query(
        "SELECT EVENT_DEFINITION, DEFINER, STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ? AND EVENT_NAME = ?",
        &[config.source_schema.as_str().into(), triggers::event_name(config).as_str().into()],
    )?;
    let Some(row) = found.rows.first() else { return Ok(None) };
    let right = is_body(&row.get::<String>(0)?, &triggers::event_body(config))
        && row.get::<String>(1)? == config.definer.to_string();
    Ok(Some((right, row.get(2)?)))
}

/// What was made of triggers and event.
pub(super) struct Made {
    /// Whether changes may have been lost.
    pub anew: bool,
    /// Why there is no event.
    pub note: Option<String>,
}

/// Creates what is missing of view, triggers and event. A run by the event leaves the event alone.
pub(super) fn set_up(
    config: &ChunkConfig,
    table: &ChunkTable,
    by_event: bool,
    interrupt: &dyn Interrupt,
) -> Result<Made> {
    let recorded = let_record(&config.recorder(), interrupt)?;
    let (config, table) = (config.clone(), table.clone());
    // With the rights that the triggers will have.
    as_account(&As::Account(config.definer.clone()), interrupt, move |s| {
        table.source.must_be_readable(s)?;
        let wanted = triggers::triggers(&config, &table.source);
        let wrong = match recorded {
            true => wrong_triggers(s, &table.source, &config.definer, wanted, f64::MAX)?,
            // Writers whose changes were lost may not have committed yet: new triggers wait for them.
            false => wanted,
        };
        let anew = !wrong.is_empty();
        for trigger in wrong {
            let drop = format!("DROP TRIGGER IF EXISTS {}", qualified(&config.source_schema, &trigger.name));
            let advise = |e| advised(e, &trigger.name, CREATE);
            s.run(drop.as_bytes()).map_err(advise)?;
            s.run(trigger.create(&table.source).as_bytes()).map_err(advise)?;
        }
        if by_event {
            return Ok(Made { anew, note: None });
        }
        if event(s, &config)?.is_some_and(|(right, status)| right && matches!(status.as_str(), "ENABLED" | "DISABLED"))
        {
            return Ok(Made { anew, note: None });
        }
        let name = qualified(&config.source_schema, &triggers::event_name(&config));
        let dropped = s.run(format!("DROP EVENT IF EXISTS {name}").as_bytes());
        let created = dropped.and_then(|_| s.run(triggers::create_event(&config).as_bytes()));
        let note = created
            .err()
            .map(|e| format!("no event cuts changed rows ({}); call ai.refresh_chunks now and then", e.message()));
        Ok(Made { anew, note })
    })
}

/// Removes triggers and event. They are gone with their table or schema.
pub(super) fn take_down(s: &mut Session, config: &ChunkConfig) -> Result<()> {
    let event = std::iter::once(("EVENT", triggers::event_name(config)));
    let triggers = triggers::trigger_names(config).map(|name| ("TRIGGER", name));
    let mut first = Ok(());
    for (what, object) in event.chain(triggers) {
        let statement = format!("DROP {what} IF EXISTS {}", qualified(&config.source_schema, &object));
        let done = match s.run(statement.as_bytes()) {
            Err(e) if e.kind() == Kind::Server(ER_BAD_DB) => Ok(()),
            result => result.map(|_| ()).map_err(|e| advised(e, &object, "drop the chunk table")),
        };
        first = first.and(done);
    }
    first
}

/// Why a chunk table does not follow its source by itself, if it does not. Reads the server's metadata only, with the
/// rights of the chunk table's account.
pub(super) fn obstacle(config: &ChunkConfig, interrupt: &dyn Interrupt) -> Result<Option<String>> {
    let config = config.clone();
    as_account(&As::Account(config.definer.clone()), interrupt, move |s| {
        let (table, texts) = look_up_in(s, &config)?;
        if let Some(what) = lacks(s, &config, &texts, None)? {
            return Ok(Some(format!("{what}; call ai.drop_chunks, and create it again")));
        }
        let wanted = triggers::triggers(&config, &table.source);
        if let Some(wrong) = wrong_triggers(s, &table.source, &config.definer, wanted, f64::MAX)?.first() {
            let name = &wrong.name;
            return Ok(Some(format!(
                "its trigger {name} is missing or is not the one that was made; call ai.refresh_chunks"
            )));
        }
        match config.recorder().may_record(s).and_then(|()| table.source.must_be_readable(s)) {
            // A replica records nothing itself.
            Err(e) if e.kind() != Kind::Server(ER_OPTION_PREVENTS_STATEMENT) => {
                return Ok(Some(format!("its account may not record changes: {}", e.message())));
            }
            _ => {}
        }
        let scheduler = s.query("SELECT @@GLOBAL.event_scheduler", &[])?;
        let scheduler: Option<String> = scheduler.rows.first().map(|row| row.get(0)).transpose()?;
        Ok(match (event(s, &config)?, scheduler.as_deref()) {
            (None, _) => Some("its event is missing; call ai.refresh_chunks".to_owned()),
            (Some((false, _)), _) => Some("its event is not the one that was made; call ai.refresh_chunks".to_owned()),
            (_, Some("OFF" | "DISABLED")) => Some(
                "the event scheduler is off; SET GLOBAL event_scheduler = ON, or call ai.refresh_chunks".to_owned(),
            ),
            (Some((_, status)), _) if status != "ENABLED" => Some(format!(
                "its event is {}; ALTER EVENT ... ENABLE, or call ai.refresh_chunks",
                status.to_lowercase().replace('_', " ")
            )),
            _ => None,
        })
    })
}

/// Changes of the source that its triggers do not see, if a foreign key makes such ones.
pub(super) fn unseen(config: &ChunkConfig, interrupt: &dyn Interrupt) -> Result<Option<String>> {
    let config = config.clone();
    as_account(&As::Owner(config.definer.clone()), interrupt, move |s| {
        let found = s.query(
            "SELECT CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = ? \
             AND TABLE_NAME = ? AND (DELETE_RULE IN ('CASCADE', 'SET NULL') OR UPDATE_RULE IN ('CASCADE', 'SET NULL')) LIMIT 1",
            &[config.source_schema.as_str().into(), config.source_table.as_str().into()],
        )?;
        let Some(row) = found.rows.first() else { return Ok(None) };
        Ok(Some(format!(
            "changes by the foreign key {} are not seen by triggers; call ai.refresh_chunks with the option full after them",
            row.get::<String>(0)?
        )))
    })
}

/// Whether an error means that a table, a column or a right is missing.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::Server(ER_NO_SUCH_TABLE | ER_BAD_DB | 1054 | 1142 | 1143 | 1044))
}
