//! The local backend of a build without the feature `local`: every call is an error.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::{CancelToken, Interrupt};
use mysql_ml_base::memory::Held;
use mysql_ml_base::role::Role;

use super::{By, Embed, Generate, Predict, Rerank};
use crate::catalog::local_place::Place;
use crate::catalog::model::Model;
use crate::chunk::{Chunk, Rule};
use crate::engine::call::{Call, Input};
use crate::engine::requester::Requester;
use crate::providers::chat::Question;
use crate::providers::local::no_local_models;
use crate::providers::rerank::{Ranking, Scored};

/// The empty backend.
#[derive(Default)]
pub(in crate::engine) struct Local;

impl Local {
    /// Empty: no model has files.
    pub fn stamp(&self, _model: &Model) -> String {
        String::new()
    }

    /// Refuses.
    pub fn embed_batch(
        &self,
        _call: &Call,
        _texts: Vec<Arc<str>>,
        _role: Role,
        _cancel: &CancelToken,
        _done: impl FnOnce(Vec<Result<Vec<f32>>>) + Send + 'static,
        _interrupt: &dyn Interrupt,
    ) -> Result<()> {
        Err(no_local_models())
    }

    /// Refuses.
    pub fn load(&self, _call: &Call, _place: &Place, _interrupt: &dyn Interrupt) -> Result<String> {
        Err(no_local_models())
    }

    /// Refuses.
    pub fn count_tokens(&self, _call: &Call, _text: &str, _interrupt: &dyn Interrupt) -> Result<usize> {
        Err(no_local_models())
    }

    /// Refuses.
    pub fn chunk(
        &self,
        _call: &Call,
        _text: &str,
        _rule: impl FnOnce(Option<usize>) -> Result<Rule> + Send + 'static,
        _largest: usize,
        _interrupt: &dyn Interrupt,
    ) -> Result<Held<Vec<Chunk>>> {
        Err(no_local_models())
    }

    /// Refuses.
    pub fn unload(&self, _model: &Model, _interrupt: &dyn Interrupt) -> Result<bool> {
        Err(no_local_models())
    }

    /// Refuses.
    pub fn fetch(&self, _: &Call, _: Place, _: &Requester, _: &dyn Interrupt) -> Result<String> {
        Err(no_local_models())
    }

    /// No-op.
    pub fn sweep(&self) {}

    /// JSON null.
    pub fn status(&self) -> Value {
        Value::Null
    }
}

impl Embed for Local {
    fn embed(
        &self,
        _call: &Call,
        _input: Input<'_>,
        _role: Role,
        _limit: Option<Instant>,
        _interrupt: &dyn Interrupt,
    ) -> Result<Vec<u8>> {
        Err(no_local_models())
    }
}

impl Predict for Local {
    fn predict(&self, _call: &Call, _body: &str, _interrupt: &dyn Interrupt) -> Result<Held<String>> {
        Err(no_local_models())
    }
}

impl Generate for Local {
    fn generate(
        &self,
        _call: &Call,
        _question: &Question,
        _limit: Option<Instant>,
        _interrupt: &dyn Interrupt,
    ) -> Result<(Held<String>, By)> {
        Err(no_local_models())
    }
}

impl Rerank for &Local {
    fn rerank(&self, _call: &Call, _ranking: &Ranking<'_>, _interrupt: &dyn Interrupt) -> Result<Vec<Scored>> {
        Err(no_local_models())
    }
}
