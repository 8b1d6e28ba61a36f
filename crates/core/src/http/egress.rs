//! The egress policy: permitted hosts and addresses of requests.
//!
//! Without an allowlist: https everywhere, plain http only to this machine. Addresses of cloud metadata services are
//! always refused, in every notation. An allowlist narrows the hosts and can allow plain http to some. Names are
//! checked before they are resolved, addresses after.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use mysql_ml_base::error::{cut, Error, Kind, Result};

/// The parsed setting `egress_allowlist`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowlist {
    rules: Vec<Rule>,
    /// Permits Google's metadata server and nothing else.
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
    /// Reads a comma- or space-separated list of `host`, `.suffix`, `address`, `network/bits`. Each may have
    /// `http://` before it, which allows plain http, and `:port` after a host.
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
    /// The policy for Google's metadata server only. A test or proxy of one may listen on this machine.
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

/// Metadata addresses of clouds, besides the link-local ones.
const METADATA: [(IpAddr, u8); 11] = [
    // Amazon: instance metadata, credentials of pods (`::23`), names, time.
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32),
    // Google.
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0], 32),
    // Oracle, and its older cloud.
    v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
    v4([192, 0, 0, 192], 32),
    // Scaleway.
    v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
    // Akamai (Linode).
    v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 0], 48),
    // Alibaba.
    v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128),
    v4([100, 100, 100, 200], 32),
    // Azure.
    v4([168, 63, 129, 16], 32),
    // Volcano Engine and BytePlus.
    v4([100, 96, 0, 96], 32),
    // UCloud.
    v4([100, 80, 80, 80], 32),
];

/// Host names of cloud metadata services, for requests whose names a proxy resolves.
const METADATA_NAMES: [&str; 7] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
    "metadata.platformequinix.com",
];

const fn v4(address: [u8; 4], bits: u8) -> (IpAddr, u8) {
    let [a, b, c, d] = address;
    (IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits)
}

const fn v6(address: [u16; 8], bits: u8) -> (IpAddr, u8) {
    let [a, b, c, d, e, f, g, h] = address;
    (IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), bits)
}

/// The IPv4 addresses embedded in an IPv6 address, for every notation that networks translate.
fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bits = u128::from(address);
    let octets = address.octets();
    let part = |from: u32| Ipv4Addr::from_bits(((bits >> (96 - from)) & 0xffff_ffff) as u32);
    let of = |places: [usize; 4]| Ipv4Addr::from(places.map(|i| octets.get(i).copied().unwrap_or_default()));
    match address.segments() {
        // Compatible (::/96), mapped, translated (SIIT), NAT64.
        [0, 0, 0, 0, 0, 0, ..] if bits > 1 => vec![part(96)],
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![part(96)],
        // NAT64 within a network, whose prefix may have any of four lengths (RFC 6052); octet 8 is left out.
        [0x64, 0xff9b, 1, ..] => vec![of([6, 7, 9, 10]), of([7, 9, 10, 11]), of([9, 10, 11, 12]), part(96)],
        // 6to4.
        [0x2002, ..] => vec![part(16)],
        // Teredo: the server's, and the client's with its bits turned over.
        [0x2001, 0, ..] => vec![part(32), Ipv4Addr::from_bits(!(bits as u32))],
        // ISATAP, under any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => vec![part(96)],
        _ => Vec::new(),
    }
}

