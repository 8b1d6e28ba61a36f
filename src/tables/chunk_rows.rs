//! The rows of a chunk table: those of one text, compared with the chunks that it has now, and the statements between.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::keyed::{encode, Keyed, Texts, KEYS};
use super::layout::{quoted, KeyKind};
use super::statements::{self, Key};
use crate::mysql::session::{hex_literal, Param, ResultSet, Row, Session};
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::memory::{Held, Reservation};
use mysql_ml_core::chunk::Chunk;

/// The columns of a chunk table behind those of the source's key, with their types.
pub const COLUMNS: [(&str, &str); 5] = [
    ("chunk_id", "binary(16)"),
    ("number", "int unsigned"),
    ("start", "int unsigned"),
    ("length", "int unsigned"),
    ("chunk", "longtext"),
];

/// The beginning of the comment of chunk tables.
pub const COMMENT: &str = "mysql-ml: chunks of ";

/// Bytes of a statement beyond which another one is begun, and its rows.
const STATEMENT_BYTES: usize = 1 << 20;
const STATEMENT_ROWS: usize = 1000;

/// A source and its chunk table.
#[derive(Debug, Clone)]
pub struct ChunkTable {
    /// The source, with the column of texts.
    pub source: Keyed,
    /// The chunk table, whose primary key begins with the source's key.
    pub chunks: Keyed,
}

/// A row of the source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRow {
    /// Its key.
    pub key: Vec<u8>,
    /// The bytes of its text; `None` for NULL.
    pub bytes: Option<u64>,
}

/// A row and the chunks that its text has now.
pub struct CutRow {
    /// Its key.
    pub key: Vec<u8>,
    /// The same as literals.
    pub literals: Key,
    /// The text.
    pub text: String,
    /// Its chunks.
    pub chunks: Held<Vec<Chunk>>,
}

/// What was changed in a chunk table.
#[derive(Debug, Default, Clone, Copy)]
pub struct Applied {
    /// New chunks.
    pub inserted: u64,
    /// Chunks with another number or place.
    pub moved: u64,
    /// Removed chunks.
    pub removed: u64,
}

impl std::ops::AddAssign for Applied {
    fn add_assign(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.moved += other.moved;
        self.removed += other.removed;
    }
}

/// The identity of a chunk within its row: the first 16 bytes of SHA-256 of `n:chunk`, for the n-th of equal chunks.
pub fn chunk_id(chunk: &str, n: u32) -> [u8; 16] {
    let digest = Sha256::new().chain_update(format!("{n}:")).chain_update(chunk).finalize();
    digest.first_chunk().copied().unwrap_or_default()
}

/// A chunk in the table.
struct Stored {
    number: u64,
    start: u64,
    length: u64,
    /// Its row's key, which may be written in another way than the source's now: collations take different texts as equal.
    key: Vec<u8>,
}

/// Chunks by the place of their row and by their id.
type StoredChunks = HashMap<(usize, Vec<u8>), Stored>;

/// Memory of a chunk while it is compared, besides its text.
const BYTES_OF_A_CHUNK: usize = 256;

impl ChunkTable {
    /// A source and its chunk table of this name.
    pub fn new(source: Keyed, schema: &str, table: &str) -> Self {
        let chunks = Keyed {
            schema: schema.to_owned(),
            table: table.to_owned(),
            key: source.key.clone(),
            index: "PRIMARY".into(),
            column: "chunk".into(),
            width: 0,
            columns: Vec::new(),
        };
        ChunkTable { source, chunks }
    }

    /// An error unless both are base tables.
    pub fn must_be_tables(&self, s: &mut Session) -> Result<()> {
        let [source, chunks] = [&self.source, &self.chunks];
        let names = [&source.schema, &source.table, &chunks.schema, &chunks.table].map(|name| Param::Text(name));
        let found = s.query(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE ((TABLE_SCHEMA = ? AND TABLE_NAME = ?) \
             OR (TABLE_SCHEMA = ? AND TABLE_NAME = ?)) AND TABLE_TYPE = 'BASE TABLE'",
            &names,
        )?;
        if found.rows.first().map_or(Ok(0), |row| row.get::<u64>(0))? == 2 {
            return Ok(());
        }
        let text = format!("{} or {} is gone, or is no table any more", source.name(), chunks.name());
        Err(Error::new(Kind::NotFound, format!("{text}; call ai.drop_chunks")))
    }

