//! The library's effects on a server under stress: kills, panics, shutdown, many sessions, reinstallation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{self, holds, script, server_error, start, start_bare, wait_until, Running, Stop, ENV_KEY};
use fake_providers::{Certificate, Endpoint};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};
use surface::functions::{all, exported};
use testkit::sqlscript;
use testkit::xprotocol::XSession;

/// Every loadable function with arguments that reach its call.
fn every_function() -> impl Iterator<Item = String> {
    exported().map(|f| format!("{}({})", f.name, f.sample))
}

fn id(conn: &mut Conn) -> u64 {
    conn.query_first("SELECT CONNECTION_ID()").unwrap().unwrap()
}

fn register_dummy(conn: &mut Conn) {
    conn.query_drop(
        "CALL mysql.ml_create_model_registration('d', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    )
    .unwrap();
}

/// SHOW PROCESSLIST: id, state and statement of each session.
fn processlist(conn: &mut Conn) -> Vec<(u64, String, String)> {
    let rows: Vec<Row> = conn.query("SHOW FULL PROCESSLIST").unwrap();
    rows.into_iter()
        .map(|row| {
            let text = |name: &str| row.get_opt::<Option<String>, _>(name).unwrap().unwrap().unwrap_or_default();
            (row.get("Id").unwrap(), text("State"), text("Info"))
        })
        .collect()
}

/// The running statements of internal sessions.
fn internal_statements(conn: &mut Conn) -> Vec<String> {
    processlist(conn).into_iter().map(|(_, _, info)| info).filter(|info| info.starts_with("PLUGIN")).collect()
}

/// The statements of a script that create loadable functions, including those in a comment after an equivalent
/// statement.
fn loadable(script: &str) -> impl Iterator<Item = &str> {
    script
        .lines()
        .filter(|l| l.contains(" SONAME 'mysql_ml.so'"))
        .filter_map(|l| l.find("CREATE ").and_then(|at| l.get(at..)))
}

/// The scripts for a restore drop the functions that a dump would drop in place of stored ones. The uninstall script
/// drops every created object.
#[test]
fn the_scripts_drop_what_they_make() {
    let (install, uninstall) = (script("install.sql") + &script("install-ai.sql"), script("uninstall.sql"));
    let statements = |script: &str| sqlscript::split(script).into_iter().map(|s| s.text).collect::<Vec<_>>();
    let drops = statements(&uninstall);
    let made = loadable(&install).map(|line| line.trim_end_matches(';').to_owned()).chain(statements(&install));
    let mut count = 0;
    for statement in made.filter(|statement| statement.contains(" IF NOT EXISTS ")) {
        let (what, rest) = statement.split_once(" IF NOT EXISTS ").unwrap();
        let name = rest.split([' ', '(']).next().unwrap();
        let kind = match what.rsplit(' ').next().unwrap() {
            kind @ ("FUNCTION" | "PROCEDURE") => kind,
            _ => continue,
        };
        count += 1;
        // A procedure that the server may have itself is dropped only if it is the library's.
        let if_ours = name.strip_prefix("mysql.").map(|name| format!("mysql_ml_so_drop_procedure(''{name}'')"));
        let dropped = drops.contains(&format!("DROP {kind} IF EXISTS {name}"))
            || if_ours.is_some_and(|call| drops.iter().any(|statement| statement.contains(&call)));
        assert!(dropped, "uninstall.sql does not drop {kind} {name}");
    }
    assert!(count > 100, "{count}");
    let before_restore = statements(&script("before-restore.sql"));
    let stored: Vec<String> =
        all().filter(|f| f.second_name.is_some()).map(|f| format!("DROP FUNCTION IF EXISTS {}", f.name)).collect();
    assert!(stored.len() > 10 && stored.iter().all(|drop| before_restore.contains(drop)), "{before_restore:?}");
}

#[test]
fn a_panic_anywhere_is_an_error_and_the_server_lives() {
    for stage in ["init", "call"] {
        let running = start_bare(&[], &[("MYSQL_ML_PANIC_IN", stage)]);
        let mut conn = running.root();
        for line in loadable(&script("install.sql")) {
            conn.query_drop(line.trim_end_matches(';')).unwrap();
        }
        for call in every_function() {
            let (code, message) = server_error(conn.query::<Row, _>(format!("SELECT {call}")));
            assert_eq!(code, 3200, "{call}: {message}");
            assert!(message.contains("internal error: panic at crates/base/src/panics.rs"), "{call}: {message}");
        }
        assert_eq!(conn.query_first::<i32, _>("SELECT 1").unwrap(), Some(1));
        assert!(!running.server.error_log().contains("injected"), "the panic's text is in the error log");
    }
}

#[test]
fn a_panic_while_a_request_is_sent_ends_every_kind_of_call() {
    let running = start_bare(&[], &[("MYSQL_ML_PANIC_IN", "request")]);
    running.install();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "m", "/v1/embeddings");
    conn.query_drop("CREATE DATABASE e").unwrap();
    conn.query_drop("CREATE TABLE e.t (id INT PRIMARY KEY, body TEXT, v VECTOR(8))").unwrap();
    conn.query_drop("INSERT INTO e.t (id, body) VALUES (1, 'a'), (2, 'b')").unwrap();
    for statement in [
        "SELECT mysql.ml_embedding('m', 'a')",
        "SELECT mysql.ml_predict_row('m', '{}')",
        "SELECT mysql.ml_embedding_batch('m', '[\"a\", \"b\"]')",
        "SELECT ml_embedding_agg('m', id, body) FROM e.t",
        "CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', '{}')",
    ] {
        let (code, message) = server_error(conn.query::<Row, _>(statement));
        assert_eq!(code, 3200, "{statement}: {message}");
        assert!(message.contains("internal error: "), "{statement}: {message}");
        assert!(message.contains("panic at crates/base/src/panics.rs"), "{statement}: {message}");
    }
    let status: String = conn.query_first("SELECT CAST(ml_status() AS CHAR)").unwrap().unwrap();
    assert!(status.contains("\"in_flight\":0"), "{status}");
    assert!(running.endpoint.requests().is_empty());
}

