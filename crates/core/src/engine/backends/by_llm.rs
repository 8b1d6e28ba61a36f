//! Rankings by a language model, which scores numbered documents.

use std::sync::Arc;
use std::time::Duration;

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;

use super::Rerank;
use crate::ai::{rerank, Answer};
use crate::engine::call::Call;
use crate::engine::pipeline::questions::{Asking, Questions};
use crate::engine::pipeline::Pipeline;
use crate::engine::Engine;
use crate::providers::rerank::{Ranking, Scored};

/// The most documents that a language model scores in one call.
const MAX_DOCUMENTS: usize = 1000;

/// A language model as a reranker. Its questions are those of a pipeline.
pub(in crate::engine) struct ByLlm<'e>(pub &'e Engine);

impl Rerank for ByLlm<'_> {
    fn rerank(&self, call: &Call, ranking: &Ranking<'_>, interrupt: &dyn Interrupt) -> Result<Vec<Scored>> {
        if ranking.documents.len() > MAX_DOCUMENTS {
            return Err(Error::new(
                Kind::TooLarge,
                format!(
                    "documents has {} texts; a language model scores at most {MAX_DOCUMENTS} in one call: rank fewer, or use a reranking model",
                    ranking.documents.len()
                ),
            ));
        }
        let parts = rerank::parts(ranking.documents);
        // Each part holds the query, too.
        let bytes = ranking.documents.iter().fold(0_usize, |sum, text| sum.saturating_add(text.len()));
        let bytes = bytes.saturating_add(ranking.query.len().saturating_mul(parts.len()));
        let _questions = Reservation::take(bytes.saturating_mul(3), "the questions")?;
        let first = Arc::new(rerank::task(parts.first().map_or(0, |part| part.len()))?);
        // Scores of two models cannot be compared.
        let call = if parts.len() > 1 { &call.alone() } else { call };
        let mut pipeline =
            Pipeline::new(self.0, call.clone(), Questions::new(first, None), None, None, Some(call.time()))?;
        let mut begins = Vec::with_capacity(parts.len());
        let mut begin = 0;
        for (number, part) in parts.into_iter().enumerate() {
            interrupt.check()?;
            let text = rerank::text(ranking.query, part)?;
            let asking = Asking::new(Arc::new(rerank::task(part.len())?), text.into());
            pipeline.push(number as u64, asking, interrupt)?;
            begins.push(begin);
            begin += part.len();
        }
        let mut scores = Vec::with_capacity(ranking.documents.len());
        while !pipeline.is_empty() {
            let Some(done) = pipeline.advance(Duration::from_secs(1), true, interrupt)? else { continue };
            let Answer::Json(answer) = done.result? else { return Err(Error::internal("scores of another kind")) };
            let begin = usize::try_from(done.id).ok().and_then(|number| begins.get(number)).copied();
            let begin = begin.ok_or_else(|| Error::internal("scores of an unknown question"))?;
            let read = rerank::scores(&answer)?.into_iter().enumerate();
            scores.extend(read.map(|(i, score)| Scored { index: begin + i, score }));
        }
        Ok(scores)
    }
}
