//! The endpoint for tests: start it, set its behaviour, read its requests.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::answer::Answer;
use crate::connection;
use crate::embedding::FixedVector;
use crate::providers::google_identity;
use crate::request::Recorded;
use crate::routes::Routes;
use crate::shared::{lock, Custom, Route, Shared};
use crate::tls::{self, Certificate};

/// Time limit of [`Endpoint`]'s drop for connection threads after their sockets are shut down.
const DRAIN: Duration = Duration::from_secs(2);

/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;

/// Runs an endpoint until the process ends, and prints its port.
pub fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let endpoint = Endpoint::start_on(listen)?;
    println!("listening on port {}", endpoint.port());
    loop {
        thread::park();
    }
}

/// A running local HTTP/1.1 server; dropping it stops it. The crate's documentation lists its paths.
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

    /// Starts an endpoint without TLS on a given address. Its URLs name 127.0.0.1.
    pub fn start_on(address: SocketAddr) -> anyhow::Result<Self> {
        Self::launch(None, String::new(), address)
    }

    /// Starts an endpoint with TLS; a new private authority signs its certificate.
    pub fn start_tls(certificate: Certificate) -> anyhow::Result<Self> {
        let (config, ca_pem) = tls::server_config(certificate)?;
        Self::launch(Some(config), ca_pem, (Ipv4Addr::LOCALHOST, 0).into())
    }

    fn launch(tls: Option<Arc<rustls::ServerConfig>>, ca_pem: String, listen: SocketAddr) -> anyhow::Result<Self> {
        let listener = listener(listen).context("listen")?;
        let address = listener.local_addr().context("local address")?;
        let base = match tls {
            // The certificate is for this name; clients verify names more often than addresses.
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

    /// The URL of a path, which starts with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.shared.base)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The certificate of the private authority as PEM; empty without TLS.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The requests so far, unless recording was off.
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.shared.requests).clone()
    }

    /// The number of requests so far.
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Acquire)
    }

    /// The number of requests so far for a path as sent, without its query.
    pub fn count_for(&self, path: &str) -> u64 {
        lock(&self.shared.per_path).get(path).copied().unwrap_or(0)
    }

    /// Clears all requests and counts, including those of `/retry` and of the limiters.
    pub fn clear(&self) {
        lock(&self.shared.requests).clear();
        lock(&self.shared.per_path).clear();
        self.shared.count.store(0, Ordering::Release);
        self.routes.providers.limits().clear();
    }

    /// Waits until a path has had this many requests; false on timeout.
    pub fn wait_for(&self, path: &str, requests: u64, timeout: Duration) -> bool {
        poll(timeout, || self.count_for(path) >= requests)
    }

    /// Turns the recording of requests on or off; counting continues.
    pub fn set_recording(&self, on: bool) {
        self.shared.recording.store(on, Ordering::Release);
    }

    /// The number of connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// The number of open connections, as far as the endpoint has noticed.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Waits until no connection is open; false on timeout.
    pub fn wait_until_idle(&self, timeout: Duration) -> bool {
        poll(timeout, || self.open_connections() == 0)
    }

    /// Sets the key that `/auth/embeddings` expects as `Authorization: Bearer KEY`, and the providers' routes in
    /// their own headers. Without it the providers' routes accept any key but an empty one.
    pub fn set_expected_key(&self, key: &str) {
        key.clone_into(&mut lock(&self.shared.expected_key));
    }

    /// Delays the answers of `/v1/embeddings`: a fixed time, and a time for each text.
    pub fn set_latency(&self, fixed: Duration, per_text: Duration) {
        let shared = &self.shared;
        shared.latency_fixed.store(nanoseconds(fixed), Ordering::Release);
        shared.latency_per_text.store(nanoseconds(per_text), Ordering::Release);
    }

    /// Makes the embedding routes, but not the providers', answer every text with this vector, whatever width is
    /// requested. None restores the vectors of [`embedding_for`](crate::embedding_for).
    pub fn set_fixed_vector(&self, vector: Option<&[f32]>) {
        let fixed = vector.map(|vector| Arc::new(FixedVector::new(vector)));
        let slot = self.shared.fixed_vector.write();
        *slot.unwrap_or_else(PoisonError::into_inner) = fixed;
    }

    /// Answers a path with the function's result, instead of any default route.
    pub fn on<F>(&self, path: &str, handler: F)
    where
        F: Fn(&Recorded) -> Answer + Send + Sync + 'static,
    {
        self.register(path, Custom::Handler(Arc::new(handler)));
    }

    /// Answers a path with the same bytes each time and keeps the connection; the request's body is ignored.
    pub fn prebuild(&self, path: &str, answer: &Answer) {
        self.register(path, Custom::Prebuilt(answer.encode(false).into()));
    }

    fn register(&self, path: &str, custom: Custom) {
        let mut routes = self.shared.custom.write().unwrap_or_else(PoisonError::into_inner);
        routes.insert(path.to_owned(), custom);
    }

    /// Sets the number of requests that `/limited/REST` accepts in a window. A window begins with the first request
    /// after the previous one. Without this call nothing is refused.
    pub fn set_rate_limit(&self, per_window: u32, window: Duration) {
        self.routes.providers.limits().set(per_window, window);
    }

    /// The number of requests refused with 429 by `/limited`, `/pause-once` and `/concurrent`.
    pub fn refused(&self) -> u64 {
        self.routes.providers.limits().refused()
    }

    /// Sets a secret: `projects/P/secrets/S/versions/latest` or another version, with `locations/L` if it is
    /// regional. `latest` is stored as version 3. Secrets named `broken-crc` get a wrong checksum.
    pub fn set_secret(&self, name: &str, value: &[u8]) {
        self.routes.providers.secrets().insert(name.to_owned(), value.to_vec());
    }

    /// Sets the lifetime of access tokens issued from now on; the default is an hour.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.routes.providers.tokens().set_lifetime(lifetime);
    }

    /// Revokes all access tokens issued so far.
    pub fn revoke_tokens(&self) {
        self.routes.providers.tokens().revoke();
    }

    /// The number of access tokens issued by all routes; [`Endpoint::clear`] keeps it.
    pub fn tokens_issued(&self) -> u64 {
        self.routes.providers.tokens().issued()
    }

    /// A key file of this endpoint's service account.
    pub fn service_account_key(&self) -> Value {
        google_identity::service_account_key(&self.url("/google-oauth/token"))
    }

    /// The credentials of a user's login. Like real ones they have no `token_uri`: the client's configuration must
    /// name `/google-oauth/token`.
    pub fn authorized_user(&self) -> Value {
        google_identity::authorized_user()
    }

    /// A configuration of workload identity federation that reads its token from this file. The file must hold
    /// `subject-5ecret`.
    pub fn external_account(&self, file: &Path) -> Value {
        google_identity::external_account(&self.url("/google-sts/v1/token"), file)
    }
}

/// Listens with a queue for all connections of a benchmark that begin at once.
///
/// The standard library's queue of 128 overflows then. The system drops such a connection, and the client tries again
/// after a second.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // As the standard library does it: a port is free again at once.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        *lock(&self.shared.sleepers.0) = true;
        self.shared.sleepers.1.notify_all();
        // Only a connection wakes a blocked accept().
        drop(TcpStream::connect(self.address));
        if let Some(accept) = self.accept.take() {
            // An error means that the thread panicked, which it has reported.
            drop(accept.join());
        }
        for socket in lock(&self.shared.sockets).values() {
            // Fails if the client was faster, which has the same effect.
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
