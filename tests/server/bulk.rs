//! Bulk embedding on a real server: kills, edits, failures and crashes in the middle.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{server_error, start, start_bare, wait_until, Running};
use fake_providers::{embedding_for, Answer};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};

const WIDTH: usize = 8;

/// A model at a path of the endpoint, and a table of `rows` texts without vectors.
fn prepare(running: &Running, path: &str, rows: u32) -> Conn {
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", path);
    conn.query_drop("CREATE DATABASE e").unwrap();
    conn.query_drop("CREATE TABLE e.t (id INT PRIMARY KEY, body TEXT, v VECTOR(8))").unwrap();
    fill(&mut conn, rows);
    conn
}

fn fill(conn: &mut Conn, rows: u32) {
    conn.query_drop("SET SESSION cte_max_recursion_depth = 10000000").unwrap();
    conn.query_drop(format!(
        "INSERT INTO e.t (id, body) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         SELECT i, CONCAT('text number ', i) FROM n"
    ))
    .unwrap();
}

/// `(embedded, failed, skipped)`.
fn embed(conn: &mut Conn, options: &str) -> mysql::Result<(u64, u64, u64)> {
    let row: Option<Row> = conn.exec_first("CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', ?)", (options,))?;
    let row = row.unwrap();
    Ok((row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap()))
}

/// Checks that every vector belongs to its text; returns their number.
fn check(conn: &mut Conn) -> u64 {
    let rows: Vec<(String, Vec<u8>)> = conn.query("SELECT body, v FROM e.t WHERE v IS NOT NULL").unwrap();
    for (body, vector) in &rows {
        let expected: Vec<u8> = embedding_for(body, WIDTH).iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(*vector, expected, "{body}");
    }
    rows.len() as u64
}

fn id(conn: &mut Conn) -> u64 {
    conn.query_first("SELECT CONNECTION_ID()").unwrap().unwrap()
}

#[test]
fn a_large_table_is_embedded_in_few_requests() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings", 20_000);
    running.endpoint.clear();
    assert_eq!(embed(&mut conn, "{}").unwrap(), (20_000, 0, 0));
    assert_eq!(check(&mut conn), 20_000);
    assert!(running.endpoint.count() <= 20_000 / 64 + 20, "{} requests", running.endpoint.count());
    assert_eq!(embed(&mut conn, "{}").unwrap(), (0, 0, 0));
    assert!(running.errors_in_log().is_empty());
}

