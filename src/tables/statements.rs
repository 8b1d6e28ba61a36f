//! The statements that read rows of a table and write their vectors.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::layout::{quoted, KeyColumn, KeyKind, Layout, Takes};
use super::values;
use crate::mysql::session::{hex_literal, ResultSet, Row};
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::memory::Reservation;

/// A row's key, each value as a SQL literal.
pub type Key = Vec<String>;

/// A row to embed.
#[derive(Debug)]
pub struct Found {
    /// Its key.
    pub key: Key,
    /// Its text.
    pub content: Arc<str>,
    /// The reservation of their memory.
    pub share: Reservation,
}

/// The condition of rows without a vector, or with the vector of an older text. Where several columns are written, NULL may
/// be an answer: then the digest alone tells, or without one that all of them are NULL.
fn stale(layout: &Layout) -> String {
    let missing = layout.outputs().into_iter().map(|column| format!("{} IS NULL", quoted(column)));
    let missing = missing.collect::<Vec<_>>().join(" AND ");
    match &layout.hash {
        None if layout.fields.is_empty() => missing,
        None => format!("({missing})"),
        Some(hash) => {
            let column = quoted(&hash.name);
            let missing = if layout.fields.is_empty() { format!("{missing} OR ") } else { String::new() };
            format!("({missing}{column} IS NULL OR {column} <> {})", digest_of(layout))
        }
    }
}

/// The condition of rows with a vector and its digest, where they can be taken away.
fn has_value(layout: &Layout) -> Option<(String, String)> {
    let hash = layout.hash.as_ref().filter(|_| layout.nullable)?;
    let h = quoted(&hash.name);
    let has = match layout.fields.is_empty() {
        true => format!("{} IS NOT NULL AND {h} IS NOT NULL", quoted(&layout.embedding)),
        false => format!("{h} IS NOT NULL"),
    };
    Some((has, h))
}

/// Rows that need a value, their distinct texts, and the bytes of these.
pub fn measure(layout: &Layout, filter: Option<&str>) -> String {
    let filter = filter.map(|filter| format!(" AND (\n{filter}\n)")).unwrap_or_default();
    format!(
        "SELECT COALESCE(SUM(n), 0), COUNT(*), COALESCE(SUM(bytes), 0) FROM (SELECT COUNT(*) AS n, MAX(LENGTH(c)) AS bytes \
         FROM (SELECT {} AS c FROM {} WHERE {} AND {} IS NOT NULL{filter}) AS texts GROUP BY UNHEX(SHA2(c, 256))) AS distinct_texts",
        content_of(layout),
        layout.name(),
        stale(layout),
        layout.content
    )
}

/// Counts the rows that need a vector.
pub fn count(layout: &Layout) -> String {
    format!("SELECT COUNT(*) FROM {} WHERE {} AND {} IS NOT NULL", layout.name(), stale(layout), layout.content)
}

fn content_of(layout: &Layout) -> String {
    format!("CAST({} AS CHAR CHARACTER SET utf8mb4)", layout.content)
}

/// The digest of the row's current text, in the form of its column.
fn digest_of(layout: &Layout) -> String {
    let hex = format!("SHA2({}, 256)", content_of(layout));
    if layout.hash.as_ref().is_some_and(|h| h.binary) {
        format!("UNHEX({hex})")
    } else {
        hex
    }
}

/// A range of keys.
#[derive(Debug, Clone, Copy, Default)]
pub struct Between<'k> {
    /// Exclusive start.
    pub after: Option<&'k Key>,
    /// Inclusive end.
    pub until: Option<&'k Key>,
}

/// The key columns as they are selected.
pub(super) fn key_values(key: &[KeyColumn]) -> String {
    let keys: Vec<String> = key.iter().map(|k| key_value(k, &quoted(&k.name))).collect();
    keys.join(", ")
}

