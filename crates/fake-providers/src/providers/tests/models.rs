use std::thread::sleep;
use std::time::Duration;

use super::*;
use crate::{embedding_for, relevance_for};

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
    refused(&with(&body, "messages", json!([{"role": "user"}])), "messages[0].content");
    refused(
        &with(&body, "messages", json!([{"role": "user", "content": "a", "x": 1}])),
        "Unknown parameter: 'messages[0].x'",
    );
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
    refused(&with(&body, "messages", json!([])), "messages: at least one message is required");
    refused(&with(&body, "messages", json!([{"role": "user", "content": "a", "name": "b"}])), "messages.0.name");
    let (status, _) = send(&endpoint, "POST", path, &[key, version], body.to_string().as_bytes());
    assert_eq!(status, 400, "no content type");
}

#[test]
fn hugging_face() {
    let endpoint = start();
    let path = |name: &str| format!("/huggingface/hf-inference/models/org/{name}/pipeline/feature-extraction");
    let (one, two) = (json!({"inputs": "a bc", "normalize": true}), json!({"inputs": ["a bc", "d"]}));
    let embed = |name: &str, body: &Value| {
        let (status, answer) = post(&endpoint, &path(name), &[KEY], body);
        assert_eq!(status, 200, "{name} {body}: {answer}");
        answer
    };
    assert_eq!(floats(&embed("m", &one)[0]), embedding_for("a bc", 384));
    assert_eq!(floats(&embed("m", &two)[1]), embedding_for("d", 384));
    assert_eq!(floats(&embed("m-flat", &one)), embedding_for("a bc", 384));
    assert_eq!(floats(&embed("m-flat", &two)[1]), embedding_for("d", 384));
    assert_eq!(floats(&embed("m-tokens", &one)[0][1]), embedding_for("bc", 384));
    assert_eq!(embed("m-tokens", &two)[1].as_array().unwrap().len(), 1);
    refused(&endpoint, &path("m"), &[], &one, 401, "Invalid username or password.");
    refused(&endpoint, &path("m"), &[KEY], &json!({}), 400, "[\"Error in `inputs`: field required\"]");
    refused(&endpoint, &path("m"), &[KEY], &with(&one, "input", "a"), 400, "Unknown parameter: `input`");
    refused(&endpoint, &path("m-loading"), &[KEY], &one, 503, "\"estimated_time\":20.0");

    let legacy = "/huggingface/models/org/gpt";
    let body = json!({"inputs": "hello", "parameters": {"max_new_tokens": 5}});
    assert_eq!(post(&endpoint, legacy, &[KEY], &body), (200, json!([{"generated_text": "You said: hello"}])));
    refused(&endpoint, "/huggingface/models/org/gpt-loading", &[KEY], &body, 503, "is currently loading");
    refused(&endpoint, legacy, &[KEY], &json!({"inputs": ["a"]}), 400, "inputs");
    let body = json!({"model": "m", "messages": said("user", "hi")});
    let (status, answer) = post(&endpoint, "/huggingface/v1/chat/completions", &[KEY], &body);
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("You said: hi")));
}

#[test]
fn text_embeddings_inference() {
    let endpoint = start();
    let body = json!({"inputs": ["a", "b"], "normalize": true, "truncate": false, "dimensions": 10});
    let (status, answer) = post(&endpoint, "/tei/embed", &[], &body);
    assert_eq!((status, floats(&answer[1])), (200, embedding_for("b", 10)));
    let refused = |body: &Value, status: u16, text: &str| refused(&endpoint, "/tei/embed", &[], body, status, text);
    let long = json!({"inputs": "a".repeat(2001)});
    refused(&with(&body, "inputs", vec!["a"; 33]), 413, "batch size 33 > maximum allowed batch size 32");
    refused(&long, 413, "Input validation error: `inputs` must have less than 512 tokens. Given: 513");
    assert_eq!(post(&endpoint, "/tei/embed", &[], &with(&long, "truncate", true)).0, 200);
    refused(&json!({"input": "a"}), 422, "unknown field `input`");
    refused(&json!({}), 422, "missing field `inputs`");
    refused(&json!({"inputs": []}), 400, "Empty");
    let (status, _) = send(&endpoint, "POST", "/tei/embed", &[("Content-Type", "text/plain")], b"{}");
    assert_eq!(status, 415);

    let body = json!({"query": "red apple", "texts": ["a car", "red apple pie"], "return_text": true});
    let (status, answer) = post(&endpoint, "/tei/rerank", &[], &body);
    assert_eq!((status, &answer[0]["index"], &answer[0]["text"]), (200, &json!(1), &json!("red apple pie")));
    assert_eq!(answer[1]["score"], relevance_for("red apple", "a car"));
    super::refused(&endpoint, "/tei/rerank", &[], &with(&body, "documents", 1), 422, "unknown field `documents`");
}

