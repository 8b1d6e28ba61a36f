//! The engine of the server this library is loaded into.

use once_cell::sync::Lazy;

use mysql_ml_core::engine::Engine;

use super::keyring_reader::ServerKeyring;
use super::sql_store::SqlStore;

/// The one engine of the process.
pub fn engine() -> &'static Engine {
    static ENGINE: Lazy<Engine> = Lazy::new(|| Engine::new(Box::new(SqlStore), Box::new(ServerKeyring)));
    &ENGINE
}
