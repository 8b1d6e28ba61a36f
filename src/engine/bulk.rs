//! Embeds many texts: packed into batches, several requests under way at once, one bad text apart from its neighbours.
//!
//! The statement's thread steers; requests are sent and answers decoded on workers.

use std::collections::VecDeque;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;

use super::pacing::{Budget, Gate, Outcome, Permit};
use super::send::{exchange, failure_in, must_not_be_zero, without_secret, Request, Tried};
use super::status::Activity;
use super::{tokens_in, Engine};
use crate::error::{Error, Kind, Result};
use crate::http::{Failure, Tries};
use crate::models::model::ProviderId;
use crate::models::settings::Settings;
use crate::models::store::ResolvedModel;
use crate::providers::usage::Usage;
use crate::providers::{provider, BatchLimits, Role};
use crate::threads::interrupt::{CancelToken, Interrupt, POLL};
use crate::threads::shares::Share;
use crate::threads::workers::Owed;
use crate::vector;

/// Batches that failed one after another for reasons that are not the texts', after which the rest is not tried.
const HOPELESS: u32 = 5;

/// Texts that were refused one by one while none was answered, after which a short text of our own is sent: where that
/// is refused too, it is not the texts.
const SUSPICIOUS: u32 = 10;

/// That text, and its number, which no text of the caller has.
const TRIAL: &str = "mysql-ml";
const TRIAL_ID: u64 = u64::MAX;

/// How many requests are under way at once, and how large they are, where the model's options say nothing.
const CONCURRENCY: u64 = 8;

/// A text to be embedded, with the number its vector is told under.
#[derive(Debug, Clone)]
struct Item {
    id: u64,
    text: Arc<str>,
    /// How often the cache had been cleared when it was looked for there.
    epoch: u64,
}

/// Texts that are sent together.
pub(super) struct Batch {
    items: Vec<Item>,
    tries: Tries,
    /// A key that the provider rejected; the batch is sent once more with another one.
    rejected: Option<SecretString>,
    not_before: Option<Instant>,
}

impl Batch {
    /// Whether it was sent before.
    fn is_again(&self) -> bool {
        self.tries.made() > 0 || self.rejected.is_some()
    }

    /// Its texts.
    #[cfg(feature = "local")]
    pub(super) fn texts(&self) -> Vec<Arc<str>> {
        self.items.iter().map(|item| Arc::clone(&item.text)).collect()
    }
}

/// A batch that came back from a worker.
struct Returned {
    batch: Batch,
    permit: Permit,
    came: Came,
}

enum Came {
    /// A vector or an error for each text.
    Vectors(Vec<Result<Vec<u8>>>, Outcome, Duration, Usage),
    /// An answer that is not that of so many texts.
    Unreadable(Error, Duration),
    Failed(Failure, Option<SecretString>),
    SameKey,
    Unsent(Error),
}

/// What came of a text.
pub struct Done {
    /// Its number.
    pub id: u64,
    /// Its vector, or why there is none.
    pub vector: Result<Arc<[u8]>>,
}

/// Many texts of one model on their way.
pub struct Bulk<'e> {
    engine: &'e Engine,
    resolved: Arc<ResolvedModel>,
    settings: Arc<Settings>,
    activity: Arc<Activity>,
    gate: Arc<Gate>,
    share: Share,
    budget: Budget,
    role: Role,
    limits: BatchLimits,
    concurrency: usize,
    /// For how long a batch may be tried and made to wait; `None`: as long as the provider asks for.
    patience: Option<Duration>,
    queue: VecDeque<Item>,
    again: VecDeque<Batch>,
    ready: VecDeque<Done>,
    under_way: usize,
    failed_in_a_row: u32,
    /// Whether a vector came back.
    answered: bool,
    /// Single texts that were refused before one was answered.
    refused: u32,
    /// The bytes of the first vector, which all others must have.
    width: Option<usize>,
    /// When threads of local models were looked after.
    looked: Instant,
    cancel: CancelToken,
    sender: Sender<Result<Returned>>,
    receiver: Receiver<Result<Returned>>,
}

impl Drop for Bulk<'_> {
    fn drop(&mut self) {
        // Whoever stopped waiting: the workers and connections are free again within their next slice.
        self.cancel.cancel();
        if super::local::is_here(&self.resolved.model) {
            self.engine.sweep_local();
        }
    }
}

