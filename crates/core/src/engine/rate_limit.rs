//! One rate limiter a registration, for all sessions of the server.
//!
//! After "too many requests" no session sends for as long as the provider asks. Then one request is allowed, and each
//! answer doubles the number of concurrent ones. Budgets of the model's options hold for the whole server.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::catalog::endpoints::EndpointOption;
use crate::catalog::options::ModelOptions;
use crate::http::{retry, Failure};
use mysql_ml_base::counters;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{Interrupt, Waiting, POLL};
use mysql_ml_base::wait::Wait;

/// From this many concurrent requests on, the limiter is open again.
const RECOVERED: u64 = 64;

/// The longest pause before one request tries again. A provider that asks for more may mean a day's quota.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// This long after a refusal, an endpoint without any answers no longer counts as rate-limited.
const FORGOTTEN: Duration = Duration::from_secs(90);

/// Window of a budget, seconds: a minute and the current second, so that no 60 seconds exceed the budget.
const SECONDS: usize = 61;

/// The rate limiter of a registration.
pub struct RateLimiter {
    began: Instant,
    learnt: Mutex<Learnt>,
    state: Mutex<State>,
    changed: Condvar,
}

/// Request sizes learnt from refusals.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Learnt {
    /// The most texts in a request; `None`: no limit known.
    pub texts: Option<usize>,
    /// The most estimated tokens in a request; `None`: no limit known.
    pub tokens: Option<u64>,
}

/// All rate limiters, by the registration's fingerprint. A changed registration may be another endpoint or key and gets
/// a new one.
#[derive(Default)]
pub struct RateLimiters {
    all: RwLock<HashMap<[u8; 32], Arc<RateLimiter>>>,
}

/// With more limiters than this, those without a limit in force are dropped.
const MAX_LIMITERS: usize = 4096;

impl RateLimiters {
    /// The limiter of a registration.
    pub fn of(&self, fingerprint: &[u8; 32]) -> Arc<RateLimiter> {
        if let Some(limiter) = self.all.read().unwrap_or_else(PoisonError::into_inner).get(fingerprint) {
            return Arc::clone(limiter);
        }
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_LIMITERS {
            all.retain(|_, limiter| Arc::strong_count(limiter) > 1 || limiter.remembers());
        }
        Arc::clone(all.entry(*fingerprint).or_default())
    }
}

struct State {
    in_flight: u64,
    /// Concurrent requests allowed since the last refusal; `None`: unlimited.
    window: Option<u64>,
    paused_until: Option<Instant>,
    refused_at: Option<Instant>,
    /// Number of refusals. Refusals of requests that were under way during the last one are ignored.
    epoch: u64,
    refused_in_a_row: u32,
    requests: Minute,
    tokens: Minute,
}

impl Default for RateLimiter {
    fn default() -> Self {
        RateLimiter {
            began: Instant::now(),
            learnt: Mutex::default(),
            state: Mutex::new(State {
                in_flight: 0,
                window: None,
                paused_until: None,
                refused_at: None,
                epoch: 0,
                refused_in_a_row: 0,
                requests: Minute::default(),
                tokens: Minute::default(),
            }),
            changed: Condvar::new(),
        }
    }
}

/// Amounts sent in each of the last [`SECONDS`] seconds.
struct Minute {
    seconds: [u64; SECONDS],
    /// The newest second.
    newest: u64,
}

impl Default for Minute {
    fn default() -> Self {
        Minute { seconds: [0; SECONDS], newest: 0 }
    }
}

impl Minute {
    fn place(second: u64) -> usize {
        usize::try_from(second % SECONDS as u64).unwrap_or(0)
    }

    fn advance(&mut self, now: u64) {
        let first = (self.newest + 1).max(now.saturating_sub(SECONDS as u64 - 1));
        for second in first..=now {
            if let Some(count) = self.seconds.get_mut(Self::place(second)) {
                *count = 0;
            }
        }
        self.newest = self.newest.max(now);
    }

    fn add(&mut self, now: u64, n: u64) {
        self.advance(now);
        if let Some(count) = self.seconds.get_mut(Self::place(now)) {
            *count = count.saturating_add(n);
        }
    }

