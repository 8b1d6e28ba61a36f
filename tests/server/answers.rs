//! Odd answers of endpoints on a real server: repeated keys, errors with a success status, and the like.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{self, server_error, Running};
use base64::prelude::{Engine as _, BASE64_STANDARD};
use fake_providers::{Answer, Recorded};
use mysql::prelude::Queryable;
use mysql::Conn;
use serde_json::{json, Value};

/// A key with characters that encodings write differently.
const KEY: &str = "sk-aB3/dE4+fG5=hI6_jK7-lM8.nO9";

/// Disguises of the key in an answer, as text for JSON.
fn disguises() -> Vec<(&'static str, String)> {
    let each = |f: &dyn Fn(u32) -> String| KEY.chars().map(|c| f(c as u32)).collect::<String>();
    vec![
        ("plain", KEY.to_owned()),
        ("escaped slashes", KEY.replace('/', "\\/")),
        ("upper hex", KEY.replace('+', "\\u002B").replace('/', "\\u002F")),
        ("lower hex", KEY.replace('+', "\\u002b").replace('=', "\\u003d")),
        ("first letter", KEY.replacen('s', "\\u0073", 1)),
        ("all letters", each(&|c| format!("\\u{c:04X}"))),
        ("percent", each(&|c| format!("%{c:02X}"))),
        ("percent where needed", KEY.replace('/', "%2f").replace('+', "%2B").replace('=', "%3D")),
        ("html", KEY.replace('/', "&sol;").replace('+', "&#43;").replace('=', "&#x3d;")),
        ("json in json", KEY.replace('/', "\\\\\\/").replace('s', "\\\\u0073")),
        ("base64", BASE64_STANDARD.encode(KEY).replace('/', "\\/")),
        ("base64 of a header", BASE64_STANDARD.encode(format!("Authorization: Bearer {KEY}\r\n"))),
        ("hex", KEY.bytes().map(|b| format!("{b:02x}")).collect()),
        ("spaced", each(&|c| format!("{} ", char::from_u32(c).unwrap()))),
        ("lines", KEY.replace('-', "-\\n")),
    ]
}

/// Asserts that a text contains no part of the key, even after decoding.
fn assert_clean(text: &str, what: &str) {
    let mut readings = vec![text.to_owned()];
    for _ in 0..3 {
        let last = readings.last().unwrap();
        let mut next = String::new();
        let mut rest = last.as_str();
        while let Some(at) = rest.find(['\\', '%', '&']) {
            next.push_str(&rest[..at]);
            let tail = &rest[at..];
            let number = |from: usize, to: usize| {
                tail.get(from..to).and_then(|d| u32::from_str_radix(d, 16).ok()).and_then(char::from_u32)
            };
            let (c, length) = match tail.as_bytes() {
                [b'\\', b'u', ..] => (number(2, 6), 6),
                [b'%', ..] => (number(1, 3), 3),
                [b'\\', b'/' | b'"' | b'\\', ..] => (tail.chars().nth(1), 2),
                _ => (None, 1),
            };
            match c {
                Some(c) => next.push(c),
                None => next.push_str(&tail[..1]),
            }
            rest = &tail[if c.is_some() { length } else { 1 }..];
        }
        next.push_str(rest);
        readings.push(next);
    }
    let base64 = BASE64_STANDARD.encode(KEY);
    let hex: String = KEY.bytes().map(|b| format!("{b:02x}")).collect();
    for reading in readings {
        let bare: String = reading.chars().filter(|c| !c.is_whitespace()).collect();
        for part in [&KEY[3..], &base64[4..24], &hex[..24]] {
            for window in part.as_bytes().windows(9) {
                let window = std::str::from_utf8(window).unwrap();
                assert!(!bare.contains(window), "{what}: {window} in {reading}");
            }
        }
    }
}

/// Stores `KEY` as the secret `k`.
fn store_key(running: &Running, conn: &mut Conn) {
    std::fs::write(running.secrets.path().join("disguised"), KEY).unwrap();
    conn.query_drop("CALL mysql.ml_create_sm_secret_registration('k', 'file:disguised')").unwrap();
}

fn register(conn: &mut Conn, id: &str, url: &str, provider: &str, model_type: &str) {
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration(?, ?, ?, ?, 'm', 'auth_type_secret_manager', 'k', NULL, NULL, NULL)",
        (id, url, provider, model_type),
    )
    .unwrap();
}

