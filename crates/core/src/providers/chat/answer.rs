//! Readers of the chat shapes' answers: the text, or why there is none.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Chat;
use crate::json::numbers::start_of;
use crate::json::shallow::{First, Shallow};
use mysql_ml_base::error::{cut, Error, Result};

impl Chat {
    /// The text in an answer. A truncated, refused or empty one is an error.
    pub fn read(self, answer: &[u8]) -> Result<String> {
        let (said, end) = match self {
            Chat::OpenAi { .. } => {
                let Completion { choices: First(choice) } = parse(answer)?;
                let choice = choice.ok_or_else(|| unknown(answer))?;
                if let Some(refusal) = choice.message.refusal.as_deref().filter(|r| !r.is_empty()) {
                    return Err(refused(refusal));
                }
                (choice.message.said(), choice.finish_reason)
            }
            Chat::Anthropic => {
                let mut message: Message = parse(answer)?;
                let end = message.stop_reason.take();
                (message.said(), end)
            }
            Chat::Cohere => {
                let CohereAnswer { message, finish_reason } = parse(answer)?;
                (message.said(), finish_reason)
            }
            Chat::Ollama => {
                let OllamaAnswer { message, done_reason } = parse(answer)?;
                (message.said(), done_reason)
            }
            Chat::Gemini => {
                let GeminiAnswer { candidates, prompt_feedback } = parse(answer)?;
                if let Some(reason) = prompt_feedback.and_then(|f| f.block_reason) {
                    return Err(refused(&reason));
                }
                let candidate = candidates.0.ok_or_else(|| unknown(answer))?;
                let parts = candidate.content.unwrap_or_default().parts;
                // Its finish reason is STOP.
                if parts.calls {
                    check_end(Some("tool_call"), false)?;
                }
                (Said { reasoned: parts.reasoned, text: Some(parts.text) }, candidate.finish_reason)
            }
            Chat::Converse => {
                let ConverseAnswer { output, stop_reason } = parse(answer)?;
                (output.message.said(), stop_reason)
            }
            Chat::TextGeneration { .. } => {
                let First(text) = parse::<First<GeneratedText>>(answer)?;
                let text = text.ok_or_else(|| unknown(answer))?;
                let said = Said { reasoned: false, text: Some(text.generated_text) };
                (said, text.details.and_then(|d| d.finish_reason))
            }
        };
        let Said { text, reasoned } = said;
        let text = text.filter(|text| !text.trim().is_empty());
        check_end(end.as_deref(), reasoned && text.is_none())?;
        match text {
            Some(text) => Ok(text),
            None if reasoned => Err(Error::response(
                "the model answered with its reasoning only and no text; raise max_tokens, or have it reason less",
            )),
            _ => Err(Error::response("the model answered with an empty text; change the prompt, or raise max_tokens")),
        }
    }
}

/// The content of a message.
struct Said {
    text: Option<String>,
    /// Whether the message has reasoning beside or instead of the text.
    reasoned: bool,
}

/// The error of an incomplete answer, by its finish reason. `reasoning`: the answer has nothing else.
fn check_end(reason: Option<&str>, reasoning: bool) -> Result<()> {
    let Some(reason) = reason else { return Ok(()) };
    match reason.to_ascii_lowercase().as_str() {
        "stop" | "end_turn" | "stop_sequence" | "complete" | "eos_token" | "eos" | "finish_reason_unspecified" | "" => {
            Ok(())
        }
        "length" | "max_tokens" | "model_length" | "model_context_window_exceeded" if reasoning => Err(Error::response(
            "the answer was cut at the limit of tokens before the model's reasoning came to a text; raise max_tokens in the options, or have it reason less",
        )),
        "length" | "max_tokens" | "model_length" | "model_context_window_exceeded" => Err(Error::response(
            "the answer was cut at the limit of tokens; raise max_tokens in the options, or ask for less",
        )),
        "tool_calls" | "tool_call" | "tool_use" | "function_call" => {
            Err(Error::response("the model wants to call a tool; call ml_predict_row, whose request can describe tools"))
        }
        _ => Err(refused(reason)),
    }
}

fn refused(why: &str) -> Error {
    Error::response(format!("the model refused to answer ({}); change the prompt", cut(why, 200)))
}

fn unknown(answer: &[u8]) -> Error {
    Error::response(format!("the endpoint's answer holds no text; it begins: {}", start_of(answer)))
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T> {
    crate::json::numbers::read(answer).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => unknown(answer),
        _ => crate::json::numbers::unreadable(&e, answer),
    })
}

/// A word such as a finish reason. Numbers of some servers are ignored, except Google's.
fn word<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    Shallow::deserialize(deserializer).map(Shallow::text)
}