#[test]
fn kill_stops_it_within_a_second_and_keeps_what_is_done() {
    let running = start();
    let mut conn = prepare(&running, "/delay/20/v1/embeddings", 20_000);
    let mut worker = running.root();
    let worker_id = id(&mut worker);
    let job = std::thread::spawn(move || server_error(embed(&mut worker, r#"{"batch_size": 50}"#)));
    let filled = |conn: &mut Conn| conn.query_first::<u64, _>("SELECT COUNT(v) FROM e.t").unwrap().unwrap();
    wait_until("some rows", || filled(&mut conn) > 500);
    let state: Option<String> = conn
        .query_first::<Row, _>("SHOW PROCESSLIST")
        .unwrap()
        .and(
            conn.query::<Row, _>("SHOW PROCESSLIST")
                .unwrap()
                .into_iter()
                .find(|r| r.get::<u64, _>(0) == Some(worker_id)),
        )
        .and_then(|r| r.get::<Option<String>, _>(6).flatten());
    assert!(state.as_deref().is_some_and(|s| s.contains("ml_embed_table") || s.contains("working")), "{state:?}");
    let killed = Instant::now();
    conn.query_drop(format!("KILL QUERY {worker_id}")).unwrap();
    assert_eq!(job.join().unwrap().0, 1317);
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    let kept = check(&mut conn);
    assert!(kept > 500 && kept < 20_000, "{kept}");
    let status: String = conn.query_first("SELECT status FROM mysql.cloudsql_ml_embed_progress").unwrap().unwrap();
    assert_eq!(status, "stopped");
    let (more, failed, _) = embed(&mut conn, "{}").unwrap();
    // Less the writes in progress at the KILL, which were not counted.
    assert!(more <= 20_000 - kept && failed == 0, "{kept} kept, {more} more, {failed} failed");
    assert_eq!(check(&mut conn), 20_000);
}

#[test]
fn two_jobs_do_not_send_a_row_twice() {
    let running = start();
    let mut conn = prepare(&running, "/delay/500/v1/embeddings", 3000);
    let mut other = running.root();
    let job = std::thread::spawn(move || embed(&mut other, "{}"));
    wait_until("the first one", || running.endpoint.count() > 0);
    let (_, message) = server_error(embed(&mut conn, "{}"));
    assert!(message.contains("is being worked on by another session"), "{message}");
    assert_eq!(job.join().unwrap().unwrap(), (3000, 0, 0));
    let sent: usize = running
        .endpoint
        .requests()
        .iter()
        .map(|r| match &r.json()["input"] {
            serde_json::Value::Array(texts) => texts.len(),
            _ => 1,
        })
        .sum();
    assert_eq!(sent, 3000);
}

#[test]
fn a_row_edited_meanwhile_gets_the_new_texts_vector() {
    let running = start();
    let mut conn = prepare(&running, "/delay/50/v1/embeddings", 2000);
    let mut other = running.root();
    let job = std::thread::spawn(move || embed(&mut other, r#"{"batch_size": 100, "concurrency": 2}"#));
    wait_until("the first request", || running.endpoint.count() > 0);
    for i in 0..200 {
        conn.query_drop(format!("UPDATE e.t SET body = CONCAT('edited ', id) WHERE id = {}", i * 10 + 1)).unwrap();
        conn.query_drop(format!("DELETE FROM e.t WHERE id = {}", i * 10 + 2)).unwrap();
    }
    let (_, failed, _) = job.join().unwrap().unwrap();
    assert_eq!(failed, 0);
    embed(&mut conn, "{}").unwrap();
    // Rows with a vector from before the edit keep it: without a hash column the edit is not detectable.
    conn.query_drop("UPDATE e.t SET v = NULL WHERE body LIKE 'edited%'").unwrap();
    embed(&mut conn, "{}").unwrap();
    assert_eq!(check(&mut conn), 1800);
}

#[test]
fn an_endpoint_that_fails_in_every_way_is_survived() {
    let running = start();
    let n = AtomicU32::new(0);
    let inner = running.endpoint.url("/v1/embeddings");
    let agent = ureq::Agent::new_with_defaults();
    running.endpoint.on("/flaky", move |request| {
        let n = n.fetch_add(1, Ordering::SeqCst);
        match n % 10 {
            2 => Answer::error(500, "oops", "server_error", None),
            5 => Answer::error(429, "slow down", "rate_limit", None).with_header("retry-after-ms", "30"),
            _ => {
                let body = agent.post(&inner).header("content-type", "application/json").send(&request.body[..]);
                Answer::raw_json(200, body.unwrap().body_mut().read_to_vec().unwrap())
            }
        }
    });
    let mut conn = prepare(&running, "/flaky", 5000);
    conn.query_drop(r#"CALL mysql.ml_set_model_options('m', '{"max_retries": 8}')"#).unwrap();
    assert_eq!(embed(&mut conn, r#"{"batch_size": 50}"#).unwrap(), (5000, 0, 0));
    assert_eq!(check(&mut conn), 5000);
}

#[test]
fn an_endpoint_that_refuses_every_text_is_soon_given_up() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings", 5000);
    let mut used_up = |path: &str, input: &str, output: &str| {
        conn.query_drop("CALL mysql.ml_drop_model_registration('m')").unwrap();
        conn.exec_drop(
            "CALL mysql.ml_create_model_registration('m', ?, IF(? = '', 'open_ai', 'custom'), 'text_embedding', 'test-8', NULL, NULL, NULL, NULLIF(?, ''), NULLIF(?, ''))",
            (running.endpoint.url(path), input, input, output),
        )
        .unwrap();
        running.endpoint.clear();
        for options in [r#"{"concurrency": 1}"#, "{}", r#"{"batch_size": 1000}"#] {
            let before = running.endpoint.count();
            let (code, message) = server_error(embed(&mut conn, options));
            assert_eq!(code, 3200, "{path} {options}: {message}");
            assert!(message.contains("including the probe 'mysql-ml'"), "{path} {options}: {message}");
            let requests = running.endpoint.count() - before;
            assert!(requests < 100, "{path} {options}: {requests} requests");
        }
        let array: String = (0..500).map(|i| format!("\"text {i}\"")).collect::<Vec<_>>().join(",");
        conn.query_drop(r#"CALL mysql.ml_set_model_options('m', '{"on_error": "inline"}')"#).unwrap();
        let (_, message) = server_error(
            conn.exec_first::<String, _, _>("SELECT mysql.ml_embedding_batch('m', ?)", (format!("[{array}]"),)),
        );
        assert!(message.contains("including the probe 'mysql-ml'"), "{path}: {message}");
    };
    used_up("/status/400", "", "");
    used_up("/status/422", "", "");
    used_up("/not-json", "", "");
    used_up("/status/400", r#"json:{"prompt":["{{input}}"]}"#, "path:$[0]");
}

#[test]
fn many_bad_rows_before_the_first_good_one_stop_nothing() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings", 700);
    // The endpoint refuses empty texts.
    conn.query_drop("UPDATE e.t SET body = '' WHERE id <= 400").unwrap();
    assert_eq!(embed(&mut conn, r#"{"concurrency": 1}"#).unwrap(), (300, 400, 0));
    assert_eq!(check(&mut conn), 300);
    // Only bad rows are left, which is no failure of the model.
    assert_eq!(embed(&mut conn, "{}").unwrap(), (0, 400, 0));
}

#[test]
fn a_key_that_is_exchanged_during_a_job_fails_no_row() {
    let running = start();
    let path = running.secrets.path().join("rotating");
    std::fs::write(&path, "sk-rotating-5ecret-1").unwrap();
    let (inner, agent) = (running.endpoint.url("/v1/embeddings"), ureq::Agent::new_with_defaults());
    let (requests, refused) = (Mutex::new(0), Arc::new(AtomicU32::new(0)));
    let (count, file) = (Arc::clone(&refused), path.clone());
    running.endpoint.on("/rotating", move |request| {
        // From its 21st request the service accepts only the new key. The file is replaced before the next one is
        // checked.
        let n = {
            let mut requests = requests.lock().unwrap();
            if *requests == 20 {
                std::fs::write(file.with_extension("new"), "sk-rotating-5ecret-2").unwrap();
                std::fs::rename(file.with_extension("new"), &file).unwrap();
            }
            *requests += 1;
            *requests - 1
        };
        let good = if n < 20 { "Bearer sk-rotating-5ecret-1" } else { "Bearer sk-rotating-5ecret-2" };
        if request.header("authorization") != Some(good) {
            count.fetch_add(1, Ordering::SeqCst);
            return Answer::error(401, "Incorrect API key provided", "invalid_request_error", None);
        }
        let body = agent.post(&inner).header("content-type", "application/json").send(&request.body[..]);
        Answer::raw_json(200, body.unwrap().body_mut().read_to_vec().unwrap())
    });
    let mut conn = prepare(&running, "/rotating", 2000);
    conn.query_drop("CALL mysql.ml_create_sm_secret_registration('r', 'file:rotating')").unwrap();
    conn.query_drop(
        "CALL mysql.ml_alter_model_registration('m', NULL, NULL, NULL, NULL, 'secret_manager', 'r', NULL, NULL, NULL)",
    )
    .unwrap();
    assert_eq!(embed(&mut conn, r#"{"batch_size": 20, "concurrency": 4}"#).unwrap(), (2000, 0, 0));
    assert_eq!(check(&mut conn), 2000);
    let refused = refused.load(Ordering::SeqCst);
    assert!((1..=4).contains(&refused), "what was under way with the old key: {refused}");
}

#[test]
fn a_rate_limit_is_waited_out_with_whole_batches() {
    let running = start();
    running.endpoint.set_rate_limit(10, Duration::from_millis(300));
    let mut conn = prepare(&running, "/limited/v1/embeddings", 4000);
    running.endpoint.clear();
    assert_eq!(embed(&mut conn, r#"{"batch_size": 100}"#).unwrap(), (4000, 0, 0));
    assert_eq!(check(&mut conn), 4000);
    let answered = running.endpoint.count() - running.endpoint.refused();
    assert_eq!(answered, 40, "the batches stay whole");
}

#[test]
fn a_crash_of_the_server_leaves_nothing_wrong() {
    // With durable commits, as is MySQL's default; the test servers have them off.
    let mut running = start_bare(&["--innodb-flush-log-at-trx-commit=1"], &[]);
    running.install();
    let mut conn = prepare(&running, "/delay/100/v1/embeddings", 20_000);
    let mut other = running.root();
    let job = std::thread::spawn(move || embed(&mut other, r#"{"batch_size": 50}"#).is_err());
    // Rows are visible before their commit is durable; rows counted in the progress are durable.
    let mut reported = 0;
    wait_until("some rows", || {
        reported = conn.query_first("SELECT embedded FROM mysql.cloudsql_ml_embed_progress").unwrap().unwrap_or(0);
        reported > 0
    });
    running.server.kill9();
    assert!(job.join().unwrap());
    running.server.restart().unwrap();
    let mut conn = running.root();
    let kept: u64 = check(&mut conn);
    assert!(kept >= reported, "{kept} of {reported}");
    assert_eq!(embed(&mut conn, "{}").unwrap(), (20_000 - kept, 0, 0));
    assert_eq!(check(&mut conn), 20_000);
}

/// `(status, message)` of the only job.
fn noted(conn: &mut Conn) -> (String, Option<String>) {
    conn.query_first("SELECT status, message FROM mysql.cloudsql_ml_embed_progress").unwrap().unwrap()
}

#[test]
fn a_job_whose_end_could_not_be_noted_does_not_stay_running() {
    let running = start();
    let mut conn = prepare(&running, "/delay/20/v1/embeddings", 20_000);
    let mut worker = running.root();
    let worker_id = id(&mut worker);
    let job = std::thread::spawn(move || server_error(embed(&mut worker, r#"{"batch_size": 50}"#)));
    wait_until("the job", || conn.query_first::<u64, _>("SELECT COUNT(v) FROM e.t").unwrap().unwrap() > 100);
    let mut other = running.root();
    other.query_drop("LOCK TABLES mysql.cloudsql_ml_embed_progress READ").unwrap();
    conn.query_drop(format!("KILL QUERY {worker_id}")).unwrap();
    assert_eq!(job.join().unwrap().0, 1317);
    assert_eq!(noted(&mut other).0, "running");
    other.query_drop("UNLOCK TABLES").unwrap();
    // Any next call.
    wait_until("its end is noted", || {
        conn.query_drop("SELECT mysql.ml_embedding('m', 'a text')").unwrap();
        noted(&mut conn).0 == "stopped"
    });
}

#[test]
fn a_job_that_a_crash_ended_does_not_stay_running() {
    let mut running = start_bare(&["--innodb-flush-log-at-trx-commit=1"], &[]);
    running.install();
    let mut conn = prepare(&running, "/delay/100/v1/embeddings", 20_000);
    let mut other = running.root();
    let job = std::thread::spawn(move || embed(&mut other, r#"{"batch_size": 50}"#).is_err());
    wait_until("the job", || {
        let state: Option<String> = conn.query_first("SELECT status FROM mysql.cloudsql_ml_embed_progress").unwrap();
        state.as_deref() == Some("running")
    });
    running.server.kill9();
    assert!(job.join().unwrap());
    running.server.restart().unwrap();
    let mut conn = running.root();
    assert_eq!(noted(&mut conn).0, "running");
    // A replica must not end the job of its source.
    conn.query_drop("SET GLOBAL read_only = ON").unwrap();
    conn.query_drop("SELECT mysql.ml_embedding('m', 'a text')").unwrap();
    assert_eq!(noted(&mut conn).0, "running");
    conn.query_drop("SET GLOBAL read_only = OFF").unwrap();
    running.server.restart().unwrap();
    let mut conn = running.root();
    conn.query_drop("SELECT mysql.ml_embedding('m', 'a text')").unwrap();
    let (status, message) = noted(&mut conn);
    assert!(status == "stopped" && message.as_deref().unwrap().contains("run it again"), "{status} {message:?}");
}

#[test]
fn a_table_that_is_altered_meanwhile_is_embedded_or_the_job_says_why_not() {
    let running = start();
    let mut conn = prepare(&running, "/delay/30/v1/embeddings", 3000);
    let job = |running: &Running| {
        let mut other = running.root();
        std::thread::spawn(move || embed(&mut other, r#"{"batch_size": 50, "concurrency": 2}"#))
    };
    let first = job(&running);
    wait_until("the first requests", || running.endpoint.count() > 2);
    conn.query_drop("ALTER TABLE e.t ADD COLUMN extra INT DEFAULT 7 FIRST, ALGORITHM = INPLACE").unwrap();
    conn.query_drop("ALTER TABLE e.t MODIFY body LONGTEXT, ALGORITHM = COPY").unwrap();
    assert_eq!(first.join().unwrap().unwrap(), (3000, 0, 0));
    assert_eq!(check(&mut conn), 3000);

    conn.query_drop("UPDATE e.t SET v = NULL").unwrap();
    conn.query_drop("CALL mysql.ml_cache_clear('m')").unwrap();
    let asked = running.endpoint.count();
    let second = job(&running);
    wait_until("some more requests", || running.endpoint.count() > asked + 2);
    conn.query_drop("ALTER TABLE e.t DROP COLUMN v").unwrap();
    let (code, message) = server_error(second.join().unwrap());
    assert_eq!(code, 1054, "{message}");
    let status: Option<String> = conn.query_first("SELECT status FROM mysql.cloudsql_ml_embed_progress").unwrap();
    assert_eq!(status.as_deref(), Some("failed"));
}

#[test]
fn a_table_that_goes_away_ends_the_job() {
    let running = start();
    let mut conn = prepare(&running, "/delay/30/v1/embeddings", 5000);
    let mut other = running.root();
    let job = std::thread::spawn(move || server_error(embed(&mut other, r#"{"batch_size": 50, "concurrency": 2}"#)));
    wait_until("the first request", || running.endpoint.count() > 2);
    conn.query_drop("DROP TABLE e.t").unwrap();
    assert_eq!(job.join().unwrap().0, 1146);
    conn.query_drop("CREATE TABLE e.t (id INT PRIMARY KEY, body TEXT, v VECTOR(8))").unwrap();
    fill(&mut conn, 10);
    conn.query_drop("SET GLOBAL super_read_only = ON").unwrap();
    assert_eq!(server_error(embed(&mut conn, "{}")).0, 1290);
    conn.query_drop("SET GLOBAL read_only = OFF").unwrap();
    assert_eq!(embed(&mut conn, "{}").unwrap(), (10, 0, 0));
}
