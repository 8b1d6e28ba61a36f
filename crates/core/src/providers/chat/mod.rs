//! Chat shapes: requests that ask providers for a text or a JSON document, and readers of their answers.
//!
//! A shape is a provider's own chat API, reduced to one question. The providers' files name the references.

pub mod answer;
pub mod counting;
pub mod options;
pub mod question;
mod request;
mod structured;

use mysql_ml_base::error::{Error, Kind};

pub use self::options::GenerateOptions;
pub use self::question::{Message, Question, Rejected};
use crate::catalog::options::StructuredOutput;

/// The most tokens of an answer, for APIs that require a limit, when the options set none.
const MAX_TOKENS: u64 = 4096;

/// The shape of a provider's chat API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chat {
    /// OpenAI's chat completions, with the member names that other services changed.
    OpenAi {
        /// Member with the limit of tokens.
        limit: &'static str,
        /// Member with the seed.
        seed: &'static str,
    },
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's `generateContent`.
    Gemini,
    /// Cohere's chat, version 2.
    Cohere,
    /// Ollama's `/api/chat`.
    Ollama,
    /// Hugging Face's older text generation.
    TextGeneration {
        /// Whether details are requested, which have the reason for the answer's end.
        details: bool,
    },
    /// Bedrock's Converse.
    Converse,
}

impl Chat {
    /// OpenAI's form in other services.
    pub const COMPATIBLE: Chat = Chat::OpenAi { limit: "max_tokens", seed: "seed" };
}

/// The form of requests to one model: the shape of its API, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// The shape.
    pub chat: Chat,
    /// How JSON answers are requested.
    pub structured: StructuredOutput,
    /// Whether a temperature is sent that the caller did not set.
    pub default_temperature: bool,
}

/// Words of a refused parameter.
const REFUSALS: [&str; 11] = [
    "support",
    "unknown",
    "unrecogni",
    "unexpected",
    "not permitted",
    "not allowed",
    "extra",
    "additional",
    "deprecated",
    "only the default",
    "not used",
];

/// Members, in lower case, that request structured output.
const FORMATS: [&str; 9] = [
    "response_format",
    "json_schema",
    "output_config",
    "outputconfig",
    "output format",
    "responseschema",
    "responsejsonschema",
    "responsemimetype",
    "grammar",
];

/// How a member is named in a refusal.
const QUOTES: [&str; 3] = ["'x'", "\"x\"", "`x`"];

/// A chat of each shape.
#[cfg(test)]
const SHAPES: [Chat; 8] = [
    Chat::COMPATIBLE,
    Chat::OpenAi { limit: "max_completion_tokens", seed: "random_seed" },
    Chat::Anthropic,
    Chat::Gemini,
    Chat::Cohere,
    Chat::Ollama,
    Chat::TextGeneration { details: true },
    Chat::Converse,
];

impl Form {
    /// The form of a model that has refused nothing yet.
    pub fn new(chat: Chat, structured: StructuredOutput) -> Self {
        Form { chat, structured, default_temperature: true }
    }

    /// The form to try after `error`, if it refuses a part of this form that can be left out or has another name.
    pub fn after_refusal(self, question: &Question, error: &Error) -> Option<Form> {
        const OTHER: (&str, &str) = ("max_tokens", "max_completion_tokens");
        if !matches!(error.kind(), Kind::Provider(400 | 422)) {
            return None;
        }
        let words = error.message().to_ascii_lowercase();
        if !REFUSALS.iter().any(|word| words.contains(word)) {
            return None;
        }
        let defaulted = question.greedy && question.options.temperature.is_none();
        if self.default_temperature && defaulted && words.contains("temperature") {
            return Some(Form { default_temperature: false, ..self });
        }
        // Models that are older than structured output.
        let of_schema = FORMATS.iter().any(|word| words.contains(word));
        if question.schema.is_some() && self.structured != StructuredOutput::Prompt && of_schema {
            return Some(Form { structured: StructuredOutput::Prompt, ..self });
        }
        // Servers that are no Text Generation Inference.
        if self.chat == (Chat::TextGeneration { details: true })
            && QUOTES.iter().any(|q| words.contains(&q.replace('x', "details")))
        {
            return Some(Form { chat: Chat::TextGeneration { details: false }, ..self });
        }
        let Chat::OpenAi { limit, seed } = self.chat else { return None };
        // The longer name contains the end of the shorter one, but not its beginning.
        if question.options.max_tokens.is_none() || !words.contains(OTHER.1) {
            return None;
        }
        let limit = match limit {
            "max_tokens" => OTHER.1,
            _ => OTHER.0,
        };
        Some(Form { chat: Chat::OpenAi { limit, seed }, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_name_of_the_limit_is_learnt_from_a_refusal() {
        let form = |chat| Form::new(chat, StructuredOutput::JsonSchema);
        let newer = Chat::OpenAi { limit: "max_completion_tokens", seed: "seed" };
        let options = GenerateOptions { max_tokens: Some(5), ..GenerateOptions::default() };
        let limited = Question::prompt("hi", options);
        let refusal = |status, words: &str| Error::new(Kind::Provider(status), words.to_owned());
        let openai = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
        let after = |chat, error: &Error| form(chat).after_refusal(&limited, error).map(|form| form.chat);
        assert_eq!(after(Chat::COMPATIBLE, &refusal(400, openai)), Some(newer));
        for words in [
            "Unrecognized request argument supplied: max_completion_tokens",
            "max_completion_tokens: Extra inputs are not permitted",
        ] {
            assert_eq!(after(newer, &refusal(422, words)), Some(Chat::COMPATIBLE));
        }
        for (status, words) in [
            (400, "max_tokens is too large: 100000. This model supports at most 4096 completion tokens"),
            (400, "the prompt is too long"),
            (500, openai),
        ] {
            assert_eq!(after(Chat::COMPATIBLE, &refusal(status, words)), None, "{words}");
        }
        assert_eq!(after(Chat::Anthropic, &refusal(400, openai)), None);
        // Without details, a cut answer cannot be told from a whole one.
        let detailed = Chat::TextGeneration { details: true };
        let transformers = "The following `model_kwargs` are not used by the model: ['details'] (note: typos in the generate arguments will also show up in this list)";
        for words in [transformers, "unknown field `details`"] {
            assert_eq!(after(detailed, &refusal(400, words)), Some(Chat::TextGeneration { details: false }), "{words}");
        }
        assert_eq!(after(detailed, &refusal(400, "unknown field `seed`; see the details")), None);
        assert_eq!(after(Chat::TextGeneration { details: false }, &refusal(400, transformers)), None);
        let unlimited = Question::prompt("hi", GenerateOptions::default());
        assert_eq!(form(Chat::COMPATIBLE).after_refusal(&unlimited, &refusal(400, openai)), None);
    }
}
