//! Memory of calls: one bound for all memory whose size depends on data, over all calls of the server.
//!
//! Code takes a [`Reservation`] before it allocates arguments, bodies, answers, vectors or results, and keeps it as
//! long as the memory. At the bound the reservation fails and nothing is allocated.
//!
//! One account may hold three times the memory it leaves free: three quarters of the bound alone, three sevenths beside
//! another account. Some memory is always left for the next account.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use once_cell::sync::Lazy;
use serde_json::{json, Value};

use crate::account::Account;
use crate::counters;
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::threads;

/// The default bound, bytes.
pub const DEFAULT: u64 = 1024 << 20;

/// Smaller reservations, in bytes, are not counted: they are short-lived, and at most one a session exists.
const SMALL: usize = 16 << 10;

/// Growth step of a reservation, bytes.
const STEP: usize = 64 << 10;

/// From this size on, bytes, a trial allocation checks that the system has the memory.
const PROBED: usize = 1 << 20;

/// After this many freed bytes, memory is returned to the system.
const GIVEN_BACK: u64 = 32 << 20;

/// An account may hold this many times the free memory.
const TIMES_FREE: u64 = 3;

/// With more accounts than this, accounts without memory are dropped from the table.
const MAX_ACCOUNTS: usize = 1024;

/// A holder of memory.
#[derive(Debug, Default)]
pub struct Holder {
    bytes: AtomicU64,
}

/// The memory of all calls.
struct Accounts {
    limit: AtomicU64,
    /// Bytes held. Grows only under the lock of the holders.
    used: AtomicU64,
    highest: AtomicU64,
    refused: AtomicU64,
    /// Bytes freed since memory was last returned to the system.
    freed: AtomicU64,
    giving_back: AtomicBool,
    holders: Mutex<HashMap<Account, Arc<Holder>>>,
    nobody: Arc<Holder>,
}

static ACCOUNTS: Lazy<Accounts> = Lazy::new(|| Accounts {
    limit: AtomicU64::new(DEFAULT),
    used: AtomicU64::new(0),
    highest: AtomicU64::new(0),
    refused: AtomicU64::new(0),
    freed: AtomicU64::new(0),
    giving_back: AtomicBool::new(false),
    holders: Mutex::default(),
    nobody: Arc::default(),
});

thread_local! {
    /// The account for which this thread works.
    static WORKS_FOR: RefCell<Option<Arc<Holder>>> = const { RefCell::new(None) };
}

/// The holder for reservations on this thread: the account whose statement it executes or works for.
pub fn holder() -> Arc<Holder> {
    if let Some(holder) = WORKS_FOR.with_borrow(Clone::clone) {
        return holder;
    }
    match host::current_account() {
        Some(account) => holder_of(account),
        None => Arc::clone(&ACCOUNTS.nobody),
    }
}

fn holder_of(account: Account) -> Arc<Holder> {
    let mut holders = ACCOUNTS.holders.lock().unwrap_or_else(PoisonError::into_inner);
    if holders.len() >= MAX_ACCOUNTS {
        holders.retain(|_, holder| Arc::strong_count(holder) > 1);
    }
    Arc::clone(holders.entry(account).or_default())
}

/// Runs `work` with reservations charged to `holder`.
pub fn working_for<T>(holder: Arc<Holder>, work: impl FnOnce() -> T) -> T {
    struct Back(Option<Arc<Holder>>);
    impl Drop for Back {
        fn drop(&mut self) {
            WORKS_FOR.set(self.0.take());
        }
    }
    let _back = Back(WORKS_FOR.replace(Some(holder)));
    work()
}

/// Applies the bound. Existing reservations stay.
pub fn set_limit(bytes: u64) {
    ACCOUNTS.limit.store(bytes, Ordering::Relaxed);
}

