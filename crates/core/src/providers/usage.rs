//! Token usage in answers, in the shapes of all providers.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Tokens of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the input.
    pub input: Option<u64>,
    /// Tokens of the output.
    pub output: Option<u64>,
}

impl Usage {
    /// Tokens of request and answer together.
    pub fn all(self) -> Option<u64> {
        match (self.input, self.output) {
            (None, None) => None,
            (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
        }
    }
}

/// Reads the usage of a JSON answer; fails if it is not JSON. In a streamed array the last answer counts, which holds
/// the sum.
pub fn of_answer(answer: &[u8]) -> serde_json::Result<Usage> {
    match serde_json::from_slice::<AnyAnswer>(answer) {
        Ok(AnyAnswer(usage)) => Ok(usage),
        // An out-of-range number in usage is not an error.
        Err(e) if e.to_string().contains("number out of range") => {
            serde_json::from_slice::<IgnoredAny>(answer).map(|_| Usage::default())
        }
        Err(e) => Err(e),
    }
}

/// The member `usage` of an embedding answer: OpenAI's, Voyage's, Mistral's and NVIDIA's. An unknown shape is not an
/// error.
#[derive(Debug, Default)]
pub struct EmbeddingUsage(Usage);

impl<'de> Deserialize<'de> for EmbeddingUsage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        of_object(deserializer).map(EmbeddingUsage)
    }
}

impl EmbeddingUsage {
    /// Input tokens.
    pub fn tokens(&self) -> Option<u64> {
        self.0.input
    }
}

/// Counts are integers, in some services floats, texts or null. Other values are ignored.
pub fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Count::deserialize(deserializer).map(|count| count.0)
}

/// A number of tokens, or nothing. Other values are skipped: they may be trees of any size.
#[derive(Default)]
pub struct Count(pub Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }
    fn visit_u64<E>(self, n: u64) -> Result<Count, E> {
        Ok(Count(Some(n)))
    }
    fn visit_f64<E>(self, n: f64) -> Result<Count, E> {
        Ok(Count((n >= 0.0).then_some(n as u64)))
    }
    fn visit_i64<E>(self, n: i64) -> Result<Count, E> {
        Ok(Count(u64::try_from(n).ok()))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
        Ok(Count(None))
    }
    fn visit_str<E>(self, text: &str) -> Result<Count, E> {
        Ok(Count(text.trim().parse().ok()))
    }
    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count(None))
    }
}

/// Member names of input and output tokens, in order of precedence.
const INPUT: [&str; 5] =
    ["prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount", "billed_units/input_tokens"];
const OUTPUT: [&str; 5] =
    ["completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount", "billed_units/output_tokens"];

/// `usage`, `usageMetadata` or `meta`: the counts of known names, wherever the object has them.
#[derive(Default)]
struct Counts {
    input: [Option<u64>; INPUT.len()],
    output: [Option<u64>; OUTPUT.len()],
    total: Option<u64>,
}

impl Counts {
    fn usage(&self) -> Usage {
        let first = |counts: &[Option<u64>]| counts.iter().copied().find_map(|count| count);
        Usage { input: first(&self.input).or(self.total), output: first(&self.output) }
    }
}

/// The usage in a value, if it is an object.
pub fn of_object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Usage, D::Error> {
    let mut counts = Counts::default();
    CountsReader { counts: &mut counts, billed: false }.deserialize(deserializer)?;
    Ok(counts.usage())
}

/// Reads an object into the counts; `billed` inside of `billed_units`.
struct CountsReader<'c> {
    counts: &'c mut Counts,
    billed: bool,
}

impl<'de> DeserializeSeed<'de> for CountsReader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

// The depth is bounded: members below `billed_units` are not followed.
impl<'de> Visitor<'de> for CountsReader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of counts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (counts, billed) = (self.counts, self.billed);
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let known = |names: &[&str]| {
                names
                    .iter()
                    .position(|n| if billed { n.strip_prefix("billed_units/") == Some(&name) } else { *n == name })
            };
            if name == "billed_units" && !billed {
                map.next_value_seed(CountsReader { counts: &mut *counts, billed: true })?;
            } else if let Some(place) = known(&INPUT).and_then(|i| counts.input.get_mut(i)) {
                *place = map.next_value::<Count>()?.0;
            } else if let Some(place) = known(&OUTPUT).and_then(|i| counts.output.get_mut(i)) {
                *place = map.next_value::<Count>()?.0;
            } else if name == "total_tokens" && !billed {
                counts.total = map.next_value::<Count>()?.0;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Members of an answer that hold usage.
#[derive(Default)]
struct Members {
    counts: Counts,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
}

impl Members {
    fn usage(&self) -> Usage {
        let Usage { input, output } = self.counts.usage();
        Usage { input: input.or(self.prompt_eval_count), output: output.or(self.eval_count) }
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
        let mut members = Members::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "usage" | "usageMetadata" | "meta" => {
                    members.counts = Counts::default();
                    map.next_value_seed(CountsReader { counts: &mut members.counts, billed: false })?;
                }
                "prompt_eval_count" => members.prompt_eval_count = map.next_value::<Count>()?.0,
                "eval_count" => members.eval_count = map.next_value::<Count>()?.0,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(AnyAnswer(members.usage()))
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
    fn other_documents_have_none_and_damage_is_an_error() {
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
