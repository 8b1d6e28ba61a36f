//! Much work of one kind: packed into batches, several requests under way at once, one bad input apart from its
//! neighbours.
//!
//! The statement's thread steers; requests are sent and answers decoded on workers. [`Work`] says what the work is.

mod named_limit;
pub mod questions;
pub mod texts;
pub mod work;

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;

use self::named_limit::{named_limit, Named};
use self::work::{Finished, Work};
use super::attempt::{failure_in, settle, settle_same_key, settle_unsent, Rejected, Tried, Unanswered};
use super::call::Call;
use super::health::Health;
use super::rate_limit::{Learnt, Outcome};
use super::requester::{exchange, unpacked, HttpContext, Request};
use super::route::{moves_on, Entered, Route, StandIns};
use super::Engine;
use crate::catalog::model::Backend;
use crate::http::{retry, Failure, Tries};
use crate::providers::usage::{self, Usage};
use crate::providers::BatchLimits;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt, POLL};
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::shares::Share;
use mysql_ml_base::workers::Reply;

/// How long a job waits for an endpoint that answered before and now fails or limits the rate; and its pauses, which
/// double.
const OUTWAITED: Duration = Duration::from_secs(300);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// After this many refusals and no success, send a probe text. If it is refused too, the model is at fault and the job
/// stops.
const SUSPICIOUS: u32 = 10;

/// The number of the probe, which no input of the caller has.
const PROBE_ID: u64 = u64::MAX;

/// The most forms of one request that are tried after refusals.
const MAX_ADAPTED: u32 = 3;

/// How long a job waits for memory, its pause between checks, and the wait after which a batch is divided.
const MEMORY_WAIT: Duration = Duration::from_secs(120);
const MEMORY_PAUSE: Duration = Duration::from_millis(50);
const MEMORY_SPLIT: Duration = Duration::from_secs(5);

/// How long a worker holds an answer while memory to read it is missing.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// An input, and the number its result is returned under.
struct Item<W: Work> {
    id: u64,
    input: W::Input,
    /// The place of its result in the cache; `None` for the probe.
    place: Option<W::Place>,
}

/// Inputs that are sent together.
struct Batch<W: Work> {
    items: Vec<Item<W>>,
    /// The form of its last request, and the number of forms that were refused.
    form: Option<W::Form>,
    adapted: u32,
    tries: Tries,
    /// A key that a target's provider rejected; the batch is sent there once more with a new one.
    rejected: Option<(usize, Rejected)>,
    /// The targets that failed over it in this round, and those of them whose fault it may not be.
    tried: Vec<usize>,
    doubted: Vec<Arc<Health>>,
    not_before: Option<Instant>,
    /// The endpoint's failures over it: their number, and the time of the first.
    failed: u32,
    failed_since: Option<Instant>,
    /// The failure after which it waits for the probe's result.
    suspected: Option<Error>,
    /// The refused batch of which it is a half.
    half_of: Option<u64>,
    /// Whether its only text failed in an earlier job.
    known_bad: bool,
}

/// A refused batch: size of its larger half, and number of answered halves.
struct Split {
    larger: usize,
    answered: u8,
    cause: Cause,
}

/// Why a batch is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The provider refused it, or its answer was none.
    Refused,
    /// The endpoint failed over it, which may be a coincidence.
    Failure,
    /// The answer to several inputs was not usable, which may be chance.
    Unusable,
}

/// An endpoint that fails every request. Only the probe is sent, at intervals, until it is answered.
struct Trouble {
    since: Instant,
    pause: Duration,
    until: Instant,
    tries: u32,
    under_way: bool,
}

impl<W: Work> Batch<W> {
    /// Whether it is the probe.
    fn is_probe(&self) -> bool {
        self.items.iter().all(|item| item.id == PROBE_ID)
    }

    /// Whether it was sent before.
    fn is_again(&self) -> bool {
        self.tries.made() > 0
            || self.failed > 0
            || self.rejected.is_some()
            || self.adapted > 0
            || !self.tried.is_empty()
    }

    /// Its inputs.
    fn inputs(&self) -> Vec<&W::Input> {
        self.items.iter().map(|item| &item.input).collect()
    }
}

/// A batch returned by a worker.
struct Returned<W: Work> {
    batch: Batch<W>,
    entered: Entered,
    /// Whether the request was sent before.
    again: bool,
    result: BatchResult<W>,
}

enum BatchResult<W: Work> {
    /// A result or an error for each input, and the reservation of the results' memory.
    Read(Vec<Result<W::Raw>>, Reservation, Outcome, Duration, Usage),
    /// An answer that could not be read; it costs tokens all the same.
    Unreadable(Error, Duration, Usage),
    Failed(Failure, Option<SecretString>),
    SameKey,
    Unsent(Error),
}

/// The result of an input.
pub struct Done<T> {
    /// Its number.
    pub id: u64,
    /// Its result, or its error.
    pub result: Result<T>,
    /// The reservation of the result's memory; empty for cached results.
    pub share: Reservation,
}

