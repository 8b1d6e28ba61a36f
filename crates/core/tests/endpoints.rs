//! One name, many endpoints: the engine against endpoints that are killed, fail, hang and limit, without a server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fake_providers::{embedding_for, refused_port, Answer, Endpoint, Recorded};
use mysql_ml_base::error::{Kind, Result};
use mysql_ml_base::interrupt::Never;
use mysql_ml_base::role::Role;
use mysql_ml_core::credentials::keyring::NoKeyring;
use mysql_ml_core::engine::Engine;
use mysql_ml_core::providers::chat::GenerateOptions;
use mysql_ml_core::registration::Registration;
use serde_json::{json, Value};

mod shelf;
use shelf::Shelf;

const PATH: &str = "/v1/embeddings";

/// A registry with model `m` at these URLs, and an engine.
fn served_by(urls: &[String], options: Value) -> (Shelf, Engine) {
    let shelf = Shelf::default();
    let endpoints: Vec<Value> = urls.iter().map(|url| json!({"url": url})).collect();
    register(&shelf, "m", &endpoints, options);
    let engine = Engine::new(Box::new(shelf.clone()), Box::new(NoKeyring));
    (shelf, engine)
}

fn register(shelf: &Shelf, id: &str, endpoints: &[Value], mut options: Value) {
    let registration = Registration {
        model_id: id.into(),
        request_url: Some("http://127.0.0.1:1/never".into()),
        provider: Some("open_ai".into()),
        model_type: Some("text_embedding".into()),
        qualified_name: Some("test-8".into()),
        ..Registration::default()
    };
    if !endpoints.is_empty() {
        options["endpoints"] = endpoints.into();
    }
    shelf.register(&registration, Some(&options.to_string()));
}

fn chat(shelf: &Shelf, id: &str, url: String, options: Value) {
    let registration = Registration {
        model_id: id.into(),
        request_url: Some(url),
        provider: Some("open_ai".into()),
        model_type: Some("llm".into()),
        qualified_name: Some("test".into()),
        ..Registration::default()
    };
    shelf.register(&registration, Some(&options.to_string()));
}

fn embed(engine: &Engine, text: &str) -> Result<Arc<[u8]>> {
    engine.embedding(surface::functions::ml_embedding, "m", text, Role::Document, &Never).map(Option::unwrap)
}

/// A member of an endpoint in `ml_status`.
fn status(engine: &Engine, endpoint: usize, member: &str) -> Value {
    let status: Value = serde_json::from_str(&engine.status_json()).unwrap();
    status.pointer(&format!("/models/m/endpoints/{endpoint}/{member}")).cloned().unwrap_or(Value::Null)
}

/// An answer with a vector.
fn vector() -> Answer {
    Answer::json(200, &json!({"data": [{"index": 0, "embedding": embedding_for("x", 8)}]}))
}

/// Latencies of `sessions` threads that call until `stop`; no call may fail.
fn latencies(engine: &Arc<Engine>, sessions: usize, stop: &Arc<AtomicBool>) -> Vec<(Instant, Duration)> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = (0..sessions)
        .map(|session| {
            let (engine, stop, all) = (Arc::clone(engine), Arc::clone(stop), Arc::clone(&all));
            thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    embed(&engine, &format!("{session} {n}")).unwrap();
                    all.lock().unwrap().push((began, began.elapsed()));
                    n += 1;
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    Arc::try_unwrap(all).unwrap().into_inner().unwrap()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[test]
fn one_of_two_endpoints_killed_under_64_sessions_fails_no_call() {
    let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
    for endpoint in [&a, &b] {
        endpoint.set_latency(Duration::from_millis(100), Duration::ZERO);
        endpoint.set_recording(false);
    }
    let (_, engine) = served_by(&[a.url(PATH), b.url(PATH)], json!({}));
    let (engine, stop) = (Arc::new(engine), Arc::new(AtomicBool::new(false)));
    let killer = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(1500));
            let killed = Instant::now();
            drop(a);
            thread::sleep(Duration::from_millis(1500));
            stop.store(true, Ordering::Relaxed);
            killed
        })
    };
    let calls = latencies(&engine, 64, &stop);
    let killed = killer.join().unwrap();
    let (usual, after): (Vec<_>, Vec<_>) = calls.into_iter().partition(|(began, took)| *began + *took < killed);
    let of = |calls: Vec<(Instant, Duration)>| p99(calls.into_iter().map(|(_, took)| took).collect());
    let (usual, after) = (of(usual), of(after));
    println!("p99 {usual:?} before, {after:?} after");
    assert!(after <= usual * 2 + Duration::from_millis(50), "p99 {usual:?} before, {after:?} after");
    assert_eq!(status(&engine, 1, "failures"), 0);
    assert!(status(&engine, 0, "last_error").as_str().unwrap().contains("connection failed"));
}

