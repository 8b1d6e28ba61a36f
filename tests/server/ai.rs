//! AI functions on a real server: KILL, sessions of others, edits in the middle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{server_error, start, wait_until, Running};
use fake_providers::{Answer, Recorded};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};
use serde_json::{json, Value};

/// A language model whose answers take `ms`, and a table of `rows` notes, of which every second is a yes.
fn prepare(running: &Running, ms: u32, rows: u32) -> Conn {
    let mut conn = running.root();
    conn.query_drop(format!(
        "CALL mysql.ml_create_model_registration('llm', '{}', 'open_ai', 'llm', 'gpt-4o', NULL, NULL, NULL, NULL, NULL)",
        running.endpoint.url(&format!("/bench/v1/chat/completions?ms={ms}"))
    ))
    .unwrap();
    conn.query_drop("SET SESSION cte_max_recursion_depth = 10000").unwrap();
    conn.query_drop("CREATE DATABASE n").unwrap();
    conn.query_drop("CREATE TABLE n.notes (id INT PRIMARY KEY, body VARCHAR(100), answer BOOLEAN)").unwrap();
    conn.query_drop(format!(
        "INSERT INTO n.notes (id, body) WITH RECURSIVE i AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM i WHERE i < {rows}) \
         SELECT i, CONCAT(IF(i % 2, 'yes, ', 'not '), i) FROM i"
    ))
    .unwrap();
    conn
}

fn id(conn: &mut Conn) -> u64 {
    conn.query_first("SELECT CONNECTION_ID()").unwrap().unwrap()
}

const QUERY: &str = "CALL ai.query('SELECT COUNT(*) FROM n.notes WHERE ai.if(body, ''llm'')', NULL)";

#[test]
fn a_query_over_a_table_takes_some_round_trips_only() {
    let running = start();
    let mut conn = prepare(&running, 300, 400);
    running.endpoint.clear();
    let began = Instant::now();
    let yes: u64 = conn.query_first(QUERY).unwrap().unwrap();
    // 400 answers one after another would take two minutes.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(yes, 200);
    assert_eq!(running.endpoint.count(), 400);
}

#[test]
fn kill_ends_a_query_within_a_second_and_its_connection_goes_on() {
    let running = start();
    let mut conn = prepare(&running, 2000, 200);
    let mut worker = running.root();
    let worker_id = id(&mut worker);
    let job = std::thread::spawn(move || {
        let error = server_error(worker.query_first::<u64, _>(QUERY));
        // The same connection, afterwards.
        let one: Option<u64> = worker.query_first("SELECT 1").unwrap();
        (error, one)
    });
    wait_until("questions", || running.endpoint.count() > 10);
    let killed = Instant::now();
    conn.query_drop(format!("KILL QUERY {worker_id}")).unwrap();
    let ((code, _), one) = job.join().unwrap();
    assert_eq!((code, one), (1317, Some(1)));
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    let sent = running.endpoint.count();
    // Nothing goes on in the background.
    wait_until("the sessions' end", || {
        let others: u64 = conn
            .query_first("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%ai.if(body%' AND ID <> CONNECTION_ID()")
            .unwrap()
            .unwrap();
        others == 0
    });
    assert!(running.endpoint.count() <= sent + 40);
}

#[test]
fn answers_of_a_query_are_those_of_its_connection() {
    let running = start();
    let mut conn = prepare(&running, 1, 10);
    let mut other = running.root();
    conn.query_drop("SELECT ai_query('SELECT ai.if(body, ''llm'') FROM n.notes')").unwrap();
    running.endpoint.clear();
    // The answers are there until the end of the statement is told.
    let yes: Option<bool> = conn.query_first("SELECT ai.if('yes, 1', 'llm')").unwrap();
    assert_eq!((yes, running.endpoint.count()), (Some(true), 0));
    let yes: Option<bool> = other.query_first("SELECT ai.if('yes, 1', 'llm')").unwrap();
    assert_eq!((yes, running.endpoint.count()), (Some(true), 1));
    conn.query_drop("DO ai_query_end()").unwrap();
    let yes: Option<bool> = conn.query_first("SELECT ai.if('yes, 1', 'llm')").unwrap();
    assert_eq!((yes, running.endpoint.count()), (Some(true), 2));
}

