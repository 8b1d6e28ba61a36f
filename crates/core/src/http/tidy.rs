//! Repairs answers that are almost JSON.
//!
//! One odd character must not cost a whole answer that was paid for. Only unambiguous defects are repaired; the readers
//! report the rest.

use std::ops::Range;

use memchr::{memchr, memchr2, memchr3};

/// In larger answers, in bytes, numbers are left to the readers of vectors.
const SMALL: usize = 1 << 20;

/// An answer with more defects is left alone.
const MOST: usize = 100_000;

/// Replaces a lone surrogate, which UTF-8 cannot contain.
const REPLACEMENT: &[u8] = b"\\ufffd";

/// The answer in UTF-8, without a byte order mark and trailing NULs. Strings lose lone surrogates and bare control
/// characters; `NaN` and `Infinity` become `null`. Invalid bytes become U+FFFD.
pub fn tidy(mut body: Vec<u8>) -> Vec<u8> {
    if let Some(text) = utf16(&body) {
        body = text.into_bytes();
    }
    if body.starts_with(b"\xef\xbb\xbf") {
        body.drain(..3);
    }
    let end = body.iter().rposition(|b| *b != 0 && !b.is_ascii_whitespace()).map_or(0, |last| last + 1);
    body.truncate(end);
    if std::str::from_utf8(&body).is_err() {
        body = String::from_utf8_lossy(&body).into_owned().into_bytes();
    }
    let is_json = body.trim_ascii_start().first().is_some_and(|b| matches!(b, b'{' | b'[' | b'"'));
    match is_json.then(|| mended(&body)).flatten() {
        Some(mended) => mended,
        None => body,
    }
}

/// The text of an answer in UTF-16, recognised by its byte order mark.
fn utf16(body: &[u8]) -> Option<String> {
    let (mark, rest) = body.split_at_checked(2)?;
    let (pairs, _) = rest.as_chunks::<2>();
    let units: Vec<u16> = match mark {
        b"\xff\xfe" => pairs.iter().map(|b| u16::from_le_bytes(*b)).collect(),
        b"\xfe\xff" => pairs.iter().map(|b| u16::from_be_bytes(*b)).collect(),
        _ => return None,
    };
    Some(String::from_utf16_lossy(&units))
}

/// The repairs so far.
struct Mending<'a> {
    body: &'a [u8],
    out: Vec<u8>,
    copied: usize,
    count: usize,
}

impl Mending<'_> {
    /// Replaces a range. Ranges must come in ascending order.
    fn replace(&mut self, range: Range<usize>, with: &[u8]) {
        self.out.extend_from_slice(self.body.get(self.copied..range.start).unwrap_or_default());
        self.out.extend_from_slice(with);
        self.copied = range.end;
        self.count += 1;
    }
}

/// The repaired document; `None` without defects or with more than [`MOST`].
fn mended(body: &[u8]) -> Option<Vec<u8>> {
    let mut mending = Mending { body, out: Vec::new(), copied: 0, count: 0 };
    let mut at = 0;
    while mending.count <= MOST {
        let rest = body.get(at..)?;
        let Some(quote) = memchr(b'"', rest) else {
            not_numbers(&mut mending, at..body.len());
            break;
        };
        not_numbers(&mut mending, at..at + quote);
        match string(&mut mending, at + quote + 1) {
            Some(end) => at = end,
            None => break,
        }
    }
    if mending.count == 0 || mending.count > MOST {
        return None;
    }
    mending.out.extend_from_slice(body.get(mending.copied..)?);
    Some(mending.out)
}

