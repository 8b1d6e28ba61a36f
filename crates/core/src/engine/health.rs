//! The health of an endpoint: a circuit breaker and counters, shared by all sessions; and the turns of a registration's
//! endpoints.
//!
//! A breaker opens when requests keep failing. Requests then go to other endpoints. After a time, which doubles with every
//! opening, one request is let through: its answer closes the breaker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use serde_json::{json, Value};

use super::rate_limit::RateLimiter;
use mysql_ml_base::error::cut;

/// This many failures in a row open a breaker.
const FAILURES_IN_A_ROW: u32 = 5;

/// So does half of this many requests or more, within the last [`SECONDS`].
const ENOUGH_REQUESTS: u64 = 20;

/// The window of failures, seconds.
const SECONDS: usize = 10;

/// The first time for which a breaker is open, and the longest.
const FIRST_OPEN: Duration = Duration::from_secs(1);
const LONGEST_OPEN: Duration = Duration::from_secs(60);

/// How long a breaker is open first if the endpoint's quota is used up.
const FIRST_OPEN_WITHOUT_QUOTA: Duration = Duration::from_secs(30);

/// A probe that is not answered after this time no longer holds others back.
const LONGEST_PROBE: Duration = Duration::from_secs(60);

/// Beyond this many registrations those without calls under way are forgotten.
const MAX_GROUPS: usize = 4096;

/// The largest recorded latency, microseconds.
const LONGEST: u64 = 3_600_000_000;

/// Of each request this many hundredths may be a second one: a hedge. Unused ones are kept for at most ten.
const HEDGE_PERCENT: u64 = 5;
const MOST_HEDGES: u64 = 10 * 100;

/// Latencies after which the percentile for hedges is computed anew, and after which older ones are forgotten.
const NEWS: u64 = 50;
const GENERATION: u64 = 2000;

/// Fewer latencies say nothing about a percentile.
const ENOUGH_LATENCIES: u64 = 100;

/// The bound of a turn's credit, far beyond what weights can reach.
const MOST_CREDIT: i64 = 1 << 40;

/// One endpoint's health.
pub struct Health {
    /// Its name.
    pub name: String,
    /// Its URL without a query, for `ml_status`.
    url: String,
    weight: u64,
    limiter: Arc<RateLimiter>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    window: Window,
    failed_in_a_row: u32,
    open: Option<Open>,
    /// How often it opened since it last closed.
    openings: u32,
    requests: u64,
    failures: u64,
    hedges: u64,
    latency: Option<Histogram<u64>>,
    last_error: Option<(SystemTime, String)>,
}

struct Open {
    until: Instant,
    /// When the probe under way began.
    probe: Option<Instant>,
}

/// Requests and failures in each of the last seconds.
#[derive(Default)]
struct Window {
    began: Option<Instant>,
    seconds: [(u64, u64); SECONDS],
    newest: u64,
}

impl Window {
    fn add(&mut self, now: Instant, failed: bool) {
        let second = now.saturating_duration_since(*self.began.get_or_insert(now)).as_secs();
        let place = |second: u64| usize::try_from(second % SECONDS as u64).unwrap_or(0);
        for gone in (self.newest + 1).max(second.saturating_sub(SECONDS as u64 - 1))..=second {
            if let Some(counts) = self.seconds.get_mut(place(gone)) {
                *counts = (0, 0);
            }
        }
        self.newest = self.newest.max(second);
        if let Some((requests, failures)) = self.seconds.get_mut(place(second)) {
            *requests += 1;
            *failures += u64::from(failed);
        }
    }

    fn mostly_failed(&self) -> bool {
        let (requests, failures) =
            self.seconds.iter().fold((0, 0), |(r, f), (requests, failures)| (r + requests, f + failures));
        requests >= ENOUGH_REQUESTS && failures * 2 >= requests
    }
}

/// Why a request to an endpoint failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The endpoint's own fault: it counts at once.
    Endpoint,
    /// The endpoint's quota is used up: it opens the breaker.
    Quota,
    /// The endpoint's or the request's: it counts if another endpoint answers the request.
    Doubtful,
    /// The request's, or a rate limit, which the rate limiter knows.
    None,
}

