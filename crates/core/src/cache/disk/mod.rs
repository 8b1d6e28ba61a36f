//! Embeddings on disk, which outlive the server process. Off unless a size is set. One thread (`keeper`) owns the file;
//! statements put requests for it into a queue here.
//!
//! The disk cache never makes a call fail. A late lookup is a miss; a full queue drops writes.

pub mod file;
mod keeper;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use self::file::Put;
use super::memory::Key;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{Interrupt, Waiting, POLL};
use mysql_ml_base::wait::Wait;

/// The longest wait for a lookup. After a timeout, lookups do not wait at all until the disk has answered.
const LOOKUP: Duration = Duration::from_secs(1);

/// The longest wait for a clear.
const CLEAR: Duration = Duration::from_secs(60);

/// Bounds of the write queue: entries and bytes.
const MAX_PUTS: usize = 4096;
const MAX_PUT_BYTES: usize = 32 << 20;

/// A batch is written once it has this many entries or its oldest entry is this old. One transaction an entry would
/// cost more than a request to a fast endpoint, and would delay lookups.
const BATCH: usize = 32;
const BATCH_WAITS: Duration = Duration::from_millis(50);

/// Bound of the queue of uses; further uses are dropped.
const MAX_TOUCHES: usize = 4096;

/// The cache on disk.
#[derive(Default)]
pub struct DiskCache {
    shared: Arc<Shared>,
    /// Number of the settings' reading whose size applies.
    followed: AtomicU64,
    /// Held while a size is applied. Caches the data directory.
    following: Mutex<Following>,
}

#[derive(Default)]
struct Following {
    data_directory: Option<PathBuf>,
    /// Whether a file of an earlier process was searched for.
    looked: bool,
}

/// State shared by statements and the keeper.
#[derive(Default)]
struct Shared {
    /// Whether lookups and writes are possible: the cache is on and has not failed.
    usable: AtomicBool,
    /// The last lookup timed out, and the keeper has not answered since.
    slow: AtomicBool,
    state: Mutex<State>,
    wake: Condvar,
    counters: Counters,
    notices: Mutex<VecDeque<Notice>>,
    noticed: AtomicBool,
}

#[derive(Default)]
struct Counters {
    entries: AtomicU64,
    bytes: AtomicU64,
    /// Dropped writes: the queue was full, or writing failed.
    dropped: AtomicU64,
    evicted: AtomicU64,
    rebuilt: AtomicU64,
    /// Lookups that timed out.
    timeouts: AtomicU64,
}

/// A line for the server's error log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// A warning; otherwise a note.
    pub warning: bool,
    /// The text: fact and next step.
    pub text: String,
}

#[derive(Default)]
struct State {
    target: Option<Target>,
    /// Whether the keeper has reached the target.
    settled: bool,
    /// Whether the keeper thread exists.
    running: bool,
    /// The reason why the file is unusable; empty while it is usable.
    trouble: Option<String>,
    /// Whether the last write failed because the disk was full.
    full: bool,
    gets: VecDeque<Get>,
    puts: HashMap<Key, Put>,
    put_order: VecDeque<Key>,
    put_bytes: usize,
    /// Arrival of the oldest queued write.
    put_since: Option<Instant>,
    touches: HashSet<Key>,
    clears: VecDeque<Clear>,
}

/// The wanted size and place of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    folder: PathBuf,
    /// Bytes; 0 removes the file.
    bytes: u64,
}

/// A lookup and the channel of its answer.
type Get = (Key, SyncSender<Option<Arc<[u8]>>>);

/// A request to remove embeddings.
struct Clear {
    /// The model's id; `None`: all models.
    model: Option<String>,
    /// Keys in memory; counted if they are not in the file.
    elsewhere: Vec<Key>,
    counted: u64,
    done: SyncSender<u64>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notice(&self, warning: bool, text: String) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() < 16 {
            notices.push_back(Notice { warning, text });
        }
        self.noticed.store(true, Ordering::Release);
    }
}

impl State {
    fn take_put(&mut self, key: &Key) -> Option<Put> {
        let put = self.puts.remove(key)?;
        self.put_bytes = self.put_bytes.saturating_sub(put.vector.len());
        Some(put)
    }

    /// Takes the oldest puts: at most `rows`, their total cost within `limit`, at least one.
    fn take_batch(&mut self, limit: u64, rows: usize) -> Vec<Put> {
        let mut batch = Vec::new();
        let mut sum = 0;
        while let Some(key) = self.put_order.front().copied() {
            // A put that was cleared meanwhile costs nothing.
            sum += self.puts.get(&key).map_or(0, |put| file::cost(&put.vector));
            if !batch.is_empty() && (sum > limit || batch.len() >= rows) {
                break;
            }
            self.put_order.pop_front();
            batch.extend(self.take_put(&key));
        }
        if self.put_order.is_empty() {
            self.put_since = None;
        }
        batch
    }

