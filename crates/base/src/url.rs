//! Rules about URLs.

use url::Url;

/// Whether a URL is `prefix` or below it. Scheme, host and port are equal; the path begins with the prefix's whole
/// segments and cannot lead out of it.
pub fn is_below(prefix: &Url, url: &Url) -> bool {
    let base = prefix.path().trim_end_matches('/');
    let below = url.path().strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    url.origin() == prefix.origin() && below && !has_disguised_dots(url.path())
}

/// Dot segments are already resolved. An encoded one (`..%2f`, `%252e%2e/`) may remain, which the host resolves.
fn has_disguised_dots(path: &str) -> bool {
    let mut text = path.to_ascii_lowercase();
    for _ in 0..4 {
        if text.contains("..") || text.contains("%2f") || text.contains("%5c") || text.contains('\\') {
            return true;
        }
        text = text.replace("%2e", ".").replace("%25", "%");
    }
    text.contains('%') && text != path.to_ascii_lowercase() || text.contains("..")
}