/// One request under way. Dropping it without a result says nothing about the endpoint.
pub struct Visit {
    health: Arc<Health>,
    probe: bool,
    hedge: bool,
    done: bool,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A visit if the breaker is closed, or for a probe; else the time of the next probe.
    pub fn enter(self: &Arc<Self>, now: Instant) -> Result<Visit, Instant> {
        let mut state = self.lock();
        let probe = match &mut state.open {
            None => false,
            Some(open) if open.until > now => return Err(open.until),
            Some(Open { probe: Some(since), .. }) if now.saturating_duration_since(*since) < LONGEST_PROBE => {
                return Err(*since + LONGEST_PROBE);
            }
            Some(open) => {
                open.probe = Some(now);
                true
            }
        };
        Ok(Visit { health: Arc::clone(self), probe, hedge: false, done: false })
    }

    /// A visit whatever the breaker says: no endpoint is closed.
    pub fn force(self: &Arc<Self>) -> Visit {
        Visit { health: Arc::clone(self), probe: false, hedge: false, done: false }
    }

    /// Counts a failure.
    pub fn failed(&self, now: Instant, quota: bool) {
        let mut state = self.lock();
        state.failed(now, quota);
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u64 {
        self.limiter.in_flight()
    }

    fn reset(&self) {
        let mut state = self.lock();
        (state.requests, state.failures, state.hedges) = (0, 0, 0);
        (state.latency, state.last_error) = (None, None);
    }

    fn to_json(&self, now: Instant) -> Value {
        let state = self.lock();
        let ms = |q: f64| match &state.latency {
            Some(h) if !h.is_empty() => json!(h.value_at_quantile(q) as f64 / 1000.0),
            _ => Value::Null,
        };
        let open_for = state.open.as_ref().map(|open| open.until.saturating_duration_since(now));
        let paused = self.limiter.paused();
        let shown = match open_for {
            Some(left) if left.is_zero() => "half_open",
            Some(_) => "open",
            None if !paused.is_zero() => "paused",
            None => "closed",
        };
        let whole_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let last = state.last_error.as_ref();
        json!({
            "name": self.name,
            "url": self.url,
            "weight": self.weight,
            "state": shown,
            "open_ms": whole_ms(open_for.unwrap_or_default()),
            "paused_ms": whole_ms(paused),
            "in_flight": self.in_flight(),
            "requests": state.requests,
            "failures": state.failures,
            "hedges": state.hedges,
            "latency_p50_ms": ms(0.5),
            "latency_p99_ms": ms(0.99),
            "last_error": last.map(|(_, text)| text),
            "last_error_at": last.map(|(at, _)| humantime::format_rfc3339_seconds(*at).to_string()),
        })
    }
}

impl State {
    fn failed(&mut self, now: Instant, quota: bool) {
        self.window.add(now, true);
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        let opens = match &self.open {
            // Requests that were under way when it opened say nothing new.
            Some(open) => open.until <= now,
            None => quota || self.failed_in_a_row >= FAILURES_IN_A_ROW || self.window.mostly_failed(),
        };
        if opens {
            let first = if quota { FIRST_OPEN_WITHOUT_QUOTA } else { FIRST_OPEN };
            let full = first.saturating_mul(1_u32.checked_shl(self.openings).unwrap_or(u32::MAX)).min(LONGEST_OPEN);
            self.openings = (self.openings + 1).min(16);
            // Servers that saw the same failures probe at different times.
            self.open = Some(Open { until: now + full.mul_f64(1.0 - 0.25 * fastrand::f64()), probe: None });
        }
    }

    fn record(&mut self, latency: Duration) {
        record(&mut self.latency, latency);
    }
}

fn record(histogram: &mut Option<Histogram<u64>>, latency: Duration) {
    if histogram.is_none() {
        // Two significant digits: some 10 KB. These bounds cannot fail.
        *histogram = Histogram::new_with_bounds(1, LONGEST, 2).ok();
    }
    if let Some(histogram) = histogram {
        histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST));
    }
}

impl Visit {
    /// Marks the request as a second one of its call.
    pub fn is_hedge(&mut self) {
        self.hedge = true;
    }

