//! `ai_embedding(model_id, content)`: AlloyDB's name for `ml_embedding`. `ai_similarity(a, b [, model_id])`.

use std::ffi::CStr;
use std::sync::Arc;

use surface::{functions, Function};

use super::embedding::Embedding;
use super::model_call::{LastCall, ModelCall};
use super::named::{bind, Bound};
use crate::jobs::engine;
use crate::jobs::query::answers_of_connection;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{RealFunction, SqlFunction};
use crate::mysql::sql::refuse_inside_user_functions;
use crate::mysql::statement::{ProcessState, StatementInterrupt};
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::role::Role;
use mysql_ml_base::vector::Measure;
use mysql_ml_core::catalog::default_model::DefaultModel;
use mysql_ml_core::engine::Engine;

/// `ai_embedding(model_id, content)`: as `ml_embedding`; a NULL model is that of the setting `default_embedding_model`.
pub struct AiEmbedding;

impl ModelCall for AiEmbedding {
    const FUNCTION: &'static Function = functions::ai_embedding;
    const STATE: &'static CStr = c"waiting for a model: ai_embedding";
    const REPEATABLE: bool = true;
    const DEFAULT: Option<DefaultModel> = Some(DefaultModel::Embedding);
    type Output = Arc<[u8]>;

    fn declare(setup: &Setup<'_>) -> Result<()> {
        Embedding::declare(setup)
    }

    fn call(engine: &Engine, model_id: &str, input: &str, interrupt: &dyn Interrupt) -> Result<Option<Arc<[u8]>>> {
        engine.embedding(Self::FUNCTION, model_id, input, Role::Document, interrupt)
    }
}

/// `ai_similarity(a, b [, model_id])`: the cosine similarity of the embeddings of two texts, from -1 to 1; 0 if a vector
/// is all zero. A NULL model is that of the setting `default_embedding_model`. NULL for a NULL text, without a call.
pub struct Similarity {
    bound: Bound,
    /// The last embedding of each argument: one of them is often constant.
    last: [LastCall<Embedded>; 2],
}

struct Embedded {
    model_id: String,
    text: String,
    /// `None` while the texts of a statement are collected.
    vector: Option<Arc<[u8]>>,
    _share: Reservation,
}

impl SqlFunction for Similarity {
    const FUNCTION: &'static Function = functions::ai_similarity;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, Self::FUNCTION)?;
        setup.returns_real();
        Ok(Similarity { bound, last: Default::default() })
    }
}

impl RealFunction for Similarity {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<f64>> {
        let (a, b) = (self.bound.text(args, 0)?, self.bound.text(args, 1)?);
        let model_id = self.bound.text(args, 2)?;
        let (Some(a), Some(b)) = (a, b) else { return Ok(None) };
        refuse_inside_user_functions()?;
        let interrupt = StatementInterrupt::current();
        let model_id = engine().model_or_default(model_id, DefaultModel::Embedding, &interrupt)?;
        let _state = ProcessState::set(c"waiting for a model: ai_similarity");
        let [last_a, last_b] = &mut self.last;
        let a = embedded(last_a, &model_id, a, &interrupt)?;
        let b = embedded(last_b, &model_id, b, &interrupt)?;
        let (Some(a), Some(b)) = (a, b) else { return Ok(None) };
        Ok(Some(1.0 - Measure::Cosine.compare(a, b)?))
    }
}

fn embedded<'l>(
    last: &'l mut LastCall<Embedded>,
    model_id: &str,
    text: &str,
    interrupt: &dyn Interrupt,
) -> Result<Option<&'l [u8]>> {
    let same = |last: &Embedded| last.model_id == model_id && last.text == text;
    let done = last.or_call(Similarity::FUNCTION, same, || {
        let share = Reservation::take(text.len(), "the input")?;
        let _answers = answers_of_connection();
        let vector = engine().embedding(Similarity::FUNCTION, model_id, text, Role::Document, interrupt)?;
        Ok(Embedded { model_id: model_id.to_owned(), text: text.to_owned(), vector, _share: share })
    })?;
    Ok(done.vector.as_deref())
}
