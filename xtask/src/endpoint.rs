//! A local model endpoint for tests, the demo and benchmarks.
//!
//! It speaks the wire formats the library calls, records what it was sent, and can misbehave in the
//! ways a real endpoint or a hostile one does. It binds to 127.0.0.1, unless told otherwise.
//!
//! | path | answer |
//! |---|---|
//! | `/v1/embeddings` | OpenAI embeddings; model `test-N` gives N dimensions, another one 1536 |
//! | `/v1/chat/completions` | OpenAI chat: `You said: ` and the last user message |
//! | `/models/text/embeddings/v1` | `{"prompt": ["text"]}` to `[[f, ...]]`, 50 numbers each |
//! | `/auth/embeddings` | as `/v1/embeddings`, 401 without the expected key (the message repeats the wrong one) |
//! | `/echo` | the request as JSON; any method |
//! | `/bytes/N` | a JSON string of N characters (N + 2 bytes with its quotes) |
//! | `/status/CODE` | that status with an error body |
//! | `/retry/N/CODE[/SECONDS]` | CODE (and `Retry-After`) for the path's first N requests, then embeddings |
//! | `/ratelimit`, `/quota` | 429 with `Retry-After: 3600`; 429 with code `insufficient_quota` |
//! | `/delay/MS/REST` | `/REST`, late |
//! | `/drip` | the head at once, then one byte of a promised MiB every 100 ms |
//! | `/truncated` | less body than `Content-Length` says, then the end of the connection |
//! | `/huge`, `/gzip-bomb` | 100 MiB of valid JSON: chunked; compressed to some 100 KiB |
//! | `/huge-header` | a header of 1 MiB |
//! | `/redirect`, `/redirect-post` | 302 and 307 to `/v1/embeddings` |
//! | `/gzip` | embeddings, compressed whatever the client accepts |
//! | `/not-json`, `/broken-json`, `/no-data`, `/deep` | HTML; cut JSON; no `data`; 100,000 nested arrays |
//! | `/nan`, `/inf`, `/empty-embedding` | embeddings `[NaN,1.0]`, `[1e999]`, `[]` |
//! | `/wrong-width/N` | embeddings of N numbers whatever was asked |
//! | `/reset`, `/eof` | no answer: a TCP reset; an orderly end of the connection |
//! | `/close-keepalive` | a keep-alive answer, after which the connection is closed all the same |
//! | `/hang` | no answer until the client or the endpoint goes away |
//!
//! The routes of model interfaces answer 405 to anything but POST.
//!
//! Under these prefixes, each of which stands for a provider's host, it is strict: a wrong header or shape, a missing
//! or an unknown member is refused as the service does. KEY is the expected key, or any key when none is expected;
//! TOKEN is an access token that one of Google's identity routes handed out and that is still good.
//!
//! | path | what it is |
//! |---|---|
//! | `/openai/v1/{embeddings,chat/completions}` | `OpenAI`, Bearer KEY; also models `test-N` |
//! | `/azure/openai/deployments/NAME/{embeddings,chat/completions}` | Azure, `api-key: KEY`, `?api-version=` |
//! | `/anthropic/v1/messages` | Anthropic, `x-api-key: KEY`, `anthropic-version: 2023-06-01` |
//! | `/vertex/v1/projects/P/locations/L/...` | Vertex AI, Bearer TOKEN; P is `test-project`, `other-project` or `my-project`. Models of Google (`:predict`, `:embedContent`, `:generateContent`, `:streamGenerateContent`) and Anthropic (`:rawPredict`), and `endpoints/E:predict` |
//! | `/gemini/v1beta/models/M:METHOD` | the Gemini API, `x-goog-api-key: KEY` |
//! | `/discovery/v1/projects/P/locations/L/rankingConfigs/C:rank` | ranking, Bearer TOKEN; scores of [`relevance_for`] |
//! | `/google-oauth/token`, `/google-sts/v1/token` | tokens for a signed assertion or a refresh token; for a subject token |
//! | `/iamcredentials/v1/projects/-/serviceAccounts/A:generateAccessToken` | a token for a TOKEN |
//! | `/computeMetadata/v1/...` | the metadata server: token, project and zone |
//! | `/secretmanager/v1/projects/P/[locations/L/]secrets/S/versions/V:access` | what [`Endpoint::set_secret`] set, Bearer TOKEN |
//! | `/huggingface/hf-inference/models/O/M/pipeline/feature-extraction` | Hugging Face, Bearer KEY; M ending in `-flat` answers `[f]`, in `-tokens` `[[[f]]]`, in `-loading` 503 |
//! | `/huggingface/models/O/M`, `/huggingface/v1/chat/completions` | its old interface of text generation; its chat |
//! | `/tei/{embed,rerank}` | Text Embeddings Inference, without a key |
//! | `/nim/v1/{embeddings,ranking,chat/completions}` | NVIDIA NIM, Bearer KEY |
//! | `/cohere/v2/{embed,rerank,chat}` | Cohere, Bearer KEY |
//! | `/voyage/v1/{embeddings,rerank}` | Voyage AI, Bearer KEY |
//! | `/mistral/v1/{embeddings,chat/completions}` | Mistral, Bearer KEY |
//! | `/ollama/api/{embed,chat,generate}`, `/api/...` | Ollama, without a key; there is no model `missing` |
//! | `/bedrock/model/M/{invoke,converse}` | Amazon Bedrock, Bearer KEY; Titan's and Cohere's embeddings, any model's `converse` |
//!
//! [`Internet`] is a proxy that leads from the providers' own hosts to these prefixes.
//!
//! And limiters before other routes:
//!
//! | path | answer |
//! |---|---|
//! | `/limited/REST` | `/REST` so many times a window ([`Endpoint::set_rate_limit`]), else 429 that tells how long to wait |
//! | `/pause-once/SECONDS/REST` | 429 with `Retry-After` from the path's first request on for that time, then `/REST` |
//! | `/concurrent/N/REST` | `/REST` after 20 ms; 429 without a hint while N are being answered |
//! | `/spend-limit` | Anthropic's 429 that no waiting helps against |

