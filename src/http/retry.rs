//! When a request is sent again, and after how long.

use std::time::{Duration, SystemTime};

use serde_json::Value;

/// The first wait where the server names none; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(8);

/// Whether an answer with this status may be another one later.
pub fn is_retryable(status: u16, body: &[u8]) -> bool {
    match status {
        429 => !is_out_of_money(body),
        408 | 409 | 500 | 502 | 503 | 504 | 529 => true,
        _ => false,
    }
}

/// As [`is_retryable`], unless the header `x-should-retry`, which OpenAI and Anthropic send, knows better.
pub fn should_retry(header: Option<&str>, status: u16, body: &[u8]) -> bool {
    match header {
        Some("false") => false,
        Some("true") => status >= 400 && !is_out_of_money(body),
        _ => is_retryable(status, body),
    }
}

/// Whether a quota or budget is exhausted, which is answered with the status of a rate limit: waiting does not help.
pub fn is_out_of_money(body: &[u8]) -> bool {
    let Ok(document) = serde_json::from_slice::<Value>(body.get(..body.len().min(64 * 1024)).unwrap_or_default())
    else {
        return false;
    };
    ["/error/code", "/error/type", "/error/details/error_code", "/details/error_code", "/code"]
        .iter()
        .filter_map(|place| document.pointer(place).and_then(Value::as_str))
        .any(|code| {
            matches!(
                code,
                "insufficient_quota" | "billing_hard_limit_reached" | "enforced_spend_limit_reached" | "billing_error"
            )
        })
}

/// The wait that the headers ask for: `retry-after-ms`, or `Retry-After` in seconds or as a date.
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

/// The wait before try number `attempt` + 1 (from 1) where the server named none; up to a quarter less at random,
/// so that sessions that failed together do not come back together.
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
