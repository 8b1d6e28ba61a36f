//! Redacts keys in answers. Some endpoints repeat the key they received, and not always as it was sent.
//!
//! An answer is searched as received and again after decoding escapes of JSON, URLs and HTML, nested in any order.
//! Spaces and other characters outside keys are ignored. Findings are overwritten in place, so JSON stays JSON. Every
//! answer passes here before it is read or cut.

use std::borrow::Cow;
use std::ops::Range;

use base64::prelude::{Engine as _, BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use memchr::{memchr2, memchr3};
use secrecy::{ExposeSecret, SecretString};
use ureq::http::HeaderName;
use ureq::Proxy;
use url::Url;
use zeroize::Zeroizing;

use super::leaked_key;

/// Shorter values, in bytes, are not keys.
const SHORTEST: usize = 8;

/// Shorter parts of a value, in bytes, are words rather than keys.
const SHORTEST_PART: usize = 16;

/// The most nested encodings that are decoded.
const LEVELS: usize = 4;

/// Parts of names of headers and parameters that carry keys.
const WORDS: [&str; 12] =
    ["auth", "key", "token", "secret", "passw", "cookie", "cred", "sign", "session", "jwt", "apim", "code"];

/// Limits for base64 and hexadecimal forms; longer values and later ones are searched only as sent and escaped.
const LONGEST_ENCODED: usize = 16 * 1024;
const MOST_NEEDLES: usize = 300;

/// Headers without secrets; errors may quote their values.
const HARMLESS: [&str; 18] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "anthropic-beta",
    "anthropic-version",
    "api-version",
    "azureml-model-deployment",
    "content-language",
    "http-referer",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "origin",
    "referer",
    "user-agent",
    "x-goog-user-project",
    "x-request-id",
    "x-title",
];

/// The keys among a request's headers.
pub fn secrets_of(headers: &[(HeaderName, SecretString)]) -> Vec<SecretString> {
    headers.iter().filter(|(name, _)| sounds_secret(name.as_str())).map(|(_, value)| value.clone()).collect()
}

/// Likely keys among the headers of a user's function, by the header's name or the look of the value. `known`: texts
/// that are not keys.
pub fn secrets_of_function<'a>(
    headers: &'a [(HeaderName, SecretString)],
    known: &'a [&'a str],
) -> impl Iterator<Item = SecretString> + 'a {
    let may_be = |(name, value): &&(HeaderName, SecretString)| {
        let value = value.expose_secret();
        sounds_secret(name.as_str())
            || (!HARMLESS.contains(&name.as_str()) && looks_secret(value) && !known.contains(&value))
    };
    headers.iter().filter(may_be).map(|(_, value)| value.clone())
}

/// Whether a text looks like a key and not like a name or a sentence.
fn looks_secret(value: &str) -> bool {
    let word = value.rsplit(' ').next().unwrap_or_default();
    let any = |is: fn(&u8) -> bool| word.as_bytes().iter().any(is);
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let mixed = any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase) && digits > 0;
    leaked_key::in_text(value).is_some()
        || (word.len() >= SHORTEST_PART && mixed)
        || (word.len() >= 24 && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'))
        || (word.len() >= 32 && digits >= 4 && any(u8::is_ascii_alphabetic))
}

/// The keys in a URL's query.
pub fn secrets_in_query(url: &Url) -> impl Iterator<Item = SecretString> + '_ {
    url.query_pairs().filter(|(name, _)| sounds_secret(name)).map(|(_, value)| SecretString::from(value.into_owned()))
}

/// The password of a proxy, alone and as it is sent.
pub fn secrets_of_proxy(proxy: &Proxy) -> Vec<SecretString> {
    let (Some(user), Some(password)) = (proxy.username(), proxy.password()) else { return Vec::new() };
    let sent = BASE64_STANDARD.encode(Zeroizing::new(format!("{user}:{password}")).as_bytes());
    vec![password.to_owned().into(), sent.into()]
}

fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// The secrets to redact in all answers to one request.
pub struct Redactor {
    needles: Vec<Zeroizing<Vec<u8>>>,
    search: Search,
}

impl Redactor {
    /// Redacts these secrets: header values, keys, tokens.
    pub fn new(secrets: &[SecretString]) -> Self {
        let mut needles = Needles(Vec::new());
        for secret in secrets {
            for part in parts(secret.expose_secret()) {
                needles.look_for(part.as_bytes());
            }
        }
        Redactor { search: Search::new(&needles.0), needles: needles.0 }
    }

    /// Overwrites each occurrence of a secret with `*` of the same length.
    pub fn redact(&self, body: &mut [u8]) {
        if self.needles.is_empty() {
            return;
        }
        if !self.may_be_in(body) {
            return;
        }
        let mut marked = self.find(body);
        let mut levels: Vec<Vec<u8>> = Vec::new();
        for _ in 0..LEVELS {
            let Some(next) = decode(levels.last().map_or(&*body, Vec::as_slice)) else { break };
            let mut found = self.find(&next);
            // Map each finding back to its place, level by level.
            for below in levels.iter().rev().map(Vec::as_slice).chain([&*body]) {
                if found.is_empty() {
                    break;
                }
                found = places_in(below, &merged(found));
            }
            marked.extend(found);
            levels.push(next);
        }
        for Found { at, fill } in marked {
            if let Some(place) = body.get_mut(at) {
                place.fill(fill);
            }
        }
    }

    /// A text without secrets.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut bytes = text.as_bytes().to_vec();
        self.redact(&mut bytes);
        if bytes == text.as_bytes() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn find(&self, text: &[u8]) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        self.search.each(&self.needles, text, |needle, at| {
            // Eight digits of a vector are no key.
            let digits = needle.iter().all(u8::is_ascii_digit);
            if digits && is_within_number(text, &at) {
                return;
            }
            let fill = if digits { b'9' } else { b'*' };
            match found.last_mut() {
                Some(Found { at: last, fill: same }) if at.start < last.end && *same == fill => {
                    last.end = last.end.max(at.end);
                }
                _ => found.push(Found { at, fill }),
            }
        });
        found
    }

    /// Whether a text can contain a needle: it has escapes, or all characters of one. Most vectors have neither.
    fn may_be_in(&self, text: &[u8]) -> bool {
        let mut known: [Option<bool>; 256] = [None; 256];
        let mut there = |b: &u8| match known.get_mut(usize::from(b.to_ascii_lowercase())) {
            Some(known) => {
                *known.get_or_insert_with(|| memchr2(b.to_ascii_lowercase(), b.to_ascii_uppercase(), text).is_some())
            }
            None => true,
        };
        memchr3(b'\\', b'%', b'&', text).is_some() || self.needles.iter().any(|needle| needle.iter().all(&mut there))
    }
}

/// The needles: secrets as sent and in other notations.
struct Needles(Vec<Zeroizing<Vec<u8>>>);

impl Needles {
    fn look_for(&mut self, secret: &[u8]) {
        let plain = Zeroizing::new(secret.iter().copied().filter(u8::is_ascii_graphic).collect::<Vec<u8>>());
        // A short value, such as the `none` that some servers accept, is an ordinary word.
        if plain.len() < SHORTEST {
            return;
        }
        // A key that itself looks escaped changes when escapes are decoded.
        let mut readings = vec![plain];
        while let Some(read) = readings.last().and_then(|last| decode(last)).filter(|_| readings.len() <= LEVELS) {
            readings.push(Zeroizing::new(read));
        }
        for reading in readings.into_iter().filter(|r| r.len() >= SHORTEST) {
            if reading.len() <= LONGEST_ENCODED && self.0.len() < MOST_NEEDLES {
                self.encodings(&reading);
            }
            self.add(reading);
        }
    }

