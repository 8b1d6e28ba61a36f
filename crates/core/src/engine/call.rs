//! One call of a model and its input.

use std::sync::Arc;
use std::time::Duration;

use mysql_ml_base::error::Result;

use super::meter::Meter;
use super::store::ResolvedModel;
use crate::catalog::model::Model;
use crate::catalog::settings::Settings;
use crate::providers::image::Image;

/// One call: the model and its secret, the settings in force, and the meter that counts it.
#[derive(Clone)]
pub struct Call {
    /// The model and its secret.
    pub resolved: Arc<ResolvedModel>,
    /// The settings in force when the call began.
    pub settings: Arc<Settings>,
    /// Counts the model's calls.
    pub(super) meter: Arc<Meter>,
}

impl Call {
    /// The model.
    pub fn model(&self) -> &Model {
        &self.resolved.model
    }

    /// Time limit of the call, all tries together.
    pub fn time(&self) -> Duration {
        self.model().options.timeout_ms.map_or(self.settings.timeout, Duration::from_millis)
    }

    /// The most retries of a failed request.
    pub fn max_retries(&self) -> u64 {
        self.model().options.max_retries.unwrap_or(self.settings.max_retries)
    }

    /// Counts an error, and returns the result.
    pub(super) fn counted<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.meter.failed(error);
        }
        result
    }
}

/// An input to embed.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// A text.
    Text(&'a str),
    /// An image.
    Image(&'a Image),
}