#[test]
fn nvidia() {
    let endpoint = start();
    let path = "/nim/v1/embeddings";
    let body = json!({"model": "test-16", "input": ["a"], "input_type": "query", "truncate": "NONE"});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    assert_eq!((status, floats(&answer["data"][0]["embedding"])), (200, embedding_for("a", 16)), "{answer}");
    let bare = without(&body, "input_type");
    for model in ["test-16-query", "test-16-passage"] {
        let (status, answer) = post(&endpoint, path, &[KEY], &with(&bare, "model", model));
        assert_eq!((status, floats(&answer["data"][0]["embedding"]).len()), (200, 16));
    }
    let (status, answer) = post(&endpoint, path, &[KEY], &with(&bare, "model", "nvidia/nvclip"));
    assert_eq!((status, floats(&answer["data"][0]["embedding"]).len()), (200, 1024));
    let check = |body: &Value, status: u16, text: &str| refused(&endpoint, path, &[KEY], body, status, text);
    check(&bare, 400, "'input_type' parameter is required");
    check(&with(&body, "input_type", "document"), 400, "'document'");
    check(&with(&body, "truncate", "LEFT"), 400, "'LEFT'");
    check(&with(&body, "texts", 1), 422, "texts: Extra inputs");
    check(&with(&body, "input", "a".repeat(2049)), 400, "exceeds maximum allowed token size 512");
    refused(&endpoint, path, &[], &body, 401, "Unauthorized");

    let path = "/nim/v1/ranking";
    let body = json!({"model": "m", "query": {"text": "red apple"}, "passages": [{"text": "x"}, {"text": "apple"}]});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    assert_eq!((status, &answer["rankings"][0]["index"]), (200, &json!(1)));
    assert!(answer["rankings"][0]["logit"].as_f64() > answer["rankings"][1]["logit"].as_f64());
    refused(&endpoint, path, &[KEY], &with(&body, "passages", vec![json!({"text": "a"}); 513]), 400, "512");
    refused(&endpoint, path, &[KEY], &with(&body, "query", "a"), 422, "query");
    let body = json!({"model": "m", "messages": said("user", "hi")});
    assert_eq!(post(&endpoint, "/nim/v1/chat/completions", &[KEY], &body).0, 200);
}

#[test]
fn cohere() {
    let endpoint = start();
    let path = "/cohere/v2/embed";
    let body = json!({"model": "embed-v4.0", "texts": ["a", "b"], "input_type": "search_query",
                      "embedding_types": ["float", "int8"], "output_dimension": 256});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    assert_eq!((status, floats(&answer["embeddings"]["float"][1])), (200, embedding_for("b", 256)), "{answer}");
    assert_eq!(answer["embeddings"]["int8"][0].as_array().unwrap().len(), 256);
    assert_eq!(answer["texts"], body["texts"]);
    let image = json!({"model": "embed-v4.0", "images": ["data:image/png;base64,AA=="], "input_type": "image"});
    let (_, answer) = post(&endpoint, path, &[KEY], &image);
    assert_eq!(floats(&answer["embeddings"]["float"][0]), embedding_for("data:image/png;base64,AA==", 1536));
    let check = |body: &Value, status: u16, text: &str| refused(&endpoint, path, &[KEY], body, status, text);
    check(&with(&body, "texts", vec!["a"; 97]), 400, "total number of texts must be at most 96 - received 97");
    check(&with(&body, "texts", json!(["a", ""])), 400, "empty");
    check(&with(&body, "texts", "a"), 400, "texts");
    check(&without(&body, "input_type"), 400, "input_type is required");
    check(&with(&body, "input_type", "query"), 400, "'query'");
    check(&with(&body, "output_dimension", 100), 400, "output_dimension");
    check(&with(&body, "dimensions", 100), 422, "parameter 'dimensions' is not a valid field");
    refused(&endpoint, path, &[], &body, 401, "no api key supplied");
    refused(&endpoint, path, &[("Authorization", "Bearer no")], &body, 401, "invalid api token");

    let path = "/cohere/v2/rerank";
    let body = json!({"model": "m", "query": "red apple", "documents": ["x", "apple", "a red apple"], "top_n": 2});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    let results = answer["results"].as_array().unwrap();
    assert_eq!((status, results.len(), &results[0]["index"]), (200, 2, &json!(2)));
    refused(&endpoint, path, &[KEY], &with(&body, "documents", json!([{"text": "a"}])), 400, "documents.0");

    let body = json!({"model": "command-a", "messages": said("user", "hi")});
    let (status, answer) = post(&endpoint, "/cohere/v2/chat", &[KEY], &body);
    assert_eq!((status, &answer["message"]["content"][0]["text"]), (200, &json!("You said: hi")));
    assert!(answer["usage"]["billed_units"]["output_tokens"].is_u64());
}

