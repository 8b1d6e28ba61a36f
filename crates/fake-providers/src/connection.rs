//! Reads requests from connections and writes the routes' answers.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use httparse::{Status, EMPTY_HEADER};
use rustls::ServerConfig;

use crate::answer::Answer;
use crate::hosts::Host;
use crate::misbehave;
use crate::reply::Reply;
use crate::request::{find, Request};
use crate::shared::{lock, Custom, Shared};
use crate::stream::Stream;

const MAX_HEADERS: usize = 128;
const MAX_HEAD: usize = 4 << 20;
const MAX_BODY: usize = 1 << 30;
const READ_SIZE: usize = 32 << 10;
/// Enough for the routes and for the deepest JSON that the parser accepts.
const STACK: usize = 1 << 20;

/// Accepts connections until the endpoint stops, each on its own thread.
pub(crate) fn accept(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            // An error concerns this connection only; its client sees it closed.
            Ok((socket, _)) => {
                let tls = tls.cloned();
                drop(spawn(socket, shared, move |socket, shared, connection| {
                    serve(&mut Stream::new(socket, tls)?, shared, connection, None)
                }));
            }
            // For example no descriptors left: give a connection time to end.
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Registers an open connection; removed even on panic.
struct Registration {
    shared: Arc<Shared>,
    connection: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.shared.sockets).remove(&self.connection);
    }
}

/// Counts the connection as open until its last handle is closed.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Release);
    }
}

/// Registers a connection and serves it on its own thread.
pub(crate) fn spawn<F>(socket: TcpStream, shared: &Arc<Shared>, serving: F) -> io::Result<()>
where
    F: FnOnce(TcpStream, &Shared, u64) -> io::Result<()> + Send + 'static,
{
    let connection = shared.accepted.fetch_add(1, Ordering::AcqRel) + 1;
    shared.open.fetch_add(1, Ordering::AcqRel);
    let open = Open(Arc::clone(shared));
    socket.set_nodelay(true)?;
    lock(&shared.sockets).insert(connection, socket.try_clone()?);
    let registration = Registration { shared: Arc::clone(shared), connection };
    let serving = move || {
        // The client usually ends the connection, and a test endpoint has no log.
        drop(serving(socket, &open.0, connection));
        // In this order: the peer sees the end or the reset when the last handle is closed. Waiters for the
        // connection's end must not return before that.
        drop(registration);
        drop(open);
    };
    thread::Builder::new().name(format!("endpoint-{connection}")).stack_size(STACK).spawn(serving).map(drop)
}

/// Bytes read from a connection and not yet used.
struct Input {
    buffer: Vec<u8>,
    filled: usize,
}

impl Input {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    /// Reads once; false at the end of the stream.
    fn fill(&mut self, stream: &mut Stream) -> io::Result<bool> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let free = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let read = loop {
            match stream.read(free) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.filled += read;
        Ok(read > 0)
    }

    fn discard(&mut self, used: usize) {
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
    }
}

/// The positions of a request's parts in the input.
struct Frame {
    head: usize,
    /// The body's end in the input, where the next request starts.
    end: usize,
    /// The decoded body, if it was chunked.
    decoded: Option<Vec<u8>>,
    keep_alive: bool,
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

/// Answers a connection's requests: for the endpoint's own paths, or for a host's.
pub(crate) fn serve(stream: &mut Stream, shared: &Shared, connection: u64, host: Option<&Host>) -> io::Result<()> {
    let mut input = Input { buffer: vec![0; READ_SIZE], filled: 0 };
    loop {
        let frame = match read_frame(stream, &mut input) {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                let answer = Answer::error(400, &error.to_string(), "invalid_request_error", None);
                stream.write_all(&answer.encode(true))?;
                break;
            }
            Err(error) => return Err(error),
        };
        let reply = respond(&frame, input.bytes(), shared, connection, host)?;
        input.discard(frame.end);
        let mut keep_alive = frame.keep_alive;
        match reply {
            Reply::Answer(answer) => {
                keep_alive &= !answer.closes();
                stream.write_all(&answer.encode(!keep_alive))?;
            }
            Reply::Raw(bytes) => stream.write_all(&bytes)?,
            Reply::Misbehave(what) => {
                if !misbehave::perform(&what, stream, shared)? {
                    // Without a TLS close: these ends must look like failures.
                    return Ok(());
                }
            }
        }
        if !keep_alive {
            break;
        }
    }
    stream.say_goodbye();
    Ok(())
}

