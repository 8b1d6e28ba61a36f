//! Work divided among threads, with results that do not depend on their number.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The work was stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// The stack of a helping thread, bytes.
const STACK: usize = 256 << 10;

/// Calls `each` with every piece of `work`, on the calling thread and up to `threads - 1` others. Each thread has a
/// default `S`. `stop` is asked on the calling thread, between two of its pieces.
pub(crate) fn for_each<T, S, I>(
    threads: usize,
    stop: &(dyn Fn() -> bool + Sync),
    work: I,
    each: impl Fn(&mut S, T) + Sync,
) -> Result<(), Stopped>
where
    S: Default,
    I: Iterator<Item = T> + Send,
{
    let stopped = AtomicBool::new(false);
    let work = Mutex::new(work);
    let next = || work.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 1..threads {
            let help = || {
                let mut state = S::default();
                while !stopped.load(Ordering::Relaxed) {
                    let Some(piece) = next() else { break };
                    each(&mut state, piece);
                }
            };
            // Without a thread the others do the work.
            if std::thread::Builder::new().name("ml-index".into()).stack_size(STACK).spawn_scoped(scope, help).is_err()
            {
                break;
            }
        }
        let mut state = S::default();
        loop {
            if stop() {
                stopped.store(true, Ordering::Relaxed);
                return Err(Stopped);
            }
            let Some(piece) = next() else { return Ok(()) };
            each(&mut state, piece);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        let mut done = vec![0; 1000];
        for_each(3, &|| false, done.iter_mut(), |(): &mut (), place| *place += 1).unwrap();
        assert!(done.iter().all(|n| *n == 1));
    }

    #[test]
    fn stop_ends_endless_work() {
        let calls = std::sync::atomic::AtomicUsize::new(0);
        let stop = || calls.fetch_add(1, Ordering::Relaxed) > 10;
        assert_eq!(for_each(2, &stop, 0.., |(): &mut (), _: u64| {}), Err(Stopped));
    }
}
