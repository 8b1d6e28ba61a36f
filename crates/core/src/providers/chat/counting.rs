//! Counting the tokens of a text before it is sent: Anthropic's and Google's own services for it.
//!
//! Anthropic: `POST /v1/messages/count_tokens`, the answer has `input_tokens`; on Vertex AI the model `count-tokens`.
//! Gemini: `:countTokens` in the place of `:generateContent`, the answer has `totalTokens`.

use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::Chat;
use mysql_ml_base::error::{Error, Result};

/// The methods that write text, of which each has a counterpart that counts.
const GENERATING: [&str; 2] = [":generateContent", ":streamGenerateContent"];

#[derive(Deserialize)]
struct Count {
    #[serde(default, alias = "totalTokens")]
    input_tokens: Option<u64>,
}

impl Chat {
    /// The URL that counts tokens, from that of the model's questions; `None` if none is known.
    pub fn counting_url(self, url: &Url) -> Option<Url> {
        let path = url.path().trim_end_matches('/');
        let path = match self {
            Chat::Anthropic if path.ends_with("/messages") => format!("{path}/count_tokens"),
            Chat::Anthropic => {
                let (models, _) = path.strip_suffix(":rawPredict")?.rsplit_once('/')?;
                format!("{models}/count-tokens:rawPredict")
            }
            Chat::Gemini => {
                let model = GENERATING.iter().find_map(|method| path.strip_suffix(method))?;
                format!("{model}:countTokens")
            }
            _ => return None,
        };
        let mut url = url.clone();
        url.set_path(&path);
        Some(url)
    }

    /// The request body that counts the tokens of a text, without what
    /// [`Provider::predict_request`](crate::providers::Provider::predict_request) adds. `name`: the provider's name of the
    /// model, if it is known.
    pub fn counting_request(self, name: Option<&str>, text: &str) -> String {
        let body = match (self, name) {
            (Chat::Gemini, _) => json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
            (_, Some(name)) => json!({"model": name, "messages": [{"role": "user", "content": text}]}),
            (_, None) => json!({"messages": [{"role": "user", "content": text}]}),
        };
        body.to_string()
    }
}

/// The tokens in an answer.
pub fn read_count(answer: &[u8]) -> Result<u64> {
    let read = serde_json::from_slice::<Count>(answer).ok().and_then(|count| count.input_tokens);
    read.ok_or_else(|| Error::response("the endpoint answered without a number of tokens"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counting_url_stands_beside_the_models_own() {
        let at = |chat: Chat, url: &str| chat.counting_url(&Url::parse(url).unwrap()).map(String::from);
        for (chat, url, wanted) in [
            (
                Chat::Anthropic,
                "https://api.anthropic.com/v1/messages?route=a",
                Some("https://api.anthropic.com/v1/messages/count_tokens?route=a"),
            ),
            (
                Chat::Anthropic,
                "https://h/v1/projects/p/locations/l/publishers/anthropic/models/claude-x:rawPredict",
                Some("https://h/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict"),
            ),
            (Chat::Anthropic, "https://h/other", None),
            (
                Chat::Gemini,
                "https://h/v1beta/models/gemini-2.5-flash:generateContent",
                Some("https://h/v1beta/models/gemini-2.5-flash:countTokens"),
            ),
            (
                Chat::Gemini,
                "https://h/v1/p/models/gemini:streamGenerateContent",
                Some("https://h/v1/p/models/gemini:countTokens"),
            ),
            (Chat::Gemini, "https://h/v1/endpoints/1:predict", None),
            (Chat::COMPATIBLE, "https://h/v1/chat/completions", None),
        ] {
            assert_eq!(at(chat, url).as_deref(), wanted, "{url}");
        }
    }

    #[test]
    fn the_count_is_asked_for_and_read_in_each_services_form() {
        assert_eq!(
            Chat::Anthropic.counting_request(Some("claude"), "hi"),
            r#"{"messages":[{"content":"hi","role":"user"}],"model":"claude"}"#
        );
        assert_eq!(
            Chat::Gemini.counting_request(Some("gemini"), "hi"),
            r#"{"contents":[{"parts":[{"text":"hi"}],"role":"user"}]}"#
        );
        assert_eq!(read_count(br#"{"input_tokens":9}"#).unwrap(), 9);
        assert_eq!(
            read_count(br#"{"totalTokens":3,"promptTokensDetails":[{"modality":"TEXT","tokenCount":3}]}"#).unwrap(),
            3
        );
        for other in ["{}", "[]", "x", r#"{"input_tokens":-1}"#, r#"{"totalTokens":"3"}"#] {
            assert!(read_count(other.as_bytes()).is_err(), "{other}");
        }
    }
}
