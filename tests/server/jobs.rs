//! No row harms the others: unreadable, refused or unwritable rows, endpoints that fail for one text or for a while,
//! and locks of other sessions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{server_error, start, wait_until, Running};
use fake_providers::{embedding_for, Answer, Recorded};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};

fn texts(request: &Recorded) -> Vec<String> {
    match &request.json()["input"] {
        serde_json::Value::Array(texts) => texts.iter().map(|t| t.as_str().unwrap().to_owned()).collect(),
        text => vec![text.as_str().unwrap().to_owned()],
    }
}

fn vectors(texts: &[String]) -> Answer {
    let data: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| serde_json::json!({"index": i, "embedding": embedding_for(text, 8)}))
        .collect();
    Answer::json(200, &serde_json::json!({"data": data}))
}

/// A model at a path of the endpoint, and a table of `rows` texts without vectors.
fn prepare(running: &Running, path: &str, rows: u32) -> Conn {
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", path);
    conn.query_drop("CREATE DATABASE e").unwrap();
    conn.query_drop("CREATE TABLE e.t (id INT PRIMARY KEY, body TEXT, v VECTOR(8))").unwrap();
    conn.query_drop("SET SESSION cte_max_recursion_depth = 10000000").unwrap();
    conn.query_drop(format!(
        "INSERT INTO e.t (id, body) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         SELECT i, CONCAT('text number ', i) FROM n"
    ))
    .unwrap();
    running.endpoint.clear();
    conn
}

fn embed_from(conn: &mut Conn, table: &str, content: &str, options: &str) -> mysql::Result<(u64, u64, u64)> {
    let row: Option<Row> =
        conn.exec_first("CALL mysql.ml_embed_table('m', ?, ?, 'v', NULLIF(?, ''))", (table, content, options))?;
    let row = row.unwrap();
    Ok((row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap()))
}

fn embed(conn: &mut Conn) -> mysql::Result<(u64, u64, u64)> {
    embed_from(conn, "e.t", "body", "")
}

fn failures(conn: &mut Conn) -> Vec<(String, String)> {
    conn.query("SELECT row_key, error FROM mysql.cloudsql_ml_embed_failures ORDER BY row_key").unwrap()
}

#[test]
fn a_500_over_one_text_costs_its_neighbours_nothing() {
    let running = start();
    running.endpoint.on("/llama", |request| {
        let texts = texts(request);
        if texts.iter().any(|text| text.contains("long")) {
            return Answer::error(500, "input (992 tokens) is too large to process", "server_error", None);
        }
        vectors(&texts)
    });
    let mut conn = prepare(&running, "/llama", 640);
    conn.query_drop("UPDATE e.t SET body = CONCAT('long ', id) WHERE id % 64 = 5").unwrap();
    assert_eq!(embed(&mut conn).unwrap(), (630, 10, 0));
    let failed = failures(&mut conn);
    assert!(failed.len() == 10 && failed.iter().all(|(_, e)| e.contains("too large to process")), "{failed:?}");
    // They are known from now on, and tried alone.
    running.endpoint.clear();
    conn.query_drop("UPDATE e.t SET v = NULL WHERE id % 64 = 6").unwrap();
    conn.query_drop("CALL mysql.ml_cache_clear(NULL)").unwrap();
    assert_eq!(embed(&mut conn).unwrap(), (10, 10, 0));
    let good = running.endpoint.requests().iter().filter(|r| !texts(r).iter().any(|t| t.contains("long"))).count();
    assert!(good <= 6, "{good}");
    assert!(running.endpoint.count() <= 20, "{}", running.endpoint.count());
    assert!(running
        .endpoint
        .requests()
        .iter()
        .all(|r| texts(r).len() == 1 || !texts(r).iter().any(|t| t.contains("long"))));

    // The error of a single call names the text at fault.
    let array = r#"["a", "b", "long c", "d"]"#;
    let (_, message) =
        server_error(conn.exec_first::<String, _, _>("SELECT mysql.ml_embedding_batch('m', ?)", (array,)));
    assert!(message.contains("text 2 of the array") && message.contains("too large to process"), "{message}");
}

