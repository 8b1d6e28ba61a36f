//! Automatic embeddings on a real server: the event that fills changed rows, and what happens to it when the server
//! restarts, another server takes over, the endpoint fails, or the table goes away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use common::{start, start_bare, wait_until, Running};
use mysql::prelude::Queryable;
use mysql::Conn;
use xtask::sqlscript;

/// A model at a path of the endpoint, and a table that is kept embedded by an event that runs each second.
fn prepare(running: &Running, path: &str) -> Conn {
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", path);
    conn.query_drop("CREATE DATABASE e").unwrap();
    conn.query_drop("CREATE TABLE e.t (id INT PRIMARY KEY AUTO_INCREMENT, body TEXT, v VECTOR(8))").unwrap();
    conn.query_drop("INSERT INTO e.t (body) VALUES ('one'), ('two'), (NULL)").unwrap();
    conn.query_drop("CALL ai.initialize_embeddings('m', 'e.t', 'body', 'v', NULL, 'transactional')").unwrap();
    let event = event(&mut conn).expect("there is an event");
    conn.query_drop(format!("ALTER EVENT e.`{event}` ON SCHEDULE EVERY 1 SECOND")).unwrap();
    conn
}

fn event(conn: &mut Conn) -> Option<String> {
    conn.query_first("SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'e'").unwrap()
}

fn count(conn: &mut Conn, query: &str) -> u64 {
    conn.query_first(query).unwrap().unwrap()
}

/// Rows that lack a vector, or have another text's.
fn stale(conn: &mut Conn) -> u64 {
    count(conn, "SELECT COUNT(*) FROM e.t WHERE body IS NOT NULL AND (v IS NULL OR v <> mysql.ml_embedding('m', body))")
}

/// Triggers, events and notes of the library about tables of the schema.
fn debris(conn: &mut Conn) -> u64 {
    count(
        conn,
        "SELECT (SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'e') + \
         (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'e') + \
         (SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_configs) + \
         (SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_progress) + \
         (SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_failures)",
    )
}

/// Waits until the event has begun to run, and run to its end, `n` times more.
fn runs(conn: &mut Conn, n: usize) {
    for _ in 0..=n {
        let last = |conn: &mut Conn| {
            conn.query_first::<Option<String>, _>(
                "SELECT CAST(LAST_EXECUTED AS CHAR) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'e'",
            )
            .unwrap()
        };
        let before = last(conn);
        wait_until("the event runs", || last(conn) != before);
    }
}

#[test]
fn the_event_fills_new_and_changed_rows_also_after_a_restart() {
    let mut running = start();
    let mut conn = prepare(&running, "/v1/embeddings");
    assert_eq!(stale(&mut conn), 0);
    conn.query_drop("INSERT INTO e.t (body) VALUES ('three')").unwrap();
    conn.query_drop("UPDATE e.t SET body = 'ONE' WHERE id = 1").unwrap();
    wait_until("the event fills the rows", || stale(&mut conn) == 0);
    // What is written can be seen a moment before the run has ended.
    wait_until("the run is told as finished", || {
        let row: Option<(String, Option<String>)> =
            conn.query_first("SELECT status, last_error FROM ai.embedding_progress_view").unwrap();
        row.is_some_and(|(status, error)| status == "finished" && error.is_none())
    });

    drop(conn);
    running.server.restart().unwrap();
    let mut conn = running.root();
    conn.query_drop("UPDATE e.t SET body = 'three again' WHERE id = 4").unwrap();
    wait_until("the event fills the row", || stale(&mut conn) == 0);
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn the_event_is_patient_with_rows_and_endpoints_that_fail() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings");
    // The endpoint refuses an empty text, each time.
    conn.query_drop("INSERT INTO e.t (body) VALUES ('')").unwrap();
    wait_until("the row fails", || count(&mut conn, "SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_failures") == 1);
    let asked = running.endpoint.count();
    runs(&mut conn, 2);
    assert_eq!(running.endpoint.count(), asked, "a row that failed is not sent again at once");
    conn.query_drop("INSERT INTO e.t (body) VALUES ('another')").unwrap();
    wait_until("its neighbour is done", || {
        count(&mut conn, "SELECT COUNT(*) FROM e.t WHERE body = 'another' AND v IS NOT NULL") == 1
    });
    assert_eq!(running.endpoint.count(), asked + 1);

    conn.query_drop(format!(
        "CALL mysql.ml_alter_model_registration('m', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        running.endpoint.url("/status/401")
    ))
    .unwrap();
    conn.query_drop("INSERT INTO e.t (body) VALUES ('later')").unwrap();
    let error = |conn: &mut Conn| {
        conn.query_first::<Option<String>, _>("SELECT last_error FROM ai.embedding_progress_view").unwrap().flatten()
    };
    wait_until("the endpoint's refusal is told", || error(&mut conn).is_some_and(|e| e.contains("401")));
    let asked = running.endpoint.count();
    runs(&mut conn, 2);
    assert_eq!(running.endpoint.count(), asked, "an endpoint that refuses everything is left alone for a while");
    assert_eq!(running.errors_in_log(), Vec::<String>::new(), "the error log is not filled");

    // Whoever mends it does not have to wait.
    conn.query_drop(format!(
        "CALL mysql.ml_alter_model_registration('m', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        running.endpoint.url("/v1/embeddings")
    ))
    .unwrap();
    conn.query_drop("UPDATE e.t SET body = 'mended' WHERE body = ''").unwrap();
    conn.query_drop("CALL ai.refresh_embeddings('e.t', 'v', NULL)").unwrap();
    assert_eq!(stale(&mut conn), 0);
    assert_eq!(error(&mut conn), None);
    assert_eq!(count(&mut conn, "SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_failures"), 0);
}

