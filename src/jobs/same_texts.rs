//! Rows of a job with equal texts: each text is sent once and has one result, within bounds of memory.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::tables::statements::Found;

/// The most rows that wait for the result of a text that is under way.
const MOST_WAITING: usize = 16_384;

/// The most distinct texts that are remembered, and the bytes of their results together.
const MOST_REMEMBERED: usize = 100_000;
const MOST_REMEMBERED_BYTES: usize = 16 << 20;

/// Texts that were sent, by their digest.
enum Sent {
    /// Rows that wait for the same text's result.
    UnderWay(Vec<Found>),
    /// The result.
    Known(Arc<[u8]>),
}

/// The texts that were sent.
#[derive(Default)]
pub(super) struct SameTexts {
    sent: HashMap<[u8; 32], Sent>,
    /// Bytes of the known results.
    remembered: usize,
    /// Rows that wait.
    waiting: usize,
}

/// What is known of a row's text.
pub(super) enum Seen {
    /// Nothing: it is to be sent.
    New(Found),
    /// It is under way, and the row waits for its result.
    Waits,
    /// Its result.
    Known(Found, Arc<[u8]>),
}

impl SameTexts {
    /// Whether no further row may wait.
    pub fn is_full(&self) -> bool {
        self.waiting >= MOST_WAITING
    }

    /// Looks a row's text up.
    pub fn see(&mut self, found: Found) -> Seen {
        let key = digest(&found);
        match self.sent.get_mut(&key) {
            Some(Sent::UnderWay(rows)) => {
                rows.push(found);
                self.waiting += 1;
                Seen::Waits
            }
            Some(Sent::Known(bytes)) => {
                let bytes = Arc::clone(bytes);
                Seen::Known(found, bytes)
            }
            None => {
                if self.sent.len() < MOST_REMEMBERED {
                    self.sent.insert(key, Sent::UnderWay(Vec::new()));
                }
                Seen::New(found)
            }
        }
    }

    /// Takes note of the result of a row that was sent; `None`: it failed. Returns the rows that waited for it.
    pub fn done(&mut self, found: &Found, bytes: Option<&Arc<[u8]>>) -> Vec<Found> {
        let key = digest(found);
        let rows = match self.sent.remove(&key) {
            Some(Sent::UnderWay(rows)) => rows,
            _ => Vec::new(),
        };
        self.waiting = self.waiting.saturating_sub(rows.len());
        if let Some(bytes) = bytes.filter(|bytes| self.remembered + bytes.len() <= MOST_REMEMBERED_BYTES) {
            self.remembered += bytes.len();
            self.sent.insert(key, Sent::Known(Arc::clone(bytes)));
        }
        rows
    }
}

/// The digest of a row's text.
fn digest(found: &Found) -> [u8; 32] {
    Sha256::digest(found.content.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_ml_base::memory::Reservation;

    fn row(key: usize, text: &str) -> Found {
        Found { key: vec![key.to_string()], content: text.into(), share: Reservation::default() }
    }

    fn keys(rows: &[Found]) -> Vec<&str> {
        rows.iter().flat_map(|row| &row.key).map(String::as_str).collect()
    }

    #[test]
    fn rows_with_the_same_text_wait_for_its_result_and_later_ones_have_it() {
        let mut texts = SameTexts::default();
        let first = row(1, "a");
        assert!(matches!(texts.see(row(1, "a")), Seen::New(_)));
        assert!(matches!(texts.see(row(2, "a")), Seen::Waits));
        assert!(matches!(texts.see(row(3, "b")), Seen::New(_)));
        assert!(matches!(texts.see(row(4, "a")), Seen::Waits));
        let result: Arc<[u8]> = b"x"[..].into();
        assert_eq!(keys(&texts.done(&first, Some(&result))), ["2", "4"]);
        assert!(matches!(texts.see(row(5, "a")), Seen::Known(found, bytes) if found.key == ["5"] && *bytes == *b"x"));
        // A text that failed is sent again.
        assert!(texts.done(&row(3, "b"), None).is_empty());
        assert!(matches!(texts.see(row(6, "b")), Seen::New(_)));
    }

    #[test]
    fn waiting_rows_are_bounded_and_leave_room_when_they_have_their_result() {
        let mut texts = SameTexts::default();
        texts.see(row(0, "a"));
        for key in 0..MOST_WAITING {
            assert!(!texts.is_full(), "{key}");
            texts.see(row(key, "a"));
        }
        assert!(texts.is_full());
        assert_eq!(texts.done(&row(0, "a"), None).len(), MOST_WAITING);
        assert!(!texts.is_full());
    }

    #[test]
    fn results_are_remembered_up_to_their_bytes_together() {
        let mut texts = SameTexts::default();
        let large: Arc<[u8]> = vec![0; MOST_REMEMBERED_BYTES / 4].into();
        for key in 0..5 {
            let found = row(key, &key.to_string());
            texts.see(row(key, &key.to_string()));
            texts.done(&found, Some(&large));
        }
        let known = |texts: &mut SameTexts, key: usize| matches!(texts.see(row(9, &key.to_string())), Seen::Known(..));
        assert!((0..4).all(|key| known(&mut texts, key)));
        assert!(!known(&mut texts, 4), "the fifth is more than the bound");
    }

    #[test]
    fn distinct_texts_are_remembered_up_to_their_number() {
        let mut texts = SameTexts::default();
        for key in 0..=MOST_REMEMBERED {
            assert!(matches!(texts.see(row(key, &key.to_string())), Seen::New(_)));
        }
        assert!(matches!(texts.see(row(0, &MOST_REMEMBERED.to_string())), Seen::New(_)), "it is sent once more");
        assert!(matches!(texts.see(row(0, "7")), Seen::Waits));
    }
}
