//! Loadable functions behind `ai.search`, `ai.answer` and `ai.vector_candidates`.

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
        let required = |p: usize| required(&self.0, args, Self::FUNCTION, p);
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

/// `ai_answer_begin(question, table_name [, options])`: begins the connection's search for the sources of an answer. Returns 1
/// if the search needs a transaction; 0 inside of one.
pub struct AnswerBegin(Bound);

impl SqlFunction for AnswerBegin {
    const FUNCTION: &'static Function = functions::ai_answer_begin;
    const IN_PASSES: bool = false;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, Self::FUNCTION)?;
        setup.returns_integer(1);
        Ok(AnswerBegin(bound))
    }
}

impl IntegerFunction for AnswerBegin {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<i64>> {
        let required = |p: usize| required(&self.0, args, Self::FUNCTION, p);
        let interrupt = StatementInterrupt::current();
        let begun = Jobs::global().begin_answer(required(0)?, required(1)?, self.0.text(args, 2)?, &interrupt)?;
        Ok(Some(begun.into()))
    }
}

fn required<'a>(bound: &'a Bound, args: &'a Args<'_>, function: &Function, p: usize) -> Result<&'a str> {
    let name = function.parameter(p);
    bound.text(args, p)?.ok_or_else(|| Error::invalid(format!("argument {name} is NULL; give a value")))
}

command! {
    /// `ai_answer(question, sources [, options])`: the answer to a question from a JSON array of sources, as a JSON object:
    /// `answered` (1 or 0), `answer`, `citations`, `sources`, `reason`, `model`. NULL for a NULL question or NULL sources.
    Answer = ai_answer, or_null |v, interrupt| match (v.text(0), v.text(1)) {
        (Some(question), Some(sources)) => Jobs::global().answer(question, sources, v.text(2), interrupt).map(Some),
        _ => Ok(None),
    }
}
command! {
    /// `ai_search_next(found)`: the next statement of the connection's search; NULL after the last one. `found` is the
    /// result of the statement before.
    Next = ai_search_next, or_null |v, interrupt| Jobs::global().next_of_search(v.text(0), interrupt)
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
    /// `table`), `reason`, `rounds`, `lists`, `candidates`, `changed`; with words or a reranker also `vector_rows`, `text_rows`,
    /// `text_note`, `reranked`. NULL before the first search.
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
