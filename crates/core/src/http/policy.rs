//! The network policy of requests.

use std::time::Duration;

use super::egress::Allowlist;

/// The network policy: permitted hosts, proxy, certificates, time and size limits.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkPolicy {
    /// The time limit for opening one connection.
    pub connect_timeout: Duration,
    /// The largest response body, bytes.
    pub max_response: usize,
    /// The egress allowlist.
    pub egress_allowlist: Allowlist,
    /// The proxy for all hosts but this machine; empty: the environment's.
    pub proxy: String,
    /// PEM file of certificate authorities, trusted besides the system's; empty: none.
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
