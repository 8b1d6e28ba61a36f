//! `ml_load_model`, `ml_unload_model`, `ml_fetch_model`: models in this process.

use surface::functions;

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;

use super::call::Call;
use super::store::Routine;
use super::Engine;
use crate::catalog::local_place::Place;
use crate::catalog::model::Backend;

impl Engine {
    /// A call of a local model and the place of its files; an error for other models.
    fn local_call(&self, routine: Routine, model_id: &str, interrupt: &dyn Interrupt) -> Result<(Call, Place)> {
        let call = self.call(routine, model_id, interrupt)?;
        if call.model().backend() != Backend::Local {
            return Err(Error::invalid(format!(
                "model '{model_id}' is one of provider {} and does not run inside the server",
                call.model().provider.as_str()
            )));
        }
        let place = Place::of(call.model())?;
        Ok((call, place))
    }

    /// Loads a model; returns its description as a JSON object.
    pub fn load_model(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
        let (call, place) = self.local_call(functions::ml_load_model, model_id, interrupt)?;
        self.local.load(&call, &place, interrupt)
    }

    /// Unloads a model; returns 1 if it was in memory, else 0.
    pub fn unload_model(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
        let (call, _) = self.local_call(functions::ml_unload_model, model_id, interrupt)?;
        let was_there = self.local.unload(call.model(), interrupt)?;
        Ok(u8::from(was_there).to_string())
    }

    /// Fetches a model's files; returns a summary as a JSON object. A model in memory stays unchanged until it is
    /// unloaded.
    pub fn fetch_model(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
        let (call, place) = self.local_call(functions::ml_fetch_model, model_id, interrupt)?;
        self.local.fetch(&call, place, &self.remote.requester, interrupt)
    }
}
