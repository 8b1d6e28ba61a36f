//! Sends a request: paced, authorized, tried again where that helps, all under one deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use ureq::http::{header, HeaderName};
use url::Url;

use super::pacing::{Budget, Outcome};
use super::status::Activity;
use super::Engine;
use crate::catalog::model::{AuthType, Model, ModelType, ProviderId};
use crate::catalog::settings::Settings;
use crate::credentials::keyring::Keyring;
use crate::credentials::{Credentials, Http};
use crate::engine::store::ResolvedModel;
use crate::http::tidy::tidy;
use crate::http::{dressed, redact, Answer, Call, Client, Failure, Method, Tries};
use crate::providers::google::target;
use crate::providers::{provider, KeyHeader};
use crate::registration::endpoint_url::{cloud_of, google_hosts, url_of};
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt, POLL};
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::shares::Share;

/// How much longer than its deadline a call is waited for, so that the worker's own error is the one shown.
const GRACE: Duration = Duration::from_millis(500);

/// What every try of a call needs.
pub(super) struct Request {
    /// The model.
    pub resolved: Arc<ResolvedModel>,
    /// Headers that its header function made.
    pub headers: Vec<(HeaderName, SecretString)>,
    /// The body.
    pub body: Arc<[u8]>,
    /// The memory of the body.
    pub _share: Reservation,
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// The time it was given.
    pub timeout: Duration,
    /// When it must be answered.
    pub deadline: Instant,
    /// The tokens it may cost, for the budget.
    pub tokens: u64,
}

/// How a try ended.
pub(super) enum Tried {
    Answered(Answer, Duration),
    /// With the key that was sent.
    Failed(Failure, Option<SecretString>),
    /// The provider rejected the key before, and it is still the same.
    SameKey,
    /// Nothing was sent: the key or the URL could not be told.
    Unsent(Error),
}

/// What a call reaches outside of the process; shared with the workers.
pub struct Outside {
    pub client: Client,
    pub credentials: Credentials,
}

impl Outside {
    /// With the keyring of this process.
    pub fn new(keyring: Box<dyn Keyring>) -> Self {
        Outside { client: Client::default(), credentials: Credentials::new(keyring) }
    }
}

