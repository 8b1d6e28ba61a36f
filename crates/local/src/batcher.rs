//! Batching: the texts of all sessions, on a few threads of the library.
//!
//! A free thread takes the waiting texts as one batch. A single text never waits for others.
//!
//! At most `local_threads` threads compute at once. The calls of one account on one model are a lane, and the lane
//! with the least computing time goes first. It even interrupts the batches of other lanes.
//!
//! A silent thread, which does not check its turn, loses its place to the next one. Its model gets no other thread
//! until it returns.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::loaded::Entry;
use super::sentence::TOKENS_AT_ONCE;
use super::turn::{now, Others, Place, Turn};
use super::{EmbedOptions, LocalModel};
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt, Waiting, POLL};
use mysql_ml_base::panics;
use mysql_ml_base::wait::Wait;

/// The time after which a thread without work ends.
const IDLE: Duration = Duration::from_secs(10);

/// The interval at which waiting threads check for silent ones.
const LOOK: Duration = Duration::from_millis(100);

/// The stack of a thread, in bytes.
const STACK: usize = 4 << 20;

/// Texts that a session adds to a batch before the next session does.
const TURN: usize = 8;

/// The maximum of threads beyond the computing ones. They have begun work and let others go first.
const BEGUN: usize = 16;

/// The maximum of silent threads without a place.
const AWAY: usize = 8;

/// The silence after which a thread loses its place, in microseconds.
const SILENT: u64 = 2_000_000;

/// The silence after which the thread's texts and all waiting calls of its model fail, in microseconds.
const HUNG: u64 = 15_000_000;

/// The callback of a request, with the vectors of all its texts.
type Done = Box<dyn FnOnce(Vec<Result<Vec<f32>>>) + Send>;

/// The threads and their queue.
#[derive(Default, Clone)]
pub struct Batcher {
    shared: Arc<Shared>,
}

/// The caller of a model.
pub struct Caller {
    /// The account, which shares threads with other accounts.
    pub account: String,
    /// The maximum of threads that compute at once.
    pub threads: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// The number of waiting jobs and threads.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    lanes: HashMap<Lane, Share>,
    threads: usize,
    idle: usize,
    /// Threads that were created and have not begun.
    coming: usize,
    limit: usize,
    /// Threads that compute now.
    active: usize,
    /// Silent threads without a place.
    away: usize,
    running: Vec<Running>,
    /// The numbers of threads that wait for their turn.
    paused: Vec<u64>,
    batches: u64,
}

/// The calls of one account on one model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Lane {
    entry: usize,
    account: Arc<str>,
}

/// The share of a lane.
#[derive(Default)]
struct Share {
    /// Computing time in microseconds.
    used: u64,
    /// Its running batches and calls.
    begun: usize,
}

/// The work of a thread, and the calls that wait for it.
struct Running {
    place: Arc<Place>,
    lane: Lane,
    wanted_by: Vec<CancelToken>,
    cancel: CancelToken,
    items: Arc<[Item]>,
    away: bool,
}

struct Job {
    lane: Lane,
    task: Task,
}

enum Task {
    Texts { request: Arc<Request>, waiting: VecDeque<(usize, Arc<str>)> },
    Call { cancel: CancelToken, call: Call },
}

/// The closure of a call. It gets an error if no thread runs it.
type Call = Box<dyn FnOnce(Result<&Turn>) + Send>;

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
    /// Stores the result of a text. The last one completes the request.
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

impl Job {
    fn cancel(&self) -> &CancelToken {
        match &self.task {
            Task::Texts { request, .. } => &request.cancel,
            Task::Call { cancel, .. } => cancel,
        }
    }

