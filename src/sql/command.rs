//! Common parts of the registry functions: text arguments by position or name, and a text result.

use std::marker::PhantomData;

use surface::{Function, Parameter};

use super::named::{bind, Bound};
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{BytesFunction, SqlFunction};
use crate::mysql::statement::{check_result, StatementInterrupt};
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{Held, Reservation};

/// One registry function.
pub trait Command {
    /// Its row in the table of functions.
    const FUNCTION: &'static Function;

    /// Executes the call; `None` is SQL NULL.
    fn run(values: &Values<'_>, interrupt: &dyn Interrupt) -> Result<Option<String>>;
}

/// The arguments of a call, one for each parameter of the function; `None` is SQL NULL, not given, or binary.
pub struct Values<'a> {
    function: &'static Function,
    /// The texts.
    pub texts: Vec<Option<&'a str>>,
    /// Whether the arguments were named.
    pub by_name: bool,
}

impl<'a> Values<'a> {
    /// The value of parameter `p`.
    pub fn text(&self, p: usize) -> Option<&'a str> {
        self.texts.get(p).copied().flatten()
    }

    /// The value of parameter `p`, which must not be NULL.
    pub fn required(&self, p: usize) -> Result<&'a str> {
        self.text(p)
            .ok_or_else(|| Error::invalid(format!("argument {} is NULL; give a value", self.function.parameter(p))))
    }
}

/// Declares [`Command`] types: the type, its row in the table of functions, and its code.
macro_rules! command {
    ($(#[$doc:meta])* $type:ident = $function:ident, $run:expr) => {
        command! { $(#[$doc])* $type = $function, or_null |values, interrupt| {
            type Run = fn(
                &$crate::sql::command::Values<'_>,
                &dyn mysql_ml_base::interrupt::Interrupt,
            ) -> mysql_ml_base::error::Result<String>;
            let run: Run = $run;
            run(values, interrupt).map(Some)
        } }
    };
    ($(#[$doc:meta])* $type:ident = $function:ident, or_null |$values:ident, $interrupt:ident| $run:expr) => {
        $(#[$doc])*
        pub struct $type;

        impl $crate::sql::command::Command for $type {
            const FUNCTION: &'static surface::Function = surface::functions::$function;

            fn run(
                $values: &$crate::sql::command::Values<'_>,
                $interrupt: &dyn mysql_ml_base::interrupt::Interrupt,
            ) -> mysql_ml_base::error::Result<Option<String>> {
                $run
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
    const FUNCTION: &'static Function = C::FUNCTION;
    const IN_PASSES: bool = false;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, C::FUNCTION)?;
        setup.returns_text(0x00ff_ffff)?;
        Ok(CommandFunction { bound, result: None, command: PhantomData })
    }
}

impl<C: Command> BytesFunction for CommandFunction<C> {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        let text = |(p, parameter): (usize, &Parameter)| match parameter.binary {
            true => Ok(None),
            false => self.bound.text(args, p),
        };
        let texts = C::FUNCTION.parameters.iter().enumerate().map(text).collect::<Result<_>>()?;
        let values = Values { function: C::FUNCTION, texts, by_name: self.bound.by_name };
        let interrupt = StatementInterrupt::current();
        self.result = match C::run(&values, &interrupt)? {
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
