//! A table with a key and a column of vectors, as the vector index reads it.
//!
//! A row's key is kept in the index as bytes: the value of a key of one column; `LENGTH:VALUE` of each column of a longer
//! one. The same bytes are made here and, in SQL, by the triggers.

use super::layout::{columns_of, is_named, key_of, quoted, unquoted, vector_width, Column, KeyColumn, KeyKind};
use super::statements::{self, Key};
use crate::mysql::session::{hex, ResultSet, Row, Session};
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::memory::Reservation;

/// A table with a key and a column of vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Keyed {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The columns of the key, in its order.
    pub key: Vec<KeyColumn>,
    /// The index of the key.
    pub index: String,
    /// The column of the vectors.
    pub column: String,
    /// The most dimensions that it takes.
    pub width: usize,
    /// All columns of the table.
    pub columns: Vec<String>,
}

/// A row's key and vector.
#[derive(Debug)]
pub struct KeyedVector {
    /// Its key, as the index keeps it.
    pub key: Vec<u8>,
    /// The bytes of its vector.
    pub vector: Vec<u8>,
}

/// Rows that were read.
#[derive(Debug, Default)]
pub struct KeyedRows {
    /// The rows.
    pub rows: Vec<KeyedVector>,
    /// The last one's key.
    pub last: Option<Key>,
    /// The reservation of their memory.
    pub share: Reservation,
}

/// Texts and key of a table as its columns are declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Texts {
    /// The character set of the texts.
    pub charset: String,
    /// Their collation.
    pub collation: String,
    /// Of each column of the key: its name, type, and collation if it has one.
    pub key: Vec<(String, String, Option<String>)>,
}

fn named<'c>(columns: &'c [Column], column: &str, schema: &str, table: &str) -> Result<&'c Column> {
    columns.iter().find(|c| is_named(&c.name, column)).ok_or_else(|| {
        let column = unquoted(column);
        let column = cut(&column, 64);
        Error::new(Kind::NotFound, format!("table {schema}.{table} has no column '{column}'; check its name"))
    })
}

impl Keyed {
    /// Looks the table up with the session's rights. `column` may be in backquotes.
    pub fn look_up(s: &mut Session, table: &str, column: &str) -> Result<Self> {
        let (schema, table, columns) = columns_of(s, table)?;
        let vectors = named(&columns, column, &schema, &table)?;
        let width = vector_width(vectors, &schema, &table)?;
        let column = vectors.name.clone();
        Self::with_key(s, schema, table, columns, column, width)
    }

    /// The same for a table with a column of texts in the place of that of vectors.
    pub fn look_up_texts(s: &mut Session, table: &str, column: &str) -> Result<(Self, Texts)> {
        let (schema, table, columns) = columns_of(s, table)?;
        let texts = named(&columns, column, &schema, &table)?;
        let is_text =
            matches!(texts.data_type.as_str(), "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext");
        let (Some(charset), Some(collation), true) = (&texts.charset, &texts.collation, is_text) else {
            return Err(Error::invalid(format!(
                "column {} of {schema}.{table} is of type {}; texts are in CHAR, VARCHAR and TEXT columns",
                texts.name, texts.data_type
            )));
        };
        let found = Texts { charset: charset.clone(), collation: collation.clone(), key: Vec::new() };
        let described: Vec<_> =
            columns.iter().map(|c| (c.name.clone(), c.column_type.clone(), c.collation.clone())).collect();
        let column = texts.name.clone();
        let keyed = Self::with_key(s, schema, table, columns, column, 0)?;
        let of = |k: &KeyColumn| described.iter().find(|(name, ..)| *name == k.name).cloned();
        let key = keyed.key.iter().filter_map(of).collect();
        Ok((keyed, Texts { key, ..found }))
    }

    fn with_key(
        s: &mut Session,
        schema: String,
        table: String,
        columns: Vec<Column>,
        column: String,
        width: usize,
    ) -> Result<Self> {
        let (index, key) = key_of(s, &schema, &table, &columns)?;
        if let Some(time) = key.iter().find(|k| columns.iter().any(|c| c.name == k.name && c.data_type == "timestamp"))
        {
            return Err(Error::invalid(format!(
                "column {} of the key is a TIMESTAMP, whose text depends on the session's time zone; use DATETIME, or another key",
                time.name
            )));
        }
        let columns = columns.into_iter().map(|c| c.name).collect();
        Ok(Keyed { schema, table, key, index, column, width, columns })
    }

