//! Errors inside answers with a good status.
//!
//! Called only for answers that could not be read. An error field beside a good answer therefore changes nothing.

use serde_json::{Map, Value};

/// Larger answers, in bytes, are not searched for an error.
const LARGEST: usize = 256 * 1024;

/// The most documents of a stream that are searched.
const MAX_EVENTS: usize = 1000;

/// An error found inside an answer.
#[derive(Debug, PartialEq)]
pub struct Dressed {
    /// The status it should have had; 500 if the error names none.
    pub status: u16,
    /// The error as the body of a refusal; empty if the answer was empty.
    pub body: Vec<u8>,
}

/// Finds the error in a document, an array of documents, or a stream of events or lines. An empty answer counts as an
/// error.
pub fn error_in(answer: &[u8]) -> Option<Dressed> {
    let answer = answer.get(..answer.len().min(LARGEST))?;
    let documents = documents(answer);
    let error = documents.iter().find_map(|document| match document {
        Value::Array(items) => items.iter().find_map(error_of),
        document => error_of(document),
    });
    let nothing = || match documents.as_slice() {
        [] => answer.trim_ascii().is_empty(),
        [document] if !is_stream(answer) => ["data", "embeddings", "predictions", "choices"]
            .iter()
            .any(|name| document.get(name).and_then(Value::as_array).is_some_and(Vec::is_empty)),
        _ => false,
    };
    error.or_else(|| nothing().then(|| Dressed { status: 502, body: Vec::new() }))
}

/// Whether an answer consists of an error only. `anyhow`: recognise every known error field, for services whose answers
/// are known; otherwise only a member `error`.
pub fn is_error_alone(answer: &[u8], anyhow: bool) -> bool {
    if answer.len() > LARGEST {
        return false;
    }
    let alone = |document: &Value| {
        document.as_object().is_some_and(|members| {
            let named =
                members.get("error").is_some_and(is_something) || members.get("object") == Some(&"error".into());
            let told = named || (anyhow && error_of(document).is_some());
            told && !members.iter().any(|(name, value)| is_payload(name, value))
        })
    };
    match serde_json::from_slice::<Value>(answer) {
        Ok(Value::Array(items)) => !items.is_empty() && items.iter().all(alone),
        Ok(document) => alone(&document),
        Err(_) => false,
    }
}

/// Whether an answer is a stream of events or lines instead of one document.
pub fn is_stream(answer: &[u8]) -> bool {
    let start = answer.trim_ascii_start();
    [&b"data:"[..], b"event:", b"id:", b"retry:", b":"].iter().any(|field| start.starts_with(field)) || is_lines(start)
}

/// Whether an answer is several objects, one a line.
fn is_lines(start: &[u8]) -> bool {
    let mut documents = serde_json::Deserializer::from_slice(start).into_iter::<serde::de::IgnoredAny>();
    let first = start.first() == Some(&b'{') && matches!(documents.next(), Some(Ok(_)));
    let rest = start.get(documents.byte_offset()..).unwrap_or_default().trim_ascii_start();
    first && rest.first() == Some(&b'{')
}

fn documents(answer: &[u8]) -> Vec<Value> {
    let start = answer.trim_ascii_start();
    if start.first().is_some_and(|b| matches!(b, b'{' | b'[')) {
        let documents = serde_json::Deserializer::from_slice(start).into_iter::<Value>();
        return documents.take(MAX_EVENTS).map_while(std::result::Result::ok).collect();
    }
    let lines = start.split(|b| *b == b'\n').take(MAX_EVENTS);
    lines.filter_map(|line| serde_json::from_slice(line.strip_prefix(b"data:")?).ok()).collect()
}

/// Whether an error field is set. `null`, `false`, `""` and `{}` mean no error.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => items.iter().any(is_something),
        Value::Object(members) => !members.is_empty(),
    }
}

