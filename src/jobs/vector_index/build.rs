//! Builds a version of a vector index: trains lists on a sample, encodes all rows, and measures how many lists to read.

use std::sync::atomic::{AtomicBool, Ordering};

use mysql_ml_index as index;
use mysql_ml_index::{BlockBuilder, Calibrated, Calibration, Centroids, Encoder, Layout, LEFT_OUT};

use crate::mysql::session::Session;
use crate::mysql::sql::As;
use crate::mysql::statement::ProgressState;
use crate::tables::keyed::{Keyed, KeyedRows, KeyedVector};
use crate::tables::statements::Key;
use crate::tables::vector_indexes::{self as store, Built, NewBlock, VectorIndex};
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{Interrupt, POLL};
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::vector::from_bytes;

use super::super::rights::as_account;
use super::wanted::{Wanted, MOST_LISTS};

/// Codes of a full block.
pub(super) const BLOCK: usize = 1000;
/// The most bytes of codes that wait for their block to be full.
const WAITING_BYTES: usize = 64 << 20;
/// Bytes of a page of rows.
const PAGE_BYTES: usize = 8 << 20;
/// The most bytes of the sample.
const SAMPLE_BYTES: usize = 256 << 20;
/// Rows whose neighbours are looked for, and the number of these.
const QUERIES: usize = 200;
const NEIGHBOURS: usize = 10;

/// Builds a version and returns it; nothing serves it yet. `lists`: their number, if the user gave one.
pub(super) fn build(
    index: &VectorIndex,
    keyed: &Keyed,
    wanted: &Wanted,
    state: &mut ProgressState,
    interrupt: &dyn Interrupt,
) -> Result<Built> {
    let version = store::next_version(index.id, interrupt)?;
    let mut pages = Pages::new(index, keyed);
    state.show("vector index: reading a sample");
    let mut sample = Sample::new(keyed, wanted, estimate(index, keyed, interrupt)?)?;
    while let Some(page) = pages.next(interrupt)? {
        page.rows.iter().for_each(|row| sample.offer(&row.vector));
        state.show(&format!("vector index: reading a sample, {} rows", pages.read));
    }
    if sample.seen == 0 {
        sample.stand_in(index, keyed)?;
    }
    let layout = Layout::new(sample.dimensions, wanted.metric, wanted.bits, version)?;
    let lists = wanted.lists.unwrap_or_else(|| index::recommended_lists(sample.seen as u64)).clamp(1, MOST_LISTS);
    state.show(&format!("vector index: training {lists} lists on {} rows", sample.len()));
    let working = Reservation::take(index::train_bytes(&layout, sample.len(), lists), "the training of an index")?;
    let centroids = train(&layout, &sample.vectors, lists, interrupt)?;
    drop(working);
    let queries = sample.queries();
    drop(sample);
    let count = centroids.len();
    let rows: Vec<Vec<u8>> = (0..count).map(|list| centroids.encode(list).unwrap_or_default()).collect();
    for (n, part) in rows.chunks(64).enumerate() {
        let (part, id) = (part.to_vec(), index.id);
        store::library(interrupt, move |s| store::insert_lists(s, id, version, n * 64, &part))?;
    }
    // Searches compare with what they read, not with the unrounded centroids.
    let centroids = Centroids::from_rows(&layout, &rows)?;
    let encoder = Encoder::new(&centroids);
    let mut calibration = Calibration::new(&layout, &queries, NEIGHBOURS);
    let mut waiting = Waiting::new(&layout, count);
    let (mut encoded, mut left_out) = (0, 0);
    let mut pages = Pages::new(index, keyed);
    let mut next = pages.next(interrupt)?;
    while let Some(page) = next {
        let read = page.rows.len() as u64;
        let work = || -> Result<u64> {
            let page = encode(&encoder, &layout, &page.rows, |list, row, code| waiting.push(list, &row.key, code))?;
            calibration.offer(&page.vectors, &page.lists, threads());
            Ok(page.left_out)
        };
        // The server reads meanwhile.
        let (without, following) = beside(work, || pages.next(interrupt))?;
        next = following;
        encoded += read - without;
        left_out += without;
        for block in waiting.full()? {
            insert(index.id, version, vec![block], interrupt)?;
        }
        state.show(&format!("vector index: {encoded} rows"));
    }
    for block in waiting.rest() {
        insert(index.id, version, vec![block], interrupt)?;
    }
    let coverage = coverage(&calibration.finish(&centroids));
    Ok(Built { layout: layout.to_bytes(), version, lists: count as u64, coverage, rows: encoded, left_out })
}

/// Pairs of a number of lists and the share of the nearest rows in them, ascending.
fn coverage(calibrated: &Calibrated) -> Vec<(u64, f64)> {
    let mut pairs: Vec<(u64, f64)> = Vec::new();
    for share in (0..=200).map(|n| f64::from(n) / 200.0) {
        let lists = calibrated.probes(share) as u64;
        match pairs.last_mut() {
            Some((last, covered)) if *last == lists => *covered = share,
            _ => pairs.push((lists, share)),
        }
    }
    pairs
}

pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(8)
}

