//! Local models in the server: many concurrent sessions, kills, memory, fetching.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fake_providers::hub::Hub;
use serde_json::json;
use testkit::golden;
use testkit::tiny_model::{self, bert_tensors, write_safetensors};

use crate::common::{server_error, start, Running};
use mysql::prelude::Queryable;
use mysql::Conn;

#[test]
fn a_tokenizer_that_makes_texts_grow_leaves_the_server_and_other_models_alone() {
    let running = start();
    for name in ["growing", "tiny"] {
        tiny_model::bert(&running.models().join(name)).unwrap();
    }
    let path = running.models().join("growing/tokenizer.json");
    let mut file: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let rule = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"});
    file["normalizer"] = json!({"type": "Sequence", "normalizers": vec![rule; 9]});
    std::fs::write(&path, file.to_string()).unwrap();
    let mut root = running.root();
    register(&mut root, "growing", "growing");
    register(&mut root, "tiny", "tiny");
    for text in ["banana", "a"] {
        let sql = format!("SELECT mysql.ml_embedding('growing', REPEAT('{text} ', 1000))");
        let (code, message) = server_error(root.query::<mysql::Row, _>(sql));
        assert!(code == 3200 && message.contains("make more than 2 MB"), "{code} {message}");
    }
    let dimensions: Option<u32> = root.query_first("SELECT VECTOR_DIM(mysql.ml_embedding('tiny', 'cat'))").unwrap();
    assert_eq!(dimensions, Some(8));
    // The option shortens the model's vectors.
    root.query_drop("CALL mysql.ml_set_model_options('tiny', '{\"dimensions\": 4}')").unwrap();
    let dimensions: Option<u32> = root.query_first("SELECT VECTOR_DIM(mysql.ml_embedding('tiny', 'cat'))").unwrap();
    assert_eq!(dimensions, Some(4));
    assert!(running.errors_in_log().is_empty());
}

#[test]
fn sessions_with_long_texts_let_another_accounts_call_on_another_model_through() {
    let running = start();
    running.put_minilm();
    tiny_model::bert(&running.models().join("tiny")).unwrap();
    let mut root = running.root();
    register(&mut root, "tiny", "tiny");
    root.query_drop(
        "CREATE USER app@localhost; GRANT `ml_user` TO app@localhost; SET DEFAULT ROLE `ml_user` TO app@localhost",
    )
    .unwrap();
    root.query_drop("SELECT mysql.ml_embedding('bert_local', 'load it'), mysql.ml_embedding('tiny', 'load it')")
        .unwrap();
    let long = "a long text of many words ".repeat(60);
    let go_on = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for session in 0..33 {
            let (running, go_on, long) = (&running, &go_on, &long);
            scope.spawn(move || {
                let mut conn = running.root();
                conn.query_drop("SET SESSION max_execution_time = 0").unwrap();
                for i in 0.. {
                    if !go_on.load(Ordering::Relaxed) {
                        break;
                    }
                    // A killed or late statement does not matter here.
                    let _ = conn
                        .exec_drop("SELECT mysql.ml_embedding('bert_local', ?)", (format!("{session} {i} {long}"),));
                }
            });
        }
        wait_until(&mut root, |root| local_status(root)["waiting"].as_u64().unwrap() > 20);
        let mut app = running.server.connect("app").unwrap();
        for i in 0..10 {
            let began = Instant::now();
            app.exec_drop("SELECT mysql.ml_embedding('tiny', ?)", (format!("cat {i}"),)).unwrap();
            assert!(began.elapsed() < Duration::from_secs(2), "call {i}: {:?}", began.elapsed());
        }
        go_on.store(false, Ordering::Relaxed);
    });
}

fn register(conn: &mut Conn, id: &str, place: &str) {
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration(?, ?, 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        (id, place),
    )
    .unwrap();
}

