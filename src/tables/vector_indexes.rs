//! The tables of vector indexes: registry, lists, blocks of codes, and changes. The schema `mysql_ml` belongs to the
//! library's own account.

use std::time::Instant;

use super::layout::quoted;
use super::recorder::Recorder;
use crate::mysql::error_numbers::{ER_DUP_ENTRY, ER_NO_SUCH_TABLE};
use crate::mysql::session::{Param, Row, Session};
use crate::mysql::sql::{with_session, As, SessionKind, SQL_TIMEOUT};
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

/// Prefix of the names of triggers and events.
pub const PREFIX: &str = "ml_vectors_";
/// The schema of the tables.
pub const SCHEMA: &str = "mysql_ml";

/// A registered index.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorIndex {
    /// Its number.
    pub id: u64,
    /// Its name, if it was given one; unique in its schema.
    pub name: Option<String>,
    /// The schema of its table.
    pub schema: String,
    /// Its table.
    pub table: String,
    /// Its column.
    pub column: String,
    /// The account that created it; triggers, event and jobs run as this account.
    pub definer: Account,
    /// The random part of the names of its triggers, its event and its view.
    pub object: String,
    /// `cosine`, `l2_squared` or `dot_product`.
    pub measure: String,
    /// The form of its codes, as `crates/index` writes it.
    pub layout: Vec<u8>,
    /// The version that serves searches; `None` before the first build.
    pub version: Option<u64>,
    /// Lists of that version.
    pub lists: u64,
    /// Lists to read for a share of the neighbours: pairs of both, ascending.
    pub coverage: Vec<(u64, f64)>,
    /// Rows when that version was built.
    pub rows: u64,
    /// Rows that were left out: vectors of another width, zero vectors of a cosine index.
    pub left_out: u64,
    /// Why it must be rebuilt, if it must.
    pub stale: Option<String>,
    /// Changes that are not in blocks yet, if they were counted.
    pub changes: u64,
    /// Codes in blocks.
    pub codes: u64,
    /// Bytes of its blocks and lists.
    pub bytes: u64,
    /// Recall of the last check.
    pub recall: Option<f64>,
    /// When the version that serves was published, seconds since 1970.
    pub built_at: Option<f64>,
    /// The table's files when its rows were read or last found to be the same: [`VectorIndex::spaces`], then the time of the
    /// table's creation.
    pub files: Option<String>,
    /// The server, and the tablespaces of the table and its partitions, when the index was read.
    pub spaces: String,
}

/// From this many changes on, searches read the table instead of the index.
pub const MOST_CHANGES: u64 = 20_000;

