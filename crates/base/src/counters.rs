//! Numbers of this process for the server's status variables.
//!
//! A counter only grows, from zero when the server loads the library; `ml_reset_status` leaves it alone. A gauge is a
//! present amount. Each is one atomic word, which the server reads where it is.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A number.
pub struct Counter {
    /// Its name after `Mysql_ml_`.
    pub name: &'static CStr,
    /// Its meaning and unit.
    pub help: &'static str,
    /// Whether it may fall.
    pub gauge: bool,
    value: AtomicU64,
}

impl Counter {
    /// A number that only grows.
    pub const fn growing(name: &'static CStr, help: &'static str) -> Self {
        Counter { name, help, gauge: false, value: AtomicU64::new(0) }
    }

    /// A present amount.
    pub const fn gauge(name: &'static CStr, help: &'static str) -> Self {
        Counter { name, help, gauge: true, value: AtomicU64::new(0) }
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.value.fetch_add(n, Ordering::Relaxed);
    }

    /// Subtracts `n`, at most down to zero.
    pub fn sub(&self, n: u64) {
        let _ = self.value.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |v| Some(v.saturating_sub(n)));
    }

    /// Sets a gauge.
    pub fn set(&self, n: u64) {
        self.value.store(n, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Adds one until the guard is dropped.
    pub fn hold(&'static self) -> Held {
        self.add(1);
        Held(self)
    }

    /// Where the server reads it.
    pub fn as_ptr(&self) -> *mut u64 {
        self.value.as_ptr()
    }

    /// Its name as text.
    pub fn text(&self) -> &'static str {
        self.name.to_str().unwrap_or_default()
    }
}

/// One in a gauge.
pub struct Held(&'static Counter);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

/// Declares the numbers and their list.
macro_rules! numbers {
    (@ counter $name:literal $help:literal) => {
        Counter::growing($name, $help)
    };
    (@ gauge $name:literal $help:literal) => {
        Counter::gauge($name, $help)
    };
    ($($constant:ident $kind:ident $name:literal $help:literal;)*) => {
        $(#[doc = $help] pub static $constant: Counter = numbers!(@ $kind $name $help);)*

        static NUMBERS: &[&Counter] = &[$(&$constant),*];
    };
}

numbers! {
    CALLS counter c"calls" "calls of functions with a model, and inputs of batches and jobs";
    CACHE_HITS counter c"cache_hits" "results taken from the cache in memory";
    CACHE_DISK_HITS counter c"cache_disk_hits" "results taken from the cache on disk";
    CACHE_SHARED counter c"cache_shared" "results of another session's identical request";
    CACHE_MISSES counter c"cache_misses" "results that were in no cache";
    REQUESTS counter c"requests" "requests sent to endpoints, retries among them, and computations of models inside the server";
    RETRIES counter c"retries" "requests sent again after a failure";
    ANSWERS counter c"answers" "requests answered with success";
    ANSWER_MICROSECONDS counter c"answer_microseconds" "the time of these answers together";
    TEXTS counter c"texts" "texts embedded by endpoints";
    TOKENS_IN counter c"tokens_in" "tokens of inputs, as providers report them";
    TOKENS_OUT counter c"tokens_out" "tokens of answers, as providers report them";
    RATE_LIMITED counter c"rate_limited" "requests that a provider refused because of its rate limit";
    MEMORY_REFUSED counter c"memory_refused" "calls refused at the bound call_memory_mb";
    REQUESTS_UNDER_WAY gauge c"requests_under_way" "requests sent and not answered yet: permits in use";
    JOBS gauge c"jobs" "jobs on tables under way";
    SESSIONS gauge c"sessions" "sessions of the library inside the server";
    THREADS gauge c"threads" "threads of the library";
    MEMORY_BYTES gauge c"memory_bytes" "memory that calls hold";
    MEMORY_MAX_BYTES gauge c"memory_max_bytes" "the bound of that memory";
    CACHE_ENTRIES gauge c"cache_entries" "results in the cache in memory";
    CACHE_BYTES gauge c"cache_bytes" "bytes of the cache in memory";
    CACHE_DISK_ENTRIES gauge c"cache_disk_entries" "results in the cache on disk";
    CACHE_DISK_BYTES gauge c"cache_disk_bytes" "bytes of the cache on disk";
}

/// The numbers above. [`crate::status::all`] has those of waits and errors too.
pub fn list() -> impl Iterator<Item = &'static Counter> {
    NUMBERS.iter().copied()
}

/// Adds a duration in microseconds.
pub fn add_time(counter: &Counter, time: Duration) {
    counter.add(u64::try_from(time.as_micros()).unwrap_or(0));
}

/// What brings gauges up to date before they are read.
static REFRESH: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// Has `refresh` called before the numbers are read. It must not block.
pub fn refresh_by(refresh: fn()) {
    REFRESH.lock().unwrap_or_else(PoisonError::into_inner).push(refresh);
}

/// Brings gauges up to date.
pub fn refresh() {
    let all = REFRESH.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for refresh in all {
        refresh();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_does_not_fall_below_zero() {
        static GAUGE: Counter = Counter::gauge(c"x", "x");
        let held = GAUGE.hold();
        assert_eq!(GAUGE.get(), 1);
        drop(held);
        GAUGE.sub(5);
        assert_eq!(GAUGE.get(), 0);
    }
}
