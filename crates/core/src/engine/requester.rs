//! Sends requests: rate limits, authorization and retries under one deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use ureq::http::HeaderName;

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt, Waiting, POLL};
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::shares::Share;
use mysql_ml_base::wait::Wait;
use mysql_ml_base::workers::{Config, Workers};

use super::attempt::{failure_in, settle, settle_same_key, settle_unsent, Rejected, Tried, Unanswered};
use super::call::Call;
use super::meter::counted_as;
use super::rate_limit::{Outcome, RateLimiters};
use super::store::Store;
use super::target::{Address, Target};
use super::transforms::read_headers;
use crate::catalog::model::{Model, ModelType, ProviderId};
use crate::catalog::settings::Settings;
use crate::credentials::http::Http;
use crate::credentials::keyring::Keyring;
use crate::credentials::Credentials;
use crate::http::tidy::tidy;
use crate::http::{self, dressed, redact, Answer, Client, Method, Tries};
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
    /// The deadline of the answer.
    pub deadline: Instant,
    /// Estimated tokens, for the budget.
    pub tokens: u64,
    /// The API that is only to count the text's tokens, at its own URL.
    pub counts: Option<Chat>,
}

impl Request {
    /// A request of `call`; its time starts now. `header_json`: the result of the header function.
    pub fn new(call: &Call, header_json: Option<String>, body: Vec<u8>, tokens: u64) -> Result<Self> {
        let share = Reservation::take(body.len().saturating_mul(2), "the request")?;
        Self::within(share, call, header_json, body, tokens)
    }

    /// The same, with memory reserved by the caller.
    pub fn within(
        mut share: Reservation,
        call: &Call,
        header_json: Option<String>,
        body: Vec<u8>,
        tokens: u64,
    ) -> Result<Self> {
        // One copy, out of the buffer it was written into.
        let body: Arc<[u8]> = body.into();
        share.shrink_to(body.len());
        Ok(Request {
            headers: header_json.as_deref().map(read_headers).transpose()?.unwrap_or_default(),
            body,
            _share: share,
            deadline: Instant::now() + call.time(),
            tokens,
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

    /// The target of a call's requests.
    pub fn target(&self, call: &Call) -> Target {
        Target::of(call, &self.limiters)
    }

    /// Sends a request and waits for its answer. `read` also returns the tokens used. An unreadable answer that
    /// contains an error counts as a failure with that error's status.
    pub fn send<T>(
        &self,
        request: Request,
        interrupt: &dyn Interrupt,
        read: impl Fn(&mut Answer) -> Result<(T, Option<u64>)>,
    ) -> Result<T> {
        let request = Arc::new(request);
        let call = &request.call;
        let mut tries = Tries::new(request.deadline, call.max_retries());
        let target = self.target(call);
        let mut rejected: Option<Rejected> = None;
        let mut sent = false;
        loop {
            let permit = target.enter(request.tokens, request.deadline, interrupt)?;
            call.meter.requested(sent);
            sent = true;
            let again = tries.made() > 0 || rejected.is_some();
            let (failure, key) = match self.try_once(&request, rejected.as_ref().map(|r| r.key.clone()), interrupt)? {
                Tried::Answered(mut answer, latency) => {
                    call.meter.answered(latency);
                    let result = read(&mut answer);
                    match result.as_ref().err().and_then(|e| failure_in(&answer, e)) {
                        Some(failure) => (failure, None),
                        None => {
                            let tokens = result.as_ref().ok().and_then(|(_, tokens)| *tokens);
                            permit.finish(&Outcome::Answered { tokens, pause: answer.pause });
                            return result.map(|(value, _)| value);
                        }
                    }
                }
                Tried::Unsent(error) => return Err(settle_unsent(error, permit, call, again)),
                Tried::SameKey => return Err(settle_same_key(permit, call, rejected)),
                Tried::Failed(failure, key) => (failure.within(call.time()), key),
            };
            let limited = failure.is_rate_limit();
            match settle(failure, key, permit, call, (tries.made(), again), rejected.as_ref()) {
                Unanswered::WithNewKey(key) => rejected = Some(key),
                Unanswered::Useless(error) => return Err(error),
                Unanswered::Failed(failure) => {
                    let wait = tries.next(failure)?;
                    // The limiter delays all sessions after a rate limit; other failures delay this call only.
                    if !limited {
                        sleep(wait, interrupt)?;
                    }
                }
            }
        }
    }

    /// One try, on a worker.
    fn try_once(
        &self,
        request: &Arc<Request>,
        rejected: Option<SecretString>,
        interrupt: &dyn Interrupt,
    ) -> Result<Tried> {
        let (share, own) = (self.share(request.call.model())?, Arc::clone(request));
        self.on_worker(&share, request.deadline, interrupt, move |context, cancel| {
            exchange(context, &own, rejected.as_ref(), cancel)
        })
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

/// One try, on a worker: resolves the address, sends, reads the answer's bytes.
pub(super) fn exchange(
    context: &HttpContext,
    request: &Request,
    rejected: Option<&SecretString>,
    cancel: &CancelToken,
) -> Result<Tried> {
    mysql_ml_base::panics::injected_panic("request");
    let (settings, model) = (&request.call.settings, request.call.model());
    let http = context.http(settings, request.deadline, cancel);
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
    let mut call = http::Call::new(body, url, request.deadline, &settings.network);
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
