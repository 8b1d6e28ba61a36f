//! Common parts of the functions that call a model: two texts, NULL rules, and the statement's last call.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use surface::Function;

use super::named::{bind, Bound};
use crate::jobs::engine;
use crate::jobs::query::answers_of_connection;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{BytesFunction, SqlFunction};
use crate::mysql::sql::refuse_inside_user_functions;
use crate::mysql::statement::{check_result, ProcessState, StatementInterrupt};
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;
use mysql_ml_core::catalog::default_model::DefaultModel;
use mysql_ml_core::engine::Engine;

/// A statement's last call. The server evaluates a constant call in a SELECT list for each row; only the first one
/// calls the model. It also keeps the result alive until the next call.
pub struct LastCall<T> {
    done: Option<T>,
    /// Time of the last check of EXECUTE, and its duration. A prepared statement keeps its last call between
    /// executions, during which the privilege may be revoked.
    confirmed: Option<(Instant, Duration)>,
}

impl<T> Default for LastCall<T> {
    fn default() -> Self {
        LastCall { done: None, confirmed: None }
    }
}

impl<T> LastCall<T> {
    /// The last call if it is the `same` and the caller still has EXECUTE; otherwise the result of `call`.
    pub fn or_call(
        &mut self,
        function: &'static Function,
        same: impl FnOnce(&T) -> bool,
        call: impl FnOnce() -> Result<T>,
    ) -> Result<&T> {
        let done = match self.done.take().filter(same) {
            Some(done) => {
                self.confirm(function)?;
                done
            }
            None => call()?,
        };
        Ok(self.done.insert(done))
    }

    /// Checks EXECUTE. With an inactive role the check is slow, so it is not repeated for each row.
    fn confirm(&mut self, function: &'static Function) -> Result<()> {
        let now = Instant::now();
        if self.confirmed.is_some_and(|(at, cost)| now.saturating_duration_since(at) < cost * 4) {
            return Ok(());
        }
        self.confirmed = None;
        engine().may_call(function, &StatementInterrupt::current())?;
        let end = Instant::now();
        self.confirmed = Some((end, end.saturating_duration_since(now)));
        Ok(())
    }
}

/// A function of a model's id and an input.
pub trait ModelCall {
    /// Its row in the table of functions. It has two parameters, and the caller needs EXECUTE on its routine.
    const FUNCTION: &'static Function;
    /// The state in `SHOW PROCESSLIST` while the call waits.
    const STATE: &'static CStr;
    /// Whether equal inputs give equal outputs, so that one call a statement is enough for a constant input.
    const REPEATABLE: bool;
    /// See [`SqlFunction::IN_PASSES`].
    const IN_PASSES: bool = true;
    /// The setting that names the model for a NULL model; `None`: a NULL model gives NULL.
    const DEFAULT: Option<DefaultModel> = None;
    /// The result's bytes.
    type Output: AsRef<[u8]>;

    /// Declares the type of the result.
    fn declare(setup: &Setup<'_>) -> Result<()>;

    /// Calls the model; `None` while the inputs of a statement are collected.
    fn call(engine: &Engine, model_id: &str, input: &str, interrupt: &dyn Interrupt) -> Result<Option<Self::Output>>;
}

/// A [`ModelCall`] as a loadable function: NULL for a NULL input, without a call; a NULL model gives NULL too, unless
/// a setting names another.
pub struct ModelFunction<C: ModelCall> {
    bound: Bound,
    last: LastCall<Done<C::Output>>,
}

struct Done<T> {
    model_id: String,
    input: String,
    output: Option<T>,
    _share: Reservation,
}

impl<C: ModelCall> SqlFunction for ModelFunction<C> {
    const FUNCTION: &'static Function = C::FUNCTION;
    const IN_PASSES: bool = C::IN_PASSES;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, C::FUNCTION)?;
        C::declare(setup)?;
        Ok(ModelFunction { bound, last: LastCall::default() })
    }
}

impl<C: ModelCall> BytesFunction for ModelFunction<C> {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        let model_id = self.bound.text(args, 0)?;
        let input = self.bound.text(args, 1)?;
        let Some(input) = input else { return Ok(None) };
        if model_id.is_none() && C::DEFAULT.is_none() {
            return Ok(None);
        }
        // Before memory is reserved, so that the error does not depend on earlier calls.
        refuse_inside_user_functions()?;
        let model_id = match (model_id, C::DEFAULT) {
            (None, Some(default)) => engine().model_or_default(None, default, &StatementInterrupt::current())?,
            (model_id, _) => model_id.unwrap_or_default().into(),
        };
        let model_id = model_id.as_ref();
        let same = |l: &Done<C::Output>| C::REPEATABLE && l.model_id == model_id && l.input == input;
        let done = self.last.or_call(C::FUNCTION, same, || {
            let _state = ProcessState::set(C::STATE);
            let share = Reservation::take(if C::REPEATABLE { input.len() } else { 0 }, "the input")?;
            let interrupt = StatementInterrupt::current();
            let _answers = answers_of_connection();
            let output = C::call(engine(), model_id, input, &interrupt)?;
            check_result(output.as_ref().map_or(0, |output| output.as_ref().len()))?;
            // Without repeatable calls, nothing compares the input with a later one.
            let input = if C::REPEATABLE { input } else { "" }.to_owned();
            Ok(Done { model_id: model_id.to_owned(), input, output, _share: share })
        })?;
        Ok(done.output.as_ref().map(AsRef::as_ref))
    }
}
