//! The tokens that providers say an answer cost, in all the shapes they say it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Tokens of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Read by the model.
    pub input: Option<u64>,
    /// Written by it.
    pub output: Option<u64>,
}

/// Reads the usage out of a JSON answer and thereby checks that it is JSON. Of a streamed array of answers the last
/// one counts, which sums up.
pub fn of_answer(answer: &[u8]) -> serde_json::Result<Usage> {
    match serde_json::from_slice::<AnyAnswer>(answer) {
        Ok(AnyAnswer(usage)) => Ok(usage),
        // A number beyond all bounds, in what is not worth an error.
        Err(e) if e.to_string().contains("number out of range") => {
            serde_json::from_slice::<IgnoredAny>(answer).map(|_| Usage::default())
        }
        Err(e) => Err(e),
    }
}

/// The member `usage` of an embedding answer: OpenAI's, Voyage's, Mistral's and NVIDIA's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct EmbeddingUsage {
    #[serde(deserialize_with = "count")]
    prompt_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    total_tokens: Option<u64>,
}

impl EmbeddingUsage {
    /// Tokens read.
    pub fn tokens(&self) -> Option<u64> {
        self.prompt_tokens.or(self.total_tokens)
    }
}

/// What is told beside the answer, or nothing where it has another shape: it is not worth an error.
pub fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).unwrap_or_default())
}

/// Counts come as whole numbers, from some as floats or texts, from others as null. Usage is not worth an error.
pub fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(number(&Value::deserialize(deserializer)?))
}

fn number(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|x| *x >= 0.0).map(|x| x as u64);
    value.as_u64().or_else(float).or_else(|| value.as_str()?.trim().parse().ok())
}

/// The members of an answer in which providers tell usage.
#[derive(Default)]
struct Told {
    /// `usage`, `usageMetadata` or `meta`.
    object: Value,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
}

impl Told {
    fn usage(&self) -> Usage {
        let first = |names: &[&str]| names.iter().find_map(|n| self.object.pointer(n).and_then(number));
        Usage {
            input: first(&[
                "/prompt_tokens",
                "/input_tokens",
                "/inputTokens",
                "/promptTokenCount",
                "/billed_units/input_tokens",
                "/total_tokens",
            ])
            .or(self.prompt_eval_count),
            output: first(&[
                "/completion_tokens",
                "/output_tokens",
                "/outputTokens",
                "/candidatesTokenCount",
                "/billed_units/output_tokens",
            ])
            .or(self.eval_count),
        }
    }
}

/// An object, an array of objects, or any other document.
struct AnyAnswer(Usage);

impl<'de> Deserialize<'de> for AnyAnswer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnswerVisitor)
    }
}

struct AnswerVisitor;

impl AnswerVisitor {
    fn none<E>() -> Result<AnyAnswer, E> {
        Ok(AnyAnswer(Usage::default()))
    }
}

// The depth is bounded: serde_json refuses documents nested deeper than 128.
impl<'de> Visitor<'de> for AnswerVisitor {
    type Value = AnyAnswer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyAnswer, A::Error> {
        let mut told = Told::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "usage" | "usageMetadata" | "meta" => told.object = map.next_value()?,
                "prompt_eval_count" => told.prompt_eval_count = number(&map.next_value()?),
                "eval_count" => told.eval_count = number(&map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(AnyAnswer(told.usage()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AnyAnswer, A::Error> {
        let mut last = Usage::default();
        while let Some(AnyAnswer(usage)) = seq.next_element()? {
            if usage != Usage::default() {
                last = usage;
            }
        }
        Ok(AnyAnswer(last))
    }

    fn visit_bool<E>(self, _: bool) -> Result<AnyAnswer, E> {
        Self::none()
    }
    fn visit_i64<E>(self, _: i64) -> Result<AnyAnswer, E> {
        Self::none()
    }
    fn visit_u64<E>(self, _: u64) -> Result<AnyAnswer, E> {
        Self::none()
    }
    fn visit_f64<E>(self, _: f64) -> Result<AnyAnswer, E> {
        Self::none()
    }
    fn visit_str<E>(self, _: &str) -> Result<AnyAnswer, E> {
        Self::none()
    }
    fn visit_unit<E>(self) -> Result<AnyAnswer, E> {
        Self::none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(answer: &str) -> (Option<u64>, Option<u64>) {
        let usage = of_answer(answer.as_bytes()).unwrap();
        (usage.input, usage.output)
    }

    #[test]
    fn every_providers_usage_is_found() {
        for answer in [
            r#"{"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#,
            r#"{"usage":{"input_tokens":3,"output_tokens":5}}"#,
            r#"{"usage":{"inputTokens":3,"outputTokens":5,"totalTokens":8}}"#,
            r#"{"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":5,"totalTokenCount":8}}"#,
            r#"[{"candidates":[]},{"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":5}}]"#,
            r#"{"usage":{"billed_units":{"input_tokens":3.0,"output_tokens":5},"tokens":{"input_tokens":9}}}"#,
            r#"{"meta":{"billed_units":{"input_tokens":3,"output_tokens":5}}}"#,
            r#"{"usage":{"prompt_tokens":3,"input_tokens":3,"completion_tokens":5}}"#,
            r#"{"prompt_eval_count":3,"eval_count":5,"message":{"content":"x"}}"#,
        ] {
            assert_eq!(usage(answer), (Some(3), Some(5)), "{answer}");
        }
        assert_eq!(usage(r#"{"usage":{"total_tokens":4}}"#), (Some(4), None));
    }

    #[test]
    fn other_documents_have_none_and_damage_is_told() {
        for answer in [
            r#"{"usage":{"prompt_tokens":1e999}}"#,
            "[[1,2]]",
            "\"x\"",
            "1",
            "null",
            "{}",
            r#"{"usage":"x","meta":[1]}"#,
            r#"{"usage":null}"#,
        ] {
            assert_eq!(usage(answer), (None, None), "{answer}");
        }
        assert!(of_answer(b"{").is_err() && of_answer(b"[1").is_err() && of_answer(b"{} x").is_err());
    }
}
