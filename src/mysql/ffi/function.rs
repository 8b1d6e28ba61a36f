//! Traits of loadable functions.

use surface::Function;

use super::args::{Args, Setup};
use mysql_ml_base::error::Result;

/// A loadable function. One value exists from init to deinit, for one occurrence in a statement.
pub trait SqlFunction: Sized {
    /// Its row in the table of functions.
    const FUNCTION: &'static Function;

    /// Whether it runs while the inputs of a statement are collected (`ai.query`); otherwise it is NULL then. What calls a
    /// model without being collected, or changes anything, does not.
    const IN_PASSES: bool = true;

    /// Checks the arguments' count and types, declares the result.
    fn prepare(setup: &Setup<'_>) -> Result<Self>;
}

/// A function that returns text or bytes. The result must live in `self` until the next call.
pub trait BytesFunction: SqlFunction {
    /// The result for one row; `None` is SQL NULL.
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>>;
}

/// An aggregate function; [`BytesFunction::call`] returns its result after the last row of a group.
pub trait AggregateFunction: BytesFunction {
    /// Begins a group.
    fn clear(&mut self) -> Result<()>;

    /// Takes a row of the group.
    fn add(&mut self, args: &Args<'_>) -> Result<()>;
}

/// A function that returns a double.
pub trait RealFunction: SqlFunction {
    /// The result for one row; `None` is SQL NULL.
    fn call(&mut self, args: &Args<'_>) -> Result<Option<f64>>;
}

/// A function that returns an integer.
pub trait IntegerFunction: SqlFunction {
    /// The result for one row; `None` is SQL NULL.
    fn call(&mut self, args: &Args<'_>) -> Result<Option<i64>>;
}