/// The local models in `ml_status()`.
fn local_status(conn: &mut Conn) -> serde_json::Value {
    let status: String = conn.query_first("SELECT mysql.ml_status()").unwrap().unwrap();
    serde_json::from_str::<serde_json::Value>(&status).unwrap()["local"].clone()
}

#[test]
fn fifty_sessions_share_one_copy_and_each_gets_its_own_vectors() {
    let running = start();
    running.put_minilm();
    let golden = golden::minilm().unwrap();
    let short: Vec<&(String, Vec<f32>)> = golden.iter().filter(|(text, _)| text.len() < 200).take(50).collect();
    std::thread::scope(|scope| {
        for session in 0..50 {
            let (running, short) = (&running, &short);
            scope.spawn(move || {
                let mut conn = running.root();
                for i in 0..3 {
                    let (text, wanted) = short[(session * 7 + i * 13) % short.len()];
                    let got: Vec<u8> =
                        conn.exec_first("SELECT mysql.ml_embedding('bert_local', ?)", (text,)).unwrap().unwrap();
                    let got: Vec<f32> = got.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                    assert!(golden::cosine(&got, wanted) > 0.9999, "{text}");
                }
            });
        }
    });
    let status = local_status(&mut running.root());
    let models = status["models"].as_array().unwrap();
    assert_eq!(models.len(), 1, "{status}");
    assert_eq!(models[0]["kind"], "bert");
    assert!(models[0]["memory_bytes"].as_u64().unwrap() < 250 << 20, "{status}");
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(status["threads"].as_u64().unwrap() <= cores.div_ceil(2) as u64, "{status}");
}

/// Runs `sql` in another session until it is killed. Returns the time that took, and the error's number.
fn killed(running: &Running, sql: String, after: impl FnOnce(&mut Conn)) -> (Duration, u16) {
    let mut conn = running.root();
    let id = conn.connection_id();
    let statement = std::thread::spawn(move || server_error(conn.query::<mysql::Row, _>(sql)).0);
    let mut root = running.root();
    after(&mut root);
    let began = Instant::now();
    root.query_drop(format!("KILL QUERY {id}")).unwrap();
    let code = statement.join().unwrap();
    (began.elapsed(), code)
}