/// Work of one kind and one model in progress.
pub struct Pipeline<'e, W: Work> {
    engine: &'e Engine,
    call: Call,
    work: W,
    route: Route,
    share: Share,
    limits: BatchLimits,
    concurrency: usize,
    /// Time limit of a batch with all waits; `None`: as long as the provider asks.
    patience: Option<Duration>,
    queue: VecDeque<Item<W>>,
    again: VecDeque<Batch<W>>,
    ready: VecDeque<Done<W::Output>>,
    under_way: usize,
    /// Current limit of concurrent requests: below `concurrency` while requests take a large part of their time limit.
    window: usize,
    /// Quick answers since the window last changed.
    quick: usize,
    timeout: Duration,
    /// Time of the last answer, and the time since which a rate-limited endpoint has answered nothing.
    answered_at: Option<Instant>,
    limited_since: Option<Instant>,
    trouble: Option<Trouble>,
    splits: HashMap<u64, Split>,
    next_split: u64,
    /// Number of batches that failed whole and were answered as halves.
    divided_well: u32,
    /// The same for unusable answers, and the number of batches whose first answer was usable, of the present size.
    unusable_wholes: u32,
    usable_wholes: u32,
    /// Whether the first request must be answered before others are sent.
    asks_first: bool,
    /// Time since which memory for the next request is missing.
    short_since: Option<Instant>,
    /// Whether a result was returned.
    answered: bool,
    /// Single texts refused before the first answer.
    refused: u32,
    /// Time of the last check for hanging threads of local models.
    looked: Instant,
    cancel: CancelToken,
    sender: Sender<Result<Returned<W>>>,
    receiver: Receiver<Result<Returned<W>>>,
}

impl<W: Work> Drop for Pipeline<'_, W> {
    fn drop(&mut self) {
        // Nobody waits any more: workers and connections are free again within their next slice.
        self.cancel.cancel();
        if self.is_local() {
            self.engine.local.sweep();
        }
    }
}

impl<'e, W: Work> Pipeline<'e, W> {
    /// A pipeline for a model. `patience`: time limit of a batch with all waits; `None`: as long as the provider asks.
    pub fn new(
        engine: &'e Engine,
        call: Call,
        work: W,
        concurrency: Option<u64>,
        batch_size: Option<u64>,
        patience: Option<Duration>,
    ) -> Result<Self> {
        let model = call.model();
        let share = engine.share(model)?;
        let (sender, receiver) = channel();
        let mut route = engine.remote.requester.route(&call, StandIns::All);
        route.retain_stand_ins(|model| !work.one_by_one(model));
        let size = batch_size.or(model.options.batch_size).and_then(|n| usize::try_from(n).ok());
        let mut limits = work.limits(model);
        limits.texts = size.map_or(limits.texts, |n| n.min(limits.most)).max(1);
        let learnt = route.learnt();
        limits.texts = learnt.texts.map_or(limits.texts, |n| n.min(limits.texts)).max(1);
        limits.tokens = learnt.tokens.map_or(limits.tokens, |n| n.min(limits.tokens));
        let concurrency = concurrency.or(model.options.concurrency).unwrap_or(W::CONCURRENCY).max(1);
        let concurrency = usize::try_from(concurrency).unwrap_or(usize::MAX);
        Ok(Pipeline {
            route,
            share,
            window: concurrency,
            quick: 0,
            timeout: call.time(),
            answered_at: None,
            limited_since: None,
            trouble: None,
            splits: HashMap::new(),
            next_split: 0,
            divided_well: 0,
            unusable_wholes: 0,
            usable_wholes: 0,
            engine,
            work,
            limits,
            concurrency,
            patience,
            queue: VecDeque::new(),
            again: VecDeque::new(),
            ready: VecDeque::new(),
            under_way: 0,
            asks_first: false,
            short_since: None,
            answered: false,
            refused: 0,
            looked: Instant::now(),
            cancel: CancelToken::default(),
            sender,
            receiver,
            call,
        })
    }

    /// The most texts in a request.
    pub fn batch_size(&self) -> usize {
        self.limits.texts
    }

    /// The most concurrent requests.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Sets whether the first request must be answered before others are sent, because the result may become too large.
    pub fn ask_first(&mut self, yes: bool) {
        self.asks_first = yes;
    }

    /// Adds an input. Cached results are not requested.
    pub fn push(&mut self, id: u64, input: W::Input, interrupt: &dyn Interrupt) -> Result<()> {
        self.take(id, input, false, interrupt)
    }

    /// Adds an input that was refused before. It is sent alone, so that it cannot fail others.
    pub fn push_alone(&mut self, id: u64, input: W::Input, interrupt: &dyn Interrupt) -> Result<()> {
        self.take(id, input, true, interrupt)
    }

