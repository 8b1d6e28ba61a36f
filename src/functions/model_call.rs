//! What the functions that call a model share: two texts, NULL rules, and the statement's memory of its last call.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use super::named::{bind, Bound};
use crate::abi::args::{Args, Setup};
use crate::abi::function::{BytesFunction, SqlFunction};
use crate::jobs::Jobs;
use crate::registry::engine::engine;
use crate::server::sql::{purpose, refuse_inside_user_functions, Purpose};
use crate::server::statement::{check_result, ProcessState, StatementInterrupt};
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;
use mysql_ml_core::engine::store::Routine;
use mysql_ml_core::engine::Engine;

/// The right to go on with what a statement remembers: a prepared one remembers it from one execution to the next, and
/// the right may be gone by then.
#[derive(Default)]
pub struct Right(Option<(Instant, Duration)>);

impl Right {
    /// Asks for it. Where that takes long, because only a role has it that is not active, not for each of many rows.
    pub fn ask(&mut self, routine: Routine, interrupt: &dyn Interrupt) -> Result<()> {
        let now = Instant::now();
        if self.0.is_some_and(|(at, cost)| now.saturating_duration_since(at) < cost * 4) {
            return Ok(());
        }
        self.0 = None;
        engine().may_call(routine, interrupt)?;
        let end = Instant::now();
        self.0 = Some((end, end.saturating_duration_since(now)));
        Ok(())
    }
}

/// A function of a model's id and an input.
pub trait ModelCall {
    /// Its name.
    const NAME: &'static str;
    /// What the caller must be allowed to execute.
    const ROUTINE: Routine;
    /// Its two parameters, each with the names it goes by.
    const PARAMETERS: &'static [&'static [&'static str]];
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
    /// The statement's last call: a constant one in a SELECT list is evaluated for each row. It also keeps the
    /// result alive until the next call.
    last: Option<Done<C::Output>>,
    right: Right,
}

struct Done<T> {
    model_id: String,
    input: String,
    output: T,
    _share: Reservation,
}

impl<C: ModelCall> SqlFunction for ModelFunction<C> {
    const NAME: &'static str = C::NAME;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, C::PARAMETERS, 2, false)?;
        C::declare(setup)?;
        Ok(ModelFunction { bound, last: None, right: Right::default() })
    }
}

impl<C: ModelCall> BytesFunction for ModelFunction<C> {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        if purpose() == Purpose::PrivilegeProbe {
            return Ok(None); // that the server let the call through is the answer
        }
        let model_id = self.bound.text(args, 0, C::PARAMETERS)?;
        let input = self.bound.text(args, 1, C::PARAMETERS)?;
        let (Some(model_id), Some(input)) = (model_id, input) else { return Ok(None) };
        // Before any memory is asked, so that it does not depend on what was called a moment ago.
        refuse_inside_user_functions()?;
        let same = |l: &Done<C::Output>| C::REPEATABLE && l.model_id == model_id && l.input == input;
        let done = match self.last.take().filter(same) {
            Some(done) => {
                self.right.ask(C::ROUTINE, &StatementInterrupt::current())?;
                done
            }
            None => {
                let _state = ProcessState::set(C::STATE);
                let share = Reservation::take(if C::REPEATABLE { input.len() } else { 0 }, "the input")?;
                let interrupt = StatementInterrupt::current();
                Jobs::global().look_after_jobs(&interrupt);
                let output = C::call(engine(), model_id, input, &interrupt)?;
                check_result(output.as_ref().len())?;
                // Where every call is made anew the input is of no use any more.
                let input = if C::REPEATABLE { input } else { "" }.to_owned();
                Done { model_id: model_id.to_owned(), input, output, _share: share }
            }
        };
        Ok(Some(self.last.insert(done).output.as_ref()))
    }
}
