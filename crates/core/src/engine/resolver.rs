//! Resolves a call: the current settings, and the model with its secret.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::{Interrupt, POLL};

use super::call::{Call, Fallback};
use super::meter::counted_as;
use super::store::Routine;
use super::Engine;
use crate::catalog::default_model::DefaultModel;
use crate::catalog::model::check_id;
use crate::catalog::settings::Settings;
use crate::registration::endpoints::fallbacks;

/// Time limit for a change of the disk cache's size.
const SETTLE: Duration = Duration::from_secs(10);

impl Engine {
    /// A call of a registered model. An error if the caller may not execute `function`.
    pub fn call(&self, function: Routine, model_id: &str, interrupt: &dyn Interrupt) -> Result<Call> {
        check_id("model_id", model_id)?;
        let settings = self.settings(interrupt)?;
        let call = self.call_of(function, model_id, &settings, interrupt)?;
        if call.model().options.fallback.is_none() {
            return Ok(call);
        }
        // Each is called with the caller's rights, as if he named it. One that cannot be used matters when it is needed.
        let load = |id: &str| self.call_of(function, id, &settings, interrupt);
        let stopped = |error: &Error| matches!(error.kind(), Kind::Interrupted(_));
        let (calls, broken) = fallbacks(call.model(), load, Call::model, stopped)?;
        Ok(Call { fallback: Some(Arc::new(Fallback { calls, broken })), ..call })
    }

    fn call_of(
        &self,
        function: Routine,
        model_id: &str,
        settings: &Arc<Settings>,
        interrupt: &dyn Interrupt,
    ) -> Result<Call> {
        let resolved = self.registry.model(self.store.as_ref(), function, model_id, settings, interrupt)?;
        let meter = self.meters.of(counted_as(&resolved.model));
        Ok(Call { resolved, settings: Arc::clone(settings), meter, fallback: None, only: None })
    }

    /// The same. If the model does not exist but `other` names one, the error says that the arguments are swapped.
    pub(super) fn call_beside(
        &self,
        function: Routine,
        model_id: &str,
        other: &str,
        interrupt: &dyn Interrupt,
    ) -> Result<Call> {
        self.call(function, model_id, interrupt).map_err(|e| match e.kind() {
            Kind::NotFound | Kind::Invalid if self.call(function, other, interrupt).is_ok() => Error::invalid(format!(
                "the first argument is not a registered model, but the second one, '{}', is; give the model's id first",
                cut(other, 120)
            )),
            _ => e,
        })
    }

    /// The given model, else that of the setting. An error if there is neither.
    pub fn model_or_default<'m>(
        &self,
        model_id: Option<&'m str>,
        default: DefaultModel,
        interrupt: &dyn Interrupt,
    ) -> Result<Cow<'m, str>> {
        match model_id {
            Some(model_id) => Ok(model_id.into()),
            None => default.id(&*self.settings(interrupt)?).map(|id| id.to_owned().into()),
        }
    }

    /// The current settings.
    pub fn settings(&self, interrupt: &dyn Interrupt) -> Result<Arc<Settings>> {
        self.store.upkeep(interrupt);
        self.settings_in_force(interrupt).map(|(settings, _)| settings)
    }

    /// The settings, and whether the disk cache has applied their size.
    fn settings_in_force(&self, interrupt: &dyn Interrupt) -> Result<(Arc<Settings>, bool)> {
        let (settings, reading) = self.registry.settings(self.store.as_ref(), interrupt)?;
        mysql_ml_base::memory::set_limit(settings.call_memory);
        let disk = &self.embeddings.disk;
        let in_force = disk.follow(reading, settings.cache_disk, || self.store.data_directory(interrupt));
        if disk.has_notices() {
            for notice in disk.take_notices() {
                self.store.log(notice.warning, &notice.text);
            }
        }
        Ok((settings, in_force))
    }

    /// Applies the disk cache's size and waits until the file has it.
    pub fn settle_disk(&self, interrupt: &dyn Interrupt) -> Result<()> {
        let end = Instant::now() + SETTLE;
        loop {
            let (_, in_force) = self.settings_in_force(interrupt)?;
            if (in_force && self.embeddings.disk.settled()) || Instant::now() >= end {
                return Ok(());
            }
            interrupt.check()?;
            std::thread::sleep(POLL);
        }
    }
}