impl VectorIndex {
    /// The table's name as SQL.
    pub fn table_name(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    /// The version that serves searches; an error before the first build has ended.
    pub fn serving(&self) -> Result<u64> {
        self.version
            .ok_or_else(|| Error::invalid("the vector index was never built to its end; call ai.rebuild_vector_index"))
    }

    /// Where its triggers record changes.
    pub fn recorder(&self) -> Recorder {
        Recorder {
            changes: "vector_changes",
            column: "index_id",
            id: self.id,
            name: format!("changes_{}", self.object),
            account: self.definer.clone(),
        }
    }

    /// Its schema and its name, or else the name of its event.
    pub fn shown_name(&self) -> String {
        let unnamed = || format!("{}{}", PREFIX, self.object);
        format!("{}.{}", self.schema, self.name.clone().unwrap_or_else(unnamed))
    }
}

/// What a build makes of an index.
#[derive(Debug, Clone)]
pub struct Built {
    /// The form of its codes.
    pub layout: Vec<u8>,
    /// The new version.
    pub version: u64,
    /// Its lists.
    pub lists: u64,
    /// See [`VectorIndex::coverage`].
    pub coverage: Vec<(u64, f64)>,
    /// Rows with a code.
    pub rows: u64,
    /// See [`VectorIndex::left_out`].
    pub left_out: u64,
}

/// A block to insert.
#[derive(Debug)]
pub struct NewBlock {
    /// Its list.
    pub list: u32,
    /// Number of codes.
    pub codes: usize,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Runs `work` in a session of the library's account.
pub fn library<T: Send + 'static>(
    interrupt: &dyn Interrupt,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<T> {
    let deadline = Instant::now() + SQL_TIMEOUT;
    with_session(&As::Library, SessionKind::LibraryStatement, interrupt, deadline, work).map_err(|e| match e.kind() {
        Kind::Server(ER_NO_SUCH_TABLE) => Error::new(Kind::NotFound, format!("{}; run install-ai.sql", e.message())),
        _ => e,
    })
}

const COLUMNS: &str = "SELECT i.index_id, i.table_schema, i.table_name, i.column_name, i.definer, i.object_name, \
     i.distance_measure, i.layout, i.version, i.lists, CAST(i.coverage AS CHAR), i.row_count, i.left_out, i.stale, i.recall, UNIX_TIMESTAMP(i.built_at) + 0e0, i.index_name, i.files";

fn read(row: &Row) -> Result<VectorIndex> {
    let definer: String = row.get(4)?;
    Ok(VectorIndex {
        id: row.get(0)?,
        schema: row.get(1)?,
        table: row.get(2)?,
        column: row.get(3)?,
        definer: Account::parse(&definer).unwrap_or(Account { user: definer, host: String::new() }),
        object: row.get(5)?,
        measure: row.get(6)?,
        layout: row.get(7)?,
        version: row.get(8)?,
        lists: row.get(9)?,
        coverage: row.get::<Option<String>>(10)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        rows: row.get(11)?,
        left_out: row.get(12)?,
        stale: row.get(13)?,
        recall: row.get(14)?,
        built_at: row.get(15)?,
        name: row.get(16)?,
        files: row.get(17)?,
        spaces: String::new(),
        changes: 0,
        codes: 0,
        bytes: 0,
    })
}

/// The server, and the tablespaces of a table and its partitions, as one text. EXCHANGE PARTITION changes it, and so do
/// TRUNCATE and whatever writes the table anew. IMPORT TABLESPACE does not.
const SPACES: &str =
    "(SELECT CONCAT(@@server_uuid, ' ', COUNT(*), ':', COALESCE(SUM(CAST(b.SPACE AS UNSIGNED)), 0), ':', \
     COALESCE(BIT_XOR(CRC32(CONCAT(b.NAME, ' ', b.SPACE))), 0)) FROM information_schema.INNODB_TABLESPACES_BRIEF b \
     WHERE b.NAME = ? OR b.NAME > ? AND b.NAME < ?)";

/// The parameters of [`SPACES`]: the tablespace of a table, and the range of those of its partitions, `schema/table#p#...`.
fn space_names(schema: &str, table: &str) -> [String; 3] {
    ["", "#p#", "#p$"].map(|end| format!("{schema}/{table}{end}"))
}

/// [`VectorIndex::spaces`] of a table now.
pub fn spaces(schema: &str, table: &str, interrupt: &dyn Interrupt) -> Result<String> {
    let names = space_names(schema, table);
    library(interrupt, move |s| {
        let found = s.query_pieces(&["SELECT ", SPACES], &names.each_ref().map(|name| Param::from(name.as_str())))?;
        found.rows.first().map_or_else(|| Ok(String::new()), |row| row.get(0))
    })
}

/// The indexes of a column, with the table's tablespaces.
pub fn of_column(schema: &str, table: &str, column: &str, interrupt: &dyn Interrupt) -> Result<Vec<VectorIndex>> {
    let [space, first, end] = space_names(schema, table);
    let names = [space, first, end, schema.to_owned(), table.to_owned(), column.to_owned()];
    library(interrupt, move |s| {
        let found = s.query_pieces(
            &[
                COLUMNS,
                ", ",
                SPACES,
                " FROM mysql_ml.vector_indexes i \
                 WHERE i.table_schema = ? AND i.table_name = ? AND i.column_name = ? ORDER BY i.index_id",
            ],
            &names.each_ref().map(|name| Param::from(name.as_str())),
        )?;
        let read = |row| Ok(VectorIndex { spaces: Row::get(row, 18)?, ..read(row)? });
        found.rows.iter().map(read).collect()
    })
}

/// The number of changes that wait, at most one more than [`MOST_CHANGES`].
pub fn count_changes(id: u64, interrupt: &dyn Interrupt) -> Result<u64> {
    library(interrupt, move |s| {
        let found = s.query(
            "SELECT COUNT(*) FROM (SELECT 1 FROM mysql_ml.vector_changes WHERE index_id = ? LIMIT ?) AS n",
            &[Param::Number(id), Param::Number(MOST_CHANGES + 1)],
        )?;
        found.rows.first().map_or(Ok(0), |row| row.get(0))
    })
}

/// The indexes of a name, in one schema or in all.
pub fn of_name(schema: Option<&str>, name: &str, interrupt: &dyn Interrupt) -> Result<Vec<VectorIndex>> {
    let (schema, name) = (schema.map(str::to_owned), name.to_owned());
    library(interrupt, move |s| {
        let mut params: Vec<Param<'_>> = vec![name.as_str().into(), PREFIX.into(), name.as_str().into()];
        let mut pieces = vec![
            COLUMNS,
            " FROM mysql_ml.vector_indexes i WHERE (i.index_name = ? OR i.index_name IS NULL AND CONCAT(?, i.object_name) = ?)",
        ];
        if let Some(schema) = &schema {
            pieces.push(" AND i.table_schema = ?");
            params.push(schema.as_str().into());
        }
        let found = s.query_pieces(&pieces, &params)?;
        found.rows.iter().map(read).collect()
    })
}

/// All indexes, ordered by name.
pub fn all(interrupt: &dyn Interrupt) -> Result<Vec<VectorIndex>> {
    library(interrupt, |s| {
        let found = s.query_pieces(
            &[
                COLUMNS,
                " FROM mysql_ml.vector_indexes i ORDER BY i.table_schema, i.table_name, i.column_name, i.distance_measure",
            ],
            &[],
        )?;
        found.rows.iter().map(read).collect()
    })
}

/// Reads the numbers of changes and codes, and the bytes.
pub fn measure(index: &mut VectorIndex, interrupt: &dyn Interrupt) -> Result<()> {
    let (id, version) = (index.id, index.version.unwrap_or_default());
    (index.changes, index.codes, index.bytes) = library(interrupt, move |s| {
        // Blocks are not read: a block's row has its size.
        let found = s.query(
            "SELECT (SELECT COUNT(*) FROM mysql_ml.vector_changes WHERE index_id = ?), \
             CAST(COALESCE(SUM(codes_count), 0) AS UNSIGNED), CAST(COALESCE(SUM(bytes), 0) AS UNSIGNED) \
             + (SELECT CAST(COALESCE(SUM(LENGTH(centroid)), 0) AS UNSIGNED) FROM mysql_ml.vector_lists WHERE index_id = ? AND version = ?) \
             FROM mysql_ml.vector_blocks WHERE index_id = ? AND version = ?",
            &[id, id, version, id, version].map(Param::Number),
        )?;
        found.rows.first().map_or(Ok((0, 0, 0)), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
    })?;
    Ok(())
}

/// Registers an index. Returns its number.
pub fn create(index: &VectorIndex, interrupt: &dyn Interrupt) -> Result<u64> {
    let index = index.clone();
    library(interrupt, move |s| {
        let definer = index.definer.to_string();
        let inserted = s.query(
            "INSERT INTO mysql_ml.vector_indexes (index_name, table_schema, table_name, column_name, definer, object_name, \
             distance_measure, layout) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            &[
                index.name.as_deref().map_or(Param::Null, Param::from),
                index.schema.as_str().into(),
                index.table.as_str().into(),
                index.column.as_str().into(),
                definer.as_str().into(),
                index.object.as_str().into(),
                index.measure.as_str().into(),
                Param::Bytes(&index.layout),
            ],
        );
        inserted.map_err(|e| match e.kind() {
            Kind::Server(ER_DUP_ENTRY) if e.message().contains(".index_name'") => Error::new(
                Kind::AlreadyExists,
                format!(
                    "the vector index {} exists already; drop it first, or choose another name",
                    index.shown_name()
                ),
            ),
            Kind::Server(ER_DUP_ENTRY) => Error::new(
                Kind::AlreadyExists,
                format!(
                    "column {} of {} has a vector index for {} already; rebuild it, or drop it first",
                    index.column,
                    index.table_name(),
                    index.measure
                ),
            ),
            _ => e,
        })?;
        let id = s.query("SELECT LAST_INSERT_ID()", &[])?;
        let id: u64 = id.rows.first().map(|row| row.get(0)).transpose()?.unwrap_or_default();
        Ok(id)
    })
}

/// Removes an index and all that belongs to it in the library's tables, in short transactions.
pub fn delete(index: &VectorIndex, interrupt: &dyn Interrupt) -> Result<()> {
    let registered = index.clone();
    library(interrupt, move |s| {
        registered.recorder().remove(s)?;
        s.query("DELETE FROM mysql_ml.vector_indexes WHERE index_id = ?", &[Param::Number(registered.id)]).map(|_| ())
    })?;
    delete_versions(index.id, None, interrupt)?;
    index.recorder().delete_all_changes(interrupt)
}

/// Removes lists and blocks of all versions but one, a few at a time.
pub fn delete_versions(id: u64, but: Option<u64>, interrupt: &dyn Interrupt) -> Result<()> {
    // No version is 0.
    let but = but.unwrap_or(0);
    loop {
        let affected = library(interrupt, move |s| {
            let params = [Param::Number(id), Param::Number(but)];
            let blocks =
                s.query("DELETE FROM mysql_ml.vector_blocks WHERE index_id = ? AND version <> ? LIMIT 64", &params)?;
            let lists =
                s.query("DELETE FROM mysql_ml.vector_lists WHERE index_id = ? AND version <> ? LIMIT 1000", &params)?;
            Ok(blocks.affected + lists.affected)
        })?;
        if affected == 0 {
            return Ok(());
        }
    }
}

/// A version number that no lists or blocks have.
pub fn next_version(id: u64, interrupt: &dyn Interrupt) -> Result<u64> {
    library(interrupt, move |s| {
        let found = s.query(
            "SELECT 1 + GREATEST(COALESCE((SELECT MAX(version) FROM mysql_ml.vector_lists WHERE index_id = ?), 0), \
             COALESCE((SELECT MAX(version) FROM mysql_ml.vector_blocks WHERE index_id = ?), 0), \
             COALESCE((SELECT MAX(version) FROM mysql_ml.vector_indexes WHERE index_id = ?), 0))",
            &[Param::Number(id), Param::Number(id), Param::Number(id)],
        )?;
        found.rows.first().map_or(Ok(1), |row| row.get(0))
    })
}

/// Inserts lists of a version, numbered from `first`.
pub fn insert_lists(s: &mut Session, id: u64, version: u64, first: usize, centroids: &[Vec<u8>]) -> Result<()> {
    for (n, centroid) in centroids.iter().enumerate() {
        let list = u64::try_from(first + n).unwrap_or(u64::MAX);
        s.query(
            "INSERT INTO mysql_ml.vector_lists (index_id, version, list, centroid) VALUES (?, ?, ?, ?)",
            &[Param::Number(id), Param::Number(version), Param::Number(list), Param::Bytes(centroid)],
        )?;
    }
    Ok(())
}

/// Inserts blocks, each after the last one of its list.
pub fn insert_blocks(s: &mut Session, id: u64, version: u64, blocks: &[NewBlock]) -> Result<()> {
    for block in blocks {
        let list = Param::Number(block.list.into());
        s.query(
            "INSERT INTO mysql_ml.vector_blocks (index_id, version, list, block, codes_count, bytes, codes) \
             SELECT ?, ?, ?, 1 + COALESCE(MAX(block), 0), ?, ?, ? FROM mysql_ml.vector_blocks \
             WHERE index_id = ? AND version = ? AND list = ?",
            &[
                Param::Number(id),
                Param::Number(version),
                list,
                Param::Number(block.codes as u64),
                Param::Number(block.bytes.len() as u64),
                Param::Bytes(&block.bytes),
                Param::Number(id),
                Param::Number(version),
                list,
            ],
        )?;
    }
    Ok(())
}

/// Makes a built version the one that serves.
pub fn publish(id: u64, built: &Built, files: &str, interrupt: &dyn Interrupt) -> Result<()> {
    let (built, files) = (built.clone(), files.to_owned());
    library(interrupt, move |s| {
        let coverage = serde_json::to_string(&built.coverage).unwrap_or_default();
        s.query(
            "UPDATE mysql_ml.vector_indexes SET layout = ?, version = ?, lists = ?, coverage = ?, row_count = ?, left_out = ?, \
             stale = NULL, built_at = CURRENT_TIMESTAMP(6), files = ? WHERE index_id = ?",
            &[
                Param::Bytes(&built.layout),
                Param::Number(built.version),
                Param::Number(built.lists),
                coverage.as_str().into(),
                Param::Number(built.rows),
                Param::Number(built.left_out),
                files.as_str().into(),
                Param::Number(id),
            ],
        )
        .map(|_| ())
    })
}

/// Records the files of the table, whose rows are the same.
pub fn set_files(id: u64, files: &str, interrupt: &dyn Interrupt) -> Result<()> {
    let files = files.to_owned();
    library(interrupt, move |s| {
        let params = [files.as_str().into(), Param::Number(id)];
        s.query("UPDATE mysql_ml.vector_indexes SET files = ? WHERE index_id = ?", &params).map(|_| ())
    })
}

/// Records why an index must be rebuilt.
pub fn set_stale(id: u64, reason: &str, interrupt: &dyn Interrupt) -> Result<()> {
    let reason = reason.to_owned();
    library(interrupt, move |s| {
        let params = [reason.as_str().into(), Param::Number(id)];
        s.query("UPDATE mysql_ml.vector_indexes SET stale = ? WHERE index_id = ? AND stale IS NULL", &params)
            .map(|_| ())
    })
}

/// Records the recall of a check.
pub fn set_recall(id: u64, recall: f64, interrupt: &dyn Interrupt) -> Result<()> {
    library(interrupt, move |s| {
        let recall = format!("{recall:.4}");
        s.query(
            "UPDATE mysql_ml.vector_indexes SET recall = ?, checked_at = CURRENT_TIMESTAMP(6) WHERE index_id = ?",
            &[recall.as_str().into(), Param::Number(id)],
        )
        .map(|_| ())
    })
}

/// The centroids of a version, in order.
pub fn centroids(id: u64, version: u64, interrupt: &dyn Interrupt) -> Result<Vec<Vec<u8>>> {
    library(interrupt, move |s| {
        let found = s.query(
            "SELECT centroid FROM mysql_ml.vector_lists WHERE index_id = ? AND version = ? ORDER BY list",
            &[Param::Number(id), Param::Number(version)],
        )?;
        let mut rows = found.rows;
        rows.iter_mut().map(|row| Ok(row.take_bytes(0)?.unwrap_or_default())).collect()
    })
}

/// Inserts blocks and removes changes in one transaction: a search sees the rows in one of both. `left_out`: changed rows
/// without a code.
pub fn fold(
    recorder: &Recorder,
    version: u64,
    blocks: Vec<NewBlock>,
    changes: Vec<u64>,
    left_out: u64,
    interrupt: &dyn Interrupt,
) -> Result<()> {
    let (id, recorder) = (recorder.id, recorder.clone());
    library(interrupt, move |s| {
        in_transaction(s, |s| {
            insert_blocks(s, id, version, &blocks)?;
            if left_out > 0 {
                let params = [Param::Number(left_out), Param::Number(id)];
                s.query("UPDATE mysql_ml.vector_indexes SET left_out = left_out + ? WHERE index_id = ?", &params)?;
            }
            recorder.delete_changes(s, &changes)
        })
    })
}

/// The blocks of a list: their numbers and bytes.
pub fn blocks_of(id: u64, version: u64, list: u64, interrupt: &dyn Interrupt) -> Result<Vec<(u64, Vec<u8>)>> {
    library(interrupt, move |s| {
        let found = s.query(
            "SELECT block, codes FROM mysql_ml.vector_blocks WHERE index_id = ? AND version = ? AND list = ? ORDER BY block",
            &[Param::Number(id), Param::Number(version), Param::Number(list)],
        )?;
        let mut rows = found.rows;
        rows.iter_mut().map(|row| Ok((row.get(0)?, row.take_bytes(1)?.unwrap_or_default()))).collect()
    })
}

/// Codes in the blocks of a version.
pub fn codes(id: u64, version: u64, interrupt: &dyn Interrupt) -> Result<u64> {
    library(interrupt, move |s| {
        let found = s.query(
            "SELECT CAST(COALESCE(SUM(codes_count), 0) AS UNSIGNED) FROM mysql_ml.vector_blocks WHERE index_id = ? AND version = ?",
            &[Param::Number(id), Param::Number(version)],
        )?;
        found.rows.first().map_or(Ok(0), |row| row.get(0))
    })
}

/// Lists with more than `blocks` blocks. Those of many codes wait for the next build.
pub fn fragmented(id: u64, version: u64, blocks: u64, interrupt: &dyn Interrupt) -> Result<Vec<u64>> {
    library(interrupt, move |s| {
        let found = s.query(
            "SELECT list FROM mysql_ml.vector_blocks WHERE index_id = ? AND version = ? GROUP BY list HAVING COUNT(*) > ? \
             AND SUM(codes_count) < 50000 AND COUNT(*) > 2 * CEILING(SUM(codes_count) / 1000) ORDER BY COUNT(*) DESC LIMIT 1000",
            &[Param::Number(id), Param::Number(version), Param::Number(blocks)],
        )?;
        found.rows.iter().map(|row| row.get(0)).collect()
    })
}

/// Puts new blocks in the place of old ones of a list, in one transaction.
pub fn replace_blocks(
    id: u64,
    version: u64,
    list: u64,
    old: Vec<u64>,
    new: Vec<NewBlock>,
    interrupt: &dyn Interrupt,
) -> Result<()> {
    library(interrupt, move |s| {
        in_transaction(s, |s| {
            insert_blocks(s, id, version, &new)?;
            let old: Vec<String> = old.iter().map(u64::to_string).collect();
            let delete = format!(
                "DELETE FROM mysql_ml.vector_blocks WHERE index_id = {id} AND version = {version} AND list = {list} \
                 AND block IN ({})",
                old.join(",")
            );
            s.run(delete.as_bytes()).map(|_| ())
        })
    })
}

fn in_transaction(s: &mut Session, work: impl FnOnce(&mut Session) -> Result<()>) -> Result<()> {
    s.query("START TRANSACTION", &[])?;
    let done = work(s);
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = s.query(end, &[]).map(|_| ());
    done.and(ended)
}