    /// The value in base64, at each of the three alignments inside a longer text, and in hexadecimal.
    fn encodings(&mut self, plain: &[u8]) {
        for before in 0..3 {
            let mut shifted = Zeroizing::new(vec![0; before]);
            shifted.extend_from_slice(plain);
            // Digits that depend on neighbouring bytes are left out.
            let whole = shifted.len() / 3 * 4 + [0, 1, 2].get(shifted.len() % 3).copied().unwrap_or(0);
            let first = [0, 2, 3].get(before).copied().unwrap_or(0);
            for text in [BASE64_STANDARD_NO_PAD.encode(&*shifted), BASE64_URL_SAFE_NO_PAD.encode(&*shifted)] {
                let text = Zeroizing::new(text);
                if let Some(sure) = text.as_bytes().get(first..whole).filter(|sure| sure.len() >= SHORTEST) {
                    self.add(Zeroizing::new(sure.to_vec()));
                }
            }
        }
        let digit = |n: u8| b"0123456789abcdef".get(usize::from(n)).copied().unwrap_or(b'0');
        let hex = plain.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect::<Vec<u8>>();
        self.add(Zeroizing::new(hex));
    }

    fn add(&mut self, needle: Zeroizing<Vec<u8>>) {
        if !self.0.contains(&needle) {
            self.0.push(needle);
        }
    }
}

/// Whether a text begins with a needle; a long one also in letters of the other case, which some services print.
fn begins(text: &[u8], needle: &[u8]) -> bool {
    match text.get(..needle.len()) {
        Some(begin) if needle.len() >= SHORTEST_PART => begin.eq_ignore_ascii_case(needle),
        begin => begin == Some(needle),
    }
}

/// Finds many needles in one pass (after Wu and Manber). Two characters give the least distance to the next possible
/// match.
struct Search {
    /// Length of the prefix that is compared, bytes.
    window: usize,
    /// By two characters.
    shifts: Vec<u8>,
}

impl Search {
    fn new(needles: &[Zeroizing<Vec<u8>>]) -> Self {
        let window = needles.iter().map(|needle| needle.len()).min().unwrap_or(SHORTEST).min(64);
        let size = if needles.is_empty() { 0 } else { 1 << 16 };
        let mut shifts = vec![u8::try_from(window.saturating_sub(1)).unwrap_or(u8::MAX); size];
        for needle in needles {
            for (i, pair) in needle.windows(2).take(window.saturating_sub(1)).enumerate() {
                let shift = u8::try_from(window - 2 - i).unwrap_or(u8::MAX);
                if let Some(known) = shifts.get_mut(Self::pair(pair)) {
                    *known = shift.min(*known);
                }
            }
        }
        Search { window, shifts }
    }

    fn pair(pair: &[u8]) -> usize {
        match pair {
            [a, b] => usize::from(a.to_ascii_lowercase()) << 8 | usize::from(b.to_ascii_lowercase()),
            _ => 0,
        }
    }

    fn each<'n>(&self, needles: &'n [Zeroizing<Vec<u8>>], text: &[u8], mut found: impl FnMut(&'n [u8], Range<usize>)) {
        let mut end = self.window;
        while let Some(pair) = text.get(end.saturating_sub(2)..end) {
            let shift = self.shifts.get(Self::pair(pair)).copied().unwrap_or(1);
            if shift > 0 {
                end += usize::from(shift);
                continue;
            }
            let begin = end - self.window;
            let rest = text.get(begin..).unwrap_or_default();
            for needle in needles.iter().filter(|needle| begins(rest, needle)) {
                found(needle, begin..begin + needle.len());
            }
            end += 1;
        }
    }
}

/// A range to overwrite, and its filler; a number stays a number.
struct Found {
    at: Range<usize>,
    fill: u8,
}

/// Sorts ranges by start and merges overlapping ones.
fn merged(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by_key(|f| f.at.start);
    let mut merged: Vec<Found> = Vec::with_capacity(found.len());
    for next in found {
        match merged.last_mut() {
            Some(last) if next.at.start < last.at.end => last.at.end = last.at.end.max(next.at.end),
            _ => merged.push(next),
        }
    }
    merged
}

