//! Options and results of questions: what is done about an input that fails, and which errors are an input's.

use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::memory::{Held, Reservation};

use super::call::Call;
use crate::ai::Answer;
use crate::catalog::members::{self, Members};
use crate::catalog::options::OnError;
use crate::providers::chat::Message;
use crate::providers::image::Images;

/// The arguments that a question is about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The text.
    pub text: &'a str,
    /// The images, as [`Images::read`] reads them.
    pub images: Option<&'a [u8]>,
}

impl About<'_> {
    /// Reads the images.
    pub(super) fn message(&self) -> Result<Held<Message>> {
        let copied = Reservation::take(self.text.len(), "the input")?;
        let Some(argument) = self.images else { return Ok(Held::new(self.text.into(), copied)) };
        let mut share = Reservation::take(Images::memory_to_read(argument), "the images")?;
        let images = Images::read(argument)?;
        share.shrink_to(images.bytes());
        share.absorb(copied);
        Ok(Held::new(Message { text: self.text.into(), images }, share))
    }
}

/// The result of [`Engine::ask`](super::Engine::ask).
pub enum Asked {
    /// The value, and what would be done about an error.
    Answered(Held<Answer>, OnError),
    /// Nothing yet: the input is collected, to be asked later.
    Noted,
    /// The input's error, and what is to be given in the value's place: NULL or the error.
    Failed(Error, OnError),
}

/// Options of one question; `None`: the model's option, else the setting.
#[derive(Debug, Clone, Copy, Default)]
pub struct AskOptions {
    /// What is done about an input that fails.
    pub on_error: Option<OnError>,
    /// Whether the caches keep the answer.
    pub cache_answers: Option<bool>,
}

impl AskOptions {
    /// Takes these options out of the members of an object.
    pub fn take(members: &mut Members) -> Result<Self> {
        Ok(AskOptions { on_error: OnError::take(members)?, cache_answers: members::cache_answers(members)? })
    }
}

/// What is done about an input that fails: by argument, option or setting.
pub(super) fn on_error_of(call: &Call, argument: Option<OnError>) -> OnError {
    argument.or(call.model().options.on_error).unwrap_or(call.settings.on_error)
}

/// Whether an error may be that of one input. Others concern all calls of the model, or the statement.
pub(super) fn is_of_the_input(error: &Error) -> bool {
    match error.kind() {
        Kind::Response | Kind::Timeout | Kind::TooLarge | Kind::Connection => true,
        // A quota that is used up would make all rows NULL.
        Kind::Provider(status) => !matches!(status, 300..=399 | 401..=405 | 429),
        _ => false,
    }
}

/// Options of a call with many inputs.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetOptions {
    /// Options of each question.
    pub each: AskOptions,
    /// The most concurrent requests; `None`: the model's option, else the default.
    pub concurrency: Option<u64>,
    /// The largest part of failed inputs, 0 to 1, beyond which the call fails; `None`: 1.
    pub max_error_ratio: Option<f64>,
}

impl SetOptions {
    /// Takes these options out of the members of an object.
    pub fn take(members: &mut Members) -> Result<Self> {
        Ok(SetOptions {
            each: AskOptions::take(members)?,
            concurrency: members::concurrency(members)?,
            max_error_ratio: members::max_error_ratio(members)?,
        })
    }
}

/// The error of an answer that could not be used twice.
pub fn unusable(reason: &str, answer: &str) -> Error {
    Error::response(format!(
        "the model's answer cannot be used, also when asked again: {reason}; it begins: {}",
        cut(answer, 120)
    ))
}

/// Whether more than a part `most` of the inputs failed.
pub(super) fn failed_too_often(failed: u64, asked: u64, most: f64) -> bool {
    failed as f64 > most * asked as f64
}
