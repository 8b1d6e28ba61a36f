//! Work on other threads: the pools it runs on, and how a waiting statement hears that it was stopped.

pub mod interrupt;
pub mod shares;
pub mod workers;
