//! Automatic embeddings on a real server. The event embeds changed rows; the tests cover restarts, failovers, failing
//! endpoints and dropped tables.

use crate::common::{self, follow, replicate, replicating, start, start_bare, take_over, wait_until, Running};
use mysql::prelude::Queryable;
use mysql::Conn;
use testkit::sqlscript;

/// A model at a path of the endpoint, and a table that is kept embedded by an event that runs each second.
fn prepare(running: &Running, path: &str) -> Conn {
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", path);
    conn.query_drop("CREATE DATABASE e").unwrap();
    conn.query_drop("CREATE TABLE e.t (id INT PRIMARY KEY AUTO_INCREMENT, body TEXT, v VECTOR(8))").unwrap();
    conn.query_drop("INSERT INTO e.t (body) VALUES ('one'), ('two'), (NULL)").unwrap();
    conn.query::<mysql::Row, _>("CALL ai.initialize_embeddings('m', 'e.t', 'body', 'v', NULL, 'transactional')")
        .unwrap();
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

/// Rows without a vector, or with another text's.
fn stale(conn: &mut Conn) -> u64 {
    count(conn, "SELECT COUNT(*) FROM e.t WHERE body IS NOT NULL AND (v IS NULL OR v <> mysql.ml_embedding('m', body))")
}

/// Triggers, events and records of the library for tables of the schema.
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

fn text(conn: &mut Conn, query: &str) -> Option<String> {
    conn.query_first::<Option<String>, _>(query).unwrap().flatten()
}

/// `(status, note)` of the only column.
fn progress(conn: &mut Conn) -> (String, String) {
    loop {
        let row: (String, Option<String>) =
            conn.query_first("SELECT status, note FROM ai.embedding_progress_view").unwrap().unwrap();
        // The event may be running.
        if row.0 != "running" {
            return (row.0, row.1.unwrap_or_default());
        }
    }
}

/// Waits until the event has begun and finished `n` more runs.
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
    // Vectors are visible a moment before the run's end.
    wait_until("the run is reported as finished", || {
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
    // The endpoint refuses every empty text.
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
    wait_until("the endpoint's refusal is reported", || error(&mut conn).is_some_and(|e| e.contains("401")));
    let asked = running.endpoint.count();
    runs(&mut conn, 2);
    assert_eq!(running.endpoint.count(), asked, "an endpoint that refuses everything is left alone for a while");
    assert_eq!(running.errors_in_log(), Vec::<String>::new(), "the error log is not filled");

    // After a repair, a manual refresh does not wait.
    conn.query_drop(format!(
        "CALL mysql.ml_alter_model_registration('m', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        running.endpoint.url("/v1/embeddings")
    ))
    .unwrap();
    conn.query_drop("UPDATE e.t SET body = 'mended' WHERE body = ''").unwrap();
    conn.query::<mysql::Row, _>("CALL ai.refresh_embeddings('e.t', 'v', NULL)").unwrap();
    assert_eq!(stale(&mut conn), 0);
    assert_eq!(error(&mut conn), None);
    assert_eq!(count(&mut conn, "SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_failures"), 0);
}

#[test]
fn a_dropped_column_leaves_nothing_behind() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings");
    conn.query_drop("ALTER TABLE e.t DROP COLUMN v").unwrap();
    conn.query_drop("UPDATE e.t SET body = 'still writable'").unwrap();
    wait_until("the event removes itself and the trigger", || debris(&mut conn) == 0);
    assert!(running.server.error_log().contains("its automatic embeddings are removed"));

    conn.query_drop("ALTER TABLE e.t ADD v VECTOR(8)").unwrap();
    conn.query::<mysql::Row, _>("CALL ai.initialize_embeddings('m', 'e.t', 'body', 'v', NULL, 'transactional')")
        .unwrap();
    let event = event(&mut conn).unwrap();
    conn.query_drop(format!("ALTER EVENT e.`{event}` ON SCHEDULE EVERY 1 SECOND")).unwrap();
    conn.query_drop("DROP TABLE e.t").unwrap();
    wait_until("the event removes itself", || debris(&mut conn) == 0);

    // DROP DATABASE drops trigger and event; the next call removes the rest.
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
    // After the next installation it continues.
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
    let source = start_bare(&replicating("--server-id=1"), &[]);
    let mut replica = start_bare(&replicating("--server-id=2"), &[]);
    source.install();
    replicate(&source, &replica);
    let (mut at_source, mut at_replica) = (source.root(), replica.root());
    drop(prepare(&source, "/v1/embeddings"));
    at_source.query_drop("INSERT INTO e.t (body) VALUES ('three')").unwrap();
    wait_until("the source fills the row", || stale(&mut at_source) == 0);
    follow(&source, &replica);
    assert_eq!(count(&mut at_replica, "SELECT COUNT(v) FROM e.t"), 3);

    // The source crashes.
    at_source.query_drop("INSERT INTO e.t (body) VALUES ('lost')").unwrap();
    drop(source);
    take_over(&replica);
    let note = |conn: &mut Conn| text(conn, "SELECT note FROM ai.embedding_progress_view");
    assert!(note(&mut at_replica).unwrap().contains("came by replication"));
    at_replica
        .query_drop(format!(
            "CALL mysql.ml_alter_model_registration('m', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
            replica.endpoint.url("/v1/embeddings")
        ))
        .unwrap();
    at_replica.query_drop("UPDATE e.t SET body = 'TWO' WHERE id = 2").unwrap();
    assert_eq!(count(&mut at_replica, "SELECT COUNT(*) FROM e.t WHERE id = 2 AND v IS NULL"), 1, "the trigger is here");
    // Any call detects that this server is the source now; from then on the event runs here.
    wait_until("the event fills the row", || stale(&mut at_replica) == 0);
    assert!(replica.server.error_log().contains("runs on this server now"));
    assert_eq!(note(&mut at_replica), None);
    at_replica.query_drop("UPDATE e.t SET body = 'ONE' WHERE id = 1").unwrap();
    at_replica.query_drop("CALL ai.refresh_embeddings(NULL, NULL, NULL)").unwrap();
    assert_eq!(stale(&mut at_replica), 0);
    drop(at_replica);
    replica.server.restart().unwrap();
}

/// A member of a group in single-primary mode, before joining.
fn member(number: usize, ports: &[u16; 2]) -> Running {
    let seeds = ports.map(|port| format!("127.0.0.1:{port}"));
    let loose = |name: &str, value: &str| format!("--loose-group-replication-{name}={value}");
    let options = [
        "--log-bin=binlog".to_owned(),
        "--gtid-mode=ON".to_owned(),
        "--enforce-gtid-consistency=ON".to_owned(),
        "--relay-log=relay".to_owned(),
        "--report-host=127.0.0.1".to_owned(),
        "--plugin-load-add=group_replication.so".to_owned(),
        format!("--server-id={}", number + 1),
        loose("group-name", "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"),
        loose("start-on-boot", "OFF"),
        loose("local-address", &seeds[number]),
        loose("group-seeds", &seeds.join(",")),
        loose("recovery-get-public-key", "ON"),
    ];
    start_bare(&options.each_ref().map(String::as_str), &[])
}

#[test]
fn the_next_primary_of_a_group_takes_over() {
    let sockets = [(); 2].map(|()| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let ports = sockets.each_ref().map(|socket| socket.local_addr().unwrap().port());
    drop(sockets);
    let mut first = member(0, &ports);
    if !first.server.plugin_dir().join("group_replication.so").exists() {
        return common::site::skip("the test with Group Replication: the server has not got it");
    }
    let second = member(1, &ports);
    let (mut primary, mut other) = (first.root(), second.root());
    let channel = "CHANGE REPLICATION SOURCE TO SOURCE_USER = 'repl' FOR CHANNEL 'group_replication_recovery'";
    for statement in [
        "SET GLOBAL group_replication_bootstrap_group = ON",
        "CREATE USER repl@'%'",
        "GRANT REPLICATION SLAVE, CONNECTION_ADMIN, BACKUP_ADMIN, GROUP_REPLICATION_STREAM ON *.* TO repl@'%'",
        channel,
        "START GROUP_REPLICATION",
        "SET GLOBAL group_replication_bootstrap_group = OFF",
    ] {
        primary.query_drop(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    first.install();
    for statement in ["RESET BINARY LOGS AND GTIDS", channel, "START GROUP_REPLICATION"] {
        other.query_drop(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    for statement in [
        "CALL mysql.ml_create_model_registration('words', NULL, 'dummy', 'text_embedding', NULL, NULL, NULL, NULL, NULL, NULL)",
        "CREATE DATABASE e",
        "CREATE TABLE e.t (id INT PRIMARY KEY AUTO_INCREMENT, body TEXT, v VECTOR(384))",
        "INSERT INTO e.t (body) VALUES ('one'), ('two')",
        "CALL ai.initialize_embeddings('words', 'e.t', 'body', 'v', NULL, 'transactional')",
        "INSERT INTO e.t (body) VALUES ('three')",
        "CALL ai.refresh_embeddings(NULL, NULL, NULL)",
    ] {
        primary.query_drop(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    let lacking = |conn: &mut Conn| count(conn, "SELECT COUNT(*) FROM e.t WHERE v IS NULL");
    assert_eq!(lacking(&mut primary), 0);
    let rows = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'e'";
    wait_until("the second member has the table", || count(&mut other, rows) == 1);
    wait_until("and its rows", || count(&mut other, "SELECT COUNT(v) FROM e.t") == 3);
    assert!(progress(&mut other).1.contains("came by replication"));

    drop(primary);
    first.server.shutdown().unwrap();
    wait_until("the second member is the primary", || count(&mut other, "SELECT @@GLOBAL.super_read_only") == 0);
    other.query_drop("INSERT INTO e.t (body) VALUES ('four')").unwrap();
    let event = event(&mut other).expect("the event came too");
    // Any call detects that this server is the primary now.
    wait_until("the event runs on this server", || {
        other.query_drop("DO mysql.ml_embedding('words', 'a call')").unwrap();
        let on = format!(
            "SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_NAME = '{event}' AND STATUS = 'ENABLED'"
        );
        count(&mut other, &on) == 1
    });
    other.query_drop(format!("ALTER EVENT e.`{event}` ON SCHEDULE EVERY 1 SECOND")).unwrap();
    wait_until("the event fills the row", || lacking(&mut other) == 0);
    assert_eq!(progress(&mut other), ("finished".to_owned(), String::new()));
    assert!(second.server.error_log().contains("runs on this server now"));
}

#[test]
fn a_vector_does_not_outlive_its_text_and_is_no_change_of_the_row() {
    let running = start();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", "/v1/embeddings");
    for statement in [
        "CREATE DATABASE e",
        "CREATE TABLE e.t (id INT PRIMARY KEY, body TEXT, v VECTOR(8), v_hash BINARY(32), \
         at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)",
        "INSERT INTO e.t (id, body, at) VALUES (1, 'one', '2020-01-01'), (2, 'two', '2020-01-01'), (3, 'three', '2020-01-01'), \
         (4, 'four', '2020-01-01')",
    ] {
        conn.query_drop(statement).unwrap();
    }
    let embed = |conn: &mut Conn, options: &str| {
        conn.exec::<mysql::Row, _, _>("CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', ?)", (options,)).unwrap()
    };
    let untouched = |conn: &mut Conn| count(conn, "SELECT COUNT(*) FROM e.t WHERE at = '2020-01-01'");
    let filled = |conn: &mut Conn| -> Vec<u32> {
        conn.query("SELECT id FROM e.t WHERE v IS NOT NULL AND v_hash IS NOT NULL ORDER BY id").unwrap()
    };
    embed(&mut conn, "{}");
    assert_eq!((untouched(&mut conn), filled(&mut conn)), (4, vec![1, 2, 3, 4]));
    // A NULL text and a text that the endpoint refuses; the filter excludes others.
    conn.query_drop("UPDATE e.t SET body = IF(id = 1, NULL, ''), at = at WHERE id <= 3").unwrap();
    embed(&mut conn, r#"{"where": "id <> 3"}"#);
    assert_eq!((untouched(&mut conn), filled(&mut conn)), (4, vec![3, 4]));
    conn.query_drop("UPDATE e.t SET body = NULL, at = at WHERE id = 4").unwrap();
    conn.query::<mysql::Row, _>("CALL ai.initialize_embeddings('m', 'e.t', 'body', 'v', NULL, 'manual')").unwrap();
    assert_eq!((untouched(&mut conn), filled(&mut conn)), (4, vec![]));
    // Failed rows do not count as done.
    let shown: (String, f64, String) =
        conn.query_first("SELECT status, percent_progress, note FROM ai.embedding_progress_view").unwrap().unwrap();
    assert!(shown.1 < 100.0 && shown.2.contains("2 rows failed"), "{shown:?}");
    conn.query_drop("UPDATE e.t SET body = CONCAT('again ', id)").unwrap();
    conn.query::<mysql::Row, _>("CALL ai.refresh_embeddings('e.t', 'v', NULL)").unwrap();
    assert_eq!(filled(&mut conn), [1, 2, 3, 4]);
    let shown: (f64, Option<String>) =
        conn.query_first("SELECT percent_progress, note FROM ai.embedding_progress_view").unwrap().unwrap();
    assert_eq!(shown, (100.0, None));

    // An account that may not set the timestamp column gets a note that the server does.
    conn.query_drop("CREATE USER app@localhost").unwrap();
    conn.query_drop("GRANT `ml_user` TO app@localhost").unwrap();
    conn.query_drop("GRANT SELECT, UPDATE (v, v_hash) ON e.t TO app@localhost").unwrap();
    conn.query_drop("UPDATE e.t SET v = NULL WHERE id = 1").unwrap();
    let mut app = running.server.connect("app").unwrap();
    app.query_drop("SET ROLE ALL").unwrap();
    let note = text(&mut app, "SELECT ml_embed_table('m', 'e.t', 'body', 'v')").unwrap();
    assert!(note.contains("at is set to the time of the write"), "{note}");
}

#[test]
fn unnoticed_changes_of_a_text_are_reported() {
    let running = start();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", "/v1/embeddings");
    for statement in [
        "CREATE DATABASE e",
        "CREATE TABLE e.author (id INT PRIMARY KEY, name VARCHAR(50))",
        "CREATE TABLE e.t (id INT PRIMARY KEY, author_id INT, title VARCHAR(50), v VECTOR(8), \
         FOREIGN KEY (author_id) REFERENCES e.author (id) ON UPDATE CASCADE)",
        "INSERT INTO e.author VALUES (1, 'Ann')",
        "INSERT INTO e.t VALUES (1, 1, 'Sea', NULL)",
        "CREATE FUNCTION e.name_of(i INT) RETURNS VARCHAR(50) READS SQL DATA RETURN (SELECT name FROM e.author WHERE id = i)",
    ] {
        conn.query_drop(statement).unwrap();
    }
    for (content, expected) in [
        ("CONCAT_WS(' ', title, (SELECT a.name FROM e.author a WHERE a.id = author_id))", "reads other rows"),
        ("CONCAT_WS(' ', title, e.name_of(author_id))", "calls e.name_of"),
        ("CONCAT_WS(' ', title, author_id)", "author_id by a foreign key's cascade"),
    ] {
        let done: Option<String> = conn
            .exec_first("SELECT ml_initialize_embeddings('m', 'e.t', ?, 'v', NULL, 'transactional')", (content,))
            .unwrap();
        assert!(done.as_deref().unwrap().contains(expected), "{done:?}");
        let (status, note) = progress(&mut conn);
        assert!(status == "finished" && note.contains(expected), "{status}: {note}");
        conn.query_drop("CALL ai.drop_embedding_config('e.t', 'v')").unwrap();
    }
    conn.query::<mysql::Row, _>(
        "CALL ai.initialize_embeddings('m', 'e.t', 'CONCAT(title, '' select '')', 'v', NULL, 'transactional')",
    )
    .unwrap();
    assert_eq!(progress(&mut conn), ("finished".to_owned(), String::new()));
    conn.query_drop("CALL ai.drop_embedding_config('e.t', 'v')").unwrap();
    // If the server runs triggers for a cascade there is nothing to note. The setting applies to new sessions.
    conn.query_drop("SET GLOBAL enable_cascade_triggers = ON").unwrap();
    let mut conn = running.root();
    let by_cascade =
        "SELECT ml_initialize_embeddings('m', 'e.t', 'CONCAT_WS('' '', title, author_id)', 'v', NULL, 'transactional')";
    conn.query_drop(by_cascade).unwrap();
    assert_eq!(progress(&mut conn), ("finished".to_owned(), String::new()));
    conn.query_drop("UPDATE e.author SET id = 7").unwrap();
    let right = "SELECT COUNT(*) FROM e.t WHERE v = mysql.ml_embedding('m', 'Sea 7')";
    conn.query_drop("CALL ai.refresh_embeddings('e.t', 'v', NULL)").unwrap();
    assert_eq!(count(&mut conn, right), 1, "the cascade is noticed");
    // Without it the vector stays; the note says so while it is OFF.
    conn.query_drop("SET SESSION enable_cascade_triggers = OFF").unwrap();
    conn.query_drop("UPDATE e.author SET id = 8").unwrap();
    conn.query_drop("CALL ai.refresh_embeddings('e.t', 'v', NULL)").unwrap();
    assert_eq!(count(&mut conn, right), 1);
}

#[test]
fn parts_missing_after_a_restore_are_reported_and_created_again() {
    let running = start();
    let mut conn = prepare(&running, "/v1/embeddings");
    let again = "SELECT ml_initialize_embeddings('m', 'e.t', 'body', 'v', NULL, 'transactional')";
    let parts = |conn: &mut Conn, schema: &str| {
        count(
            conn,
            &format!(
                "SELECT 10 * (SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{schema}') + \
                 (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{schema}')"
            ),
        )
    };
    let trigger =
        text(&mut conn, "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'e'").unwrap();
    let create = |conn: &mut Conn, what: &str, column: usize| -> String {
        conn.query_first::<mysql::Row, _>(format!("SHOW CREATE {what} e.`{trigger}`"))
            .unwrap()
            .unwrap()
            .get(column)
            .unwrap()
    };
    let (create_trigger, create_event) = (create(&mut conn, "TRIGGER", 2), create(&mut conn, "EVENT", 3));
    // A dump without events.
    conn.query_drop(format!("DROP EVENT e.`{trigger}`")).unwrap();
    let (status, note) = progress(&mut conn);
    assert!(status == "stopped" && note.contains("event is missing"), "{status}: {note}");
    let done = text(&mut conn, again).unwrap();
    assert!(done.contains("put right"), "{done}");
    assert_eq!((parts(&mut conn, "e"), progress(&mut conn)), (11, ("finished".to_owned(), String::new())));
    // DROP and CREATE DATABASE.
    conn.query_drop("DROP DATABASE e").unwrap();
    let (status, note) = progress(&mut conn);
    assert!(status == "stopped" && note.contains("table or column is gone"), "{status}: {note}");
    conn.query_drop("CREATE DATABASE e").unwrap();
    conn.query_drop("CREATE TABLE e.t (id INT PRIMARY KEY AUTO_INCREMENT, body TEXT, v VECTOR(8))").unwrap();
    conn.query_drop("INSERT INTO e.t (body) VALUES ('anew')").unwrap();
    text(&mut conn, again).unwrap();
    assert_eq!((parts(&mut conn, "e"), stale(&mut conn)), (11, 0));
    // A dump's trigger and event in a schema of another name: they are those of the first schema.
    conn.query_drop("CREATE DATABASE other").unwrap();
    conn.query_drop("USE other").unwrap();
    conn.query_drop("CREATE TABLE t LIKE e.t").unwrap();
    conn.query_drop(create_trigger.replace("`e`.", "`other`.")).unwrap();
    conn.query_drop(create_event).unwrap();
    assert_eq!(parts(&mut conn, "other"), 11);
    conn.query_drop("INSERT INTO t (body) VALUES ('there')").unwrap();
    text(&mut conn, &again.replace("e.t", "other.t")).unwrap();
    assert_eq!(parts(&mut conn, "other"), 11);
    conn.query_drop("CALL ai.drop_embedding_config('other.t', NULL)").unwrap();
    // The event may have been running.
    wait_until("nothing is left", || parts(&mut conn, "other") == 0);
    assert_eq!(parts(&mut conn, "e"), 11);
    // A different expression is a different configuration.
    let (_, message) = common::server_error(conn.query::<mysql::Row, _>(again));
    assert!(message.contains("initialized already"), "{message}");
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn rows_that_the_callers_transaction_hides_are_reported() {
    let running = start();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", "/v1/embeddings");
    conn.query_drop("CREATE DATABASE e").unwrap();
    conn.query_drop("CREATE TABLE e.t (id INT PRIMARY KEY, body TEXT, v VECTOR(8))").unwrap();
    let embed = |conn: &mut Conn| -> (u64, Option<String>) {
        let row: mysql::Row =
            conn.query_first("CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', NULL)").unwrap().unwrap();
        (row.get("embedded").unwrap(), row.get("note").unwrap())
    };
    let mut other = running.root();
    other.query_drop("SET autocommit = 0").unwrap();
    other.query_drop("INSERT INTO e.t (id, body) VALUES (1, 'mine')").unwrap();
    let (embedded, note) = embed(&mut other);
    assert!(embedded == 0 && note.as_deref().is_some_and(|n| n.contains("transaction")), "{embedded} {note:?}");
    other.query_drop("COMMIT").unwrap();
    assert_eq!(embed(&mut other), (1, None));
    conn.query_drop("START TRANSACTION").unwrap();
    conn.query_drop("SELECT COUNT(*) FROM e.t").unwrap();
    assert!(embed(&mut conn).1.is_some());
    conn.query_drop("COMMIT").unwrap();
    assert_eq!(embed(&mut conn), (0, None));
}

#[test]
fn names_are_taken_as_the_server_takes_them() {
    let running = start_bare(&["--lower-case-table-names=1"], &[]);
    running.install();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", "/v1/embeddings");
    for statement in [
        "CREATE DATABASE e",
        "SET GLOBAL event_scheduler = OFF",
        "CREATE TABLE e.`A``b` (id INT PRIMARY KEY, `bo``dy` TEXT, `v``v` VECTOR(8))",
        "INSERT INTO e.`A``b` VALUES (1, 'one', NULL)",
        "CREATE VIEW e.seen AS SELECT * FROM e.`a``b`",
    ] {
        conn.query_drop(statement).unwrap();
    }
    let initialize = "CALL ai.initialize_embeddings('m', 'E.`A``b`', '`BO``dy`', '`v``v`', NULL, 'transactional')";
    conn.query::<mysql::Row, _>(initialize).unwrap();
    assert_eq!(count(&mut conn, "SELECT COUNT(`v``v`) FROM e.`a``b`"), 1);
    // The comparison finds trigger and event unchanged.
    assert!(progress(&mut conn).1.starts_with("the event scheduler is off"), "{:?}", progress(&mut conn));
    let (_, message) = common::server_error(conn.query::<mysql::Row, _>(initialize));
    assert!(message.contains("initialized already"), "{message}");
    conn.query_drop("UPDATE e.`a``b` SET `bo``dy` = 'two'").unwrap();
    assert_eq!(count(&mut conn, "SELECT COUNT(`v``v`) FROM e.`a``b`"), 0);
    conn.query::<mysql::Row, _>("CALL ai.refresh_embeddings('`E`.`a``B`', '`V``v`', NULL)").unwrap();
    assert_eq!(count(&mut conn, "SELECT COUNT(`v``v`) FROM e.`a``b`"), 1);
    conn.query_drop("CALL ai.drop_embedding_config('e.`A``B`', 'v`v')").unwrap();
    assert_eq!(debris(&mut conn), 0);
    for (table, expected) in [("e.seen", "is a view"), ("e.nothing", "temporary table")] {
        let call = format!("CALL mysql.ml_embed_table('m', '{table}', 'x', 'v', NULL)");
        let (_, message) = common::server_error(conn.query::<mysql::Row, _>(call));
        assert!(message.contains(expected), "{message}");
    }
}
