//! The reply to a request: an answer, or misbehaviour.

use std::sync::Arc;

use crate::answer::Answer;

/// The reply to a request.
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

/// Behaviour that a plain [`Answer`] cannot express. All but `Huge` end the connection.
pub(crate) enum Misbehaviour {
    /// The head, then a byte now and then.
    Drip,
    /// Less body than announced.
    Truncated,
    /// A very long chunked body.
    Huge,
    /// A TCP reset instead of an answer.
    Reset,
    /// The end of the connection instead of an answer.
    Eof,
    /// Nothing at all.
    Hang,
    /// A keep-alive answer, then the end of the connection.
    CloseAfter(Answer),
}