#[test]
fn voyage() {
    let endpoint = start();
    let path = "/voyage/v1/embeddings";
    let body = json!({"model": "voyage-3.5", "input": ["a"], "input_type": null, "output_dimension": 256});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    assert_eq!((status, floats(&answer["data"][0]["embedding"])), (200, embedding_for("a", 256)), "{answer}");
    assert_eq!(answer["usage"], json!({"total_tokens": 1}));
    let (_, answer) = post(&endpoint, path, &[KEY], &with(&body, "encoding_format", "base64"));
    assert!(answer["data"][0]["embedding"].is_string());
    let check = |body: &Value, text: &str| refused(&endpoint, path, &[KEY], body, 400, text);
    check(&with(&body, "dimensions", 1), "Argument 'dimensions' is not supported");
    check(&with(&body, "input_type", "passage"), "'passage'");
    check(&with(&body, "encoding_format", "float"), "'float'");
    check(&with(&body, "input", vec!["a"; 1001]), "batch size limit is 1000");
    check(&with(&body, "output_dimension", 257), "257");
    check(&without(&body, "input"), "missing a required argument: 'input'");
    refused(&endpoint, path, &[], &body, 401, "{\"detail\":\"Provided API key is invalid.\"}");

    let path = "/voyage/v1/rerank";
    let body = json!({"model": "rerank-2", "query": "apple", "documents": ["x", "apple"], "top_k": 1});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    let score = relevance_for("apple", "apple");
    assert_eq!((status, &answer["data"]), (200, &json!([{"index": 1, "relevance_score": score}])));
    refused(&endpoint, path, &[KEY], &with(&body, "top_n", 1), 400, "'top_n'");
}

#[test]
fn mistral() {
    let endpoint = start();
    let path = "/mistral/v1/embeddings";
    let body = json!({"model": "mistral-embed", "input": ["a"]});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    assert_eq!((status, floats(&answer["data"][0]["embedding"])), (200, embedding_for("a", 1024)));
    let short = json!({"model": "codestral-embed", "input": "a", "output_dimension": 64, "output_dtype": "float"});
    let (_, answer) = post(&endpoint, path, &[KEY], &short);
    assert_eq!(floats(&answer["data"][0]["embedding"]), embedding_for("a", 64));
    let check = |body: &Value, status: u16, text: &str| refused(&endpoint, path, &[KEY], body, status, text);
    check(&with(&body, "output_dimension", 64), 400, "does not support output_dimension");
    check(&with(&body, "model", "m"), 400, "Invalid model: m");
    check(&with(&body, "dimensions", 64), 422, "\"loc\":[\"body\",\"dimensions\"]");
    check(&without(&body, "input"), 422, "Field required");
    check(&with(&body, "input", json!(["a", 1])), 422, "\"loc\":[\"body\",\"input\",1]");
    check(&with(&body, "input", "a".repeat(40_000)), 400, "exceeding max 8192 tokens");
    refused(&endpoint, path, &[], &body, 401, "\"object\":\"error\"");
    let body = json!({"model": "m", "messages": said("user", "hi"), "safe_prompt": true});
    let path = "/mistral/v1/chat/completions";
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("You said: hi")));
    refused(&endpoint, path, &[KEY], &with(&body, "max_completion_tokens", 1), 422, "extra_forbidden");
}

