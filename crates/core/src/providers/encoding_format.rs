//! The requested encoding of vectors: numbers, or base64 of their bytes. Base64 takes a tenth of the time to read and
//! less than half of the transfer.

use url::Url;

use crate::catalog::model::Model;
use crate::catalog::options::EncodingFormat;

/// Hosts whose references document base64. Compatible servers often get it wrong, so others are asked only by the
/// model's option. Answers are read in either form.
const HOSTS: [&str; 7] = [
    "api.openai.com",
    ".api.openai.com",
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
    ".openai.azure.us",
    "api.voyageai.com",
];

/// The request's `encoding_format`; `base` is the provider's own service. `None` omits it.
pub fn encoding_format(model: &Model, base: &str) -> Option<&'static str> {
    match model.options.encoding_format {
        Some(EncodingFormat::Float) => Some("float"),
        Some(EncodingFormat::Base64) => Some("base64"),
        Some(EncodingFormat::Auto) | None => {
            let url = Url::parse(model.request_url.as_deref().unwrap_or(base)).ok()?;
            let host = url.host_str()?;
            let known = |h: &&str| if h.starts_with('.') { host.ends_with(h) } else { host == *h };
            HOSTS.iter().any(known).then_some("base64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::named;

    #[test]
    fn base64_is_asked_of_those_who_promise_it() {
        let asked = |url: Option<&str>, options: &str| {
            let mut m = named("open_ai", "text_embedding", "m", options);
            m.request_url = url.map(str::to_owned);
            encoding_format(&m, super::super::open_ai::BASE)
        };
        assert_eq!(asked(None, "{}"), Some("base64"));
        assert_eq!(asked(Some("https://r.openai.azure.com"), r#"{"encoding_format":"auto"}"#), Some("base64"));
        assert_eq!(asked(Some("https://eu.api.openai.com/v1"), "{}"), Some("base64"));
        for other in ["http://localhost:11434", "https://openai.azure.com.evil.example", "https://xapi.openai.com"] {
            assert_eq!(asked(Some(other), "{}"), None, "{other}");
        }
        assert_eq!(asked(Some("http://localhost:8080"), r#"{"encoding_format":"base64"}"#), Some("base64"));
        assert_eq!(asked(None, r#"{"encoding_format":"float"}"#), Some("float"));
    }
}
