//! `ai_..._batch`: a JSON array of inputs, a JSON array of answers.

use std::sync::Arc;

use serde_json::Value;

use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{self, Held, Reservation};

use super::asking::{failed_too_often, is_of_the_input, on_error_of, SetOptions};
use super::batch::{read_texts, PLACE};
use super::ordered::{Answered, OrderedBatch, Results};
use super::pipeline::questions::Questions;
use super::pipeline::Pipeline;
use super::store::Routine;
use super::Engine;
use crate::ai::{Answer, Task};
use crate::catalog::options::OnError;

impl Engine {
    /// The answers of a task about the texts in a JSON array, in their order. null for null. Equal texts are asked once.
    pub fn ask_all(
        &self,
        function: Routine,
        model_id: Option<&str>,
        task: &Task,
        inputs: &str,
        options: SetOptions,
        interrupt: &dyn Interrupt,
    ) -> Result<Answered> {
        let call = self.call_of_llm(function, model_id, interrupt)?;
        let on_error = on_error_of(&call, options.each.on_error);
        let model_id = call.model().model_id.clone();
        let time = call.time();
        let questions = Questions::new(Arc::new(task.clone()), options.each.cache_answers);
        let questions = questions.packed(options.packing, call.model())?;
        let about = questions.asker();
        let pipeline = Pipeline::new(self, call, questions, options.concurrency, None, Some(time))?;
        let mut batch = OrderedBatch::new(&model_id, on_error, pipeline, about);
        let numbers = read_texts("inputs", inputs, |text| {
            batch.spend(PLACE)?;
            text.map(|text| batch.number(text)).transpose()
        })?;
        let place = |number: u64| {
            let first = numbers.iter().position(|n| *n == Some(number)).unwrap_or_default();
            format!("input {first} of the array (from 0)")
        };
        let results = batch.finish(place, interrupt, &mut |result| Ok(result.as_ref().map_or(0, size)))?;
        let failures = failures(&results, &numbers, options.max_error_ratio)?;
        let json = write(&results, &numbers, on_error == OnError::Detail)?;
        Ok(Answered { json, failures })
    }
}

/// Bytes of an answer.
fn size(answer: &Answer) -> usize {
    match answer {
        Answer::Text(text) | Answer::Json(text) => text.len(),
        _ => 0,
    }
}

/// The number of failed inputs and the first error. An error if there are more than `most`, a part of all, or if an
/// error concerns the whole call.
fn failures(results: &Results<Answer>, numbers: &[Option<u64>], most: Option<f64>) -> Result<Option<(u64, Error)>> {
    let (mut failed, mut asked) = (0_u64, 0_u64);
    for number in numbers {
        let Some(result) = results.of(*number) else { continue };
        asked += 1;
        if let Err(error) = result {
            if !is_of_the_input(error) {
                return Err(error.clone());
            }
            failed += 1;
        }
    }
    let Some((_, first)) = results.failures(failed) else { return Ok(None) };
    if most.is_some_and(|most| failed_too_often(failed, asked, most)) {
        return Err(Error::new(
            Kind::Response,
            format!(
                "{failed} of {asked} inputs failed, more than max_error_ratio allows; the first: {}",
                first.message()
            ),
        ));
    }
    Ok(Some((failed, first)))
}

/// The JSON array. With `detail` objects of value and error.
fn write(results: &Results<Answer>, numbers: &[Option<u64>], detail: bool) -> Result<Held<String>> {
    let one = |number: &Option<u64>| match (results.of(*number), detail) {
        (None, _) => "null".to_owned(),
        (Some(Ok(answer)), false) => json_of(answer),
        (Some(Err(_)), false) => "null".to_owned(),
        (Some(Ok(answer)), true) => format!("{{\"value\":{},\"error\":null}}", json_of(answer)),
        (Some(Err(error)), true) => {
            format!("{{\"value\":null,\"error\":{}}}", Value::from(cut(error.message(), 400).as_ref()))
        }
    };
    let bytes = numbers.iter().fold(2, |sum: usize, number| sum.saturating_add(one(number).len() + 1));
    let largest = mysql_ml_base::host::largest_result();
    if bytes > largest {
        return Err(Error::result_too_large(&format!("the result would have {bytes} bytes"), largest));
    }
    let share = Reservation::take(bytes, "the result")?;
    let mut json = memory::text_of(bytes, "the result")?;
    json.push('[');
    for (i, number) in numbers.iter().enumerate() {
        if i > 0 {
            json.push(',');
        }
        json.push_str(&one(number));
    }
    json.push(']');
    Ok(Held::new(json, share))
}

/// An answer as JSON.
fn json_of(answer: &Answer) -> String {
    match answer {
        Answer::Unknown => "null".to_owned(),
        Answer::Decision(yes) => yes.to_string(),
        Answer::Number(number) => Value::from(*number).to_string(),
        Answer::Text(text) => Value::from(text.as_str()).to_string(),
        Answer::Json(document) => document.clone(),
    }
}
