//! What one try of a request says about the next: the same for single calls and for the pipeline.

use std::time::Duration;

use secrecy::SecretString;

use mysql_ml_base::error::{Error, Kind};

use super::call::Call;
use super::rate_limit::{Outcome, Permit};
use crate::http::{Answer, Failure};

/// How a try ended.
pub(super) enum Tried {
    Answered(Answer, Duration),
    /// With the key that was sent.
    Failed(Failure, Option<SecretString>),
    /// The provider rejected the key before, and it is still the same.
    SameKey,
    /// Nothing was sent: the key or the URL could not be told.
    Unsent(Error),
}

/// A key that the provider did not accept, and what it said.
pub(super) struct Rejected {
    pub key: SecretString,
    pub failure: Failure,
}

/// A try that was not answered, settled: the rate limiter and the meter know of it.
pub(super) enum Unanswered {
    /// A key may have been rotated, or a token revoked, since it was read: try once more, with one read anew.
    WithNewKey(Rejected),
    /// It failed; whether another try helps depends on the call.
    Failed(Failure),
    /// No other try helps.
    Useless(Error),
}

/// Settles a failure. `tries`: those made before. `again`: whether the request was sent before. `rejected`: the key that
/// was not accepted before, if any.
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

/// Settles a try of which nothing was sent, and gives its error.
pub(super) fn settle_unsent(error: Error, permit: Permit, call: &Call, again: bool) -> Error {
    call.meter.not_sent(again);
    permit.finish(&Outcome::NotSent);
    error
}

/// Settles a try whose key is one that the provider rejected before.
pub(super) fn settle_same_key(permit: Permit, call: &Call, rejected: Option<Rejected>) -> Error {
    call.meter.not_sent(true);
    permit.finish(&Outcome::NotSent);
    rejected.map_or_else(|| Error::internal("no key was rejected"), |r| r.failure.into_error(1))
}

/// The failure that stands in an answer which could not be used for the reason of `error`.
pub(super) fn failure_in(answer: &Answer, error: &Error) -> Option<Failure> {
    matches!(error.kind(), Kind::Response).then(|| answer.dressed())?
}

/// Adds a hint to 401 and 403 of a model that is registered without a secret.
fn without_secret(error: Error) -> Error {
    Error::new(error.kind(), format!("{}; the model is registered without a secret", error.message()))
}
