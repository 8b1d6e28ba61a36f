//! Brings a chunk table in step with its source: changed rows, and on demand all of them.
//!
//! A change is read before its row, and removed after the row's chunks are written. A later change of the row has its own
//! record. So no row is locked while its text is cut, and a run that ends at any point is repeated without harm.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::at_work::Held as Place;
use crate::mysql::session::Session;
use crate::mysql::sql::{with_session, As, SessionKind};
use crate::mysql::statement::ProgressState;
use crate::tables::chunk_rows::{Applied, ChunkTable, CutRow, SourceRow};
use crate::tables::chunk_tables::{self as store, ChunkConfig, Failure};
use crate::tables::statements::Key;
use crate::tables::vector_indexes::library;
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{Held, Reservation};
use mysql_ml_core::chunk::Chunk;
use mysql_ml_core::engine::TextCutter;

/// Changes, and keys in one statement.
const KEYS: usize = 1000;
/// Texts that are written in one transaction: their bytes, unless one is longer, and their number.
const GROUP_BYTES: u64 = 1 << 20;
const GROUP_ROWS: usize = 200;
/// The longest text, and the most bytes of its chunks as JSON.
const LONGEST_TEXT: u64 = 64 << 20;
const LARGEST: usize = 128 << 20;
/// The longest time of a transaction.
const WITHIN: Duration = Duration::from_secs(600);

/// The two parts of a comparison of all rows.
const CUTTING: u8 = b'c';
const REMOVING: u8 = b'r';

/// What a run has done.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Rows that were read.
    pub rows: u64,
    pub applied: Applied,
    /// Rows that failed.
    pub failed: u64,
}

/// A run on a chunk table that is held.
pub(super) struct Run<'r> {
    pub config: &'r ChunkConfig,
    pub table: Arc<ChunkTable>,
    pub cutter: TextCutter<'r>,
    /// Kept by its sessions too: one that is killed may still write.
    pub held: Arc<Place>,
    pub state: ProgressState,
    pub done: Done,
    /// The keys of rows that failed just now.
    pub failed: HashSet<Vec<u8>>,
    pub interrupt: &'r dyn Interrupt,
}

