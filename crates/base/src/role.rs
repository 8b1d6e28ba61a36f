//! Roles of embedded texts.

/// What a text is embedded as, where a model makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Something that is stored and will be searched.
    Document,
    /// Something that is searched for.
    Query,
}
