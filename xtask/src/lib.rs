//! What the developer commands and the integration tests share.

pub mod bench;
pub mod clients;
pub mod container;
pub mod demo;
pub mod dist;
pub mod endpoint;
pub mod fetch;
pub mod fuzz;
pub mod library;
pub mod mysqld;
pub mod sqlscript;
pub mod surroundings;
pub mod tiny_model;
pub mod weights;
pub mod xprotocol;
