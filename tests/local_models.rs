//! Models inside the server: vectors against golden values of sentence-transformers, files that are not as they should be,
//! many sessions at once, kills, memory, fetching.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::prelude::{Engine as _, BASE64_STANDARD};
use half::f16;
use mysql_ml::local::files::ModelDir;
use mysql_ml::local::sentence::SentenceModel;
use mysql_ml::local::static_embedding::StaticModel;
use mysql_ml::local::turn::Turn;
use mysql_ml::local::{EmbedOptions, LocalModel};
use mysql_ml::providers::Role;
use xtask::endpoint::hub::Hub;
use xtask::tiny_model::{self, bert_tensors, write_safetensors};

use common::{server_error, start, Running};
use mysql::prelude::Queryable;
use mysql::Conn;

const CUT: EmbedOptions = EmbedOptions { role: Role::Document, truncate: true, dimensions: None };

fn minilm() -> ModelDir {
    let path = xtask::weights::minilm(&|line| eprintln!("{line}")).expect("the weights of all-MiniLM-L6-v2");
    ModelDir::open(path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap()).unwrap()
}

fn golden() -> Vec<(String, Vec<f32>)> {
    let read = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = BASE64_STANDARD.decode(value["vector"].as_str().unwrap()).unwrap();
        let vector = bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect();
        (value["text"].as_str().unwrap().to_owned(), vector)
    };
    include_str!("golden/minilm.jsonl").lines().map(read).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let model = SentenceModel::open(&minilm()).unwrap();
    let golden = golden();
    assert_eq!((golden.len(), model.dimensions()), (200, Some(384)));
    let texts: Vec<&str> = golden.iter().map(|(text, _)| text.as_str()).collect();
    let vectors = model.embed(&texts, CUT, &Turn::default()).unwrap();
    let mut worst = 1.0_f64;
    for (i, ((text, wanted), got)) in golden.iter().zip(&vectors).enumerate() {
        let got = got.as_ref().unwrap();
        let cosine = cosine(wanted, got);
        worst = worst.min(cosine);
        assert!(cosine > 0.9999, "{cosine} for {text}");
        if i % 8 != 0 {
            continue;
        }
        let alone = model.embed(&[text], CUT, &Turn::default()).unwrap().remove(0).unwrap();
        assert_eq!(&alone, got, "alone and among others: {text}");
    }
    println!("the least cosine is {worst}");
}

#[test]
fn every_architecture_computes_what_transformers_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny_encoders");
    for name in ["bert", "roberta", "distilbert", "mpnet"] {
        let model = SentenceModel::open(&ModelDir::open(&root, name).unwrap()).unwrap();
        let expected = std::fs::read(root.join(name).join("expected.json")).unwrap();
        let expected: Vec<serde_json::Value> = serde_json::from_slice(&expected).unwrap();
        let texts: Vec<&str> = expected.iter().map(|e| e["text"].as_str().unwrap()).collect();
        let vectors = model.embed(&texts, CUT, &Turn::default()).unwrap();
        for (e, got) in expected.iter().zip(vectors) {
            let wanted = e["vector"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32);
            for (got, wanted) in got.unwrap().iter().zip(wanted) {
                assert!((got - wanted).abs() < 2e-5, "{name}: {got} and not {wanted} for {}", e["text"]);
            }
        }
    }
}

