//! The only user of ureq: one pooled agent, one deadline over all tries of a call, a bounded body.

pub mod dressed;
pub mod egress;
pub mod leaked_key;
pub mod policy;
pub mod proxy;
pub mod rate_limit;
pub mod redact;
pub mod retry;
pub mod tidy;
mod transport;

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use ureq::http::{header, HeaderName, HeaderValue};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector, TcpConnector};
use ureq::{Agent, Proxy};
use url::{Host, Url};

use self::egress::Allowlist;
use self::policy::NetworkPolicy;
use self::redact::Redactor;
use self::transport::{CallContext, CancelConnector, CheckedResolver};
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::CancelToken;
use mysql_ml_base::memory::{self, Reservation};

/// Checks a certificate file before a setting or option names it.
pub fn check_ca_file(path: &str) -> Result<()> {
    root_certificates(path).map(|_| ())
}

/// The largest certificate file, bytes.
const MAX_CA_FILE: u64 = 8 << 20;

/// The most stale pooled connections that one call skips.
const MAX_STALE: u32 = 3;

/// A request and the bounds of its call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Method and body.
    pub method: Method,
    /// The URL.
    pub url: Url,
    /// Headers besides the content type; values are kept as secrets.
    pub headers: Vec<(HeaderName, SecretString)>,
    /// Covers every try, wait and byte.
    pub deadline: Instant,
    /// Bounds one connection.
    pub connect_timeout: Duration,
    /// The largest body accepted, bytes.
    pub max_response: usize,
    /// PEM file of certificate authorities that replaces the setting's; empty: the setting's.
    pub ca_file: String,
    /// Proxy that replaces the setting's, or `none`; empty: the setting's.
    pub proxy: String,
    /// Whether this is a request to the cloud's metadata server (link-local, plain http, no proxy). Never set for
    /// models.
    pub metadata: bool,
    /// Secrets to redact from answers, besides the keys in headers and in the URL's query.
    pub private: Vec<SecretString>,
    /// Whether errors advise on the model's registration (off for credential services).
    pub hints: bool,
    /// Whether a redirect is returned as an answer; otherwise it is a failure.
    pub redirects: bool,
}

/// How a request is made.
#[derive(Debug, Clone)]
pub enum Method {
    /// A GET.
    Get,
    /// A POST of JSON.
    Json(Arc<[u8]>),
    /// A POST of a form.
    Form(SecretString),
}

impl Call {
    /// A call with the settings' bounds and no headers.
    pub fn new(method: Method, url: Url, deadline: Instant, policy: &NetworkPolicy) -> Self {
        Call {
            method,
            url,
            headers: Vec::new(),
            deadline,
            connect_timeout: policy.connect_timeout,
            max_response: policy.max_response,
            ca_file: String::new(),
            proxy: String::new(),
            metadata: false,
            private: Vec::new(),
            hints: true,
            redirects: false,
        }
    }
}

/// An answer with a status below 300, or a redirect if the call accepts them.
#[derive(Debug)]
pub struct Answer {
    /// The body.
    pub body: Vec<u8>,
    /// The reservation of the body's memory.
    pub share: Reservation,
    /// The pause that the provider asks for when its limit is used up.
    pub pause: Option<Duration>,
    /// The value of the header `metadata-flavor`.
    pub metadata_flavor: bool,
    /// The target of a redirect.
    pub location: Option<String>,
    /// Host and path, for errors.
    place: String,
    /// The wait in its headers; used only if the body turns out to be an error.
    asked: Option<Duration>,
}

impl Answer {
    /// The failure inside an answer that could not be read; `None` if it contains no error.
    pub fn dressed(&self) -> Option<Failure> {
        let dressed::Dressed { status, body } = dressed::error_in(&self.body)?;
        let advice = retry::advice(status, |_| None, &body, SystemTime::now());
        let message = match body.as_slice() {
            [] => "it answered 200 with nothing in it; try later".to_owned(),
            body => format!("it answered 200 with an error: {}", refusal(status, body, true)),
        };
        Some(Failure {
            wait: self.asked.or(advice.wait),
            place: self.place.clone(),
            ..Failure::new(Kind::Provider(status), message, advice.again)
        })
    }
}