/// The value of a key's column as it is selected; `name` is the column as SQL.
pub(super) fn key_value(column: &KeyColumn, name: &str) -> String {
    match column.kind {
        // As a number, by which it is ordered; all as text, because results are text.
        KeyKind::Number => format!("CAST({name} + 0 AS CHAR)"),
        KeyKind::Double => format!("CAST(CAST({name} AS DOUBLE) AS CHAR)"),
        KeyKind::Text { .. } => format!("CONVERT({name} USING utf8mb4)"),
        KeyKind::Temporal(_) => format!("CAST({name} AS CHAR)"),
        KeyKind::Binary => name.to_owned(),
    }
}

/// The columns of a key, for ORDER BY.
pub(super) fn order(key: &[KeyColumn]) -> String {
    let order: Vec<String> = key.iter().map(|k| quoted(&k.name)).collect();
    order.join(", ")
}

/// At most `limit` keys after `after`, in order, of rows that may need a vector. Does not evaluate the content.
pub fn select_keys(layout: &Layout, after: Option<&Key>, limit: usize) -> String {
    let mut conditions = Vec::new();
    if layout.hash.is_none() {
        conditions.push(stale(layout));
    }
    conditions.extend(after.map(|after| beyond(&layout.key, after)));
    if conditions.is_empty() {
        conditions.push("TRUE".into());
    }
    format!(
        "SELECT {} FROM {} FORCE INDEX ({}) WHERE {} ORDER BY {} LIMIT {limit}",
        key_values(&layout.key),
        layout.name(),
        quoted(&layout.index),
        conditions.join(" AND "),
        order(&layout.key)
    )
}

/// Reads rows of [`select_keys`].
pub fn read_keys(layout: &Layout, result: ResultSet) -> Result<Vec<Key>> {
    result.rows.into_iter().map(|mut row| read_key(&layout.key, &mut row)).collect()
}

fn read_key(key: &[KeyColumn], row: &mut Row) -> Result<Key> {
    let columns = key.iter().enumerate();
    columns.map(|(i, column)| literal(&column.kind, take_key_value(row, i)?)).collect()
}

/// The bytes of a key's column in a row of [`key_values`].
pub(super) fn take_key_value(row: &mut Row, i: usize) -> Result<Vec<u8>> {
    row.take_bytes(i)?.ok_or_else(|| Error::internal("a column of a key is NULL"))
}

/// At most `limit` rows of a key range, in order, that need a vector: key columns, then the text.
pub fn select(layout: &Layout, filter: Option<&str>, between: Between<'_>, limit: usize) -> String {
    let mut conditions = vec![stale(layout), format!("{} IS NOT NULL", layout.content)];
    if let Some(filter) = filter {
        conditions.push(format!("(\n{filter}\n)"));
    }
    conditions.extend(between.after.map(|after| beyond(&layout.key, after)));
    conditions.extend(between.until.map(|until| format!("NOT {}", beyond(&layout.key, until))));
    format!(
        "SELECT {}, {} FROM {} FORCE INDEX ({}) WHERE {} ORDER BY {} LIMIT {limit}",
        key_values(&layout.key),
        content_of(layout),
        layout.name(),
        quoted(&layout.index),
        conditions.join(" AND "),
        order(&layout.key)
    )
}

/// `(a, b) > (x, y)` in a form for which the server uses a range scan.
pub(super) fn beyond(key: &[KeyColumn], after: &Key) -> String {
    let mut condition = String::new();
    for (column, value) in key.iter().zip(after).rev() {
        let name = quoted(&column.name);
        condition = if condition.is_empty() {
            format!("({name} > {value})")
        } else {
            format!("({name} >= {value} AND ({name} > {value} OR {condition}))")
        };
    }
    condition
}

