//! `ml_generate`: text from a prompt. `ai_...`: the value of a task's answer.

use std::time::Instant;

use surface::functions;

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{Held, Reservation};

use super::asking::{is_of_the_input, on_error_of, unusable, About, AskOptions, Asked};
use super::backends::By;
use super::cached::CacheLookup;
use super::call::Call;
use super::collected::{active, Found, Known};
use super::store::Routine;
use super::Engine;
use crate::ai::{generate, Answer, Task};
use crate::catalog::default_model::DefaultModel;
use crate::catalog::options::OnError;
use crate::providers::chat::{GenerateOptions, Message, Question, Rejected};
use crate::providers::image::Images;

impl Engine {
    /// The model's answer to a prompt, as text; with the option `json_schema` a JSON document that conforms to it.
    pub fn generate(
        &self,
        model_id: &str,
        prompt: &str,
        options: &GenerateOptions,
        interrupt: &dyn Interrupt,
    ) -> Result<Held<String>> {
        let call = self.call(functions::ml_generate, model_id, interrupt)?;
        let task = generate::task(options.clone())?;
        // The model's own temperature, as ever.
        let question = Question { greedy: false, ..task.question(prompt.into()) };
        self.answered(&call, &task, question, interrupt, |answer| match answer {
            Answer::Text(text) | Answer::Json(text) => Some(text),
            _ => None,
        })
    }

    /// The value of a task's answer about a text and images. `model_id`: NULL for the model of the setting `default_llm`.
    /// `options`: `None` for the model's, else the settings.
    pub fn ask(
        &self,
        function: Routine,
        model_id: Option<&str>,
        task: &Task,
        about: &About<'_>,
        options: AskOptions,
        interrupt: &dyn Interrupt,
    ) -> Result<Asked> {
        let call = self.call_of_llm(function, model_id, interrupt)?;
        let on_error = on_error_of(&call, options.on_error);
        // One row's damaged image is that row's failure.
        let (message, _message) = match about.message() {
            Ok(message) => message.into_parts(),
            Err(error) if on_error != OnError::Fail && matches!(error.kind(), Kind::Invalid | Kind::TooLarge) => {
                return Ok(Asked::Failed(error, on_error));
            }
            Err(error) => return Err(error),
        };
        if let Some(collection) = active() {
            if !task.repeats() {
                // Each row is asked when the statement itself runs.
                if collection.is_collecting() {
                    return Ok(Asked::Noted);
                }
            } else {
                match collection.question(&call, task, &message, options.cache_answers)? {
                    Found::Known(Known::Answer(answer)) => {
                        return Ok(Asked::Answered(Held::new(answer, Reservation::default()), on_error))
                    }
                    Found::Known(Known::Failed(error)) if on_error == OnError::Fail => return Err(error),
                    Found::Known(Known::Failed(error)) => return Ok(Asked::Failed(error, on_error)),
                    Found::Noted => return Ok(Asked::Noted),
                    Found::Known(Known::Vector(_) | Known::Single) | Found::Unknown => {}
                }
            }
        }
        let answered = match task.repeats() {
            true => self.shared_answer(&call, task, &message, options.cache_answers, interrupt),
            false => self.answered(&call, task, task.question(message), interrupt, Some),
        };
        match answered {
            Ok(answer) => Ok(Asked::Answered(answer, on_error)),
            Err(error) if on_error != OnError::Fail && is_of_the_input(&error) => Ok(Asked::Failed(error, on_error)),
            Err(error) => Err(error),
        }
    }

