//! Answers that violate the specification.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flate2::write::GzEncoder;
use flate2::Compression;
use socket2::SockRef;

use crate::answer::Answer;
use crate::reply::Misbehaviour;
use crate::shared::Shared;
use crate::stream::Stream;

/// Size of the oversized bodies.
pub(crate) const HUGE: usize = 100 << 20;
/// The `Content-Length` of `/drip` and `/truncated`, which they do not deliver.
const PROMISED: usize = 1 << 20;

/// Performs the misbehaviour; true if the connection continues.
pub(crate) fn perform(what: &Misbehaviour, stream: &mut Stream, shared: &Shared) -> io::Result<bool> {
    match what {
        Misbehaviour::Drip => {
            stream.write_all(promise().as_bytes())?;
            for _ in 0..PROMISED {
                shared.pause(Duration::from_millis(100));
                stream.write_all(b" ")?;
            }
        }
        Misbehaviour::Truncated => {
            let cut = promise() + "{\"object\":\"list\",\"data\":[{\"embedding\":[0.5,";
            stream.write_all(cut.as_bytes())?;
        }
        Misbehaviour::Huge => {
            huge(stream)?;
            return Ok(true);
        }
        Misbehaviour::Reset => reset_on_close(stream.socket())?,
        Misbehaviour::Eof => {}
        Misbehaviour::Hang => {
            // Ends when either side closes the connection, which only a read notices.
            let mut scratch = [0; 4096];
            while stream.read(&mut scratch)? > 0 {}
        }
        Misbehaviour::CloseAfter(answer) => stream.write_all(&answer.encode(false))?,
    }
    Ok(false)
}

fn promise() -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {PROMISED}\r\n\r\n")
}

/// Makes the kernel send RST instead of FIN when the last handle of the socket is closed.
fn reset_on_close(socket: &TcpStream) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

fn huge(stream: &mut Stream) -> io::Result<()> {
    const CHUNK: usize = 64 << 10;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let mut chunk = format!("{CHUNK:x}\r\n").into_bytes();
    let start = chunk.len();
    chunk.resize(start + CHUNK, b'a');
    chunk.extend_from_slice(b"\r\n");
    for number in 0..HUGE / CHUNK {
        // The quotes make the whole a valid JSON string.
        if let Some(first) = chunk.get_mut(start) {
            *first = if number == 0 { b'"' } else { b'a' };
        }
        if let Some(last) = chunk.get_mut(start + CHUNK - 1) {
            *last = if number == HUGE / CHUNK - 1 { b'"' } else { b'a' };
        }
        stream.write_all(&chunk)?;
    }
    stream.write_all(b"0\r\n\r\n")
}

/// Compresses an answer's body.
pub(crate) fn gzip(answer: Answer) -> io::Result<Answer> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&answer.body)?;
    let body = encoder.finish()?;
    Ok(Answer { body, ..answer }.with_header("Content-Encoding", "gzip"))
}

/// A small body that decompresses to a JSON string of [`HUGE`] bytes.
pub(crate) fn gzip_bomb() -> io::Result<Answer> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(b"\"")?;
    io::copy(&mut io::repeat(b'a').take(HUGE as u64 - 2), &mut encoder)?;
    encoder.write_all(b"\"")?;
    Ok(Answer::raw_json(200, encoder.finish()?).with_header("Content-Encoding", "gzip"))
}
