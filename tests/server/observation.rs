//! What MySQL's own tools show of the library: status variables, threads, stages, conditions, error log.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::{server_error, start, start_bare, wait_until, Running};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};
use mysql_ml_base::symbol::Symbol;
use mysql_ml_base::wait::Wait;

/// The library's status variables, as an exporter reads them.
fn variables(conn: &mut Conn) -> BTreeMap<String, u64> {
    let rows: Vec<(String, String)> = conn.query("SHOW GLOBAL STATUS LIKE 'Mysql\\_ml\\_%'").unwrap();
    let all: BTreeMap<_, _> = rows.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
    assert_eq!(rows.len(), all.len(), "a name is there twice: {rows:?}");
    all
}

/// The same, once the thread that registers them is done.
fn variables_are_there(conn: &mut Conn) -> BTreeMap<String, u64> {
    wait_until("the status variables are registered", || !variables(conn).is_empty());
    variables(conn)
}

/// The states in SHOW PROCESSLIST and in performance_schema.processlist, of the statements that hold a text.
fn states(conn: &mut Conn, text: &str) -> Vec<(String, String)> {
    let rows: Vec<Row> = conn.query("SHOW FULL PROCESSLIST").unwrap();
    let mut found = Vec::new();
    for row in rows {
        let cell = |name: &str| row.get_opt::<Option<String>, _>(name).unwrap().unwrap().unwrap_or_default();
        let id: u64 = row.get("Id").unwrap();
        if !cell("Info").contains(text) || cell("Info").starts_with("SHOW") {
            continue;
        }
        let stage: Option<Option<String>> =
            conn.exec_first("SELECT STATE FROM performance_schema.processlist WHERE ID = ?", (id,)).unwrap();
        found.push((cell("State"), stage.flatten().unwrap_or_default()));
    }
    found
}