/// Reads rows of [`select`]: rows with a text, rows whose bytes are not text, and the last key.
#[allow(clippy::type_complexity)]
pub fn read(layout: &Layout, result: ResultSet) -> Result<(Vec<Found>, Vec<Found>, Option<Key>)> {
    let mut share = result.share;
    let (mut good, mut bad, mut last) = (Vec::new(), Vec::new(), None);
    for mut row in result.rows {
        let key = read_key(&layout.key, &mut row)?;
        // The server returns NULL for bytes that are not text.
        let content = row.take_bytes(layout.key.len())?.and_then(|bytes| String::from_utf8(bytes).ok());
        let bytes = content.as_ref().map_or(0, String::len) + key.iter().map(String::len).sum::<usize>();
        let own = share.split(bytes);
        last = Some(key.clone());
        match content {
            Some(content) => good.push(Found { key, content: content.into(), share: own }),
            None => bad.push(Found { key, content: Arc::from(""), share: own }),
        }
    }
    Ok((good, bad, last))
}

/// The literal of a value of [`key_values`].
pub(super) fn literal(kind: &KeyKind, value: Vec<u8>) -> Result<String> {
    Ok(match kind {
        KeyKind::Number | KeyKind::Double => {
            let plain = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
            let text = String::from_utf8(value).ok().filter(|t| !t.is_empty() && t.bytes().all(|b| plain(&b)));
            text.ok_or_else(|| Error::internal("a number of a key is none"))?
        }
        KeyKind::Text { .. } | KeyKind::Temporal(_) if value.is_empty() => "_utf8mb4 ''".into(),
        KeyKind::Text { .. } | KeyKind::Temporal(_) => format!("_utf8mb4 {}", hex_literal(&value)),
        KeyKind::Binary => format!("_binary {}", hex_literal(&value)),
    })
}

/// A row's key for the table of failures: a JSON object of literals.
pub fn display_key(layout: &Layout, found: &Found) -> String {
    let values = layout.key.iter().zip(&found.key).map(|(column, literal)| {
        let text = match literal.split_once(" x'").and_then(|(_, hex)| hex.strip_suffix('\'')) {
            Some(hex) if matches!(column.kind, KeyKind::Binary) => format!("0x{hex}"),
            Some(hex) => String::from_utf8_lossy(&unhex(hex)).into_owned(),
            None => literal.trim_start_matches("_utf8mb4 ").trim_matches('\'').to_owned(),
        };
        (column.name.clone(), serde_json::Value::String(text))
    });
    serde_json::Value::Object(values.collect()).to_string()
}

/// The bytes of hexadecimal digits.
pub fn unhex(text: &str) -> Vec<u8> {
    let digit = |b: u8| (b as char).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes().as_chunks::<2>().0.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)).collect()
}

/// The statement of [`update`] for no row, to find errors that concern all rows.
pub fn update_nothing(layout: &Layout) -> Vec<u8> {
    let key = layout.key.iter().map(|_| "NULL".to_owned()).collect();
    let nothing = Found { key, content: Arc::from(""), share: Reservation::default() };
    let mut statement = update(layout, &[(&nothing, &[])]);
    statement.extend_from_slice(b" AND FALSE");
    statement
}

/// The UPDATE that writes vectors to rows whose text is unchanged. Rows edited or filled by others meanwhile are left
/// alone.
pub fn update(layout: &Layout, rows: &[(&Found, &[u8])]) -> Vec<u8> {
    let rows: Vec<(&Found, Option<&[u8]>)> = rows.iter().map(|(found, vector)| (*found, Some(*vector))).collect();
    write(layout, &rows, "mysql_ml_new.mysql_ml_digest", &stale(layout))
}

/// The UPDATE that removes vectors of an older text from rows whose new text failed. `None` without a digest, or if the
/// column is NOT NULL.
pub fn clear(layout: &Layout, rows: &[&Found]) -> Option<Vec<u8>> {
    let other = of_another_text(layout)?;
    let rows: Vec<(&Found, Option<&[u8]>)> = rows.iter().map(|found| (*found, None)).collect();
    Some(write(layout, &rows, "NULL", &other))
}

