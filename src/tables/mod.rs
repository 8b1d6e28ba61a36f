//! Users' tables: how they are laid out, and the SQL that reads rows to embed and writes their vectors.

pub mod layout;
pub mod statements;
