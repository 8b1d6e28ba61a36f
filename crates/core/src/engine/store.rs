//! The registry as the engine sees it: SQL in the server, a map in tests.

use std::path::PathBuf;
use std::sync::Arc;

use crate::catalog::function_name::FunctionName;
use crate::catalog::model::Model;
use crate::catalog::secret::Secret;
use crate::catalog::settings::Settings;
use crate::http::leaked_key;
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

/// A stored routine of the schema `mysql` on which a caller needs EXECUTE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Routine {
    /// Its name.
    pub name: &'static str,
    /// Number of its parameters.
    pub parameters: usize,
    /// Whether it is called with CALL.
    pub procedure: bool,
}

impl Routine {
    /// `ml_embedding(model_id, content)`.
    pub const EMBEDDING: Routine = Routine { name: "ml_embedding", parameters: 2, procedure: false };
    /// `ml_query_embedding(model_id, content)`.
    pub const QUERY_EMBEDDING: Routine = Routine { name: "ml_query_embedding", parameters: 2, procedure: false };
    /// `ml_embedding_batch(model_id, contents)`.
    pub const EMBEDDING_BATCH: Routine = Routine { name: "ml_embedding_batch", parameters: 2, procedure: false };
    /// `ml_embed_table(model_id, table, content_column, embedding_column, options)`.
    pub const EMBED_TABLE: Routine = Routine { name: "ml_embed_table", parameters: 5, procedure: true };
    /// `ml_predict_row(model_id, request_body)`.
    pub const PREDICT_ROW: Routine = Routine { name: "ml_predict_row", parameters: 2, procedure: false };
    /// `ml_image_embedding(model_id, image, mime_type)`.
    pub const IMAGE_EMBEDDING: Routine = Routine { name: "ml_image_embedding", parameters: 3, procedure: false };
    /// `ml_generate(model_id, prompt, options)`.
    pub const GENERATE: Routine = Routine { name: "ml_generate", parameters: 3, procedure: false };
    /// `ml_load_model(model_id)`.
    pub const LOAD_MODEL: Routine = Routine { name: "ml_load_model", parameters: 1, procedure: true };
    /// `ml_unload_model(model_id)`.
    pub const UNLOAD_MODEL: Routine = Routine { name: "ml_unload_model", parameters: 1, procedure: true };
    /// `ml_fetch_model(model_id)`.
    pub const FETCH_MODEL: Routine = Routine { name: "ml_fetch_model", parameters: 1, procedure: true };
    /// `ml_validate_model(model_id)`.
    pub const VALIDATE_MODEL: Routine = Routine { name: "ml_validate_model", parameters: 1, procedure: false };
}

/// A model and its secret.
#[derive(Debug, Clone)]
pub struct ResolvedModel {
    /// The model.
    pub model: Model,
    /// The secret that `auth_id` names.
    pub secret: Option<Secret>,
}

/// The registry, read with the rights of the current user.
pub trait Store: Send + Sync {
    /// The current user of the calling thread.
    fn caller(&self) -> Result<Account>;

    /// The server's own error if the caller may not execute the routine.
    fn check(&self, _routine: Routine, _interrupt: &dyn Interrupt) -> Result<()> {
        Ok(())
    }

    /// Reads a model; an error that names it if it does not exist.
    fn load(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<ResolvedModel>;

    /// Reads the settings.
    fn settings(&self, interrupt: &dyn Interrupt) -> Result<Settings>;

    /// Writes a line to the log of the process.
    fn log(&self, _warning: bool, _text: &str) {}

    /// The server's data directory.
    fn data_directory(&self, _interrupt: &dyn Interrupt) -> Result<PathBuf> {
        Err(Error::new(Kind::Unsupported, "there is no data directory"))
    }

    /// Calls header and input functions as the model's definer: `(headers, body)`, each JSON text or NULL.
    fn call_input_functions(
        &self,
        model: &Arc<ResolvedModel>,
        header: Option<&FunctionName>,
        input: Option<&FunctionName>,
        argument: &str,
        interrupt: &dyn Interrupt,
    ) -> Result<(Option<String>, Option<String>)>;

    /// Calls the output function as the model's definer: the vector's bytes or NULL.
    fn call_output_function(
        &self,
        model: &Arc<ResolvedModel>,
        output: &FunctionName,
        response: &str,
        interrupt: &dyn Interrupt,
    ) -> Result<Option<Vec<u8>>>;
}

/// An error for a model that is not registered.
pub fn no_such_model(model_id: &str) -> Error {
    Error::new(
        Kind::NotFound,
        format!(
            "model '{}' is not registered; register it with CALL mysql.ml_create_model_registration(...)",
            leaked_key::shown(model_id, 120)
        ),
    )
}
