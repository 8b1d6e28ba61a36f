//! Backends: endpoints, local models, and the hash of provider `dummy`, behind one trait for each capability.

pub(super) mod by_llm;
pub(super) mod dummy;
#[cfg(feature = "local")]
pub(super) mod local;
#[cfg(not(feature = "local"))]
#[path = "no_local.rs"]
pub(super) mod local;
pub(super) mod remote;

use std::time::Instant;

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Held;
use mysql_ml_base::role::Role;
use mysql_ml_base::vector;

use super::call::{Call, Input};
use crate::catalog::model::Model;
use crate::providers::chat::Question;
use crate::providers::rerank::{Ranking, Scored};

/// The capability to embed.
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

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The call's model.
    Model,
    /// Another model in its place. The caches do not keep such an answer as the model's.
    StandIn,
}

/// The capability to generate text.
pub(super) trait Generate {
    /// The text of the answer to a question, as the model wrote it, and who answered. `limit`: latest deadline; set when this call has
    /// already waited for another session's request.
    fn generate(
        &self,
        call: &Call,
        question: &Question,
        limit: Option<Instant>,
        interrupt: &dyn Interrupt,
    ) -> Result<(Held<String>, By)>;
}

/// The capability to answer a JSON document of the model's own form.
pub(super) trait Predict {
    /// The answer to `body`, a JSON document, as the model gave it.
    fn predict(&self, call: &Call, body: &str, interrupt: &dyn Interrupt) -> Result<Held<String>>;
}

/// The capability to rank documents for a query.
pub(super) trait Rerank {
    /// Scores of at least the wanted number of documents, each once, in any order.
    fn rerank(&self, call: &Call, ranking: &Ranking<'_>, interrupt: &dyn Interrupt) -> Result<Vec<Scored>>;
}

/// The bytes of a vector, scaled to length 1 if the model's option `normalize` is true. Errors for vectors that MySQL
/// cannot store or compare.
pub(super) fn encoded(model: &Model, mut vector: Vec<f32>) -> Result<Vec<u8>> {
    if model.options.normalize == Some(true) {
        vector::normalize(&mut vector);
    }
    vector::to_bytes(&vector)
}

/// An error for a zero vector: it has no direction and is equally near to all texts.
pub(super) fn must_not_be_zero(vector: &[f32]) -> Result<()> {
    if !vector.is_empty() && vector.iter().all(|x| *x == 0.0) {
        return Err(Error::response(
            "the endpoint answered with a vector of zeros, which is no embedding; check the model and its server",
        ));
    }
    Ok(())
}

/// An error if the vector's width differs from the model's option.
pub(super) fn check_width(bytes: &[u8], wanted: Option<u64>) -> Result<()> {
    match wanted {
        Some(wanted) if bytes.len() as u64 != wanted * 4 => Err(Error::response(format!(
            "the model answered with {} dimensions, but the model's option dimensions is {wanted}; correct one of them",
            bytes.len() / 4
        ))),
        _ => Ok(()),
    }
}

/// Adds a hint to the refusal of an empty text.
pub(super) fn of_text(error: Error, text: &str) -> Error {
    match error.kind() {
        Kind::Provider(400 | 422) if text.trim().is_empty() => Error::new(
            error.kind(),
            format!("{}; the text is empty: leave such rows out, or give NULL with NULLIF(text, '')", error.message()),
        ),
        _ => error,
    }
}
