//! What all registry functions share: text arguments by position or name, and a text result.

use std::marker::PhantomData;

use super::named::{bind, Bound};
use crate::abi::args::{Args, Setup};
use crate::abi::function::{BytesFunction, SqlFunction};
use crate::jobs::Jobs;
use crate::server::sql::{purpose, Purpose};
use crate::server::statement::{check_result, StatementInterrupt};
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{Held, Reservation};

/// One registry function.
pub trait Command {
    /// Its name.
    const NAME: &'static str;
    /// Its parameters, each with the names it goes by.
    const PARAMETERS: &'static [&'static [&'static str]];
    /// How many a positional call must give.
    const REQUIRED: usize;
    /// Whether an argument holds a key, so that errors must not quote arguments.
    const CONFIDENTIAL: bool = false;

    /// Does it. `values` has one entry a parameter. `None` is SQL NULL.
    fn run(values: &[Option<&str>], by_name: bool, interrupt: &dyn Interrupt) -> Result<Option<String>>;
}

/// Declares a [`Command`] type.
macro_rules! command {
    ($(#[$doc:meta])* $type:ident = $name:literal, $parameters:expr, $required:expr, $run:expr) => {
        command! { $(#[$doc])* $type = $name, $parameters, $required, $run, false }
    };
    ($(#[$doc:meta])* $type:ident = $name:literal, $parameters:expr, $required:expr, $run:expr, $confidential:expr) => {
        $(#[$doc])*
        pub struct $type;

        impl $crate::functions::command::Command for $type {
            const NAME: &'static str = $name;
            const PARAMETERS: &'static [&'static [&'static str]] = $parameters;
            const REQUIRED: usize = $required;
            const CONFIDENTIAL: bool = $confidential;

            fn run(
                values: &[Option<&str>],
                by_name: bool,
                interrupt: &dyn mysql_ml_base::interrupt::Interrupt,
            ) -> mysql_ml_base::error::Result<Option<String>> {
                type Run =
                    fn(&[Option<&str>], bool, &dyn mysql_ml_base::interrupt::Interrupt) -> mysql_ml_base::error::Result<String>;
                let run: Run = $run;
                run(values, by_name, interrupt).map(Some)
            }
        }
    };
}

pub(crate) use command;

/// A [`Command`] as a loadable function.
pub struct CommandFunction<C> {
    bound: Bound,
    result: Option<Held<String>>,
    command: PhantomData<C>,
}

impl<C: Command> SqlFunction for CommandFunction<C> {
    const NAME: &'static str = C::NAME;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, C::PARAMETERS, C::REQUIRED, C::CONFIDENTIAL)?;
        setup.returns_text(0x00ff_ffff)?;
        Ok(CommandFunction { bound, result: None, command: PhantomData })
    }
}

impl<C: Command> BytesFunction for CommandFunction<C> {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        if purpose() == Purpose::PrivilegeProbe {
            return Ok(None); // that the server let the call through is the answer
        }
        let values =
            (0..C::PARAMETERS.len()).map(|p| self.bound.text(args, p, C::PARAMETERS)).collect::<Result<Vec<_>>>()?;
        let interrupt = StatementInterrupt::current();
        Jobs::global().look_after_jobs(&interrupt);
        self.result = match C::run(&values, self.bound.by_name, &interrupt)? {
            Some(result) => {
                check_result(result.len())?;
                let share = Reservation::take(result.len(), "the result")?;
                Some(Held::new(result, share))
            }
            None => None,
        };
        Ok(self.result.as_ref().map(AsRef::as_ref))
    }
}

/// The value of parameter `p`, which must not be NULL.
pub fn required<'a>(values: &[Option<&'a str>], p: usize, name: &str) -> Result<&'a str> {
    values
        .get(p)
        .copied()
        .flatten()
        .ok_or_else(|| mysql_ml_base::error::Error::invalid(format!("argument {name} is NULL; give a value")))
}