/// Sends calls. One per process, with one agent for each set of certificate authorities.
#[derive(Default)]
pub struct Client {
    current: RwLock<Option<Arc<Configured>>>,
}

/// The most agents, one for each certificate file, that are kept.
const MAX_AGENTS: usize = 32;

struct Configured {
    allowlist: Arc<Allowlist>,
    proxy_setting: String,
    proxy: Option<Proxy>,
    /// Agents by certificate file. Pooled connections belong to one allowlist; another allowlist starts with none.
    agents: Mutex<HashMap<String, Agent>>,
}

impl Client {
    /// The agents for a policy.
    fn configured(&self, policy: &NetworkPolicy) -> Result<Arc<Configured>> {
        let fits = |c: &Configured| *c.allowlist == policy.egress_allowlist && c.proxy_setting == policy.proxy;
        if let Some(current) = self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref()
            && fits(current)
        {
            return Ok(Arc::clone(current));
        }
        let made = Arc::new(Configured {
            allowlist: Arc::new(policy.egress_allowlist.clone()),
            proxy_setting: policy.proxy.clone(),
            proxy: proxy::from_setting(&policy.proxy)?,
            agents: Mutex::default(),
        });
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Sends `call` until it is answered, fails for good, was tried `max_retries` times more, or its time is up.
    /// Blocks: for worker threads only.
    pub fn send(&self, call: &Call, max_retries: u64, policy: &NetworkPolicy, cancel: &CancelToken) -> Result<Answer> {
        let mut tries = Tries::new(call.deadline, max_retries);
        loop {
            let failure = match self.try_once(call, policy, cancel) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let wait = tries.next(failure)?;
            if cancel.sleep(wait) {
                return Err(Error::interrupted(1317));
            }
        }
    }

    /// Sends `call` once. Blocks: for worker threads only.
    pub fn try_once(
        &self,
        call: &Call,
        policy: &NetworkPolicy,
        cancel: &CancelToken,
    ) -> std::result::Result<Answer, Failure> {
        let configured = self.configured(policy)?;
        let own_proxy = if call.proxy.is_empty() { None } else { proxy::from_setting(&call.proxy)? };
        let direct = call.proxy == proxy::NONE || call.metadata || is_this_machine(&call.url);
        let proxy =
            own_proxy.as_ref().or(configured.proxy.as_ref()).filter(|p| !direct && !proxy::passes_by(p, &call.url));
        proxy.map_or(Ok(()), proxy::must_speak_http)?;
        let allowlist =
            if call.metadata { Arc::new(Allowlist::for_metadata()) } else { Arc::clone(&configured.allowlist) };
        allowlist.check_url(&call.url, proxy.is_some())?;
        let agent = configured.agent(if call.ca_file.is_empty() { &policy.ca_file } else { &call.ca_file })?;
        let mut secrets = redact::secrets_of(&call.headers);
        secrets.extend(call.private.iter().cloned());
        secrets.extend(redact::secrets_in_query(&call.url));
        secrets.extend(proxy.into_iter().flat_map(redact::secrets_of_proxy));
        let redactor = Redactor::new(&secrets);
        let context = CallContext {
            cancel: cancel.clone(),
            allowlist,
            proxy: proxy.map(|p| format!("{}:{}", p.host().trim_matches(['[', ']']), p.port())),
        };
        let result = transport::with_context(context, || {
            for _ in 0..MAX_STALE {
                let (result, opened) = transport::noting_connections(|| exchange(&agent, call, proxy, &redactor));
                if cancel.is_cancelled() {
                    return Err(Error::interrupted(1317).into());
                }
                match result {
                    // The endpoint closed a pooled connection as it was reused: not a failure of the request.
                    Err(failure) if failure.broken && !opened => {}
                    result => return result,
                }
            }
            exchange(&agent, call, proxy, &redactor)
        });
        // Messages may contain secrets: names in certificates, a proxy's own text.
        result.map_err(|failure| Failure {
            error: Error::new(failure.error.kind(), redactor.text(failure.error.message()).into_owned()),
            place: redactor.text(&failure.place).into_owned(),
            ..failure
        })
    }
}

/// Why a try failed.
#[derive(Debug, Clone)]
pub struct Failure {
    error: Error,
    /// Whether another try may be answered.
    pub retryable: bool,
    /// The connection broke before an answer began.
    broken: bool,
    /// The wait that the server asked for.
    pub wait: Option<Duration>,
    /// Host and path, for the error.
    place: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, retryable: false, broken: false, wait: None, place: String::new() }
    }
}

