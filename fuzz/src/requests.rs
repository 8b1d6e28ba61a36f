//! What goes into requests: templates, URLs, chunks.

use std::net::{IpAddr, Ipv4Addr};

use mysql_ml_base::error::Result;
use mysql_ml_core::chunk::{chunks as cut, By, Rule, Tokens};
use mysql_ml_core::http::egress::Allowlist;
use mysql_ml_core::json::template::{JsonPath, JsonTemplate};
use mysql_ml_core::registration::endpoint_url::parse_url;
use serde_json::Value;
use url::{Host, Url};

use crate::{first, two_parts};

/// A template, a NUL, and an input: also a path and a document.
pub fn templates(data: &[u8]) {
    let (text, input) = two_parts(data);
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Ok(template) = JsonTemplate::parse(text) {
        let input = String::from_utf8_lossy(input);
        let most = template.bytes_for(input.len(), 1);
        let body = template.render(&input, "m");
        assert!(body.len() <= most, "{} bytes, more than the reserved {most}", body.len());
        assert!(serde_json::from_slice::<Value>(&body).is_ok(), "a request is not JSON");
    }
    if let Ok(path) = JsonPath::parse(text) {
        let _ = path.find_vector(input);
    }
}

/// An allowlist, a NUL, and a URL.
pub fn urls(data: &[u8]) {
    let (list, url) = two_parts(data);
    let (Ok(list), Ok(url)) = (std::str::from_utf8(list), std::str::from_utf8(url)) else { return };
    let Ok(list) = Allowlist::parse(list) else { return };
    if let Ok(url) = parse_url(url) {
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
        is_allowed(&url, &list);
    }
}

/// Checks a URL, and asserts what no policy permits.
pub fn is_allowed(url: &Url, list: &Allowlist) {
    for proxied in [false, true] {
        if list.check_url(url, proxied).is_err() {
            continue;
        }
        assert!(matches!(url.scheme(), "http" | "https"), "{url}");
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(name)) => {
                assert_ne!(name.trim_end_matches('.').to_ascii_lowercase(), "metadata.google.internal", "{url}");
                None
            }
            None => panic!("{url} has no host"),
        };
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => assert!(!is_refused(address), "{url}"),
            Some(IpAddr::V6(address)) => {
                assert!(!address.is_unspecified() && !address.is_unicast_link_local(), "{url}");
                if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() {
                    let [a, b, c, d] = (u32::from(high) << 16 | u32::from(low)).to_be_bytes();
                    assert!(!is_refused(Ipv4Addr::new(a, b, c, d)), "{url}");
                }
            }
            None => {}
        }
    }
}

fn is_refused(address: Ipv4Addr) -> bool {
    address.is_link_local() || address.is_unspecified()
}

/// Tokens of three bytes, at most a character too long.
struct Thirds;

impl Tokens for Thirds {
    fn ends(&self, text: &str) -> Result<Vec<usize>> {
        let mut ends: Vec<usize> = (3..text.len()).step_by(3).filter(|end| text.is_char_boundary(*end)).collect();
        ends.extend((!text.is_empty()).then_some(text.len()));
        Ok(ends)
    }

    fn count(&self, text: &str) -> Result<usize> {
        Ok(self.ends(text)?.len() + 2)
    }
}

/// The unit, size, overlap, and a text.
pub fn chunks(data: &[u8]) {
    let (unit, data) = first(data);
    let (size, data) = first(data);
    let (overlap, text) = first(data);
    let text = String::from_utf8_lossy(text);
    let by = [By::Characters, By::Words, By::Sentences, By::Markdown, By::Tokens][usize::from(unit) % 5];
    let Ok(rule) = Rule::new(by, size.into(), overlap.into()) else { return };
    let tokens: Option<&dyn Tokens> = (by == By::Tokens).then_some(&Thirds);
    let Ok(chunks) = cut(&text, rule, tokens, usize::MAX, &|| Ok(())) else { return };
    let mut end = 0;
    let mut begin = 0;
    for (at, chunk) in chunks.iter().enumerate() {
        let piece = text.get(chunk.bytes.clone()).expect("a chunk is a place in the text");
        assert!(!piece.is_empty() && piece == piece.trim(), "{piece:?} has white space at an end");
        assert!(at == 0 || chunk.bytes.start > begin && chunk.bytes.end > end, "no progress in {:?}", chunk.bytes);
        assert_eq!(piece.chars().count(), chunk.length);
        assert_eq!(text[..chunk.bytes.start].chars().count() + 1, chunk.start);
        if matches!(by, By::Characters | By::Markdown) {
            assert!(chunk.length <= rule.size, "{} characters", chunk.length);
        }
        let between = text.get(end..chunk.bytes.start).unwrap_or_default();
        assert!(between.trim().is_empty(), "{between:?} is in no chunk");
        (begin, end) = (chunk.bytes.start, chunk.bytes.end);
    }
    assert!(text[end..].trim().is_empty(), "the text's end is in no chunk");
}