use std::collections::HashMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;

mod answer;
mod connection;
mod embedding;
pub mod hub;
mod internet;
mod misbehave;
mod ports;
mod providers;
mod routes;
#[cfg(test)]
mod tests;
mod tls;

pub use answer::Answer;
pub use embedding::embedding_for;
pub use internet::Internet;
pub use ports::{refused_port, Blackhole};
pub use providers::relevance_for;
pub use tls::Certificate;

use embedding::FixedVector;

/// How long [`Endpoint`]'s drop waits for connection threads whose sockets it has shut down.
const DRAIN: Duration = Duration::from_secs(2);

/// One request as the endpoint read it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The method, for example `POST`.
    pub method: String,
    /// The path without the query, as sent.
    pub path: String,
    /// What followed `?`, or an empty string.
    pub query: String,
    /// The headers in their order, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body, with a chunked transfer coding undone.
    pub body: Vec<u8>,
    /// The number of the connection it came over; requests with one number shared it.
    pub connection: u64,
    /// When its last byte had been read.
    pub at: Instant,
}

impl Recorded {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What answers a path that a test registered.
#[derive(Clone)]
enum Custom {
    Handler(Arc<dyn Fn(&Recorded) -> Answer + Send + Sync>),
    /// The bytes of a whole response, head included.
    Prebuilt(Arc<[u8]>),
}

/// The state that the connection threads share.
struct Shared {
    stopped: AtomicBool,
    sleepers: (Mutex<bool>, Condvar),
    sockets: Mutex<HashMap<u64, TcpStream>>,
    accepted: AtomicU64,
    open: AtomicUsize,
    recording: AtomicBool,
    requests: Mutex<Vec<Recorded>>,
    count: AtomicU64,
    per_path: Mutex<HashMap<String, u64>>,
    custom: RwLock<HashMap<String, Custom>>,
    expected_key: Mutex<String>,
    latency_fixed: AtomicU64,
    latency_per_text: AtomicU64,
    fixed_vector: RwLock<Option<Arc<FixedVector>>>,
    /// The address without a path.
    base: String,
    providers: providers::State,
}

/// Locks whether or not a thread panicked while holding the lock: the data are plain collections.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Shared {
    fn new(base: String) -> Self {
        Self {
            stopped: AtomicBool::new(false),
            sleepers: (Mutex::new(false), Condvar::new()),
            sockets: Mutex::default(),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            recording: AtomicBool::new(true),
            requests: Mutex::default(),
            count: AtomicU64::new(0),
            per_path: Mutex::default(),
            custom: RwLock::default(),
            expected_key: Mutex::default(),
            latency_fixed: AtomicU64::new(0),
            latency_per_text: AtomicU64::new(0),
            fixed_vector: RwLock::default(),
            base,
            providers: providers::State::default(),
        }
    }