impl Failure {
    fn new(kind: Kind, message: impl Into<String>, retryable: bool) -> Self {
        Failure { retryable, ..Error::new(kind, message.into()).into() }
    }

    /// The error of this try.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The kind of the error.
    pub fn kind(&self) -> Kind {
        self.error.kind()
    }

    /// Whether this is a rate limit of the provider.
    pub fn is_rate_limit(&self) -> bool {
        match self.kind() {
            Kind::Provider(429 | 529) => self.retryable,
            Kind::Provider(503) => self.retryable && self.wait.is_some(),
            _ => false,
        }
    }

    /// Whether nothing was sent because a rule or a setting forbade it.
    pub fn is_unsent(&self) -> bool {
        matches!(self.kind(), Kind::Denied | Kind::Invalid | Kind::Unsupported)
    }

    /// The same failure, with `timeout` in the text of a deadline that passed.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        if self.error.kind() != Kind::Timeout {
            return self;
        }
        let message = format!(
            "no complete answer within {} ms (timeout_ms, an option of the model or a setting); raise it or try later",
            timeout.as_millis()
        );
        Failure { error: Error::new(Kind::Timeout, message), ..self }
    }

    /// The same failure, with a next step added to its text.
    #[must_use]
    pub fn hinted(self, hint: &str) -> Self {
        let message = format!("{}; {hint}", self.error.message());
        Failure { error: Error::new(self.error.kind(), message), ..self }
    }

    /// The error of the whole call after `tries` tries.
    pub fn into_error(self, tries: u32) -> Error {
        if matches!(self.error.kind(), Kind::Interrupted(_)) || self.place.is_empty() {
            return self.error;
        }
        let tries = if tries > 1 { format!(" ({tries} tries)") } else { String::new() };
        Error::new(self.error.kind(), format!("{}: {}{tries}", self.place, self.error.message()))
    }
}

/// The most tries of one call, whatever the provider asks for.
const MAX_TRIES: u32 = 30;

/// Counts the tries of one call and computes the wait before the next.
pub struct Tries {
    deadline: Instant,
    max_retries: u64,
    made: u32,
    /// Tries counted against `max_retries`. All waits that the provider asked for count as one.
    counted: u64,
    waited_as_asked: bool,
    /// Whether the call waits as long and as often as the provider asks.
    patient: bool,
}

impl Tries {
    /// A call's tries.
    pub fn new(deadline: Instant, max_retries: u64) -> Self {
        Tries { deadline, max_retries, made: 0, counted: 0, waited_as_asked: false, patient: false }
    }

    /// Tries of a request that waits as long as the provider asks.
    pub fn patient(max_retries: u64) -> Self {
        // Beyond any wait, and within the range of an Instant.
        let far = Instant::now() + Duration::from_secs(365 * 86_400);
        Tries { patient: true, ..Self::new(far, max_retries) }
    }