/// A statement's first column, or its error.
fn said(conn: &mut Conn, sql: &str) -> String {
    match conn.query_first::<mysql::Row, _>(sql) {
        Ok(Some(mut row)) => match row.take::<mysql::Value, _>(0).unwrap() {
            mysql::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => format!("{other:?}"),
        },
        Ok(None) => String::new(),
        Err(e) => e.to_string(),
    }
}

#[test]
fn a_key_that_an_answer_repeats_is_nowhere_to_be_seen() {
    let running = common::start();
    let mut root = running.root();
    store_key(&running, &mut root);
    let e = &running.endpoint;
    let answer = Arc::new(Mutex::new(Answer::default()));
    for path in ["/chat/v1/chat/completions", "/embed/v1/embeddings", "/any"] {
        let answer = Arc::clone(&answer);
        e.on(path, move |_: &Recorded| answer.lock().unwrap().clone());
    }
    register(&mut root, "chat", &e.url("/chat/v1"), "open_ai", "llm");
    register(&mut root, "embed", &e.url("/embed/v1"), "open_ai", "text_embedding");
    register(&mut root, "any", &e.url("/any"), "custom", "generic");
    root.query_drop("CREATE DATABASE d; USE d").unwrap();
    root.query_drop(
        "CREATE FUNCTION d.show_answer(m VARCHAR(100), r JSON) RETURNS BLOB DETERMINISTIC RETURN CONCAT('', r)",
    )
    .unwrap();
    root.query_drop(
        "CREATE FUNCTION d.ask(m VARCHAR(100), t TEXT) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('text', t)",
    )
    .unwrap();
    root.query_drop("CREATE TABLE d.seen (id INT PRIMARY KEY AUTO_INCREMENT, body TEXT, v VECTOR(2))").unwrap();
    root.query_drop("INSERT INTO d.seen (body) VALUES ('one'), ('two')").unwrap();
    root.exec_drop(
        "CALL mysql.ml_create_model_registration('shown', ?, 'custom', 'text_embedding', 'm', 'auth_type_secret_manager', 'k', NULL, 'd.ask', 'd.show_answer')",
        (e.url("/any"),),
    )
    .unwrap();
    for (name, disguise) in disguises() {
        let chat = format!(
            r#"{{"choices":[{{"message":{{"content":"you sent {disguise}, did you"}},"finish_reason":"stop"}}]}}"#
        );
        *answer.lock().unwrap() = Answer::raw_json(200, chat);
        let text = said(&mut root, "SELECT mysql.ml_generate('chat', 'hi', NULL)");
        assert!(text.starts_with("you sent ") && text.ends_with(", did you"), "{name}: {text}");
        assert_clean(&text, name);
        for sql in [
            "SELECT mysql.ml_predict_row('chat', '{}')",
            "SELECT JSON_VALUE(mysql.ml_predict_row('chat', '{}'), '$.choices[0].message.content')",
            "SELECT mysql.ml_embedding('embed', 'x')",
            "SELECT mysql.ml_embedding('shown', 'x')",
            "SELECT mysql.ml_validate_model('embed')",
        ] {
            let text = said(&mut root, sql);
            assert!(text.contains("you sent") || text.contains("choices"), "{name}: {sql}: {text}");
            assert_clean(&text, &format!("{name}: {sql}"));
        }
        // Refusals: the message in its usual places, and as plain text.
        for (status, body) in [
            (401, format!(r#"{{"error":{{"message":"Incorrect API key provided: {disguise}."}}}}"#)),
            (403, format!(r#"{{"detail":"no {disguise}"}}"#)),
            (400, format!(r#"{{"what":["{disguise}"]}}"#)),
            (404, format!("<p>There is no {disguise}</p>")),
            (422, format!("{}{disguise}", "x".repeat(200))),
        ] {
            *answer.lock().unwrap() = Answer::raw_json(status, body);
            for sql in [
                "SELECT mysql.ml_embedding('embed', 'x')",
                "SELECT mysql.ml_generate('chat', 'hi', NULL)",
                "SELECT mysql.ml_validate_model('any')",
            ] {
                let text = said(&mut root, sql);
                assert!(text.contains(&status.to_string()) || text.contains("error"), "{name}: {sql}: {text}");
                assert_clean(&text, &format!("{name}: {status}: {sql}"));
            }
        }
        // The recorded errors of failed rows.
        *answer.lock().unwrap() = Answer::raw_json(400, format!(r#"{{"error":{{"message":"bad {disguise}"}}}}"#));
        let text = said(&mut root, "SELECT mysql.ml_embedding_batch('embed', '[\"a\",\"b\"]')");
        assert_clean(&text, name);
        let text = said(&mut root, "CALL mysql.ml_embed_table('embed', 'd.seen', 'body', 'v', NULL)");
        assert_clean(&text, name);
        let notes: Vec<String> =
            root.query("SELECT COALESCE(error, '') FROM mysql.cloudsql_ml_embed_failures").unwrap_or_default();
        for note in notes {
            assert_clean(&note, name);
        }
    }
    assert_clean(&running.server.error_log(), "the error log");
    assert_clean(&said(&mut root, "SELECT mysql.ml_status()"), "ml_status");
}

#[test]
fn headers_of_a_header_function_are_not_repeated_either() {
    let running = common::start();
    let mut root = running.root();
    root.query_drop("CREATE DATABASE d").unwrap();
    root.query_drop(
        "CREATE FUNCTION d.head(m VARCHAR(100), t TEXT) RETURNS JSON DETERMINISTIC \
         RETURN JSON_OBJECT('X-Mine', 'sk-aB3/dE4+fG5=hI6_jK7-lM8.nO9', 'anthropic-version', '2023-06-01')",
    )
    .unwrap();
    running.endpoint.on("/any", |r: &Recorded| {
        let (mine, version) = (r.header("x-mine").unwrap(), r.header("anthropic-version").unwrap());
        let mine = mine.replace('+', "\\u002B").replace('/', "\\/");
        Answer::raw_json(200, format!(r#"{{"mine":"{mine}","version":"{version}"}}"#))
    });
    root.exec_drop(
        "CALL mysql.ml_create_model_registration('any', ?, 'custom', 'generic', NULL, NULL, NULL, 'd.head', NULL, NULL)",
        (running.endpoint.url("/any"),),
    )
    .unwrap();
    let text = said(&mut root, "SELECT mysql.ml_predict_row('any', '{}')");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["version"], json!("2023-06-01"), "{text}");
    assert!(value["mine"].as_str().unwrap().chars().all(|c| c == '*'), "{text}");
}

#[test]
fn an_account_without_rights_writes_nothing_to_the_error_log() {
    let running = common::start();
    let mut root = running.root();
    root.query_drop("CREATE USER nobody@localhost").unwrap();
    let mut nobody = running.server.connect("nobody").unwrap();
    let forged = "x\u{2028}2026-01-01T00:00:00.000000Z 0 [ERROR] [MY-000000] forged line";
    for i in 0..20 {
        let (code, message) = server_error(
            nobody.exec_drop("DO ml_refresh_embeddings(?, 'v', NULL, 'event')", (format!("`a{i}`.`{forged}`"),)),
        );
        assert_eq!(code, 1370, "{message}");
    }
    assert!(!running.server.error_log().contains("forged"), "{}", running.server.error_log());
    // An account that may embed tables must not write more than one line to the log for a name.
    root.query_drop("GRANT ml_user TO nobody@localhost; SET DEFAULT ROLE ALL TO nobody@localhost").unwrap();
    root.query_drop("CREATE DATABASE a; GRANT ALL ON a.* TO nobody@localhost").unwrap();
    let mut somebody = running.server.connect("nobody").unwrap();
    for _ in 0..5 {
        drop(somebody.exec_drop("DO ml_refresh_embeddings(?, 'v', NULL, 'event')", (format!("`a`.`{forged}`"),)));
    }
    let log = running.server.error_log();
    assert!(!log.contains('\u{2028}'), "{log}");
    assert!(log.matches("forged").count() <= 1, "{log}");
}

/// A model without a key at a path of the endpoint.
fn plain(conn: &mut Conn, id: &str, url: &str, provider: &str, model_type: &str) {
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration(?, ?, ?, ?, 'm', NULL, NULL, NULL, NULL, NULL)",
        (id, url, provider, model_type),
    )
    .unwrap();
}

/// A path that answers `first` to its first `times` requests, then `then`.
fn first(running: &Running, path: &str, times: u32, first: &str, then: &str) -> Arc<AtomicU32> {
    let asked = Arc::new(AtomicU32::new(0));
    let (counted, first, then) = (Arc::clone(&asked), first.to_owned(), then.to_owned());
    running.endpoint.on(path, move |_: &Recorded| match counted.fetch_add(1, Ordering::SeqCst) {
        n if n < times => Answer::raw_json(200, first.clone()),
        _ => Answer::raw_json(200, then.clone()),
    });
    asked
}

const PARIS: &str =
    r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Paris"},"finish_reason":"stop"}]}"#;

#[test]
fn an_error_inside_a_200_is_that_error() {
    let running = common::start();
    let mut root = running.root();
    let e = &running.endpoint;
    plain(&mut root, "chat", &e.url("/c/v1"), "open_ai", "llm");
    plain(&mut root, "embed", &e.url("/e/v1"), "open_ai", "text_embedding");
    plain(&mut root, "ollama", &e.url("/o/api"), "ollama", "text_embedding");
    plain(&mut root, "any", &e.url("/any"), "custom", "generic");
    let (chat, embed) = ("/c/v1/chat/completions", "/e/v1/embeddings");
    // Temporary errors are retried; the messages of the others are reported.
    for error in [
        r#"{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"temporarily limited","retry_after":0.1}}}"#,
        r#"{"choices":[{"index":0,"finish_reason":"stop","message":{"content":null}}],"error":{"message":"Provider returned error","code":429}}"#,
        r#"{"choices":[{"finish_reason":"error","error":{"code":502,"message":"Upstream down"},"message":{"content":""}}]}"#,
        r#"[{"error":{"code":503,"message":"x","status":"UNAVAILABLE"}}]"#,
        "data: {\"error\":{\"code\":503,\"message\":\"x\"}}\n\n",
        r#"{"error":"the server had an error"}"#,
    ] {
        let asked = first(&running, chat, 1, error, PARIS);
        assert_eq!(said(&mut root, "SELECT mysql.ml_generate('chat', 'x', NULL)"), "Paris", "{error}");
        assert_eq!(asked.load(Ordering::SeqCst), 2, "{error}");
    }
    let asked = first(&running, chat, 1, r#"{"error":{"message":"slow","code":429}}"#, PARIS);
    assert_eq!(said(&mut root, "SELECT mysql.ml_predict_row('chat', '{}')").matches("Paris").count(), 1);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let asked = first(
        &running,
        chat,
        9,
        r#"{"choices":[{"message":{"content":null}}],"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"the prompt has 9 tokens too many"}}}"#,
        PARIS,
    );
    let error = said(&mut root, "SELECT mysql.ml_generate('chat', 'x', NULL)");
    assert!(error.contains("400 Bad Request \"Provider returned error: the prompt has 9 tokens too many\""), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let asked = first(&running, chat, 9, r#"{"error":{"message":"x","code":"insufficient_quota"}}"#, PARIS);
    let error = said(&mut root, "SELECT mysql.ml_generate('chat', 'x', NULL)");
    assert!(error.contains("used up") && asked.load(Ordering::SeqCst) == 1, "{error}");
    // A user's own service may use the member with another meaning.
    first(&running, "/any", 9, r#"{"error":"none of your business"}"#, "{}");
    assert!(said(&mut root, "SELECT mysql.ml_predict_row('any', '{}')").contains("none of your business"));

    // Embeddings, one by one and in a batch, which is not halved.
    let vectors = r#"{"data":[{"index":0,"embedding":[1,2]},{"index":1,"embedding":[3,4]}]}"#;
    for error in [r#"{"error":{"message":"busy","code":503}}"#, r#"{"data":[],"error":{"message":"busy","code":503}}"#]
    {
        let asked = first(&running, embed, 1, error, r#"{"data":[{"index":0,"embedding":[1,2]}]}"#);
        let text = said(&mut root, "SELECT VECTOR_TO_STRING(mysql.ml_embedding('embed', UUID()))");
        assert!(text.starts_with("[1.0"), "{error}: {text}");
        assert_eq!(asked.load(Ordering::SeqCst), 2, "{error}");
        let asked = first(&running, embed, 1, error, vectors);
        let text = said(&mut root, "SELECT mysql.ml_embedding_batch('embed', JSON_ARRAY(UUID(), UUID()))");
        assert!(text.starts_with("[\""), "{error}: {text}");
        assert_eq!(asked.load(Ordering::SeqCst), 2, "{error}: the batch was split");
    }
    // A job continues as well and records no failed row.
    root.query_drop("CREATE DATABASE jobs").unwrap();
    root.query_drop("CREATE TABLE jobs.rows_ (id INT PRIMARY KEY, body TEXT, v VECTOR(2))").unwrap();
    for error in [r#"{"error":{"message":"slow","code":429,"metadata":{"retry_after":0.2}}}"#, "", r#"{"data":[]}"#] {
        root.query_drop("DELETE FROM jobs.rows_").unwrap();
        root.query_drop("INSERT INTO jobs.rows_ (id, body) VALUES (1, UUID()), (2, UUID())").unwrap();
        let asked = first(&running, embed, 1, error, vectors);
        said(&mut root, "CALL mysql.ml_embed_table('embed', 'jobs.rows_', 'body', 'v', NULL)");
        let done = said(&mut root, "SELECT CAST(COUNT(v) AS CHAR) FROM jobs.rows_");
        assert_eq!((done.as_str(), asked.load(Ordering::SeqCst)), ("2", 2), "{error}");
        assert_eq!(
            said(&mut root, "SELECT CAST(COUNT(*) AS CHAR) FROM mysql.cloudsql_ml_embed_failures"),
            "0",
            "{error}"
        );
    }
    first(&running, "/o/api/embed", 9, r#"{"error":"model \"m\" not found, try pulling it first"}"#, "{}");
    let error = said(&mut root, "SELECT mysql.ml_embedding('ollama', 'x')");
    assert!(error.contains("404 Not Found") && error.contains("try pulling it first"), "{error}");
    for zeros in
        [r#"{"data":[{"index":0,"embedding":[0,0,-0.0]}]}"#, r#"{"data":[{"index":0,"embedding":"AAAAAAAAAAA="}]}"#]
    {
        first(&running, embed, 9, zeros, "{}");
        for sql in
            ["SELECT mysql.ml_embedding('embed', UUID())", "SELECT mysql.ml_embedding_batch('embed', '[\"zero\"]')"]
        {
            let error = said(&mut root, sql);
            assert!(error.contains("a vector of zeros"), "{sql}: {error}");
        }
    }
}

#[test]
fn a_wait_that_the_body_asks_for_is_waited() {
    let running = common::start();
    let mut root = running.root();
    let path = "/v1beta/models/gemini-embedding-001:embedContent";
    let opens = Arc::new(Mutex::new(Instant::now()));
    let (when, day) = (Arc::clone(&opens), Arc::new(Mutex::new("Minute")));
    let window = Arc::clone(&day);
    running.endpoint.on(path, move |_: &Recorded| {
        let left = when.lock().unwrap().saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Answer::raw_json(200, r#"{"embedding":{"values":[1,2]}}"#);
        }
        let window = *window.lock().unwrap();
        Answer::json(429, &json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota.", "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure",
             "violations": [{"quotaId": format!("EmbedContentRequestsPer{window}PerUserPerProjectPerModel-FreeTier")}]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{:.9}s", left.as_secs_f64())},
        ]}}))
    });
    store_key(&running, &mut root);
    register(&mut root, "g", &running.endpoint.url(path), "google", "text_embedding");
    let wait = Duration::from_millis(3500);
    *opens.lock().unwrap() = Instant::now() + wait;
    let began = Instant::now();
    let text = said(&mut root, "SELECT VECTOR_DIM(mysql.ml_embedding('g', 'a'))");
    assert_eq!(text, "2");
    assert!(began.elapsed() >= wait - Duration::from_millis(100), "{:?}", began.elapsed());
    assert_eq!(running.endpoint.count_for(path), 2, "it asked once, waited as requested, and asked again");
    // A daily quota is not waited for, whatever delay accompanies it.
    running.endpoint.clear();
    *day.lock().unwrap() = "Day";
    *opens.lock().unwrap() = Instant::now() + Duration::from_secs(60);
    let error = said(&mut root, "SELECT mysql.ml_embedding('g', 'b')");
    assert!(error.contains("used up, waiting does not help"), "{error}");
    assert_eq!(running.endpoint.count_for(path), 1);
}

#[test]
fn odd_characters_do_not_cost_an_answer() {
    let running = common::start();
    let mut root = running.root();
    let e = &running.endpoint;
    plain(&mut root, "chat", &e.url("/c/v1"), "open_ai", "llm");
    let path = "/c/v1/chat/completions";
    let answers: [(&[u8], &str); 7] = [
        (br#"{"choices":[{"message":{"content":"a \ud83d b"},"finish_reason":"stop"}]}"#, "a \u{fffd} b"),
        (br#"{"choices":[{"message":{"content":"a \ude00\ud83d\ude00"}}]}"#, "a \u{fffd}\u{1f600}"),
        (b"{\"choices\":[{\"message\":{\"content\":\"cut \xf0\x9f\x98\"}}]}", "cut \u{fffd}"),
        (b"\xef\xbb\xbf{\"choices\":[{\"message\":{\"content\":\"bom\"}}]}\0\0", "bom"),
        (b"{\"choices\":[{\"message\":{\"content\":\"two\nlines\"}}]}", "two\nlines"),
        (br#"{"choices":[{"message":{"content":"nan"},"logprobs":[NaN,-Infinity]}]}"#, "nan"),
        (br#"{"choices":[{"message":{"content":"number"},"finish_reason":0}],"x":1,"x":2}"#, "number"),
    ];
    for (body, wanted) in answers {
        let answer = Answer::raw_json(200, body);
        e.on(path, move |_: &Recorded| answer.clone());
        assert_eq!(said(&mut root, "SELECT mysql.ml_generate('chat', 'x', NULL)"), wanted);
        let text = said(
            &mut root,
            "SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('chat', '{}'), '$.choices[0].message.content'))",
        );
        assert_eq!(text, wanted);
    }
    for (answer, says) in [
        ("data: {\"choices\":[]}\n\ndata: [DONE]\n\n", "a stream of events or lines"),
        ("{\"message\":{\"content\":\"a\"}}\n{\"message\":{\"content\":\"b\"}}\n", "a stream of events or lines"),
        (
            r#"{"choices":[{"message":{"content":null,"reasoning_content":"hm"},"finish_reason":"stop"}]}"#,
            "its reasoning only",
        ),
    ] {
        let answer = Answer::raw_json(200, answer);
        e.on(path, move |_: &Recorded| answer.clone());
        let error = said(&mut root, "SELECT mysql.ml_generate('chat', 'x', NULL)");
        assert!(error.contains(says), "{error}");
    }
    let many = (0..200).fold(Answer::raw_json(200, PARIS), |a, i| a.with_header(&format!("X-Header-{i}"), "x"));
    e.on(path, move |_: &Recorded| many.clone());
    let error = said(&mut root, "SELECT mysql.ml_generate('chat', 'x', NULL)");
    assert!(error.contains("more than 128 lines of headers"), "{error}");
    let some = (0..110).fold(Answer::raw_json(200, PARIS), |a, i| a.with_header(&format!("X-Header-{i}"), "x"));
    e.on(path, move |_: &Recorded| some.clone());
    assert_eq!(said(&mut root, "SELECT mysql.ml_generate('chat', 'x', NULL)"), "Paris");
}

#[test]
fn a_gateway_tells_by_which_name_it_takes_the_limit() {
    let running = common::start();
    let mut root = running.root();
    let path = "/gateway/v1/chat/completions";
    running.endpoint.on(path, |request: &Recorded| {
        let body = request.json();
        if body.get("max_tokens").is_some() {
            return Answer::error(
                400,
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
                "invalid_request_error",
                Some("unsupported_parameter"),
            );
        }
        assert_eq!(body["max_completion_tokens"], json!(50));
        Answer::raw_json(200, PARIS)
    });
    plain(&mut root, "m", &running.endpoint.url("/gateway/v1"), "open_ai", "llm");
    for (options, requests) in
        [(r#"{"max_tokens": 50}"#, 2), (r#"{"max_tokens": 50}"#, 1), (r#"{"max_completion_tokens": 50}"#, 1)]
    {
        running.endpoint.clear();
        let text: Option<String> = root.exec_first("SELECT mysql.ml_generate('m', 'x', ?)", (options,)).unwrap();
        assert_eq!(text.as_deref(), Some("Paris"));
        assert_eq!(running.endpoint.count_for(path), requests, "{options}");
    }
}
