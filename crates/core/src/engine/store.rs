//! The registry as the engine sees it: SQL in the server, a map in tests.

use std::path::PathBuf;
use std::sync::Arc;

use crate::catalog::function_name::FunctionName;
use crate::catalog::model::Model;
use crate::catalog::secret::Secret;
use crate::catalog::settings::Settings;
use crate::http::leaked_key;
use crate::registration::endpoints::{models_at, place};
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

/// A SQL function, on whose stored routine a caller needs EXECUTE.
pub type Routine = &'static surface::Function;

/// A model and its secret.
#[derive(Debug, Clone)]
pub struct ResolvedModel {
    /// The model.
    pub model: Model,
    /// The secret that `auth_id` names.
    pub secret: Option<Secret>,
    /// The model at each of its endpoints; empty without the option `endpoints`.
    pub endpoints: Vec<Arc<ResolvedModel>>,
}

impl ResolvedModel {
    /// A model with its secrets, which `secrets` looks up by their ids.
    pub fn new(model: Model, mut secrets: impl FnMut(&str) -> Result<Secret>) -> Result<Self> {
        let mut endpoints = Vec::with_capacity(model.options.endpoints.len());
        let mut secret_of = |model: &Model| model.auth_id.as_deref().map(&mut secrets).transpose();
        for (name, at) in models_at(&model) {
            let secret = secret_of(&at).map_err(|e| e.context(&place(&name)))?;
            endpoints.push(Arc::new(ResolvedModel { model: at, secret, endpoints: Vec::new() }));
        }
        Ok(ResolvedModel { secret: secret_of(&model)?, model, endpoints })
    }
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

    /// Does periodic work of the host. Called whenever the settings are read for a call.
    fn upkeep(&self, _interrupt: &dyn Interrupt) {}

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
            leaked_key::display(model_id, 120)
        ),
    )
}
