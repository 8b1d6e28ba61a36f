//! The exported functions, and the glue between the `udf` crate's entry points and ours.
//!
//! A function is a type that implements the traits of [`crate::mysql::ffi::function`]; its row in `crates/surface/src/functions.rs`
//! exports it. Nothing else in the library is visible to the server.
//!
//! A function wrapped by a stored function of the same name is also exported under a second name, which the wrapper
//! calls. With one name the wrapper would call itself if the loadable function is missing, and the server would
//! report a recursion (1424). mysqldump also needs it: it drops the loadable function when it means the stored one.

use std::num::NonZeroU8;

use udf::prelude::*;

use super::aggregate::AiAggregateFunction;
use super::ai::{AiBatch, AiFunction};
use super::command::CommandFunction;
use super::model_call::ModelFunction;
use super::*;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{AggregateFunction, BytesFunction, IntegerFunction, RealFunction, SqlFunction};
use crate::mysql::ffi::stored_program;
use crate::mysql::ffi::symbols::require_server;
use crate::mysql::guard;
use crate::mysql::sql::{session_kind, SessionKind};

fn init<F: SqlFunction>(cfg: &UdfCfg<Init>, args: &ArgList<Init>) -> std::result::Result<F, String> {
    guard::entry(F::FUNCTION.name, || {
        mysql_ml_base::panics::injected_panic("init");
        require_server()?;
        let setup = Setup::new(cfg, args);
        stored_program::refuse_subquery(&setup.args)?;
        F::prepare(&setup)
    })
}

/// Whether a function does anything in the session of this thread. In a privilege probe, getting here proves EXECUTE,
/// which is all that the probe asks.
fn runs<F: SqlFunction>() -> bool {
    match session_kind() {
        SessionKind::PrivilegeProbe => false,
        SessionKind::Collecting => F::IN_PASSES,
        _ => true,
    }
}

macro_rules! export {
    ($($kind:ident $name:ident $(as $second:tt)? = $function:ty { $($fields:tt)* })+) => {
        $(export!(@ $kind $name $(as $second)?: $function);)+

        #[cfg(test)]
        const ROWS: &[(&str, &surface::Function)] = &[$((stringify!($name), <$function as SqlFunction>::FUNCTION)),+];
    };
    // Results are references, never owned buffers, which the crate leaks. Names are `tt`: a `literal` would reach the
    // attribute in invisible brackets, which it does not read.
    (@ bytes $name:ident $(as $second:tt)?: $function:ty) => {
        export!(@ $name $(as $second)?: $function as BytesFunction, Option<&'a [u8]>);
    };
    (@ real $name:ident: $function:ty) => {
        export!(@ $name: $function as RealFunction, Option<f64>);
    };
    (@ integer $name:ident: $function:ty) => {
        export!(@ $name: $function as IntegerFunction, Option<i64>);
    };
    (@ aggregate $name:ident: $function:ty) => {
        export!(@ $name: $function as BytesFunction, Option<&'a [u8]>);

        #[register]
        impl AggregateUdf for $name {
            fn clear(
                &mut self,
                _cfg: &UdfCfg<Process>,
                _error: Option<NonZeroU8>,
            ) -> std::result::Result<(), NonZeroU8> {
                guard::entry(stringify!($name), || self.function.clear()).map_err(|_| NonZeroU8::MIN)
            }

            fn add(
                &mut self,
                _cfg: &UdfCfg<Process>,
                args: &ArgList<Process>,
                error: Option<NonZeroU8>,
            ) -> std::result::Result<(), NonZeroU8> {
                // After an error the server may continue with the next rows.
                if let Some(error) = error {
                    return Err(error);
                }
                guard::entry(stringify!($name), || {
                    mysql_ml_base::panics::injected_panic("call");
                    if !runs::<$function>() {
                        return Ok(());
                    }
                    self.function.add(&Args::from_process(args))
                })
                .map_err(|_| NonZeroU8::MIN)
            }
        }
    };
    (@ $name:ident $(as $second:tt)?: $function:ty as $call:ident, $($returns:tt)+) => {
        // The attribute makes the symbol of the type's name. A tuple would take the name of the function that it makes.
        #[doc = concat!("The exported function `", stringify!($name), "`.")]
        #[allow(non_camel_case_types)]
        pub struct $name {
            function: $function,
        }

        #[register($(alias = $second)?)]
        impl BasicUdf for $name {
            type Returns<'a> = $($returns)+;

            fn init(cfg: &UdfCfg<Init>, args: &ArgList<Init>) -> std::result::Result<Self, String> {
                init::<$function>(cfg, args).map(|function| $name { function })
            }

            fn process<'a>(
                &'a mut self,
                _cfg: &UdfCfg<Process>,
                args: &ArgList<Process>,
                _error: Option<NonZeroU8>,
            ) -> std::result::Result<Self::Returns<'a>, ProcessError> {
                guard::entry(stringify!($name), move || {
                    mysql_ml_base::panics::injected_panic("call");
                    if !runs::<$function>() {
                        return Ok(None);
                    }
                    <$function as $call>::call(&mut self.function, &Args::from_process(args))
                })
                .map_err(|_| ProcessError)
            }
        }
    };
}

surface::exported_functions!(export);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_exports_the_function_that_means_it() {
        for (name, function) in ROWS {
            assert_eq!(*name, function.name);
        }
    }
}
