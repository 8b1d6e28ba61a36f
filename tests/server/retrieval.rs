//! Searches by words, reranking and answers on a real server: rights, snapshots, KILL, rows that go meanwhile.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mysql::prelude::Queryable;
use mysql::{Conn, Row};

use crate::common::{server_error, start, wait_until, Running};

/// Notes with words and vectors, and a language model.
fn prepare(running: &Running) -> Conn {
    let mut root = running.root();
    let url = running.endpoint.url("/v1/chat/completions");
    root.exec_drop(
        "CALL mysql.ml_create_model_registration('chat', ?, 'open_ai', 'llm', 'gpt-test', NULL, NULL, NULL, NULL, NULL)",
        (url,),
    )
    .unwrap();
    root.exec_drop(
        "CALL mysql.ml_create_model_registration('m', ?, 'open_ai', 'text_embedding', 'test-2', NULL, NULL, NULL, NULL, NULL)",
        (running.endpoint.url("/v1/embeddings"),),
    )
    .unwrap();
    for statement in [
        "CREATE DATABASE s",
        "CREATE TABLE s.t (id INT PRIMARY KEY, kind INT, body TEXT, v VECTOR(2), FULLTEXT (body))",
        "INSERT INTO s.t VALUES (1, 0, 'red words', STRING_TO_VECTOR('[1, 0]')), (2, 1, 'green words', STRING_TO_VECTOR('[0.9, 0.1]')), \
         (3, 0, 'blue things', STRING_TO_VECTOR('[0, 1]'))",
    ] {
        root.query_drop(statement).unwrap();
    }
    root
}

fn call(options: &str) -> String {
    format!("CALL ai.search('s.t', 'v', '[1, 0]', 3, '{{\"columns\": [\"id\"], {options}}}')")
}

const WORDS: &str = r#""text_column": "body", "text": "words""#;
const RANKED: &str = r#""text": "words", "rerank": "chat", "rerank_column": "body""#;