#[test]
fn kill_query_ends_every_kind_of_wait_within_a_second() {
    let running = start();
    let mut root = running.root();
    running.embedding_model(&mut root, "hang", "/hang");
    running.embedding_model(&mut root, "drip", "/drip");
    running.embedding_model(&mut root, "backoff", "/status/503");
    root.query_drop("CALL mysql.ml_set_model_options('backoff', '{\"max_retries\": 10}')").unwrap();
    let blackhole = fake_providers::Blackhole::open().unwrap();
    root.exec_drop(
        "CALL mysql.ml_create_model_registration('connect', ?, 'open_ai', 'text_embedding', 'm', NULL, NULL, NULL, NULL, NULL)",
        (format!("http://127.0.0.1:{}/v1/embeddings", blackhole.port()),),
    )
    .unwrap();
    root.query_drop("CREATE DATABASE f").unwrap();
    root.query_drop("CREATE FUNCTION f.slow(model_id TEXT, input JSON) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('x', SLEEP(600))").unwrap();
    root.exec_drop(
        "CALL mysql.ml_create_model_registration('slow', ?, 'custom', 'generic', NULL, NULL, NULL, 'f.slow', NULL, NULL)",
        (running.endpoint.url("/echo"),),
    )
    .unwrap();

    for (model, provider, kind, name) in
        [("chat", "open_ai", "llm", "m"), ("image", "nvidia_nim", "multimodal_embedding", "nvidia/nvclip")]
    {
        root.exec_drop(
            "CALL mysql.ml_create_model_registration(?, ?, ?, ?, ?, NULL, NULL, NULL, NULL, NULL)",
            (model, running.endpoint.url("/hang"), provider, kind, name),
        )
        .unwrap();
    }

    for (model, statement) in [
        ("chat", "SELECT mysql.ml_generate('chat', 'x', NULL)"),
        ("image", "SELECT mysql.ml_image_embedding('image', x'ffd8ff', NULL)"),
        ("hang", "SELECT mysql.ml_embedding('hang', 'x')"),
        ("hang", "SELECT ml_embedding('hang', 'x')"),
        ("drip", "SELECT mysql.ml_embedding('drip', 'x')"),
        ("backoff", "SELECT mysql.ml_embedding('backoff', 'x')"),
        ("connect", "SELECT mysql.ml_embedding('connect', 'x')"),
        ("slow", "SELECT mysql.ml_predict_row('slow', '{}')"),
    ] {
        let mut victim = running.root();
        let victim_id = id(&mut victim);
        let waiting = std::thread::spawn(move || {
            let result = victim.query::<Row, _>(statement);
            (server_error(result), victim)
        });
        wait_until(model, || {
            processlist(&mut root)
                .iter()
                .any(|(id, state, _)| *id == victim_id && state.starts_with("waiting for a model"))
        });
        if model == "hang" || model == "drip" {
            assert!(running.endpoint.wait_for(&format!("/{model}"), 1, Duration::from_secs(10)));
        }
        let killed = Instant::now();
        root.query_drop(format!("KILL QUERY {victim_id}")).unwrap();
        let ((code, _), mut victim) = waiting.join().unwrap();
        assert!(killed.elapsed() < Duration::from_secs(1), "{model}: {:?}", killed.elapsed());
        assert_eq!(code, 1317, "{model}");
        assert_eq!(victim.query_first::<i32, _>("SELECT 1").unwrap(), Some(1), "the session goes on");
        if model == "hang" || model == "drip" {
            assert!(running.endpoint.wait_until_idle(Duration::from_secs(5)), "a killed call keeps its connection");
        }
        running.endpoint.clear();
    }
    wait_until("the internal statement is killed too", || internal_statements(&mut root).is_empty());
}

#[test]
fn an_ordinary_user_sees_and_kills_the_own_call() {
    let running = start();
    let mut root = running.root();
    running.embedding_model(&mut root, "hang", "/hang");
    root.query_drop("CREATE USER app@localhost").unwrap();
    root.query_drop("GRANT EXECUTE ON FUNCTION mysql.ml_embedding TO app@localhost").unwrap();
    for statement in ["SELECT mysql.ml_embedding('hang', 'x')", "SELECT ml_embedding('hang', 'x')"] {
        let mut victim = running.server.connect("app").unwrap();
        let victim_id = id(&mut victim);
        running.endpoint.clear();
        let waiting = std::thread::spawn(move || server_error(victim.query::<Row, _>(statement)).0);
        assert!(running.endpoint.wait_for("/hang", 1, Duration::from_secs(10)));
        let mut other = running.server.connect("app").unwrap();
        assert!(processlist(&mut other).iter().any(|(id, state, _)| *id == victim_id && state.starts_with("waiting")));
        other.query_drop(format!("KILL QUERY {victim_id}")).unwrap();
        assert_eq!(waiting.join().unwrap(), 1317, "{statement}");
    }
}

#[test]
fn max_execution_time_and_kill_connection_end_a_call() {
    let running = start();
    let mut root = running.root();
    running.embedding_model(&mut root, "hang", "/hang");
    for statement in [
        "SELECT /*+ MAX_EXECUTION_TIME(200) */ mysql.ml_embedding('hang', 'x')",
        "SELECT /*+ MAX_EXECUTION_TIME(200) */ ml_embedding('hang', 'x')",
    ] {
        let started = Instant::now();
        let (code, message) = server_error(root.query::<Row, _>(statement));
        assert_eq!(code, 3024, "{message}");
        assert!(started.elapsed() < Duration::from_millis(1500));
    }
    let mut victim = running.root();
    let victim_id = id(&mut victim);
    running.endpoint.clear();
    let waiting = std::thread::spawn(move || victim.query::<Row, _>("SELECT ml_embedding('hang', 'x')").is_err());
    assert!(running.endpoint.wait_for("/hang", 1, Duration::from_secs(10)));
    root.query_drop(format!("KILL {victim_id}")).unwrap();
    assert!(waiting.join().unwrap());
    wait_until("the connection is gone", || {
        root.exec_first::<u64, _, _>("SELECT COUNT(*) FROM performance_schema.processlist WHERE ID = ?", (victim_id,))
            .unwrap()
            == Some(0)
    });

    // Over the X Protocol too.
    let mut x = XSession::connect(&running.server.x_socket(), "root", "").unwrap();
    let x_id = String::from_utf8(x.execute("SELECT CONNECTION_ID()").unwrap().rows[0][0].clone().unwrap()).unwrap();
    running.endpoint.clear();
    let waiting =
        std::thread::spawn(move || x.execute("SELECT mysql.ml_embedding('hang', 'x')").unwrap().error.unwrap().0);
    assert!(running.endpoint.wait_for("/hang", 1, Duration::from_secs(10)));
    root.query_drop(format!("KILL QUERY {x_id}")).unwrap();
    assert_eq!(waiting.join().unwrap(), 1317);
}

