//! Credentials and limits on a real server: expiring tokens, changing secrets, refusing providers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{server_error, start, start_bare, Running, Stop, FILE_KEY};
use mysql::prelude::Queryable;
use mysql::Conn;
use serde_json::Value;

fn register(conn: &mut Conn, arguments: [Option<&str>; 7]) {
    let [id, url, provider, model_type, name, auth_type, auth_id] = arguments;
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration(?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)",
        (id, url, provider, model_type, name, auth_type, auth_id),
    )
    .unwrap();
}

fn embed(conn: &mut Conn, model: &str, text: &str) -> mysql::Result<Option<u64>> {
    conn.exec_first("SELECT VECTOR_DIM(mysql.ml_embedding(?, ?))", (model, text))
}

fn options(conn: &mut Conn, model: &str, patch: &str) {
    conn.exec_drop("CALL mysql.ml_set_model_options(?, ?)", (model, patch)).unwrap();
}

fn status(conn: &mut Conn, model: &str) -> Value {
    let text: String = conn.query_first("SELECT mysql.ml_status()").unwrap().unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all["models"][model].clone()
}

/// Runs `f` in `n` concurrent sessions and returns the results.
fn sessions<T: Send>(running: &Running, n: usize, f: impl Fn(usize, &mut Conn) -> T + Sync) -> Vec<T> {
    let connections: Vec<Conn> = (0..n).map(|_| running.root()).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(i, mut conn)| {
                let f = &f;
                scope.spawn(move || f(i, &mut conn))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// A server with the Google identity in `env`.
fn google(env: &[(&str, &str)]) -> Running {
    let running = start_bare(&[], env);
    running.install();
    running
}

#[test]
fn one_token_serves_many_sessions_and_is_renewed_when_it_ends_or_is_revoked() {
    let running = start();
    let all = sessions(&running, 30, |i, conn| embed(conn, "text-embedding-005", &format!("text {i}")).unwrap());
    assert!(all.iter().all(|d| *d == Some(768)));
    assert_eq!(running.endpoint.tokens_issued(), 1, "one refresh at a time");
    // Revoked early: the 401 leads to a new token, and the call succeeds.
    running.endpoint.revoke_tokens();
    let all = sessions(&running, 30, |i, conn| embed(conn, "text-embedding-005", &format!("again {i}")).unwrap());
    assert!(all.iter().all(|d| *d == Some(768)));
    assert_eq!(running.endpoint.tokens_issued(), 2);
    // A token with a lifetime of two seconds is renewed before its end: no call gets a 401.
    running.endpoint.set_token_lifetime(Duration::from_secs(2));
    running.endpoint.revoke_tokens();
    let mut conn = running.root();
    let began = Instant::now();
    let mut n = 0;
    while began.elapsed() < Duration::from_millis(3500) {
        n += 1;
        assert_eq!(embed(&mut conn, "text-embedding-005", &format!("later {n}")).unwrap(), Some(768));
    }
    assert!((4..=6).contains(&running.endpoint.tokens_issued()), "{}", running.endpoint.tokens_issued());
    let retries = status(&mut conn, "text-embedding-005")["retries"].as_u64().unwrap();
    assert!(retries <= 31, "only the revocations were noticed by a refusal: {retries}");
}

#[test]
fn a_token_service_that_hangs_holds_no_call_up_while_the_token_is_good() {
    let running = start();
    let mut conn = running.root();
    // Renewed from 12 s on, valid until 21.6 s. A renewal may take half of a call's time.
    running.endpoint.set_token_lifetime(Duration::from_secs(24));
    conn.query_drop("CALL mysql.ml_set_setting('timeout_ms', '4000')").unwrap();
    assert_eq!(embed(&mut conn, "text-embedding-005", "x").unwrap(), Some(768));
    let (asked, released) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, stop) = (Arc::clone(&asked), Arc::clone(&released));
    running.endpoint.on("/google-oauth/token", move |_| {
        count.fetch_add(1, Ordering::AcqRel);
        while !stop.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
        fake_providers::Answer::error(503, "late", "x", None)
    });
    let mut n = 0;
    while asked.load(Ordering::Acquire) == 0 {
        n += 1;
        assert!(n < 20_000, "the token was never renewed");
        assert_eq!(embed(&mut conn, "text-embedding-005", &format!("before {n}")).unwrap(), Some(768));
        std::thread::sleep(Duration::from_millis(2));
    }
    // The session that requested a new token returned too, with the old one; so do many concurrent ones.
    let all = sessions(&running, 20, |i, conn| embed(conn, "text-embedding-005", &format!("text {i}")).unwrap());
    assert!(all.iter().all(|d| *d == Some(768)));
    released.store(true, Ordering::Release);
}

#[test]
fn every_kind_of_google_credentials() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials.json");
    let named = file.display().to_string();
    let write = |value: &Value| std::fs::write(&file, value.to_string()).unwrap();
    let running = google(&[("GOOGLE_APPLICATION_CREDENTIALS", &named)]);
    let mut conn = running.root();
    conn.query_drop("CALL mysql.ml_set_setting('google_project', 'test-project')").unwrap();
    let token_uri = running.endpoint.url("/google-oauth/token");
    let mut n = 0;
    let mut works = |what: &str| {
        n += 1;
        let result = embed(&mut conn, "text-embedding-005", &format!("{what} {n}"));
        result.map_err(|e| format!("{what}: {e}"))
    };

    let (code, message) = match works("no file") {
        Err(e) => (0, e),
        Ok(d) => panic!("{d:?}"),
    };
    assert_eq!(code, 0);
    assert!(message.contains("GOOGLE_APPLICATION_CREDENTIALS") && message.contains("cannot be read"), "{message}");

    write(&running.endpoint.service_account_key());
    assert_eq!(works("service account").unwrap(), Some(768));

    let mut user = running.endpoint.authorized_user();
    user["token_uri"] = token_uri.into();
    user["quota_project_id"] = "test-project".into();
    write(&user);
    assert_eq!(works("authorized user").unwrap(), Some(768));
    let last = running.endpoint.requests().pop().unwrap();
    assert_eq!(last.header("x-goog-user-project"), Some("test-project"));

    let subject = directory.path().join("subject");
    std::fs::write(&subject, "subject-5ecret\n").unwrap();
    let mut external = running.endpoint.external_account(&subject);
    write(&external);
    assert_eq!(works("external account").unwrap(), Some(768));
    external["service_account_impersonation_url"] =
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/sa@test-project.iam.gserviceaccount.com:generateAccessToken".into();
    write(&external);
    assert_eq!(works("impersonating external account").unwrap(), Some(768));
    external["credential_source"] = serde_json::json!({"environment_id": "aws1"});
    write(&external);
    let message = works("aws").unwrap_err();
    assert!(message.contains("not supported") && message.contains("service account"), "{message}");

    let impersonated = serde_json::json!({
        "type": "impersonated_service_account",
        "service_account_impersonation_url": external["service_account_impersonation_url"],
        "source_credentials": user,
    });
    write(&impersonated);
    assert_eq!(works("impersonated service account").unwrap(), Some(768));

    let mut broken = running.endpoint.service_account_key();
    broken["private_key"] = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".into();
    write(&broken);
    let message = works("broken key").unwrap_err();
    assert!(message.contains("not an RSA key") && !message.contains("AAAA"), "{message}");
    let mut stranger = running.endpoint.service_account_key();
    stranger["client_email"] = "stranger@test-project.iam.gserviceaccount.com".into();
    write(&stranger);
    let message = works("stranger").unwrap_err();
    assert!(message.contains("invalid_grant"), "{message}");
    write(&serde_json::json!({"type": "gdch_service_account"}));
    assert!(works("unknown type").unwrap_err().contains("a type that is not supported"));
}

