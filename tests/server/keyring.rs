//! Secrets in the server's keyring: stored, used, replaced, dropped, and visible nowhere.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::common::{self, holds, server_error, start, start_with_keyring, Running, Stop, KEYRING_KEY};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};

/// A distinct key for each number.
fn key(n: u32) -> String {
    format!("{KEYRING_KEY}-{n:04}")
}

/// A file with a key, for LOAD_FILE.
fn key_file(running: &Running, key: &str) -> PathBuf {
    let path = running.secrets.path().join("loaded");
    std::fs::write(&path, format!("{key}\n")).unwrap();
    path
}

/// Runs `procedure` for the secret with the key, which appears in no statement.
fn set(running: &Running, conn: &mut Conn, procedure: &str, id: &str, key: &str) -> mysql::Result<()> {
    let path = key_file(running, key);
    conn.query_drop(format!("CALL mysql.{procedure}('{id}', LOAD_FILE('{}'))", path.display()))
}

fn model(running: &Running, conn: &mut Conn, id: &str, path: &str, secret: &str) {
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration(?, ?, 'open_ai', 'text_embedding', 'test-8', 'secret_manager', ?, NULL, NULL, NULL)",
        (id, running.endpoint.url(path), secret),
    )
    .unwrap();
}

fn embed(conn: &mut Conn, model: &str, text: &str) -> mysql::Result<Option<u64>> {
    conn.exec_first("SELECT VECTOR_DIM(mysql.ml_embedding(?, ?))", (model, text))
}

/// The owners and names of the keys in the keyring's file.
fn keys(running: &Running) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(running.server.keyring_file()).unwrap();
    if text.is_empty() {
        return Vec::new();
    }
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let text = |element: &serde_json::Value, name: &str| element[name].as_str().unwrap().to_owned();
    let mut keys: Vec<_> =
        file["elements"].as_array().unwrap().iter().map(|e| (text(e, "user"), text(e, "data_id"))).collect();
    keys.sort();
    keys
}

fn ours(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ("mysql_ml".to_owned(), (*name).to_owned())).collect()
}

/// The tables of statements, variables and the registry that hold the text.
fn seen_in_performance_schema(conn: &mut Conn, needle: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    for view in [
        "performance_schema.processlist",
        "performance_schema.events_statements_current",
        "performance_schema.events_statements_history",
        "performance_schema.events_statements_history_long",
        "performance_schema.events_statements_summary_by_digest",
        "performance_schema.prepared_statements_instances",
        "performance_schema.user_variables_by_thread",
        "mysql.cloudsql_ml_secrets",
    ] {
        // The search is local, so that the needle appears in no statement.
        let rows: Vec<Row> = conn.query(format!("SELECT * FROM {view}")).unwrap();
        if rows.iter().any(|row| holds(row, needle)) {
            found.push(view);
        }
    }
    found
}

/// The bytes of all files in the data directory whose names begin with `prefix`.
fn files(running: &Running, prefix: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(running.server.datadir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.file_name().unwrap().to_string_lossy().starts_with(prefix) {
            all.extend(std::fs::read(path).unwrap());
        }
    }
    all
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|w| w == needle.as_bytes())
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |hex, b| hex + &format!("{b:02x}"))
}

