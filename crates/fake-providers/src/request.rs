//! A request, as it is read and as it is recorded.

use std::time::Instant;

use httparse::Header;

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
