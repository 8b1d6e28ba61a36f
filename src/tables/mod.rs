//! Users' tables: how they are laid out, the SQL that reads rows to embed and writes their vectors, and what marks rows
//! whose text changed.

pub mod configs;
pub mod expression;
pub mod layout;
pub mod marking;
pub mod progress;
pub mod rows;
pub mod statements;
