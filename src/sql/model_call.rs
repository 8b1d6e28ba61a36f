//! What the functions that call a model share: two texts, NULL rules, and the statement's memory of its last call.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use surface::Function;

use super::named::{bind, Bound};
use crate::jobs::engine;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{BytesFunction, SqlFunction};
use crate::mysql::sql::refuse_inside_user_functions;
use crate::mysql::statement::{check_result, ProcessState, StatementInterrupt};
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;
use mysql_ml_core::engine::Engine;

/// A statement's last call. The server evaluates a constant call in a SELECT list for each row, and then it is made once.
/// It also keeps the result alive until the next call.
pub struct LastCall<T> {
    done: Option<T>,
    /// When the server last confirmed the caller's right, and how long that took. A prepared statement keeps its last call
    /// from one execution to the next, and the right may be gone by then.
    confirmed: Option<(Instant, Duration)>,
}

impl<T> Default for LastCall<T> {
    fn default() -> Self {
        LastCall { done: None, confirmed: None }
    }
}

impl<T> LastCall<T> {
    /// The last call where it is the `same`, and the caller still has the right; else what `call` returns.
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

    /// Asks for the right. A caller whose right comes by an inactive role waits long for the answer: not for each row.
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
    /// What `SHOW PROCESSLIST` shows while it waits.
    const STATE: &'static CStr;
    /// Whether the same input gives the same output, so that a constant call need be made once a statement only.
    const REPEATABLE: bool;
    /// What it returns.
    type Output: AsRef<[u8]>;

    /// Declares the result.
    fn declare(setup: &Setup<'_>) -> Result<()>;

    /// Calls the model.
    fn call(engine: &Engine, model_id: &str, input: &str, interrupt: &dyn Interrupt) -> Result<Self::Output>;
}

/// A [`ModelCall`] as a loadable function: NULL for a NULL model or input, without a call.
pub struct ModelFunction<C: ModelCall> {
    bound: Bound,
    last: LastCall<Done<C::Output>>,
}

struct Done<T> {
    model_id: String,
    input: String,
    output: T,
    _share: Reservation,
}

impl<C: ModelCall> SqlFunction for ModelFunction<C> {
    const FUNCTION: &'static Function = C::FUNCTION;

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
        let (Some(model_id), Some(input)) = (model_id, input) else { return Ok(None) };
        // Before any memory is asked, so that it does not depend on what was called a moment ago.
        refuse_inside_user_functions()?;
        let same = |l: &Done<C::Output>| C::REPEATABLE && l.model_id == model_id && l.input == input;
        let done = self.last.or_call(C::FUNCTION, same, || {
            let _state = ProcessState::set(C::STATE);
            let share = Reservation::take(if C::REPEATABLE { input.len() } else { 0 }, "the input")?;
            let interrupt = StatementInterrupt::current();
            let output = C::call(engine(), model_id, input, &interrupt)?;
            check_result(output.as_ref().len())?;
            // Where every call is made anew the input is of no use any more.
            let input = if C::REPEATABLE { input } else { "" }.to_owned();
            Ok(Done { model_id: model_id.to_owned(), input, output, _share: share })
        })?;
        Ok(Some(done.output.as_ref()))
    }
}
