//! When a request is sent again, and after how long.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::rate_limit;

/// The first wait where the server names none; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(8);

/// Whether a later try may succeed after this status.
pub fn is_retryable(status: u16, body: &[u8]) -> bool {
    match status {
        429 => !is_out_of_money(body),
        408 | 409 | 425 | 500 | 502 | 503 | 504 | 520..=524 | 529 => true,
        _ => false,
    }
}

/// As [`is_retryable`], unless the header `x-should-retry` of OpenAI and Anthropic decides.
pub fn should_retry(header: Option<&str>, status: u16, body: &[u8]) -> bool {
    match header {
        Some("false") => false,
        Some("true") => status >= 400 && !is_out_of_money(body),
        _ => is_retryable(status, body),
    }
}

/// The JSON of a refusal; `None` if it is not JSON or larger than refusals are.
fn document(body: &[u8]) -> Option<Value> {
    match serde_json::from_slice(body.get(..body.len().min(64 * 1024)).unwrap_or_default()).ok()? {
        // Google's streams are arrays.
        Value::Array(items) => items.into_iter().next(),
        document => Some(document),
    }
}

/// Whether a quota or budget is exhausted. It has the status of a rate limit, but waiting does not help.
pub fn is_out_of_money(body: &[u8]) -> bool {
    document(body).is_some_and(|document| is_exhausted(&document))
}

fn is_exhausted(document: &Value) -> bool {
    let spent = ["/error/code", "/error/type", "/error/details/error_code", "/details/error_code", "/code", "/type"]
        .iter()
        .filter_map(|place| document.pointer(place).and_then(Value::as_str))
        .any(|code| {
            matches!(
                code,
                "insufficient_quota" | "billing_hard_limit_reached" | "enforced_spend_limit_reached" | "billing_error"
            )
        });
    spent || details(document).any(|detail| detail.get("violations").is_some_and(is_of_a_day))
}

/// Google's `error.details`, each an object with an `@type`.
fn details(document: &Value) -> impl Iterator<Item = &Value> {
    document.pointer("/error/details").and_then(Value::as_array).into_iter().flatten()
}

/// Whether a `google.rpc.QuotaFailure` concerns a daily quota. Google sends a short delay with it all the same.
fn is_of_a_day(violations: &Value) -> bool {
    let of_a_day = |text: &str| {
        let letters: String = text.chars().filter(char::is_ascii_alphabetic).collect();
        letters.to_ascii_lowercase().contains("perday")
    };
    let violations = violations.as_array().into_iter().flatten();
    violations.filter_map(|v| v.get("quotaId").and_then(Value::as_str)).any(of_a_day)
}

/// A refusal's statement about retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// Whether another try may succeed.
    pub again: bool,
    /// The requested wait before it, from any header or the body.
    pub wait: Option<Duration>,
}

/// Reads a refusal's statement about retries. The wait comes from the first of these:
/// - the headers `retry-after-ms` and `Retry-After`;
/// - the body (`google.rpc.RetryInfo`, `retry_after` and the like, "try again in 20s");
/// - the headers with the time of a limit's reset.
pub fn advice<'h>(status: u16, get: impl Fn(&str) -> Option<&'h str>, body: &[u8], now: SystemTime) -> Advice {
    let again = should_retry(get("x-should-retry"), status, body);
    let limited = matches!(status, 408 | 425 | 429 | 500..=599);
    let wait = asked_wait(get("retry-after-ms"), get("retry-after"), now)
        .or_else(|| document(body).filter(|_| limited).and_then(|document| wait_in(&document, now)))
        .or_else(|| rate_limit::exhausted(&get, now))
        .or_else(|| rate_limit::reset(&get, now).filter(|_| matches!(status, 429 | 503)));
    Advice { again, wait }
}

