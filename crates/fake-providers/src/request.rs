//! A request as read and as recorded.

use std::time::Instant;

use httparse::Header;

/// A request as the endpoint read it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The method, for example `POST`.
    pub method: String,
    /// The path without the query, as sent.
    pub path: String,
    /// The text after `?`, or an empty string.
    pub query: String,
    /// The headers in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body, decoded from a chunked transfer coding.
    pub body: Vec<u8>,
    /// The connection's number; requests with the same number shared it.
    pub connection: u64,
    /// Time of its last byte.
    pub at: Instant,
}

impl Recorded {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text; invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A request whose parts point into the connection's buffer.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a [Header<'a>],
    pub(crate) body: &'a [u8],
    /// Its number among the requests of this path, from 1.
    pub(crate) nth: u64,
}

impl Request<'_> {
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        find(self.headers, name)
    }

    pub(crate) fn record(&self, connection: u64) -> Recorded {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Recorded {
            method: self.method.to_owned(),
            path: self.path.to_owned(),
            query: self.query.to_owned(),
            headers: self.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect(),
            body: self.body.to_vec(),
            connection,
            at: Instant::now(),
        }
    }
}

pub(crate) fn find<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}