#[test]
fn a_key_is_stored_used_replaced_and_dropped_and_seen_nowhere() {
    let mut running = start_with_keyring(&[
        "--log-bin=binlog",
        "--server-id=1",
        "--slow-query-log=ON",
        "--long-query-time=0",
        "--log-error-verbosity=3",
    ]);
    let mut root = running.root();
    root.query_drop(
        "UPDATE performance_schema.setup_consumers SET ENABLED = 'YES' WHERE NAME = 'events_statements_history_long'",
    )
    .unwrap();
    root.query_drop("CALL mysql.ml_set_setting('cache_memory_mb', '0')").unwrap();
    root.query_drop("CALL mysql.ml_set_setting('max_retries', '0')").unwrap();

    set(&running, &mut root, "ml_create_secret", "openai", &key(0)).unwrap();
    let row: (String, String) =
        root.query_first("SELECT secret_path, definer FROM mysql.cloudsql_ml_secrets").unwrap().unwrap();
    assert_eq!(row, ("keyring:openai".to_owned(), "root@localhost".to_owned()));
    assert_eq!(keys(&running), ours(&["openai"]));
    model(&running, &mut root, "m", "/auth/embeddings", "openai");
    running.endpoint.set_expected_key(&key(0));
    assert_eq!(embed(&mut root, "m", "first").unwrap(), Some(8));

    // The old key is refused, and the endpoint's repetition of it is redacted.
    running.endpoint.set_expected_key(&key(1));
    let (_, message) = server_error(embed(&mut root, "m", "refused"));
    assert!(message.contains("401") && !message.contains(KEYRING_KEY), "{message}");
    set(&running, &mut root, "ml_alter_secret", "openai", &key(1)).unwrap();
    assert_eq!(embed(&mut root, "m", "replaced").unwrap(), Some(8));

    // Replaced while calls run: each call has one key or the other, and none fails.
    model(&running, &mut root, "open", "/v1/embeddings", "openai");
    running.endpoint.clear();
    let (stop, calls) = (AtomicBool::new(false), AtomicU32::new(0));
    let changed: Vec<mysql::Result<()>> = std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for n in 0..4 {
            let (running, stop, calls) = (&running, &stop, &calls);
            scope.spawn(move || {
                let mut conn = running.root();
                while !stop.load(Ordering::Relaxed) {
                    let i = calls.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(embed(&mut conn, "open", &format!("{n} {i}")).unwrap(), Some(8));
                }
            });
        }
        // Two concurrent changes, as by two administrators.
        let mut other = running.root();
        let statements = [2, 3].map(|n| {
            let path = running.secrets.path().join(format!("key-{n}"));
            std::fs::write(&path, key(n)).unwrap();
            format!("CALL mysql.ml_alter_secret('openai', LOAD_FILE('{}'))", path.display())
        });
        (0..20)
            .flat_map(|_| {
                std::thread::scope(|both| {
                    let second = both.spawn(|| other.query_drop(&statements[1]));
                    [root.query_drop(&statements[0]), second.join().unwrap()]
                })
            })
            .collect()
    });
    for result in changed {
        result.unwrap();
    }
    set(&running, &mut root, "ml_alter_secret", "openai", &key(40)).unwrap();
    assert!(calls.load(Ordering::Relaxed) > 20, "{calls:?}");
    let mut used: Vec<String> =
        running.endpoint.requests().iter().map(|r| r.header("authorization").unwrap().to_owned()).collect();
    used.sort();
    used.dedup();
    assert!(used.len() >= 2 && used.iter().all(|k| (1..=3).any(|n| *k == format!("Bearer {}", key(n)))), "{used:?}");
    running.endpoint.set_expected_key(&key(40));
    assert_eq!(embed(&mut root, "m", "the last").unwrap(), Some(8));
    assert_eq!(keys(&running), ours(&["openai"]), "no copy is left");

    // The loadable function itself, with named arguments.
    let path = key_file(&running, &key(41));
    root.query_drop(format!("DO ml_alter_secret(LOAD_FILE('{}') AS value, 'openai' AS secret_id)", path.display()))
        .unwrap();
    running.endpoint.set_expected_key(&key(41));
    assert_eq!(embed(&mut root, "m", "bare").unwrap(), Some(8));

    // No log or table holds a part of them.
    assert_eq!(seen_in_performance_schema(&mut root, KEYRING_KEY), Vec::<&str>::new());
    assert_eq!(seen_in_performance_schema(&mut root, &hex(KEYRING_KEY)), Vec::<&str>::new());
    root.query_drop("FLUSH LOGS").unwrap();
    let logs =
        [running.server.error_log().into_bytes(), running.server.general_log().into_bytes(), files(&running, "")];
    assert!(contains(&logs[2], "ml_alter_secret") && contains(&logs[2], "keyring:openai"), "the slow and binary logs");
    assert!(contains(&logs[0], "openai~new"), "with this verbosity the names of keys that were not found");
    for log in logs {
        assert!(!contains(&log, KEYRING_KEY) && !contains(&log, &hex(KEYRING_KEY)));
        assert!(!contains(&log, &hex(KEYRING_KEY).to_uppercase()));
    }

    // They survive a restart, and the server releases the keyring when it shuts down.
    drop(root);
    running.server.restart().unwrap();
    let mut root = running.root();
    assert_eq!(embed(&mut root, "m", "after the restart").unwrap(), Some(8));

    // A copy left by a crash is used while the key itself is missing; the next change removes it.
    drop(root);
    running.server.shutdown().unwrap();
    let file = std::fs::read_to_string(running.server.keyring_file()).unwrap();
    std::fs::write(running.server.keyring_file(), file.replace("\"openai\"", "\"openai~new\"")).unwrap();
    running.server.restart().unwrap();
    let mut root = running.root();
    assert_eq!(keys(&running), ours(&["openai~new"]));
    assert_eq!(embed(&mut root, "m", "from the copy").unwrap(), Some(8));
    set(&running, &mut root, "ml_alter_secret", "openai", &key(42)).unwrap();
    running.endpoint.set_expected_key(&key(42));
    assert_eq!(embed(&mut root, "m", "whole again").unwrap(), Some(8));
    assert_eq!(keys(&running), ours(&["openai"]));

    // Only dropping its last registration drops the key.
    let (_, message) = server_error(root.query_drop("CALL mysql.ml_drop_sm_secret_registration('openai')"));
    assert!(message.contains("is used by model"), "{message}");
    root.query_drop("CALL mysql.ml_drop_model_registration('m')").unwrap();
    root.query_drop("CALL mysql.ml_drop_model_registration('open')").unwrap();
    root.query_drop("CALL mysql.ml_create_sm_secret_registration('second', 'keyring:openai')").unwrap();
    root.query_drop("CALL mysql.ml_create_sm_secret_registration('case', 'keyring:OpenAI')").unwrap();
    root.query_drop("CALL mysql.ml_drop_sm_secret_registration('openai')").unwrap();
    assert_eq!(keys(&running), ours(&["openai"]));
    let (_, message) = server_error(set(&running, &mut root, "ml_create_secret", "openai", &key(43)));
    assert!(message.contains("is that of secret 'second'"), "{message}");
    root.query_drop("CALL mysql.ml_drop_sm_secret_registration('second')").unwrap();
    assert_eq!(keys(&running), ours(&[]));
    drop(root);
    running.server.shutdown().unwrap();
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn secrets_that_cannot_be_stored_are_errors_and_leave_nothing() {
    let running = start_with_keyring(&[]);
    let mut root = running.root();
    let fails = |root: &mut Conn, statement: &str, part: &str| {
        let (code, message) = server_error(root.query_drop(statement));
        assert_eq!(code, 3200, "{statement}: {message}");
        assert!(message.contains(part), "{statement}: {message}");
        assert!(!message.contains("5ecret") && message.len() < 500, "{message}");
    };
    fails(&mut root, "CALL mysql.ml_create_secret('s', NULL)", "argument value is NULL; give the key");
    fails(&mut root, "CALL mysql.ml_create_secret('s', LOAD_FILE('/nonexistent'))", "argument value is NULL");
    fails(&mut root, "CALL mysql.ml_create_secret(NULL, '5ecret')", "argument secret_id is NULL");
    fails(&mut root, "CALL mysql.ml_create_secret('', '5ecret')", "secret_id");
    fails(&mut root, "CALL mysql.ml_create_secret('s', '\\n')", "is empty");
    fails(&mut root, "CALL mysql.ml_create_secret('s', '5ecret\\nkey')", "not a key");
    fails(&mut root, "CALL mysql.ml_create_secret('s', REPEAT('5ecret', 20000))", "longer than 64 KiB");
    fails(&mut root, "CALL mysql.ml_create_secret('s', REPEAT('x', 16385))", "component_keyring_file: 16384 bytes");
    fails(&mut root, "CALL mysql.ml_create_secret('s', CONCAT('5ecret', x'ff'))", "not valid UTF-8 (byte 7 of 7)");
    fails(&mut root, "DO ml_create_secret('5ecret', 's' AS secret_id)", "name all arguments or none");
    fails(&mut root, "DO ml_create_secret('s', '5ecret', '5ecret')", "too many arguments");
    fails(&mut root, "CALL mysql.ml_alter_secret('absent', '5ecret')", "not registered");
    assert_eq!(keys(&running), ours(&[]));
    assert_eq!(root.query_first::<u32, _>("SELECT COUNT(*) FROM mysql.cloudsql_ml_secrets").unwrap(), Some(0));

    // A key that the keyring accepts and the table does not is removed again.
    root.query_drop("SET GLOBAL super_read_only = ON").unwrap();
    let (code, message) = server_error(root.query_drop("CALL mysql.ml_create_secret('s', '5ecret')"));
    assert_eq!(code, 1290, "{message}");
    assert_eq!(keys(&running), ours(&[]));
    root.query_drop("SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF").unwrap();

    // The longest value, an id that is no name for a key, an id that is registered.
    root.query_drop("CALL mysql.ml_create_secret('long', REPEAT('x', 16384))").unwrap();
    root.query_drop("CALL mysql.ml_create_secret('two words', 'v')").unwrap();
    let path: String = root
        .query_first("SELECT secret_path FROM mysql.cloudsql_ml_secrets WHERE secret_id = 'two words'")
        .unwrap()
        .unwrap();
    assert!(path.starts_with("keyring:id-"), "{path}");
    fails(&mut root, "CALL mysql.ml_create_secret('long', '5ecret')", "already exists; change it with ml_alter_secret");
    root.query_drop("CALL mysql.ml_create_sm_secret_registration('env', 'env:OPENAI_API_KEY')").unwrap();
    fails(&mut root, "CALL mysql.ml_alter_secret('env', '5ecret')", "not in the keyring but at env:OPENAI_API_KEY");

    // A key in the registration that the keyring lacks, as on a replica: stored without a write to the table.
    root.query_drop("CALL mysql.ml_create_sm_secret_registration('lacks', 'keyring:team/key')").unwrap();
    model(&running, &mut root, "m", "/auth/embeddings", "lacks");
    let (_, message) = server_error(embed(&mut root, "m", "x"));
    assert!(message.contains("keyring:team/key is not in this server's keyring"), "{message}");
    root.query_drop("SET GLOBAL super_read_only = ON").unwrap();
    set(&running, &mut root, "ml_alter_secret", "lacks", &key(1)).unwrap();
    running.endpoint.set_expected_key(&key(1));
    assert_eq!(embed(&mut root, "m", "x").unwrap(), Some(8));
    root.query_drop("SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF").unwrap();
    root.query_drop("CALL mysql.ml_drop_model_registration('m')").unwrap();

    // A read-only keyring: key and registration stay consistent.
    root.query_drop("SET GLOBAL keyring_operations = OFF").unwrap();
    fails(&mut root, "CALL mysql.ml_create_secret('s', '5ecret')", "did not store the value of 6 bytes");
    fails(&mut root, "CALL mysql.ml_alter_secret('lacks', '5ecret')", "keyring_operations is ON");
    fails(&mut root, "CALL mysql.ml_drop_sm_secret_registration('lacks')", "did not remove its key team/key");
    root.query_drop("SET GLOBAL keyring_operations = ON").unwrap();
    assert_eq!(root.query_first::<u32, _>("SELECT COUNT(*) FROM mysql.cloudsql_ml_secrets").unwrap(), Some(4));
    for id in ["lacks", "env", "long", "two words"] {
        root.query_drop(format!("CALL mysql.ml_drop_sm_secret_registration('{id}')")).unwrap();
    }
    assert_eq!(keys(&running), ours(&[]));
    assert!(!running.server.error_log().contains("5ecret"));
}

