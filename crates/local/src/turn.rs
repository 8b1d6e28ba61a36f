//! The turn of a computing thread: the call's end, and the share of other calls.
//!
//! Long computations check their [`Turn`] at least every 100 ms. This stops ended calls and shares the few computing
//! threads among accounts and models.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::CancelToken;

/// Microseconds that a thread computes before others get their turn.
const SLICE: u64 = 50_000;

/// A turn. The default never ends and is never shared.
#[derive(Clone, Default)]
pub struct Turn {
    cancel: CancelToken,
    place: Option<Arc<Place>>,
}

/// A thread's place among the computing threads.
pub struct Place {
    /// The thread's number.
    pub number: u64,
    others: Box<dyn Others>,
    /// The times of the last check and of the slice's begin, in microseconds.
    heard: AtomicU64,
    began: AtomicU64,
    /// Whether the thread may compute now.
    holds: AtomicBool,
}

/// The other threads and jobs that want to compute.
pub trait Others: Send + Sync {
    /// Whether others wait.
    fn wait(&self) -> bool;

    /// Lets others go first. It returns in the thread's next turn, or when `cancel` is set.
    fn give_way(&self, place: &Place, cancel: &CancelToken);
}

/// Microseconds since the first call.
pub fn now() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Place {
    /// The place of a thread that starts computing now.
    pub fn new(number: u64, others: Box<dyn Others>) -> Self {
        let now = now();
        Place { number, others, heard: now.into(), began: now.into(), holds: true.into() }
    }

    /// The time of the last check, in microseconds.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// The begin of the slice, in microseconds.
    pub fn began(&self) -> u64 {
        self.began.load(Ordering::Relaxed)
    }

    /// Whether the thread may compute now. It changes only under the lock of the sharing threads.
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// Begins or ends a slice.
    pub fn set(&self, holds: bool) {
        let now = now();
        self.holds.store(holds, Ordering::Relaxed);
        self.began.store(now, Ordering::Relaxed);
        if holds {
            self.heard.store(now, Ordering::Relaxed);
        }
    }

    fn look(&self, cancel: &CancelToken) {
        let now = now();
        self.heard.store(now, Ordering::Relaxed);
        if !self.holds() || (self.others.wait() && now.saturating_sub(self.began()) >= SLICE) {
            self.others.give_way(self, cancel);
            self.heard.store(self::now(), Ordering::Relaxed);
        }
    }
}

impl Turn {
    /// A turn that ends with `cancel`.
    pub fn of(cancel: CancelToken) -> Self {
        Turn { cancel, place: None }
    }

    /// A turn of a thread that shares with others.
    pub fn among(cancel: CancelToken, place: Arc<Place>) -> Self {
        Turn { cancel, place: Some(place) }
    }

    /// Lets others go first if they waited long enough. Returns an error once the call has ended.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::interrupted(1317));
        }
        if let Some(place) = &self.place {
            place.look(&self.cancel);
            if self.cancel.is_cancelled() {
                return Err(Error::interrupted(1317));
            }
        }
        Ok(())
    }
}
