//! Texts of all sessions on their way through the models: on a few threads of the library's own, in batches that are put
//! together of whatever waits when a thread is free. A lone text waits for nobody; many are computed together.

use std::collections::VecDeque;
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::loaded::Entry;
use super::sentence::TOKENS_AT_ONCE;
use super::{EmbedOptions, LocalModel};
use crate::abi::guard;
use crate::error::{Error, Kind, Result};
use crate::threads::interrupt::{CancelToken, Interrupt, POLL};

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// A thread's stack.
const STACK: usize = 4 << 20;

/// Texts that one request gives to a batch before the next request has its turn.
const TURN: usize = 8;

/// What is called with the vectors of all texts of a request.
type Done = Box<dyn FnOnce(Vec<Result<Vec<f32>>>) + Send>;

/// The threads and what waits for them.
#[derive(Default, Clone)]
pub struct Batcher {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    limit: usize,
    running: Vec<Running>,
    batches: u64,
}

/// What a thread is busy with, and who wants it.
struct Running {
    number: u64,
    wanted_by: Vec<CancelToken>,
    cancel: CancelToken,
}

enum Job {
    Texts { request: Arc<Request>, waiting: VecDeque<(usize, Arc<str>)> },
    Call { cancel: CancelToken, call: Box<dyn FnOnce(&CancelToken) + Send> },
}

/// The texts of one call.
struct Request {
    entry: Arc<Entry>,
    options: EmbedOptions,
    cancel: CancelToken,
    vectors: Mutex<Vectors>,
}

struct Vectors {
    made: Vec<Option<Result<Vec<f32>>>>,
    missing: usize,
    done: Option<Done>,
}

impl Request {
    /// Takes what came of a text; the last one ends the request.
    fn set(&self, place: usize, vector: Result<Vec<f32>>) {
        let mut vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot @ None) = vectors.made.get_mut(place) else { return };
        *slot = Some(vector);
        vectors.missing = vectors.missing.saturating_sub(1);
        if vectors.missing > 0 {
            return;
        }
        let made = std::mem::take(&mut vectors.made);
        let done = vectors.done.take();
        drop(vectors);
        if let Some(done) = done {
            done(made.into_iter().map(|v| v.unwrap_or_else(|| Err(Error::internal("a text got no vector")))).collect());
        }
    }

    fn goes_with(&self, other: &Request) -> bool {
        Arc::ptr_eq(&self.entry, &other.entry) && self.options == other.options
    }
}

/// A text in a batch.
struct Item {
    request: Arc<Request>,
    place: usize,
    text: Arc<str>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batcher {
    /// Embeds texts on at most `threads` threads; `done` is called on one of them. Nobody is told where `cancel` was set.
    pub fn embed(
        &self,
        entry: Arc<Entry>,
        texts: Vec<Arc<str>>,
        options: EmbedOptions,
        threads: usize,
        cancel: CancelToken,
        done: impl FnOnce(Vec<Result<Vec<f32>>>) + Send + 'static,
    ) -> Result<()> {
        if texts.is_empty() {
            done(Vec::new());
            return Ok(());
        }
        let vectors =
            Vectors { made: texts.iter().map(|_| None).collect(), missing: texts.len(), done: Some(Box::new(done)) };
        let request = Arc::new(Request { entry, options, cancel, vectors: Mutex::new(vectors) });
        self.push(Job::Texts { request, waiting: texts.into_iter().enumerate().collect() }, threads)
    }

    /// Calls the model on one of the threads and waits for what comes of it.
    pub fn call<T: Send + 'static>(
        &self,
        entry: Arc<Entry>,
        threads: usize,
        deadline: Instant,
        interrupt: &dyn Interrupt,
        call: impl FnOnce(&dyn LocalModel, &CancelToken) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = sync_channel(1);
        let cancel = CancelToken::default();
        let guard = Abandon { batcher: self, cancel: &cancel };
        let call = move |cancel: &CancelToken| {
            // Nobody listening any more is no failure.
            let _ = sender.send(guard::catch(|| call(entry.model.as_ref(), cancel)));
        };
        self.push(Job::Call { cancel: cancel.clone(), call: Box::new(call) }, threads)?;
        let result = wait(&receiver, deadline, interrupt);
        drop(guard);
        result
    }

