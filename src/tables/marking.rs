//! How rows whose text changes are marked, and how that is noticed: a trigger takes their vector away, and an event of
//! the server's scheduler calls the library.
//!
//! Both are in the table's own schema and go with it. The trigger holds plain SQL, so that the table can be written to
//! whatever becomes of the library, and does nothing once a column that it names is gone.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use super::layout::{quoted, Layout};
use crate::tables::configs::Place;
use mysql_ml_base::error::{Error, Result};

/// How often the event looks for rows, unless somebody changed that.
pub const EVERY: &str = "10 SECOND";

/// How the names of triggers and events begin.
pub const PREFIX: &str = "ml_embeddings_";

/// A name for a column's trigger and event that nobody can guess: one that could be computed might be taken by another
/// account, on a table of its own, before it is needed.
pub fn new_name() -> String {
    // Keys of the hash are the operating system's random numbers.
    format!("{PREFIX}{:016x}", RandomState::new().hash_one(std::time::SystemTime::now()))
}

/// A name that no column has: a statement about it ends after the server has looked at the caller's rights.
pub fn no_column() -> String {
    format!("mysql_ml_none_{:016x}", RandomState::new().hash_one(std::time::SystemTime::now()))
}

/// Trigger or event, as SQL.
pub fn qualified(schema: &str, object: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(object))
}

/// The trigger's body: a row whose text is made of other values than before, and whose vector was not replaced, loses it.
pub fn trigger_body(layout: &Layout) -> Result<String> {
    if !layout.nullable {
        return Err(Error::invalid(format!(
            "column {} is NOT NULL, so a changed row cannot be marked by taking its vector away; allow NULL, or use the mode 'manual'",
            layout.embedding
        )));
    }
    let same: Vec<String> = layout
        .sources
        .iter()
        .map(|source| {
            let name = quoted(&source.name);
            if source.text {
                let exact = |row| format!("CAST({row}.{name} AS CHAR CHARACTER SET utf8mb4) COLLATE utf8mb4_0900_bin");
                format!("{} <=> {}", exact("NEW"), exact("OLD"))
            } else {
                format!("NEW.{name} <=> OLD.{name}")
            }
        })
        .collect();
    if same.is_empty() {
        return Err(Error::invalid(
            "content_column names no column, so that changes cannot be noticed; name one, or use the mode 'manual'",
        ));
    }
    let v = quoted(&layout.embedding);
    Ok(format!(
        "BEGIN DECLARE EXIT HANDLER FOR 1054 BEGIN END; \
         IF NEW.{v} <=> OLD.{v} AND NOT ({}) THEN SET NEW.{v} = NULL; END IF; END",
        same.join(" AND ")
    ))
}

/// The statement that makes the trigger.
pub fn create_trigger(layout: &Layout, object: &str) -> Result<String> {
    Ok(format!(
        "CREATE TRIGGER {} BEFORE UPDATE ON {} FOR EACH ROW {}",
        qualified(&layout.schema, object),
        layout.name(),
        trigger_body(layout)?
    ))
}

/// What the event does. Once the library is uninstalled it does nothing.
pub fn event_body(place: &Place) -> String {
    // Named arguments: the server takes them for loadable functions only. Otherwise somebody's stored function of this
    // name in the schema would run as the event's definer once the library is uninstalled. Prepared, because without the
    // library the server does not even parse them (error 1584).
    let call = format!(
        "DO ml_refresh_embeddings({} AS table_name, {} AS embedding_column, NULL AS batch_size, 'event' AS caller)",
        literal(&format!("{}.{}", quoted(&place.schema), quoted(&place.table))),
        literal(&place.embedding)
    );
    format!(
        "BEGIN DECLARE EXIT HANDLER FOR 1305, 1584 BEGIN END; PREPARE mysql_ml FROM {}; EXECUTE mysql_ml; END",
        literal(&call)
    )
}

/// The statement that makes the event.
pub fn create_event(place: &Place, object: &str, every: &str) -> String {
    format!(
        "CREATE EVENT {} ON SCHEDULE EVERY {every} ON COMPLETION PRESERVE \
         COMMENT 'mysql-ml: embeds new and changed rows; CALL ai.drop_embedding_config removes it' DO {}",
        qualified(&place.schema, object),
        event_body(place)
    )
}

/// A body without what the server shows otherwise than it was written: it takes one level of escapes out of literals.
/// Only bodies of the same definer are compared, who could say what else they do in plainer ways.
fn bare(body: &str) -> String {
    body.trim().chars().filter(|c| !matches!(c, '\'' | '`' | '\\')).collect()
}

