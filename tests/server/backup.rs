//! docs/backup.md: dumps by mysqldump, restored into servers that have the library.

use std::io::Write;
use std::process::{Output, Stdio};

use crate::common::{script, server_error, start, start_bare, Running, ENV_KEY, FILE_KEY};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};

/// The two kinds of dump: with default options, and with everything.
const DUMPS: [&[&str]; 2] =
    [&["--all-databases"], &["--all-databases", "--routines", "--events", "--triggers", "--single-transaction"]];

/// A server with registrations, accounts, an automatically embedded column, and views that call functions.
fn source() -> Running {
    let running = start();
    let mut root = running.root();
    running.embedding_model(&mut root, "m", "/v1/embeddings");
    for statement in [
        "CALL mysql.ml_create_model_registration('words', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        "CALL mysql.ml_set_setting('timeout_ms', '7000')",
        "CREATE DATABASE shop",
        "CREATE TABLE shop.docs (id INT PRIMARY KEY, body TEXT, v VECTOR(384))",
        "INSERT INTO shop.docs (id, body) VALUES (1, 'a parcel'), (2, 'a password')",
        "CALL ai.initialize_embeddings('words', 'shop.docs', 'body', 'v', NULL, 'transactional')",
        "CREATE VIEW shop.near AS SELECT id, cosine_distance(v, v) AS same, vector_distance(v, v, 'distance_measure=cosine') AS also FROM shop.docs",
        "CREATE VIEW shop.embedded AS SELECT id, LENGTH(mysql.ml_embedding('words', body)) AS bytes FROM shop.docs",
        "CREATE VIEW shop.joined AS SELECT p.provider FROM mysql.ml_model_providers p WHERE p.embedding",
        "CREATE FUNCTION shop.embed(content TEXT) RETURNS VECTOR(384) DETERMINISTIC RETURN mysql.ml_embedding('words', content)",
        "CREATE USER app@localhost",
        "GRANT ml_user TO app@localhost",
        "SET DEFAULT ROLE ALL TO app@localhost",
    ] {
        root.query_drop(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    running
}

fn dump(running: &Running, options: &[&str]) -> Vec<u8> {
    let output = running.server.dump_program("root").args(options).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Runs `mysql < file`.
fn feed(running: &Running, options: &[&str], text: &[u8]) -> Output {
    let mut client = running.server.client("root");
    client.args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = client.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text).unwrap();
    child.wait_with_output().unwrap()
}

fn must_feed(running: &Running, text: &[u8]) {
    let output = feed(running, &[], text);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn install(running: &Running) {
    for name in ["install.sql", "install-ai.sql"] {
        must_feed(running, script(name).as_bytes());
    }
}

/// Checks that everything in [`source`] works on this server.
fn check(running: &Running, with_routines: bool) {
    let mut root = running.root();
    let near: Vec<(i32, f64, f64)> = root.query("SELECT * FROM shop.near ORDER BY id").unwrap();
    assert_eq!(near.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 2]);
    assert!(near.iter().all(|row| row.1.abs() < 1e-6 && row.2.abs() < 1e-6), "{near:?}");
    let embedded: Vec<(i32, u64)> = root.query("SELECT * FROM shop.embedded ORDER BY id").unwrap();
    assert_eq!(embedded, [(1, 1536), (2, 1536)]);
    let providers: Option<u64> = root.query_first("SELECT COUNT(*) FROM mysql.ml_model_providers").unwrap();
    assert!(providers > Some(10), "{providers:?}");
    assert!(root.query_first::<u64, _>("SELECT COUNT(*) FROM shop.joined").unwrap() > Some(5));
    let setting: Option<String> =
        root.query_first("SELECT JSON_VALUE(mysql.ml_list_settings(), '$.timeout_ms')").unwrap();
    assert_eq!(setting.as_deref(), Some("7000"));
    let progress: Vec<Row> = root.query("SELECT * FROM ai.embedding_progress_view").unwrap();
    assert_eq!(progress.len(), 1);
    let mut app = running.server.connect("app").unwrap();
    for call in ["LENGTH(mysql.ml_embedding('m', 'x'))", "LENGTH(ml_embedding('m', 'x'))"] {
        let bytes: Option<u64> = app.query_first(format!("SELECT {call}")).unwrap();
        assert_eq!(bytes, Some(32), "{call}");
    }
    if with_routines {
        let bytes: Option<u64> = root.query_first("SELECT LENGTH(shop.embed('x'))").unwrap();
        assert_eq!(bytes, Some(1536));
    }
}

#[test]
fn a_dump_of_every_kind_is_restored_into_a_fresh_server_and_an_installed_one() {
    let source = source();
    for options in DUMPS {
        let dumped = dump(&source, options);
        for installed_before in [false, true] {
            let mut target = start_bare(&[], &[]);
            if installed_before {
                target.install();
            }
            install(&target);
            must_feed(&target, script("before-restore.sql").as_bytes());
            must_feed(&target, &dumped);
            must_feed(&target, b"FLUSH PRIVILEGES");
            install(&target);
            check(&target, options.len() > 1);
            target.server.restart().unwrap();
            check(&target, options.len() > 1);
        }
    }
}

/// The files below a folder that hold a text.
fn files_with(folder: &std::path::Path, text: &str, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files_with(&entry.path(), text, found);
        } else if entry.file_type().unwrap().is_file()
            && memchr::memmem::find(&std::fs::read(entry.path()).unwrap(), text.as_bytes()).is_some()
        {
            found.push(entry.path());
        }
    }
}

