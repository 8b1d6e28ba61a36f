//! The proxy that requests go through: the setting `proxy`, or the usual environment variables.

use ureq::{Proxy, ProxyProtocol};
use url::Url;

use mysql_ml_base::error::{Error, Kind, Result};

/// Value of the setting for direct requests, whatever the environment says.
pub const NONE: &str = "none";

/// Reads the setting: a proxy's URL, `none`, or empty for the environment's (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`,
/// `NO_PROXY`). The environment's proxy may be unusable: see [`must_speak_http`].
pub fn from_setting(setting: &str) -> Result<Option<Proxy>> {
    match setting {
        "" => Ok(Proxy::try_from_env()),
        NONE => Ok(None),
        url => check_proxy(url).map(Some),
    }
}

/// Checks the value of a setting or option that names a proxy.
pub fn check_setting(value: &str) -> Result<()> {
    from_setting(value).map(|_| ())
}

/// An error if the environment's proxy applies to `url` and is not an HTTP proxy.
pub fn must_speak_http(proxy: &Proxy) -> Result<()> {
    if speaks_http(proxy) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Unsupported,
        "the proxy in mysqld's environment is not an HTTP proxy; set the setting proxy to http://host:port, or to none",
    ))
}

/// Reads a proxy's URL.
pub fn check_proxy(url: &str) -> Result<Proxy> {
    let proxy = Proxy::new(url).ok().filter(speaks_http).ok_or_else(|| {
        Error::invalid(
            "setting proxy is not the URL of an HTTP proxy; write http://host:port or https://host:port, or none",
        )
    })?;
    if proxy.username().is_some() || proxy.password().is_some() {
        return Err(Error::invalid(
            "setting proxy holds a user name or password, which settings cannot keep secret; give such a URL to mysqld as HTTPS_PROXY in its environment",
        ));
    }
    Ok(proxy)
}

/// Whether `NO_PROXY` exempts this URL's host.
pub fn passes_by(proxy: &Proxy, url: &Url) -> bool {
    url.as_str().parse().is_ok_and(|uri| proxy.is_no_proxy(&uri))
}

/// The connectors in use would ignore other kinds and send the request directly.
fn speaks_http(proxy: &Proxy) -> bool {
    matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_proxies_are_taken() {
        assert!(check_proxy("http://proxy.example:3128").is_ok());
        assert!(from_setting(NONE).unwrap().is_none());
        let socks = Proxy::new("socks5://proxy.example:1080").unwrap();
        assert_eq!(must_speak_http(&socks).unwrap_err().kind(), Kind::Unsupported);
        for bad in ["socks5://proxy.example:1080", "nonsense nonsense", "", "http://user:pw@proxy.example:3128"] {
            assert!(check_proxy(bad).is_err(), "{bad}");
        }
    }
}
