//! Who computes a model's answers: an endpoint, a model in this process, or a hash of the text. Equals behind one trait a
//! capability.

pub(super) mod dummy;
#[cfg(feature = "local")]
pub(super) mod local;
#[cfg(not(feature = "local"))]
#[path = "no_local.rs"]
pub(super) mod local;
pub(super) mod remote;

use std::time::Instant;

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Held;
use mysql_ml_base::role::Role;
use mysql_ml_base::vector;

use super::call::{Call, Input};
use crate::catalog::model::Model;
use crate::providers::chat::GenerateOptions;

/// Embeds.
pub(super) trait Embed {
    /// The vector of one input, as the bytes of a VECTOR. `limit`: latest deadline; set when this call has already waited
    /// for another session's request.
    fn embed(
        &self,
        call: &Call,
        input: Input<'_>,
        role: Role,
        limit: Option<Instant>,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<u8>>;
}

/// Generates text.
pub(super) trait Generate {
    /// The answer to a prompt.
    fn generate(
        &self,
        call: &Call,
        prompt: &str,
        options: &GenerateOptions,
        interrupt: &dyn Interrupt,
    ) -> Result<Held<String>>;
}

/// The bytes of a vector, brought to length 1 where the model's option `normalize` says so. Refuses what MySQL could not
/// store or compare.
pub(super) fn encoded(model: &Model, mut vector: Vec<f32>) -> Result<Vec<u8>> {
    if model.options.normalize == Some(true) {
        vector::normalize(&mut vector);
    }
    vector::to_bytes(&vector)
}

/// An error for a vector that no model gives: it has no direction, and is as near to one text as to another.
pub(super) fn must_not_be_zero(vector: &[f32]) -> Result<()> {
    if !vector.is_empty() && vector.iter().all(|x| *x == 0.0) {
        return Err(Error::response(
            "the endpoint answered with a vector of zeros, which is no embedding; check the model and its server",
        ));
    }
    Ok(())
}