    /// The table's name as SQL.
    pub fn name(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    /// The server's error if the session may not read key and vectors; no row is read.
    pub fn must_be_readable(&self, s: &mut Session) -> Result<()> {
        let statement = format!(
            "SELECT {}, {} FROM {} WHERE FALSE",
            statements::key_values(&self.key),
            quoted(&self.column),
            self.name()
        );
        s.run(statement.as_bytes()).map(|_| ())
    }

    /// At most `limit` rows after `after`, in the key's order: key columns, then the vector. Rows without one are left out.
    pub fn select_page(&self, after: Option<&Key>, limit: usize) -> String {
        let beyond = after.map(|after| format!(" AND {}", statements::beyond(&self.key, after))).unwrap_or_default();
        format!(
            "SELECT {}, {1} FROM {2} FORCE INDEX ({3}) WHERE {1} IS NOT NULL{beyond} ORDER BY {4} LIMIT {limit}",
            statements::key_values(&self.key),
            quoted(&self.column),
            self.name(),
            quoted(&self.index),
            statements::order(&self.key)
        )
    }

    /// The rows of these keys that have a vector.
    pub fn select_rows(&self, keys: &[Key]) -> String {
        let table = self.name();
        let values = self.key.iter().map(|k| statements::key_value(k, &format!("{table}.{}", quoted(&k.name))));
        format!(
            "SELECT {}, {table}.{1} FROM {2} STRAIGHT_JOIN {table} FORCE INDEX ({3}) ON {4} WHERE {table}.{1} IS NOT NULL",
            values.collect::<Vec<_>>().join(", "),
            quoted(&self.column),
            self.derived(keys.iter().map(|key| (key, None))),
            quoted(&self.index),
            statements::matching(&self.key, &table, KEYS),
        )
    }

    /// A derived table of keys, named [`KEYS`]: each key's columns, and a number if there is one.
    pub fn derived<'k>(&self, keys: impl Iterator<Item = (&'k Key, Option<usize>)>) -> String {
        let mut keys = keys.peekable();
        let numbered = matches!(keys.peek(), Some((_, Some(_))));
        let keys = keys.map(|(key, number)| (key, number.map_or_else(String::new, |number| format!(",{number}"))));
        self.derived_with(keys, if numbered { ", mysql_ml_number" } else { "" })
    }

    /// The same with more columns: `names` and each key's literals begin with a comma.
    pub fn derived_with<'k>(&self, keys: impl Iterator<Item = (&'k Key, impl AsRef<str>)>, names: &str) -> String {
        let mut sql = String::from("(VALUES ");
        for (i, (key, more)) in keys.enumerate() {
            sql.push_str(if i == 0 { "ROW(" } else { ",ROW(" });
            sql.push_str(&key.join(","));
            sql.push_str(more.as_ref());
            sql.push(')');
        }
        sql.push_str(&format!(") AS {KEYS} ({}{names})", statements::key_names(&self.key)));
        sql
    }

    /// The key of a row as a JSON object, in SQL; bytes as hexadecimal digits.
    pub fn json_key(&self, table: &str) -> String {
        let members = self.key.iter().map(|k| {
            let column = format!("{table}.{}", quoted(&k.name));
            let value = match k.kind {
                KeyKind::Number | KeyKind::Double => column,
                KeyKind::Binary => format!("HEX({column})"),
                KeyKind::Text { .. } | KeyKind::Temporal(_) => statements::key_value(k, &column),
            };
            let name = crate::mysql::session::hex_literal(k.name.as_bytes());
            format!("_utf8mb4 {name}, {value}")
        });
        format!("JSON_OBJECT({})", members.collect::<Vec<_>>().join(", "))
    }

    /// The key's columns, for GROUP BY.
    pub fn key_columns(&self, table: &str) -> String {
        let columns = self.key.iter().map(|k| format!("{table}.{}", quoted(&k.name)));
        columns.collect::<Vec<_>>().join(", ")
    }

    /// The condition by which rows of the table match [`Self::derived`].
    pub fn matching(&self, table: &str) -> String {
        statements::matching(&self.key, table, KEYS)
    }

    /// The table joined to a query of its keys, in the order of the query.
    pub fn joined(&self, keys: &str) -> String {
        let table = self.name();
        // Of the same types: nothing is converted.
        let equal =
            self.key.iter().enumerate().map(|(i, k)| format!("{table}.{} = {KEYS}.mysql_ml_key_{i}", quoted(&k.name)));
        format!(
            "({keys}) AS {KEYS} ({}) STRAIGHT_JOIN {table} FORCE INDEX ({}) ON {}",
            statements::key_names(&self.key),
            quoted(&self.index),
            equal.collect::<Vec<_>>().join(" AND ")
        )
    }

    /// Reads rows of [`Self::select_page`] and [`Self::select_rows`].
    pub fn read(&self, result: ResultSet) -> Result<KeyedRows> {
        let mut rows = Vec::with_capacity(result.rows.len());
        let mut last = None;
        let count = result.rows.len();
        for (n, mut row) in result.rows.into_iter().enumerate() {
            let values = self.key.iter().enumerate().map(|(i, _)| statements::take_key_value(&mut row, i));
            let values = values.collect::<Result<Vec<_>>>()?;
            if n + 1 == count {
                let literals = self.key.iter().zip(&values).map(|(k, v)| statements::literal(&k.kind, v.clone()));
                last = Some(literals.collect::<Result<Key>>()?);
            }
            rows.push(KeyedVector { key: encode(values), vector: self.vector(&mut row)? });
        }
        Ok(KeyedRows { rows, last, share: result.share })
    }

    fn vector(&self, row: &mut Row) -> Result<Vec<u8>> {
        row.take_bytes(self.key.len())?.ok_or_else(|| Error::internal("a vector is NULL"))
    }

    /// The values of a key's columns.
    pub fn values(&self, key: &[u8]) -> Result<Vec<Vec<u8>>> {
        decode(key, self.key.len()).ok_or_else(|| {
            Error::new(
                Kind::Invalid,
                format!("a key in the vector index does not belong to the key of {}; rebuild the index", self.name()),
            )
        })
    }

    /// The literals of a key's columns.
    pub fn literals(&self, key: &[u8]) -> Result<Key> {
        self.key.iter().zip(self.values(key)?).map(|(k, value)| statements::literal(&k.kind, value)).collect()
    }

    /// The key's bytes in a trigger; `row` is NEW or OLD.
    pub fn key_in_trigger(&self, row: &str) -> String {
        let values: Vec<String> = self
            .key
            .iter()
            .map(|k| format!("CAST({} AS BINARY)", statements::key_value(k, &format!("{row}.{}", quoted(&k.name)))))
            .collect();
        match values.as_slice() {
            [value] => value.clone(),
            _ => {
                let parts: Vec<String> = values.iter().map(|v| format!("LENGTH({v}), ':', {v}")).collect();
                format!("CONCAT({})", parts.join(", "))
            }
        }
    }

    /// The value of a key's column for a JSON document: a number, a text; hexadecimal digits of bytes.
    pub fn json_of(&self, key: &[u8]) -> Result<serde_json::Map<String, serde_json::Value>> {
        let values = self.values(key)?;
        let pairs = self.key.iter().zip(values).map(|(k, value)| {
            let value = match k.kind {
                KeyKind::Binary => hex(&value).into(),
                KeyKind::Number | KeyKind::Double => {
                    let text = String::from_utf8_lossy(&value).into_owned();
                    // A number of a JSON document only if it is one exactly.
                    match text.parse::<i64>() {
                        Ok(n) => n.into(),
                        Err(_) => text.parse::<u64>().map_or_else(|_| text.into(), Into::into),
                    }
                }
                KeyKind::Text { .. } | KeyKind::Temporal(_) => String::from_utf8_lossy(&value).into_owned().into(),
            };
            (k.name.clone(), value)
        });
        Ok(pairs.collect())
    }
}

