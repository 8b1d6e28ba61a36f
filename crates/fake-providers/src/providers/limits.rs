//! Limiters in front of other routes.

use std::io;
use std::time::{Duration, Instant};

use serde_json::json;

use super::call::Call;
use super::openai;
use crate::answer::Answer;
use crate::reply::Reply;

/// Duration of an answer of `/concurrent`.
const BUSY: Duration = Duration::from_millis(20);

/// A duration in Go's format: `1m30s`, `1.5s`, `20ms`.
fn go_duration(duration: Duration) -> String {
    let milliseconds = duration.as_nanos().div_ceil(1_000_000);
    if milliseconds < 1000 {
        return if milliseconds == 0 { "0s".into() } else { format!("{milliseconds}ms") };
    }
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut out = String::new();
    if hours > 0 {
        out += &format!("{hours}h");
    }
    if hours > 0 || minutes > 0 {
        out += &format!("{minutes}m");
    }
    let fraction = format!("{rest:03}");
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        out + &format!("{seconds}s")
    } else {
        out + &format!("{seconds}.{fraction}s")
    }
}

fn whole_seconds(duration: Duration) -> String {
    duration.as_nanos().div_ceil(1_000_000_000).max(1).to_string()
}

fn too_many() -> Answer {
    openai::error(429, "Rate limit reached for requests", "requests", None, Some("rate_limit_exceeded"))
}

/// Answers an accepted request as the route for the rest of the path does.
fn forward(call: &Call<'_>, rest: &str) -> io::Result<Reply> {
    call.routes.route(call.shared, call.request, &format!("/{rest}"))
}

/// `/limited/REST`
pub(super) fn limited(call: &Call<'_>, rest: &str) -> io::Result<Reply> {
    let mut limits = call.state.limits();
    let Some(limit) = &mut limits.limit else {
        drop(limits);
        return forward(call, rest);
    };
    let now = Instant::now();
    let begin = limit.begin.filter(|begin| now.duration_since(*begin) < limit.window).unwrap_or_else(|| {
        limit.used = 0;
        now
    });
    limit.begin = Some(begin);
    let reset = limit.window.saturating_sub(now.duration_since(begin));
    let (per_window, used) = (limit.per_window, limit.used);
    if used >= per_window {
        limits.refused += 1;
        let refusal = if reset < Duration::from_secs(1) {
            let milliseconds = reset.as_nanos().div_ceil(1_000_000).max(1);
            too_many().with_header("retry-after-ms", &milliseconds.to_string())
        } else {
            too_many().with_header("Retry-After", &whole_seconds(reset))
        };
        return Ok(describe(refusal, per_window, 0, reset).into());
    }
    limit.used += 1;
    drop(limits);
    let remaining = per_window - used - 1;
    Ok(match forward(call, rest)? {
        Reply::Answer(answer) => describe(answer, per_window, remaining, reset).into(),
        other => other,
    })
}

/// Replaces the route's headers about the rest of the limit.
fn describe(mut answer: Answer, limit: u32, remaining: u32, reset: Duration) -> Answer {
    answer.headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("x-ratelimit-"));
    answer
        .with_header("x-ratelimit-limit-requests", &limit.to_string())
        .with_header("x-ratelimit-remaining-requests", &remaining.to_string())
        .with_header("x-ratelimit-reset-requests", &go_duration(reset))
}

/// `/pause-once/SECONDS/REST`; None for another form of path.
pub(super) fn pause_once(call: &Call<'_>, arguments: &str) -> io::Result<Option<Reply>> {
    let Some((seconds, rest)) = arguments.split_once('/') else {
        return Ok(None);
    };
    let Ok(seconds) = seconds.parse::<u32>() else {
        return Ok(None);
    };
    let mut limits = call.state.limits();
    let now = Instant::now();
    let end = match limits.pauses.get(arguments) {
        Some(end) if now >= *end => None,
        Some(end) => Some(*end),
        None => {
            let end = now + Duration::from_secs(seconds.into());
            limits.pauses.insert(arguments.to_owned(), end);
            Some(end)
        }
    };
    let Some(end) = end else {
        drop(limits);
        return forward(call, rest).map(Some);
    };
    limits.refused += 1;
    Ok(Some(too_many().with_header("Retry-After", &whole_seconds(end - now)).into()))
}

/// A request in progress at `/concurrent`.
struct Busy<'a> {
    call: &'a Call<'a>,
    most: u32,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(busy) = self.call.state.limits().busy.get_mut(&self.most) {
            *busy -= 1;
        }
    }
}

/// `/concurrent/N/REST`; None for another form of path.
pub(super) fn concurrent(call: &Call<'_>, arguments: &str) -> io::Result<Option<Reply>> {
    let Some((most, rest)) = arguments.split_once('/') else {
        return Ok(None);
    };
    let Ok(most) = most.parse::<u32>() else {
        return Ok(None);
    };
    let mut limits = call.state.limits();
    let busy = limits.busy.entry(most).or_default();
    if *busy >= most {
        limits.refused += 1;
        return Ok(Some(too_many().into()));
    }
    *busy += 1;
    drop(limits);
    let _busy = Busy { call, most };
    call.shared.pause(BUSY);
    forward(call, rest).map(Some)
}

/// Anthropic's answer when the month's budget is spent; waiting does not help.
pub(super) fn spend_limit() -> Answer {
    let error = json!({
        "type": "rate_limit_error",
        "message": "You have reached your specified API usage limits.",
        "details": {"error_code": "enforced_spend_limit_reached"},
    });
    Answer::json(429, &json!({"type": "error", "error": error, "request_id": "req_test"}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (milliseconds, text) in
            [(0, "0s"), (20, "20ms"), (1000, "1s"), (1500, "1.5s"), (360_000, "6m0s"), (3_600_000, "1h0m0s")]
        {
            assert_eq!(go_duration(Duration::from_millis(milliseconds)), text);
        }
    }
}
