//! Embeddings on disk, which outlive the server process. Off unless a size is set; then one thread of ours owns the
//! file (`keeper`), and statements leave requests for it here.
//!
//! Nothing of this makes a call fail. A lookup that is not answered in time is a miss; what does not fit into the
//! queue is not stored.

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
use mysql_ml_base::interrupt::{Interrupt, POLL};

/// How long a lookup is waited for. One that took longer makes the next ones not wait at all, until the disk has
/// answered.
const LOOKUP: Duration = Duration::from_secs(1);

/// How long `clear` waits.
const CLEAR: Duration = Duration::from_secs(60);

/// What may wait to be written.
const MAX_PUTS: usize = 4096;
const MAX_PUT_BYTES: usize = 32 << 20;

/// So many are written together, or those of so long a time: a transaction for each would cost more than a request to
/// a fast endpoint, and lookups would wait for it.
const BATCH: usize = 32;
const BATCH_WAITS: Duration = Duration::from_millis(50);

/// Uses that wait to be noted; more are forgotten.
const MAX_TOUCHES: usize = 4096;

/// The cache on disk.
#[derive(Default)]
pub struct DiskCache {
    shared: Arc<Shared>,
    /// The reading of the settings whose size is in force.
    followed: AtomicU64,
    /// Held while another size is put in force; with the data directory, once it is known.
    following: Mutex<Following>,
}

#[derive(Default)]
struct Following {
    data_directory: Option<PathBuf>,
    /// Whether a file that an earlier process left was looked for.
    looked: bool,
}

/// What statements and the keeper share.
#[derive(Default)]
struct Shared {
    /// Whether lookups and writes are of use now: it is on and did not fail.
    usable: AtomicBool,
    /// The last lookup was given up, and the keeper has not been heard of since.
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
    /// Not written: the queue was full, or the file could not be written.
    dropped: AtomicU64,
    evicted: AtomicU64,
    rebuilt: AtomicU64,
    /// Lookups that were given up.
    timeouts: AtomicU64,
}

/// Something that the administrator should read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whether something is wrong.
    pub warning: bool,
    /// What.
    pub text: String,
}

#[derive(Default)]
struct State {
    target: Option<Target>,
    /// Whether the keeper has done what the target asks.
    settled: bool,
    /// Whether there is a keeper.
    running: bool,
    /// What it last said of itself: why it is not usable.
    trouble: Option<String>,
    /// Whether the last write found no room on the disk.
    full: bool,
    gets: VecDeque<Get>,
    puts: HashMap<Key, Put>,
    put_order: VecDeque<Key>,
    put_bytes: usize,
    /// When the oldest of them came.
    put_since: Option<Instant>,
    touches: HashSet<Key>,
    clears: VecDeque<Clear>,
}

/// How large, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    folder: PathBuf,
    /// 0: the file is to be removed.
    bytes: u64,
}

/// A lookup, and whom it is for.
type Get = (Key, SyncSender<Option<Arc<[u8]>>>);

/// Embeddings to be removed.
struct Clear {
    /// Whose; `None`: all.
    model: Option<String>,
    /// Those elsewhere, to be counted where they are not in the file.
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

    /// Takes the puts that are the oldest and whose costs fit into `limit`, one at least; at most `rows`.
    fn take_batch(&mut self, limit: u64, rows: usize) -> Vec<Put> {
        let mut batch = Vec::new();
        let mut sum = 0;
        while let Some(key) = self.put_order.front().copied() {
            // One that was cleared in the meantime costs nothing.
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

    /// How long until what waits is to be written; `None`: nothing waits.
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
    /// Puts a size in force that the settings' reading number `reading` gave; an older reading than the last changes
    /// nothing. Whether this or a newer one is in force.
    pub fn follow(&self, reading: u64, bytes: u64, data_directory: impl FnOnce() -> Result<PathBuf>) -> bool {
        if reading <= self.followed.load(Ordering::Acquire) {
            return true;
        }
        // Whoever holds it may wait for the server's answer; nobody else needs to.
        let Ok(mut following) = self.following.try_lock() else { return false };
        if reading <= self.followed.load(Ordering::Acquire) {
            return true;
        }
        if bytes == 0 && following.data_directory.is_none() {
            if !following.looked {
                following.looked = true;
                // mysqld works in its data directory. What is left there of a time when the cache was on would stay
                // for ever.
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

    /// Whether the size that was last put in force is, to the file's last page.
    pub fn settled(&self) -> bool {
        let state = self.shared.lock();
        state.target.is_none() || state.settled || !state.running
    }

    /// Whether a lookup makes sense.
    fn usable(&self) -> bool {
        self.shared.usable.load(Ordering::Acquire)
    }

    /// The vector under a key, where the disk has it and answers in time. An error only for a statement that is to
    /// stop.
    pub fn get(&self, key: &Key, interrupt: &dyn Interrupt, deadline: Instant) -> Result<Option<Arc<[u8]>>> {
        if !self.usable() {
            return Ok(None);
        }
        let (sender, receiver) = sync_channel(1);
        {
            let mut state = self.shared.lock();
            // Before it is written it is here.
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

    /// Has an embedding stored, soon.
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
        // In between it knows when to look itself.
        if first || full {
            self.shared.wake.notify_all();
        }
    }

    /// Notes, of some of the times it is told so, that memory answered for the disk: what is used most would be the
    /// first to go, else.
    pub fn touch(&self, key: &Key) {
        /// One of so many is noted.
        const OF: u8 = 64;
        if !self.usable() || fastrand::u8(..OF) != 0 {
            return;
        }
        // Not worth a wait.
        let Ok(mut state) = self.shared.state.try_lock() else { return };
        if state.touches.len() < MAX_TOUCHES {
            state.touches.insert(*key);
        }
    }

    /// Removes a model's embeddings, or with `None` all. How many there were, with those of `elsewhere` that were not
    /// on disk.
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

    /// What should be in the server's error log, once.
    pub fn take_notices(&self) -> VecDeque<Notice> {
        if !self.shared.noticed.swap(false, Ordering::AcqRel) {
            return VecDeque::new();
        }
        std::mem::take(&mut *self.shared.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is something for the error log.
    pub fn has_notices(&self) -> bool {
        self.shared.noticed.load(Ordering::Acquire)
    }

    /// What `ml_status` shows.
    pub fn status(&self) -> Value {
        let state = self.shared.lock();
        let max = state.target.as_ref().map_or(0, |t| t.bytes);
        let (trouble, full, queued) = (state.trouble.clone(), state.full, state.puts.len());
        drop(state);
        let trouble = trouble.or_else(|| {
            full.then(|| {
                "the disk is full: what is there is used on, nothing more is stored; tried again a minute later".into()
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

    /// Counts from zero.
    pub fn reset_status(&self) {
        let c = &self.shared.counters;
        for counter in [&c.dropped, &c.evicted, &c.rebuilt, &c.timeouts] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for DiskCache {
    /// Of use to tests only: the engine of a server lives as long as the process.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.target = None;
        drop(state);
        self.shared.wake.notify_all();
    }
}

/// Waits for the keeper on the statement's thread.
fn wait<T>(receiver: &Receiver<T>, interrupt: &dyn Interrupt, deadline: Instant) -> Result<T> {
    loop {
        match receiver.recv_timeout(POLL) {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Disconnected) => return Err(Error::new(Kind::Busy, "the cache on disk is off")),
            Err(RecvTimeoutError::Timeout) => {
                interrupt.check()?;
                if Instant::now() >= deadline {
                    return Err(Error::new(Kind::Timeout, "the cache on disk does not answer"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