#[test]
fn status_variables_are_there_from_the_first_function_on_and_after_every_restart() {
    let mut running = start_bare(&[], &[]);
    let mut conn = running.root();
    assert!(variables(&mut conn).is_empty(), "the server has not loaded the library");
    conn.query_drop("CREATE FUNCTION ml_version RETURNS STRING SONAME 'mysql_ml.so'").unwrap();
    let first = variables_are_there(&mut conn);
    let names: Vec<String> = mysql_ml_base::status::all().map(|c| format!("Mysql_ml_{}", c.text())).collect();
    for name in &names {
        assert!(first.contains_key(name), "{name} is missing: {first:?}");
    }
    assert_eq!(first.len(), names.len());
    // The library stays loaded, and its variables with it.
    for _ in 0..3 {
        conn.query_drop("DROP FUNCTION ml_version").unwrap();
        assert_eq!(variables(&mut conn).len(), names.len());
        conn.query_drop("CREATE FUNCTION ml_version RETURNS STRING SONAME 'mysql_ml.so'").unwrap();
        assert_eq!(variables(&mut conn).len(), names.len());
    }
    // A second copy beside it takes their place: no name is there twice.
    let plugins = running.server.plugin_dir();
    std::fs::copy(plugins.join("mysql_ml.so"), plugins.join("mysql_ml_2.so")).unwrap();
    conn.query_drop("DROP FUNCTION ml_version").unwrap();
    conn.query_drop("CREATE FUNCTION ml_version RETURNS STRING SONAME 'mysql_ml_2.so'").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(variables(&mut conn).len(), names.len());
    conn.query_drop("DROP FUNCTION ml_version").unwrap();
    running.install();
    drop(conn);
    running.server.restart().unwrap();
    let mut conn = running.root();
    assert_eq!(variables_are_there(&mut conn).len(), names.len(), "without any call of a function");
    drop(conn);
    running.server.shutdown().unwrap();
    let log = running.server.error_log();
    assert!(!log.contains("MY-010065") && !log.contains("mysqld got signal"), "{log}");
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn counters_grow_with_calls_and_failures() {
    let running = start();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", "/v1/embeddings");
    running.embedding_model(&mut conn, "limited", "/status/429");
    conn.query_drop("CALL mysql.ml_set_model_options('limited', '{\"max_retries\": 1}')").unwrap();
    let before = variables_are_there(&mut conn);
    let vector = |conn: &mut Conn, text: &str| {
        conn.exec_first::<Row, _, _>("SELECT mysql.ml_embedding('m', ?)", (text,)).unwrap().unwrap()
    };
    for text in ["a", "a", "b"] {
        vector(&mut conn, text);
    }
    let (_, message) = server_error(conn.query::<Row, _>("SELECT mysql.ml_embedding('limited', 'x')"));
    assert!(message.contains("429"), "{message}");
    let (code, _) = server_error(conn.query::<Row, _>("SELECT mysql.ml_embedding('nobody', 'x')"));
    assert_eq!(code, 3200);
    let after = variables(&mut conn);
    let grown = |name: &str| after[&format!("Mysql_ml_{name}")] - before[&format!("Mysql_ml_{name}")];
    assert_eq!(grown("cache_hits"), 1, "{after:?}");
    assert_eq!(grown("cache_misses"), 3, "two texts, and the one that failed");
    assert_eq!(grown("answers"), 2);
    assert!(grown("tokens_in") > 0 && grown("answer_microseconds") > 0, "{after:?}");
    assert_eq!(grown("retries"), 1);
    assert_eq!(grown("rate_limited"), 2);
    assert_eq!(grown("requests"), 4);
    assert_eq!(grown("errors_rate_limited"), 1);
    assert_eq!(grown("failures_rate_limited"), 1);
    assert_eq!(grown("errors_not_found"), 1);
    assert_eq!(after["Mysql_ml_requests_under_way"], 0);
    assert!(after["Mysql_ml_cache_bytes"] > 0 || after["Mysql_ml_cache_entries"] == 0);
    assert_eq!(after["Mysql_ml_memory_max_bytes"], 1 << 30);
    conn.query_drop("CALL mysql.ml_reset_status()").unwrap();
    assert_eq!(variables(&mut conn)["Mysql_ml_requests"], after["Mysql_ml_requests"], "exporters need them to grow");
}

#[test]
fn an_error_has_its_symbol_as_a_note_below_it() {
    let running = start();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "down", "/status/503");
    conn.query_drop("CALL mysql.ml_set_model_options('down', '{\"max_retries\": 0}')").unwrap();
    for (statement, symbol) in [
        ("SELECT mysql.ml_embedding('down', 'x')", Symbol::ProviderFailed),
        ("SELECT ml_embedding('down', 'x')", Symbol::ProviderFailed),
        ("SELECT mysql.ml_embedding('nobody', 'x')", Symbol::NotFound),
        ("SELECT cosine_distance('[1', '[2]')", Symbol::Invalid),
    ] {
        server_error(conn.query::<Row, _>(statement));
        let conditions: Vec<(String, u32, String)> = conn.query("SHOW WARNINGS").unwrap();
        assert_eq!(conditions[0].0, "Error", "{statement}: {conditions:?}");
        assert!(
            conditions.iter().any(|c| *c == ("Note".to_owned(), 3200, symbol.name().to_owned())),
            "{statement}: {conditions:?}"
        );
    }
    // A handler reads it; the first condition stays the error.
    conn.query_drop("CREATE DATABASE o").unwrap();
    conn.query_drop(
        "CREATE PROCEDURE o.p(OUT message TEXT, OUT symbol TEXT) BEGIN
           DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN
             GET DIAGNOSTICS CONDITION 1 message = MESSAGE_TEXT;
             GET DIAGNOSTICS CONDITION 2 symbol = MESSAGE_TEXT;
           END;
           DO ml_embedding('down', 'x');
         END",
    )
    .unwrap();
    conn.query_drop("CALL o.p(@message, @symbol)").unwrap();
    let (message, symbol): (String, String) = conn.query_first("SELECT @message, @symbol").unwrap().unwrap();
    assert!(message.contains("503"), "{message}");
    assert_eq!(symbol, "ML_PROVIDER_FAILED");
    // The server's own errors have their own numbers.
    conn.query_drop("SET max_execution_time = 200").unwrap();
    running.embedding_model(&mut conn, "hang", "/hang");
    let (code, _) = server_error(conn.query::<Row, _>("SELECT ml_embedding('hang', 'x')"));
    assert_eq!(code, 3024);
    let conditions: Vec<(String, u32, String)> = conn.query("SHOW WARNINGS").unwrap();
    assert_eq!(conditions.len(), 1, "{conditions:?}");
}

