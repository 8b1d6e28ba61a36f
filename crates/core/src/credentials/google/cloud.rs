//! The Google Cloud project of a call.

use super::hosts;

/// The cloud project and location, for models whose URL names none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cloud {
    /// The project's id.
    pub project: Option<String>,
    /// The location (region).
    pub location: Option<String>,
    /// Other hosts than Google's own.
    pub hosts: hosts::Hosts,
}
