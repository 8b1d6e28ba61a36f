//! The retry policy after one try of a request, for single calls and the pipeline.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use mysql_ml_base::error::{Error, Kind};

use super::call::Call;
use super::health::{Blame, Health};
use super::rate_limit::Outcome;
use super::route::{blame, Entered};
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

/// A settled failure; rate limiter, breaker and meter have counted it.
pub(super) enum Unanswered {
    /// Try once more with a key read again: it may have been rotated, or the token revoked.
    WithNewKey(Rejected),
    /// The try failed; the caller decides on another one. With it, whether an answer of another endpoint shows that it was
    /// this one's fault.
    Failed(Failure, Option<Arc<Health>>),
}

/// Settles a failure. `again`: whether the request was sent before. `rejected`: the key rejected earlier, if any.
pub(super) fn settle(
    failure: Failure,
    key: Option<SecretString>,
    entered: Entered,
    call: &Call,
    again: bool,
    rejected: Option<&Rejected>,
) -> Unanswered {
    if failure.is_unsent() {
        call.meter.not_sent(again);
    }
    let outcome = Outcome::of_failure(&failure);
    let status = failure.kind();
    if let (Kind::Provider(401), Some(key), None) = (status, &key, rejected) {
        entered.failed(&failure, &outcome, Blame::None);
        return Unanswered::WithNewKey(Rejected { key: key.clone(), failure });
    }
    let blame = blame(&failure, call.model().header_fn.is_none());
    let doubted = (blame == Blame::Doubtful).then(|| entered.health());
    entered.failed(&failure, &outcome, blame);
    let without_secret =
        matches!(status, Kind::Provider(401 | 403)) && key.is_none() && call.model().auth_type.is_none();
    let failure = if without_secret { failure.hinted("the model is registered without a secret") } else { failure };
    Unanswered::Failed(failure, doubted)
}

/// Settles a try that sent nothing, and returns its failure.
pub(super) fn settle_unsent(error: Error, entered: Entered, call: &Call, again: bool) -> Failure {
    call.meter.not_sent(again);
    let failure = Failure::from(error);
    let blame = blame(&failure, true);
    entered.failed(&failure, &Outcome::NotSent, blame);
    failure
}

/// Settles a try whose key the provider rejected before, and returns that failure.
pub(super) fn settle_same_key(entered: Entered, call: &Call, rejected: Option<Rejected>) -> Failure {
    call.meter.not_sent(true);
    let failure = rejected.map_or_else(|| Error::internal("no key was rejected").into(), |r| r.failure);
    let blame = blame(&failure, call.model().header_fn.is_none());
    entered.failed(&failure, &Outcome::NotSent, blame);
    failure
}

/// The failure inside an answer that could not be read because of `error`.
pub(super) fn failure_in(answer: &Answer, error: &Error) -> Option<Failure> {
    matches!(error.kind(), Kind::Response).then(|| answer.dressed())?
}