impl Engine {
    /// Sends a request and waits for its answer, of which `read` says how many tokens it cost. An answer that cannot be
    /// read and in which an error stands is a failure as if it had come with that error's status.
    pub(super) fn send<T>(
        &self,
        request: Request,
        activity: &Activity,
        interrupt: &dyn Interrupt,
        read: impl Fn(&mut Answer) -> Result<(T, Option<u64>)>,
    ) -> Result<T> {
        let request = Arc::new(request);
        let options = &request.resolved.model.options;
        let budget = Budget::of(options);
        let max_retries = options.max_retries.unwrap_or(request.settings.max_retries);
        let mut tries = Tries::new(request.deadline, max_retries);
        let gate = self.gates.of(&request.resolved.model.fingerprint);
        activity.paced_by(&gate);
        let mut rejected: Option<(SecretString, Failure)> = None;
        let mut again = false;
        loop {
            let permit = gate.enter(budget, request.tokens, request.deadline, interrupt)?;
            activity.requested(again);
            again = true;
            let tried = self.try_once(&request, rejected.as_ref().map(|(key, _)| key.clone()), interrupt)?;
            let (failure, key) = match tried {
                Tried::Answered(mut answer, latency) => {
                    activity.answered(latency);
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
                Tried::Unsent(error) => {
                    activity.not_sent(tries.made() > 0 || rejected.is_some());
                    permit.finish(&Outcome::NotSent);
                    return Err(error);
                }
                Tried::SameKey => {
                    activity.not_sent(true);
                    permit.finish(&Outcome::NotSent);
                    let failure = rejected.map(|(_, failure)| failure);
                    return Err(failure.map_or_else(|| Error::internal("no key was rejected"), |f| f.into_error(1)));
                }
                Tried::Failed(failure, key) => (failure.within(request.timeout), key),
            };
            let limited = failure.is_rate_limit();
            if failure.is_unsent() {
                activity.not_sent(tries.made() > 0 || rejected.is_some());
            }
            permit.finish(&Outcome::of_failure(&failure));
            match (failure.kind(), key) {
                // A key may have been rotated, or a token revoked, since it was read: once, with one read anew.
                (Kind::Provider(401), Some(key)) if rejected.is_none() => {
                    rejected = Some((key, failure));
                    continue;
                }
                (Kind::Provider(401 | 403), None) if request.resolved.model.auth_type.is_none() => {
                    let error = failure.into_error(tries.made() + 1);
                    return Err(without_secret(error, &request.resolved, None));
                }
                _ => {}
            }
            let wait = tries.next(failure)?;
            // The gate holds back everybody for what a rate limit asks; other failures concern this call only.
            if !limited {
                sleep(wait, interrupt)?;
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
        let cancel = CancelToken::default();
        let share = self.share(&request.resolved.model)?;
        let pending = {
            let (outside, request, token) = (Arc::clone(&self.outside), Arc::clone(request), cancel.clone());
            self.workers.run(&share, &cancel, move || exchange(&outside, &request, rejected.as_ref(), &token))?
        };
        let result = pending.wait(interrupt, request.deadline + GRACE);
        if result.is_err() {
            // Nobody waits any more: the worker and the connection are free again within its next slice.
            cancel.cancel();
        }
        result
    }

    /// Runs `work` on a worker, with what is needed to ask services for credentials.
    pub(super) fn outside<T: Send + 'static>(
        &self,
        settings: &Arc<Settings>,
        interrupt: &dyn Interrupt,
        work: impl FnOnce(&Credentials, &Http<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let cancel = CancelToken::default();
        let deadline = Instant::now() + settings.timeout;
        let share = Share { account: Some(self.store.caller()?.to_string().into()), source: None };
        let pending = {
            let (outside, settings, token) = (Arc::clone(&self.outside), Arc::clone(settings), cancel.clone());
            self.workers.run(&share, &cancel, move || {
                let http = Http {
                    client: &outside.client,
                    settings: &settings,
                    cancel: &token,
                    deadline,
                    hosts: google_hosts(),
                };
                work(&outside.credentials, &http)
            })?
        };
        let result = pending.wait(interrupt, deadline + GRACE);
        if result.is_err() {
            cancel.cancel();
        }
        result
    }
}

/// The failure that stands in an answer which could not be used for the reason of `error`.
pub(super) fn failure_in(answer: &Answer, error: &Error) -> Option<Failure> {
    matches!(error.kind(), Kind::Response).then(|| answer.dressed())?
}

/// An error for an answer that is nothing but an error: it becomes the failure that it tells of.
pub(super) fn must_not_be_an_error(answer: &Answer, model: &Model) -> Result<()> {
    let known = model.speaks != ProviderId::Custom && matches!(model.model_type, ModelType::Llm | ModelType::Reranking);
    if dressed::is_error_alone(&answer.body, known) {
        return Err(Error::response("the endpoint answered with an error"));
    }
    Ok(())
}

/// An error for a vector that no model gives: it has no direction, and is as near to one text as to another.
pub(super) fn must_not_be_zero(vector: &[f32]) -> Result<()> {
    if !vector.is_empty() && vector.iter().all(|x| *x == 0.0) {
        return Err(Error::response(
            "the endpoint answered with a vector of zeros, which is no embedding; check the model and its server",
        ));
    }
    Ok(())
}

/// The error of a refusal, with what is the matter where no key was sent because the model has none.
pub(super) fn without_secret(error: Error, resolved: &ResolvedModel, key: Option<&SecretString>) -> Error {
    match error.kind() {
        Kind::Provider(401 | 403) if key.is_none() && resolved.model.auth_type.is_none() => {
            Error::new(error.kind(), format!("{}; the model is registered without a secret", error.message()))
        }
        _ => error,
    }
}

/// Sleeps on the statement's thread, listening.
fn sleep(time: Duration, interrupt: &dyn Interrupt) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        interrupt.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(POLL));
    }
}

/// The memory that an answer takes at most when it is read: what is between its commas, its strings, and some words for
/// every array, object and text.
pub(super) fn unpacked(body: &[u8]) -> Result<Reservation> {
    let (mut commas, mut values) = (0_usize, 0_usize);
    for byte in body {
        commas += usize::from(*byte == b',');
        values += usize::from(matches!(byte, b'[' | b'{' | b'"'));
    }
    Reservation::take(
        body.len().max(commas.saturating_mul(4)).saturating_add(values.saturating_mul(48)),
        "reading the endpoint's answer",
    )
}

