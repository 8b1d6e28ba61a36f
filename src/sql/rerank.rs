//! `ai_rerank(model_id, query, documents [, top_n])`.

use surface::{functions, Function};

use super::ai::detail;
use super::model_call::LastCall;
use super::named::{bind, Bound};
use crate::jobs::engine;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{BytesFunction, SqlFunction};
use crate::mysql::sql::refuse_inside_user_functions;
use crate::mysql::statement::{check_result, push_warning, ProcessState, StatementInterrupt};
use mysql_ml_base::error::{cut, Error, Result};
use mysql_ml_base::memory::{Held, Reservation};
use mysql_ml_core::ai::Answer;
use mysql_ml_core::catalog::options::OnError;
use mysql_ml_core::engine::Asked;

/// The documents of a JSON array as a JSON array of objects with `index` (from 1), `score` and `document`, best first.
/// A NULL model is that of the setting `default_reranker`. NULL for a NULL query or documents, without a call; a NULL
/// `top_n` is all.
pub struct Rerank {
    bound: Bound,
    last: LastCall<Done>,
}

/// The statement's last call and its result.
struct Done {
    model_id: Option<String>,
    query: String,
    documents: String,
    top_n: Option<usize>,
    result: Option<Held<Answer>>,
    _share: Reservation,
}

impl SqlFunction for Rerank {
    const FUNCTION: &'static Function = functions::ai_rerank;
    const IN_PASSES: bool = false;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, Self::FUNCTION)?;
        setup.returns_text(0x3fff_ffff)?;
        Ok(Rerank { bound, last: LastCall::default() })
    }
}

impl BytesFunction for Rerank {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        let model_id = self.bound.text(args, 0)?;
        let query = self.bound.text(args, 1)?;
        let documents = self.bound.text(args, 2)?;
        let top_n = self.bound.text(args, 3)?.map(read_top_n).transpose()?;
        let (Some(query), Some(documents)) = (query, documents) else { return Ok(None) };
        refuse_inside_user_functions()?;
        let same = |done: &Done| {
            done.model_id.as_deref() == model_id
                && done.query == query
                && done.top_n == top_n
                && done.documents == documents
        };
        let done = self.last.or_call(Self::FUNCTION, same, || {
            let _state = ProcessState::set(c"waiting for a model: ai_rerank");
            let share = Reservation::take(query.len().saturating_add(documents.len()), "the documents")?;
            let asked = engine().rerank(model_id, query, documents, top_n, &StatementInterrupt::current())?;
            let detailed = |document: &str, error: Option<&Error>| {
                let answer = detail(document, error);
                Some(Held::new(answer, Reservation::default()))
            };
            let result = match asked {
                Asked::Answered(answer, OnError::Detail) => match &*answer {
                    Answer::Json(document) => detailed(document, None),
                    _ => Some(answer),
                },
                Asked::Answered(answer, _) => Some(answer),
                Asked::Noted => None,
                Asked::Failed(error, OnError::Detail) => detailed("null", Some(&error)),
                Asked::Failed(error, _) => {
                    push_warning(Self::FUNCTION.name, &error);
                    None
                }
            };
            Ok(Done {
                model_id: model_id.map(str::to_owned),
                query: query.to_owned(),
                documents: documents.to_owned(),
                top_n,
                result,
                _share: share,
            })
        })?;
        match done.result.as_deref() {
            None => Ok(None),
            Some(Answer::Json(text)) => {
                check_result(text.len())?;
                Ok(Some(text.as_bytes()))
            }
            Some(_) => Err(Error::internal("a ranking that is no JSON")),
        }
    }
}

pub(super) fn read_top_n(text: &str) -> Result<usize> {
    let number = text.trim().parse::<i128>().ok().filter(|n| *n >= 1);
    number.map(|n| usize::try_from(n).unwrap_or(usize::MAX)).ok_or_else(|| {
        Error::invalid(format!("top_n is '{}'; give a whole number of at least 1, or NULL for all", cut(text, 60)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_n_is_a_whole_number() {
        assert_eq!(read_top_n(" 3 ").unwrap(), 3);
        assert_eq!(read_top_n("99999999999999999999").unwrap(), usize::MAX);
        for bad in ["0", "-1", "1.5", "x", ""] {
            assert!(read_top_n(bad).unwrap_err().message().contains("at least 1"), "{bad}");
        }
    }
}