    fn fail(self, error: &Error) {
        match self.task {
            Task::Texts { request, waiting } => {
                waiting.iter().for_each(|(place, _)| request.set(*place, Err(error.clone())));
            }
            Task::Call { call, .. } => call(Err(error.clone())),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the number of waiting jobs and threads for computing threads, and wakes waiting threads.
    fn changed(&self, state: &State) {
        self.waiting.store(state.jobs.len() + state.paused.len(), Ordering::Relaxed);
        self.wake.notify_all();
    }
}

impl State {
    fn used(&self, lane: &Lane) -> u64 {
        self.lanes.get(lane).map_or(0, |share| share.used)
    }

    /// Adds the ending slice to the lane's computing time.
    fn charge(&mut self, place: &Place, lane: &Lane) {
        let slice = now().saturating_sub(place.began());
        if let Some(share) = self.lanes.get_mut(lane) {
            share.used = share.used.saturating_add(slice);
        }
    }

    /// Whether a silent thread computes with this model.
    fn hangs(&self, entry: usize) -> bool {
        let now = now();
        let silent = |r: &Running| r.lane.entry == entry && r.away && now.saturating_sub(r.place.heard()) > HUNG;
        self.running.iter().any(silent)
    }

    /// The first job of the lane with the least computing time, among the jobs that may begin.
    fn job(&self) -> Option<usize> {
        let may_begin = |job: &Job| self.lanes.get(&job.lane).is_none_or(|share| share.begun < self.limit);
        let jobs = self.jobs.iter().enumerate().filter(|(_, job)| may_begin(job));
        jobs.min_by_key(|(i, job)| (self.used(&job.lane), *i)).map(|(i, _)| i)
    }

    /// The waiting thread of the lane with the least computing time.
    fn thread(&self) -> Option<(u64, u64)> {
        let paused = self.running.iter().filter(|r| self.paused.contains(&r.place.number));
        paused.map(|r| (self.used(&r.lane), r.place.number)).min()
    }

    /// The number of jobs that could begin on more threads.
    fn beginnings(&self) -> usize {
        let mut room: HashMap<&Lane, usize> = HashMap::new();
        let mut count = 0;
        for job in &self.jobs {
            let begun = || self.lanes.get(&job.lane).map_or(0, |share| share.begun);
            let room = room.entry(&job.lane).or_insert_with(|| self.limit.saturating_sub(begun()));
            count += usize::from(*room > 0);
            *room = room.saturating_sub(1);
        }
        count
    }

    fn is_unused(&self, lane: &Lane) -> bool {
        self.lanes.get(lane).is_some_and(|share| share.begun == 0) && !self.jobs.iter().any(|job| job.lane == *lane)
    }
}

impl Others for Arc<Shared> {
    fn wait(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn give_way(&self, place: &Place, cancel: &CancelToken) {
        let mut state = self.lock();
        let Some(running) = state.running.iter_mut().find(|r| r.place.number == place.number) else { return };
        let lane = running.lane.clone();
        if std::mem::take(&mut running.away) {
            state.away = state.away.saturating_sub(1);
        }
        if place.holds() {
            state.charge(place, &lane);
            let own = state.used(&lane);
            let first = state.job().and_then(|i| state.jobs.get(i)).map(|job| state.used(&job.lane));
            let others = first.into_iter().chain(state.thread().map(|(used, _)| used)).min();
            if others.is_none_or(|used| used >= own) {
                place.set(true);
                return;
            }
            place.set(false);
            state.active = state.active.saturating_sub(1);
        }
        state.paused.push(place.number);
        self.changed(&state);
        loop {
            if cancel.is_cancelled() {
                break;
            }
            let turn = state.thread().is_some_and(|(used, number)| {
                let job = state.job().and_then(|i| state.jobs.get(i)).map(|job| state.used(&job.lane));
                number == place.number && (job.is_none_or(|job| job > used) || state.idle + state.coming == 0)
            });
            if turn && state.active < state.limit {
                state.active += 1;
                place.set(true);
                break;
            }
            let waited = self.wake.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            if waited.1.timed_out() {
                drop(state);
                look_after(self);
                state = self.lock();
            }
        }
        state.paused.retain(|number| *number != place.number);
        self.changed(&state);
    }
}

impl Batcher {
    /// Embeds texts and calls `done` on one of the threads. After `cancel` it may not be called.
    pub fn embed(
        &self,
        entry: Arc<Entry>,
        texts: Vec<Arc<str>>,
        options: EmbedOptions,
        caller: &Caller,
        cancel: CancelToken,
        done: impl FnOnce(Vec<Result<Vec<f32>>>) + Send + 'static,
    ) -> Result<()> {
        if texts.is_empty() {
            done(Vec::new());
            return Ok(());
        }
        let vectors =
            Vectors { made: texts.iter().map(|_| None).collect(), missing: texts.len(), done: Some(Box::new(done)) };
        let lane = lane(&entry, caller);
        let request = Arc::new(Request { entry, options, cancel, vectors: Mutex::new(vectors) });
        let task = Task::Texts { request, waiting: texts.into_iter().enumerate().collect() };
        self.push(Job { lane, task }, caller.threads)
    }

    /// Calls the model on one of the threads and waits for the result.
    pub fn call<T: Send + 'static>(
        &self,
        entry: Arc<Entry>,
        caller: &Caller,
        deadline: Instant,
        interrupt: &dyn Interrupt,
        call: impl FnOnce(&dyn LocalModel, &Turn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let results = self.calls(&entry, caller, deadline, interrupt, vec![call])?;
        results.into_iter().next().ok_or_else(|| Error::internal("a local model's thread gave no result"))
    }

    /// Makes several calls of the model, on as many threads as are free, and waits for all results, which are in the
    /// order of the calls. The first error ends the others.
    pub fn calls<T: Send + 'static>(
        &self,
        entry: &Arc<Entry>,
        caller: &Caller,
        deadline: Instant,
        interrupt: &dyn Interrupt,
        calls: Vec<impl FnOnce(&dyn LocalModel, &Turn) -> Result<T> + Send + 'static>,
    ) -> Result<Vec<T>> {
        let (sender, receiver) = sync_channel(calls.len().max(1));
        let cancel = CancelToken::default();
        let _guard = Abandon { batcher: self, cancel: &cancel };
        let lane = lane(entry, caller);
        let mut results: Vec<Option<T>> = calls.iter().map(|_| None).collect();
        for (i, call) in calls.into_iter().enumerate() {
            let (sender, entry) = (sender.clone(), Arc::clone(entry));
            let call = move |turn: Result<&Turn>| {
                let made = turn.and_then(|turn| panics::catch(|| call(entry.model.as_ref(), turn)));
                // A closed channel means that the caller has stopped waiting.
                let _ = sender.send(made.map(|made| (i, made)));
            };
            let task = Task::Call { cancel: cancel.clone(), call: Box::new(call) };
            self.push(Job { lane: lane.clone(), task }, caller.threads)?;
        }
        drop(sender);
        for _ in 0..results.len() {
            let (i, made) = wait(&receiver, deadline, interrupt)?;
            if let Some(slot) = results.get_mut(i) {
                *slot = Some(made);
            }
        }
        let results: Option<Vec<T>> = results.into_iter().collect();
        results.ok_or_else(|| Error::internal("a local model's thread gave no result"))
    }

    /// Embeds a text and waits for the vector.
    pub fn embed_one(
        &self,
        entry: Arc<Entry>,
        text: &str,
        options: EmbedOptions,
        caller: &Caller,
        deadline: Instant,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<f32>> {
        let (sender, receiver) = sync_channel(1);
        let cancel = CancelToken::default();
        let guard = Abandon { batcher: self, cancel: &cancel };
        self.embed(entry, vec![Arc::from(text)], options, caller, cancel.clone(), move |vectors| {
            let vector = vectors.into_iter().next().unwrap_or_else(|| Err(Error::internal("a text got no vector")));
            let _ = sender.send(vector);
        })?;
        let result = wait(&receiver, deadline, interrupt);
        drop(guard);
        result
    }

    /// Drops cancelled jobs, stops batches without waiting calls, and checks for silent threads.
    pub fn sweep(&self) {
        let mut state = self.shared.lock();
        state.jobs.retain(|job| !job.cancel().is_cancelled());
        for running in &state.running {
            if running.wanted_by.iter().all(CancelToken::is_cancelled) {
                running.cancel.cancel();
            }
        }
        self.shared.changed(&state);
        drop(state);
        look_after(&self.shared);
    }

    /// The number of threads, and the number of waiting texts and calls.
    pub fn load(&self) -> (usize, usize) {
        let state = self.shared.lock();
        let waiting = |job: &Job| match &job.task {
            Task::Texts { waiting, .. } => waiting.len(),
            Task::Call { .. } => 1,
        };
        (state.threads, state.jobs.iter().map(waiting).sum())
    }

    fn push(&self, job: Job, threads: usize) -> Result<()> {
        let mut state = self.shared.lock();
        state.limit = threads.max(1);
        if state.hangs(job.lane.entry) {
            return Err(hung());
        }
        if !state.lanes.contains_key(&job.lane) {
            // A new lane starts with the least computing time of the others, so it neither waits for them nor
            // displaces them.
            let used = state.lanes.values().map(|share| share.used).min().unwrap_or(0);
            state.lanes.insert(job.lane.clone(), Share { used, begun: 0 });
        }
        state.jobs.push_back(job);
        self.shared.changed(&state);
        let error = spawn(&self.shared, state);
        let Some(error) = error else { return Ok(()) };
        let mut state = self.shared.lock();
        if state.threads > 0 {
            // Another thread takes the job.
            return Ok(());
        }
        state.jobs.clear();
        self.shared.changed(&state);
        Err(Error::new(
            Kind::Busy,
            format!("cannot start a thread ({error}); the server is at its limit of processes or memory"),
        ))
    }
}

fn lane(entry: &Arc<Entry>, caller: &Caller) -> Lane {
    Lane { entry: Arc::as_ptr(entry) as usize, account: Arc::from(caller.account.as_str()) }
}

fn hung() -> Error {
    Error::new(
        Kind::Busy,
        "a thread has been busy with one text of this model for too long, which a faulty tokenizer.json does; CALL mysql.ml_unload_model(...) and use another model, or fetch its files anew",
    )
}

/// Creates a thread if a job could begin and no thread is free. Returns the error if that fails.
fn spawn(shared: &Arc<Shared>, mut state: MutexGuard<'_, State>) -> Option<std::io::Error> {
    let most = state.limit.saturating_add(BEGUN);
    if state.idle + state.coming >= state.beginnings() || state.threads >= most {
        return None;
    }
    state.threads += 1;
    state.coming += 1;
    drop(state);
    let own = Arc::clone(shared);
    let run = move || {
        let mut first = true;
        while serve(&own, std::mem::take(&mut first)) {}
    };
    let started = mysql_ml_base::threads::spawn("mysql_ml-local", STACK, run);
    let error = started.err()?;
    let mut state = shared.lock();
    state.threads -= 1;
    state.coming -= 1;
    Some(error)
}

/// Takes the places of silent threads while others wait. Waiting calls of a hung model fail.
fn look_after(shared: &Arc<Shared>) {
    let mut state = shared.lock();
    let now = now();
    let mut given_up: Vec<Arc<[Item]>> = Vec::new();
    let mut gone = Vec::new();
    let others_wait = !(state.jobs.is_empty() && state.paused.is_empty());
    let mut away = state.away;
    let paused = state.paused.clone();
    for running in &mut state.running {
        let silent = now.saturating_sub(running.place.heard());
        if others_wait && running.place.holds() && silent > SILENT && away < AWAY {
            running.place.set(false);
            running.away = true;
            away += 1;
            gone.push(running.lane.clone());
        }
        if silent > HUNG && !paused.contains(&running.place.number) {
            given_up.push(Arc::clone(&running.items));
        }
    }
    state.away = away;
    state.active = state.active.saturating_sub(gone.len());
    let hung_entries: Vec<usize> =
        state.running.iter().map(|r| r.lane.entry).filter(|entry| state.hangs(*entry)).collect();
    let (refused, kept): (VecDeque<Job>, VecDeque<Job>) =
        std::mem::take(&mut state.jobs).into_iter().partition(|job| hung_entries.contains(&job.lane.entry));
    state.jobs = kept;
    if !gone.is_empty() || !refused.is_empty() {
        shared.changed(&state);
        let _ = spawn(shared, state);
    } else {
        drop(state);
    }
    let error = hung();
    given_up.iter().for_each(|items| fail(items, &error));
    refused.into_iter().for_each(|job| job.fail(&error));
}

/// Cancels the work when the wait ends, even by a panic or an error.
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
    let mut waiting = None;
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
                waiting.get_or_insert_with(|| Waiting::begin(interrupt, Wait::LocalModel));
            }
        }
    }
}