/// Vectors of rows and their lists.
pub(super) struct Encoded {
    pub vectors: Vec<f32>,
    pub lists: Vec<u32>,
    /// Rows without a code.
    pub left_out: u64,
}

/// Encodes rows and gives each code to `take`.
pub(super) fn encode(
    encoder: &Encoder<'_>,
    layout: &Layout,
    rows: &[KeyedVector],
    mut take: impl FnMut(u32, &KeyedVector, &index::Code) -> Result<()>,
) -> Result<Encoded> {
    let fitting: Vec<&KeyedVector> = rows.iter().filter(|row| row.vector.len() == layout.dimensions() * 4).collect();
    let vectors: Vec<f32> = fitting.iter().flat_map(|row| from_bytes(&row.vector)).collect();
    let lists = encoder.assign(&vectors, threads());
    let mut left_out = (rows.len() - fitting.len()) as u64;
    for ((row, list), vector) in fitting.iter().zip(&lists).zip(vectors.chunks_exact(layout.dimensions())) {
        match *list {
            LEFT_OUT => left_out += 1,
            list => take(list, row, &encoder.encode(vector, list)?)?,
        }
    }
    Ok(Encoded { vectors, lists, left_out })
}

fn insert(id: u64, version: u64, blocks: Vec<NewBlock>, interrupt: &dyn Interrupt) -> Result<()> {
    store::library(interrupt, move |s| store::insert_blocks(s, id, version, &blocks))
}

/// The server's estimate of the rows.
fn estimate(index: &VectorIndex, keyed: &Keyed, interrupt: &dyn Interrupt) -> Result<usize> {
    let (schema, table) = (keyed.schema.clone(), keyed.table.clone());
    as_account(&As::Owner(index.definer.clone()), interrupt, move |s: &mut Session| {
        let rows = s.query(
            "SELECT COALESCE(TABLE_ROWS, 0) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            &[schema.as_str().into(), table.as_str().into()],
        )?;
        rows.rows.first().map_or(Ok(0), |row| row.get(0))
    })
}

/// Does some work on another thread while this one does other work. Waits for both.
fn beside<A: Send, B>(work: impl FnOnce() -> Result<A> + Send, here: impl FnOnce() -> Result<B>) -> Result<(A, B)> {
    std::thread::scope(|scope| {
        let other = thread(scope, work)?;
        let done = here();
        let worked = other.join().map_err(|_| Error::internal("the work on an index panicked"))?;
        Ok((worked?, done?))
    })
}

fn thread<'s, A: Send + 's>(
    scope: &'s std::thread::Scope<'s, '_>,
    work: impl FnOnce() -> A + Send + 's,
) -> Result<std::thread::ScopedJoinHandle<'s, A>> {
    let named = std::thread::Builder::new().name("mysql_ml-index".into()).spawn_scoped(scope, work);
    named.map_err(|e| Error::new(Kind::Busy, format!("no thread for the index: {e}; call again")))
}

/// Trains on another thread while this one waits and hears KILL.
fn train(layout: &Layout, sample: &[f32], lists: usize, interrupt: &dyn Interrupt) -> Result<Centroids> {
    let stopped = AtomicBool::new(false);
    let stop = || stopped.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let training = thread(scope, || index::train(layout, sample, lists, threads(), &stop))?;
        let mut interrupted = Ok(());
        while !training.is_finished() {
            if interrupted.is_ok() {
                interrupted = interrupt.check();
                stopped.store(interrupted.is_err(), Ordering::Relaxed);
            }
            std::thread::sleep(POLL);
        }
        let trained = training.join().map_err(|_| Error::internal("the training of the index panicked"))?;
        interrupted?;
        trained.map_err(|_| Error::interrupted(1317))
    })
}

/// Reads a table in the key's order.
pub(super) struct Pages<'a> {
    index: &'a VectorIndex,
    keyed: &'a Keyed,
    after: Option<Key>,
    limit: usize,
    read: usize,
    ended: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(index: &'a VectorIndex, keyed: &'a Keyed) -> Self {
        let limit = (PAGE_BYTES / (keyed.width * 4 + 64)).clamp(16, 8192);
        Pages { index, keyed, after: None, limit, read: 0, ended: false }
    }

    pub(super) fn next(&mut self, interrupt: &dyn Interrupt) -> Result<Option<KeyedRows>> {
        if self.ended {
            return Ok(None);
        }
        let (statement, keyed) = (self.keyed.select_page(self.after.as_ref(), self.limit), self.keyed.clone());
        let mut page = as_account(&As::Owner(self.index.definer.clone()), interrupt, move |s| {
            let result = s.run(statement.as_bytes())?;
            keyed.read(result)
        })?;
        self.read += page.rows.len();
        self.ended = page.rows.len() < self.limit;
        self.after = page.last.take();
        Ok((!page.rows.is_empty()).then_some(page))
    }
}

/// A random sample of the vectors, each with the same chance (algorithm R).
struct Sample {
    /// 0 until the first vector.
    dimensions: usize,
    /// Zero vectors cannot be compared by cosine.
    cosine: bool,
    vectors: Vec<f32>,
    capacity: usize,
    seen: usize,
    random: u64,
    _share: Reservation,
}

