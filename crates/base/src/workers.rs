//! Elastic worker threads with a bound: blocking work runs here while the statement's thread waits and listens.
//!
//! Threads start when work arrives and end after some idle seconds. Work beyond its [`Share`] of the threads waits in a
//! queue. The queue is bounded, follows the same rule, and serves shares in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::interrupt::{CancelToken, Interrupt, Waiting, POLL};
use crate::memory;
use crate::panics;
use crate::shares::{Places, Share};
use crate::threads;
use crate::wait::Wait;

/// Configuration of a pool.
#[derive(Clone, Copy)]
pub struct Config {
    /// Thread name, at most 15 bytes.
    pub name: &'static str,
    /// The most threads at once; further work queues.
    pub max_threads: usize,
    /// The most queued pieces of work; more are refused.
    pub max_waiting: usize,
    /// Idle time after which a thread ends.
    pub idle: Duration,
    /// Stack size, bytes.
    pub stack: usize,
    /// What a statement waits for while its work runs; `None`: its state says so already.
    pub wait: Option<Wait>,
    /// Runs first on each thread; if it fails, the thread ends and its work fails with the error.
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

/// A piece of work.
struct Job {
    share: Share,
    /// Cancels the work.
    cancel: CancelToken,
    work: Box<dyn FnOnce() + Send>,
}

struct State {
    /// Work with a place; runs as soon as a thread is free.
    ready: VecDeque<Job>,
    /// Places of ready and running work.
    places: Places,
    /// Work without a place, by share.
    waiting: HashMap<Share, VecDeque<Job>>,
    /// Shares in the order of their turns.
    turns: VecDeque<Share>,
    /// Places of queued work.
    queue: Places,
    threads: usize,
    idle: usize,
}

impl State {
    /// Moves queued work to free places, share after share.
    fn promote(&mut self) {
        let mut refused = 0;
        while refused < self.turns.len() {
            let Some(share) = self.turns.pop_front() else { return };
            if !self.places.has_room(&share) {
                refused += 1;
                self.turns.push_back(share);
                continue;
            }
            refused = 0;
            let Some(jobs) = self.waiting.get_mut(&share) else { continue };
            while let Some(job) = jobs.pop_front() {
                self.queue.give(&share);
                if !job.cancel.is_cancelled() {
                    self.places.take(&share);
                    self.ready.push_back(job);
                    break;
                }
            }
            if jobs.is_empty() {
                self.waiting.remove(&share);
            } else {
                self.turns.push_back(share);
            }
        }
    }

    /// Removes cancelled work from the queue.
    fn sweep(&mut self) {
        let (waiting, queue) = (&mut self.waiting, &mut self.queue);
        for (share, jobs) in waiting.iter_mut() {
            jobs.retain(|job| {
                let wanted = !job.cancel.is_cancelled();
                if !wanted {
                    queue.give(share);
                }
                wanted
            });
        }
        waiting.retain(|_, jobs| !jobs.is_empty());
        self.turns.retain(|share| waiting.contains_key(share));
    }

    /// Counts a new thread if one is needed.
    fn wants_thread(&mut self, config: &Config) -> bool {
        let wanted = self.idle < self.ready.len() && self.threads < config.max_threads;
        self.threads += usize::from(wanted);
        wanted
    }

