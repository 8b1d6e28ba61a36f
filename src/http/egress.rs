//! Where requests may go.
//!
//! Without an allowlist: https everywhere, plain http only to this machine. Never to link-local addresses, where
//! cloud machines offer their credentials. An allowlist narrows the hosts and can allow plain http to some.
//! Names are checked before they are resolved, addresses after.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use crate::error::{cut, Error, Kind, Result};

/// The setting `egress_allowlist`, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowlist {
    rules: Vec<Rule>,
    /// Whether it is for asking Google's metadata server, which nothing else may.
    metadata: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    plain_http: bool,
    target: Target,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Host(String),
    Suffix(String),
    Net(IpAddr, u8),
}

impl Allowlist {
    /// Reads a comma- or space-separated list of `host`, `.suffix`, `address`, `network/bits`, each with an
    /// optional `http://` before it (plain http is allowed there) and an optional `:port` behind a host.
    pub fn parse(text: &str) -> Result<Self> {
        text.split(|c: char| c == ',' || c.is_whitespace())
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                Rule::parse(entry).ok_or_else(|| {
                    Error::invalid(format!(
                        "egress_allowlist entry '{}' is not understood; write host, .suffix, address or network/bits, with http:// before it to allow plain http",
                        cut(entry, 80)
                    ))
                })
            })
            .collect::<Result<Vec<_>>>()
            .map(|rules| Allowlist { rules, metadata: false })
    }
}

impl Allowlist {
    /// For the metadata server of the cloud machine and nothing else; a test or proxy of one may be on this machine.
    pub fn for_metadata() -> Self {
        let rule = |target| Rule { plain_http: true, target, port: None };
        let nets = [(GOOGLE_METADATA_V4, 32), (GOOGLE_METADATA_V6, 128), (IpAddr::V4(Ipv4Addr::LOCALHOST), 8)];
        let nets = nets.map(|(net, bits)| rule(Target::Net(net, bits)));
        Allowlist { rules: nets.into(), metadata: true }
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        let (plain_http, rest) = match entry.strip_prefix("http://") {
            Some(rest) => (true, rest),
            None => (false, entry.strip_prefix("https://").unwrap_or(entry)),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some((address, bits)) = rest.split_once('/') {
            let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
            let bits: u8 = bits.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Rule { plain_http, target: Target::Net(address, bits), port: None });
        }
        if let Ok(address) = rest.trim_matches(['[', ']']).parse::<IpAddr>() {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            return Some(Rule { plain_http, target: Target::Net(address, bits), port: None });
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (rest, None),
        };
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            return Some(Rule { plain_http, target: Target::Net(address, bits), port });
        }
        let host = host.to_ascii_lowercase();
        let name = host.strip_prefix('.').unwrap_or(&host);
        let valid = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
            && !name.contains("..");
        let target = if host.starts_with('.') { Target::Suffix(host.clone()) } else { Target::Host(host.clone()) };
        valid.then_some(Rule { plain_http, target, port })
    }

    fn matches_name(&self, name: &str, port: u16) -> bool {
        self.port.is_none_or(|p| p == port)
            && match &self.target {
                Target::Host(host) => host == name,
                Target::Suffix(suffix) => name.ends_with(suffix.as_str()),
                Target::Net(..) => false,
            }
    }

    fn matches_address(&self, address: IpAddr, port: u16) -> bool {
        let Target::Net(net, bits) = self.target else { return false };
        self.port.is_none_or(|p| p == port) && in_net(address, net, bits)
    }
}

fn in_net(address: IpAddr, net: IpAddr, bits: u8) -> bool {
    match (address, net) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            u32::from(a) & mask == u32::from(n) & mask
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            u128::from(a) & mask == u128::from(n) & mask
        }
        _ => false,
    }
}

/// Google's metadata server.
const GOOGLE_METADATA_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
const GOOGLE_METADATA_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254));

/// Where clouds serve credentials to their machines besides the link-local addresses: Amazon, Google, Alibaba,
/// Azure, Oracle.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    GOOGLE_METADATA_V6,
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// The IPv4 address that a NAT64 address (64:ff9b::/96) stands for.
fn embedded_v4(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(a) if a.segments().get(..6) == Some(&[0x64, 0xff9b, 0, 0, 0, 0]) => {
            IpAddr::V4(Ipv4Addr::from_bits((u128::from(a) & 0xffff_ffff) as u32))
        }
        other => other,
    }
}