    /// Time until the next write is due; `None`: the queue is empty.
    fn due_in(&self) -> Option<Duration> {
        let waited = self.put_since?.elapsed();
        Some(if self.put_order.len() >= BATCH { Duration::ZERO } else { BATCH_WAITS.saturating_sub(waited) })
    }

    fn forget_puts(&mut self) -> u64 {
        let n = self.puts.len() as u64;
        self.puts.clear();
        self.put_order.clear();
        self.put_bytes = 0;
        self.put_since = None;
        n
    }
}

impl DiskCache {
    /// Applies the size from the settings' reading number `reading`. An older reading than the last changes nothing.
    /// Returns whether this or a newer reading applies.
    pub fn follow(&self, reading: u64, bytes: u64, data_directory: impl FnOnce() -> Result<PathBuf>) -> bool {
        if reading <= self.followed.load(Ordering::Acquire) {
            return true;
        }
        // The holder may wait for the server's answer; others need not wait for the holder.
        let Ok(mut following) = self.following.try_lock() else { return false };
        if reading <= self.followed.load(Ordering::Acquire) {
            return true;
        }
        if bytes == 0 && following.data_directory.is_none() {
            if !following.looked {
                following.looked = true;
                // mysqld's working directory is its data directory. A file left from an earlier process would otherwise
                // stay for ever.
                let left = file::folder(Path::new("."));
                if left.join(file::FILE).exists() {
                    let _ = file::remove(&left);
                }
            }
            self.followed.store(reading, Ordering::Release);
            return true;
        }
        if following.data_directory.is_none() {
            match data_directory() {
                Ok(found) => following.data_directory = Some(found),
                Err(e) => {
                    if !matches!(e.kind(), Kind::Interrupted(_)) {
                        self.shared.notice(true, format!("the cache on disk is off: {}", e.message()));
                        self.followed.store(reading, Ordering::Release);
                    }
                    return false;
                }
            }
        }
        if let Some(data_directory) = &following.data_directory {
            self.aim(Target { folder: file::folder(data_directory), bytes });
        }
        self.followed.store(reading, Ordering::Release);
        true
    }

    fn aim(&self, target: Target) {
        let mut state = self.shared.lock();
        if state.target.as_ref() == Some(&target) && (state.running || target.bytes == 0) {
            return;
        }
        let on = target.bytes > 0;
        state.target = Some(target);
        state.settled = false;
        self.shared.usable.store(on, Ordering::Release);
        if !on {
            state.forget_puts();
            state.touches.clear();
        }
        if !state.running {
            state.running = keeper::start(&self.shared);
            if !state.running {
                self.shared.usable.store(false, Ordering::Release);
                drop(state);
                self.shared.notice(true, "the cache on disk is off: the server cannot start a thread for it".into());
                return;
            }
        }
        drop(state);
        self.shared.wake.notify_all();
    }

    /// Whether the file has reached the size applied last, to its last page.
    pub fn settled(&self) -> bool {
        let state = self.shared.lock();
        state.target.is_none() || state.settled || !state.running
    }

    /// Whether a lookup can succeed now.
    fn usable(&self) -> bool {
        self.shared.usable.load(Ordering::Acquire)
    }

    /// The vector of a key, if the disk has it and answers in time. Errors only when the statement was killed.
    pub fn get(&self, key: &Key, interrupt: &dyn Interrupt, deadline: Instant) -> Result<Option<Arc<[u8]>>> {
        if !self.usable() {
            return Ok(None);
        }
        let (sender, receiver) = sync_channel(1);
        {
            let mut state = self.shared.lock();
            // Unwritten entries are in the queue.
            if let Some(put) = state.puts.get(key) {
                return Ok(Some(Arc::clone(&put.vector)));
            }
            if self.shared.slow.load(Ordering::Acquire) {
                return Ok(None);
            }
            state.gets.push_back((*key, sender));
        }
        self.shared.wake.notify_all();
        let found = wait(&receiver, interrupt, deadline.min(Instant::now() + LOOKUP));
        match found {
            Ok(found) => Ok(found),
            Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => Err(e),
            Err(e) => {
                if e.kind() == Kind::Timeout {
                    self.shared.counters.timeouts.fetch_add(1, Ordering::Relaxed);
                    self.shared.slow.store(true, Ordering::Release);
                }
                Ok(None)
            }
        }
    }