/// The requested wait in the body of a refusal.
fn wait_in(document: &Value, now: SystemTime) -> Option<Duration> {
    let delay = |detail: &Value| match detail.get("retryDelay")? {
        Value::String(text) => rate_limit::duration(text),
        parts => {
            let part = |name| parts.get(name).and_then(number).unwrap_or(0.0);
            seconds(part("seconds") + part("nanos") / 1e9)
        }
    };
    if let Some(wait) = details(document).find_map(delay) {
        return Some(wait);
    }
    let places = ["", "/error", "/error/metadata", "/error/details", "/detail", "/details", "/metadata", "/parameters"];
    let objects = || places.iter().filter_map(|place| document.pointer(place)).filter(|value| value.is_object());
    for (name, unit) in [("retry_after_ms", 1e-3), ("retryAfterMs", 1e-3)] {
        if let Some(wait) = objects().find_map(|object| object.get(name).and_then(number)) {
            return seconds(wait * unit);
        }
    }
    // Hugging Face reports how long a model takes to load.
    for name in ["retry_after", "retryAfter", "retry_after_seconds", "retry-after", "Retry-After", "estimated_time"] {
        let told = objects().find_map(|object| object.get(name));
        let wait = told.and_then(|told| match told {
            Value::String(text) => rate_limit::duration(text),
            other => number(other).and_then(seconds),
        });
        if wait.is_some() {
            return wait;
        }
    }
    // OpenRouter repeats its headers.
    let headers = document.pointer("/error/metadata/headers").and_then(Value::as_object);
    let header = |name: &str| {
        let found = headers?.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| value.as_str())
    };
    let reset =
        asked_wait(header("retry-after-ms"), header("retry-after"), now).or_else(|| rate_limit::reset(header, now));
    reset.or_else(|| {
        let words = ["/error/message", "/message", "/error"].iter().find_map(|place| document.pointer(place)?.as_str());
        wait_in_words(words?)
    })
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// "Please try again in 1m30.5s", "Please retry after 26 seconds", as OpenAI, Azure, Groq and Google say it.
fn wait_in_words(words: &str) -> Option<Duration> {
    let words = mysql_ml_base::error::cut(words, 4000).to_ascii_lowercase();
    let markers = ["try again in ", "try again after ", "retry in ", "retry after ", "retrying in "];
    let rest = markers.iter().find_map(|marker| words.split_once(marker).map(|(_, rest)| rest))?;
    let mut rest = rest.trim_start_matches("about ").trim_start();
    let mut total: Option<f64> = None;
    loop {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let Some((text, after)) = rest.split_at_checked(digits).filter(|_| digits > 0) else { break };
        let Ok(count) = text.parse::<f64>() else { break };
        let after = after.trim_start();
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let Some((unit, after)) = after.split_at_checked(letters) else { break };
        let unit = match unit {
            "ms" | "millisecond" | "milliseconds" => 1e-3,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => break,
        };
        total = Some(total.unwrap_or(0.0) + count * unit);
        rest = after.trim_start().trim_start_matches("and ").trim_start();
    }
    total.and_then(seconds)
}

/// The requested wait in the headers: `retry-after-ms`, or `Retry-After` in seconds or as a date.
pub fn asked_wait(retry_after_ms: Option<&str>, retry_after: Option<&str>, now: SystemTime) -> Option<Duration> {
    if let Some(ms) = retry_after_ms.and_then(|v| v.trim().parse::<f64>().ok()) {
        return seconds(ms / 1000.0);
    }
    let text = retry_after?.trim();
    if let Ok(s) = text.parse::<f64>() {
        return seconds(s);
    }
    httpdate::parse_http_date(text).ok().map(|at| at.duration_since(now).unwrap_or_default())
}

fn seconds(s: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(s).ok()
}