/// `(answered, failed)`.
fn table(conn: &mut Conn, options: &str) -> mysql::Result<(u64, u64)> {
    let row: Option<Row> =
        conn.exec_first("CALL ai.generate_table('llm', 'n.notes', 'body', 'answer', ?)", (options,))?;
    let row = row.unwrap();
    Ok((row.get(0).unwrap(), row.get(1).unwrap()))
}

/// Checks that every answer belongs to its text; returns their number.
fn check(conn: &mut Conn) -> u64 {
    let wrong: u64 =
        conn.query_first("SELECT COUNT(*) FROM n.notes WHERE answer <> (body LIKE 'yes%')").unwrap().unwrap();
    assert_eq!(wrong, 0);
    conn.query_first("SELECT COUNT(answer) FROM n.notes").unwrap().unwrap()
}

#[test]
fn kill_of_a_table_of_answers_keeps_those_that_came() {
    let running = start();
    let mut conn = prepare(&running, 100, 2000);
    let mut worker = running.root();
    let worker_id = id(&mut worker);
    let job = std::thread::spawn(move || server_error(table(&mut worker, r#"{"task": "if"}"#)));
    let answered = |conn: &mut Conn| conn.query_first::<u64, _>("SELECT COUNT(answer) FROM n.notes").unwrap().unwrap();
    wait_until("some answers", || answered(&mut conn) > 100);
    let killed = Instant::now();
    conn.query_drop(format!("KILL QUERY {worker_id}")).unwrap();
    assert_eq!(job.join().unwrap().0, 1317);
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    let kept = check(&mut conn);
    assert!(kept > 100 && kept < 2000, "{kept}");
    let (more, failed) = table(&mut conn, r#"{"task": "if"}"#).unwrap();
    assert!(more <= 2000 - kept && failed == 0, "{kept} kept, {more} more, {failed} failed");
    assert_eq!(check(&mut conn), 2000);
}

#[test]
fn a_row_edited_meanwhile_gets_the_answer_about_its_new_text() {
    let running = start();
    let mut conn = prepare(&running, 500, 100);
    let mut other = running.root();
    let job = std::thread::spawn(move || table(&mut other, r#"{"task": "if", "concurrency": 10}"#));
    wait_until("questions", || running.endpoint.count() > 5);
    conn.query_drop(
        "UPDATE n.notes SET body = IF(body LIKE 'yes%', CONCAT('not any more ', id), CONCAT('yes, now ', id))",
    )
    .unwrap();
    let (_, failed) = job.join().unwrap().unwrap();
    assert_eq!(failed, 0);
    assert_eq!(check(&mut conn), 100);
}

#[test]
fn a_model_that_takes_no_temperature_fails_no_input_of_the_first_batch() {
    let running = start();
    let mut conn = running.root();
    running.endpoint.on("/picky/v1/chat/completions", |request| {
        // Many questions are under way before the first refusal comes.
        std::thread::sleep(Duration::from_millis(200));
        let body = request.json();
        if body.get("temperature").is_some() {
            let message = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.";
            return Answer::json(400, &json!({"error": {"message": message, "type": "invalid_request_error"}}));
        }
        let message = json!({"role": "assistant", "content": "{\"answer\":\"yes\"}"});
        Answer::json(200, &json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
    });
    conn.query_drop(format!(
        "CALL mysql.ml_create_model_registration('picky', '{}', 'open_ai', 'llm', 'o9', NULL, NULL, NULL, NULL, NULL)",
        running.endpoint.url("/picky/v1/chat/completions")
    ))
    .unwrap();
    let inputs: Vec<String> = (0..100).map(|i| format!("question {i}")).collect();
    let answers: String =
        conn.exec_first("SELECT ai_if_batch(?, 'picky')", (json!(inputs).to_string(),)).unwrap().unwrap();
    assert_eq!(answers, json!(vec![true; 100]).to_string());
    // Each input once more at the most.
    assert!(running.endpoint.count() <= 200, "{}", running.endpoint.count());
}

/// The rows of a request that several share, and the answer to them: yes, if the text says so.
fn answers_of(body: &Value) -> Vec<Value> {
    let message = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
    let rows: Vec<Value> = message.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let answer = |row: &Value| {
        let yes = if row["text"].as_str().unwrap().starts_with("yes") { "yes" } else { "no" };
        json!({"row": row["row"], "answer": {"answer": yes}})
    };
    rows.iter().map(answer).collect()
}

#[test]
fn a_model_that_cannot_count_to_five_is_soon_given_four_rows() {
    let running = start();
    let mut conn = prepare(&running, 1, 320);
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    running.endpoint.on("/miscounts/v1/chat/completions", move |request| {
        let mut answers = answers_of(&request.json());
        seen.lock().unwrap().push(answers.len());
        if answers.len() > 4 {
            answers.pop();
        }
        let message = json!({"role": "assistant", "content": json!({"answers": answers}).to_string()});
        Answer::json(200, &json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
    });
    conn.query_drop("CALL mysql.ml_drop_model_registration('llm')").unwrap();
    conn.query_drop(format!(
        "CALL mysql.ml_create_model_registration('llm', '{}', 'open_ai', 'llm', 'gpt-4o', NULL, NULL, NULL, NULL, NULL)",
        running.endpoint.url("/miscounts/v1/chat/completions")
    ))
    .unwrap();
    let options = r#"{"task": "if", "rows_per_request": 16, "concurrency": 2}"#;
    assert_eq!(table(&mut conn, options).unwrap(), (320, 0));
    assert_eq!(check(&mut conn), 320);
    // 80 requests of four rows, and those until then. With 16 rows each time there would be 140.
    let sizes = sizes.lock().unwrap();
    assert!(sizes.len() < 110, "{sizes:?}");
    assert!(sizes.iter().rev().take(40).all(|size| *size == 4), "{sizes:?}");
}

#[test]
fn one_bad_row_in_a_hundred_does_not_end_packing() {
    let running = start();
    let mut conn = prepare(&running, 1, 1600);
    conn.query_drop("UPDATE n.notes SET body = CONCAT('[[answer:no document]] ', id) WHERE id % 100 = 0").unwrap();
    running.endpoint.clear();
    assert_eq!(table(&mut conn, r#"{"task": "if", "rows_per_request": 16, "concurrency": 4}"#).unwrap(), (1584, 16));
    let wrong: u64 = conn
        .query_first("SELECT COUNT(*) FROM n.notes WHERE id % 100 <> 0 AND NOT answer <=> (body LIKE 'yes%')")
        .unwrap()
        .unwrap();
    assert_eq!(wrong, 0);
    // 100 packs, and for each bad row halves of 8, 4, 2 and 1 and the second try.
    let requests = running.endpoint.count();
    assert!(requests <= 100 + 16 * 9, "{requests}");
}

/// Registers a language model at a path of the endpoint, which `answer` answers.
fn model(
    running: &Running,
    conn: &mut Conn,
    id: &str,
    path: &str,
    answer: impl Fn(&Recorded) -> Answer + Send + Sync + 'static,
) {
    running.endpoint.on(path, answer);
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration(?, ?, 'open_ai', 'llm', 'x', NULL, NULL, NULL, NULL, NULL)",
        (id, running.endpoint.url(path)),
    )
    .unwrap();
}

fn says(text: &str) -> Answer {
    let message = json!({"role": "assistant", "content": text});
    Answer::json(200, &json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
}

#[test]
fn a_job_reads_no_more_rows_than_may_wait_for_one_text() {
    let running = start();
    let mut conn = prepare(&running, 1, 1);
    conn.query_drop("CREATE TABLE n.same (id INT PRIMARY KEY, body VARCHAR(10), answer TEXT)").unwrap();
    conn.query_drop("SET SESSION cte_max_recursion_depth = 50000").unwrap();
    conn.query_drop(
        "INSERT INTO n.same (id, body) WITH RECURSIVE i AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM i WHERE i < 45000) \
         SELECT i, 'same' FROM i",
    )
    .unwrap();
    let released = Arc::new(AtomicBool::new(false));
    let wait = Arc::clone(&released);
    model(&running, &mut conn, "held", "/held/v1/chat/completions", move |_| {
        wait_until("the answer is released", || wait.load(Ordering::SeqCst));
        says("an answer")
    });
    let mut worker = running.root();
    running.endpoint.clear();
    let job = std::thread::spawn(move || {
        worker.query_first::<Row, _>("CALL ai.generate_table('held', 'n.same', 'body', 'answer', NULL)")
    });
    // A page has 4096 rows at the most; 16,384 rows may wait.
    let pages = || running.server.general_log().matches("FROM `n`.`same` FORCE INDEX").count();
    wait_until("the rows that may wait", || pages() >= 5);
    std::thread::sleep(Duration::from_secs(2));
    assert!(pages() <= 7, "{} pages", pages());
    released.store(true, Ordering::SeqCst);
    let answered: Row = job.join().unwrap().unwrap().unwrap();
    assert_eq!((answered.get(0), running.endpoint.count()), (Some(45_000_u64), 1), "asked once for all of them");
}

#[test]
fn answers_of_equal_texts_are_remembered_within_sixteen_mib() {
    let running = start();
    let mut conn = prepare(&running, 1, 1);
    conn.query_drop("CREATE TABLE n.large (id INT PRIMARY KEY, body VARCHAR(10), answer LONGTEXT)").unwrap();
    conn.query_drop(
        "INSERT INTO n.large (id, body) WITH RECURSIVE i AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM i WHERE i < 39) \
         SELECT i, CONCAT('text ', i % 20) FROM i",
    )
    .unwrap();
    model(&running, &mut conn, "large", "/large/v1/chat/completions", |_| says(&"x".repeat(1 << 20)));
    running.endpoint.clear();
    let call = r#"CALL ai.generate_table('large', 'n.large', 'body', 'answer', '{"concurrency": 1}')"#;
    conn.query_drop(call).unwrap();
    let answered: u64 =
        conn.query_first("SELECT COUNT(*) FROM n.large WHERE LENGTH(answer) = 1048576").unwrap().unwrap();
    assert_eq!(answered, 40);
    // Sixteen answers have their place; the other texts are asked about again, unless they are still under way.
    let asked = running.endpoint.count();
    assert!(asked > 20 && asked <= 24, "{asked}");
}

#[test]
fn texts_of_a_query_leave_the_memory_when_they_are_answered() {
    let running = start();
    let mut conn = prepare(&running, 1, 40);
    let held = |conn: &mut Conn| {
        let status: String = conn.query_first("SELECT mysql.ml_status()").unwrap().unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        (status["memory"]["bytes"].as_u64().unwrap(), status["memory"]["highest_bytes"].as_u64().unwrap())
    };
    conn.query_drop("SELECT ai_query('SELECT SUM(ai.if(CONCAT(body, REPEAT(''x'', 500000)), ''llm'')) FROM n.notes')")
        .unwrap();
    let (bytes, highest) = held(&mut conn);
    assert!(highest > 20_000_000, "{highest}: all texts were noted before they were asked about");
    assert!(bytes < 1_000_000, "{bytes} bytes for forty answers");
    conn.query_drop("DO ai_query_end()").unwrap();
    assert_eq!(held(&mut conn).0, 0);
}

#[test]
fn a_quota_that_is_used_up_is_no_null() {
    let running = start();
    let mut conn = prepare(&running, 1, 3);
    model(&running, &mut conn, "quota", "/quota/v1/chat/completions", |_| {
        Answer::error(429, "there is no money left", "insufficient_quota", Some("insufficient_quota"))
    });
    model(&running, &mut conn, "limited", "/limited/v1/chat/completions", |_| {
        Answer::error(429, "there is no money left", "rate_limit", None)
    });
    for id in ["quota", "limited"] {
        let options = json!({"on_error": "null", "max_retries": 0, "timeout_ms": 60000}).to_string();
        conn.exec_drop("CALL mysql.ml_set_model_options(?, ?)", (id, options)).unwrap();
    }
    let mut fails = |statement: &str, id: &str| {
        let statement = statement.replace("MODEL", id);
        let row: mysql::Result<Option<Row>> = conn.query_first(&statement);
        let error = row.expect_err(&statement).to_string();
        assert!(error.contains("no money left"), "{statement}: {error}");
        let answers: u64 = conn.query_first("SELECT COUNT(answer) FROM n.notes").unwrap().unwrap();
        assert_eq!(answers, 0);
    };
    for statement in [
        "SELECT ai.if('a', 'MODEL')",
        r#"SELECT ai_generate('b', 'MODEL', '{"on_error": "null"}')"#,
        r#"SELECT ai_if_batch('["a", "b"]', 'MODEL', '{"on_error": "null"}')"#,
        r#"SELECT ai_if_batch('["a", "b"]', 'MODEL', '{"on_error": "detail"}')"#,
        r#"SELECT ai.rerank('MODEL', 'a', '["a", "b"]', NULL)"#,
    ] {
        fails(statement, "quota");
    }
    // Requests pause after a refusal, longer each time.
    fails("SELECT ai.if('a', 'MODEL')", "limited");
    fails(r#"SELECT ai_if_batch('["a"]', 'MODEL', NULL)"#, "limited");
    fails("SELECT ai.rerank('MODEL', 'a', '[\"a\"]', NULL)", "limited");
    // Those that wait as long as a provider limits the rate.
    for statement in [
        r#"CALL ai.query('SELECT ai.if(body, ''MODEL'') FROM n.notes', NULL)"#,
        r#"SELECT ai_agg(body, 'List them.', 'MODEL', '{"on_error": "null"}') FROM n.notes"#,
        r#"CALL ai.generate_table('MODEL', 'n.notes', 'body', 'answer', NULL)"#,
    ] {
        fails(statement, "quota");
    }
    let failed: u64 = conn.query_first("SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_failures").unwrap().unwrap();
    assert_eq!(failed, 0, "no row is at fault");
}

#[test]
fn a_ranking_by_a_language_model_reserves_the_memory_of_its_questions() {
    let running = start();
    let mut conn = prepare(&running, 1, 1);
    conn.query_drop("CALL mysql.ml_set_setting('call_memory_mb', '64')").unwrap();
    running.endpoint.clear();
    // 16 MB of documents take three times as much as questions; three quarters of 64 MiB are this account's.
    let documents = json!(vec!["x".repeat(1_000_000); 16]).to_string();
    let call = "SELECT ai.rerank('llm', 'x', ?, 1)";
    let (_, message) = server_error(conn.exec_first::<String, _, _>(call, (&documents,)));
    assert!(message.contains("the questions would take 46 MiB more"), "{message}");
    assert_eq!(running.endpoint.count(), 0);
}

/// Without a bound of a pass its images take the memory that the requests with them need, and the query fails after minutes.
#[test]
fn a_query_leaves_memory_for_the_requests_with_its_images() {
    const IMAGES: u64 = 14;
    let running = start();
    let mut conn = prepare(&running, 0, 1);
    conn.query_drop("CALL mysql.ml_set_setting('call_memory_mb', '256')").unwrap();
    conn.query_drop("CREATE TABLE n.pictures (id INT PRIMARY KEY, picture LONGBLOB)").unwrap();
    for i in 0..IMAGES {
        // 12 MiB that begin as a PNG file does.
        conn.query_drop(format!(
            "INSERT INTO n.pictures VALUES ({i}, CONCAT(x'89504E470D0A1A0A', REPEAT('{}', 12582900)))",
            (b'a' + i as u8) as char
        ))
        .unwrap();
    }
    running.endpoint.clear();
    let query = "CALL ai.query('SELECT COUNT(ai_generate(''What?'', ''llm'', NULL, picture)) FROM n.pictures', NULL)";
    let answered: u64 = conn.query_first(query).unwrap().unwrap();
    assert_eq!((answered, running.endpoint.count()), (IMAGES, IMAGES));
}