/// Whether a member holds a result.
fn is_payload(name: &str, value: &Value) -> bool {
    match name {
        "choices" => value.as_array().into_iter().flatten().any(|choice| {
            ["/message/content", "/text", "/message/tool_calls"]
                .iter()
                .any(|place| choice.pointer(place).is_some_and(is_something))
        }),
        "data" | "results" | "result" | "rankings" | "records" | "predictions" | "candidates" | "content"
        | "output" | "embedding" | "embeddings" | "generated_text" => is_something(value),
        "message" => value.is_object(),
        _ => false,
    }
}

fn error_of(document: &Value) -> Option<Dressed> {
    let members = document.as_object()?;
    let get = |name: &str| members.get(name).filter(|value| is_something(value));
    let dressed = |error: &Value| Some(wrapped(error, members));
    if let Some(error) = get("error").or_else(|| document.pointer("/Response/Error")) {
        return dressed(error);
    }
    for list in ["choices", "candidates"] {
        let items = get(list).and_then(Value::as_array).into_iter().flatten();
        if let Some(error) = items.filter_map(|item| item.get("error")).find(|error| is_something(error)) {
            return dressed(error);
        }
    }
    if members.iter().any(|(name, value)| is_payload(name, value)) {
        return None;
    }
    // Error shapes of vLLM, MiniMax, Baidu, Cloudflare, AWS, Cohere and FastAPI, in this order.
    let failed = |value: &Value| value.as_str().is_some_and(|s| matches!(s, "error" | "failed" | "fail" | "failure"));
    let own = get("object").is_some_and(failed)
        || get("status").is_some_and(failed)
        || document.pointer("/base_resp/status_code").is_some_and(is_something)
        || get("error_code").is_some()
        || get("errors").is_some()
        || get("__type").is_some()
        || document.pointer("/Output/__type").is_some()
        || members.get("success") == Some(&Value::Bool(false))
        || ["message", "msg", "detail"].iter().any(|name| get(name).is_some_and(|words| !words.is_object()));
    own.then(|| Dressed { status: status_of(document, members), body: document.to_string().into_bytes() })
}

/// The error as the body of a refusal, with the members that explain it.
fn wrapped(error: &Value, beside: &Map<String, Value>) -> Dressed {
    let mut body = Map::new();
    for (name, value) in beside {
        if matches!(name.as_str(), "error_description" | "estimated_time" | "retry_after" | "message" | "detail") {
            body.insert(name.clone(), value.clone());
        }
    }
    // For `"error": true` or a number the message is in a sibling member.
    if matches!(error, Value::Object(_) | Value::String(_) | Value::Array(_)) {
        body.insert("error".into(), error.clone());
    }
    if let Some(message) = error.get("Message").filter(|_| error.get("message").is_none()) {
        body.insert("error".into(), serde_json::json!({"message": message, "code": error.get("Code")}));
    }
    Dressed { status: status_of(error, beside), body: Value::Object(body).to_string().into_bytes() }
}

/// The HTTP status of an error: its own number or status word, else one guessed from its message.
fn status_of(error: &Value, beside: &Map<String, Value>) -> u16 {
    const NAMES: [&str; 9] =
        ["code", "status", "status_code", "http_status", "type", "error_type", "error_code", "__type", "Code"];
    let inside = NAMES.iter().filter_map(|name| error.get(name));
    let around = NAMES.iter().filter_map(|name| beside.get(*name));
    let said: Vec<&Value> = inside.chain(around).collect();
    let number = |value: &&Value| {
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
        u16::try_from(number).ok().filter(|n| (400..600).contains(n))
    };
    let words = |value: &&Value| value.as_str().and_then(status_of_word);
    if let Some(status) = said.iter().find_map(number).or_else(|| said.iter().find_map(words)) {
        return status;
    }
    if beside.contains_key("estimated_time") {
        return 503;
    }
    let message = match error {
        Value::String(text) => Some(text.as_str()),
        Value::Array(items) => items.first().and_then(Value::as_str),
        error => ["message", "msg", "detail"].iter().find_map(|name| error.get(name)?.as_str()),
    };
    message.and_then(status_of_word).unwrap_or(500)
}