/// Repairs numbers outside JSON between strings: `NaN`, `Infinity`, and exponents beyond all readers.
fn not_numbers(mending: &mut Mending<'_>, range: Range<usize>) {
    let body = mending.body;
    let segment = body.get(..range.end).unwrap_or_default();
    let mut at = range.start;
    let next = |at: usize| {
        let rest = segment.get(at..)?;
        if body.len() > SMALL {
            return memchr2(b'N', b'I', rest).map(|found| at + found);
        }
        let first = memchr3(b'N', b'I', b'e', rest);
        // Written by few.
        let upper = memchr(b'E', rest.get(..first.unwrap_or(rest.len()))?);
        upper.or(first).map(|found| at + found)
    };
    while let Some(begin) = next(at) {
        let rest = segment.get(begin..).unwrap_or_default();
        at = begin + 1;
        if let Some(word) = [&b"NaN"[..], b"Infinity"].into_iter().find(|word| rest.starts_with(word)) {
            at = begin + word.len();
            let signed = begin > range.start && body.get(begin - 1) == Some(&b'-');
            mending.replace(begin - usize::from(signed)..at, b"null");
        } else if let Some(number) = beyond(segment, range.start, begin) {
            at = number.end;
            mending.replace(number, b"null");
        }
    }
}

/// The range of a number whose exponent begins at `e`, if no reader accepts its size.
fn beyond(segment: &[u8], from: usize, e: usize) -> Option<Range<usize>> {
    let digits = |at: usize| segment.get(at..).map_or(0, |rest| rest.iter().take_while(|b| b.is_ascii_digit()).count());
    let exponent = e + 1 + usize::from(segment.get(e + 1) == Some(&b'+'));
    let count = digits(exponent);
    // Fewer digits are within bounds.
    if count < 3 {
        return None;
    }
    let mantissa = segment.get(from..e)?.iter().rev();
    let begin = e - mantissa.take(400).take_while(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-')).count();
    let number = std::str::from_utf8(segment.get(begin..exponent + count)?).ok()?;
    number.parse::<f64>().ok().filter(|x| x.is_infinite()).map(|_| begin..exponent + count)
}

/// Repairs the string whose first character is at `at`; returns the position after it.
fn string(mending: &mut Mending<'_>, mut at: usize) -> Option<usize> {
    let body = mending.body;
    loop {
        let rest = body.get(at..)?;
        let special = memchr2(b'"', b'\\', rest)?;
        let plain = rest.get(..special)?;
        if plain.iter().any(|b| *b < 0x20) {
            for (i, b) in plain.iter().enumerate().filter(|(_, b)| **b < 0x20) {
                let escaped = match b {
                    b'\n' => "\\n".to_owned(),
                    b'\t' => "\\t".to_owned(),
                    b'\r' => "\\r".to_owned(),
                    b => format!("\\u{b:04x}"),
                };
                mending.replace(at + i..at + i + 1, escaped.as_bytes());
            }
        }
        at += special;
        if body.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        let length = match (unicode(body, at), unicode(body, at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                mending.replace(at..at + 6, REPLACEMENT);
                6
            }
            _ => {
                if body.get(at + 1) == Some(&b'\'') {
                    mending.replace(at..at + 2, b"'");
                }
                2
            }
        };
        at += length;
        if mending.count > MOST {
            return None;
        }
    }
}

/// The number of a `\u` escape at a place.
fn unicode(body: &[u8], at: usize) -> Option<u16> {
    let digits = body.get(at..)?.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tidied(body: &[u8]) -> String {
        String::from_utf8(tidy(body.to_vec())).unwrap()
    }

    #[test]
    fn half_a_pair_becomes_the_replacement_character() {
        for (body, tidy) in [
            (r#"{"a":"x \ud83d y"}"#, r#"{"a":"x \ufffd y"}"#),
            (r#"{"a":"\ude00"}"#, r#"{"a":"\ufffd"}"#),
            (r#"{"a":"\uD83D\uDE00"}"#, r#"{"a":"\uD83D\uDE00"}"#),
            (r#"{"a":"\ud83d\ud83d\ude00"}"#, r#"{"a":"\ufffd\ud83d\ude00"}"#),
            (r#"{"a":"\ud83d\n"}"#, r#"{"a":"\ufffd\n"}"#),
            (r#"{"a":"\\ud83d"}"#, r#"{"a":"\\ud83d"}"#),
            (r#"{"a\udfff":"\\\ud83d"}"#, r#"{"a\ufffd":"\\\ufffd"}"#),
            (r#"["\ud83d"#, r#"["\ufffd"#),
        ] {
            assert_eq!(tidied(body.as_bytes()), tidy, "{body}");
        }
    }

    #[test]
    fn text_around_a_document_goes() {
        for body in [
            &b"\xef\xbb\xbf{\"a\":1}"[..],
            b"{\"a\":1}\0\0\0",
            b"{\"a\":1} \r\n\0\n",
            b"\xff\xfe{\x00\"\x00a\x00\"\x00:\x001\x00}\x00",
            b"\xfe\xff\x00{\x00\"\x00a\x00\"\x00:\x001\x00}",
        ] {
            assert_eq!(tidied(body), "{\"a\":1}", "{body:?}");
        }
        assert_eq!(tidied(b"\0\0"), "");
        assert_eq!(tidied(b"{\"a\":\"\xf0\x9f\x98\"}"), "{\"a\":\"\u{fffd}\"}");
    }

    #[test]
    fn values_without_a_json_form_are_null_or_escaped() {
        assert_eq!(
            tidied(b"{\"a\":[NaN,-Infinity,Infinity,1],\"NaN\":\"NaN -Infinity\"}"),
            "{\"a\":[null,null,null,1],\"NaN\":\"NaN -Infinity\"}"
        );
        assert_eq!(tidied(b"{\"a\":\"x\ny\tz\x01 it\\'s\"}"), "{\"a\":\"x\\ny\\tz\\u0001 it's\"}");
        assert_eq!(
            tidied(b"[1e999,-2.5E+400,1e-999,1.7e308,{\"1e999\":\"1e999\",\"b\":1.8e309}]"),
            "[null,null,1e-999,1.7e308,{\"1e999\":\"1e999\",\"b\":null}]"
        );
        for same in [
            "[true,false,1e5,1E5,-1e+12]",
            "NaN",
            "text \u{1}",
            "{\"a\":\"",
            "[1,2.5e3]",
            "{\"a\":\"\\u12",
            "<html>Infinity</html>",
            "{\"I\":No}",
        ] {
            assert_eq!(tidied(same.as_bytes()), same);
        }
    }

    #[test]
    fn valid_documents_stay_and_mended_ones_mean_the_same() {
        let mut rng = fastrand::Rng::with_seed(7);
        let pieces =
            ["\"", "\\", "\\u", "d83d", "ude00", "NaN", "-", "{", "}", "[", "]", ":", ",", "1", "a", "\n", "é", "\\\""];
        for _ in 0..50_000 {
            let text: String = (0..rng.usize(1..14)).map(|_| pieces[rng.usize(..pieces.len())]).collect();
            let after = tidied(text.as_bytes());
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                assert_eq!(after.trim_end(), text.trim_end());
            }
        }
    }

    /// Its cost. Run with `--ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn eight_megabytes() {
        let numbers = "-0.01234567,".repeat((8 << 20) / 12);
        let exponents = "-1.234567e-05,".repeat((8 << 20) / 14);
        let prose = "He said \\\"no\\\".\\nThen é nothing. ".repeat((8 << 20) / 34);
        let bodies = [
            ("numbers", format!("[{numbers}1]")),
            ("numbers with exponents", format!("[{exponents}1]")),
            ("prose", format!("[\"{prose}\"]")),
            ("halves of pairs", format!("[\"{}\"]", "\\ud83d plain text ".repeat(50_000))),
        ];
        for (name, body) in bodies {
            let began = std::time::Instant::now();
            let length = tidy(body.into_bytes()).len();
            println!("{name}: {length} bytes in {:.1} ms", began.elapsed().as_secs_f64() * 1000.0);
        }
    }
}
