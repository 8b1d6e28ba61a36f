//! Triggers and event of a vector index. The triggers record the keys of new and changed rows in the writer's
//! transaction; the event moves them into blocks.
//!
//! The triggers are plain SQL, so writes work without the library. An error in them never fails the write; searches and the
//! event look for its causes, such as a missing right, and the index must then be rebuilt.

use super::keyed::Keyed;
use super::layout::{quoted, KeyKind};
use super::marking::{calling, literal, qualified};
use super::vector_indexes::VectorIndex;

/// Prefix of the names of triggers and events.
pub const PREFIX: &str = "ml_vectors_";

/// The default interval of the event.
const EVERY: &str = "10 SECOND";

/// A trigger of an index.
pub struct VectorTrigger {
    /// Its name.
    pub name: String,
    /// `INSERT` or `UPDATE`.
    pub on: &'static str,
    /// Its body.
    pub body: String,
}

/// The triggers of an index.
pub fn triggers(index: &VectorIndex, keyed: &Keyed) -> [VectorTrigger; 2] {
    let v = quoted(&keyed.column);
    let same_key = keyed.key.iter().map(|k| match k.kind {
        // Different texts may be equal.
        KeyKind::Text { .. } => format!("CAST(NEW.{0} AS BINARY) <=> CAST(OLD.{0} AS BINARY)", quoted(&k.name)),
        _ => format!("NEW.{0} <=> OLD.{0}", quoted(&k.name)),
    });
    let same = same_key.chain([format!("NEW.{v} <=> OLD.{v}")]).collect::<Vec<_>>().join(" AND ");
    let trigger = |on, letter, condition: String| {
        VectorTrigger {
        name: format!("{PREFIX}{}_{letter}", index.object),
        on,
        body: format!(
            "BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN END; IF {condition} THEN INSERT INTO {} (index_id, row_key) VALUES ({}, {}); END IF; END",
            index.view(),
            index.id,
            keyed.key_in_trigger("NEW")
        ),
    }
    };
    [
        trigger("INSERT", "i", format!("NEW.{v} IS NOT NULL")),
        trigger("UPDATE", "u", format!("NEW.{v} IS NOT NULL AND NOT ({same})")),
    ]
}

/// The CREATE TRIGGER statement.
pub fn create_trigger(trigger: &VectorTrigger, keyed: &Keyed) -> String {
    format!(
        "CREATE TRIGGER {} AFTER {} ON {} FOR EACH ROW {}",
        qualified(&keyed.schema, &trigger.name),
        trigger.on,
        keyed.name(),
        trigger.body
    )
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