/// Waits until the condition holds.
fn wait_until(conn: &mut Conn, mut what: impl FnMut(&mut Conn) -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !what(conn) {
        assert!(Instant::now() < end, "it does not come so far");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends the test's other session, even if the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[test]
fn a_kill_ends_a_long_batch_and_disturbs_no_other() {
    let running = start();
    running.put_minilm();
    let mut root = running.root();
    root.query_drop("SELECT mysql.ml_embedding('bert_local', 'load it')").unwrap();
    let other = AtomicBool::new(true);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut conn = running.root();
            let mut i = 0;
            while other.load(Ordering::Relaxed) {
                i += 1;
                conn.exec_drop("SELECT mysql.ml_embedding('bert_local', ?)", (format!("another one {i}"),)).unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _ending = Ending(&other);
        let texts: Vec<String> =
            (0..5000).map(|i| format!("{i} {}", "a long text of some words ".repeat(20))).collect();
        let array = serde_json::to_string(&texts).unwrap();
        let sql = format!("SELECT LENGTH(mysql.ml_embedding_batch('bert_local', '{array}'))");
        let (took, code) = killed(&running, sql, |root| {
            wait_until(root, |root| local_status(root)["waiting"].as_u64().unwrap() > 100);
        });
        assert_eq!(code, 1317);
        assert!(took < Duration::from_secs(1), "{took:?}");
        // Its memory is released, and the other session continues.
        let before = done.load(Ordering::Relaxed);
        wait_until(&mut root, |root| local_status(root)["waiting"].as_u64().unwrap() < 100);
        wait_until(&mut root, |_| done.load(Ordering::Relaxed) > before + 3);
    });
}

#[test]
fn a_kill_and_the_deadline_end_a_long_ranking() {
    let running = start();
    testkit::weights::reranker(&running.models().join("reranker"), &|step| eprintln!("{step}")).unwrap();
    let mut root = running.root();
    root.query_drop("CALL mysql.ml_create_model_registration('rank', 'reranker', 'bert_rerank_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL)").unwrap();
    let rank = |documents: usize| {
        let texts: Vec<String> =
            (0..documents).map(|i| format!("{i} {}", "some words of a text ".repeat(20))).collect();
        format!("SELECT JSON_LENGTH(ai_rerank('rank', 'which text', '{}'))", serde_json::to_string(&texts).unwrap())
    };
    assert_eq!(root.query_first::<u32, _>(rank(20)).unwrap(), Some(20));
    root.query_drop("CALL mysql.ml_set_setting('timeout_ms', '300')").unwrap();
    let (_, message) = server_error(root.query::<mysql::Row, _>(rank(10_000)));
    assert!(message.contains("not done in time"), "{message}");
    root.query_drop("CALL mysql.ml_set_setting('timeout_ms', '600000')").unwrap();
    let (took, code) = killed(&running, rank(10_000), |root| {
        wait_until(root, |root| local_status(root)["waiting"].as_u64().unwrap() > 100);
    });
    assert_eq!(code, 1317);
    assert!(took < Duration::from_secs(2), "{took:?}");
    // The threads are free again.
    assert_eq!(root.query_first::<u32, _>(rank(2)).unwrap(), Some(2));
    assert!(running.errors_in_log().is_empty());
}

#[test]
fn a_long_text_without_sentences_is_cut_until_a_kill_or_the_deadline() {
    let running = start();
    let mut root = running.root();
    // A search for sentences looks ahead from each space behind a full stop: the slowest of texts.
    let sql = "SELECT LENGTH(ai_chunk(REPEAT(CONCAT('. ', REPEAT(' ', 4000)), 4000)))";
    root.query_drop("CALL mysql.ml_set_setting('timeout_ms', '300')").unwrap();
    let began = Instant::now();
    let (_, message) = server_error(root.query::<mysql::Row, _>(sql));
    assert!(message.contains("not cut in time") && began.elapsed() < Duration::from_secs(10), "{message}");
    root.query_drop("CALL mysql.ml_set_setting('timeout_ms', '600000')").unwrap();
    let (took, code) = killed(&running, sql.to_owned(), |root| {
        wait_until(root, |root| {
            let rows: Vec<mysql::Row> = root.query("SHOW FULL PROCESSLIST").unwrap();
            let mut states = rows.iter().filter_map(|row| row.get_opt::<Option<String>, _>("State")?.ok()?);
            states.any(|state| state.starts_with("cutting a text"))
        });
    });
    assert_eq!(code, 1317);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(running.errors_in_log().is_empty());
}

#[test]
fn models_are_loaded_and_unloaded_under_load() {
    let running = start();
    tiny_model::bert(&running.models().join("tiny")).unwrap();
    let mut root = running.root();
    register(&mut root, "tiny", "tiny");
    root.query_drop("CALL mysql.ml_set_setting('cache_memory_mb', '0')").unwrap();
    let wanted: Vec<u8> = root.query_first("SELECT mysql.ml_embedding('tiny', 'the cat')").unwrap().unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut conn = running.root();
                while Instant::now() < end {
                    let got: Vec<u8> =
                        conn.query_first("SELECT mysql.ml_embedding('tiny', 'the cat')").unwrap().unwrap();
                    assert_eq!(got, wanted);
                }
            });
        }
        scope.spawn(|| {
            let mut conn = running.root();
            while Instant::now() < end {
                conn.query_drop("CALL mysql.ml_unload_model('tiny')").unwrap();
                conn.query_drop("CALL mysql.ml_load_model('tiny')").unwrap();
            }
        });
    });
    assert!(running.errors_in_log().is_empty());
}

