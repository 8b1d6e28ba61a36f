//! How many tests of one program have servers at the same time.
//!
//! The unit is a test, which is a thread: all servers that a thread starts take one turn. Were each server to take one, two
//! tests with a replica each could wait for each other for ever.

use std::collections::HashMap;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// At most this many, however many processors there are: a server takes some 300 MB.
const MOST: usize = 8;

/// Who has turns.
#[derive(Debug, Default)]
struct Turns {
    /// The threads that have one, with how often.
    holders: HashMap<ThreadId, usize>,
    /// Threads that wait until they are alone. New ones wait for them, so that they are not passed over for ever.
    waiting: usize,
    alone: Option<ThreadId>,
}

static TURNS: LazyLock<Mutex<Turns>> = LazyLock::new(Mutex::default);
static FREED: Condvar = Condvar::new();

/// The right of a test to have servers; dropping it gives it back.
#[derive(Debug)]
#[must_use]
pub struct Turn(ThreadId);

impl Turn {
    /// Waits until few enough other tests have servers.
    pub(super) fn shared() -> Turn {
        let most = thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, MOST);
        Turn::take(lock(), |turns| turns.alone.is_none() && turns.waiting == 0 && turns.holders.len() < most).1
    }

    /// Waits until no other test has a server, and keeps it so: for a test that loads the whole machine, at its beginning.
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

/// The numbers are whole also where a thread panicked while it held the lock.
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
