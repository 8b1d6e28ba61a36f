//! What the developer commands and the integration tests share.
