//! A refreshed secret: fetched on demand by one thread at a time, and cached.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};

use super::http::Http;
use mysql_ml_base::error::{Error, Kind, Result};

/// Interval of cancellation checks while waiting for another thread's fetch.
const SLICE: Duration = Duration::from_millis(20);

/// Least interval between fetches for a value that stays rejected.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Time limit of a renewal while the old value is usable.
const LONGEST_RENEWAL: Duration = Duration::from_secs(5);

/// A failure is shared with all callers for this long.
const FAILURE_LASTS: Duration = Duration::from_millis(500);

/// A fetched value.
pub struct Fetched {
    /// The value.
    pub value: SecretString,
    /// The time to renew it.
    pub fresh_for: Duration,
    /// The time of its expiry.
    pub usable_for: Duration,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    fetching: bool,
    /// Time of the last fetch that returned the rejected value again.
    in_vain: Option<Instant>,
    failed: Option<(Instant, Error)>,
}

struct Held {
    value: SecretString,
    fetched_at: Instant,
    refresh_at: Instant,
    ends_at: Instant,
}

/// Holds one value.
#[derive(Default)]
pub struct RefreshingSecret {
    state: Mutex<State>,
    changed: Condvar,
}

/// Ends a fetch even on panic, so that no thread waits for ever.
struct Fetching<'s>(&'s RefreshingSecret);

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.0.lock().fetching = false;
        self.0.changed.notify_all();
    }
}