    /// The answer to a question that repeats: from the caches where they keep answers, from another session's identical
    /// question, or from the model.
    fn shared_answer(
        &self,
        call: &Call,
        task: &Task,
        message: &Message,
        cache_answers: Option<bool>,
        interrupt: &dyn Interrupt,
    ) -> Result<Held<Answer>> {
        let _question = Reservation::take(message.bytes().saturating_mul(4), "the prompt")?;
        call.meter.called();
        let lookup = self.answer_lookup(call, task, &message.text, &message.images, false, cache_answers);
        let compute = |limit| {
            let answer = self.ask_again(call, task, task.question(message.clone()), limit, interrupt);
            let (answer, by) = call.counted(answer)?;
            if by == By::StandIn {
                lookup.keep_nothing();
            }
            Ok(answer.to_bytes())
        };
        let bytes = self.embeddings.get(&lookup, || self.store.caller(), call, interrupt, compute);
        let bytes = bytes.map_err(|e| of_model(call, &e))?;
        let answer = Answer::from_bytes(&bytes).ok_or_else(|| Error::internal("a kept answer that cannot be read"))?;
        Ok(Held::new(answer, Reservation::take(bytes.len(), "the answer")?))
    }

    /// The request to the caches for an answer. `packed`: whether it may share its request with other rows.
    pub(super) fn answer_lookup(
        &self,
        call: &Call,
        task: &Task,
        text: &str,
        images: &Images,
        packed: bool,
        cache_answers: Option<bool>,
    ) -> CacheLookup {
        let kept = task.repeats() && cache_answers.or(call.model().options.cache_answers) == Some(true);
        let about = images.digest_with(task.digest());
        self.embeddings.answer_lookup(call, &about, text, packed, kept, || self.local.stamp(call.model()))
    }

    /// A call of a language model. An error if the caller may not execute `function`.
    pub fn call_of_llm(&self, function: Routine, model_id: Option<&str>, interrupt: &dyn Interrupt) -> Result<Call> {
        let model_id = self.model_or_default(model_id, DefaultModel::Llm, interrupt)?;
        self.call(function, &model_id, interrupt)
    }

    fn answered<T>(
        &self,
        call: &Call,
        task: &Task,
        question: Question,
        interrupt: &dyn Interrupt,
        take: impl Fn(Answer) -> Option<T>,
    ) -> Result<Held<T>> {
        let _question = Reservation::take(question.bytes().saturating_mul(4), "the prompt")?;
        call.meter.called();
        let answered = self.ask_again(call, task, question, None, interrupt);
        let (value, share) = call.counted(answered).map_err(|e| of_model(call, &e))?.0.into_parts();
        take(value).map(|value| Held::new(value, share)).ok_or_else(|| Error::internal("an answer of another kind"))
    }

    /// Asks, and asks once more with the reason where the answer cannot be used, until `limit`.
    fn ask_again(
        &self,
        call: &Call,
        task: &Task,
        mut question: Question,
        limit: Option<Instant>,
        interrupt: &dyn Interrupt,
    ) -> Result<(Held<Answer>, By)> {
        let limit = Some(limit.unwrap_or_else(|| Instant::now() + call.time()));
        let (answer, by) = self.generator(call.model()).generate(call, &question, limit, interrupt)?;
        let (answer, share) = answer.into_parts();
        let tree = Reservation::take(task.memory_to_read(&answer), "reading the answer")?;
        let reason = match task.read(&answer) {
            Ok(value) => return Ok((Held::new(value, share), by)),
            Err(reason) => reason,
        };
        drop(tree);
        question.rejected = Some(Rejected::new(&answer, &reason));
        let (answer, by) = self.generator(call.model()).generate(call, &question, limit, interrupt)?;
        let (answer, share) = answer.into_parts();
        let _tree = Reservation::take(task.memory_to_read(&answer), "reading the answer")?;
        task.read(&answer).map(|value| (Held::new(value, share), by)).map_err(|reason| unusable(&reason, &answer))
    }

    /// The same for a pipeline, which has counted the call; counts an error.
    pub(super) fn ask_counted(
        &self,
        call: &Call,
        task: &Task,
        question: Question,
        interrupt: &dyn Interrupt,
    ) -> Result<Answer> {
        call.counted(self.ask_again(call, task, question, None, interrupt)).map(|(answer, _)| answer.into_parts().0)
    }
}

/// The error with the model's name.
fn of_model(call: &Call, error: &Error) -> Error {
    error.clone().context(&format!("model '{}'", call.model().model_id))
}
