//! Triggers and event of a vector index. The triggers record the keys of new and changed rows in the writer's
//! transaction; the event moves them into blocks.
//!
//! The triggers are plain SQL, so writes work without the library. An error in them never fails the write; searches and the
//! event look for its causes, such as a missing right, and the index must then be rebuilt.

use super::keyed::Keyed;
use super::layout::quoted;
use super::marking::{calling, literal, qualified};
use super::recorder::{harmless, same_key, RowTrigger};
use super::vector_indexes::{VectorIndex, PREFIX};

/// The default interval of the event.
const EVERY: &str = "10 SECOND";

/// The triggers of an index.
pub fn triggers(index: &VectorIndex, keyed: &Keyed) -> Vec<RowTrigger> {
    let v = quoted(&keyed.column);
    let record = index.recorder().record(keyed, "NEW");
    let trigger = |on, letter, condition: String| RowTrigger {
        name: format!("{PREFIX}{}_{letter}", index.object),
        on,
        body: harmless(&format!("IF {condition} THEN {record} END IF;")),
    };
    let same = same_key(keyed);
    vec![
        trigger("INSERT", "i", format!("NEW.{v} IS NOT NULL")),
        trigger("UPDATE", "u", format!("NEW.{v} IS NOT NULL AND NOT ({same} AND NEW.{v} <=> OLD.{v})")),
    ]
}

/// The name of the event.
pub fn event_name(index: &VectorIndex) -> String {
    format!("{PREFIX}{}", index.object)
}

/// The event's body. It does nothing once the library is uninstalled.
pub fn event_body(index: &VectorIndex) -> String {
    calling(&format!(
        "DO ai_refresh_vector_index({} AS table_name, {} AS column_name, {} AS options, 'event' AS caller)",
        literal(&index.table_name()),
        literal(&quoted(&index.column)),
        literal(&format!("{{\"distance_measure\": \"{}\"}}", index.measure))
    ))
}

/// The CREATE EVENT statement.
pub fn create_event(index: &VectorIndex) -> String {
    format!(
        "CREATE EVENT {} ON SCHEDULE EVERY {EVERY} ON COMPLETION PRESERVE \
         COMMENT 'mysql-ml: moves changes into the vector index; CALL ai.drop_vector_index removes it' DO {}",
        qualified(&index.schema, &event_name(index)),
        event_body(index)
    )
}