fn denied(message: String) -> Error {
    Error::new(Kind::Denied, message)
}

/// A URL's host and port as the rules see them.
struct Destination<'a> {
    name: &'a str,
    address: Option<IpAddr>,
    port: u16,
    plain_http: bool,
}

impl Allowlist {
    /// Checks what can be checked before the name is resolved. Through a proxy that is all: the proxy resolves the
    /// name, so only rules for names can let it pass.
    pub fn check_url(&self, url: &Url, proxied: bool) -> Result<()> {
        let plain_http = match url.scheme() {
            "https" => false,
            "http" => true,
            other => return Err(denied(format!("the scheme {other}: is not supported; use https"))),
        };
        let (name, address) = match url.host() {
            None => return Err(denied("the URL has no host".into())),
            Some(Host::Domain(name)) => (name.strip_suffix('.').unwrap_or(name), None),
            Some(Host::Ipv4(a)) => (url.host_str().unwrap_or_default(), Some(IpAddr::V4(a))),
            Some(Host::Ipv6(a)) => (url.host_str().unwrap_or_default(), Some(IpAddr::V6(a))),
        };
        let port = url.port_or_known_default().unwrap_or(0);
        let destination = Destination { name, address, port, plain_http };
        if let Some(address) = address {
            return self.check(&destination, address);
        }
        let local_name = name == "localhost" || name.ends_with(".localhost");
        let by_name = |http: bool| self.rules.iter().any(|r| r.matches_name(name, port) && (!http || r.plain_http));
        let by_address = |http: bool| {
            !proxied && self.rules.iter().any(|r| matches!(r.target, Target::Net(..)) && (!http || r.plain_http))
        };
        if !self.rules.is_empty() && !by_name(false) && !by_address(false) {
            return Err(self.not_listed(name));
        }
        if plain_http && !local_name && !by_name(true) && !by_address(true) {
            return Err(plain_http_denied(name, port));
        }
        Ok(())
    }

    /// Checks an address that the host of a URL was resolved to.
    pub fn check_address(&self, name: &str, port: u16, plain_http: bool, address: IpAddr) -> Result<()> {
        self.check(&Destination { name, address: None, port, plain_http }, address)
    }

    fn check(&self, to: &Destination<'_>, address: IpAddr) -> Result<()> {
        let address = embedded_v4(address.to_canonical());
        let link_local = match address {
            IpAddr::V4(a) => a.is_link_local() || a.is_broadcast(),
            IpAddr::V6(a) => a.is_unicast_link_local(),
        };
        let meant = self.metadata && matches!(address, GOOGLE_METADATA_V4 | GOOGLE_METADATA_V6);
        if meant {
            return Ok(());
        }
        if link_local || METADATA.contains(&address) || address.is_unspecified() || address.is_multicast() {
            return Err(denied(format!(
                "{} is at {address}, where cloud machines serve their credentials or nothing at all; requests there are never sent",
                to.name
            )));
        }
        let listed = |http: bool| {
            self.rules.iter().any(|r| {
                (r.matches_address(address, to.port) || (to.address.is_none() && r.matches_name(to.name, to.port)))
                    && (!http || r.plain_http)
            })
        };
        if !self.rules.is_empty() && !listed(false) {
            return Err(self.not_listed(to.name));
        }
        if to.plain_http && !address.is_loopback() && !listed(true) {
            return Err(plain_http_denied(to.name, to.port));
        }
        Ok(())
    }

    /// Checks the address of a proxy, which the list does not concern: not one where credentials are served.
    pub fn check_proxy_address(name: &str, port: u16, address: IpAddr) -> Result<()> {
        Self::default().check(&Destination { name, address: None, port, plain_http: false }, address)
    }

    fn not_listed(&self, name: &str) -> Error {
        denied(format!("{name} is not in the setting egress_allowlist; add it there to allow requests to it"))
    }
}

