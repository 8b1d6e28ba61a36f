//! The begin of each call: the settings in force, and the model with its secret.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::{Interrupt, POLL};

use super::call::Call;
use super::meter::counted_as;
use super::store::Routine;
use super::Engine;
use crate::catalog::model::check_id;
use crate::catalog::settings::Settings;

/// How long a change of the cache's size is waited for, until it has happened on disk.
const SETTLE: Duration = Duration::from_secs(10);

impl Engine {
    /// A call of a registered model by `function`, which the caller may execute.
    pub fn call(&self, function: Routine, model_id: &str, interrupt: &dyn Interrupt) -> Result<Call> {
        check_id("model_id", model_id)?;
        let settings = self.settings(interrupt)?;
        let resolved = self.registry.model(self.store.as_ref(), function, model_id, &settings, interrupt)?;
        let meter = self.meters.of(counted_as(&resolved.model));
        Ok(Call { resolved, settings, meter })
    }

    /// The same. Where there is no such model, the `other` argument is looked at: the two are easily given in each
    /// other's place.
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

    /// The settings in force.
    pub fn settings(&self, interrupt: &dyn Interrupt) -> Result<Arc<Settings>> {
        self.settings_in_force(interrupt).map(|(settings, _)| settings)
    }

    /// The settings, with whether they are in force also where it takes a while.
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

    /// Puts the size of the cache on disk in force now, and waits until it is.
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
