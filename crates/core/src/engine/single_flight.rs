//! Concurrent identical requests are sent once: the first session leads, the others wait for its result.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{Interrupt, Waiting, POLL};
use mysql_ml_base::wait::Wait;

/// Requests under way, at most one a session.
pub struct SingleFlight<K, V> {
    under_way: Mutex<HashMap<K, Arc<Flight<V>>>>,
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        SingleFlight { under_way: Mutex::default() }
    }
}

struct Flight<V> {
    end: Mutex<Option<End<V>>>,
    ended: Condvar,
}

#[derive(Clone)]
enum End<V> {
    /// The leader's result.
    Done(Result<V>),
    /// The leader was killed or panicked; a waiter takes over.
    Abandoned,
}

/// The source of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This call's own request.
    Own,
    /// Another session's request.
    Shared,
}

/// The leader's guard: ends the flight even on panic, so that no waiter waits for ever.
struct Leading<'f, K: Eq + Hash, V> {
    flights: &'f SingleFlight<K, V>,
    key: &'f K,
    flight: Arc<Flight<V>>,
    end: End<V>,
}

impl<K: Eq + Hash, V> Drop for Leading<'_, K, V> {
    fn drop(&mut self) {
        self.flights.lock().remove(self.key);
        let end = std::mem::replace(&mut self.end, End::Abandoned);
        *self.flight.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        self.flight.ended.notify_all();
    }
}

impl<K: Eq + Hash + Clone, V: Clone> SingleFlight<K, V> {
    /// The result of `lead`, or of another call under way with the same key. `lead` takes its latest deadline, which is
    /// set after waiting for another call: `time` covers both.
    pub fn share(
        &self,
        key: &K,
        time: Duration,
        interrupt: &dyn Interrupt,
        lead: impl FnOnce(Option<Instant>) -> Result<V>,
    ) -> Result<(V, Origin)> {
        let deadline = Instant::now() + time;
        let mut waited = false;
        loop {
            let (flight, leads) = self.join(key);
            if leads {
                let mut leading = Leading { flights: self, key, flight, end: End::Abandoned };
                let result = lead(waited.then_some(deadline));
                if !matches!(&result, Err(e) if matches!(e.kind(), Kind::Interrupted(_))) {
                    leading.end = End::Done(result.clone());
                }
                return result.map(|value| (value, Origin::Own));
            }
            waited = true;
            let _waiting = Waiting::begin(interrupt, Wait::SameRequest);
            match flight.wait(deadline, interrupt)? {
                End::Abandoned => {}
                // The leader's time was up; later waiters have time of their own left.
                End::Done(Err(e))
                    if e.kind() == Kind::Timeout && deadline.saturating_duration_since(Instant::now()) > time / 2 => {}
                End::Done(result) => return result.map(|value| (value, Origin::Shared)),
            }
        }
    }

    fn join(&self, key: &K) -> (Arc<Flight<V>>, bool) {
        let mut under_way = self.lock();
        if let Some(flight) = under_way.get(key) {
            return (Arc::clone(flight), false);
        }
        let flight = Arc::new(Flight { end: Mutex::new(None), ended: Condvar::new() });
        under_way.insert(key.clone(), Arc::clone(&flight));
        (flight, true)
    }
}

impl<K, V> SingleFlight<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Flight<V>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone> Flight<V> {
    fn wait(&self, deadline: Instant, interrupt: &dyn Interrupt) -> Result<End<V>> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(end) = end.as_ref() {
                return Ok(end.clone());
            }
            interrupt.check()?;
            if Instant::now() >= deadline {
                return Err(Error::new(
                    Kind::Timeout,
                    "the time for this call is up; it waited for another session's request for the same text",
                ));
            }
            end = self.ended.wait_timeout(end, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::Barrier;

    use super::*;
    use mysql_ml_base::interrupt::Never;

    const LONG: Duration = Duration::from_secs(20);

    /// Stops when the flag is set.
    struct Stop<'a>(&'a AtomicBool);