    /// A thread could not start: drops the newest work, which reports an error to its waiter. Running threads may take
    /// long to reach it. Drops all work if no thread is left.
    fn thread_failed(&mut self) {
        self.threads -= 1;
        let kept = if self.threads == 0 { 0 } else { self.ready.len().saturating_sub(1) };
        for job in self.ready.drain(kept..) {
            self.places.give(&job.share);
        }
        if self.threads == 0 {
            self.turns.clear();
            for (share, jobs) in self.waiting.drain() {
                jobs.iter().for_each(|_| self.queue.give(&share));
            }
        } else {
            self.promote();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workers {
    /// A pool without threads yet.
    pub fn new(config: Config) -> Self {
        let state = State {
            ready: VecDeque::new(),
            places: Places::new(config.max_threads),
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            queue: Places::new(config.max_waiting),
            threads: 0,
            idle: 0,
        };
        Workers { shared: Arc::new(Shared { config, state: Mutex::new(state), wake: Condvar::new() }) }
    }

    /// Whether work of this share would start at once.
    pub fn has_room(&self, share: &Share) -> bool {
        self.shared.lock().places.has_room(share)
    }

    /// Runs `work` on a thread; [`Pending::wait`] returns the result. `cancel` drops queued work; running work must
    /// check it.
    pub fn run<T: Send + 'static>(
        &self,
        share: &Share,
        cancel: &CancelToken,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Pending<T>> {
        let (sender, receiver) = channel();
        let started = Arc::new(AtomicBool::new(false));
        let start = Arc::clone(&started);
        self.run_to(share, cancel, sender, move || {
            start.store(true, Ordering::Relaxed);
            work()
        })?;
        Ok(Pending { receiver, started, wait: self.shared.config.wait })
    }

    /// Runs `work` on a thread and sends its result to `results`: an error even on panic or if the work never starts.
    pub fn run_to<T: Send + 'static>(
        &self,
        share: &Share,
        cancel: &CancelToken,
        results: Sender<Result<T>>,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<()> {
        let reply = Reply::new(results);
        // Its memory is charged to the account that submits it.
        let holder = memory::holder();
        let work = Box::new(move || memory::working_for(holder, || reply.send(panics::catch(work))));
        let job = Job { share: share.clone(), cancel: cancel.clone(), work };
        let spawn = {
            let mut state = self.shared.lock();
            // Earlier work of the same share goes first.
            if !state.waiting.contains_key(share) && state.places.has_room(share) {
                state.places.take(share);
                state.ready.push_back(job);
            } else {
                if !state.queue.has_room(share) {
                    state.sweep();
                }
                if !state.queue.has_room(share) {
                    return Err(self.refused(share));
                }
                state.queue.take(share);
                if !state.waiting.contains_key(share) {
                    state.turns.push_back(share.clone());
                }
                state.waiting.entry(share.clone()).or_default().push_back(job);
            }
            state.wants_thread(&self.shared.config)
        };
        self.shared.wake.notify_one();
        if spawn {
            spawn_thread(&self.shared)?;
        }
        Ok(())
    }

    fn refused(&self, share: &Share) -> Error {
        let Config { max_waiting, max_threads, .. } = self.shared.config;
        Error::new(
            Kind::Busy,
            format!(
                "too much work {share}waits already: its share of {max_threads} threads and {max_waiting} places in their queue is used up; send less at once, or try later"
            ),
        )
    }
}

fn spawn_thread(shared: &Arc<Shared>) -> Result<()> {
    let (own, config) = (Arc::clone(shared), shared.config);
    let started = threads::spawn(config.name, config.stack, move || serve(&own));
    let Err(error) = started else { return Ok(()) };
    shared.lock().thread_failed();
    Err(Error::new(
        Kind::Busy,
        format!("cannot start a thread ({error}); the server is at its limit of processes or memory"),
    ))
}

fn serve(shared: &Arc<Shared>) {
    if panics::catch(shared.config.on_start).is_err() {
        shared.lock().thread_failed();
        return;
    }
    let mut state = shared.lock();
    loop {
        if let Some(job) = state.ready.pop_front() {
            drop(state);
            (job.work)();
            state = shared.lock();
            state.places.give(&job.share);
            state.promote();
            // This thread takes one piece of ready work; more work needs other threads.
            if state.ready.len() > 1 {
                shared.wake.notify_all();
                if state.wants_thread(&shared.config) {
                    drop(state);
                    // If no further thread can start, this one serves the rest.
                    let _ = spawn_thread(shared);
                    state = shared.lock();
                }
            }
            continue;
        }
        state.idle += 1;
        let (guard, wait) = shared.wake.wait_timeout(state, shared.config.idle).unwrap_or_else(PoisonError::into_inner);
        state = guard;
        state.idle -= 1;
        if wait.timed_out() && state.ready.is_empty() {
            state.threads -= 1;
            break;
        }
    }
    drop(state);
    let _ = panics::catch(|| {
        (shared.config.on_stop)();
        Ok(())
    });
}

/// A reply that is always sent: an error if the job is dropped.
pub struct Reply<T>(Option<Sender<Result<T>>>);

impl<T> Reply<T> {
    /// A reply to `results`.
    pub fn new(results: Sender<Result<T>>) -> Self {
        Reply(Some(results))
    }

    /// Sends the reply.
    pub fn send(mut self, result: Result<T>) {
        // A receiver that is gone is not a failure.
        let _ = self.0.take().map(|results| results.send(result));
    }
}

impl<T> Drop for Reply<T> {
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
    started: Arc<AtomicBool>,
    wait: Option<Wait>,
}

impl<T> Pending<T> {
    /// Waits for the result until `interrupt` stops the statement or `deadline` passes.
    pub fn wait(&self, interrupt: &dyn Interrupt, deadline: Instant) -> Result<T> {
        let mut waiting: Option<(Waiting<'_>, bool)> = None;
        loop {
            match self.receiver.recv_timeout(POLL) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(not_done()),
                Err(RecvTimeoutError::Timeout) => {
                    interrupt.check()?;
                    if Instant::now() >= deadline {
                        return Err(Error::new(Kind::Timeout, "the time for this call is up"));
                    }
                    let started = self.started.load(Ordering::Relaxed);
                    if waiting.as_ref().is_none_or(|(_, shown)| *shown != started) {
                        // The earlier wait ends before the next one begins.
                        drop(waiting.take());
                        let wait = if started { self.wait } else { Some(Wait::Thread) };
                        waiting = wait.map(|wait| (Waiting::begin(interrupt, wait), started));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Never;

    fn pool(max_threads: usize) -> Workers {
        Workers::new(Config {
            name: "test",
            max_threads,
            max_waiting: 1000,
            idle: Duration::from_millis(50),
            stack: 256 * 1024,
            wait: None,
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
        let all: Vec<_> =
            (0..50).map(|i| pool.run(&Share::default(), &CancelToken::default(), move || Ok(i)).unwrap()).collect();
        let sum: i32 = all.iter().map(|p| p.wait(&Never, soon()).unwrap()).sum();
        assert_eq!(sum, 49 * 50 / 2);
        assert!(pool.shared.lock().threads <= 2);
    }

    #[test]
    #[allow(clippy::panic)]
    fn a_panic_is_an_error_and_the_thread_lives() {
        let pool = pool(1);
        let failed = pool.run::<()>(&Share::default(), &CancelToken::default(), || panic!("x")).unwrap();
        assert_eq!(failed.wait(&Never, soon()).unwrap_err().kind(), Kind::Internal);
        assert_eq!(
            pool.run(&Share::default(), &CancelToken::default(), || Ok(7)).unwrap().wait(&Never, soon()).unwrap(),
            7
        );
    }

    #[test]
    fn a_share_that_is_slow_waits_for_itself_only() {
        let pool = pool(8);
        let (slow, other) = (Share { account: Some("a".into()), source: None }, Share::default());
        let (release, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let cancel = CancelToken::default();
        let all: Vec<_> = (0..20)
            .map(|_| {
                let held = Arc::clone(&held);
                let work = move || held.lock().unwrap_or_else(PoisonError::into_inner).recv().map_err(|_| not_done());
                pool.run(&slow, &cancel, work).unwrap()
            })
            .collect();
        assert!(!pool.has_room(&slow) && pool.has_room(&other));
        assert_eq!(pool.run(&other, &cancel, || Ok(7)).unwrap().wait(&Never, soon()).unwrap(), 7);
        assert_eq!(pool.shared.lock().queue.taken(), 16, "half of eight are at work");
        // Abandoned work is not started.
        cancel.cancel();
        drop(release);
        assert!(all.iter().all(|p| p.wait(&Never, soon()).is_err()));
        assert_eq!(pool.shared.lock().queue.taken(), 0);
    }

    #[test]
    fn a_queue_is_bounded_and_room_in_it_is_shared() {
        let pool = Workers::new(Config { max_waiting: 4, ..pool(1).shared.config });
        let (slow, other) = (Share { account: Some("a".into()), source: None }, Share::default());
        let (_release, held) = channel::<()>();
        let run = |share: &Share, cancel: &CancelToken| pool.run(share, cancel, || Ok(()));
        let (first, cancel) = (CancelToken::default(), CancelToken::default());
        pool.run(&slow, &first, move || held.recv().map_err(|_| not_done())).unwrap();
        let queued = [run(&slow, &cancel).unwrap(), run(&slow, &cancel).unwrap()];
        let refused = run(&slow, &cancel).err().unwrap();
        assert_eq!(refused.kind(), Kind::Busy);
        assert!(refused.message().contains("of account a "), "{refused}");
        assert!(run(&other, &cancel).is_ok());
        cancel.cancel();
        assert!(run(&slow, &CancelToken::default()).is_ok(), "those that nobody wants give their room");
        assert!(queued.iter().all(|p| p.wait(&Never, soon()).is_err()));
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let pool = pool(1);
        let (release, held) = channel::<()>();
        let slow = pool
            .run(&Share::default(), &CancelToken::default(), move || {
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
        assert_eq!(
            pool.run(&Share::default(), &CancelToken::default(), || Ok(()))
                .unwrap()
                .wait(&Never, soon())
                .unwrap_err()
                .kind(),
            Kind::Busy
        );
    }

    #[test]
    #[allow(clippy::panic)]
    fn one_receiver_of_many_results_gets_an_error_for_each_that_never_comes() {
        let (sender, receiver) = channel::<Result<u32>>();
        let next = || receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        pool(1).run_to(&Share::default(), &CancelToken::default(), sender.clone(), || panic!("x")).unwrap();
        assert_eq!(next().unwrap_err().kind(), Kind::Internal);
        let failing = Workers::new(Config { on_start: || Err(Error::internal("no")), ..pool(1).shared.config });
        failing.run_to(&Share::default(), &CancelToken::default(), sender.clone(), || Ok(1)).unwrap();
        assert_eq!(next().unwrap_err().kind(), Kind::Busy);
        pool(1).run_to(&Share::default(), &CancelToken::default(), sender, || Ok(2)).unwrap();
        assert_eq!(next().unwrap(), 2);
    }
}
