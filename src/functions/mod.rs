//! The SQL surface: one file a family of functions. They read arguments, call the engine and return.

pub mod version;
