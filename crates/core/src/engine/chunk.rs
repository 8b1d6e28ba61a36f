//! `ai_chunk`: a text as an array of chunks.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use surface::functions;

use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::host;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{self, Held, Reservation};

use super::call::Call;
use super::Engine;
use crate::catalog::default_model::DefaultModel;
use crate::catalog::model::Backend;
use crate::catalog::options::parse_object;
use crate::chunk::{chunks, By, Chunk, Rule};
use crate::json::length::encoded_length;

/// Bytes of a chunk's JSON beside its text, at most.
const BESIDE: usize = 96;

/// The argument `options`.
#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields)]
struct Options {
    by: Option<String>,
    size: Option<u64>,
    overlap: Option<u64>,
    model_id: Option<String>,
}

const UNITS: [(&str, By); 5] = [
    ("characters", By::Characters),
    ("words", By::Words),
    ("sentences", By::Sentences),
    ("markdown", By::Markdown),
    ("tokens", By::Tokens),
];

impl Options {
    fn parse(json: &str) -> Result<Self> {
        let members = parse_object(json)?;
        serde_json::from_value(Value::Object(members)).map_err(|e| {
            Error::invalid(format!(
                "options cannot be read ({}); give a JSON object with by, size, overlap, model_id",
                cut(&e.to_string(), 160)
            ))
        })
    }

    fn by(&self) -> Result<By> {
        let Some(name) = &self.by else { return Ok(By::Characters) };
        UNITS.iter().find(|(unit, _)| name.eq_ignore_ascii_case(unit)).map(|(_, by)| *by).ok_or_else(|| {
            let all: Vec<&str> = UNITS.iter().map(|(unit, _)| *unit).collect();
            Error::invalid(format!("option by '{}' is not known; accepted: {}", cut(name, 60), all.join(", ")))
        })
    }

    /// The rule, with `size` where the options have none.
    fn rule(&self, by: By, size: usize) -> Result<Rule> {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Rule::new(by, self.size.map_or(size, number), self.overlap.map_or(0, number))
    }
}

/// The size where the options have none. The default for tokens is the model's maximum.
fn default_size(by: By) -> usize {
    match by {
        By::Characters | By::Markdown => 1000,
        By::Words => 200,
        By::Sentences => 5,
        By::Tokens => 256,
    }
}

/// Cuts texts by one rule. What concerns all texts was checked when it was made.
pub struct TextCutter<'e> {
    engine: &'e Engine,
    options: Options,
    by: By,
    unit: Unit,
}

enum Unit {
    /// Not tokens: the rule, and the time for a text.
    Own(Rule, Duration),
    /// Tokens of this model.
    Tokens(Box<Call>, String),
}

impl TextCutter<'_> {
    /// The chunks of a text, in order. `largest`: the most bytes of the chunks as JSON.
    ///
    /// # Errors
    ///
    /// Chunks beyond `largest`; memory; KILL; the setting `timeout_ms`.
    pub fn cut(&self, text: &str, largest: usize, interrupt: &dyn Interrupt) -> Result<Held<Vec<Chunk>>> {
        match &self.unit {
            Unit::Own(rule, time) => {
                let end = Instant::now() + *time;
                let check = || {
                    if Instant::now() >= end {
                        return Err(Error::new(
                            Kind::Timeout,
                            "the text was not cut in time (the setting timeout_ms); raise it, or divide the text",
                        ));
                    }
                    interrupt.check()
                };
                chunks(text, *rule, None, largest, &check)
            }
            Unit::Tokens(call, model_id) => {
                let options = self.options.clone();
                let rule =
                    move |most: Option<usize>| options.rule(By::Tokens, most.unwrap_or(default_size(By::Tokens)));
                let made = self.engine.local.chunk(call, text, rule, largest, interrupt);
                made.map_err(|e| e.context(&format!("model '{model_id}'")))
            }
        }
    }

    /// The options as a JSON object that means the same after a change of the settings.
    pub fn options(&self) -> String {
        let mut members = serde_json::Map::new();
        let unit = UNITS.iter().find(|(_, by)| *by == self.by).map_or("characters", |(unit, _)| unit);
        members.insert("by".into(), unit.into());
        if let Unit::Own(rule, _) = &self.unit {
            members.insert("size".into(), rule.size.into());
        } else if let Some(size) = self.options.size {
            members.insert("size".into(), size.into());
        }
        members.insert("overlap".into(), self.options.overlap.unwrap_or(0).into());
        if let Unit::Tokens(_, model_id) = &self.unit {
            members.insert("model_id".into(), model_id.as_str().into());
        }
        Value::Object(members).to_string()
    }
}

