//! Chunk tables on a real server: what they hold after changes of every kind, crashes and failures; and whose rights count.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use mysql::prelude::Queryable;
use mysql::{Conn, Row};

use crate::common::{follow, replicate, replicating, server_error, start, start_bare, take_over, wait_until, Running};

fn call(conn: &mut Conn, statement: &str) -> Vec<Row> {
    conn.query(statement).unwrap_or_else(|e| panic!("{statement}: {e}"))
}

fn number(conn: &mut Conn, query: &str) -> u64 {
    conn.query_first(query).unwrap_or_else(|e| panic!("{query}: {e}")).unwrap()
}

fn text(rng: &mut Rng) -> String {
    let sentences = (0..rng.usize(..8)).map(|_| format!("{} words here.", ["Red", "Green", "Blüe"][rng.usize(..3)]));
    sentences.collect::<Vec<_>>().join(" ")
}

const CREATE: &str = "CALL ai.create_chunks('s.t', 'body', 's.c', '{\"chunk\": {\"size\": 30}}')";
const REFRESH: &str = "CALL ai.refresh_chunks('s.c', NULL)";

fn prepare(running: &Running, rows: usize) -> Conn {
    let mut root = running.root();
    root.query_drop("CREATE DATABASE s").unwrap();
    root.query_drop("CREATE TABLE s.t (id INT PRIMARY KEY, kind INT, body TEXT)").unwrap();
    let mut rng = Rng::with_seed(1);
    for id in 0..rows {
        root.exec_drop("INSERT INTO s.t VALUES (?, 0, ?)", (id, text(&mut rng))).unwrap();
    }
    root
}

/// Chunks that are not those of `ai.chunk`, and those that are missing.
fn differences(conn: &mut Conn) -> u64 {
    let wanted = "SELECT t.id, j.number, j.start, j.length, j.chunk FROM s.t JOIN JSON_TABLE(ai.chunk(t.body, \
         '{\"size\": 30}'), '$[*]' COLUMNS (number FOR ORDINALITY, start INT PATH '$.start', \
         length INT PATH '$.length', chunk TEXT CHARACTER SET utf8mb4 PATH '$.chunk')) AS j WHERE t.body IS NOT NULL";
    let wanted: Vec<(i64, u64, u64, u64, String)> = conn.query(wanted).unwrap();
    let stored: Vec<(i64, u64, u64, u64, String)> =
        conn.query("SELECT id, number, start, length, chunk FROM s.c").unwrap();
    let (a, b): (HashSet<_>, HashSet<_>) = (wanted.iter().collect(), stored.iter().collect());
    assert_eq!((a.len(), b.len()), (wanted.len(), stored.len()), "numbers within a row are unique");
    a.symmetric_difference(&b).count() as u64
}

fn change(rng: &mut Rng) -> (String, Vec<String>) {
    let (id, other) = (rng.i32(..300), rng.i32(..300));
    let text = text(rng);
    match rng.u8(..9) {
        0..2 => (format!("INSERT INTO s.t VALUES ({id}, 1, ?)"), vec![text]),
        2..4 => (format!("UPDATE s.t SET body = ? WHERE id = {id}"), vec![text]),
        4 => (format!("UPDATE s.t SET kind = kind + 1, body = NULL WHERE id = {id}"), Vec::new()),
        5 => (format!("UPDATE s.t SET id = {} WHERE id = {id}", other + 300), Vec::new()),
        6 => (format!("DELETE FROM s.t WHERE id BETWEEN {id} AND {}", id + 3), Vec::new()),
        7 => (format!("REPLACE INTO s.t VALUES ({id}, 2, ?)"), vec![text]),
        _ => {
            (format!("INSERT INTO s.t VALUES ({id}, 3, ?) ON DUPLICATE KEY UPDATE body = 'Doubled. Text.'"), vec![text])
        }
    }
}