    impl Interrupt for Stop<'_> {
        fn check(&self) -> Result<()> {
            if self.0.load(Ordering::Acquire) {
                return Err(Error::interrupted(1317));
            }
            Ok(())
        }
    }

    fn waiting(flights: &SingleFlight<u32, u32>, key: u32, n: usize) {
        let end = Instant::now() + LONG;
        while flights.lock().get(&key).is_none_or(|flight| Arc::strong_count(flight) < n + 2) {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn fifty_ask_and_one_is_sent() {
        let flights = SingleFlight::default();
        let sent = AtomicU32::new(0);
        let all: Vec<Origin> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..50)
                .map(|_| {
                    scope.spawn(|| {
                        let (value, from) = flights
                            .share(&1, LONG, &Never, |_| {
                                sent.fetch_add(1, Ordering::AcqRel);
                                waiting(&flights, 1, 49);
                                Ok(7)
                            })
                            .unwrap();
                        assert_eq!(value, 7);
                        from
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(sent.load(Ordering::Acquire), 1);
        assert_eq!(all.iter().filter(|f| **f == Origin::Shared).count(), 49);
        assert!(flights.lock().is_empty());
    }

    #[test]
    fn an_error_is_everybodys() {
        let flights: SingleFlight<u32, u32> = SingleFlight::default();
        std::thread::scope(|scope| {
            let lead = scope.spawn(|| {
                flights.share(&1, LONG, &Never, |_| {
                    waiting(&flights, 1, 1);
                    Err(Error::new(Kind::Provider(400), "no"))
                })
            });
            let end = Instant::now() + LONG;
            while flights.lock().is_empty() {
                assert!(Instant::now() < end);
            }
            let error = flights.share(&1, LONG, &Never, |_| Ok(1)).unwrap_err();
            assert_eq!(error.kind(), Kind::Provider(400));
            assert!(lead.join().unwrap().is_err());
        });
    }

    #[test]
    #[allow(clippy::panic)]
    fn another_takes_over_from_one_who_is_stopped_or_panics() {
        for panics in [false, true] {
            let flights: SingleFlight<u32, u32> = SingleFlight::default();
            let begun = Barrier::new(2);
            std::thread::scope(|scope| {
                let lead = scope.spawn(|| {
                    flights.share(&1, LONG, &Never, |limit| {
                        assert!(limit.is_none(), "the whole time is its own");
                        begun.wait();
                        waiting(&flights, 1, 3);
                        if panics {
                            std::panic::resume_unwind(Box::new("x"));
                        }
                        Err(Error::interrupted(1317))
                    })
                });
                begun.wait();
                let sent = Arc::new(AtomicU32::new(0));
                let others: Vec<_> = (0..3)
                    .map(|_| {
                        let (flights, sent) = (&flights, Arc::clone(&sent));
                        scope.spawn(move || {
                            flights.share(&1, LONG, &Never, |limit| {
                                assert!(limit.is_some(), "the wait counts");
                                sent.fetch_add(1, Ordering::AcqRel);
                                waiting(flights, 1, 0);
                                std::thread::sleep(Duration::from_millis(100));
                                Ok(3)
                            })
                        })
                    })
                    .collect();
                assert!(others.into_iter().all(|t| t.join().unwrap().unwrap().0 == 3));
                assert_eq!(sent.load(Ordering::Acquire), 1, "one at a time takes over");
                match lead.join() {
                    Ok(result) => assert_eq!(result.unwrap_err().kind(), Kind::Interrupted(1317)),
                    Err(_) => assert!(panics),
                }
            });
        }
    }

    #[test]
    fn a_waiter_hears_kill_and_deadline() {
        let flights: SingleFlight<u32, u32> = SingleFlight::default();
        let (begun, release, killed) = (Barrier::new(2), AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                flights.share(&1, LONG, &Never, |_| {
                    begun.wait();
                    while !release.load(Ordering::Acquire) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Ok(1)
                })
            });
            begun.wait();
            let error = flights.share(&1, Duration::from_millis(20), &Never, |_| Ok(2)).unwrap_err();
            assert_eq!(error.kind(), Kind::Timeout);
            killed.store(true, Ordering::Release);
            let error = flights.share(&1, LONG, &Stop(&killed), |_| Ok(2)).unwrap_err();
            assert_eq!(error.kind(), Kind::Interrupted(1317));
            release.store(true, Ordering::Release);
        });
    }

    #[test]
    fn a_later_waiter_has_time_left_when_the_leaders_is_up() {
        let flights: SingleFlight<u32, u32> = SingleFlight::default();
        let begun = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                flights.share(&1, LONG, &Never, |_| {
                    begun.wait();
                    waiting(&flights, 1, 1);
                    Err(Error::new(Kind::Timeout, "up"))
                })
            });
            begun.wait();
            assert_eq!(flights.share(&1, LONG, &Never, |_| Ok(2)).unwrap(), (2, Origin::Own));
        });
    }
}
