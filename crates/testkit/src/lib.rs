//! What the integration tests and the developer commands share: private MySQL servers, the library built for them, SQL
//! scripts, a client of the X Protocol, tiny models, and the surroundings that a server under test expects.

pub mod clients;
pub mod demo;
pub mod fetch;
pub mod fuzz;
pub mod library;
pub mod mysqld;
pub mod sqlscript;
pub mod surroundings;
pub mod tiny_model;
pub mod weights;
pub mod xprotocol;
