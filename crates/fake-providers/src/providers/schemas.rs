//! The JSON Schemas that services accept; each file refuses the schemas that a service does not support.

pub(super) mod closed;
pub(super) mod gemini;
pub(super) mod openai;
