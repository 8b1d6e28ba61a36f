//! The providers' own interfaces, each under a prefix that stands for its host.
//!
//! They are strict, unlike the default routes. A wrong header or shape, or a missing or unknown member, gets the
//! status and body of the real service.

use std::io;

use serde_json::Value;

use crate::answer::Answer;
use crate::reply::Reply;
use crate::request::Request;
use crate::shared::{Route, Shared};

mod anthropic;
mod bedrock;
mod bench;
mod call;
mod cohere;
mod dialogue;
mod google;
pub(crate) mod google_identity;
mod hugging_face;
mod images;
mod limits;
mod marker;
mod mistral;
mod nvidia;
mod ollama;
mod openai;
mod openai_chat;
mod outcome;
mod packed;
mod response_format;
mod schemas;
mod secret_manager;
mod state;
mod strict;
mod structured;
#[cfg(test)]
mod tests;
mod voyage;

pub use call::relevance_for;
use call::{decode, Call};
pub(crate) use state::State;

/// Answers a chat request of `OpenAI`'s kind on the lenient default route.
pub(crate) fn lenient_chat(shared: &Shared, body: &Value) -> Result<Answer, Answer> {
    openai_chat::lenient(shared, body)
}

/// Ranks documents as servers with `OpenAI`'s interface do.
pub(crate) fn rerank(body: &Value) -> Answer {
    openai::rerank(body).unwrap_or_else(|violation| openai::refuse(&violation))
}

/// Answers a request below a provider's prefix; None without such a prefix.
pub(crate) fn route(
    state: &State,
    routes: &dyn Route,
    shared: &Shared,
    request: &Request<'_>,
    path: &str,
) -> io::Result<Option<Reply>> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    let decoded: Vec<String> = rest.split('/').map(|part| decode(part, false)).collect();
    let whole: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let whole = whole.as_slice();
    let Some((family, parts)) = whole.split_first() else {
        return Ok(None);
    };
    let call = Call { state, routes, shared, request, parts };
    // The text after a limiter is another route's path, which that route decodes.
    let (_, raw) = rest.split_once('/').unwrap_or((rest, ""));
    let answer = match *family {
        // A local Ollama has its own interface besides that of OpenAI.
        "api" => ollama::route(&Call { parts: whole, ..call }),
        "anthropic" => anthropic::route(&call),
        "azure" => openai::azure(&call),
        "bedrock" => bedrock::route(&call),
        "bench" => bench::route(&call),
        "cohere" => cohere::route(&call),
        "computeMetadata" => google_identity::metadata(&call),
        "concurrent" => return limits::concurrent(&call, raw),
        "discovery" => google::discovery(&call),
        "gemini" => google::gemini(&call),
        "google-oauth" => google_identity::oauth(&call),
        "google-sts" => google_identity::sts(&call),
        "huggingface" => hugging_face::route(&call),
        "iamcredentials" => google_identity::iam_credentials(&call),
        "limited" => return limits::limited(&call, raw).map(Some),
        "mistral" => mistral::route(&call),
        "nim" => nvidia::route(&call),
        "ollama" => ollama::route(&call),
        "openai" => openai::route(&call),
        "pause-once" => return limits::pause_once(&call, raw),
        "secretmanager" => secret_manager::route(&call),
        "spend-limit" => limits::spend_limit(),
        "tei" => hugging_face::tei(&call),
        "vertex" => google::vertex(&call),
        "voyage" => voyage::route(&call),
        _ => return Ok(None),
    };
    Ok(Some(answer.into()))
}
