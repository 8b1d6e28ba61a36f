//! Provider `dummy`: a hash of the text, without a model.

use std::time::Instant;

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Held;
use mysql_ml_base::role::Role;

use super::{encoded, Embed, Predict};
use crate::engine::call::{Call, Input};
use crate::providers::dummy;
use crate::providers::usage::Usage;

/// Computes at once, on the statement's thread.
pub(in crate::engine) struct Dummy;

impl Embed for Dummy {
    fn embed(
        &self,
        call: &Call,
        input: Input<'_>,
        _role: Role,
        _limit: Option<Instant>,
        _interrupt: &dyn Interrupt,
    ) -> Result<Vec<u8>> {
        let Input::Text(text) = input else { return Err(Error::invalid("provider dummy embeds no images")) };
        let width = call.model().options.dimensions.and_then(|n| usize::try_from(n).ok());
        let bytes = encoded(call.model(), dummy::embed(text, width.unwrap_or(dummy::DEFAULT_DIMENSIONS))?)?;
        call.meter.used(1, Usage::default());
        Ok(bytes)
    }
}

impl Predict for Dummy {
    fn predict(&self, _call: &Call, _body: &str, _interrupt: &dyn Interrupt) -> Result<Held<String>> {
        Err(Error::invalid("provider dummy only embeds text; call ml_embedding"))
    }
}