#[test]
fn memory_is_given_back_when_a_model_is_unloaded() {
    let running = start();
    running.put_minilm();
    let mut root = running.root();
    // Other one-time memory of the first calls.
    tiny_model::bert(&running.models().join("tiny")).unwrap();
    register(&mut root, "tiny", "tiny");
    root.query_drop("SELECT mysql.ml_embedding('tiny', 'the cat')").unwrap();
    let before = running.server.rss_kib().unwrap();
    let mut left = 0;
    for round in 0..4 {
        root.query_drop("CALL mysql.ml_load_model('bert_local')").unwrap();
        root.exec_drop("SELECT mysql.ml_embedding('bert_local', ?)", (format!("used {round}"),)).unwrap();
        let loaded = running.server.rss_kib().unwrap();
        root.query_drop("CALL mysql.ml_unload_model('bert_local')").unwrap();
        left = running.server.rss_kib().unwrap().saturating_sub(before);
        println!("loaded {} MiB, left {} MiB", loaded.saturating_sub(before) >> 10, left >> 10);
        assert!(loaded - before > 80 << 10 && loaded - before < 250 << 10, "{} KiB", loaded - before);
    }
    assert!(left < 30 << 10, "{left} KiB are left of a model of 90 MiB");
    assert_eq!(local_status(&mut root)["models"].as_array().unwrap().len(), 1);
}

#[test]
fn a_changed_file_is_another_model_after_it_is_unloaded() {
    let running = start();
    tiny_model::bert(&running.models().join("tiny")).unwrap();
    let mut root = running.root();
    register(&mut root, "tiny", "tiny");
    let ask = |root: &mut Conn| -> Vec<u8> {
        root.query_first("SELECT mysql.ml_embedding('tiny', 'the cat')").unwrap().unwrap()
    };
    let first = ask(&mut root);
    let mut tensors = bert_tensors();
    tensors[0].2.iter_mut().for_each(|x| *x = -*x);
    let file = running.models().join("tiny/model.safetensors");
    std::fs::remove_file(&file).unwrap();
    write_safetensors(&file, &tensors).unwrap();
    assert_eq!(ask(&mut root), first);
    root.query_drop("CALL mysql.ml_unload_model('tiny')").unwrap();
    assert_ne!(ask(&mut root), first);
}

#[test]
fn the_demo_runs_with_real_weights() {
    let running = start();
    let weights = testkit::weights::minilm(&|step| eprintln!("{step}")).unwrap();
    testkit::weights::copy(&weights, &running.models().join("all-MiniLM-L6-v2")).unwrap();
    testkit::demo::run(&running.server, true).unwrap();
    let closest: Option<String> = running
        .root()
        .query_first("SELECT category FROM shop.support ORDER BY cosine_distance(v, mysql.ml_query_embedding('minilm', 'I forgot my password')) LIMIT 1")
        .unwrap();
    assert_eq!(closest.as_deref(), Some("Passwords"));
}

/// A repository whose weights take several pieces.
fn large_repository(running: &Running) -> std::sync::Arc<Hub> {
    let folder = running.secrets.path().join("repository");
    tiny_model::bert(&folder).unwrap();
    let mut tensors = bert_tensors();
    tensors.push(("unused".into(), vec![10 << 20], vec![0.25; 10 << 20]));
    write_safetensors(&folder.join("model.safetensors"), &tensors).unwrap();
    Hub::serve(&running.endpoint, "test/large", &folder).unwrap()
}

