//! Elastic worker threads with a bound: blocking work runs here while the statement's thread waits and listens.
//!
//! Threads are made when work arrives and end after some seconds without any, so that an idle server carries none.

use std::collections::VecDeque;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::interrupt::{Interrupt, POLL};
use crate::abi::guard;
use crate::error::{Error, Kind, Result};

type Job = Box<dyn FnOnce() + Send>;

/// What a pool is made of.
#[derive(Clone, Copy)]
pub struct Config {
    /// Thread name, at most 15 bytes.
    pub name: &'static str,
    /// The most threads at once; further work queues.
    pub max_threads: usize,
    /// How long a thread waits for work before it ends.
    pub idle: Duration,
    /// Stack bytes.
    pub stack: usize,
    /// Runs first on each thread; where it fails the thread ends and its work fails with the error.
    pub on_start: fn() -> Result<()>,
    /// Runs last on each thread whose `on_start` succeeded.
    pub on_stop: fn(),
}

/// A pool of worker threads.
pub struct Workers {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workers {
    /// A pool without threads yet.
    pub fn new(config: Config) -> Self {
        Workers { shared: Arc::new(Shared { config, state: Mutex::default(), wake: Condvar::new() }) }
    }

    /// Hands `work` to a thread. The result is fetched with [`Pending::wait`]; dropping it abandons the work.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<Pending<T>> {
        let (sender, receiver) = channel();
        self.run_to(sender, work)?;
        Ok(Pending { receiver })
    }

    /// Hands `work` to a thread; what comes of it is sent to `results`, an error also where it panics or is never begun.
    pub fn run_to<T: Send + 'static>(
        &self,
        results: Sender<Result<T>>,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<()> {
        let owed = Owed::new(results);
        let job: Job = Box::new(move || owed.tell(guard::catch(work)));
        let spawn = {
            let mut state = self.shared.lock();
            state.queue.push_back(job);
            let spawn = state.idle < state.queue.len() && state.threads < self.shared.config.max_threads;
            if spawn {
                state.threads += 1;
            }
            spawn
        };
        self.shared.wake.notify_one();
        if spawn {
            self.spawn()?;
        }
        Ok(())
    }

    fn spawn(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let config = shared.config;
        let started =
            std::thread::Builder::new().name(config.name.into()).stack_size(config.stack).spawn(move || serve(&shared));
        let Err(error) = started else { return Ok(()) };
        let mut state = self.shared.lock();
        state.threads -= 1;
        if state.threads > 0 {
            return Ok(()); // another thread gets to it
        }
        state.queue.clear();
        Err(Error::new(
            Kind::Busy,
            format!("cannot start a thread ({error}); the server is at its limit of processes or memory"),
        ))
    }
}

fn serve(shared: &Shared) {
    let started = guard::catch(shared.config.on_start);
    if started.is_err() {
        // Whoever waits for a job that is dropped is told that it was not done.
        let mut state = shared.lock();
        state.threads -= 1;
        if state.threads == 0 {
            state.queue.clear();
        } else {
            state.queue.pop_front();
        }
        return;
    }
    let mut state = shared.lock();
    loop {
        if let Some(job) = state.queue.pop_front() {
            drop(state);
            job();
            state = shared.lock();
            continue;
        }
        state.idle += 1;
        let (guard, wait) = shared.wake.wait_timeout(state, shared.config.idle).unwrap_or_else(PoisonError::into_inner);
        state = guard;
        state.idle -= 1;
        if wait.timed_out() && state.queue.is_empty() {
            state.threads -= 1;
            break;
        }
    }
    drop(state);
    let _ = guard::catch(|| {
        (shared.config.on_stop)();
        Ok(())
    });
}

/// The word that somebody waits for, which is sent also where the work is dropped.
pub struct Owed<T>(Option<Sender<Result<T>>>);

impl<T> Owed<T> {
    /// For whoever waits at the other end.
    pub fn new(results: Sender<Result<T>>) -> Self {
        Owed(Some(results))
    }

    /// The word itself.
    pub fn tell(mut self, result: Result<T>) {
        // Nobody listening any more is no failure.
        let _ = self.0.take().map(|results| results.send(result));
    }
}

impl<T> Drop for Owed<T> {
    fn drop(&mut self) {
        let _ = self.0.take().map(|results| results.send(Err(not_done())));
    }
}

fn not_done() -> Error {
    Error::new(
        Kind::Busy,
        "the server could not give the library a thread or session; it is starting, stopping or out of resources",
    )
}

/// Work in progress on a worker.
pub struct Pending<T> {
    receiver: Receiver<Result<T>>,
}

impl<T> Pending<T> {
    /// Waits for the result, until `interrupt` says stop or `deadline` passes.
    pub fn wait(&self, interrupt: &dyn Interrupt, deadline: Instant) -> Result<T> {
        loop {
            match self.receiver.recv_timeout(POLL) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(not_done()),
                Err(RecvTimeoutError::Timeout) => {
                    interrupt.check()?;
                    if Instant::now() >= deadline {
                        return Err(Error::new(Kind::Timeout, "the time for this call is up"));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::interrupt::Never;

    fn pool(max_threads: usize) -> Workers {
        Workers::new(Config {
            name: "test",
            max_threads,
            idle: Duration::from_millis(50),
            stack: 256 * 1024,
            on_start: || Ok(()),
            on_stop: || {},
        })
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn work_beyond_the_bound_queues_and_is_done() {
        let pool = pool(2);
        let all: Vec<_> = (0..50).map(|i| pool.run(move || Ok(i)).unwrap()).collect();
        let sum: i32 = all.iter().map(|p| p.wait(&Never, soon()).unwrap()).sum();
        assert_eq!(sum, 49 * 50 / 2);
        assert!(pool.shared.lock().threads <= 2);
    }

    #[test]
    #[allow(clippy::panic)]
    fn a_panic_is_an_error_and_the_thread_lives() {
        let pool = pool(1);
        let failed = pool.run::<()>(|| panic!("x")).unwrap();
        assert_eq!(failed.wait(&Never, soon()).unwrap_err().kind(), Kind::Internal);
        assert_eq!(pool.run(|| Ok(7)).unwrap().wait(&Never, soon()).unwrap(), 7);
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let pool = pool(1);
        let (release, held) = channel::<()>();
        let slow = pool
            .run(move || {
                let _ = held.recv();
                Ok(())
            })
            .unwrap();
        let error = slow.wait(&Never, Instant::now()).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
        drop(release);
    }

    #[test]
    fn a_failing_start_fails_the_work() {
        let pool = Workers::new(Config { on_start: || Err(Error::internal("no")), ..pool(1).shared.config });
        assert_eq!(pool.run(|| Ok(())).unwrap().wait(&Never, soon()).unwrap_err().kind(), Kind::Busy);
    }

    #[test]
    #[allow(clippy::panic)]
    fn one_receiver_of_many_results_is_told_of_those_that_never_come() {
        let (sender, receiver) = channel::<Result<u32>>();
        let next = || receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        pool(1).run_to(sender.clone(), || panic!("x")).unwrap();
        assert_eq!(next().unwrap_err().kind(), Kind::Internal);
        let failing = Workers::new(Config { on_start: || Err(Error::internal("no")), ..pool(1).shared.config });
        failing.run_to(sender.clone(), || Ok(1)).unwrap();
        assert_eq!(next().unwrap_err().kind(), Kind::Busy);
        pool(1).run_to(sender, || Ok(2)).unwrap();
        assert_eq!(next().unwrap(), 2);
    }
}
