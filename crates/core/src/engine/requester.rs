//! Sends requests: rate limits, authorization and retries under one deadline.

use std::sync::mpsc::{channel, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use ureq::http::HeaderName;

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt, Waiting, POLL};
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::shares::Share;
use mysql_ml_base::wait::Wait;
use mysql_ml_base::workers::{Config, Workers};

use super::attempt::{failure_in, settle, settle_same_key, settle_unsent, Rejected, Tried, Unanswered};
use super::call::Call;
use super::health::{Groups, Health};
use super::meter::counted_as;
use super::rate_limit::{Outcome, RateLimiters};
use super::route::{moves_on, Entered, Route, StandIns};
use super::store::Store;
use super::target::Address;
use super::transforms::read_headers;
use crate::catalog::model::{Model, ModelType, ProviderId};
use crate::catalog::settings::Settings;
use crate::credentials::http::Http;
use crate::credentials::keyring::Keyring;
use crate::credentials::Credentials;
use crate::http::tidy::tidy;
use crate::http::{self, dressed, redact, Answer, Client, Failure, Method, Tries};
use crate::json::numbers::memory_to_read;
use crate::providers::chat::Chat;
use crate::registration::endpoint_url::google_hosts;

/// The most concurrent requests. A model gets a quarter of them for one account, half for all accounts; others queue
/// until their deadline.
const MAX_HTTP_THREADS: usize = 1024;

/// The most requests that wait for a thread.
const MAX_WAITING_REQUESTS: usize = 8192;

/// Wait beyond a call's deadline, so that the worker's own error is reported.
const GRACE: Duration = Duration::from_millis(500);

/// A request; the same for all its tries.
pub(super) struct Request {
    /// Its call.
    pub call: Call,
    /// Headers that its header function made.
    pub headers: Vec<(HeaderName, SecretString)>,
    /// The body.
    pub body: Arc<[u8]>,
    /// The reservation of the body's memory.
    _share: Reservation,
    /// The API that is only to count the text's tokens, at its own URL.
    pub counts: Option<Chat>,
}

impl Request {
    /// A request of `call`. `header_json`: the result of the header function.
    pub fn new(call: &Call, header_json: Option<String>, body: Vec<u8>) -> Result<Self> {
        let share = Reservation::take(body.len().saturating_mul(2), "the request")?;
        Self::within(share, call, header_json, body)
    }

    /// The same, with memory reserved by the caller.
    pub fn within(mut share: Reservation, call: &Call, header_json: Option<String>, body: Vec<u8>) -> Result<Self> {
        // One copy, out of the buffer it was written into.
        let body: Arc<[u8]> = body.into();
        share.shrink_to(body.len());
        Ok(Request {
            headers: header_json.as_deref().map(read_headers).transpose()?.unwrap_or_default(),
            body,
            _share: share,
            counts: None,
            call: call.clone(),
        })
    }
}

/// HTTP client and credentials, shared with the workers.
pub(super) struct HttpContext {
    pub client: Client,
    pub credentials: Credentials,
}

impl HttpContext {
    /// Asks services for credentials of one call.
    fn http<'a>(&'a self, settings: &'a Settings, deadline: Instant, cancel: &'a CancelToken) -> Http<'a> {
        Http { client: &self.client, settings, cancel, deadline, hosts: google_hosts() }
    }
}

/// Sends requests on its own worker threads.
pub(super) struct Requester {
    store: Arc<dyn Store>,
    pub context: Arc<HttpContext>,
    pub workers: Workers,
    limiters: RateLimiters,
    groups: Groups,
}

/// What a call sends.
pub(super) struct Sending<'a> {
    /// Where it may go.
    pub route: &'a Route,
    /// The target to begin with, if it is decided.
    pub first: Option<usize>,
    /// Estimated tokens, for budgets.
    pub tokens: u64,
    /// The deadline of all tries.
    pub deadline: Instant,
    /// Makes the request for the call as a target makes it.
    pub make: &'a dyn Fn(&Call) -> Result<Request>,
}

/// One request under way.
struct Flight {
    entered: Entered,
    request: Arc<Request>,
    /// Whether its call was sent before.
    again: bool,
    began: Instant,
}

/// Requests under way are cancelled when their call ends: workers and connections are free again within a slice.
#[derive(Default)]
struct Cancels(Vec<CancelToken>);

impl Drop for Cancels {
    fn drop(&mut self) {
        self.0.iter().for_each(CancelToken::cancel);
    }
}

/// The tries of one call.
#[derive(Default)]
struct Progress {
    requests: Vec<(usize, Arc<Request>)>,
    /// Whether a request was sent.
    sent: bool,
    /// The targets that failed in this round, and their failures.
    tried: Vec<usize>,
    round: Vec<Failure>,
    /// Endpoints whose failures may be the request's.
    doubted: Vec<Arc<Health>>,
}

