//! State of automatically embedded columns between runs: rests after failures, and the last change of their tables.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::tables::configs::Place;

/// Rest of a column after a failed run; doubled each time.
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// Time until failed rows are tried again.
const FAILED_ROWS_REST: Duration = Duration::from_secs(60);

/// State of a column between the event's runs.
#[derive(Debug, Default)]
struct Watch {
    /// The table's last change, as the server reported it before a run that left nothing to do.
    seen: Option<String>,
    /// Time of the next run even without a change.
    again: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

/// Interval of checks for a failover, and columns in one check.
const LOOK: Duration = Duration::from_secs(20);
pub(super) const COLUMNS_A_LOOK: usize = 20;

/// State of all columns.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<HashMap<Place, Watch>>, Mutex<Looks>);

/// State of the checks for replicated events.
#[derive(Debug, Default)]
pub(super) struct Looks {
    next: Option<Instant>,
    /// Number of columns checked so far.
    columns: usize,
    /// Problems already written to the error log.
    pub reported: HashSet<Place>,
}

impl Watches {
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Watch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, place: &Place) {
        self.lock().remove(place);
    }

    pub(super) fn looks(&self) -> MutexGuard<'_, Looks> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a check is due, for one caller only; with the number of columns checked before.
    pub(super) fn look_is_due(&self, now: Instant) -> Option<usize> {
        let mut looks = self.looks();
        if looks.next.is_some_and(|next| now < next) {
            return None;
        }
        looks.next = Some(now + LOOK);
        looks.columns = looks.columns.wrapping_add(COLUMNS_A_LOOK);
        Some(looks.columns.wrapping_sub(COLUMNS_A_LOOK))
    }

    pub(super) fn rests(&self, place: &Place, now: Instant) -> bool {
        self.lock().get(place).and_then(|w| w.not_before).is_some_and(|at| now < at)
    }

    pub(super) fn has_seen(&self, place: &Place, change: Option<&str>, now: Instant) -> bool {
        let watches = self.lock();
        let Some(watch) = watches.get(place) else { return false };
        change.is_some() && watch.seen.as_deref() == change && watch.again.is_none_or(|at| now < at)
    }

    pub(super) fn succeeded(&self, place: &Place, change: Option<String>, failed_rows: bool, now: Instant) {
        let again = failed_rows.then(|| now + FAILED_ROWS_REST);
        let watch = Watch { seen: change, again, failures: 0, not_before: None };
        self.lock().insert(place.clone(), watch);
    }

    pub(super) fn failed(&self, place: &Place, now: Instant) {
        let mut watches = self.lock();
        let watch = watches.entry(place.clone()).or_default();
        let rest = FIRST_REST.saturating_mul(1 << watch.failures.min(10)).min(LONGEST_REST);
        watch.failures = watch.failures.saturating_add(1);
        watch.not_before = Some(now + rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { schema: "s".into(), table: "t".into(), embedding: "v".into() }
    }

    #[test]
    fn a_column_that_fails_rests_longer_each_time() {
        let (watches, now) = (Watches::default(), Instant::now());
        assert!(!watches.rests(&place(), now));
        let mut rests = Vec::new();
        for _ in 0..9 {
            watches.failed(&place(), now);
            let until = watches.lock().get(&place()).unwrap().not_before.unwrap();
            rests.push((until - now).as_secs());
        }
        assert_eq!(rests, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert!(watches.rests(&place(), now + Duration::from_secs(599)));
        assert!(!watches.rests(&place(), now + Duration::from_secs(600)));
        watches.succeeded(&place(), None, false, now);
        assert!(!watches.rests(&place(), now));
    }

    #[test]
    fn one_caller_looks_after_events_now_and_then() {
        let (watches, now) = (Watches::default(), Instant::now());
        assert_eq!(watches.look_is_due(now), Some(0));
        assert_eq!(watches.look_is_due(now + LOOK / 2), None);
        assert_eq!(watches.look_is_due(now + LOOK), Some(COLUMNS_A_LOOK));
    }

    #[test]
    fn a_table_without_changes_is_left_alone_but_for_rows_that_failed() {
        let (watches, now) = (Watches::default(), Instant::now());
        let change = Some("2026-01-01 00:00:00");
        assert!(!watches.has_seen(&place(), change, now));
        watches.succeeded(&place(), change.map(str::to_owned), false, now);
        assert!(watches.has_seen(&place(), change, now));
        assert!(!watches.has_seen(&place(), Some("2026-01-01 00:00:01"), now));
        assert!(!watches.has_seen(&place(), None, now), "after a restart the server does not know");
        watches.succeeded(&place(), change.map(str::to_owned), true, now);
        assert!(watches.has_seen(&place(), change, now));
        assert!(!watches.has_seen(&place(), change, now + FAILED_ROWS_REST));
        watches.succeeded(&place(), None, false, now);
        assert!(!watches.has_seen(&place(), None, now), "a change that was too young is not remembered");
    }
}