#[test]
fn ollama() {
    let endpoint = start();
    let path = "/ollama/api/embed";
    let body = json!({"model": "nomic", "input": ["a", "b"], "truncate": true, "keep_alive": "5m"});
    let (status, answer) = post(&endpoint, path, &[], &body);
    assert_eq!((status, floats(&answer["embeddings"][1])), (200, embedding_for("b", 768)));
    assert!(answer["prompt_eval_count"].is_u64());
    let check = |body: &Value, status: u16, text: &str| refused(&endpoint, path, &[], body, status, text);
    check(&with(&body, "model", "missing"), 404, "model \\\"missing\\\" not found, try pulling it first");
    check(&with(&with(&body, "input", "a".repeat(8001)), "truncate", false), 400, "exceeds the context length");
    check(&with(&body, "prompt", "a"), 400, "unknown field");
    check(&with(&body, "input", 1), 400, "invalid input type");
    check(&without(&body, "model"), 400, "model is required");

    for (path, body, text) in [
        ("/ollama/api/chat", json!({"model": "m", "messages": said("user", "hi")}), "/message/content"),
        ("/ollama/api/generate", json!({"model": "m", "prompt": "hi"}), "/response"),
    ] {
        let (status, answer) = post(&endpoint, path, &[], &with(&body, "stream", false));
        assert_eq!((status, answer.pointer(text), &answer["done"]), (200, Some(&json!("You said: hi")), &json!(true)));
        let json = [("Content-Type", "application/json")];
        let (_, headers, bytes) = send_raw(&endpoint, "POST", path, &json, body.to_string().as_bytes());
        assert_eq!(headers["content-type"], "application/x-ndjson");
        let lines: Vec<Value> =
            String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let whole: String = lines.iter().map(|line| line.pointer(text).unwrap().as_str().unwrap()).collect();
        assert_eq!((whole.as_str(), lines.len(), &lines[2]["done"]), ("You said: hi", 3, &json!(true)));
        refused(&endpoint, path, &[], &with(&body, "input", "a"), 400, "unknown field");
    }
}

#[test]
fn bedrock() {
    let endpoint = start();
    let path = "/bedrock/model/amazon.titan-embed-text-v2%3A0/invoke";
    let body = json!({"inputText": "a", "dimensions": 256, "normalize": true});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    assert_eq!((status, floats(&answer["embedding"])), (200, embedding_for("a", 256)), "{answer}");
    assert_eq!(answer["embeddingsByType"]["float"], answer["embedding"]);
    assert_eq!(post(&endpoint, "/bedrock/model/amazon.titan-embed-text-v2:0/invoke", &[KEY], &body).0, 200);
    let first = "/bedrock/model/amazon.titan-embed-text-v1/invoke";
    let (_, answer) = post(&endpoint, first, &[KEY], &json!({"inputText": "a"}));
    assert_eq!(floats(&answer["embedding"]), embedding_for("a", 1536));
    refused(&endpoint, first, &[KEY], &body, 400, "extraneous key [dimensions] is not permitted");
    let check = |body: &Value, text: &str| refused(&endpoint, path, &[KEY], body, 400, text);
    check(&json!({}), "required key [inputText] not found");
    check(&with(&body, "dimensions", 128), "128");
    check(&with(&body, "inputText", "a".repeat(40_000)), "Too many input tokens");
    refused(&endpoint, path, &[], &body, 403, "Missing Authentication Token");
    refused(&endpoint, path, &[("Authorization", "Bearer no")], &body, 403, "API Key is valid");
    refused(&endpoint, "/bedrock/model/none/invoke", &[KEY], &body, 400, "model identifier is invalid");

    let path = "/bedrock/model/cohere.embed-english-v3/invoke";
    let body = json!({"texts": ["a", "b"], "input_type": "search_document", "truncate": "END"});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    assert_eq!((status, floats(&answer["embeddings"][1])), (200, embedding_for("b", 1024)));
    assert_eq!(answer["response_type"], "embeddings_floats");
    let (_, answer) = post(&endpoint, path, &[KEY], &with(&body, "embedding_types", json!(["float"])));
    assert_eq!(floats(&answer["embeddings"]["float"][0]), embedding_for("a", 1024));
    refused(&endpoint, path, &[KEY], &with(&body, "texts", vec!["a"; 97]), 400, "96");
    refused(&endpoint, path, &[KEY], &without(&body, "input_type"), 400, "input_type");

    let path = "/bedrock/model/us.anthropic.claude-x-v1%3A0/converse";
    let message = |role: &str, text: &str| json!({"role": role, "content": [{"text": text}]});
    let body = json!({
        "messages": [message("user", "hi")],
        "system": [{"text": "Be short."}],
        "inferenceConfig": {"maxTokens": 10},
    });
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    assert_eq!((status, &answer["output"]["message"]["content"][0]["text"]), (200, &json!("You said: hi")));
    assert!(answer["usage"]["totalTokens"].is_u64());
    let check = |body: &Value, text: &str| refused(&endpoint, path, &[KEY], body, 400, text);
    check(&with(&body, "messages", json!([message("assistant", "a")])), "must start with a user message");
    check(&with(&body, "messages", json!([message("user", "a"), message("user", "b")])), "must alternate");
    check(&with(&body, "messages", said("user", "a")), "expected type: array");
    check(&with(&body, "inferenceConfig", json!({"max_tokens": 1})), "extraneous key");
}

