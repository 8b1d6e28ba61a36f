//! Jobs on users' tables: `ml_embed_table` and automatic embeddings.

mod at_work;
mod auto_embed;
mod embed_table;
mod watches;

use once_cell::sync::Lazy;

use mysql_ml_core::engine::Engine;

use self::at_work::AtWork;
use self::watches::Watches;
use crate::registry::engine::engine;

/// The jobs of the process: their engine and shared state.
pub struct Jobs {
    engine: &'static Engine,
    watches: Watches,
    at_work: AtWork,
}

impl Jobs {
    /// The jobs of this server.
    pub fn global() -> &'static Jobs {
        static JOBS: Lazy<Jobs> =
            Lazy::new(|| Jobs { engine: engine(), watches: Watches::default(), at_work: AtWork::default() });
        &JOBS
    }
}
