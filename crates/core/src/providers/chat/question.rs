//! One question to a language model.

use std::sync::Arc;

use mysql_ml_base::error::cut;

use super::options::GenerateOptions;
use crate::json::schema::Schema;
use crate::providers::image::Images;

/// What a question is about: the user's text, and images.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The text.
    pub text: Arc<str>,
    /// The images.
    pub images: Images,
}

impl Message {
    /// Bytes that it adds to a request, but for characters that JSON escapes.
    pub fn bytes(&self) -> usize {
        self.text.len().saturating_add(self.images.encoded())
    }
}

impl From<Arc<str>> for Message {
    fn from(text: Arc<str>) -> Self {
        Message { text, images: Images::default() }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Arc::<str>::from(text).into()
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Arc::<str>::from(text).into()
    }
}

/// One question. Instructions and data are separate messages of the request.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The task, for the system message; `None`: the text is the whole prompt.
    pub instruction: Option<Arc<str>>,
    /// The user's message: a prompt, or the data that the instruction is about.
    pub text: Arc<str>,
    /// Images of the user's message.
    pub images: Images,
    /// The schema of a JSON answer; `None`: the answer is text.
    pub schema: Option<Arc<Schema>>,
    /// An earlier answer to this question that could not be used.
    pub rejected: Option<Rejected>,
    /// The options of the answer.
    pub options: Arc<GenerateOptions>,
    /// Whether the temperature is 0 where the options set none, so that answers repeat.
    pub greedy: bool,
}

/// An answer that could not be used, and why; the model is asked once more with both.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// The answer.
    pub answer: Arc<str>,
    /// What is wrong with it.
    pub reason: Arc<str>,
}

/// The most bytes of a rejected answer that the model is shown.
const MAX_REJECTED: usize = 16 << 10;

impl Rejected {
    /// An answer, cut where it is long, and what is wrong with it.
    pub fn new(answer: &str, reason: &str) -> Self {
        Rejected { answer: cut(answer, MAX_REJECTED).into(), reason: reason.into() }
    }
}

impl Question {
    /// A prompt without instruction and schema.
    pub fn prompt(text: &str, options: GenerateOptions) -> Self {
        Question { text: text.into(), options: Arc::new(options), ..Question::default() }
    }

    /// The message after a rejected answer.
    pub(super) fn correction(rejected: &Rejected) -> String {
        format!("This answer cannot be used: {}. Answer again, with the corrected JSON document only.", rejected.reason)
    }

    /// Bytes of all its texts, and of its images in base64.
    pub fn bytes(&self) -> usize {
        let rejected = self.rejected.as_ref().map_or(0, |r| r.answer.len() + r.reason.len() + 128);
        let system = self.options.system.as_ref().map_or(0, String::len);
        let schema = self.schema.as_ref().map_or(0, |schema| schema.text().len());
        self.instruction.as_ref().map_or(0, |i| i.len())
            + self.text.len()
            + rejected
            + system
            + schema
            + self.images.encoded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_rejected_answer_is_cut_before_it_goes_back() {
        let rejected = Rejected::new(&"é".repeat(MAX_REJECTED), "it is long");
        assert!((MAX_REJECTED - 8..=MAX_REJECTED).contains(&rejected.answer.len()), "{}", rejected.answer.len());
        assert!(rejected.answer.starts_with("é"));
        let question = Question { rejected: Some(rejected), ..Question::default() };
        assert!(question.bytes() < MAX_REJECTED + 256);
        assert_eq!(Rejected::new("short", "x").answer.as_ref(), "short");
    }
}