/// The UPDATE that removes vectors from at most `limit` rows without a text.
pub fn clear_without_text(layout: &Layout, filter: Option<&str>, limit: usize) -> Option<String> {
    let (has, h) = has_value(layout)?;
    let nothing: String = layout.outputs().into_iter().map(|column| format!("{} = NULL, ", quoted(column))).collect();
    let kept: String = layout.touched.iter().map(|c| format!(", {0} = {0}", quoted(c))).collect();
    let filter = filter.map(|filter| format!(" AND (\n{filter}\n)")).unwrap_or_default();
    Some(format!(
        "UPDATE {} SET {nothing}{h} = NULL{kept} WHERE {has} AND {} IS NULL{filter} LIMIT {limit}",
        layout.name(),
        layout.content
    ))
}

/// The condition of rows whose digest differs from their text.
fn of_another_text(layout: &Layout) -> Option<String> {
    let (has, h) = has_value(layout)?;
    Some(format!("{has} AND {h} <> {}", digest_of(layout)))
}

/// The names of a key's columns in a derived table of keys.
pub(super) fn key_names(key: &[KeyColumn]) -> String {
    let names: Vec<String> = (0..key.len()).map(|i| format!("mysql_ml_key_{i}")).collect();
    names.join(", ")
}

/// The condition by which rows of `table` match those of a derived table `keys` with the columns of [`key_names`].
pub(super) fn matching(key: &[KeyColumn], table: &str, keys: &str) -> String {
    let matches = key.iter().enumerate().map(|(i, key)| {
        let value = format!("{keys}.mysql_ml_key_{i}");
        let value = match &key.kind {
            KeyKind::Text { charset, collation } => format!("CONVERT({value} USING {charset}) COLLATE {collation}"),
            KeyKind::Temporal(cast) => format!("CAST({value} AS {cast})"),
            KeyKind::Number | KeyKind::Double | KeyKind::Binary => value,
        };
        format!("{table}.{} = {value}", quoted(&key.name))
    });
    matches.collect::<Vec<_>>().join(" AND ")
}

/// Writes a value as a literal; none as NULL.
fn write_value(sql: &mut Vec<u8>, value: Option<&[u8]>, backslash: bool) {
    let Some(value) = value else { return sql.extend_from_slice(b"NULL") };
    sql.extend_from_slice(b"_binary'");
    for byte in value {
        // Doubled quotes are right in every sql_mode; backslashes are not.
        if *byte == b'\'' || (*byte == b'\\' && backslash) {
            sql.push(*byte);
        }
        sql.push(*byte);
    }
    sql.push(b'\'');
}

/// Sets vector and digest of rows with unchanged text that meet the condition; NULL for rows without a vector.
fn write(layout: &Layout, rows: &[(&Found, Option<&[u8]>)], digest: &str, condition: &str) -> Vec<u8> {
    let size: usize = rows.iter().map(|(_, v)| v.map_or(0, |v| v.len() + v.len() / 32) + 256).sum();
    let mut sql = Vec::with_capacity(size + 1024);
    let backslash = !layout.meaning.has_mode("NO_BACKSLASH_ESCAPES");
    sql.extend_from_slice(b"UPDATE (VALUES ");
    for (i, (found, vector)) in rows.iter().enumerate() {
        sql.extend_from_slice(if i == 0 { b"ROW(" } else { b",ROW(" });
        for value in &found.key {
            sql.extend_from_slice(value.as_bytes());
            sql.push(b',');
        }
        if layout.fields.is_empty() {
            write_value(&mut sql, *vector, backslash);
        } else {
            let mut values = values::divided(vector.unwrap_or_default());
            for i in 0..layout.fields.len() {
                if i > 0 {
                    sql.push(b',');
                }
                write_value(&mut sql, values.next().flatten(), backslash);
            }
        }
        sql.extend_from_slice(b",");
        sql.extend_from_slice(hex_literal(&Sha256::digest(found.content.as_bytes())).as_bytes());
        sql.extend_from_slice(b")");
    }
    let names = key_names(&layout.key);
    let table = layout.name();
    let column = |name: &str| format!("{table}.{}", quoted(name));
    let new: Vec<String> = match layout.fields.len() {
        0 => vec!["mysql_ml_vector".to_owned()],
        count => (0..count).map(|i| format!("mysql_ml_value_{i}")).collect(),
    };
    let clears = rows.iter().all(|(_, vector)| vector.is_none());
    let sets = layout.outputs().into_iter().zip(&new).map(|(output, new)| match layout.takes {
        _ if clears => format!("{} = NULL", column(output)),
        Takes::Vectors(_) => format!("{} = mysql_ml_new.{new}", column(output)),
        Takes::Values => format!("{} = CONVERT(mysql_ml_new.{new} USING utf8mb4)", column(output)),
    });
    let mut set = sets.collect::<Vec<_>>().join(", ");
    if let Some(hash) = &layout.hash {
        let digest = if hash.binary { digest.to_owned() } else { format!("LOWER(HEX({digest}))") };
        set.push_str(&format!(", {} = {digest}", column(&hash.name)));
    }
    for kept in &layout.touched {
        set.push_str(&format!(", {0} = {0}", column(kept)));
    }
    let tail = format!(
        ") AS mysql_ml_new ({}, {}, mysql_ml_digest) STRAIGHT_JOIN {table} FORCE INDEX ({}) ON {} SET {set} \
         WHERE UNHEX(SHA2({}, 256)) = mysql_ml_new.mysql_ml_digest AND {condition}",
        names,
        new.join(", "),
        // The server would scan a table without statistics for each write.
        quoted(&layout.index),
        matching(&layout.key, &table, "mysql_ml_new"),
        content_of(layout)
    );
    sql.extend_from_slice(tail.as_bytes());
    sql
}

