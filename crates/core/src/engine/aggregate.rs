//! One answer about the texts of a group of any size: parts that fit the model are asked about while rows arrive, then
//! their results are combined, in as many rounds as needed. No text is left out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{Held, Reservation};

use super::asking::{is_of_the_input, on_error_of, INPUT_TOKENS};
use super::pipeline::questions::{Asking, Questions};
use super::pipeline::Pipeline;
use super::store::Routine;
use super::Engine;
use crate::ai::aggregate::Tasks;
use crate::ai::{Answer, Task};
use crate::catalog::options::OnError;

/// Bytes of a token: fewer than most texts have.
const BYTES_OF_TOKEN: u64 = 3;

/// Options of an aggregate besides those of the answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct AggregateOptions {
    /// What is done about a group that fails.
    pub on_error: Option<OnError>,
    /// The most concurrent requests.
    pub concurrency: Option<u64>,
    /// Tokens of the texts in one request, as estimated.
    pub max_input_tokens: Option<u64>,
}

/// The place of a part among the others: its number, then the halves it is divided into.
type Place = Vec<u32>;

/// Lines that are sent together.
struct Part {
    lines: Vec<String>,
    task: Arc<Task>,
}

/// The group that is being read.
pub struct Aggregate<'e> {
    model_id: String,
    on_error: OnError,
    pipeline: Pipeline<'e, Questions>,
    tasks: [Arc<Task>; 3],
    /// Bytes of the lines of a part.
    budget: usize,
    lines: Vec<String>,
    bytes: usize,
    parts: u32,
    next_id: u64,
    under_way: HashMap<u64, (Place, Part)>,
    results: BTreeMap<Place, String>,
    share: Reservation,
}

impl<'e> Aggregate<'e> {
    /// A group for a model that the caller may use.
    pub fn new(
        engine: &'e Engine,
        function: Routine,
        model_id: Option<&str>,
        tasks: Tasks,
        options: AggregateOptions,
        interrupt: &dyn Interrupt,
    ) -> Result<Self> {
        let call = engine.call_of_llm(function, model_id, interrupt)?;
        let on_error = on_error_of(&call, options.on_error);
        let model_id = call.model().model_id.clone();
        let tasks = [Arc::new(tasks.whole), Arc::new(tasks.part), Arc::new(tasks.combine)];
        let questions = Questions::new(Arc::clone(&tasks[0]), Some(false));
        // As long as the provider asks: waiting loses no work, and KILL ends it.
        let pipeline = Pipeline::new(engine, call, questions, options.concurrency, None, None)?;
        let tokens = options.max_input_tokens.unwrap_or(INPUT_TOKENS);
        Ok(Aggregate {
            model_id,
            on_error,
            pipeline,
            tasks,
            budget: usize::try_from(tokens.saturating_mul(BYTES_OF_TOKEN)).unwrap_or(usize::MAX),
            lines: Vec::new(),
            bytes: 0,
            parts: 0,
            next_id: 0,
            under_way: HashMap::new(),
            results: BTreeMap::new(),
            share: Reservation::default(),
        })
    }

    /// What is done about a failure of the group.
    pub fn on_error(&self) -> OnError {
        self.on_error
    }

    /// Adds the text of a row; asks about a part when it is full.
    pub fn add(&mut self, text: &str, interrupt: &dyn Interrupt) -> Result<()> {
        for piece in pieces(text, self.budget) {
            let line = Value::from(piece).to_string();
            if !self.lines.is_empty() && self.bytes + line.len() > self.budget {
                let part = Arc::clone(&self.tasks[1]);
                self.send_lines(part, interrupt)?;
            }
            self.share.spend(line.len(), "the texts of a group").map_err(|e| self.context(e))?;
            self.bytes += line.len() + 1;
            self.lines.push(line);
        }
        Ok(())
    }

    /// The answer about the whole group.
    pub fn finish(mut self, interrupt: &dyn Interrupt) -> Result<Held<String>> {
        let task = if self.parts == 0 { Arc::clone(&self.tasks[0]) } else { Arc::clone(&self.tasks[1]) };
        self.send_lines(task, interrupt)?;
        let mut before = usize::MAX;
        loop {
            self.wait(0, interrupt)?;
            let results = std::mem::take(&mut self.results);
            if results.len() >= before {
                return Err(self.context(Error::response(
                    "the answers about parts of the group do not get shorter, so that they cannot be combined; ask for a shorter answer",
                )));
            }
            before = results.len();
            if results.len() <= 1 {
                let text = results.into_values().next().ok_or_else(|| Error::internal("a group without an answer"))?;
                return Ok(Held::new(text, std::mem::take(&mut self.share)));
            }
            self.combine(results.into_values().collect(), interrupt)?;
        }
    }

    /// Asks for combinations of results, two or more each, so that every round leaves fewer.
    fn combine(&mut self, results: Vec<String>, interrupt: &dyn Interrupt) -> Result<()> {
        let mut left = results.len();
        for result in results {
            let line = Value::from(result).to_string();
            if self.lines.len() >= 2 && left >= 2 && self.bytes + line.len() > self.budget {
                let task = Arc::clone(&self.tasks[2]);
                self.send_lines(task, interrupt)?;
            }
            self.bytes += line.len() + 1;
            self.lines.push(line);
            left -= 1;
        }
        let task = Arc::clone(&self.tasks[2]);
        self.send_lines(task, interrupt)
    }