#[test]
fn a_backup_holds_no_key() {
    let mut running = start_bare(&["--log-bin=binlog", "--binlog-format=MIXED"], &[]);
    running.install();
    let mut root = running.root();
    running.endpoint.set_recording(true);
    for (secret, path) in [("by_env", "env:MYSQL_ML_SECRET_TEST"), ("by_file", "file:endpoint-key")] {
        root.exec_drop("CALL mysql.ml_create_sm_secret_registration(?, ?)", (secret, path)).unwrap();
        root.exec_drop(
            "CALL mysql.ml_create_model_registration(?, ?, 'open_ai', 'text_embedding', 'test-8', 'auth_type_secret_manager', ?, NULL, NULL, NULL)",
            (secret, running.endpoint.url("/v1/embeddings"), secret),
        )
        .unwrap();
        let bytes: Option<u64> = root.exec_first("SELECT LENGTH(mysql.ml_embedding(?, 'a text'))", (secret,)).unwrap();
        assert_eq!(bytes, Some(32));
    }
    let sent = format!("{:?}", running.endpoint.requests());
    assert!(sent.contains(ENV_KEY) && sent.contains(FILE_KEY), "the calls had keys");
    for options in DUMPS {
        let dumped = String::from_utf8_lossy(&dump(&running, options)).into_owned();
        assert!(dumped.contains("MYSQL_ML_SECRET_TEST"), "the dump has the registrations");
        assert!(!dumped.contains(ENV_KEY) && !dumped.contains(FILE_KEY));
    }
    let folder: String = root.query_first("SELECT @@datadir").unwrap().unwrap();
    drop(root);
    running.server.shutdown().unwrap();
    for key in [ENV_KEY, FILE_KEY] {
        let mut found = Vec::new();
        files_with(folder.as_ref(), key, &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
    let mut found = Vec::new();
    files_with(folder.as_ref(), "MYSQL_ML_SECRET_TEST", &mut found);
    assert!(!found.is_empty(), "the data directory has the registrations");
}

#[test]
fn a_dump_that_was_restored_by_force_is_mended_by_installing_again() {
    let source = source();
    let dumped = dump(&source, DUMPS[1]);
    let target = start();
    let output = feed(&target, &["--force"], &dumped);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let unexpected =
        |line: &&str| line.starts_with("ERROR") && !(line.contains("ERROR 1304") && line.contains("FUNCTION ml_"));
    assert_eq!(errors.lines().find(unexpected), None);
    must_feed(&target, b"FLUSH PRIVILEGES");
    install(&target);
    check(&target, true);
}

#[test]
fn the_librarys_own_objects_are_restored_where_no_function_is() {
    let source = start();
    let dumped = dump(&source, &["--databases", "mysql", "--routines"]);
    let target = start_bare(&[], &[]);
    must_feed(&target, &dumped);
    must_feed(&target, b"FLUSH PRIVILEGES");
    let mut root = target.root();
    assert!(root.query_first::<u64, _>("SELECT COUNT(*) FROM mysql.ml_model_providers").unwrap() > Some(10));
    install(&target);
    assert!(root.query_first::<String, _>("SELECT mysql.ml_version()").unwrap().is_some());
}

#[test]
fn without_the_library_the_error_names_it() {
    let mut running = start();
    std::fs::remove_file(running.server.plugin_dir().join("mysql_ml.so")).unwrap();
    running.server.restart().unwrap();
    let mut conn: Conn = running.root();
    for call in ["mysql.ml_embedding('m', 'x')", "mysql.ml_version()", "mysql.ml_list_settings()"] {
        let (code, message) = server_error(conn.query::<Row, _>(format!("SELECT {call}")));
        // In a routine that runs as its definer, the server does not report the missing function to that account.
        assert!(matches!(code, 1305 | 1370), "{call}: {message}");
        assert!(message.contains("mysql_ml_so_ml_"), "{call}: {message}");
    }
}
