//! The caches on a real server: the disk cache survives, stays within its size and is never wrong. Identical texts
//! are sent once.

use std::fs;
use std::os::unix::fs::{symlink, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::common::{self, server_error, start, wait_until, Running, Stop};
use fake_providers::embedding_for;
use mysql::prelude::Queryable;
use mysql::Conn;
use serde_json::Value;

const DIMENSIONS: usize = 384;

fn model(running: &Running, conn: &mut Conn, id: &str, path: &str) {
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration(?, ?, 'open_ai', 'text_embedding', ?, NULL, NULL, NULL, NULL, NULL)",
        (id, running.endpoint.url(path), format!("test-{DIMENSIONS}")),
    )
    .unwrap();
}

fn set(conn: &mut Conn, name: &str, value: &str) {
    conn.exec_drop("CALL mysql.ml_set_setting(?, ?)", (name, value)).unwrap();
}

/// Embeds a text and compares the vector with the right one.
fn embed(conn: &mut Conn, model: &str, text: &str) {
    let found: Option<Vec<u8>> = conn
        .exec_first("SELECT mysql.ml_embedding(?, ?)", (model, text))
        .unwrap_or_else(|e| panic!("{model}, {text}: {e}"));
    let right: Vec<u8> = embedding_for(text, DIMENSIONS).iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(found == Some(right), "a wrong vector for {text}");
}

