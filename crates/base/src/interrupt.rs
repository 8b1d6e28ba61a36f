//! Cancellation of waits: KILL of a statement, and tokens for workers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::counters::Held;
use crate::error::Result;
use crate::wait::Wait;

/// Interval at which a waiting statement checks for KILL.
pub const POLL: Duration = Duration::from_millis(5);

/// The statement's state, asked on its own thread.
pub trait Interrupt {
    /// `Ok` while the statement may continue; the server's error after KILL or a timeout.
    fn check(&self) -> Result<()>;

    /// Reports progress for `SHOW PROCESSLIST`.
    fn progress(&self, _text: &str) {}

    /// Shows a wait in the processlist until [`Interrupt::wait_ended`]. Use [`Waiting`], which does both.
    fn wait_began(&self, _wait: Wait) {}

    /// Shows what the processlist had before the last wait.
    fn wait_ended(&self) {}
}

/// A wait that the processlist and the status variables show, until it is dropped.
pub struct Waiting<'a> {
    interrupt: &'a dyn Interrupt,
    _counted: Held,
}

impl<'a> Waiting<'a> {
    /// The statement of `interrupt` waits from now on.
    pub fn begin(interrupt: &'a dyn Interrupt, wait: Wait) -> Self {
        interrupt.wait_began(wait);
        Waiting { interrupt, _counted: wait.gauge().hold() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.interrupt.wait_ended();
    }
}

/// Never interrupts: for work without a statement.
pub struct Never;

impl Interrupt for Never {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Cancels the work of a worker. Clones share the state.
#[derive(Clone, Default, Debug)]
pub struct CancelToken(Arc<CancelState>);

#[derive(Default, Debug)]
struct CancelState {
    cancelled: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl CancelToken {
    /// Wakes every sleeper and makes [`CancelToken::is_cancelled`] true for good.
    pub fn cancel(&self) {
        let _guard = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.cancelled.store(true, Ordering::Release);
        self.0.wake.notify_all();
    }

    /// Whether [`CancelToken::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Whether both are clones of one token.
    pub fn is(&self, other: &CancelToken) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Sleeps for `time` unless cancelled; returns whether it was cancelled.
    pub fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut guard = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if self.is_cancelled() || left.is_zero() {
                return self.is_cancelled();
            }
            guard = self.0.wake.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_ends_at_once_when_cancelled() {
        let token = CancelToken::default();
        let sleeper = token.clone();
        let handle = std::thread::spawn(move || sleeper.sleep(Duration::from_secs(60)));
        token.cancel();
        assert!(handle.join().unwrap());
        assert!(token.sleep(Duration::from_secs(60)));
    }
}