impl RefreshingSecret {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value. Fetches it if it is due for renewal, older than `max_age`, or equal to `rejected`. After a network
    /// failure, and during another thread's fetch, a usable old value is returned.
    pub fn get(
        &self,
        rejected: Option<&SecretString>,
        max_age: Duration,
        http: &Http<'_>,
        fetch: impl FnOnce(&Http<'_>) -> Result<Fetched>,
    ) -> Result<SecretString> {
        let is_rejected = |held: &Held| rejected.is_some_and(|r| r.expose_secret() == held.value.expose_secret());
        let began = Instant::now();
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            // A value fetched while this call waited is new enough at any age.
            let fresh = |h: &&Held| {
                h.refresh_at.min(h.ends_at) > now && (h.fetched_at.elapsed() < max_age || h.fetched_at >= began)
            };
            // Already fetched for this rejection and unchanged. Another fetch at once would be one for each of a
            // hundred sessions with a revoked key.
            let just_asked =
                |h: &&Held| h.fetched_at >= began || state.in_vain.is_some_and(|at| at.elapsed() < ASK_AGAIN);
            if let Some(held) = state.held.as_ref().filter(fresh).filter(|h| !is_rejected(h) || just_asked(h)) {
                return Ok(held.value.clone());
            }
            let usable = state.held.as_ref().filter(|h| h.ends_at > now && !is_rejected(h));
            if let (true, Some(held)) = (state.fetching, usable) {
                return Ok(held.value.clone());
            }
            if let Some((at, error)) = &state.failed
                && (*at >= began || at.elapsed() < FAILURE_LASTS)
            {
                return Err(error.clone());
            }
            if !state.fetching {
                break;
            }
            http.check()?;
            state = self.changed.wait_timeout(state, SLICE).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.fetching = true;
        let now = Instant::now();
        let spare = state.held.as_ref().is_some_and(|h| h.ends_at > now && !is_rejected(h));
        drop(state);
        let fetching = Fetching(self);
        // With a usable old value, a hanging source must not use up the call's time.
        let left = http.deadline.saturating_duration_since(now);
        let deadline = if spare { now + LONGEST_RENEWAL.min(left / 2) } else { http.deadline };
        let fetched = fetch(&Http { deadline, ..*http });
        let mut state = self.lock();
        let now = Instant::now();
        let result = match fetched {
            Ok(Fetched { value, fresh_for, usable_for }) => {
                state.failed = None;
                let same = rejected.is_some_and(|r| r.expose_secret() == value.expose_secret());
                state.in_vain = same.then_some(now);
                state.held = Some(Held {
                    value: value.clone(),
                    fetched_at: now,
                    refresh_at: now + fresh_for,
                    ends_at: now + usable_for,
                });
                Ok(value)
            }
            Err(error) => {
                let passing = match error.kind() {
                    Kind::Connection | Kind::Timeout => true,
                    Kind::Provider(status) => status >= 500 || status == 429,
                    _ => false,
                };
                let usable = state.held.as_mut().filter(|h| passing && h.ends_at > now && !is_rejected(h));
                match usable {
                    Some(held) => {
                        // Not every call fetches again while the network is down.
                        held.refresh_at = now + Duration::from_secs(5);
                        held.fetched_at = now;
                        Ok(held.value.clone())
                    }
                    None => {
                        // A cancelled call must not fail the next one.
                        if !matches!(error.kind(), Kind::Interrupted(_) | Kind::Timeout) {
                            state.failed = Some((now, error.clone()));
                        }
                        Err(error)
                    }
                }
            }
        };
        drop(state);
        drop(fetching);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::http::tests::with_http;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::Arc;

    const LONG: Duration = Duration::from_secs(3600);

    fn fetched(value: &str, fresh: u64) -> Fetched {
        Fetched {
            value: SecretString::from(value),
            fresh_for: Duration::from_millis(fresh),
            usable_for: Duration::from_secs(60),
        }
    }

    #[test]
    fn fifty_threads_fetch_once() {
        let secret = Arc::new(RefreshingSecret::default());
        let fetches = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..50)
            .map(|_| {
                let (secret, fetches) = (Arc::clone(&secret), Arc::clone(&fetches));
                std::thread::spawn(move || {
                    with_http(|http| {
                        secret
                            .get(None, LONG, http, |_| {
                                fetches.fetch_add(1, Ordering::SeqCst);
                                std::thread::sleep(Duration::from_millis(30));
                                Ok(fetched("a", 60_000))
                            })
                            .unwrap()
                            .expose_secret()
                            .to_owned()
                    })
                })
            })
            .collect();
        assert!(threads.into_iter().all(|t| t.join().unwrap() == "a"));
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_rejected_value_is_fetched_anew_and_a_newer_one_is_not() {
        with_http(|http| {
            let secret = RefreshingSecret::default();
            let old = secret.get(None, LONG, http, |_| Ok(fetched("old", 60_000))).unwrap();
            let new = secret.get(Some(&old), LONG, http, |_| Ok(fetched("new", 60_000))).unwrap();
            assert_eq!(new.expose_secret(), "new");
            let same = secret.get(Some(&old), LONG, http, |_| Err(Error::internal("not asked"))).unwrap();
            assert_eq!(same.expose_secret(), "new");
        });
    }

    #[test]
    fn a_value_that_stays_rejected_is_not_fetched_by_everybody() {
        let secret = Arc::new(RefreshingSecret::default());
        let fetches = Arc::new(AtomicU32::new(0));
        let old = with_http(|http| secret.get(None, LONG, http, |_| Ok(fetched("revoked", 60_000)))).unwrap();
        let threads: Vec<_> = (0..50)
            .map(|_| {
                let (secret, fetches, old) = (Arc::clone(&secret), Arc::clone(&fetches), old.clone());
                std::thread::spawn(move || {
                    with_http(|http| {
                        let fetch = |_: &Http<'_>| {
                            fetches.fetch_add(1, Ordering::SeqCst);
                            std::thread::sleep(Duration::from_millis(10));
                            Ok(fetched("revoked", 60_000))
                        };
                        secret.get(Some(&old), LONG, http, fetch).unwrap();
                    });
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_source_that_hangs_holds_nobody_up_while_the_old_value_is_usable() {
        let secret = Arc::new(RefreshingSecret::default());
        with_http(|http| secret.get(None, LONG, http, |_| Ok(fetched("old", 0))).unwrap());
        let (begun, wait_for_begin) = std::sync::mpsc::channel();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let leader = {
            let secret = Arc::clone(&secret);
            std::thread::spawn(move || {
                with_http(|http| {
                    let value = secret.get(None, LONG, http, |shorter| {
                        assert!(shorter.deadline < http.deadline, "it may not take all of the time");
                        begun.send(()).unwrap();
                        let _ = held.recv();
                        Err(Error::new(Kind::Timeout, "hangs"))
                    });
                    value.unwrap().expose_secret().to_owned()
                })
            })
        };
        wait_for_begin.recv().unwrap();
        with_http(|http| {
            let value = secret.get(None, LONG, http, |_| Err(Error::internal("fetched twice"))).unwrap();
            assert_eq!(value.expose_secret(), "old");
        });
        drop(release);
        assert_eq!(leader.join().unwrap(), "old");
    }

    #[test]
    fn a_usable_value_outlives_a_network_failure_but_not_a_refusal() {
        with_http(|http| {
            let secret = RefreshingSecret::default();
            secret.get(None, LONG, http, |_| Ok(fetched("v", 0))).unwrap();
            let down = |_: &Http<'_>| Err(Error::new(Kind::Connection, "down"));
            assert_eq!(secret.get(None, LONG, http, down).unwrap().expose_secret(), "v");
            let secret = RefreshingSecret::default();
            secret.get(None, LONG, http, |_| Ok(fetched("v", 0))).unwrap();
            let denied = |_: &Http<'_>| Err(Error::new(Kind::Provider(403), "denied"));
            assert_eq!(secret.get(None, LONG, http, denied).unwrap_err().kind(), Kind::Provider(403));
        });
    }
}
