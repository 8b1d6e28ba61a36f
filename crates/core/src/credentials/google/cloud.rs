//! Which project of Google Cloud a call is made in.

use super::hosts;

/// What is known of the cloud project a call is made in: where a model's URL does not say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cloud {
    /// The project's id.
    pub project: Option<String>,
    /// The location (region).
    pub location: Option<String>,
    /// Other hosts than Google's own.
    pub hosts: hosts::Hosts,
}
