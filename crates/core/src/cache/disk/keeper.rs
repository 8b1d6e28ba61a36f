//! The thread that owns the file. It answers lookups first, then writes, then evicts and shrinks, each in small steps.

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::file::{self, File, Limits, Put, Trouble};
use super::{Clear, Get, Key, Shared, Target, MAX_TOUCHES};
use mysql_ml_base::{panics, threads};

/// Pause before the file is tried again after a temporary failure.
const RETRY: Duration = Duration::from_secs(60);

/// More new files than this within [`REBUILDS_WITHIN`] mean a bad disk.
const REBUILDS: usize = 3;
const REBUILDS_WITHIN: Duration = Duration::from_secs(600);

/// Interval of checks that the file is still in its place.
const LOOK: Duration = Duration::from_secs(1);

/// Least interval between two writes of uses.
const NOTE_USES: Duration = Duration::from_secs(2);

/// Keys checked in one step of a clear.
const CLEAR_STEP: usize = 1000;

/// Starts the thread; returns whether that worked.
pub(super) fn start(shared: &Arc<Shared>) -> bool {
    let shared = Arc::clone(shared);
    let keep = move || {
        let mut keeper = Keeper::new(&shared);
        loop {
            match panics::catch(|| Ok(keeper.turn())) {
                Ok(Turn::Again) => {}
                Ok(Turn::End) => return,
                Err(e) => keeper.fail(e.message().to_owned()),
            }
        }
    };
    threads::spawn("mysql_ml-disk", 1 << 20, keep).is_ok()
}

enum Turn {
    Again,
    End,
}

/// The work of one turn of the loop.
struct Work {
    target: Option<Target>,
    gets: VecDeque<Get>,
    clears: VecDeque<Clear>,
    puts: Vec<Put>,
    touches: HashSet<Key>,
}

struct Keeper<'s> {
    shared: &'s Shared,
    target: Option<Target>,
    limits: Limits,
    file: Option<File>,
    /// Earliest time to open the file.
    closed_until: Option<Instant>,
    /// Earliest time to write.
    full_until: Option<Instant>,
    rebuilds: VecDeque<Instant>,
    looked_at: Instant,
    judged_at: Instant,
    touched: HashSet<Key>,
    touched_at: Instant,
    clears: VecDeque<Clear>,
    /// A clear is pending because it failed.
    discard: bool,
    /// Empty pages must be removed.
    compact: bool,
    evicting: bool,
    /// More evictions or shrinking are due.
    busy: bool,
    /// Contents or size changed since the last report.
    changed: bool,
    /// The last reported problem; it is reported once.
    reported: Option<String>,
}

impl<'s> Keeper<'s> {
    fn new(shared: &'s Shared) -> Self {
        let now = Instant::now();
        Keeper {
            shared,
            target: None,
            limits: Limits::of(0),
            file: None,
            closed_until: None,
            full_until: None,
            rebuilds: VecDeque::new(),
            looked_at: now,
            judged_at: now,
            touched: HashSet::new(),
            touched_at: now,
            clears: VecDeque::new(),
            discard: false,
            compact: false,
            evicting: false,
            busy: false,
            changed: false,
            reported: None,
        }
    }

    fn turn(&mut self) -> Turn {
        let Some(work) = self.next() else { return Turn::End };
        if work.target != self.target && !self.aim(work.target) {
            return Turn::End;
        }
        if self.file.is_none() && self.closed_until.is_none_or(|at| at <= Instant::now()) {
            self.open();
        }
        if !work.gets.is_empty() || !work.puts.is_empty() {
            self.look();
        }
        for (key, answer) in work.gets {
            let found = self.get(&key);
            // A receiver that is gone is not a failure.
            let _ = answer.send(found);
        }
        self.clears.extend(work.clears);
        self.clear_step();
        if !work.puts.is_empty() {
            self.put(&work.puts);
        }
        self.touched.extend(work.touches);
        self.note_uses();
        // Skipped after lookups alone, so that they do not wait for it.
        if self.changed || self.busy {
            self.changed = false;
            self.tidy();
            self.publish();
        }
        Turn::Again
    }