/// On the worker, because each step may take its time: a secret's file on a mount that hangs, a token to be fetched.
pub(super) fn exchange(
    outside: &Outside,
    request: &Request,
    rejected: Option<&SecretString>,
    cancel: &CancelToken,
) -> Result<Tried> {
    mysql_ml_base::panics::injected_panic("request");
    let settings = &request.settings;
    let http = Http { client: &outside.client, settings, cancel, deadline: request.deadline, hosts: google_hosts() };
    let options = &request.resolved.model.options;
    let prepared = url(&outside.credentials, request, &http).and_then(|url| {
        let (headers, key) = headers(&outside.credentials, request, &url, rejected, &http)?;
        Ok((url, headers, key))
    });
    let (url, headers, key) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Ok(Tried::Unsent(error)),
    };
    if let (Some(rejected), Some(key)) = (rejected, &key) {
        if rejected.expose_secret() == key.expose_secret() {
            return Ok(Tried::SameKey);
        }
    }
    let mut call = Call::new(Method::Json(Arc::clone(&request.body)), url, request.deadline, &settings.network);
    call.headers = headers;
    call.ca_file = options.ca_file.clone().unwrap_or_default();
    call.proxy = options.proxy.clone().unwrap_or_default();
    call.private.extend(key.clone());
    call.private.extend(rejected.cloned());
    let model = &request.resolved.model;
    let known = [model.model_id.as_str(), model.qualified_name.as_deref().unwrap_or_default()];
    call.private.extend(redact::secrets_of_function(&request.headers, &known));
    let started = Instant::now();
    Ok(match outside.client.try_once(&call, &settings.network, cancel) {
        Ok(mut answer) => {
            answer.body = tidy(std::mem::take(&mut answer.body));
            Tried::Answered(answer, started.elapsed())
        }
        Err(failure) => Tried::Failed(failure, key),
    })
}

/// The credentials document of a model that has a Google identity of its own.
fn document(credentials: &Credentials, request: &Request, http: &Http<'_>) -> Result<Option<SecretString>> {
    let secret = match (request.resolved.model.auth_type, &request.resolved.secret) {
        (Some(AuthType::ServiceAgentIam), Some(secret)) => secret,
        _ => return Ok(None),
    };
    credentials.document(&secret.path, http).map(Some)
}

/// The model's URL; what it lacks of a Google project is asked of the credentials.
fn url(credentials: &Credentials, request: &Request, http: &Http<'_>) -> Result<Url> {
    let model = &request.resolved.model;
    let mut cloud = cloud_of(model, http.settings);
    if model.speaks == ProviderId::Google && target::needs_project(model) {
        credentials.google().complete(&mut cloud, document(credentials, request, http)?.as_ref(), http)?;
    }
    let url = url_of(model, &cloud)?;
    if let Some(secret) = &request.resolved.secret {
        secret.check_url(&url)?;
    }
    Ok(url)
}

/// All headers, and the key among them. What the header function made comes first, then the model's options, then the
/// provider's own.
#[allow(clippy::type_complexity)]
fn headers(
    credentials: &Credentials,
    request: &Request,
    url: &Url,
    rejected: Option<&SecretString>,
    http: &Http<'_>,
) -> Result<(Vec<(HeaderName, SecretString)>, Option<SecretString>)> {
    let model = &request.resolved.model;
    let api = provider(model.speaks);
    let mut headers = request.headers.clone();
    let mut add = |name: &str, value: SecretString| -> Result<bool> {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Error::invalid(format!("'{}' is not a header name; correct it", cut(name, 60))))?;
        if headers.iter().any(|(present, _)| *present == name) {
            return Ok(false);
        }
        headers.push((name, value));
        Ok(true)
    };
    for (name, value) in &model.options.headers {
        add(name, value.clone().into())?;
    }
    for (name, value) in api.headers(model) {
        add(name, value.into())?;
    }
    let key = match (model.auth_type, &request.resolved.secret) {
        (Some(AuthType::SecretManager), Some(secret)) => {
            // A header function that authorizes the request itself is not second-guessed.
            if request.headers.iter().any(|(name, _)| *name == header::AUTHORIZATION) {
                return Ok((headers, None));
            }
            let key = credentials.secret(&secret.path, rejected, http)?;
            let added = match api.key_header(url) {
                KeyHeader::Bearer => {
                    add(header::AUTHORIZATION.as_str(), format!("Bearer {}", key.expose_secret()).into())?
                }
                KeyHeader::Named(name) => add(name, key.clone())?,
            };
            added.then_some(key)
        }
        (Some(AuthType::ServiceAgentIam), _) => {
            if !google_hosts().may_have_token(url) {
                return Err(Error::new(
                    Kind::Denied,
                    "the server's Google identity is sent to Vertex AI, the Gemini API and Discovery Engine only; correct model_request_url",
                ));
            }
            let document = document(credentials, request, http)?;
            let token = credentials.google().token(document.as_ref(), rejected, http)?;
            if let Some((name, value)) = token.quota_header() {
                add(name.as_str(), value)?;
            }
            let bearer = format!("Bearer {}", token.value.expose_secret());
            add(header::AUTHORIZATION.as_str(), bearer.into())?.then_some(token.value)
        }
        _ => None,
    };
    Ok((headers, key))
}