    /// Subtracts an amount added in a second.
    fn take_back(&mut self, then: u64, n: u64) {
        if then + SECONDS as u64 > self.newest
            && let Some(count) = self.seconds.get_mut(Self::place(then))
        {
            *count = count.saturating_sub(n);
        }
    }

    fn sum(&self) -> u64 {
        self.seconds.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The second in which `n` more fit into `limit`. An amount above the limit fits when nothing else is counted.
    fn fits_at(&mut self, now: u64, n: u64, limit: u64) -> u64 {
        self.advance(now);
        let room = limit.saturating_sub(n.min(limit));
        let mut sum = self.sum();
        let mut at = now;
        let oldest = (now + 1).saturating_sub(SECONDS as u64);
        for second in oldest..=now {
            if sum <= room {
                break;
            }
            let gone = self.seconds.get(Self::place(second)).copied().unwrap_or(0);
            sum = sum.saturating_sub(gone);
            at = second + SECONDS as u64;
        }
        at.max(now)
    }
}

/// The budgets of a model's options.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    requests: Option<u64>,
    tokens: Option<u64>,
    in_flight: Option<u64>,
}

impl Budget {
    /// The budgets among a model's options.
    pub fn of(options: &ModelOptions) -> Self {
        Budget {
            requests: options.requests_per_minute,
            tokens: options.tokens_per_minute,
            in_flight: options.max_in_flight,
        }
    }

    /// The budgets of one endpoint.
    pub fn of_endpoint(endpoint: &EndpointOption) -> Self {
        Budget {
            requests: endpoint.requests_per_minute,
            tokens: endpoint.tokens_per_minute,
            in_flight: endpoint.max_in_flight,
        }
    }
}