#[test]
fn the_login_of_gcloud_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let named = directory.path().display().to_string();
    let running = google(&[("GOOGLE_APPLICATION_CREDENTIALS", ""), ("CLOUDSDK_CONFIG", &named)]);
    let mut conn = running.root();
    conn.query_drop("CALL mysql.ml_set_setting('google_project', 'test-project')").unwrap();
    let mut user = running.endpoint.authorized_user();
    user["token_uri"] = running.endpoint.url("/google-oauth/token").into();
    std::fs::write(directory.path().join("application_default_credentials.json"), user.to_string()).unwrap();
    assert_eq!(embed(&mut conn, "text-embedding-005", "x").unwrap(), Some(768));
    let form = running.endpoint.requests().into_iter().find(|r| r.path == "/google-oauth/token").unwrap().text();
    assert!(form.contains("grant_type=refresh_token"), "the identity is that of the file");
}

#[test]
fn the_metadata_server_gives_identity_project_and_location() {
    let running = google(&[("GOOGLE_APPLICATION_CREDENTIALS", "")]);
    let mut conn = running.root();
    assert_eq!(embed(&mut conn, "text-embedding-005", "x").unwrap(), Some(768));
    let paths: Vec<String> = running.endpoint.requests().into_iter().map(|r| r.path).collect();
    assert_eq!(
        paths.last().unwrap(),
        "/vertex/v1/projects/test-project/locations/us-central1/publishers/google/models/text-embedding-005:predict"
    );
    assert!(paths.iter().any(|p| p == "/computeMetadata/v1/instance/zone"), "{paths:?}");
    running.endpoint.clear();
    assert_eq!(embed(&mut conn, "text-embedding-005", "y").unwrap(), Some(768));
    assert_eq!(running.endpoint.count(), 1, "all of it is remembered");
    // A model's URL must not point there.
    let refused: mysql::Result<()> = conn.query_drop(
        "CALL mysql.ml_create_model_registration('meta', 'http://169.254.169.254/computeMetadata/v1/', 'custom', 'generic', NULL, NULL, NULL, NULL, NULL, NULL)",
    );
    assert!(server_error(refused).1.contains("169.254.169.254"));
}