impl Progress {
    /// The request to a target.
    fn request(&mut self, sending: &Sending<'_>, target: usize) -> Result<Arc<Request>> {
        if let Some((_, request)) = self.requests.iter().find(|(of, _)| *of == target) {
            return Ok(Arc::clone(request));
        }
        let request = Arc::new((sending.make)(sending.route.call(target)?)?);
        self.requests.push((target, Arc::clone(&request)));
        Ok(request)
    }

    fn failed(&mut self, target: usize, failure: Failure) {
        self.tried.push(target);
        self.round.push(failure);
    }

    /// The failure that decides about another round: one after which a try may help, the soonest first.
    fn worst(&mut self) -> Option<Failure> {
        self.tried.clear();
        let mut round = std::mem::take(&mut self.round);
        round.sort_by_key(|failure| (!failure.retryable, failure.wait));
        round.into_iter().next()
    }
}

impl Requester {
    /// A requester with the accounts of `store` and the process's keyring.
    pub fn new(store: Arc<dyn Store>, keyring: Box<dyn Keyring>) -> Self {
        Requester {
            store,
            context: Arc::new(HttpContext { client: Client::default(), credentials: Credentials::new(keyring) }),
            workers: Workers::new(Config {
                name: "mysql_ml-http",
                max_threads: MAX_HTTP_THREADS,
                max_waiting: MAX_WAITING_REQUESTS,
                idle: Duration::from_secs(10),
                stack: 2 << 20,
                wait: None,
                on_start: || Ok(()),
                on_stop: || {},
            }),
            limiters: RateLimiters::default(),
            groups: Groups::default(),
        }
    }

    /// The registry.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// The share of the current user's work with a model, remote or local. One account's slow model then delays neither
    /// its other models nor other accounts.
    pub fn share(&self, model: &Model) -> Result<Share> {
        let account = self.store.caller()?.to_string().into();
        Ok(Share { account: Some(account), source: Some(format!("model '{}'", counted_as(model)).into()) })
    }

    /// Where a call's requests may go.
    pub fn route(&self, call: &Call, stand_ins: StandIns) -> Route {
        Route::of(call, stand_ins, &self.limiters, &self.groups)
    }

    /// Sends a request until an endpoint answers. `read` also returns the tokens used. An unreadable answer that contains
    /// an error counts as a failure with that error's status.
    pub fn send<T>(
        &self,
        sending: &Sending<'_>,
        interrupt: &dyn Interrupt,
        read: impl Fn(&Call, &mut Answer) -> Result<(T, Option<u64>)>,
    ) -> Result<T> {
        let Sending { route, deadline, .. } = *sending;
        let mut tries = Tries::new(deadline, route.call(0)?.max_retries());
        let mut progress = Progress::default();
        let mut rejected: Option<Rejected> = None;
        let mut only = sending.first;
        loop {
            let entered = match route.enter(sending.tokens, &progress.tried, only, deadline, interrupt) {
                Ok(entered) => entered,
                Err(error) if matches!(error.kind(), Kind::Interrupted(_)) => return Err(error),
                Err(error) => {
                    let failure = progress.worst();
                    return Err(route.exhausted(failure.map_or(error, |f| f.into_error(tries.made() + 1))));
                }
            };
            if !progress.sent {
                route.sent();
            }
            let now = Instant::now();
            let until = route.try_until(progress.tried.len(), deadline, now);
            let key = rejected.as_ref().map(|r| r.key.clone());
            let (flight, tried) = self.fly(sending, &mut progress, entered, key, until, interrupt)?;
            let Flight { entered, request, again, .. } = flight;
            let (target, call) = (entered.target, &request.call);
            route.ends_with(target);
            let (failure, key) = match tried {
                Tried::Answered(mut answer, latency) => {
                    call.meter.answered(latency);
                    let result = read(call, &mut answer);
                    match result.as_ref().err().and_then(|e| failure_in(&answer, e)) {
                        Some(failure) => (failure, None),
                        None => {
                            let tokens = result.as_ref().ok().and_then(|(_, tokens)| *tokens);
                            entered.answered(latency, &Outcome::Answered { tokens, pause: answer.pause });
                            // Another endpoint answered what they failed over.
                            progress.doubted.iter().for_each(|health| health.failed(Instant::now(), false));
                            return result.map(|(value, _)| value);
                        }
                    }
                }
                Tried::Failed(mut failure, key) => {
                    failure.retryable |= failure.kind() == Kind::Timeout && until < deadline;
                    // A call's own limit is told as it was set.
                    let time = if until < deadline { until.saturating_duration_since(now) } else { call.time() };
                    (failure.within(time), key)
                }
                Tried::Unsent(error) => {
                    let failure = settle_unsent(error, entered, call, again);
                    if route.is_single() || !moves_on(&failure) {
                        return Err(route.exhausted(failure.into_error(1)));
                    }
                    (only, rejected) = (None, None);
                    progress.failed(target, failure);
                    next_round(route, &mut progress, &mut tries, interrupt)?;
                    continue;
                }
                Tried::SameKey => {
                    let failure = settle_same_key(entered, call, rejected.take());
                    only = None;
                    progress.failed(target, failure);
                    next_round(route, &mut progress, &mut tries, interrupt)?;
                    continue;
                }
            };
            match settle(failure, key, entered, call, again, rejected.as_ref()) {
                Unanswered::WithNewKey(key) => (only, rejected) = (Some(target), Some(key)),
                Unanswered::Failed(failure, doubted) => {
                    (only, rejected) = (None, if route.is_single() { rejected } else { None });
                    progress.doubted.extend(doubted);
                    if moves_on(&failure) {
                        progress.failed(target, failure);
                        next_round(route, &mut progress, &mut tries, interrupt)?;
                    } else {
                        // Other endpoints would refuse it too.
                        progress.worst();
                        sleep(tries.next(failure)?, interrupt)?;
                    }
                }
            }
        }
    }

