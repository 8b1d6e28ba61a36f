//! Embeds many texts: packed into batches, several requests under way at once, one bad text apart from its neighbours.
//!
//! The statement's thread steers; requests are sent and answers decoded on workers.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;

use super::attempt::{failure_in, settle, settle_same_key, settle_unsent, Rejected, Tried, Unanswered};
use super::backends::remote::api_of;
use super::backends::{encoded, must_not_be_zero};
use super::cached::CacheLookup;
use super::call::{Call, Input};
use super::embedding::{check_width, of_text};
use super::rate_limit::{tokens_in, Budget, Learnt, Outcome, Permit, RateLimiter};
use super::requester::{exchange, unpacked, Outside, Request};
use super::transforms::transform_functions;
use super::Engine;
use crate::catalog::model::Backend;
use crate::http::{retry, Failure, Tries};
use crate::providers::table::provider;
use crate::providers::usage::Usage;
use crate::providers::BatchLimits;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt, POLL};
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::role::Role;
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

/// The probe text and its number, which no text of the caller has.
const PROBE: &str = "mysql-ml";
const PROBE_ID: u64 = u64::MAX;

/// The default number of concurrent requests.
const CONCURRENCY: u64 = 8;

/// How long a job waits for memory, its pause between checks, and the wait after which a batch is divided.
const MEMORY_WAIT: Duration = Duration::from_secs(120);
const MEMORY_PAUSE: Duration = Duration::from_millis(50);
const MEMORY_SPLIT: Duration = Duration::from_secs(5);

/// How long a worker holds an answer while memory to read it is missing.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// A text to embed, and the number its vector is returned under.
struct Item {
    id: u64,
    text: Arc<str>,
    /// The cache key of its vector; `None` for the probe.
    lookup: Option<CacheLookup>,
}

/// Texts that are sent together.
struct Batch {
    items: Vec<Item>,
    tries: Tries,
    /// A key that the provider rejected; the batch is sent once more with a new one.
    rejected: Option<Rejected>,
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
    /// Whether it was a failure of the endpoint, which may be a coincidence.
    by_failure: bool,
}

/// An endpoint that fails every request. Only the probe is sent, at intervals, until it is answered.
struct Trouble {
    since: Instant,
    pause: Duration,
    until: Instant,
    tries: u32,
    under_way: bool,
}

impl Batch {
    /// Whether it is the probe.
    fn is_probe(&self) -> bool {
        self.items.iter().all(|item| item.id == PROBE_ID)
    }

    /// Whether it was sent before.
    fn is_again(&self) -> bool {
        self.tries.made() > 0 || self.failed > 0 || self.rejected.is_some()
    }

    /// Its texts.
    fn texts(&self) -> Vec<Arc<str>> {
        self.items.iter().map(|item| Arc::clone(&item.text)).collect()
    }
}

/// A batch returned by a worker.
struct Returned {
    batch: Batch,
    permit: Permit,
    result: BatchResult,
}

enum BatchResult {
    /// A vector or an error for each text, and the reservation of the vectors' memory.
    Vectors(Vec<Result<Vec<u8>>>, Reservation, Outcome, Duration, Usage),
    /// An answer that could not be read.
    Unreadable(Error, Duration),
    Failed(Failure, Option<SecretString>),
    SameKey,
    Unsent(Error),
}

/// The result of a text.
pub struct Done {
    /// Its number.
    pub id: u64,
    /// Its vector's bytes, or its error.
    pub vector: Result<Arc<[u8]>>,
    /// The reservation of the vector's memory; empty for cached vectors.
    pub share: Reservation,
}