/// The bound, bytes held, the peak of bytes held, and the number of refusals.
pub fn status() -> Value {
    let n = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "max_bytes": n(&ACCOUNTS.limit),
        "bytes": n(&ACCOUNTS.used),
        "highest_bytes": n(&ACCOUNTS.highest),
        "refused": n(&ACCOUNTS.refused),
    })
}

/// Brings the gauges of memory up to date.
pub fn observe() {
    counters::MEMORY_MAX_BYTES.set(ACCOUNTS.limit.load(Ordering::Relaxed));
    counters::MEMORY_BYTES.set(ACCOUNTS.used.load(Ordering::Relaxed));
}

/// Resets peak and refusals.
pub fn reset_status() {
    ACCOUNTS.highest.store(ACCOUNTS.used.load(Ordering::Relaxed), Ordering::Relaxed);
    ACCOUNTS.refused.store(0, Ordering::Relaxed);
}

/// Whether deferrable work should wait: more than half of the bound is held.
pub fn is_tight() -> bool {
    let (limit, used) = (ACCOUNTS.limit.load(Ordering::Relaxed), ACCOUNTS.used.load(Ordering::Relaxed));
    used > limit / 2
}

/// Reserved memory; released on drop. Drop the value that uses it first.
#[derive(Debug, Default)]
pub struct Reservation {
    /// Bytes that are counted.
    held: usize,
    /// Bytes in use.
    spent: usize,
    holder: Option<Arc<Holder>>,
}

impl Reservation {
    /// Reserves `bytes` for `what`, the subject of the error at the bound.
    pub fn take(bytes: usize, what: &str) -> Result<Self> {
        let mut share = Reservation::default();
        share.spend(bytes, what)?;
        Ok(share)
    }

    /// Uses `bytes` more, and reserves more if needed.
    pub fn spend(&mut self, bytes: usize, what: &str) -> Result<()> {
        let spent = self.spent.saturating_add(bytes);
        if spent > self.held && spent >= SMALL {
            let missing = (spent - self.held).max(if self.held == 0 { 0 } else { STEP });
            let holder = self.holder.get_or_insert_with(holder);
            take(holder, missing, what)?;
            self.held += missing;
        }
        self.spent = spent;
        Ok(())
    }

