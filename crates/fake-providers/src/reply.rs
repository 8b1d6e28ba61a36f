//! What a request gets: an answer, or what no specification allows.

use std::sync::Arc;

use crate::answer::Answer;

/// What a request gets.
pub(crate) enum Reply {
    Answer(Answer),
    /// A whole response.
    Raw(Arc<[u8]>),
    Misbehave(Misbehaviour),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl From<Misbehaviour> for Reply {
    fn from(what: Misbehaviour) -> Self {
        Self::Misbehave(what)
    }
}

/// Something that a plain [`Answer`] cannot express; each ends the connection but `Huge`.
pub(crate) enum Misbehaviour {
    /// The head, then a byte now and then.
    Drip,
    /// Less body than announced.
    Truncated,
    /// A very long chunked body.
    Huge,
    /// A TCP reset in place of an answer.
    Reset,
    /// The end of the connection in place of an answer.
    Eof,
    /// Nothing at all.
    Hang,
    /// A keep-alive answer and then the end of the connection.
    CloseAfter(Answer),
}