/// Whether the server shows this of a trigger or event that was made with the body `made`.
pub fn is_body(shown: &str, made: &str) -> bool {
    // A name with a backquote is shown garbled (a`b as aa`bb): then what stands around the names has to do.
    if made.contains("``") {
        let begin = made.split('`').next().unwrap_or_default();
        let end = made.rsplit('`').next().unwrap_or_default();
        return bare(shown).starts_with(&bare(begin)) && bare(shown).ends_with(&bare(end));
    }
    bare(shown) == bare(made)
}

/// Whether a trigger is one that [`trigger_body`] may have made, of whatever columns.
pub fn looks_like_ours(shown: &str, embedding: &str) -> bool {
    let (shown, v) = (bare(shown), bare(embedding));
    let begin = format!("BEGIN DECLARE EXIT HANDLER FOR 1054 BEGIN END; IF NEW.{v} <=> OLD.{v} AND NOT (");
    shown.starts_with(&begin) && shown.ends_with(&format!(") THEN SET NEW.{v} = NULL; END IF; END"))
}

/// Whether an event is one that [`event_body`] made for a column of this name in a table of this name, of whatever
/// schema: a schema that was restored under another name has the events of the first.
pub fn calls_for(shown: &str, place: &Place) -> bool {
    let shown = bare(shown);
    let made = |schema: &str| bare(&event_body(&Place { schema: schema.to_owned(), ..place.clone() }));
    let (begin, end) = (made(""), made(""));
    let point = begin.find('.').unwrap_or(0);
    shown.starts_with(begin.get(..point).unwrap_or_default()) && shown.ends_with(end.get(point..).unwrap_or_default())
}

/// A name as a literal that people can read. For the fixed `sql_mode` of the library's sessions.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::super::layout::SourceColumn;
    use super::*;

    fn layout(sources: Vec<SourceColumn>) -> Layout {
        Layout {
            schema: "s".into(),
            table: "it's".into(),
            key: Vec::new(),
            index: "PRIMARY".into(),
            embedding: "v".into(),
            width: 8,
            hash: None,
            content: "`body`".into(),
            sources,
            nullable: true,
            touched: Vec::new(),
            meaning: crate::server::meaning::Meaning::default(),
            constant: false,
        }
    }

    #[test]
    fn a_trigger_compares_what_the_text_is_made_of() {
        let sources =
            vec![SourceColumn { name: "body".into(), text: true }, SourceColumn { name: "n".into(), text: false }];
        let mut l = layout(sources);
        assert_eq!(
            trigger_body(&l).unwrap(),
            "BEGIN DECLARE EXIT HANDLER FOR 1054 BEGIN END; IF NEW.`v` <=> OLD.`v` AND NOT \
             (CAST(NEW.`body` AS CHAR CHARACTER SET utf8mb4) COLLATE utf8mb4_0900_bin <=> \
             CAST(OLD.`body` AS CHAR CHARACTER SET utf8mb4) COLLATE utf8mb4_0900_bin AND NEW.`n` <=> OLD.`n`) \
             THEN SET NEW.`v` = NULL; END IF; END"
        );
        l.nullable = false;
        assert!(create_trigger(&l, "x").is_err());
        assert!(create_trigger(&layout(Vec::new()), "x").is_err());
    }

    #[test]
    fn no_two_names_are_the_same() {
        assert_ne!(new_name(), new_name());
        assert_eq!(new_name().len(), PREFIX.len() + 16);
    }

    #[test]
    fn the_event_calls_for_its_column() {
        let place = Place { schema: "s".into(), table: "it's".into(), embedding: "v".into() };
        assert!(create_event(&place, "x", EVERY).contains(
            "'DO ml_refresh_embeddings(''`s`.`it''''s`'' AS table_name, ''v'' AS embedding_column, NULL AS batch_size, ''event'' AS caller)'"
        ));
        let l = layout(vec![SourceColumn { name: "body".into(), text: true }]);
        assert!(looks_like_ours(&trigger_body(&l).unwrap(), "v"));
        assert!(!looks_like_ours(&trigger_body(&l).unwrap(), "w"));
        let elsewhere = Place { schema: "other".into(), ..place.clone() };
        assert!(calls_for(&event_body(&elsewhere), &place) && !is_body(&event_body(&elsewhere), &event_body(&place)));
        assert!(
            !calls_for("DO 0", &place) && !calls_for(&event_body(&Place { table: "u".into(), ..elsewhere }), &place)
        );
        assert!(is_body("BEGIN SET NEW.`aa`bb` = NULL; END", "BEGIN SET NEW.`a``b` = NULL; END"));
        assert!(!is_body("DO 0", "BEGIN SET NEW.`a``b` = NULL; END"));
        // As the server shows a literal.
        assert!(is_body("PREPARE x FROM 'DO f('a')'", "PREPARE x FROM 'DO f(''a'')'"));
    }
}