/// The next work of a thread.
enum Work {
    Batch(Arc<[Item]>),
    Call(Call),
}

/// Does one piece of work. Returns `false` if the thread must end.
fn serve(shared: &Arc<Shared>, first: bool) -> bool {
    let mut state = shared.lock();
    state.coming -= usize::from(first);
    let (work, number, turn) = loop {
        if state.threads > state.limit.saturating_add(BEGUN) {
            state.threads -= 1;
            return false;
        }
        state.jobs.retain(|job| !job.cancel().is_cancelled());
        let job = state.job().and_then(|i| Some((i, state.used(&state.jobs.get(i)?.lane))));
        let first = job.filter(|(_, used)| state.thread().is_none_or(|(paused, _)| *used <= paused));
        if let Some((i, _)) = first.filter(|_| state.active < state.limit)
            && let Some(work) = next(&mut state, i, shared)
        {
            break work;
        }
        let waits = !state.jobs.is_empty() || !state.paused.is_empty();
        state.idle += 1;
        let (guard, waited) =
            shared.wake.wait_timeout(state, if waits { LOOK } else { IDLE }).unwrap_or_else(PoisonError::into_inner);
        state = guard;
        state.idle -= 1;
        if waited.timed_out() {
            if !waits && state.jobs.is_empty() {
                state.threads -= 1;
                return false;
            }
            drop(state);
            look_after(shared);
            state = shared.lock();
        }
    };
    shared.changed(&state);
    // Other threads take the remaining jobs. If none can be created, this one takes them later.
    let _ = spawn(shared, state);
    // The thread survives a panic. Unanswered calls notice their closed channels.
    let _ = panics::catch(|| {
        match work {
            Work::Call(call) => call(Ok(&turn)),
            Work::Batch(items) => compute(&items, &turn),
        }
        Ok(())
    });
    ended(shared, number);
    true
}

