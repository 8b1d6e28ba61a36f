//! The setting `proxy`.

use ureq::Proxy;

use crate::error::{Error, Result};

/// Reads a proxy's URL.
pub fn check_proxy(url: &str) -> Result<Proxy> {
    Proxy::new(url).map_err(|_| {
        Error::invalid(
            "setting proxy is not a proxy's URL; write http://host:port (https:// and credentials are possible)",
        )
    })
}
