//! Counters of each model since the server's start or the last reset.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use serde_json::{json, Map, Value};

use super::health::Group;
use super::rate_limit::RateLimiter;
use crate::catalog::model::{Model, ProviderId};
use crate::providers::usage::Usage;
use crate::registration::google_presets;
use mysql_ml_base::counters;
use mysql_ml_base::error::{Error, Kind};

/// Models beyond this number are counted together under [`OTHERS`].
const MAX_MODELS: usize = 2000;

/// Their name in `ml_status`.
const OTHERS: &str = "(others)";

/// The largest recorded latency, microseconds.
const LONGEST: u64 = 3_600_000_000;

/// The counters of one model, shared by all its calls.
#[derive(Default)]
pub struct Meter {
    /// Its rate limiter, for `ml_status`.
    limiter: Mutex<Weak<RateLimiter>>,
    /// Its endpoints, for `ml_status`.
    endpoints: Mutex<Weak<Group>>,
    calls: AtomicU64,
    cache_hits: AtomicU64,
    disk_hits: AtomicU64,
    shared: AtomicU64,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    requests: u64,
    texts: u64,
    tokens_in: u64,
    tokens_out: u64,
    retries: u64,
    errors: BTreeMap<String, u64>,
    latency: Option<Histogram<u64>>,
}

impl Meter {
    /// Sets the rate limiter of the model's requests.
    pub fn paced_by(&self, limiter: &Arc<RateLimiter>) {
        *self.limiter.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(limiter);
    }

    /// Sets the endpoints of the model's requests.
    pub fn served_by(&self, group: &Arc<Group>) {
        *self.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(group);
    }

    fn endpoints(&self) -> Option<Arc<Group>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    fn current_limiter(&self) -> Arc<RateLimiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner).upgrade().unwrap_or_default()
    }

    /// Counts a function call.
    pub fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        counters::CALLS.add(1);
    }

    /// Counts a hit in memory.
    pub fn hit(&self) {
        self.cache_hits.fetch_add(1, Ordering::Relaxed);
        counters::CACHE_HITS.add(1);
    }

    /// Counts a hit on disk.
    pub fn disk_hit(&self) {
        self.disk_hits.fetch_add(1, Ordering::Relaxed);
        counters::CACHE_DISK_HITS.add(1);
    }

    /// Counts a result shared by another session's request.
    pub fn shared(&self) {
        self.shared.fetch_add(1, Ordering::Relaxed);
        counters::CACHE_SHARED.add(1);
    }

    fn count(&self, change: impl FnOnce(&mut Counted)) {
        change(&mut self.counted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a sent request; `again`: a retry.
    pub fn requested(&self, again: bool) {
        self.count(|c| {
            c.requests += 1;
            c.retries += u64::from(again);
        });
        counters::REQUESTS.add(1);
        counters::RETRIES.add(u64::from(again));
    }

    /// Undoes [`Self::requested`] for a request that was not sent; `again` as in that call.
    pub fn not_sent(&self, again: bool) {
        self.count(|c| {
            c.requests = c.requests.saturating_sub(1);
            c.retries = c.retries.saturating_sub(u64::from(again));
        });
        counters::REQUESTS.sub(1);
        counters::RETRIES.sub(u64::from(again));
    }

    /// Counts an answer after `latency`.
    pub fn answered(&self, latency: Duration) {
        self.count(|c| {
            if c.latency.is_none() {
                // Two significant digits: some 10 KB a model. These bounds cannot fail.
                c.latency = Histogram::new_with_bounds(1, LONGEST, 2).ok();
            }
            if let Some(histogram) = &mut c.latency {
                histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST));
            }
        });
        counters::ANSWERS.add(1);
        counters::add_time(&counters::ANSWER_MICROSECONDS, latency);
    }

    /// Counts embedded texts and tokens.
    pub fn used(&self, texts: u64, usage: Usage) {
        self.count(|c| {
            c.texts += texts;
            c.tokens_in = c.tokens_in.saturating_add(usage.input.unwrap_or(0));
            c.tokens_out = c.tokens_out.saturating_add(usage.output.unwrap_or(0));
        });
        counters::TEXTS.add(texts);
        counters::TOKENS_IN.add(usage.input.unwrap_or(0));
        counters::TOKENS_OUT.add(usage.output.unwrap_or(0));
    }

    /// Counts a failed call by its kind.
    pub fn failed(&self, error: &Error) {
        self.count(|c| *c.errors.entry(kind_name(error.kind())).or_default() += 1);
        error.symbol().failures().add(1);
    }

    fn reset(&self) {
        self.calls.store(0, Ordering::Relaxed);
        for counter in [&self.cache_hits, &self.disk_hits, &self.shared] {
            counter.store(0, Ordering::Relaxed);
        }
        self.count(|c| *c = Counted::default());
        if let Some(group) = self.endpoints() {
            group.reset();
        }
    }

    fn is_empty(&self) -> bool {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        self.calls.load(Ordering::Relaxed) == 0 && counted.requests == 0 && self.current_limiter().in_flight() == 0
    }

    fn to_json(&self) -> Value {
        let c = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = |q: f64| match &c.latency {
            Some(h) if !h.is_empty() => json!(h.value_at_quantile(q) as f64 / 1000.0),
            _ => Value::Null,
        };
        let limiter = self.current_limiter();
        let mut shown = json!({
            "calls": self.calls.load(Ordering::Relaxed),
            "cache_hits": self.cache_hits.load(Ordering::Relaxed),
            "disk_hits": self.disk_hits.load(Ordering::Relaxed),
            "shared": self.shared.load(Ordering::Relaxed),
            "requests": c.requests,
            "retries": c.retries,
            "texts": c.texts,
            "tokens_in": c.tokens_in,
            "tokens_out": c.tokens_out,
            "errors": c.errors,
            "latency_p50_ms": ms(0.5),
            "latency_p99_ms": ms(0.99),
            "in_flight": limiter.in_flight(),
            "paused_ms": u64::try_from(limiter.paused().as_millis()).unwrap_or(u64::MAX),
        });
        let status = self.endpoints().and_then(|group| group.status());
        if let (Some((endpoints, stood_in)), Some(shown)) = (status, shown.as_object_mut()) {
            shown.insert("endpoints".into(), endpoints);
            shown.insert("fallback_requests".into(), stood_in.into());
        }
        shown
    }
}