#[test]
fn a_statement_that_waits_for_a_lock_of_the_registry_can_be_killed() {
    let running = start();
    let mut root = running.root();
    register_dummy(&mut root);
    let mut locker = running.root();
    locker.query_drop("LOCK TABLES mysql.cloudsql_ml_models WRITE").unwrap();
    let mut victim = running.root();
    let victim_id = id(&mut victim);
    let waiting =
        std::thread::spawn(move || server_error(victim.query::<Row, _>("SELECT mysql.ml_embedding('d', 'x')")));
    wait_until("the internal statement waits", || {
        internal_statements(&mut root).iter().any(|s| s.contains("cloudsql_ml_models"))
    });
    let killed = Instant::now();
    root.query_drop(format!("KILL QUERY {victim_id}")).unwrap();
    assert_eq!(waiting.join().unwrap().0, 1317);
    assert!(killed.elapsed() < Duration::from_secs(1));
    wait_until("the internal statement ends", || internal_statements(&mut root).is_empty());
    locker.query_drop("UNLOCK TABLES").unwrap();
}

#[test]
fn a_hundred_sessions_call_at_once() {
    // The library's own sessions count too; their number depends on the machine's load.
    let running = start_bare(&["--max-connections=400"], &[]);
    running.install();
    let mut root = running.root();
    running.embedding_model(&mut root, "m", "/v1/embeddings");
    root.query_drop("CREATE DATABASE f").unwrap();
    root.query_drop("CREATE FUNCTION f.head(model_id TEXT, input TEXT) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('x-text', input)").unwrap();
    root.exec_drop(
        "CALL mysql.ml_create_model_registration('h', ?, 'open_ai', 'text_embedding', 'test-8', NULL, NULL, 'f.head', NULL, NULL)",
        (running.endpoint.url("/v1/embeddings"),),
    )
    .unwrap();
    running.endpoint.set_latency(Duration::from_millis(20), Duration::ZERO);
    running.endpoint.clear();
    let opts = running.server.conn_opts("root", None);
    let threads: Vec<_> = (0..100)
        .map(|n| {
            let opts = opts.clone();
            std::thread::spawn(move || {
                let mut conn = Conn::new(opts).unwrap();
                let model = if n % 4 == 0 { "h" } else { "m" };
                for i in 0..5 {
                    let text = format!("session {n} text {i}");
                    let got: Option<Vec<u8>> =
                        conn.exec_first("SELECT mysql.ml_embedding(?, ?)", (model, &text)).unwrap();
                    let expected: Vec<u8> =
                        fake_providers::embedding_for(&text, 8).iter().flat_map(|x| x.to_le_bytes()).collect();
                    assert_eq!(got.unwrap(), expected, "{text}");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(running.endpoint.count(), 500);
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn ten_thousand_calls_leave_memory_flat() {
    let running = start();
    let mut root = running.root();
    running.embedding_model(&mut root, "m", "/v1/embeddings");
    root.query_drop("CALL mysql.ml_set_setting('cache_memory_mb', '0')").unwrap();
    running.generic_model(&mut root, "p", "/bytes/2000");
    running.endpoint.set_recording(false);
    root.query_drop("CREATE DATABASE n").unwrap();
    root.query_drop("CREATE TABLE n.n (i INT PRIMARY KEY)").unwrap();
    root.query_drop("SET SESSION cte_max_recursion_depth = 20000").unwrap();
    root.query_drop("INSERT INTO n.n WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) SELECT i FROM n").unwrap();
    let mut round = || {
        for statement in [
            "SELECT SUM(LENGTH(ml_embedding('m', CONCAT('bare ', i)))) FROM n.n",
            "SELECT SUM(LENGTH(mysql.ml_embedding('m', CONCAT('wrapped ', i)))) FROM n.n",
            "SELECT SUM(LENGTH(ml_predict_row('p', JSON_OBJECT('i', i)))) FROM n.n",
            "SELECT SUM(LENGTH(mysql.ml_predict_row('p', JSON_OBJECT('i', i)))) FROM n.n",
        ] {
            let sum: Option<u64> = root.query_first(statement).unwrap();
            assert!(sum.unwrap() > 0);
        }
        running.server.rss_kib().unwrap()
    };
    round();
    let before = round();
    let after = round();
    assert!(after < before + 8 * 1024, "resident memory went from {before} to {after} KiB over 10,000 calls");
}

#[test]
fn functions_dropped_and_installed_again_under_load() {
    let running = start();
    let mut root = running.root();
    register_dummy(&mut root);
    running.embedding_model(&mut root, "m", "/delay/50/v1/embeddings");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for n in 0..4 {
            let (running, stop) = (&running, &stop);
            scope.spawn(move || {
                let mut conn = running.root();
                let mut i = 0;
                while !stop.load(Ordering::Relaxed) {
                    i += 1;
                    // The function may be dropped at this moment: an error, never a lost connection.
                    match conn
                        .query::<Row, _>(format!("SELECT mysql.ml_embedding('m', '{n}-{i}'), ml_embedding('d', '{i}')"))
                    {
                        Ok(_) | Err(mysql::Error::MySqlError(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
        for _ in 0..5 {
            sqlscript::run(&mut root, &script("uninstall.sql"), "uninstall.sql").unwrap();
            let functions: Option<u64> = root.query_first("SELECT COUNT(*) FROM mysql.func").unwrap();
            assert_eq!(functions, Some(0));
            sqlscript::run(&mut root, &script("install.sql"), "install.sql").unwrap();
        }
    });
    let dim: Option<u64> =
        root.query_first("SELECT VECTOR_DIM(mysql.ml_embedding('d', 'registrations were kept'))").unwrap();
    assert_eq!(dim, Some(384));
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn functions_are_not_dropped_while_a_call_is_under_way() {
    let running = start();
    let mut root = running.root();
    running.embedding_model(&mut root, "slow", "/delay/1500/v1/embeddings");
    for file in ["before-restore.sql", "uninstall.sql"] {
        let mut caller = running.root();
        running.endpoint.clear();
        let text = format!("SELECT LENGTH(ml_embedding('slow', '{file}'))");
        let call = std::thread::spawn(move || (caller.query_first::<u64, _>(text), Instant::now()));
        assert!(running.endpoint.wait_for("/delay/1500/v1/embeddings", 1, Duration::from_secs(10)));
        sqlscript::run(&mut root, &script(file), file).unwrap();
        let dropped = Instant::now();
        let (result, ended) = call.join().unwrap();
        assert_eq!(result.unwrap(), Some(32), "{file}");
        assert!(ended < dropped, "{file}: the call ended after the functions were dropped");
        running.install();
    }
}

#[test]
fn install_is_repeatable_and_uninstall_complete() {
    let running = start();
    let mut root = running.root();
    register_dummy(&mut root);
    root.query_drop("CREATE USER app@localhost").unwrap();
    root.query_drop("GRANT EXECUTE ON FUNCTION mysql.ml_embedding TO app@localhost").unwrap();
    running.install();
    let mut app = running.server.connect("app").unwrap();
    assert_eq!(
        app.query_first::<u64, _>("SELECT VECTOR_DIM(mysql.ml_embedding('d', 'x'))").unwrap(),
        Some(384),
        "grants were kept"
    );
    drop(app);
    let leftovers = "SELECT (SELECT COUNT(*) FROM mysql.func) + (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'mysql') \
         + (SELECT COUNT(*) FROM mysql.user WHERE user IN ('mysql_ml', 'ml_user', 'ml_admin'))";
    let tables = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME LIKE 'cloudsql\\_ml%'";
    sqlscript::run(&mut root, &script("uninstall.sql"), "uninstall.sql").unwrap();
    assert_eq!(root.query_first::<u64, _>(leftovers).unwrap(), Some(0));
    assert_eq!(root.query_first::<u64, _>(tables).unwrap(), Some(6));
    sqlscript::run(&mut root, &script("uninstall.sql"), "uninstall.sql").unwrap();
    root.query_drop("SET @mysql_ml_drop_registrations = 1").unwrap();
    sqlscript::run(&mut root, &script("uninstall.sql"), "uninstall.sql").unwrap();
    assert_eq!(root.query_first::<u64, _>(tables).unwrap(), Some(0));
}

#[test]
fn a_native_function_of_one_of_the_names_does_not_stop_the_installation() {
    // ABS stands for a native function of another server.
    let running = start_bare(&[], &[]);
    let mut root = running.root();
    let install = script("install.sql");
    let other = install.replace("mysql_ml_so_create_function('distance')", "mysql_ml_so_create_function('abs')");
    assert_ne!(install, other);
    sqlscript::run(&mut root, &other, "install.sql").unwrap();
    let created: Vec<String> =
        root.query("SELECT name FROM mysql.func WHERE name IN ('abs', 'distance', 'vector_distance')").unwrap();
    assert_eq!(created, ["vector_distance"]);
    let answer: Option<String> = root.query_first("SELECT mysql_ml_so_create_function('abs')").unwrap();
    assert_eq!(answer.as_deref(), Some("native"));
    // As the caller, and only for the library's functions.
    root.query_drop("CREATE USER nobody@localhost").unwrap();
    let mut nobody = running.server.connect("nobody").unwrap();
    let refused = server_error(nobody.query::<Row, _>("SELECT mysql_ml_so_create_function('distance')"));
    assert!(matches!(refused.0, 1044 | 1142), "{refused:?}");
    let unknown = server_error(root.query::<Row, _>("SELECT mysql_ml_so_create_function('nothing_of_ours')"));
    assert_eq!(unknown.0, 1127, "{unknown:?}");
    running.install();
    let distance: Option<f64> =
        root.query_first("SELECT distance(x'0000803f00000000', x'000000000000803f', 'EUCLIDEAN')").unwrap();
    assert_eq!(distance, Some(2f64.sqrt()));
}

#[test]
fn a_servers_own_vector_index_routines_are_left_alone() {
    let running = start_bare(&[], &[]);
    let mut root = running.root();
    root.query_drop("CREATE PROCEDURE mysql.drop_vector_index(name TEXT) COMMENT 'the server''s' SELECT 'native'")
        .unwrap();
    root.query_drop("CREATE TABLE mysql.vector_indexes (index_name INT)").unwrap();
    running.install();
    let native = |conn: &mut Conn| conn.query_first::<String, _>("CALL mysql.drop_vector_index('i')").unwrap();
    assert_eq!(native(&mut root).as_deref(), Some("native"));
    root.query_drop("CREATE USER app@localhost").unwrap();
    root.query_drop("GRANT ml_user TO app@localhost").unwrap();
    root.query_drop("SET DEFAULT ROLE ALL TO app@localhost").unwrap();
    let mut app = running.server.connect("app").unwrap();
    assert_eq!(server_error(app.query_drop("CALL mysql.drop_vector_index('i')")).0, 1370);
    assert_eq!(server_error(app.query_drop("SELECT * FROM mysql.vector_indexes")).0, 1142);
    let refused = server_error(app.query::<Row, _>("CALL mysql.create_vector_index('i', 's.t', 'v', NULL)"));
    assert!(refused.0 != 1370 && refused.0 != 1305, "{refused:?}");
    drop(app);
    sqlscript::run(&mut root, &script("uninstall.sql"), "uninstall.sql").unwrap();
    assert_eq!(native(&mut root).as_deref(), Some("native"));
    let own = "SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'mysql'";
    assert_eq!(root.query_first::<u64, _>(own).unwrap(), Some(1));
    assert_eq!(root.query_first::<u64, _>("SELECT COUNT(*) FROM mysql.vector_indexes").unwrap(), Some(0));
}

#[test]
fn a_server_without_the_library_or_of_another_version_is_an_error() {
    let running = start_bare(&[], &[]);
    let mut root = running.root();
    std::fs::remove_file(running.server.plugin_dir().join("mysql_ml.so")).unwrap();
    let error = sqlscript::run(&mut root, &script("install.sql"), "install.sql").unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("1126") && text.contains("mysql_ml.so"), "{text}");
    // The version check, on a server that pretends to be another version.
    let other = script("install.sql").replace("VERSION() LIKE '9.7.%'", "VERSION() LIKE '5.7.%'");
    let error = sqlscript::run(&mut root, &other, "install.sql").unwrap_err();
    assert!(format!("{error:#}").contains("MySQL 9.7 is needed"), "{error:#}");
    // The error of a function without install.sql has advice.
    std::fs::copy(common::built_library(), running.server.plugin_dir().join("mysql_ml.so")).unwrap();
    root.query_drop("CREATE FUNCTION ml_embedding RETURNS STRING SONAME 'mysql_ml.so'").unwrap();
    let (_, message) = server_error(root.query::<Row, _>("SELECT ml_embedding('d', 'x')"));
    assert!(message.contains("run install.sql"), "{message}");
}

#[test]
fn shutdown_does_not_wait_for_a_call() {
    let mut running = start();
    let mut root = running.root();
    running.embedding_model(&mut root, "hang", "/hang");
    register_dummy(&mut root);
    root.query_drop("SELECT mysql.ml_embedding('d', 'an idle thread of the library is there')").unwrap();
    let mut victim = running.root();
    let waiting = std::thread::spawn(move || victim.query::<Row, _>("SELECT mysql.ml_embedding('hang', 'x')").is_err());
    assert!(running.endpoint.wait_for("/hang", 1, Duration::from_secs(10)));
    drop(root);
    let took = running.server.shutdown().unwrap();
    assert!(waiting.join().unwrap());
    assert!(took < Duration::from_secs(8), "shutdown took {took:?}");
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
    running.server.restart().unwrap();
    let dim: Option<u64> =
        running.root().query_first("SELECT VECTOR_DIM(mysql.ml_embedding('d', 'after restart'))").unwrap();
    assert_eq!(dim, Some(384));
}

#[test]
fn an_internal_error_of_512_bytes_is_passed_on() {
    let running = start();
    let mut root = running.root();
    root.query_drop("CREATE DATABASE f").unwrap();
    // The longest text a SIGNAL can carry: 128 characters of four bytes.
    let long = "😀";
    // The server's longest message: an error that quotes a long value as an identifier.
    root.query_drop("CREATE FUNCTION f.head(model_id TEXT, input TEXT) RETURNS JSON DETERMINISTIC RETURN CAST(CONCAT('{\"', REPEAT('long ', 200)) AS JSON)").unwrap();
    root.query_drop(format!(
        "CREATE FUNCTION f.signal_it(model_id TEXT, input TEXT) RETURNS JSON DETERMINISTIC BEGIN \
         DECLARE t TEXT; SET t = REPEAT('{long}', 128); SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = t; RETURN NULL; END"
    ))
    .unwrap();
    root.query_drop("CREATE FUNCTION f.unknown_table(model_id TEXT, input TEXT) RETURNS JSON DETERMINISTIC READS SQL DATA RETURN (SELECT UPDATEXML(CONCAT('<', REPEAT('y', 600)), REPEAT('/z', 400), ''))").unwrap();
    for function in ["f.head", "f.signal_it", "f.unknown_table"] {
        root.exec_drop(
            "CALL mysql.ml_create_model_registration('m', ?, 'open_ai', 'text_embedding', 'test-8', NULL, NULL, ?, NULL, NULL)",
            (running.endpoint.url("/v1/embeddings"), function),
        )
        .unwrap();
        let (code, message) = server_error(root.query::<Row, _>("SELECT mysql.ml_embedding('m', 'x')"));
        assert_eq!(code, 3200, "{message}");
        assert!(message.contains(function) && message.len() <= 511, "{message}");
        root.query_drop("CALL mysql.ml_drop_model_registration('m')").unwrap();
    }
    assert_eq!(root.query_first::<i32, _>("SELECT 1").unwrap(), Some(1));
}

#[test]
fn calls_work_when_max_connections_is_used_up() {
    let running = start_bare(&["--max-connections=4"], &[]);
    running.install();
    let mut root = running.root();
    register_dummy(&mut root);
    root.query_drop("CREATE USER app@localhost").unwrap();
    root.query_drop("GRANT EXECUTE ON FUNCTION mysql.ml_embedding TO app@localhost").unwrap();
    root.query_drop("CALL mysql.ml_set_setting('registry_ttl_ms', '0')").unwrap();
    let mut all: Vec<Conn> = Vec::new();
    while let Ok(conn) = running.server.connect("app") {
        all.push(conn);
        assert!(all.len() < 10);
    }
    for conn in &mut all {
        assert_eq!(
            conn.query_first::<u64, _>("SELECT VECTOR_DIM(mysql.ml_embedding('d', 'full'))").unwrap(),
            Some(384)
        );
    }
    drop(all);
    wait_until("connections are counted down again", || running.server.connect("app").is_ok());
}

#[test]
fn tls_is_verified_and_a_private_authority_can_be_trusted() {
    let running = start();
    let mut root = running.root();
    root.query_drop("CALL mysql.ml_set_setting('max_retries', '0')").unwrap();
    let try_endpoint = |root: &mut Conn, endpoint: &Endpoint, trusted: bool| {
        let ca = running.secrets.path().join(format!("ca-{}.pem", endpoint.port()));
        std::fs::write(&ca, endpoint.ca_pem()).unwrap();
        let setting = trusted.then(|| ca.display().to_string());
        root.exec_drop("CALL mysql.ml_set_setting('ca_file', ?)", (setting,)).unwrap();
        root.exec_drop(
            "CALL mysql.ml_create_model_registration('tls', ?, 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL)",
            (endpoint.url("/v1/embeddings"),),
        )
        .unwrap();
        let result = root.query_first::<u64, _>("SELECT VECTOR_DIM(mysql.ml_embedding('tls', 'x'))");
        root.query_drop("CALL mysql.ml_drop_model_registration('tls')").unwrap();
        result
    };
    let valid = Endpoint::start_tls(Certificate::Valid).unwrap();
    let (_, unknown) = server_error(try_endpoint(&mut root, &valid, false));
    assert!(unknown.contains("TLS failed") && unknown.contains("ca_file"), "{unknown}");
    assert_eq!(try_endpoint(&mut root, &valid, true).unwrap(), Some(8));
    let (_, host) = server_error(try_endpoint(&mut root, &Endpoint::start_tls(Certificate::WrongHost).unwrap(), true));
    assert!(host.contains("TLS failed"), "{host}");
    let (_, expired) = server_error(try_endpoint(&mut root, &Endpoint::start_tls(Certificate::Expired).unwrap(), true));
    assert!(expired.contains("TLS failed") && expired.contains("xpired"), "{expired}");
    // A missing file is an error when it is set; a file removed later, in each call.
    let (_, missing) = server_error(root.query_drop("CALL mysql.ml_set_setting('ca_file', '/nonexistent/ca.pem')"));
    assert!(missing.contains("ca_file") && missing.contains("cannot be read"), "{missing}");
    let (_, missing) = {
        let ca = running.secrets.path().join("going.pem");
        std::fs::write(&ca, valid.ca_pem()).unwrap();
        root.exec_drop("CALL mysql.ml_set_setting('ca_file', ?)", (ca.display().to_string(),)).unwrap();
        std::fs::remove_file(&ca).unwrap();
        running.embedding_model(&mut root, "m", "/v1/embeddings");
        server_error(root.query::<Row, _>("SELECT mysql.ml_embedding('m', 'x')"))
    };
    assert!(missing.contains("ca_file") && missing.contains("cannot be read"), "{missing}");
}

#[test]
fn a_driver_may_bind_the_bytes_of_a_vector() {
    let running = start();
    let mut root = running.root();
    let vector: Vec<u8> = [1.0_f32, 2.0, -3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let distance = |root: &mut Conn, bytes: &[u8]| {
        root.exec_first::<f64, _, _>("SELECT cosine_distance(STRING_TO_VECTOR('[1,2,-3]'), ?)", (bytes,))
    };
    assert!(distance(&mut root, &vector).unwrap().unwrap().abs() < 1e-9);
    assert!(server_error(distance(&mut root, b"twelve bytes")).1.contains("is text"));
}

#[test]
fn an_event_fills_vectors() {
    let running = start();
    let mut root = running.root();
    running.embedding_model(&mut root, "m", "/v1/embeddings");
    root.query_drop("CREATE DATABASE e").unwrap();
    root.query_drop("CREATE TABLE e.seen (dim INT)").unwrap();
    root.query_drop("CREATE EVENT e.once ON SCHEDULE AT CURRENT_TIMESTAMP DO INSERT INTO e.seen SELECT VECTOR_DIM(mysql.ml_embedding('m', 'by event'))").unwrap();
    wait_until("the event ran", || root.query_first::<i32, _>("SELECT dim FROM e.seen").unwrap() == Some(8));
}

#[test]
fn keys_are_seen_nowhere_while_a_call_is_in_flight() {
    let running = start();
    let mut root = running.root();
    root.query_drop("CALL mysql.ml_create_sm_secret_registration('s', 'env:MYSQL_ML_SECRET_TEST')").unwrap();
    root.exec_drop(
        "CALL mysql.ml_create_model_registration('m', ?, 'open_ai', 'text_embedding', 'test-8', 'secret_manager', 's', NULL, NULL, NULL)",
        (running.endpoint.url("/delay/500/v1/embeddings"),),
    )
    .unwrap();
    let mut caller = running.root();
    let waiting =
        std::thread::spawn(move || caller.query::<Row, _>("SELECT mysql.ml_embedding('m', 'x')").unwrap().len());
    assert!(running.endpoint.wait_for("/delay/500/v1/embeddings", 1, Duration::from_secs(10)));
    for view in [
        "SELECT * FROM performance_schema.processlist",
        "SELECT * FROM performance_schema.events_statements_current",
        "SELECT * FROM performance_schema.events_statements_history",
        "SELECT * FROM performance_schema.events_statements_summary_by_digest",
        "SELECT * FROM performance_schema.user_variables_by_thread",
        "SELECT * FROM mysql.cloudsql_ml_secrets",
        "SHOW ENGINE INNODB STATUS",
    ] {
        for row in root.query::<Row, _>(view).unwrap() {
            assert!(!holds(&row, ENV_KEY), "{view}");
        }
    }
    assert_eq!(waiting.join().unwrap(), 1);
    assert_eq!(running.endpoint.requests()[0].header("authorization"), Some(format!("Bearer {ENV_KEY}").as_str()));
}

#[test]
fn the_command_line_client_shows_vectors_and_errors() {
    let running = start();
    let mut root = running.root();
    register_dummy(&mut root);
    root.query_drop("CALL mysql.ml_set_model_options('d', '{\"dimensions\": 2}')").unwrap();
    let run = |args: &[&str], sql: &str| {
        let output = running.server.client("root").args(args).args(["-N", "-e", sql]).output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (hex, _) = run(&["--binary-as-hex"], "SELECT mysql.ml_embedding('d', 'x'), ml_embedding('d', 'x')");
    let cells: Vec<&str> = hex.split_whitespace().collect();
    assert_eq!(cells.len(), 2, "{hex}");
    assert!(cells[0].starts_with("0x") && cells[0].len() == 18 && cells[0] == cells[1], "{hex}");
    let (_, error) = run(&[], "SELECT mysql.ml_embedding('nope', 'x')");
    assert!(error.contains("ERROR 3200 (HY000)") && error.contains("not registered"), "{error}");
    // The scripts run through the client, as in the README.
    let mut client = running.server.client("root");
    client.stdin(std::fs::File::open(testkit::library::workspace_root().join("install.sql")).unwrap());
    let output = client.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("is installed"));
}

#[test]
fn memory_of_a_refused_flood_is_bounded() {
    // 64 concurrent sessions request an endless answer: each is cut at max_response_mb.
    let running: Running = start();
    let mut root = running.root();
    root.query_drop("CALL mysql.ml_set_setting('max_response_mb', '1')").unwrap();
    root.query_drop("CALL mysql.ml_set_setting('max_retries', '0')").unwrap();
    running.generic_model(&mut root, "huge", "/huge");
    running.generic_model(&mut root, "bomb", "/gzip-bomb");
    let before = running.server.rss_kib().unwrap();
    std::thread::scope(|scope| {
        for n in 0..64 {
            let running = &running;
            scope.spawn(move || {
                let model = if n % 2 == 0 { "huge" } else { "bomb" };
                let mut conn = running.root();
                let (_, message) = server_error(
                    conn.exec::<Row, _, _>("SELECT mysql.ml_predict_row(?, '{\"input\":\"x\"}')", (model,)),
                );
                assert!(message.contains("larger than 1 MiB"), "{message}");
            });
        }
    });
    let after = running.server.rss_kib().unwrap();
    assert!(after < before + 300 * 1024, "from {before} to {after} KiB");
}

#[test]
fn the_binary_log_holds_rows_and_no_keys() {
    let running = start_bare(&["--log-bin=binlog", "--server-id=1", "--binlog-format=ROW"], &[]);
    running.install();
    let mut root = running.root();
    root.query_drop("CALL mysql.ml_create_sm_secret_registration('s', 'env:MYSQL_ML_SECRET_TEST')").unwrap();
    root.exec_drop(
        "CALL mysql.ml_create_model_registration('m', ?, 'open_ai', 'text_embedding', 'test-8', 'secret_manager', 's', NULL, NULL, NULL)",
        (running.endpoint.url("/v1/embeddings"),),
    )
    .unwrap();
    root.query_drop("CREATE DATABASE b").unwrap();
    root.query_drop("CREATE TABLE b.t (id INT PRIMARY KEY, body TEXT, v VECTOR(8))").unwrap();
    root.query_drop("INSERT INTO b.t VALUES (1, 'logged', NULL)").unwrap();
    root.query_drop("UPDATE b.t SET v = mysql.ml_embedding('m', body)").unwrap();
    root.query_drop("INSERT INTO b.t VALUES (2, 'bare', ml_embedding('m', 'bare'))").unwrap();
    assert_eq!(running.endpoint.requests()[0].header("authorization"), Some(format!("Bearer {ENV_KEY}").as_str()));
    root.query_drop("FLUSH BINARY LOGS").unwrap();
    let mut log = Vec::new();
    for entry in std::fs::read_dir(running.server.datadir()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("binlog.0") {
            log.extend(std::fs::read(path).unwrap());
        }
    }
    let contains = |needle: &[u8]| log.windows(needle.len()).any(|w| w == needle);
    let vector: Vec<u8> = fake_providers::embedding_for("logged", 8).iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(contains(&vector), "the row's vector is logged, so a replica calls no model");
    assert!(!contains(b"UPDATE b.t"), "not the statement");
    assert!(!contains(ENV_KEY.as_bytes()));
    assert!(contains(b"env:MYSQL_ML_SECRET_TEST"), "registrations replicate, by path");
}

#[test]
fn a_read_only_server_calls_models_and_refuses_registrations() {
    let running = start();
    let mut root = running.root();
    register_dummy(&mut root);
    root.query_drop("SET GLOBAL super_read_only = ON").unwrap();
    root.query_drop("SET GLOBAL autocommit = OFF").unwrap();
    root.query_drop("SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'").unwrap();
    let mut other = running.root();
    assert_eq!(other.query_first::<u64, _>("SELECT VECTOR_DIM(mysql.ml_embedding('d', 'x'))").unwrap(), Some(384));
    let (code, message) = server_error(other.query::<Row, _>("DO ml_drop_model_registration('d')"));
    assert_eq!(code, 1290, "{message}");
    other.query_drop("SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF").unwrap();
    other.query_drop("DO ml_drop_model_registration('d')").unwrap();
}

#[test]
fn an_answer_larger_than_a_packet_is_an_error_or_whole_never_cut() {
    let running = start_bare(&["--max-allowed-packet=1M"], &[]);
    running.install();
    let mut root = running.root();
    running.generic_model(&mut root, "big", "/bytes/4194304");
    for call in ["ml_predict_row('big', '{}')", "mysql.ml_predict_row('big', '{}')"] {
        let mut conn = running.root();
        match conn.query_first::<Option<u64>, _>(format!("SELECT LENGTH({call})")) {
            Ok(length) => assert_eq!(length, Some(Some(4_194_306)), "{call}"),
            Err(mysql::Error::MySqlError(e)) => assert_ne!(e.code, 0, "{call}: {e}"),
            Err(other) => panic!("{call}: {other}"),
        }
    }
    assert!(root.query_first::<i32, _>("SELECT 1").unwrap().is_some());
}

#[test]
fn the_demo_runs() {
    let running = start();
    testkit::demo::run(&running.server, false).unwrap();
    let mut root = running.root();
    assert_eq!(root.query_first::<u64, _>("SELECT COUNT(v) FROM shop.support").unwrap(), Some(300));
}

#[test]
fn the_library_is_installed_into_a_running_server_and_replaced_under_use() {
    let running = start_bare(&[], &[]);
    let library = running.server.plugin_dir().join("mysql_ml.so");
    std::fs::remove_file(&library).unwrap();
    let mut root = running.root();
    let workspace = testkit::library::workspace_root();
    testkit::library::install(&mut root, &common::built_library(), &workspace).unwrap();
    register_dummy(&mut root);
    assert_eq!(root.query_first::<u64, _>("SELECT VECTOR_DIM(mysql.ml_embedding('d', 'x'))").unwrap(), Some(384));
    // Again while the server has it loaded: the new file is another inode, and the mapped one is unchanged.
    let before = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&library).unwrap());
    testkit::library::install(&mut root, &common::built_library(), &workspace).unwrap();
    let after = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&library).unwrap());
    assert_ne!(before, after);
    assert_eq!(root.query_first::<u64, _>("SELECT VECTOR_DIM(mysql.ml_embedding('d', 'y'))").unwrap(), Some(384));
}

/// The library's current threads in the server process.
fn library_threads(running: &Running) -> usize {
    let tasks = format!("/proc/{}/task", running.server.pid().unwrap());
    std::fs::read_dir(tasks)
        .unwrap()
        .filter(|task| {
            let comm = task.as_ref().unwrap().path().join("comm");
            std::fs::read_to_string(comm).is_ok_and(|name| name.starts_with("mysql_ml"))
        })
        .count()
}

#[test]
fn idle_threads_end_and_begin_again() {
    let mut running = start();
    let mut root = running.root();
    running.embedding_model(&mut root, "m", "/v1/embeddings");
    root.query_drop("SELECT mysql.ml_embedding('m', 'one')").unwrap();
    assert!(library_threads(&running) > 0);
    wait_until("the threads end", || library_threads(&running) == 0);
    let dim: Option<u64> = root.query_first("SELECT VECTOR_DIM(mysql.ml_embedding('m', 'two'))").unwrap();
    assert_eq!(dim, Some(8));
    assert!(library_threads(&running) > 0);
    drop(root);
    running.server.shutdown().unwrap();
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn ten_thousand_internal_sessions_leave_memory_flat() {
    let running = start();
    let mut root = running.root();
    register_dummy(&mut root);
    root.query_drop("CREATE USER app@localhost").unwrap();
    root.query_drop("GRANT `ml_admin` TO app@localhost").unwrap();
    root.query_drop("SET DEFAULT ROLE ALL TO app@localhost").unwrap();
    root.query_drop("CALL mysql.ml_set_setting('registry_ttl_ms', '0')").unwrap();
    root.query_drop("CREATE DATABASE n").unwrap();
    root.query_drop("CREATE TABLE n.n (i INT PRIMARY KEY)").unwrap();
    root.query_drop("SET SESSION cte_max_recursion_depth = 20000").unwrap();
    root.query_drop(
        "INSERT INTO n.n WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) SELECT i FROM n",
    )
    .unwrap();
    root.query_drop("GRANT SELECT ON n.n TO app@localhost").unwrap();
    // Each row checks the caller's EXECUTE including roles, and reads the settings and the model: three sessions.
    let mut app = running.server.connect("app").unwrap();
    let mut round = |text: &str| {
        for call in ["ml_embedding", "mysql.ml_embedding"] {
            let sum: Option<u64> = app
                .query_first(format!("SELECT SUM(LENGTH({call}('d', CONCAT('{text} {call}', i)))) FROM n.n"))
                .unwrap();
            assert_eq!(sum, Some(2500 * 384 * 4));
        }
        running.server.rss_kib().unwrap()
    };
    round("warm up");
    let before = round("first");
    let after = round("second");
    // The vectors themselves are cached: 5,000 of 1.7 KB.
    assert!(after < before + 16 * 1024, "resident memory went from {before} to {after} KiB");
}

#[test]
fn a_replica_gets_functions_registrations_and_vectors() {
    let gtid = ["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=binlog"];
    let source = start_bare(&[&gtid[..], &["--server-id=1"]].concat(), &[]);
    let replica = start_bare(&[&gtid[..], &["--server-id=2", "--super-read-only=ON"]].concat(), &[]);
    let mut on_source = source.root();
    on_source.query_drop("CREATE USER repl@'%' IDENTIFIED BY 'replica'").unwrap();
    on_source.query_drop("GRANT REPLICATION SLAVE ON *.* TO repl@'%'").unwrap();
    let mut on_replica = replica.root();
    on_replica
        .query_drop(format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, SOURCE_USER = 'repl', \
             SOURCE_PASSWORD = 'replica', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
            source.server.port()
        ))
        .unwrap();
    on_replica.query_drop("START REPLICA").unwrap();

    source.install();
    source.embedding_model(&mut on_source, "m", "/v1/embeddings");
    on_source.query_drop("CREATE DATABASE r").unwrap();
    on_source.query_drop("CREATE TABLE r.t (id INT PRIMARY KEY, body TEXT, v VECTOR(8))").unwrap();
    on_source.query_drop("INSERT INTO r.t VALUES (1, 'replicated', mysql.ml_embedding('m', 'replicated'))").unwrap();
    let executed: String = on_source.query_first("SELECT @@GLOBAL.gtid_executed").unwrap().unwrap();
    let waited: Option<i32> = on_replica.exec_first("SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 60)", (executed,)).unwrap();
    assert_eq!(waited, Some(0), "{}", replica.server.error_log());

    let vector: Vec<u8> = fake_providers::embedding_for("replicated", 8).iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(on_replica.query_first::<Vec<u8>, _>("SELECT v FROM r.t").unwrap(), Some(vector));
    assert_eq!(source.endpoint.count(), 1, "the replica sent no request");
    // The replica calls models itself; a registration there is an error.
    assert_eq!(
        on_replica.query_first::<u64, _>("SELECT VECTOR_DIM(mysql.ml_embedding('m', 'there'))").unwrap(),
        Some(8)
    );
    assert_eq!(server_error(on_replica.query::<Row, _>("CALL mysql.ml_drop_model_registration('m')")).0, 1290);
}
