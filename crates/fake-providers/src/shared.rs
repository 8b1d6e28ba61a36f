//! State shared by an endpoint's threads.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::answer::Answer;
use crate::embedding::FixedVector;
use crate::reply::Reply;
use crate::request::{Recorded, Request};

/// The answer of a path that a test registered.
#[derive(Clone)]
pub(crate) enum Custom {
    Handler(Arc<dyn Fn(&Recorded) -> Answer + Send + Sync>),
    /// The bytes of a whole response, head included.
    Prebuilt(Arc<[u8]>),
}

/// State shared by the connection threads.
pub(crate) struct Shared {
    pub(crate) stopped: AtomicBool,
    pub(crate) sleepers: (Mutex<bool>, Condvar),
    pub(crate) sockets: Mutex<HashMap<u64, TcpStream>>,
    pub(crate) accepted: AtomicU64,
    pub(crate) open: AtomicUsize,
    pub(crate) recording: AtomicBool,
    pub(crate) requests: Mutex<Vec<Recorded>>,
    pub(crate) count: AtomicU64,
    pub(crate) per_path: Mutex<HashMap<String, u64>>,
    pub(crate) custom: RwLock<HashMap<String, Custom>>,
    pub(crate) expected_key: Mutex<String>,
    pub(crate) latency_fixed: AtomicU64,
    pub(crate) latency_per_text: AtomicU64,
    pub(crate) fixed_vector: RwLock<Option<Arc<FixedVector>>>,
    /// The address without a path.
    pub(crate) base: String,
    pub(crate) routes: Arc<dyn Route>,
}

/// The routes of an endpoint.
///
/// Connections and limiters use this trait only, so that a route's file need not know its callers.
pub(crate) trait Route: Send + Sync {
    /// Answers a request as if it were for this path.
    fn route(&self, shared: &Shared, request: &Request<'_>, path: &str) -> io::Result<Reply>;
}

/// Locks even after another thread's panic: the data are plain collections.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(base: String, routes: Arc<dyn Route>) -> Self {
        Self {
            stopped: AtomicBool::new(false),
            sleepers: (Mutex::new(false), Condvar::new()),
            sockets: Mutex::default(),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            recording: AtomicBool::new(true),
            requests: Mutex::default(),
            count: AtomicU64::new(0),
            per_path: Mutex::default(),
            custom: RwLock::default(),
            expected_key: Mutex::default(),
            latency_fixed: AtomicU64::new(0),
            latency_per_text: AtomicU64::new(0),
            fixed_vector: RwLock::default(),
            base,
            routes,
        }
    }

    /// Sleeps, at most until the endpoint stops.
    pub(crate) fn pause(&self, duration: Duration) {
        if duration.is_zero() {
            return;
        }
        let (stopped, wake) = &self.sleepers;
        // Both outcomes end the pause: the caller notices a stop when it writes to the closed socket.
        drop(wake.wait_timeout_while(lock(stopped), duration, |stopped| !*stopped));
    }

    /// Counts a request and returns its number among those of its path, from 1.
    pub(crate) fn note(&self, path: &str) -> u64 {
        let mut per_path = lock(&self.per_path);
        let nth = match per_path.get_mut(path) {
            Some(seen) => {
                *seen += 1;
                *seen
            }
            None => {
                per_path.insert(path.to_owned(), 1);
                1
            }
        };
        drop(per_path);
        self.count.fetch_add(1, Ordering::Release);
        nth
    }

    pub(crate) fn custom(&self, path: &str) -> Option<Custom> {
        let custom = self.custom.read().unwrap_or_else(PoisonError::into_inner);
        custom.get(path).cloned()
    }

    pub(crate) fn fixed_vector(&self) -> Option<Arc<FixedVector>> {
        let fixed = self.fixed_vector.read();
        fixed.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