    /// Embeds one text and waits for its vector.
    pub fn embed_one(
        &self,
        entry: Arc<Entry>,
        text: &str,
        options: EmbedOptions,
        threads: usize,
        deadline: Instant,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<f32>> {
        let (sender, receiver) = sync_channel(1);
        let cancel = CancelToken::default();
        let guard = Abandon { batcher: self, cancel: &cancel };
        self.embed(entry, vec![Arc::from(text)], options, threads, cancel.clone(), move |vectors| {
            let vector = vectors.into_iter().next().unwrap_or_else(|| Err(Error::internal("a text got no vector")));
            let _ = sender.send(vector);
        })?;
        let result = wait(&receiver, deadline, interrupt);
        drop(guard);
        result
    }

    /// Forgets what waits and nobody wants any more, and stops batches that nobody wants.
    pub fn sweep(&self) {
        let mut state = self.shared.lock();
        state.jobs.retain(|job| !job.cancel().is_cancelled());
        for running in &state.running {
            if running.wanted_by.iter().all(CancelToken::is_cancelled) {
                running.cancel.cancel();
            }
        }
    }

    /// The threads there are, and the texts and calls that wait for one.
    pub fn load(&self) -> (usize, usize) {
        let state = self.shared.lock();
        let waiting = |job: &Job| match job {
            Job::Texts { waiting, .. } => waiting.len(),
            Job::Call { .. } => 1,
        };
        (state.threads, state.jobs.iter().map(waiting).sum())
    }

    fn push(&self, job: Job, threads: usize) -> Result<()> {
        let mut state = self.shared.lock();
        state.limit = threads.max(1);
        state.jobs.push_back(job);
        let error = wake_or_spawn(&self.shared, state);
        let Some(error) = error else { return Ok(()) };
        let mut state = self.shared.lock();
        if state.threads > 0 {
            return Ok(()); // another thread gets to it
        }
        state.jobs.clear();
        Err(Error::new(
            Kind::Busy,
            format!("cannot start a thread ({error}); the server is at its limit of processes or memory"),
        ))
    }
}

/// Sees to it that a thread takes what waits, if one is idle or may be made; why none could be made.
fn wake_or_spawn(shared: &Arc<Shared>, mut state: MutexGuard<'_, State>) -> Option<std::io::Error> {
    // An idle thread may have been woken already and not have come so far: rather one thread more.
    let spawn = state.idle < state.jobs.len() && state.threads < state.limit;
    state.threads += usize::from(spawn);
    drop(state);
    shared.wake.notify_one();
    if !spawn {
        return None;
    }
    let own = Arc::clone(shared);
    let started =
        std::thread::Builder::new().name("mysql_ml-local".into()).stack_size(STACK).spawn(move || while serve(&own) {});
    let error = started.err()?;
    shared.lock().threads -= 1;
    Some(error)
}

/// Tells the threads, also where a panic or an error ends the wait, that nobody waits any more.
struct Abandon<'a> {
    batcher: &'a Batcher,
    cancel: &'a CancelToken,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.batcher.sweep();
    }
}

fn wait<T>(receiver: &Receiver<Result<T>>, deadline: Instant, interrupt: &dyn Interrupt) -> Result<T> {
    loop {
        match receiver.recv_timeout(POLL) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::internal("a local model's thread gave no result"))
            }
            Err(RecvTimeoutError::Timeout) => {
                interrupt.check()?;
                if Instant::now() >= deadline {
                    return Err(Error::new(
                        Kind::Timeout,
                        "the local model was not done in time (timeout_ms, an option of the model or a setting); raise it, or the setting local_threads",
                    ));
                }
            }
        }
    }
}

impl Job {
    fn cancel(&self) -> &CancelToken {
        match self {
            Job::Texts { request, .. } => &request.cancel,
            Job::Call { cancel, .. } => cancel,
        }
    }
}

