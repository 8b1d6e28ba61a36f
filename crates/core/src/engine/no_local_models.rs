//! Functions of local models in a build without the feature `local`: each returns an error.

use surface::functions;

use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;

use super::store::Routine;
use super::Engine;
use crate::providers::local::no_local_models;

impl Engine {
    fn refuse(&self, routine: Routine, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
        self.call(routine, model_id, interrupt)?;
        Err(no_local_models())
    }

    /// Refuses.
    pub fn load_model(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
        self.refuse(functions::ml_load_model, model_id, interrupt)
    }

    /// Refuses.
    pub fn unload_model(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
        self.refuse(functions::ml_unload_model, model_id, interrupt)
    }

    /// Refuses.
    pub fn fetch_model(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
        self.refuse(functions::ml_fetch_model, model_id, interrupt)
    }
}
