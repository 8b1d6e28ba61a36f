//! The way of a call's requests: the endpoints of its model, then those of the models that stand in for it.
//!
//! An endpoint is chosen before its provider's code makes the request. Each has a breaker (`health.rs`) and a rate limiter.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{Interrupt, POLL};

use super::call::Call;
use super::health::{Blame, Group, Groups, Health, Visit};
use super::rate_limit::{Budget, Learnt, Outcome, Permit, RateLimiter, RateLimiters};
use super::store::ResolvedModel;
use crate::catalog::endpoints::HedgeAfter;
use crate::catalog::model::{Backend, Model};
use crate::http::{display_url, Failure};
use crate::registration::checked_url;

/// Where requests of a call may go. One target has one breaker and one rate limit.
pub(super) struct Target {
    /// The call, with the model as this endpoint serves it.
    pub call: Call,
    group: Arc<Group>,
    /// Its place in the group.
    place: usize,
    weight: u64,
    /// Targets of a higher tier are used if none of the lower ones can be.
    tier: usize,
    limiter: Arc<RateLimiter>,
    budget: Budget,
    /// The limiter of the whole registration, if it has several endpoints.
    whole: Option<(Arc<RateLimiter>, Budget)>,
}

/// The targets of a call.
pub(super) struct Route {
    targets: Vec<Target>,
    /// Why no further model stands in.
    broken: Option<Error>,
    hedge: Option<HedgeAfter>,
    try_time: Option<Duration>,
    /// The target whose answer or error a call ended with.
    last: Cell<usize>,
}

/// The permits of one request, and its visit at an endpoint.
pub(super) struct Entered {
    /// The number of its target.
    pub target: usize,
    visit: Visit,
    group: Arc<Group>,
    permit: Permit,
    whole: Option<Permit>,
}

/// The time of the next possible request and the reason, if known.
type NotNow = Option<(Instant, Error)>;

/// Which models may answer besides a call's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StandIns {
    /// None.
    None,
    /// Those with the same API, whose JSON the caller wrote.
    SameApi,
    /// All.
    All,
}

impl Entered {
    /// Marks the request as a second one of its call.
    pub fn is_hedge(&mut self) {
        self.visit.is_hedge();
    }

    /// The endpoint's health.
    pub fn health(&self) -> Arc<Health> {
        self.visit.health()
    }

    /// Nothing was sent, for a reason of this side.
    pub fn not_sent(self) {
        self.permits(&Outcome::NotSent);
    }

    /// The endpoint answered after `latency`.
    pub fn answered(self, latency: Duration, outcome: &Outcome) {
        self.group.took(latency);
        // A model with one endpoint has its latencies in the meter.
        let shown = Some(latency).filter(|_| self.group.shown);
        self.permits(outcome).answered(Instant::now(), shown);
    }

    /// Another endpoint answered first, after `time`.
    pub fn overtaken(self, time: Duration) {
        self.group.took(time);
        self.permits(&Outcome::Failed).overtaken(time);
    }

    /// The request failed. A refusal of the request itself is an answer.
    pub fn failed(self, failure: &Failure, outcome: &Outcome, blame: Blame) {
        let limited = failure.is_rate_limit();
        let visit = self.permits(outcome);
        match failure.kind() {
            _ if blame != Blame::None || limited => {
                visit.failed(Instant::now(), blame, failure.error().message());
            }
            Kind::Provider(_) | Kind::TooLarge => visit.answered(Instant::now(), None),
            // A lack of this side.
            _ => {}
        }
    }

    fn permits(self, outcome: &Outcome) -> Visit {
        if let Some(whole) = self.whole {
            // A refusal limits the endpoint that gave it, not the others.
            match outcome {
                Outcome::Refused(_) => whole.finish(&Outcome::Failed),
                Outcome::Answered { tokens, .. } => whole.finish(&Outcome::Answered { tokens: *tokens, pause: None }),
                outcome => whole.finish(outcome),
            }
        }
        self.permit.finish(outcome);
        self.visit
    }
}

/// What a failure says about the endpoint that it came from. `keyed`: whether the registration determines the key.
pub(super) fn blame(failure: &Failure, keyed: bool) -> Blame {
    match failure.kind() {
        _ if failure.is_rate_limit() => Blame::None,
        Kind::Provider(402 | 429) => Blame::Quota,
        Kind::Connection | Kind::Denied | Kind::Unsupported | Kind::Invalid | Kind::NotFound => Blame::Endpoint,
        Kind::Provider(502..=504 | 520..=529) => Blame::Endpoint,
        Kind::Provider(401) if keyed => Blame::Endpoint,
        Kind::Provider(404 | 405) => Blame::Endpoint,
        // A text may be too much for a server, and its answer take too long.
        Kind::Provider(401 | 403 | 408 | 409 | 425 | 300..=399 | 500..=599) | Kind::Timeout | Kind::Response => {
            Blame::Doubtful
        }
        _ => Blame::None,
    }
}

