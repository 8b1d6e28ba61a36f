//! Texts of all sessions on their way through the models: on a few threads of the library's own, in batches that are put
//! together of whatever waits when a thread is free. A lone text waits for nobody; many are computed together.
//!
//! As many threads compute at once as `local_threads` says. Who that is changes: calls of one account on one model are a
//! lane, and the lane that has computed least goes first, also before a batch that is under way in another. A thread that
//! is not heard of loses its place to the next one, and its model is left alone until it comes back.

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
use mysql_ml_base::interrupt::{CancelToken, Interrupt, POLL};
use mysql_ml_base::panics;

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// How often a thread that waits for its turn looks after those that compute.
const LOOK: Duration = Duration::from_millis(100);

/// A thread's stack.
const STACK: usize = 4 << 20;

/// Texts that one session gives to a batch before the next one has its turn.
const TURN: usize = 8;

/// Threads beyond those that compute at once: they have begun, and others go first.
const BEGUN: usize = 16;

/// Threads whose place is given away because they are not heard of.
const AWAY: usize = 8;

/// How long a thread is not heard of before its place is given away, in microseconds.
const SILENT: u64 = 2_000_000;

/// How long before what waits for the same model is refused, and its own texts are.
const HUNG: u64 = 15_000_000;

/// What is called with the vectors of all texts of a request.
type Done = Box<dyn FnOnce(Vec<Result<Vec<f32>>>) + Send>;

/// The threads and what waits for them.
#[derive(Default, Clone)]
pub struct Batcher {
    shared: Arc<Shared>,
}

/// Whose call it is, and how it is computed.
pub struct Caller {
    /// The account.
    pub account: String,
    /// How many threads compute at once.
    pub threads: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Jobs and threads that wait for their turn.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    lanes: HashMap<Lane, Share>,
    threads: usize,
    idle: usize,
    /// Threads that were made and have not begun.
    coming: usize,
    limit: usize,
    /// Threads that compute now.
    active: usize,
    /// Threads that compute and lost their place.
    away: usize,
    running: Vec<Running>,
    /// Numbers of threads that wait for their turn.
    paused: Vec<u64>,
    batches: u64,
}

/// Calls that share one place: those of an account on a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Lane {
    entry: usize,
    account: Arc<str>,
}

/// What a lane has had.
#[derive(Default)]
struct Share {
    /// Microseconds.
    used: u64,
    /// Its batches and calls that have begun.
    begun: usize,
}

/// What a thread is busy with, and who wants it.
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

/// What is called on a thread, or with the reason why it is not.
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

    /// Tells those that compute whether others wait, and those that wait that something changed.
    fn changed(&self, state: &State) {
        self.waiting.store(state.jobs.len() + state.paused.len(), Ordering::Relaxed);
        self.wake.notify_all();
    }
}

impl State {
    fn used(&self, lane: &Lane) -> u64 {
        self.lanes.get(lane).map_or(0, |share| share.used)
    }

    /// Adds the slice that ends to what the lane has had.
    fn charge(&mut self, place: &Place, lane: &Lane) {
        let slice = now().saturating_sub(place.began());
        if let Some(share) = self.lanes.get_mut(lane) {
            share.used = share.used.saturating_add(slice);
        }
    }

    /// Whether a thread that computes with this model is not heard of.
    fn hangs(&self, entry: usize) -> bool {
        let now = now();
        let silent = |r: &Running| r.lane.entry == entry && r.away && now.saturating_sub(r.place.heard()) > HUNG;
        self.running.iter().any(silent)
    }

    /// The first job of the lane that has had least, among those that may begin.
    fn job(&self) -> Option<usize> {
        let may_begin = |job: &Job| self.lanes.get(&job.lane).is_none_or(|share| share.begun < self.limit);
        let jobs = self.jobs.iter().enumerate().filter(|(_, job)| may_begin(job));
        jobs.min_by_key(|(i, job)| (self.used(&job.lane), *i)).map(|(i, _)| i)
    }