    fn take(&mut self, id: u64, input: W::Input, alone: bool, interrupt: &dyn Interrupt) -> Result<()> {
        self.call.meter.called();
        if let Some(error) = self.work.refused(&self.call, &input) {
            self.fail(id, error);
            return Ok(());
        }
        match self.work.look_up(self.engine, &self.call, &input, interrupt)? {
            (_, Some(hit)) => self.ready.push_back(Done { id, result: Ok(hit), share: Reservation::default() }),
            // Where each input is a call of its own there is nothing to keep apart.
            (place, None) if alone && !self.one_by_one() => {
                let batch = self.batch(vec![Item { id, input, place: Some(place) }]);
                self.again.push_back(Batch { known_bad: true, ..batch });
            }
            (place, None) => self.queue.push_back(Item { id, input, place: Some(place) }),
        }
        Ok(())
    }

    /// Number of texts that are neither sent nor done.
    pub fn waiting(&self) -> usize {
        self.queue.len() + self.again.len()
    }

    /// Number of results not returned yet.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether nothing is left to wait for.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.again.is_empty() && self.ready.is_empty() && self.under_way == 0
    }

    /// Sends batches and returns a result; `None` after `wait` without one. An error concerns all texts: the statement
    /// was killed, or the endpoint is unusable.
    pub fn advance(
        &mut self,
        wait: Duration,
        last: bool,
        interrupt: &dyn Interrupt,
    ) -> Result<Option<Done<W::Output>>> {
        let end = Instant::now() + wait;
        loop {
            interrupt.check()?;
            if let Some(done) = self.ready.pop_front() {
                return Ok(Some(done));
            }
            self.dispatch(last, interrupt)?;
            if let Some(done) = self.ready.pop_front() {
                return Ok(Some(done));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_empty() {
                self.look_after_local();
                return Ok(None);
            }
            match self.receiver.recv_timeout(left.min(POLL)) {
                Ok(returned) => self.returned(returned)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Error::internal("the bulk channel is closed")),
            }
            // Take all other returned batches.
            while let Ok(returned) = self.receiver.try_recv() {
                self.returned(returned)?;
            }
        }
    }

    /// Checks for hanging threads: a batch for a local model has no deadline of its own.
    fn look_after_local(&mut self) {
        if self.is_local() && self.looked.elapsed() > Duration::from_secs(1) {
            self.looked = Instant::now();
            self.engine.local.sweep();
        }
    }

    /// Sends batches while the window permits. A batch that is not full waits for more texts, unless `last`.
    fn dispatch(&mut self, last: bool, interrupt: &dyn Interrupt) -> Result<()> {
        if self.one_by_one() {
            return self.compute_one(interrupt);
        }
        while self.under_way < if self.asks_first && !self.answered { 1 } else { self.window } {
            let now = Instant::now();
            let due = |batch: &Batch<W>| batch.not_before.is_none_or(|at| at <= now);
            let first = if let Some(trouble) = &mut self.trouble {
                let probe = self.again.iter().position(Batch::<W>::is_probe);
                match probe {
                    Some(i) if self.again.get(i).is_some_and(due) => self.again.remove(i),
                    None if !trouble.under_way && trouble.until <= now => {
                        trouble.under_way = true;
                        Some(self.probe())
                    }
                    _ => return Ok(()),
                }
            } else {
                self.again.iter().position(due).and_then(|i| self.again.remove(i))
            };
            let batch = match first {
                Some(batch) => batch,
                // The endpoint has answered nothing since it failed over a waiting batch.
                None if self
                    .again
                    .iter()
                    .any(|b| b.failed_since.is_some_and(|at| self.answered_at.is_none_or(|a| a < at))) =>
                {
                    return Ok(());
                }
                // Batches that wait for memory come first.
                None if self.short_since.is_some() && !self.again.is_empty() => return Ok(()),
                None if last || self.queue.len() >= self.limits.texts => match self.pack() {
                    Some(batch) => batch,
                    None => return Ok(()),
                },
                None => return Ok(()),
            };
            let body = match Reservation::take(body_of(&batch).saturating_mul(2), "the request for a batch") {
                Ok(share) => share,
                Err(error) => return self.wait_for_memory(batch, error),
            };
            let tokens = batch.items.iter().map(|item| W::tokens(&item.input)).sum();
            let only = batch.rejected.as_ref().map(|(target, _)| *target);
            let deadline = self.patience.map(|patience| now + patience);
            match self.route.try_now(tokens, &batch.tried, only, deadline) {
                Ok(entered) if self.is_local() => {
                    self.compute(batch, entered, interrupt)?;
                }
                Ok(entered) if !self.engine.remote.requester.workers.has_room(&self.share) => {
                    // The batch waits here, where KILL is checked, not in the queue of single calls.
                    entered.not_sent();
                    self.again.push_front(batch);
                    return Ok(());
                }
                Ok(entered) => self.spawn(batch, entered, body)?,
                Err(until) => {
                    if let (Some(until), Some(patience)) = (&until, self.patience)
                        && until.0 >= now + patience
                    {
                        return Err(until.1.clone());
                    }
                    self.again.push_front(batch);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Puts a batch back for lack of memory: requests under way will free some, and for a job other calls may. An error
    /// if neither helps.
    fn wait_for_memory(&mut self, mut batch: Batch<W>, error: Error) -> Result<()> {
        let now = Instant::now();
        let since = *self.short_since.get_or_insert(now);
        if self.under_way == 0 && self.ready.is_empty() {
            let most = if self.patience.is_some() { Duration::ZERO } else { MEMORY_WAIT };
            if now.saturating_duration_since(since) >= most {
                return Err(error);
            }
        }
        if now.saturating_duration_since(since) >= MEMORY_SPLIT && batch.items.len() > 1 {
            let rest = batch.items.split_off(batch.items.len() / 2);
            let rest = self.batch(rest);
            self.again.push_back(rest);
        }
        batch.not_before = Some(now + MEMORY_PAUSE);
        self.again.push_front(batch);
        Ok(())
    }

    /// Whether inputs are computed one at a time on the statement's thread.
    fn one_by_one(&self) -> bool {
        self.work.one_by_one(self.call.model())
    }

    fn compute_one(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        let Some(item) = self.queue.pop_front() else { return Ok(()) };
        match self.work.compute(self.engine, &self.call, &item.input, interrupt) {
            Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => Err(e),
            Err(e) => {
                // The failing call has counted it.
                self.ready.push_back(Done { id: item.id, result: Err(e), share: Reservation::default() });
                self.suspect_one(interrupt)
            }
            Ok(raw) => {
                let share = Reservation::take(W::size(&raw), "a result")?;
                self.finish(item, raw, share);
                Ok(())
            }
        }
    }

    /// As [`Self::suspect`], for inputs computed one at a time.
    fn suspect_one(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        if !self.is_suspicious() {
            return Ok(());
        }
        let (input, name) = self.work.probe();
        let probe = self.work.compute(self.engine, &self.call, &input, interrupt);
        self.answered = true;
        match probe {
            Ok(_) => Ok(()),
            Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => Err(e),
            Err(e) => Err(not_the_inputs(name, &e)),
        }
    }

    /// A batch of the probe.
    fn probe(&self) -> Batch<W> {
        let (input, _) = self.work.probe();
        self.batch(vec![Item { id: PROBE_ID, input, place: None }])
    }

    /// The next batch, with as many texts as fit.
    fn pack(&mut self) -> Option<Batch<W>> {
        let mut items = Vec::with_capacity(self.limits.texts.min(self.queue.len()));
        let mut tokens = 0_u64;
        while items.len() < self.limits.texts {
            let Some(next) = self.queue.front() else { break };
            let estimate = estimate::<W>(&next.input);
            let alone = self.work.alone(&next.input);
            if !items.is_empty() && (alone || tokens + estimate > self.limits.tokens) {
                break;
            }
            tokens += estimate;
            items.extend(self.queue.pop_front());
            if alone {
                break;
            }
        }
        (!items.is_empty()).then(|| self.batch(items))
    }

    fn batch(&self, items: Vec<Item<W>>) -> Batch<W> {
        let retries = self.call.max_retries();
        let tries = match self.patience {
            Some(patience) => Tries::new(Instant::now() + patience, retries),
            None => Tries::patient(retries),
        };
        Batch {
            items,
            form: None,
            adapted: 0,
            tries,
            rejected: None,
            tried: Vec::new(),
            doubted: Vec::new(),
            not_before: None,
            failed: 0,
            failed_since: None,
            suspected: None,
            half_of: None,
            known_bad: false,
        }
    }

    fn is_local(&self) -> bool {
        self.call.model().backend() == Backend::Local
    }

    /// Gives a batch to a local model.
    fn compute(&mut self, batch: Batch<W>, entered: Entered, interrupt: &dyn Interrupt) -> Result<()> {
        self.call.meter.requested(false);
        let (reply, began) = (Reply::new(self.sender.clone()), Instant::now());
        let inputs = batch.items.iter().map(|item| item.input.clone()).collect();
        let done = move |results: Vec<Result<W::Raw>>| {
            let outcome = Outcome::Answered { tokens: None, pause: None };
            let result = BatchResult::Read(results, Reservation::default(), outcome, began.elapsed(), Usage::default());
            reply.send(Ok(Returned { batch, entered, again: false, result }));
        };
        self.work.compute_locally(self.engine, &self.call, inputs, &self.cancel, Box::new(done), interrupt)?;
        self.under_way += 1;
        Ok(())
    }

    fn spawn(&mut self, mut batch: Batch<W>, entered: Entered, share: Reservation) -> Result<()> {
        let call = self.route.call(entered.target)?;
        let (body, form) = self.work.body(self.engine, call, &batch.inputs())?;
        batch.form = Some(form);
        let request = Request::within(share, call, None, body)?;
        let again = batch.is_again();
        call.meter.requested(again);
        let now = Instant::now();
        let until = self.route.try_until(batch.tried.len(), now + self.call.time(), now);
        let requester = &self.engine.remote.requester;
        let (context, cancel, sender) = (Arc::clone(&requester.context), self.cancel.clone(), self.sender.clone());
        requester.workers.run_to(&self.share, &self.cancel, sender, move || {
            let result = one_try(&context, &request, &batch, (until, until.saturating_duration_since(now)), &cancel)?;
            Ok(Returned { batch, entered, again, result })
        })?;
        self.under_way += 1;
        Ok(())
    }

    /// Processes a returned batch. An error ends the whole call and is counted.
    fn returned(&mut self, returned: Result<Returned<W>>) -> Result<()> {
        let result = self.take_back(returned);
        if let Err(error) = &result
            && !matches!(error.kind(), Kind::Interrupted(_))
        {
            self.call.meter.failed(error);
        }
        result
    }

    fn take_back(&mut self, returned: Result<Returned<W>>) -> Result<()> {
        self.under_way = self.under_way.saturating_sub(1);
        let Returned { mut batch, entered, again, result } = returned?;
        let target = entered.target;
        let call = self.route.call(target)?.clone();
        match result {
            BatchResult::Read(results, mut share, outcome, latency, usage) => {
                entered.answered(latency, &outcome);
                // Another endpoint answered what they failed over.
                batch.doubted.drain(..).for_each(|health| health.failed(Instant::now(), false));
                self.short_since = None;
                self.limited_since = None;
                call.meter.answered(latency);
                self.pace(latency);
                self.works_again(&batch)?;
                call.meter.used(W::counted(results.len()), usage);
                // The caches do not keep another model's answer as this one's; vectors are of the same model.
                let kept = !(W::ANSWERS_VARY && self.route.is_stand_in(target));
                for (mut item, result) in batch.items.into_iter().zip(results) {
                    self.answered = true;
                    item.place = item.place.filter(|_| kept);
                    match result {
                        _ if item.id == PROBE_ID => {}
                        Ok(raw) => {
                            let own = share.split(W::size(&raw));
                            self.finish(item, raw, own);
                        }
                        Err(e) => self.fail(item.id, e),
                    }
                }
            }
            BatchResult::Unreadable(error, latency, usage) => {
                entered.answered(latency, &Outcome::Answered { tokens: usage.all(), pause: None });
                call.meter.answered(latency);
                call.meter.used(0, usage);
                if batch.is_probe() && self.trouble.is_some() {
                    return self.still_in_trouble(error.into());
                }
                let cause = if W::ANSWERS_VARY { Cause::Unusable } else { Cause::Refused };
                self.split_or_fail(batch, error, cause)?;
            }
            BatchResult::Unsent(error) => {
                let failure = settle_unsent(error, entered, &call, again);
                if let Err(failure) = self.move_on(&mut batch, target, failure) {
                    return Err(self.route.exhausted(failure.into_error(1)));
                }
                self.again.push_back(batch);
            }
            BatchResult::SameKey => {
                let rejected = batch.rejected.take().map(|(_, rejected)| rejected);
                let failure = settle_same_key(entered, &call, rejected);
                if let Err(failure) = self.move_on(&mut batch, target, failure) {
                    return Err(self.route.exhausted(failure.into_error(1)));
                }
                self.again.push_back(batch);
            }
            BatchResult::Failed(failure, key) => {
                let limited = failure.is_rate_limit();
                let before = batch.rejected.take().map(|(_, rejected)| rejected);
                let failure = match settle(failure, key, entered, &call, again, before.as_ref()) {
                    Unanswered::WithNewKey(rejected) => {
                        batch.rejected = Some((target, rejected));
                        self.again.push_back(batch);
                        return Ok(());
                    }
                    Unanswered::Failed(failure, doubted) => {
                        batch.doubted.extend(doubted);
                        failure
                    }
                };
                let failure = match self.move_on(&mut batch, target, failure) {
                    Ok(()) => {
                        self.again.push_front(batch);
                        return Ok(());
                    }
                    Err(failure) => failure,
                };
                if self.route.is_single() {
                    batch.rejected = before.map(|rejected| (target, rejected));
                }
                if batch.adapted < MAX_ADAPTED
                    && let Some(used) = batch.form
                    && self.work.adapt(self.engine, &call, &batch.inputs(), used, failure.error())
                {
                    batch.adapted += 1;
                    self.again.push_back(batch);
                    return Ok(());
                }
                match failure.kind() {
                    Kind::Interrupted(_) => return Err(failure.into_error(1)),
                    Kind::Memory => self.wait_for_memory(batch, failure.into_error(1))?,
                    // Not the fault of single texts.
                    Kind::Provider(401 | 403 | 404 | 405) | Kind::Denied | Kind::NotFound => {
                        return Err(failure.into_error(batch.tries.made() + 1));
                    }
                    Kind::Provider(429) if !limited => return Err(failure.into_error(batch.tries.made() + 1)),
                    // Nor are payment, redirects, and rules of this side.
                    Kind::Provider(402 | 300..=399) | Kind::Invalid | Kind::Unsupported => {
                        return Err(failure.into_error(batch.tries.made() + 1));
                    }
                    Kind::Provider(408 | 409) => self.endpoint_failed(batch, failure)?,
                    _ if limited => self.outwait_limit(batch, failure)?,
                    Kind::Provider(400..=499) | Kind::TooLarge => {
                        let in_trouble = batch.is_probe() && self.trouble.is_some();
                        self.works_again(&batch)?;
                        if !in_trouble {
                            let error = failure.into_error(batch.tries.made() + 1);
                            self.split_or_fail(batch, error, Cause::Refused)?;
                        }
                    }
                    _ => self.endpoint_failed(batch, failure)?,
                }
            }
        }
        Ok(())
    }

    /// Whether a batch goes to another target now. Otherwise all have failed over it, or it is the inputs' fault: the
    /// failure is returned.
    fn move_on(&mut self, batch: &mut Batch<W>, target: usize, failure: Failure) -> std::result::Result<(), Failure> {
        if moves_on(&failure) {
            batch.tried.push(target);
            if batch.tried.len() < self.route.len() {
                return Ok(());
            }
        }
        batch.tried.clear();
        batch.doubted.clear();
        Err(failure)
    }

    /// Halves the window while requests take over half of their time limit; grows it again after quick answers.
    fn pace(&mut self, latency: Duration) {
        if latency.saturating_mul(2) > self.timeout {
            self.window = (self.window / 2).max(1);
            self.quick = 0;
        } else if self.window < self.concurrency && latency.saturating_mul(4) < self.timeout {
            self.quick += 1;
            if self.quick >= self.window {
                self.window += 1;
                self.quick = 0;
            }
        }
    }

    /// After an answer: the endpoint works, so texts may be at fault in batches that failed before.
    fn works_again(&mut self, batch: &Batch<W>) -> Result<()> {
        self.answered_at = Some(Instant::now());
        if batch.is_probe() && self.trouble.take().is_some() {
            for mut waiting in std::mem::take(&mut self.again) {
                match waiting.suspected.take() {
                    Some(error) => self.split_or_fail(waiting, error, Cause::Failure)?,
                    None => self.again.push_back(waiting),
                }
            }
        }
        let Some(split) = batch.half_of.and_then(|id| self.splits.get_mut(&id)) else {
            self.usable_wholes = self.usable_wholes.saturating_add(u32::from(batch.items.len() > 1));
            return Ok(());
        };
        split.answered += 1;
        if split.answered == 2 {
            // Both halves were answered: the whole was too large. A failure of the endpoint may have been a
            // coincidence.
            match (split.larger, split.cause) {
                (larger, Cause::Refused) => self.learn_texts(larger),
                (larger, Cause::Failure) => {
                    self.divided_well += 1;
                    if self.divided_well > 2 {
                        self.learn_texts(larger);
                    }
                }
                (larger, Cause::Unusable) => self.pack_fewer(larger),
            }
        }
        Ok(())
    }

    /// An unusable answer to twice as many inputs was followed by two usable ones. Dividing costs two more requests, so
    /// that smaller batches are cheaper once most are divided. Other jobs may have other inputs, and learn it themselves.
    fn pack_fewer(&mut self, texts: usize) {
        if texts == 1 || texts >= self.limits.texts {
            return;
        }
        self.unusable_wholes += 1;
        if self.unusable_wholes > 2 && self.unusable_wholes > self.usable_wholes {
            (self.unusable_wholes, self.usable_wholes) = (0, 0);
            self.limits.texts = texts;
        }
    }

    fn learn_texts(&mut self, texts: usize) {
        self.limits.texts = self.limits.texts.min(texts.max(1));
        self.route.learn(Learnt { texts: Some(self.limits.texts), tokens: None });
    }

    /// A rate limit: the limiter delays all sessions as long as the provider asks. A job waits longer if the provider
    /// names no time.
    fn outwait_limit(&mut self, mut batch: Batch<W>, failure: Failure) -> Result<()> {
        if self.patience.is_some() {
            return match batch.tries.next(failure) {
                Ok(_) => {
                    self.again.push_back(batch);
                    Ok(())
                }
                Err(error) if batch.is_probe() => Err(error),
                Err(error) => {
                    batch.items.iter().for_each(|item| self.fail(item.id, error.clone()));
                    Ok(())
                }
            };
        }
        let since = *self.limited_since.get_or_insert_with(Instant::now);
        let says_when = failure.wait.is_some_and(|wait| !wait.is_zero());
        if !says_when && since.elapsed() > OUTWAITED {
            return Err(failure.into_error(batch.tries.made() + 1));
        }
        if batch.is_probe() {
            // The probe has its answer: the endpoint is there.
            self.trouble = None;
        } else {
            self.again.push_back(batch);
        }
        Ok(())
    }

    fn retries(&self) -> u32 {
        let retries = self.call.max_retries();
        u32::try_from(retries).unwrap_or(u32::MAX)
    }

    /// The endpoint failed or timed out. After one more try a text may be the cause: the batch is halved if others were
    /// answered since. Otherwise the probe decides.
    fn endpoint_failed(&mut self, mut batch: Batch<W>, failure: Failure) -> Result<()> {
        let now = Instant::now();
        let timed_out = failure.kind() == Kind::Timeout;
        if timed_out {
            self.window = (self.window / 2).max(1);
        }
        let retries = self.retries();
        if batch.is_probe() {
            return self.still_in_trouble(failure);
        }
        batch.failed = batch.failed.saturating_add(1);
        let first = *batch.failed_since.get_or_insert(now);
        let single = batch.items.len() == 1;
        if batch.known_bad && self.answered_at.is_some() {
            let tries = batch.failed;
            return self.split_or_fail(batch, failure.into_error(tries), Cause::Failure);
        }
        let tries = if batch.known_bad {
            1
        } else if single {
            retries.saturating_add(1)
        } else {
            retries.saturating_add(1).min(2)
        };
        let retryable = failure.retryable || matches!(failure.kind(), Kind::Provider(500..=599));
        if retryable && batch.failed < tries && !timed_out {
            let wait = failure.wait.unwrap_or_else(|| retry::backoff(batch.failed));
            if self.patience.is_none_or(|patience| wait < patience) {
                batch.not_before = Some(now + wait);
                self.again.push_back(batch);
                return Ok(());
            }
        }
        let alone = self.queue.is_empty() && self.again.is_empty() && self.under_way == 0;
        if self.answered_at.is_some_and(|at| at > first) || (self.patience.is_some() && single && alone) {
            let tries = batch.failed;
            return self.split_or_fail(batch, failure.into_error(tries), Cause::Failure);
        }
        if !retryable && !timed_out && self.answered_at.is_none() {
            return Err(failure.into_error(batch.failed));
        }
        self.trouble.get_or_insert(Trouble {
            since: now,
            pause: FIRST_PAUSE,
            until: now,
            tries: batch.failed,
            under_way: false,
        });
        batch.not_before = None;
        // A timeout or a network failure is not certain to be a text's fault.
        batch.suspected = Some(failure.into_error(batch.failed));
        self.again.push_back(batch);
        Ok(())
    }

    /// The probe failed too. It is sent again after a pause, in a job for minutes if the endpoint ever answered.
    fn still_in_trouble(&mut self, failure: Failure) -> Result<()> {
        let retries = self.retries();
        let now = Instant::now();
        let ever = self.answered_at.is_some();
        let Some(trouble) = &mut self.trouble else { return Err(failure.into_error(1)) };
        trouble.under_way = false;
        trouble.tries = trouble.tries.saturating_add(1);
        let longest = match self.patience {
            Some(patience) => patience,
            None if ever => OUTWAITED,
            None => Duration::ZERO,
        };
        let gone = now.saturating_duration_since(trouble.since) + trouble.pause;
        let enough = if ever && self.patience.is_none() { gone > longest } else { trouble.tries > retries };
        if enough || (self.patience.is_some() && gone > longest) {
            let tries = trouble.tries;
            return Err(failure.into_error(tries));
        }
        trouble.until = now + failure.wait.unwrap_or(trouble.pause).min(LONGEST_PAUSE);
        trouble.pause = trouble.pause.saturating_mul(2).min(LONGEST_PAUSE);
        Ok(())
    }

    /// A refused batch is too large or contains a bad text: its halves are sent, down to single texts. Before the first
    /// answer the model may be at fault, so one text is sent separately.
    fn split_or_fail(&mut self, mut batch: Batch<W>, error: Error, cause: Cause) -> Result<()> {
        if let Some(id) = batch.half_of {
            self.splits.remove(&id);
        }
        if let [item] = batch.items.as_slice() {
            if item.id == PROBE_ID {
                return Err(not_the_inputs(self.work.probe().1, &error));
            }
            let refused = cause != Cause::Failure;
            let error = self.work.explained(error, &item.input);
            self.fail(item.id, error);
            if refused {
                self.suspect();
            }
            return Ok(());
        }
        if matches!(error.kind(), Kind::Provider(413) | Kind::TooLarge) {
            // Later batches start with the learnt size.
            self.learn_texts(batch.items.len().div_ceil(2));
        }
        if self.learn_what_is_named(&batch, error.message()) {
            // The texts are packed again within the named limit.
            for item in batch.items.into_iter().rev() {
                self.queue.push_front(item);
            }
            return Ok(());
        }
        let answered = self.answered || cause != Cause::Refused;
        let rest = batch.items.split_off(if answered { batch.items.len() / 2 } else { 1 });
        let id = self.next_split;
        self.next_split += 1;
        let split = Split { larger: rest.len().max(batch.items.len()), answered: 0, cause };
        self.splits.insert(id, split);
        let half = |mut half: Batch<W>| {
            half.half_of = Some(id);
            // The second try belonged to the whole batch.
            half.failed = u32::from(cause == Cause::Failure && half.items.len() > 1);
            half
        };
        let (first, rest) = (half(self.batch(batch.items)), half(self.batch(rest)));
        if answered {
            self.again.push_back(first);
        } else {
            self.again.push_front(first);
        }
        self.again.push_back(rest);
        Ok(())
    }

    /// Keeps a limit named in a refusal, for this job and later ones. Returns whether the batch exceeds it.
    fn learn_what_is_named(&mut self, batch: &Batch<W>, message: &str) -> bool {
        let tokens: u64 = batch.items.iter().map(|item| estimate::<W>(&item.input)).sum();
        match named_limit(message, batch.items.len(), tokens) {
            Some(Named::Texts(texts)) => {
                self.learn_texts(texts);
                true
            }
            Some(Named::Tokens(tokens)) => {
                self.limits.tokens = self.limits.tokens.min(tokens);
                self.route.learn(Learnt { texts: None, tokens: Some(self.limits.tokens) });
                true
            }
            None => false,
        }
    }

    /// A single text was refused. After [`SUSPICIOUS`] refusals without an answer, the probe is sent.
    fn suspect(&mut self) {
        if self.is_suspicious() {
            let probe = self.probe();
            self.again.push_front(probe);
        }
    }

    /// Counts a refused text.
    fn is_suspicious(&mut self) -> bool {
        self.refused = self.refused.saturating_add(1);
        !self.answered && self.refused == SUSPICIOUS
    }

    fn finish(&mut self, item: Item<W>, raw: W::Raw, share: Reservation) {
        match self.work.finish(self.engine, &self.call, &item.input, item.place.as_ref(), raw) {
            Finished::Done(result) => {
                self.answered = true;
                self.ready.push_back(Done { id: item.id, result: Ok(result), share });
            }
            Finished::Failed(error) => self.fail(item.id, error),
            Finished::Again(input) => {
                let batch = self.batch(vec![Item { input, ..item }]);
                self.again.push_back(batch);
            }
        }
    }

    fn fail(&mut self, id: u64, error: Error) {
        self.call.meter.failed(&error);
        self.ready.push_back(Done { id, result: Err(error), share: Reservation::default() });
    }
}

/// The error of a call when the probe is refused like all inputs.
fn not_the_inputs(probe: &str, error: &Error) -> Error {
    Error::new(
        error.kind(),
        format!(
            "{}; every text was refused, including {probe}; check the model with ml_validate_model",
            error.message()
        ),
    )
}

/// Estimated tokens of an input: a third of its bytes, more than most providers count.
fn estimate<W: Work>(input: &W::Input) -> u64 {
    W::bytes(input) as u64 / 3 + 1
}

/// Bytes of a batch's request as reckoned before it is written: every input, and the text around it.
fn body_of<W: Work>(batch: &Batch<W>) -> usize {
    W::encoded_together(&batch.inputs())
}

/// Reserves memory to read an answer. A worker waits a moment for it, because the answer is paid for.
fn memory_to_read(body: &[u8], cancel: &CancelToken) -> Result<Reservation> {
    let end = Instant::now() + ANSWER_WAIT;
    loop {
        match unpacked(body) {
            Err(_) if Instant::now() < end => {
                if cancel.sleep(MEMORY_PAUSE) {
                    return Err(Error::interrupted(1317));
                }
            }
            result => return result,
        }
    }
}

/// Sends a batch once and decodes the answer, on a worker. `until`, `time`: the limit of the try, and its length.
fn one_try<W: Work>(
    context: &HttpContext,
    request: &Request,
    batch: &Batch<W>,
    (until, time): (Instant, Duration),
    cancel: &CancelToken,
) -> Result<BatchResult<W>> {
    let rejected = batch.rejected.as_ref().map(|(_, rejected)| &rejected.key);
    let (answer, latency) = match exchange(context, request, rejected, until, cancel)? {
        Tried::Answered(answer, latency) => (answer, latency),
        Tried::Failed(failure, key) => return Ok(BatchResult::Failed(failure.within(time), key)),
        Tried::SameKey => return Ok(BatchResult::SameKey),
        Tried::Unsent(error) => return Ok(BatchResult::Unsent(error)),
    };
    let mut share = match memory_to_read(&answer.body, cancel) {
        Ok(share) => share,
        Err(e) => return Ok(BatchResult::Failed(e.into(), None)),
    };
    let (results, usage) = match W::read(&request.call, &batch.inputs(), &answer) {
        Ok(read) => read,
        Err(e) => {
            return Ok(match failure_in(&answer, &e) {
                Some(failure) => BatchResult::Failed(failure, None),
                None => BatchResult::Unreadable(e, latency, usage::of_answer(&answer.body).unwrap_or_default()),
            })
        }
    };
    share.shrink_to(results.iter().flatten().map(W::size).sum());
    let outcome = Outcome::Answered { tokens: usage.all(), pause: answer.pause };
    Ok(BatchResult::Read(results, share, outcome, latency, usage))
}