/// Ends the work of a thread.
fn ended(shared: &Shared, number: u64) {
    let mut state = shared.lock();
    let Some(at) = state.running.iter().position(|r| r.place.number == number) else { return };
    let running = state.running.swap_remove(at);
    if running.place.holds() {
        state.charge(&running.place, &running.lane);
        state.active = state.active.saturating_sub(1);
    }
    if running.away {
        state.away = state.away.saturating_sub(1);
    }
    if let Some(share) = state.lanes.get_mut(&running.lane) {
        share.begun = share.begun.saturating_sub(1);
    }
    let unused: Vec<Lane> = state.lanes.keys().filter(|lane| state.is_unused(lane)).cloned().collect();
    for lane in &unused {
        state.lanes.remove(lane);
    }
    shared.changed(&state);
}

/// Begins job `at`: a call, or a batch of texts from all fitting requests in turn.
fn next(state: &mut State, at: usize, shared: &Arc<Shared>) -> Option<(Work, u64, Turn)> {
    let job = state.jobs.remove(at)?;
    let lane = job.lane.clone();
    let cancel = CancelToken::default();
    let none: Arc<[Item]> = Arc::from(Vec::new());
    let (work, wanted_by, items) = match job.task {
        Task::Call { cancel, call } => (Work::Call(call), vec![cancel], none),
        Task::Texts { request, waiting } => {
            let first = Arc::clone(&request);
            state.jobs.push_front(Job { lane: job.lane, task: Task::Texts { request, waiting } });
            let items: Arc<[Item]> = together(&mut state.jobs, &lane, &first).into();
            state.jobs.retain(|job| !matches!(&job.task, Task::Texts { waiting, .. } if waiting.is_empty()));
            // The next batch begins with another session. The jobs of this session keep their order.
            let (own, others): (VecDeque<Job>, VecDeque<Job>) =
                std::mem::take(&mut state.jobs).into_iter().partition(|job| job.cancel().is(&first.cancel));
            state.jobs = others;
            state.jobs.extend(own);
            let wanted_by = items.iter().map(|i| i.request.cancel.clone()).collect();
            (Work::Batch(Arc::clone(&items)), wanted_by, items)
        }
    };
    state.batches += 1;
    state.active += 1;
    state.lanes.entry(lane.clone()).or_default().begun += 1;
    let place = Arc::new(Place::new(state.batches, Box::new(Arc::clone(shared))));
    let turn = Turn::among(cancel.clone(), Arc::clone(&place));
    state.running.push(Running { place, lane, wanted_by, cancel, items, away: false });
    Some((work, state.batches, turn))
}

