//! Which JSON Schemas the services take; each file refuses what one of them does not support.

pub(super) mod closed;
pub(super) mod gemini;
pub(super) mod openai;
