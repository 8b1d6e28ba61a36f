//! One call of a model and its input.

use std::sync::Arc;
use std::time::Duration;

use mysql_ml_base::error::{Error, Result};

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
    /// The models that stand in if this one cannot answer.
    pub(super) fallback: Option<Arc<Fallback>>,
    /// The number of the one endpoint that it goes to; `None`: any.
    pub(super) only: Option<usize>,
}

/// The models that stand in for a call's model.
pub(super) struct Fallback {
    /// Their calls, in order.
    pub calls: Vec<Call>,
    /// Why there are no more, if one cannot be used.
    pub broken: Option<Error>,
}

impl Call {
    /// The model.
    pub fn model(&self) -> &Model {
        &self.resolved.model
    }

    /// The same call, for which no other model stands in.
    pub(super) fn alone(&self) -> Call {
        Call { fallback: None, ..self.clone() }
    }

    /// The same call at one endpoint.
    pub(super) fn at(&self, endpoint: usize) -> Call {
        Call { only: Some(endpoint), ..self.alone() }
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