/// Why a request may not be sent yet.
enum Blocked {
    /// Until this time.
    Until(Instant, &'static str),
    /// Until another request is answered.
    Busy,
}

/// The outcome of a request.
pub enum Outcome {
    /// Answered.
    Answered {
        /// Tokens used, if the provider reports them.
        tokens: Option<u64>,
        /// The pause until a used-up limit is reset.
        pause: Option<Duration>,
    },
    /// Refused for a reason other than a rate limit.
    Declined,
    /// Refused by a rate limit, with the wait that the provider asks for.
    Refused(Option<Duration>),
    /// Nothing was sent, for example because a secret was missing.
    NotSent,
    /// Any other failure.
    Failed,
}

impl Outcome {
    /// The outcome of a failed request.
    pub fn of_failure(failure: &Failure) -> Self {
        match failure.kind() {
            _ if failure.is_rate_limit() => Outcome::Refused(failure.wait),
            Kind::Provider(400..=499) => Outcome::Declined,
            _ if failure.is_unsent() => Outcome::NotSent,
            _ => Outcome::Failed,
        }
    }
}

/// A permit for one request. Dropping it without an outcome counts as a failure.
pub struct Permit {
    limiter: Arc<RateLimiter>,
    epoch: u64,
    /// The second in which it was given.
    second: u64,
    tokens: u64,
    done: bool,
    _counted: counters::Held,
}

impl RateLimiter {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sizes learnt by all sessions.
    pub fn learnt(&self) -> Learnt {
        *self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps learnt sizes that are smaller than before.
    pub fn learn(&self, new: Learnt) {
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        learnt.texts = learnt.texts.into_iter().chain(new.texts).min();
        learnt.tokens = learnt.tokens.into_iter().chain(new.tokens).min();
    }

    /// Number of requests under way.
    pub fn in_flight(&self) -> u64 {
        self.lock().in_flight
    }

    /// Whether the limiter has state that a new one lacks.
    fn remembers(&self) -> bool {
        let mut state = self.lock();
        let second = self.second(Instant::now());
        state.requests.advance(second);
        self.learnt() != Learnt::default()
            || state.in_flight > 0
            || state.window.is_some()
            || state.paused_until.is_some()
            || state.requests.sum() > 0
    }

    /// Time until the limiter opens.
    pub fn paused(&self) -> Duration {
        self.lock().paused_until.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Waits for a permit for a request of `tokens`. Fails at once if none is possible before `deadline`.
    pub fn enter(
        self: &Arc<Self>,
        budget: Budget,
        tokens: u64,
        deadline: Instant,
        interrupt: &dyn Interrupt,
    ) -> Result<Permit> {
        let mut state = self.lock();
        let mut waiting = None;
        loop {
            let now = Instant::now();
            let wait = match self.try_enter(&mut state, budget, tokens, now) {
                Ok(()) => {
                    return Ok(self.permit(&state, tokens, now));
                }
                Err(Blocked::Until(at, why)) if at >= deadline => {
                    return Err(too_long(at, why, now))
                }
                Err(Blocked::Until(at, _)) => at.saturating_duration_since(now),
                Err(Blocked::Busy) if now >= deadline => {
                    return Err(Error::new(
                        Kind::Timeout,
                        "nothing was sent: other calls of the model took all the time; raise timeout_ms or max_in_flight, or try later",
                    ))
                }
                Err(Blocked::Busy) => POLL,
            };
            drop(state);
            interrupt.check()?;
            waiting.get_or_insert_with(|| Waiting::begin(interrupt, Wait::Permit));
            state = self.lock();
            let slice = wait.min(POLL);
            state = self.changed.wait_timeout(state, slice).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A permit for a request of `tokens` now. Otherwise the time of the next possible one and the reason, if known.
    pub fn try_now(
        self: &Arc<Self>,
        budget: Budget,
        tokens: u64,
    ) -> std::result::Result<Permit, Option<(Instant, Error)>> {
        let mut state = self.lock();
        let now = Instant::now();
        match self.try_enter(&mut state, budget, tokens, now) {
            Ok(()) => Ok(self.permit(&state, tokens, now)),
            Err(Blocked::Until(at, why)) => Err(Some((at, too_long(at, why, now)))),
            Err(Blocked::Busy) => Err(None),
        }
    }

    fn permit(self: &Arc<Self>, state: &State, tokens: u64, now: Instant) -> Permit {
        let _counted = counters::REQUESTS_UNDER_WAY.hold();
        Permit {
            limiter: Arc::clone(self),
            epoch: state.epoch,
            second: self.second(now),
            tokens,
            done: false,
            _counted,
        }
    }

    fn second(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_secs()
    }

    fn try_enter(
        &self,
        state: &mut State,
        budget: Budget,
        tokens: u64,
        now: Instant,
    ) -> std::result::Result<(), Blocked> {
        if let Some(at) = state.paused_until {
            if at > now {
                return Err(Blocked::Until(at, "the provider limits the rate"));
            }
            state.paused_until = None;
        }
        if state.refused_at.is_some_and(|at| now.saturating_duration_since(at) > FORGOTTEN) {
            (state.window, state.refused_at) = (None, None);
        }
        let most = state.window.unwrap_or(u64::MAX).min(budget.in_flight.unwrap_or(u64::MAX));
        if state.in_flight >= most {
            return Err(Blocked::Busy);
        }
        let second = self.second(now);
        let instant = |second: u64| self.began + Duration::from_secs(second);
        if let Some(limit) = budget.requests {
            let at = state.requests.fits_at(second, 1, limit);
            if at > second {
                return Err(Blocked::Until(instant(at), "the model's requests_per_minute are used up"));
            }
        }
        if let Some(limit) = budget.tokens {
            let at = state.tokens.fits_at(second, tokens, limit);
            if at > second {
                return Err(Blocked::Until(instant(at), "the model's tokens_per_minute are used up"));
            }
        }
        state.requests.add(second, 1);
        state.tokens.add(second, tokens);
        state.in_flight += 1;
        Ok(())
    }
}

fn too_long(at: Instant, why: &str, now: Instant) -> Error {
    let seconds = at.saturating_duration_since(now).as_secs_f64().ceil();
    Error::new(
        Kind::Provider(429),
        format!(
            "nothing was sent: {why} for another {seconds} s, longer than the call may take; raise timeout_ms or try later"
        ),
    )
}

impl State {
    /// After an answer to a request of `epoch`: doubles the allowed concurrent requests.
    fn widen(&mut self, epoch: u64) {
        if self.epoch == epoch {
            self.refused_in_a_row = 0;
            self.window = self.window.map(|w| w.saturating_mul(2)).filter(|w| *w <= RECOVERED);
        }
    }
}

impl Permit {
    /// Returns the permit with the request's outcome.
    pub fn finish(mut self, outcome: &Outcome) {
        self.done = true;
        let now = Instant::now();
        let second = self.limiter.second(now);
        let mut state = self.limiter.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Answered { tokens, pause } => {
                state.tokens.add(second, tokens.unwrap_or(0).saturating_sub(self.tokens));
                state.widen(self.epoch);
                if let Some(pause) = pause {
                    state.paused_until = state.paused_until.max(Some(now + (*pause).min(LONGEST_PAUSE)));
                }
            }
            Outcome::Refused(wait) => {
                counters::RATE_LIMITED.add(1);
                if self.epoch == state.epoch {
                    state.epoch += 1;
                    state.refused_in_a_row = state.refused_in_a_row.saturating_add(1);
                    state.window = Some(1);
                    state.refused_at = Some(now);
                }
                let wait = wait.unwrap_or_else(|| retry::backoff(state.refused_in_a_row.max(1)));
                state.paused_until = state.paused_until.max(Some(now + wait.min(LONGEST_PAUSE)));
            }
            // A refusal is an answer too: the provider answers again.
            Outcome::Declined => state.widen(self.epoch),
            Outcome::NotSent => {
                state.requests.take_back(self.second, 1);
                state.tokens.take_back(self.second, self.tokens);
            }
            Outcome::Failed => {}
        }
        drop(state);
        self.limiter.changed.notify_all();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.done {
            let mut state = self.limiter.lock();
            state.in_flight = state.in_flight.saturating_sub(1);
            drop(state);
            self.limiter.changed.notify_all();
        }
    }
}

/// Least tokens of a text, before the provider counts: four bytes a token.
pub(super) fn tokens_in(text: &str) -> u64 {
    (text.len() as u64 / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_ml_base::interrupt::Never;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn enter(limiter: &Arc<RateLimiter>, budget: Budget, deadline: Instant) -> Result<Permit> {
        limiter.enter(budget, 10, deadline, &Never)
    }

    #[test]
    fn no_sixty_seconds_hold_more_than_the_budget() {
        let mut minute = Minute::default();
        minute.add(5, 6);
        minute.add(30, 4);
        assert_eq!(minute.fits_at(31, 1, 10), 66, "what was sent in second 5 counts until second 65 is over");
        assert_eq!(minute.fits_at(31, 1, 11), 31);
        assert_eq!(minute.fits_at(31, 7, 10), 91, "both must be gone");
        assert_eq!(minute.fits_at(31, 50, 10), 91, "more than the budget goes alone");
        minute.add(66, 5);
        assert_eq!(minute.sum(), 9);
        minute.advance(10_000);
        assert_eq!((minute.sum(), minute.fits_at(10_000, 1, 1)), (0, 10_000));
    }

    #[test]
    fn a_used_up_budget_is_an_error_at_once() {
        let limiter = Arc::new(RateLimiter::default());
        let budget = Budget { requests: Some(2), ..Budget::default() };
        let _two = [enter(&limiter, budget, soon()).unwrap(), enter(&limiter, budget, soon()).unwrap()];
        let error = enter(&limiter, budget, soon()).err().unwrap();
        assert!(error.message().contains("requests_per_minute"), "{error}");
    }

    #[test]
    fn unsent_requests_do_not_count() {
        let limiter = Arc::new(RateLimiter::default());
        let budget = Budget { requests: Some(1), tokens: Some(10), ..Budget::default() };
        for _ in 0..3 {
            enter(&limiter, budget, soon()).unwrap().finish(&Outcome::NotSent);
        }
        enter(&limiter, budget, soon()).unwrap().finish(&Outcome::Failed);
        assert!(enter(&limiter, budget, soon()).is_err());
    }

    #[test]
    fn a_limit_that_an_answer_says_is_used_up_holds_everybody_back() {
        let limiter = Arc::new(RateLimiter::default());
        let pause = Some(Duration::from_millis(400));
        enter(&limiter, Budget::default(), soon()).unwrap().finish(&Outcome::Answered { tokens: None, pause });
        let answered = Instant::now();
        let refused = enter(&limiter, Budget::default(), answered + Duration::from_millis(10));
        assert!(refused.err().unwrap().message().contains("limits the rate"));
        enter(&limiter, Budget::default(), soon()).unwrap();
        assert!(answered.elapsed() >= Duration::from_millis(390), "{:?}", answered.elapsed());
    }

    #[test]
    fn as_many_as_allowed_are_in_flight() {
        let limiter = Arc::new(RateLimiter::default());
        let budget = Budget { in_flight: Some(1), ..Budget::default() };
        let first = enter(&limiter, budget, soon()).unwrap();
        let late = Instant::now() + Duration::from_millis(30);
        assert_eq!(enter(&limiter, budget, late).err().unwrap().kind(), Kind::Timeout);
        drop(first);
        assert!(enter(&limiter, budget, soon()).is_ok());
        assert_eq!(limiter.in_flight(), 0);
    }

    #[test]
    fn a_refusal_holds_everybody_back_and_then_one_tries() {
        let limiter = Arc::new(RateLimiter::default());
        let any = Budget::default();
        let five: Vec<Permit> = (0..5).map(|_| enter(&limiter, any, soon()).unwrap()).collect();
        for permit in five {
            permit.finish(&Outcome::Refused(Some(Duration::from_millis(40))));
        }
        let refused = enter(&limiter, any, Instant::now() + Duration::from_millis(5));
        assert!(refused.err().unwrap().message().contains("limits the rate"));
        let probe = enter(&limiter, any, soon()).unwrap();
        assert!(enter(&limiter, any, Instant::now() + Duration::from_millis(20)).is_err(), "one tries first");
        probe.finish(&Outcome::Answered { tokens: None, pause: None });
        let two = [enter(&limiter, any, soon()).unwrap(), enter(&limiter, any, soon()).unwrap()];
        assert!(enter(&limiter, any, Instant::now() + Duration::from_millis(20)).is_err(), "then two");
        drop(two);
    }

    #[test]
    fn an_answer_of_any_kind_opens_the_gate_again() {
        let limiter = Arc::new(RateLimiter::default());
        enter(&limiter, Budget::default(), soon()).unwrap().finish(&Outcome::Refused(Some(Duration::from_millis(1))));
        for _ in 0..3 {
            enter(&limiter, Budget::default(), soon()).unwrap().finish(&Outcome::Declined);
        }
        let _eight: Vec<Permit> = (0..8).map(|_| enter(&limiter, Budget::default(), soon()).unwrap()).collect();
        assert!(enter(&limiter, Budget::default(), Instant::now() + Duration::from_millis(10)).is_err());
    }

    #[test]
    fn gates_that_hold_nothing_back_are_forgotten_and_others_are_not() {
        let limiters = RateLimiters::default();
        let print = |i: u32| {
            let mut f = [0; 32];
            f[..4].copy_from_slice(&i.to_le_bytes());
            f
        };
        let paused = limiters.of(&print(0));
        enter(&paused, Budget::default(), soon()).unwrap().finish(&Outcome::Refused(Some(Duration::from_secs(30))));
        drop(paused);
        for i in 1..=MAX_LIMITERS as u32 + 10 {
            limiters.of(&print(i));
        }
        assert!(limiters.all.read().unwrap().len() <= MAX_LIMITERS);
        assert!(limiters.of(&print(0)).paused() > Duration::from_secs(20));
    }

    #[test]
    fn many_refusals_of_one_burst_count_once() {
        let limiter = Arc::new(RateLimiter::default());
        let burst: Vec<Permit> = (0..50).map(|_| enter(&limiter, Budget::default(), soon()).unwrap()).collect();
        for permit in burst {
            permit.finish(&Outcome::Refused(None));
        }
        assert!(limiter.paused() <= Duration::from_millis(500), "{:?}", limiter.paused());
    }

    #[test]
    fn a_budget_holds_also_where_all_of_it_was_sent_in_one_second() {
        let mut minute = Minute::default();
        minute.add(100, 10);
        assert_eq!(minute.fits_at(100, 1, 10), 161);
        minute.add(161, 4);
        minute.take_back(100, 10);
        assert_eq!(
            minute.sum(),
            4,
            "what was sent in a second that is over counts no more, and is not taken from another one"
        );
    }

    #[test]
    fn a_budget_comes_back_as_time_goes_by() {
        let gate = RateLimiter::default();
        let seconds = |s| gate.second(gate.began + Duration::from_secs(s));
        assert_eq!((seconds(0), seconds(1), seconds(90)), (0, 1, 90));
        let mut state = gate.lock();
        let budget = Budget { requests: Some(1), ..Budget::default() };
        let at = |s| gate.began + Duration::from_secs(s);
        assert!(gate.try_enter(&mut state, budget, 1, at(5)).is_ok());
        assert!(gate.try_enter(&mut state, budget, 1, at(65)).is_err());
        assert!(gate.try_enter(&mut state, budget, 1, at(66)).is_ok());
    }

    #[test]
    fn options_are_budgets_and_each_of_them_holds() {
        let options = ModelOptions {
            requests_per_minute: Some(7),
            tokens_per_minute: Some(15),
            max_in_flight: Some(3),
            ..ModelOptions::default()
        };
        let budget = Budget::of(&options);
        assert_eq!((budget.requests, budget.tokens, budget.in_flight), (Some(7), Some(15), Some(3)));
        let gate = Arc::new(RateLimiter::default());
        let first = enter(&gate, budget, soon()).unwrap();
        let error = enter(&gate, budget, soon()).err().unwrap();
        assert!(error.message().contains("tokens_per_minute"), "{error}");
        assert_eq!(gate.in_flight(), 1);
        drop(first);
    }

    #[test]
    fn a_request_beyond_the_limit_waits_for_one_to_end() {
        let gate = Arc::new(RateLimiter::default());
        let budget = Budget { in_flight: Some(1), ..Budget::default() };
        let first = enter(&gate, budget, soon()).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| enter(&gate, budget, soon()).is_ok());
            // A request that did not wait would have failed by then.
            std::thread::sleep(Duration::from_millis(50));
            drop(first);
            assert!(second.join().unwrap());
        });
    }

    #[test]
    fn a_refusal_of_long_ago_is_forgotten() {
        let gate = RateLimiter::default();
        let mut state = gate.lock();
        let now = gate.began + Duration::from_secs(1000);
        (state.window, state.in_flight, state.refused_at) = (Some(1), 1, Some(now));
        assert!(gate.try_enter(&mut state, Budget::default(), 1, now + FORGOTTEN).is_err());
        assert!(gate.try_enter(&mut state, Budget::default(), 1, now + FORGOTTEN + POLL).is_ok());
        assert_eq!(state.window, None);
    }

    #[test]
    fn a_limit_that_was_learnt_is_kept_and_only_ever_falls() {
        let gate = RateLimiter::default();
        gate.learn(Learnt { texts: Some(32), tokens: None });
        gate.learn(Learnt { texts: Some(64), tokens: Some(1000) });
        assert_eq!(gate.learnt(), Learnt { texts: Some(32), tokens: Some(1000) });
    }

    #[test]
    fn a_gate_that_knows_something_is_not_forgotten() {
        assert!(!RateLimiter::default().remembers());
        let knows = |what: fn(&mut State)| {
            let gate = RateLimiter::default();
            what(&mut gate.lock());
            gate.remembers()
        };
        assert!(knows(|state| state.in_flight = 1), "a request is under way");
        assert!(knows(|state| state.window = Some(1)), "it was refused");
        assert!(knows(|state| state.paused_until = Some(Instant::now())), "it was told to wait");
        assert!(knows(|state| state.requests.add(0, 1)), "its budget is used");
        let gate = RateLimiter::default();
        gate.learn(Learnt { texts: Some(32), tokens: None });
        assert!(gate.remembers(), "it learnt a limit");
    }
}
