//! How rows whose text changes are marked, and how that is noticed: a trigger takes their vector away, and an event of
//! the server's scheduler calls the library.
//!
//! Both are in the table's own schema and go with it. The trigger holds plain SQL, so that the table can be written to
//! whatever becomes of the library, and does nothing once a column that it names is gone.

use sha2::{Digest, Sha256};

use super::layout::{quoted, Layout};
use crate::error::{Error, Result};

/// How often the event looks for rows, in seconds.
const EVERY: u32 = 10;

/// The name of a column's trigger and event.
pub fn name_of(table: &str, embedding: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(table.to_lowercase());
    hash.update([0]);
    hash.update(embedding.to_lowercase());
    let digest: String = hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("ml_embeddings_{digest}")
}

/// Trigger or event, as SQL.
pub fn qualified(schema: &str, table: &str, embedding: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(&name_of(table, embedding)))
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
pub fn create_trigger(layout: &Layout) -> Result<String> {
    Ok(format!(
        "CREATE TRIGGER {} BEFORE UPDATE ON {} FOR EACH ROW {}",
        qualified(&layout.schema, &layout.table, &layout.embedding),
        layout.name(),
        trigger_body(layout)?
    ))
}

/// The statement that makes the event. Once the library is uninstalled it does nothing.
pub fn create_event(layout: &Layout) -> String {
    format!(
        "CREATE EVENT {} ON SCHEDULE EVERY {EVERY} SECOND ON COMPLETION PRESERVE \
         COMMENT 'mysql-ml: embeds new and changed rows; CALL ai.drop_embedding_config removes it' \
         DO BEGIN DECLARE EXIT HANDLER FOR 1305 BEGIN END; DO ml_refresh_embeddings({}, {}, NULL, 'event'); END",
        qualified(&layout.schema, &layout.table, &layout.embedding),
        literal(&layout.name()),
        literal(&layout.embedding)
    )
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
        assert!(create_trigger(&l).is_err());
        assert!(create_trigger(&layout(Vec::new())).is_err());
    }

    #[test]
    fn names_are_those_of_the_column() {
        assert_eq!(name_of("T", "v"), name_of("t", "V"));
        assert_ne!(name_of("t", "v"), name_of("t2", "v"));
        assert_ne!(name_of("tv", "w"), name_of("t", "vw"));
        assert!(
            create_event(&layout(Vec::new())).contains("DO ml_refresh_embeddings('`s`.`it''s`', 'v', NULL, 'event')")
        );
    }
}