/// The names of Google's `FinishReason` by number; some gateways send numbers.
fn googles_word<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    const NAMES: [&str; 6] = ["FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER"];
    Ok(match Shallow::deserialize(deserializer)? {
        Shallow::Number(n) => {
            let name = n.as_u64().and_then(|n| NAMES.get(usize::try_from(n).ok()?));
            Some(name.map_or_else(|| format!("reason {n}"), |name| (*name).to_owned()))
        }
        other => other.text(),
    })
}

/// Whether a member is present and not empty.
fn filled<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<bool, D::Error> {
    Shallow::deserialize(deserializer).map(|value| value.is_filled())
}

/// A text, or the texts among parts: thoughts, citations. Only the texts are kept, whatever the array holds.
#[derive(Default)]
struct Parts {
    text: String,
    /// Whether a part is the model's reasoning.
    reasoned: bool,
    /// Whether a part is Gemini's call of a tool.
    calls: bool,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    thought: bool,
    /// Gemini's call of a tool.
    #[serde(default, rename = "functionCall", deserialize_with = "filled")]
    calls: bool,
    /// Bedrock's.
    #[serde(default, rename = "reasoningContent", deserialize_with = "filled")]
    reasoning: bool,
}

impl Parts {
    fn add(&mut self, part: Part) {
        let kind = part.kind.as_deref();
        let thinks = kind.is_some_and(|kind| kind.contains("thinking") || kind.contains("reasoning"));
        self.reasoned |= part.thought || part.reasoning || thinks;
        self.calls |= part.calls;
        if !part.thought && kind.is_none_or(|kind| matches!(kind, "text" | "output_text")) {
            let text = part.text.unwrap_or_default();
            // Mostly there is one, which is not copied.
            match self.text.is_empty() {
                true => self.text = text,
                false => self.text.push_str(&text),
            }
        }
    }
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(PartsVisitor)
    }
}

struct PartsVisitor;

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or an array of parts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Parts, E> {
        self.visit_string(text.to_owned())
    }
    fn visit_string<E>(self, text: String) -> std::result::Result<Parts, E> {
        Ok(Parts { text, ..Parts::default() })
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Parts, A::Error> {
        let mut parts = Parts::default();
        while let Some(part) = seq.next_element()? {
            parts.add(part);
        }
        Ok(parts)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Parts, A::Error> {
        let mut parts = Parts::default();
        parts.add(Part::deserialize(MapAccessDeserializer::new(map))?);
        Ok(parts)
    }
}

#[derive(Deserialize)]
struct Completion {
    choices: First<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default, deserialize_with = "word")]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<Parts>,
    #[serde(default, deserialize_with = "word")]
    refusal: Option<String>,
    #[serde(default, deserialize_with = "word")]
    stop_reason: Option<String>,
    /// The reasoning, under the names of DeepSeek and vLLM, OpenRouter, Ollama.
    #[serde(default, deserialize_with = "filled")]
    reasoning_content: bool,
    #[serde(default, deserialize_with = "filled")]
    reasoning: bool,
    #[serde(default, deserialize_with = "filled")]
    thinking: bool,
}

impl Message {
    fn said(self) -> Said {
        let beside = self.reasoning_content || self.reasoning || self.thinking;
        let reasoned = beside || self.content.as_ref().is_some_and(|parts| parts.reasoned);
        Said { text: self.content.map(|parts| parts.text), reasoned }
    }
}