/// The name of the derived table of keys.
pub const KEYS: &str = "mysql_ml_keys";

/// A key's bytes from the values of its columns.
pub(super) fn encode(values: Vec<Vec<u8>>) -> Vec<u8> {
    match <[Vec<u8>; 1]>::try_from(values) {
        Ok([value]) => value,
        Err(values) => {
            let parts = values.iter().flat_map(|v| [format!("{}:", v.len()).into_bytes(), v.clone()]);
            parts.collect::<Vec<_>>().concat()
        }
    }
}

fn decode(key: &[u8], columns: usize) -> Option<Vec<Vec<u8>>> {
    if columns == 1 {
        return Some(vec![key.to_vec()]);
    }
    let mut rest = key;
    let mut values = Vec::new();
    while !rest.is_empty() {
        let colon = rest.iter().position(|b| *b == b':')?;
        let (length, after) = rest.split_at(colon);
        let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
        let after = after.get(1..)?;
        values.push(after.get(..length)?.to_vec());
        rest = after.get(length..)?;
    }
    (values.len() == columns).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_column_are_its_value_and_longer_ones_have_lengths() {
        let two = vec![b"12".to_vec(), b"a:b".to_vec()];
        assert_eq!(encode(two.clone()), b"2:123:a:b");
        assert_eq!(decode(b"2:123:a:b", 2), Some(two));
        assert_eq!(decode(&encode(vec![b"7".to_vec()]), 1), Some(vec![b"7".to_vec()]));
        assert_eq!(decode(&encode(vec![vec![], vec![]]), 2), Some(vec![vec![], vec![]]));
        for bad in [&b"2:1"[..], b"x:1", b"1:a", b"99999999999999999999:a", b":", b"1"] {
            assert_eq!(decode(bad, 2), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