/// Texts of one model in progress.
pub struct Pipeline<'e> {
    engine: &'e Engine,
    call: Call,
    limiter: Arc<RateLimiter>,
    share: Share,
    budget: Budget,
    role: Role,
    limits: BatchLimits,
    concurrency: usize,
    /// Time limit of a batch with all waits; `None`: as long as the provider asks.
    patience: Option<Duration>,
    queue: VecDeque<Item>,
    again: VecDeque<Batch>,
    ready: VecDeque<Done>,
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
    /// Whether the first request must be answered before others are sent.
    asks_first: bool,
    /// Time since which memory for the next request is missing.
    short_since: Option<Instant>,
    /// Whether a vector was returned.
    answered: bool,
    /// Single texts refused before the first answer.
    refused: u32,
    /// Bytes of the first vector; all others must match.
    width: Option<usize>,
    /// Time of the last check for hanging threads of local models.
    looked: Instant,
    cancel: CancelToken,
    sender: Sender<Result<Returned>>,
    receiver: Receiver<Result<Returned>>,
}

impl Drop for Pipeline<'_> {
    fn drop(&mut self) {
        // Nobody waits any more: workers and connections are free again within their next slice.
        self.cancel.cancel();
        if self.is_local() {
            self.engine.local.sweep();
        }
    }
}

