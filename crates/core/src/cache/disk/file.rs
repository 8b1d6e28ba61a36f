//! The file of the cache on disk: an SQLite database that one thread alone uses.
//!
//! The connection has the file to itself (`locking_mode=EXCLUSIVE`). SQLite then keeps the index of its write-ahead
//! log in its own memory. No file is mapped, so a truncated file cannot end mysqld with SIGBUS.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{params, Connection, ErrorCode, OpenFlags, OptionalExtension};

use crate::cache::memory::Key;
use mysql_ml_base::vector;

/// The folder in the data directory. No schema's folder can have this name: `#` in a schema's name becomes `@0023`. The
/// server names its own folders there with `#` too.
pub const FOLDER: &str = "#mysql_ml_cache";

/// The database file in it.
pub const FILE: &str = "embeddings.sqlite";

/// Suffixes of SQLite's files beside it.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// `application_id` of our database: "mlec".
const APPLICATION_ID: i64 = 0x6d6c_6563;

/// `user_version`: version of the tables. A file with another version is replaced.
const SCHEMA_VERSION: i64 = 1;

/// In the order of `sqlite_schema`. Vectors have a table of their own, so that recording a use does not rewrite
/// kilobytes.
const SCHEMA: [&str; 7] = [
    "CREATE TABLE model (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
    "CREATE TABLE entry (id INTEGER PRIMARY KEY, key BLOB NOT NULL, model INTEGER NOT NULL, used INTEGER NOT NULL)",
    "CREATE UNIQUE INDEX entry_key ON entry (key)",
    "CREATE INDEX entry_model ON entry (model)",
    "CREATE INDEX entry_used ON entry (used)",
    "CREATE TABLE vector (id INTEGER PRIMARY KEY, sum INTEGER NOT NULL, bytes BLOB NOT NULL)",
    "CREATE TABLE counted (id INTEGER PRIMARY KEY, entries INTEGER NOT NULL)",
];

const PAGE: u64 = 4096;

/// Bytes of a page in the write-ahead log, with its header.
const FRAME: u64 = PAGE + 24;

/// The most pages that a row may touch besides those of its vector. They are leaves of two tables and three indexes,
/// their splits, pages of the pointer map, and the counter.
const PAGES_A_ROW: u64 = 10;

/// Why an operation on the file failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The file is damaged and must be replaced.
    Damaged(String),
    /// The disk is full.
    Full,
    /// The file cannot be used now.
    Unusable(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        /// `SQLITE_IOERR_SHORT_READ`, `_DATA` and `_CORRUPTFS`.
        const UNREADABLE: [i32; 3] = [522, 8202, 8458];
        let text = error.to_string();
        match error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DiskFull => Trouble::Full,
                ErrorCode::SystemIoFailure if UNREADABLE.contains(&failure.extended_code) => Trouble::Damaged(text),
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::TooBig
                | ErrorCode::Unknown => Trouble::Damaged(text),
                _ => Trouble::Unusable(text),
            },
            _ => Trouble::Damaged(text),
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Trouble::Full,
            _ => Trouble::Unusable(error.to_string()),
        }
    }
}

type Result<T> = std::result::Result<T, Trouble>;

/// Limits of file and log for a size; both together stay within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most pages of the file.
    pub pages: u64,
    /// The most bytes that one transaction may write to the log, and the log size that triggers a checkpoint. The log
    /// stays below their sum.
    pub step: u64,
}

impl Limits {
    /// The limits for a size.
    pub fn of(bytes: u64) -> Self {
        let log = (bytes / 4).min(16 << 20);
        Limits { pages: (bytes - log) / PAGE, step: log / 2 }
    }

    /// With more pages in use than this, entries are evicted before others are written.
    pub fn high(&self) -> u64 {
        self.pages.saturating_sub(self.step / PAGE)
    }

    /// Rows, each on a page of its own, that one transaction may change.
    pub fn rows(&self) -> usize {
        usize::try_from(self.step / (PAGES_A_ROW * FRAME)).unwrap_or(1).clamp(1, 1000)
    }
}

/// The most bytes that storing a vector adds to the log.
pub fn cost(vector: &[u8]) -> u64 {
    (vector.len() as u64 / PAGE + PAGES_A_ROW + 1) * FRAME
}