/// The places in `text` of the places `found` in its [`decode`]d form, in order.
fn places_in(text: &[u8], found: &[Found]) -> Vec<Found> {
    let mut places = Vec::with_capacity(found.len());
    let mut wanted = found.iter();
    let Some(mut next) = wanted.next() else { return places };
    let (mut at, mut decoded, mut start) = (0, 0, 0);
    while let Some((length, byte)) = unit(text, at) {
        if byte.is_some() {
            if decoded == next.at.start {
                start = at;
            }
            decoded += 1;
            if decoded == next.at.end {
                places.push(Found { at: start..at + length, fill: next.fill });
                match wanted.next() {
                    Some(following) => next = following,
                    None => break,
                }
            }
        }
        at += length;
    }
    places
}

fn is_within_number(text: &[u8], at: &Range<usize>) -> bool {
    let number =
        |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    at.start.checked_sub(1).is_some_and(|before| number(text.get(before))) || number(text.get(at.end))
}

/// The secret parts of a header's value: the whole value, the text after the scheme (`Bearer KEY`), the password of
/// `Basic`, and long values of cookies and parameters.
fn parts(value: &str) -> Vec<Zeroizing<String>> {
    let mut parts = Vec::new();
    let scheme = value.trim().split_once(' ').filter(|(_, rest)| rest.trim().len() >= SHORTEST);
    match scheme {
        // It holds the whole, but for a word.
        Some((_, rest)) => parts.push(Zeroizing::new(rest.trim().to_owned())),
        None => parts.push(Zeroizing::new(value.to_owned())),
    }
    if let Some((_, rest)) = scheme.filter(|(name, _)| name.eq_ignore_ascii_case("basic")) {
        let decoded = BASE64_STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(login) = decoded.map(Zeroizing::new) {
            parts.extend(login.split_once(':').map(|(_, password)| Zeroizing::new(password.to_owned())));
            parts.push(login);
        }
    }
    let short = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '&' | '"' | '\'');
    for word in value.split(short).flat_map(|word| [Some(word), word.split_once('=').map(|(_, value)| value)]) {
        let word = word.unwrap_or_default();
        if word.len() >= SHORTEST_PART && word.len() < value.len() && parts.len() < 16 {
            parts.push(Zeroizing::new(word.to_owned()));
        }
    }
    parts
}

/// Decodes one level of escapes and drops characters outside keys: spaces, control characters, non-ASCII. `None` if
/// nothing changes.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    // Eight times as fast as to look at each character by itself, and enough for most answers.
    let unseen = |piece: &[u8]| piece.iter().fold(false, |any, b| any | !b.is_ascii_graphic());
    if memchr3(b'\\', b'%', b'&', text).is_none() && !text.chunks(256).any(unseen) {
        return None;
    }
    let first = text.iter().position(|b| class(*b) != Class::Plain)?;
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(text.get(..first)?);
    let mut at = first;
    while let Some(byte) = text.get(at) {
        match class(*byte) {
            Class::Plain => {
                decoded.push(*byte);
                at += 1;
            }
            Class::Nothing => at += 1,
            Class::Escape => {
                let (length, byte) = unit(text, at)?;
                decoded.extend(byte);
                at += length;
            }
        }
    }
    (decoded.len() < text.len()).then_some(decoded)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands for itself and nothing else.
    Plain,
    /// Neither part of a key nor of an escape.
    Nothing,
    /// May begin an escape.
    Escape,
}

#[inline]
fn class(byte: u8) -> Class {
    match byte {
        b'\\' | b'%' | b'&' => Class::Escape,
        0x21..=0x7e => Class::Plain,
        _ => Class::Nothing,
    }
}