    /// Number of tries made.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// The wait before the next try; the final error if there is none.
    pub fn next(&mut self, failure: Failure) -> Result<Duration> {
        self.made = self.made.saturating_add(1);
        let asked = failure.wait.is_some_and(|wait| !wait.is_zero())
            && matches!(failure.kind(), Kind::Provider(429 | 529))
            && (self.patient || self.made < MAX_TRIES);
        if !(asked && self.waited_as_asked) {
            self.counted += 1;
        }
        self.waited_as_asked |= asked;
        let wait = failure.wait.unwrap_or_else(|| retry::backoff(self.made));
        let left = self.deadline.saturating_duration_since(Instant::now());
        if !failure.retryable || self.counted > self.max_retries {
            return Err(failure.into_error(self.made));
        }
        if wait >= left {
            let asked = failure.wait;
            let error = failure.into_error(self.made);
            return Err(match asked {
                Some(wait) => Error::new(
                    error.kind(),
                    format!(
                        "{}; it asks to wait {} s, longer than the call may take",
                        error.message(),
                        wait.as_secs_f64().ceil()
                    ),
                ),
                None => error,
            });
        }
        Ok(wait)
    }
}

impl Configured {
    /// The agent that trusts the authorities in `ca_file`.
    fn agent(&self, ca_file: &str) -> Result<Agent> {
        let agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(ca_file) {
            return Ok(agent.clone());
        }
        drop(agents);
        // Read without the lock: a file on a slow mount delays only its own models.
        let agent = new_agent(ca_file)?;
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= MAX_AGENTS {
            let other = agents.keys().find(|file| !file.is_empty()).cloned();
            other.and_then(|file| agents.remove(&file));
        }
        Ok(agents.entry(ca_file.to_owned()).or_insert(agent).clone())
    }
}

fn new_agent(ca_file: &str) -> Result<Agent> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("mysql-ml/", env!("CARGO_PKG_VERSION")))
        .max_response_header_size(64 * 1024)
        .max_idle_connections(512)
        .max_idle_connections_per_host(256)
        .max_idle_age(Duration::from_secs(30))
        .tls_config(TlsConfig::builder().root_certs(root_certificates(ca_file)?).build())
        .build();
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(CancelConnector)
            .chain(RustlsConnector::default());
    Ok(Agent::with_parts(config, connector, CheckedResolver))
}

/// One request and its answer.
fn exchange(
    agent: &Agent,
    call: &Call,
    proxy: Option<&Proxy>,
    redactor: &Redactor,
) -> std::result::Result<Answer, Failure> {
    let place = |failure: Failure| Failure { place: display_url(&call.url), ..failure };
    let left = call.deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(place(timed_out()));
    }
    let connect = call.connect_timeout.min(left);
    let mut response = match &call.method {
        Method::Get => {
            let request = agent
                .get(call.url.as_str())
                .config()
                .timeout_global(Some(left))
                .timeout_connect(Some(connect))
                .proxy(proxy.cloned())
                .build();
            with_headers(request, &call.headers).map_err(place)?.call()
        }
        Method::Json(_) | Method::Form(_) => {
            let (content_type, body) = match &call.method {
                Method::Form(form) => ("application/x-www-form-urlencoded", form.expose_secret().as_bytes()),
                Method::Json(body) => ("application/json", body.as_ref()),
                Method::Get => ("", &[][..]),
            };
            let request = agent
                .post(call.url.as_str())
                .config()
                .timeout_global(Some(left))
                .timeout_connect(Some(connect))
                .proxy(proxy.cloned())
                .build()
                .header(header::CONTENT_TYPE, content_type);
            with_headers(request, &call.headers).map_err(place)?.send(body)
        }
    }
    .map_err(|e| place(failed(&e, call, redactor)))?;
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let get = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let now = SystemTime::now();
    let mut share = Reservation::default();
    let mut body = read_bounded(&mut response, call.max_response, &mut share);
    if let Ok(body) = &mut body {
        redactor.redact(body);
    }
    let location = get("location").map(|location| redactor.text(location).into_owned());
    match (status, body) {
        (200..=299, Ok(body)) => Ok(Answer {
            body,
            share,
            pause: rate_limit::exhausted(get, now),
            metadata_flavor: get("metadata-flavor") == Some("Google"),
            location: None,
            place: display_url(&call.url),
            asked: retry::asked_wait(get("retry-after-ms"), get("retry-after"), now)
                .or_else(|| rate_limit::exhausted(get, now)),
        }),
        (301 | 302 | 303 | 307 | 308, _) if call.redirects && location.is_some() => Ok(Answer {
            body: Vec::new(),
            share: Reservation::default(),
            pause: None,
            metadata_flavor: false,
            location,
            place: display_url(&call.url),
            asked: None,
        }),
        (200..=299, Err(e)) => Err(place(Failure { broken: false, ..failed(&e, call, redactor) })),
        (300..=399, _) if headers.contains_key(header::LOCATION) => Err(place(Failure::new(
            Kind::Provider(status),
            format!("it answered with a redirect ({status}), which is not followed; register the final URL"),
            false,
        ))),
        (_, body) => {
            let body = tidy::tidy(body.unwrap_or_default());
            let advice = retry::advice(status, get, &body, now);
            Err(place(Failure {
                wait: advice.wait,
                ..Failure::new(
                    Kind::Provider(status),
                    format!("it answered {}", refusal(status, &body, call.hints)),
                    advice.again,
                )
            }))
        }
    }
}

