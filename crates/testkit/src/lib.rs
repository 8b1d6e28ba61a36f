//! Common parts of the integration tests and the developer commands: private MySQL servers, the library built for
//! them, SQL scripts, an X Protocol client, tiny models, and the environment that a server under test expects.

pub mod clients;
pub mod demo;
pub mod fetch;
pub mod fuzz;
pub mod golden;
pub mod library;
pub mod mysqld;
pub mod sqlscript;
pub mod surroundings;
pub mod tiny_model;
pub mod weights;
pub mod xprotocol;
