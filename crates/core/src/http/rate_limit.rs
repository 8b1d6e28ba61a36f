//! Rate limits in the headers of answers.

use std::time::{Duration, SystemTime};

/// The limits, as the middle part of header names.
const LIMITS: [&str; 4] = ["requests", "tokens", "input-tokens", "output-tokens"];

/// Longer waits belong to a day's or month's quota and do not pause other requests.
const LONGEST: Duration = Duration::from_secs(120);

/// The pause when a limit has nothing left: OpenAI's `x-ratelimit-remaining-requests` and `-reset-requests` (a
/// duration) and the same for tokens, Anthropic's `anthropic-ratelimit-requests-remaining` and `-reset` (a time).
pub fn exhausted<'h>(get: impl Fn(&str) -> Option<&'h str>, now: SystemTime) -> Option<Duration> {
    let none_left = |name: String| get(&name).is_some_and(|left| left.trim() == "0");
    LIMITS
        .iter()
        .filter_map(|limit| {
            if none_left(format!("x-ratelimit-remaining-{limit}")) {
                return duration(get(&format!("x-ratelimit-reset-{limit}"))?);
            }
            if none_left(format!("anthropic-ratelimit-{limit}-remaining")) {
                let at =
                    humantime::parse_rfc3339_weak(get(&format!("anthropic-ratelimit-{limit}-reset"))?.trim()).ok()?;
                return at.duration_since(now).ok();
            }
            None
        })
        .filter(|wait| !wait.is_zero() && *wait <= LONGEST)
        .max()
}

/// The time until a limit is reset, for services that do not report the rest. Headers: `x-ratelimit-reset-after`,
/// `ratelimit-reset` and `ratelimit` (the IETF's drafts), `x-ratelimit-reset` (a duration or a time).
pub fn reset<'h>(get: impl Fn(&str) -> Option<&'h str>, now: SystemTime) -> Option<Duration> {
    let in_parameter = || get("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t="));
    let told = get("x-ratelimit-reset-after").or_else(|| get("ratelimit-reset")).or_else(in_parameter);
    let wait = told.or_else(|| get("x-ratelimit-reset")).and_then(|text| until(text.trim(), now))?;
    Some(wait).filter(|wait| !wait.is_zero())
}

/// A duration, or a time: seconds or milliseconds since 1970, RFC 3339.
fn until(text: &str, now: SystemTime) -> Option<Duration> {
    let at = match text.parse::<f64>() {
        Ok(ms) if ms > 1e11 => SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(ms / 1000.0).ok()?)?,
        Ok(seconds) if seconds > 1e8 => {
            SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?
        }
        _ => match humantime::parse_rfc3339_weak(text) {
            Ok(at) => at,
            Err(_) => return duration(text),
        },
    };
    at.duration_since(now).ok()
}

/// A duration as Go prints it (`6m0s`, `7.66s`, `20ms`), or plain seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, ms) in
            [("1s", 1000), ("6m0s", 360_000), ("20ms", 20), ("7.66s", 7660), ("1h2m3s", 3_723_000), ("2", 2000)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["soon", "5x", "-1s", "s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_an_exhausted_limit_pauses() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let wait = |headers: &[(&str, &'static str)]| {
            let find = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
            exhausted(find, now)
        };
        let some = [("x-ratelimit-remaining-requests", "3"), ("x-ratelimit-reset-requests", "1s")];
        assert_eq!(wait(&some), None);
        let none = [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "1.5s"),
        ];
        assert_eq!(wait(&none), Some(Duration::from_millis(1500)));
        let anthropic = [
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "2023-11-14T22:13:25Z"),
        ];
        assert_eq!(wait(&anthropic), Some(Duration::from_secs(5)));
        let day = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "8h0m0s")];
        assert_eq!(wait(&day), None);
    }
}
