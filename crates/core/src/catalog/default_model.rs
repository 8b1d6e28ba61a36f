//! The models that settings name for calls without one.

use super::settings::Settings;
use mysql_ml_base::error::{Error, Result};

/// A setting that names a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultModel {
    /// `default_llm`.
    Llm,
    /// `default_embedding_model`.
    Embedding,
    /// `default_reranker`.
    Reranker,
}

impl DefaultModel {
    /// The model's id; an error if the setting names none.
    pub fn id(self, settings: &Settings) -> Result<&str> {
        let (name, id) = match self {
            DefaultModel::Llm => ("default_llm", &settings.default_llm),
            DefaultModel::Embedding => ("default_embedding_model", &settings.default_embedding_model),
            DefaultModel::Reranker => ("default_reranker", &settings.default_reranker),
        };
        if id.is_empty() {
            return Err(Error::invalid(format!(
                "model_id is NULL and no default is set; give a model, or CALL mysql.ml_set_setting('{name}', 'MODEL_ID')"
            )));
        }
        Ok(id)
    }
}