#[test]
fn chunks_are_those_of_the_texts_after_changes_from_several_sessions_while_a_refresh_runs() {
    let running = start();
    let mut root = prepare(&running, 200);
    call(&mut root, CREATE);
    assert_eq!(differences(&mut root), 0);
    let (ended, refreshes) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let refreshing = scope.spawn(|| {
            let mut conn = running.root();
            let mut refreshed = 0_u64;
            while !ended.load(Ordering::SeqCst) {
                refreshed += 1;
                let options = if refreshed.is_multiple_of(7) { "'{\"full\": true}'" } else { "NULL" };
                match conn.query::<Row, _>(format!("CALL ai.refresh_chunks('s.c', {options})")) {
                    // The event is at it; or it waited for the TRUNCATE, which waits for the others.
                    Err(mysql::Error::MySqlError(e))
                        if e.code == 3200 && e.message.contains("worked on") || e.code == 1205 => {}
                    result => drop(result.unwrap()),
                }
                refreshes.store(refreshed, Ordering::SeqCst);
            }
        });
        let writers: Vec<_> = (0..6)
            .map(|seed| {
                let (mut conn, refreshes) = (running.root(), &refreshes);
                scope.spawn(move || {
                    let mut rng = Rng::with_seed(100 + seed);
                    conn.query_drop("SET SESSION innodb_lock_wait_timeout = 5").unwrap();
                    // For as long as some refreshes take.
                    for round in (0..).take_while(|round| *round < 25 || refreshes.load(Ordering::SeqCst) < 8) {
                        if seed == 0 && round == 12 {
                            conn.query_drop("TRUNCATE TABLE s.t").unwrap();
                        }
                        conn.query_drop("START TRANSACTION").unwrap();
                        for _ in 0..rng.usize(..6) {
                            let (statement, values) = change(&mut rng);
                            match conn.exec_drop(statement, values) {
                                // The victim of a deadlock has no transaction any more.
                                Err(mysql::Error::MySqlError(e)) if e.code == 1213 => {
                                    conn.query_drop("START TRANSACTION").unwrap();
                                }
                                // The server refuses keys that exist.
                                Err(mysql::Error::MySqlError(e)) => assert!(matches!(e.code, 1062 | 1205), "{e}"),
                                other => other.unwrap(),
                            }
                        }
                        conn.query_drop(if rng.u8(..3) == 0 { "ROLLBACK" } else { "COMMIT" }).unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        ended.store(true, Ordering::SeqCst);
        refreshing.join().unwrap();
    });
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    wait_until("no event is at work", || root.query::<Row, _>(REFRESH).is_ok());
    assert!(number(&mut root, "SELECT COUNT(*) FROM s.c") > 50);
    assert_eq!(differences(&mut root), 0);
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM mysql_ml.chunk_changes"), 0);
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM mysql_ml.chunk_failures"), 0);
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn an_edit_embeds_the_chunks_that_changed_and_no_others() {
    let running = start();
    let mut root = running.root();
    running.embedding_model(&mut root, "m", "/v1/embeddings");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    root.query_drop("CREATE DATABASE s").unwrap();
    root.query_drop("CREATE TABLE s.t (id INT PRIMARY KEY, body TEXT)").unwrap();
    let paragraph = |n: usize| format!("This is the paragraph with the number {n}, which has some words.");
    let mut paragraphs: Vec<String> = (0..20).map(paragraph).collect();
    root.exec_drop("INSERT INTO s.t VALUES (1, ?)", (paragraphs.join("\n\n"),)).unwrap();
    // The cache would hide what is sent again.
    root.query_drop("CALL mysql.ml_set_setting('cache_memory_mb', '0')").unwrap();
    call(&mut root, "CALL ai.create_chunks('s.t', 'body', 's.c', '{\"chunk\": {\"size\": 90}, \"model_id\": \"m\"}')");
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM s.c WHERE embedding IS NOT NULL"), 20);
    let inputs = |running: &Running| -> Vec<String> {
        let mut inputs = Vec::new();
        for request in running.endpoint.requests() {
            let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            match &body["input"] {
                serde_json::Value::Array(texts) => inputs.extend(texts.iter().map(|t| t.as_str().unwrap().to_owned())),
                text => inputs.extend(text.as_str().map(str::to_owned)),
            }
        }
        running.endpoint.clear();
        inputs
    };
    inputs(&running);
    paragraphs[7] = "Another text, which is a little longer than the one that was here.".into();
    root.exec_drop("UPDATE s.t SET body = ?", (paragraphs.join("\n\n"),)).unwrap();
    call(&mut root, REFRESH);
    assert_eq!(inputs(&running), [paragraphs[7].clone()]);
    // A paragraph that moves, and one that goes.
    paragraphs.swap(2, 15);
    paragraphs.remove(5);
    root.exec_drop("UPDATE s.t SET body = ?", (paragraphs.join("\n\n"),)).unwrap();
    call(&mut root, REFRESH);
    assert_eq!(inputs(&running), Vec::<String>::new());
    let chunks: Vec<String> = root.query("SELECT chunk FROM s.c WHERE embedding IS NOT NULL ORDER BY number").unwrap();
    assert_eq!(chunks, paragraphs);
    // A vector is that of its own chunk.
    let wrong = "SELECT COUNT(*) FROM s.c WHERE embedding <> mysql.ml_embedding('m', chunk)";
    assert_eq!(number(&mut root, wrong), 0);
}

#[test]
fn the_event_cuts_and_embeds_changed_rows() {
    let running = start();
    let mut root = prepare(&running, 20);
    running.embedding_model(&mut root, "m", "/v1/embeddings");
    call(&mut root, "CALL ai.create_chunks('s.t', 'body', 's.c', '{\"chunk\": {\"size\": 30}, \"model_id\": \"m\"}')");
    let events: Vec<String> =
        root.query("SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 's'").unwrap();
    assert_eq!(events.len(), 2);
    for event in events {
        root.query_drop(format!("ALTER EVENT s.`{event}` ON SCHEDULE EVERY 1 SECOND")).unwrap();
    }
    root.query_drop("INSERT INTO s.t VALUES (1000, 0, 'A new row. It has a text that is cut.')").unwrap();
    root.query_drop("UPDATE s.t SET body = 'An old row. With another text.' WHERE id = 3").unwrap();
    root.query_drop("DELETE FROM s.t WHERE id = 4").unwrap();
    wait_until("the chunks follow", || differences(&mut root) == 0);
    wait_until("they are embedded", || number(&mut root, "SELECT COUNT(*) FROM s.c WHERE embedding IS NULL") == 0);
    let (status, note): (String, Option<String>) =
        root.query_first("SELECT status, note FROM ai.chunk_tables").unwrap().unwrap();
    assert_eq!((status.as_str(), note), ("ready", None));
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn a_chunk_table_survives_kill_9_and_kill_in_its_runs() {
    let mut running = start_bare(&["--innodb-flush-log-at-trx-commit=1", "--event-scheduler=OFF"], &[]);
    running.install();
    let mut root = prepare(&running, 1);
    root.query_drop(
        "INSERT INTO s.t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
         SELECT i + 10, 0, REPEAT(CONCAT('Row ', i, ' has words. '), 20) FROM n",
    )
    .unwrap();
    // A statement that is killed while it works.
    let stop = |running: &mut Running, sql: &str, wait: u64, hard: bool| {
        let mut conn = running.root();
        let (id, sql) = (conn.connection_id(), sql.to_owned());
        let statement = thread::spawn(move || conn.query_drop(sql));
        thread::sleep(Duration::from_millis(wait));
        if hard {
            running.server.kill9();
            let _ = statement.join().unwrap();
            running.server.restart().unwrap();
        } else {
            running.root().query_drop(format!("KILL QUERY {id}")).unwrap();
            if let Err(mysql::Error::MySqlError(e)) = statement.join().unwrap() {
                assert_eq!(e.code, 1317, "{e}");
            }
        }
    };
    stop(&mut running, CREATE, 150, true);
    for (wait, hard) in [(60, false), (20, true), (120, true)] {
        root = running.root();
        let table = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 's' AND TABLE_NAME = 'c'";
        if number(&mut root, table) == 0 {
            // Killed before it made the table.
            let _ = root.query_drop("CALL ai.drop_chunks('s.c', NULL)");
        }
        if number(&mut root, "SELECT COUNT(*) FROM mysql_ml.chunk_tables") == 0 {
            call(&mut root, CREATE);
        }
        root.query_drop("UPDATE s.t SET body = CONCAT('New. ', body) WHERE id % 2 = 0").unwrap();
        stop(&mut running, "CALL ai.refresh_chunks('s.c', '{\"full\": true}')", wait, hard);
    }
    root = running.root();
    call(&mut root, REFRESH);
    assert_eq!(differences(&mut root), 0);
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM mysql_ml.chunk_changes"), 0);
}

#[test]
fn a_row_that_cannot_be_written_waits_and_costs_no_other() {
    let running = start();
    let mut root = prepare(&running, 100);
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    call(&mut root, CREATE);
    // Another session keeps the chunks of one row.
    let mut other = running.root();
    other.query_drop("UPDATE s.t SET body = 'A text that has to be cut. In two.' WHERE id < 10").unwrap();
    root.query_drop("INSERT INTO s.c (id, chunk_id, number, start, length, chunk) VALUES (7, 'x', 9, 1, 1, 'x')")
        .unwrap();
    other.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").unwrap();
    other.query_drop("START TRANSACTION").unwrap();
    other.query_drop("SELECT * FROM s.c WHERE id = 7 FOR UPDATE").unwrap();
    let row: Row = call(&mut root, REFRESH).remove(0);
    assert_eq!((row.get::<u64, _>("rows"), row.get::<u64, _>("failed")), (Some(10), Some(1)));
    let (key, reason, tries): (String, String, u64) =
        root.query_first("SELECT row_key, reason, tries FROM ai.chunk_failures").unwrap().unwrap();
    assert_eq!((key.as_str(), tries), ("{\"id\": 7}", 1));
    assert!(reason.contains("Lock wait timeout"), "{reason}");
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM mysql_ml.chunk_changes"), 0);
    other.query_drop("ROLLBACK").unwrap();
    // It is tried again, and nothing stays of the failure.
    call(&mut root, REFRESH);
    assert_eq!(differences(&mut root), 0);
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM mysql_ml.chunk_failures"), 0);
}

#[test]
fn nothing_of_a_chunk_table_keeps_anybody_from_writing() {
    let running = start();
    let mut root = prepare(&running, 20);
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    root.query_drop("CREATE USER writer@localhost").unwrap();
    root.query_drop("GRANT SELECT, INSERT, UPDATE, DELETE ON s.t TO writer@localhost").unwrap();
    call(&mut root, CREATE);
    let mut writer = running.server.connect("writer").unwrap();
    let mut id = 1000;
    let mut write = || {
        id += 1;
        writer.query_drop(format!("INSERT INTO s.t VALUES ({id}, 0, 'A new text.')")).unwrap();
        writer
            .query_drop(format!("UPDATE s.t SET body = 'Another text.', id = {} WHERE id = {id}", id + 1000))
            .unwrap();
        writer.query_drop(format!("DELETE FROM s.t WHERE id = {}", id - 1000)).unwrap();
    };
    write();
    let view: String = root
        .query_first("SELECT TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'mysql_ml'")
        .unwrap()
        .unwrap();
    root.query_drop(format!("DROP VIEW mysql_ml.`{view}`")).unwrap();
    write();
    let note: String = root.query_first("SELECT note FROM ai.chunk_tables WHERE status = 'stale'").unwrap().unwrap();
    assert!(note.contains("may not record changes"), "{note}");
    // It is put right, with the changes that were lost.
    call(&mut root, REFRESH);
    assert_eq!(differences(&mut root), 0);
    for script in ["uninstall.sql", "install.sql", "install-ai.sql"] {
        testkit::sqlscript::run(&mut root, &crate::common::script(script), script).unwrap();
        write();
    }
    call(&mut root, REFRESH);
    assert_eq!(differences(&mut root), 0);
    root.query_drop("DROP TABLE s.c").unwrap();
    write();
    let (_, message) = server_error(root.query::<Row, _>(REFRESH));
    assert!(message.contains("`c` does not exist"), "{message}");
    let status: String = root.query_first("SELECT status FROM ai.chunk_tables").unwrap().unwrap();
    assert_eq!(status, "stale");
    root.query_drop("RENAME TABLE s.t TO s.u").unwrap();
    writer = running.server.connect("root").unwrap();
    writer.query_drop("INSERT INTO s.u VALUES (5000, 0, 'x')").unwrap();
    call(&mut root, "CALL ai.drop_chunks('s.c', NULL)");
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 's'"), 0);
}

#[test]
fn a_chunk_table_gives_nobody_more_rights() {
    let running = start();
    let mut root = prepare(&running, 20);
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    for statement in [
        "CREATE DATABASE mine",
        "CREATE USER owner@localhost, other@localhost, half@localhost",
        "GRANT `ml_user` TO owner@localhost, other@localhost, half@localhost",
        "SET DEFAULT ROLE ALL TO owner@localhost, other@localhost, half@localhost",
        "GRANT SELECT, TRIGGER, EVENT ON s.* TO owner@localhost",
        "GRANT ALL ON mine.* TO owner@localhost, half@localhost",
        "GRANT SELECT (id, kind), TRIGGER ON s.t TO half@localhost",
    ] {
        root.query_drop(statement).unwrap();
    }
    let create = "CALL ai.create_chunks('s.t', 'body', 'mine.c', '{\"chunk\": {\"size\": 30}}')";
    let mut half = running.server.connect("half").unwrap();
    let (code, message) = server_error(half.query::<Row, _>(create));
    assert!(matches!(code, 1142 | 1143 | 3200), "{code} {message}");
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM mysql_ml.chunk_tables"), 0);
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mine'"), 0);
    let mut owner = running.server.connect("owner").unwrap();
    call(&mut owner, create);
    let mut other = running.server.connect("other").unwrap();
    for refused in [
        "CALL ai.refresh_chunks('mine.c', NULL)",
        "CALL ai.drop_chunks('mine.c', NULL)",
        "SELECT * FROM mysql_ml.chunk_tables",
        "SELECT * FROM mysql_ml.chunk_changes",
        create,
    ] {
        let _ = server_error(other.query::<Row, _>(refused));
    }
    // By the event's form, another account does nothing.
    let done: String = other.query_first("SELECT ai_refresh_chunks('mine.c', NULL, 'event')").unwrap().unwrap();
    assert!(done.contains("\"rows\":0"), "{done}");
    assert_eq!(number(&mut other, "SELECT COUNT(*) FROM ai.chunk_tables"), 0);
    assert_eq!(number(&mut owner, "SELECT COUNT(*) FROM ai.chunk_tables"), 1);
    // One who may alter the chunk table may call, but the work is done with the rights of its account.
    root.query_drop("GRANT ALTER, SELECT ON mine.c TO other@localhost").unwrap();
    let mut other = running.server.connect("other").unwrap();
    root.query_drop("UPDATE s.t SET body = 'Changed. And cut.' WHERE id = 1").unwrap();
    call(&mut other, "CALL ai.refresh_chunks('mine.c', NULL)");
    assert_eq!(number(&mut owner, "SELECT COUNT(*) FROM mine.c WHERE id = 1"), 1);
    // A right that its account lost counts with the next run; nothing is read with more.
    root.query_drop("REVOKE SELECT ON s.* FROM owner@localhost").unwrap();
    root.query_drop("UPDATE s.t SET body = 'A secret.' WHERE id = 2").unwrap();
    for conn in [&mut owner, &mut other] {
        let _ = server_error(conn.query::<Row, _>("CALL ai.refresh_chunks('mine.c', NULL)"));
    }
    let (status, note): (String, String) =
        owner.query_first("SELECT status, note FROM ai.chunk_tables").unwrap().unwrap();
    assert_eq!(status, "stale", "{note}");
    owner.query_drop("DO ai_refresh_chunks('mine.c' AS chunk_table, NULL AS options, 'event' AS caller)").unwrap();
    let error: String = owner.query_first("SELECT last_error FROM ai.chunk_tables").unwrap().unwrap();
    assert!(error.contains("s.t") || error.contains("'t'"), "{error}");
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM mine.c WHERE chunk LIKE '%secret%'"), 0);
    root.query_drop("GRANT SELECT ON s.* TO owner@localhost").unwrap();
    // An account records changes of its own chunk tables only.
    let (view, id): (String, u64) = root
        .query_first(
            "SELECT TABLE_NAME, (SELECT chunk_table_id FROM mysql_ml.chunk_tables) FROM information_schema.VIEWS \
             WHERE TABLE_SCHEMA = 'mysql_ml'",
        )
        .unwrap()
        .unwrap();
    let insert = |id| format!("INSERT INTO mysql_ml.`{view}` (chunk_table_id, row_key) VALUES ({id}, '1')");
    owner.query_drop(insert(id)).unwrap();
    assert_eq!(server_error(owner.query::<Row, _>(insert(id + 1))).0, 1369);
    call(&mut owner, "CALL ai.refresh_chunks('mine.c', NULL)");
    assert_eq!(number(&mut owner, "SELECT COUNT(*) FROM mine.c WHERE chunk LIKE '%secret%'"), 1);
    // Nothing of its rights stays.
    call(&mut owner, "CALL ai.drop_chunks('mine.c', '{\"drop_table\": true}')");
    let grants: Vec<String> = root.query("SHOW GRANTS FOR owner@localhost").unwrap();
    assert!(!grants.iter().any(|grant| grant.contains("chunk_changes")), "{grants:?}");
}

#[test]
fn a_view_in_the_place_of_a_table_is_not_opened() {
    let running = start();
    let mut root = prepare(&running, 5);
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    root.query_drop("CREATE TABLE s.private (id INT PRIMARY KEY, body TEXT)").unwrap();
    root.query_drop("INSERT INTO s.private VALUES (1, 'A secret.')").unwrap();
    call(&mut root, CREATE);
    root.query_drop("RENAME TABLE s.t TO s.was").unwrap();
    root.query_drop("CREATE SQL SECURITY INVOKER VIEW s.t AS SELECT id, 0 AS kind, body FROM s.private").unwrap();
    let (_, message) = server_error(root.query::<Row, _>(REFRESH));
    assert!(message.contains("is a view"), "{message}");
    root.query_drop("DROP VIEW s.t").unwrap();
    root.query_drop("RENAME TABLE s.was TO s.t, s.c TO s.kept").unwrap();
    root.query_drop("CREATE SQL SECURITY INVOKER VIEW s.c AS SELECT * FROM s.kept").unwrap();
    let (_, message) = server_error(root.query::<Row, _>("CALL ai.refresh_chunks('s.c', '{\"full\": true}')"));
    assert!(message.contains("does not exist"), "{message}");
    root.query_drop("DROP VIEW s.c").unwrap();
    root.query_drop("RENAME TABLE s.kept TO s.c").unwrap();
    call(&mut root, REFRESH);
    assert_eq!(differences(&mut root), 0);
}

#[test]
fn a_replica_gets_the_chunks_and_takes_over() {
    let options = |id| replicating(id).into_iter().chain(["--log-bin-trust-function-creators=ON"]).collect::<Vec<_>>();
    let source = start_bare(&options("--server-id=1"), &[]);
    let replica = start_bare(&options("--server-id=2"), &[]);
    source.install();
    let mut at_source = prepare(&source, 20);
    call(&mut at_source, CREATE);
    replicate(&source, &replica);
    let mut at_replica = replica.root();
    at_source.query_drop("UPDATE s.t SET body = 'A text of the source. It is cut there.' WHERE id = 1").unwrap();
    wait_until("no event is at work", || at_source.query::<Row, _>(REFRESH).is_ok());
    at_source.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    follow(&source, &replica);
    assert_eq!(differences(&mut at_replica), 0);
    let (_, message) = server_error(at_replica.query::<Row, _>(REFRESH));
    assert!(message.contains("read-only"), "{message}");
    let note: String = at_replica.query_first("SELECT note FROM ai.chunk_tables").unwrap().unwrap();
    assert!(note.contains("its event is replica side disabled"), "{note}");
    // It takes over: triggers record changes, and a refresh makes the event run here.
    take_over(&replica);
    at_replica.query_drop("UPDATE s.t SET body = 'A text of the new source.' WHERE id = 2").unwrap();
    call(&mut at_replica, REFRESH);
    assert_eq!(differences(&mut at_replica), 0);
    let status: String = at_replica.query_first("SELECT status FROM ai.chunk_tables").unwrap().unwrap();
    assert_eq!(status, "ready");
}