/// Whether another endpoint may answer a request that failed so.
pub(super) fn moves_on(failure: &Failure) -> bool {
    failure.is_rate_limit() || blame(failure, true) != Blame::None
}

impl Target {
    fn permits(&self, tokens: u64) -> std::result::Result<(Permit, Option<Permit>), NotNow> {
        let whole = match &self.whole {
            Some((limiter, budget)) => Some(limiter.try_now(*budget, tokens)?),
            None => None,
        };
        match self.limiter.try_now(self.budget, tokens) {
            Ok(permit) => Ok((permit, whole)),
            Err(until) => {
                if let Some(whole) = whole {
                    whole.finish(&Outcome::NotSent);
                }
                Err(until)
            }
        }
    }
}

/// The URL for `ml_status`.
fn url_of(call: &Call) -> String {
    checked_url(call.model(), &call.settings).map(|url| display_url(&url)).unwrap_or_default()
}

/// Adds the endpoints of a call's own model.
fn add(targets: &mut Vec<Target>, call: &Call, tier: usize, limiters: &RateLimiters, groups: &Groups) {
    let model = call.model();
    let own = limiters.of(&model.fingerprint);
    call.meter.paced_by(&own);
    let endpoints = &call.resolved.endpoints;
    let at = |resolved: &Arc<ResolvedModel>| Call { resolved: Arc::clone(resolved), ..call.alone() };
    let group = groups.of(&model.fingerprint, || {
        let by_percentile = matches!(model.options.hedge_after_ms, Some(HedgeAfter::Percentile(_)));
        let mut group = Group::new(!endpoints.is_empty() || model.options.fallback.is_some(), by_percentile);
        if endpoints.is_empty() {
            group.add("1".to_owned(), url_of(call), 1, Arc::clone(&own));
        }
        for (i, (resolved, option)) in endpoints.iter().zip(&model.options.endpoints).enumerate() {
            let limiter = limiters.of(&resolved.model.fingerprint);
            group.add(option.name(i), url_of(&at(resolved)), option.weight, limiter);
        }
        group
    });
    call.meter.served_by(&group);
    let budget = Budget::of(&model.options);
    if endpoints.is_empty() {
        targets.push(Target {
            call: call.alone(),
            group,
            place: 0,
            weight: 1,
            tier,
            limiter: own,
            budget,
            whole: None,
        });
        return;
    }
    for (place, (resolved, option)) in endpoints.iter().zip(&model.options.endpoints).enumerate() {
        targets.push(Target {
            call: at(resolved),
            group: Arc::clone(&group),
            place,
            weight: option.weight,
            tier: tier + usize::from(option.weight == 0),
            limiter: limiters.of(&resolved.model.fingerprint),
            budget: Budget::of_endpoint(option),
            whole: Some((Arc::clone(&own), budget)),
        });
    }
}

impl Route {
    /// The targets of a call.
    pub fn of(call: &Call, stand_ins: StandIns, limiters: &RateLimiters, groups: &Groups) -> Self {
        let mut targets = Vec::with_capacity(1);
        add(&mut targets, call, 0, limiters, groups);
        if let Some(only) = call.only.filter(|only| *only < targets.len()) {
            targets = vec![targets.swap_remove(only)];
        }
        let mut broken = None;
        if let Some(fallback) = call.fallback.as_ref().filter(|_| stand_ins != StandIns::None) {
            for (i, other) in fallback.calls.iter().enumerate() {
                if stand_ins == StandIns::All || other.model().api == call.model().api {
                    add(&mut targets, other, 2 * (i + 1), limiters, groups);
                }
            }
            broken.clone_from(&fallback.broken);
        }
        let options = &call.model().options;
        let hedge = options.hedge_after_ms.filter(|_| call.model().backend() == Backend::Remote);
        let try_time = options.try_timeout_ms.map(Duration::from_millis);
        Route { targets, broken, hedge, try_time, last: Cell::new(0) }
    }

    /// Leaves out models that stand in and do not pass.
    pub fn retain_stand_ins(&mut self, passes: impl Fn(&Model) -> bool) {
        self.targets.retain(|target| target.tier < 2 || passes(target.call.model()));
    }

    /// Whether there is one target only.
    pub fn is_single(&self) -> bool {
        self.targets.len() == 1
    }

    /// The number of targets.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// The call as a target makes it.
    pub fn call(&self, target: usize) -> Result<&Call> {
        self.targets.get(target).map(|target| &target.call).ok_or_else(|| Error::internal("a target that is none"))
    }

    /// Whether a target is another model, which stands in.
    pub fn is_stand_in(&self, target: usize) -> bool {
        self.targets.get(target).is_some_and(|target| target.tier >= 2)
    }