#[test]
fn without_google_credentials_the_error_says_what_to_do_and_comes_soon() {
    let running = google(&[
        ("GOOGLE_APPLICATION_CREDENTIALS", ""),
        ("GCE_METADATA_HOST", "127.0.0.1:9"),
        ("GCE_METADATA_TIMEOUT", "1"),
    ]);
    let mut conn = running.root();
    let began = Instant::now();
    let (_, message) = server_error(embed(&mut conn, "text-embedding-005", "x"));
    assert!(
        message.contains("no Google credentials") && message.contains("GOOGLE_APPLICATION_CREDENTIALS"),
        "{message}"
    );
    let (_, _) = server_error(embed(&mut conn, "gemini-embedding-001", "x"));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_secret_rotated_under_load_fails_no_call() {
    let running = start();
    let mut conn = running.root();
    conn.query_drop("CALL mysql.ml_create_sm_secret_registration('file', 'file:rotating')").unwrap();
    conn.query_drop("CALL mysql.ml_create_sm_secret_registration('google', 'projects/p/secrets/s/versions/latest')")
        .unwrap();
    let url = running.endpoint.url("/openai/v1");
    let path = running.secrets.path().join("rotating");
    let set = |key: &str| {
        // The provider accepts both keys during the exchange.
        running.endpoint.set_expected_key("");
        // As a careful administrator does: the file is replaced, not overwritten.
        let new = path.with_extension("new");
        std::fs::write(&new, key).unwrap();
        std::fs::rename(&new, &path).unwrap();
        running.endpoint.set_secret("projects/p/secrets/s/versions/latest", key.as_bytes());
        running.endpoint.set_expected_key(key);
    };
    set("sk-rotating-5ecret-000");
    for id in ["file", "google"] {
        register(
            &mut conn,
            [
                Some(id),
                Some(&url),
                Some("open_ai"),
                Some("text_embedding"),
                Some("test-8"),
                Some("secret_manager"),
                Some(id),
            ],
        );
    }
    let done = AtomicBool::new(false);
    let calls = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let _stop = Stop(&done);
        let workers: Vec<_> = (0..8)
            .map(|i| {
                let (done, calls, running) = (&done, &calls, &running);
                scope.spawn(move || {
                    let mut conn = running.root();
                    let model = if i % 2 == 0 { "file" } else { "google" };
                    while !done.load(Ordering::Acquire) {
                        let n = calls.fetch_add(1, Ordering::AcqRel);
                        assert_eq!(embed(&mut conn, model, &format!("t{n}")).unwrap(), Some(8));
                    }
                })
            })
            .collect();
        for n in 1..=10 {
            let target = calls.load(Ordering::Acquire) + 40;
            while calls.load(Ordering::Acquire) < target {
                assert!(workers.iter().all(|w| !w.is_finished()), "a call failed");
                std::thread::sleep(Duration::from_millis(1));
            }
            set(&format!("sk-rotating-5ecret-{n:03}"));
        }
    });
    // A key that stays wrong is refused after one check, and not sent again.
    running.endpoint.set_expected_key("sk-another-5ecret");
    running.endpoint.clear();
    let (_, message) = server_error(embed(&mut conn, "file", "refused"));
    assert!(message.contains("401") && !message.contains("rotating"), "{message}");
    assert_eq!(running.endpoint.count(), 1);
}

