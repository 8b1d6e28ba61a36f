//! Limits the tests of one program that have servers at the same time.
//!
//! The unit is a test, which is a thread: all servers of a thread share one turn. With a turn for each server, two
//! tests with a replica each could deadlock.

use std::collections::HashMap;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The maximum, even with more processors: a server takes some 300 MB.
const MOST: usize = 8;

/// The current holders.
#[derive(Debug, Default)]
struct Turns {
    /// Threads with a turn, and the number of their servers.
    holders: HashMap<ThreadId, usize>,
    /// Threads that wait for an exclusive turn. New threads wait for them, to prevent starvation.
    waiting: usize,
    alone: Option<ThreadId>,
}

static TURNS: LazyLock<Mutex<Turns>> = LazyLock::new(Mutex::default);
static FREED: Condvar = Condvar::new();

/// A test's permission to have servers; dropping it releases it.
#[derive(Debug)]
#[must_use]
pub struct Turn(ThreadId);

impl Turn {
    /// Waits until few enough other tests have servers.
    pub(super) fn shared() -> Turn {
        let most = thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, MOST);
        Turn::take(lock(), |turns| turns.alone.is_none() && turns.waiting == 0 && turns.holders.len() < most).1
    }

    /// Waits until no other test has a server, and keeps others waiting. Taken at the beginning of a test that loads
    /// the whole machine.
    pub fn alone() -> Turn {
        let mut turns = lock();
        turns.waiting += 1;
        let (mut turns, turn) = Turn::take(turns, |turns| turns.holders.is_empty());
        turns.waiting -= 1;
        turns.alone = Some(turn.0);
        turn
    }

    fn take(
        mut turns: MutexGuard<'static, Turns>,
        free: impl Fn(&Turns) -> bool,
    ) -> (MutexGuard<'static, Turns>, Turn) {
        let own = thread::current().id();
        while !turns.holders.contains_key(&own) && !free(&turns) {
            turns = FREED.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
        *turns.holders.entry(own).or_default() += 1;
        (turns, Turn(own))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = lock();
        let left = turns.holders.get_mut(&self.0).map_or(0, |times| {
            *times -= 1;
            *times
        });
        if left == 0 {
            turns.holders.remove(&self.0);
            turns.alone = turns.alone.filter(|alone| *alone != self.0);
            FREED.notify_all();
        }
    }
}

/// The counts are consistent even if a thread panicked while it held the lock.
fn lock() -> MutexGuard<'static, Turns> {
    TURNS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn one_test_may_have_any_number_of_servers() {
        let _turns: Vec<Turn> = (0..=MOST).map(|_| Turn::shared()).collect();
    }

    #[test]
    fn an_exclusive_turn_keeps_others_waiting_but_not_itself() {
        let alone = Turn::alone();
        let own_server = Turn::shared();
        let (started, begun) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _turn = Turn::shared();
                let alone = lock().alone;
                started.send(alone).is_ok()
            });
            scope.spawn(|| {
                let _turn = Turn::alone();
                started.send(None).is_ok()
            });
            assert_eq!(lock().holders.len(), 1);
            assert!(begun.try_recv().is_err());
            drop(alone);
            drop(own_server);
        });
        assert_eq!(begun.iter().take(2).collect::<Vec<_>>(), [None, None]);
    }
}
