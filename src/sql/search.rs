//! Loadable functions behind `ai.search` and `ai.vector_candidates`.

use surface::{functions, Function};

use super::command::command;
use super::named::{bind, Bound};
use crate::jobs::Jobs;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{IntegerFunction, SqlFunction};
use crate::mysql::statement::StatementInterrupt;
use mysql_ml_base::error::{Error, Result};

/// `ai_search_begin(table_name, column_name, query [, k [, options]])`: begins the search of a connection. Returns 1 if the
/// search needs a transaction, so that its statements see one snapshot; 0 inside of one.
pub struct Begin(Bound);

impl SqlFunction for Begin {
    const FUNCTION: &'static Function = functions::ai_search_begin;
    const IN_PASSES: bool = false;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, Self::FUNCTION)?;
        setup.returns_integer(1);
        Ok(Begin(bound))
    }
}

impl IntegerFunction for Begin {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<i64>> {
        let required = |p: usize| {
            let text = self.0.text(args, p)?;
            let name = Self::FUNCTION.parameter(p);
            text.ok_or_else(|| Error::invalid(format!("argument {name} is NULL; give a value")))
        };
        let (table, column) = (required(0)?, required(1)?);
        let query = self
            .0
            .bytes(args, 2)
            .ok_or_else(|| Error::invalid("argument query is NULL; give a vector, or a text to embed"))?;
        let (rows, options) = (self.0.text(args, 3)?, self.0.text(args, 4)?);
        let interrupt = StatementInterrupt::current();
        let begun = Jobs::global().begin_search(table, column, query, rows, options, &interrupt)?;
        Ok(Some(begun.into()))
    }
}

command! {
    /// `ai_search_next(found)`: the next statement of the connection's search; NULL after the last one. `found` is the
    /// result of the statement before.
    Next = ai_search_next, or_null |v, _interrupt| Jobs::global().next_of_search(v.text(0))
}
command! {
    /// `ai_search_end()`: ends the connection's search after an error. NULL.
    End = ai_search_end, or_null |_v, _interrupt| {
        Jobs::global().end_search();
        Ok(None)
    }
}
command! {
    /// `ml_vector_search_status()`: how the connection's last search came to its rows, as a JSON object: `path` (`index` or
    /// `table`), `reason`, `rounds`, `lists`, `candidates`, `changed`. NULL before the first search.
    Status = ml_vector_search_status, or_null |_v, _interrupt| Ok(Jobs::global().search_status())
}
command! {
    /// `ai_vector_candidates(table_name, column_name, query, k [, options])`: the arguments for `mysql_ml.vector_candidates`, which
    /// the connection may then call once, as a JSON object.
    Candidates = ai_vector_candidates, |v, interrupt| {
        Jobs::global().candidates_of(v.required(0)?, v.required(1)?, v.required(3)?, v.text(4), interrupt)
    }
}
command! {
    /// `ai_vector_candidate_keys(table_name, column_name, options, found)`: the keys in an answer of
    /// `mysql_ml.vector_candidates`: a JSON array of objects with the key's columns.
    CandidateKeys = ai_vector_candidate_keys, |v, interrupt| {
        Jobs::global().keys_of_candidates(v.required(0)?, v.required(1)?, v.text(2), v.required(3)?, interrupt)
    }
}
