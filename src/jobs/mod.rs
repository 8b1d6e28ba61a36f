//! Jobs on users' tables: `ml_embed_table`, automatic embeddings, chunk tables, vector indexes and their searches; and the engine whose calls look after them.

mod at_work;
mod auto_embed;
mod chunks;
mod embed_table;
mod generate_table;
mod looked;
pub mod query;
mod rights;
mod same_texts;
pub mod search;
mod table_job;
mod vector_index;
mod watches;

use once_cell::sync::Lazy;

use mysql_ml_core::engine::Engine;

use self::at_work::AtWork;
use self::watches::Watches;
use crate::registry::keyring_reader::ServerKeyring;
use crate::registry::sql_store::SqlStore;

/// The jobs of the process: their engine and shared state.
pub struct Jobs {
    engine: &'static Engine,
    watches: Watches,
    at_work: AtWork,
    /// Vector indexes and chunk tables under work.
    indexing: AtWork,
    searches: search::Searches,
    looked: looked::Looked,
}

impl Jobs {
    /// The jobs of this server.
    pub fn global() -> &'static Jobs {
        static JOBS: Lazy<Jobs> = Lazy::new(|| Jobs {
            engine: engine(),
            watches: Watches::default(),
            at_work: AtWork::default(),
            indexing: AtWork::default(),
            searches: search::Searches::default(),
            looked: looked::Looked::default(),
        });
        &JOBS
    }
}

/// The one engine of the process. Its calls do the jobs' periodic work.
pub fn engine() -> &'static Engine {
    static ENGINE: Lazy<Engine> = Lazy::new(|| {
        mysql_ml_base::counters::refresh_by(|| engine().observe());
        let store = SqlStore { upkeep: |interrupt| Jobs::global().look_after_jobs(interrupt) };
        Engine::new(Box::new(store), Box::new(ServerKeyring))
    });
    &ENGINE
}