#[cfg(test)]
mod tests {
    use super::super::layout::{FieldColumn, FieldKind, HashColumn, KeyColumn};
    use super::*;

    fn layout() -> Layout {
        Layout {
            schema: "s".into(),
            table: "t".into(),
            key: vec![
                KeyColumn { name: "a".into(), kind: KeyKind::Number },
                KeyColumn {
                    name: "b".into(),
                    kind: KeyKind::Text { charset: "latin1".into(), collation: "latin1_swedish_ci".into() },
                },
            ],
            index: "PRIMARY".into(),
            embedding: "v".into(),
            takes: crate::tables::layout::Takes::Vectors(8),
            fields: Vec::new(),
            hash: None,
            content: "`body`".into(),
            sources: Vec::new(),
            nullable: true,
            touched: Vec::new(),
            meaning: crate::mysql::meaning::Meaning::default(),
            constant: false,
        }
    }

    #[test]
    fn pages_follow_the_key() {
        let l = layout();
        let after = vec!["3".into(), "_utf8mb4 x'78'".into()];
        let sql = select(&l, Some("c = 1"), Between { after: Some(&after), until: None }, 10);
        assert_eq!(
            sql,
            "SELECT CAST(`a` + 0 AS CHAR), CONVERT(`b` USING utf8mb4), CAST(`body` AS CHAR CHARACTER SET utf8mb4) FROM `s`.`t` FORCE INDEX (`PRIMARY`) \
             WHERE `v` IS NULL AND `body` IS NOT NULL AND (\nc = 1\n) AND (`a` >= 3 AND (`a` > 3 OR (`b` > _utf8mb4 x'78'))) \
             ORDER BY `a`, `b` LIMIT 10"
        );
    }

    #[test]
    fn vectors_are_written_as_bytes_to_rows_that_are_as_they_were() {
        let mut l = layout();
        l.hash = Some(HashColumn { name: "h".into(), binary: true });
        let found =
            Found { key: vec!["1".into(), "_utf8mb4 ''".into()], content: "x".into(), share: Reservation::default() };
        let sql = String::from_utf8_lossy(&update(&l, &[(&found, b"'\\\0a")])).into_owned();
        assert!(sql.starts_with("UPDATE (VALUES ROW(1,_utf8mb4 '',_binary'''\\\\\0a',x'2d711642"), "{sql}");
        assert!(sql.contains("CONVERT(mysql_ml_new.mysql_ml_key_1 USING latin1) COLLATE latin1_swedish_ci"), "{sql}");
        assert!(sql.contains("`s`.`t`.`h` = mysql_ml_new.mysql_ml_digest WHERE UNHEX(SHA2("), "{sql}");
    }