    /// Waits for work and takes it. `None`: the thread must end.
    fn next(&mut self) -> Option<Work> {
        let mut state = self.shared.lock();
        loop {
            self.shared.slow.store(false, Ordering::Release);
            state.target.as_ref()?;
            let new_target = state.target != self.target;
            let reopen = self.file.is_none() && self.closed_until.is_none_or(|at| at <= Instant::now());
            let unused = !self.touched.is_empty() && self.touched_at.elapsed() >= NOTE_USES;
            let due = state.due_in();
            let waiting = !state.gets.is_empty() || !state.clears.is_empty() || due == Some(Duration::ZERO);
            if new_target || reopen || waiting || unused || self.busy || !self.clears.is_empty() {
                break;
            }
            state = self.shared.wake.wait_timeout(state, due.unwrap_or(LOOK)).unwrap_or_else(PoisonError::into_inner).0;
            if !state.touches.is_empty() {
                self.touched.extend(std::mem::take(&mut state.touches));
            }
        }
        // Writes that need evictions first stay in the queue.
        let due = state.due_in() == Some(Duration::ZERO) && !self.evicting;
        let puts = if due { state.take_batch(self.limits.step, 1000) } else { Vec::new() };
        Some(Work {
            target: state.target.clone(),
            gets: std::mem::take(&mut state.gets),
            clears: std::mem::take(&mut state.clears),
            puts,
            touches: std::mem::take(&mut state.touches),
        })
    }

    /// Applies another size or place. `false`: the file is removed and this thread must end.
    fn aim(&mut self, target: Option<Target>) -> bool {
        let Some(target) = target else { return true };
        self.changed = true;
        let place = self.target.as_ref().map(|t| t.folder.clone());
        (self.closed_until, self.full_until, self.evicting) = (None, None, false);
        self.shared.lock().full = false;
        self.rebuilds.clear();
        if target.bytes > 0 {
            self.limits = Limits::of(target.bytes);
            if place.as_ref() != Some(&target.folder) {
                self.file = None;
            }
            self.target = Some(target);
            if let Some(Err(trouble)) = self.file.as_ref().map(|file| file.limit(self.limits)) {
                self.trouble(trouble);
            }
            self.compact = true;
            return true;
        }
        self.file = None;
        if let Err(e) = file::remove(&target.folder) {
            self.report(
                true,
                format!(
                    "the file of the cache on disk could not be removed from {}: {e}",
                    display_path(&target.folder)
                ),
            );
        }
        for counter in [&self.shared.counters.entries, &self.shared.counters.bytes] {
            counter.store(0, Ordering::Relaxed);
        }
        let mut state = self.shared.lock();
        for clear in self.clears.drain(..).chain(state.clears.drain(..)) {
            let _ = clear.done.send(clear.counted + clear.elsewhere.len() as u64);
        }
        state.gets.clear();
        state.trouble = None;
        self.target = Some(target);
        if state.target != self.target {
            return true; // it was turned on again meanwhile
        }
        state.settled = true;
        state.running = false;
        false
    }

    /// Opens the file; replaces a damaged one.
    fn open(&mut self) {
        let Some(folder) = self.target.as_ref().filter(|t| t.bytes > 0).map(|t| t.folder.clone()) else { return };
        if self.discard {
            if let Err(e) = file::remove(&folder) {
                self.fail(format!("entries to clear cannot be removed: {e}"));
                return;
            }
            self.discard = false;
        }
        let mut opened = File::open(&folder, self.limits);
        if let Err(Trouble::Damaged(why)) = &opened {
            if !self.may_rebuild() {
                self.fail(format!("{why}, again and again"));
                return;
            }
            let why = why.clone();
            opened = file::remove(&folder).map_err(Trouble::from).and_then(|()| File::open(&folder, self.limits));
            if opened.is_ok() {
                self.report_rebuilt(&why);
            }
        }
        match opened {
            Ok(file) => {
                self.file = Some(file);
                self.changed = true;
                self.closed_until = None;
                self.compact = true;
                if self.reported.as_ref().is_some_and(|text| text.contains("is off")) {
                    self.report(false, "the cache on disk works again".into());
                    self.reported = None;
                }
                self.shared.lock().trouble = None;
                self.shared.usable.store(true, Ordering::Release);
            }
            Err(Trouble::Full) => self.fail("the disk is full".into()),
            Err(Trouble::Damaged(why) | Trouble::Unusable(why)) => self.fail(why),
        }
    }

