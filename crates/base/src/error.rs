//! The one error type of the library and how it becomes a SQL error.

use std::borrow::Cow;

use crate::symbol::Symbol;

/// `ER_UDF_ERROR`: the code of every failure that is the library's own.
pub const ER_UDF_ERROR: u32 = 3200;
/// The server keeps at most this many bytes of a raised message (`MYSQL_ERRMSG_SIZE` - 1).
pub const MAX_MESSAGE_BYTES: usize = 511;

/// The kind of an error, for code that handles it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An argument, option or setting has a value that is not accepted.
    Invalid,
    /// A model, secret, function or file does not exist.
    NotFound,
    /// The model or secret is registered already.
    AlreadyExists,
    /// The egress policy, or a rule about secrets, forbids it.
    Denied,
    /// The endpoint could not be reached: name, connection, TLS, proxy.
    Connection,
    /// The deadline of the call passed.
    Timeout,
    /// The endpoint answered with an HTTP error status.
    Provider(u16),
    /// The endpoint's answer could not be read.
    Response,
    /// Something exceeds a bound.
    TooLarge,
    /// The library ran out of a bounded resource (threads).
    Busy,
    /// Too many jobs were running until this one's time was up.
    NoTurn,
    /// The memory bound for calls is reached.
    Memory,
    /// The statement was killed or timed out; holds the server's error number.
    Interrupted(u32),
    /// The server refused a statement of ours; holds its error number.
    Server(u32),
    /// The server lacks something the library needs.
    Unsupported,
    /// A defect of the library.
    Internal,
}

impl Kind {
    /// Its stable name.
    pub fn symbol(self) -> Symbol {
        match self {
            Kind::Invalid => Symbol::Invalid,
            Kind::NotFound => Symbol::NotFound,
            Kind::AlreadyExists => Symbol::AlreadyExists,
            Kind::Denied => Symbol::Denied,
            Kind::Connection => Symbol::Connection,
            Kind::Timeout => Symbol::Timeout,
            Kind::Provider(401 | 403) => Symbol::KeyRefused,
            Kind::Provider(404) => Symbol::ProviderNotFound,
            Kind::Provider(429) => Symbol::RateLimited,
            Kind::Provider(500..) => Symbol::ProviderFailed,
            Kind::Provider(_) => Symbol::ProviderRefused,
            Kind::Response => Symbol::Response,
            Kind::TooLarge => Symbol::TooLarge,
            Kind::Busy => Symbol::Busy,
            Kind::NoTurn => Symbol::NoTurn,
            Kind::Memory => Symbol::Memory,
            Kind::Interrupted(_) => Symbol::Interrupted,
            Kind::Server(_) => Symbol::Server,
            Kind::Unsupported => Symbol::Unsupported,
            Kind::Internal => Symbol::Internal,
        }
    }
}

/// A failure: its kind, and a text `fact; next step`.
///
/// The text never holds a secret. It carries no function name: [`Error::sql_message`] adds it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: Cow<'static, str>,
}

/// The result of fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Error { kind, message: message.into() }
    }

    /// [`Kind::Invalid`].
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// [`Kind::Response`].
    pub fn response(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Response, message)
    }

    /// [`Kind::Internal`]: `message` names the defect, for a bug report.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// The statement was stopped; `code` is the server's number (1317, 3024, 1053).
    pub fn interrupted(code: u32) -> Self {
        let message = match code {
            3024 => "Query execution was interrupted, maximum statement execution time exceeded",
            1053 => "Server shutdown in progress",
            _ => "Query execution was interrupted",
        };
        Self::new(Kind::Interrupted(code), message)
    }

    /// [`Kind::TooLarge`]: a result that the client cannot receive. `what`: the result and its size; `largest`: the
    /// limit in bytes.
    pub fn result_too_large(what: &str, largest: usize) -> Self {
        Self::new(
            Kind::TooLarge,
            format!("{what}, more than the session's max_allowed_packet ({largest}) can hand over; ask for less in a call, or raise it and connect anew"),
        )
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The stable name of its kind.
    pub fn symbol(&self) -> Symbol {
        self.kind.symbol()
    }

    /// The text without the function's name.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error with `context` in front of its text, unless the text is the server's own.
    #[must_use]
    pub fn context(self, context: &str) -> Self {
        match self.kind {
            Kind::Interrupted(_) | Kind::Server(_) => self,
            kind => Self::new(kind, format!("{context}: {}", self.message)),
        }
    }

    /// The MySQL error number a client sees.
    pub fn sql_code(&self) -> u32 {
        match self.kind {
            Kind::Interrupted(code) | Kind::Server(code) => code,
            _ => ER_UDF_ERROR,
        }
    }

    /// The message a client sees: `function: fact; next step`, at most [`MAX_MESSAGE_BYTES`] bytes,
    /// cut on a character boundary, without control characters.
    pub fn sql_message(&self, function: &str) -> String {
        let text = match self.kind {
            Kind::Interrupted(_) | Kind::Server(_) => self.message.to_string(),
            Kind::Internal => {
                format!("{function}: internal error: {}; the server is unharmed, please report this", self.message)
            }
            _ => format!("{function}: {}", self.message),
        };
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        cut(&text, MAX_MESSAGE_BYTES).into_owned()
    }
}

/// `text` cut to at most `max` bytes on a character boundary, with `...` where something was cut.
pub fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let mut end = max.saturating_sub(3);
    while end > 0 && !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}...", text.get(..end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_on_a_character_boundary() {
        let e = Error::invalid("é".repeat(600));
        let m = e.sql_message("ml_x");
        assert!(m.len() <= MAX_MESSAGE_BYTES);
        assert!(m.ends_with("..."));
        assert!(m.starts_with("ml_x: é"));
    }

    #[test]
    fn control_characters_do_not_reach_the_client() {
        assert_eq!(Error::invalid("a\nb\0c").sql_message("f"), "f: a b c");
    }

    #[test]
    fn server_errors_keep_their_number_and_text() {
        let e = Error::new(Kind::Server(1142), "SELECT command denied");
        assert_eq!((e.sql_code(), e.sql_message("f")), (1142, "SELECT command denied".into()));
    }
}