fn with_headers<B>(
    mut request: ureq::RequestBuilder<B>,
    headers: &[(HeaderName, SecretString)],
) -> std::result::Result<ureq::RequestBuilder<B>, Failure> {
    for (name, value) in headers {
        let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| {
            Failure::new(
                Kind::Invalid,
                format!("the value of the header {name} holds a character that headers cannot carry, such as a line break; check the secret"),
                false,
            )
        })?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    Ok(request)
}

/// Reads a body of at most `max` bytes and reserves memory as it arrives. ureq's limit counts compressed bytes; this
/// one counts decompressed bytes.
fn read_bounded(
    response: &mut ureq::http::Response<ureq::Body>,
    max: usize,
    share: &mut Reservation,
) -> std::result::Result<Vec<u8>, ureq::Error> {
    const WHAT: &str = "the endpoint's answer";
    let too_large = || ureq::Error::BodyExceedsLimit(max as u64);
    let announced = response.body().content_length().and_then(|n| usize::try_from(n).ok());
    if announced.is_some_and(|n| n > max) {
        return Err(too_large());
    }
    let ours = |e: Error| ureq::Error::Other(Box::new(e));
    let mut body = Vec::new();
    let mut reader = response.body_mut().with_config().limit(u64::MAX).reader();
    // One byte more, so that the last read also detects the end.
    let mut step = announced.map_or(8 * 1024, |n| n + 1).min(1 << 20);
    loop {
        share.spend(step, WHAT).map_err(ours)?;
        body.try_reserve_exact(step + 32).map_err(|_| ours(memory::system_has_none(step, WHAT)))?;
        let read = (&mut reader).take(step as u64).read_to_end(&mut body).map_err(ureq::Error::from)?;
        if body.len() > max {
            return Err(too_large());
        }
        if read < step {
            share.shrink_to(body.len());
            return Ok(body);
        }
        step = (body.len() / 2).clamp(8 * 1024, 32 << 20).min(max - body.len() + 1);
    }
}

fn timed_out() -> Failure {
    Failure::new(
        Kind::Timeout,
        "no complete answer in time; raise timeout_ms (an option of the model, or a setting) or try later",
        false,
    )
}

