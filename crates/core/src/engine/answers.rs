//! `ai_..._batch`: a JSON array of inputs, a JSON array of answers.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{self, Held, Reservation};

use super::asking::{failed_too_often, is_of_the_input, on_error_of, SetOptions};
use super::batch::{neither_text_nor_null, read_array, Element, PLACE};
use super::ordered::{Answered, OrderedBatch, Results};
use super::pipeline::questions::{Asking, Questions};
use super::pipeline::Pipeline;
use super::store::Routine;
use super::Engine;
use crate::ai::{Answer, Task};
use crate::catalog::options::OnError;
use crate::providers::chat::Message;
use crate::providers::image::{Images, Member};

/// An element of `inputs`.
enum Input<'a> {
    Plain(Element<'a>),
    Object(Object<'a>),
}

/// A text with images.
#[derive(Default)]
struct Object<'a> {
    text: Option<Element<'a>>,
    images: Option<Member>,
    /// A member that such an object does not have.
    unknown: Option<String>,
}

impl<'a> Object<'a> {
    /// The text and the images of element `i`; `None` if one of them is null.
    fn parts(self, i: usize) -> Result<Option<(Cow<'a, str>, Result<Images>)>> {
        if let Some(name) = self.unknown {
            return Err(Error::invalid(format!(
                "element {i} of inputs (from 0) has the member '{name}'; an object has prompt and images"
            )));
        }
        Ok(match (self.text, self.images) {
            (None, _) => {
                return Err(Error::invalid(format!(
                    "element {i} of inputs (from 0) has no member prompt; an object has prompt and images"
                )))
            }
            (Some(Element::Other), _) => return Err(neither_text_nor_null("inputs", i)),
            (Some(Element::Null), _) | (_, Some(Member::Null)) => None,
            (Some(Element::Text(text)), Some(Member::Images(images))) => Some((text, images)),
            (Some(Element::Text(text)), None) => Some((text, Ok(Images::default()))),
        })
    }
}

impl<'de> Deserialize<'de> for Input<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(InputVisitor)
    }
}

struct InputVisitor;

impl<'de> Visitor<'de> for InputVisitor {
    type Value = Input<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, null, or an object with prompt and images")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> std::result::Result<Input<'de>, E> {
        Ok(Input::Plain(Element::Text(Cow::Borrowed(text))))
    }
    fn visit_str<E>(self, text: &str) -> std::result::Result<Input<'de>, E> {
        Ok(Input::Plain(Element::Text(Cow::Owned(text.to_owned()))))
    }
    fn visit_unit<E>(self) -> std::result::Result<Input<'de>, E> {
        Ok(Input::Plain(Element::Null))
    }
    fn visit_bool<E>(self, _: bool) -> std::result::Result<Input<'de>, E> {
        Ok(Input::Plain(Element::Other))
    }
    fn visit_i64<E>(self, _: i64) -> std::result::Result<Input<'de>, E> {
        Ok(Input::Plain(Element::Other))
    }
    fn visit_u64<E>(self, _: u64) -> std::result::Result<Input<'de>, E> {
        Ok(Input::Plain(Element::Other))
    }
    fn visit_f64<E>(self, _: f64) -> std::result::Result<Input<'de>, E> {
        Ok(Input::Plain(Element::Other))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Input<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Input::Plain(Element::Other))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Input<'de>, A::Error> {
        let mut object = Object::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match name.as_ref() {
                "prompt" | "input" | "text" => object.text = Some(map.next_value()?),
                "images" | "image" => object.images = Some(map.next_value()?),
                other => {
                    object.unknown = Some(cut(other, 60).into_owned());
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Input::Object(object))
    }
}

impl Engine {
    /// The answers of a task about the inputs in a JSON array, in their order: texts, and objects with `prompt` and
    /// `images`. null for null. Equal inputs are asked once.
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
        let task = Arc::new(task.clone());
        let questions = Questions::new(Arc::clone(&task), options.each.cache_answers);
        let questions = questions.packed(options.packing, call.model())?;
        let about = questions.asker();
        let pipeline = Pipeline::new(self, call, questions, options.concurrency, None, Some(time))?;
        let mut batch = OrderedBatch::new(&model_id, on_error, pipeline, about);
        // An array without braces has no objects.
        let objects = if inputs.contains('{') { Images::memory_to_read(inputs.as_bytes()) } else { 0 };
        let reading = Reservation::take(objects, "the images")?;
        let numbers = read_array("inputs", inputs, |i, input: Input<'_>| {
            batch.spend(PLACE)?;
            let (text, images) = match input {
                Input::Plain(Element::Text(text)) => return batch.number(&text).map(Some),
                Input::Plain(Element::Null) => return Ok(None),
                Input::Plain(Element::Other) => return Err(neither_text_nor_null("inputs", i)),
                Input::Object(object) => match object.parts(i)? {
                    Some(parts) => parts,
                    None => return Ok(None),
                },
            };
            match images {
                Ok(images) if images.is_empty() => batch.number(&text).map(Some),
                Ok(images) => {
                    let bytes = text.len().saturating_add(images.bytes());
                    let message = || Message { text: text.as_ref().into(), images: images.clone() };
                    let digest = images.digest_with_text(&text);
                    batch.number_other(digest, bytes, || Asking::new(Arc::clone(&task), message())).map(Some)
                }
                // One damaged image is one input's failure.
                Err(error) if on_error != OnError::Fail => {
                    batch.number_failed(Error::new(Kind::Response, error.message().to_owned())).map(Some)
                }
                Err(error) => Err(error.context(&format!("input {i} of the array (from 0)"))),
            }
        })?;
        drop(reading);
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
