//! AI functions on a real server: KILL, sessions of others, edits in the middle.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{server_error, start, wait_until, Running};
use fake_providers::Answer;
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