#[test]
fn threads_have_names_in_the_performance_schema_and_in_the_system() {
    let running = start();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", "/v1/embeddings");
    conn.query_drop("DO ml_embedding('m', 'x')").unwrap();
    let threads: Vec<(String, String, u64)> = conn
        .query("SELECT NAME, TYPE, THREAD_OS_ID FROM performance_schema.threads WHERE NAME LIKE 'thread/mysql\\_ml/%'")
        .unwrap();
    for (name, system) in [("thread/mysql_ml/http", "mysql_ml-http"), ("thread/mysql_ml/sql", "mysql_ml-sql")] {
        let (_, kind, id) = threads.iter().find(|t| t.0 == name).unwrap_or_else(|| panic!("{name}: {threads:?}"));
        assert_eq!(kind, "BACKGROUND");
        let comm = std::fs::read_to_string(format!("/proc/{}/task/{id}/comm", running.server.pid().unwrap()));
        assert_eq!(comm.unwrap().trim(), system);
    }
    let counted = variables_are_there(&mut conn)["Mysql_ml_threads"];
    assert!(counted >= threads.len() as u64, "{counted}: {threads:?}");
    // Threads end after some idle seconds, and their rows with them.
    wait_until("the threads end", || {
        conn.query::<String, _>("SELECT NAME FROM performance_schema.threads WHERE NAME LIKE 'thread/mysql\\_ml/http'")
            .unwrap()
            .is_empty()
    });
}

/// Runs a statement on its own connection while `seen` is waited for; the statement is killed then.
fn while_running(running: &Running, statement: &str, seen: impl FnOnce()) {
    let mut conn = running.root();
    let id: u64 = conn.query_first("SELECT CONNECTION_ID()").unwrap().unwrap();
    let statement = statement.to_owned();
    let working = std::thread::spawn(move || drop(conn.query_drop(statement)));
    seen();
    running.root().query_drop(format!("KILL QUERY {id}")).unwrap();
    working.join().unwrap();
}