#[test]
fn texts_without_a_visible_character_are_not_sent() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings", 1000);
    conn.query_drop("UPDATE e.t SET body = ELT(id DIV 4 % 4 + 1, '', ' ', '\\n', CONVERT(x'e2808b' USING utf8mb4)) WHERE id % 4 = 1")
        .unwrap();
    assert_eq!(embed(&mut conn).unwrap(), (750, 250, 0));
    assert!(running.endpoint.count() <= 12, "{}", running.endpoint.count());
    running.endpoint.clear();
    assert_eq!(embed(&mut conn).unwrap(), (0, 250, 0));
    assert_eq!(running.endpoint.count(), 0);
    assert!(failures(&mut conn)[0].1.contains("no visible character"));
}

#[test]
fn known_bad_rows_cost_a_request_each_at_the_next_call() {
    let running = start();
    running.endpoint.on("/picky", |request| {
        let texts = texts(request);
        if texts.iter().any(|text| text.contains("bad")) {
            return Answer::error(400, "invalid", "invalid_request_error", None);
        }
        vectors(&texts)
    });
    let mut conn = prepare(&running, "/picky", 1000);
    conn.query_drop("UPDATE e.t SET body = CONCAT('bad ', id) WHERE id % 100 = 7").unwrap();
    assert_eq!(embed(&mut conn).unwrap(), (990, 10, 0));
    running.endpoint.clear();
    assert_eq!(embed(&mut conn).unwrap(), (0, 10, 0));
    assert!(running.endpoint.count() <= 11, "{}", running.endpoint.count());
}

