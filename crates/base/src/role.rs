//! Roles of embedded texts.

/// The role of an embedded text, for models with different prompts or vectors for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A stored text that will be searched.
    Document,
    /// A search query.
    Query,
}