    /// The thread among those that wait for their turn whose lane has had least.
    fn thread(&self) -> Option<(u64, u64)> {
        let paused = self.running.iter().filter(|r| self.paused.contains(&r.place.number));
        paused.map(|r| (self.used(&r.lane), r.place.number)).min()
    }

    /// Jobs that could begin, if there were threads.
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
    /// Embeds texts; `done` is called on one of the threads. Nobody is told where `cancel` was set.
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

    /// Calls the model on one of the threads and waits for what comes of it.
    pub fn call<T: Send + 'static>(
        &self,
        entry: Arc<Entry>,
        caller: &Caller,
        deadline: Instant,
        interrupt: &dyn Interrupt,
        call: impl FnOnce(&dyn LocalModel, &Turn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = sync_channel(1);
        let cancel = CancelToken::default();
        let guard = Abandon { batcher: self, cancel: &cancel };
        let lane = lane(&entry, caller);
        let call = move |turn: Result<&Turn>| {
            // Nobody listening any more is no failure.
            let _ = sender.send(turn.and_then(|turn| panics::catch(|| call(entry.model.as_ref(), turn))));
        };
        let task = Task::Call { cancel: cancel.clone(), call: Box::new(call) };
        self.push(Job { lane, task }, caller.threads)?;
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

    /// Forgets what waits and nobody wants any more, stops batches that nobody wants, and looks after threads that are not
    /// heard of.
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

    /// The threads there are, and the texts and calls that wait for one.
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
            // Who comes is not behind those that were there, and has no more than they to catch up with.
            let used = state.lanes.values().map(|share| share.used).min().unwrap_or(0);
            state.lanes.insert(job.lane.clone(), Share { used, begun: 0 });
        }
        state.jobs.push_back(job);
        self.shared.changed(&state);
        let error = spawn(&self.shared, state);
        let Some(error) = error else { return Ok(()) };
        let mut state = self.shared.lock();
        if state.threads > 0 {
            return Ok(()); // another thread gets to it
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

/// Makes a thread where what waits could begin and none is free; why none could be made.
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
    let started = std::thread::Builder::new().name("mysql_ml-local".into()).stack_size(STACK).spawn(run);
    let error = started.err()?;
    let mut state = shared.lock();
    state.threads -= 1;
    state.coming -= 1;
    Some(error)
}

/// Gives away the places of threads that are not heard of while others wait, and refuses what waits for their models.
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

/// What a thread does next.
enum Work {
    Batch(Arc<[Item]>),
    Call(Call),
}

/// Does one piece of work; `false` where the thread is to end.
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
    // What is left is for other threads. Where none can be made, this one gets to it.
    let _ = spawn(shared, state);
    // Whatever happens, the thread goes on; what it did not answer is told by channels that are closed.
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

/// A thread is done with its batch or call.
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

/// Begins the job in this place: a call, or a batch of texts that go together, some of each request in turn.
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
            // The next batch begins with another session, and those of this one stay in their order.
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

/// Texts of the lane that go with those of `first`. Those of other accounts have turns of their own: whatever they cost, it
/// is not this account that waits for them.
fn together(jobs: &mut VecDeque<Job>, lane: &Lane, first: &Request) -> Vec<Item> {
    let mut items = Vec::new();
    let mut tokens = 0;
    let mut more = true;
    while more && tokens < TOKENS_AT_ONCE {
        more = false;
        // Requests of one session are done one after the other, so that the first ones come back soon.
        let mut later: Vec<CancelToken> = Vec::new();
        for job in &mut *jobs {
            let Task::Texts { request, waiting } = &mut job.task else { continue };
            let done_later = later.iter().any(|cancel| cancel.is(&request.cancel));
            if job.lane != *lane || !request.goes_with(first) || waiting.is_empty() || done_later {
                continue;
            }
            later.push(request.cancel.clone());
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
