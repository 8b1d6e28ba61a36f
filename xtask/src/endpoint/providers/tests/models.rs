use super::*;
use crate::endpoint::embedding_for;

const KEY: (&str, &str) = ("Authorization", "Bearer sk-right");

fn start() -> Endpoint {
    let endpoint = Endpoint::start().unwrap();
    endpoint.set_expected_key("sk-right");
    endpoint
}

#[test]
fn openai_embeddings() {
    let endpoint = start();
    let path = "/openai/v1/embeddings";
    let body = json!({"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 8});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    assert_eq!(status, 200);
    assert_eq!(floats(&answer["data"][1]["embedding"]), embedding_for("two", 8));
    let (_, answer) = post(&endpoint, path, &[KEY], &json!({"model": "text-embedding-3-large", "input": "one"}));
    assert_eq!(floats(&answer["data"][0]["embedding"]), embedding_for("one", 3072));
    let refused = |body: &Value, status: u16, text: &str| refused(&endpoint, path, &[KEY], body, status, text);
    let simple = json!({"model": "test-4", "input": "one"});
    refused(&with(&simple, "x", 1), 400, "Unrecognized request argument supplied: x");
    refused(&with(&simple, "dimensions", 2), 400, "does not support specifying dimensions");
    refused(&with(&body, "dimensions", 1537), 400, "Invalid value for 'dimensions'");
    refused(&with(&simple, "model", "none"), 404, "model_not_found");
    refused(&without(&simple, "model"), 400, "you must provide a model parameter");
    refused(&with(&simple, "input", json!([])), 400, "'$.input' is invalid");
    refused(&with(&simple, "input", json!(["a", ""])), 400, "'$.input' is invalid");
    refused(&with(&simple, "input", json!(["a", 1])), 400, "'$.input' is invalid");
    refused(&with(&simple, "input", vec!["a"; 2049]), 400, "2048");
    refused(&with(&simple, "input", "a".repeat(32_769)), 400, "maximum context length is 8192 tokens");
    refused(&with(&simple, "input", vec!["a".repeat(32_768); 40]), 400, "max 300000 tokens per request");
    refused(&with(&simple, "user", Value::Null), 400, "Invalid type for 'user'");
    super::refused(&endpoint, path, &[], &simple, 401, "You didn't provide an API key");
    super::refused(&endpoint, path, &[("Authorization", "Bearer sk-no")], &simple, 401, "invalid_api_key");
    super::refused(&endpoint, path, &[("api-key", "sk-right")], &simple, 401, "API key");
    let (status, answer) = send(&endpoint, "POST", path, &[KEY, ("Content-Type", "text/plain")], b"{}");
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("unsupported_content_type")));
    let json = ("Content-Type", "application/json");
    let (status, headers, _) = send_raw(&endpoint, "POST", path, &[KEY, json], simple.to_string().as_bytes());
    assert_eq!((status, headers["x-ratelimit-remaining-requests"].to_str().unwrap()), (200, "499"));
    assert_eq!(send(&endpoint, "GET", path, &[KEY], b"").0, 405);
    assert_eq!(post(&endpoint, "/openai/v1/nothing", &[KEY], &simple).0, 404);
}

#[test]
fn openai_chat() {
    let endpoint = start();
    let path = "/openai/v1/chat/completions";
    let body = json!({"model": "m", "messages": said("user", "hello"), "temperature": 0.5, "max_tokens": 9});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("You said: hello")));
    let (status, answer) = post(&endpoint, path, &[KEY], &with(&body, "stream", true));
    assert!(status == 200 && answer.as_str().unwrap().ends_with("data: [DONE]\n\n"), "{answer}");
    let refused = |body: &Value, text: &str| refused(&endpoint, path, &[KEY], body, 400, text);
    refused(&with(&body, "max_token", 1), "Unrecognized request argument supplied: max_token");
    refused(&with(&body, "messages", said("robot", "a")), "'robot'");
    refused(&with(&body, "messages", json!([{"role": "user"}])), "messages.0.content");
    refused(&with(&body, "temperature", 3), "Invalid 'temperature'");
    refused(&with(&body, "temperature", "hot"), "Invalid type for 'temperature'");
    refused(&without(&body, "messages"), "Missing required parameter: 'messages'");
}

#[test]
fn azure() {
    let endpoint = start();
    let key = ("api-key", "sk-right");
    let path = "/azure/openai/deployments/mine/embeddings?api-version=2024-10-21";
    let body = json!({"input": "one", "dimensions": 16});
    let (status, answer) = post(&endpoint, path, &[key], &body);
    assert_eq!((status, floats(&answer["data"][0]["embedding"])), (200, embedding_for("one", 16)));
    refused(&endpoint, "/azure/openai/deployments/mine/embeddings", &[key], &body, 404, "Resource not found");
    refused(&endpoint, path, &[KEY], &body, 401, "invalid subscription key");
    refused(&endpoint, path, &[key], &json!({"input": ""}), 400, "'$.input' is invalid");
    let path = "/azure/openai/deployments/gpt/chat/completions?api-version=2024-10-21";
    let (status, answer) = post(&endpoint, path, &[key], &json!({"messages": said("user", "hi")}));
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("You said: hi")));
}

#[test]
fn anthropic() {
    let endpoint = start();
    let path = "/anthropic/v1/messages";
    let (key, version) = (("x-api-key", "sk-right"), ("anthropic-version", "2023-06-01"));
    let body = json!({"model": "claude", "max_tokens": 100, "messages": said("user", "hello")});
    let (status, answer) = post(&endpoint, path, &[key, version], &body);
    assert_eq!(status, 200);
    assert_eq!(answer["content"][0]["text"], "You said: hello");
    assert_eq!((&answer["stop_reason"], &answer["usage"]["output_tokens"]), (&json!("end_turn"), &json!(4)));
    let (_, answer) = post(&endpoint, path, &[key, version], &with(&body, "max_tokens", 2));
    assert_eq!((&answer["content"][0]["text"], &answer["stop_reason"]), (&json!("You said"), &json!("max_tokens")));
    refused(&endpoint, path, &[version], &body, 401, "authentication_error");
    refused(&endpoint, path, &[("x-api-key", "no"), version], &body, 401, "invalid x-api-key");
    refused(&endpoint, path, &[KEY, version], &body, 401, "x-api-key header is required");
    refused(&endpoint, path, &[key], &body, 400, "anthropic-version: header is required");
    refused(&endpoint, path, &[key, ("anthropic-version", "2020-01-01")], &body, 400, "not a valid version");
    let refused = |body: &Value, text: &str| refused(&endpoint, path, &[key, version], body, 400, text);
    refused(&without(&body, "max_tokens"), "max_tokens: Field required");
    refused(&without(&body, "model"), "model: Field required");
    refused(&with(&body, "n", 1), "n: Extra inputs are not permitted");
    refused(&with(&body, "max_tokens", 0), "greater than or equal to 1");
    refused(&with(&body, "messages", said("system", "a")), "top-level `system` parameter");
    refused(&with(&body, "messages", json!([])), "at least one message is required");
    refused(&with(&body, "messages", json!([{"role": "user", "content": "a", "name": "b"}])), "messages.0.name");
    let (status, _) = send(&endpoint, "POST", path, &[key, version], body.to_string().as_bytes());
    assert_eq!(status, 400, "no content type");
}