    /// The CREATE TABLE statement; `embedding`: the column of vectors and their dimensions.
    pub fn create(&self, texts: &Texts, embedding: Option<(&str, usize)>) -> String {
        let mut parts: Vec<String> = Vec::new();
        for (name, column_type, collation) in &texts.key {
            let collate = collation.as_ref().map(|c| format!(" COLLATE {c}")).unwrap_or_default();
            parts.push(format!("{} {column_type}{collate} NOT NULL", quoted(name)));
        }
        for (name, column_type) in COLUMNS {
            let collate = match name {
                "chunk" => format!(" CHARACTER SET {} COLLATE {}", texts.charset, texts.collation),
                _ => String::new(),
            };
            parts.push(format!("`{name}` {column_type}{collate} NOT NULL"));
        }
        parts.extend(embedding.map(|(name, width)| format!("{} VECTOR({width}) NULL", quoted(name))));
        let key = statements::order(&self.source.key);
        let comment = format!("{COMMENT}{}.{}", self.source.schema, self.source.table);
        format!(
            "CREATE TABLE {} ({}, PRIMARY KEY ({key}, `chunk_id`), KEY `number` ({key}, `number`)) ENGINE = InnoDB COMMENT = {}",
            self.chunks.name(),
            parts.join(", "),
            super::marking::literal(&comment)
        )
    }

    /// The columns that a chunk table must have: names, types and collations.
    pub fn must_have(texts: &Texts) -> Vec<(String, String, Option<String>)> {
        let fixed = COLUMNS.iter().map(|(name, column_type)| {
            let collation = (*name == "chunk").then(|| texts.collation.clone());
            ((*name).to_owned(), (*column_type).to_owned(), collation)
        });
        texts.key.iter().cloned().chain(fixed).collect()
    }

    /// The rows of keys that exist: the key's place in `keys`, the row's own key, the bytes of its text.
    pub fn find(&self, keys: &[Key]) -> String {
        let table = self.source.name();
        let values = self.source.key.iter();
        let values = values.map(|k| statements::key_value(k, &format!("{table}.{}", quoted(&k.name))));
        format!(
            "SELECT {}, LENGTH({table}.{}), {KEYS}.mysql_ml_number FROM {} STRAIGHT_JOIN {table} FORCE INDEX ({}) ON {}",
            values.collect::<Vec<_>>().join(", "),
            quoted(&self.source.column),
            self.source.derived(keys.iter().enumerate().map(|(n, key)| (key, Some(n)))),
            quoted(&self.source.index),
            self.source.matching(&table)
        )
    }

    /// At most `limit` rows of the source after a key, in order.
    pub fn page(&self, after: Option<&Key>, limit: usize) -> String {
        format!(
            "SELECT {}, LENGTH({}) FROM {} FORCE INDEX ({}) WHERE {} ORDER BY {} LIMIT {limit}",
            statements::key_values(&self.source.key),
            quoted(&self.source.column),
            self.source.name(),
            quoted(&self.source.index),
            after.map_or_else(|| "TRUE".into(), |after| statements::beyond(&self.source.key, after)),
            statements::order(&self.source.key)
        )
    }

    /// At most `limit` keys of rows that have chunks, after a key, in order.
    pub fn cut_keys(&self, after: Option<&Key>, limit: usize) -> String {
        let order = statements::order(&self.chunks.key);
        format!(
            "SELECT {}, NULL FROM {} FORCE INDEX (PRIMARY) WHERE {} GROUP BY {order} ORDER BY {order} LIMIT {limit}",
            statements::key_values(&self.chunks.key),
            self.chunks.name(),
            after.map_or_else(|| "TRUE".into(), |after| statements::beyond(&self.chunks.key, after)),
        )
    }

    /// Reads rows of [`Self::find`], [`Self::page`] and [`Self::cut_keys`].
    pub fn read(&self, result: ResultSet) -> Result<Vec<(SourceRow, Row)>> {
        let columns = self.source.key.len();
        let of = |mut row: Row| {
            let bytes = row.get::<Option<u64>>(columns)?;
            Ok((SourceRow { key: self.take_key(&mut row)?, bytes }, row))
        };
        result.rows.into_iter().map(of).collect()
    }

    fn take_key(&self, row: &mut Row) -> Result<Vec<u8>> {
        let values = (0..self.source.key.len()).map(|i| statements::take_key_value(row, i));
        Ok(encode(values.collect::<Result<_>>()?))
    }