/// An embedding to be stored.
#[derive(Clone)]
pub struct Put {
    /// Its key.
    pub key: Key,
    /// The model's id.
    pub model: Arc<str>,
    /// The vector's bytes.
    pub vector: Arc<[u8]>,
}

/// The open file.
pub struct File {
    connection: Connection,
    path: PathBuf,
    log: PathBuf,
    /// Device and inode, to notice that the name leads elsewhere.
    identity: (u64, u64),
    /// The last known length in bytes; only this code shortens the file.
    length: u64,
    models: HashMap<Arc<str>, i64>,
    /// Number of the transaction; the age of an entry is that of its last use.
    clock: i64,
    /// Entries last used before this transaction are old; only their uses are recorded.
    old: i64,
    entries: u64,
}

/// Path of the file below the data directory.
pub fn folder(data_directory: &Path) -> PathBuf {
    data_directory.join(FOLDER)
}

/// Removes the file, SQLite's files beside it, and the folder if it is then empty.
pub fn remove(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(FILE);
    // SQLite's files first: a log left alone would be applied to the next file.
    let beside = BESIDE.iter().map(|suffix| with_suffix(&path, suffix));
    for file in beside.chain([path.clone()]) {
        match fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound && e.kind() != std::io::ErrorKind::NotADirectory => {
                return Err(e)
            }
            _ => {}
        }
    }
    let _ = fs::remove_dir(folder);
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The checksum of a row. It covers the key, so a row under a wrong key is detected.
fn sum(key: &Key, vector: &[u8]) -> i64 {
    i64::from(crc32c::crc32c_append(crc32c::crc32c(key.bytes()), vector))
}