    /// Detects a deleted, replaced or truncated file.
    fn look(&mut self) {
        if self.looked_at.elapsed() < LOOK {
            return;
        }
        self.looked_at = Instant::now();
        if let Some(Err(trouble)) = self.file.as_ref().map(File::check_place) {
            self.trouble(trouble);
        }
    }

    fn get(&mut self, key: &Key) -> Option<Arc<[u8]>> {
        if self.discard {
            return None;
        }
        match self.file.as_ref()?.find(key) {
            Ok(Some((vector, old))) => {
                if old && self.touched.len() < MAX_TOUCHES {
                    self.touched.insert(*key);
                }
                Some(vector)
            }
            Ok(None) => None,
            Err(trouble) => {
                self.trouble(trouble);
                None
            }
        }
    }

    fn put(&mut self, puts: &[Put]) {
        if self.writable() {
            let Some(file) = self.file.as_mut() else { return self.dropped(puts.len()) };
            match file.put(puts) {
                Ok(()) => return self.after_write(),
                Err(trouble) => self.trouble(trouble),
            }
        }
        self.dropped(puts.len());
    }

    fn dropped(&self, n: usize) {
        self.shared.counters.dropped.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// Whether an open file may be written now.
    fn writable(&mut self) -> bool {
        if self.full_until.is_some_and(|at| at <= Instant::now()) {
            self.full_until = None;
        }
        self.file.is_some() && self.full_until.is_none()
    }

    /// Writes uses, at most one transaction an interval; the rest is dropped.
    fn note_uses(&mut self) {
        if self.touched.is_empty() || self.touched_at.elapsed() < NOTE_USES {
            return;
        }
        self.touched_at = Instant::now();
        let keys: Vec<Key> = std::mem::take(&mut self.touched).into_iter().take(self.limits.rows()).collect();
        if !self.writable() {
            return;
        }
        let Some(file) = self.file.as_mut() else { return };
        match file.touch(&keys) {
            Ok(()) => self.after_write(),
            Err(trouble) => self.trouble(trouble),
        }
    }

    /// Runs a checkpoint when the write-ahead log is large.
    fn after_write(&mut self) {
        self.changed = true;
        if std::mem::take(&mut self.shared.lock().full) {
            self.reported = None;
            self.report(false, "the cache on disk has room again".into());
            self.reported = None;
        }
        let Some(file) = self.file.as_mut() else { return };
        if file.log_bytes() > self.limits.step
            && let Err(trouble) = file.empty_log()
        {
            self.trouble(trouble);
        }
    }

    /// One step of the first queued clear.
    fn clear_step(&mut self) {
        let Some(mut clear) = self.clears.pop_front() else { return };
        if self.file.is_none() {
            // The file cannot be opened and searched; none of its entries may come back.
            let folder = self.target.as_ref().map(|t| t.folder.clone());
            self.discard = folder.is_some_and(|folder| file::remove(&folder).is_err());
            let _ = clear.done.send(clear.counted + clear.elsewhere.len() as u64);
            return;
        }
        match self.clear_some(&mut clear) {
            Ok(true) => {
                self.compact = true;
                let _ = clear.done.send(clear.counted);
            }
            Ok(false) => self.clears.push_front(clear),
            Err(trouble) => {
                // Starts again with a new file, or without one.
                self.discard = !matches!(trouble, Trouble::Damaged(_));
                self.trouble(match trouble {
                    Trouble::Full => Trouble::Unusable("the disk is full".into()),
                    other => other,
                });
                self.clears.push_front(clear);
            }
        }
    }

    /// Whether the clear is complete.
    fn clear_some(&mut self, clear: &mut Clear) -> Result<bool, Trouble> {
        let Some(file) = self.file.as_mut() else { return Ok(true) };
        let from = clear.elsewhere.len().saturating_sub(CLEAR_STEP);
        for key in clear.elsewhere.drain(from..) {
            clear.counted += u64::from(!file.has(&key)?);
        }
        if !clear.elsewhere.is_empty() {
            return Ok(false);
        }
        let Some(model) = &clear.model else {
            clear.counted += file.entries();
            let folder = self.target.as_ref().map(|t| t.folder.clone());
            self.file = None;
            self.discard = folder.is_none_or(|folder| file::remove(&folder).is_err());
            self.open();
            return Ok(true);
        };
        let gone = file.forget(model, self.limits.rows())?;
        clear.counted += gone;
        self.after_write();
        Ok(gone == 0)
    }

    /// One step of eviction or shrinking.
    fn tidy(&mut self) {
        self.busy = false;
        if !self.writable() {
            return;
        }
        match self.tidy_some() {
            Ok(busy) => self.busy = busy,
            Err(trouble) => self.trouble(trouble),
        }
    }

    fn tidy_some(&mut self) -> Result<bool, Trouble> {
        let Some(file) = self.file.as_mut() else { return Ok(false) };
        let limits = self.limits;
        let (pages, free) = file.pages()?;
        let used = pages.saturating_sub(free);
        // Evict more than needed, so that not every new entry waits for an eviction.
        let goal = limits.high().saturating_sub(limits.pages / 20);
        if used > limits.high() || (self.evicting && used > goal) {
            let gone = file.evict(limits.rows())?;
            self.shared.counters.evicted.fetch_add(gone, Ordering::Relaxed);
            self.evicting = gone > 0;
            self.after_write();
            return Ok(self.evicting);
        }
        self.evicting = false;
        if self.judged_at.elapsed() >= LOOK {
            self.judged_at = Instant::now();
            file.judge_ages(used < limits.high() / 4 * 3)?;
        }
        if pages > limits.pages || (self.compact && free > 0) {
            file.shrink(limits)?;
            self.after_write();
            return Ok(true);
        }
        if self.compact {
            self.compact = false;
            file.empty_log()?;
            file.limit(limits)?;
        }
        Ok(false)
    }

    /// Publishes entries, bytes and state for `ml_status`.
    fn publish(&mut self) {
        if let Some(file) = &self.file {
            self.shared.counters.entries.store(file.entries(), Ordering::Relaxed);
            self.shared.counters.bytes.store(file.bytes(), Ordering::Relaxed);
        }
        let mut state = self.shared.lock();
        if !self.busy && state.target == self.target {
            state.settled = true;
        }
    }

    /// Handles a failure of the file.
    fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Damaged(why) => {
                self.file = None;
                let Some(folder) = self.target.as_ref().map(|t| t.folder.clone()) else { return };
                if !self.may_rebuild() {
                    self.fail(format!("{why}, again and again"));
                    return;
                }
                match file::remove(&folder) {
                    Ok(()) => {
                        self.report_rebuilt(&why);
                        self.open();
                    }
                    Err(e) => self.fail(format!("{why}, and it cannot be removed: {e}")),
                }
            }
            Trouble::Full => {
                self.full_until = Some(Instant::now() + RETRY);
                self.evicting = false;
                self.shared.lock().full = true;
                self.report(
                    true,
                    "there is no room for the cache on disk; existing entries are used, and no more are stored until there is room".into(),
                );
            }
            Trouble::Unusable(why) => self.fail(why),
        }
    }

    fn may_rebuild(&mut self) -> bool {
        while self.rebuilds.front().is_some_and(|at| at.elapsed() > REBUILDS_WITHIN) {
            self.rebuilds.pop_front();
        }
        if self.rebuilds.len() >= REBUILDS {
            return false;
        }
        self.rebuilds.push_back(Instant::now());
        self.shared.counters.rebuilt.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Closes the file for a while.
    fn fail(&mut self, why: String) {
        self.file = None;
        self.busy = false;
        self.evicting = false;
        self.closed_until = Some(Instant::now() + RETRY);
        self.shared.usable.store(false, Ordering::Release);
        let place = self.target.as_ref().map_or_else(String::new, |t| display_path(&t.folder.join(file::FILE)));
        let mut state = self.shared.lock();
        let unwritten = state.forget_puts();
        state.gets.clear();
        state.trouble = Some(why.clone());
        drop(state);
        self.shared.counters.dropped.fetch_add(unwritten, Ordering::Relaxed);
        self.report(true, format!("the cache on disk is off: {place}: {why}; it is tried again every minute"));
    }

    fn report_rebuilt(&mut self, why: &str) {
        let place = self.target.as_ref().map_or_else(String::new, |t| display_path(&t.folder.join(file::FILE)));
        // Reported every time: embeddings were lost.
        self.reported = None;
        self.report(true, format!("the cache on disk begins anew, because of {place}: {why}"));
    }

    fn report(&mut self, warning: bool, text: String) {
        if self.reported.as_ref() != Some(&text) {
            self.reported = Some(text.clone());
            self.shared.notice(warning, text);
        }
    }
}

fn display_path(path: &Path) -> String {
    path.display().to_string()
}