impl Sample {
    fn new(keyed: &Keyed, wanted: &Wanted, rows: usize) -> Result<Self> {
        let width = wanted.dimensions.unwrap_or(keyed.width).max(1);
        let lists = wanted.lists.unwrap_or_else(|| index::recommended_lists(rows.max(1000) as u64));
        // The estimate may be too low by far.
        let most = (SAMPLE_BYTES / (width * 4)).max(1);
        let capacity = (index::recommended_sample(lists) * 2).clamp(1000, most.max(1000));
        let share = Reservation::take(capacity * width * 4, "a sample of vectors")?;
        Ok(Sample {
            dimensions: wanted.dimensions.unwrap_or(0),
            cosine: wanted.metric == index::Metric::Cosine,
            vectors: Vec::new(),
            capacity,
            seen: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            _share: share,
        })
    }

    fn len(&self) -> usize {
        self.vectors.len() / self.dimensions.max(1)
    }

    fn offer(&mut self, bytes: &[u8]) {
        if self.dimensions == 0 && bytes.len() >= 4 && bytes.len().is_multiple_of(4) {
            self.dimensions = bytes.len() / 4;
        }
        let vector = from_bytes(bytes);
        let usable = bytes.len() == self.dimensions * 4
            && vector.iter().all(|x| x.is_finite())
            && !(self.cosine && vector.iter().all(|x| *x == 0.0));
        if !usable || self.dimensions == 0 {
            return;
        }
        self.seen += 1;
        if self.len() < self.capacity {
            self.vectors.extend_from_slice(&vector);
            return;
        }
        let place = usize::try_from(self.next_random() % self.seen as u64).unwrap_or(usize::MAX);
        if let Some(old) = self.vectors.get_mut(place.saturating_mul(self.dimensions)..)
            && place < self.capacity
            && let Some(old) = old.get_mut(..self.dimensions)
        {
            old.copy_from_slice(&vector);
        }
    }

    /// SplitMix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A vector in the place of those of an empty table: all rows to come belong to its list.
    fn stand_in(&mut self, index: &VectorIndex, keyed: &Keyed) -> Result<()> {
        if self.dimensions == 0 {
            let known = Layout::from_bytes(&index.layout)?.dimensions();
            self.dimensions = if index.version.is_some() { known } else { keyed.width };
        }
        self.vectors = vec![0.0; self.dimensions];
        self.vectors.first_mut().into_iter().for_each(|x| *x = 1.0);
        Ok(())
    }

    /// Vectors spread over the sample.
    fn queries(&self) -> Vec<f32> {
        let step = (self.len() / QUERIES).max(1);
        self.vectors.chunks_exact(self.dimensions.max(1)).step_by(step).take(QUERIES).flatten().copied().collect()
    }
}

/// Codes that wait for their block to be full.
struct Waiting<'a> {
    layout: &'a Layout,
    lists: Vec<Option<BlockBuilder>>,
    bytes: usize,
    full: Vec<u32>,
}

impl<'a> Waiting<'a> {
    fn new(layout: &'a Layout, lists: usize) -> Self {
        Waiting { layout, lists: (0..lists).map(|_| None).collect(), bytes: 0, full: Vec::new() }
    }

    fn push(&mut self, list: u32, key: &[u8], code: &index::Code) -> Result<()> {
        let builder = self.lists.get_mut(list as usize).ok_or_else(|| Error::internal("a list does not exist"))?;
        let builder = builder.get_or_insert_with(|| BlockBuilder::new(self.layout));
        let before = builder.bytes();
        builder.push(key, code)?;
        self.bytes += builder.bytes().saturating_sub(before);
        if builder.len() == BLOCK {
            self.full.push(list);
        }
        Ok(())
    }

    /// Full blocks; when too many codes wait, also the largest of the others.
    fn full(&mut self) -> Result<Vec<NewBlock>> {
        let mut lists = std::mem::take(&mut self.full);
        let mut waiting = self.bytes;
        if waiting > WAITING_BYTES {
            let mut sizes: Vec<(usize, u32)> =
                self.lists.iter().zip(0..).filter_map(|(b, list)| Some((b.as_ref()?.bytes(), list))).collect();
            sizes.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
            for (bytes, list) in sizes {
                if waiting < WAITING_BYTES / 2 {
                    break;
                }
                waiting -= bytes.min(waiting);
                if !lists.contains(&list) {
                    lists.push(list);
                }
            }
        }
        Ok(lists.into_iter().filter_map(|list| self.take(list)).collect())
    }

    fn rest(&mut self) -> Vec<NewBlock> {
        let count = u32::try_from(self.lists.len()).unwrap_or(u32::MAX);
        (0..count).filter_map(|list| self.take(list)).collect()
    }

    fn take(&mut self, list: u32) -> Option<NewBlock> {
        let builder = self.lists.get_mut(list as usize)?.take()?;
        self.bytes -= builder.bytes().min(self.bytes);
        Some(NewBlock { list, codes: builder.len(), bytes: builder.finish() })
    }
}
