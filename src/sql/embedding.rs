//! `ml_embedding(model_id, content)` and `ml_query_embedding(model_id, content)`.

use std::ffi::CStr;
use std::sync::Arc;

use surface::{functions, Function};

use super::model_call::ModelCall;
use crate::mysql::ffi::args::Setup;
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::role::Role;
use mysql_ml_base::vector::MAX_DIMENSIONS;
use mysql_ml_core::engine::Engine;

/// `ml_embedding(model_id, content)`: the embedding of a text as VECTOR bytes (little-endian 32-bit floats), at
/// most 16383 dimensions. NULL for a NULL model or text, without a call. Follows Cloud SQL's `mysql.ml_embedding`.
pub struct Embedding;

impl ModelCall for Embedding {
    const FUNCTION: &'static Function = functions::ml_embedding;
    const STATE: &'static CStr = c"waiting for a model: ml_embedding";
    const REPEATABLE: bool = true;
    type Output = Arc<[u8]>;

    fn declare(setup: &Setup<'_>) -> Result<()> {
        setup.returns_binary((MAX_DIMENSIONS * 4) as u32);
        Ok(())
    }

    fn call(engine: &Engine, model_id: &str, input: &str, interrupt: &dyn Interrupt) -> Result<Option<Arc<[u8]>>> {
        engine.embedding(Self::FUNCTION, model_id, input, Role::Document, interrupt)
    }
}

/// `ml_query_embedding(model_id, content)`: as `ml_embedding`, for a search query. Some models embed queries
/// differently from documents: the request then carries the option `query_input_type`, or the provider's own field
/// for queries.
pub struct QueryEmbedding;

impl ModelCall for QueryEmbedding {
    const FUNCTION: &'static Function = functions::ml_query_embedding;
    const STATE: &'static CStr = c"waiting for a model: ml_query_embedding";
    const REPEATABLE: bool = true;
    type Output = Arc<[u8]>;

    fn declare(setup: &Setup<'_>) -> Result<()> {
        Embedding::declare(setup)
    }

    fn call(engine: &Engine, model_id: &str, input: &str, interrupt: &dyn Interrupt) -> Result<Option<Arc<[u8]>>> {
        engine.embedding(Self::FUNCTION, model_id, input, Role::Query, interrupt)
    }
}
