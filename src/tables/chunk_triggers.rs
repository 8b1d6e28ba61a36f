//! Triggers and event of a chunk table. The triggers record the keys of new, changed and deleted rows of its source in the
//! writer's transaction; the event cuts these rows again.

use super::chunk_tables::ChunkConfig;
use super::keyed::Keyed;
use super::layout::quoted;
use super::marking::{calling, literal, qualified};
use super::recorder::{harmless, same_key, RowTrigger};

/// Prefix of the names of triggers and events.
const PREFIX: &str = "ml_chunks_";

/// The default interval of the event.
const EVERY: &str = "10 SECOND";

/// The triggers on the source.
pub fn triggers(config: &ChunkConfig, source: &Keyed) -> Vec<RowTrigger> {
    let recorder = config.recorder();
    let (new, old) = (recorder.record(source, "NEW"), recorder.record(source, "OLD"));
    let text = quoted(&source.column);
    let same = same_key(source);
    // Collations take different texts as equal.
    let same_text = format!("CAST(NEW.{text} AS BINARY) <=> CAST(OLD.{text} AS BINARY)");
    let [i, u, d] = trigger_names(config);
    vec![
        RowTrigger { name: i, on: "INSERT", body: harmless(&new) },
        RowTrigger {
            name: u,
            on: "UPDATE",
            body: harmless(&format!("IF NOT ({same}) THEN {old} {new} ELSEIF NOT ({same_text}) THEN {new} END IF;")),
        },
        RowTrigger { name: d, on: "DELETE", body: harmless(&old) },
    ]
}

/// The names of the triggers.
pub fn trigger_names(config: &ChunkConfig) -> [String; 3] {
    ["i", "u", "d"].map(|letter| format!("{PREFIX}{}_{letter}", config.object))
}

/// The name of the event, which is in the schema of the source: it lives as long as the triggers.
pub fn event_name(config: &ChunkConfig) -> String {
    format!("{PREFIX}{}", config.object)
}

/// The event's body. It does nothing once the library is uninstalled.
pub fn event_body(config: &ChunkConfig) -> String {
    calling(&format!(
        "DO ai_refresh_chunks({} AS chunk_table, NULL AS options, 'event' AS caller)",
        literal(&config.name())
    ))
}

/// The CREATE EVENT statement.
pub fn create_event(config: &ChunkConfig) -> String {
    format!(
        "CREATE EVENT {} ON SCHEDULE EVERY {EVERY} ON COMPLETION PRESERVE \
         COMMENT 'mysql-ml: cuts changed rows into chunks; CALL ai.drop_chunks removes it' DO {}",
        qualified(&config.source_schema, &event_name(config)),
        event_body(config)
    )
}