    /// One try, and a second one beside it if the first has no answer for long: the first answer is taken. Returns that, or
    /// the last failure; `progress` has the others.
    fn fly(
        &self,
        sending: &Sending<'_>,
        progress: &mut Progress,
        entered: Entered,
        rejected: Option<SecretString>,
        until: Instant,
        interrupt: &dyn Interrupt,
    ) -> Result<(Flight, Tried)> {
        let (sender, receiver) = channel();
        let mut cancels = Cancels::default();
        let mut begin = |progress: &mut Progress, entered: Entered| -> Result<Flight> {
            let target = entered.target;
            let request = match progress.request(sending, target) {
                Ok(request) => request,
                Err(error) => {
                    entered.not_sent();
                    return Err(error);
                }
            };
            let (cancel, context, own) = (CancelToken::default(), Arc::clone(&self.context), Arc::clone(&request));
            cancels.0.push(cancel.clone());
            let key = rejected.clone();
            let share = self.share(request.call.model())?;
            let again = progress.sent;
            request.call.meter.requested(again);
            progress.sent = true;
            self.workers.run_to(&share, &cancel.clone(), sender.clone(), move || {
                Ok((target, exchange(&context, &own, key.as_ref(), until, &cancel)))
            })?;
            Ok(Flight { entered, request, again, began: Instant::now() })
        };
        let first = entered.target;
        let mut flights = vec![begin(progress, entered)?];
        let mut hedge_at = sending.route.hedge_after(first).map(|after| Instant::now() + after);
        loop {
            let now = Instant::now();
            let slice = hedge_at.map_or(POLL, |at| at.saturating_duration_since(now).min(POLL));
            match receiver.recv_timeout(slice) {
                Ok(done) => {
                    let (target, tried) = done?;
                    let tried = tried?;
                    let Some(i) = flights.iter().position(|flight| flight.entered.target == target) else { continue };
                    let flight = flights.swap_remove(i);
                    if flights.is_empty() || matches!(tried, Tried::Answered(..)) {
                        for other in flights {
                            other.entered.overtaken(other.began.elapsed());
                        }
                        return Ok((flight, tried));
                    }
                    Self::note(progress, flight, tried);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Error::internal("no worker answers")),
                Err(RecvTimeoutError::Timeout) => {
                    interrupt.check()?;
                    if now >= until + GRACE
                        && let Some(flight) = flights.pop()
                    {
                        for other in flights {
                            Self::note(progress, other, late());
                        }
                        return Ok((flight, late()));
                    }
                    if hedge_at.is_some_and(|at| at <= now) {
                        hedge_at = None;
                        let mut tried = progress.tried.clone();
                        tried.push(first);
                        // Without it the first request goes on all the same.
                        if let Some(hedge) = sending.route.hedge(sending.tokens, &tried)
                            && let Ok(flight) = begin(progress, hedge)
                        {
                            flights.push(flight);
                        }
                    }
                }
            }
        }
    }

    /// Notes a failure while another request of the call is under way.
    fn note(progress: &mut Progress, flight: Flight, tried: Tried) {
        let Flight { entered, request, again, .. } = flight;
        let (target, call) = (entered.target, &request.call);
        let failure = match tried {
            Tried::Failed(failure, key) => match settle(failure, key, entered, call, again, None) {
                Unanswered::Failed(failure, doubted) => {
                    progress.doubted.extend(doubted);
                    failure
                }
                Unanswered::WithNewKey(rejected) => rejected.failure,
            },
            Tried::Unsent(error) => settle_unsent(error, entered, call, again),
            Tried::SameKey | Tried::Answered(..) => return,
        };
        progress.failed(target, failure);
    }