    /// Uses `bytes` from now on, less than before.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.spent = self.spent.min(bytes);
        self.free(self.held.saturating_sub(self.spent));
    }

    /// Uses `bytes` less. They stay reserved for later growth.
    pub fn unspend(&mut self, bytes: usize) {
        self.spent = self.spent.saturating_sub(bytes);
        if self.held.saturating_sub(self.spent) > 4 * STEP {
            self.free(self.held - self.spent - STEP);
        }
    }

    /// Splits off a reservation of `bytes`.
    pub fn split(&mut self, bytes: usize) -> Reservation {
        let held = bytes.min(self.held);
        self.held -= held;
        self.spent = self.spent.saturating_sub(bytes);
        Reservation { held, spent: bytes, holder: if held > 0 { self.holder.clone() } else { None } }
    }

    /// Takes over another reservation.
    pub fn absorb(&mut self, mut other: Reservation) {
        let (held, spent) = (std::mem::take(&mut other.held), std::mem::take(&mut other.spent));
        let same = match (&self.holder, &other.holder) {
            (Some(own), Some(theirs)) => Arc::ptr_eq(own, theirs),
            (None, theirs) => {
                self.holder.clone_from(theirs);
                true
            }
            (_, None) => true,
        };
        if !same {
            // Moved memory is charged to its new holder.
            let moved = held as u64;
            if let (Some(own), Some(theirs)) = (&self.holder, &other.holder) {
                own.bytes.fetch_add(moved, Ordering::Relaxed);
                theirs.bytes.fetch_sub(moved, Ordering::Relaxed);
            }
        }
        self.held += held;
        self.spent = self.spent.saturating_add(spent);
    }

    fn free(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        if let (Some(holder), true) = (&self.holder, bytes > 0) {
            let bytes = bytes as u64;
            holder.bytes.fetch_sub(bytes, Ordering::Relaxed);
            ACCOUNTS.used.fetch_sub(bytes, Ordering::Relaxed);
            freed(bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.free(self.held);
    }
}

fn take(holder: &Arc<Holder>, bytes: usize, what: &str) -> Result<()> {
    let more = bytes as u64;
    let limit = ACCOUNTS.limit.load(Ordering::Relaxed);
    let taken = {
        // Under one lock, so that the checked amounts are the changed ones.
        let _turn = ACCOUNTS.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let used = ACCOUNTS.used.load(Ordering::Relaxed).saturating_add(more);
        let own = holder.bytes.load(Ordering::Relaxed).saturating_add(more);
        let nobodys = Arc::ptr_eq(holder, &ACCOUNTS.nobody);
        let fits = used <= limit && (nobodys || own <= limit.saturating_sub(used).saturating_mul(TIMES_FREE));
        if fits {
            ACCOUNTS.used.fetch_add(more, Ordering::Relaxed);
            holder.bytes.fetch_add(more, Ordering::Relaxed);
            ACCOUNTS.highest.fetch_max(used, Ordering::Relaxed);
            Ok(())
        } else {
            Err((used - more, own - more))
        }
    };
    if let Err((used, own)) = taken {
        refused();
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        return Err(Error::new(
            Kind::Memory,
            format!(
                "{what} would take {} MiB more, but calls hold {} MiB, {} of them this account's, of the {} MiB that call_memory_mb allows (one account three times what it leaves free); ask for less at once, try again when other calls have ended, or raise the setting",
                mib(more),
                mib(used),
                mib(own),
                mib(limit)
            ),
        ));
    }
    if bytes >= PROBED && Vec::<u8>::new().try_reserve_exact(bytes).is_err() {
        holder.bytes.fetch_sub(more, Ordering::Relaxed);
        ACCOUNTS.used.fetch_sub(more, Ordering::Relaxed);
        refused();
        return Err(system_has_none(bytes, what));
    }
    Ok(())
}

fn refused() {
    ACCOUNTS.refused.fetch_add(1, Ordering::Relaxed);
    counters::MEMORY_REFUSED.add(1);
}

/// The error when the system is out of memory.
pub fn system_has_none(bytes: usize, what: &str) -> Error {
    Error::new(
        Kind::Memory,
        format!(
            "{what} would take {} MiB more, which the system does not give the server; ask for less at once, or lower call_memory_mb below what the server has",
            (bytes as u64).div_ceil(1 << 20)
        ),
    )
}

/// A copy of `bytes`, or an error if the system is out of memory.
pub fn copied(bytes: &[u8], what: &str) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| system_has_none(bytes.len(), what))?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// An empty string with capacity `bytes`, or an error if the system is out of memory.
pub fn text_of(bytes: usize, what: &str) -> Result<String> {
    let mut text = String::new();
    text.try_reserve_exact(bytes).map_err(|_| system_has_none(bytes, what))?;
    Ok(text)
}

/// After many freed bytes, returns memory to the system soon. Allocators would otherwise keep it for ever.
fn freed(bytes: u64) {
    if ACCOUNTS.freed.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) < GIVEN_BACK
        || ACCOUNTS.giving_back.swap(true, Ordering::AcqRel)
    {
        return;
    }
    let started = threads::spawn("mysql_ml-memory", 256 << 10, || {
        let mut wait = Duration::from_millis(500);
        loop {
            std::thread::sleep(wait);
            ACCOUNTS.freed.store(0, Ordering::Relaxed);
            host::release_free_memory();
            ACCOUNTS.giving_back.store(false, Ordering::Release);
            // This thread also returns memory freed meanwhile, unless another thread has started.
            if ACCOUNTS.freed.load(Ordering::Relaxed) < GIVEN_BACK || ACCOUNTS.giving_back.swap(true, Ordering::AcqRel)
            {
                return;
            }
            // A server under load frees memory constantly.
            wait = Duration::from_secs(5);
        }
    });
    if started.is_err() {
        ACCOUNTS.giving_back.store(false, Ordering::Release);
    }
}