#[test]
fn fifty_sessions_turn_one_429_into_one() {
    let running = start();
    let mut conn = running.root();
    let url = running.endpoint.url("/pause-once/1/v1/embeddings");
    register(&mut conn, [Some("m"), Some(&url), Some("open_ai"), Some("text_embedding"), Some("test-8"), None, None]);
    // The first is refused and must wait a second; 49 arrive while it waits.
    let first_is_refused = Arc::new(AtomicBool::new(false));
    let results = sessions(&running, 50, |i, conn| {
        if i > 0 {
            let end = Instant::now() + Duration::from_secs(20);
            while running.endpoint.refused() == 0 {
                assert!(Instant::now() < end);
                std::thread::sleep(Duration::from_millis(1));
            }
            // The limiter gets the refusal a moment after the endpoint sent it.
            std::thread::sleep(Duration::from_millis(100));
        } else {
            first_is_refused.store(true, Ordering::Release);
        }
        embed(conn, "m", &format!("text {i}")).unwrap()
    });
    assert!(results.iter().all(|d| *d == Some(8)));
    assert_eq!(running.endpoint.refused(), 1);
    assert_eq!(status(&mut conn, "m")["retries"], 1);
}

#[test]
fn a_burst_against_a_rate_limit_succeeds_with_few_refusals() {
    let running = start();
    let mut conn = running.root();
    running.endpoint.set_rate_limit(20, Duration::from_millis(500));
    let url = running.endpoint.url("/limited/v1/embeddings");
    register(&mut conn, [Some("m"), Some(&url), Some("open_ai"), Some("text_embedding"), Some("test-8"), None, None]);
    let results = sessions(&running, 50, |i, conn| embed(conn, "m", &format!("text {i}")).unwrap());
    assert!(results.iter().all(|d| *d == Some(8)));
    // 30 of the first burst, and a few when the limiter has opened too far; without the limiter it would be some
    // hundreds.
    assert!(running.endpoint.refused() <= 70, "{}", running.endpoint.refused());
}

#[test]
fn budgets_hold_for_all_sessions_together() {
    let running = start();
    let mut conn = running.root();
    let url = running.endpoint.url("/concurrent/2/v1/embeddings");
    register(&mut conn, [Some("m"), Some(&url), Some("open_ai"), Some("text_embedding"), Some("test-8"), None, None]);
    options(&mut conn, "m", r#"{"max_in_flight": 2}"#);
    let results = sessions(&running, 20, |i, conn| embed(conn, "m", &format!("text {i}")).unwrap());
    assert!(results.iter().all(|d| *d == Some(8)));
    assert_eq!(running.endpoint.refused(), 0, "never more than two at once");

    let url = running.endpoint.url("/v1/embeddings");
    conn.exec_drop(
        "CALL mysql.ml_alter_model_registration('m', ?, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        (url,),
    )
    .unwrap();
    options(&mut conn, "m", r#"{"max_in_flight": null, "requests_per_minute": 5, "timeout_ms": 2000}"#);
    running.endpoint.clear();
    let results = sessions(&running, 20, |i, conn| embed(conn, "m", &format!("minute {i}")));
    let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), running.endpoint.count()), (5, 5));
    let words: BTreeSet<bool> =
        bad.into_iter().map(|r| server_error(r).1.contains("requests_per_minute are used up")).collect();
    assert_eq!(words, BTreeSet::from([true]));

    options(&mut conn, "m", r#"{"requests_per_minute": null, "tokens_per_minute": 100}"#);
    assert_eq!(embed(&mut conn, "m", &"x".repeat(390)).unwrap(), Some(8));
    let (_, message) = server_error(embed(&mut conn, "m", &"y".repeat(390)));
    assert!(message.contains("tokens_per_minute are used up"), "{message}");
}