#[test]
fn what_is_dropped_leaves_nothing_behind() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings");
    conn.query_drop("ALTER TABLE e.t DROP COLUMN v").unwrap();
    conn.query_drop("UPDATE e.t SET body = 'still writable'").unwrap();
    wait_until("the event removes itself and the trigger", || debris(&mut conn) == 0);
    assert!(running.server.error_log().contains("its automatic embeddings are removed"));

    conn.query_drop("ALTER TABLE e.t ADD v VECTOR(8)").unwrap();
    conn.query_drop("CALL ai.initialize_embeddings('m', 'e.t', 'body', 'v', NULL, 'transactional')").unwrap();
    let event = event(&mut conn).unwrap();
    conn.query_drop(format!("ALTER EVENT e.`{event}` ON SCHEDULE EVERY 1 SECOND")).unwrap();
    conn.query_drop("DROP TABLE e.t").unwrap();
    wait_until("the event removes itself", || debris(&mut conn) == 0);

    // A schema takes trigger and event with it; the rest goes when somebody asks.
    conn.query_drop("DROP DATABASE e").unwrap();
    let mut conn = prepare_again(&running);
    conn.query_drop("DROP DATABASE e").unwrap();
    conn.query_drop("CALL ai.drop_embedding_config(NULL, NULL)").unwrap();
    // The event may have been running.
    wait_until("nothing is left", || debris(&mut conn) == 0);
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

fn prepare_again(running: &Running) -> Conn {
    running.root().query_drop("CALL mysql.ml_drop_model_registration('m')").unwrap();
    prepare(running, "/v1/embeddings")
}

#[test]
fn without_the_library_the_table_works_and_nothing_is_logged() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings");
    sqlscript::run(&mut conn, &common::script("uninstall.sql"), "uninstall.sql").unwrap();
    conn.query_drop("UPDATE e.t SET body = 'changed' WHERE id = 1").unwrap();
    runs(&mut conn, 1);
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
    // Installed again, it goes on.
    running.install();
    let mut conn = running.root();
    wait_until("the event fills the row", || stale(&mut conn) == 0);

    let all = format!("SET @mysql_ml_drop_registrations = 1;\n{}", common::script("uninstall.sql"));
    sqlscript::run(&mut conn, &all, "uninstall.sql").unwrap();
    let left = "SELECT (SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'e') + \
         (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'e') + \
         (SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'ai')";
    assert_eq!(count(&mut conn, left), 0);
}

#[test]
fn a_replica_takes_over() {
    let replicating = |id: &'static str| {
        ["--log-bin=binlog", "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--relay-log=relay", id]
    };
    let source = start_bare(&replicating("--server-id=1"), &[]);
    let mut replica = start_bare(&replicating("--server-id=2"), &[]);
    source.install();
    let mut at_source = source.root();
    at_source.query_drop("CREATE USER repl@'%'").unwrap();
    at_source.query_drop("GRANT REPLICATION SLAVE ON *.* TO repl@'%'").unwrap();
    let mut at_replica = replica.root();
    at_replica
        .query_drop(format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, SOURCE_USER = 'repl', \
             SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
            source.server.port()
        ))
        .unwrap();
    at_replica.query_drop("START REPLICA").unwrap();
    at_replica.query_drop("SET GLOBAL super_read_only = ON").unwrap();
    drop(prepare(&source, "/v1/embeddings"));
    at_source.query_drop("INSERT INTO e.t (body) VALUES ('three')").unwrap();
    wait_until("the source fills the row", || stale(&mut at_source) == 0);
    let done: String = at_source.query_first("SELECT @@GLOBAL.gtid_executed").unwrap().unwrap();
    let waited: u8 = at_replica.exec_first("SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 60)", (&done,)).unwrap().unwrap();
    assert_eq!(waited, 0, "the replica follows: {:?}", replica.errors_in_log());
    assert_eq!(count(&mut at_replica, "SELECT COUNT(v) FROM e.t"), 3);

    // The source is lost.
    at_source.query_drop("INSERT INTO e.t (body) VALUES ('lost')").unwrap();
    drop(source);
    at_replica.query_drop("STOP REPLICA").unwrap();
    at_replica.query_drop("RESET REPLICA ALL").unwrap();
    at_replica.query_drop("SET GLOBAL super_read_only = OFF").unwrap();
    at_replica.query_drop("SET GLOBAL read_only = OFF").unwrap();
    at_replica
        .query_drop(format!(
            "CALL mysql.ml_alter_model_registration('m', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
            replica.endpoint.url("/v1/embeddings")
        ))
        .unwrap();
    at_replica.query_drop("UPDATE e.t SET body = 'TWO' WHERE id = 2").unwrap();
    assert_eq!(count(&mut at_replica, "SELECT COUNT(*) FROM e.t WHERE id = 2 AND v IS NULL"), 1, "the trigger is here");
    at_replica.query_drop("CALL ai.refresh_embeddings(NULL, NULL, NULL)").unwrap();
    assert_eq!(stale(&mut at_replica), 0);
    // From here on the event runs here.
    at_replica.query_drop("UPDATE e.t SET body = 'ONE' WHERE id = 1").unwrap();
    wait_until("the event fills the row", || stale(&mut at_replica) == 0);
    drop(at_replica);
    replica.server.restart().unwrap();
}
