//! Functions of a language model and a text: `ai_generate`, `ai_if`, `ai_rank`, `ai_classify`, `ai_extract`,
//! `ai_summarize`, `ai_analyze_sentiment`, `ai_translate`. Names and argument order follow AlloyDB's schema `ai`.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::rc::Rc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use surface::{functions, Function};

use super::model_call::LastCall;
use super::named::{bind, Bound};
use crate::jobs::engine;
use crate::jobs::query::answers_of_connection;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{BytesFunction, IntegerFunction, RealFunction, SqlFunction};
use crate::mysql::sql::refuse_inside_user_functions;
use crate::mysql::statement::{check_result, push_warning, ProcessState, StatementInterrupt};
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::memory::{Held, Reservation};
use mysql_ml_core::ai::{classify, decide, extract, generate, score, sentiment, summarize, translate, Answer, Task};
use mysql_ml_core::catalog::default_model::DefaultModel;
use mysql_ml_core::catalog::members;
use mysql_ml_core::catalog::options::{parse_object, OnError};
use mysql_ml_core::engine::{About, AskOptions, Asked, SetOptions};
use mysql_ml_core::providers::chat::GenerateOptions;

/// One of the functions. Its parameters are the input, the task's other argument if it has one, the model, the
/// options and the images.
pub trait AiTask {
    /// Its row in the table of functions.
    const FUNCTION: &'static Function;
    /// The row of the batch function in the table of functions.
    const BATCH: &'static Function;
    /// The state in the processlist while it waits.
    const STATE: &'static CStr;

    /// The value while the inputs of a statement are collected.
    const PLACEHOLDER: Option<Answer> = None;

    /// Declares the result.
    fn declare(setup: &Setup<'_>) -> Result<()> {
        setup.returns_text(0x3fff_ffff)
    }

    /// The task. `argument`: the argument between input and model; empty if there is none. Takes its own members out of
    /// `options`.
    fn task(argument: &str, options: &mut Map<String, Value>) -> Result<Task>;
}

/// The remaining options, which apply to the model's answer.
fn answer_options(options: &mut Map<String, Value>) -> Result<GenerateOptions> {
    GenerateOptions::from_map(std::mem::take(options))
}

