//! The only user of ureq: one pooled agent, one deadline over all tries of a call, a bounded body.

pub mod egress;
pub mod proxy;
mod redact;
pub mod retry;
mod transport;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use ureq::http::{header, HeaderName, HeaderValue};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector, TcpConnector};
use ureq::{Agent, Proxy};
use url::{Host, Url};

use self::egress::Allowlist;
use self::transport::{CallContext, CancelConnector, CheckedResolver};
use crate::error::{cut, Error, Kind, Result};
use crate::models::settings::Settings;
use crate::threads::interrupt::CancelToken;

/// The largest file of certificates that is read.
const MAX_CA_FILE: u64 = 8 << 20;

/// How many kept connections that turn out to be closed are passed over in one call.
const MAX_STALE: u32 = 3;

/// A request and the bounds of its call.
#[derive(Debug)]
pub struct Call {
    /// Where to.
    pub url: Url,
    /// Headers besides the content type; values are kept as secrets.
    pub headers: Vec<(HeaderName, SecretString)>,
    /// A JSON document.
    pub body: Vec<u8>,
    /// Covers every try, wait and byte.
    pub deadline: Instant,
    /// Bounds one connection.
    pub connect_timeout: Duration,
    /// How often to send again.
    pub max_retries: u64,
    /// The largest body accepted, bytes.
    pub max_response: usize,
}

/// An answer with a status below 300.
#[derive(Debug)]
pub struct Answer {
    /// The body.
    pub body: Vec<u8>,
}

/// Sends calls. One per process; remade inside when a setting that concerns it changes.
#[derive(Default)]
pub struct Client {
    current: RwLock<Option<Arc<Configured>>>,
}

struct Configured {
    allowlist: Arc<Allowlist>,
    proxy_setting: String,
    ca_file: String,
    proxy: Option<Proxy>,
    agent: Agent,
}

impl Client {
    /// The agent for these settings.
    fn configured(&self, settings: &Settings) -> Result<Arc<Configured>> {
        let fits = |c: &Configured| {
            *c.allowlist == settings.egress_allowlist
                && c.proxy_setting == settings.proxy
                && c.ca_file == settings.ca_file
        };
        if let Some(current) = self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            if fits(current) {
                return Ok(Arc::clone(current));
            }
        }
        let made = Arc::new(Configured::new(settings)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Sends `call` until it is answered, fails for good, or its time is up. Blocks: for worker threads only.
    pub fn send(&self, call: &Call, settings: &Settings, cancel: &CancelToken) -> Result<Answer> {
        let configured = self.configured(settings)?;
        let direct = is_this_machine(&call.url);
        let proxy = configured.proxy.as_ref().filter(|p| !direct && !proxy::passes_by(p, &call.url));
        configured.allowlist.check_url(&call.url, proxy.is_some())?;
        let secrets = redact::secrets_of(&call.headers);
        let context = CallContext {
            cancel: cancel.clone(),
            allowlist: Arc::clone(&configured.allowlist),
            proxy: proxy.map(|p| format!("{}:{}", p.host().trim_matches(['[', ']']), p.port())),
        };
        transport::with_context(context, || {
            let mut attempt = 0_u32;
            let mut stale = 0;
            loop {
                attempt += 1;
                let (result, opened) = transport::noting_connections(|| configured.try_once(call, proxy, &secrets));
                let failure = match result {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => failure,
                };
                if cancel.is_cancelled() {
                    return Err(Error::interrupted(1317));
                }
                if failure.broken && !opened && stale < MAX_STALE {
                    // The endpoint closed a kept connection just as it was used again: no failure of the request.
                    stale += 1;
                    attempt -= 1;
                    continue;
                }
                let wait = failure.wait.unwrap_or_else(|| retry::backoff(attempt));
                let left = call.deadline.saturating_duration_since(Instant::now());
                if !failure.retryable || u64::from(attempt) > call.max_retries || wait >= left {
                    return Err(failure.into_error(call, attempt, wait));
                }
                if cancel.sleep(wait) {
                    return Err(Error::interrupted(1317));
                }
            }
        })
    }
}

/// Why a try failed.
struct Failure {
    kind: Kind,
    message: String,
    retryable: bool,
    /// The connection broke before an answer began.
    broken: bool,
    /// The wait the server asked for.
    wait: Option<Duration>,
}

impl Failure {
    fn into_error(self, call: &Call, attempts: u32, wait: Duration) -> Error {
        let mut message = format!("{}: {}", shown(&call.url), self.message);
        if self.retryable && self.wait.is_some() && u64::from(attempts) <= call.max_retries {
            message
                .push_str(&format!("; it asks to wait {} s, longer than the call may take", wait.as_secs_f64().ceil()));
        }
        if attempts > 1 {
            message.push_str(&format!(" ({attempts} tries)"));
        }
        Error::new(self.kind, message)
    }
}

impl Configured {
    fn new(settings: &Settings) -> Result<Self> {
        let proxy = proxy::from_setting(&settings.proxy)?;
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
            .tls_config(TlsConfig::builder().root_certs(root_certificates(&settings.ca_file)?).build())
            .build();
        let connector =
            ().chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default())
                .chain(CancelConnector)
                .chain(RustlsConnector::default());
        Ok(Configured {
            allowlist: Arc::new(settings.egress_allowlist.clone()),
            proxy_setting: settings.proxy.clone(),
            ca_file: settings.ca_file.clone(),
            proxy,
            agent: Agent::with_parts(config, connector, CheckedResolver),
        })
    }