#[derive(Deserialize)]
struct CohereAnswer {
    message: Message,
    #[serde(default, deserialize_with = "word")]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct OllamaAnswer {
    message: Message,
    #[serde(default, deserialize_with = "word")]
    done_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GeminiAnswer {
    #[serde(default)]
    candidates: First<Candidate>,
    #[serde(default)]
    prompt_feedback: Option<Feedback>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default)]
    content: Option<Content>,
    #[serde(default, deserialize_with = "googles_word")]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Content {
    #[serde(default)]
    parts: Parts,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    #[serde(default)]
    block_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConverseAnswer {
    output: ConverseOutput,
    #[serde(default, deserialize_with = "word")]
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct ConverseOutput {
    message: Message,
}

#[derive(Deserialize)]
struct GeneratedText {
    generated_text: String,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default, deserialize_with = "word")]
    finish_reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::super::SHAPES;
    use super::*;
    use crate::json::numbers::memory_to_read;

    /// Answers of each shape with this text and this reason for its end.
    fn answers(text: &str, end: [&str; 8]) -> [String; 8] {
        [
            format!(
                r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"finish_reason":"{}"}}]}}"#,
                end[0]
            ),
            format!(
                r#"{{"choices":[{{"message":{{"content":[{{"type":"thinking","thinking":[]}},{{"type":"text","text":"{text}"}}]}},"finish_reason":"{}"}}]}}"#,
                end[1]
            ),
            format!(
                r#"{{"type":"message","content":[{{"type":"thinking","thinking":"x"}},{{"type":"text","text":"{text}"}}],"stop_reason":"{}"}}"#,
                end[2]
            ),
            format!(
                r#"{{"candidates":[{{"content":{{"parts":[{{"text":"hm","thought":true}},{{"text":"{text}"}}],"role":"model"}},"finishReason":"{}"}}]}}"#,
                end[3]
            ),
            format!(
                r#"{{"id":"1","message":{{"role":"assistant","content":[{{"type":"text","text":"{text}"}}]}},"finish_reason":"{}"}}"#,
                end[4]
            ),
            format!(
                r#"{{"model":"m","message":{{"role":"assistant","content":"{text}"}},"done":true,"done_reason":"{}"}}"#,
                end[5]
            ),
            format!(r#"[{{"generated_text":"{text}","details":{{"finish_reason":"{}"}}}}]"#, end[6]),
            format!(
                r#"{{"output":{{"message":{{"role":"assistant","content":[{{"text":"{text}"}}]}}}},"stopReason":"{}"}}"#,
                end[7]
            ),
        ]
    }

    #[test]
    fn whole_answers_are_read() {
        let ends = ["stop", "stop", "end_turn", "STOP", "COMPLETE", "stop", "eos_token", "end_turn"];
        for (shape, answer) in SHAPES.into_iter().zip(answers("Hi there", ends)) {
            assert_eq!(shape.read(answer.as_bytes()).unwrap(), "Hi there", "{shape:?}");
        }
        assert_eq!(Chat::TextGeneration { details: true }.read(br#"{"generated_text":"a"}"#).unwrap(), "a");
    }

    #[test]
    fn cut_and_refused_and_empty_answers_are_errors() {
        let cut = ["length", "length", "max_tokens", "MAX_TOKENS", "MAX_TOKENS", "length", "length", "max_tokens"];
        for (shape, answer) in SHAPES.into_iter().zip(answers("Hi", cut)) {
            let error = shape.read(answer.as_bytes()).unwrap_err();
            assert!(error.message().contains("cut at the limit"), "{shape:?}: {error}");
        }
        let refused =
            ["content_filter", "error", "refusal", "SAFETY", "ERROR_TOXIC", "load", "error", "guardrail_intervened"];
        for ((shape, answer), why) in SHAPES.into_iter().zip(answers("Hi", refused)).zip(refused) {
            let error = shape.read(answer.as_bytes()).unwrap_err();
            assert!(error.message().contains(&format!("refused to answer ({why})")), "{shape:?}: {error}");
        }
        for (shape, answer) in SHAPES.into_iter().zip(answers(" ", [""; 8])) {
            let error = shape.read(answer.as_bytes()).unwrap_err();
            let says =
                if answer.contains("think") || answer.contains("thought") { "its reasoning only" } else { "empty" };
            assert!(error.message().contains(says), "{shape:?}: {error}");
        }
        for (shape, answer, says) in [
            (
                Chat::COMPATIBLE,
                r#"{"choices":[{"message":{"content":null,"refusal":"No."}}]}"#,
                "refused to answer (No.)",
            ),
            (Chat::COMPATIBLE, r#"{"choices":[{"message":{"content":null},"finish_reason":"tool_calls"}]}"#, "a tool"),
            (Chat::Gemini, r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#, "refused to answer (SAFETY)"),
            (
                Chat::Gemini,
                r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]},"finishReason":"STOP"}]}"#,
                "a tool",
            ),
            (Chat::Gemini, r#"{"candidates":[{"finishReason":"MAX_TOKENS"}]}"#, "cut at the limit"),
        ] {
            let error = shape.read(answer.as_bytes()).unwrap_err();
            assert!(error.message().contains(says), "{answer}: {error}");
        }
        for shape in SHAPES {
            for answer in ["{}", "[]", r#"{"choices":[]}"#, "x", "{\"choices\":[{\"mess"] {
                assert!(shape.read(answer.as_bytes()).is_err(), "{shape:?} {answer}");
            }
        }
    }

    #[test]
    fn reasoning_without_a_text_is_told() {
        for (shape, answer) in [
            (
                Chat::COMPATIBLE,
                r#"{"choices":[{"message":{"content":null,"reasoning_content":"hm"},"finish_reason":"END"}]}"#,
            ),
            (
                Chat::COMPATIBLE,
                r#"{"choices":[{"message":{"content":"","reasoning":"hm","reasoning_content":"hm"},"finish_reason":"END"}]}"#,
            ),
            (
                Chat::COMPATIBLE,
                r#"{"choices":[{"message":{"content":[{"type":"thinking","thinking":[]}]},"finish_reason":"END"}]}"#,
            ),
            (Chat::Ollama, r#"{"message":{"content":"","thinking":"hm"},"done_reason":"END"}"#),
            (Chat::Anthropic, r#"{"content":[{"type":"thinking","thinking":"hm"}],"stop_reason":"END"}"#),
            (
                Chat::Gemini,
                r#"{"candidates":[{"content":{"parts":[{"text":"hm","thought":true}]},"finishReason":"END"}]}"#,
            ),
            (Chat::Cohere, r#"{"message":{"content":[{"type":"thinking","thinking":"hm"}]},"finish_reason":"END"}"#),
            (
                Chat::Converse,
                r#"{"output":{"message":{"content":[{"reasoningContent":{"reasoningText":{"text":"hm"}}}]}},"stopReason":"END"}"#,
            ),
        ] {
            for (end, says) in
                [("stop", "its reasoning only"), ("max_tokens", "before the model's reasoning came to a text")]
            {
                let answer = answer.replace("END", end);
                let error = shape.read(answer.as_bytes()).unwrap_err();
                assert!(error.message().contains(says), "{answer}: {error}");
            }
        }
        let both = br#"{"choices":[{"message":{"content":"Paris","reasoning":"hm"},"finish_reason":"stop"}]}"#;
        assert_eq!(Chat::COMPATIBLE.read(both).unwrap(), "Paris");
    }

    #[test]
    fn odd_answers_whose_meaning_is_plain_are_read() {
        for (shape, answer) in [
            (Chat::COMPATIBLE, r#"{"choices":[{"message":{"content":"hi"},"finish_reason":1}]}"#),
            (
                Chat::COMPATIBLE,
                r#"{"id":"1","id":"2","choices":[{"message":{"content":"hi","content":"hi"}}],"choices":[{"message":{"content":"hi"}}]}"#,
            ),
            (
                Chat::COMPATIBLE,
                r#"{"choices":[{"message":{"content":"hi","refusal":false},"finish_reason":{"type":"stop"}}]}"#,
            ),
            (Chat::COMPATIBLE, r#"{"choices":[{"message":{"content":{"type":"text","text":"hi"}},"logprobs":1e999}]}"#),
            (Chat::Gemini, r#"{"candidates":[{"content":{"parts":[{"text":"hi","thought":null}]},"finishReason":1}]}"#),
            (Chat::Ollama, r#"{"message":{"content":"hi"},"done_reason":null}"#),
        ] {
            assert_eq!(shape.read(answer.as_bytes()).unwrap(), "hi", "{answer}");
        }
        let cut = r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":2}]}"#;
        assert!(Chat::Gemini.read(cut.as_bytes()).unwrap_err().message().contains("cut at the limit"));
    }

    #[test]
    fn hostile_answers_take_no_more_memory_than_is_reserved() {
        let many = |one: &str| vec![one; 30_000].join(",");
        let mut answers = Vec::new();
        for inside in ["1", "[]", "{}", "[[]]", "null", "\"\"", "{\"text\":\"a\"}", "{\"type\":\"thinking\"}"] {
            let inside = many(inside);
            answers.extend([
                format!(r#"{{"choices":[{{"message":{{"content":[{inside}]}}}}]}}"#),
                format!(r#"{{"choices":[{inside}]}}"#),
                format!(r#"{{"choices":[{{"message":{{"content":"a","reasoning":[{inside}]}},"finish_reason":[{inside}]}}]}}"#),
                format!(r#"{{"content":[{{"type":"text","text":"a","thought":[{inside}]}}]}}"#),
                format!(r#"{{"message":{{"content":[{inside}],"thinking":[{inside}]}}}}"#),
                format!(r#"{{"candidates":[{{"content":{{"parts":[{inside}]}},"finishReason":[{inside}]}}]}}"#),
                format!(r#"{{"candidates":[{{"finishReason":"STOP"}},{inside}]}}"#),
                format!(r#"{{"output":{{"message":{{"content":[{inside}]}}}}}}"#),
                format!("[{inside}]"),
                format!(r#"[{{"generated_text":"a","details":{{"tokens":[{inside}]}}}},{inside}]"#),
            ]);
        }
        for answer in answers {
            let reserved = memory_to_read(answer.as_bytes()) as u64;
            // A larger one is not read again with a tree, which has a reservation of its own.
            let answer = answer + &" ".repeat(1 << 20);
            for shape in SHAPES {
                let read = allocation_counter::measure(|| drop(shape.read(answer.as_bytes())));
                let start = answer.get(..60).unwrap();
                assert!(read.bytes_max <= reserved, "{shape:?} {start}: {} of {reserved}", read.bytes_max);
            }
        }
    }
}