/// The length in bytes of the unit at a place, and its character if that may be part of a key.
fn unit(text: &[u8], at: usize) -> Option<(usize, Option<u8>)> {
    let rest = text.get(at..)?;
    let first = *rest.first()?;
    let escaped = match first {
        // One before a letter that needs none is no part of a key either.
        b'\\' => backslash(rest).or(Some((1, 0))),
        b'%' => percent(rest),
        b'&' => entity(rest),
        _ => None,
    };
    Some(match escaped {
        Some((length, code)) => (length, u8::try_from(code).ok().filter(u8::is_ascii_graphic)),
        None => (1, Some(first).filter(u8::is_ascii_graphic)),
    })
}

/// The number of exactly `count` hexadecimal digits at a place.
fn hex(rest: &[u8], at: usize, count: usize) -> Option<u32> {
    let digits = std::str::from_utf8(rest.get(at..at + count)?).ok()?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

/// The escapes of JSON, and of the languages whose texts are printed: `\u0041`, `\U00000041`, `\u{41}`, `\x41`, `\101`,
/// Markdown's `\_`, and lines that are continued.
fn backslash(rest: &[u8]) -> Option<(usize, u32)> {
    Some(match *rest.get(1)? {
        c if c.is_ascii_punctuation() => (2, u32::from(c)),
        b'n' | b't' | b'r' | b'b' | b'f' | b'\n' | b'\r' | b' ' => (2, 0),
        b'U' => (10, hex(rest, 2, 8)?),
        b'u' if rest.get(2) == Some(&b'{') => {
            let digits = rest.get(3..)?.iter().take(8).take_while(|b| b.is_ascii_hexdigit()).count();
            (digits > 0 && rest.get(3 + digits) == Some(&b'}')).then_some(())?;
            (digits + 4, hex(rest, 3, digits)?)
        }
        b'u' => (6, hex(rest, 2, 4)?),
        b'x' => (4, hex(rest, 2, 2)?),
        b'0'..=b'7' => {
            let digits = rest.get(1..)?.iter().take(3).take_while(|b| (b'0'..=b'7').contains(*b)).count();
            let number = rest.get(1..=digits)?.iter().fold(0, |n, d| n * 8 + u32::from(d - b'0'));
            (digits + 1, number)
        }
        _ => return None,
    })
}

/// `%41`, and JavaScript's `%u0041`.
fn percent(rest: &[u8]) -> Option<(usize, u32)> {
    match rest.get(1)? {
        b'u' => Some((6, hex(rest, 2, 4)?)),
        _ => Some((3, hex(rest, 1, 2)?)),
    }
}

/// HTML's names of the characters that keys have, and of those that cannot be seen.
const ENTITIES: [(&str, char); 37] = [
    ("ensp", ' '),
    ("emsp", ' '),
    ("nbsp", ' '),
    ("newline", ' '),
    ("shy", ' '),
    ("tab", ' '),
    ("zerowidthspace", ' '),
    ("amp", '&'),
    ("apos", '\''),
    ("ast", '*'),
    ("bsol", '\\'),
    ("colon", ':'),
    ("comma", ','),
    ("commat", '@'),
    ("dollar", '$'),
    ("equals", '='),
    ("excl", '!'),
    ("grave", '`'),
    ("gt", '>'),
    ("hat", '^'),
    ("lbrace", '{'),
    ("lbrack", '['),
    ("lowbar", '_'),
    ("lpar", '('),
    ("lsqb", '['),
    ("lt", '<'),
    ("num", '#'),
    ("percnt", '%'),
    ("period", '.'),
    ("plus", '+'),
    ("quest", '?'),
    ("quot", '"'),
    ("rbrace", '}'),
    ("rpar", ')'),
    ("rsqb", ']'),
    ("semi", ';'),
    ("sol", '/'),
];

/// `&#65;`, `&#x41;`, `&plus;`; the semicolon may be missing behind a number.
fn entity(rest: &[u8]) -> Option<(usize, u32)> {
    if rest.get(1) == Some(&b'#') {
        let (from, radix) = if matches!(rest.get(2), Some(b'x' | b'X')) { (3, 16) } else { (2, 10) };
        let is_digit = |b: &&u8| char::from(**b).is_digit(radix);
        let digits = rest.get(from..)?.iter().take(16).take_while(is_digit).count();
        let number = std::str::from_utf8(rest.get(from..from + digits)?).ok()?;
        let code = u32::from_str_radix(number, radix).ok()?;
        let end = from + digits;
        return Some((if rest.get(end) == Some(&b';') { end + 1 } else { end }, code));
    }
    let name = rest.get(1..)?.iter().take(16).position(|b| *b == b';')?;
    let name = std::str::from_utf8(rest.get(1..=name)?).ok()?;
    let (_, c) = ENTITIES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known))?;
    Some((name.len() + 2, u32::from(*c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-Proj/4+b=C_d9/eFgH+123";

    fn redactor(secrets: &[&str]) -> Redactor {
        Redactor::new(&secrets.iter().map(|s| SecretString::from(*s)).collect::<Vec<_>>())
    }

    fn redacted(secret: &str, body: &str) -> String {
        redactor(&[secret]).text(body).into_owned()
    }

    /// Every known or likely encoding of the key.
    fn disguises() -> Vec<String> {
        let each = |f: &dyn Fn(char) -> String| KEY.chars().map(f).collect::<String>();
        let json_lower = each(&|c| format!("\\u{:04x}", c as u32));
        let json_upper = each(&|c| format!("\\u{:04X}", c as u32));
        let percent = each(&|c| format!("%{:02X}", c as u32));
        let nested = |inner: &str| inner.replace('\\', "\\\\").replace('/', "\\/");
        vec![
            KEY.to_owned(),
            KEY.replace('/', "\\/"),
            KEY.replace('+', "\\u002B").replace('/', "\\/"),
            KEY.replace('+', "\\u002b"),
            KEY.replacen('s', "\\u0073", 1),
            json_upper,
            each(&|c| format!("\\x{:02x}", c as u32)),
            each(&|c| format!("\\u{{{:x}}}", c as u32)),
            each(&|c| format!("\\{:03o}", c as u32)),
            percent.clone(),
            percent.to_lowercase(),
            each(&|c| format!("%u{:04x}", c as u32)),
            KEY.replace('/', "%2f").replace('+', "%2B").replace('=', "%3D"),
            KEY.replace('/', "&sol;").replace('+', "&plus;").replace('=', "&equals;").replace('_', "&lowbar;"),
            each(&|c| format!("&#{};", c as u32)),
            each(&|c| format!("&#x{:X};", c as u32)),
            each(&|c| format!("&#0{}", c as u32)),
            nested(&json_lower),
            nested(&nested(&json_lower)),
            percent.replace('%', "%25"),
            percent.replace('%', "\\u0025"),
            KEY.replace('+', "&amp;#43;").replace('/', "&amp;sol;"),
            BASE64_STANDARD.encode(KEY),
            BASE64_STANDARD.encode(format!("x{KEY}")),
            BASE64_STANDARD.encode(format!("user:{KEY}")),
            BASE64_STANDARD.encode(format!("{{\"key\":\"{KEY}\",\"a\":1}}")).replace('/', "\\/"),
            BASE64_URL_SAFE_NO_PAD.encode(format!("{KEY}~~~~")),
            KEY.bytes().map(|b| format!("{b:02x}")).collect(),
            KEY.bytes().map(|b| format!("{b:02X}")).collect(),
            KEY.to_uppercase(),
            KEY.to_lowercase().replace('/', "\\/"),
            each(&|c| format!("{c} ")),
            each(&|c| format!("{c}\\n")),
            each(&|c| format!("{c}\u{200b}")),
            each(&|c| format!("{c}\0")),
            each(&|c| format!("{c}&nbsp;&ZeroWidthSpace;")),
            each(&|c| format!("\\U{:08x}", c as u32)),
            KEY.chars().map(|c| if c.is_ascii_punctuation() { format!("\\{c}") } else { c.to_string() }).collect(),
            KEY.replace('-', "-\\\n").replace('_', "_\\\n"),
            {
                let base64 = BASE64_STANDARD.encode(format!("a longer text with {KEY} in it"));
                base64.as_bytes().chunks(16).map(|c| format!("{}\n", String::from_utf8_lossy(c))).collect()
            },
        ]
    }

    /// Whether a text has no readable part of the key in any decoding.
    fn is_clean(text: &str) -> bool {
        let mut reading = text.as_bytes().to_vec();
        for _ in 0..6 {
            let plain: Vec<u8> = reading.iter().copied().filter(u8::is_ascii_graphic).collect();
            if plain.windows(6).any(|w| KEY.as_bytes().windows(6).any(|k| k.eq_ignore_ascii_case(w))) {
                return false;
            }
            match decode(&reading) {
                Some(next) => reading = next,
                None => break,
            }
        }
        true
    }

    #[test]
    fn a_key_is_found_however_it_is_written() {
        for disguise in disguises() {
            let text = redacted(&format!("Bearer {KEY}"), &format!("you sent {disguise} to us"));
            assert!(text.starts_with("you sent ") && text.ends_with(" to us"), "{disguise}: {text}");
            assert!(is_clean(&text), "{disguise}: {text}");
            assert!(text.contains("*****") && text.len() == disguise.len() + "you sent  to us".len(), "{text}");
        }
    }

    #[test]
    fn redacted_json_is_json() {
        for disguise in disguises() {
            let value = serde_json::Value::from(disguise.as_str()).to_string();
            let mut documents =
                vec![format!(r#"{{"a":"\ud83d\ude00 é \\","k{}":[1.25,{value}]}}"#, value.trim_matches('"'))];
            if serde_json::from_str::<serde_json::Value>(&format!("\"{disguise}\"")).is_ok() {
                documents.push(format!(r#"{{"\"":"x\"{disguise}\"y"}}"#));
            }
            for document in documents {
                let after = redacted(KEY, &document);
                let value: serde_json::Value = serde_json::from_str(&after).expect(&after);
                assert!(after.contains("****"), "{document}: {after}");
                let decoded = value.as_object().unwrap().iter().map(|(k, v)| format!("{k} {v}")).collect::<String>();
                assert!(is_clean(&after) && is_clean(&decoded), "{after}");
            }
        }
    }

    #[test]
    fn parts_of_a_value_are_secret_too() {
        let login = BASE64_STANDARD.encode("me:pass-word/1");
        for (secret, body) in [
            (format!("Basic {login}"), "the password pass-word/1 is wrong"),
            ("ApiKey abcdefghijkl".to_owned(), "no such key: abcdefghijkl"),
            ("sid=0123456789abcdefgh; theme=dark".to_owned(), "session 0123456789abcdefgh has ended"),
            ("SharedAccessSignature sr=x&sig=AbCdEfGhIjKlMnOp%3d&se=1".to_owned(), "sig AbCdEfGhIjKlMnOp= is wrong"),
            (
                "-----BEGIN KEY-----\nAbCd\nEfGh\n-----END KEY-----".to_owned(),
                r"-----BEGIN KEY-----\nAbCd\nEfGh\n-----END KEY-----",
            ),
        ] {
            assert!(redacted(&secret, body).contains("********"), "{body}");
        }
    }

    #[test]
    fn words_and_numbers_are_left_alone() {
        assert_eq!(redacted("none", "none of the above"), "none of the above");
        assert_eq!(redacted("my-Model", "MY-MODEL, my-model"), "MY-MODEL, my-model", "a short one may be a word");
        let vector = "[0.12345678,-12345678.5,1e12345678,123456789]";
        assert_eq!(redacted("12345678", vector), vector);
        assert_eq!(redacted("12345678", r#"{"you":"12345678","n":12345678}"#), r#"{"you":"99999999","n":99999999}"#);
        let text = r#"{"a":"100% &co; \q %zz &#; &#xg; \u12 é"}"#;
        assert_eq!(redacted(KEY, text), text);
    }

    #[test]
    fn a_key_that_looks_escaped_is_found_too() {
        for key in ["a%2Fb\\ncdefgh&amp;", "%41%42%43%44%45%46%47%48%49", "\\u0041bcdefgh\\\\n"] {
            for text in [key.to_owned(), serde_json::Value::from(key).to_string()] {
                let after = redacted(key, &text);
                assert!(after.contains("********") && !after.contains("cdefgh"), "{text}: {after}");
            }
        }
    }

    #[test]
    fn secrets_are_found_in_headers_queries_and_proxies() {
        let header = |n: &'static str, v: &str| (HeaderName::from_static(n), SecretString::from(v));
        let headers = [
            header("x-auth", "12345678"),
            header("anthropic-version", "2023-06-01"),
            header("x-mine", "0123456789aBcDeF"),
            header("x-other", "sk-proj-abc123def456ghi789"),
            header("x-model", "Qwen3-Embedding-8B"),
            header("x-team", "search and recommendation"),
            header("x-tenant", "acme-corporation-2"),
            header("ocp-apim-subscription", "abcdefgh"),
        ];
        assert_eq!(secrets_of(&headers).len(), 2);
        assert_eq!(secrets_of_function(&headers, &["Qwen3-Embedding-8B"]).count(), 4);
        let url = Url::parse("https://h/x?api-version=2024-10-21&code=a%2Fb12345&model=m").unwrap();
        let values: Vec<String> = secrets_in_query(&url).map(|s| s.expose_secret().to_owned()).collect();
        assert_eq!(values, ["a/b12345"]);
        let proxy = Proxy::new("http://me:pass-word@proxy.example:3128").unwrap();
        let found = redactor(&secrets_of_proxy(&proxy).iter().map(|s| s.expose_secret()).collect::<Vec<_>>());
        assert_eq!(found.text("407: bWU6cGFzcy13b3Jk is wrong"), "407: **************** is wrong");
        assert_eq!(found.text("no pass-word"), "no *********");
    }

    #[test]
    fn random_bytes_are_no_trouble() {
        let mut rng = fastrand::Rng::with_seed(11);
        let redactor = redactor(&[KEY]);
        let alphabet = b"\\\\%&u00x#;41aB {}\"\xc3\xa9\n/";
        for _ in 0..20_000 {
            let mut body: Vec<u8> = (0..rng.usize(..60)).map(|_| alphabet[rng.usize(..alphabet.len())]).collect();
            let before = body.clone();
            redactor.redact(&mut body);
            assert_eq!(body, before);
        }
    }

    /// Its cost. Run with `--ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn eight_megabytes() {
        let redactor = redactor(&[&format!("Bearer {KEY}")]);
        let mut rng = fastrand::Rng::with_seed(3);
        let mut numbers = |separator: &str| {
            let mut text = String::from("{\"data\":[");
            while text.len() < 8 << 20 {
                text.push_str(&format!("{:.8}{separator}", rng.f32() - 0.5));
            }
            text.into_bytes()
        };
        let bodies = [
            ("compact numbers", numbers(",")),
            ("numbers with spaces", numbers(",\n      ")),
            (
                "base64",
                BASE64_STANDARD.encode((0..6 << 20).map(|_| fastrand::u8(..)).collect::<Vec<u8>>()).into_bytes(),
            ),
            ("prose with escapes", "He said \\\"no\\\".\\nThen é nothing. ".repeat((8 << 20) / 34).into_bytes()),
            ("escapes only", "\\u0041".repeat((8 << 20) / 6).into_bytes()),
            ("escapes in escapes", "\\\\\\\\u0041".repeat((8 << 20) / 9).into_bytes()),
            ("the beginning of the key", KEY[..KEY.len() - 1].repeat((8 << 20) / KEY.len()).into_bytes()),
            ("keys", KEY.replace('/', "\\/").repeat((8 << 20) / (KEY.len() + 2)).into_bytes()),
        ];
        for (name, mut body) in bodies {
            let began = std::time::Instant::now();
            redactor.redact(&mut body);
            println!("{name}: {:.1} ms", began.elapsed().as_secs_f64() * 1000.0);
        }
    }
}