impl File {
    /// Opens or creates the file in `folder`. A file that is not ours is [`Trouble::Damaged`].
    pub fn open(folder: &Path, limits: Limits) -> Result<Self> {
        match DirBuilder::new().mode(0o750).create(folder) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e.into()),
            _ => {}
        }
        // The folder may be a link to another disk; the file may not be one.
        let path = fs::canonicalize(folder)?.join(FILE);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() > 0 => {
                // Only if needed: the folder may belong to another user and be accessible in another way.
                if found.permissions().mode() & 0o777 != 0o640 {
                    let _ = fs::set_permissions(&path, Permissions::from_mode(0o640));
                }
            }
            Ok(found) if found.is_file() => {
                remove(folder).map_err(Trouble::from).and_then(|()| create(folder, &path))?
            }
            Ok(_) => return Err(Trouble::Unusable("it is not a file".into())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                remove(folder)?;
                create(folder, &path)?;
            }
            Err(e) => return Err(e.into()),
        }
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(Duration::from_millis(200))?;
        // A closed file is removed or broken: its log need not be checkpointed.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_prepared_statement_cache_capacity(32);
        connection.execute_batch(
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA mmap_size=0; PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY; \
             PRAGMA cache_size=-8192; PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL;",
        )?;
        let number = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
        let (id, version) = (number("application_id")?, number("user_version")?);
        let tables: i64 = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let new = tables == 0 && id == 0 && version == 0;
        if !new && (id, version) != (APPLICATION_ID, SCHEMA_VERSION) {
            return Err(Trouble::Damaged("it is of another program or version".into()));
        }
        // NORMAL: the log is synced before the file is written. A crash of mysqld loses nothing; a crash of the machine
        // may lose the last entries and leaves the file whole. With OFF it might have to be discarded.
        connection.execute_batch("PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0;")?;
        let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
        if !mode.eq_ignore_ascii_case("wal") {
            return Err(Trouble::Unusable(format!("its journal mode is {mode}")));
        }
        if new {
            make_tables(&connection)?;
        }
        check_tables(&connection)?;
        if number("auto_vacuum")? != 2 || number("page_size")? != 4096 {
            return Err(Trouble::Damaged("it is of another version".into()));
        }
        let clock: i64 = connection.query_row("SELECT IFNULL(MAX(used), 0) FROM entry", [], |row| row.get(0))?;
        let entries: i64 = connection.query_row("SELECT entries FROM counted WHERE id = 1", [], |row| row.get(0))?;
        let found = fs::metadata(&path)?;
        let file = File {
            log: with_suffix(&path, "-wal"),
            identity: (found.dev(), found.ino()),
            length: found.len(),
            connection,
            path,
            models: HashMap::new(),
            clock: clock.clamp(0, i64::MAX / 2),
            old: 0,
            entries: u64::try_from(entries).map_err(|_| Trouble::Damaged("its counter is wrong".into()))?,
        };
        file.limit(limits)?;
        Ok(file)
    }

    /// Applies limits. A larger file stays larger until it is shrunk.
    pub fn limit(&self, limits: Limits) -> Result<()> {
        self.connection
            .query_row(&format!("PRAGMA max_page_count={}", limits.pages), [], |row| row.get::<_, i64>(0))
            .map(|_| ())
            .map_err(Trouble::from)
    }

    /// Whether the path still names the open file, and the file is not truncated.
    pub fn check_place(&self) -> Result<()> {
        let there = match fs::symlink_metadata(&self.path) {
            Ok(found) => found,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Trouble::Damaged("it was deleted".into()))
            }
            Err(e) => return Err(e.into()),
        };
        if (there.dev(), there.ino()) != self.identity {
            return Err(Trouble::Damaged("it was replaced".into()));
        }
        if there.len() < self.length {
            return Err(Trouble::Damaged("it was cut".into()));
        }
        Ok(())
    }

    /// A vector with a verified checksum, and whether its use must be recorded.
    pub fn find(&self, key: &Key) -> Result<Option<(Arc<[u8]>, bool)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT v.sum, v.bytes, e.used FROM entry e LEFT JOIN vector v ON v.id = e.id WHERE e.key = ?1",
        )?;
        let found = statement
            .query_row([&key.bytes()[..]], |row| {
                let bytes = row.get_ref(1)?.as_blob_or_null()?.map(Arc::<[u8]>::from);
                Ok((row.get::<_, Option<i64>>(0)?, bytes, row.get::<_, i64>(2)?))
            })
            .optional()?;
        match found {
            None => Ok(None),
            Some((Some(stored), Some(bytes), used))
                if stored == sum(key, &bytes) && vector::check_bytes(&bytes).is_ok() =>
            {
                Ok(Some((bytes, used < self.old)))
            }
            Some(_) => Err(Trouble::Damaged("a checksum is wrong".into())),
        }
    }

    /// Recomputes which entries are old: none while there is room, else the older half. An entry in constant use is
    /// then written once in half of its unread lifetime.
    pub fn judge_ages(&mut self, room: bool) -> Result<()> {
        self.old = match room {
            true => 0,
            false => {
                let oldest: i64 = self
                    .connection
                    .prepare_cached("SELECT IFNULL(MIN(used), 0) FROM entry")?
                    .query_row([], |row| row.get(0))?;
                oldest.clamp(0, self.clock).midpoint(self.clock)
            }
        };
        Ok(())
    }

    /// Whether the key has an entry.
    pub fn has(&self, key: &Key) -> Result<bool> {
        let mut statement = self.connection.prepare_cached("SELECT 1 FROM entry WHERE key = ?1")?;
        Ok(statement.exists([&key.bytes()[..]])?)
    }

    /// Stores embeddings; for an existing entry, records the use.
    pub fn put(&mut self, batch: &[Put]) -> Result<()> {
        let used = self.clock + 1;
        let mut added = 0;
        let mut new_models = Vec::new();
        let transaction = self.connection.unchecked_transaction()?;
        for put in batch {
            if note_use(&transaction, &put.key, used)? {
                continue;
            }
            let known = |(name, _): &&(Arc<str>, i64)| *name == put.model;
            let model = match self.models.get(&put.model).or(new_models.iter().find(known).map(|(_, id)| id)) {
                Some(id) => *id,
                None => {
                    let id = model_id(&transaction, &put.model)?;
                    new_models.push((Arc::clone(&put.model), id));
                    id
                }
            };
            transaction
                .prepare_cached("INSERT INTO entry (key, model, used) VALUES (?1, ?2, ?3)")?
                .execute(params![&put.key.bytes()[..], model, used])?;
            transaction.prepare_cached("INSERT INTO vector (id, sum, bytes) VALUES (?1, ?2, ?3)")?.execute(params![
                transaction.last_insert_rowid(),
                sum(&put.key, &put.vector),
                &put.vector[..]
            ])?;
            added += 1;
        }
        count(&transaction, self.entries + added)?;
        transaction.commit()?;
        self.entries += added;
        self.clock = used;
        self.models.extend(new_models);
        Ok(())
    }

    /// Records uses of old entries.
    pub fn touch(&mut self, keys: &[Key]) -> Result<()> {
        if self.old == 0 {
            return Ok(());
        }
        let used = self.clock + 1;
        let transaction = self.connection.unchecked_transaction()?;
        for key in keys {
            transaction.prepare_cached("UPDATE entry SET used = ?2 WHERE key = ?1 AND used < ?3")?.execute(params![
                &key.bytes()[..],
                used,
                self.old
            ])?;
        }
        transaction.commit()?;
        self.clock = used;
        Ok(())
    }

    /// Removes up to `rows` least recently used entries; returns their number.
    pub fn evict(&mut self, rows: usize) -> Result<u64> {
        self.delete("SELECT id FROM entry ORDER BY used, id LIMIT ?1", params![rows as i64])
    }

    /// Removes up to `rows` entries of a model; returns their number. 0: none are left.
    pub fn forget(&mut self, model: &str, rows: usize) -> Result<u64> {
        self.delete(
            "SELECT id FROM entry WHERE model IN (SELECT id FROM model WHERE name = ?1) LIMIT ?2",
            params![model, rows as i64],
        )
    }

    fn delete(&mut self, which: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<u64> {
        let transaction = self.connection.unchecked_transaction()?;
        let ids: Vec<i64> = transaction
            .prepare_cached(which)?
            .query_map(parameters, |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for id in &ids {
            transaction.prepare_cached("DELETE FROM entry WHERE id = ?1")?.execute([id])?;
            transaction.prepare_cached("DELETE FROM vector WHERE id = ?1")?.execute([id])?;
        }
        let left = self.entries.saturating_sub(ids.len() as u64);
        count(&transaction, left)?;
        transaction.commit()?;
        self.entries = left;
        Ok(ids.len() as u64)
    }

    /// Number of entries.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Pages of the file, and empty pages among them.
    pub fn pages(&self) -> Result<(u64, u64)> {
        let number = |pragma: &str| -> Result<u64> {
            let n: i64 = self.connection.prepare_cached(pragma)?.query_row([], |row| row.get(0))?;
            Ok(u64::try_from(n).unwrap_or(0))
        };
        Ok((number("PRAGMA page_count")?, number("PRAGMA freelist_count")?))
    }

    /// Removes as many empty pages as fit into one transaction.
    pub fn shrink(&self, limits: Limits) -> Result<()> {
        let pages = (limits.step / (4 * FRAME)).clamp(1, 2000);
        // Each page is a step of the statement.
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// Bytes of the log.
    pub fn log_bytes(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |found| found.len())
    }

    /// Bytes of file and log.
    pub fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |found| found.len()) + self.log_bytes()
    }

    /// Runs a checkpoint: copies the log into the file and empties it.
    pub fn empty_log(&mut self) -> Result<()> {
        // The file may become shorter now.
        self.length = 0;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        let found = fs::symlink_metadata(&self.path);
        self.length = found.map_or(0, |found| found.len());
        Ok(())
    }
}

