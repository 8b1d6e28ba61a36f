//! The rules of a tokenizer.json, applied within bounds. The size of each result is computed before the result, and
//! searches check the call's [`Turn`] between matches.
//!
//! The tokenizers crate does neither: nine rules that make ten letters of one would take gigabytes.

use std::sync::Mutex;

use fancy_regex::{Regex, RegexBuilder};
use serde_json::Value;
use tokenizers::pattern::{Invert, Pattern};
use tokenizers::{
    Decoder as _, DecoderWrapper, NormalizedString, Normalizer, NormalizerWrapper, Offsets, PreTokenizedString,
    PreTokenizer as _, PreTokenizerWrapper, SplitDelimiterBehavior,
};
use unicode_segmentation::UnicodeSegmentation;

use crate::turn::Turn;
use mysql_ml_base::error::{cut, Error, Kind, Result};

/// The maximum of bytes that rules may make of a text.
pub const MOST_BYTES: usize = 2 << 20;

/// The maximum of rules in a sequence.
const MOST_RULES: usize = 256;

/// The maximum of bytes in a pattern.
const LONGEST_PATTERN: usize = 4096;

/// The maximum of bytes in a replacement or prefix.
const LONGEST_CONTENT: usize = 1024;

/// The maximum of backtracking steps in a search.
const MOST_STEPS: usize = 100_000;

/// The maximum of memory for a compiled pattern.
const PATTERN_MEMORY: usize = 2 << 20;

/// The maximum of bytes that a precompiled table may make of one character.
const LONGEST_CHARACTER: usize = 256;

/// Matches between two checks of the turn.
const FINDS: usize = 64;

type Fault = std::result::Result<(), String>;

/// A pattern to search for.
pub enum Search {
    /// A text that is not empty.
    Plain(String),
    /// A regular expression.
    Pattern(Box<Regex>),
}

impl Search {
    /// Reads `{"String": "x"}` or `{"Regex": "x"}`.
    fn read(value: &Value) -> std::result::Result<Self, String> {
        if let Some(text) = value.get("String").and_then(Value::as_str) {
            if text.is_empty() || text.len() > LONGEST_PATTERN {
                return Err("it searches for an empty or very long text".into());
            }
            return Ok(Search::Plain(text.to_owned()));
        }
        let pattern = value.get("Regex").and_then(Value::as_str).ok_or("a pattern is neither String nor Regex")?;
        if pattern.len() > LONGEST_PATTERN {
            return Err(format!("a pattern has more than {LONGEST_PATTERN} bytes"));
        }
        let built = RegexBuilder::new(pattern)
            .backtrack_limit(MOST_STEPS)
            .delegate_size_limit(PATTERN_MEMORY)
            .delegate_dfa_size_limit(PATTERN_MEMORY)
            .build();
        built.map(|regex| Search::Pattern(Box::new(regex))).map_err(|e| format!("a pattern cannot be read ({e})"))
    }

    /// All matches in a text, and the parts between them.
    fn finds(&self, text: &str, turn: &Turn) -> Result<Found> {
        let mut places = Vec::new();
        let mut end = 0;
        let mut take = |start: usize, stop: usize| {
            if end != start {
                places.push(((end, start), false));
            }
            places.push(((start, stop), true));
            end = stop;
        };
        match self {
            Search::Plain(wanted) => {
                for (i, start) in memchr::memmem::find_iter(text.as_bytes(), wanted).enumerate() {
                    if i.is_multiple_of(4096) {
                        turn.check()?;
                    }
                    take(start, start + wanted.len());
                }
            }
            Search::Pattern(regex) => {
                for (i, found) in regex.find_iter(text).enumerate() {
                    if i.is_multiple_of(FINDS) {
                        turn.check()?;
                    }
                    let found = found.map_err(|_| {
                        Error::new(
                            Kind::TooLarge,
                            "a pattern of tokenizer.json takes too many steps on this text; shorten the text, or use another model",
                        )
                    })?;
                    take(found.start(), found.end());
                }
            }
        }
        if end != text.len() || text.is_empty() {
            places.push(((end, text.len()), false));
        }
        Ok(Found(places))
    }
}