#[test]
fn requests_that_waiting_does_not_help_are_not_sent_again() {
    let running = start();
    let mut conn = running.root();
    for (id, path) in [("quota", "/quota"), ("spend", "/spend-limit")] {
        let url = running.endpoint.url(path);
        register(
            &mut conn,
            [Some(id), Some(&url), Some("open_ai"), Some("text_embedding"), Some("test-8"), None, None],
        );
        running.endpoint.clear();
        let (_, message) = server_error(embed(&mut conn, id, "x"));
        assert!(message.contains("waiting does not help"), "{message}");
        assert_eq!(running.endpoint.count(), 1, "{id}");
    }
}

#[test]
fn the_status_shows_requests_under_way_and_latencies() {
    let running = start();
    let mut conn = running.root();
    let released = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&released);
    running.endpoint.on("/held", move |_| {
        while !stop.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(2));
        }
        fake_providers::Answer::json(200, &serde_json::json!({"data": [{"embedding": [1, 2, 3]}]}))
    });
    let url = running.endpoint.url("/held");
    register(&mut conn, [Some("m"), Some(&url), Some("open_ai"), Some("text_embedding"), Some("test-3"), None, None]);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| embed(&mut running.root(), "m", "x").unwrap());
        assert!(running.endpoint.wait_for("/held", 1, Duration::from_secs(30)));
        let during = status(&mut conn, "m");
        released.store(true, Ordering::Release);
        assert_eq!(during["in_flight"], 1, "{during}");
        assert!(during["latency_p50_ms"].is_null(), "{during}");
        assert_eq!(call.join().unwrap(), Some(3));
    });
    for n in 0..20 {
        embed(&mut conn, "m", &format!("text {n}")).unwrap();
    }
    let after = status(&mut conn, "m");
    let (p50, p99) = (after["latency_p50_ms"].as_f64().unwrap(), after["latency_p99_ms"].as_f64().unwrap());
    assert!(p99 >= p50 && p50 > 0.0, "{after}");
    assert_eq!((&after["in_flight"], &after["requests"]), (&0.into(), &21.into()), "{after}");
}

#[test]
fn a_wait_for_the_gate_hears_kill() {
    let running = start();
    let mut conn = running.root();
    let url = running.endpoint.url("/pause-once/30/v1/embeddings");
    register(&mut conn, [Some("m"), Some(&url), Some("open_ai"), Some("text_embedding"), Some("test-8"), None, None]);
    let mut waiting = running.root();
    let id: u64 = waiting.query_first("SELECT CONNECTION_ID()").unwrap().unwrap();
    let waiter = std::thread::spawn(move || server_error(embed(&mut waiting, "m", "x")));
    let end = Instant::now() + Duration::from_secs(20);
    while running.endpoint.refused() == 0 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    let killed = Instant::now();
    conn.query_drop(format!("KILL QUERY {id}")).unwrap();
    assert_eq!(waiter.join().unwrap().0, 1317);
    assert!(killed.elapsed() < Duration::from_secs(1));
}

