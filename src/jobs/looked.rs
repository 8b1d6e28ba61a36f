//! How far chunk tables were searched for rows that are gone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keys up to which chunk tables were searched for rows that are gone.
#[derive(Default)]
pub struct Looked(Mutex<HashMap<u64, Vec<u8>>>);

impl Looked {
    pub fn lock(&self) -> MutexGuard<'_, HashMap<u64, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
