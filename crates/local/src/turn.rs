//! A thread's turn to compute: when it is to stop, and when others have theirs.
//!
//! Whatever takes long looks at its [`Turn`] at least every 100 ms. So a call that ended is stopped, and a long one shares the
//! few threads that compute at once with those of other accounts and models.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::CancelToken;

/// For how long a thread computes before others have their turn, in microseconds.
const SLICE: u64 = 50_000;

/// A turn. The default is one that nobody stops and that has all the time.
#[derive(Clone, Default)]
pub struct Turn {
    cancel: CancelToken,
    place: Option<Arc<Place>>,
}

/// Where a thread stands among those that compute.
pub struct Place {
    /// Its number.
    pub number: u64,
    others: Box<dyn Others>,
    /// When it was heard of, and when its slice began, in microseconds.
    heard: AtomicU64,
    began: AtomicU64,
    /// Whether it is one of those that compute now.
    holds: AtomicBool,
}

/// Who else wants to compute.
pub trait Others: Send + Sync {
    /// Whether anybody waits.
    fn wait(&self) -> bool;

    /// Lets others go first, and returns when it is the thread's turn again, or `cancel` is set.
    fn give_way(&self, place: &Place, cancel: &CancelToken);
}

/// Microseconds since the first call.
pub fn now() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Place {
    /// That of a thread which computes from now on.
    pub fn new(number: u64, others: Box<dyn Others>) -> Self {
        let now = now();
        Place { number, others, heard: now.into(), began: now.into(), holds: true.into() }
    }

    /// When it was heard of last.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// When its slice began.
    pub fn began(&self) -> u64 {
        self.began.load(Ordering::Relaxed)
    }

    /// Whether it is one of those that compute now. Changes only under the lock of those that share.
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// Begins a slice, or ends it.
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
    /// One that ends when `cancel` is set.
    pub fn of(cancel: CancelToken) -> Self {
        Turn { cancel, place: None }
    }

    /// One of several that share.
    pub fn among(cancel: CancelToken, place: Arc<Place>) -> Self {
        Turn { cancel, place: Some(place) }
    }

    /// An error once nobody wants the result any more. Before that it lets others go first where they have waited long enough.
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