    fn try_once(
        &self,
        call: &Call,
        proxy: Option<&Proxy>,
        secrets: &[SecretString],
    ) -> std::result::Result<Answer, Failure> {
        let left = call.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out());
        }
        let mut request = self
            .agent
            .post(call.url.as_str())
            .config()
            .timeout_global(Some(left))
            .timeout_connect(Some(call.connect_timeout.min(left)))
            .proxy(proxy.cloned())
            .build()
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in &call.headers {
            let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| Failure {
                kind: Kind::Invalid,
                message: format!("the value of the header {name} holds a character that headers cannot carry, such as a line break; check the secret"),
                retryable: false,
                broken: false,
                wait: None,
            })?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let mut response = request.send(call.body.as_slice()).map_err(|e| failed(&e, call))?;
        let status = response.status().as_u16();
        let wait = {
            let get = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
            retry::asked_wait(get("retry-after-ms"), get("retry-after"), SystemTime::now())
        };
        let location = response.headers().get(header::LOCATION).is_some();
        let mut body = read_bounded(&mut response, call.max_response);
        if let Ok(body) = &mut body {
            redact::blot_out(body, secrets);
        }
        match (status, body) {
            (200..=299, Ok(body)) => Ok(Answer { body }),
            (200..=299, Err(e)) => Err(Failure { broken: false, ..failed(&e, call) }),
            (300..=399, _) if location => Err(Failure {
                kind: Kind::Provider(status),
                message: format!(
                    "it answered with a redirect ({status}), which is not followed; register the final URL"
                ),
                retryable: false,
                broken: false,
                wait: None,
            }),
            (_, body) => {
                let body = body.unwrap_or_default();
                Err(Failure {
                    kind: Kind::Provider(status),
                    message: format!("it answered {status} {}", refusal(status, &body)),
                    retryable: retry::is_retryable(status, &body),
                    broken: false,
                    wait,
                })
            }
        }
    }
}