#[test]
fn a_fetch_goes_on_where_it_was_and_refuses_other_bytes() {
    let running = start();
    let hub = large_repository(&running);
    let mut root = running.root();
    register(&mut root, "large", "hf:test/large");
    let host = running.endpoint.url("").trim_end_matches('/').to_owned();
    root.exec_drop("CALL mysql.ml_set_setting('huggingface_host', ?)", (host,)).unwrap();
    root.query_drop("CALL mysql.ml_set_setting('max_retries', '0')").unwrap();
    let fetch = |root: &mut Conn| root.query::<mysql::Row, _>("CALL mysql.ml_fetch_model('large')");
    let pieces = |running: &Running| running.endpoint.count_for("/cdn/test/large/model.safetensors");

    // The connection fails after some pieces: no model can be loaded.
    hub.pieces.store(8, Ordering::Relaxed);
    let (_, message) = server_error(fetch(&mut root));
    assert!(message.contains("404"), "{message}");
    assert!(!running.models().join("test/large").exists());
    let (_, message) = server_error(root.query::<mysql::Row, _>("SELECT mysql.ml_embedding('large', 'cat')"));
    assert!(message.contains("ml_fetch_model('large')"), "{message}");

    // The next fetch continues; its last piece is damaged.
    hub.pieces.store(0, Ordering::Relaxed);
    hub.damaged.store(true, Ordering::Relaxed);
    let before = pieces(&running);
    let (_, message) = server_error(fetch(&mut root));
    assert!(message.contains("SHA-256"), "{message}");
    let second = pieces(&running) - before;
    assert!(second < 6, "{second} pieces were fetched again");
    assert!(!running.models().join("test/large").exists());

    hub.damaged.store(false, Ordering::Relaxed);
    fetch(&mut root).unwrap();
    assert_eq!(
        std::fs::read(running.models().join("test/large/model.safetensors")).unwrap(),
        std::fs::read(running.secrets.path().join("repository/model.safetensors")).unwrap()
    );
    let dimensions: Option<u32> = root.query_first("SELECT VECTOR_DIM(mysql.ml_embedding('large', 'cat'))").unwrap();
    assert_eq!(dimensions, Some(8));
    // Again over existing files.
    fetch(&mut root).unwrap();
}

#[test]
fn a_fetch_tells_how_far_it_is_and_can_be_killed() {
    let running = start();
    let hub = large_repository(&running);
    hub.delay_ms.store(300, Ordering::Relaxed);
    let mut root = running.root();
    register(&mut root, "large", "hf:test/large");
    let host = running.endpoint.url("").trim_end_matches('/').to_owned();
    root.exec_drop("CALL mysql.ml_set_setting('huggingface_host', ?)", (host,)).unwrap();
    let (took, code) = killed(&running, "SELECT ml_fetch_model('large')".into(), |root| {
        wait_until(root, |root| {
            let rows: Vec<mysql::Row> = root.query("SHOW FULL PROCESSLIST").unwrap();
            let states = rows.iter().filter_map(|row| row.get_opt::<Option<String>, _>("State")?.ok()?);
            states.into_iter().any(|s| s.starts_with("fetching a model: ") && s.contains("MB, model.safetensors"))
        });
        // A second fetch does not wait and says so.
        let (_, message) = server_error(root.query::<mysql::Row, _>("SELECT ml_fetch_model('large')"));
        assert!(message.contains("another session"), "{message}");
    });
    assert_eq!(code, 1317);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!running.models().join("test/large").exists());
}

#[test]
fn a_fetch_never_deletes_the_models_of_others() {
    let running = start();
    let folder = running.secrets.path().join("repository");
    tiny_model::bert(&folder).unwrap();
    for id in ["acme", "acme/model-three"] {
        Hub::serve(&running.endpoint, id, &folder).unwrap();
    }
    for name in ["acme/model-one", "acme/model-two"] {
        tiny_model::bert(&running.models().join(name)).unwrap();
    }
    let mut root = running.root();
    let host = running.endpoint.url("").trim_end_matches('/').to_owned();
    root.exec_drop("CALL mysql.ml_set_setting('huggingface_host', ?)", (host,)).unwrap();
    register(&mut root, "all", "hf:acme");
    register(&mut root, "three", "hf:acme/model-three");
    register(&mut root, "one", "acme/model-one");
    let (_, message) = server_error(root.query::<mysql::Row, _>("CALL mysql.ml_fetch_model('all')"));
    assert!(message.contains("is not replaced") && message.contains("move it away"), "{message}");
    root.query_drop("CALL mysql.ml_fetch_model('three')").unwrap();
    root.query_drop("CALL mysql.ml_fetch_model('three')").unwrap();
    for model in ["one", "three"] {
        let sql = format!("SELECT VECTOR_DIM(mysql.ml_embedding('{model}', 'cat'))");
        assert_eq!(root.query_first::<u32, _>(sql).unwrap(), Some(8));
    }
    assert!(running.models().join("acme/model-two/model.safetensors").exists());
    // A user's own file among the fetched ones.
    std::fs::write(running.models().join("acme/model-three/notes.txt"), "mine").unwrap();
    let (_, message) = server_error(root.query::<mysql::Row, _>("CALL mysql.ml_fetch_model('three')"));
    assert!(message.contains("notes.txt"), "{message}");
}