#[test]
fn rights_and_other_owners() {
    let mut running = start_with_keyring(&[]);
    let mut root = running.root();
    root.query_drop("CREATE USER nothing@localhost, admin@localhost").unwrap();
    root.query_drop("GRANT `ml_admin` TO admin@localhost").unwrap();
    root.query_drop("SET DEFAULT ROLE ALL TO admin@localhost").unwrap();
    let mut nothing = running.server.connect("nothing").unwrap();
    for statement in [
        "CALL mysql.ml_create_secret('s', 'v')",
        "DO ml_create_secret('s', 'v')",
        "CALL mysql.ml_alter_secret('s', 'v')",
        "DO ml_alter_secret('s', 'v')",
        "DO ml_drop_sm_secret_registration('s')",
    ] {
        let (code, message) = server_error(nothing.query_drop(statement));
        assert_eq!(code, 1370, "{statement}: {message}");
    }
    assert_eq!(keys(&running), ours(&[]));
    let mut admin = running.server.connect("admin").unwrap();
    admin.query_drop("CALL mysql.ml_create_secret('s', 'v-1')").unwrap();
    admin.query_drop("DO ml_alter_secret('s', 'v-2')").unwrap();
    let definer: Option<String> = root.query_first("SELECT definer FROM mysql.cloudsql_ml_secrets").unwrap();
    assert_eq!(definer.as_deref(), Some("admin@localhost"));

    // Keys with another owner or none are not found, nor ours by others.
    root.query_drop("INSTALL PLUGIN keyring_udf SONAME 'keyring_udf.so'").unwrap();
    root.query_drop("CREATE FUNCTION keyring_key_store RETURNS INTEGER SONAME 'keyring_udf.so'").unwrap();
    root.query_drop("CREATE FUNCTION keyring_key_fetch RETURNS STRING SONAME 'keyring_udf.so'").unwrap();
    let stored: Option<u8> = root.query_first("SELECT keyring_key_store('of-root', 'SECRET', 'other')").unwrap();
    assert_eq!(stored, Some(1));
    root.query_drop("CREATE TABLE mysql.encrypted (a INT) ENCRYPTION = 'Y'").unwrap();
    let all = keys(&running);
    let innodb = all.iter().find(|(user, _)| user.is_empty()).map(|(_, name)| name.clone()).unwrap();
    assert!(innodb.starts_with("INNODBKey") && all.contains(&("root@localhost".to_owned(), "of-root".to_owned())));
    for name in ["of-root", innodb.as_str()] {
        root.exec_drop("CALL mysql.ml_create_sm_secret_registration('other', ?)", (format!("keyring:{name}"),))
            .unwrap();
        model(&running, &mut root, "m", "/echo", "other");
        let (_, message) = server_error(embed(&mut root, "m", "x"));
        assert!(message.contains("is not in this server's keyring"), "{message}");
        root.query_drop("CALL mysql.ml_drop_model_registration('m')").unwrap();
        root.query_drop("CALL mysql.ml_drop_sm_secret_registration('other')").unwrap();
    }
    assert_eq!(running.endpoint.count(), 0);
    assert_eq!(keys(&running), all, "nor removed");
    let fetched: Option<Option<String>> = root.query_first("SELECT keyring_key_fetch('s')").unwrap();
    assert_eq!(fetched, Some(None));

    // Functions can be dropped and installed again: nothing holds the keyring.
    drop((nothing, admin, root));
    running.server.shutdown().unwrap();
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn without_a_keyring_the_error_advises_how_to_get_one() {
    let mut running = start();
    let mut root = running.root();
    let check_refusal = |result: mysql::Result<()>| {
        let (code, message) = server_error(result);
        assert_eq!(code, 3200, "{message}");
        for part in ["has no keyring", "component_keyring_file", "mysqld.my", "env:VARIABLE or file:NAME"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("5ecret"));
    };
    check_refusal(root.query_drop("CALL mysql.ml_create_secret('s', '5ecret')"));
    check_refusal(root.query_drop("DO ml_create_secret('s', '5ecret')"));
    assert_eq!(root.query_first::<u32, _>("SELECT COUNT(*) FROM mysql.cloudsql_ml_secrets").unwrap(), Some(0));
    root.query_drop("CALL mysql.ml_create_sm_secret_registration('s', 'keyring:s')").unwrap();
    check_refusal(root.query_drop("CALL mysql.ml_alter_secret('s', '5ecret')"));
    model(&running, &mut root, "m", "/auth/embeddings", "s");
    check_refusal(embed(&mut root, "m", "x").map(|_| ()));
    assert_eq!(running.endpoint.count(), 0);
    // The registration can be dropped.
    root.query_drop("CALL mysql.ml_drop_model_registration('m')").unwrap();
    root.query_drop("CALL mysql.ml_drop_sm_secret_registration('s')").unwrap();
    drop(root);
    running.server.shutdown().unwrap();
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn shutdown_under_calls_that_read_the_keyring() {
    let mut running = start_with_keyring(&[]);
    let mut root = running.root();
    root.query_drop("CALL mysql.ml_set_setting('cache_memory_mb', '0')").unwrap();
    set(&running, &mut root, "ml_create_secret", "openai", &key(0)).unwrap();
    model(&running, &mut root, "m", "/v1/embeddings", "openai");
    drop(root);
    for round in 0..3 {
        let calls = std::sync::Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let (mut conn, calls) = (running.root(), std::sync::Arc::clone(&calls));
                std::thread::spawn(move || {
                    let mut i = 0;
                    // Until the server ends the connection.
                    while embed(&mut conn, "m", &format!("{round} {n} {i}")).is_ok() {
                        i += 1;
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while calls.load(Ordering::Relaxed) < 100 {
            assert!(std::time::Instant::now() < end, "the calls do not get on");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let took = running.server.shutdown().unwrap();
        assert!(took < std::time::Duration::from_secs(8), "shutdown took {took:?}");
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(running.errors_in_log(), Vec::<String>::new());
        running.server.restart().unwrap();
    }
    assert_eq!(embed(&mut running.root(), "m", "after all").unwrap(), Some(8));
}

/// The documentation's blocks that need a keyring, and its statements about visible literals.
#[test]
fn documented_statements_work_and_keep_the_key_out_of_logs() {
    let running = start_with_keyring(&["--log-bin=binlog", "--server-id=1"]);
    let mut count = 0;
    for (n, page) in ["docs/functions.md", "docs/security.md"].into_iter().enumerate() {
        let key = format!("{}-{}", key(7), n);
        let path = key_file(&running, &key);
        for block in common::script(page).split("```text\n-- needs a keyring\n").skip(1) {
            let block = block.split("```").next().unwrap();
            let block = block.replace("/run/secrets/openai.key", &path.display().to_string()).replace("sk-...", &key);
            let mut conn = running.root();
            for statement in testkit::sqlscript::split(&block) {
                conn.query_drop(&statement.text).unwrap_or_else(|e| panic!("{page}: {}: {e}", statement.text));
                count += 1;
            }
            // The server answers a moment before it removes a statement from the process list.
            conn.query_drop("DO 0").unwrap();
            assert_eq!(seen_in_performance_schema(&mut running.root(), &key), Vec::<&str>::new(), "{page}: {block}");
            // Even while the session still exists.
            drop(conn);
            assert!(!running.server.general_log().contains(&key), "{page}: {block}");
        }
        running.root().query_drop("CALL mysql.ml_drop_sm_secret_registration('openai')").unwrap();
    }
    assert!(count >= 7, "only {count} statements were found in the documentation");

    // A literal in the documented way needs these privileges. Without CONNECTION_ADMIN, setting sql_log_off has no
    // effect.
    let mut root = running.root();
    root.query_drop("CREATE USER careful@localhost").unwrap();
    root.query_drop("GRANT SESSION_VARIABLES_ADMIN, CONNECTION_ADMIN ON *.* TO careful@localhost").unwrap();
    root.query_drop("GRANT SELECT, UPDATE ON performance_schema.threads TO careful@localhost").unwrap();
    root.query_drop("GRANT EXECUTE ON PROCEDURE mysql.ml_create_secret TO careful@localhost").unwrap();
    let mut careful = running.server.connect("careful").unwrap();
    careful.query_drop("SET SESSION sql_log_off = ON").unwrap();
    careful.query_drop("UPDATE performance_schema.threads SET INSTRUMENTED = 'NO', HISTORY = 'NO' WHERE PROCESSLIST_ID = CONNECTION_ID()").unwrap();
    careful.query_drop(format!("CALL mysql.ml_create_secret('literal', '{}')", key(8))).unwrap();
    // The server answers a moment before it removes a statement from the process list.
    careful.query_drop("DO 0").unwrap();
    assert_eq!(seen_in_performance_schema(&mut root, &key(8)), Vec::<&str>::new());
    let log = running.server.general_log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&key(8))).collect();
    assert_eq!(lines, Vec::<&str>::new());

    // A value that is no key of the tests, because it is visible.
    let mut conn = running.root();
    conn.query_drop("CALL mysql.ml_create_secret('openai', 'sk-literal-1')").unwrap();
    let mut seen = seen_in_performance_schema(&mut running.root(), "sk-literal-1");
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            "performance_schema.events_statements_current",
            "performance_schema.events_statements_history",
            "performance_schema.events_statements_summary_by_digest"
        ]
    );
    assert!(running.server.general_log().contains("sk-literal-1"));
    conn.exec_drop("CALL mysql.ml_alter_secret('openai', ?)", ("sk-parameter-2",)).unwrap();
    assert!(running.server.general_log().contains("sk-parameter-2"));
    for literal in ["sk-literal-1", "sk-parameter-2"] {
        assert!(!running.server.error_log().contains(literal));
        assert!(!contains(&files(&running, "binlog"), literal));
    }
}