/// The error kind's name in `ml_status`.
fn kind_name(kind: Kind) -> String {
    match kind {
        Kind::Invalid => "invalid",
        Kind::NotFound => "not_found",
        Kind::AlreadyExists => "already_exists",
        Kind::Denied => "denied",
        Kind::Connection => "connection",
        Kind::Timeout => "timeout",
        Kind::Provider(status) => return format!("http_{status}"),
        Kind::Response => "response",
        Kind::TooLarge => "too_large",
        Kind::Busy | Kind::NoTurn => "busy",
        Kind::Memory => "memory",
        Kind::Interrupted(_) => "interrupted",
        Kind::Server(_) => "server",
        Kind::Unsupported => "unsupported",
        Kind::Internal => "internal",
    }
    .into()
}

/// The models that were called.
pub struct Meters {
    since: Mutex<SystemTime>,
    models: RwLock<HashMap<String, Arc<Meter>>>,
}

impl Default for Meters {
    fn default() -> Self {
        Meters { since: Mutex::new(SystemTime::now()), models: RwLock::default() }
    }
}

impl Meters {
    /// A model's meter.
    pub fn of(&self, model_id: &str) -> Arc<Meter> {
        if let Some(found) = self.models.read().unwrap_or_else(PoisonError::into_inner).get(model_id) {
            return Arc::clone(found);
        }
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let id = if models.len() >= MAX_MODELS && !models.contains_key(model_id) { OTHERS } else { model_id };
        Arc::clone(models.entry(id.to_owned()).or_default())
    }

    /// Resets the counters. Rate limiters stay: a provider's limits do not end with our counters.
    pub fn reset(&self) {
        for activity in self.models.read().unwrap_or_else(PoisonError::into_inner).values() {
            activity.reset();
        }
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = SystemTime::now();
    }

    /// Everything, as a JSON document.
    pub fn to_json(&self, cache: Value, local: Value) -> String {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let counted: BTreeMap<&str, &Arc<Meter>> =
            models.iter().filter(|(_, a)| !a.is_empty()).map(|(id, a)| (id.as_str(), a)).collect();
        let models: Map<String, Value> = counted.into_iter().map(|(id, a)| (id.to_owned(), a.to_json())).collect();
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let since = humantime::format_rfc3339_seconds(since).to_string();
        let memory = mysql_ml_base::memory::status();
        json!({"since": since, "cache": cache, "memory": memory, "local": local, "models": models}).to_string()
    }
}

/// The id for counting. Google models outside the built-in catalogue share one, because their ids are unbounded.
pub(super) fn counted_as(model: &Model) -> &str {
    if model.built_in && model.api == ProviderId::Google && !google_presets::BUILT_IN.contains(&model.model_id.as_str())
    {
        "(other models of Google)"
    } else {
        &model.model_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_reported_and_reset() {
        let status = Meters::default();
        let model = status.of("m");
        model.called();
        model.requested(false);
        model.requested(true);
        model.answered(Duration::from_millis(20));
        model.used(3, Usage { input: Some(12), output: None });
        model.failed(&Error::new(Kind::Provider(429), "x"));
        let shown: Value = serde_json::from_str(&status.to_json(json!({}), json!({}))).unwrap();
        let m = shown.pointer("/models/m").unwrap();
        for (name, value) in [("calls", 1), ("requests", 2), ("retries", 1), ("texts", 3), ("tokens_in", 12)] {
            assert_eq!(m.get(name).and_then(Value::as_u64), Some(value), "{name}");
        }
        assert_eq!(m.pointer("/errors/http_429").and_then(Value::as_u64), Some(1));
        let p50 = m.get("latency_p50_ms").and_then(Value::as_f64).unwrap();
        assert!((19.0..21.0).contains(&p50), "{p50}");
        status.reset();
        let shown: Value = serde_json::from_str(&status.to_json(json!({}), json!({}))).unwrap();
        assert_eq!(shown.pointer("/models").unwrap(), &json!({}));
    }

    #[test]
    fn the_number_of_models_is_bounded() {
        let status = Meters::default();
        for i in 0..MAX_MODELS + 10 {
            status.of(&format!("m{i}")).called();
        }
        assert!(status.models.read().unwrap().len() <= MAX_MODELS + 1);
    }
}