#[test]
fn a_row_that_failed_before_does_not_hang_a_model_that_takes_one_text_at_a_time() {
    let running = start();
    let mut conn = running.root();
    for statement in [
        "CALL mysql.ml_create_model_registration('m', NULL, 'dummy', 'text_embedding', NULL, NULL, NULL, NULL, NULL, NULL)",
        "CREATE DATABASE e",
        "CREATE TABLE e.t (id INT PRIMARY KEY, body TEXT, v VECTOR(384))",
        "INSERT INTO e.t (id, body) VALUES (1, 'one'), (2, ''), (3, 'three')",
    ] {
        conn.query_drop(statement).unwrap();
    }
    assert_eq!(embed(&mut conn).unwrap(), (2, 1, 0));
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let again = embed(&mut conn).unwrap();
        conn.query_drop("UPDATE e.t SET body = 'two' WHERE id = 2").unwrap();
        let _ = sender.send([again, embed_from(&mut conn, "e.t", "body", r#"{"where": "id < 3"}"#).unwrap()]);
    });
    let done = receiver.recv_timeout(Duration::from_secs(30)).expect("the job ends");
    assert_eq!(done, [(0, 1, 0), (1, 0, 0)]);
    assert_eq!(failures(&mut running.root()), [], "it failed no longer");
}

#[test]
fn rows_that_were_edited_or_filled_while_their_texts_were_away_are_left_alone() {
    let running = start();
    let open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let opened = Arc::clone(&open);
    running.endpoint.on("/held", move |request| {
        while !opened.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let texts = texts(request);
        if texts.iter().any(|text| text.contains("bad")) {
            return Answer::error(400, "invalid", "invalid_request_error", None);
        }
        vectors(&texts)
    });
    let mut conn = prepare(&running, "/held", 5);
    conn.query_drop("UPDATE e.t SET body = 'bad' WHERE id = 5").unwrap();
    for digest in [false, true] {
        open.store(false, Ordering::SeqCst);
        running.endpoint.clear();
        if digest {
            conn.query_drop("ALTER TABLE e.t ADD v_hash BINARY(32)").unwrap();
            conn.query_drop("UPDATE e.t SET v = NULL, body = CONCAT('another text ', id) WHERE id < 5").unwrap();
        }
        let mut worker = running.root();
        let job = std::thread::spawn(move || embed(&mut worker).unwrap());
        wait_until("the texts are away", || running.endpoint.count() > 0);
        conn.query_drop("UPDATE e.t SET body = 'edited' WHERE id = 1").unwrap();
        let own = if digest { ", v_hash = UNHEX(SHA2(body, 256))" } else { "" };
        conn.query_drop(format!("UPDATE e.t SET v = STRING_TO_VECTOR('[9,9,9,9,9,9,9,9]'){own} WHERE id = 2")).unwrap();
        conn.query_drop("DELETE FROM e.t WHERE id = 3").unwrap();
        open.store(true, Ordering::SeqCst);
        let (embedded, failed, skipped) = job.join().unwrap();
        // The next pass embeds the edited row, and does not try the failed one again.
        assert_eq!((embedded, failed, skipped), (2, 1, if digest { 2 } else { 3 }), "{digest}");
        let wrong = "SELECT GROUP_CONCAT(id) FROM e.t WHERE id < 5 AND NOT v <=> IF(id = 2, STRING_TO_VECTOR('[9,9,9,9,9,9,9,9]'), mysql.ml_embedding('m', body))";
        assert_eq!(conn.query_first::<Option<String>, _>(wrong).unwrap().unwrap(), None, "{digest}");
        if digest {
            let stale = "SELECT COUNT(*) FROM e.t WHERE id < 5 AND NOT v_hash <=> UNHEX(SHA2(body, 256))";
            assert_eq!(conn.query_first::<u64, _>(stale).unwrap(), Some(0));
        }
    }
}

#[test]
fn money_that_is_used_up_ends_the_job_and_fails_no_row() {
    let running = start();
    for (path, status, code) in [("/quota", 429, "insufficient_quota"), ("/unpaid", 402, "payment_required")] {
        let answered = AtomicU64::new(0);
        running.endpoint.on(path, move |request| match answered.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => vectors(&texts(request)),
            _ => Answer::error(status, "there is no money left", code, Some(code)),
        });
    }
    let mut conn = prepare(&running, "/quota", 200);
    for path in ["/quota", "/unpaid"] {
        conn.query_drop("CALL mysql.ml_drop_model_registration('m')").unwrap();
        running.embedding_model(&mut conn, "m", path);
        conn.query_drop("UPDATE e.t SET v = NULL").unwrap();
        running.endpoint.clear();
        let options = r#"{"concurrency": 1, "batch_size": 10}"#;
        let (_, message) = server_error(embed_from(&mut conn, "e.t", "body", options));
        assert!(message.contains("no money left") && message.contains("kept, 0 failed"), "{message}");
        assert_eq!(running.endpoint.count(), 3, "{path}: nothing is sent after it");
        assert_eq!(failures(&mut conn), [], "{path}");
    }
}

#[test]
fn a_row_that_cannot_be_read_is_found_among_those_that_where_leaves_out() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings", 40);
    conn.query_drop("UPDATE e.t SET body = JSON_OBJECT('a', CONCAT('text ', id))").unwrap();
    conn.query_drop("UPDATE e.t SET body = 'no json' WHERE id = 7").unwrap();
    let done = embed_from(&mut conn, "e.t", "JSON_UNQUOTE(JSON_EXTRACT(body, '$.a'))", r#"{"where": "id % 2 = 1"}"#);
    assert_eq!(done.unwrap(), (19, 1, 0));
    let noted = failures(&mut conn);
    assert!(noted.len() == 1 && noted[0].0.contains("\"7\""), "{noted:?}");
    assert_eq!(conn.query_first::<u64, _>("SELECT COUNT(v) FROM e.t WHERE id % 2 = 1").unwrap(), Some(19));
}