/// Whether requests to this address are always refused.
fn is_forbidden(address: IpAddr) -> bool {
    let own = match address {
        IpAddr::V4(a) => a.is_link_local() || a.is_broadcast(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    };
    own || address.is_unspecified()
        || address.is_multicast()
        || is_metadata(address)
        // "This network": Linux takes its first address for this machine, and nothing else is there.
        || in_net(address, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8)
}

fn is_metadata(address: IpAddr) -> bool {
    METADATA.iter().any(|(net, bits)| in_net(address, *net, *bits))
}

/// The embedded IPv4 address whose rules also apply. In networks with NAT64, names resolve to such addresses.
fn of_nat64(address: IpAddr) -> IpAddr {
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

/// A URL's host and port, normalised for the rules.
struct Destination<'a> {
    name: &'a str,
    address: Option<IpAddr>,
    port: u16,
    plain_http: bool,
}

impl Allowlist {
    /// Checks a URL before its name is resolved. This is the only check through a proxy, which resolves the name
    /// itself; only rules for names can then permit it.
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
        if !self.metadata && METADATA_NAMES.contains(&name) {
            return Err(denied(format!(
                "{name} is where cloud machines serve their credentials; requests there are never sent"
            )));
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

    /// Checks one resolved address of a URL's host.
    pub fn check_address(&self, name: &str, port: u16, plain_http: bool, address: IpAddr) -> Result<()> {
        self.check(&Destination { name, address: None, port, plain_http }, address)
    }

    fn check(&self, to: &Destination<'_>, address: IpAddr) -> Result<()> {
        let address = address.to_canonical();
        if self.metadata && matches!(address, GOOGLE_METADATA_V4 | GOOGLE_METADATA_V6) {
            return Ok(());
        }
        if let Some(advice) = where_a_server_listens(address) {
            return Err(denied(format!(
                "{} is where a server listens, on all addresses of its machine, and no address to reach it at; {advice}",
                to.name
            )));
        }
        let meant = match address {
            IpAddr::V6(a) => embedded(a).into_iter().find(|a| a.is_link_local() || is_metadata(IpAddr::V4(*a))),
            IpAddr::V4(_) => None,
        };
        if meant.is_some() || is_forbidden(address) {
            let stands_for = meant.map(|a| format!(" (which stands for {a})")).unwrap_or_default();
            return Err(denied(format!(
                "{} is at {address}{stands_for}, where cloud machines serve their credentials or nothing at all; requests there are never sent",
                to.name
            )));
        }
        let listed = |http: bool| {
            self.rules.iter().any(|r| {
                (r.matches_address(address, to.port)
                    || r.matches_address(of_nat64(address), to.port)
                    || (to.address.is_none() && r.matches_name(to.name, to.port)))
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

    /// Checks a proxy's address: the allowlist does not apply, metadata addresses are refused.
    pub fn check_proxy_address(name: &str, port: u16, address: IpAddr) -> Result<()> {
        Self::default().check(&Destination { name, address: None, port, plain_http: false }, address)
    }

    fn not_listed(&self, name: &str) -> Error {
        denied(format!("{name} is not in the setting egress_allowlist; add it there to allow requests to it"))
    }
}

/// Advice for `0.0.0.0` or `::`, which users copy from server logs.
fn where_a_server_listens(address: IpAddr) -> Option<&'static str> {
    let advice = match address {
        IpAddr::V4(a) if a.is_unspecified() => "write 127.0.0.1 for this machine",
        IpAddr::V6(a) if a.is_unspecified() => "write [::1] or 127.0.0.1 for this machine",
        _ => return None,
    };
    Some(advice)
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
    }

    /// Link-local and metadata addresses, and one public address, in every form that a network may translate.
    fn forms(v4: &str) -> Vec<String> {
        let [a, b, c, d] = v4.parse::<Ipv4Addr>().unwrap().octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        vec![
            v4.to_owned(),
            format!("::ffff:{v4}"),
            format!("::{v4}"),
            format!("::ffff:0:{v4}"),
            format!("64:ff9b::{v4}"),
            format!("64:ff9b:1::{v4}"),
            format!("64:ff9b:1:{high:x}:{c:x}:{d:02x}00::"),
            format!("64:ff9b:1:ab{a:02x}:{b:x}:{low:x}::"),
            format!("64:ff9b:1:abcd:{a:x}:{:x}:{d:02x}00:0", u16::from_be_bytes([b, c])),
            format!("64:ff9b:1:2:3:4:{v4}"),
            format!("2002:{high:x}:{low:x}::1"),
            format!("2002:{high:x}:{low:x}:1:2:3:4:5"),
            format!("2001:0:{high:x}:{low:x}::1"),
            format!("2001:0:c000:201:0:0:{:x}:{:x}", !high, !low),
            format!("2001:db8::5efe:{v4}"),
            format!("2001:db8:1:2:200:5efe:{v4}"),
        ]
    }

    #[test]
    fn metadata_addresses_are_never_reached_in_whatever_form() {
        let lists = ["", "::/0 0.0.0.0/0", "http://::/0 http://0.0.0.0/0", "innocent.example"];
        let v4 = [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "169.254.0.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "100.96.0.96",
            "100.80.80.80",
        ];
        let nowhere = ["0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "::ffff:0.0.0.0", "::ffff:224.0.0.1"];
        let v6 = [
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:ec2:0:0:1::123",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "fd00:100::100:200",
            "fe80::1",
            "fe80::a9fe:a9fe",
            "febf::1",
            "ff02::1",
            "::",
        ];
        let as_they_are = v6.iter().chain(&nowhere).map(|a| (*a).to_owned());
        let all = v4.iter().flat_map(|a| forms(a)).chain(as_they_are);
        for address in all {
            for list in lists {
                assert!(!address_ok(list, "innocent.example", false, &address), "{address} with '{list}'");
                assert!(!address_ok(list, "innocent.example", true, &address), "{address} with '{list}', http");
                let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
                let url = Url::parse(&format!("https://{host}/")).unwrap();
                for proxied in [false, true] {
                    assert!(Allowlist::parse(list).unwrap().check_url(&url, proxied).is_err(), "{url} with '{list}'");
                }
            }
            let proxy = Allowlist::check_proxy_address("p", 3128, address.parse().unwrap());
            assert!(proxy.is_err(), "{address} as a proxy's");
        }
        for address in forms("8.8.8.8") {
            assert!(address_ok("", "innocent.example", false, &address), "{address}");
        }
        for address in ["fd00:ec3::254", "fd00:42::1", "fd12::1", "2001:db8::1", "2600::a9fe:a9fe", "::1"] {
            assert!(address_ok("", "innocent.example", false, address), "{address}");
        }
        for number in ["0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.16689662", "169.254.169.254."] {
            assert!(!url_ok("", &format!("https://{number}/")), "{number}");
        }
    }

    #[test]
    fn only_this_machine_itself_takes_plain_http_without_a_rule() {
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(address_ok("", "localhost", true, address), "{address}");
        }
        for address in &forms("127.0.0.1")[2..] {
            assert!(!address_ok("", "localhost", true, address), "{address}");
        }
        assert!(address_ok("10.0.0.0/8", "h", false, "64:ff9b::10.1.2.3"), "by NAT64, as DNS64 tells it");
        for address in &forms("10.1.2.3")[5..] {
            assert!(!address_ok("10.0.0.0/8", "h", false, address), "{address}");
        }
    }

    #[test]
    fn metadata_names_are_refused_where_a_proxy_would_resolve_them() {
        for name in METADATA_NAMES {
            for list in ["", name] {
                let url = Url::parse(&format!("https://{}./x", name.to_uppercase())).unwrap();
                assert!(Allowlist::parse(list).unwrap().check_url(&url, true).is_err(), "{name}");
            }
        }
    }

    #[test]
    fn a_listen_address_is_distinguished_from_one_to_call() {
        let refusal = |url: &str| Allowlist::default().check_url(&Url::parse(url).unwrap(), false).unwrap_err();
        assert!(refusal("http://0.0.0.0:11434/").message().contains("write 127.0.0.1"));
        assert!(refusal("http://[::]:8080/").message().contains("write [::1]"));
        assert!(refusal("http://[::ffff:0.0.0.0]/").message().contains("write 127.0.0.1"));
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
