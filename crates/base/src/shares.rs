//! Fair shares of bounded places, so that slow work of one account or model does not block others.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::error::Result;
use crate::interrupt::{Interrupt, POLL};

/// The owner of work. Work without an account or a source is limited by the total only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Share {
    /// The account whose statement needs the work.
    pub account: Option<Arc<str>>,
    /// The possible cause of slowness: a model, or the account whose functions are called.
    pub source: Option<Arc<str>>,
}

impl fmt::Display for Share {
    /// Empty, or with a trailing blank, for use inside a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(account) = &self.account {
            write!(f, "of account {account} ")?;
        }
        match &self.source {
            Some(source) => write!(f, "for {source} "),
            None => Ok(()),
        }
    }
}

/// Places. No share takes more than half of those that the others leave, so some remain for the next share. Every share
/// may take one while any is free.
///
/// The rule holds for each account, for each source, and for each source within its account's limit.
pub struct Places {
    most: usize,
    taken: usize,
    accounts: HashMap<Arc<str>, usize>,
    sources: HashMap<Arc<str>, usize>,
    shares: HashMap<Share, usize>,
}

/// The limit of a share that holds `own` of the `taken` places, out of `most`.
fn half(most: usize, taken: usize, own: usize) -> usize {
    most.saturating_sub(taken.saturating_sub(own)).div_ceil(2).max(1)
}

fn count<K: Hash + Eq>(of: &HashMap<K, usize>, key: &K) -> usize {
    of.get(key).copied().unwrap_or(0)
}

fn give<K: Hash + Eq>(of: &mut HashMap<K, usize>, key: &K) {
    if let Some(n) = of.get_mut(key) {
        *n = n.saturating_sub(1);
        if *n == 0 {
            of.remove(key);
        }
    }
}

impl Places {
    /// `most` places, all free.
    pub fn new(most: usize) -> Self {
        let (accounts, sources, shares) = Default::default();
        Places { most, taken: 0, accounts, sources, shares }
    }

    /// Number of taken places.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Whether the share may take one more.
    pub fn has_room(&self, share: &Share) -> bool {
        if self.taken >= self.most {
            return false;
        }
        let (mut within, mut own_of) = (self.most, self.taken);
        if let Some(account) = &share.account {
            let own = count(&self.accounts, account);
            within = half(self.most, self.taken, own);
            own_of = own;
            if own >= within {
                return false;
            }
        }
        let Some(source) = &share.source else { return true };
        let own = count(&self.sources, source);
        let both = count(&self.shares, share);
        own < half(self.most, self.taken, own) && both < half(within, own_of, both)
    }

    /// Takes one, even beyond the limit.
    pub fn take(&mut self, share: &Share) {
        self.taken += 1;
        if let Some(account) = &share.account {
            *self.accounts.entry(Arc::clone(account)).or_default() += 1;
        }
        if let Some(source) = &share.source {
            *self.sources.entry(Arc::clone(source)).or_default() += 1;
        }
        *self.shares.entry(share.clone()).or_default() += 1;
    }

    /// Releases one.
    pub fn give(&mut self, share: &Share) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(account) = &share.account {
            give(&mut self.accounts, account);
        }
        if let Some(source) = &share.source {
            give(&mut self.sources, source);
        }
        give(&mut self.shares, share);
    }
}

/// Places for statements, which wait for them on their own thread.
pub struct Turns {
    places: Mutex<Places>,
    changed: Condvar,
}

/// A place among [`Turns`]; released on drop.
pub struct Turn<'t> {
    turns: &'t Turns,
    share: Share,
}

impl Turns {
    /// `most` places.
    pub fn new(most: usize) -> Self {
        Turns { places: Mutex::new(Places::new(most)), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of taken places.
    pub fn taken(&self) -> usize {
        self.lock().taken()
    }

    /// Waits for a place until `deadline`.
    pub fn take(&self, share: Share, deadline: Instant, interrupt: &dyn Interrupt) -> Result<Option<Turn<'_>>> {
        let mut places = self.lock();
        loop {
            if places.has_room(&share) {
                places.take(&share);
                return Ok(Some(Turn { turns: self, share }));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            drop(places);
            interrupt.check()?;
            places = self.changed.wait_timeout(self.lock(), POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().give(&self.share);
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Never;

    fn share(account: &str, source: Option<&str>) -> Share {
        Share { account: Some(account.into()), source: source.map(Into::into) }
    }

    fn fill(places: &mut Places, share: &Share) -> usize {
        (0..).take_while(|_| places.has_room(share).then(|| places.take(share)).is_some()).count()
    }

    #[test]
    fn however_many_take_what_they_can_the_next_one_finds_a_place() {
        let mut places = Places::new(64);
        let taken: Vec<usize> = ["a", "b", "c", "d", "e"].map(|a| fill(&mut places, &share(a, None))).into();
        assert_eq!(taken, [32, 16, 8, 4, 2]);
        places.give(&share("a", None));
        assert!(!places.has_room(&share("a", None)), "its share is smaller since the others came");
        assert!(places.has_room(&share("f", None)));
    }

    #[test]
    fn a_slow_source_leaves_room_for_the_same_accounts_others_and_for_other_accounts() {
        let mut places = Places::new(64);
        assert_eq!(fill(&mut places, &share("a", Some("slow"))), 16);
        assert_eq!(fill(&mut places, &share("a", Some("other"))), 8);
        for account in ["b", "c", "d", "e", "f", "g", "h"] {
            fill(&mut places, &share(account, Some("slow")));
        }
        assert!(places.has_room(&share("i", Some("other"))));
    }

    #[test]
    fn work_of_nobody_in_particular_is_bounded_by_the_whole() {
        let mut places = Places::new(10);
        assert_eq!(fill(&mut places, &Share::default()), 10);
        assert!(!places.has_room(&share("a", None)));
        (0..10).for_each(|_| places.give(&Share::default()));
        assert_eq!(places.taken(), 0);
        assert!(places.accounts.is_empty() && places.sources.is_empty() && places.shares.is_empty());
    }

    #[test]
    fn a_turn_is_waited_for_and_given_back() {
        let turns = Turns::new(2);
        let now = Instant::now();
        let first = turns.take(share("a", None), now, &Never).unwrap();
        assert!(first.is_some());
        assert!(turns.take(share("a", None), now, &Never).unwrap().is_none());
        drop(first);
        assert!(turns.take(share("a", None), now, &Never).unwrap().is_some());
    }
}
