//! `ai_query(statement, options)` and `ai_query_end()`, of which `ai.query` consists.

use surface::functions;

use super::command::command;
use crate::jobs::engine;
use crate::jobs::query::{collect, read_options, release};
use mysql_ml_core::catalog::options::parse_object;

command! {
    /// `ai_query(statement [, options])`: asks together what the functions of a SELECT would ask row by row, and keeps the
    /// answers for the connection until `ai_query_end()`. Returns the statement, to be run. Options: `concurrency`,
    /// `max_error_ratio`.
    Query = ai_query, or_null |values, interrupt| {
        let Some(statement) = values.text(0) else { return Ok(None) };
        engine().may_call(functions::ai_query, interrupt)?;
        let options = read_options(values.text(1).map(parse_object).transpose()?.unwrap_or_default())?;
        collect(statement, options, interrupt).map(Some)
    }
}

command! {
    /// `ai_query_end()`: releases the answers that `ai_query` keeps for the connection. NULL.
    QueryEnd = ai_query_end, or_null |_values, _interrupt| {
        release();
        Ok(None)
    }
}
