//! `ai_agg(input, instruction [, model_id [, options]])` and `ai_agg_summarize(input [, model_id [, options]])`.

use std::ffi::CStr;
use std::marker::PhantomData;

use surface::{functions, Function};

use super::named::{bind, Bound};
use super::rollup::refuse_rollup;
use crate::jobs::engine;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{AggregateFunction, BytesFunction, SqlFunction};
use crate::mysql::sql::refuse_inside_user_functions;
use crate::mysql::statement::{check_result, push_warning, ProcessState, StatementInterrupt};
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::memory::Held;
use mysql_ml_core::ai::aggregate::{Tasks, SUMMARIZE};
use mysql_ml_core::catalog::members;
use mysql_ml_core::catalog::options::{parse_object, OnError};
use mysql_ml_core::engine::aggregate::{may_be_null, Aggregate, AggregateOptions};
use mysql_ml_core::providers::chat::GenerateOptions;

/// One of the two.
pub trait AiAggregate {
    /// Its row in the table of functions.
    const FUNCTION: &'static Function;
    /// The function whose routine the caller needs EXECUTE on: an aggregate has none.
    const RIGHT: &'static Function;
    /// The state in the processlist while it waits.
    const STATE: &'static CStr;
    /// The instruction, where it is not an argument.
    const INSTRUCTION: Option<&'static str>;
}

/// `ai_agg(input, instruction [, model_id [, options]])`: one answer about the texts of a group.
pub struct Agg;

impl AiAggregate for Agg {
    const FUNCTION: &'static Function = functions::ai_agg;
    const RIGHT: &'static Function = functions::ai_generate;
    const STATE: &'static CStr = c"waiting for a model: ai_agg";
    const INSTRUCTION: Option<&'static str> = None;
}

/// `ai_agg_summarize(input [, model_id [, options]])`: a summary of the texts of a group.
pub struct AggSummarize;

impl AiAggregate for AggSummarize {
    const FUNCTION: &'static Function = functions::ai_agg_summarize;
    const RIGHT: &'static Function = functions::ai_summarize;
    const STATE: &'static CStr = c"waiting for a model: ai_agg_summarize";
    const INSTRUCTION: Option<&'static str> = Some(SUMMARIZE);
}

/// An [`AiAggregate`] as a loadable function: utf8mb4 text. NULL texts are left out; NULL for a group without others, or
/// with a NULL instruction. Parts of a large group are asked about while the server reads its rows.
pub struct AiAggregateFunction<A: AiAggregate> {
    bound: Bound,
    group: Option<Group>,
    /// The finished group's answer; HAVING may ask for it again.
    result: Option<Held<String>>,
    /// The first failure of the group; its other rows are read to no end.
    failed: Option<Error>,
    abandoned: Option<FirstRow>,
    _aggregate: PhantomData<A>,
}

/// The arguments besides the text; the same for all rows of a group.
#[derive(Clone, PartialEq)]
struct Fixed {
    instruction: String,
    model_id: Option<String>,
    options: Option<String>,
}

type FirstRow = (Fixed, String);

struct Group {
    fixed: Fixed,
    texts: Aggregate<'static>,
    on_error: OnError,
    rows: u64,
    first: FirstRow,
}

fn read_options(options: Option<&str>) -> Result<(AggregateOptions, GenerateOptions)> {
    let mut members = options.map(parse_object).transpose()?.unwrap_or_default();
    let concurrency = members::concurrency(&mut members)?;
    let max_input_tokens = members::number(&mut members, "max_input_tokens", 100, 1_000_000)?;
    let on_error = OnError::take(&mut members)?;
    if on_error == Some(OnError::Detail) {
        return Err(Error::invalid("option on_error is 'detail', but the result is not JSON; give 'error' or 'null'"));
    }
    Ok((AggregateOptions { on_error, concurrency, max_input_tokens }, GenerateOptions::from_map(members)?))
}

impl<A: AiAggregate> SqlFunction for AiAggregateFunction<A> {
    const FUNCTION: &'static Function = A::FUNCTION;
    const IN_PASSES: bool = false;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, A::FUNCTION)?;
        setup.returns_text(0x3fff_ffff)?;
        Ok(AiAggregateFunction {
            bound,
            group: None,
            result: None,
            failed: None,
            abandoned: None,
            _aggregate: PhantomData,
        })
    }
}

impl<A: AiAggregate> AiAggregateFunction<A> {
    /// The other arguments; `None` for a NULL instruction.
    fn fixed(&self, args: &Args<'_>) -> Result<Option<Fixed>> {
        let (instruction, next) = match A::INSTRUCTION {
            Some(instruction) => (Some(instruction), 1),
            None => (self.bound.text(args, 1)?, 2),
        };
        let Some(instruction) = instruction else { return Ok(None) };
        Ok(Some(Fixed {
            instruction: instruction.to_owned(),
            model_id: self.bound.text(args, next)?.map(str::to_owned),
            options: self.bound.text(args, next + 1)?.map(str::to_owned),
        }))
    }

    fn begin(&mut self, fixed: Fixed, text: &str, interrupt: &StatementInterrupt) -> Result<Group> {
        let first = (fixed.clone(), text.to_owned());
        refuse_rollup(self.abandoned.take(), &first)?;
        let (options, answer) = read_options(fixed.options.as_deref())?;
        let tasks = Tasks::new(&fixed.instruction, &answer)?;
        let texts = Aggregate::new(engine(), A::RIGHT, fixed.model_id.as_deref(), tasks, options, interrupt)?;
        Ok(Group { fixed, on_error: texts.on_error(), texts, rows: 0, first })
    }
}

impl<A: AiAggregate> AggregateFunction for AiAggregateFunction<A> {
    fn clear(&mut self) -> Result<()> {
        self.abandoned = self.group.take().filter(|g| g.rows == 1).map(|g| g.first);
        self.result = None;
        self.failed = None;
        Ok(())
    }

    fn add(&mut self, args: &Args<'_>) -> Result<()> {
        let (Some(text), Some(fixed)) = (self.bound.text(args, 0)?, self.fixed(args)?) else { return Ok(()) };
        if self.failed.is_some() {
            return Ok(());
        }
        refuse_inside_user_functions()?;
        let interrupt = StatementInterrupt::current();
        let mut group = match self.group.take() {
            Some(group) if group.fixed == fixed => group,
            Some(_) => {
                return Err(Error::invalid(
                    "instruction, model_id and options are not the same for all rows of the group",
                ))
            }
            None => self.begin(fixed, text, &interrupt)?,
        };
        group.rows += 1;
        let _state = ProcessState::set(A::STATE);
        let added = group.texts.add(text, &interrupt);
        match added {
            Err(error) if group.on_error != OnError::Fail && may_be_null(&error) => self.failed = Some(error),
            Err(error) => return Err(error),
            Ok(()) => self.group = Some(group),
        }
        Ok(())
    }
}

impl<A: AiAggregate> BytesFunction for AiAggregateFunction<A> {
    fn call(&mut self, _args: &Args<'_>) -> Result<Option<&[u8]>> {
        if let Some(group) = self.group.take() {
            let _state = ProcessState::set(A::STATE);
            match group.texts.finish(&StatementInterrupt::current()) {
                Ok(answer) => {
                    check_result(answer.len())?;
                    self.result = Some(answer);
                }
                Err(error) if group.on_error != OnError::Fail && may_be_null(&error) => self.failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = &self.failed {
            push_warning(A::FUNCTION.name, error);
        }
        Ok(self.result.as_ref().map(AsRef::as_ref))
    }
}
