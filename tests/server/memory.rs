//! The server's memory for large arguments, answers and results: bounded, shared fairly, released.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use crate::common::{server_error, start, start_bare, wait_until, Running};
use fake_providers::Answer;
use mysql::prelude::Queryable;
use mysql::Conn;

const MIB: u64 = 1 << 20;

/// A field of the server's /proc/PID/status, in bytes.
fn of_process(running: &Running, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.server.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Resets the peak and returns the resident memory.
fn begin(running: &Running) -> u64 {
    std::fs::write(format!("/proc/{}/clear_refs", running.server.pid().unwrap()), "5").unwrap();
    of_process(running, "VmRSS")
}

/// The server's growth at its peak since `before`.
fn grown(running: &Running, before: u64) -> u64 {
    of_process(running, "VmHWM").saturating_sub(before)
}

fn dummy(conn: &mut Conn, id: &str, options: &str) {
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration(?, NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        (id,),
    )
    .unwrap();
    conn.exec_drop("CALL mysql.ml_set_model_options(?, ?)", (id, options)).unwrap();
}

fn set(conn: &mut Conn, name: &str, value: &str) {
    conn.exec_drop("CALL mysql.ml_set_setting(?, ?)", (name, value)).unwrap();
}

fn memory(conn: &mut Conn) -> serde_json::Value {
    let status: String = conn.query_first("SELECT mysql.ml_status()").unwrap().unwrap();
    serde_json::from_str::<serde_json::Value>(&status).unwrap()["memory"].take()
}

fn array(texts: impl Iterator<Item = String>) -> String {
    format!("[{}]", texts.map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(","))
}

#[test]
fn the_same_text_many_times_costs_one_vector() {
    let running = start();
    let mut conn = running.root();
    dummy(&mut conn, "wide", r#"{"dimensions": 16383}"#);
    dummy(&mut conn, "d", r#"{"dimensions": 384}"#);
    let same = array((0..27_000).map(|_| "a".to_owned()));
    let length = |conn: &mut Conn, model: &str| {
        conn.exec_first::<u64, _, _>("SELECT LENGTH(ml_embedding_batch(?, ?))", (model, &same))
    };
    // Excludes permanent memory of the first call from the measurement.
    conn.query_drop(r#"SELECT ml_embedding_batch('d', '["x"]')"#).unwrap();
    let before = begin(&running);
    let (_, message) = server_error(length(&mut conn, "wide"));
    assert!(message.contains("max_allowed_packet"), "{message}");
    assert!(grown(&running, before) < 64 * MIB, "{} MiB for a refusal", grown(&running, before) / MIB);

    let before = begin(&running);
    // 27,000 times the base64 of 1536 bytes, with quotes and comma.
    assert_eq!(length(&mut conn, "d").unwrap(), Some(27_000 * 2051 + 1));
    let grown = grown(&running, before);
    assert!(grown < 160 * MIB, "{} MiB for a result of 53", grown / MIB);
    wait_until("the memory is given back", || of_process(&running, "VmRSS") < before + 32 * MIB);
    assert_eq!(memory(&mut conn)["bytes"], 0);
}

#[test]
fn several_megabytes_of_tiny_texts_in_three_sessions_are_refused() {
    let running = start();
    let mut conn = running.root();
    dummy(&mut conn, "d", r#"{"dimensions": 384}"#);
    conn.query_drop(r#"SELECT ml_embedding_batch('d', '["x"]')"#).unwrap();
    let texts = Arc::new(array((0..470_000).map(|i| i.to_string())));
    let before = begin(&running);
    let sessions: Vec<_> = (0..3)
        .map(|_| {
            let (mut conn, texts) = (running.root(), Arc::clone(&texts));
            std::thread::spawn(move || {
                server_error(conn.exec_first::<u64, _, _>("SELECT LENGTH(ml_embedding_batch('d', ?))", (&*texts,)))
            })
        })
        .collect();
    for session in sessions {
        let (_, message) = session.join().unwrap();
        assert!(message.contains("max_allowed_packet"), "{message}");
    }
    assert!(grown(&running, before) < 700 * MIB, "{} MiB", grown(&running, before) / MIB);
    wait_until("the memory is given back", || of_process(&running, "VmRSS") < before + 64 * MIB);
}

#[test]
fn results_that_cannot_be_handed_over_are_refused_before_they_are_paid() {
    let running = start_bare(&["--max-allowed-packet=1M"], &[]);
    running.install();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", "/v1/embeddings");
    running.generic_model(&mut conn, "g", "/large");
    running.endpoint.on("/large", |_| Answer::json(200, &serde_json::json!({"text": "x".repeat(2 << 20)})));
    running.endpoint.on("/v1/chat/completions", |_| {
        let message = serde_json::json!({"content": "x".repeat(2 << 20), "role": "assistant"});
        Answer::json(200, &serde_json::json!({"choices": [{"message": message, "finish_reason": "stop"}]}))
    });
    let url = running.endpoint.url("/v1/chat/completions");
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration('llm', ?, 'open_ai', 'llm', 'x', NULL, NULL, NULL, NULL, NULL)",
        (url,),
    )
    .unwrap();
    // 47 bytes a vector of 8 dimensions: 1.9 MB.
    let texts = array((0..40_000).map(|i| i.to_string()));
    running.endpoint.clear();
    let (code, message) = server_error(conn.exec_first::<String, _, _>("SELECT ml_embedding_batch('m', ?)", (&texts,)));
    assert_eq!(code, 3200);
    assert!(message.contains("max_allowed_packet"), "{message}");
    assert!(running.endpoint.count() <= 1, "{} requests", running.endpoint.count());

    // None if the width is known.
    conn.query_drop(r#"CALL mysql.ml_set_model_options('m', '{"dimensions": 8}')"#).unwrap();
    conn.query_drop("CALL mysql.ml_cache_clear(NULL)").unwrap();
    running.endpoint.clear();
    let (_, message) = server_error(conn.exec_first::<String, _, _>("SELECT ml_embedding_batch('m', ?)", (&texts,)));
    assert!(message.contains("max_allowed_packet"), "{message}");
    assert_eq!(running.endpoint.count(), 0);

    conn.query_drop("CREATE DATABASE e").unwrap();
    conn.query_drop("CREATE TABLE e.t (id INT PRIMARY KEY)").unwrap();
    conn.query_drop("SET SESSION cte_max_recursion_depth = 10000000").unwrap();
    conn.query_drop("INSERT INTO e.t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 40000) SELECT i FROM n")
        .unwrap();
    running.endpoint.clear();
    let (_, message) =
        server_error(conn.query_first::<String, _>("SELECT ml_embedding_agg('m', id, id + 0.5) FROM e.t"));
    assert!(message.contains("max_allowed_packet"), "{message}");
    // Requests are sent while rows are read, until the width is known.
    let sent: usize =
        running.endpoint.requests().iter().map(|r| r.json()["input"].as_array().map_or(1, Vec::len)).sum();
    assert!(sent < 25_000, "{sent}");

    for call in ["ml_predict_row('g', '{}')", "ml_generate('llm', 'hi')"] {
        let (code, message) = server_error(conn.query_first::<String, _>(format!("SELECT {call}")));
        assert_eq!(code, 3200);
        assert!(message.contains("max_allowed_packet"), "{call}: {message}");
    }
    // A result within the limit is returned completely.
    let some = array((0..20_000).map(|i| i.to_string()));
    let result: String = conn.exec_first("SELECT ml_embedding_batch('m', ?)", (&some,)).unwrap().unwrap();
    assert_eq!(result.len(), 20_000 * 47 + 1);
}

#[test]
fn a_bound_that_many_sessions_reach_gives_errors_and_all_memory_back() {
    let running = start();
    let mut conn = running.root();
    set(&mut conn, "call_memory_mb", "64");
    running.generic_model(&mut conn, "g", "/large");
    let body = serde_json::json!({"text": "x".repeat(10 << 20)}).to_string().into_bytes();
    running.endpoint.on("/large", move |_| Answer::raw_json(200, body.clone()));
    conn.query_drop("SELECT LENGTH(ml_predict_row('g', '{}'))").unwrap();
    let before = begin(&running);
    let refused = Arc::new(AtomicU64::new(0));
    let sessions: Vec<_> = (0..20)
        .map(|_| {
            let (mut conn, refused) = (running.root(), Arc::clone(&refused));
            std::thread::spawn(move || {
                for _ in 0..5 {
                    match conn.query_first::<(u64, u64), _>("SELECT LENGTH(ml_predict_row('g', '{}')), SLEEP(0.05)") {
                        Ok(row) => assert_eq!(row.unwrap().0, (10 << 20) + 11),
                        Err(mysql::Error::MySqlError(e)) => {
                            assert_eq!(e.code, 3200);
                            assert!(e.message.contains("of the 64 MiB that call_memory_mb allows"), "{}", e.message);
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(e) => panic!("{e}"),
                    }
                }
            })
        })
        .collect();
    sessions.into_iter().for_each(|session| session.join().unwrap());
    assert!(refused.load(Ordering::SeqCst) > 0);
    assert!(grown(&running, before) < 400 * MIB, "{} MiB", grown(&running, before) / MIB);
    let memory = memory(&mut conn);
    assert_eq!(memory["max_bytes"], 64 * MIB);
    assert_eq!(memory["bytes"], 0);
    assert!(memory["highest_bytes"].as_u64().unwrap() <= 64 * MIB, "{memory}");
    assert!(memory["refused"].as_u64().unwrap() >= refused.load(Ordering::SeqCst), "{memory}");
}

#[test]
fn one_account_leaves_memory_for_another() {
    let running = start();
    let mut conn = running.root();
    set(&mut conn, "call_memory_mb", "64");
    running.generic_model(&mut conn, "g", "/large");
    let body = serde_json::json!({"text": "x".repeat(4 << 20)}).to_string().into_bytes();
    running.endpoint.on("/large", move |_| Answer::raw_json(200, body.clone()));
    for user in ["greedy", "other"] {
        conn.query_drop(format!("CREATE USER {user}")).unwrap();
        conn.query_drop(format!("GRANT ml_user TO {user}")).unwrap();
        conn.query_drop(format!("SET DEFAULT ROLE ml_user TO {user}")).unwrap();
    }
    let holding: Vec<_> = (0..20)
        .map(|_| {
            let mut conn = running.server.connect("greedy").unwrap();
            std::thread::spawn(move || {
                conn.query_first::<(u64, u64), _>("SELECT LENGTH(ml_predict_row('g', '{}')), SLEEP(60)")
            })
        })
        .collect();
    wait_until("one is refused", || memory(&mut conn)["refused"].as_u64() > Some(0));
    let mut other = running.server.connect("other").unwrap();
    let length: Option<u64> = other.query_first("SELECT LENGTH(mysql.ml_predict_row('g', '{}'))").unwrap();
    assert!(length >= Some(4 << 20), "{length:?}");
    let sleeping: Vec<u64> = conn.query("SELECT ID FROM performance_schema.processlist WHERE USER = 'greedy'").unwrap();
    for id in sleeping {
        conn.query_drop(format!("KILL {id}")).unwrap();
    }
    for session in holding {
        let _ = session.join().unwrap();
    }
}

#[test]
fn answers_that_unpack_to_much_more_are_refused() {
    let running = start();
    let mut conn = running.root();
    let n = 8 << 20;
    let shapes: Vec<(&str, String)> = vec![
        ("/a/v1/embeddings", format!("[{}[]]", "[],".repeat(n))),
        ("/b/v1/embeddings", format!(r#"{{"data":[{}{{"embedding":[1]}}]}}"#, r#"{"embedding":[]},"#.repeat(n / 4))),
        (
            "/c/v1/embeddings",
            format!(r#"{{"data":[{{"embedding":[1,2]}}],"usage":{{"prompt_tokens":[{}1]}}}}"#, "1,".repeat(n)),
        ),
        ("/d/v1/embeddings", format!(r#"{{"data":[{}{{"embedding":[1]}}]}}"#, r#"{"embedding":[1]},"#.repeat(n / 4))),
    ];
    for (i, (path, body)) in shapes.into_iter().enumerate() {
        let body = body.into_bytes();
        running.endpoint.on(path, move |_| Answer::raw_json(200, body.clone()));
        running.embedding_model(&mut conn, &format!("m{i}"), path);
    }
    let body = format!("[{}[]]", "[],".repeat(n)).into_bytes();
    running.endpoint.on("/embed", move |_| Answer::raw_json(200, body.clone()));
    let tei = running.endpoint.url("/embed");
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration('tei', ?, 'hugging_face', 'text_embedding', 'x', NULL, NULL, NULL, NULL, NULL)",
        (tei,),
    )
    .unwrap();
    running.generic_model(&mut conn, "g", "/usage");
    let usage = format!(r#"{{"usage":[{}1]}}"#, "1,".repeat(n)).into_bytes();
    running.endpoint.on("/usage", move |_| Answer::raw_json(200, usage.clone()));
    let before = begin(&running);
    for model in ["m0", "m1", "m3", "tei"] {
        for call in ["ml_embedding(?, 'x')", r#"ml_embedding_batch(?, '["x", "y"]')"#] {
            let (code, message) =
                server_error(conn.exec_first::<String, _, _>(format!("SELECT HEX({call})"), (model,)));
            assert_eq!(code, 3200, "{model} {call}: {message}");
        }
    }
    // Missing usage is neither an error nor worth memory.
    let vector: Option<u64> = conn.query_first("SELECT LENGTH(ml_embedding('m2', 'x'))").unwrap();
    assert_eq!(vector, Some(8));
    let length: Option<u64> = conn.query_first("SELECT LENGTH(ml_predict_row('g', '{}'))").unwrap();
    assert_eq!(length, Some(n as u64 * 2 + 13));
    let grown = grown(&running, before);
    assert!(grown < 900 * MIB, "{} MiB", grown / MIB);
}

#[test]
fn arguments_are_not_unpacked_without_a_bound() {
    let running = start();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", "/v1/embeddings");
    running.endpoint.on("/chat", |_| Answer::json(200, &serde_json::json!({})));
    let url = running.endpoint.url("/chat");
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration('llm', ?, 'open_ai', 'llm', 'x', NULL, NULL, NULL, NULL, NULL)",
        (url,),
    )
    .unwrap();
    conn.query_drop("CREATE DATABASE e").unwrap();
    conn.query_drop("CREATE TABLE e.t (id INT PRIMARY KEY, body TEXT, v VECTOR(8))").unwrap();
    let n = 8 << 20;
    let nested = format!(r#"{{"a":[{}[]]}}"#, "[],".repeat(n));
    let before = begin(&running);
    // The loadable functions: for the procedures' JSON parameters the server builds a tree.
    for statement in [
        "SELECT ml_set_model_options('m', ?)",
        "SELECT ml_embed_table('m', 'e.t', 'body', 'v', ?)",
        "SELECT ml_generate('llm', 'hi', ?)",
        "SELECT ml_embedding_batch('m', ?)",
        "SELECT ml_create_model_registration('c', 'http://localhost/', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, CONCAT('json:', ?), 'path:$')",
    ] {
        let error = conn.exec_first::<mysql::Row, _, _>(statement, (&nested,)).expect_err(statement);
        assert!(running.server.is_running(), "{statement}: {error}");
    }
    // Millions of members, which are scanned and not kept.
    let members = format!("{{{}\"z\":1}}", (0..n / 8).map(|i| format!("\"{i}\":1,")).collect::<String>());
    conn.exec_first::<u64, _, _>("SELECT LENGTH(ml_predict_row('llm', ?))", (&members,)).unwrap();
    let grown = grown(&running, before);
    assert!(grown < 700 * MIB, "{} MiB", grown / MIB);
    // A template that repeats its input so often that a text becomes gigabytes.
    let template = format!(r#"json:{{"a":"{}"}}"#, "{{input}}".repeat(6_000));
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration('many', ?, 'custom', 'text_embedding', NULL, NULL, NULL, NULL, ?, 'path:$')",
        (running.endpoint.url("/chat"), &template),
    )
    .unwrap();
    let (_, message) = server_error(conn.query_first::<String, _>("SELECT ml_embedding('many', REPEAT('x', 1000000))"));
    assert!(message.contains("call_memory_mb"), "{message}");
}

#[test]
fn a_job_goes_on_with_little_memory() {
    let running = start();
    let mut conn = running.root();
    set(&mut conn, "call_memory_mb", "16");
    running.embedding_model(&mut conn, "m", "/v1/embeddings");
    running.generic_model(&mut conn, "g", "/large");
    let body = serde_json::json!({"text": "x".repeat(5 << 20)}).to_string().into_bytes();
    running.endpoint.on("/large", move |_| Answer::raw_json(200, body.clone()));
    conn.query_drop("CREATE DATABASE e").unwrap();
    conn.query_drop("CREATE TABLE e.t (id INT PRIMARY KEY, body LONGTEXT, v VECTOR(8))").unwrap();
    conn.query_drop("SET SESSION cte_max_recursion_depth = 10000000").unwrap();
    // 60 MB of text.
    conn.query_drop(
        "INSERT INTO e.t (id, body) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
         SELECT i, REPEAT(CONCAT(i, ' '), 4000) FROM n",
    )
    .unwrap();
    let mut holding = running.root();
    let held = std::thread::spawn(move || {
        holding.query_first::<(u64, u64), _>("SELECT LENGTH(ml_predict_row('g', '{}')), SLEEP(2)").unwrap()
    });
    wait_until("memory is held", || memory(&mut conn)["bytes"].as_u64() > Some(5 << 20));
    let done: mysql::Row =
        conn.query_first("CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', NULL)").unwrap().unwrap();
    assert_eq!((done.get(0), done.get(1)), (Some(3000_u64), Some(0_u64)));
    held.join().unwrap();
    let memory = memory(&mut conn);
    assert!(memory["highest_bytes"].as_u64().unwrap() <= 16 * MIB, "{memory}");
    assert_eq!(memory["bytes"], 0, "{memory}");
}

#[test]
fn a_system_without_memory_is_an_error_and_not_an_end() {
    let running = start();
    let mut conn = running.root();
    set(&mut conn, "call_memory_mb", "1048576");
    set(&mut conn, "max_response_mb", "1024");
    running.generic_model(&mut conn, "g", "/large");
    let body = serde_json::json!({"text": "x".repeat(60 << 20)}).to_string().into_bytes();
    running.endpoint.on("/large", move |_| Answer::raw_json(200, body.clone()));
    conn.query_drop("SELECT LENGTH(ml_predict_row('g', '{}'))").unwrap();
    let mut sessions: Vec<Conn> = (0..8).map(|_| running.root()).collect();
    sessions.iter_mut().for_each(|conn| conn.query_drop("DO ml_version()").unwrap());
    let limit = of_process(&running, "VmSize") + 300 * MIB;
    let pid = running.server.pid().unwrap();
    let limited =
        std::process::Command::new("prlimit").args([format!("--pid={pid}"), format!("--as={limit}")]).status();
    assert!(limited.unwrap().success());
    let sessions: Vec<_> = sessions
        .into_iter()
        .map(|mut conn| {
            std::thread::spawn(move || {
                conn.query_first::<(u64, u64), _>("SELECT LENGTH(ml_predict_row('g', '{}')), SLEEP(0.5)").map(|_| ())
            })
        })
        .collect();
    let results: Vec<_> = sessions.into_iter().map(|session| session.join().unwrap()).collect();
    let refused = results.iter().filter(|r| matches!(r, Err(mysql::Error::MySqlError(e)) if e.code == 3200)).count();
    assert!(refused > 0, "{results:?}");
    assert!(running.server.is_running());
    std::thread::sleep(Duration::from_millis(100));
    conn.query_drop("SELECT LENGTH(ml_predict_row('g', '{}'))").unwrap();
}