#[test]
fn a_vector_without_a_digest_is_made_anew() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings", 3);
    conn.query_drop("ALTER TABLE e.t ADD v_hash BINARY(32)").unwrap();
    assert_eq!(embed(&mut conn).unwrap(), (3, 0, 0));
    conn.query_drop("UPDATE e.t SET v = STRING_TO_VECTOR('[9,9,9,9,9,9,9,9]'), v_hash = NULL WHERE id = 2").unwrap();
    assert_eq!(embed(&mut conn).unwrap(), (1, 0, 0));
    let right = "SELECT COUNT(*) FROM e.t WHERE v = mysql.ml_embedding('m', body)";
    assert_eq!(conn.query_first::<u64, _>(right).unwrap(), Some(3));
}

#[test]
fn a_vector_of_another_width_than_those_before_is_not_written() {
    let running = start();
    running.endpoint.on("/widths", |request| {
        let width = |text: &String| if text.contains("bad") { 4 } else { 8 };
        let texts = texts(request);
        let data: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(i, text)| serde_json::json!({"index": i, "embedding": embedding_for(text, width(text))}))
            .collect();
        Answer::json(200, &serde_json::json!({"data": data}))
    });
    let mut conn = prepare(&running, "/widths", 100);
    conn.query_drop("UPDATE e.t SET body = 'bad' WHERE id = 50").unwrap();
    let options = r#"{"concurrency": 1, "batch_size": 10}"#;
    assert_eq!(embed_from(&mut conn, "e.t", "body", options).unwrap(), (99, 1, 0));
    let noted = failures(&mut conn);
    assert!(noted.len() == 1 && noted[0].1.contains("4 dimensions after 8 before"), "{noted:?}");
    let written: Option<u64> = conn.query_first("SELECT SUM(VECTOR_DIM(v) = 8) FROM e.t WHERE id <> 50").unwrap();
    assert_eq!(written, Some(99));
}

/// Whether the next test's endpoint refuses a batch: more than 16 texts, or more than 90 tokens of three letters.
fn is_too_much(path: &str, texts: &[String]) -> bool {
    match path {
        "/tokens" => texts.iter().map(|text| text.len() / 3 + 1).sum::<usize>() > 90,
        _ => texts.len() > 16,
    }
}

#[test]
fn a_limit_that_a_refusal_names_is_kept_for_the_next_call() {
    let running = start();
    for (path, words) in [
        ("/named", "batch size exceeds maximum allowed batch size 16"),
        ("/tokens", "Requested 600 tokens, max 90 tokens per request"),
        ("/unnamed", "too many"),
    ] {
        running.endpoint.on(path, move |request| {
            let texts = texts(request);
            if is_too_much(path, &texts) {
                return Answer::error(422, words, "validation", None);
            }
            vectors(&texts)
        });
    }
    let mut conn = prepare(&running, "/named", 2000);
    for path in ["/named", "/tokens", "/unnamed"] {
        conn.query_drop("CALL mysql.ml_drop_model_registration('m')").unwrap();
        running.embedding_model(&mut conn, "m", path);
        conn.query_drop("UPDATE e.t SET v = NULL").unwrap();
        running.endpoint.clear();
        let options = r#"{"batch_size": 100}"#;
        assert_eq!(embed_from(&mut conn, "e.t", "body", options).unwrap(), (2000, 0, 0));
        let refused = |running: &Running| {
            running.endpoint.requests().iter().filter(|request| is_too_much(path, &texts(request))).count()
        };
        assert!(refused(&running) <= if path == "/unnamed" { 60 } else { 9 }, "{path}: {}", refused(&running));
        running.endpoint.clear();
        conn.query_drop("UPDATE e.t SET v = NULL").unwrap();
        conn.query_drop("CALL mysql.ml_cache_clear(NULL)").unwrap();
        assert_eq!(embed_from(&mut conn, "e.t", "body", options).unwrap(), (2000, 0, 0));
        assert_eq!(refused(&running), 0, "{path}");
    }
}

