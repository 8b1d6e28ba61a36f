//! One name, many endpoints, on a real server: one is killed under 64 sessions; each gets its own key.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fake_providers::Endpoint;
use mysql::prelude::Queryable;
use mysql::Conn;
use serde_json::{json, Value};

use crate::common::{server_error, start, FILE_KEY};

const SESSIONS: usize = 64;

fn set_options(conn: &mut Conn, model: &str, options: &Value) {
    conn.exec_drop("CALL mysql.ml_set_model_options(?, ?)", (model, options.to_string())).unwrap();
}

fn status(conn: &mut Conn, model: &str) -> Value {
    let status: String = conn.query_first("SELECT mysql.ml_status()").unwrap().unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    status["models"][model].clone()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[test]
fn one_of_two_endpoints_killed_under_64_sessions_fails_no_statement() {
    let running = start();
    let mut root = running.root();
    let killed = Endpoint::start().unwrap();
    for endpoint in [&killed, &running.endpoint] {
        endpoint.set_latency(Duration::from_millis(100), Duration::ZERO);
        endpoint.set_recording(false);
    }
    running.embedding_model(&mut root, "m", "/v1/embeddings");
    set_options(
        &mut root,
        "m",
        &json!({"endpoints": [{"name": "kept"}, {"name": "killed", "url": killed.url("/v1/embeddings")}]}),
    );
    let stop = AtomicBool::new(false);
    let conns: Vec<Conn> = (0..SESSIONS).map(|_| running.root()).collect();
    let (calls, at) = thread::scope(|scope| {
        let stop = &stop;
        let session = |(session, mut conn): (usize, Conn)| {
            scope.spawn(move || {
                let mut calls = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let (began, text) = (Instant::now(), format!("{session} {}", calls.len()));
                    let vector: Option<Vec<u8>> =
                        conn.exec_first("SELECT mysql.ml_embedding('m', ?)", (text,)).expect("no statement fails");
                    assert_eq!(vector.unwrap().len(), 32);
                    calls.push((Instant::now(), began.elapsed()));
                }
                calls
            })
        };
        let sessions: Vec<_> = conns.into_iter().enumerate().map(session).collect();
        thread::sleep(Duration::from_millis(2500));
        let at = Instant::now();
        drop(killed);
        thread::sleep(Duration::from_millis(2500));
        stop.store(true, Ordering::Relaxed);
        let calls: Vec<_> = sessions.into_iter().flat_map(|session| session.join().unwrap()).collect();
        (calls, at)
    });
    let (usual, after): (Vec<_>, Vec<_>) = calls.into_iter().partition(|(ended, _)| *ended < at);
    let of = |calls: Vec<(Instant, Duration)>| p99(calls.into_iter().map(|(_, took)| took).collect());
    let (n, usual, after) = (after.len(), of(usual), of(after));
    println!("{n} calls after the kill; p99 {usual:?} before, {after:?} after");
    // A busy machine adds its own delays.
    assert!(after <= usual * 2 + Duration::from_millis(100), "p99 {usual:?} before, {after:?} after");
    let status = status(&mut root, "m");
    let [kept, killed] = [0, 1].map(|i| &status["endpoints"][i]);
    assert_eq!((&kept["name"], &kept["state"], &kept["failures"]), (&"kept".into(), &"closed".into(), &0.into()));
    assert_ne!(killed["state"], "closed", "{killed}");
    assert_eq!(status["errors"], json!({}));
}

#[test]
fn each_endpoint_gets_its_own_key_and_no_key_is_shown() {
    let running = start();
    let mut root = running.root();
    let other = Endpoint::start().unwrap();
    other.set_expected_key("sk-another-5ecret-0009");
    running.endpoint.set_expected_key(FILE_KEY);
    std::fs::write(running.secrets.path().join("another"), "sk-another-5ecret-0009").unwrap();
    let url = running.endpoint.url("/auth/embeddings");
    for statement in [
        "CALL mysql.ml_create_sm_secret_registration('own', 'file:endpoint-key')",
        "CALL mysql.ml_create_sm_secret_registration('another', 'file:another')",
    ] {
        root.query_drop(statement).unwrap();
    }
    root.exec_drop(
        "CALL mysql.ml_create_model_registration('m', ?, 'open_ai', 'text_embedding', 'test-8', 'secret_manager', 'own', NULL, NULL, NULL)",
        (&url,),
    )
    .unwrap();
    let endpoints =
        |secret: Value| json!({"endpoints": [{}, {"url": other.url("/auth/embeddings"), "secret": secret}]});
    set_options(&mut root, "m", &endpoints("another".into()));
    for i in 0..4 {
        root.query_drop(format!("DO mysql.ml_embedding('m', 'text {i}')")).unwrap();
    }
    assert_eq!((running.endpoint.count(), other.count()), (2, 2));
    let key = |endpoint: &Endpoint| endpoint.requests()[0].header("authorization").unwrap().to_owned();
    assert_eq!(
        (key(&running.endpoint), key(&other)),
        (format!("Bearer {FILE_KEY}"), "Bearer sk-another-5ecret-0009".into())
    );
    // A wrong key, which the endpoint repeats in its refusal.
    set_options(&mut root, "m", &endpoints("own".into()));
    for i in 4..8 {
        root.query_drop(format!("DO mysql.ml_embedding('m', 'text {i}')")).unwrap();
    }
    let shown = status(&mut root, "m")["endpoints"][1].clone();
    assert!(shown["last_error"].as_str().unwrap().contains("401 Unauthorized"), "{shown}");
    let everything: String =
        root.query_first("SELECT CONCAT(mysql.ml_status(), mysql.ml_validate_model('m'))").unwrap().unwrap();
    assert!(!everything.contains("5ecret"), "{everything}");
    // A secret that is bound to a URL, or used by an endpoint, stays where it is.
    root.exec_drop(
        "CALL mysql.ml_set_secret_options('another', ?)",
        (json!({"url_prefix": other.url("/")}).to_string(),),
    )
    .unwrap();
    let wrong = json!({"endpoints": [{"secret": "another"}]}).to_string();
    let (_, error) = server_error(root.exec_drop("CALL mysql.ml_set_model_options('m', ?)", (&wrong,)));
    assert!(error.contains("endpoint '1': its secret is bound to"), "{error}");
    set_options(&mut root, "m", &endpoints("another".into()));
    let (_, error) = server_error(root.query_drop("CALL mysql.ml_drop_sm_secret_registration('another')"));
    assert!(error.contains("secret 'another' is used by model 'm'"), "{error}");
    let elsewhere = json!({"url_prefix": "https://elsewhere.example/"}).to_string();
    let (_, error) = server_error(root.exec_drop("CALL mysql.ml_set_secret_options('another', ?)", (&elsewhere,)));
    assert!(error.contains("model 'm' sends the secret to"), "{error}");
}