/// Turns ureq's error into ours. None of its texts holds a header or a body.
fn failed(error: &ureq::Error, call: &Call, redactor: &Redactor) -> Failure {
    let (kind, message, retryable) = match error {
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            (Kind::Connection, "no connection in time; check the host and the network".to_owned(), true)
        }
        ureq::Error::Timeout(_) => return timed_out(),
        ureq::Error::HostNotFound => (Kind::Connection, "its name cannot be resolved; check the host".to_owned(), true),
        ureq::Error::BodyExceedsLimit(_) => (
            Kind::TooLarge,
            format!("its answer is larger than {} MiB; raise the setting max_response_mb", call.max_response >> 20),
            false,
        ),
        ureq::Error::LargeResponseHeader(..) => {
            (Kind::TooLarge, "its answer has more than 64 KiB of headers".to_owned(), false)
        }
        ureq::Error::Tls(text) => (Kind::Connection, format!("TLS failed: {text}"), false),
        ureq::Error::Rustls(e) => (
            Kind::Connection,
            format!("TLS failed: {e}; for a private certificate authority set the setting ca_file"),
            false,
        ),
        ureq::Error::Io(e) => {
            // rustls reports a bad certificate through an io::Error too.
            let tls = e.kind() == std::io::ErrorKind::InvalidData;
            let text = if tls {
                format!("TLS failed: {e}; for a private certificate authority set the setting ca_file")
            } else {
                format!("the connection failed: {e}")
            };
            (Kind::Connection, text, !tls)
        }
        ureq::Error::Protocol(e) if e.to_string().contains("too many headers") => {
            (Kind::TooLarge, "its answer has more than 128 lines of headers".to_owned(), false)
        }
        ureq::Error::Protocol(e) => (Kind::Response, format!("it does not speak HTTP as expected: {e}"), false),
        ureq::Error::Decompress(..) => (Kind::Response, "its compressed answer is damaged".to_owned(), false),
        ureq::Error::ConnectProxyFailed(text) => (Kind::Connection, format!("the proxy refused: {text}"), false),
        ureq::Error::Other(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => (ours.kind(), ours.message().to_owned(), false),
            None => (Kind::Connection, "the request failed".to_owned(), false),
        },
        other => (Kind::Connection, format!("the request failed: {other}"), false),
    };
    let not_tls = message.contains("TLS failed") && message.to_ascii_lowercase().contains("corrupt message");
    let message = if not_tls {
        "the endpoint does not speak TLS on this port; write http:// if it is on this machine, or correct the port"
            .to_owned()
    } else {
        message
    };
    let broken = matches!(error, ureq::Error::Io(e) if matches!(
        e.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof | ErrorKind::ConnectionAborted
    ));
    Failure { broken, ..Failure::new(kind, cut(&redactor.text(&message), 300), retryable) }
}

/// Whether a provider's message says that a text is too long.
fn is_about_length(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["token count", "context length", "too long", "less than 512 tokens", "maximum length", "maximum context"]
        .iter()
        .any(|phrase| words.contains(phrase))
}

/// The provider's message and the next step.
fn refusal(status: u16, body: &[u8], hints: bool) -> String {
    let words = provider_message(body);
    let hint = match status {
        _ if !hints => "",
        401 | 403 => "; check the model's credentials and their rights",
        400 | 413 | 422 if is_about_length(&words) => {
            "; shorten the text, or set the model's option truncate where its provider has it"
        }
        404 if words.to_ascii_lowercase().contains("model") => "; check the request URL and the model's name",
        404 => "; check the request URL (that of the call, or a base that ends in a version such as /v1) and the model's name",
        429 if retry::is_out_of_money(body) => "; the account's quota or budget is used up, waiting does not help",
        429 => "; the provider limits the rate: set the model's options requests_per_minute or max_in_flight",
        _ => "",
    };
    let reason = ureq::http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("");
    let space = if reason.is_empty() { "" } else { " " };
    if words.is_empty() {
        format!("{status} {reason}{space}without an explanation{hint}")
    } else {
        format!("{status} {reason}{space}\"{}\"{hint}", cut(&words, 220))
    }
}

/// Finds the message in the error bodies that providers send.
fn provider_message(body: &[u8]) -> String {
    message_in(body, true)
}