#[test]
fn a_slow_answer_is_overtaken_with_few_more_requests() {
    let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
    for endpoint in [&a, &b] {
        endpoint.set_recording(false);
        let asked = AtomicU64::new(0);
        endpoint.on(PATH, move |_: &Recorded| {
            let slow = asked.fetch_add(1, Ordering::SeqCst) % 50 == 49;
            thread::sleep(Duration::from_millis(if slow { 1000 } else { 20 }));
            vector()
        });
    }
    let urls = [a.url(PATH), b.url(PATH)];
    let measured = |options: Value| {
        let (_, engine) = served_by(&urls, options);
        engine.settings(&Never).unwrap();
        let mut times = Vec::new();
        // Hedges are earned by requests.
        for session in 0..2 {
            let calls: Vec<_> = thread::scope(|scope| {
                let call = |i: u32| {
                    let engine = &engine;
                    scope.spawn(move || {
                        let one = |n: u32| {
                            let began = Instant::now();
                            embed(engine, &format!("{session} {i} {n}")).unwrap();
                            began.elapsed()
                        };
                        (0..25).map(one).collect::<Vec<_>>()
                    })
                };
                let threads: Vec<_> = (0..16).map(call).collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            times.extend(calls);
        }
        (p99(times), engine)
    };
    let before = a.count() + b.count();
    let (usual, _) = measured(json!({}));
    let sent = a.count() + b.count();
    assert_eq!(sent - before, 800);
    let (hedged, engine) = measured(json!({"hedge_after_ms": 100}));
    let more = a.count() + b.count() - sent;
    println!("p99 {usual:?}, hedged {hedged:?}; {more} requests for 800 calls");
    assert!(hedged * 2 <= usual, "p99 {usual:?}, hedged {hedged:?}");
    assert!((801..=840).contains(&more), "{more} requests for 800 calls");
    let hedges: u64 = (0..2).map(|i| status(&engine, i, "hedges").as_u64().unwrap()).sum();
    assert_eq!(hedges, more - 800);
}

#[test]
fn an_endpoint_that_fails_is_left_alone_and_used_again_after_it_answered_a_probe() {
    let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    a.on(PATH, move |_: &Recorded| match is_down.load(Ordering::SeqCst) {
        true => Answer::raw_json(503, "{}"),
        false => vector(),
    });
    let (_, engine) = served_by(&[a.url(PATH), b.url(PATH)], json!({}));
    for i in 0..40 {
        embed(&engine, &i.to_string()).unwrap();
    }
    let asked = a.count();
    assert!((5..=10).contains(&asked), "{asked} requests to an endpoint that fails");
    assert_eq!((status(&engine, 0, "failures"), b.count()), (asked.into(), 40));
    assert_ne!(status(&engine, 0, "state"), "closed");
    down.store(false, Ordering::SeqCst);
    let end = Instant::now() + Duration::from_secs(20);
    let mut n = 0;
    while status(&engine, 0, "state") != "closed" {
        assert!(Instant::now() < end, "it never closed");
        embed(&engine, &format!("later {n}")).unwrap();
        n += 1;
    }
    let before = a.count();
    for i in 0..10 {
        embed(&engine, &format!("half {i}")).unwrap();
    }
    assert_eq!(a.count() - before, 5);
}

#[test]
fn a_text_that_is_refused_is_not_sent_elsewhere_and_one_that_fails_everywhere_opens_no_breaker() {
    let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
    for endpoint in [&a, &b] {
        endpoint.on(PATH, |request: &Recorded| match request.text() {
            text if text.contains("too long") => Answer::error(400, "too long", "invalid_request_error", None),
            text if text.contains("poison") => Answer::error(500, "internal", "server_error", None),
            _ => vector(),
        });
    }
    let (_, engine) = served_by(&[a.url(PATH), b.url(PATH)], json!({"max_retries": 0}));
    let error = embed(&engine, "too long").unwrap_err();
    assert_eq!((error.kind(), a.count() + b.count()), (Kind::Provider(400), 1), "{error}");
    for i in 0..20 {
        let error = embed(&engine, &format!("poison {i}")).unwrap_err();
        assert_eq!(error.kind(), Kind::Provider(500));
    }
    assert_eq!(a.count() + b.count(), 41, "each was tried at both");
    for endpoint in 0..2 {
        assert_eq!(status(&engine, endpoint, "state"), "closed");
    }
    assert!(embed(&engine, "good").is_ok());
}

#[test]
fn failures_that_another_endpoint_answers_open_the_breaker() {
    let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
    a.on(PATH, |_: &Recorded| Answer::error(500, "internal", "server_error", None));
    let (_, engine) = served_by(&[a.url(PATH), b.url(PATH)], json!({}));
    for i in 0..20 {
        embed(&engine, &i.to_string()).unwrap();
    }
    assert_eq!(status(&engine, 0, "state"), "open");
}

#[test]
fn endpoints_that_are_all_out_of_order_are_tried_all_the_same() {
    let gone = Endpoint::start().unwrap();
    let port = gone.port();
    drop(gone);
    let urls = [format!("http://127.0.0.1:{port}{PATH}"), format!("http://127.0.0.1:{}{PATH}", refused_port())];
    let (_, engine) = served_by(&urls, json!({"max_retries": 0}));
    for i in 0..10 {
        let error = embed(&engine, &i.to_string()).unwrap_err();
        assert_eq!(error.kind(), Kind::Connection);
        assert!(error.message().ends_with("none of 2 endpoints answered, see ml_status()"), "{error}");
    }
    assert_eq!((status(&engine, 0, "state"), status(&engine, 1, "state")), ("open".into(), "open".into()));
    let _up = Endpoint::start_on(([127, 0, 0, 1], port).into()).unwrap();
    embed(&engine, "without waiting for a probe").unwrap();
}

#[test]
fn an_endpoint_without_quota_is_left_for_another_at_once() {
    for refusal in ["/quota", "/ratelimit"] {
        let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
        let (_, engine) = served_by(&[a.url(refusal), b.url(PATH)], json!({}));
        let began = Instant::now();
        for i in 0..10 {
            embed(&engine, &i.to_string()).unwrap();
        }
        assert_eq!((a.count(), b.count()), (1, 10), "{refusal}");
        assert!(began.elapsed() < Duration::from_secs(5), "{refusal}: {:?}", began.elapsed());
        let shown = if refusal == "/quota" { "open" } else { "paused" };
        assert_eq!(status(&engine, 0, "state"), shown);
    }
}

#[test]
fn the_deadline_covers_the_tries_at_all_endpoints() {
    let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
    let (_, engine) = served_by(&[a.url("/hang"), b.url(PATH)], json!({"try_timeout_ms": 200}));
    let began = Instant::now();
    for i in 0..4 {
        embed(&engine, &i.to_string()).unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(200) && a.count() > 0, "nothing hung");
    // Without the option, one endpoint gets half of the time.
    let (_, engine) = served_by(&[a.url("/hang"), b.url(PATH)], json!({"timeout_ms": 2000}));
    for i in 0..2 {
        embed(&engine, &i.to_string()).unwrap();
    }
    let (_, engine) = served_by(&[a.url("/hang"), b.url("/hang")], json!({"timeout_ms": 600}));
    let began = Instant::now();
    let error = embed(&engine, "x").unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn weights_divide_the_requests_and_a_spare_endpoint_waits() {
    let all: Vec<Endpoint> = (0..3).map(|_| Endpoint::start().unwrap()).collect();
    let (shelf, engine) = served_by(&[], json!({}));
    let endpoints: Vec<Value> =
        all.iter().zip([3, 1, 0]).map(|(e, weight)| json!({"url": e.url(PATH), "weight": weight})).collect();
    register(&shelf, "m", &endpoints, json!({}));
    for i in 0..40 {
        embed(&engine, &i.to_string()).unwrap();
    }
    assert_eq!(all.iter().map(Endpoint::count).collect::<Vec<_>>(), [30, 10, 0]);
    let mut all = all.into_iter();
    drop((all.next(), all.next()));
    for i in 0..10 {
        embed(&engine, &format!("spare {i}")).unwrap();
    }
    assert_eq!(all.next().unwrap().count(), 10);
}

#[test]
fn the_budget_of_the_model_holds_for_all_its_endpoints_and_that_of_one_for_itself() {
    let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
    let (shelf, engine) = served_by(&[], json!({}));
    let endpoints = [json!({"url": a.url(PATH), "requests_per_minute": 2}), json!({"url": b.url(PATH)})];
    register(&shelf, "m", &endpoints, json!({"requests_per_minute": 10, "timeout_ms": 2000}));
    for i in 0..10 {
        embed(&engine, &i.to_string()).unwrap();
    }
    assert_eq!((a.count(), b.count()), (2, 8));
    let error = embed(&engine, "one more").unwrap_err();
    assert!(error.message().contains("requests_per_minute are used up"), "{error}");
}

#[test]
fn a_vector_of_another_width_is_no_vector_of_the_model() {
    let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
    let (_, engine) = served_by(&[a.url(PATH), b.url("/wrong-width/4")], json!({}));
    assert_eq!(embed(&engine, "first").unwrap().len(), 32);
    let error = embed(&engine, "second").unwrap_err();
    assert!(error.message().contains("endpoint '2' of model 'm' answered with 4 dimensions after 8"), "{error}");
    let found: Value = serde_json::from_str(&engine.validate("m", &Never).unwrap()).unwrap();
    assert_eq!((&found["ok"], &found["dimensions"]), (&false.into(), &8.into()));
    assert_eq!(found["endpoints"][0]["ok"], true);
    let error = found["error"].as_str().unwrap();
    assert!(error.starts_with("endpoint '2': it answered with 4 dimensions and another place with 8"), "{error}");
}

#[test]
fn validation_finds_an_endpoint_with_another_model() {
    let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
    let (_, engine) = served_by(&[a.url(PATH), b.url(PATH)], json!({}));
    let found = |engine: &Engine| serde_json::from_str::<Value>(&engine.validate("m", &Never).unwrap()).unwrap();
    assert_eq!(found(&engine)["ok"], true);
    assert_eq!((a.count(), b.count()), (1, 1));
    // Both calls count at their endpoints.
    assert_eq!((status(&engine, 0, "requests"), status(&engine, 1, "requests")), (1.into(), 1.into()));
    b.set_fixed_vector(Some(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
    let found = found(&engine);
    assert_eq!(found["ok"], false);
    let error = found["endpoints"][1]["error"].as_str().unwrap();
    assert!(error.contains("its vector of a text differs from that of another place"), "{error}");
}

#[test]
fn many_texts_go_on_at_the_other_endpoint() {
    let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
    let (_, engine) = served_by(&[a.url(PATH), b.url(PATH)], json!({"batch_size": 5}));
    let texts = |from: u32| json!((from..from + 200).map(|i| i.to_string()).collect::<Vec<_>>()).to_string();
    let embed_all = |texts: &str| engine.embedding_batch("m", texts, &Never).map(|_| ());
    embed_all(&texts(0)).unwrap();
    assert!(a.count() > 5 && b.count() > 5, "{} {}", a.count(), b.count());
    for failing in ["/status/503", "/eof", "/quota", "/status/401", "/status/404"] {
        let (_, engine) = served_by(&[a.url(failing), b.url(PATH)], json!({"batch_size": 5}));
        let (before, began) = (a.count(), Instant::now());
        engine.embedding_batch("m", &texts(0), &Never).map(|_| ()).unwrap_or_else(|e| panic!("{failing}: {e}"));
        let asked = a.count() - before;
        assert!((1..=24).contains(&asked), "{failing}: {asked} requests");
        assert!(began.elapsed() < Duration::from_secs(5), "{failing}: {:?}", began.elapsed());
    }
    drop(a);
    embed_all(&texts(1000)).unwrap();
}

#[test]
fn another_language_model_answers_and_its_answer_is_not_kept() {
    let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
    let (shelf, engine) = served_by(&[], json!({}));
    chat(&shelf, "m", a.url("/status/503"), json!({"fallback": "other", "max_retries": 0}));
    chat(&shelf, "other", b.url("/v1/chat/completions"), json!({}));
    let ask = || engine.generate("m", "hello", &GenerateOptions::default(), &Never).map(|held| held.into_parts().0);
    assert_eq!(ask().unwrap(), "You said: hello");
    let shown: Value = serde_json::from_str(&engine.status_json()).unwrap();
    assert_eq!(shown.pointer("/models/m/fallback_requests"), Some(&1.into()));
    assert_eq!(shown.pointer("/models/other/requests"), Some(&1.into()));
    // A chain that leads back is cut there; what is left is used.
    chat(&shelf, "other", b.url("/v1/chat/completions"), json!({"fallback": "m"}));
    engine.registry().invalidate();
    assert!(ask().is_ok());
    // A fallback that is gone is told when it is needed.
    shelf.models.lock().unwrap().remove("other");
    engine.registry().invalidate();
    let error = ask().unwrap_err();
    assert!(
        error.message().contains("no other model stands in: option fallback: model 'other' is not registered"),
        "{error}"
    );
    chat(&shelf, "m", a.url("/v1/chat/completions"), json!({"fallback": "other"}));
    engine.registry().invalidate();
    assert!(ask().is_ok(), "it is not needed");
}

#[test]
fn a_vector_of_another_model_never_stands_in() {
    let (a, b) = (Endpoint::start().unwrap(), Endpoint::start().unwrap());
    let (shelf, engine) = served_by(&[], json!({}));
    let down = [json!({"url": a.url("/status/503")})];
    let up = [json!({"url": b.url(PATH)})];
    register(&shelf, "m", &down, json!({"fallback": "same", "max_retries": 0}));
    register(&shelf, "same", &up, json!({}));
    let vector: Vec<u8> = embedding_for("hello", 8).iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(*embed(&engine, "hello").unwrap(), vector);
    // The options of the other registration change later.
    register(&shelf, "same", &up, json!({"normalize": true}));
    engine.registry().invalidate();
    let error = embed(&engine, "again").unwrap_err();
    assert!(error.message().contains("its option normalize differs, which changes the vectors"), "{error}");
    assert_eq!(*embed(&engine, "hello").unwrap(), vector, "the caches keep the vectors of the same model");
    assert_eq!(b.count(), 1);
}
