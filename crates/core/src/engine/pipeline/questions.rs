//! Questions to a language model, as work of a pipeline: one a request, asked once more where the answer cannot be used.
//! With packing several share a request; an unusable answer about them is asked for again in halves.

use std::sync::Arc;

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt};
use mysql_ml_base::memory::Reservation;

use super::work::{Finished, WhenDone, Work};
use crate::ai::pack::{self, Pack, AROUND_A_ROW};
use crate::ai::{Answer as Value, Task};
use crate::catalog::model::{Backend, Model};
use crate::engine::asking::{unusable, Packing};
use crate::engine::backends::remote::{form_of, IMAGE_TOKENS};
use crate::engine::cached::CacheLookup;
use crate::engine::call::Call;
use crate::engine::rate_limit::tokens_in;
use crate::engine::Engine;
use crate::http::Answer;
use crate::json::length::encoded_length;
use crate::json::numbers::unreadable;
use crate::providers::chat::{Form, Message, Question, Rejected};
use crate::providers::table::provider;
use crate::providers::usage::{self, Usage};
use crate::providers::BatchLimits;

/// The default number of concurrent questions.
pub const QUESTIONS: u64 = 40;

/// Questions of one task.
pub struct Questions {
    task: Arc<Task>,
    /// Whether the caches keep the answers; `None`: the model's option.
    cache_answers: Option<bool>,
    /// The task over several rows, and its limits.
    pack: Option<(Pack, Packing)>,
}

/// One question, with its task, which reads the answer on a worker.
#[derive(Clone)]
pub struct Asking {
    task: Arc<Task>,
    question: Arc<Question>,
}

impl Asking {
    /// The question of `task` about a text, perhaps with images.
    pub fn new(task: Arc<Task>, message: Message) -> Self {
        Asking { question: Arc::new(task.question(message)), task }
    }
}

/// An answer as a worker reads it.
pub enum Read {
    /// The value.
    Value(Value),
    /// An answer that cannot be used.
    Unusable(Rejected),
}

impl Questions {
    /// Questions of `task`. `cache_answers`: whether the caches keep the answers; `None`: the model's option.
    pub fn new(task: Arc<Task>, cache_answers: Option<bool>) -> Self {
        Questions { task, cache_answers, pack: None }
    }

    /// The same with several rows in a request. An error if the answers do not repeat, or if `model` is asked one question
    /// after another.
    pub fn packed(self, packing: Packing, model: &Model) -> Result<Self> {
        if !packing.is_on() {
            return Ok(self);
        }
        if !self.task.repeats() {
            return Err(Error::invalid("option rows_per_request needs a temperature of 0; leave one of the two out"));
        }
        if is_asked_singly(model) {
            return Err(Error::invalid(format!(
                "option rows_per_request is not for model '{}', which is asked one question after another; leave it out",
                model.model_id
            )));
        }
        Ok(Questions { pack: Some((Pack::of(&self.task)?, packing)), ..self })
    }

    /// The same with several rows in a request, where model and task permit it.
    pub fn packed_where_possible(self, packing: Packing, model: &Model) -> Result<Self> {
        match self.task.repeats() && !is_asked_singly(model) {
            true => self.packed(packing, model),
            false => Ok(self),
        }
    }

    /// The question about several rows.
    fn together(&self, inputs: &[&Asking]) -> Result<Question> {
        let Some((pack, _)) = &self.pack else { return Err(Error::internal("several questions in one request")) };
        pack.question(inputs.iter().map(|asking| asking.question.text.as_ref()))
    }

    /// Makes the question about a text.
    pub fn asker(&self) -> impl Fn(Arc<str>) -> Asking + 'static {
        let task = Arc::clone(&self.task);
        move |text| Asking::new(Arc::clone(&task), text.into())
    }
}

/// Whether a model is asked one question after another: by a stored function for its headers, or by no request. Local
/// models answer so, whoever asks.
fn is_asked_singly(model: &Model) -> bool {
    model.header_fn.is_some() || model.backend() != Backend::Remote
}

impl Work for Questions {
    type Input = Asking;
    type Place = CacheLookup;
    type Raw = Read;
    type Output = Value;
    type Form = Form;
    /// An answer takes a second or more, and a request has one question.
    const CONCURRENCY: u64 = QUESTIONS;
    const ANSWERS_VARY: bool = true;

    fn limits(&self, _model: &Model) -> BatchLimits {
        match &self.pack {
            Some((_, packing)) => BatchLimits { texts: packing.rows, most: packing.rows, tokens: packing.tokens },
            None => BatchLimits::ONE,
        }
    }

    /// Images have no row: each is a part of a message.
    fn alone(&self, asking: &Asking) -> bool {
        !asking.question.images.is_empty()
    }

    fn probe(&self) -> (Asking, &'static str) {
        (self.asker()("mysql-ml".into()), "the probe 'mysql-ml'")
    }

    fn one_by_one(&self, model: &Model) -> bool {
        is_asked_singly(model)
    }

    fn look_up(
        &self,
        engine: &Engine,
        call: &Call,
        asking: &Asking,
        interrupt: &dyn Interrupt,
    ) -> Result<(CacheLookup, Option<Value>)> {
        let packed = self.pack.is_some() && !self.alone(asking);
        let Question { text, images, .. } = asking.question.as_ref();
        let place = engine.answer_lookup(call, &asking.task, text, images, packed, self.cache_answers);
        let found = engine.embeddings.get_kept(&place, call, interrupt)?;
        let found = found.and_then(|bytes| Value::from_bytes(&bytes));
        Ok((place, found))
    }

