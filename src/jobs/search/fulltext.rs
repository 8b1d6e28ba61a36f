//! Searches by words: the FULLTEXT index of a table's columns, and its part of a statement.

use serde_json::Value;

use crate::jobs::rights::as_account;
use crate::mysql::session::hex_literal;
use crate::mysql::sql::As;
use crate::tables::keyed::Keyed;
use crate::tables::layout::{is_named, quoted};
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_core::catalog::members::{self, Members};

/// The most columns of an option.
const MOST_COLUMNS: usize = 16;
/// The longest text to search words of, bytes.
const LONGEST_TEXT: usize = 16 << 10;

/// Takes an option that is the name of a column or an array of names; empty if it is not given.
pub fn take_columns(members: &mut Members, name: &str) -> Result<Vec<String>> {
    let columns = |value: Value| match value {
        Value::String(name) => Some(vec![name]),
        Value::Array(names) if (1..=MOST_COLUMNS).contains(&names.len()) => {
            names.into_iter().map(|name| name.as_str().map(str::to_owned)).collect()
        }
        _ => None,
    };
    let takes = format!("a column or an array of at most {MOST_COLUMNS} columns");
    Ok(members::take(members, name, &takes, columns)?.unwrap_or_default())
}

/// The columns of an option, as the table spells them, each once.
pub fn columns_of(keyed: &Keyed, option: &str, names: &[String]) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        let column = keyed.columns.iter().find(|column| is_named(column, name)).ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("option {option}: {} has no column '{}'; check its name", keyed.name(), cut(name, 64)),
            )
        })?;
        if !found.contains(column) {
            found.push(column.clone());
        }
    }
    Ok(found)
}

/// Columns as the text of a row, in SQL: their values as text, one a line. NULL columns are left out.
pub fn text_of_columns(keyed: &Keyed, columns: &[String]) -> String {
    let value = |column: &String| format!("CONVERT({}.{} USING utf8mb4)", keyed.name(), quoted(column));
    let values: Vec<String> = columns.iter().map(value).collect();
    match values.as_slice() {
        [value] => value.clone(),
        // A line's end, whatever the sql_mode makes of a backslash.
        _ => format!("CONCAT_WS(_utf8mb4 x'0a', {})", values.join(", ")),
    }
}

/// The relevance of a row for the words of a text, as SQL. An error unless the columns have a FULLTEXT index.
pub fn relevance(keyed: &Keyed, columns: &[String], text: &str, interrupt: &dyn Interrupt) -> Result<String> {
    if text.len() > LONGEST_TEXT {
        return Err(Error::new(
            Kind::TooLarge,
            format!("the text of the search has {} bytes; its words are searched up to {LONGEST_TEXT}", text.len()),
        ));
    }
    let charset = charset_of_index(keyed, columns, interrupt)?;
    let literal = match charset.as_str() {
        "utf8mb4" => format!("_utf8mb4 {}", hex_literal(text.as_bytes())),
        // The columns' own: a character that they cannot hold is no error.
        other => format!("CONVERT(_utf8mb4 {} USING {other})", hex_literal(text.as_bytes())),
    };
    let columns: Vec<String> = columns.iter().map(|c| format!("{}.{}", keyed.name(), quoted(c))).collect();
    Ok(format!("MATCH ({}) AGAINST ({literal} IN NATURAL LANGUAGE MODE)", columns.join(", ")))
}

/// The character set of the columns, which have a FULLTEXT index together.
fn charset_of_index(keyed: &Keyed, columns: &[String], interrupt: &dyn Interrupt) -> Result<String> {
    let (schema, table) = (keyed.schema.clone(), keyed.table.clone());
    let readable = format!(
        "SELECT {} FROM {} WHERE FALSE",
        columns.iter().map(|c| quoted(c)).collect::<Vec<_>>().join(", "),
        keyed.name()
    );
    let parts: Vec<(String, String, Option<String>)> = as_account(&As::Caller, interrupt, move |s| {
        s.run(readable.as_bytes())?;
        let found = s.query(
            "SELECT i.INDEX_NAME, i.COLUMN_NAME, c.CHARACTER_SET_NAME FROM information_schema.STATISTICS AS i \
             JOIN information_schema.COLUMNS AS c USING (TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME) \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND i.INDEX_TYPE = 'FULLTEXT' AND i.IS_VISIBLE = 'YES'",
            &[schema.as_str().into(), table.as_str().into()],
        )?;
        found.rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).collect()
    })?;
    let of =
        |name: &str| parts.iter().filter(|(index, ..)| index == name).map(|(_, column, _)| column).collect::<Vec<_>>();
    let found = parts.iter().find(|(index, ..)| {
        let indexed = of(index);
        indexed.len() == columns.len() && columns.iter().all(|column| indexed.contains(&column))
    });
    let Some((_, _, charset)) = found else {
        let list = columns.iter().map(|c| quoted(c)).collect::<Vec<_>>().join(", ");
        return Err(Error::new(
            Kind::NotFound,
            format!(
                "option text_column: no FULLTEXT index is on just these columns: {list}; ALTER TABLE {} ADD FULLTEXT ({list})",
                keyed.name()
            ),
        ));
    };
    let charset = charset.clone().unwrap_or_default();
    let plain = !charset.is_empty() && charset.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain {
        Ok(charset)
    } else {
        Err(Error::internal("a FULLTEXT index on a column without character set"))
    }
}