impl Run<'_> {
    /// Runs `work` in a session of the chunk table's account.
    fn session<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Session, &ChunkTable) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (table, held) = (Arc::clone(&self.table), Arc::clone(&self.held));
        let account = As::Owner(self.config.definer.clone());
        with_session(&account, SessionKind::Job, self.interrupt, Instant::now() + WITHIN, move |s| {
            let _held = held;
            // Keys may be dates that are stored already. A row whose chunks others lock waits for a later run.
            s.query(
                "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,ALLOW_INVALID_DATES', SESSION innodb_lock_wait_timeout = 1",
                &[],
            )?;
            // A view in the place of a table would be used with the account's rights.
            table.must_be_tables(s)?;
            work(s, &table)
        })
    }

    /// Works the recorded changes off, but not those of writers who are faster.
    pub fn drain(&mut self) -> Result<()> {
        let recorder = self.config.recorder();
        let Some(last) = recorder.last_change(self.interrupt)? else { return Ok(()) };
        loop {
            let changes = recorder.changes(KEYS as u64, self.interrupt)?;
            if changes.ids.first().is_none_or(|first| *first > last) {
                return Ok(());
            }
            self.rows_of(changes.keys)?;
            let done = recorder.clone();
            library(self.interrupt, move |s| done.delete_changes(s, &changes.ids))?;
            self.state.show(&format!("chunks: {} rows", self.done.rows));
        }
    }

    /// Compares all rows of the source with their chunks, then removes the chunks of rows that are gone. Goes on from
    /// `position`, where an earlier run stopped.
    pub fn compare_all(&mut self, position: Option<&[u8]>) -> Result<()> {
        let (removing, after) = match position.and_then(<[u8]>::split_first) {
            // A key of before a change of the table's key is none: from the beginning.
            Some((phase, key)) => (*phase == REMOVING, self.table.source.literals(key).ok()),
            None => (false, None),
        };
        match removing && after.is_some() {
            true => self.walk(REMOVING, after)?,
            false => {
                self.walk(CUTTING, after)?;
                self.walk(REMOVING, None)?;
            }
        }
        store::set_position(self.config.id, None, self.interrupt)
    }

    /// Keys after a key: of the source to cut them, or of rows that have chunks.
    fn page(&self, phase: u8, after: Option<Key>) -> Result<Vec<SourceRow>> {
        let page = self.session(move |s, table| {
            let select = match phase {
                CUTTING => table.page(after.as_ref(), KEYS),
                _ => table.cut_keys(after.as_ref(), KEYS),
            };
            table.read(s.run(select.as_bytes())?)
        })?;
        Ok(page.into_iter().map(|(row, _)| row).collect())
    }

    fn walk(&mut self, phase: u8, mut after: Option<Key>) -> Result<()> {
        loop {
            let rows = self.page(phase, after)?;
            let last = rows.last().filter(|_| rows.len() == KEYS).map(|row| row.key.clone());
            let keys: Vec<Vec<u8>> = rows.iter().map(|row| row.key.clone()).collect();
            match phase {
                CUTTING => {
                    self.rows(rows)?;
                    self.settle(keys)?;
                }
                _ => drop(self.remove_gone(keys)?),
            }
            self.state.show(&format!("chunks: {} rows", self.done.rows));
            let Some(key) = last else { return Ok(()) };
            after = Some(self.table.source.literals(&key)?);
            let position = std::iter::once(phase).chain(key).collect();
            store::set_position(self.config.id, Some(position), self.interrupt)?;
            // Changes do not wait for the end.
            self.drain()?;
        }
    }

    /// Looks whether the next rows that have chunks are still there. TRUNCATE and cascades of foreign keys run no triggers:
    /// where a row is gone without a record, all such chunks are removed. Returns the key to go on from.
    pub fn look_for_gone(&mut self, after: Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        let after = after.and_then(|key| self.table.source.literals(&key).ok());
        let keys: Vec<Vec<u8>> = self.page(REMOVING, after)?.into_iter().map(|row| row.key).collect();
        let last = keys.last().filter(|_| keys.len() == KEYS).cloned();
        let mut gone = self.remove_gone(keys)?;
        if !gone.is_empty() {
            // Rows that were deleted since the last change was read.
            let waiting: HashSet<_> =
                self.config.recorder().changes(KEYS as u64, self.interrupt)?.keys.into_iter().collect();
            gone.retain(|key| !waiting.contains(key));
        }
        if !gone.is_empty() {
            self.walk(REMOVING, None)?;
            store::set_position(self.config.id, None, self.interrupt)?;
        }
        Ok(last)
    }

    /// The literals of keys; those that cannot be read are of before a change of the table's key, and have no row.
    fn literals(&self, keys: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<Key>) {
        let known = keys.into_iter().filter_map(|key| self.table.source.literals(&key).ok().map(|l| (key, l)));
        known.unzip()
    }

    /// Finds rows by their keys: those that exist, and the keys of those that do not.
    #[allow(clippy::type_complexity)]
    fn find(&self, mut keys: Vec<Vec<u8>>) -> Result<(Vec<SourceRow>, Vec<Vec<u8>>, Vec<Key>)> {
        keys.sort_unstable();
        keys.dedup();
        let (keys, literals) = self.literals(keys);
        if keys.is_empty() {
            return Ok((Vec::new(), Vec::new(), Vec::new()));
        }
        let asked = literals.clone();
        let columns = self.table.source.key.len();
        let found = self.session(move |s, table| table.read(s.run(table.find(&asked).as_bytes())?))?;
        let mut there = vec![false; keys.len()];
        let mut rows = Vec::new();
        for (row, cells) in found {
            let number = usize::try_from(cells.get::<u64>(columns + 1)?).unwrap_or(usize::MAX);
            if let Some(there) = there.get_mut(number) {
                *there = true;
            }
            rows.push(row);
        }
        // Two texts may be one key.
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        rows.dedup_by(|a, b| a.key == b.key);
        let gone = keys.into_iter().zip(literals).zip(there).filter(|(_, there)| !there).map(|(pair, _)| pair);
        let (gone, literals) = gone.unzip();
        Ok((rows, gone, literals))
    }

    /// Cuts the rows of changes.
    fn rows_of(&mut self, keys: Vec<Vec<u8>>) -> Result<()> {
        let (rows, gone, literals) = self.find(keys.clone())?;
        self.remove(gone, literals)?;
        self.rows(rows)?;
        self.settle(keys)
    }

    /// Forgets earlier failures of rows that are done now.
    fn settle(&mut self, mut keys: Vec<Vec<u8>>) -> Result<()> {
        let failed = std::mem::take(&mut self.failed);
        if self.config.failures == 0 && self.done.failed == 0 {
            return Ok(());
        }
        keys.retain(|key| !failed.contains(key));
        store::forget_failures(self.config.id, &keys, self.interrupt)
    }

    /// Removes the chunks of those rows that are gone, and returns their keys.
    fn remove_gone(&mut self, keys: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        let (_, gone, literals) = self.find(keys)?;
        self.remove(gone.clone(), literals)?;
        self.settle(gone.clone())?;
        Ok(gone)
    }

    /// Removes the chunks of rows that are gone.
    fn remove(&mut self, gone: Vec<Vec<u8>>, literals: Vec<Key>) -> Result<()> {
        let mut rest = vec![gone.into_iter().zip(literals).collect::<Vec<_>>()];
        while let Some(part) = rest.pop() {
            self.interrupt.check()?;
            if part.is_empty() {
                continue;
            }
            let keys: Vec<Key> = part.iter().map(|(_, literals)| literals.clone()).collect();
            match self.session(move |s, table| s.run(table.delete_rows(&keys).as_bytes())) {
                Ok(result) => self.done.applied.removed += result.affected,
                Err(e) if concerns_all(&e) => return Err(e),
                Err(e) => match part.as_slice() {
                    [(key, _)] => self.fail(key, &e)?,
                    _ => rest.extend(halves(part)),
                },
            }
        }
        Ok(())
    }

    /// Reads, cuts and writes rows, in groups of bounded size.
    fn rows(&mut self, rows: Vec<SourceRow>) -> Result<()> {
        let mut group: Vec<SourceRow> = Vec::new();
        let mut bytes = 0;
        for row in rows {
            let length = row.bytes.unwrap_or(0);
            if length > LONGEST_TEXT {
                self.done.rows += 1;
                let text =
                    format!("the text has {length} bytes, and one of more than {LONGEST_TEXT} is not cut; divide it");
                self.fail(&row.key, &Error::new(Kind::TooLarge, text))?;
                continue;
            }
            if !group.is_empty() && (bytes + length > GROUP_BYTES || group.len() >= GROUP_ROWS) {
                self.group(std::mem::take(&mut group))?;
                bytes = 0;
            }
            bytes += length;
            group.push(row);
        }
        self.group(group)
    }

    fn group(&mut self, rows: Vec<SourceRow>) -> Result<()> {
        self.interrupt.check()?;
        if rows.is_empty() {
            return Ok(());
        }
        self.done.rows += rows.len() as u64;
        let mut ready: Vec<Arc<CutRow>> = Vec::new();
        let (empty, full): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.bytes.unwrap_or(0) == 0);
        for row in empty {
            let literals = self.table.source.literals(&row.key)?;
            let chunks = Held::new(Vec::new(), Reservation::default());
            ready.push(Arc::new(CutRow { key: row.key, literals, text: String::new(), chunks }));
        }
        let mut share = Reservation::default();
        if !full.is_empty() {
            let keys: Vec<Key> = full.iter().map(|row| self.table.source.literals(&row.key)).collect::<Result<_>>()?;
            // A row that is gone meanwhile has left a change.
            let texts = self.session(move |s, table| table.read_texts(s.run(table.texts(&keys).as_bytes())?))?;
            share = texts.1;
            for (key, text) in texts.0 {
                match self.cut(text) {
                    Ok((text, chunks)) => {
                        let literals = self.table.source.literals(&key)?;
                        ready.push(Arc::new(CutRow { key, literals, text, chunks }));
                    }
                    Err(e) if concerns_all(&e) => return Err(e),
                    Err(e) => self.fail(&key, &e)?,
                }
            }
        }
        let written = self.write(ready);
        drop(share);
        written
    }

    fn cut(&self, text: Option<String>) -> Result<(String, Held<Vec<Chunk>>)> {
        let text =
            text.ok_or_else(|| Error::invalid("the text holds bytes that are not of its character set; correct it"))?;
        let chunks = self.cutter.cut(&text, LARGEST, self.interrupt)?;
        Ok((text, chunks))
    }

    /// Writes the chunks of rows. A row that cannot be written does not keep the others from it.
    fn write(&mut self, rows: Vec<Arc<CutRow>>) -> Result<()> {
        let mut rest = vec![rows];
        while let Some(part) = rest.pop() {
            if part.is_empty() {
                continue;
            }
            self.interrupt.check()?;
            let rows = part.clone();
            match self.session(move |s, table| table.apply(s, &rows)) {
                Ok(applied) => self.done.applied += applied,
                Err(e) if concerns_all(&e) => return Err(e),
                Err(e) => match part.as_slice() {
                    [row] => self.fail(&row.key, &e)?,
                    _ => rest.extend(halves(part)),
                },
            }
        }
        Ok(())
    }

    /// Notes a row that failed. It is tried again after a while.
    fn fail(&mut self, key: &[u8], error: &Error) -> Result<()> {
        self.done.failed += 1;
        self.failed.insert(key.to_vec());
        let shown = self.table.source.json_of(key).map(serde_json::Value::Object).unwrap_or_default().to_string();
        let reason = cut(error.message(), 500).into_owned();
        store::note_failures(self.config.id, vec![Failure { key: key.to_vec(), shown, reason }], self.interrupt)
    }
}

fn halves<T>(mut part: Vec<T>) -> [Vec<T>; 2] {
    let second = part.split_off(part.len() / 2);
    [second, part]
}

/// Errors of a lost right: on a table, a column, a schema; of what is gone; of a read-only server, a full disk or table.
const OF_ALL_ROWS: [u32; 18] =
    [1142, 1143, 1044, 1045, 1049, 1054, 1146, 1290, 1356, 1370, 1449, 1792, 1836, 1021, 1114, 1053, 1317, 3024];

/// Whether an error is not about one row.
fn concerns_all(error: &Error) -> bool {
    match error.kind() {
        Kind::Server(code) => OF_ALL_ROWS.contains(&code),
        Kind::TooLarge | Kind::Timeout | Kind::Memory | Kind::Invalid => false,
        _ => true,
    }
}