    /// The texts of rows, in utf8mb4; NULL where bytes are not of the column's character set.
    pub fn texts(&self, keys: &[Key]) -> String {
        let table = self.source.name();
        let values = self.source.key.iter();
        let values = values.map(|k| statements::key_value(k, &format!("{table}.{}", quoted(&k.name))));
        format!(
            "SELECT {}, CAST({table}.{text} AS CHAR CHARACTER SET utf8mb4) FROM {} STRAIGHT_JOIN {table} \
             FORCE INDEX ({}) ON {} WHERE {table}.{text} IS NOT NULL",
            values.collect::<Vec<_>>().join(", "),
            self.source.derived(keys.iter().map(|key| (key, None))),
            quoted(&self.source.index),
            self.source.matching(&table),
            text = quoted(&self.source.column),
        )
    }

    /// Reads rows of [`Self::texts`].
    #[allow(clippy::type_complexity)]
    pub fn read_texts(&self, result: ResultSet) -> Result<(Vec<(Vec<u8>, Option<String>)>, Reservation)> {
        let columns = self.source.key.len();
        let of = |mut row: Row| {
            let key = self.take_key(&mut row)?;
            Ok((key, row.take_bytes(columns)?.and_then(|bytes| String::from_utf8(bytes).ok())))
        };
        Ok((result.rows.into_iter().map(of).collect::<Result<_>>()?, result.share))
    }

    /// Removes the chunks of rows.
    pub fn delete_rows(&self, keys: &[Key]) -> String {
        let table = self.chunks.name();
        format!(
            "DELETE {table} FROM {} STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY) ON {}",
            self.chunks.derived(keys.iter().map(|key| (key, None))),
            self.chunks.matching(&table)
        )
    }

    /// Makes the chunks of rows those that their texts have now, in one transaction. Chunks that stay are left alone.
    pub fn apply(&self, s: &mut Session, rows: &[Arc<CutRow>]) -> Result<Applied> {
        s.query("START TRANSACTION", &[])?;
        let done = self.apply_in(s, rows);
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = s.query(end, &[]).map(|_| ());
        done.and_then(|applied| ended.map(|()| applied))
    }

    /// The chunks of rows as they are, and the reservation of their memory and of that of `wanted` others.
    fn stored(&self, s: &mut Session, rows: &[Arc<CutRow>], wanted: usize) -> Result<(StoredChunks, Reservation)> {
        let table = self.chunks.name();
        let values = self.chunks.key.iter();
        let values = values.map(|k| statements::key_value(k, &format!("{table}.{}", quoted(&k.name))));
        let select = format!(
            "SELECT {}, {table}.chunk_id, {table}.number, {table}.start, {table}.length, {KEYS}.mysql_ml_number \
             FROM {} STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY) ON {}",
            values.collect::<Vec<_>>().join(", "),
            self.chunks.derived(rows.iter().enumerate().map(|(n, row)| (&row.literals, Some(n)))),
            self.chunks.matching(&table)
        );
        let found = s.run(select.as_bytes())?;
        let chunks = found.rows.len().saturating_add(wanted);
        let share = Reservation::take(chunks.saturating_mul(BYTES_OF_A_CHUNK), "the chunks of a text")?;
        let mut stored = HashMap::new();
        let columns = self.chunks.key.len();
        for mut row in found.rows {
            let key = self.take_key(&mut row)?;
            let id = row.take_bytes(columns)?.unwrap_or_default();
            let number = |i: usize| row.get::<u64>(columns + i);
            let old = Stored { number: number(1)?, start: number(2)?, length: number(3)?, key };
            stored.insert((usize::try_from(number(4)?).unwrap_or(usize::MAX), id), old);
        }
        Ok((stored, share))
    }

