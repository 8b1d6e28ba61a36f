//! A chat of `OpenAI`'s kind that takes as long as its query says, for benchmarks, under `/bench`.

use std::time::Duration;

use super::call::{either, Call};
use super::{openai, openai_chat, strict};
use crate::answer::Answer;

/// The longest time that a request may take.
const MAX_DELAY: Duration = Duration::from_secs(600);

/// The route under `/bench`: without a key, with the requests of the lenient chat.
pub(super) fn route(call: &Call<'_>) -> Answer {
    either(serve(call))
}

fn serve(call: &Call<'_>) -> Result<Answer, Answer> {
    if call.parts != ["v1", "chat", "completions"] {
        return Err(openai::no_such_url(call));
    }
    let body = strict::body_of_any_type(call).map_err(|violation| openai::refuse(&violation))?;
    let ms = call.parameter("ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
    call.shared.pause(Duration::from_millis(ms).min(MAX_DELAY));
    openai_chat::lenient(call.shared, &body)
}