/// The error of loading a made-up model after a change to its files.
fn refused(change: impl FnOnce(&Path)) -> String {
    let root = tempfile::tempdir().unwrap();
    tiny_model::bert(&root.path().join("m")).unwrap();
    change(&root.path().join("m"));
    let dir = ModelDir::open(root.path(), "m").unwrap();
    SentenceModel::open(&dir).err().expect("the model was loaded").message().to_owned()
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {}", path.display());
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn damaged_files_are_errors_that_name_them() {
    const WEIGHTS: &str = "model.safetensors";
    fn bytes(dir: &Path) -> Vec<u8> {
        std::fs::read(dir.join(WEIGHTS)).unwrap()
    }
    type Change = Box<dyn FnOnce(&Path)>;
    let tensors = |change: fn(&mut Vec<tiny_model::Tensor>)| -> Change {
        Box::new(move |dir: &Path| {
            let mut tensors = bert_tensors();
            change(&mut tensors);
            write_safetensors(&dir.join(WEIGHTS), &tensors).unwrap();
        })
    };
    let cases: Vec<(Change, &[&str])> = vec![
        (
            Box::new(move |d| std::fs::write(d.join(WEIGHTS), &bytes(d)[..100]).unwrap()),
            &["model.safetensors", "not complete"],
        ),
        (Box::new(move |d| std::fs::write(d.join(WEIGHTS), b"").unwrap()), &["model.safetensors", "no header"]),
        (
            Box::new(move |d| {
                let mut b = bytes(d);
                b.extend([0; 7]);
                std::fs::write(d.join(WEIGHTS), b).unwrap();
            }),
            &["model.safetensors", "its header wants"],
        ),
        (
            Box::new(move |d| {
                let mut b = bytes(d);
                b[..8].copy_from_slice(&u64::MAX.to_le_bytes());
                std::fs::write(d.join(WEIGHTS), b).unwrap();
            }),
            &["model.safetensors", "header"],
        ),
        (Box::new(move |d| std::fs::remove_file(d.join(WEIGHTS)).unwrap()), &["model.safetensors", "cannot be read"]),
        (
            Box::new(move |d| {
                std::fs::remove_file(d.join(WEIGHTS)).unwrap();
                std::fs::write(d.join("pytorch_model.bin"), "x").unwrap();
            }),
            &["pytorch_model.bin", "convert"],
        ),
        (tensors(|t| t[0].2[5] = f32::NAN), &["embeddings.word_embeddings.weight", "not finite"]),
        (tensors(|t| t[9].2[0] = f32::INFINITY), &["encoder.layer.0", "not finite"]),
        (tensors(|t| drop(t.remove(7))), &["no tensor encoder.layer.0"]),
        (
            tensors(|t| {
                t[5].1 = vec![4, 16];
            }),
            &["encoder.layer.0.attention.self.query.weight", "[4, 16]", "[8, 8]"],
        ),
        (Box::new(|d| std::fs::write(d.join("tokenizer.json"), "{}").unwrap()), &["tokenizer.json"]),
        (Box::new(|d| std::fs::remove_file(d.join("tokenizer.json")).unwrap()), &["tokenizer.json", "cannot be read"]),
        (Box::new(|d| edit(&d.join("config.json"), "\"bert\"", "\"llama\"")), &["config.json", "llama"]),
        (
            Box::new(|d| edit(&d.join("config.json"), "\"hidden_size\":8", "\"hidden_size\":0")),
            &["config.json", "hidden_size"],
        ),
        (Box::new(|d| edit(&d.join("config.json"), "\"hidden_size\":8", "\"hidden_size\":1000000")), &["shape"]),
        (
            Box::new(|d| edit(&d.join("config.json"), "\"num_attention_heads\":2", "\"num_attention_heads\":3")),
            &["num_attention_heads"],
        ),
        (Box::new(|d| edit(&d.join("config.json"), "gelu", "swish_of_sorts")), &["hidden_act", "swish_of_sorts"]),
        (Box::new(|d| edit(&d.join("modules.json"), "models.Normalize", "models.LSTM")), &["modules.json", "LSTM"]),
        (Box::new(|d| edit(&d.join("modules.json"), "1_Pooling", "../..")), &["leads out"]),
        (
            Box::new(|d| edit(&d.join("1_Pooling/config.json"), "mean_tokens", "weightedmean_tokens")),
            &["pooling weightedmean_tokens"],
        ),
        (Box::new(|d| edit(&d.join("sentence_bert_config.json"), "16", "2")), &["max_seq_length"]),
    ];
    for (i, (change, parts)) in cases.into_iter().enumerate() {
        let message = refused(change);
        for part in parts {
            assert!(message.contains(part), "case {i}: {part} is not in: {message}");
        }
    }
}

#[test]
fn every_cut_of_a_file_is_an_error_and_no_panic() {
    let root = tempfile::tempdir().unwrap();
    tiny_model::bert(&root.path().join("m")).unwrap();
    let dir = ModelDir::open(root.path(), "m").unwrap();
    for file in ["model.safetensors", "config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json"] {
        let path = root.path().join("m").join(file);
        let whole = std::fs::read(&path).unwrap();
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..60 {
            let mut bytes = whole[..rng.usize(..whole.len())].to_vec();
            std::fs::write(&path, &bytes).unwrap();
            assert!(SentenceModel::open(&dir).is_err(), "{file} of {} bytes", bytes.len());
            // Bytes that are others: whatever comes, no panic.
            bytes = whole.clone();
            for _ in 0..rng.usize(1..8) {
                let at = rng.usize(..bytes.len().min(2000));
                bytes[at] = rng.u8(..);
            }
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(model) = SentenceModel::open(&dir) {
                let _ = model.embed(&["the cat sat"], CUT, &Turn::default());
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(SentenceModel::open(&dir).is_ok());
}

#[test]
fn a_model_that_makes_nothing_finite_is_an_error_of_the_text() {
    let root = tempfile::tempdir().unwrap();
    tiny_model::static_embedding(&root.path().join("s")).unwrap();
    let table = vec![3e38; 24 * 8];
    write_safetensors(&root.path().join("s/model.safetensors"), &[("embeddings".into(), vec![24, 8], table)]).unwrap();
    let model = StaticModel::open(&ModelDir::open(root.path(), "s").unwrap()).unwrap();
    let vector = model.embed(&["the cat sat on the mat"], CUT, &Turn::default()).unwrap().remove(0);
    // Bytes are made of a vector in one place, which refuses these.
    assert!(vector.is_err() || mysql_ml::vector::to_bytes(&vector.unwrap()).is_err());
}

fn register(conn: &mut Conn, id: &str, place: &str) {
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration(?, ?, 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        (id, place),
    )
    .unwrap();
}

/// What `ml_status()` tells of local models.
fn local_status(conn: &mut Conn) -> serde_json::Value {
    let status: String = conn.query_first("SELECT mysql.ml_status()").unwrap().unwrap();
    serde_json::from_str::<serde_json::Value>(&status).unwrap()["local"].clone()
}

#[test]
fn fifty_sessions_share_one_copy_and_each_gets_its_own_vectors() {
    let running = start();
    running.put_minilm();
    let golden = golden();
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
                    assert!(cosine(&got, wanted) > 0.9999, "{text}");
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

/// Runs `sql` in another session until it is killed; how long that took, and its error's number.
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

/// Waits until the session's statement has come so far that `sql` gives 1.
fn wait_until(conn: &mut Conn, what: impl Fn(&mut Conn) -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !what(conn) {
        assert!(Instant::now() < end, "it does not come so far");
        std::thread::sleep(Duration::from_millis(5));
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
        let texts: Vec<String> =
            (0..5000).map(|i| format!("{i} {}", "a long text of some words ".repeat(20))).collect();
        let array = serde_json::to_string(&texts).unwrap();
        let sql = format!("SELECT LENGTH(mysql.ml_embedding_batch('bert_local', '{array}'))");
        let (took, code) = killed(&running, sql, |root| {
            wait_until(root, |root| local_status(root)["waiting"].as_u64().unwrap() > 1000);
        });
        assert_eq!(code, 1317);
        assert!(took < Duration::from_secs(1), "{took:?}");
        // What it left is gone, and the other session goes on.
        let before = done.load(Ordering::Relaxed);
        wait_until(&mut root, |root| local_status(root)["waiting"].as_u64().unwrap() < 100);
        wait_until(&mut root, |_| done.load(Ordering::Relaxed) > before + 3);
        other.store(false, Ordering::Relaxed);
    });
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
    // What else the first calls take.
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
    let weights = xtask::weights::minilm(&|step| eprintln!("{step}")).unwrap();
    xtask::weights::copy(&weights, &running.models().join("all-MiniLM-L6-v2")).unwrap();
    xtask::demo::run(&running.server, true).unwrap();
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

    // The connection fails after some pieces: nothing is there that could be loaded.
    hub.pieces.store(8, Ordering::Relaxed);
    let (_, message) = server_error(fetch(&mut root));
    assert!(message.contains("404"), "{message}");
    assert!(!running.models().join("test/large").exists());
    let (_, message) = server_error(root.query::<mysql::Row, _>("SELECT mysql.ml_embedding('large', 'cat')"));
    assert!(message.contains("ml_fetch_model('large')"), "{message}");

    // It goes on; its last piece is not what it must be.
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
    // Again over what is there.
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
        // Another one waits for nobody and says so.
        let (_, message) = server_error(root.query::<mysql::Row, _>("SELECT ml_fetch_model('large')"));
        assert!(message.contains("another session"), "{message}");
    });
    assert_eq!(code, 1317);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!running.models().join("test/large").exists());
}