/// Reads until the input holds a whole request; None if the client closed the connection.
fn read_frame(stream: &mut Stream, input: &mut Input) -> io::Result<Option<Frame>> {
    loop {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let status = parsed.parse(input.bytes()).map_err(|_| invalid("malformed request head"))?;
        if let Status::Complete(head) = status {
            let chunked =
                find(parsed.headers, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
            let length = match find(parsed.headers, "content-length") {
                None => 0,
                Some(value) => std::str::from_utf8(value)
                    .ok()
                    .and_then(|value| value.trim().parse::<usize>().ok())
                    .filter(|length| *length <= MAX_BODY)
                    .ok_or_else(|| invalid("bad Content-Length"))?,
            };
            let keep_alive = parsed.version == Some(1)
                && !find(parsed.headers, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
            let expects = find(parsed.headers, "expect").is_some();
            if expects && input.filled == head {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let body = if chunked {
                read_chunks(stream, input, head)?.map(|(end, decoded)| (end, Some(decoded)))
            } else {
                let end = head + length;
                read_until(stream, input, end)?.then_some((end, None))
            };
            return Ok(body.map(|(end, decoded)| Frame { head, end, decoded, keep_alive }));
        }
        if input.filled > MAX_HEAD {
            return Err(invalid("request head too long"));
        }
        if !input.fill(stream)? {
            return Ok(None);
        }
    }
}

fn read_until(stream: &mut Stream, input: &mut Input, end: usize) -> io::Result<bool> {
    if input.buffer.len() < end {
        input.buffer.resize(end, 0);
    }
    while input.filled < end {
        if !input.fill(stream)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_chunks(stream: &mut Stream, input: &mut Input, head: usize) -> io::Result<Option<(usize, Vec<u8>)>> {
    let mut at = head;
    let mut body = Vec::new();
    loop {
        let rest = input.bytes().get(at..).unwrap_or_default();
        let size = httparse::parse_chunk_size(rest).map_err(|_| invalid("malformed chunk"))?;
        let Status::Complete((line, size)) = size else {
            if !input.fill(stream)? {
                return Ok(None);
            }
            continue;
        };
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size <= MAX_BODY - body.len())
            .ok_or_else(|| invalid("body too long"))?;
        let start = at + line;
        let end = start + size;
        // Our clients send no trailers, so two bytes follow the last chunk like any other.
        if !read_until(stream, input, end + 2)? {
            return Ok(None);
        }
        body.extend_from_slice(input.bytes().get(start..end).unwrap_or_default());
        at = end + 2;
        if size == 0 {
            return Ok(Some((at, body)));
        }
    }
}

/// Counts and records a request, and finds its answer.
fn respond(frame: &Frame, input: &[u8], shared: &Shared, connection: u64, host: Option<&Host>) -> io::Result<Reply> {
    // Parsed again: the first result borrowed an input that was still growing. This is faster than copying the head's
    // parts.
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(input).map_err(|_| invalid("malformed request head"))?;
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = &*host.map_or(Cow::Borrowed(path), |host| host.local_path(path));
    let mut request = Request {
        method: parsed.method.unwrap_or_default(),
        path,
        query,
        headers: parsed.headers,
        body: match &frame.decoded {
            Some(decoded) => decoded,
            None => input.get(frame.head..frame.end).unwrap_or_default(),
        },
        nth: 0,
    };
    // Recorded before it is counted, so that a waiter for the count finds the record.
    if shared.recording.load(Ordering::Acquire) {
        let recorded = request.record(connection);
        lock(&shared.requests).push(recorded);
    }
    request.nth = shared.note(path);
    match shared.custom(path) {
        Some(Custom::Prebuilt(response)) => Ok(Reply::Raw(response)),
        Some(Custom::Handler(handler)) => Ok(Reply::Answer(handler(&request.record(connection)))),
        None => shared.routes.route(shared, &request, path),
    }
}
