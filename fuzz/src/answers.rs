//! What an endpoint answers.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use mysql_ml_base::account::Account;
use mysql_ml_core::ai::{classify, decide, extract, generate, pack, rerank as ranks, score, sentiment, Answer, Task};
use mysql_ml_core::catalog::model::Model;
use mysql_ml_core::http::redact::Redactor;
use mysql_ml_core::http::{dressed, retry, tidy::tidy};
use mysql_ml_core::json::schema::Schema;
use mysql_ml_core::providers::chat::GenerateOptions;
use mysql_ml_core::providers::table::provider;
use mysql_ml_core::providers::{rerank, usage};
use mysql_ml_core::registration::Registration;
use secrecy::SecretString;
use serde_json::Value;

use crate::{first, two_parts};

const PROVIDERS: [&str; 11] = [
    "google",
    "openai",
    "anthropic",
    "hugging_face",
    "nvidia_nim",
    "cohere",
    "voyage",
    "mistral",
    "ollama",
    "bedrock",
    "custom",
];
const TYPES: [&str; 5] = ["text_embedding", "llm", "multimodal_embedding", "reranking", "generic"];

/// A model of every provider and type, those that cannot be left out.
static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| {
    let model = |name: &str, kind: &str| {
        let texts = ["m", "https://host.example/v1", name, kind, "some-model"].map(|text| Some(text.to_owned()));
        let mut texts = texts.into_iter();
        let registration = Registration::from_arguments(std::array::from_fn(|_| texts.next().flatten())).ok()?;
        registration.to_model(None, Account::library(), "").ok()
    };
    let models: Vec<Model> =
        PROVIDERS.iter().flat_map(|name| TYPES.iter().filter_map(|kind| model(name, kind))).collect();
    assert!(models.len() > 30, "{}", models.len());
    models
});

/// The number of a model, the number of inputs, and an answer as it arrives.
pub fn answers(data: &[u8]) {
    let (number, rest) = first(data);
    let (count, answer) = first(rest);
    let count = usize::from(count % 4) + 1;
    let model = &MODELS[usize::from(number) % MODELS.len()];
    let api = provider(model.api);
    let answer = &tidy(answer.to_vec());
    std::str::from_utf8(answer).expect("an answer is UTF-8");
    if let Ok(read) = api.read_embeddings(model, answer, count) {
        assert_eq!(read.vectors.len(), count, "a vector is missing");
    }
    if let Ok(read) = api.read_image_embedding(model, answer) {
        assert_eq!(read.vectors.len(), 1);
    }
    if let Some(chat) = api.chat(model) {
        let _ = chat.read(answer);
    }
    if let Ok(scores) = rerank::read(answer, count, 1) {
        assert!(!scores.is_empty() && scores.len() <= count);
        assert!(scores.iter().all(|scored| scored.index < count && scored.score.is_finite()));
    }
    let _ = usage::of_answer(answer);
    let _ = dressed::error_in(answer);
    let _ = (dressed::is_error_alone(answer, true), dressed::is_stream(answer));
}

/// The number of a task and a model's text.
pub fn tasks(data: &[u8]) {
    static TASKS: LazyLock<Vec<Task>> = LazyLock::new(|| {
        let options = GenerateOptions::default;
        let schema: Value = serde_json::from_str(
            r#"{"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}"#,
        )
        .expect("it is JSON");
        let tasks = [
            decide::task(options()),
            score::task(options()),
            sentiment::task(options()),
            classify::task(r#"["red", "green"]"#, false, None, options()),
            classify::task(r#"["red", "green"]"#, true, None, options()),
            extract::task(r#"["name", "price"]"#, options()),
            ranks::task(3),
            generate::task(GenerateOptions { json_schema: Some(schema), ..options() }),
            generate::task(options()),
        ];
        tasks.map(|task| task.expect("it is a task")).into()
    });
    let (number, text) = first(data);
    let task = &TASKS[usize::from(number) % TASKS.len()];
    let text = String::from_utf8_lossy(text);
    let whole = |answer: &Answer| match answer {
        Answer::Json(text) => assert!(serde_json::from_str::<Value>(text).is_ok(), "not JSON: {text}"),
        Answer::Number(number) => assert!(number.is_finite()),
        _ => {}
    };
    if let Ok(answer) = task.read(&text) {
        whole(&answer);
        assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer), "a kept answer differs");
    }
    if let Ok(answers) = pack::read(task, 3, &text) {
        assert_eq!(answers.len(), 3);
        answers.iter().for_each(whole);
    }
}

/// A JSON Schema, a NUL, and a document.
pub fn schemas(data: &[u8]) {
    let (schema, document) = two_parts(data);
    let (Ok(schema), Ok(document)) = (serde_json::from_slice(schema), serde_json::from_slice::<Value>(document)) else {
        return;
    };
    if let Ok(schema) = Schema::new(schema) {
        let _ = schema.check(&document);
    }
}

/// A key, a NUL, and an answer.
pub fn redaction(data: &[u8]) {
    let (key, answer) = two_parts(data);
    // Keys go into headers: printable characters without spaces.
    let Ok(key) = std::str::from_utf8(key) else { return };
    if key.len() < 16
        || key.len() > 200
        || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    {
        return;
    }
    let redactor = Redactor::new(&[SecretString::from(key)]);
    let shows = |text: &[u8]| text.windows(key.len()).any(|window| window == key.as_bytes());
    let mut redacted = answer.to_vec();
    redactor.redact(&mut redacted);
    assert_eq!(redacted.len(), answer.len());
    assert!(!shows(&redacted), "the answer still holds the key");
    let repeated = [answer, key.as_bytes(), answer].concat();
    let mut redacted = repeated.clone();
    redactor.redact(&mut redacted);
    assert!(!shows(&redacted), "a repeated key is not found");
    let text = String::from_utf8_lossy(&repeated);
    let shown: Cow<'_, str> = redactor.text(&text);
    assert!(!shows(shown.as_bytes()), "a repeated key is not found in a text");
    // Reading an answer may take escapes away.
    if let Ok(Value::String(text)) = serde_json::from_slice(&redacted) {
        assert!(!shows(text.as_bytes()), "an escaped key is not found");
    }
}

/// A refusal: headers a line, a NUL, and its body.
pub fn retry_after(data: &[u8]) {
    let (head, body) = two_parts(data);
    let head = String::from_utf8_lossy(head);
    let header =
        |name: &str| head.lines().filter_map(|line| line.split_once(": ")).find(|(n, _)| *n == name).map(|h| h.1);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for status in [200, 400, 404, 408, 429, 500, 503, 529] {
        let advice = retry::advice(status, header, body, now);
        // What adds the wait to a time must not overflow.
        let _ = advice.wait.map(|wait| now.checked_add(wait));
        let _ = retry::is_retryable(status, body);
    }
    let _ = retry::is_out_of_money(body);
}