/// Declares [`AiTask`] types.
macro_rules! tasks {
    ($($(#[$doc:meta])* $type:ident = $function:ident / $batch:ident, |$argument:ident, $options:ident| $task:expr $(, $declare:expr $(, $placeholder:expr)?)?;)+) => {
        $(
            $(#[$doc])*
            pub struct $type;

            impl AiTask for $type {
                const FUNCTION: &'static Function = functions::$function;
                const BATCH: &'static Function = functions::$batch;
                const STATE: &'static CStr = match CStr::from_bytes_with_nul(
                    concat!("waiting for a model: ", stringify!($function), "\0").as_bytes(),
                ) {
                    Ok(state) => state,
                    Err(_) => c"waiting for a model",
                };

                $(
                    $(const PLACEHOLDER: Option<Answer> = $placeholder;)?

                    fn declare(setup: &Setup<'_>) -> Result<()> {
                        $declare(setup);
                        Ok(())
                    }
                )?

                fn task($argument: &str, $options: &mut Map<String, Value>) -> Result<Task> {
                    $task
                }
            }
        )+
    };
}

tasks! {
    /// `ai_generate(prompt [, model_id [, options]])`: text; JSON with the option `json_schema`.
    Generate = ai_generate / ai_generate_batch, |_argument, options| generate::task(answer_options(options)?);
    /// `ai_if(prompt [, model_id [, options]])`: 1, 0, or NULL if the model is unsure.
    If = ai_if / ai_if_batch, |_argument, options| decide::task(answer_options(options)?), |setup: &Setup<'_>| setup.returns_integer(1), Some(Answer::Decision(false));
    /// `ai_rank(prompt [, model_id [, options]])`: a double from 0 to 1.
    Rank = ai_rank / ai_rank_batch, |_argument, options| score::task(answer_options(options)?), |setup: &Setup<'_>| setup.returns_real();
    /// `ai_classify(input, labels [, model_id [, options]])`: a label; a JSON array of labels with the option `multi`.
    Classify = ai_classify / ai_classify_batch, |labels, options| {
        let multi = members::flag(options, "multi")?.unwrap_or(false);
        let examples = options.remove("examples");
        classify::task(labels, multi, examples.as_ref(), answer_options(options)?)
    };
    /// `ai_extract(input, fields [, model_id [, options]])`: a JSON object with exactly these fields.
    Extract = ai_extract / ai_extract_batch, |fields, options| extract::task(fields, answer_options(options)?);
    /// `ai_summarize(input [, model_id [, options]])`: text.
    Summarize = ai_summarize / ai_summarize_batch, |_argument, options| summarize::task(answer_options(options)?);
    /// `ai_analyze_sentiment(input [, model_id [, options]])`: positive, negative, neutral or mixed.
    AnalyzeSentiment = ai_analyze_sentiment / ai_analyze_sentiment_batch, |_argument, options| sentiment::task(answer_options(options)?);
    /// `ai_translate(input, language [, model_id [, options]])`: text.
    Translate = ai_translate / ai_translate_batch, |language, options| translate::task(language, answer_options(options)?);
}

/// An [`AiTask`] as a loadable function. NULL for a NULL input or argument, without a call, and for NULL in the place of
/// images. The option `on_error`
/// determines the result of a failed input.
pub struct AiFunction<T: AiTask> {
    bound: Bound,
    /// The task of the last row: its arguments seldom change from row to row.
    prepared: Option<Prepared>,
    last: LastCall<Done>,
    _task: PhantomData<T>,
}

struct Prepared {
    argument: String,
    options: Option<String>,
    task: Rc<Task>,
    ask: AskOptions,
}

/// The statement's last call and its value.
struct Done {
    input: String,
    /// SHA-256 of the argument with the images.
    images: Option<[u8; 32]>,
    model_id: Option<String>,
    task: Rc<Task>,
    value: Option<Answer>,
    _share: Reservation,
}

impl<T: AiTask> SqlFunction for AiFunction<T> {
    const FUNCTION: &'static Function = T::FUNCTION;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, T::FUNCTION)?;
        T::declare(setup)?;
        Ok(AiFunction { bound, prepared: None, last: LastCall::default(), _task: PhantomData })
    }
}

impl<T: AiTask> AiFunction<T> {
    /// The number of parameters before the model.
    fn before_model() -> usize {
        T::FUNCTION.parameters.len().saturating_sub(3)
    }

    fn prepared(&mut self, argument: &str, options: Option<&str>) -> Result<(Rc<Task>, AskOptions)> {
        if let Some(p) = self.prepared.as_ref().filter(|p| p.argument == argument && p.options.as_deref() == options) {
            return Ok((Rc::clone(&p.task), p.ask));
        }
        let mut members = options.map(parse_object).transpose()?.unwrap_or_default();
        let ask = AskOptions::take(&mut members)?;
        let task = Rc::new(T::task(argument, &mut members)?);
        if ask.on_error == Some(OnError::Detail) && !task.is_json() {
            return Err(Error::invalid(
                "option on_error is 'detail', but the result is not JSON; give 'error' or 'null'",
            ));
        }
        self.prepared = Some(Prepared {
            argument: argument.to_owned(),
            options: options.map(str::to_owned),
            task: Rc::clone(&task),
            ask,
        });
        Ok((task, ask))
    }

    /// The value for one row; `None` for NULL.
    fn value(&mut self, args: &Args<'_>) -> Result<Option<&Answer>> {
        let before = Self::before_model();
        let input = self.bound.text(args, 0)?;
        let argument = if before > 1 { self.bound.text(args, 1)? } else { Some("") };
        let model_id = self.bound.text(args, before)?;
        let options = self.bound.text(args, before + 1)?;
        let images = self.bound.bytes(args, before + 2);
        let (Some(input), Some(argument)) = (input, argument) else { return Ok(None) };
        if images.is_none() && self.bound.is_given(before + 2) {
            return Ok(None);
        }
        refuse_inside_user_functions()?;
        let digest = images.map(|images| Sha256::digest(images).into());
        let (task, ask) = self.prepared(argument, options)?;
        // The default may change between two executions of a prepared statement.
        let default = match model_id {
            None => Some(engine().model_or_default(None, DefaultModel::Llm, &StatementInterrupt::current())?),
            Some(_) => None,
        };
        let model_id = model_id.or(default.as_deref());
        let same = |done: &Done| {
            task.repeats()
                && Rc::ptr_eq(&done.task, &task)
                && done.input == input
                && done.images == digest
                && done.model_id.as_deref() == model_id
        };
        let done = self.last.or_call(T::FUNCTION, same, || {
            let _state = ProcessState::set(T::STATE);
            let share = Reservation::take(input.len(), "the input")?;
            let interrupt = StatementInterrupt::current();
            let _answers = answers_of_connection();
            let about = About { text: input, images };
            let asked = engine().ask(T::FUNCTION, model_id, &task, &about, ask, &interrupt)?;
            let detailed = |on_error| on_error == OnError::Detail && task.is_json();
            let value = match asked {
                Asked::Answered(answer, on_error) => match answer.into_parts().0 {
                    Answer::Unknown => None,
                    Answer::Json(document) if detailed(on_error) => Some(detail(&document, None)),
                    answer => Some(answer),
                },
                Asked::Noted => T::PLACEHOLDER,
                Asked::Failed(error, on_error) if detailed(on_error) => Some(detail("null", Some(&error))),
                Asked::Failed(error, _) => {
                    push_warning(T::FUNCTION.name, &error);
                    None
                }
            };
            if let Some(Answer::Text(text) | Answer::Json(text)) = &value {
                check_result(text.len())?;
            }
            Ok(Done {
                input: input.to_owned(),
                images: digest,
                model_id: model_id.map(str::to_owned),
                task: Rc::clone(&task),
                value,
                _share: share,
            })
        })?;
        Ok(done.value.as_ref())
    }
}

/// An [`AiTask`] about the texts of a JSON array: a JSON array of values in their order, null for null and unknown.
/// Equal texts are asked once; requests are concurrent. NULL for a NULL array or argument, without a call.
pub struct AiBatch<T: AiTask> {
    bound: Bound,
    answers: Held<String>,
    _task: PhantomData<T>,
}

impl<T: AiTask> SqlFunction for AiBatch<T> {
    const FUNCTION: &'static Function = T::BATCH;
    const IN_PASSES: bool = false;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, T::BATCH)?;
        setup.returns_text(0x3fff_ffff)?;
        Ok(AiBatch { bound, answers: Held::default(), _task: PhantomData })
    }
}