    /// Runs `work` on a worker with credentials and HTTP client.
    pub(super) fn with_credentials<T: Send + 'static>(
        &self,
        settings: &Arc<Settings>,
        interrupt: &dyn Interrupt,
        work: impl FnOnce(&Credentials, &Http<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = Instant::now() + settings.timeout;
        let share = Share { account: Some(self.store.caller()?.to_string().into()), source: None };
        let settings = Arc::clone(settings);
        self.on_worker(&share, deadline, interrupt, move |context, cancel| {
            work(&context.credentials, &context.http(&settings, deadline, cancel))
        })
    }

    /// Runs `work` on a worker and waits for it, a moment beyond `deadline`.
    fn on_worker<T: Send + 'static>(
        &self,
        share: &Share,
        deadline: Instant,
        interrupt: &dyn Interrupt,
        work: impl FnOnce(&HttpContext, &CancelToken) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let cancel = CancelToken::default();
        let (context, token) = (Arc::clone(&self.context), cancel.clone());
        let result =
            self.workers.run(share, &cancel, move || work(&context, &token))?.wait(interrupt, deadline + GRACE);
        if result.is_err() {
            // The worker and the connection are free again within the next slice.
            cancel.cancel();
        }
        result
    }
}

/// An error if an answer consists of an error only; it then counts as that failure.
pub(super) fn must_not_be_an_error(answer: &Answer, model: &Model) -> Result<()> {
    let known = model.api != ProviderId::Custom && matches!(model.model_type, ModelType::Llm | ModelType::Reranking);
    if dressed::is_error_alone(&answer.body, known) {
        return Err(Error::response("the endpoint answered with an error"));
    }
    Ok(())
}

/// After a failure: goes on at once while there are targets that were not tried, else after a wait, if another round is
/// allowed.
fn next_round(route: &Route, progress: &mut Progress, tries: &mut Tries, interrupt: &dyn Interrupt) -> Result<()> {
    if progress.tried.len() < route.len() {
        return Ok(());
    }
    let failure = progress.worst().ok_or_else(|| Error::internal("a round without a failure"))?;
    let limited = failure.is_rate_limit();
    let wait = tries.next(failure).map_err(|error| route.exhausted(error))?;
    // The limiter delays all sessions after a rate limit; other failures delay this call only.
    if limited {
        return Ok(());
    }
    sleep(wait, interrupt)
}

/// Sleeps on the statement's thread; KILL ends it.
fn sleep(time: Duration, interrupt: &dyn Interrupt) -> Result<()> {
    let end = Instant::now() + time;
    let _waiting = Waiting::begin(interrupt, Wait::Retry);
    loop {
        interrupt.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(POLL));
    }
}

/// Reserves the most memory that reading an answer needs.
pub(super) fn unpacked(body: &[u8]) -> Result<Reservation> {
    Reservation::take(memory_to_read(body), "reading the endpoint's answer")
}

/// A try whose worker did not answer in time.
fn late() -> Tried {
    Tried::Failed(Error::new(Kind::Timeout, "the time for this call is up").into(), None)
}

/// One try until a time, on a worker: resolves the address, sends, reads the answer's bytes.
pub(super) fn exchange(
    context: &HttpContext,
    request: &Request,
    rejected: Option<&SecretString>,
    until: Instant,
    cancel: &CancelToken,
) -> Result<Tried> {
    mysql_ml_base::panics::injected_panic("request");
    let (settings, model) = (&request.call.settings, request.call.model());
    let http = context.http(settings, until, cancel);
    let Address { url, headers, key } = match Address::of(&context.credentials, request, rejected, &http) {
        Ok(target) => target,
        Err(error) => return Ok(Tried::Unsent(error)),
    };
    if let (Some(rejected), Some(key)) = (rejected, &key)
        && rejected.expose_secret() == key.expose_secret()
    {
        return Ok(Tried::SameKey);
    }
    let body = Method::Json(Arc::clone(&request.body));
    let mut call = http::Call::new(body, url, until, &settings.network);
    call.headers = headers;
    call.ca_file = model.options.ca_file.clone().unwrap_or_default();
    call.proxy = model.options.proxy.clone().unwrap_or_default();
    call.private.extend(key.clone());
    call.private.extend(rejected.cloned());
    let known = [model.model_id.as_str(), model.qualified_name.as_deref().unwrap_or_default()];
    call.private.extend(redact::secrets_of_function(&request.headers, &known));
    let started = Instant::now();
    Ok(match context.client.try_once(&call, &settings.network, cancel) {
        Ok(mut answer) => {
            answer.body = tidy(std::mem::take(&mut answer.body));
            Tried::Answered(answer, started.elapsed())
        }
        Err(failure) => Tried::Failed(failure, key),
    })
}