/// HTTP statuses by substrings of the services' error names. The first match wins.
const STATUSES: [(u16, &[&str]); 9] = [
    (429, &["ratelimit", "toomanyrequests", "resourceexhausted", "throttl", "quota"]),
    (529, &["overloaded"]),
    (503, &["unavailable", "loading", "capacity"]),
    (504, &["timeout", "timedout", "deadlineexceeded"]),
    (401, &["authentication", "unauthenticated", "unauthorized", "invalidapikey", "incorrectapikey"]),
    (403, &["permission", "forbidden", "accessdenied"]),
    (404, &["notfound"]),
    (
        400,
        &[
            "invalid",
            "badrequest",
            "validation",
            "contextlength",
            "toolong",
            "unprocessable",
            "unsupported",
            "tokenizer",
        ],
    ),
    (500, &["server", "internal", "backend", "apierror", "upstream", "gateway"]),
];

fn status_of_word(word: &str) -> Option<u16> {
    let letters: String =
        word.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).take(2000).collect();
    STATUSES.iter().find(|(_, parts)| parts.iter().any(|part| letters.contains(part))).map(|(status, _)| *status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_found_in_every_dress() {
        for (status, answer) in [
            // OpenRouter: alone, beside a choice without content, inside a choice.
            (429, r#"{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"slow down"}}}"#),
            (
                429,
                r#"{"choices":[{"index":0,"message":{"role":"assistant","content":null}}],"error":{"message":"x","code":429}}"#,
            ),
            (
                502,
                r#"{"choices":[{"finish_reason":"error","error":{"code":502,"message":"Upstream down"},"message":{"content":""}}]}"#,
            ),
            // Google, also as a stream's array.
            (429, r#"{"error":{"code":429,"message":"x","status":"RESOURCE_EXHAUSTED"}}"#),
            (503, r#"[{"error":{"code":503,"message":"x","status":"UNAVAILABLE"}}]"#),
            (503, r#"[{"candidates":[]},{"error":{"message":"x","status":"UNAVAILABLE"}}]"#),
            // Anthropic, OpenAI, Azure.
            (529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
            (429, r#"{"error":{"message":"x","type":"requests","code":"rate_limit_exceeded"}}"#),
            (500, r#"{"error":{"message":"The server had an error","type":"server_error","code":null}}"#),
            (400, r#"{"error":{"message":"x","type":"invalid_request_error","code":"context_length_exceeded"}}"#),
            // Hugging Face, Text Embeddings Inference, Ollama, llama.cpp, vLLM.
            (503, r#"{"error":"Model m is currently loading","estimated_time":20.0}"#),
            (429, r#"{"error":"Model is overloaded","error_type":"Overloaded_rate_limit"}"#),
            (400, r#"{"error":["Error in `inputs`: this is invalid"]}"#),
            (404, r#"{"error":"model 'm' not found"}"#),
            (500, r#"{"error":{"code":500,"message":"input is too large","type":"server_error"}}"#),
            (400, r#"{"object":"error","message":"bad","type":"BadRequestError","param":null,"code":400}"#),
            // Cohere, FastAPI, AWS.
            (500, r#"{"id":"1","message":"something went wrong"}"#),
            (429, r#"{"message":"Too many requests"}"#),
            (500, r#"{"detail":"something"}"#),
            (429, r#"{"__type":"com.amazon.coral.availability#ThrottlingException","message":"x"}"#),
            (500, r#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}"#),
            // MiniMax, Baidu, Cloudflare, DashScope, Tencent.
            (500, r#"{"choices":null,"base_resp":{"status_code":1004,"status_msg":"login fail"}}"#),
            (500, r#"{"error_code":336100,"error_msg":"try again"}"#),
            (500, r#"{"success":false,"errors":[{"code":7000,"message":"No route"}],"result":null}"#),
            (429, r#"{"code":"Throttling.RateQuota","message":"x","request_id":"1"}"#),
            (429, r#"{"Response":{"Error":{"Code":"RequestLimitExceeded.TooManyRequests","Message":"x"}}}"#),
            (500, r#"{"error":true,"message":"x"}"#),
            // In a stream.
            (503, "data: {\"choices\":[]}\n\ndata: {\"error\":{\"code\":503,\"message\":\"x\"}}\n\n"),
            (400, ": PROCESSING\n\nevent: error\ndata: {\"error\":{\"type\":\"invalid_request_error\"}}\n"),
            (429, "{\"message\":{\"content\":\"a\"}}\n{\"error\":\"rate limit\"}\n"),
        ] {
            let found = error_in(answer.as_bytes()).expect(answer);
            assert_eq!(found.status, status, "{answer}");
            assert!(serde_json::from_slice::<Value>(&found.body).is_ok(), "{answer}");
        }
    }

    #[test]
    fn answers_are_no_errors() {
        for answer in [
            "x",
            "[]",
            "{}",
            "[[1,2]]",
            r#"{"error":null,"choices":[{"message":{"content":null}}]}"#,
            r#"{"error":"","data":[{}]}"#,
            r#"{"error":{},"a":1}"#,
            r#"{"error":false}"#,
            r#"{"choices":[{"message":{"content":"an error"}}]}"#,
            r#"{"embedding":[1]}"#,
            r#"{"message":{"content":"x"}}"#,
            "data: {\"choices\":[]}\n\ndata: [DONE]\n\n",
        ] {
            assert_eq!(error_in(answer.as_bytes()), None, "{answer}");
            assert!(!is_error_alone(answer.as_bytes(), true), "{answer}");
        }
        for (answer, by_name, anyhow) in [
            (r#"{"error":{"message":"x"},"user_id":"u"}"#, true, true),
            (r#"[{"error":"x"}]"#, true, true),
            (r#"{"choices":[{"message":{"content":null}}],"error":"x"}"#, true, true),
            (r#"{"choices":[{"message":{"content":"x"}}],"error":"x"}"#, false, false),
            (r#"{"error":0.25,"predictions":[1]}"#, false, false),
            (r#"{"message":"too many requests"}"#, false, true),
            (r#"{"base_resp":{"status_code":1004,"status_msg":"x"}}"#, false, true),
            (r#"{"id":"1","results":[{"index":0}],"message":"x"}"#, false, false),
            (r#"[{"index":0,"score":0.5}]"#, false, false),
            (r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#, false, false),
            (
                r#"{"object":"chat.completion","choices":[{"message":{"content":""},"finish_reason":"length"}]}"#,
                false,
                false,
            ),
        ] {
            assert_eq!(is_error_alone(answer.as_bytes(), false), by_name, "{answer}");
            assert_eq!(is_error_alone(answer.as_bytes(), true), anyhow, "{answer}");
        }
    }

    #[test]
    fn nothing_is_an_answer_that_did_not_come_through() {
        for answer in
            ["", " \n", r#"{"object":"list","data":[]}"#, r#"{"choices":[]}"#, r#"{"embeddings":[],"model":"m"}"#]
        {
            assert_eq!(error_in(answer.as_bytes()), Some(Dressed { status: 502, body: Vec::new() }), "{answer}");
            assert!(!is_error_alone(answer.as_bytes(), true), "{answer}");
        }
    }

    #[test]
    fn streams_are_distinguished_from_documents() {
        for stream in
            ["data: {}\n", "\n\nevent: x\ndata: 1", ": OPENROUTER PROCESSING\n", "{\"a\":1}\n{\"a\":2}", "{}{}"]
        {
            assert!(is_stream(stream.as_bytes()), "{stream}");
        }
        for document in ["", "{}", "[1]", "{\"a\":1} ", "database", "<html>", "{\"a\":1}x", "{\"a\":", "1 2"] {
            assert!(!is_stream(document.as_bytes()), "{document}");
        }
    }
}