    /// The endpoint's health.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Whether it is the one request that is let through while the breaker is open.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    fn end(mut self, change: impl FnOnce(&mut State, &Self)) {
        self.done = true;
        let health = Arc::clone(&self.health);
        let mut state = health.lock();
        state.requests += 1;
        state.hedges += u64::from(self.hedge);
        if let Some(open) = state.open.as_mut().filter(|_| self.probe) {
            open.probe = None;
        }
        change(&mut state, &self);
    }

    /// The endpoint answered, perhaps with a refusal of the request.
    pub fn answered(self, now: Instant, latency: Option<Duration>) {
        self.end(|state, _| {
            state.window.add(now, false);
            (state.failed_in_a_row, state.openings, state.open) = (0, 0, None);
            if let Some(latency) = latency {
                state.record(latency);
            }
        });
    }

    /// The request failed.
    pub fn failed(self, now: Instant, blame: Blame, error: &str) {
        self.end(|state, _| {
            state.failures += 1;
            state.last_error = Some((SystemTime::now(), cut(error, 300).into_owned()));
            match blame {
                Blame::Endpoint => state.failed(now, false),
                Blame::Quota => state.failed(now, true),
                Blame::Doubtful | Blame::None => {}
            }
        });
    }

    /// Another endpoint was faster.
    pub fn overtaken(self, after: Duration) {
        self.end(|state, _| state.record(after));
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.done
            && let Some(open) = self.health.lock().open.as_mut().filter(|_| self.probe)
        {
            open.probe = None;
        }
    }
}

/// The endpoints of one registration.
pub struct Group {
    /// Their health, in the registration's order.
    pub endpoints: Vec<Arc<Health>>,
    turns: Mutex<Vec<i64>>,
    /// Hundredths of hedges that are left.
    hedges_left: AtomicU64,
    latencies: Mutex<Latencies>,
    /// Bytes of a vector; 0: none seen.
    width: AtomicUsize,
    /// Requests that went to other models.
    stood_in: AtomicU64,
    /// Whether `ml_status` has its endpoints.
    pub shown: bool,
    /// Whether hedges follow a percentile.
    by_percentile: bool,
}

#[derive(Default)]
struct Latencies {
    now: Option<Histogram<u64>>,
    before: Option<Histogram<u64>>,
    percentile: Option<(u8, Duration)>,
    news: u64,
}

/// All groups, by the registration's fingerprint. A changed registration may have other endpoints and gets a new one.
#[derive(Default)]
pub struct Groups {
    all: RwLock<HashMap<[u8; 32], Arc<Group>>>,
}

impl Groups {
    /// The group of a registration, made by `make` if there is none.
    pub fn of(&self, fingerprint: &[u8; 32], make: impl FnOnce() -> Group) -> Arc<Group> {
        if let Some(group) = self.all.read().unwrap_or_else(PoisonError::into_inner).get(fingerprint) {
            return Arc::clone(group);
        }
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_GROUPS {
            all.retain(|_, group| Arc::strong_count(group) > 1);
        }
        Arc::clone(all.entry(*fingerprint).or_insert_with(|| Arc::new(make())))
    }
}

impl Group {
    /// A group without endpoints yet. `shown`: whether `ml_status` has its endpoints. `by_percentile`: whether hedges follow
    /// a percentile; without it, none is kept.
    pub fn new(shown: bool, by_percentile: bool) -> Self {
        Group {
            endpoints: Vec::new(),
            turns: Mutex::default(),
            hedges_left: AtomicU64::new(0),
            latencies: Mutex::default(),
            width: AtomicUsize::new(0),
            stood_in: AtomicU64::new(0),
            shown,
            by_percentile,
        }
    }

    /// Adds an endpoint: its name, its URL, its weight and what limits its rate.
    pub fn add(&mut self, name: String, url: String, weight: u64, limiter: Arc<RateLimiter>) {
        self.endpoints.push(Arc::new(Health { name, url, weight, limiter, state: Mutex::default() }));
    }