/// Matches in the form that the tokenizers crate takes.
#[derive(Clone)]
struct Found(Vec<(Offsets, bool)>);

impl Found {
    /// The bytes of `text` with `content` in place of each match.
    fn bytes_with(&self, content: &str) -> usize {
        let bytes = |((start, stop), is_find): &(Offsets, bool)| if *is_find { content.len() } else { stop - start };
        self.0.iter().map(bytes).fold(0, usize::saturating_add)
    }
}

impl Pattern for Found {
    fn find_matches(&self, _: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        Ok(self.0.clone())
    }
}

fn grown() -> Error {
    Error::new(
        Kind::TooLarge,
        format!(
            "the rules of tokenizer.json make more than {} MB of the text; shorten the text, or use another model",
            MOST_BYTES >> 20
        ),
    )
}

fn within(bytes: usize) -> Result<()> {
    if bytes > MOST_BYTES {
        return Err(grown());
    }
    Ok(())
}

fn failed(e: &(dyn std::error::Error + Send + Sync)) -> Error {
    Error::invalid(format!("the rules of tokenizer.json cannot be applied to the text ({})", cut(&e.to_string(), 120)))
}

/// The named rules of a list in order. Nested lists are flattened.
fn flat<'v>(value: &'v Value, list: &str, rules: &mut Vec<(&'v str, &'v Value)>) -> Fault {
    let Some(name) = value.get("type").and_then(Value::as_str) else { return Err("a rule has no type".into()) };
    if name == "Sequence" {
        let inner = value.get(list).and_then(Value::as_array).ok_or("a Sequence has no list of rules")?;
        return inner.iter().try_for_each(|rule| flat(rule, list, rules));
    }
    if rules.len() >= MOST_RULES {
        return Err(format!("it has more than {MOST_RULES} rules"));
    }
    rules.push((name, value));
    Ok(())
}

fn rules_of<'v>(value: Option<&'v Value>, list: &str) -> std::result::Result<Vec<(&'v str, &'v Value)>, String> {
    let mut rules = Vec::new();
    if let Some(value) = value.filter(|v| !v.is_null()) {
        flat(value, list, &mut rules)?;
    }
    Ok(rules)
}

fn replacement(value: &Value) -> std::result::Result<(Search, String), String> {
    let content = value.get("content").and_then(Value::as_str).ok_or("a Replace has no content")?;
    if content.len() > LONGEST_CONTENT {
        return Err(format!("a Replace puts more than {LONGEST_CONTENT} bytes in a find's place"));
    }
    Ok((Search::read(value.get("pattern").unwrap_or(&Value::Null))?, content.to_owned()))
}

/// The normalizer: rules that change a text before it is cut into words.
#[derive(Default)]
pub struct Normal(Vec<NormalRule>);

enum NormalRule {
    Replace(Search, String),
    Prepend(String),
    /// A rule with the bound of [`most`].
    Fixed(Box<NormalizerWrapper>),
    Table(Box<NormalizerWrapper>),
}

impl Normal {
    /// Reads the member `normalizer`.
    pub fn read(value: Option<&Value>) -> std::result::Result<Self, String> {
        let rule = |(name, value): (&str, &Value)| {
            let other =
                || serde_json::from_value::<NormalizerWrapper>(value.clone()).map(Box::new).map_err(|e| e.to_string());
            Ok(match name {
                "Replace" => {
                    let (search, content) = replacement(value)?;
                    NormalRule::Replace(search, content)
                }
                "Prepend" => {
                    let text = value.get("prepend").and_then(Value::as_str).unwrap_or_default();
                    if text.len() > LONGEST_CONTENT {
                        return Err(format!("a Prepend has more than {LONGEST_CONTENT} bytes"));
                    }
                    NormalRule::Prepend(text.to_owned())
                }
                "Precompiled" => NormalRule::Table(other()?),
                _ => NormalRule::Fixed(other()?),
            })
        };
        rules_of(value, "normalizers")?.into_iter().map(rule).collect::<std::result::Result<_, _>>().map(Normal)
    }