    fn bytes(asking: &Asking) -> usize {
        asking.question.text.len() + AROUND_A_ROW
    }

    fn encoded(asking: &Asking) -> usize {
        // The schema is JSON in JSON, at the most twice over.
        let images = asking.question.images.encoded();
        let beside = asking.question.bytes().saturating_sub(asking.question.text.len() + images);
        // Images are in the document and in its text.
        let images = images.saturating_mul(2);
        encoded_length(&asking.question.text)
            .saturating_add(images)
            .saturating_add(beside.saturating_mul(3))
            .saturating_add(1024)
    }

    fn encoded_together(inputs: &[&Asking]) -> usize {
        match inputs {
            [asking] => Self::encoded(asking),
            // The texts are JSON in JSON; instruction and schema are there once.
            _ => {
                let texts =
                    inputs.iter().map(|a| encoded_length(&a.question.text) * 2 + 2 * AROUND_A_ROW).sum::<usize>();
                let beside = |a: &&Asking| a.question.bytes().saturating_sub(a.question.text.len());
                let beside = inputs.first().map_or(0, beside);
                texts.saturating_add(beside.saturating_mul(3)).saturating_add(4096)
            }
        }
    }

    fn tokens(asking: &Asking) -> u64 {
        tokens_in(&asking.question.text) + IMAGE_TOKENS * asking.question.images.len() as u64
    }

    fn compute(&self, engine: &Engine, call: &Call, asking: &Asking, interrupt: &dyn Interrupt) -> Result<Read> {
        engine.ask_counted(call, &asking.task, Question::clone(&asking.question), interrupt).map(Read::Value)
    }

    fn compute_locally(
        &self,
        _engine: &Engine,
        _call: &Call,
        _inputs: Vec<Asking>,
        _cancel: &CancelToken,
        _done: WhenDone<Read>,
        _interrupt: &dyn Interrupt,
    ) -> Result<()> {
        Err(Error::internal("a batch of questions for a local model"))
    }

    fn body(&self, engine: &Engine, call: &Call, inputs: &[&Asking]) -> Result<(Vec<u8>, Form)> {
        let form = engine.remote.form(call.model())?;
        let body = match inputs {
            [asking] => form.request(&asking.question)?,
            _ => form.request(&self.together(inputs)?)?,
        };
        Ok((provider(call.model().api).predict_request(call.model(), &body)?, form))
    }

    fn read(call: &Call, inputs: &[&Asking], answer: &Answer) -> Result<(Vec<Result<Read>>, Usage)> {
        let Some(asking) = inputs.first() else { return Err(Error::internal("no question in a request")) };
        let usage = usage::of_answer(&answer.body).map_err(|e| unreadable(&e, &answer.body))?;
        let text = form_of(call.model())?.chat.read(&answer.body)?;
        if inputs.len() > 1 {
            let _tree = Reservation::take(pack::memory_to_read(&text), "reading the answer")?;
            let values = pack::read(&asking.task, inputs.len(), &text).map_err(|reason| {
                Error::response(format!("the answer about {} rows cannot be used: {reason}", inputs.len()))
            })?;
            return Ok((values.into_iter().map(|value| Ok(Read::Value(value))).collect(), usage));
        }
        let _tree = Reservation::take(asking.task.memory_to_read(&text), "reading the answer")?;
        let read = match asking.task.read(&text) {
            Ok(value) => Read::Value(value),
            Err(reason) => Read::Unusable(Rejected::new(&text, &reason)),
        };
        Ok((vec![Ok(read)], usage))
    }

    fn size(read: &Read) -> usize {
        match read {
            Read::Value(Value::Text(text) | Value::Json(text)) => text.len(),
            Read::Value(_) => 0,
            Read::Unusable(rejected) => rejected.answer.len() + rejected.reason.len(),
        }
    }

    fn counted(_inputs: usize) -> u64 {
        0
    }

    fn adapt(&self, engine: &Engine, call: &Call, inputs: &[&Asking], used: Form, error: &Error) -> bool {
        let model = call.model();
        let other = match inputs {
            [asking] => used.after_refusal(&asking.question, error),
            _ => self.together(inputs).ok().and_then(|question| used.after_refusal(&question, error)),
        };
        // A refusal of another question of this time may have taught the form already.
        if engine.remote.form(model).is_ok_and(|form| form != used) {
            return other.is_some();
        }
        other.inspect(|other| engine.remote.learn_form(model, *other)).is_some()
    }

    fn finish(
        &mut self,
        engine: &Engine,
        _call: &Call,
        asking: &Asking,
        place: Option<&CacheLookup>,
        read: Read,
    ) -> Finished<Asking, Value> {
        match read {
            Read::Value(value) => {
                if let Some(place) = place {
                    engine.embeddings.keep_computed(place, &value.to_bytes().into());
                }
                Finished::Done(value)
            }
            Read::Unusable(rejected) if asking.question.rejected.is_none() => {
                let question = Question { rejected: Some(rejected), ..Question::clone(&asking.question) };
                Finished::Again(Asking { task: Arc::clone(&asking.task), question: Arc::new(question) })
            }
            Read::Unusable(rejected) => Finished::Failed(unusable(&rejected.reason, &rejected.answer)),
        }
    }
}