/// A value with the reservation of its memory.
#[derive(Debug, Default)]
pub struct Held<T> {
    value: T,
    _share: Reservation,
}

impl<T> Held<T> {
    /// `value` with its reservation `share`.
    pub fn new(value: T, share: Reservation) -> Self {
        Held { value, _share: share }
    }

    /// The value and its reservation.
    pub fn into_parts(self) -> (T, Reservation) {
        (self.value, self._share)
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        self.value.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The accounts belong to the whole process, so tests that set the bound take turns.
    static TURN: Mutex<()> = Mutex::new(());

    #[test]
    fn the_bound_holds_for_all_and_leaves_something_for_the_next() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, second) = (Arc::<Holder>::default(), Arc::<Holder>::default());
        let before = ACCOUNTS.used.load(Ordering::Relaxed);
        set_limit(before + (64 << 20));
        let one = working_for(Arc::clone(&first), || Reservation::take(40 << 20, "a call")).unwrap();
        let error = working_for(Arc::clone(&first), || Reservation::take(20 << 20, "a call")).unwrap_err();
        assert_eq!(error.kind(), Kind::Memory);
        assert!(error.message().contains("call_memory_mb"), "{error}");
        let other = working_for(second, || Reservation::take(12 << 20, "a call")).unwrap();
        assert_eq!(ACCOUNTS.used.load(Ordering::Relaxed) - before, 52 << 20);
        drop((one, other));
        working_for(first, || Reservation::take(45 << 20, "a call")).unwrap();
        set_limit(DEFAULT);
    }

    #[test]
    fn a_share_grows_is_divided_and_given_back() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let holder = Arc::<Holder>::default();
        let held = |holder: &Holder| holder.bytes.load(Ordering::Relaxed);
        working_for(Arc::clone(&holder), || {
            let mut share = Reservation::take(1000, "x").unwrap();
            assert_eq!(held(&holder), 0, "small ones are not counted");
            for _ in 0..100 {
                share.spend(1000, "x").unwrap();
            }
            assert!((101_000..=101_000 + STEP as u64).contains(&held(&holder)), "{}", held(&holder));
            let part = share.split(50_000);
            drop(share);
            assert_eq!(held(&holder), 50_000);
            drop(part);
            assert_eq!(held(&holder), 0);
        });
    }

    #[test]
    fn memory_that_the_system_does_not_have_is_an_error() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        set_limit(u64::MAX / 8);
        let error = working_for(Arc::default(), || Reservation::take(1 << 50, "a call")).unwrap_err();
        assert!(error.message().contains("does not give"), "{error}");
        set_limit(DEFAULT);
    }

    #[test]
    fn released_memory_is_free_for_others() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let holder = Arc::<Holder>::default();
        let held = || holder.bytes.load(Ordering::Relaxed);
        working_for(Arc::clone(&holder), || {
            let mut share = Reservation::take(20 << 10, "x").unwrap();
            assert_eq!(held(), 20 << 10, "what is asked for first, and no more");
            share.spend(1, "x").unwrap();
            assert_eq!(held(), (20 << 10) + STEP as u64, "then some more at a time");
            share.shrink_to(100);
            assert_eq!(held(), 100);
            share.spend(10 * STEP, "x").unwrap();
            let most = held();
            share.unspend(4 * STEP);
            assert_eq!(held(), most, "kept for what comes next");
            share.unspend(2 * STEP);
            assert_eq!(held(), (4 * STEP + 100 + STEP) as u64, "but not more than a step");
            drop(share);
            assert_eq!(held(), 0);
        });
    }

    #[test]
    fn a_share_takes_over_another_one_also_from_another_account() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, second) = (Arc::<Holder>::default(), Arc::<Holder>::default());
        let held = |holder: &Holder| holder.bytes.load(Ordering::Relaxed);
        let used = ACCOUNTS.used.load(Ordering::Relaxed);
        let take = |holder: &Arc<Holder>| working_for(Arc::clone(holder), || Reservation::take(1 << 20, "x")).unwrap();
        let mut share = Reservation::default();
        share.absorb(take(&first));
        share.absorb(take(&first));
        assert_eq!((held(&first), held(&second)), (2 << 20, 0));
        share.absorb(take(&second));
        assert_eq!((held(&first), held(&second)), (3 << 20, 0), "counted for its new holder");
        assert_eq!(ACCOUNTS.used.load(Ordering::Relaxed) - used, 3 << 20);
        working_for(Arc::clone(&first), || share.spend(0, "x")).unwrap();
        assert_eq!(held(&first), 3 << 20, "what was used is in use");
        share.shrink_to(3 << 20);
        assert_eq!(held(&first), 3 << 20);
        drop(share);
        assert_eq!((held(&first), ACCOUNTS.used.load(Ordering::Relaxed)), (0, used));
    }

    #[test]
    fn an_account_that_holds_something_is_not_forgotten_and_others_are() {
        let account = |n: usize| Account { user: format!("user {n}"), host: "localhost".into() };
        let first = holder_of(account(0));
        for n in 1..=MAX_ACCOUNTS * 2 {
            holder_of(account(n));
        }
        assert!(Arc::ptr_eq(&holder_of(account(0)), &first));
        assert!(ACCOUNTS.holders.lock().unwrap().len() <= MAX_ACCOUNTS);
    }

    #[test]
    fn held_memory_is_reported_and_much_of_it_makes_jobs_wait() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let holder = Arc::<Holder>::default();
        let used = ACCOUNTS.used.load(Ordering::Relaxed);
        set_limit(used + (80 << 20));
        reset_status();
        let counter = |name: &str| status()[name].as_u64().unwrap();
        let take = |bytes| working_for(Arc::clone(&holder), || Reservation::take(bytes, "a call"));
        let half = take((40 << 20) - (used / 2) as usize).unwrap();
        assert!(!is_tight(), "half is not more than half");
        let more = take(2 << 20).unwrap();
        assert!(is_tight());
        assert_eq!((counter("max_bytes"), counter("refused")), (used + (80 << 20), 0));
        assert_eq!((counter("bytes"), counter("highest_bytes")), (counter("bytes"), counter("bytes")));
        let most = counter("bytes");
        let error = take(60 << 20).unwrap_err();
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let fact = format!("60 MiB more, but calls hold {} MiB, {} of them", mib(most), mib(most - used));
        assert!(error.message().contains(&fact), "{error}; not: {fact}");
        drop((half, more));
        assert_eq!((counter("bytes"), counter("highest_bytes"), counter("refused")), (used, most, 1));
        reset_status();
        assert_eq!((counter("highest_bytes"), counter("refused")), (used, 0));
        set_limit(DEFAULT);
    }

    #[test]
    fn a_thread_works_for_whom_it_did_before() {
        let (outer, inner) = (Arc::<Holder>::default(), Arc::<Holder>::default());
        working_for(Arc::clone(&outer), || {
            working_for(Arc::clone(&inner), || assert!(Arc::ptr_eq(&holder(), &inner)));
            assert!(Arc::ptr_eq(&holder(), &outer));
        });
        assert!(Arc::ptr_eq(&holder(), &ACCOUNTS.nobody));
    }

    #[test]
    fn copies_are_what_was_copied() {
        assert_eq!(copied(b"abc", "x").unwrap(), b"abc");
        let text = text_of(100, "x").unwrap();
        assert!(text.is_empty() && text.capacity() >= 100);
    }
}
