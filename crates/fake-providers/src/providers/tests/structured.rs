//! Structured output in each provider's own form, and the markers in each provider's own shape.

use std::time::{Duration, Instant};

use super::*;

const KEY: (&str, &str) = ("Authorization", "Bearer sk-right");
const OPENAI: &str = "/openai/v1/chat/completions";
const BEDROCK: &str = "/bedrock/model/us.anthropic.claude-x-v1%3A0/converse";
const VERTEX: &str =
    "/vertex/v1/projects/test-project/locations/global/publishers/google/models/gemini-2.5-flash:generateContent";
const GEMINI: &str = "/gemini/v1beta/models/gemini-2.5-flash:generateContent";

fn start() -> Endpoint {
    let endpoint = Endpoint::start().unwrap();
    endpoint.set_expected_key("sk-right");
    endpoint
}

/// A closed object with one property.
fn object(name: &str, schema: Value) -> Value {
    json!({"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": false})
}

fn yes() -> Value {
    object("ok", json!({"type": "boolean"}))
}

/// A provider's request format, and the places of text and reason in its answers.
struct Provider {
    name: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    /// The request for these messages of the user and the assistant, in turn, and perhaps a schema.
    body: fn(&[&str], Option<&Value>) -> Value,
    text: &'static str,
    finish: &'static str,
    stop: Value,
    cut: Value,
    tool: (&'static str, &'static str),
}

fn messages(said: &[&str]) -> Value {
    let role = |index: usize| if index.is_multiple_of(2) { "user" } else { "assistant" };
    said.iter().enumerate().map(|(index, text)| json!({"role": role(index), "content": text})).collect()
}

fn openai_body(said: &[&str], schema: Option<&Value>) -> Value {
    let mut body = json!({"model": "m", "messages": messages(said)});
    if let Some(schema) = schema {
        body["response_format"] =
            json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": true}});
    }
    body
}

fn anthropic_body(said: &[&str], schema: Option<&Value>) -> Value {
    let mut body = json!({"model": "claude", "max_tokens": 1000, "messages": messages(said)});
    if let Some(schema) = schema {
        body["output_config"] = json!({"format": {"type": "json_schema", "schema": schema}});
    }
    body
}

fn gemini_body(said: &[&str], schema: Option<&Value>) -> Value {
    let role = |index: usize| if index.is_multiple_of(2) { "user" } else { "model" };
    let contents: Value =
        said.iter().enumerate().map(|(index, text)| json!({"role": role(index), "parts": [{"text": text}]})).collect();
    let mut body = json!({ "contents": contents });
    if let Some(schema) = schema {
        let schema = without(schema, "additionalProperties");
        body["generationConfig"] = json!({"responseMimeType": "application/json", "responseSchema": schema});
    }
    body
}

fn cohere_body(said: &[&str], schema: Option<&Value>) -> Value {
    let mut body = json!({"model": "command-a", "messages": messages(said)});
    if let Some(schema) = schema {
        body["response_format"] = json!({"type": "json_object", "json_schema": schema});
    }
    body
}

fn ollama_body(said: &[&str], schema: Option<&Value>) -> Value {
    let mut body = json!({"model": "m", "stream": false, "messages": messages(said)});
    if let Some(schema) = schema {
        body["format"] = schema.clone();
    }
    body
}