#[test]
fn authorities_and_proxies_of_a_model() {
    let running = start();
    let mut conn = running.root();
    let private = fake_providers::Endpoint::start_tls(fake_providers::Certificate::Valid).unwrap();
    let ca = running.secrets.path().join("ca.pem");
    std::fs::write(&ca, private.ca_pem()).unwrap();
    let url = private.url("/v1/embeddings");
    for id in ["trusting", "other"] {
        register(
            &mut conn,
            [Some(id), Some(&url), Some("open_ai"), Some("text_embedding"), Some("test-8"), None, None],
        );
    }
    options(&mut conn, "trusting", &serde_json::json!({"ca_file": ca.display().to_string()}).to_string());
    assert_eq!(embed(&mut conn, "trusting", "x").unwrap(), Some(8));
    assert!(server_error(embed(&mut conn, "other", "x")).1.contains("TLS failed"));
    // A missing proxy in the model's own options.
    conn.query_drop("CALL mysql.ml_set_setting('egress_allowlist', 'http://model.example http://127.0.0.0/8')")
        .unwrap();
    register(
        &mut conn,
        [
            Some("far"),
            Some("http://model.example/v1/embeddings"),
            Some("open_ai"),
            Some("text_embedding"),
            Some("test-8"),
            None,
            None,
        ],
    );
    options(&mut conn, "far", r#"{"proxy": "http://127.0.0.1:9", "max_retries": 0}"#);
    let (_, message) = server_error(embed(&mut conn, "far", "x"));
    assert!(message.contains("refused"), "{message}");
    assert!(!format!("{:?}", running.endpoint.requests()).contains(FILE_KEY));
}

#[test]
fn a_proxy_of_the_models_own_is_used() {
    let running = start();
    let internet = fake_providers::Internet::start(&running.endpoint).unwrap();
    let ca = running.secrets.path().join("internet.pem");
    std::fs::write(&ca, internet.ca_pem()).unwrap();
    let mut conn = running.root();
    conn.query_drop("CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key')").unwrap();
    let url = Some("https://api.openai.com/v1/embeddings");
    let (open_ai, kind, name) = (Some("open_ai"), Some("text_embedding"), Some("test-8"));
    register(&mut conn, [Some("far"), url, open_ai, kind, name, Some("secret_manager"), Some("key")]);
    let patch = serde_json::json!({"ca_file": ca.display().to_string(), "proxy": internet.proxy_url()});
    options(&mut conn, "far", &patch.to_string());
    assert_eq!(embed(&mut conn, "far", "x").unwrap(), Some(8));
    assert!(internet.hosts().iter().any(|host| host.starts_with("api.openai.com")), "{:?}", internet.hosts());
}

#[test]
fn a_socks_proxy_of_the_environment_stops_only_what_would_go_through_it() {
    let running = start_bare(&[], &[("ALL_PROXY", "socks5://127.0.0.1:9"), ("NO_PROXY", "past.invalid")]);
    running.install();
    let mut conn = running.root();
    running.embedding_model(&mut conn, "here", "/v1/embeddings");
    assert_eq!(embed(&mut conn, "here", "x").unwrap(), Some(8));
    let (open_ai, kind, name) = (Some("open_ai"), Some("text_embedding"), Some("test-8"));
    for (id, url) in [("far", "https://far.invalid/v1/embeddings"), ("past", "https://past.invalid/v1/embeddings")] {
        register(&mut conn, [Some(id), Some(url), open_ai, kind, name, None, None]);
        options(&mut conn, id, r#"{"max_retries": 0}"#);
    }
    let (_, message) = server_error(embed(&mut conn, "far", "x"));
    assert!(message.contains("not an HTTP proxy") && message.contains("none"), "{message}");
    assert_eq!(status(&mut conn, "far")["requests"], 0);
    let (_, message) = server_error(embed(&mut conn, "past", "x"));
    assert!(message.contains("cannot be resolved"), "{message}");
    options(&mut conn, "far", r#"{"proxy": "none"}"#);
    let (_, message) = server_error(embed(&mut conn, "far", "x"));
    assert!(message.contains("cannot be resolved"), "{message}");
    options(&mut conn, "far", r#"{"proxy": null}"#);
    conn.query_drop("CALL mysql.ml_set_setting('proxy', 'none')").unwrap();
    let (_, message) = server_error(embed(&mut conn, "far", "x"));
    assert!(message.contains("cannot be resolved"), "{message}");
}