    /// Counts a call, which lets some calls be sent twice.
    pub fn sent(&self) {
        if let Some(first) = self.targets.first() {
            first.group.sent();
        }
    }

    /// The target whose answer or error the last call ended with.
    pub fn last(&self) -> usize {
        self.last.get()
    }

    /// Notes the target whose answer or error a call ends with.
    pub fn ends_with(&self, target: usize) {
        self.last.set(target);
    }

    /// Request sizes learnt from refusals, of the call's own model.
    pub fn learnt(&self) -> Learnt {
        self.own_limiter().map(|limiter| limiter.learnt()).unwrap_or_default()
    }

    /// Keeps learnt sizes.
    pub fn learn(&self, new: Learnt) {
        if let Some(limiter) = self.own_limiter() {
            limiter.learn(new);
        }
    }

    fn own_limiter(&self) -> Option<&Arc<RateLimiter>> {
        let first = self.targets.first()?;
        Some(first.whole.as_ref().map_or(&first.limiter, |(limiter, _)| limiter))
    }

    /// The time limit of a try that begins now. Without the option, a try has half of the time that is left while there
    /// are targets that were not tried.
    pub fn try_until(&self, tried: usize, deadline: Instant, now: Instant) -> Instant {
        let left = deadline.saturating_duration_since(now);
        match self.try_time {
            Some(time) => deadline.min(now + time),
            None if tried + 1 < self.targets.len() => now + left / 2,
            None => deadline,
        }
    }

    /// When a call that was sent to `target` is to be sent to another endpoint too.
    pub fn hedge_after(&self, target: usize) -> Option<Duration> {
        let target = self.targets.get(target).filter(|target| target.tier < 2)?;
        match self.hedge? {
            HedgeAfter::Milliseconds(ms) => Some(Duration::from_millis(ms)),
            HedgeAfter::Percentile(percent) => target.group.percentile(percent),
        }
    }

    /// Permits for a second request of a call, if a healthy endpoint of the model has room, and few were sent twice.
    pub fn hedge(&self, tokens: u64, tried: &[usize]) -> Option<Entered> {
        let group = &self.targets.first()?.group;
        if !group.may_hedge() {
            return None;
        }
        let now = Instant::now();
        for tier in 0..2 {
            let mut candidates = self.candidates(tier, tried);
            while let Some((i, target)) = self.turn(&mut candidates) {
                // A probe would be no help: the endpoint may still be down.
                if let Ok(visit) = target.group.endpoints.get(target.place)?.enter(now)
                    && !visit.is_probe()
                    && let Ok((permit, whole)) = target.permits(tokens)
                {
                    let mut entered = Entered { target: i, visit, group: Arc::clone(&target.group), permit, whole };
                    entered.is_hedge();
                    return Some(entered);
                }
            }
        }
        group.hedge_was_not_sent();
        None
    }

    /// The targets of a tier that were not tried: their numbers.
    fn candidates(&self, tier: usize, tried: &[usize]) -> Vec<usize> {
        let untried = |(i, target): (usize, &Target)| (target.tier == tier && !tried.contains(&i)).then_some(i);
        self.targets.iter().enumerate().filter_map(untried).collect()
    }

    /// Takes the next one of `candidates`, which are of one group.
    fn turn(&self, candidates: &mut Vec<usize>) -> Option<(usize, &Target)> {
        let of = |i: &usize| self.targets.get(*i);
        let group = &candidates.first().and_then(of)?.group;
        let weights: Vec<(usize, u64)> = candidates.iter().filter_map(of).map(|t| (t.place, t.weight)).collect();
        let place = group.turn(&weights)?;
        let next = candidates.iter().position(|i| of(i).is_some_and(|target| target.place == place))?;
        let i = candidates.remove(next);
        Some((i, self.targets.get(i)?))
    }