    /// Applies the rules in order. Each result's size is checked first.
    pub fn apply(&self, text: &mut NormalizedString, turn: &Turn) -> Result<()> {
        for rule in &self.0 {
            turn.check()?;
            match rule {
                NormalRule::Replace(search, content) => {
                    let found = search.finds(text.get(), turn)?;
                    within(found.bytes_with(content))?;
                    text.replace(found, content).map_err(|e| failed(e.as_ref()))?;
                }
                NormalRule::Prepend(before) => {
                    if !text.is_empty() {
                        within(text.len() + before.len())?;
                        text.prepend(before);
                    }
                }
                NormalRule::Fixed(rule) => {
                    within(text.get().chars().map(most).fold(0, usize::saturating_add))?;
                    rule.normalize(text).map_err(|e| failed(e.as_ref()))?;
                }
                NormalRule::Table(rule) => {
                    if let NormalizerWrapper::Precompiled(table) = rule.as_ref() {
                        let mut bytes = 0_usize;
                        let mut of = |part: &str| -> Result<bool> {
                            let Some(made) = table.transform(part) else { return Ok(false) };
                            if made.len() > LONGEST_CHARACTER {
                                return Err(Error::invalid(
                                    "the precompiled table of tokenizer.json makes a long text of one character; fetch the file anew",
                                ));
                            }
                            bytes += made.len();
                            Ok(true)
                        };
                        let mut plain = 0_usize;
                        for (i, cluster) in text.get().graphemes(true).enumerate() {
                            if i.is_multiple_of(4096) {
                                turn.check()?;
                            }
                            // The tokenizers crate does the same.
                            if cluster.len() < 6 && of(cluster)? {
                                continue;
                            }
                            for (at, c) in cluster.char_indices() {
                                let part = cluster.get(at..at + c.len_utf8()).unwrap_or_default();
                                if !of(part)? {
                                    plain += part.len();
                                }
                            }
                        }
                        within(bytes.saturating_add(plain))?;
                    }
                    rule.normalize(text).map_err(|e| failed(e.as_ref()))?;
                }
            }
        }
        Ok(())
    }
}

/// The maximum of bytes that a rule with fixed meaning makes of a character. Rules decompose it, lower its case,
/// surround it with spaces or encode its bytes as letters.
fn most(c: char) -> usize {
    match c {
        '\0'..='\u{7f}' => 2,
        '\u{80}'..='\u{7ff}' => 6,
        // Arabic ligatures, and square abbreviations.
        '\u{fb00}'..='\u{fdff}' => 34,
        '\u{2000}'..='\u{33ff}' => 20,
        '\u{800}'..='\u{ffff}' => 9,
        _ => 18,
    }
}

/// The rules for a caller's text. They keep the errors that the tokenizers crate drops.
pub struct Watched<'a> {
    rules: &'a Normal,
    turn: &'a Turn,
    fault: Mutex<Option<Error>>,
}

impl<'a> Watched<'a> {
    /// The rules for one text.
    pub fn new(rules: &'a Normal, turn: &'a Turn) -> Self {
        Watched { rules, turn, fault: Mutex::new(None) }
    }

    /// The kept error.
    pub fn fault(self) -> Result<()> {
        match self.fault.into_inner() {
            Ok(Some(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Normalizer for Watched<'_> {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        self.rules.apply(text, self.turn).map_err(|error| {
            let told = error.message().to_owned();
            if let Ok(mut fault) = self.fault.lock() {
                fault.get_or_insert(error);
            }
            // An empty text ends the work on it.
            text.clear();
            told.into()
        })
    }
}

impl Normalizer for Normal {
    /// Normalises the tokens that a file adds to its vocabulary.
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        self.apply(text, &Turn::default()).map_err(|e| e.message().to_owned())?;
        if text.len() > 4 * super::sizes::LONGEST_TOKEN as usize {
            return Err("a token that it adds becomes too long".into());
        }
        Ok(())
    }
}