/// The wait before try `attempt` + 1 (from 1) if the server named none. Up to a quarter is subtracted at random, so
/// that sessions that failed together retry at different times.
pub fn backoff(attempt: u32) -> Duration {
    let full = FIRST.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX)).min(LONGEST);
    full.mul_f64(1.0 - 0.25 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exhausted_quota_is_not_retried() {
        assert!(is_retryable(429, b"slow down"));
        assert!(!is_retryable(429, br#"{"error":{"code":"insufficient_quota"}}"#));
        assert!(!is_retryable(
            429,
            br#"{"error":{"type":"rate_limit_error","details":{"error_code":"enforced_spend_limit_reached"}}}"#
        ));
        assert!(is_retryable(429, br#"{"error":{"message":"not the insufficient_quota kind","code":"rate_limit"}}"#));
        assert!(!should_retry(Some("false"), 503, b"") && should_retry(Some("true"), 501, b""));
        assert!(is_retryable(409, b"") && is_retryable(529, b"") && !is_retryable(401, b"") && !is_retryable(501, b""));
    }

    #[test]
    fn a_wait_is_heard_wherever_it_is_said() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let of = |status: u16, headers: &[(&str, &'static str)], body: &str| {
            let get = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
            advice(status, get, body.as_bytes(), now)
        };
        let retry_info = |delay: &str| {
            format!(
                r#"{{"error":{{"code":429,"status":"RESOURCE_EXHAUSTED","message":"You exceeded your current quota.","details":[
                {{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{{"quotaId":"EmbedContentRequestsPerMinutePerUserPerProjectPerModel-FreeTier"}}]}},
                {{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":{delay}}}]}}}}"#
            )
        };
        let openai = |words: &str| {
            format!(r#"{{"error":{{"message":"Rate limit reached for gpt-4o. {words} Visit x.","type":"tokens"}}}}"#)
        };
        for (body, ms) in [
            (retry_info("\"6.250000000s\""), 6250),
            (retry_info("\"6s\""), 6000),
            (retry_info("{\"seconds\":\"6\",\"nanos\":500000000}"), 6500),
            (format!("[{}]", retry_info("\"0.5s\"")), 500),
            (openai("Please try again in 20s."), 20_000),
            (openai("Please try again in 520ms."), 520),
            (openai("Please try again in 1m30.5s."), 90_500),
            (openai("Please retry after 26 seconds."), 26_000),
            (openai("Please retry in 27.81s."), 27_810),
            (openai("Try again in 2 minutes and 5 seconds."), 125_000),
            (r#"{"error":{"message":"x","retry_after":2.5}}"#.into(), 2500),
            (r#"{"retry_after":"3"}"#.into(), 3000),
            (r#"{"error":{"metadata":{"retry_after_ms":1500}}}"#.into(), 1500),
            (r#"{"detail":{"retry_after_seconds":4}}"#.into(), 4000),
            (r#"{"error":{"message":"x","metadata":{"headers":{"X-RateLimit-Reset":"1700000007000"}}}}"#.into(), 7000),
        ] {
            for status in [429, 503] {
                let said = of(status, &[], &body);
                assert_eq!(said, Advice { again: true, wait: Some(Duration::from_millis(ms)) }, "{body}");
            }
            assert_eq!(of(400, &[], &body).wait, None, "a text that is wrong stays wrong");
        }
        let loading = of(503, &[], r#"{"error":"Model m is currently loading","estimated_time":20.5}"#);
        assert_eq!(loading.wait, Some(Duration::from_millis(20_500)));
        for (header, value, s) in [
            ("ratelimit-reset", "8", 8),
            ("x-ratelimit-reset", "1700000009", 9),
            ("x-ratelimit-reset", "1700000009000", 9),
            ("x-ratelimit-reset", "2023-11-14T22:13:30Z", 10),
            ("x-ratelimit-reset-after", "1.0", 1),
            ("x-ratelimit-reset", "1m2s", 62),
            ("ratelimit", "\"default\";r=0;t=30", 30),
        ] {
            assert_eq!(of(429, &[(header, value)], "").wait, Some(Duration::from_secs(s)), "{header}: {value}");
        }
        let first = of(429, &[("retry-after", "1"), ("ratelimit-reset", "8")], &retry_info("\"6s\""));
        assert_eq!(first.wait, Some(Duration::from_secs(1)), "a header is meant for machines");
        for nothing in [
            "",
            "{",
            "[]",
            "try again in 20s",
            r#"{"error":{"message":"try again in a moment"}}"#,
            r#"{"retry_after":-1}"#,
            r#"{"retry_after":1e300}"#,
        ] {
            assert_eq!(of(429, &[], nothing).wait, None, "{nothing}");
        }
    }

    #[test]
    fn a_quota_of_the_day_is_final() {
        let body = |id: &str| {
            format!(
                r#"{{"error":{{"code":429,"details":[{{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{{"quotaId":"GenerateRequestsPerMinute"}},{{"quotaId":"{id}"}}]}},
                {{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"18s"}}]}}}}"#
            )
        };
        assert!(!is_retryable(429, body("GenerateRequestsPerDayPerProjectPerModel-FreeTier").as_bytes()));
        assert!(is_retryable(429, body("GenerateRequestsPerMinutePerProjectPerModel-FreeTier").as_bytes()));
    }

    #[test]
    fn waits_are_read_in_every_form() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let wait = |ms, s| asked_wait(ms, s, now);
        assert_eq!(wait(Some("1500"), Some("9")), Some(Duration::from_millis(1500)));
        assert_eq!(wait(None, Some("2")), Some(Duration::from_secs(2)));
        assert_eq!(wait(None, Some("Sun, 06 Nov 1994 08:49:47 GMT")), Some(Duration::from_secs(10)));
        assert_eq!(wait(None, Some("Sun, 06 Nov 1994 08:49:00 GMT")), Some(Duration::ZERO));
        assert_eq!(wait(None, Some("soon")), None);
        assert_eq!(wait(None, Some("-1")), None);
    }

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        for (attempt, most) in [(1, 500), (2, 1000), (3, 2000), (9, 8000), (200, 8000)] {
            let wait = backoff(attempt);
            assert!(
                wait <= Duration::from_millis(most) && wait >= Duration::from_millis(most * 3 / 4),
                "{attempt}: {wait:?}"
            );
        }
    }
}