fn status(conn: &mut Conn) -> Value {
    let text: String = conn.query_first("SELECT mysql.ml_status()").unwrap().unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Waits until this many embeddings are written to disk.
fn on_disk(conn: &mut Conn, entries: u64) {
    let mut last = Value::Null;
    wait_until(&format!("{entries} entries on disk"), || {
        last = status(conn)["cache"]["disk"].take();
        last["entries"].as_u64() == Some(entries) && last["queued"] == 0
    });
}

fn folder(running: &Running) -> PathBuf {
    running.server.datadir().join("#mysql_ml_cache")
}

fn file(running: &Running) -> PathBuf {
    folder(running).join("embeddings.sqlite")
}

fn bytes_in(folder: &Path) -> u64 {
    fs::read_dir(folder).map_or(0, |entries| {
        entries.filter_map(|e| e.ok()?.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
    })
}

/// The disk cache's lines in the error log.
fn log_lines(running: &Running) -> Vec<String> {
    running.server.error_log().lines().filter(|l| l.contains("cache on disk")).map(str::to_owned).collect()
}

/// Runs `f` in `n` sessions at once.
fn sessions<T: Send>(running: &Running, n: usize, f: impl Fn(usize, &mut Conn) -> T + Sync) -> Vec<T> {
    let connections: Vec<Conn> = (0..n).map(|_| running.root()).collect();
    let ready = Barrier::new(n);
    std::thread::scope(|scope| {
        let threads: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(i, mut conn)| {
                let (f, ready) = (&f, &ready);
                scope.spawn(move || {
                    ready.wait();
                    f(i, &mut conn)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

#[test]
fn the_disk_cache_outlives_the_server_and_holds_no_texts_and_no_schema_is_seen() {
    let mut running = start();
    let mut root = running.root();
    root.query_drop("CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key')").unwrap();
    model(&running, &mut root, "m", "/v1/embeddings");
    root.query_drop("CALL mysql.ml_alter_model_registration('m', NULL, NULL, NULL, NULL, 'secret_manager', 'key', NULL, NULL, NULL)").unwrap();
    assert!(!folder(&running).exists(), "off: nothing is there");
    let threads = |running: &Running| {
        let tasks = fs::read_dir(format!("/proc/{}/task", running.server.pid().unwrap())).unwrap();
        tasks
            .filter(|t| {
                fs::read_to_string(t.as_ref().unwrap().path().join("comm")).is_ok_and(|c| c.contains("mysql_ml-disk"))
            })
            .count()
    };
    embed(&mut root, "m", "before");
    assert_eq!(threads(&running), 0);
    set(&mut root, "cache_disk_mb", "64");
    assert!(file(&running).exists(), "at once");
    let text = |i: u32| format!("a confidential sentence, number {i}");
    for i in 0..40 {
        embed(&mut root, "m", &text(i));
    }
    // Embeddings of a batch are kept too.
    let batch = serde_json::json!((40..50).map(text).collect::<Vec<_>>()).to_string();
    root.exec_drop("DO mysql.ml_embedding_batch('m', ?)", (batch,)).unwrap();
    on_disk(&mut root, 50);
    assert_eq!(threads(&running), 1);
    let schemas: Vec<String> = root.query("SHOW DATABASES").unwrap();
    assert_eq!(schemas, ["ai", "information_schema", "mysql", "mysql_ml", "performance_schema", "sys"]);
    // No SQL name is reserved either.
    for name in ["mysql_ml_cache", "#mysql_ml_cache"] {
        root.query_drop(format!("CREATE DATABASE `{name}`")).unwrap();
        root.query_drop(format!("CREATE TABLE `{name}`.t (a INT)")).unwrap();
        root.query_drop(format!("DROP DATABASE `{name}`")).unwrap();
    }
    assert!(file(&running).exists());
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(file(&running)), mode(folder(&running))), (0o640, 0o750));
    for entry in fs::read_dir(folder(&running)).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        for needle in ["confidential", common::FILE_KEY, "127.0.0.1"] {
            assert!(!bytes.windows(needle.len()).any(|w| w == needle.as_bytes()), "{needle} is in {}", path.display());
        }
    }

    running.endpoint.clear();
    for crash in [false, true] {
        drop(root);
        match crash {
            true => running.server.kill9(),
            false => running.server.shutdown().map(|_| ()).unwrap(),
        }
        running.server.restart().unwrap();
        root = running.root();
        for i in 0..50 {
            embed(&mut root, "m", &text(i));
        }
        assert_eq!(running.endpoint.count(), 0, "crash: {crash}");
        let counted = status(&mut root);
        assert_eq!(counted["models"]["m"]["disk_hits"], 50);
        assert_eq!(counted["cache"]["disk"]["state"], "on");
    }
    // A changed model has other keys.
    root.query_drop(
        "CALL mysql.ml_alter_model_registration('m', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    )
    .unwrap();
    embed(&mut root, "m", &text(0));
    assert_eq!(running.endpoint.count(), 1);
    set(&mut root, "cache_disk_mb", "0");
    assert!(!folder(&running).exists());
    wait_until("the thread ends", || threads(&running) == 0);
    embed(&mut root, "m", "after");
    // Left by a server that was shut down by other means.
    set(&mut root, "cache_disk_mb", "1");
    root.query_drop("SET GLOBAL innodb_fast_shutdown = 1").unwrap();
    root.query_drop("DELETE FROM mysql.cloudsql_ml_settings").unwrap();
    drop(root);
    running.server.kill9();
    running.server.restart().unwrap();
    let mut root = running.root();
    embed(&mut root, "m", "again");
    assert!(!folder(&running).exists(), "off: what an earlier process left is removed");
    assert_eq!(log_lines(&running), Vec::<String>::new());
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn eviction_keeps_the_file_within_its_size() {
    let running = start();
    let mut root = running.root();
    model(&running, &mut root, "m", "/v1/embeddings");
    set(&mut root, "cache_memory_mb", "0");
    set(&mut root, "cache_disk_mb", "1");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Acquire) {
                most = most.max(bytes_in(&folder(&running)));
                std::thread::sleep(Duration::from_millis(1));
            }
            most
        });
        let stop = Stop(&done);
        sessions(&running, 4, |session, conn| {
            for i in 0..400 {
                embed(conn, "m", &format!("text {i} of {session}"));
            }
        });
        drop(stop);
        let most = watch.join().unwrap();
        assert!((500_000..=1 << 20).contains(&most), "{most}");
    });
    let disk = status(&mut root)["cache"]["disk"].take();
    assert!(disk["evicted"].as_u64() > Some(500), "{disk}");
    assert_eq!(disk["timeouts"], 0, "{disk}");
    let requests = running.endpoint.count();
    embed(&mut root, "m", "text 399 of 0");
    assert_eq!(running.endpoint.count(), requests, "the newest are there");
    embed(&mut root, "m", "text 0 of 0");
    assert_eq!(running.endpoint.count(), requests + 1, "the oldest are not");
}

/// The damage to the file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Damage {
    // While the server is stopped.
    Empty,
    CutToHeader,
    CutInHalf,
    NoDatabase,
    Header,
    Middle,
    Log,
    OtherSchema,
    Folder,
    FolderIsAFile,
    NoRights,
    // While the file is open.
    Deleted,
    FolderDeleted,
    Replaced,
    CutOpen,
    MiddleOpen,
}

impl Damage {
    fn while_open(self) -> bool {
        matches!(
            self,
            Damage::Deleted | Damage::FolderDeleted | Damage::Replaced | Damage::CutOpen | Damage::MiddleOpen
        )
    }

    fn inflict(self, folder: &Path) {
        let path = folder.join("embeddings.sqlite");
        let open = || fs::OpenOptions::new().write(true).open(&path).unwrap();
        let length = fs::metadata(&path).unwrap().len();
        let noise: Vec<u8> = (0..20_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        match self {
            Damage::Empty => open().set_len(0).unwrap(),
            Damage::CutToHeader => open().set_len(100).unwrap(),
            Damage::CutInHalf | Damage::CutOpen => open().set_len(length / 2).unwrap(),
            Damage::NoDatabase => fs::write(&path, "not a database ".repeat(1000)).unwrap(),
            Damage::Header => open().write_all_at(&noise[..100], 0).unwrap(),
            Damage::Middle | Damage::MiddleOpen => {
                let file = open();
                for page in (2..length / 4096).step_by(3) {
                    file.write_all_at(&noise[..2000], page * 4096 + 500).unwrap();
                }
            }
            Damage::Log => fs::write(folder.join("embeddings.sqlite-wal"), &noise).unwrap(),
            Damage::OtherSchema => {
                fs::remove_file(&path).unwrap();
                let other = rusqlite::Connection::open(&path).unwrap();
                other.execute_batch("CREATE TABLE entry (key, model); INSERT INTO entry VALUES (1, 2)").unwrap();
            }
            Damage::Folder => {
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
            }
            Damage::FolderIsAFile => {
                fs::remove_dir_all(folder).unwrap();
                fs::write(folder, "x").unwrap();
            }
            Damage::NoRights => fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap(),
            Damage::Deleted => fs::remove_file(&path).unwrap(),
            Damage::FolderDeleted => fs::remove_dir_all(folder).unwrap(),
            Damage::Replaced => {
                fs::write(path.with_extension("new"), &noise).unwrap();
                fs::rename(path.with_extension("new"), &path).unwrap();
            }
        }
    }

    fn undo(self, folder: &Path) {
        let path = folder.join("embeddings.sqlite");
        match self {
            Damage::Folder => fs::remove_dir(&path).unwrap(),
            Damage::FolderIsAFile => fs::remove_file(folder).unwrap(),
            _ => {}
        }
    }
}

#[test]
fn whatever_happens_to_the_file_no_call_fails_and_no_vector_is_wrong() {
    let mut running = start();
    let mut root = running.root();
    model(&running, &mut root, "m", "/v1/embeddings");
    set(&mut root, "cache_memory_mb", "0");
    const TEXTS: u32 = 60;
    for damage in [
        Damage::Empty,
        Damage::CutToHeader,
        Damage::CutInHalf,
        Damage::NoDatabase,
        Damage::Header,
        Damage::Middle,
        Damage::Log,
        Damage::OtherSchema,
        Damage::Folder,
        Damage::FolderIsAFile,
        Damage::NoRights,
        Damage::Deleted,
        Damage::FolderDeleted,
        Damage::Replaced,
        Damage::CutOpen,
        Damage::MiddleOpen,
    ] {
        set(&mut root, "cache_disk_mb", "0");
        set(&mut root, "cache_disk_mb", "16");
        for i in 0..TEXTS {
            embed(&mut root, "m", &format!("text {i}"));
        }
        on_disk(&mut root, u64::from(TEXTS));
        // The same size again changes nothing; another size checkpoints the log into the file.
        set(&mut root, "cache_disk_mb", "17");
        assert!(fs::metadata(file(&running)).unwrap().len() > 80_000, "{damage:?}");
        let before = log_lines(&running).len();
        if damage.while_open() {
            damage.inflict(&folder(&running));
            // The cache checks its place once a second.
            std::thread::sleep(Duration::from_millis(1100));
        } else {
            drop(root);
            running.server.shutdown().unwrap();
            damage.inflict(&folder(&running));
            running.server.restart().unwrap();
            root = running.root();
        }
        for _ in 0..2 {
            for i in 0..TEXTS {
                embed(&mut root, "m", &format!("text {i}"));
            }
        }
        let lines = log_lines(&running)[before..].to_vec();
        let disk = status(&mut root)["cache"]["disk"].take();
        match damage {
            // Nothing is lost. An empty file is a new one; the log is already in the file; the owner restores
            // its own permissions. Noise in pages that SQLite still has in memory is not read.
            Damage::Empty | Damage::Log | Damage::NoRights => assert!(lines.is_empty(), "{damage:?}: {lines:?}"),
            Damage::MiddleOpen => assert!(lines.len() <= 1, "{damage:?}: {lines:?}"),
            Damage::Folder | Damage::FolderIsAFile => {
                assert_eq!(disk["state"], "failed", "{damage:?}: {disk}");
                assert_eq!(lines.len(), 1, "{damage:?}: reported once: {lines:?}");
                assert!(lines[0].contains("[Warning]") && lines[0].contains("is off"), "{lines:?}");
            }
            // The log repeats a message at most once a minute; only the counters record a sooner repetition.
            _ if damage.while_open() && lines.is_empty() => {
                assert!(disk["rebuilt"].as_u64().unwrap() > 0, "{damage:?}: {disk}");
            }
            _ => {
                assert_eq!(lines.len(), 1, "{damage:?}: reported once: {lines:?}");
                assert!(lines[0].contains("[Warning]") && lines[0].contains("begins anew"), "{lines:?}");
            }
        }
        // It works again.
        damage.undo(&folder(&running));
        set(&mut root, "cache_disk_mb", "0");
        set(&mut root, "cache_disk_mb", "16");
        embed(&mut root, "m", "again");
        on_disk(&mut root, 1);
    }
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

/// A small file system, if the tests may mount one.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount(size: &str) -> Option<Tiny> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|out| out.status.success());
        mounted.then_some(Tiny(folder))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_fails_no_call() {
    let running = start();
    let Some(tiny) = Tiny::mount("1m") else {
        eprintln!("not run: no file system can be mounted here");
        return;
    };
    // The folder may be a link to another disk.
    symlink(tiny.0.path(), folder(&running)).unwrap();
    let mut root = running.root();
    model(&running, &mut root, "m", "/v1/embeddings");
    set(&mut root, "cache_memory_mb", "0");
    set(&mut root, "cache_disk_mb", "64");
    for i in 0..800 {
        embed(&mut root, "m", &format!("text {i}"));
    }
    let disk = status(&mut root)["cache"]["disk"].take();
    assert!(disk["dropped"].as_u64() > Some(0), "{disk}");
    assert!(disk["entries"].as_u64() > Some(10), "{disk}");
    assert_eq!(disk["state"], "full", "{disk}");
    assert!(disk["trouble"].as_str().is_some_and(|t| t.contains("the disk is full")), "{disk}");
    let lines = log_lines(&running);
    assert!(lines.len() == 1 && lines[0].contains("no room"), "reported once: {lines:?}");
    running.endpoint.clear();
    embed(&mut root, "m", "text 0");
    assert_eq!(running.endpoint.count(), 0, "what is there is used on");
    for i in 0..800 {
        embed(&mut root, "m", &format!("text {i}"));
    }
    let cleared: u64 = root.query_first("CALL mysql.ml_cache_clear(NULL)").unwrap().unwrap();
    assert!(cleared > 10);
    set(&mut root, "cache_disk_mb", "0");
    set(&mut root, "cache_disk_mb", "1");
    embed(&mut root, "m", "again");
    wait_until("it is stored again", || {
        let disk = status(&mut root)["cache"]["disk"].take();
        disk["state"] == "on" && disk["trouble"].is_null() && disk["entries"].as_u64() > Some(0)
    });
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn fifty_sessions_with_the_same_twenty_texts_send_twenty_requests() {
    let running = start();
    let mut root = running.root();
    model(&running, &mut root, "m", "/v1/embeddings");
    running.endpoint.set_latency(Duration::from_millis(50), Duration::ZERO);
    for (memory, disk) in [("64", "0"), ("64", "16"), ("0", "16")] {
        set(&mut root, "cache_memory_mb", memory);
        set(&mut root, "cache_disk_mb", disk);
        running.endpoint.clear();
        root.query_drop("CALL mysql.ml_reset_status()").unwrap();
        sessions(&running, 50, |session, conn| {
            for i in 0..20 {
                embed(conn, "m", &format!("{memory} {disk} text {}", (i + session % 3) % 20));
            }
        });
        let counted = status(&mut root)["models"]["m"].take();
        assert_eq!(running.endpoint.count(), 20, "{memory} {disk}: {counted}");
        let n = |name: &str| counted[name].as_u64().unwrap();
        assert_eq!((n("calls"), n("requests")), (1000, 20));
        assert!(n("shared") > 100, "{counted}");
        assert_eq!(n("shared") + n("cache_hits") + n("disk_hits") + n("requests"), 1000, "{counted}");
    }
    // Requests in progress are shared even without any cache.
    set(&mut root, "cache_memory_mb", "0");
    set(&mut root, "cache_disk_mb", "0");
    running.endpoint.set_latency(Duration::from_secs(2), Duration::ZERO);
    running.endpoint.clear();
    sessions(&running, 20, |_, conn| embed(conn, "m", "one text"));
    assert_eq!(running.endpoint.count(), 1);
}

#[test]
fn another_session_takes_over_when_the_one_that_asks_is_killed() {
    let running = start();
    let mut root = running.root();
    model(&running, &mut root, "m", "/v1/embeddings");
    running.endpoint.set_latency(Duration::from_secs(3), Duration::ZERO);
    let waiting = |root: &mut Conn, n: usize| {
        wait_until("all wait", || {
            let rows: Vec<u64> = root
                .query("SELECT ID FROM information_schema.PROCESSLIST WHERE STATE LIKE 'waiting for a model%'")
                .unwrap();
            rows.len() == n
        });
    };
    let id = |conn: &mut Conn| -> u64 { conn.query_first("SELECT CONNECTION_ID()").unwrap().unwrap() };
    let (mut first, mut stopped) = (running.root(), running.root());
    let (first_id, stopped_id) = (id(&mut first), id(&mut stopped));
    std::thread::scope(|scope| {
        let leader =
            scope.spawn(move || server_error(first.query::<mysql::Row, _>("SELECT mysql.ml_embedding('m', 'x')")).0);
        assert!(running.endpoint.wait_for("/v1/embeddings", 1, Duration::from_secs(10)));
        let others: Vec<_> = (0..5)
            .map(|_| {
                let mut conn = running.root();
                scope.spawn(move || embed(&mut conn, "m", "x"))
            })
            .collect();
        let killed =
            scope.spawn(move || server_error(stopped.query::<mysql::Row, _>("SELECT mysql.ml_embedding('m', 'x')")).0);
        waiting(&mut root, 7);
        // A waiter's KILL takes effect at once.
        let began = Instant::now();
        root.query_drop(format!("KILL QUERY {stopped_id}")).unwrap();
        assert_eq!(killed.join().unwrap(), 1317);
        assert!(began.elapsed() < Duration::from_secs(1));
        root.query_drop(format!("KILL QUERY {first_id}")).unwrap();
        assert_eq!(leader.join().unwrap(), 1317);
        for other in others {
            other.join().unwrap();
        }
    });
    assert_eq!(running.endpoint.count(), 2, "one of the others asked anew, once");
    assert_eq!(status(&mut root)["models"]["m"]["shared"], 4);

    // A connection that ends while it leads; then a refusal that all waiters share.
    let mut gone = running.root();
    let gone_id = id(&mut gone);
    running.endpoint.clear();
    std::thread::scope(|scope| {
        scope.spawn(move || gone.query::<mysql::Row, _>("SELECT mysql.ml_embedding('m', 'y')").unwrap_err());
        assert!(running.endpoint.wait_for("/v1/embeddings", 1, Duration::from_secs(10)));
        let mut conn = running.root();
        let other = scope.spawn(move || embed(&mut conn, "m", "y"));
        waiting(&mut root, 2);
        root.query_drop(format!("KILL {gone_id}")).unwrap();
        other.join().unwrap();
    });
    model(&running, &mut root, "refused", "/delay/1500/status/400");
    let errors = sessions(&running, 10, |_, conn| {
        server_error(conn.query::<mysql::Row, _>("SELECT mysql.ml_embedding('refused', 'x')")).1
    });
    assert!(errors.iter().all(|e| e.contains("400") && e == &errors[0]), "{errors:?}");
    assert_eq!(status(&mut root)["models"]["refused"]["requests"], 1);
    assert_eq!(status(&mut root)["models"]["refused"]["errors"]["http_400"], 10);
}

#[test]
fn a_models_embeddings_are_cleared_and_no_others() {
    let mut running = start();
    let mut root = running.root();
    for id in ["m", "n"] {
        model(&running, &mut root, id, "/v1/embeddings");
    }
    let clear = |conn: &mut Conn, id: Option<&str>| -> u64 {
        conn.exec_first("CALL mysql.ml_cache_clear(?)", (id,)).unwrap().unwrap()
    };
    let fill = |conn: &mut Conn| {
        for id in ["m", "n"] {
            for i in 0..30 {
                embed(conn, id, &format!("text {i}"));
            }
        }
    };
    for (memory, disk) in [("64", "0"), ("64", "16"), ("0", "16")] {
        set(&mut root, "cache_memory_mb", memory);
        set(&mut root, "cache_disk_mb", disk);
        fill(&mut root);
        running.endpoint.clear();
        assert_eq!(clear(&mut root, Some("m")), 30, "{memory} {disk}");
        fill(&mut root);
        assert_eq!(running.endpoint.count(), 30, "{memory} {disk}");
        assert_eq!(clear(&mut root, None), 60, "{memory} {disk}");
        assert_eq!(clear(&mut root, None), 0);
        fill(&mut root);
        assert_eq!(running.endpoint.count(), 90, "{memory} {disk}");
        assert_eq!(root.query_first::<String, _>("SELECT ml_cache_clear(NULL)").unwrap().unwrap(), "60");
    }
    // After a restart too, before any call.
    fill(&mut root);
    on_disk(&mut root, 60);
    drop(root);
    running.server.restart().unwrap();
    let mut root = running.root();
    assert_eq!(clear(&mut root, Some("m")), 30);
    assert_eq!(clear(&mut root, Some("nobody")), 0);
    // The result of a request from before a clear does not come back after it.
    running.endpoint.set_latency(Duration::from_secs(1), Duration::ZERO);
    running.endpoint.clear();
    std::thread::scope(|scope| {
        let mut conn = running.root();
        let slow = scope.spawn(move || embed(&mut conn, "m", "slow"));
        assert!(running.endpoint.wait_for("/v1/embeddings", 1, Duration::from_secs(10)));
        assert_eq!(clear(&mut root, Some("m")), 0);
        slow.join().unwrap();
    });
    embed(&mut root, "m", "slow");
    assert_eq!(running.endpoint.count(), 2);
    // A call after the clear does not share a request from before it.
    running.endpoint.clear();
    std::thread::scope(|scope| {
        let mut conn = running.root();
        let slow = scope.spawn(move || embed(&mut conn, "m", "slower"));
        assert!(running.endpoint.wait_for("/v1/embeddings", 1, Duration::from_secs(10)));
        clear(&mut root, Some("m"));
        embed(&mut root, "m", "slower");
        slow.join().unwrap();
    });
    assert_eq!(running.endpoint.count(), 2);
    // Privileges.
    root.query_drop("CREATE USER app@localhost, admin@localhost").unwrap();
    root.query_drop("GRANT EXECUTE ON FUNCTION mysql.ml_embedding TO app@localhost").unwrap();
    root.query_drop("GRANT ml_admin TO admin@localhost").unwrap();
    root.query_drop("SET DEFAULT ROLE ALL TO admin@localhost").unwrap();
    let mut app = running.server.connect("app").unwrap();
    for statement in ["CALL mysql.ml_cache_clear(NULL)", "SELECT ml_cache_clear(NULL)", "SELECT ml_cache_clear('m')"] {
        assert_eq!(server_error(app.query::<mysql::Row, _>(statement)).0, 1370, "{statement}");
    }
    let mut admin = running.server.connect("admin").unwrap();
    assert_eq!(clear(&mut admin, Some("n")), 30);
    let (_, message) = server_error(admin.query::<mysql::Row, _>("CALL mysql.ml_cache_clear('')"));
    assert!(message.contains("model_id is required"), "{message}");
}

#[test]
fn the_size_changes_under_load() {
    let running = start();
    let mut root = running.root();
    model(&running, &mut root, "m", "/v1/embeddings");
    set(&mut root, "cache_memory_mb", "0");
    let (done, calls) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let _stop = Stop(&done);
        let workers: Vec<_> = (0..6)
            .map(|worker| {
                let (done, calls, running) = (&done, &calls, &running);
                scope.spawn(move || {
                    let mut conn = running.root();
                    let mut n = worker * 17;
                    while !done.load(Ordering::Acquire) {
                        n += 1;
                        embed(&mut conn, "m", &format!("text {}", n % 700));
                        calls.fetch_add(1, Ordering::AcqRel);
                    }
                })
            })
            .collect();
        for round in 0..4 {
            for size in ["1", "64", "0", "2", "1", "0"] {
                set(&mut root, "cache_disk_mb", size);
                if size == "0" {
                    assert!(!folder(&running).exists(), "round {round}");
                }
                let target = calls.load(Ordering::Acquire) + 100;
                wait_until("calls go on", || {
                    assert!(workers.iter().all(|w| !w.is_finished()), "a call failed");
                    calls.load(Ordering::Acquire) >= target
                });
                if round == 2 {
                    root.query_drop("CALL mysql.ml_cache_clear('m')").unwrap();
                }
            }
        }
        set(&mut root, "cache_disk_mb", "1");
    });
    assert!(bytes_in(&folder(&running)) <= 1 << 20);
    assert_eq!(log_lines(&running), Vec::<String>::new());
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn a_crash_while_it_is_written_leaves_no_wrong_vector() {
    let mut running = start();
    let mut root = running.root();
    model(&running, &mut root, "m", "/v1/embeddings");
    set(&mut root, "cache_memory_mb", "0");
    set(&mut root, "cache_disk_mb", "8");
    for round in 0..5 {
        let calls = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let calls = &calls;
                let mut conn = running.root();
                scope.spawn(move || {
                    for n in 0.. {
                        let text = format!("round {round} worker {worker} text {n}");
                        let found: mysql::Result<Option<Vec<u8>>> =
                            conn.exec_first("SELECT mysql.ml_embedding('m', ?)", (&text,));
                        if found.is_err() {
                            break; // the server is gone
                        }
                        calls.fetch_add(1, Ordering::AcqRel);
                    }
                });
            }
            wait_until("calls", || calls.load(Ordering::Acquire) > 200 + round * 150);
            running.server.kill9();
        });
        running.server.restart().unwrap();
        let mut conn = running.root();
        for worker in 0..4 {
            for n in 0..100 {
                embed(&mut conn, "m", &format!("round {round} worker {worker} text {n}"));
            }
        }
        let counted = status(&mut conn);
        assert!(counted["models"]["m"]["disk_hits"].as_u64() > Some(100), "{counted}");
        root = conn;
    }
    assert_eq!(log_lines(&running), Vec::<String>::new());
    drop(root);
}
