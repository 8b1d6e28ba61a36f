//! The columns under work: two jobs on one column would send every row twice.
//!
//! Kept in the process, of which a server has one. Any account that knows its name could take a named lock of the
//! server.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::tables::configs::Place;
use crate::tables::layout::quoted;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{Interrupt, Waiting, POLL};
use mysql_ml_base::wait::Wait;

/// How long a job waits for another one that is ending.
const PATIENCE: Duration = Duration::from_secs(1);

/// The columns and the accounts of their jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct AtWork(Arc<State>);

#[derive(Debug, Default)]
struct State {
    columns: Mutex<HashMap<Place, String>>,
    /// Whether a job ended without a note of its end.
    end_is_missing: AtomicBool,
}

/// Reserved columns; released when the last copy is dropped.
#[derive(Debug)]
pub(super) struct Held {
    columns: AtWork,
    places: Vec<Place>,
    end_is_noted: AtomicBool,
}

impl Held {
    /// Records that the table of progress has the job's end.
    pub fn end_is_noted(&self) {
        self.end_is_noted.store(true, Ordering::Relaxed);
    }
}

impl AtWork {
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, String>> {
        self.0.columns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a job ended without a note since the last call.
    pub fn end_is_missing(&self) -> bool {
        self.0.end_is_missing.swap(false, Ordering::Relaxed)
    }

    /// Reserves columns for a job of `account`, all or none; an error names the account of a running job.
    pub fn hold(&self, places: &[Place], account: &str, interrupt: &dyn Interrupt) -> Result<Arc<Held>> {
        let end = Instant::now() + PATIENCE;
        let mut waiting = None;
        loop {
            let (place, holder) = {
                let mut columns = self.lock();
                match places.iter().find_map(|place| Some((place, columns.get(place)?))) {
                    None => {
                        columns.extend(places.iter().map(|place| (place.clone(), account.to_owned())));
                        let (columns, end_is_noted) = (self.clone(), AtomicBool::new(false));
                        return Ok(Arc::new(Held { columns, places: places.to_vec(), end_is_noted }));
                    }
                    Some((place, holder)) => (place, holder.clone()),
                }
            };
            if Instant::now() >= end {
                return Err(Error::new(
                    Kind::Busy,
                    format!(
                        "column {} of {}.{} is being worked on by another session, of {holder}; wait for its end, or KILL it",
                        place.embedding,
                        quoted(&place.schema),
                        quoted(&place.table)
                    ),
                ));
            }
            interrupt.check()?;
            waiting.get_or_insert_with(|| Waiting::begin(interrupt, Wait::Column));
            std::thread::sleep(POLL);
        }
    }

    /// All reserved columns, with the accounts of their jobs.
    pub fn all(&self) -> HashSet<(Place, String)> {
        self.lock().iter().map(|(place, holder)| (place.clone(), holder.clone())).collect()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut columns = self.columns.lock();
        for place in &self.places {
            columns.remove(place);
        }
        drop(columns);
        if !self.end_is_noted.load(Ordering::Relaxed) {
            self.columns.0.end_is_missing.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_ml_base::interrupt::Never;

    #[test]
    #[allow(clippy::panic)]
    fn a_column_is_free_again_however_its_job_ends() {
        let columns = AtWork::default();
        let place = Place { schema: "s".into(), table: "t".into(), embedding: "v".into() };
        let other = Place { embedding: "w".into(), ..place.clone() };
        let held = columns.hold(&[other.clone(), place.clone()], "a@b", &Never).unwrap();
        assert!(columns.hold(std::slice::from_ref(&other), "c@d", &Never).is_err(), "each of them is reserved");
        let place = [place];
        let error = columns.hold(&place, "c@d", &Never).unwrap_err();
        assert!(error.message().contains("by another session, of a@b"), "{error}");
        assert!(columns.all().contains(&(place[0].clone(), "a@b".to_owned())));
        let writer = Arc::clone(&held);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = held;
            panic!("the job");
        }));
        assert!(ended.is_err());
        assert!(columns.hold(&place, "c@d", &Never).is_err(), "a session of it still writes");
        assert!(!columns.end_is_missing(), "it may still note its end");
        drop(writer);
        assert!(columns.end_is_missing());
        assert!(!columns.end_is_missing(), "one caller is told");
        columns.hold(&place, "c@d", &Never).unwrap().end_is_noted();
        assert!(!columns.end_is_missing());
    }
}