#[test]
fn every_wait_shows_a_state_in_both_processlists_and_is_counted() {
    let running = start();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "hang", "/hang");
    running.embedding_model(&mut conn, "one", "/hang");
    conn.query_drop("CALL mysql.ml_set_model_options('one', '{\"max_in_flight\": 1}')").unwrap();
    running.embedding_model(&mut conn, "again", "/status/503");
    conn.query_drop("CALL mysql.ml_set_model_options('again', '{\"max_retries\": 10}')").unwrap();
    conn.query_drop("CREATE DATABASE o").unwrap();
    conn.query_drop("CREATE FUNCTION o.slow(model_id TEXT, input JSON) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('x', SLEEP(600))").unwrap();
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration('slow', ?, 'custom', 'generic', NULL, NULL, NULL, 'o.slow', NULL, NULL)",
        (running.endpoint.url("/echo"),),
    )
    .unwrap();
    variables_are_there(&mut conn);

    let mut checked = Vec::new();
    let mut sees = |text: &str, state: &str, wait: Option<Wait>| {
        let stage = state.split(": ").next().unwrap().to_owned();
        let mut last = Vec::new();
        wait_until(&format!("{state} of {text}"), || {
            last = states(&mut conn, text);
            last.iter().any(|(shown, in_schema)| shown.starts_with(state) && *in_schema == stage)
        });
        if let Some(wait) = wait {
            let name = format!("Mysql_ml_{}", wait.gauge().text());
            wait_until(&name, || variables(&mut conn)[&name] > 0);
            checked.push(wait);
        }
    };
    while_running(&running, "SELECT ml_embedding('hang', 'the answer')", || {
        sees("the answer", "waiting for a model: ml_embedding", None);
        while_running(&running, "SELECT ml_embedding('hang', 'the answer') AS second", || {
            sees("second", Wait::SameRequest.state().to_str().unwrap(), Some(Wait::SameRequest));
        });
    });
    let sent = running.endpoint.count();
    while_running(&running, "SELECT ml_embedding('one', 'first')", || {
        sees("first", "waiting for a model: ml_embedding", None);
        // The state begins before the permit is taken.
        wait_until("the first has the permit", || running.endpoint.count() > sent);
        while_running(&running, "SELECT ml_embedding('one', 'a permit')", || {
            sees("a permit", Wait::Permit.state().to_str().unwrap(), Some(Wait::Permit));
        });
    });
    while_running(&running, "SELECT ml_embedding('again', 'retry')", || {
        sees("retry", Wait::Retry.state().to_str().unwrap(), Some(Wait::Retry));
    });
    while_running(&running, "SELECT ml_predict_row('slow', '{}')", || {
        sees("ml_predict_row('slow'", Wait::UserFunction.state().to_str().unwrap(), Some(Wait::UserFunction));
    });
    // A statement of the library that waits for a lock of another session.
    let mut locker = running.root();
    locker.query_drop("LOCK TABLES mysql.cloudsql_ml_models WRITE, mysql.cloudsql_ml_settings WRITE").unwrap();
    while_running(&running, "SELECT ml_embedding('unknown', 'locked')", || {
        sees("locked", Wait::Statement.state().to_str().unwrap(), Some(Wait::Statement));
    });
    locker.query_drop("UNLOCK TABLES").unwrap();
    // After a wait the state is the server's.
    wait_until("no call is left", || variables(&mut running.root())["Mysql_ml_requests_under_way"] == 0);
    let left = variables(&mut running.root());
    for wait in &checked {
        let name = format!("Mysql_ml_{}", wait.gauge().text());
        assert_eq!(left[&name], 0, "{name}");
    }
    // Waits that other tests reach, or that take a busy server: `shares::` has jobs, `local_models::` local ones.
    let elsewhere =
        [Wait::Thread, Wait::Keyring, Wait::DiskCache, Wait::ModelLoad, Wait::LocalModel, Wait::Job, Wait::Column];
    for wait in Wait::ALL {
        assert!(checked.contains(wait) != elsewhere.contains(wait), "{wait:?} is not checked");
    }
}

#[test]
fn without_the_performance_schema_everything_else_works() {
    let running = start_bare(&["--performance-schema=OFF"], &[]);
    running.install();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "hang", "/hang");
    while_running(&running, "SELECT ml_embedding('hang', 'x')", || {
        wait_until("the state is shown", || {
            let rows: Vec<Row> = conn.query("SHOW FULL PROCESSLIST").unwrap();
            rows.iter().any(|row| {
                row.get_opt::<Option<String>, _>("State")
                    .unwrap()
                    .unwrap()
                    .unwrap_or_default()
                    .starts_with("waiting for a model")
            })
        });
    });
    let rows: Vec<(String, String)> =
        conn.query("SHOW GLOBAL STATUS LIKE 'Mysql\\_ml\\_errors\\_interrupted'").unwrap();
    assert_eq!(rows, [("Mysql_ml_errors_interrupted".to_owned(), "1".to_owned())]);
}