/// A table of texts without vectors.
fn texts_without_vectors(root: &mut Conn, rows: usize) {
    root.query_drop("CREATE DATABASE IF NOT EXISTS work").unwrap();
    root.query_drop("CREATE TABLE work.t (id INT PRIMARY KEY, body TEXT, v VECTOR(384))").unwrap();
    let texts: Vec<String> =
        golden::minilm().unwrap().into_iter().map(|(text, _)| text).filter(|text| text.len() < 200).collect();
    let rows = (0..rows).map(|i| (i, format!("{} {i}", texts[i % texts.len()])));
    root.query_drop("START TRANSACTION").unwrap();
    root.exec_batch("INSERT INTO work.t (id, body) VALUES (?, ?)", rows).unwrap();
    root.query_drop("COMMIT").unwrap();
}

fn with_vectors(conn: &mut Conn) -> u64 {
    conn.query_first("SELECT COUNT(*) FROM work.t WHERE v IS NOT NULL").unwrap().unwrap()
}

#[test]
fn rows_of_a_table_are_written_from_the_first_second_on() {
    let running = start();
    running.put_minilm();
    let mut root = running.root();
    root.query_drop("SELECT mysql.ml_embedding('bert_local', 'load it')").unwrap();
    texts_without_vectors(&mut root, 20_000);
    // The machine's speed under its current load.
    let began = Instant::now();
    let some = "SELECT LENGTH(mysql.ml_embedding_batch('bert_local', (SELECT JSON_ARRAYAGG(CONCAT(body, ' alone')) FROM work.t WHERE id < 64)))";
    root.query_drop(some).unwrap();
    let batch = began.elapsed();
    let mut conn = running.root();
    let id = conn.connection_id();
    let began = Instant::now();
    let job = std::thread::spawn(move || {
        server_error(
            conn.query::<mysql::Row, _>("CALL mysql.ml_embed_table('bert_local', 'work.t', 'body', 'v', NULL)"),
        )
    });
    let mut first = 0;
    wait_until(&mut root, |root| {
        first = with_vectors(root);
        first > 0 || job.is_finished()
    });
    let after = began.elapsed();
    // Batch by batch, instead of after all concurrent requests.
    assert!(first < 8 * 64, "{first} rows at once");
    assert!(after < Duration::from_secs(1) + 4 * batch, "{after:?}, and {batch:?} for a batch");
    std::thread::sleep(Duration::from_secs(3).saturating_sub(began.elapsed()));
    let before = with_vectors(&mut root);
    root.query_drop(format!("KILL QUERY {id}")).unwrap();
    let (code, message) = job.join().unwrap();
    let kept = with_vectors(&mut root);
    println!("{first} rows after {after:?}, {before} when it was killed, {kept} kept; a batch takes {batch:?}");
    assert_eq!(code, 1317, "{message}");
    assert!(before >= first && kept >= before && kept < 20_000, "{first} {before} {kept}");
    let noted: Option<(String, u64)> =
        root.query_first("SELECT status, embedded FROM mysql.cloudsql_ml_embed_progress").unwrap();
    let (status, embedded) = noted.unwrap();
    assert!(status == "stopped" && embedded <= kept, "{status} {embedded} {kept}");
}