fn bedrock_body(said: &[&str], schema: Option<&Value>) -> Value {
    let role = |index: usize| if index.is_multiple_of(2) { "user" } else { "assistant" };
    let messages: Value = said
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"role": role(index), "content": [{"text": text}]}))
        .collect();
    let mut body = json!({ "messages": messages });
    if let Some(schema) = schema {
        let schema = json!({"name": "answer", "schema": schema.to_string()});
        body["outputConfig"] = json!({"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}});
    }
    body
}

fn token(endpoint: &Endpoint) -> String {
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let (_, answer) = send(endpoint, "GET", path, &[("Metadata-Flavor", "Google")], b"");
    format!("Bearer {}", answer["access_token"].as_str().unwrap())
}

fn providers(endpoint: &Endpoint) -> Vec<Provider> {
    let openai = |name, path, headers| Provider {
        name,
        path,
        headers,
        body: openai_body,
        text: "/choices/0/message/content",
        finish: "/choices/0/finish_reason",
        stop: json!("stop"),
        cut: json!("length"),
        tool: ("tool_calls", "/choices/0/message/tool_calls/0/function/name"),
    };
    let key = || vec![("Authorization", "Bearer sk-right".to_owned())];
    let google = |name, path, headers| Provider {
        name,
        path,
        headers,
        body: gemini_body,
        text: "/candidates/0/content/parts/0/text",
        finish: "/candidates/0/finishReason",
        stop: json!("STOP"),
        cut: json!("MAX_TOKENS"),
        tool: ("STOP", "/candidates/0/content/parts/0/functionCall/name"),
    };
    vec![
        openai("openai", OPENAI, key()),
        openai("mistral", "/mistral/v1/chat/completions", key()),
        openai("nim", "/nim/v1/chat/completions", key()),
        openai("huggingface", "/huggingface/v1/chat/completions", key()),
        openai("lenient", "/v1/chat/completions", vec![]),
        openai("bench", "/bench/v1/chat/completions?ms=1", vec![]),
        openai(
            "azure",
            "/azure/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
            vec![("api-key", "sk-right".into())],
        ),
        Provider {
            name: "anthropic",
            path: "/anthropic/v1/messages",
            headers: vec![("x-api-key", "sk-right".into()), ("anthropic-version", "2023-06-01".into())],
            body: anthropic_body,
            text: "/content/0/text",
            finish: "/stop_reason",
            stop: json!("end_turn"),
            cut: json!("max_tokens"),
            tool: ("tool_use", "/content/0/name"),
        },
        google("gemini", GEMINI, vec![("x-goog-api-key", "sk-right".into())]),
        google("vertex", VERTEX, vec![("Authorization", token(endpoint))]),
        Provider {
            name: "cohere",
            path: "/cohere/v2/chat",
            headers: key(),
            body: cohere_body,
            text: "/message/content/0/text",
            finish: "/finish_reason",
            stop: json!("COMPLETE"),
            cut: json!("MAX_TOKENS"),
            tool: ("TOOL_CALL", "/message/tool_calls/0/function/name"),
        },
        Provider {
            name: "ollama",
            path: "/ollama/api/chat",
            headers: vec![],
            body: ollama_body,
            text: "/message/content",
            finish: "/done_reason",
            stop: json!("stop"),
            cut: json!("length"),
            tool: ("stop", "/message/tool_calls/0/function/name"),
        },
        Provider {
            name: "bedrock",
            path: BEDROCK,
            headers: key(),
            body: bedrock_body,
            text: "/output/message/content/0/text",
            finish: "/stopReason",
            stop: json!("end_turn"),
            cut: json!("max_tokens"),
            tool: ("tool_use", "/output/message/content/0/toolUse/name"),
        },
    ]
}

impl Provider {
    fn ask(&self, endpoint: &Endpoint, said: &[&str], schema: Option<&Value>) -> (u16, Value) {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        post(endpoint, self.path, &headers, &(self.body)(said, schema))
    }

    /// The answer's text and the reason of its end.
    fn says(&self, endpoint: &Endpoint, said: &[&str], schema: Option<&Value>) -> (String, Value) {
        let (status, answer) = self.ask(endpoint, said, schema);
        assert_eq!(status, 200, "{}: {answer}", self.name);
        let text = answer.pointer(self.text).and_then(Value::as_str).unwrap_or("no text");
        (text.to_owned(), answer.pointer(self.finish).cloned().unwrap_or_default())
    }
}

#[test]
fn every_provider_answers_what_a_schema_wants() {
    let endpoint = start();
    let schema = json!({"type": "object", "properties": {
        "first_name": {"type": "string"},
        "mood": {"type": "string", "enum": ["good", "bad", "none"]},
        "ok": {"type": "boolean"},
    }, "required": ["first_name", "mood", "ok"], "additionalProperties": false});
    for provider in providers(&endpoint) {
        let (text, finish) = provider.says(&endpoint, &["first_name: Ada; a BAD day, yes"], Some(&schema));
        assert_eq!(text, r#"{"first_name":"Ada","mood":"bad","ok":true}"#, "{}", provider.name);
        assert_eq!(finish, provider.stop, "{}", provider.name);
        let (text, _) = provider.says(&endpoint, &["first_name: A", "no", "first_name: B"], Some(&schema));
        assert_eq!(text, r#"{"first_name":"B","mood":"none","ok":false}"#, "{}: the last message", provider.name);
        let (text, _) = provider.says(&endpoint, &["hi"], None);
        assert_eq!(text, "You said: hi", "{}", provider.name);
    }
}

#[test]
fn markers_choose_the_text() {
    let endpoint = start();
    let schema = yes();
    for provider in providers(&endpoint) {
        let name = provider.name;
        let says = |said: &[&str], schema: Option<&Value>| provider.says(&endpoint, said, schema);
        for schema in [None, Some(&schema)] {
            let (text, finish) = says(&["yes [[answer:{\"a\": 1}]]"], schema);
            assert_eq!((text.as_str(), &finish), ("{\"a\": 1}", &provider.stop), "{name}");
        }
        let schema = Some(&schema);
        assert_eq!(says(&["yes [[once:no JSON]]"], schema).0, "no JSON", "{name}");
        let again = ["yes [[once:no JSON]]", "no JSON", "Answer with JSON only."];
        assert_eq!(says(&again, schema).0, r#"{"ok":true}"#, "{name}: read from the message with the marker");
        assert_eq!(says(&["[[answer:bad]]", "bad", "Answer with JSON only."], schema).0, "bad", "{name}");
        assert_eq!(says(&["[[fenced]]yes"], schema).0, "```json\n{\"ok\":true}\n```", "{name}");
        assert_eq!(says(&["[[fenced]]yes"], None).0, "```json\nYou said: yes\n```", "{name}");
        assert_eq!(says(&["yes[[cut]]"], schema), (r#"{"ok""#.into(), provider.cut.clone()), "{name}");
        assert_eq!(says(&["yes[[cut]]"], None), ("You sa".into(), provider.cut.clone()), "{name}");
    }
}

#[test]
fn markers_choose_the_end() {
    let endpoint = start();
    let schema = yes();
    for provider in providers(&endpoint) {
        let name = provider.name;
        for schema in [None, Some(&schema)] {
            let (status, answer) = provider.ask(&endpoint, &["[[tool]]"], schema);
            let (finish, tool) = provider.tool;
            assert_eq!((status, answer.pointer(tool)), (200, Some(&json!("lookup"))), "{name}: {answer}");
            assert_eq!(answer.pointer(provider.finish), Some(&json!(finish)), "{name}");
            let text = answer.pointer(provider.text).and_then(Value::as_str).unwrap_or_default();
            assert_eq!(text, "", "{name}");
            let (status, answer) = provider.ask(&endpoint, &["[[empty]]"], schema);
            let text = answer.pointer(provider.text).and_then(Value::as_str).unwrap_or_default();
            assert_eq!((status, text), (200, ""), "{name}: {answer}");
            assert!(answer.get("error").is_none(), "{name}");
            let (status, answer) = provider.ask(&endpoint, &["[[status:503]]"], schema);
            assert!(status == 503 && answer.to_string().contains("status 503 for testing"), "{name}: {answer}");
        }
        let begin = Instant::now();
        assert_eq!(provider.says(&endpoint, &["[[slow:60]] yes"], Some(&schema)).0, r#"{"ok":true}"#, "{name}");
        assert!(begin.elapsed() >= Duration::from_millis(60), "{name}");
    }
}

#[test]
fn refusals_have_each_providers_shape() {
    let endpoint = start();
    let answers: Vec<(&str, Value)> = providers(&endpoint)
        .iter()
        .map(|provider| {
            let (status, answer) = provider.ask(&endpoint, &["[[refuse]]"], Some(&yes()));
            assert_eq!(status, 200, "{}: {answer}", provider.name);
            (provider.name, answer)
        })
        .collect();
    for (name, answer) in &answers {
        let (choice, candidate) = (&answer["choices"][0], &answer["candidates"][0]);
        match *name {
            "openai" | "nim" | "huggingface" | "lenient" | "bench" => {
                assert!(choice["message"]["refusal"].is_string() && choice["message"]["content"].is_null(), "{name}");
                assert_eq!(choice["finish_reason"], "stop");
            }
            "azure" => assert_eq!(choice["finish_reason"], "content_filter"),
            "mistral" => assert_eq!(choice["finish_reason"], "error"),
            "anthropic" => {
                assert_eq!((&answer["stop_reason"], &answer["content"]), (&json!("refusal"), &json!([])));
                assert_eq!(answer["stop_details"]["type"], "refusal");
            }
            "gemini" | "vertex" => {
                assert_eq!(candidate["finishReason"], "SAFETY");
                assert!(candidate["content"].is_null() && candidate["safetyRatings"][0]["blocked"] == true);
            }
            "cohere" => assert_eq!(answer["finish_reason"], "ERROR"),
            "ollama" => assert!(answer["message"]["content"].as_str().unwrap().starts_with("I'm sorry")),
            "bedrock" => assert_eq!(answer["stopReason"], "content_filtered"),
            other => unreachable!("{other}"),
        }
    }
    let guarded = with(
        &bedrock_body(&["[[refuse]]"], None),
        "guardrailConfig",
        json!({"guardrailIdentifier": "g", "guardrailVersion": "1"}),
    );
    let (_, answer) = post(&endpoint, BEDROCK, &[KEY], &guarded);
    assert_eq!(answer["stopReason"], "guardrail_intervened");
}

#[test]
fn statuses_have_each_providers_shape() {
    let endpoint = start();
    for provider in providers(&endpoint) {
        let (status, answer) = provider.ask(&endpoint, &["[[status:429]]"], None);
        let kind = match provider.name {
            "anthropic" => &answer["error"]["type"],
            "gemini" | "vertex" => &answer["error"]["status"],
            "mistral" => &answer["type"],
            "openai" | "lenient" | "bench" | "azure" => &answer["error"]["code"],
            "huggingface" | "ollama" => &answer["error"],
            _ => &answer["message"],
        };
        let expected = match provider.name {
            "anthropic" => "rate_limit_error",
            "gemini" | "vertex" => "RESOURCE_EXHAUSTED",
            "mistral" => "rate_limited",
            "openai" | "lenient" | "bench" => "rate_limit_exceeded",
            "azure" => "429",
            _ => "status 429 for testing",
        };
        assert_eq!((status, kind), (429, &json!(expected)), "{}: {answer}", provider.name);
    }
    let bedrock = bedrock_body(&["[[status:429]]"], None).to_string();
    let json = ("Content-Type", "application/json");
    let (_, headers, _) = send_raw(&endpoint, "POST", BEDROCK, &[KEY, json], bedrock.as_bytes());
    assert_eq!(headers["x-amzn-errortype"], "ThrottlingException");
}

#[test]
fn openai_wants_closed_schemas_when_strict() {
    let endpoint = start();
    let azure = "/azure/openai/deployments/gpt/chat/completions?api-version=2024-10-21";
    let body = |schema: &Value| openai_body(&["yes"], Some(schema));
    let check = |schema: &Value, text: &str| {
        let text = format!("Invalid schema for response_format 'answer': {text}");
        refused(&endpoint, OPENAI, &[KEY], &body(schema), 400, &text);
        refused(&endpoint, azure, &[("api-key", "sk-right")], &body(schema), 400, &text);
        let mut loose = body(schema);
        loose["response_format"]["json_schema"]["strict"] = false.into();
        assert_eq!(post(&endpoint, OPENAI, &[KEY], &loose).0, 200, "{loose}");
        assert_eq!(post(&endpoint, "/mistral/v1/chat/completions", &[KEY], &body(schema)).0, 200);
        assert_eq!(post(&endpoint, "/v1/chat/completions", &[], &body(schema)).0, 200);
    };
    let open = without(&yes(), "additionalProperties");
    check(&open, "In context=(), 'additionalProperties' is required to be supplied and to be false.");
    check(
        &without(&yes(), "required"),
        "In context=(), 'required' is required to be supplied and to be an array including every key in properties. \
         Missing 'ok'.",
    );
    check(&object("a", open.clone()), "In context=('properties', 'a'), 'additionalProperties'");
    check(
        &object("a", json!({"type": "array", "items": open})),
        "In context=('properties', 'a', 'items'), 'additionalProperties'",
    );
    check(&with(&yes(), "required", json!(["ok", "b"])), "In context=(), Extra required key 'b' supplied.");
    check(
        &object("a", json!({"type": "string", "minLength": 2})),
        "In context=('properties', 'a'), 'minLength' is not permitted.",
    );
    check(&object("a", json!({})), "In context=('properties', 'a'), schema must have a 'type' key.");
    check(
        &json!({"type": "array", "items": {"type": "string"}}),
        "schema must be a JSON Schema of 'type: \\\"object\\\"'",
    );
    let good = object("a", json!({"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}));
    let good = with(&good, "$defs", json!({"n": {"type": "number", "minimum": 0, "maximum": 1}}));
    let (status, answer) = post(&endpoint, OPENAI, &[KEY], &body(&good));
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!(r#"{"a":0.5}"#)), "{answer}");

    let format = |format: Value| with(&openai_body(&["yes"], None), "response_format", format);
    let refused = |body: &Value, text: &str| refused(&endpoint, OPENAI, &[KEY], body, 400, text);
    refused(&format(json!({"type": "xml"})), "Supported values are: 'json_object', 'json_schema', and 'text'");
    refused(&format(json!({"schema": {}})), "Unknown parameter: 'response_format.schema'");
    refused(&format(json!({})), "Missing required parameter: 'response_format.type'");
    refused(&format(json!({"type": "json_schema"})), "Missing required parameter: 'response_format.json_schema'");
    let named = |name: &str| json!({"type": "json_schema", "json_schema": {"name": name, "schema": yes()}});
    refused(&format(named("two words")), "Invalid 'response_format.json_schema.name'");
    refused(
        &format(json!({"type": "json_schema", "json_schema": {"schema": yes()}})),
        "response_format.json_schema.name",
    );
    let parameters = json!({"type": "json_schema", "json_schema": {"name": "a", "parameters": {}}});
    refused(&format(parameters), "Unknown parameter: 'response_format.json_schema.parameters'");
}

#[test]
fn json_without_a_schema() {
    let endpoint = start();
    let format = json!({"type": "json_object"});
    let plain = with(&openai_body(&["yes"], None), "response_format", format.clone());
    refused(&endpoint, OPENAI, &[KEY], &plain, 400, "'messages' must contain the word 'json' in some form");
    let content = |path: &str, body: &Value| {
        let (status, answer) = post(&endpoint, path, &[KEY], body);
        assert_eq!(status, 200, "{path}: {answer}");
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    for path in ["/mistral/v1/chat/completions", "/nim/v1/chat/completions", "/v1/chat/completions"] {
        assert_eq!(content(path, &plain), r#"{"answer":"You said: yes"}"#);
    }
    let asked = with(&openai_body(&["Answer in JSON: yes"], None), "response_format", format.clone());
    assert_eq!(content(OPENAI, &asked), r#"{"answer":"You said: Answer in JSON: yes"}"#);
    let schema = object("mood", json!({"enum": ["good", "bad"]}));
    let written = format!("Answer with JSON that this schema describes: {schema}\na bad day");
    let written = with(&openai_body(&[&written], None), "response_format", format);
    assert_eq!(content(OPENAI, &written), r#"{"mood":"bad"}"#, "the schema's own words do not count");
    let system = format!("It conforms to this JSON Schema: {}", yes());
    let words = json!([{"role": "system", "content": system}, {"role": "user", "content": "yes"}]);
    let words = with(&openai_body(&[], None), "messages", words);
    assert_eq!(content(OPENAI, &words), r#"{"ok":true}"#, "asked in words only");
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "YE"}, {"type": "text", "text": "S"}]}]);
    assert_eq!(content(OPENAI, &with(&openai_body(&[], Some(&yes())), "messages", parts)), r#"{"ok":true}"#);

    let (_, answer) = post(&endpoint, "/ollama/api/chat", &[], &with(&ollama_body(&["a"], None), "format", "json"));
    assert_eq!(answer["message"]["content"], r#"{"answer":"You said: a"}"#);
    let cohere = with(&cohere_body(&["a"], None), "response_format", json!({"type": "json_object"}));
    let (_, answer) = post(&endpoint, "/cohere/v2/chat", &[KEY], &cohere);
    assert_eq!(answer["message"]["content"][0]["text"], r#"{"answer":"You said: a"}"#);
    let gemini = with(&gemini_body(&["a"], None), "generationConfig", json!({"responseMimeType": "application/json"}));
    let (_, answer) = post(&endpoint, GEMINI, &[("x-goog-api-key", "sk-right")], &gemini);
    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], r#"{"answer":"You said: a"}"#);
}

#[test]
fn closed_schemas_without_bounds() {
    let endpoint = start();
    let headers = [("x-api-key", "sk-right"), ("anthropic-version", "2023-06-01")];
    for (schema, text) in [
        (
            without(&yes(), "additionalProperties"),
            "For 'object' type, 'additionalProperties' must be explicitly set to false",
        ),
        (
            object("a", json!({"type": "integer", "minimum": 0})),
            "For 'integer' type, property 'minimum' is not supported",
        ),
        (
            object("a", json!({"type": "number", "minimum": 0, "maximum": 1})),
            "For 'number' type, properties maximum, minimum are not supported",
        ),
        (object("a", json!({"type": "string", "maxLength": 3})), "For 'string' type, property 'maxLength'"),
        (
            object("a", json!({"type": "array", "minItems": 2, "items": {"type": "string"}})),
            "For 'array' type, 'minItems' values other than 0 or 1 are not supported",
        ),
        (object("a", json!({"oneOf": [{"type": "string"}]})), "Schema type 'oneOf' is not supported"),
    ] {
        let anthropic = format!("output_config.format.schema: {text}");
        let path = "/anthropic/v1/messages";
        refused(&endpoint, path, &headers, &anthropic_body(&["a"], Some(&schema)), 400, &anthropic);
        refused(&endpoint, BEDROCK, &[KEY], &bedrock_body(&["a"], Some(&schema)), 400, text);
    }
    let check = |body: &Value, text: &str| refused(&endpoint, "/anthropic/v1/messages", &headers, body, 400, text);
    let body = anthropic_body(&["a"], None);
    let format = json!({"type": "json_schema", "schema": yes()});
    check(
        &with(&body, "output_format", format.clone()),
        "output_format: This field is deprecated. Use 'output_config.format' instead.",
    );
    check(&with(&body, "output_config", json!({"schema": yes()})), "output_config.schema: Extra inputs");
    check(
        &with(&body, "output_config", json!({"format": with(&format, "type", "json")})),
        "Input should be 'json_schema'",
    );
    check(&with(&body, "output_config", json!({"format": with(&format, "name", "a")})), "output_config.format.name");
    let effort = with(&body, "output_config", json!({"effort": "low"}));
    assert_eq!(post(&endpoint, "/anthropic/v1/messages", &headers, &effort).0, 200);
    let short = with(&anthropic_body(&["yes"], Some(&yes())), "max_tokens", 1);
    let (_, answer) = post(&endpoint, "/anthropic/v1/messages", &headers, &short);
    assert_eq!((&answer["content"][0]["text"], &answer["stop_reason"]), (&json!("{\"ok"), &json!("max_tokens")));

    let check = |config: Value, text: &str| {
        let body = with(&bedrock_body(&["a"], None), "outputConfig", config);
        refused(&endpoint, BEDROCK, &[KEY], &body, 400, text);
    };
    let config = |schema: Value| json!({"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"name": "a", "schema": schema}}}});
    check(config(yes()), "expected type: string");
    check(config("{".into()), "not valid JSON");
    check(json!({"textFormat": {"type": "json"}}), "required key");
    check(json!({"textFormat": {"type": "json", "structure": {}}}), "enum value set: [json_schema]");
    check(json!({"format": {}}), "extraneous key [outputConfig.format]");
    let vertex = "/vertex/v1/projects/test-project/locations/global/publishers/anthropic/models/claude-x:rawPredict";
    let body = without(&anthropic_body(&["yes"], Some(&yes())), "model");
    let body = with(&body, "anthropic_version", "vertex-2023-10-16");
    let (status, answer) = post(&endpoint, vertex, &[("Authorization", &token(&endpoint))], &body);
    assert_eq!((status, &answer["content"][0]["text"]), (200, &json!(r#"{"ok":true}"#)), "{answer}");
}

#[test]
fn old_models_have_no_structured_output() {
    let endpoint = start();
    let text = "'response_format' of type 'json_schema' is not supported with this model";
    for model in ["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo"] {
        let body = with(&openai_body(&["yes"], Some(&yes())), "model", model);
        refused(&endpoint, OPENAI, &[KEY], &body, 400, text);
    }
    for model in ["gpt-4o", "gpt-4.1"] {
        let body = with(&openai_body(&["yes"], Some(&yes())), "model", model);
        assert_eq!(post(&endpoint, OPENAI, &[KEY], &body).0, 200, "{model}");
    }
    let headers = [("x-api-key", "sk-right"), ("anthropic-version", "2023-06-01")];
    let body = with(&anthropic_body(&["yes"], Some(&yes())), "model", "claude-3-haiku-20240307");
    let text = "\"'claude-3-haiku-20240307' does not support output format.\"";
    refused(&endpoint, "/anthropic/v1/messages", &headers, &body, 400, text);
    let path = "/bedrock/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse";
    let text = "#: extraneous key [outputConfig] is not permitted";
    refused(&endpoint, path, &[KEY], &bedrock_body(&["yes"], Some(&yes())), 400, text);
    assert_eq!(post(&endpoint, path, &[KEY], &bedrock_body(&["yes"], None)).0, 200);
}

#[test]
fn gemini_schemas() {
    let endpoint = start();
    let key = [("x-goog-api-key", "sk-right")];
    let body = |config: Value| with(&gemini_body(&["first_name: Ada"], None), "generationConfig", config);
    let config = |schema: Value| json!({"responseMimeType": "application/json", "responseSchema": schema});
    let text = |body: &Value| {
        let (status, answer) = post(&endpoint, GEMINI, &key, body);
        assert_eq!(status, 200, "{answer}");
        answer["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap().to_owned()
    };
    let good = json!({"type": "OBJECT", "required": ["first_name"], "propertyOrdering": ["first_name", "n"], "properties": {
        "first_name": {"type": "STRING", "description": "d"},
        "n": {"type": "NUMBER", "nullable": true, "minimum": 0, "maximum": 1},
        "any_of": {"anyOf": [{"type": "INTEGER"}, {"type": "STRING"}]},
    }});
    let expected = r#"{"any_of":0,"first_name":"Ada","n":0.5}"#;
    assert_eq!(text(&body(config(good.clone()))), expected);
    let snake = json!({"response_mime_type": "application/json", "response_schema": good});
    assert_eq!(text(&with(&gemini_body(&["first_name: Ada"], None), "generation_config", snake)), expected);
    let plain = object("first_name", json!({"type": ["string", "null"]}));
    let json_schema = json!({"responseMimeType": "application/json", "responseJsonSchema": plain});
    assert_eq!(text(&body(json_schema.clone())), r#"{"first_name":"Ada"}"#);

    let check = |config: Value, text: &str| refused(&endpoint, GEMINI, &key, &body(config), 400, text);
    let place = "generation_config.response_schema";
    check(config(yes()), &format!("Unknown name \\\"additionalProperties\\\" at '{place}': Cannot find field."));
    let property = |schema: Value| config(without(&object("a", schema), "additionalProperties"));
    check(
        property(json!({"type": ["string", "null"]})),
        &format!("Unknown name \\\"type\\\" at '{place}.properties[0].value': Proto field is not repeating, cannot start list."),
    );
    for name in ["$ref", "$schema", "const", "oneOf"] {
        let unknown = format!("Unknown name \\\"{name}\\\" at '{place}.properties[0].value': Cannot find field.");
        check(property(json!({"type": "string", name: "x"})), &unknown);
    }
    check(property(json!({"type": "string", "enum": ["a", 1]})), "enum[1]' (TYPE_STRING), 1");
    check(
        property(json!({"type": "text"})),
        ".type' (type.googleapis.com/google.ai.generativelanguage.v1beta.Type), \\\"text\\\"",
    );
    check(property(json!({"type": "integer", "enum": ["1"]})), "properties[a].enum: only allowed for STRING type");
    check(property(json!({"type": "array"})), "properties[a].items: missing field.");
    check(property(json!({"type": "object"})), "properties[a].properties: should be non-empty for OBJECT type");
    check(property(json!({})), "properties[a].type: must be specified");
    check(
        config(json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]})),
        "required[0]: property is not defined",
    );
    check(with(&config(json!({"type": "string"})), "responseMimeType", "text/plain"), "response_mime_type");
    check(json!({"responseSchema": {"type": "string"}}), "response_mime_type");
    check(json!({"responseMimeType": "text/html"}), "allowed mimetypes are");
    check(with(&json_schema, "responseSchema", json!({"type": "string"})), "must not both be set");

    let union = json!({"description": "d", "anyOf": [{"type": "STRING"}, {"type": "NULL"}]});
    let union = body(config(json!({"type": "OBJECT", "properties": {"first_name": union}})));
    assert_eq!(text(&union), r#"{"first_name":"Ada"}"#);
    let why = "specified other fields alongside any_of. When using any_of, it must be the only field set.";
    refused(&endpoint, VERTEX, &[("Authorization", &token(&endpoint))], &union, 400, why);
}

#[test]
fn cohere_and_ollama_and_text_generation() {
    let endpoint = start();
    let check = |format: Value, text: &str| {
        let body = with(&cohere_body(&["a"], None), "response_format", format);
        refused(&endpoint, "/cohere/v2/chat", &[KEY], &body, 400, text);
    };
    let format = |schema: Value| json!({"type": "json_object", "json_schema": schema});
    check(json!({"type": "json_schema", "json_schema": yes()}), "must be 'text' or 'json_object'");
    check(format(json!({"type": "array", "items": {"type": "string"}})), "top level must be of type object");
    check(format(without(&yes(), "required")), "at least one required field");
    let unknown = with(&cohere_body(&["a"], None), "response_format", json!({"type": "json_object", "schema": yes()}));
    refused(&endpoint, "/cohere/v2/chat", &[KEY], &unknown, 422, "response_format.schema");
    let tools = with(&cohere_body(&["a"], Some(&yes())), "tools", json!([]));
    refused(&endpoint, "/cohere/v2/chat", &[KEY], &tools, 400, "not supported with tools");

    let body = with(&ollama_body(&["a"], None), "format", "xml");
    let text = r#"invalid format: \"xml\"; expected \"json\" or a valid JSON Schema object"#;
    refused(&endpoint, "/ollama/api/chat", &[], &body, 400, text);
    let body = json!({"model": "m", "stream": false, "prompt": "yes", "format": yes()});
    let (status, answer) = post(&endpoint, "/ollama/api/generate", &[], &body);
    assert_eq!((status, &answer["response"]), (200, &json!(r#"{"ok":true}"#)));
    assert_eq!(post(&endpoint, "/ollama/api/generate", &[], &with(&body, "format", "")).1["response"], "You said: yes");

    let path = "/huggingface/models/org/gpt";
    let body = |said: &str, parameters: Value| json!({"inputs": said, "parameters": parameters});
    let grammar = json!({"grammar": {"type": "json", "value": yes()}, "details": true});
    let (_, answer) = post(&endpoint, path, &[KEY], &body("yes", grammar.clone()));
    assert_eq!(
        (&answer[0]["generated_text"], &answer[0]["details"]["finish_reason"]),
        (&json!(r#"{"ok":true}"#), &json!("eos_token"))
    );
    let (_, answer) = post(&endpoint, path, &[KEY], &body("yes[[cut]]", grammar.clone()));
    assert_eq!(
        (&answer[0]["generated_text"], &answer[0]["details"]["finish_reason"]),
        (&json!(r#"{"ok""#), &json!("length"))
    );
    let asks = |said: &str| post(&endpoint, path, &[KEY], &body(said, grammar.clone())).1[0]["generated_text"].clone();
    assert_eq!(asks("yes [[once:no JSON]]"), "no JSON");
    assert_eq!(asks("yes [[once:no JSON]]\nThis is wrong: no JSON"), r#"{"ok":true}"#, "the answer is quoted");
    for marker in ["[[empty]]", "[[tool]]"] {
        assert_eq!(post(&endpoint, path, &[KEY], &body(marker, json!({}))), (200, json!([{"generated_text": ""}])));
    }
    refused(&endpoint, path, &[KEY], &body("[[status:504]]", json!({})), 504, "status 504");
    refused(&endpoint, path, &[KEY], &body("a", json!({"grammar": {"type": "json", "value": "x"}})), 400, "grammar");
    refused(&endpoint, path, &[KEY], &body("a", json!({"grammar": {"value": {}}})), 400, "parameters.grammar.type");
}

#[test]
fn streams_end_as_other_answers_do() {
    let endpoint = start();
    let body = with(&openai_body(&["yes[[cut]]"], Some(&yes())), "stream", true);
    let (_, answer) = post(&endpoint, OPENAI, &[KEY], &body);
    assert!(answer.as_str().unwrap().contains(r#""finish_reason":"length""#), "{answer}");
    let body = with(&ollama_body(&["yes"], Some(&yes())), "stream", true);
    let json = ("Content-Type", "application/json");
    let (_, _, bytes) = send_raw(&endpoint, "POST", "/ollama/api/chat", &[json], body.to_string().as_bytes());
    let lines: Vec<Value> =
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let whole: String = lines.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(whole, r#"{"ok":true}"#);
}

#[test]
fn reranking_of_jina_and_bedrock() {
    let endpoint = start();
    let documents = json!(["a car", "red apple pie", "an apple"]);
    let path = "/openai/v1/rerank";
    let body = json!({"model": "jina-reranker-v2", "query": "red apple", "documents": documents, "top_n": 2});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    let results = answer["results"].as_array().unwrap();
    assert_eq!((status, results.len(), &results[0]["index"], &results[1]["index"]), (200, 2, &json!(1), &json!(2)));
    assert_eq!(results[0]["relevance_score"], crate::relevance_for("red apple", "red apple pie"));
    assert!(results[0].get("document").is_none());
    let (_, answer) = post(&endpoint, path, &[KEY], &with(&body, "return_documents", true));
    assert_eq!(answer["results"][0]["document"]["text"], "red apple pie");
    refused(&endpoint, path, &[KEY], &with(&body, "top_k", 1), 400, "top_k");
    refused(&endpoint, path, &[KEY], &with(&body, "top_n", 0), 400, "top_n");
    refused(&endpoint, path, &[KEY], &with(&body, "documents", json!([])), 400, "documents");
    refused(&endpoint, path, &[], &body, 401, "API key");

    assert_eq!(post(&endpoint, "/v1/rerank", &[], &body), post(&endpoint, path, &[KEY], &body));
    refused(&endpoint, "/v1/rerank", &[], &with(&body, "top_k", 1), 400, "top_k");

    let path = "/bedrock/model/cohere.rerank-v3-5%3A0/invoke";
    let body = json!({"query": "red apple", "documents": documents, "api_version": 2, "top_n": 1});
    let (status, answer) = post(&endpoint, path, &[KEY], &body);
    assert_eq!((status, &answer["results"][0]["index"]), (200, &json!(1)), "{answer}");
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);
    refused(&endpoint, path, &[KEY], &without(&body, "api_version"), 400, "api_version");
    refused(&endpoint, path, &[KEY], &with(&body, "api_version", 1), 400, "api_version must be 2");
    refused(&endpoint, path, &[KEY], &with(&body, "model", "a"), 400, "extraneous key [model]");
    let converse = "/bedrock/model/cohere.rerank-v3-5%3A0/converse";
    refused(&endpoint, converse, &[KEY], &bedrock_body(&["a"], None), 400, "doesn't support the model");
}

#[test]
fn a_benchmark_may_have_many_requests_under_way() {
    let endpoint = start();
    endpoint.set_recording(false);
    let body = openai_body(&["yes"], Some(&yes()));
    let begin = Instant::now();
    let all = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..64).map(|_| scope.spawn(|| post(&endpoint, "/bench/v1/chat/completions?ms=300", &[], &body))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let took = begin.elapsed();
    for (status, answer) in all {
        assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!(r#"{"ok":true}"#)));
    }
    // In turn they would take 19 seconds.
    assert!((Duration::from_millis(300)..Duration::from_secs(9)).contains(&took), "{took:?}");
    assert_eq!(post(&endpoint, "/bench/v1/other", &[], &body).0, 404);
    assert_eq!(send(&endpoint, "GET", "/bench/v1/chat/completions", &[], b"").0, 405);
}
