//! Centroids of indexes, kept between searches: a search compares its query with all of them.
//!
//! The lists of a version never change, and a version that was built again has another time. Both come from the caller's
//! snapshot, so a search gets the centroids that it would read itself.

use std::sync::{Arc, Mutex, PoisonError};

use once_cell::sync::Lazy;

use crate::mysql::sql::{session_kind, SessionKind};
use crate::tables::vector_indexes as store;
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{is_tight, working_for, Holder, Reservation};
use mysql_ml_index::{Layout, ListChooser};

/// The most bytes of all kept centroids. One index takes at most half.
const MOST_BYTES: usize = 64 << 20;

/// A built version of an index, as a snapshot shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    /// The index.
    pub index: u64,
    /// Its version.
    pub version: u64,
    /// The lists of the version.
    pub lists: usize,
    /// When it was published, as text.
    pub at: String,
    /// The form of its codes.
    pub layout: Vec<u8>,
}

struct Kept {
    build: Build,
    layout: Layout,
    /// Rows of centroids, in the order of the lists.
    rows: Vec<Vec<u8>>,
    bytes: usize,
    _share: Reservation,
}

/// The last one was used last.
static KEPT: Mutex<Vec<Arc<Kept>>> = Mutex::new(Vec::new());
/// Held by the one that reads centroids; others read those of their snapshot meanwhile.
static READING: Mutex<()> = Mutex::new(());
/// Kept centroids are no account's.
static HOLDER: Lazy<Arc<Holder>> = Lazy::new(Arc::default);

/// The lists nearest to a query, nearest first; `None` if the centroids are not kept and must be read.
pub fn choose(build: &Build, query: &[f32], lists: usize, interrupt: &dyn Interrupt) -> Result<Option<Vec<u32>>> {
    let Some(kept) = (match find(build) {
        Some(kept) => Some(kept),
        None if session_kind() == SessionKind::NoSession => read(build, interrupt)?,
        // A job's own session, which cannot wait for another.
        None => None,
    }) else {
        return Ok(None);
    };
    let mut chooser = ListChooser::new(&kept.layout, query, lists)?;
    for (list, row) in (0..).zip(&kept.rows) {
        chooser.offer(list, row)?;
    }
    Ok(Some(chooser.finish().into_iter().map(|near| near.list).collect()))
}

/// Drops the centroids of an index.
pub(super) fn drop_those_of(index: u64) {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).retain(|kept| kept.build.index != index);
}

fn find(build: &Build) -> Option<Arc<Kept>> {
    let mut all = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let place = all.iter().position(|kept| kept.build == *build)?;
    let kept = all.remove(place);
    all.push(Arc::clone(&kept));
    Some(kept)
}

/// Reads centroids and keeps them, unless memory is scarce or the version is gone.
fn read(build: &Build, interrupt: &dyn Interrupt) -> Result<Option<Arc<Kept>>> {
    let Ok(layout) = Layout::from_bytes(&build.layout) else { return Ok(None) };
    // A little more than a row has.
    let bytes = build.lists.saturating_mul(layout.dimensions() * 2 + 256);
    if is_tight() {
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).clear();
        return Ok(None);
    }
    if bytes > MOST_BYTES / 2 {
        return Ok(None);
    }
    let Ok(_reading) = READING.try_lock() else { return Ok(None) };
    let Ok(share) = working_for(Arc::clone(&HOLDER), || Reservation::take(bytes, "the centroids of an index")) else {
        return Ok(None);
    };
    let rows = store::centroids(build.index, build.version, interrupt)?;
    // An old version is removed list by list.
    if rows.len() != build.lists || rows.iter().map(Vec::len).sum::<usize>() > bytes {
        return Ok(None);
    }
    let kept = Arc::new(Kept { build: build.clone(), layout, rows, bytes, _share: share });
    let mut all = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(Arc::clone(&kept));
    while all.iter().map(|kept| kept.bytes).sum::<usize>() > MOST_BYTES {
        all.remove(0);
    }
    Ok(Some(kept))
}
