//! SQL on users' tables: layout, reading rows, writing vectors, trigger and event; and the notes of jobs.

pub mod configs;
pub mod expression;
pub mod layout;
pub mod marking;
pub mod progress;
pub mod rows;
pub mod statements;
