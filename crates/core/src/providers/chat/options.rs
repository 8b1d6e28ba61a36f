//! Options of an answer: the argument `options` of the functions that ask a language model.

use serde::Deserialize;
use serde_json::{Map, Value};

use mysql_ml_base::error::{cut, Error, Result};

/// Options of an answer.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateOptions {
    /// The most tokens of the answer.
    #[serde(default, alias = "max_new_tokens", alias = "max_completion_tokens")]
    pub max_tokens: Option<u64>,
    /// Sampling temperature; 0 selects the most likely words.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Nucleus sampling: draw among the most likely words with this total probability.
    #[serde(default)]
    pub top_p: Option<f64>,
    /// Seed for repeatable answers, if the provider supports it.
    #[serde(default)]
    pub seed: Option<u64>,
    /// The system prompt.
    #[serde(default)]
    pub system: Option<String>,
    /// The JSON Schema that the answer must conform to.
    #[serde(default)]
    pub json_schema: Option<Value>,
}

impl GenerateOptions {
    /// Reads a JSON object; unknown members are errors.
    pub fn parse(json: &str) -> Result<Self> {
        crate::json::check_document("options", json)?;
        let read = serde_json::from_str::<Map<String, Value>>(json).map_err(|e| unreadable(&e))?;
        Self::from_map(read)
    }

    /// Reads the members of an object; unknown ones are errors.
    pub fn from_map(members: Map<String, Value>) -> Result<Self> {
        let options: GenerateOptions = serde_json::from_value(Value::Object(members)).map_err(|e| unreadable(&e))?;
        let outside = |name: &str, value: Option<f64>, from: f64, to: f64| match value {
            Some(v) if !(from..=to).contains(&v) => {
                Err(Error::invalid(format!("option {name} is {v}; give a number from {from} to {to}")))
            }
            _ => Ok(()),
        };
        outside("max_tokens", options.max_tokens.map(|n| n as f64), 1.0, 1_000_000.0)?;
        outside("temperature", options.temperature, 0.0, 2.0)?;
        outside("top_p", options.top_p, 0.0, 1.0)?;
        outside("seed", options.seed.map(|n| n as f64), 0.0, 2_147_483_647.0)?;
        Ok(options)
    }
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::invalid(format!(
        "options cannot be read ({}); give a JSON object with max_tokens, temperature, top_p, seed, system, json_schema",
        cut(&error.to_string(), 160)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        assert_eq!(GenerateOptions::parse("{}").unwrap(), GenerateOptions::default());
        assert_eq!(GenerateOptions::parse(r#"{"max_new_tokens":9}"#).unwrap().max_tokens, Some(9));
        for bad in [
            "[]",
            "x",
            r#"{"max_tokens":0}"#,
            r#"{"max_tokens":-1}"#,
            r#"{"temperature":2.5}"#,
            r#"{"top_p":1.1}"#,
            r#"{"seed":2147483648}"#,
            r#"{"stop":"x"}"#,
        ] {
            assert!(GenerateOptions::parse(bad).is_err(), "{bad}");
        }
    }
}