fn ids(conn: &mut Conn, statement: &str) -> Vec<i32> {
    let rows: Vec<Row> = conn.query(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
    rows.into_iter().map(|row| row.get("id").unwrap()).collect()
}

fn id_of(conn: &mut Conn) -> u64 {
    conn.query_first("SELECT CONNECTION_ID()").unwrap().unwrap()
}

fn waits_for(root: &mut Conn, connection: u64, state: &str) {
    wait_until(state, || {
        let rows: Vec<Row> = root.query("SHOW PROCESSLIST").unwrap();
        rows.iter().any(|row| {
            row.get::<u64, _>("Id") == Some(connection)
                && row.get::<Option<String>, _>("State").flatten().is_some_and(|now| now.contains(state))
        })
    });
}

#[test]
fn words_and_texts_are_read_with_the_callers_rights_only() {
    let running = start();
    let mut root = prepare(&running);
    for statement in [
        "CREATE USER reader@localhost, half@localhost, weak@localhost, other@localhost",
        "GRANT `ml_user` TO reader@localhost, half@localhost, other@localhost",
        "SET DEFAULT ROLE ALL TO reader@localhost, half@localhost, other@localhost",
        "GRANT SELECT ON s.t TO reader@localhost, weak@localhost",
        "GRANT SELECT (id, v) ON s.t TO half@localhost",
        "GRANT EXECUTE ON PROCEDURE ai.search TO weak@localhost",
        "GRANT EXECUTE ON PROCEDURE ai.answer TO weak@localhost",
        "GRANT EXECUTE ON FUNCTION mysql_ml.vector_candidates TO weak@localhost",
    ] {
        root.query_drop(statement).unwrap();
    }
    let answer = r#"CALL ai.answer('words', 's.t', '{"column": "v", "model_id": "chat", "source_column": "body", "search": {"model_id": "m"}}')"#;
    let mut reader = running.server.connect("reader").unwrap();
    assert_eq!(ids(&mut reader, &call(WORDS)), [1, 2, 3]);
    assert_eq!(ids(&mut reader, &call(RANKED)).len(), 3);
    // Columns that an account may not read, tables that it may not see.
    for (account, may_search) in [("half", true), ("other", false)] {
        let mut conn = running.server.connect(account).unwrap();
        assert_eq!(conn.query::<Row, _>(call(r#""recall": 1"#)).is_ok(), may_search, "{account}");
        for refused in [call(WORDS), call(RANKED), call(r#""where": "body LIKE ''%''""#), answer.to_owned()] {
            let (code, message) = server_error(conn.query::<Row, _>(&refused));
            assert!(matches!(code, 1142 | 1143 | 1054 | 3200), "{account}: {refused}: {code} {message}");
        }
    }
    // EXECUTE on ai.search is none on ai.rerank, and on ai.answer none on the model's other functions.
    let mut weak = running.server.connect("weak").unwrap();
    assert_eq!(ids(&mut weak, &call(WORDS)), [1, 2, 3]);
    let (code, message) = server_error(weak.query::<Row, _>(call(RANKED)));
    assert!(message.contains("ai.rerank"), "{code} {message}");
    root.query_drop("REVOKE EXECUTE ON PROCEDURE ai.answer FROM weak@localhost").unwrap();
    let (_, message) =
        server_error(weak.query::<String, _>(r#"SELECT ai_answer('q', '["x"]', '{"model_id": "chat"}')"#));
    assert!(message.contains("ai.answer"), "{message}");
}

#[test]
fn a_search_by_words_returns_no_row_that_its_snapshot_lacks() {
    let running = start();
    let mut root = prepare(&running);
    let mut other = running.root();
    other.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").unwrap();
    other.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").unwrap();
    root.query_drop("INSERT INTO s.t VALUES (4, 0, 'new words', NULL)").unwrap();
    root.query_drop("UPDATE s.t SET body = 'no more' WHERE id = 1").unwrap();
    root.query_drop("DELETE FROM s.t WHERE id = 2").unwrap();
    // By their vectors, the rows of the snapshot; row 4 has only words.
    assert_eq!(ids(&mut other, &call(WORDS)), [1, 2, 3]);
    other.query_drop("COMMIT").unwrap();
    assert_eq!(ids(&mut other, &call(WORDS)), [1, 4, 3]);

    // While others write, every row passes the filter and has its exact distance in the snapshot.
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..2 {
            let (ended, mut conn) = (&ended, running.root());
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(writer);
                while !ended.load(Ordering::SeqCst) {
                    let id = rng.u32(1..200);
                    let word = ["red", "green", "words"][rng.usize(..3)];
                    let statement = match rng.u8(..3) {
                        0 => format!("DELETE FROM s.t WHERE id = {id}"),
                        1 => format!("UPDATE s.t SET body = '{word}', kind = kind + 1 WHERE id = {id}"),
                        _ => format!(
                            "REPLACE INTO s.t VALUES ({id}, {}, '{word} words', STRING_TO_VECTOR('[{}, {}]'))",
                            rng.u8(..3),
                            rng.f32(),
                            rng.f32()
                        ),
                    };
                    match conn.query_drop(&statement) {
                        Ok(()) => {}
                        // A deadlock of the two writers.
                        Err(mysql::Error::MySqlError(e)) if e.code == 1213 => {}
                        Err(e) => panic!("{statement}: {e}"),
                    }
                }
            });
        }
        let mut found = 0;
        for _ in 0..25 {
            other.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").unwrap();
            let rows: Vec<(i32, Option<f64>, f64, Option<f64>)> =
                other.query(call(&format!(r#"{WORDS}, "where": "kind < 2""#))).unwrap();
            for (id, distance, ..) in &rows {
                let exact: Option<(Option<f64>, i32)> = other
                    .query_first(format!(
                        "SELECT cosine_distance(v, STRING_TO_VECTOR('[1, 0]')), kind FROM s.t WHERE id = {id}"
                    ))
                    .unwrap();
                let (exact, kind) = exact.expect("a row of the snapshot");
                assert!(exact == *distance && kind < 2, "{id}: {exact:?} {distance:?} {kind}");
            }
            let distinct: HashSet<i32> = rows.iter().map(|row| row.0).collect();
            assert_eq!(distinct.len(), rows.len());
            assert!(rows.windows(2).all(|pair| pair[0].2 >= pair[1].2), "{rows:?}");
            found += rows.len();
            other.query_drop("COMMIT").unwrap();
        }
        ended.store(true, Ordering::SeqCst);
        assert!(found > 25, "{found}");
    });
}

#[test]
fn a_kill_ends_a_search_that_waits_for_its_reranker_and_a_row_deleted_meanwhile_is_not_returned() {
    let running = start();
    let mut root = prepare(&running);
    root.query_drop("UPDATE s.t SET body = 'words [[slow:60000]]' WHERE id = 3").unwrap();
    let open = "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id = ";
    let answer = r#"CALL ai.answer('words [[slow:60000]]', 's.t', '{"column": "v", "k": 1, "model_id": "chat", "source_column": "body", "search": {"model_id": "m"}}')"#;
    for (statement, state, transactions) in
        [(call(RANKED), "waiting for a model: ai_rerank", 1), (answer.to_owned(), "waiting for a model: ai_answer", 0)]
    {
        let mut worker = running.root();
        let id = id_of(&mut worker);
        let waiting = thread::spawn(move || {
            let error = server_error(worker.query::<Row, _>(statement));
            (error, worker)
        });
        waits_for(&mut root, id, state);
        // The search's own transaction is over before an answer is asked for.
        let during: u64 = root.query_first(format!("{open}{id}")).unwrap().unwrap();
        assert_eq!(during, transactions, "{state}");
        root.query_drop(format!("KILL QUERY {id}")).unwrap();
        let ((code, message), mut worker) = waiting.join().unwrap();
        assert_eq!(code, 1317, "{message}");
        // No transaction stays open: what the connection writes next is seen by others.
        worker.query_drop("INSERT INTO s.t (id) VALUES (99)").unwrap();
        assert_eq!(root.query_first("SELECT id FROM s.t WHERE id = 99").unwrap(), Some(99), "{state}");
        worker.query_drop("DELETE FROM s.t WHERE id = 99").unwrap();
        assert_eq!(ids(&mut worker, &call(WORDS)).len(), 3);
    }
    // In READ COMMITTED each statement has its own snapshot, and the last one decides.
    root.query_drop("UPDATE s.t SET body = 'words [[slow:3000]]' WHERE id = 3").unwrap();
    let mut worker = running.root();
    let id = id_of(&mut worker);
    let waiting = thread::spawn(move || {
        worker.query_drop("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").unwrap();
        worker.query_drop("START TRANSACTION").unwrap();
        ids(&mut worker, &call(RANKED))
    });
    waits_for(&mut root, id, "waiting for a model: ai_rerank");
    root.query_drop("DELETE FROM s.t WHERE id = 1").unwrap();
    let found: HashSet<i32> = waiting.join().unwrap().into_iter().collect();
    assert_eq!(found, HashSet::from([2, 3]));
}