impl<'e> Bulk<'e> {
    /// For texts of `resolved`. A batch may be tried and made to wait for `patience`; without, for as long as the
    /// provider asks.
    pub fn new(
        engine: &'e Engine,
        resolved: Arc<ResolvedModel>,
        settings: Arc<Settings>,
        role: Role,
        concurrency: Option<u64>,
        batch_size: Option<u64>,
        patience: Option<Duration>,
    ) -> Result<Self> {
        let model = &resolved.model;
        let share = engine.share(model)?;
        let activity = engine.status.of(super::counted_as(model));
        let (sender, receiver) = channel();
        activity.paced_by(&engine.gates.of(&model.fingerprint));
        let size = batch_size.or(model.options.batch_size).and_then(|n| usize::try_from(n).ok());
        let mut limits = provider(model.speaks).batch(model);
        limits.texts = size.map_or(limits.texts, |n| n.min(limits.most)).max(1);
        let concurrency = concurrency.or(model.options.concurrency).unwrap_or(CONCURRENCY).max(1);
        Ok(Bulk {
            gate: engine.gates.of(&model.fingerprint),
            share,
            budget: Budget::of(&model.options),
            engine,
            activity,
            role,
            limits,
            concurrency: usize::try_from(concurrency).unwrap_or(usize::MAX),
            patience,
            queue: VecDeque::new(),
            again: VecDeque::new(),
            ready: VecDeque::new(),
            under_way: 0,
            failed_in_a_row: 0,
            answered: false,
            refused: 0,
            width: None,
            looked: Instant::now(),
            cancel: CancelToken::default(),
            sender,
            receiver,
            resolved,
            settings,
        })
    }

    /// How many texts a request takes.
    pub fn batch_size(&self) -> usize {
        self.limits.texts
    }

    /// How many requests may be under way at once.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Takes a text. What is in the cache is not sent.
    pub fn push(&mut self, id: u64, text: Arc<str>, interrupt: &dyn Interrupt) -> Result<()> {
        self.activity.called();
        let (resolved, settings) = (&self.resolved, &self.settings);
        let (found, epoch) = self.engine.cached_one(resolved, &text, self.role, settings, &self.activity, interrupt)?;
        match found {
            Some(hit) => self.ready.push_back(Done { id, vector: Ok(hit) }),
            None => self.queue.push_back(Item { id, text, epoch }),
        }
        Ok(())
    }

