//! The endpoint as tests hold it: started, told how to behave, asked what it got.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use crate::answer::Answer;
use crate::connection;
use crate::embedding::FixedVector;
use crate::providers::google_identity;
use crate::request::Recorded;
use crate::routes::Routes;
use crate::shared::{lock, Custom, Route, Shared};
use crate::tls::{self, Certificate};

/// How long [`Endpoint`]'s drop waits for connection threads whose sockets it has shut down.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs an endpoint until the process is ended, and prints the port it listens on.
pub fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let endpoint = Endpoint::start_on(listen)?;
    println!("listening on port {}", endpoint.port());
    loop {
        thread::park();
    }
}

/// A running local HTTP/1.1 server; dropping it stops it. The crate lists its paths.
pub struct Endpoint {
    pub(crate) shared: Arc<Shared>,
    routes: Arc<Routes>,
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
        let routes = Arc::<Routes>::default();
        let shared = Arc::new(Shared::new(base, Arc::clone(&routes) as Arc<dyn Route>));
        let accept = thread::Builder::new()
            .name("endpoint-accept".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || connection::accept(&listener, tls.as_ref(), &shared)
            })
            .context("start the accepting thread")?;
        Ok(Self { shared, routes, accept: Some(accept), address, ca_pem })
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
        self.routes.providers.limits().clear();
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
    /// was asked for; None restores the vectors of [`embedding_for`](crate::embedding_for).
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

    /// Sets how many requests `/limited/REST` lets through in each window of this length, which begins with the first
    /// request after the one before. Without it nothing is refused.
    pub fn set_rate_limit(&self, per_window: u32, window: Duration) {
        self.routes.providers.limits().set(per_window, window);
    }

    /// The number of requests that `/limited`, `/pause-once` and `/concurrent` refused with 429.
    pub fn refused(&self) -> u64 {
        self.routes.providers.limits().refused()
    }

    /// Sets a secret by its name, `projects/P/secrets/S/versions/latest` or another version, with `locations/L` in it
    /// if it is a regional one. What is set as `latest` is version 3. Secrets called `broken-crc` get a wrong checksum.
    pub fn set_secret(&self, name: &str, value: &[u8]) {
        self.routes.providers.secrets().insert(name.to_owned(), value.to_vec());
    }

    /// Sets how long the access tokens are good for that are handed out from here on; an hour at first.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.routes.providers.tokens().set_lifetime(lifetime);
    }

    /// Makes all access tokens handed out so far invalid.
    pub fn revoke_tokens(&self) {
        self.routes.providers.tokens().revoke();
    }

    /// The number of access tokens handed out, by any of the routes; [`Endpoint::clear`] leaves it alone.
    pub fn tokens_issued(&self) -> u64 {
        self.routes.providers.tokens().issued()
    }

    /// A key file of the service account that this endpoint knows.
    pub fn service_account_key(&self) -> Value {
        google_identity::service_account_key(&self.url("/google-oauth/token"))
    }

    /// The credentials that a user's login leaves behind. They name no `token_uri`, as the real ones do not: the
    /// client must be told of `/google-oauth/token`.
    pub fn authorized_user(&self) -> Value {
        google_identity::authorized_user()
    }

    /// A configuration of workload identity federation that reads its token from this file, which must hold
    /// `subject-5ecret`.
    pub fn external_account(&self, file: &Path) -> Value {
        google_identity::external_account(&self.url("/google-sts/v1/token"), file)
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

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
