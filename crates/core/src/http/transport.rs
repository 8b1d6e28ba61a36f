//! The lowest layer under ureq: connections that can be abandoned, and names that are checked once resolved.
//!
//! A call runs on one worker thread from connect to the last byte. Its context is a thread-local, because ureq's
//! connections outlive the call that opened them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::time;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::egress::Allowlist;
use mysql_ml_base::interrupt::CancelToken;

/// The longest blocking read before the next check for cancellation.
const SLICE: Duration = Duration::from_millis(50);

/// The context of the call on this thread.
#[derive(Clone)]
pub struct CallContext {
    /// Cancels reads.
    pub cancel: CancelToken,
    /// Checks resolved addresses.
    pub allowlist: Arc<Allowlist>,
    /// `host:port` of the proxy in use, which the allowlist does not concern.
    pub proxy: Option<String>,
}

thread_local! {
    static OPENED: Cell<bool> = const { Cell::new(false) };
    static CONTEXT: RefCell<Option<CallContext>> = const { RefCell::new(None) };
}

/// Runs `f` with `context` in force on this thread.
pub fn with_context<T>(context: CallContext, f: impl FnOnce() -> T) -> T {
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            CONTEXT.with(|c| *c.borrow_mut() = None);
        }
    }
    CONTEXT.with(|c| *c.borrow_mut() = Some(context));
    let _clear = Clear;
    f()
}

/// Runs `f`, one try of a request. Also returns whether it opened a connection instead of using a pooled one.
pub fn noting_connections<T>(f: impl FnOnce() -> T) -> (T, bool) {
    OPENED.with(|o| o.set(false));
    let result = f();
    (result, OPENED.with(Cell::get))
}

fn cancelled() -> bool {
    CONTEXT.with(|c| c.borrow().as_ref().is_some_and(|c| c.cancel.is_cancelled()))
}

/// Wraps each connection so that waiting for input ends when the call is cancelled.
#[derive(Debug, Default)]
pub struct CancelConnector;

impl<In: Transport> Connector<In> for CancelConnector {
    type Out = CancelTransport<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        OPENED.with(|o| o.set(true));
        Ok(chained.map(CancelTransport))
    }
}

/// A connection whose reads are made in slices.
#[derive(Debug)]
pub struct CancelTransport<In>(In);

impl<In: Transport> Transport for CancelTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let started = std::time::Instant::now();
        loop {
            if cancelled() {
                return Err(ureq::Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, "cancelled")));
            }
            let left = match timeout.after {
                time::Duration::Exact(total) => total.saturating_sub(started.elapsed()),
                time::Duration::NotHappening => Duration::MAX,
            };
            if left.is_zero() {
                return Err(ureq::Error::Timeout(timeout.reason));
            }
            // A full slice every time: the socket's timeout is then set once and not for each read.
            let slice = NextTimeout { after: time::Duration::Exact(SLICE), ..timeout };
            match self.0.await_input(slice) {
                Err(ureq::Error::Timeout(_)) => {}
                other => return other,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

/// Resolves names on the worker's own thread and drops addresses that the egress policy forbids.
#[derive(Default)]
pub struct CheckedResolver;

impl fmt::Debug for CheckedResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckedResolver")
    }
}

impl Resolver for CheckedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &ureq::config::Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let bare = host.trim_matches(['[', ']']);
        let plain_http = uri.scheme_str() != Some("https");
        let port = uri.port_u16().unwrap_or(if plain_http { 80 } else { 443 });
        let context = CONTEXT.with(|c| c.borrow().clone());
        let is_proxy = context.as_ref().and_then(|c| c.proxy.as_deref()) == Some(&format!("{bare}:{port}"));
        let addresses = (bare, port).to_socket_addrs().map_err(|_| ureq::Error::HostNotFound)?;
        let mut allowed = self.empty();
        let mut refusal = None;
        for address in addresses {
            let checked = match &context {
                _ if is_proxy => Allowlist::check_proxy_address(bare, port, address.ip()),
                Some(context) => context.allowlist.check_address(bare, port, plain_http, address.ip()),
                None => Ok(()),
            };
            if let Err(error) = checked {
                refusal = Some(error);
                continue;
            }
            if allowed.len() < 16 {
                allowed.push(address);
            }
        }
        match refusal {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(error) => Err(ureq::Error::Other(Box::new(error))),
            None => Err(ureq::Error::HostNotFound),
        }
    }
}
