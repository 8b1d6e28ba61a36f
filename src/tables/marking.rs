//! Trigger and event of automatic embeddings: the trigger sets the vector of a changed row to NULL, the event calls the
//! library.
//!
//! Both belong to the table's schema. The trigger is plain SQL, so writes work without the library. It does nothing
//! once a column that it names is gone.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use super::layout::{quoted, Layout};
use crate::tables::configs::Place;
use mysql_ml_base::error::{Error, Result};

/// The default interval of the event.
pub const EVERY: &str = "10 SECOND";

/// Prefix of the names of triggers and events.
pub const PREFIX: &str = "ml_embeddings_";

/// A random name for a column's trigger and event. Another account could take a predictable one first, on a table of
/// its own.
pub fn new_name() -> String {
    format!("{PREFIX}{}", random())
}

/// 16 random hexadecimal digits.
pub fn random() -> String {
    // Keys of the hash are the operating system's random numbers.
    format!("{:016x}", RandomState::new().hash_one(std::time::SystemTime::now()))
}

/// A name that no column has: a statement about it fails after the server's check of rights.
pub fn no_column() -> String {
    format!("mysql_ml_none_{}", random())
}

/// Trigger or event, as SQL.
pub fn qualified(schema: &str, object: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(object))
}

/// The trigger's body: sets the vector to NULL if a column of the text changes and the vector does not.
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

/// The CREATE TRIGGER statement.
pub fn create_trigger(layout: &Layout, object: &str) -> Result<String> {
    Ok(format!(
        "CREATE TRIGGER {} BEFORE UPDATE ON {} FOR EACH ROW {}",
        qualified(&layout.schema, object),
        layout.name(),
        trigger_body(layout)?
    ))
}

/// The event's body. It does nothing once the library is uninstalled.
pub fn event_body(place: &Place) -> String {
    let call = format!(
        "DO ml_refresh_embeddings({} AS table_name, {} AS embedding_column, NULL AS batch_size, 'event' AS caller)",
        literal(&format!("{}.{}", quoted(&place.schema), quoted(&place.table))),
        literal(&place.embedding)
    );
    calling(&call)
}

/// The body of an event that runs a statement with named arguments, and does nothing without the library.
///
/// The server accepts named arguments for loadable functions only. Otherwise another account's stored function of that
/// name in the schema would run as the event's definer once the library is uninstalled. The statement is prepared,
/// because without the library the server does not even parse such arguments (error 1584).
pub fn calling(statement: &str) -> String {
    format!(
        "BEGIN DECLARE EXIT HANDLER FOR 1305, 1584 BEGIN END; PREPARE mysql_ml FROM {}; EXECUTE mysql_ml; END",
        literal(statement)
    )
}

/// The CREATE EVENT statement.
pub fn create_event(place: &Place, object: &str, every: &str) -> String {
    format!(
        "CREATE EVENT {} ON SCHEDULE EVERY {every} ON COMPLETION PRESERVE \
         COMMENT 'mysql-ml: embeds new and changed rows; CALL ai.drop_embedding_config removes it' DO {}",
        qualified(&place.schema, object),
        event_body(place)
    )
}

/// A body in comparable form: the server removes one level of escapes from literals when it displays a body. Only
/// bodies of the same definer are compared.
fn bare(body: &str) -> String {
    body.trim().chars().filter(|c| !matches!(c, '\'' | '`' | '\\')).collect()
}

/// Whether `displayed` is the server's display of a trigger or event created with the body `made`.
pub fn is_body(displayed: &str, made: &str) -> bool {
    // The server garbles a name with a backquote (a`b as aa`bb): then only the text around names is compared.
    if made.contains("``") {
        let begin = made.split('`').next().unwrap_or_default();
        let end = made.rsplit('`').next().unwrap_or_default();
        return bare(displayed).starts_with(&bare(begin)) && bare(displayed).ends_with(&bare(end));
    }
    bare(displayed) == bare(made)
}

/// Whether a trigger may come from [`trigger_body`], for any columns.
pub fn looks_like_ours(displayed: &str, embedding: &str) -> bool {
    let (displayed, v) = (bare(displayed), bare(embedding));
    let begin = format!("BEGIN DECLARE EXIT HANDLER FOR 1054 BEGIN END; IF NEW.{v} <=> OLD.{v} AND NOT (");
    displayed.starts_with(&begin) && displayed.ends_with(&format!(") THEN SET NEW.{v} = NULL; END IF; END"))
}

/// Whether an event comes from [`event_body`] for this column and table name, in any schema: a schema restored under
/// another name keeps the old events.
pub fn calls_for(displayed: &str, place: &Place) -> bool {
    let displayed = bare(displayed);
    let made = |schema: &str| bare(&event_body(&Place { schema: schema.to_owned(), ..place.clone() }));
    let (begin, end) = (made(""), made(""));
    let point = begin.find('.').unwrap_or(0);
    displayed.starts_with(begin.get(..point).unwrap_or_default())
        && displayed.ends_with(end.get(point..).unwrap_or_default())
}

/// A name as a readable literal, for the fixed `sql_mode` of the library's sessions.
pub fn literal(text: &str) -> String {
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
            takes: crate::tables::layout::Takes::Vectors(8),
            fields: Vec::new(),
            hash: None,
            content: "`body`".into(),
            sources,
            nullable: true,
            touched: Vec::new(),
            meaning: crate::mysql::meaning::Meaning::default(),
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
        // As the server displays a literal.
        assert!(is_body("PREPARE x FROM 'DO f('a')'", "PREPARE x FROM 'DO f(''a'')'"));
    }
}