/// `wrapped`: whether to look for the message of a provider behind a gateway.
fn message_in(body: &[u8], wrapped: bool) -> String {
    let text = String::from_utf8_lossy(body.get(..body.len().min(64 * 1024)).unwrap_or_default());
    let value: serde_json::Value = match serde_json::from_str(&text) {
        Ok(serde_json::Value::Array(mut items)) if !items.is_empty() => items.swap_remove(0),
        Ok(value) => value,
        Err(_) => return text.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let oauth = |name: &str| value.get(name).and_then(serde_json::Value::as_str);
    if let (Some(error), Some(description)) = (oauth("error"), oauth("error_description")) {
        return format!("{error}: {}", description.trim());
    }
    let text =
        |path: &str| value.pointer(path).and_then(serde_json::Value::as_str).filter(|text| !text.trim().is_empty());
    let found = MESSAGES.iter().find_map(|path| text(path));
    match found {
        // OpenRouter wraps the message of the provider behind it.
        Some(message) => match text("/error/metadata/raw").filter(|_| wrapped) {
            Some(raw) => format!("{}: {}", message.trim(), message_in(raw.as_bytes(), false)),
            None => message.trim().to_owned(),
        },
        None if value.as_object().is_some_and(serde_json::Map::is_empty) => String::new(),
        None => value.to_string(),
    }
}

/// JSON pointers to the message of an error.
const MESSAGES: [&str; 16] = [
    "/error/message",
    "/error/0/message",
    "/error/0",
    "/error",
    "/message",
    "/detail",
    "/detail/message",
    "/detail/0/msg",
    "/error_description",
    "/errors/0/message",
    "/errors/0",
    "/error_msg",
    "/msg",
    "/base_resp/status_msg",
    "/Response/Error/Message",
    "/Output/__type",
];

/// A URL without its query, which may hold a key.
pub fn display_url(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    cut(&format!("{}://{host}{port}{}", url.scheme(), url.path()), 160).into_owned()
}

/// Whether a URL's host is this machine, which is reached without a proxy.
fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(a)) => a.is_loopback(),
        Some(Host::Ipv6(a)) => a.is_loopback(),
        None => false,
    }
}

/// The system's certificate authorities and those of `ca_file`; where the system has none, Mozilla's list.
fn root_certificates(ca_file: &str) -> Result<RootCerts> {
    let system = rustls_native_certs::load_native_certs().certs;
    let mut certificates: Vec<Certificate<'static>> =
        system.iter().map(|c| Certificate::from_der(c.as_ref()).to_owned()).collect();
    if ca_file.is_empty() {
        return Ok(if certificates.is_empty() { RootCerts::WebPki } else { RootCerts::from(certificates) });
    }
    let bad = |what: String| Error::invalid(format!("ca_file '{}' {what}", cut(ca_file, 120)));
    // Bounded, and only from a file: the setting must not make the server read a device or wait for a pipe.
    let is_file = std::fs::metadata(ca_file).map_err(|e| bad(format!("cannot be read: {e}")))?.is_file();
    if !is_file {
        return Err(bad("is not a file".into()));
    }
    let mut pem = Vec::new();
    let file = File::open(ca_file).map_err(|e| bad(format!("cannot be read: {e}")))?;
    file.take(MAX_CA_FILE).read_to_end(&mut pem).map_err(|e| bad(format!("cannot be read: {e}")))?;
    let before = certificates.len();
    for item in ureq::tls::parse_pem(&pem) {
        if let Ok(PemItem::Certificate(certificate)) = item {
            certificates.push(certificate);
        }
    }
    if certificates.len() == before {
        return Err(bad("holds no certificate in PEM format".into()));
    }
    Ok(RootCerts::from(certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_providers_words_are_found_in_every_shape() {
        for (body, words) in [
            (r#"{"error":{"message":"bad key","type":"x"}}"#, "bad key"),
            (r#"{"error":"model not found"}"#, "model not found"),
            (r#"{"message":"too many texts"}"#, "too many texts"),
            (r#"[{"error":{"message":"quota"}}]"#, "quota"),
            (r#"{"error":["a","b"]}"#, "a"),
            (r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, "field required"),
            (
                r#"{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"{\"error\":{\"message\":\"busy\"}}"}}}"#,
                "Provider returned error: busy",
            ),
            ("<html>\n Bad   Gateway</html>", "<html> Bad Gateway</html>"),
            ("", ""),
            ("{}", ""),
        ] {
            assert_eq!(provider_message(body.as_bytes()), words);
        }
    }

    #[test]
    fn a_displayed_url_has_no_query_and_no_user() {
        let url = Url::parse("https://u:p@h.example:8443/v1/x?key=secret#f").unwrap();
        assert_eq!(display_url(&url), "https://h.example:8443/v1/x");
    }
}
