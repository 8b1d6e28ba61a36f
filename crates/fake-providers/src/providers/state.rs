//! The providers' state between requests.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::shared::lock;

/// Default lifetime of a token, in seconds.
pub(crate) const HOUR: u64 = 3600;

/// The providers' state between requests.
#[derive(Default)]
pub(crate) struct State {
    tokens: Mutex<Tokens>,
    secrets: Mutex<HashMap<String, Vec<u8>>>,
    limits: Mutex<Limits>,
}

impl State {
    pub(crate) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.tokens)
    }

    pub(crate) fn secrets(&self) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
        lock(&self.secrets)
    }

    pub(crate) fn limits(&self) -> MutexGuard<'_, Limits> {
        lock(&self.limits)
    }
}

/// The issued access tokens.
pub(crate) struct Tokens {
    valid: HashMap<String, Instant>,
    issued: u64,
    lifetime: Duration,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { valid: HashMap::new(), issued: 0, lifetime: Duration::from_secs(HOUR) }
    }
}

impl Tokens {
    /// A new token and its lifetime.
    pub(crate) fn issue(&mut self) -> (String, Duration) {
        self.issued += 1;
        let noise = UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_nanos());
        let token = format!("ya29.test-{}-{noise:08x}", self.issued);
        let now = Instant::now();
        self.valid.insert(token.clone(), now.checked_add(self.lifetime).unwrap_or(now));
        (token, self.lifetime)
    }

    pub(crate) fn set_lifetime(&mut self, lifetime: Duration) {
        self.lifetime = lifetime;
    }

    pub(crate) fn revoke(&mut self) {
        self.valid.clear();
    }

    pub(crate) fn issued(&self) -> u64 {
        self.issued
    }

    pub(crate) fn is_valid(&self, token: &str) -> bool {
        self.valid.get(token).is_some_and(|expiry| Instant::now() < *expiry)
    }
}

/// A number of requests for each window.
pub(crate) struct Limit {
    pub(crate) per_window: u32,
    pub(crate) window: Duration,
    /// Start of the current window: the time of its first request.
    pub(crate) begin: Option<Instant>,
    pub(crate) used: u32,
}

/// The limiters' state.
#[derive(Default)]
pub(crate) struct Limits {
    pub(crate) limit: Option<Limit>,
    /// The ends of the pauses, by path.
    pub(crate) pauses: HashMap<String, Instant>,
    /// Requests in progress, by the limit N of their path.
    pub(crate) busy: HashMap<u32, u32>,
    pub(crate) refused: u64,
}

impl Limits {
    /// Clears the history, but neither the limits nor the requests in progress.
    pub(crate) fn clear(&mut self) {
        if let Some(limit) = &mut self.limit {
            limit.begin = None;
        }
        self.pauses.clear();
        self.refused = 0;
    }

    pub(crate) fn set(&mut self, per_window: u32, window: Duration) {
        self.limit = Some(Limit { per_window, window, begin: None, used: 0 });
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }
}
