//! Work on users' tables: rows to embed, and columns that are kept embedded.

mod at_work;
mod auto_embed;
mod embed_table;
mod watches;

use once_cell::sync::Lazy;

use mysql_ml_core::engine::Engine;

use self::at_work::AtWork;
use self::watches::Watches;
use crate::registry::engine::engine;

/// The jobs of the process: their engine, and what they know of each other.
pub struct Jobs {
    engine: &'static Engine,
    watches: Watches,
    at_work: AtWork,
}

impl Jobs {
    /// Those of the server this library is loaded into.
    pub fn global() -> &'static Jobs {
        static JOBS: Lazy<Jobs> =
            Lazy::new(|| Jobs { engine: engine(), watches: Watches::default(), at_work: AtWork::default() });
        &JOBS
    }
}
