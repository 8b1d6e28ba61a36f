//! Options and results of questions: what is done about an input that fails, and which errors are an input's.

use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::memory::{Held, Reservation};

use super::call::Call;
use crate::ai::pack::{AROUND_A_ROW, MOST_ROWS};
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

/// The default tokens of the texts in one request, as estimated at three bytes each.
pub(super) const INPUT_TOKENS: u64 = 8000;

/// How many rows share a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// The most rows of a request.
    pub rows: usize,
    /// The most tokens of their texts, as estimated.
    pub tokens: u64,
}

impl Default for Packing {
    /// One row a request.
    fn default() -> Self {
        Packing { rows: 1, tokens: INPUT_TOKENS }
    }
}

impl Packing {
    /// Takes the options `rows_per_request` and, with it, `max_input_tokens` out of the members of an object.
    pub fn take(members: &mut Members) -> Result<Self> {
        let packing = Packing::default();
        let Some(rows) = members::number(members, "rows_per_request", 1, MOST_ROWS as u64)? else { return Ok(packing) };
        let tokens = members::number(members, "max_input_tokens", 100, 1_000_000)?;
        let rows = usize::try_from(rows).unwrap_or(MOST_ROWS);
        Ok(Packing { rows, tokens: tokens.unwrap_or(packing.tokens) })
    }

    /// Whether rows share requests.
    pub fn is_on(self) -> bool {
        self.rows > 1
    }

    /// The requests for `inputs` inputs of `bytes` bytes together; the least if the texts differ in length.
    pub fn requests(self, inputs: u64, bytes: u64) -> u64 {
        if !self.is_on() {
            return inputs;
        }
        let tokens = (bytes.saturating_add(inputs.saturating_mul(AROUND_A_ROW as u64))) / 3;
        inputs.div_ceil(self.rows as u64).max(tokens.div_ceil(self.tokens)).min(inputs)
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
    /// How many inputs share a request.
    pub packing: Packing,
}

impl SetOptions {
    /// Takes these options out of the members of an object.
    pub fn take(members: &mut Members) -> Result<Self> {
        Ok(SetOptions {
            each: AskOptions::take(members)?,
            concurrency: members::concurrency(members)?,
            max_error_ratio: members::max_error_ratio(members)?,
            packing: Packing::take(members)?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_off_unless_asked_for_and_bounded() {
        let take = |json: &str| Packing::take(&mut serde_json::from_str(json).unwrap());
        assert_eq!(take("{}").unwrap(), Packing::default());
        assert!(!take(r#"{"rows_per_request": 1}"#).unwrap().is_on());
        let packing = take(r#"{"rows_per_request": 64, "max_input_tokens": 100}"#).unwrap();
        assert_eq!(packing, Packing { rows: 64, tokens: 100 });
        for bad in [
            r#"{"rows_per_request": 0}"#,
            r#"{"rows_per_request": 65}"#,
            r#"{"rows_per_request": "2"}"#,
            r#"{"rows_per_request": 2, "max_input_tokens": 99}"#,
        ] {
            assert!(take(bad).is_err(), "{bad}");
        }
        let mut alone = serde_json::from_str(r#"{"max_input_tokens": 100}"#).unwrap();
        assert!(Packing::take(&mut alone).is_ok() && !alone.is_empty(), "left for an error about an unknown option");
    }

    #[test]
    fn requests_are_counted_by_rows_and_by_tokens() {
        assert_eq!(Packing::default().requests(10, 1_000_000), 10);
        let packing = Packing { rows: 4, tokens: 1000 };
        assert_eq!((packing.requests(0, 0), packing.requests(9, 90)), (0, 3));
        assert_eq!(packing.requests(4, 8000), 3);
        assert_eq!(packing.requests(4, 80_000), 4, "a long text is sent alone");
    }
}