/// Reads a body of at most `max` bytes. ureq's own limit counts the compressed bytes; this one counts what
/// they unpack to.
fn read_bounded(
    response: &mut ureq::http::Response<ureq::Body>,
    max: usize,
) -> std::result::Result<Vec<u8>, ureq::Error> {
    let too_large = || ureq::Error::BodyExceedsLimit(max as u64);
    let announced = response.body().content_length().and_then(|n| usize::try_from(n).ok());
    if announced.is_some_and(|n| n > max) {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(announced.unwrap_or(8 * 1024).min(1 << 20));
    let mut reader = response.body_mut().with_config().limit(u64::MAX).reader().take(max as u64 + 1);
    reader.read_to_end(&mut body).map_err(ureq::Error::from)?;
    if body.len() > max {
        return Err(too_large());
    }
    Ok(body)
}

fn timed_out() -> Failure {
    Failure {
        kind: Kind::Timeout,
        message: "no complete answer in time; raise timeout_ms (an option of the model, or a setting) or try later"
            .into(),
        retryable: false,
        broken: false,
        wait: None,
    }
}

/// Turns ureq's error into ours. None of its texts holds a header or a body.
fn failed(error: &ureq::Error, call: &Call) -> Failure {
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
        ureq::Error::Protocol(e) => (Kind::Response, format!("it does not speak HTTP as expected: {e}"), false),
        ureq::Error::Decompress(..) => (Kind::Response, "its compressed answer is damaged".to_owned(), false),
        ureq::Error::ConnectProxyFailed(text) => (Kind::Connection, format!("the proxy refused: {text}"), false),
        ureq::Error::Other(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => (ours.kind(), ours.message().to_owned(), false),
            None => (Kind::Connection, "the request failed".to_owned(), false),
        },
        other => (Kind::Connection, format!("the request failed: {other}"), false),
    };
    let broken = matches!(error, ureq::Error::Io(e) if matches!(
        e.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof | ErrorKind::ConnectionAborted
    ));
    Failure { kind, message: cut(&message, 300).into_owned(), retryable, broken, wait: None }
}

/// The provider's own words, and what to do about them.
fn refusal(status: u16, body: &[u8]) -> String {
    let words = provider_message(body);
    let hint = match status {
        401 | 403 => "; check the model's secret and its rights",
        404 => "; check the request URL and the model's name",
        429 => "; the provider limits the rate or the budget",
        _ => "",
    };
    let reason = ureq::http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("");
    let space = if reason.is_empty() { "" } else { " " };
    if words.is_empty() {
        format!("{reason}{space}without an explanation{hint}")
    } else {
        format!("{reason}{space}\"{}\"{hint}", cut(&words, 220))
    }
}

/// Finds the message in the error bodies that providers send.
fn provider_message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..body.len().min(64 * 1024)).unwrap_or_default());
    let value: serde_json::Value = match serde_json::from_str(&text) {
        Ok(serde_json::Value::Array(mut items)) if !items.is_empty() => items.swap_remove(0),
        Ok(value) => value,
        Err(_) => return text.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let found = ["/error/message", "/error", "/message", "/detail", "/error_description", "/errors/0/message"]
        .iter()
        .find_map(|path| value.pointer(path).and_then(serde_json::Value::as_str));
    match found {
        Some(message) => message.trim().to_owned(),
        None if value.as_object().is_some_and(serde_json::Map::is_empty) => String::new(),
        None => value.to_string(),
    }
}

/// A URL without its query, which may hold a key.
pub fn shown(url: &Url) -> String {
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
    let bad = |what: String| Error::invalid(format!("setting ca_file '{}' {what}", cut(ca_file, 120)));
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
            ("<html>\n Bad   Gateway</html>", "<html> Bad Gateway</html>"),
            ("", ""),
            ("{}", ""),
        ] {
            assert_eq!(provider_message(body.as_bytes()), words);
        }
    }

    #[test]
    fn a_shown_url_has_no_query_and_no_user() {
        let url = Url::parse("https://u:p@h.example:8443/v1/x?key=secret#f").unwrap();
        assert_eq!(shown(&url), "https://h.example:8443/v1/x");
    }
}
