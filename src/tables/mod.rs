//! SQL on users' tables: layout, reading rows, writing vectors, trigger and event; and the notes of jobs.

pub mod changes;
pub mod chunk_rows;
pub mod chunk_tables;
pub mod chunk_triggers;
pub mod configs;
pub mod expression;
pub mod keyed;
pub mod layout;
pub mod marking;
pub mod progress;
pub mod recorder;
pub mod rows;
pub mod statements;
pub mod values;
pub mod vector_indexes;
pub mod vector_triggers;
