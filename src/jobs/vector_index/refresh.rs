//! Moves changes into blocks, merges the blocks of a list, and builds an index again that has outgrown its lists.

use std::collections::{BTreeMap, HashSet};

use mysql_ml_index::{Block, BlockBuilder, Centroids, Encoder, Layout};

use super::super::rights::as_account;
use super::build::{encode, BLOCK};
use crate::mysql::sql::As;
use crate::mysql::statement::ProgressState;
use crate::tables::keyed::{Keyed, KeyedRows, KeyedVector};
use crate::tables::vector_indexes::{self as store, NewBlock, VectorIndex};
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;

/// Changes of one transaction, and rows read in one statement.
const CHANGES: u64 = 2000;
/// Blocks of a list beyond which they are merged.
const BLOCKS_OF_A_LIST: u64 = 8;

/// What a refresh has done.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub rows: u64,
    pub lists: u64,
}

/// Lists and form of the version that serves.
pub(super) struct Serving {
    layout: Layout,
    centroids: Centroids,
    version: u64,
}

impl Serving {
    fn of(index: &VectorIndex, interrupt: &dyn Interrupt) -> Result<Self> {
        let version = index.serving()?;
        let layout = Layout::from_bytes(&index.layout)?;
        let centroids = Centroids::from_rows(&layout, store::centroids(index.id, version, interrupt)?)?;
        Ok(Serving { layout, centroids, version })
    }
}

/// Moves changes into blocks and merges small blocks.
pub(super) fn refresh(
    index: &VectorIndex,
    keyed: &Keyed,
    state: &mut ProgressState,
    interrupt: &dyn Interrupt,
) -> Result<Done> {
    let (rows, serving) = fold(index, keyed, state, interrupt)?;
    let version = index.version.unwrap_or_default();
    let lists = store::fragmented(index.id, version, BLOCKS_OF_A_LIST, interrupt)?;
    if lists.is_empty() {
        return Ok(Done { rows, lists: 0 });
    }
    let serving = serving.map_or_else(|| Serving::of(index, interrupt), Ok)?;
    for (n, list) in lists.iter().enumerate() {
        state.show(&format!("vector index: merging lists, {n} of {}", lists.len()));
        merge(index, keyed, &serving, *list, interrupt)?;
    }
    Ok(Done { rows, lists: lists.len() as u64 })
}

/// Moves changes into blocks. Returns the number of their rows, and what it read for that.
pub(super) fn fold(
    index: &VectorIndex,
    keyed: &Keyed,
    state: &mut ProgressState,
    interrupt: &dyn Interrupt,
) -> Result<(u64, Option<Serving>)> {
    let recorder = index.recorder();
    let mut rows = 0;
    let mut changes = recorder.changes(CHANGES, interrupt)?;
    // Not those of writers who are faster than this job.
    let Some(last) = recorder.last_change(interrupt)? else { return Ok((0, None)) };
    let serving = Serving::of(index, interrupt)?;
    while changes.ids.first().is_some_and(|first| *first <= last) {
        interrupt.check()?;
        // The rows are read after their changes: at least as new.
        let found = read_rows(index, keyed, &changes.keys, interrupt)?;
        rows += found.rows.len() as u64;
        let (blocks, left_out) = blocks_of(&serving, &found.rows)?;
        store::fold(&recorder, serving.version, blocks, changes.ids, left_out, interrupt)?;
        state.show(&format!("vector index: {rows} changed rows"));
        changes = recorder.changes(CHANGES, interrupt)?;
    }
    Ok((rows, Some(serving)))
}

/// The rows of these keys that still exist and have a vector.
pub(super) fn read_rows(
    index: &VectorIndex,
    keyed: &Keyed,
    keys: &[Vec<u8>],
    interrupt: &dyn Interrupt,
) -> Result<KeyedRows> {
    let distinct: HashSet<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    // A key that cannot be read is one of before a change of the table's key: it has no row.
    let keys: Vec<_> = distinct.into_iter().filter_map(|key| keyed.literals(key).ok()).collect();
    let mut rows = KeyedRows::default();
    for part in keys.chunks(CHANGES as usize) {
        let (statement, keyed) = (keyed.select_rows(part), keyed.clone());
        let account = As::Owner(index.definer.clone());
        let found = as_account(&account, interrupt, move |s| {
            let result = s.run(statement.as_bytes())?;
            keyed.read(result)
        })?;
        rows.rows.extend(found.rows);
        rows.share.absorb(found.share);
    }
    Ok(rows)
}

/// Blocks of rows, by list. Returns the number of rows left out too.
fn blocks_of(serving: &Serving, rows: &[KeyedVector]) -> Result<(Vec<NewBlock>, u64)> {
    let encoder = Encoder::new(&serving.centroids);
    let mut builders: BTreeMap<u32, Vec<BlockBuilder>> = BTreeMap::new();
    let encoded = encode(&encoder, &serving.layout, rows, |list, row, code| {
        let blocks = builders.entry(list).or_default();
        if blocks.last().is_none_or(|block| block.len() >= BLOCK) {
            blocks.push(BlockBuilder::new(&serving.layout));
        }
        blocks.last_mut().map_or(Ok(()), |block| block.push(&row.key, code))
    })?;
    let blocks = builders.into_iter().flat_map(|(list, blocks)| blocks.into_iter().map(move |b| (list, b)));
    let blocks = blocks.map(|(list, block)| NewBlock { list, codes: block.len(), bytes: block.finish() }).collect();
    Ok((blocks, encoded.left_out))
}

/// Writes a list's blocks anew from the rows as they are: codes of deleted rows go, and those of rows that belong to
/// other lists now move there.
fn merge(index: &VectorIndex, keyed: &Keyed, serving: &Serving, list: u64, interrupt: &dyn Interrupt) -> Result<()> {
    let old = store::blocks_of(index.id, serving.version, list, interrupt)?;
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for (_, bytes) in &old {
        let block = Block::parse(&serving.layout, bytes)?;
        keys.extend(block.keys().map(<[u8]>::to_vec));
    }
    let rows = read_rows(index, keyed, &keys, interrupt)?;
    let (new, _) = blocks_of(serving, &rows.rows)?;
    let numbers = old.iter().map(|(block, _)| *block).collect();
    store::replace_blocks(index.id, serving.version, list, numbers, new, interrupt)
}