    fn apply_in(&self, s: &mut Session, rows: &[Arc<CutRow>]) -> Result<Applied> {
        let mut applied = Applied::default();
        let wanted: usize = rows.iter().map(|row| row.chunks.len()).sum();
        let (mut stored, _share) = self.stored(s, rows, wanted)?;
        let (mut inserts, mut moves, mut removals) = (Vec::new(), Vec::new(), Vec::new());
        for (n, row) in rows.iter().enumerate() {
            let mut times: HashMap<&str, u32> = HashMap::new();
            for (place, chunk) in row.chunks.iter().enumerate() {
                let text = row.text.get(chunk.bytes.clone()).unwrap_or_default();
                let nth = times.entry(text).or_default();
                *nth += 1;
                let id = chunk_id(text, *nth);
                let (number, start, length) = (place as u64 + 1, chunk.start as u64, chunk.length as u64);
                match stored.remove(&(n, id.to_vec())) {
                    None => inserts.push((row, id, number, start, length, text)),
                    Some(old)
                        if (old.number, old.start, old.length) != (number, start, length) || old.key != row.key =>
                    {
                        moves.push((row, id, number, start, length));
                    }
                    Some(_) => {}
                }
            }
        }
        removals.extend(stored.into_keys());
        let table = self.chunks.name();
        let names = statements::key_names(&self.chunks.key);
        let on = format!(
            "STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY) ON {} AND {table}.chunk_id = {KEYS}.mysql_ml_id",
            self.chunks.matching(&table)
        );
        // First, so that a key in another form is free.
        let begin = format!("DELETE {table} FROM (VALUES ");
        let end = format!(") AS {KEYS} ({names}, mysql_ml_id) {on}");
        let removals = removals.iter().filter_map(|(n, id)| Some((rows.get(*n)?, id)));
        applied.removed = in_parts(s, &begin, &end, removals, |(row, id)| {
            format!("ROW({},_binary {})", row.literals.join(","), hex_literal(id))
        })?;
        let begin = "UPDATE (VALUES ".to_owned();
        let texts = self.chunks.key.iter().enumerate().filter(|(_, k)| matches!(k.kind, KeyKind::Text { .. }));
        let keys: String =
            texts.map(|(i, k)| format!(", {table}.{} = {KEYS}.mysql_ml_key_{i}", quoted(&k.name))).collect();
        let end = format!(
            ") AS {KEYS} ({names}, mysql_ml_id, mysql_ml_n, mysql_ml_s, mysql_ml_l) {on} \
             SET {table}.number = {KEYS}.mysql_ml_n, {table}.start = {KEYS}.mysql_ml_s, {table}.length = {KEYS}.mysql_ml_l{keys}"
        );
        applied.moved = moves.len() as u64;
        in_parts(s, &begin, &end, moves.into_iter(), |(row, id, number, start, length)| {
            format!("ROW({},_binary {},{number},{start},{length})", row.literals.join(","), hex_literal(&id))
        })?;
        let begin = format!(
            "INSERT INTO {table} ({}, chunk_id, number, start, length, chunk) VALUES ",
            statements::order(&self.chunks.key)
        );
        applied.inserted = in_parts(s, &begin, "", inserts.into_iter(), |(row, id, number, start, length, text)| {
            format!(
                "({},_binary {},{number},{start},{length},_utf8mb4 {})",
                row.literals.join(","),
                hex_literal(&id),
                hex_literal(text.as_bytes())
            )
        })?;
        Ok(applied)
    }
}

/// Runs a statement over rows in parts of bounded size. Returns the number of changed rows.
fn in_parts<T>(
    s: &mut Session,
    begin: &str,
    end: &str,
    rows: impl Iterator<Item = T>,
    row: impl Fn(T) -> String,
) -> Result<u64> {
    let (mut sql, mut count, mut affected) = (String::new(), 0, 0);
    let mut run = |sql: &mut String, affected: &mut u64| -> Result<()> {
        sql.push_str(end);
        *affected += s.run(sql.as_bytes())?.affected;
        sql.clear();
        Ok(())
    };
    for each in rows {
        sql.push_str(if sql.is_empty() { begin } else { "," });
        sql.push_str(&row(each));
        count += 1;
        if count >= STATEMENT_ROWS || sql.len() >= STATEMENT_BYTES {
            run(&mut sql, &mut affected)?;
            count = 0;
        }
    }
    if !sql.is_empty() {
        run(&mut sql, &mut affected)?;
    }
    Ok(affected)
}

/// An error if the source's key has a column with the name of one that every chunk table has.
pub fn must_be_free(source: &Keyed, embedding: Option<&str>) -> Result<()> {
    let taken = |name: &str| {
        COLUMNS.iter().any(|(column, _)| name.eq_ignore_ascii_case(column))
            || embedding.is_some_and(|embedding| name.eq_ignore_ascii_case(embedding))
    };
    match source.key.iter().find(|k| taken(&k.name)) {
        None => Ok(()),
        Some(k) => Err(Error::invalid(format!(
            "column {} of the key of {} has the name of a column of chunk tables; rename it",
            k.name,
            source.name()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_chunks_of_a_row_have_different_ids() {
        assert_ne!(chunk_id("a", 1), chunk_id("a", 2));
        // SELECT HEX(LEFT(UNHEX(SHA2('1:a', 256)), 16))
        assert_eq!(
            crate::mysql::session::hex(&chunk_id("a", 1)),
            Sha256::digest(b"1:a").iter().take(16).map(|b| format!("{b:02x}")).collect::<String>()
        );
    }
}