    /// Asks about the lines so far.
    fn send_lines(&mut self, task: Arc<Task>, interrupt: &dyn Interrupt) -> Result<()> {
        let lines = std::mem::take(&mut self.lines);
        self.bytes = 0;
        let place = vec![self.parts];
        self.parts = self.parts.saturating_add(1);
        self.send(place, Part { lines, task }, interrupt)?;
        let most = self.pipeline.concurrency();
        self.wait(most, interrupt)
    }

    fn send(&mut self, place: Place, part: Part, interrupt: &dyn Interrupt) -> Result<()> {
        let asking = Asking::new(Arc::clone(&part.task), part.lines.join("\n").into());
        let id = self.next_id;
        self.next_id += 1;
        self.under_way.insert(id, (place, part));
        self.pipeline.push(id, asking, interrupt).map_err(|e| self.context(e))
    }

    /// Takes answers while more than `most` parts are under way.
    fn wait(&mut self, most: usize, interrupt: &dyn Interrupt) -> Result<()> {
        while self.under_way.len() > most {
            let done = self.pipeline.advance(Duration::from_secs(1), true, interrupt).map_err(|e| self.context(e))?;
            let Some(done) = done else { continue };
            let Some((place, part)) = self.under_way.remove(&done.id) else { continue };
            match done.result {
                Ok(Answer::Text(text) | Answer::Json(text)) => {
                    self.share.spend(text.len(), "the answers about parts").map_err(|e| self.context(e))?;
                    self.share.unspend(part.lines.iter().map(String::len).sum());
                    self.results.insert(place, text);
                }
                Ok(_) => return Err(Error::internal("an answer about a group that is no text")),
                Err(error) if is_too_long(&error) && part.lines.len() > 1 => self.divide(place, part, interrupt)?,
                Err(error) => return Err(self.context(error)),
            }
        }
        Ok(())
    }

    /// Asks about the halves of a part that the model refused as too long. Later parts are smaller from the start.
    fn divide(&mut self, place: Place, mut part: Part, interrupt: &dyn Interrupt) -> Result<()> {
        let bytes: usize = part.lines.iter().map(|line| line.len() + 1).sum();
        self.budget = self.budget.min(bytes.div_ceil(2)).max(1);
        let rest = part.lines.split_off(part.lines.len() / 2);
        // A whole that is divided has parts; results stay results.
        let task = match Arc::ptr_eq(&part.task, &self.tasks[0]) {
            true => Arc::clone(&self.tasks[1]),
            false => Arc::clone(&part.task),
        };
        for (i, lines) in [(0, part.lines), (1, rest)] {
            let mut place = place.clone();
            place.push(i);
            self.send(place, Part { lines, task: Arc::clone(&task) }, interrupt)?;
        }
        Ok(())
    }

    fn context(&self, error: Error) -> Error {
        error.context(&format!("model '{}'", self.model_id))
    }
}

/// Whether an error of a group may be replaced by NULL.
pub fn may_be_null(error: &Error) -> bool {
    is_of_the_input(error)
}

/// Whether a refusal is about the length of the request.
fn is_too_long(error: &Error) -> bool {
    if error.kind() == Kind::TooLarge || error.kind() == Kind::Provider(413) {
        return true;
    }
    if !matches!(error.kind(), Kind::Provider(400 | 422)) {
        return false;
    }
    let words = error.message().to_ascii_lowercase();
    let length = ["context length", "context window", "context_length", "too long", "too many tokens", "maximum"];
    let what = ["token", "context", "prompt", "input", "length"];
    length.iter().any(|word| words.contains(word)) && what.iter().any(|word| words.contains(word))
}

/// A text in pieces of at most `most` bytes, cut between characters.
fn pieces(text: &str, most: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        if text.len() <= most {
            rest = None;
            return Some(text);
        }
        let end = (1..=most)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or_else(|| text.char_indices().nth(1).map_or(text.len(), |(i, _)| i));
        let (piece, left) = text.split_at_checked(end)?;
        rest = Some(left).filter(|left| !left.is_empty());
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_left_out_of_its_pieces() {
        for (text, most) in [("", 3), ("abc", 3), ("abcdefg", 3), ("ééé", 3), ("😀😀", 2), ("a😀b", 1)] {
            let all: Vec<&str> = pieces(text, most).collect();
            assert_eq!(all.concat(), text);
            assert!(all.iter().all(|piece| piece.len() <= most.max(4)), "{all:?}");
        }
    }

    #[test]
    fn refusals_about_the_length_are_told_from_others() {
        let of = |status, words: &str| is_too_long(&Error::new(Kind::Provider(status), words.to_owned()));
        assert!(of(400, "This model's maximum context length is 8192 tokens, however you requested 9000 tokens"));
        assert!(of(400, "prompt is too long: 250000 tokens > 200000 maximum"));
        assert!(of(413, "Request Entity Too Large"));
        assert!(!of(400, "max_tokens is not supported with this model"));
        assert!(!of(500, "prompt is too long"));
    }
}