    #[test]
    fn a_vector_goes_with_its_text() {
        let mut l = layout();
        let found =
            Found { key: vec!["1".into(), "_utf8mb4 ''".into()], content: "".into(), share: Reservation::default() };
        assert_eq!(clear(&l, &[&found]), None, "without a digest that cannot be told");
        l.hash = Some(HashColumn { name: "h".into(), binary: false });
        l.touched = vec!["at".into()];
        let sql = String::from_utf8(clear(&l, &[&found]).unwrap()).unwrap();
        assert!(
            sql.contains("SET `s`.`t`.`v` = NULL, `s`.`t`.`h` = LOWER(HEX(NULL)), `s`.`t`.`at` = `s`.`t`.`at` "),
            "{sql}"
        );
        assert!(sql.ends_with("AND `v` IS NOT NULL AND `h` IS NOT NULL AND `h` <> SHA2(CAST(`body` AS CHAR CHARACTER SET utf8mb4), 256)"), "{sql}");
        assert_eq!(
            clear_without_text(&l, Some("a > 1"), 10).unwrap(),
            "UPDATE `s`.`t` SET `v` = NULL, `h` = NULL, `at` = `at` WHERE `v` IS NOT NULL AND `h` IS NOT NULL AND `body` IS NULL AND (\na > 1\n) LIMIT 10"
        );
        l.nullable = false;
        assert_eq!(clear(&l, &[&found]), None);
    }

    #[test]
    fn fields_go_into_their_columns_and_may_be_null() {
        let mut l = layout();
        l.takes = Takes::Values;
        let column = |name: &str, kind| FieldColumn { field: name.into(), column: name.into(), kind };
        l.fields = vec![column("v", FieldKind::Text), column("n", FieldKind::Whole)];
        assert_eq!(stale(&l), "(`v` IS NULL AND `n` IS NULL)");
        l.hash = Some(HashColumn { name: "h".into(), binary: false });
        assert_eq!(
            stale(&l),
            "(`h` IS NULL OR `h` <> SHA2(CAST(`body` AS CHAR CHARACTER SET utf8mb4), 256))",
            "a column may be NULL after an answer"
        );
        let found =
            Found { key: vec!["1".into(), "_utf8mb4 ''".into()], content: "".into(), share: Reservation::default() };
        let values = values::joined([None, Some(&b"7"[..])].into_iter());
        let sql = String::from_utf8(update(&l, &[(&found, &values)])).unwrap();
        assert!(sql.starts_with("UPDATE (VALUES ROW(1,_utf8mb4 '',NULL,_binary'7',x'e3b0"), "{sql}");
        assert!(sql.contains("(mysql_ml_key_0, mysql_ml_key_1, mysql_ml_value_0, mysql_ml_value_1, mysql_ml_digest)"));
        assert!(
            sql.contains("SET `s`.`t`.`v` = CONVERT(mysql_ml_new.mysql_ml_value_0 USING utf8mb4), `s`.`t`.`n` = CONVERT(mysql_ml_new.mysql_ml_value_1 USING utf8mb4), `s`.`t`.`h` = "),
            "{sql}"
        );
        let sql = String::from_utf8(clear(&l, &[&found]).unwrap()).unwrap();
        assert!(
            sql.contains("SET `s`.`t`.`v` = NULL, `s`.`t`.`n` = NULL, `s`.`t`.`h` = LOWER(HEX(NULL)) WHERE"),
            "{sql}"
        );
        assert!(sql.contains("AND `h` IS NOT NULL AND `h` <> SHA2("), "{sql}");
    }

    #[test]
    fn keys_are_displayed_as_people_write_them() {
        let found = Found {
            key: vec!["7".into(), "_utf8mb4 x'c3a9'".into()],
            content: "".into(),
            share: Reservation::default(),
        };
        assert_eq!(display_key(&layout(), &found), r#"{"a":"7","b":"é"}"#);
    }
}