fn create(folder: &Path, path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o750).create(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e.into()),
        _ => {}
    }
    // Regardless of the process's umask.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    file.set_permissions(Permissions::from_mode(0o640))?;
    Ok(())
}

fn make_tables(connection: &Connection) -> Result<()> {
    let transaction = connection.unchecked_transaction()?;
    for table in SCHEMA {
        transaction.execute(table, [])?;
    }
    transaction.execute("INSERT INTO counted VALUES (1, 0)", [])?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(())
}

fn check_tables(connection: &Connection) -> Result<()> {
    let mut statement = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY rowid")?;
    let found: Vec<Option<String>> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    if found.iter().map(Option::as_deref).eq(SCHEMA.iter().map(|sql| Some(*sql))) {
        Ok(())
    } else {
        Err(Trouble::Damaged("its tables are not those of this version".into()))
    }
}

/// Whether the query returns a row.
fn note_use(connection: &Connection, key: &Key, used: i64) -> Result<bool> {
    let changed = connection
        .prepare_cached("UPDATE entry SET used = ?2 WHERE key = ?1")?
        .execute(params![&key.bytes()[..], used])?;
    Ok(changed > 0)
}

fn model_id(connection: &Connection, name: &str) -> Result<i64> {
    let found = connection
        .prepare_cached("SELECT id FROM model WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    connection.prepare_cached("INSERT INTO model (name) VALUES (?1)")?.execute([name])?;
    Ok(connection.last_insert_rowid())
}

fn count(connection: &Connection, entries: u64) -> Result<()> {
    let entries = i64::try_from(entries).unwrap_or(i64::MAX);
    connection.prepare_cached("UPDATE counted SET entries = ?1 WHERE id = 1")?.execute([entries])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn key(text: &str) -> Key {
        Key::new(&[7; 32], 0, text)
    }

    fn bytes(n: usize) -> Arc<[u8]> {
        (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect()
    }

    fn put(text: &str, model: &str, n: usize) -> Put {
        Put { key: key(text), model: model.into(), vector: bytes(n) }
    }

    fn get(file: &File, key: &Key) -> Result<Option<Arc<[u8]>>> {
        file.find(key).map(|found| found.map(|(vector, _)| vector))
    }

    fn temporary() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let folder = folder(directory.path());
        (directory, folder)
    }

    #[test]
    fn stored_entries_are_there_after_the_process_died() {
        let (_directory, folder) = temporary();
        let mut file = File::open(&folder, Limits::of(MIB)).unwrap();
        file.put(&[put("a", "m", 8), put("b", "n", 1536)]).unwrap();
        // As after a kill: nothing was closed.
        let copy = tempfile::tempdir().unwrap();
        for name in [FILE.to_owned(), format!("{FILE}-wal")] {
            std::fs::copy(folder.join(&name), copy.path().join(&name)).unwrap();
        }
        let again = File::open(copy.path(), Limits::of(MIB)).unwrap();
        assert_eq!(get(&again, &key("b")).unwrap(), Some(bytes(1536)));
        assert_eq!((get(&again, &key("c")).unwrap(), again.entries()), (None, 2));
        let mode = |name: &str| std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(FILE), mode(&format!("{FILE}-wal")), mode(".")), (0o640, 0o640, 0o750));
        assert!(!folder.join(format!("{FILE}-shm")).exists(), "nothing is mapped");
    }

    #[test]
    fn the_least_recently_used_go_and_a_models_go_alone() {
        let (_directory, folder) = temporary();
        let mut file = File::open(&folder, Limits::of(MIB)).unwrap();
        for i in 0..10 {
            file.put(&[put(&i.to_string(), if i < 5 { "m" } else { "n" }, 8)]).unwrap();
        }
        file.touch(&[key("1")]).unwrap();
        file.judge_ages(false).unwrap();
        assert_eq!(file.find(&key("0")).unwrap().map(|(_, old)| old), Some(true));
        assert_eq!(file.find(&key("9")).unwrap().map(|(_, old)| old), Some(false));
        file.touch(&[key("0"), key("9")]).unwrap();
        assert_eq!(file.evict(3).unwrap(), 3);
        assert!(file.has(&key("0")).unwrap() && !file.has(&key("3")).unwrap() && file.has(&key("4")).unwrap());
        assert_eq!(file.forget("m", 100).unwrap(), 2);
        assert_eq!(file.forget("m", 100).unwrap(), 0);
        assert_eq!(file.entries(), 5);
        assert!(file.has(&key("9")).unwrap());
    }

    #[test]
    fn file_and_log_stay_within_the_size_and_shrink() {
        for (size, dimensions) in [(MIB, 8), (MIB, 1536), (MIB, 16_383), (3 * MIB, 384)] {
            let (_directory, folder) = temporary();
            let limits = Limits::of(size);
            let mut file = File::open(&folder, limits).unwrap();
            let mut n = 0;
            let mut evicted = 0;
            while evicted == 0 || n < 500 {
                let mut batch = Vec::new();
                let mut step = 0;
                while batch.is_empty() || step + cost(&bytes(dimensions)) <= limits.step {
                    n += 1;
                    batch.push(put(&n.to_string(), "m", dimensions));
                    step += cost(&bytes(dimensions));
                }
                let used = |file: &File| file.pages().map(|(all, free)| all - free).unwrap();
                while used(&file) > limits.high() {
                    evicted += file.evict(limits.rows()).unwrap();
                    if file.log_bytes() > limits.step {
                        file.empty_log().unwrap();
                    }
                }
                file.put(&batch).unwrap();
                assert!(file.bytes() <= size, "{dimensions}: {} of {size}", file.bytes());
                if file.log_bytes() > limits.step {
                    file.empty_log().unwrap();
                }
            }
            while file.forget("m", limits.rows()).unwrap() > 0 {
                assert!(file.bytes() <= size + limits.step);
                if file.log_bytes() > limits.step {
                    file.empty_log().unwrap();
                }
            }
            while file.pages().unwrap().1 > 0 {
                file.shrink(limits).unwrap();
            }
            file.empty_log().unwrap();
            assert!(file.bytes() < 100_000, "{}", file.bytes());
            file.check_place().unwrap();
        }
    }

    #[test]
    fn damage_is_noticed_and_never_a_wrong_vector() {
        let (_directory, folder) = temporary();
        let mut file = File::open(&folder, Limits::of(4 * MIB)).unwrap();
        let all: Vec<Put> = (0..100).map(|i| put(&i.to_string(), "m", 64 + i)).collect();
        for batch in all.chunks(10) {
            file.put(batch).unwrap();
        }
        file.empty_log().unwrap();
        drop(file);
        let path = folder.join(FILE);
        let whole = std::fs::read(&path).unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        let mut noticed = 0;
        for round in 0..200 {
            let mut damaged = whole.clone();
            match round % 4 {
                0 => damaged.truncate(random.usize(1..whole.len())),
                1 => damaged[random.usize(0..whole.len())] ^= 1 << random.u8(0..8),
                2 => {
                    let at = random.usize(0..whole.len() - 512);
                    damaged[at..at + 512].iter_mut().for_each(|b| *b = random.u8(..));
                }
                _ => {
                    let (from, to) = (random.usize(1..whole.len() / 4096), random.usize(1..whole.len() / 4096));
                    damaged.copy_within(from * 4096..(from + 1) * 4096, to * 4096);
                }
            }
            std::fs::write(&path, &damaged).unwrap();
            match File::open(&folder, Limits::of(4 * MIB)) {
                Err(_) => noticed += 1,
                Ok(file) => {
                    for put in &all {
                        match get(&file, &put.key) {
                            Ok(Some(found)) => assert_eq!(found, put.vector, "round {round}"),
                            Ok(None) => {}
                            Err(_) => {
                                noticed += 1;
                                break;
                            }
                        }
                    }
                }
            }
            remove(&folder).unwrap();
            std::fs::create_dir_all(&folder).unwrap();
        }
        assert!(noticed > 50, "{noticed}");
    }

    #[test]
    fn files_of_others_are_refused() {
        let (_directory, folder) = temporary();
        let open = || File::open(&folder, Limits::of(MIB)).map(|_| ());
        let path = folder.join(FILE);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, "SELECT 1; this is no database. ".repeat(200)).unwrap();
        assert!(matches!(open(), Err(Trouble::Damaged(_))));
        remove(&folder).unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE entry (a)").unwrap();
        assert!(matches!(open(), Err(Trouble::Damaged(_))));
        remove(&folder).unwrap();
        open().unwrap();
        Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TRIGGER t AFTER INSERT ON entry BEGIN SELECT 1; END")
            .unwrap();
        assert!(matches!(open(), Err(Trouble::Damaged(_))), "a trigger of somebody else");
        remove(&folder).unwrap();
        std::fs::create_dir_all(path.join("x")).unwrap();
        assert!(matches!(open(), Err(Trouble::Unusable(_))), "a folder in its place");
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(matches!(open(), Err(Trouble::Unusable(_))), "a link in its place");
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::write(&folder, "").unwrap();
        assert!(matches!(open(), Err(Trouble::Unusable(_))), "a file in the folder's place");
    }

    #[test]
    fn a_file_that_goes_away_is_noticed() {
        let (_directory, folder) = temporary();
        let mut file = File::open(&folder, Limits::of(MIB)).unwrap();
        file.put(&[put("a", "m", 8)]).unwrap();
        file.empty_log().unwrap();
        file.check_place().unwrap();
        OpenOptions::new().write(true).open(folder.join(FILE)).unwrap().set_len(4096).unwrap();
        assert_eq!(file.check_place(), Err(Trouble::Damaged("it was cut".into())));
        std::fs::remove_file(folder.join(FILE)).unwrap();
        assert_eq!(file.check_place(), Err(Trouble::Damaged("it was deleted".into())));
    }
}
