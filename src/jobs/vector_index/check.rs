//! Compares an index with its table, and measures the recall of searches.

use std::collections::HashSet;
use std::time::Instant;

use mysql_ml_index::{Block, Layout};
use serde_json::json;
use surface::functions;

use super::super::rights::as_account;
use super::super::search::known::{default_lists, forget};
use super::super::search::proposed::{candidates_for, read_candidates};
use super::super::Jobs;
use super::access::table_of;
use super::build::Pages;
use super::measures::{distance_sql, take_measure};
use super::refresh::read_rows;
use crate::mysql::sql::As;
use crate::mysql::statement::ProgressState;
use crate::tables::keyed::Keyed;
use crate::tables::layout::quoted;
use crate::tables::vector_indexes::{self as store, VectorIndex, MOST_CHANGES};
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::vector::from_bytes;
use mysql_ml_core::catalog::members;

/// Rows of an answer whose recall is measured.
const NEAREST: usize = 10;
/// Queries by default.
const QUERIES: u64 = 20;
/// Bytes of a key in a set, besides its own.
const BESIDE_A_KEY: usize = 48;

impl Jobs {
    /// Compares an index with its table; see docs/search.md. Returns a JSON object with the counts.
    pub fn check_vector_index(
        &self,
        table: &str,
        column: &str,
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        self.engine.may_call(functions::ai_check_vector_index, interrupt)?;
        let start = Instant::now();
        let mut members = members::of(options)?;
        let measure = take_measure(&mut members)?;
        let queries = members::number(&mut members, "queries", 1, 1000)?.unwrap_or(QUERIES);
        members::none_left(&members, "distance_measure, queries")?;
        // Blocks stay where they are meanwhile.
        let (_held, index) = self.reserve(table, column, measure.as_deref(), interrupt)?;
        let version = index.serving()?;
        let keyed = table_of(&index, interrupt)?;
        let mut state = ProgressState::begin();
        state.show("vector index: reading the keys of the table");
        let mut share = Reservation::default();
        let rows = keys_of_table(&index, &keyed, &mut share, interrupt)?;
        state.show("vector index: reading the keys of the index");
        let indexed = keys_of_index(&index, version, &mut share, interrupt)?;
        let missing: Vec<&Vec<u8>> = rows.difference(&indexed).collect();
        let dead = indexed.difference(&rows).count();
        // Rows deleted meanwhile are not missing, nor are those recorded meanwhile.
        let missing = still_missing(&index, &keyed, &missing, interrupt)?;
        if missing > 0 {
            store::set_stale(index.id, "a check found rows that it lacks", interrupt)?;
        }
        state.show("vector index: measuring its recall");
        let recall = self.recall(&index, &keyed, queries, interrupt)?;
        if let Some((recall, _)) = recall {
            store::set_recall(index.id, recall, interrupt)?;
        }
        forget(&index);
        Ok(json!({
            "rows": rows.len(), "missing": missing, "dead": dead,
            "queries": recall.map_or(0, |(_, queries)| queries), "recall": recall.map(|(recall, _)| recall),
            "seconds": (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        })
        .to_string())
    }

    /// The mean recall of the nearest rows of random rows' vectors, and the number of these.
    fn recall(
        &self,
        index: &VectorIndex,
        keyed: &Keyed,
        queries: u64,
        interrupt: &dyn Interrupt,
    ) -> Result<Option<(f64, usize)>> {
        let layout = Layout::from_bytes(&index.layout)?;
        let v = quoted(&keyed.column);
        let random = format!(
            "SELECT HEX({v}) FROM {} FORCE INDEX ({}) WHERE {v} IS NOT NULL AND LENGTH({v}) = {} ORDER BY RAND() LIMIT {queries}",
            keyed.name(),
            // Not possible on a view that was put in the place of the table.
            quoted(&keyed.index),
            layout.dimensions() * 4
        );
        let account = As::Owner(index.definer.clone());
        let vectors: Vec<String> = as_account(&account, interrupt, move |s| {
            s.run(random.as_bytes())?.rows.iter().map(|row| row.get(0)).collect()
        })?;
        let (mut found, mut all) = (0, 0);
        let lists = default_lists(index);
        let most = candidates_for(NEAREST as u64);
        for vector in &vectors {
            interrupt.check()?;
            let query = format!("_binary x'{vector}'");
            let distance = distance_sql(&index.measure, &v, &query);
            let exact = format!(
                "SELECT {distance} FROM {} FORCE INDEX ({}) WHERE {v} IS NOT NULL AND LENGTH({v}) = {} ORDER BY 1 LIMIT {NEAREST}",
                keyed.name(),
                quoted(&keyed.index),
                layout.dimensions() * 4
            );
            let true_distances: Vec<f64> = as_account(&account, interrupt, move |s| {
                s.run(exact.as_bytes())?.rows.iter().map(|row| row.get(0)).collect()
            })?;
            let (id, rows) = (index.id, NEAREST);
            let call = format!("SELECT mysql_ml.vector_candidates({id}, {query}, {lists}, {rows}, {most}, {most})");
            let candidates: String = store::library(interrupt, move |s| {
                Jobs::global().searches.allow(s.id().into(), id);
                let found = s.run(call.as_bytes())?;
                found.rows.first().map_or(Ok(String::new()), |row| row.get(0))
            })?;
            let keys = read_candidates(&candidates)?.keys;
            let keys = keys.iter().map(|key| keyed.literals(key)).collect::<Result<Vec<_>>>()?;
            let Some(farthest) = true_distances.last().copied() else { continue };
            all += true_distances.len();
            if keys.is_empty() {
                continue;
            }
            let table = keyed.name();
            let near = format!(
                "SELECT COUNT(*) FROM {} STRAIGHT_JOIN {table} FORCE INDEX ({}) ON {} WHERE {table}.{v} IS NOT NULL \
                 AND LENGTH({table}.{v}) = {} AND {} <= {farthest:e}",
                keyed.derived(keys.iter().map(|key| (key, None))),
                quoted(&keyed.index),
                keyed.matching(&table),
                layout.dimensions() * 4,
                distance_sql(&index.measure, &format!("{table}.{v}"), &query)
            );
            let near: u64 = as_account(&account, interrupt, move |s| {
                s.run(near.as_bytes())?.rows.first().map_or(Ok(0), |row| row.get(0))
            })?;
            // Rows at equal distances may be more.
            found += usize::try_from(near).unwrap_or(usize::MAX).min(true_distances.len());
        }
        Ok((all > 0).then(|| (found as f64 / all as f64, vectors.len())))
    }
}

/// The keys of the rows that belong into the index.
fn keys_of_table(
    index: &VectorIndex,
    keyed: &Keyed,
    share: &mut Reservation,
    interrupt: &dyn Interrupt,
) -> Result<HashSet<Vec<u8>>> {
    let layout = Layout::from_bytes(&index.layout)?;
    let mut keys = HashSet::new();
    let mut pages = Pages::new(index, keyed);
    while let Some(page) = pages.next(interrupt)? {
        for row in page.rows {
            let vector = from_bytes(&row.vector);
            let squares: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            // As the encoder leaves them out.
            let longest = 1e36;
            let zero = squares == 0.0 && layout.metric() == mysql_ml_index::Metric::Cosine;
            if row.vector.len() != layout.dimensions() * 4 || zero || !squares.is_finite() || squares >= longest {
                continue;
            }
            share.spend(row.key.len() + BESIDE_A_KEY, "keys of a table")?;
            keys.insert(row.key);
        }
    }
    Ok(keys)
}

fn keys_of_index(
    index: &VectorIndex,
    version: u64,
    share: &mut Reservation,
    interrupt: &dyn Interrupt,
) -> Result<HashSet<Vec<u8>>> {
    let layout = Layout::from_bytes(&index.layout)?;
    let mut keys = HashSet::new();
    let mut take = |key: &[u8]| {
        share.spend(key.len() + BESIDE_A_KEY, "keys of an index")?;
        keys.insert(key.to_vec());
        Ok::<(), Error>(())
    };
    // Before the blocks: a change that moves into a block meanwhile is seen there.
    for key in index.recorder().changes(MOST_CHANGES * 100, interrupt)?.keys {
        take(&key)?;
    }
    for list in 0..index.lists {
        for (_, bytes) in store::blocks_of(index.id, version, list, interrupt)? {
            for key in Block::parse(&layout, &bytes)?.keys() {
                take(key)?;
            }
        }
    }
    Ok(keys)
}

/// How many of these rows exist and are not recorded as changes.
fn still_missing(index: &VectorIndex, keyed: &Keyed, missing: &[&Vec<u8>], interrupt: &dyn Interrupt) -> Result<usize> {
    if missing.is_empty() {
        return Ok(0);
    }
    let changed: HashSet<Vec<u8>> = index.recorder().changes(MOST_CHANGES * 100, interrupt)?.keys.into_iter().collect();
    let keys: Vec<Vec<u8>> = missing.iter().filter(|key| !changed.contains(**key)).map(|key| (*key).clone()).collect();
    let mut count = 0;
    for part in keys.chunks(1000) {
        count += read_rows(index, keyed, part, interrupt)?.rows.len();
    }
    Ok(count)
}