fn plain_http_denied(name: &str, port: u16) -> Error {
    denied(format!(
        "plain http is only allowed to this machine; use https, or add http://{name}:{port} to the setting egress_allowlist, which must then list all other hosts too"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url_ok(list: &str, url: &str) -> bool {
        Allowlist::parse(list).unwrap().check_url(&Url::parse(url).unwrap(), false).is_ok()
    }

    fn address_ok(list: &str, name: &str, http: bool, address: &str) -> bool {
        Allowlist::parse(list).unwrap().check_address(name, 443, http, address.parse().unwrap()).is_ok()
    }

    #[test]
    fn without_a_list_https_goes_everywhere_and_http_stays_here() {
        assert!(url_ok("", "https://api.openai.com/v1"));
        assert!(url_ok("", "https://10.0.0.1/"));
        assert!(url_ok("", "http://localhost:11434/"));
        assert!(url_ok("", "http://127.0.0.9/"));
        assert!(url_ok("", "http://[::1]/"));
        assert!(!url_ok("", "http://10.0.0.1/"));
        assert!(!url_ok("", "http://example.com/"));
        assert!(!url_ok("", "ftp://example.com/"));
        assert!(!address_ok("", "localhost", true, "10.0.0.1"));
    }

    #[test]
    fn link_local_is_never_reached_by_whatever_name() {
        assert!(!url_ok("", "https://169.254.169.254/"));
        assert!(!url_ok("", "https://[fe80::1]/"));
        assert!(!url_ok("http://169.254.169.254", "http://169.254.169.254/"));
        assert!(!address_ok("", "innocent.example", false, "169.254.169.254"));
        assert!(!address_ok("", "innocent.example", false, "::ffff:169.254.169.254"));
        for metadata in ["fd00:ec2::254", "64:ff9b::169.254.169.254", "100.100.100.200", "168.63.129.16"] {
            assert!(!address_ok("", "innocent.example", false, metadata), "{metadata}");
        }
        assert!(address_ok("", "innocent.example", false, "64:ff9b::8.8.8.8"));
        assert!(!url_ok("", "http://0.0.0.0/"));
    }

    #[test]
    fn only_googles_metadata_server_is_asked_as_one() {
        let list = Allowlist::for_metadata();
        let ok =
            |address: &str| list.check_address("metadata.google.internal", 80, true, address.parse().unwrap()).is_ok();
        assert!(ok("169.254.169.254") && ok("fd20:ce::254") && ok("127.0.0.1"));
        assert!(!ok("169.254.170.2") && !ok("10.0.0.1") && !ok("100.100.100.200"));
        assert!(list.check_url(&Url::parse("http://169.254.169.254/x").unwrap(), false).is_ok());
        assert!(list.check_url(&Url::parse("http://metadata.google.internal/x").unwrap(), false).is_ok());
        assert!(Allowlist::check_proxy_address("p", 80, "169.254.169.254".parse().unwrap()).is_err());
        assert!(Allowlist::check_proxy_address("p", 3128, "10.0.0.1".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_list_narrows() {
        let list = "api.openai.com, .example.com 10.0.0.0/8";
        assert!(url_ok(list, "https://api.openai.com/"));
        assert!(url_ok(list, "https://a.example.com/"));
        assert!(
            !url_ok(list, "https://badexample.com.evil.org:99999".replace(":99999", "").as_str())
                || !address_ok(list, "badexample.com.evil.org", false, "1.2.3.4")
        );
        assert!(url_ok(list, "https://10.1.2.3/"));
        assert!(!url_ok(list, "https://11.1.2.3/"));
        assert!(!url_ok("api.openai.com", "http://localhost/"));
        assert!(!url_ok("api.openai.com", "https://api.openai.com.evil.org/"));
    }

    #[test]
    fn through_a_proxy_only_names_let_names_pass() {
        let list = Allowlist::parse("10.0.0.0/8 .example.com").unwrap();
        let ok = |url: &str| list.check_url(&Url::parse(url).unwrap(), true).is_ok();
        assert!(ok("https://ai.example.com/") && ok("https://10.1.2.3/"));
        assert!(!ok("https://evil.example.org/"));
    }

    #[test]
    fn a_list_can_allow_plain_http() {
        assert!(url_ok("http://ollama:11434", "http://ollama:11434/api"));
        assert!(!url_ok("http://ollama:11434", "http://ollama:80/api"));
        assert!(!url_ok("ollama", "http://ollama/"));
        assert!(address_ok("http://ollama", "ollama", true, "172.17.0.2"));
        assert!(url_ok("http://10.0.0.0/8", "http://10.2.3.4/"));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["http://", "a b/c", "10.0.0.0/33", "ho$t", "host:port"] {
            assert!(Allowlist::parse(bad).is_err(), "{bad}");
        }
    }
}