#[test]
fn an_endpoint_that_is_away_for_seconds_fails_no_row() {
    let running = start();
    for status in [520, 503, 500, 429] {
        let path = format!("/away{status}");
        let began = std::sync::OnceLock::new();
        let requests = AtomicU64::new(0);
        running.endpoint.on(&path, move |request| {
            // Answers three requests, then none for four seconds.
            if requests.fetch_add(1, Ordering::SeqCst) >= 3
                && began.get_or_init(Instant::now).elapsed() < Duration::from_secs(4)
            {
                return Answer::error(status, "away", "server_error", None);
            }
            vectors(&texts(request))
        });
    }
    let mut conn = prepare(&running, "/away520", 500);
    for status in [520, 503, 500, 429] {
        conn.query_drop("CALL mysql.ml_drop_model_registration('m')").unwrap();
        running.embedding_model(&mut conn, "m", &format!("/away{status}"));
        conn.query_drop("UPDATE e.t SET v = NULL").unwrap();
        let done = embed_from(&mut conn, "e.t", "body", r#"{"batch_size": 20, "concurrency": 2}"#).unwrap();
        assert_eq!(done, (500, 0, 0), "{status}");
    }
}

#[test]
fn an_endpoint_that_never_answers_ends_the_job_and_fails_no_row() {
    let running = start();
    let mut conn = prepare(&running, "/status/500", 5000);
    let (code, message) = server_error(embed(&mut conn));
    assert_eq!(code, 3200);
    assert!(message.contains("500") && message.contains("0 rows embedded and kept, 0 failed"), "{message}");
    assert!(running.endpoint.count() < 40, "{}", running.endpoint.count());
    assert!(failures(&mut conn).is_empty());
}

#[test]
fn rows_that_cannot_be_read_are_noted_and_the_rest_is_done() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings", 1);
    conn.query_drop("CREATE TABLE e.b (id INT, part INT, body BLOB, v VECTOR(8), PRIMARY KEY (id, part))").unwrap();
    conn.query_drop("INSERT INTO e.b VALUES (1, 1, 'good', NULL), (1, 2, X'636166e9', NULL), (2, 1, 'fine', NULL)")
        .unwrap();
    assert_eq!(embed_from(&mut conn, "e.b", "body", "").unwrap(), (2, 1, 0));
    let failed = failures(&mut conn);
    assert!(failed[0].0.contains(r#""part": "2""#) && failed[0].1.contains("UTF-8"), "{failed:?}");
    conn.query_drop("DELETE FROM mysql.cloudsql_ml_embed_failures").unwrap();

    // An expression that fails for some rows.
    conn.query_drop("CREATE TABLE e.j (id INT PRIMARY KEY, doc TEXT, v VECTOR(8))").unwrap();
    conn.query_drop(
        r#"INSERT INTO e.j (id, doc) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900)
           SELECT i, IF(i % 300 = 7, 'no json', CONCAT('{"a": "text ', i, '"}')) FROM n"#,
    )
    .unwrap();
    assert_eq!(embed_from(&mut conn, "e.j", "JSON_VALUE(doc, '$.a' ERROR ON ERROR)", "").unwrap(), (897, 3, 0));
    let failed = failures(&mut conn);
    assert!(failed.len() == 3 && failed[0].1.contains("cannot read its text"), "{failed:?}");
}

#[test]
fn rows_that_cannot_be_written_are_noted_and_the_rest_is_done() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings", 300);
    conn.query_drop(
        "CREATE TRIGGER e.t_locked BEFORE UPDATE ON e.t FOR EACH ROW BEGIN IF OLD.id % 100 = 7 THEN \
         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'row is locked'; END IF; END",
    )
    .unwrap();
    assert_eq!(embed(&mut conn).unwrap(), (297, 3, 0));
    let failed = failures(&mut conn);
    assert!(failed.len() == 3 && failed.iter().all(|(_, e)| e.contains("row is locked")), "{failed:?}");

    // A constraint that fails for a row with a vector.
    conn.query_drop("DELETE FROM mysql.cloudsql_ml_embed_failures").unwrap();
    conn.query_drop("CREATE TABLE e.c (id INT PRIMARY KEY, body TEXT, v VARBINARY(32), CHECK (v IS NULL OR id <> 9))")
        .unwrap();
    conn.query_drop("INSERT INTO e.c SELECT id, body, NULL FROM e.t").unwrap();
    assert_eq!(embed_from(&mut conn, "e.c", "body", "").unwrap(), (299, 1, 0));
    assert!(failures(&mut conn)[0].1.contains("constraint"), "{:?}", failures(&mut conn));
}

#[test]
fn a_row_that_cannot_be_written_does_not_stop_an_automatic_column() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings", 1);
    conn.query_drop("CREATE TABLE e.a (id INT PRIMARY KEY, body TEXT, locked BOOL DEFAULT 0, v VECTOR(8))").unwrap();
    conn.query_drop("CALL ai.initialize_embeddings('m', 'e.a', 'body', 'v', NULL, 'transactional')").unwrap();
    conn.query_drop("INSERT INTO e.a (id, body, locked) VALUES (1, 'one', 0), (2, 'two', 1), (3, 'three', 0)").unwrap();
    conn.query_drop(
        "CREATE TRIGGER e.a_locked BEFORE UPDATE ON e.a FOR EACH ROW BEGIN IF OLD.locked THEN \
         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'row is locked'; END IF; END",
    )
    .unwrap();
    conn.query_drop("CALL ai.refresh_embeddings('e.a', 'v', NULL)").unwrap();
    let done: u64 = conn.query_first("SELECT COUNT(v) FROM e.a").unwrap().unwrap();
    assert_eq!(done, 2);
    assert!(failures(&mut conn)[0].1.contains("row is locked"));
}