    /// Whose turn it is among `candidates`: places and weights. Smooth weighted round robin, in which an endpoint counts
    /// the less the more requests it has under way.
    pub fn turn(&self, candidates: &[(usize, u64)]) -> Option<usize> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.resize(self.endpoints.len(), 0);
        let (mut total, mut best) = (0_i64, None::<(usize, i64)>);
        for (place, weight) in candidates {
            let busy = self.endpoints.get(*place).map_or(0, |health| health.in_flight());
            let share = i64::try_from(weight.max(&1) * 1_000_000 / (busy + 1)).unwrap_or(1).max(1);
            let Some(credit) = turns.get_mut(*place) else { continue };
            *credit = (*credit + share).clamp(-MOST_CREDIT, MOST_CREDIT);
            total += share;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((*place, *credit));
            }
        }
        let (place, _) = best?;
        if let Some(credit) = turns.get_mut(place) {
            *credit -= total;
        }
        Some(place)
    }

    /// Counts the first request of a call, which lets some of them be sent twice.
    pub fn sent(&self) {
        let more = |left: u64| Some((left + HEDGE_PERCENT).min(MOST_HEDGES));
        let _ = self.hedges_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether one more request may be sent twice; counts it.
    pub fn may_hedge(&self) -> bool {
        self.hedges_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(100)).is_ok()
    }

    /// Gives back what [`Self::may_hedge`] took.
    pub fn hedge_was_not_sent(&self) {
        self.hedges_left.fetch_add(100, Ordering::Relaxed);
    }

    /// Counts a latency, for percentiles.
    pub fn took(&self, latency: Duration) {
        if !self.by_percentile {
            return;
        }
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        record(&mut latencies.now, latency);
        latencies.news += 1;
        if latencies.now.as_ref().is_some_and(|now| now.len() >= GENERATION) {
            latencies.before = latencies.now.take();
        }
    }

    /// The time in which `percent` of the requests were answered lately; `None` while too few were.
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, time)) = latencies.percentile.filter(|(of, _)| *of == percent && latencies.news < NEWS) {
            return Some(time);
        }
        let mut all = latencies.now.clone().or_else(|| latencies.before.clone())?;
        if let (Some(before), true) = (&latencies.before, latencies.now.is_some()) {
            all.add(before).ok()?;
        }
        if all.len() < ENOUGH_LATENCIES {
            return None;
        }
        let time = Duration::from_micros(all.value_at_quantile(f64::from(percent) / 100.0));
        (latencies.percentile, latencies.news) = (Some((percent, time)), 0);
        Some(time)
    }

    /// Keeps the width of the first vector, in bytes; the first one if this one's differs.
    pub fn other_width(&self, bytes: usize) -> Option<usize> {
        match self.width.compare_exchange(0, bytes, Ordering::Relaxed, Ordering::Relaxed) {
            Err(first) if first != bytes => Some(first),
            _ => None,
        }
    }

    /// Counts a request that went to another model.
    pub fn stood_in(&self) {
        self.stood_in.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the counters to zero. What is known about the endpoints stays.
    pub fn reset(&self) {
        self.stood_in.store(0, Ordering::Relaxed);
        self.endpoints.iter().for_each(|health| health.reset());
    }

    /// The members for `ml_status`: none for a registration with one endpoint and no fallback.
    pub fn status(&self) -> Option<(Value, u64)> {
        let now = Instant::now();
        let endpoints = self.endpoints.iter().map(|health| health.to_json(now)).collect();
        self.shown.then(|| (Value::Array(endpoints), self.stood_in.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(weights: &[u64]) -> Group {
        let mut group = Group::new(true, true);
        for (i, weight) in weights.iter().enumerate() {
            group.add(i.to_string(), "https://h/".into(), *weight, Arc::default());
        }
        group
    }

    fn health() -> Arc<Health> {
        Arc::clone(&group(&[1]).endpoints[0])
    }

    /// The state of the breaker: `None` if it is closed, else how long it stays open.
    fn open_for(health: &Health, now: Instant) -> Option<Duration> {
        health.lock().open.as_ref().map(|open| open.until.saturating_duration_since(now))
    }

    #[test]
    fn turns_follow_the_weights_smoothly() {
        let group = group(&[3, 1]);
        let turns: Vec<usize> = (0..8).filter_map(|_| group.turn(&[(0, 3), (1, 1)])).collect();
        assert_eq!(turns, [0, 0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(group.turn(&[]), None);
    }

    #[test]
    fn failures_in_a_row_open_a_breaker_for_longer_each_time_and_one_probe_closes_it() {
        let (health, begin) = (health(), Instant::now());
        for i in 0..FAILURES_IN_A_ROW {
            assert_eq!(open_for(&health, begin), None, "after {i}");
            health.enter(begin).ok().unwrap().failed(begin, Blame::Endpoint, "down");
        }
        let mut now = begin;
        for most in [1, 2, 4, 8, 16, 32, 60, 60] {
            let left = open_for(&health, now).unwrap();
            let most = Duration::from_secs(most);
            assert!(left <= most && left >= most.mul_f64(0.75), "{left:?} of {most:?}");
            assert!(health.enter(now).is_err());
            now += left;
            let probe = health.enter(now).ok().unwrap();
            assert!(health.enter(now).is_err(), "there is one probe at a time");
            probe.failed(now, Blame::Endpoint, "down");
        }
        now += LONGEST_OPEN;
        drop(health.enter(now).ok().unwrap());
        let probe = health.enter(now).ok().unwrap();
        probe.answered(now, None);
        assert_eq!(open_for(&health, now), None);
        assert_eq!(health.lock().openings, 0);
    }

    #[test]
    fn a_probe_that_hangs_holds_others_back_for_a_while_only() {
        let (health, begin) = (health(), Instant::now());
        health.failed(begin, true);
        let now = begin + FIRST_OPEN_WITHOUT_QUOTA;
        let _hangs = health.enter(now).ok().unwrap();
        assert!(health.enter(now + LONGEST_PROBE - Duration::from_millis(1)).is_err());
        assert!(health.enter(now + LONGEST_PROBE).is_ok());
    }

    #[test]
    fn half_of_many_requests_open_a_breaker_and_doubtful_failures_do_not() {
        let (health, now) = (health(), Instant::now());
        for i in 0..ENOUGH_REQUESTS {
            assert_eq!(open_for(&health, now), None, "after {i}");
            match i % 2 {
                0 => health.force().answered(now, None),
                _ => health.force().failed(now, Blame::Endpoint, "fails"),
            }
        }
        assert!(open_for(&health, now).is_some());
        let health = self::health();
        for _ in 0..100 {
            health.force().failed(now, Blame::Doubtful, "500");
            health.force().failed(now, Blame::None, "400");
        }
        assert_eq!(open_for(&health, now), None);
        // Failures of long ago do not count.
        for i in 0..100 {
            let now = now + Duration::from_secs(11 * i);
            health.force().failed(now, Blame::Endpoint, "fails");
            health.force().answered(now, None);
        }
        assert_eq!(open_for(&health, now), None);
    }

    #[test]
    fn a_twentieth_of_the_requests_may_be_hedges() {
        let group = group(&[1, 1]);
        let mut hedges = 0;
        for _ in 0..1000 {
            group.sent();
            hedges += u32::from(group.may_hedge());
        }
        assert_eq!(hedges, 50);
        (0..10_000).for_each(|_| group.sent());
        assert_eq!((0..1000).filter(|_| group.may_hedge()).count(), 10, "no more are saved up");
    }

    #[test]
    fn a_percentile_is_of_the_latest_requests() {
        let group = group(&[1, 1]);
        assert_eq!(group.percentile(95), None);
        for i in 0..ENOUGH_LATENCIES {
            group.took(Duration::from_millis(if i % 20 == 0 { 500 } else { 10 }));
        }
        let p95 = group.percentile(95).unwrap().as_millis();
        assert!((9..=11).contains(&p95), "{p95}");
        for _ in 0..3 * GENERATION {
            group.took(Duration::from_millis(40));
        }
        let p95 = group.percentile(95).unwrap().as_millis();
        assert!((39..=41).contains(&p95), "{p95}");
    }

    #[test]
    fn a_vector_of_another_width_is_noticed() {
        let group = group(&[1, 1]);
        assert_eq!((group.other_width(32), group.other_width(32), group.other_width(16)), (None, None, Some(32)));
    }
}