    /// Sleeps, but not beyond the endpoint's life.
    fn pause(&self, duration: Duration) {
        if duration.is_zero() {
            return;
        }
        let (stopped, wake) = &self.sleepers;
        // Both outcomes end the pause: a write to the closed socket tells the caller which it was.
        drop(wake.wait_timeout_while(lock(stopped), duration, |stopped| !*stopped));
    }

    /// Counts a request and returns its number among those of its path, from 1.
    fn note(&self, path: &str) -> u64 {
        let mut per_path = lock(&self.per_path);
        let nth = match per_path.get_mut(path) {
            Some(seen) => {
                *seen += 1;
                *seen
            }
            None => {
                per_path.insert(path.to_owned(), 1);
                1
            }
        };
        drop(per_path);
        self.count.fetch_add(1, Ordering::Release);
        nth
    }

    fn custom(&self, path: &str) -> Option<Custom> {
        let custom = self.custom.read().unwrap_or_else(PoisonError::into_inner);
        custom.get(path).cloned()
    }

    fn fixed_vector(&self) -> Option<Arc<FixedVector>> {
        let fixed = self.fixed_vector.read();
        fixed.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running local HTTP/1.1 server; dropping it stops it. See the module for its paths.
pub struct Endpoint {
    shared: Arc<Shared>,
    accept: Option<JoinHandle<()>>,
    address: SocketAddr,
    ca_pem: String,
}

impl Endpoint {
    /// Starts an endpoint without TLS on a free port of 127.0.0.1.
    pub fn start() -> anyhow::Result<Self> {
        Self::launch(None, String::new(), (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts an endpoint without TLS on an address that is known before. Its URLs name 127.0.0.1.
    pub fn start_on(address: SocketAddr) -> anyhow::Result<Self> {
        Self::launch(None, String::new(), address)
    }

    /// Starts an endpoint with TLS whose certificate is signed by a new private authority.
    pub fn start_tls(certificate: Certificate) -> anyhow::Result<Self> {
        let (config, ca_pem) = tls::server_config(certificate)?;
        Self::launch(Some(config), ca_pem, (Ipv4Addr::LOCALHOST, 0).into())
    }

    fn launch(tls: Option<Arc<rustls::ServerConfig>>, ca_pem: String, listen: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).context("bind")?;
        let address = listener.local_addr().context("local address")?;
        let base = match tls {
            // The certificate is for this name, and clients verify names more often than addresses.
            Some(_) => format!("https://localhost:{}", address.port()),
            None => format!("http://127.0.0.1:{}", address.port()),
        };
        let shared = Arc::new(Shared::new(base));
        let accept = thread::Builder::new()
            .name("endpoint-accept".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || connection::accept(&listener, tls.as_ref(), &shared)
            })
            .context("start the accepting thread")?;
        Ok(Self { shared, accept: Some(accept), address, ca_pem })
    }

    /// The address of a path, which starts with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.shared.base)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The certificate of the private authority as PEM; empty without TLS.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The requests read so far, unless recording was off.
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.shared.requests).clone()
    }

    /// The number of requests read so far.
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Acquire)
    }

    /// The number of requests read so far for a path as sent, without its query.
    pub fn count_for(&self, path: &str) -> u64 {
        lock(&self.shared.per_path).get(path).copied().unwrap_or(0)
    }

    /// Forgets all requests and counts, those of `/retry` and of the limiters included.
    pub fn clear(&self) {
        lock(&self.shared.requests).clear();
        lock(&self.shared.per_path).clear();
        self.shared.count.store(0, Ordering::Release);
        lock(&self.shared.providers.limits).clear();
    }

    /// Waits until a path has had this many requests; false when it has not in that time.
    pub fn wait_for(&self, path: &str, requests: u64, timeout: Duration) -> bool {
        poll(timeout, || self.count_for(path) >= requests)
    }

    /// Turns the recording of requests on or off; they are counted in either case.
    pub fn set_recording(&self, on: bool) {
        self.shared.recording.store(on, Ordering::Release);
    }

    /// The number of connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// The number of connections open now, as far as the endpoint has noticed.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Waits until no connection is open; false when one still is after that time.
    pub fn wait_until_idle(&self, timeout: Duration) -> bool {
        poll(timeout, || self.open_connections() == 0)
    }

    /// Sets the key that `/auth/embeddings` wants as `Authorization: Bearer KEY`, and that the providers' routes want
    /// as each of them does. Without it those take any key but an empty one.
    pub fn set_expected_key(&self, key: &str) {
        key.clone_into(&mut lock(&self.shared.expected_key));
    }

    /// Makes `/v1/embeddings` wait before it answers: a fixed time and one for each text.
    pub fn set_latency(&self, fixed: Duration, per_text: Duration) {
        let shared = &self.shared;
        shared.latency_fixed.store(nanoseconds(fixed), Ordering::Release);
        shared.latency_per_text.store(nanoseconds(per_text), Ordering::Release);
    }

    /// Makes the embedding routes, but not the providers', answer this vector for every text, encoded once, whatever width
    /// was asked for; None restores the vectors of [`embedding_for`].
    pub fn set_fixed_vector(&self, vector: Option<&[f32]>) {
        let fixed = vector.map(|vector| Arc::new(FixedVector::new(vector)));
        let slot = self.shared.fixed_vector.write();
        *slot.unwrap_or_else(PoisonError::into_inner) = fixed;
    }

    /// Answers a path with what the function returns, in place of any default route.
    pub fn on<F>(&self, path: &str, handler: F)
    where
        F: Fn(&Recorded) -> Answer + Send + Sync + 'static,
    {
        self.register(path, Custom::Handler(Arc::new(handler)));
    }

    /// Answers a path with these same bytes each time and keeps the connection; the request's body
    /// is not looked at.
    pub fn prebuild(&self, path: &str, answer: &Answer) {
        self.register(path, Custom::Prebuilt(answer.encode(false).into()));
    }

    fn register(&self, path: &str, custom: Custom) {
        let mut routes = self.shared.custom.write().unwrap_or_else(PoisonError::into_inner);
        routes.insert(path.to_owned(), custom);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        *lock(&self.shared.sleepers.0) = true;
        self.shared.sleepers.1.notify_all();
        // A blocked accept() is only woken by a connection.
        drop(TcpStream::connect(self.address));
        if let Some(accept) = self.accept.take() {
            // Err means that the thread panicked, which it has reported already.
            drop(accept.join());
        }
        for socket in lock(&self.shared.sockets).values() {
            // Fails when the client was faster, which is as good.
            drop(socket.shutdown(Shutdown::Both));
        }
        self.wait_until_idle(DRAIN);
    }
}

fn poll(timeout: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
}