    /// Permits for a request to the best target that was not `tried`. Otherwise the time of the next possible one and the
    /// reason, if known. `deadline`: no wait goes beyond it.
    pub fn try_now(
        &self,
        tokens: u64,
        tried: &[usize],
        only: Option<usize>,
        deadline: Option<Instant>,
    ) -> std::result::Result<Entered, Option<(Instant, Error)>> {
        let now = Instant::now();
        let enter =
            |i: usize, target: &Target, visit: Visit| -> std::result::Result<Entered, Option<(Instant, Error)>> {
                let (permit, whole) = target.permits(tokens)?;
                Ok(Entered { target: i, visit, group: Arc::clone(&target.group), permit, whole })
            };
        let single = if self.is_single() { Some(0) } else { only };
        if let Some(i) = single {
            // Where there is no choice, the breaker has nothing to say.
            let target = self.targets.get(i).ok_or(None)?;
            let health = target.group.endpoints.get(target.place).ok_or(None)?;
            return enter(i, target, health.force());
        }
        let (mut soonest, mut busy) = (None::<(Instant, Error)>, false);
        let mut open: Vec<(Instant, usize)> = Vec::new();
        for tier in 0..=self.targets.last().map_or(0, |target| target.tier + 1) {
            let mut candidates = self.candidates(tier, tried);
            while let Some((i, target)) = self.turn(&mut candidates) {
                let visit = match target.group.endpoints.get(target.place).map(|health| health.enter(now)) {
                    Some(Ok(visit)) => visit,
                    Some(Err(until)) => {
                        open.push((until, i));
                        continue;
                    }
                    None => continue,
                };
                match enter(i, target, visit) {
                    Ok(entered) => {
                        if tier >= 2
                            && let Some(first) = self.targets.first()
                        {
                            first.group.stood_in();
                        }
                        return Ok(entered);
                    }
                    Err(Some(until)) => {
                        if soonest.as_ref().is_none_or(|(at, _)| until.0 < *at) {
                            soonest = Some(until);
                        }
                    }
                    Err(None) => busy = true,
                }
            }
            // Another model is no remedy for a limit of concurrent requests.
            if busy && tier % 2 == 1 {
                return Err(None);
            }
        }
        if busy {
            return Err(None);
        }
        if let Some((at, error)) = soonest.take() {
            if open.is_empty() || deadline.is_none_or(|deadline| at < deadline) {
                return Err(Some((at, error)));
            }
            soonest = Some((at, error));
        }
        // All are out of order: the one that is to be probed first is tried all the same.
        open.sort_by_key(|(until, i)| (self.is_stand_in(*i), *until));
        for (_, i) in open {
            if let Some(target) = self.targets.get(i)
                && let Some(health) = target.group.endpoints.get(target.place)
                && let Ok(entered) = enter(i, target, health.force())
            {
                return Ok(entered);
            }
        }
        Err(soonest)
    }

    /// Waits for permits, until `deadline`.
    pub fn enter(
        &self,
        tokens: u64,
        tried: &[usize],
        only: Option<usize>,
        deadline: Instant,
        interrupt: &dyn Interrupt,
    ) -> Result<Entered> {
        if let (Some(target), true) = (self.targets.first(), self.is_single()) {
            // The limiter wakes its waiters.
            let whole = match &target.whole {
                Some((limiter, budget)) => Some(limiter.enter(*budget, tokens, deadline, interrupt)?),
                None => None,
            };
            let permit = target.limiter.enter(target.budget, tokens, deadline, interrupt)?;
            let health = target.group.endpoints.get(target.place);
            let visit = health.ok_or_else(|| Error::internal("an endpoint that is none"))?.force();
            return Ok(Entered { target: 0, visit, group: Arc::clone(&target.group), permit, whole });
        }
        loop {
            let wait = match self.try_now(tokens, tried, only, Some(deadline)) {
                Ok(entered) => return Ok(entered),
                Err(Some((at, error))) if at >= deadline => return Err(error),
                Err(Some((at, _))) => at.saturating_duration_since(Instant::now()),
                Err(None) if Instant::now() >= deadline => {
                    return Err(Error::new(
                        Kind::Timeout,
                        "nothing was sent: other calls of the model took all the time; raise timeout_ms or max_in_flight, or try later",
                    ))
                }
                Err(None) => POLL,
            };
            interrupt.check()?;
            std::thread::sleep(wait.min(POLL));
        }
    }

    /// The error of a call after all its targets failed.
    pub fn exhausted(&self, error: Error) -> Error {
        let all = match (self.len(), error.kind()) {
            (_, Kind::Interrupted(_)) => return error,
            (1, _) => String::new(),
            (n, _) => format!("; none of {n} endpoints answered, see ml_status()"),
        };
        let broken = self.broken.as_ref().map(|why| format!("; no other model stands in: {why}")).unwrap_or_default();
        match all.is_empty() && broken.is_empty() {
            true => error,
            false => Error::new(error.kind(), format!("{}{all}{broken}", error.message())),
        }
    }

    /// An error if a vector has another width than those of the model's other endpoints. `bytes`: its length.
    pub fn check_width(&self, target: usize, bytes: usize) -> Result<()> {
        let (Some(target), Some(first)) = (self.targets.get(target), self.targets.first()) else { return Ok(()) };
        match first.group.other_width(bytes).filter(|_| !self.is_single()) {
            None => Ok(()),
            Some(width) => {
                let name = target.group.endpoints.get(target.place).map_or("", |health| health.name.as_str());
                Err(Error::response(format!(
                    "endpoint '{name}' of model '{}' answered with {} dimensions after {} from the others; check them with ml_validate_model",
                    target.call.model().model_id,
                    bytes / 4,
                    width / 4
                )))
            }
        }
    }
}