#[test]
fn a_lock_of_another_session_is_outwaited() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings", 3000);
    let mut other = running.root();
    other.query_drop("BEGIN").unwrap();
    other.query_drop("UPDATE e.t SET body = 'editing' WHERE id = 1007").unwrap();
    let job = std::thread::spawn(move || (embed(&mut conn), conn));
    let mut looking = running.root();
    let filled = |conn: &mut Conn| conn.query_first::<u64, _>("SELECT COUNT(v) FROM e.t").unwrap().unwrap();
    wait_until("all others are done", || filled(&mut looking) == 2999);
    other.query_drop("ROLLBACK").unwrap();
    let (done, mut conn) = job.join().unwrap();
    assert_eq!(done.unwrap(), (3000, 0, 0));

    // The whole table, longer than any session waits.
    conn.query_drop("UPDATE e.t SET v = NULL").unwrap();
    conn.query_drop("CALL mysql.ml_cache_clear(NULL)").unwrap();
    running.endpoint.on("/slow", |request| {
        std::thread::sleep(Duration::from_millis(100));
        vectors(&texts(request))
    });
    conn.query_drop("CALL mysql.ml_drop_model_registration('m')").unwrap();
    running.embedding_model(&mut conn, "m", "/slow");
    let job =
        std::thread::spawn(move || embed_from(&mut conn, "e.t", "body", r#"{"batch_size": 50, "concurrency": 1}"#));
    wait_until("some rows", || filled(&mut looking) > 0);
    other.query_drop("FLUSH TABLES WITH READ LOCK").unwrap();
    std::thread::sleep(Duration::from_secs(5));
    other.query_drop("UNLOCK TABLES").unwrap();
    assert_eq!(job.join().unwrap().unwrap(), (3000, 0, 0));
}

#[test]
fn a_job_that_waits_for_a_lock_hears_kill() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings", 100);
    let id: u64 = conn.query_first("SELECT CONNECTION_ID()").unwrap().unwrap();
    let mut other = running.root();
    other.query_drop("BEGIN").unwrap();
    other.query_drop("UPDATE e.t SET body = 'editing' WHERE id = 7").unwrap();
    let job = std::thread::spawn(move || server_error(embed(&mut conn)));
    let mut looking = running.root();
    wait_until("all others are done", || {
        looking.query_first::<u64, _>("SELECT COUNT(v) FROM e.t").unwrap() == Some(99)
    });
    let killed = Instant::now();
    looking.query_drop(format!("KILL QUERY {id}")).unwrap();
    assert_eq!(job.join().unwrap().0, 1317);
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
}