fn header(headers: &ureq::http::HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

#[test]
fn limits() {
    let endpoint = Endpoint::start().unwrap();
    let body = json!({"model": "test-4", "input": "a"}).to_string();
    let headers = [("Content-Type", "application/json"), KEY];
    let ask = |path: &str| {
        let (status, headers, _) = send_raw(&endpoint, "POST", path, &headers, body.as_bytes());
        (status, headers)
    };
    let path = "/limited/openai/v1/embeddings";
    assert_eq!(ask(path).0, 200, "no limit was set");
    endpoint.set_rate_limit(2, Duration::from_millis(900));
    let (status, headers) = ask(path);
    assert_eq!((status, header(&headers, "x-ratelimit-remaining-requests").as_deref()), (200, Some("1")));
    assert_eq!(headers.get_all("x-ratelimit-limit-requests").iter().count(), 1);
    assert_eq!(ask(path).0, 200);
    let (status, headers) = ask(path);
    assert_eq!((status, header(&headers, "x-ratelimit-remaining-requests").as_deref()), (429, Some("0")));
    assert!(header(&headers, "x-ratelimit-reset-requests").unwrap().ends_with("ms"));
    let wait = header(&headers, "retry-after-ms").unwrap().parse().unwrap();
    assert!((1..=900).contains(&wait) && header(&headers, "retry-after").is_none());
    sleep(Duration::from_millis(wait));
    assert_eq!((ask(path).0, endpoint.refused()), (200, 1));
    endpoint.set_rate_limit(0, Duration::from_secs(90));
    let (status, headers) = ask(path);
    assert_eq!((status, header(&headers, "retry-after").as_deref()), (429, Some("90")));
    assert!(header(&headers, "x-ratelimit-reset-requests").unwrap().starts_with("1m"));
    endpoint.clear();
    assert_eq!(endpoint.refused(), 0);

    let path = "/pause-once/1/v1/embeddings";
    for _ in 0..2 {
        let (status, headers) = ask(path);
        assert_eq!((status, header(&headers, "retry-after").as_deref()), (429, Some("1")));
    }
    sleep(Duration::from_secs(1));
    assert_eq!((ask(path).0, ask(path).0, endpoint.refused()), (200, 200, 2));

    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| ask("/concurrent/1/v1/embeddings").0)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(statuses.contains(&200) && statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    let refusals = statuses.iter().filter(|status| **status == 429).count() as u64;
    assert_eq!(endpoint.refused(), 2 + refusals);
    assert_eq!(ask("/concurrent/1/v1/embeddings").0, 200);
    let (status, answer) = post(&endpoint, "/spend-limit", &[], &json!({}));
    assert_eq!((status, &answer["error"]["details"]["error_code"]), (429, &json!("enforced_spend_limit_reached")));
    for path in ["/pause-once/x/echo", "/concurrent/echo"] {
        assert_eq!(ask(path).0, 404);
    }
}

#[test]
fn images_are_taken_in_each_providers_own_form_only() {
    const PNG: &str = "iVBORw0KGgo=";
    let endpoint = Endpoint::start().unwrap();
    let key = [("Authorization", "Bearer k")];
    let claude = [("x-api-key", "k"), ("anthropic-version", "2023-06-01")];
    let gemini = [("x-goog-api-key", "k")];
    let url = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let data = format!("data:image/png;base64,{PNG}");
    let openai = |part: Value, model: &str| json!({"model": model, "messages": [{"role": "user", "content": [part, {"type": "text", "text": "hi"}]}]});
    let path = "/openai/v1/chat/completions";
    let (status, answer) = post(&endpoint, path, &key, &openai(url(&data), "m"));
    assert_eq!(
        (status, &answer["choices"][0]["message"]["content"]),
        (200, &json!("You said: (image/png, 8 bytes) hi"))
    );
    for (part, model, says) in [
        (url(&data), "gpt-4", "only supported by certain models"),
        (url("http://h/x.png"), "m", "Invalid image_url"),
        (url("data:image/jpeg;base64,iVBORw0KGgo="), "m", "another media type"),
        (url("data:image/png;base64,aGk="), "m", "Could not process image"),
        (json!({"type": "image_url", "image_url": data}), "m", "image_url"),
        (json!({"type": "image", "source": {}}), "m", "Invalid value: 'image'"),
    ] {
        refused(&endpoint, path, &key, &openai(part, model), 400, says);
    }
    let image = |source: Value| {
        let content = json!([{"type": "image", "source": source}, {"type": "text", "text": "hi"}]);
        json!({"model": "claude", "max_tokens": 99, "messages": [{"role": "user", "content": content}]})
    };
    let base64 = json!({"type": "base64", "media_type": "image/png", "data": PNG});
    let path = "/anthropic/v1/messages";
    let (_, answer) = post(&endpoint, path, &claude, &image(base64.clone()));
    assert_eq!(answer["content"][0]["text"], "You said: (image/png, 8 bytes) hi");
    refused(&endpoint, path, &claude, &image(with(&base64, "media_type", "image/gif")), 400, "another media type");
    refused(&endpoint, path, &claude, &image(without(&base64, "type")), 400, "'base64' or 'url'");
    let part = |part: Value| json!({"contents": [{"role": "user", "parts": [part, {"text": "hi"}]}]});
    let path = "/gemini/v1beta/models/gemini-2.5-flash:generateContent";
    let (_, answer) =
        post(&endpoint, path, &gemini, &part(json!({"inlineData": {"mimeType": "image/png", "data": PNG}})));
    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], "You said: (image/png, 8 bytes) hi");
    refused(&endpoint, path, &gemini, &part(json!({"inlineData": {"data": PNG}})), 400, "mimeType");
    refused(
        &endpoint,
        path,
        &gemini,
        &part(json!({"fileData": {"mimeType": "image/png", "fileUri": "http://h"}})),
        400,
        "file uri",
    );
    let message = |images: Value| json!({"model": "m", "stream": false, "messages": [{"role": "user", "content": "hi", "images": images}]});
    let (_, answer) = post(&endpoint, "/api/chat", &[], &message(json!([PNG])));
    assert_eq!(answer["message"]["content"], "You said: (image/png, 8 bytes) hi");
    refused(&endpoint, "/api/chat", &[], &message(json!([data])), 400, "invalid image input");
    let block = |image: Value| json!({"messages": [{"role": "user", "content": [{"image": image}, {"text": "hi"}]}]});
    let path = "/bedrock/model/us.anthropic.claude-x-v1%3A0/converse";
    let (_, answer) = post(&endpoint, path, &key, &block(json!({"format": "png", "source": {"bytes": PNG}})));
    assert_eq!(answer["output"]["message"]["content"][0]["text"], "You said: (image/png, 8 bytes) hi");
    refused(&endpoint, path, &key, &block(json!({"format": "bmp", "source": {"bytes": PNG}})), 400, "enum value set");
    let (_, answer) = post(&endpoint, "/huggingface/models/o/m", &key, &json!({"inputs": format!("![]({data})hi")}));
    assert_eq!(answer[0]["generated_text"], "You said: (image/png, 8 bytes) hi");
}

#[test]
fn tokens_are_counted_by_the_services_that_do() {
    let endpoint = Endpoint::start().unwrap();
    let claude = [("x-api-key", "k"), ("anthropic-version", "2023-06-01")];
    let body = json!({"model": "claude", "messages": said("user", "one two")});
    let path = "/anthropic/v1/messages/count_tokens";
    let (status, answer) = post(&endpoint, path, &claude, &body);
    assert!(status == 200 && answer["input_tokens"].as_u64().unwrap() > 7, "{answer}");
    refused(&endpoint, path, &claude, &with(&body, "max_tokens", 5), 400, "Extra inputs");
    refused(&endpoint, path, &claude, &with(&body, "model", "claude-2.1"), 404, "not_found_error");
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "one two"}]}]});
    let path = "/gemini/v1beta/models/gemini-2.5-flash:countTokens";
    let (status, answer) = post(&endpoint, path, &[("x-goog-api-key", "k")], &body);
    assert!(status == 200 && answer["totalTokens"].as_u64().unwrap() > 1, "{answer}");
    refused(
        &endpoint,
        path,
        &[("x-goog-api-key", "k")],
        &with(&body, "systemInstruction", json!({})),
        400,
        "systemInstruction",
    );
}