    /// Queues an embedding for writing.
    pub fn put(&self, key: Key, model: &Arc<str>, vector: &Arc<[u8]>) {
        if !self.usable() {
            return;
        }
        let mut state = self.shared.lock();
        if state.puts.len() >= MAX_PUTS || state.put_bytes + vector.len() > MAX_PUT_BYTES {
            self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let put = Put { key, model: Arc::clone(model), vector: Arc::clone(vector) };
        state.put_bytes += vector.len();
        if let Some(before) = state.puts.insert(key, put) {
            state.put_bytes = state.put_bytes.saturating_sub(before.vector.len());
        } else {
            state.put_order.push_back(key);
        }
        let first = state.put_since.is_none();
        state.put_since.get_or_insert_with(Instant::now);
        let full = state.put_order.len() == BATCH;
        drop(state);
        // Otherwise the keeper wakes by itself.
        if first || full {
            self.shared.wake.notify_all();
        }
    }

    /// Reports one in 64 memory hits to the disk cache. Otherwise its hottest entries would look idle and be evicted.
    pub fn touch(&self, key: &Key) {
        /// One in this many hits is reported.
        const OF: u8 = 64;
        if !self.usable() || fastrand::u8(..OF) != 0 {
            return;
        }
        // Skipped if the lock is taken: not worth a wait.
        let Ok(mut state) = self.shared.state.try_lock() else { return };
        if state.touches.len() < MAX_TOUCHES {
            state.touches.insert(*key);
        }
    }

    /// Removes a model's embeddings; `None`: all. Returns their number, including keys of `elsewhere` that were not on
    /// disk.
    pub fn clear(&self, model: Option<&str>, mut elsewhere: Vec<Key>, interrupt: &dyn Interrupt) -> Result<u64> {
        let (done, receiver) = sync_channel(1);
        {
            let mut state = self.shared.lock();
            let on = state.target.as_ref().is_some_and(|t| t.bytes > 0);
            if !on || !state.running {
                return Ok(elsewhere.len() as u64);
            }
            let waiting: Vec<Key> =
                state.puts.values().filter(|p| model.is_none_or(|m| m == &*p.model)).map(|p| p.key).collect();
            for key in &waiting {
                state.take_put(key);
            }
            elsewhere.extend(waiting);
            elsewhere.sort_unstable_by_key(|key| *key.bytes());
            elsewhere.dedup();
            state.clears.push_back(Clear { model: model.map(str::to_owned), elsewhere, counted: 0, done });
        }
        self.shared.wake.notify_all();
        wait(&receiver, interrupt, Instant::now() + CLEAR).map_err(|e| match e.kind() {
            Kind::Timeout => Error::new(
                Kind::Timeout,
                "the disk has not removed all embeddings after a minute; it goes on, call again to know when it is done",
            ),
            Kind::Interrupted(_) => e,
            _ => Error::new(Kind::Busy, "the cache on disk could not be cleared; set cache_disk_mb to 0 and back"),
        })
    }

    /// Takes the pending lines for the server's error log.
    pub fn take_notices(&self) -> VecDeque<Notice> {
        if !self.shared.noticed.swap(false, Ordering::AcqRel) {
            return VecDeque::new();
        }
        std::mem::take(&mut *self.shared.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether lines for the error log are pending.
    pub fn has_notices(&self) -> bool {
        self.shared.noticed.load(Ordering::Acquire)
    }

    /// Entries and their bytes.
    pub fn size(&self) -> (u64, u64) {
        let counters = &self.shared.counters;
        (counters.entries.load(Ordering::Relaxed), counters.bytes.load(Ordering::Relaxed))
    }

    /// The JSON object for `ml_status`.
    pub fn status(&self) -> Value {
        let state = self.shared.lock();
        let max = state.target.as_ref().map_or(0, |t| t.bytes);
        let (trouble, full, queued) = (state.trouble.clone(), state.full, state.puts.len());
        drop(state);
        let trouble = trouble.or_else(|| {
            full.then(|| {
                "the disk is full: existing entries are used, no more are stored; tried again a minute later".into()
            })
        });
        let counters = &self.shared.counters;
        let n = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "state": match (max, &trouble) { (0, _) => "off", (_, None) => "on", _ if full => "full", _ => "failed" },
            "entries": n(&counters.entries),
            "bytes": n(&counters.bytes),
            "max_bytes": max,
            "queued": queued,
            "dropped": n(&counters.dropped),
            "evicted": n(&counters.evicted),
            "rebuilt": n(&counters.rebuilt),
            "timeouts": n(&counters.timeouts),
            "trouble": trouble,
        })
    }

    /// Sets the counters to zero.
    pub fn reset_status(&self) {
        let c = &self.shared.counters;
        for counter in [&c.dropped, &c.evicted, &c.rebuilt, &c.timeouts] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for DiskCache {
    /// For tests only: a server's engine lives as long as the process.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.target = None;
        drop(state);
        self.shared.wake.notify_all();
    }
}

/// Waits for the keeper on the statement's thread.
fn wait<T>(receiver: &Receiver<T>, interrupt: &dyn Interrupt, deadline: Instant) -> Result<T> {
    let mut waiting = None;
    loop {
        match receiver.recv_timeout(POLL) {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Disconnected) => return Err(Error::new(Kind::Busy, "the cache on disk is off")),
            Err(RecvTimeoutError::Timeout) => {
                interrupt.check()?;
                if Instant::now() >= deadline {
                    return Err(Error::new(Kind::Timeout, "the cache on disk does not answer"));
                }
                waiting.get_or_insert_with(|| Waiting::begin(interrupt, Wait::DiskCache));
            }
        }
    }
}

#[cfg(test)]
mod tests;