impl Engine {
    /// The chunks of a text as a JSON array of objects with `chunk`, and with `start` (from 1) and `length` in characters
    /// of the text. `options`: a JSON object with `by`, `size`, `overlap` and `model_id`; NULL for the defaults.
    ///
    /// # Errors
    ///
    /// Options that are not known or out of bounds; a model that is not inside the server; a result that the client
    /// cannot receive; memory; KILL; the setting `timeout_ms`.
    pub fn chunk(&self, text: &str, options: Option<&str>, interrupt: &dyn Interrupt) -> Result<Held<String>> {
        let cutter = self.text_cutter(options, interrupt)?;
        let largest = host::largest_result();
        let chunks = cutter.cut(text, largest, interrupt)?;
        interrupt.check()?;
        write(text, &chunks, largest)
    }

    /// What cuts texts as [`Engine::chunk`] does, with its options and for its callers.
    ///
    /// # Errors
    ///
    /// Options that are not known or out of bounds; a model that is not inside the server.
    pub fn text_cutter(&self, options: Option<&str>, interrupt: &dyn Interrupt) -> Result<TextCutter<'_>> {
        let options = options.map(Options::parse).transpose()?.unwrap_or_default();
        let by = options.by()?;
        if by != By::Tokens {
            if options.model_id.is_some() {
                return Err(Error::invalid(
                    "option model_id is for tokens; leave it out, or set the option by to tokens",
                ));
            }
            let rule = options.rule(by, default_size(by))?;
            self.may_call(functions::ai_chunk, interrupt)?;
            let time = self.settings(interrupt)?.timeout;
            return Ok(TextCutter { engine: self, options, by, unit: Unit::Own(rule, time) });
        }
        let model_id = self.model_or_default(options.model_id.as_deref(), DefaultModel::Embedding, interrupt)?;
        let model_id = model_id.into_owned();
        let call = self.call(functions::ai_chunk, &model_id, interrupt)?;
        if call.model().backend() != Backend::Local {
            return Err(Error::invalid(format!(
                "model '{model_id}' does not run inside the server, so its tokens are not known; give a model that does, or another unit as option by"
            )));
        }
        Ok(TextCutter { engine: self, options, by, unit: Unit::Tokens(Box::new(call), model_id) })
    }
}

/// The result.
fn write(text: &str, chunks: &[Chunk], largest: usize) -> Result<Held<String>> {
    let of = |chunk: &Chunk| text.get(chunk.bytes.clone()).unwrap_or_default();
    let bytes =
        chunks.iter().fold(2_usize, |sum, chunk| sum.saturating_add(encoded_length(of(chunk))).saturating_add(BESIDE));
    let share = Reservation::take(bytes, "the result")?;
    let mut json = memory::text_of(bytes, "the result")?;
    json.push('[');
    for (i, chunk) in chunks.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        json.push_str(&format!(
            "{comma}{{\"chunk\":{},\"start\":{},\"length\":{}}}",
            Value::from(of(chunk)),
            chunk.start,
            chunk.length
        ));
    }
    json.push(']');
    if json.len() > largest {
        return Err(Error::result_too_large(&format!("the result has {} bytes", json.len()), largest));
    }
    Ok(Held::new(json, share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let rule = |json: &str| {
            let options = Options::parse(json)?;
            let by = options.by()?;
            options.rule(by, default_size(by))
        };
        assert_eq!(rule("{}").unwrap(), Rule { by: By::Characters, size: 1000, overlap: 0 });
        let words = rule(r#"{"by": "Words", "size": 10, "overlap": 5}"#).unwrap();
        assert_eq!(words, Rule { by: By::Words, size: 10, overlap: 5 });
        for (bad, says) in [
            (r#"{"by": "lines"}"#, "accepted: characters, words, sentences, markdown, tokens"),
            (r#"{"size": 0}"#, "from 1 to 100000"),
            (r#"{"size": 100001}"#, "from 1 to 100000"),
            (r#"{"by": "tokens", "size": 8193}"#, "from 1 to 8192"),
            (r#"{"size": 10, "overlap": 6}"#, "from 0 to 5"),
            (r#"{"size": -1}"#, "options cannot be read"),
            (r#"{"size": "10"}"#, "options cannot be read"),
            (r#"{"sizes": 10}"#, "by, size, overlap, model_id"),
            ("[]", "object"),
            ("x", "JSON"),
        ] {
            let error = rule(bad).unwrap_err();
            assert!(error.message().contains(says), "{bad}: {error}");
        }
    }
}