impl<T: AiTask> BytesFunction for AiBatch<T> {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        let before = AiFunction::<T>::before_model();
        let inputs = self.bound.text(args, 0)?;
        let argument = if before > 1 { self.bound.text(args, 1)? } else { Some("") };
        let model_id = self.bound.text(args, before)?;
        let options = self.bound.text(args, before + 1)?;
        let (Some(inputs), Some(argument)) = (inputs, argument) else { return Ok(None) };
        refuse_inside_user_functions()?;
        let mut members = options.map(parse_object).transpose()?.unwrap_or_default();
        let options = SetOptions::take(&mut members)?;
        let task = T::task(argument, &mut members)?;
        let _state = ProcessState::set(T::STATE);
        let interrupt = StatementInterrupt::current();
        let answered = engine().ask_all(T::BATCH, model_id, &task, inputs, options, &interrupt)?;
        answered.warning().inspect(|warning| push_warning(T::BATCH.name, warning));
        self.answers = answered.json;
        Ok(Some(self.answers.as_bytes()))
    }
}

/// The JSON object for `on_error` = `detail`: a value and an error, one of them null.
pub(super) fn detail(document: &str, error: Option<&Error>) -> Answer {
    let error = error.map_or(Value::Null, |error| error.message().into());
    Answer::Json(format!("{{\"value\": {document}, \"error\": {error}}}"))
}

impl<T: AiTask> BytesFunction for AiFunction<T> {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        match self.value(args)? {
            None => Ok(None),
            Some(Answer::Text(text) | Answer::Json(text)) => Ok(Some(text.as_bytes())),
            Some(_) => Err(Error::internal("an answer that is no text")),
        }
    }
}

impl<T: AiTask> IntegerFunction for AiFunction<T> {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<i64>> {
        match self.value(args)? {
            None => Ok(None),
            Some(Answer::Decision(yes)) => Ok(Some(i64::from(*yes))),
            Some(_) => Err(Error::internal("an answer that is no decision")),
        }
    }
}

impl<T: AiTask> RealFunction for AiFunction<T> {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<f64>> {
        match self.value(args)? {
            None => Ok(None),
            Some(Answer::Number(number)) => Ok(Some(*number)),
            Some(_) => Err(Error::internal("an answer that is no number")),
        }
    }
}