impl<'e> Pipeline<'e> {
    /// A pipeline for a model. `patience`: time limit of a batch with all waits; `None`: as long as the provider asks.
    pub fn new(
        engine: &'e Engine,
        call: Call,
        role: Role,
        concurrency: Option<u64>,
        batch_size: Option<u64>,
        patience: Option<Duration>,
    ) -> Result<Self> {
        let model = call.model();
        let share = engine.share(model)?;
        let (sender, receiver) = channel();
        let limiter = engine.remote.requester.limiters.of(&model.fingerprint);
        call.meter.paced_by(&limiter);
        let size = batch_size.or(model.options.batch_size).and_then(|n| usize::try_from(n).ok());
        let mut limits = provider(model.api).batch(model);
        limits.texts = size.map_or(limits.texts, |n| n.min(limits.most)).max(1);
        let learnt = limiter.learnt();
        limits.texts = learnt.texts.map_or(limits.texts, |n| n.min(limits.texts)).max(1);
        limits.tokens = learnt.tokens.map_or(limits.tokens, |n| n.min(limits.tokens));
        let concurrency = concurrency.or(model.options.concurrency).unwrap_or(CONCURRENCY).max(1);
        let concurrency = usize::try_from(concurrency).unwrap_or(usize::MAX);
        Ok(Pipeline {
            limiter,
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
            budget: Budget::of(&model.options),
            engine,
            role,
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
            width: None,
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

    /// Adds a text. Cached vectors are not requested.
    pub fn push(&mut self, id: u64, text: Arc<str>, interrupt: &dyn Interrupt) -> Result<()> {
        self.take(id, text, false, interrupt)
    }

    /// Adds a text that was refused before. It is sent alone, so that it cannot fail others.
    pub fn push_alone(&mut self, id: u64, text: Arc<str>, interrupt: &dyn Interrupt) -> Result<()> {
        self.take(id, text, true, interrupt)
    }

    fn take(&mut self, id: u64, text: Arc<str>, alone: bool, interrupt: &dyn Interrupt) -> Result<()> {
        self.call.meter.called();
        if self.call.model().backend() == Backend::Remote && !is_visible(&text) {
            let item = Item { id, text, lookup: None };
            self.fail(&item, Error::invalid(NOTHING_VISIBLE));
            return Ok(());
        }
        let lookup = self.engine.lookup(&self.call, Input::Text(&text), self.role)?;
        match self.engine.embeddings.get_kept(&lookup, &self.call, interrupt)? {
            Some(hit) => self.ready.push_back(Done { id, vector: Ok(hit), share: Reservation::default() }),
            // Where each text is a call of its own there is nothing to keep apart.
            None if alone && !self.one_by_one() => {
                let batch = self.batch(vec![Item { id, text, lookup: Some(lookup) }]);
                self.again.push_back(Batch { known_bad: true, ..batch });
            }
            None => self.queue.push_back(Item { id, text, lookup: Some(lookup) }),
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
    pub fn advance(&mut self, wait: Duration, last: bool, interrupt: &dyn Interrupt) -> Result<Option<Done>> {
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
            return self.embed_one(interrupt);
        }
        while self.under_way < if self.asks_first && !self.answered { 1 } else { self.window } {
            let now = Instant::now();
            let due = |batch: &Batch| batch.not_before.is_none_or(|at| at <= now);
            let first = if let Some(trouble) = &mut self.trouble {
                let probe = self.again.iter().position(Batch::is_probe);
                match probe {
                    Some(i) if self.again.get(i).is_some_and(due) => self.again.remove(i),
                    None if !trouble.under_way && trouble.until <= now => {
                        trouble.under_way = true;
                        Some(self.batch(vec![Item { id: PROBE_ID, text: Arc::from(PROBE), lookup: None }]))
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
            let tokens = batch.items.iter().map(|i| tokens_in(&i.text)).sum();
            match self.limiter.try_now(self.budget, tokens) {
                Ok(permit) if self.is_local() => {
                    self.compute(batch, permit, interrupt)?;
                }
                Ok(permit) if !self.engine.remote.requester.workers.has_room(&self.share) => {
                    // The batch waits here, where KILL is checked, not in the queue of single calls.
                    permit.finish(&Outcome::NotSent);
                    self.again.push_front(batch);
                    return Ok(());
                }
                Ok(permit) => self.spawn(batch, permit, body)?,
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
    fn wait_for_memory(&mut self, mut batch: Batch, error: Error) -> Result<()> {
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

    /// Whether texts are embedded one at a time: by stored functions, or without a request.
    fn one_by_one(&self) -> bool {
        let model = self.call.model();
        let functions = transform_functions(model);
        let here = model.backend() == Backend::Dummy;
        model.header_fn.is_some() || functions.0.is_some() || functions.1.is_some() || here
    }

    fn embed_one(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        let Some(item) = self.queue.pop_front() else { return Ok(()) };
        let result = self.engine.embed(&self.call, Input::Text(&item.text), self.role, None, interrupt);
        match result {
            Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => Err(e),
            Err(e) => {
                // The failing call has counted it.
                self.ready.push_back(Done { id: item.id, vector: Err(e), share: Reservation::default() });
                self.suspect_one(interrupt)
            }
            Ok(bytes) => {
                let share = Reservation::take(bytes.len(), "a vector")?;
                self.finish(&item, bytes, share);
                Ok(())
            }
        }
    }

    /// As [`Self::suspect`], for texts embedded one at a time.
    fn suspect_one(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        if !self.is_suspicious() {
            return Ok(());
        }
        let probe = self.engine.embed(&self.call, Input::Text(PROBE), self.role, None, interrupt);
        self.answered = true;
        match probe {
            Ok(_) => Ok(()),
            Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => Err(e),
            Err(e) => Err(not_the_texts(&e)),
        }
    }

    /// The next batch, with as many texts as fit.
    fn pack(&mut self) -> Option<Batch> {
        let mut items = Vec::with_capacity(self.limits.texts.min(self.queue.len()));
        let mut tokens = 0_u64;
        while items.len() < self.limits.texts {
            let Some(next) = self.queue.front() else { break };
            let estimate = estimate(next);
            if !items.is_empty() && tokens + estimate > self.limits.tokens {
                break;
            }
            tokens += estimate;
            items.extend(self.queue.pop_front());
        }
        (!items.is_empty()).then(|| self.batch(items))
    }

    fn batch(&self, items: Vec<Item>) -> Batch {
        let retries = self.call.max_retries();
        let tries = match self.patience {
            Some(patience) => Tries::new(Instant::now() + patience, retries),
            None => Tries::patient(retries),
        };
        Batch {
            items,
            tries,
            rejected: None,
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
    fn compute(&mut self, batch: Batch, permit: Permit, interrupt: &dyn Interrupt) -> Result<()> {
        self.call.meter.requested(false);
        let (reply, began) = (Reply::new(self.sender.clone()), Instant::now());
        let (resolved, texts) = (Arc::clone(&self.call.resolved), batch.texts());
        let done = move |vectors: Vec<Result<Vec<f32>>>| {
            let encode = |vector: Result<Vec<f32>>| vector.and_then(|v| encoded(&resolved.model, v));
            let vectors = vectors.into_iter().map(encode).collect();
            let outcome = Outcome::Answered { tokens: None, pause: None };
            let result =
                BatchResult::Vectors(vectors, Reservation::default(), outcome, began.elapsed(), Usage::default());
            reply.send(Ok(Returned { batch, permit, result }));
        };
        self.engine.local.embed_batch(&self.call, texts, self.role, &self.cancel, done, interrupt)?;
        self.under_way += 1;
        Ok(())
    }

    fn spawn(&mut self, batch: Batch, permit: Permit, share: Reservation) -> Result<()> {
        let texts: Vec<&str> = batch.items.iter().map(|i| i.text.as_ref()).collect();
        let body = api_of(self.call.model()).embedding_request(self.call.model(), &texts, self.role)?;
        let request = Request::within(share, &self.call, None, body, 0)?;
        self.call.meter.requested(batch.is_again());
        let requester = &self.engine.remote.requester;
        let (outside, cancel, sender) = (Arc::clone(&requester.outside), self.cancel.clone(), self.sender.clone());
        requester.workers.run_to(&self.share, &self.cancel, sender, move || {
            let result = one_try(&outside, &request, &batch, &cancel)?;
            Ok(Returned { batch, permit, result })
        })?;
        self.under_way += 1;
        Ok(())
    }

    /// Processes a returned batch. An error ends the whole call and is counted.
    fn returned(&mut self, returned: Result<Returned>) -> Result<()> {
        let result = self.take_back(returned);
        if let Err(error) = &result
            && !matches!(error.kind(), Kind::Interrupted(_))
        {
            self.call.meter.failed(error);
        }
        result
    }

    fn take_back(&mut self, returned: Result<Returned>) -> Result<()> {
        self.under_way = self.under_way.saturating_sub(1);
        let Returned { mut batch, permit, result } = returned?;
        match result {
            BatchResult::Vectors(vectors, mut share, outcome, latency, usage) => {
                permit.finish(&outcome);
                self.short_since = None;
                self.limited_since = None;
                self.call.meter.answered(latency);
                self.pace(latency);
                self.works_again(&batch)?;
                self.call.meter.used(vectors.len() as u64, usage);
                for (item, vector) in batch.items.iter().zip(vectors) {
                    self.answered = true;
                    match vector {
                        _ if item.id == PROBE_ID => {}
                        Ok(bytes) => {
                            let own = share.split(bytes.len());
                            self.finish(item, bytes, own);
                        }
                        Err(e) => self.fail(item, e),
                    }
                }
            }
            BatchResult::Unreadable(error, latency) => {
                permit.finish(&Outcome::Answered { tokens: None, pause: None });
                self.call.meter.answered(latency);
                if batch.is_probe() && self.trouble.is_some() {
                    return self.still_in_trouble(error.into());
                }
                self.split_or_fail(batch, error, false)?;
            }
            BatchResult::Unsent(error) => return Err(settle_unsent(error, permit, &self.call, batch.is_again())),
            BatchResult::SameKey => return Err(settle_same_key(permit, &self.call, batch.rejected)),
            BatchResult::Failed(failure, key) => {
                let limited = failure.is_rate_limit();
                let before = (batch.tries.made(), batch.is_again());
                let failure = match settle(failure, key, permit, &self.call, before, batch.rejected.as_ref()) {
                    Unanswered::WithNewKey(rejected) => {
                        batch.rejected = Some(rejected);
                        self.again.push_back(batch);
                        return Ok(());
                    }
                    Unanswered::Useless(error) => return Err(error),
                    Unanswered::Failed(failure) => failure,
                };
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
                            self.split_or_fail(batch, error, false)?;
                        }
                    }
                    _ => self.endpoint_failed(batch, failure)?,
                }
            }
        }
        Ok(())
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
    fn works_again(&mut self, batch: &Batch) -> Result<()> {
        self.answered_at = Some(Instant::now());
        if batch.is_probe() && self.trouble.take().is_some() {
            for mut waiting in std::mem::take(&mut self.again) {
                match waiting.suspected.take() {
                    Some(error) => self.split_or_fail(waiting, error, true)?,
                    None => self.again.push_back(waiting),
                }
            }
        }
        let Some(split) = batch.half_of.and_then(|id| self.splits.get_mut(&id)) else { return Ok(()) };
        split.answered += 1;
        if split.answered == 2 {
            // Both halves were answered: the whole was too large. A failure of the endpoint may have been a
            // coincidence.
            let (larger, by_failure) = (split.larger, split.by_failure);
            self.divided_well += u32::from(by_failure);
            if !by_failure || self.divided_well > 2 {
                self.learn_texts(larger);
            }
        }
        Ok(())
    }

    fn learn_texts(&mut self, texts: usize) {
        self.limits.texts = self.limits.texts.min(texts.max(1));
        self.limiter.learn(Learnt { texts: Some(self.limits.texts), tokens: None });
    }

    /// A rate limit: the limiter delays all sessions as long as the provider asks. A job waits longer if the provider
    /// names no time.
    fn outwait_limit(&mut self, mut batch: Batch, failure: Failure) -> Result<()> {
        if self.patience.is_some() {
            return match batch.tries.next(failure) {
                Ok(_) => {
                    self.again.push_back(batch);
                    Ok(())
                }
                Err(error) if batch.is_probe() => Err(error),
                Err(error) => {
                    batch.items.iter().for_each(|item| self.fail(item, error.clone()));
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
    fn endpoint_failed(&mut self, mut batch: Batch, failure: Failure) -> Result<()> {
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
            return self.split_or_fail(batch, failure.into_error(tries), true);
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
            return self.split_or_fail(batch, failure.into_error(tries), true);
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
    fn split_or_fail(&mut self, mut batch: Batch, error: Error, by_failure: bool) -> Result<()> {
        if let Some(id) = batch.half_of {
            self.splits.remove(&id);
        }
        if let [item] = batch.items.as_slice() {
            if item.id == PROBE_ID {
                return Err(not_the_texts(&error));
            }
            let refused = !by_failure;
            self.fail(item, of_text(error, &item.text));
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
        let answered = self.answered || by_failure;
        let rest = batch.items.split_off(if answered { batch.items.len() / 2 } else { 1 });
        let id = self.next_split;
        self.next_split += 1;
        let split = Split { larger: rest.len().max(batch.items.len()), answered: 0, by_failure };
        self.splits.insert(id, split);
        let half = |mut half: Batch| {
            half.half_of = Some(id);
            // The second try belonged to the whole batch.
            half.failed = u32::from(by_failure && half.items.len() > 1);
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
    fn learn_what_is_named(&mut self, batch: &Batch, message: &str) -> bool {
        let tokens: u64 = batch.items.iter().map(estimate).sum();
        match named_limit(message, batch.items.len(), tokens) {
            Some(Named::Texts(texts)) => {
                self.learn_texts(texts);
                true
            }
            Some(Named::Tokens(tokens)) => {
                self.limits.tokens = self.limits.tokens.min(tokens);
                self.limiter.learn(Learnt { texts: None, tokens: Some(self.limits.tokens) });
                true
            }
            None => false,
        }
    }

    /// A single text was refused. After [`SUSPICIOUS`] refusals without an answer, the probe is sent.
    fn suspect(&mut self) {
        if self.is_suspicious() {
            let item = Item { id: PROBE_ID, text: Arc::from(PROBE), lookup: None };
            let probe = self.batch(vec![item]);
            self.again.push_front(probe);
        }
    }

    /// Counts a refused text.
    fn is_suspicious(&mut self) -> bool {
        self.refused = self.refused.saturating_add(1);
        !self.answered && self.refused == SUSPICIOUS
    }

    fn finish(&mut self, item: &Item, bytes: Vec<u8>, share: Reservation) {
        let wanted = self.call.model().options.dimensions;
        if let Err(e) = check_width(&bytes, wanted) {
            return self.fail(item, e);
        }
        let width = *self.width.get_or_insert(bytes.len());
        if bytes.len() != width {
            return self.fail(item, Error::response(format!(
                "the endpoint answered with {} dimensions after {} before; vectors of several widths cannot be compared",
                bytes.len() / 4,
                width / 4
            )));
        }
        self.answered = true;
        let bytes: Arc<[u8]> = bytes.into();
        if let Some(lookup) = &item.lookup {
            self.engine.embeddings.keep_computed(lookup, &bytes);
        }
        self.ready.push_back(Done { id: item.id, vector: Ok(bytes), share });
    }

    fn fail(&mut self, item: &Item, error: Error) {
        self.call.meter.failed(&error);
        self.ready.push_back(Done { id: item.id, vector: Err(error), share: Reservation::default() });
    }
}

/// The error of a call when the probe is refused like all texts.
fn not_the_texts(error: &Error) -> Error {
    Error::new(
        error.kind(),
        format!(
            "{}; every text was refused, including the probe '{PROBE}'; check the model with ml_validate_model",
            error.message()
        ),
    )
}

/// Estimated tokens of a text: a third of its bytes, more than most providers count.
fn estimate(item: &Item) -> u64 {
    item.text.len() as u64 / 3 + 1
}

/// A limit named in a refusal.
#[derive(Debug, PartialEq)]
enum Named {
    /// Of texts in a request.
    Texts(usize),
    /// Of tokens in a request.
    Tokens(u64),
}

/// The limit in a provider's message that a request with these texts and tokens exceeds. Only quoted text is the
/// provider's.
fn named_limit(message: &str, texts: usize, tokens: u64) -> Option<Named> {
    let words = message.split_once('"')?.1.to_lowercase();
    let of_texts = ["batch", "inputs", "texts", "requests", "instances", "items", "documents", "array", "list"];
    let of_all = ["per request", "per batch", "in total", "total tokens", "all inputs", "max_num_batched_tokens"];
    let limiting = ["max", "most", "limit", "than", "up to", "<=", "only", "allowed", "exceed"];
    let mut at = 0;
    for piece in words.split_inclusive(|c: char| !c.is_ascii_digit() && c != ',') {
        let start = at;
        at += piece.len();
        let digits: String = piece.chars().filter(char::is_ascii_digit).collect();
        let Ok(number) = digits.parse::<u64>() else { continue };
        let near = |from: usize, to: usize| {
            words.char_indices().filter(|(i, _)| (from..to).contains(i)).map(|(_, c)| c).collect::<String>()
        };
        let before = near(start.saturating_sub(32), start);
        if !limiting.iter().any(|word| before.contains(word)) {
            continue;
        }
        let after = near(at.saturating_sub(1), at + 24);
        if after.contains("token") || before.contains("token") {
            if number > 0 && number < tokens && of_all.iter().any(|word| words.contains(word)) {
                return Some(Named::Tokens(number));
            }
        } else if !after.contains("char") && !after.contains("byte") && of_texts.iter().any(|word| words.contains(word))
        {
            match usize::try_from(number) {
                Ok(number) if number > 0 && number < texts => return Some(Named::Texts(number)),
                _ => {}
            }
        }
    }
    None
}

/// The error of a text without visible characters.
const NOTHING_VISIBLE: &str =
    "the text has no visible character and is not sent; leave such rows out, or give NULL with NULLIF(text, '')";

/// Whether a text has a visible character. Many providers refuse other texts, and their vectors mean nothing.
fn is_visible(text: &str) -> bool {
    text.chars().any(|c| {
        !c.is_whitespace()
            && !c.is_control()
            && !matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
                | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    })
}

/// The most bytes of a batch's request: every text as JSON, and the text around them.
fn body_of(batch: &Batch) -> usize {
    let byte = |b: u8| match b {
        b'"' | b'\\' => 2,
        0..=31 => 6,
        _ => 1,
    };
    batch.items.iter().map(|item| item.text.bytes().map(byte).sum::<usize>() + 64).sum()
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

/// Sends a batch once and decodes the answer, on a worker.
fn one_try(outside: &Outside, request: &Request, batch: &Batch, cancel: &CancelToken) -> Result<BatchResult> {
    let rejected = batch.rejected.as_ref().map(|rejected| &rejected.key);
    let (answer, latency) = match exchange(outside, request, rejected, cancel)? {
        Tried::Answered(answer, latency) => (answer, latency),
        Tried::Failed(failure, key) => return Ok(BatchResult::Failed(failure.within(request.call.time()), key)),
        Tried::SameKey => return Ok(BatchResult::SameKey),
        Tried::Unsent(error) => return Ok(BatchResult::Unsent(error)),
    };
    let model = request.call.model();
    let mut share = match memory_to_read(&answer.body, cancel) {
        Ok(share) => share,
        Err(e) => return Ok(BatchResult::Failed(e.into(), None)),
    };
    let read = match api_of(model).read_embeddings(model, &answer.body, batch.items.len()) {
        Ok(read) if read.vectors.len() == batch.items.len() => read,
        Ok(_) => {
            return Ok(BatchResult::Unreadable(
                Error::response("the endpoint answered with another number of vectors"),
                latency,
            ))
        }
        Err(e) => {
            return Ok(match failure_in(&answer, &e) {
                Some(failure) => BatchResult::Failed(failure, None),
                None => BatchResult::Unreadable(e, latency),
            })
        }
    };
    let encode = |vector: Vec<f32>| must_not_be_zero(&vector).and_then(|()| encoded(model, vector));
    let vectors: Vec<Result<Vec<u8>>> = read.vectors.into_iter().map(encode).collect();
    let usage = Usage { input: read.tokens, output: None };
    share.shrink_to(vectors.iter().flatten().map(Vec::len).sum());
    Ok(BatchResult::Vectors(
        vectors,
        share,
        Outcome::Answered { tokens: read.tokens, pause: answer.pause },
        latency,
        usage,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_told() {
        for text in ["", "  ", "\n\t", "\u{200b}\u{feff}", "\u{a0}\u{3000}", "\0", "\u{e0041}\u{ad}"] {
            assert!(!is_visible(text), "{text:?}");
        }
        for text in [".", " x ", "\u{200b}é", "日", "\u{1f600}", "-"] {
            assert!(is_visible(text), "{text:?}");
        }
    }

    #[test]
    fn limits_are_found_in_providers_words() {
        let of =
            |words: &str| named_limit(&format!("http://127.0.0.1:8080/x: it answered 413 \"{words}\""), 500, 400_000);
        assert_eq!(of("batch size 500 > maximum allowed batch size 32"), Some(Named::Texts(32)));
        assert_eq!(of("at most 100 requests can be in one batch"), Some(Named::Texts(100)));
        assert_eq!(
            of("Invalid 'input': array too long. Expected an array with maximum length 96"),
            Some(Named::Texts(96))
        );
        assert_eq!(of("Requested 400000 tokens, max 300,000 tokens per request"), Some(Named::Tokens(300_000)));
        assert_eq!(of("This model's maximum context length is 8192 tokens, however you requested 9000 tokens"), None);
        assert_eq!(of("input 3 of the batch is invalid"), None);
        assert_eq!(of("text must have at most 200 characters; inputs"), None);
        assert_eq!(of("bad request"), None);
        assert_eq!(named_limit("no words of the provider's, of at most 3 inputs", 500, 1), None);
    }
}