/// What a thread does next.
enum Work {
    Batch(Vec<Item>),
    Call(Box<dyn FnOnce(&CancelToken) + Send>),
}

/// Does one piece of work; `false` where the thread is to end.
fn serve(shared: &Arc<Shared>) -> bool {
    let mut state = shared.lock();
    let (work, number, cancel) = loop {
        if state.threads > state.limit {
            state.threads -= 1;
            return false;
        }
        if let Some(work) = next(&mut state) {
            state.batches += 1;
            let (number, cancel) = (state.batches, CancelToken::default());
            let wanted_by = match &work {
                (Work::Batch(items), _) => items.iter().map(|i| i.request.cancel.clone()).collect(),
                (Work::Call(_), wanted_by) => vec![wanted_by.clone()],
            };
            state.running.push(Running { number, wanted_by, cancel: cancel.clone() });
            break (work.0, number, cancel);
        }
        state.idle += 1;
        let (guard, waited) = shared.wake.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
        state = guard;
        state.idle -= 1;
        if waited.timed_out() && state.jobs.is_empty() {
            state.threads -= 1;
            return false;
        }
    };
    // What is left is for other threads. Where none can be made, this one gets to it.
    if state.jobs.is_empty() {
        drop(state);
    } else {
        let _ = wake_or_spawn(shared, state);
    }
    // Whatever happens, the thread goes on; what it did not answer is told by channels that are closed.
    let _ = guard::catch(|| {
        match work {
            Work::Call(call) => call(&cancel),
            Work::Batch(items) => compute(&items, &cancel),
        }
        Ok(())
    });
    shared.lock().running.retain(|r| r.number != number);
    true
}

/// Takes a batch of texts that go together, some of each request in turn.
fn next(state: &mut State) -> Option<(Work, CancelToken)> {
    state.jobs.retain(|job| !job.cancel().is_cancelled());
    let first = match state.jobs.front()? {
        Job::Texts { request, .. } => Arc::clone(request),
        Job::Call { .. } => {
            let Some(Job::Call { cancel, call }) = state.jobs.pop_front() else { return None };
            return Some((Work::Call(call), cancel));
        }
    };
    let mut items = Vec::new();
    let mut tokens = 0;
    let mut more = true;
    while more && tokens < TOKENS_AT_ONCE {
        more = false;
        for job in &mut state.jobs {
            let Job::Texts { request, waiting } = job else { continue };
            if !request.goes_with(&first) {
                continue;
            }
            for _ in 0..TURN {
                // Some four bytes a token, before it is known.
                let fits = |text: &str| items.is_empty() || tokens + text.len() / 4 < TOKENS_AT_ONCE;
                if !waiting.front().is_some_and(|(_, text)| fits(text)) {
                    break;
                }
                let Some((place, text)) = waiting.pop_front() else { break };
                tokens += text.len() / 4 + 2;
                items.push(Item { request: Arc::clone(request), place, text });
                more = true;
            }
        }
    }
    state.jobs.retain(|job| !matches!(job, Job::Texts { waiting, .. } if waiting.is_empty()));
    if state.jobs.len() > 1 {
        state.jobs.rotate_left(1);
    }
    Some((Work::Batch(items), first.cancel.clone()))
}

fn compute(items: &[Item], cancel: &CancelToken) {
    let Some(first) = items.first() else { return };
    let texts: Vec<&str> = items.iter().map(|i| i.text.as_ref()).collect();
    let entry = &first.request.entry;
    let result = guard::catch(|| entry.model.embed(&texts, first.request.options, cancel));
    match result {
        Ok(vectors) if vectors.len() == items.len() => {
            entry.used(items.len() as u64);
            for (item, vector) in items.iter().zip(vectors) {
                item.request.set(item.place, vector);
            }
        }
        Ok(_) => fail(items, &Error::internal("a local model gave another number of vectors")),
        Err(error) => fail(items, &error),
    }
}

fn fail(items: &[Item], error: &Error) {
    for item in items {
        item.request.set(item.place, Err(error.clone()));
    }
}
