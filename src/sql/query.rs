//! `ai_query(statement, options)` and `ai_query_end()`, of which `ai.query` consists.

use surface::functions;

use super::command::command;
use crate::jobs::engine;
use crate::jobs::query::{collect, read_options, release};
use crate::mysql::statement::push_warning_of;
use mysql_ml_core::catalog::options::parse_object;

command! {
    /// `ai_query(statement [, options])`: asks together what the functions of a SELECT would ask row by row, and keeps the
    /// answers for the connection until `ai_query_end()`. Returns the statement, to be run. Options: `concurrency`,
    /// `max_error_ratio`.
    Query = ai_query, |values, interrupt| {
        let statement = values.required(0)?;
        engine().may_call(functions::ai_query, interrupt)?;
        let options = read_options(values.text(1).map(parse_object).transpose()?.unwrap_or_default())?;
        collect(statement, options, interrupt)
    }
}

command! {
    /// `ai_query_end([warnings, code, text])`: releases the answers that `ai_query` keeps for the connection. Repeats the
    /// number of the statement's warnings and the first one as a warning. NULL.
    QueryEnd = ai_query_end, or_null |values, _interrupt| {
        release();
        let number = |p| values.text(p).and_then(|n| n.parse::<u32>().ok()).unwrap_or_default();
        if number(0) > 0 {
            let first = values.text(2).unwrap_or_default();
            let text = format!("warnings of the statement: {}; the first: {first}", number(0));
            push_warning_of(number(1), &text);
        }
        Ok(None)
    }
}