/// The texts of the lane that fit those of `first`. Other accounts have lanes of their own, so their costs do not
/// delay this account.
fn together(jobs: &mut VecDeque<Job>, lane: &Lane, first: &Request) -> Vec<Item> {
    let mut items = Vec::new();
    let mut tokens = 0;
    let mut more = true;
    while more && tokens < TOKENS_AT_ONCE {
        more = false;
        // The requests of a session are computed in order, so the first ones return early.
        let mut later: Vec<CancelToken> = Vec::new();
        for job in &mut *jobs {
            let Task::Texts { request, waiting } = &mut job.task else { continue };
            let done_later = later.iter().any(|cancel| cancel.is(&request.cancel));
            if job.lane != *lane || !request.goes_with(first) || waiting.is_empty() || done_later {
                continue;
            }
            later.push(request.cancel.clone());
            for _ in 0..TURN {
                // The estimate is four bytes a token.
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
    items
}

fn compute(items: &[Item], turn: &Turn) {
    let Some(first) = items.first() else { return };
    let texts: Vec<&str> = items.iter().map(|i| i.text.as_ref()).collect();
    let entry = &first.request.entry;
    let result = panics::catch(|| entry.model.embed(&texts, first.request.options, turn));
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

#[cfg(test)]
mod tests;