/// The pre-tokenizer: rules that cut a text into words.
#[derive(Default)]
pub struct Words(Vec<WordRule>);

enum WordRule {
    Split(Search, SplitDelimiterBehavior, bool),
    Other(Box<PreTokenizerWrapper>),
}

impl Words {
    /// Reads the member `pre_tokenizer`.
    pub fn read(value: Option<&Value>) -> std::result::Result<Self, String> {
        let rule = |(name, value): (&str, &Value)| {
            if name != "Split" {
                if name == "FixedLength" && value.get("length").and_then(Value::as_u64).unwrap_or(5) == 0 {
                    return Err("FixedLength has the length 0".to_owned());
                }
                let other = serde_json::from_value::<PreTokenizerWrapper>(value.clone());
                return other.map(|other| WordRule::Other(Box::new(other))).map_err(|e| e.to_string());
            }
            let behavior = value.get("behavior").cloned().unwrap_or(Value::Null);
            let behavior = serde_json::from_value(behavior).map_err(|e| e.to_string())?;
            let invert = value.get("invert").and_then(Value::as_bool).unwrap_or(false);
            Ok(WordRule::Split(Search::read(value.get("pattern").unwrap_or(&Value::Null))?, behavior, invert))
        };
        rules_of(value, "pretokenizers")?.into_iter().map(rule).collect::<std::result::Result<_, _>>().map(Words)
    }

    /// Cuts a text into words.
    pub fn apply(&self, text: &mut PreTokenizedString, turn: &Turn) -> Result<()> {
        let mut stopped = None;
        for rule in &self.0 {
            turn.check()?;
            let result = match rule {
                WordRule::Split(search, behavior, invert) => text.split(|_, part| {
                    let found = search.finds(part.get(), turn).map_err(|error| {
                        let told = error.message().to_owned();
                        stopped.get_or_insert(error);
                        told
                    })?;
                    if *invert {
                        part.split(Invert(found), *behavior)
                    } else {
                        part.split(found, *behavior)
                    }
                }),
                WordRule::Other(rule) => rule.pre_tokenize(text),
            };
            if let Some(error) = stopped.take() {
                return Err(error);
            }
            result.map_err(|e| failed(e.as_ref()))?;
            // A rule makes at most four times as much, and one more letter of each word. The size is checked after
            // each rule.
            let mut bytes = 0_usize;
            text.normalize_parts(|part| bytes = bytes.saturating_add(part));
            within(bytes)?;
        }
        Ok(())
    }
}

/// Reports the bytes of each part.
trait Parts {
    fn normalize_parts(&mut self, see: impl FnMut(usize));
}

impl Parts for PreTokenizedString {
    fn normalize_parts(&mut self, see: impl FnMut(usize)) {
        let see = std::cell::RefCell::new(see);
        // The closure changes nothing. Other ways to see the parts copy them.
        let _ = self.normalize(|part| {
            see.borrow_mut()(part.len());
            Ok(())
        });
    }
}

/// The decoder: rules that join tokens to a text.
pub struct Texts(Option<Vec<TextRule>>);

enum TextRule {
    Replace(Search, String),
    Other(Box<DecoderWrapper>),
}

