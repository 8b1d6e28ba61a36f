//! What requests are allowed to do, and by which way they go.

use std::time::Duration;

use super::egress::Allowlist;

/// The network policy: where requests may go, how, and how much may come back.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkPolicy {
    /// The time one connection may take.
    pub connect_timeout: Duration,
    /// The largest response body, bytes.
    pub max_response: usize,
    /// Where requests may go.
    pub egress_allowlist: Allowlist,
    /// A proxy for all but this machine; empty: the environment's.
    pub proxy: String,
    /// A PEM file of certificate authorities to trust besides the system's.
    pub ca_file: String,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        NetworkPolicy {
            connect_timeout: Duration::from_secs(10),
            max_response: 64 << 20,
            egress_allowlist: Allowlist::default(),
            proxy: String::new(),
            ca_file: String::new(),
        }
    }
}
