//! The retry policy after one try of a request, for single calls and the pipeline.

use std::time::Duration;

use secrecy::SecretString;

use mysql_ml_base::error::{Error, Kind};

use super::call::Call;
use super::rate_limit::{Outcome, Permit};
use crate::http::{Answer, Failure};

/// How a try ended.
pub(super) enum Tried {
    Answered(Answer, Duration),
    /// The failure, and the key that was sent.
    Failed(Failure, Option<SecretString>),
    /// The key read again is the one that the provider rejected.
    SameKey,
    /// Nothing was sent: the key or the URL could not be determined.
    Unsent(Error),
}

/// A key that the provider rejected, and its refusal.
pub(super) struct Rejected {
    pub key: SecretString,
    pub failure: Failure,
}

/// A settled failure; rate limiter and meter have counted it.
pub(super) enum Unanswered {
    /// Try once more with a key read again: it may have been rotated, or the token revoked.
    WithNewKey(Rejected),
    /// The try failed; the caller decides on another one.
    Failed(Failure),
    /// Another try cannot help.
    Useless(Error),
}

/// Settles a failure. `tries`: number of earlier tries. `again`: whether the request was sent before. `rejected`: the
/// key rejected earlier, if any.
pub(super) fn settle(
    failure: Failure,
    key: Option<SecretString>,
    permit: Permit,
    call: &Call,
    (tries, again): (u32, bool),
    rejected: Option<&Rejected>,
) -> Unanswered {
    if failure.is_unsent() {
        call.meter.not_sent(again);
    }
    permit.finish(&Outcome::of_failure(&failure));
    match (failure.kind(), key) {
        (Kind::Provider(401), Some(key)) if rejected.is_none() => Unanswered::WithNewKey(Rejected { key, failure }),
        (Kind::Provider(401 | 403), None) if call.model().auth_type.is_none() => {
            Unanswered::Useless(without_secret(failure.into_error(tries + 1)))
        }
        _ => Unanswered::Failed(failure),
    }
}

/// Settles a try that sent nothing, and returns its error.
pub(super) fn settle_unsent(error: Error, permit: Permit, call: &Call, again: bool) -> Error {
    call.meter.not_sent(again);
    permit.finish(&Outcome::NotSent);
    error
}

/// Settles a try whose key the provider rejected before.
pub(super) fn settle_same_key(permit: Permit, call: &Call, rejected: Option<Rejected>) -> Error {
    call.meter.not_sent(true);
    permit.finish(&Outcome::NotSent);
    rejected.map_or_else(|| Error::internal("no key was rejected"), |r| r.failure.into_error(1))
}

/// The failure inside an answer that could not be read because of `error`.
pub(super) fn failure_in(answer: &Answer, error: &Error) -> Option<Failure> {
    matches!(error.kind(), Kind::Response).then(|| answer.dressed())?
}

/// Adds a hint to 401/403 when the model is registered without a secret.
fn without_secret(error: Error) -> Error {
    Error::new(error.kind(), format!("{}; the model is registered without a secret", error.message()))
}