impl Texts {
    /// Reads the member `decoder`.
    pub fn read(value: Option<&Value>) -> std::result::Result<Self, String> {
        if value.is_none_or(Value::is_null) {
            return Ok(Texts(None));
        }
        let rule = |(name, value): (&str, &Value)| {
            if name == "Replace" {
                return replacement(value).map(|(search, content)| TextRule::Replace(search, content));
            }
            let other = serde_json::from_value::<DecoderWrapper>(value.clone());
            other.map(|other| TextRule::Other(Box::new(other))).map_err(|e| e.to_string())
        };
        let rules = rules_of(value, "decoders")?.into_iter().map(rule).collect::<std::result::Result<_, _>>()?;
        Ok(Texts(Some(rules)))
    }

    /// The text of tokens.
    pub fn apply(&self, mut tokens: Vec<String>, turn: &Turn) -> Result<String> {
        let Some(rules) = &self.0 else { return Ok(tokens.join(" ")) };
        let sum = |tokens: &[String]| tokens.iter().map(String::len).fold(0, usize::saturating_add);
        for rule in rules {
            turn.check()?;
            tokens = match rule {
                TextRule::Replace(search, content) => {
                    let found: Vec<Found> =
                        tokens.iter().map(|token| search.finds(token, turn)).collect::<Result<_>>()?;
                    within(found.iter().map(|f| f.bytes_with(content)).fold(0, usize::saturating_add))?;
                    let made = tokens.iter().zip(found).map(|(token, Found(places))| {
                        let parts = places.into_iter().map(|((start, stop), is_find)| match is_find {
                            true => content.as_str(),
                            false => token.get(start..stop).unwrap_or_default(),
                        });
                        parts.collect()
                    });
                    made.collect()
                }
                TextRule::Other(rule) => rule.decode_chain(tokens).map_err(|e| failed(e.as_ref()))?,
            };
            within(sum(&tokens))?;
        }
        Ok(tokens.concat())
    }
}

/// An error if the post-processor adds more than a few tokens to a text.
pub fn check_template(value: Option<&Value>) -> Fault {
    for (name, rule) in rules_of(value, "processors")? {
        if name != "TemplateProcessing" {
            continue;
        }
        let pieces = rule.get("single").and_then(Value::as_array).ok_or("a TemplateProcessing has no list single")?;
        let sequences = pieces.iter().filter(|piece| piece.get("Sequence").is_some()).count();
        if sequences != 1 || pieces.len() > 64 {
            return Err("a TemplateProcessing does not put a few tokens around a text".into());
        }
        check_special(pieces, rule)?;
        let second = |piece: &Value| piece.get("Sequence").and_then(|s| s.get("id")).is_some_and(|id| id == "B");
        if pieces.iter().any(second) {
            return Err("a TemplateProcessing for one text has a second one".into());
        }
    }
    Ok(())
}

/// An error if a template names special tokens that it does not tell.
fn check_special(pieces: &[Value], rule: &Value) -> Fault {
    let known = rule.get("special_tokens");
    for id in pieces.iter().filter_map(|piece| piece.get("SpecialToken")?.get("id")?.as_str()) {
        if known.is_none_or(|known| known.get(id).is_none()) {
            return Err(format!("a TemplateProcessing names {}, which it does not tell", cut(id, 40)));
        }
    }
    Ok(())
}

/// An error if the member `post_processor` does not join two texts.
pub fn check_pairs(value: Option<&Value>) -> Fault {
    let mut joins = false;
    for (name, rule) in rules_of(value, "processors")? {
        joins |= matches!(name, "TemplateProcessing" | "BertProcessing" | "RobertaProcessing");
        if name != "TemplateProcessing" {
            continue;
        }
        let pieces = rule.get("pair").and_then(Value::as_array).ok_or("a TemplateProcessing has no list pair")?;
        let names = pieces.iter().filter_map(|piece| piece.get("Sequence")?.get("id")?.as_str());
        if !names.eq(["A", "B"]) || pieces.len() > 64 {
            return Err("a TemplateProcessing does not put a few tokens around two texts".into());
        }
        check_special(pieces, rule)?;
    }
    if joins {
        Ok(())
    } else {
        Err("its post_processor joins no pairs of texts".into())
    }
}