    /// How many texts were pushed and are neither sent nor done.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is left to wait for.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.again.is_empty() && self.ready.is_empty() && self.under_way == 0
    }

    /// Sends what may be sent and returns what is done, after at most `wait` where nothing is. An error concerns all
    /// texts: the statement was stopped, or the endpoint is of no use.
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
            // Whatever else came in the meantime.
            while let Ok(returned) = self.receiver.try_recv() {
                self.returned(returned)?;
            }
        }
    }

    /// A batch for a model inside the server has no deadline of its own: one whose thread hangs is told here.
    fn look_after_local(&mut self) {
        if super::local::is_here(&self.resolved.model) && self.looked.elapsed() > Duration::from_secs(1) {
            self.looked = Instant::now();
            self.engine.sweep_local();
        }
    }

    /// Sends batches while there is room. A batch that is not full waits for more texts unless these are the `last`.
    fn dispatch(&mut self, last: bool, interrupt: &dyn Interrupt) -> Result<()> {
        if self.one_by_one() {
            return self.embed_one(interrupt);
        }
        while self.under_way < self.concurrency {
            let now = Instant::now();
            let due = self.again.iter().position(|b| b.not_before.is_none_or(|at| at <= now));
            let batch = match due.and_then(|i| self.again.remove(i)) {
                Some(batch) => batch,
                None if last || self.queue.len() >= self.limits.texts => match self.pack() {
                    Some(batch) => batch,
                    None => return Ok(()),
                },
                None => return Ok(()),
            };
            let tokens = batch.items.iter().map(|i| tokens_in(&i.text)).sum();
            match self.gate.try_now(self.budget, tokens) {
                Ok(permit) if super::local::is_here(&self.resolved.model) => {
                    self.compute(batch, permit, interrupt)?;
                }
                Ok(permit) if !self.engine.workers.has_room(&self.share) => {
                    // It waits here, where KILL is heard, and not in the queue of single calls.
                    permit.finish(&Outcome::NotSent);
                    self.again.push_front(batch);
                    return Ok(());
                }
                Ok(permit) => self.spawn(batch, permit)?,
                Err(until) => {
                    if let (Some(until), Some(patience)) = (&until, self.patience) {
                        if until.0 >= now + patience {
                            return Err(until.1.clone());
                        }
                    }
                    self.again.push_front(batch);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether the model's requests are made by stored functions, each for one text, or by no request at all.
    fn one_by_one(&self) -> bool {
        let model = &self.resolved.model;
        let functions = super::transform_functions(model);
        let here = model.speaks == ProviderId::Dummy && model.input.is_none();
        model.header_fn.is_some() || functions.0.is_some() || functions.1.is_some() || here
    }

    fn embed_one(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        let Some(item) = self.queue.pop_front() else { return Ok(()) };
        let result =
            self.engine.embed(&self.resolved, &item.text, self.role, &self.settings, &self.activity, None, interrupt);
        match result {
            Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => Err(e),
            Err(e) => {
                // Counted by whoever failed.
                self.ready.push_back(Done { id: item.id, vector: Err(e) });
                self.suspect_one(interrupt)
            }
            Ok(bytes) => {
                self.finish(&item, bytes);
                Ok(())
            }
        }
    }

    /// As [`Self::suspect`], where each text is a call of its own.
    fn suspect_one(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        if !self.is_suspicious() {
            return Ok(());
        }
        let (resolved, settings) = (&self.resolved, &self.settings);
        let trial = self.engine.embed(resolved, TRIAL, self.role, settings, &self.activity, None, interrupt);
        self.answered = true;
        match trial {
            Ok(_) => Ok(()),
            Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => Err(e),
            Err(e) => Err(not_the_texts(&e)),
        }
    }

    /// The next batch: as many texts as fit.
    fn pack(&mut self) -> Option<Batch> {
        let mut items = Vec::with_capacity(self.limits.texts.min(self.queue.len()));
        let mut tokens = 0_u64;
        while items.len() < self.limits.texts {
            let Some(next) = self.queue.front() else { break };
            // Providers count in their own way; a third of the bytes is more than most find.
            let estimate = next.text.len() as u64 / 3 + 1;
            if !items.is_empty() && tokens + estimate > self.limits.tokens {
                break;
            }
            tokens += estimate;
            items.extend(self.queue.pop_front());
        }
        (!items.is_empty()).then(|| self.batch(items))
    }

    fn batch(&self, items: Vec<Item>) -> Batch {
        let retries = self.resolved.model.options.max_retries.unwrap_or(self.settings.max_retries);
        let tries = match self.patience {
            Some(patience) => Tries::new(Instant::now() + patience, retries),
            None => Tries::patient(retries),
        };
        Batch { items, tries, rejected: None, not_before: None }
    }

    /// Hands a batch to a model inside the server.
    fn compute(&mut self, batch: Batch, permit: Permit, interrupt: &dyn Interrupt) -> Result<()> {
        self.activity.requested(false);
        let (owed, began) = (Owed::new(self.sender.clone()), Instant::now());
        let normalize = self.resolved.model.options.normalize == Some(true);
        let done = move |batch: Batch, vectors: Vec<Result<Vec<f32>>>| {
            let bytes = |vector: Result<Vec<f32>>| {
                let mut vector = vector?;
                if normalize {
                    vector::normalize(&mut vector);
                }
                vector::to_bytes(&vector)
            };
            let vectors = vectors.into_iter().map(bytes).collect();
            let outcome = Outcome::Answered { tokens: None, pause: None };
            let came = Came::Vectors(vectors, outcome, began.elapsed(), Usage::default());
            owed.tell(Ok(Returned { batch, permit, came }));
        };
        let (resolved, settings) = (&self.resolved, &self.settings);
        self.engine.embed_batch_locally(resolved, batch, self.role, settings, &self.cancel, done, interrupt)?;
        self.under_way += 1;
        Ok(())
    }

    fn spawn(&mut self, batch: Batch, permit: Permit) -> Result<()> {
        let model = &self.resolved.model;
        let api: &'static dyn crate::providers::Provider =
            if model.input.is_some() { &crate::providers::custom::Custom } else { provider(model.speaks) };
        let texts: Vec<&str> = batch.items.iter().map(|i| i.text.as_ref()).collect();
        let body = api.embedding_request(model, &texts, self.role)?;
        let request = self.engine.request(&self.resolved, None, body, 0, &self.settings)?;
        self.activity.requested(batch.is_again());
        let (outside, cancel) = (Arc::clone(&self.engine.outside), self.cancel.clone());
        let (sender, resolved) = (self.sender.clone(), Arc::clone(&self.resolved));
        self.engine.workers.run_to(&self.share, &self.cancel, sender, move || {
            let came = one_try(&outside, &request, &batch, &resolved, api, &cancel)?;
            Ok(Returned { batch, permit, came })
        })?;
        self.under_way += 1;
        Ok(())
    }

    /// Takes back what a worker did. An error, which ends the whole, is counted as one.
    fn returned(&mut self, returned: Result<Returned>) -> Result<()> {
        let result = self.take_back(returned);
        if let Err(error) = &result {
            if !matches!(error.kind(), Kind::Interrupted(_)) {
                self.activity.failed(error);
            }
        }
        result
    }

    fn take_back(&mut self, returned: Result<Returned>) -> Result<()> {
        self.under_way = self.under_way.saturating_sub(1);
        let Returned { mut batch, permit, came } = returned?;
        match came {
            Came::Vectors(vectors, outcome, latency, usage) => {
                permit.finish(&outcome);
                self.failed_in_a_row = 0;
                self.activity.answered(latency);
                self.activity.used(vectors.len() as u64, usage);
                for (item, vector) in batch.items.iter().zip(vectors) {
                    self.answered = true;
                    match vector {
                        _ if item.id == TRIAL_ID => {}
                        Ok(bytes) => self.finish(item, bytes),
                        Err(e) => self.fail(item, e),
                    }
                }
            }
            Came::Unreadable(error, latency) => {
                permit.finish(&Outcome::Answered { tokens: None, pause: None });
                self.activity.answered(latency);
                self.split_or_fail(batch, error)?;
            }
            Came::Unsent(error) => {
                permit.finish(&Outcome::NotSent);
                self.activity.not_sent(batch.is_again());
                return Err(error);
            }
            Came::SameKey => {
                permit.finish(&Outcome::NotSent);
                self.activity.not_sent(true);
                return Err(Error::new(
                    Kind::Provider(401),
                    "the provider rejects the model's key; check the model's credentials and their rights",
                ));
            }
            Came::Failed(failure, key) => {
                let limited = failure.is_rate_limit();
                if failure.is_unsent() {
                    self.activity.not_sent(batch.is_again());
                }
                permit.finish(&Outcome::of_failure(&failure));
                match (failure.kind(), key) {
                    (Kind::Interrupted(_), _) => return Err(failure.into_error(1)),
                    (Kind::Provider(401), Some(key)) if batch.rejected.is_none() => {
                        batch.rejected = Some(key);
                        self.again.push_back(batch);
                    }
                    // Nothing about single texts.
                    (Kind::Provider(401 | 403 | 404 | 405) | Kind::Denied | Kind::NotFound, key) => {
                        let error = failure.into_error(batch.tries.made() + 1);
                        return Err(without_secret(error, &self.resolved, key.as_ref()));
                    }
                    (Kind::Provider(429), _) if !limited => return Err(failure.into_error(batch.tries.made() + 1)),
                    (Kind::Provider(400 | 413 | 422 | 424), _) | (Kind::TooLarge, _) => {
                        let error = failure.into_error(batch.tries.made() + 1);
                        self.split_or_fail(batch, error)?;
                    }
                    _ => match batch.tries.next(failure) {
                        Ok(wait) => {
                            batch.not_before = (!limited).then(|| Instant::now() + wait);
                            self.again.push_back(batch);
                        }
                        Err(error) => {
                            self.failed_in_a_row += 1;
                            if self.failed_in_a_row >= HOPELESS {
                                return Err(error);
                            }
                            if batch.items.iter().any(|item| item.id == TRIAL_ID) {
                                return Err(error);
                            }
                            for item in &batch.items {
                                self.fail(item, error.clone());
                            }
                        }
                    },
                }
            }
        }
        Ok(())
    }

    /// A batch that is refused may be too large, or one of its texts bad: its halves are sent, down to the one text. As
    /// long as nothing was answered the model may be at fault: one text is sent apart from the others, to know soon.
    fn split_or_fail(&mut self, mut batch: Batch, error: Error) -> Result<()> {
        if let [item] = batch.items.as_slice() {
            if item.id == TRIAL_ID {
                return Err(not_the_texts(&error));
            }
            self.fail(item, super::of_text(error, &item.text));
            self.suspect();
            return Ok(());
        }
        if matches!(error.kind(), Kind::Provider(413) | Kind::TooLarge) {
            // The next ones need not learn it again.
            self.limits.texts = self.limits.texts.min(batch.items.len().div_ceil(2));
        }
        let rest = batch.items.split_off(if self.answered { batch.items.len() / 2 } else { 1 });
        let (first, rest) = (self.batch(batch.items), self.batch(rest));
        if self.answered {
            self.again.push_back(first);
        } else {
            self.again.push_front(first);
        }
        self.again.push_back(rest);
        Ok(())
    }

    /// A single text was refused: where too many were and none was answered, a trial shows whether any is.
    fn suspect(&mut self) {
        if self.is_suspicious() {
            let item = Item { id: TRIAL_ID, text: Arc::from(TRIAL), epoch: 0 };
            let trial = self.batch(vec![item]);
            self.again.push_front(trial);
        }
    }

    /// Counts a refused text.
    fn is_suspicious(&mut self) -> bool {
        self.refused = self.refused.saturating_add(1);
        !self.answered && self.refused == SUSPICIOUS
    }

    fn finish(&mut self, item: &Item, bytes: Vec<u8>) {
        let wanted = self.resolved.model.options.dimensions;
        if let Err(e) = super::check_width(&bytes, wanted) {
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
        self.engine.keep_one(&self.resolved, &item.text, self.role, &self.settings, item.epoch, &bytes);
        self.ready.push_back(Done { id: item.id, vector: Ok(bytes) });
    }

    fn fail(&mut self, item: &Item, error: Error) {
        self.activity.failed(&error);
        self.ready.push_back(Done { id: item.id, vector: Err(error) });
    }
}

/// The error of a call whose texts are all refused, whatever they are.
fn not_the_texts(error: &Error) -> Error {
    Error::new(
        error.kind(),
        format!(
            "{}; every text was refused, a trial with '{TRIAL}' too, so that it is not the texts: correct the model (ml_validate_model tells)",
            error.message()
        ),
    )
}

/// Sends a batch once and decodes the answer, on a worker.
fn one_try(
    outside: &super::send::Outside,
    request: &Request,
    batch: &Batch,
    resolved: &ResolvedModel,
    api: &dyn crate::providers::Provider,
    cancel: &CancelToken,
) -> Result<Came> {
    let (answer, latency) = match exchange(outside, request, batch.rejected.as_ref(), cancel)? {
        Tried::Answered(answer, latency) => (answer, latency),
        Tried::Failed(failure, key) => return Ok(Came::Failed(failure.within(request.timeout), key)),
        Tried::SameKey => return Ok(Came::SameKey),
        Tried::Unsent(error) => return Ok(Came::Unsent(error)),
    };
    let read = match api.read_embeddings(&resolved.model, &answer.body, batch.items.len()) {
        Ok(read) if read.vectors.len() == batch.items.len() => read,
        Ok(_) => {
            return Ok(Came::Unreadable(
                Error::response("the endpoint answered with another number of vectors"),
                latency,
            ))
        }
        Err(e) => {
            return Ok(match failure_in(&answer, &e) {
                Some(failure) => Came::Failed(failure, None),
                None => Came::Unreadable(e, latency),
            })
        }
    };
    let normalize = resolved.model.options.normalize == Some(true);
    let vectors = read
        .vectors
        .into_iter()
        .map(|mut v| {
            must_not_be_zero(&v)?;
            if normalize {
                vector::normalize(&mut v);
            }
            vector::to_bytes(&v)
        })
        .collect();
    let usage = Usage { input: read.tokens, output: None };
    Ok(Came::Vectors(vectors, Outcome::Answered { tokens: read.tokens, pause: answer.pause }, latency, usage))
}