#[test]
fn errors_of_every_row_come_before_anything_is_sent() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings", 10);
    conn.query_drop("CREATE TABLE e.cat (id INT PRIMARY KEY, name VARCHAR(50), parent_id INT, v VECTOR(8))").unwrap();
    conn.query_drop("INSERT INTO e.cat VALUES (1, 'all', NULL, NULL), (2, 'some', 1, NULL)").unwrap();
    let parent = "CONCAT_WS(' > ', (SELECT p.name FROM e.cat p WHERE p.id = cat.parent_id), name)";
    let (_, message) = server_error(embed_from(&mut conn, "e.cat", parent, ""));
    assert!(message.contains("reads `e`.`cat` itself in a subquery"), "{message}");
    let (_, message) = server_error(embed_from(&mut conn, "e.t", "body", r#"{"where": "nonsense = 1"}"#));
    assert!(message.contains("option where") && message.contains("nonsense"), "{message}");
    // The caller's own lock.
    conn.query_drop("LOCK TABLES e.t WRITE").unwrap();
    let (code, message) =
        server_error(conn.query_first::<String, _>("SELECT ml_embed_table('m', 'e.t', 'body', 'v', NULL)"));
    assert_eq!(code, 1205);
    assert!(message.contains("model 'm', nothing was sent") && message.contains("LOCK TABLES"), "{message}");
    conn.query_drop("UNLOCK TABLES").unwrap();
    assert_eq!(running.endpoint.count(), 0);
}

#[test]
fn fewer_requests_are_under_way_while_they_take_most_of_their_time() {
    let running = start();
    // Each concurrent request adds 120 ms; a single one is fast. With 8 at once most would exceed the deadline.
    let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (under_way, seen) = (Arc::clone(&now), Arc::clone(&most));
    running.endpoint.on("/crowded", move |request| {
        let others = under_way.fetch_add(1, Ordering::SeqCst);
        seen.fetch_max(others + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20 + 120 * others));
        under_way.fetch_sub(1, Ordering::SeqCst);
        vectors(&texts(request))
    });
    let mut conn = prepare(&running, "/crowded", 800);
    conn.query_drop(r#"CALL mysql.ml_set_model_options('m', '{"timeout_ms": 500}')"#).unwrap();
    assert_eq!(embed_from(&mut conn, "e.t", "body", r#"{"batch_size": 20}"#).unwrap(), (800, 0, 0));
    assert!(most.load(Ordering::SeqCst) > 1);
    assert!(running.endpoint.count() < 120, "{} requests for 40 batches", running.endpoint.count());
}

#[test]
fn one_request_is_under_way_where_each_takes_most_of_its_time() {
    let running = start();
    let now = Arc::new(AtomicU64::new(0));
    let beside = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (under_way, seen) = (Arc::clone(&now), Arc::clone(&beside));
    running.endpoint.on("/slow", move |request| {
        seen.lock().unwrap().push(under_way.fetch_add(1, Ordering::SeqCst));
        std::thread::sleep(Duration::from_millis(1100));
        under_way.fetch_sub(1, Ordering::SeqCst);
        vectors(&texts(request))
    });
    let mut conn = prepare(&running, "/slow", 120);
    conn.query_drop(r#"CALL mysql.ml_set_model_options('m', '{"timeout_ms": 2000}')"#).unwrap();
    assert_eq!(embed_from(&mut conn, "e.t", "body", r#"{"batch_size": 10}"#).unwrap(), (120, 0, 0));
    let beside = beside.lock().unwrap();
    assert!(beside.iter().max() > Some(&1), "many at first: {beside:?}");
    assert!(beside.ends_with(&[0, 0, 0]), "and then one: {beside:?}");
}
