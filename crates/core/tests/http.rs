//! The HTTP client and the engine against endpoints that misbehave, without a server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fake_providers::{embedding_for, refused_port, Answer, Blackhole, Certificate, Endpoint, Recorded};
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt, Never};
use mysql_ml_base::role::Role;
use mysql_ml_core::credentials::keyring::NoKeyring;
use mysql_ml_core::engine::collected::{Active, Collection};
use mysql_ml_core::engine::Engine;
use mysql_ml_core::http::policy::NetworkPolicy;
use mysql_ml_core::http::{Call, Client, Method};
use mysql_ml_core::registration::Registration;
use secrecy::SecretString;
use url::Url;

mod shelf;
use shelf::Shelf;

fn call(url: &str) -> Call {
    Call {
        connect_timeout: Duration::from_secs(5),
        max_response: 1 << 20,
        ..Call::new(
            Method::Json(Arc::from(&br#"{"model":"test-8","input":"x"}"#[..])),
            Url::parse(url).unwrap(),
            Instant::now() + Duration::from_secs(20),
            &NetworkPolicy::default(),
        )
    }
}

fn send(call: &Call) -> Result<Vec<u8>> {
    send_again(call, 0)
}

fn send_again(call: &Call, max_retries: u64) -> Result<Vec<u8>> {
    Client::default().send(call, max_retries, &NetworkPolicy::default(), &CancelToken::default()).map(|a| a.body)
}

fn failure(endpoint: &Endpoint, path: &str) -> Error {
    send(&call(&endpoint.url(path))).expect_err(path)
}

#[test]
fn errors_have_the_fact_and_the_kind() {
    let e = Endpoint::start().unwrap();
    for (path, kind, words) in [
        ("/status/401", Kind::Provider(401), "check the model's credentials"),
        ("/status/404", Kind::Provider(404), "check the request URL"),
        ("/status/500", Kind::Provider(500), "Internal Server Error"),
        ("/redirect", Kind::Provider(302), "redirect"),
        ("/redirect-post", Kind::Provider(307), "redirect"),
        ("/truncated", Kind::Connection, "connection failed"),
        ("/reset", Kind::Connection, "connection failed"),
        ("/eof", Kind::Connection, "connection failed"),
        ("/huge", Kind::TooLarge, "larger than 1 MiB"),
        ("/gzip-bomb", Kind::TooLarge, "larger than 1 MiB"),
        ("/bytes/2000000", Kind::TooLarge, "larger than 1 MiB"),
    ] {
        let error = failure(&e, path);
        assert_eq!(error.kind(), kind, "{path}: {error}");
        assert!(error.message().contains(words), "{path}: {error}");
    }
    assert!(failure(&e, "/status/500?key=in-the-query").message().find("in-the-query").is_none());
}

#[test]
fn nothing_is_sent_to_metadata_addresses_in_whatever_form() {
    for host in [
        "169.254.169.254",
        "2852039166",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[64:ff9b:1:a9fe:a9:fe00::]",
        "[2002:a9fe:a9fe::1]",
        "[2001:0:a9fe:a9fe::1]",
        "[2001:db8::5efe:a9fe:a9fe]",
        "[fd00:ec2::23]",
        "[fd00:c1::a9fe:a9fe]",
        "metadata.google.internal",
    ] {
        let error = send(&call(&format!("https://{host}/"))).unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{host}: {error}");
        assert!(error.message().contains("never sent"), "{host}: {error}");
    }
    let e = Endpoint::start().unwrap();
    let error = send(&call(&format!("http://0.0.0.0:{}/v1/embeddings", e.port()))).unwrap_err();
    assert!(error.kind() == Kind::Denied && error.message().contains("write 127.0.0.1"), "{error}");
    assert_eq!(e.count(), 0);
}

#[test]
fn sent_secrets_are_in_no_answer_and_no_error() {
    let e = Endpoint::start().unwrap();
    let secret = "form+5ecret/0001=x";
    let login = "cGFzcy13b3JkOmlz";
    // Repeats the whole request, each part in another encoding.
    let echo = move |r: &Recorded| {
        let header = r.header("authorization").unwrap().replace('c', "\\u0063");
        let form = r.text().replace('%', "%25");
        format!("{{\"message\":\"{header}; {form}; {}; {}\"}}", r.query, secret.replace('/', "\\/"))
    };
    e.on("/refuses", move |r: &Recorded| Answer::raw_json(400, echo(r)));
    e.on("/answers", move |r: &Recorded| Answer::raw_json(200, echo(r)));
    e.on("/redirects", move |r: &Recorded| {
        Answer::raw_json(307, "").with_header("Location", &format!("/?q={}", r.query))
    });
    let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("assertion", secret).finish();
    for path in ["/refuses", "/answers", "/redirects"] {
        let mut c = call(&e.url(&format!("{path}?api-version=2024-10-21&code=url-5ecret-0002")));
        c.method = Method::Form(SecretString::from(form.clone()));
        c.headers = vec![("authorization".parse().unwrap(), SecretString::from(format!("Basic {login}")))];
        c.private = vec![SecretString::from(secret)];
        c.redirects = true;
        let said = match Client::default().send(&c, 0, &NetworkPolicy::default(), &CancelToken::default()) {
            Ok(answer) => {
                format!("{} {}", String::from_utf8(answer.body).unwrap(), answer.location.unwrap_or_default())
            }
            Err(error) => error.message().to_owned(),
        };
        assert!(said.contains("api-version=2024-10-21"), "{said}");
        for part in ["5ecret", "0001", "0002", login] {
            assert!(!said.contains(part), "{path}: {part} in {said}");
        }
    }
}

#[test]
fn a_refusal_with_odd_characters_is_understood() {
    let e = Endpoint::start().unwrap();
    let words = "x \\ud83d y";
    let body = format!(r#"{{"error":{{"message":"{words}","code":"insufficient_quota"}}}}"#);
    for (path, start, end) in [("/half", "", ""), ("/mark", "\u{feff}", "\0\0")] {
        let answer = Answer::raw_json(429, format!("{start}{body}{end}"));
        e.on(path, move |_: &Recorded| answer.clone());
        let error = send_again(&call(&e.url(path)), 3).unwrap_err();
        assert!(error.message().contains("\"x \u{fffd} y\"; the account's quota"), "{error}");
        assert_eq!(e.count_for(path), 1, "an exhausted quota is not asked again");
    }
}

#[test]
fn a_refusal_without_retry_after_is_waited_out_as_the_reset_headers_say() {
    let e = Endpoint::start().unwrap();
    let first = |answer: fn() -> Answer| {
        let asked = AtomicU32::new(0);
        move |_: &Recorded| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => answer(),
            _ => Answer::raw_json(200, "{}"),
        }
    };
    e.on(
        "/openai",
        first(|| {
            Answer::error(429, "slow down", "requests", None)
                .with_header("x-ratelimit-remaining-requests", "0")
                .with_header("x-ratelimit-reset-requests", "700ms")
                .with_header("x-ratelimit-remaining-tokens", "149984")
                .with_header("x-ratelimit-reset-tokens", "5m0s")
        }),
    );
    e.on(
        "/anthropic",
        first(|| {
            let reset = std::time::SystemTime::now() + Duration::from_millis(700);
            Answer::error(429, "slow down", "rate_limit_error", None)
                .with_header("anthropic-ratelimit-requests-remaining", "0")
                .with_header("anthropic-ratelimit-requests-reset", &humantime::format_rfc3339_nanos(reset).to_string())
        }),
    );
    // Without the headers the wait before the second try would be 500 ms at most.
    for path in ["/openai", "/anthropic"] {
        e.clear();
        assert_eq!(send_again(&call(&e.url(path)), 1).unwrap(), b"{}");
        let requests = e.requests();
        assert_eq!(requests.len(), 2, "{path}");
        let waited = requests[1].at - requests[0].at;
        assert!(waited >= Duration::from_millis(600), "{path}: {waited:?}");
    }
}

#[test]
fn endpoints_that_cannot_be_reached() {
    let refused = send(&call(&format!("http://127.0.0.1:{}/", refused_port()))).unwrap_err();
    assert!(refused.message().contains("refused"), "{refused}");
    let unknown = send(&call("https://no-such-host.invalid/")).unwrap_err();
    assert!(unknown.message().contains("cannot be resolved"), "{unknown}");
    let hole = Blackhole::open().unwrap();
    let mut c = call(&format!("http://127.0.0.1:{}/", hole.port()));
    c.connect_timeout = Duration::from_millis(200);
    let started = Instant::now();
    let error = send(&c).unwrap_err();
    assert!(error.message().contains("no connection in time"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn the_deadline_covers_everything() {
    let e = Endpoint::start().unwrap();
    for path in ["/hang", "/drip", "/delay/5000/v1/embeddings", "/status/503"] {
        let mut c = call(&e.url(path));
        c.deadline = Instant::now() + Duration::from_millis(400);
        let started = Instant::now();
        let error = send_again(&c, 10).unwrap_err();
        assert!(started.elapsed() < Duration::from_millis(1500), "{path}: {:?}", started.elapsed());
        assert!(matches!(error.kind(), Kind::Timeout | Kind::Provider(503)), "{path}: {error}");
    }
}

#[test]
fn retries_and_their_bounds() {
    let e = Endpoint::start().unwrap();
    assert!(send_again(&call(&e.url("/retry/2/503/0")), 2).is_ok());
    assert_eq!(e.count(), 3);
    e.clear();
    let error = send_again(&call(&e.url("/retry/9/503/0")), 2).unwrap_err();
    assert!(error.message().contains("(3 tries)"), "{error}");
    e.clear();
    for path in ["/ratelimit", "/quota", "/status/400", "/status/401", "/status/422", "/redirect", "/huge"] {
        send_again(&call(&e.url(path)), 5).unwrap_err();
        assert_eq!(e.count(), 1, "{path} is not worth another try");
        e.clear();
    }
    // Waits in milliseconds are respected.
    let first = Arc::new(AtomicBool::new(true));
    e.on("/busy-once", move |_| {
        if first.swap(false, Ordering::SeqCst) {
            Answer::error(429, "slow down", "rate_limit", None).with_header("retry-after-ms", "120")
        } else {
            Answer::raw_json(200, "{\"ok\":true}")
        }
    });
    let c = call(&e.url("/busy-once"));
    let started = Instant::now();
    assert_eq!(send_again(&c, 1).unwrap(), b"{\"ok\":true}");
    assert!(started.elapsed() >= Duration::from_millis(120));
}

#[test]
fn cancelling_ends_a_call_and_its_connection() {
    let e = Endpoint::start().unwrap();
    for path in ["/hang", "/drip", "/status/503"] {
        let c = call(&e.url(path));
        let token = CancelToken::default();
        let (client, cancel) = (Arc::new(Client::default()), token.clone());
        let worker = std::thread::spawn(move || client.send(&c, 10, &NetworkPolicy::default(), &cancel).map(|_| ()));
        assert!(e.wait_for(path, 1, Duration::from_secs(5)));
        let cancelled = Instant::now();
        token.cancel();
        assert!(worker.join().unwrap().is_err());
        assert!(cancelled.elapsed() < Duration::from_millis(500), "{path}");
        assert!(e.wait_until_idle(Duration::from_secs(5)), "{path} keeps its connection");
    }
}

#[test]
fn connections_are_kept_and_a_closed_one_is_replaced() {
    let e = Endpoint::start().unwrap();
    let client = Client::default();
    for _ in 0..20 {
        client.send(&call(&e.url("/v1/embeddings")), 0, &NetworkPolicy::default(), &CancelToken::default()).unwrap();
    }
    assert_eq!(e.connections(), 1);
    // Closed while the client may be using it again: not a failure, even without retries.
    for _ in 0..200 {
        client.send(&call(&e.url("/close-keepalive")), 0, &NetworkPolicy::default(), &CancelToken::default()).unwrap();
    }
    // Compressed answers are unpacked.
    let body = client.send(&call(&e.url("/gzip")), 0, &NetworkPolicy::default(), &CancelToken::default()).unwrap().body;
    assert!(body.starts_with(b"{"));
}

#[test]
fn tls_is_verified() {
    let valid = Endpoint::start_tls(Certificate::Valid).unwrap();
    let error = send(&call(&valid.url("/v1/embeddings"))).unwrap_err();
    assert!(error.message().contains("TLS failed"), "{error}");
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), valid.ca_pem()).unwrap();
    let settings = NetworkPolicy { ca_file: ca.path().display().to_string(), ..NetworkPolicy::default() };
    let client = Client::default();
    assert!(client.send(&call(&valid.url("/v1/embeddings")), 0, &settings, &CancelToken::default()).is_ok());
    // Waiting on a TLS connection can be cancelled too.
    let token = CancelToken::default();
    let (c, cancel) = (call(&valid.url("/hang")), token.clone());
    let worker = std::thread::spawn(move || client.send(&c, 10, &settings, &cancel).map(|_| ()));
    assert!(valid.wait_for("/hang", 1, Duration::from_secs(5)));
    let cancelled = Instant::now();
    token.cancel();
    assert!(worker.join().unwrap().is_err());
    assert!(cancelled.elapsed() < Duration::from_millis(500));
}

#[test]
fn secrets_with_line_breaks_are_refused_and_not_displayed() {
    let e = Endpoint::start().unwrap();
    let mut c = call(&e.url("/echo"));
    c.headers.push((ureq::http::header::AUTHORIZATION, SecretString::from("Bearer sk-1\r\nX-Evil: 1")));
    let error = send(&c).unwrap_err();
    assert!(error.message().contains("authorization") && !error.message().contains("sk-1"), "{error}");
    assert_eq!(e.count(), 0);
}

#[test]
fn a_key_that_an_error_repeats_is_blotted_out_also_where_the_text_is_cut() {
    let e = Endpoint::start().unwrap();
    for padding in 150..260 {
        let words = format!("{} Incorrect key sk-abcdefgh12345678 given", "x".repeat(padding));
        e.on("/leak", move |_| Answer::error(401, &words, "auth", None));
        let mut c = call(&e.url("/leak"));
        c.headers.push((ureq::http::header::AUTHORIZATION, SecretString::from("Bearer sk-abcdefgh12345678")));
        let error = send(&c).unwrap_err();
        assert!(!error.message().contains("sk-"), "{padding}: {error}");
    }
}

#[test]
fn a_small_compressed_answer_does_not_become_a_large_tree() {
    let e = Endpoint::start().unwrap();
    let (shelf, engine) = shelf(&[]);
    let registration = Registration {
        model_id: "t".into(),
        request_url: Some(e.url("/nested")),
        model_type: Some("text_embedding".into()),
        input_fn: Some("json:[\"{{input}}\"]".into()),
        output_fn: Some("path:$.e".into()),
        ..Registration::default()
    };
    shelf.register(&registration, None);
    let mut body = String::from("{\"e\":[1,2,3],\"x\":[");
    for _ in 0..4_000_000 {
        body.push_str("[0],");
    }
    body.push_str("[0]]}");
    let body: &'static str = body.leak();
    e.on("/nested", move |_| Answer::raw_json(200, body));
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4 / 1024
    };
    let before = resident();
    assert_eq!(embed(&engine, "t", "x", &Never).unwrap().len(), 12);
    let after = resident();
    assert!(after < before + 150, "from {before} to {after} MiB for an answer of 16 MB");
}

#[test]
fn a_pass_that_goes_on_after_a_kill_calls_no_model() {
    let e = Endpoint::start().unwrap();
    let (_, engine) = shelf(&[("m", e.url("/v1/embeddings"))]);
    let text = |text: &str| engine.embedding(surface::functions::ml_embedding, "m", text, Role::Document, &Never);
    let collection = Arc::new(Collection::default());
    let _active = Active::set(Arc::clone(&collection));
    collection.begin_pass(1);
    assert!(text("noted").unwrap().is_none());
    assert!(collection.end_pass(Err(Error::interrupted(1317))).is_err());
    // The session of the pass may still evaluate rows.
    for words in ["noted", "another"] {
        assert!(matches!(text(words).unwrap_err().kind(), Kind::Interrupted(_)), "{words}");
    }
    assert_eq!(e.count(), 0);
    // After a pass that ended by itself, calls are made singly.
    let collection = Arc::new(Collection::default());
    let _active = Active::set(Arc::clone(&collection));
    collection.begin_pass(1);
    assert!(collection.end_pass(Ok(())).is_ok());
    assert_eq!(text("another").unwrap().unwrap().len(), 32);
    assert_eq!(e.count(), 1);
}

fn shelf(models: &[(&str, String)]) -> (Shelf, Engine) {
    let shelf = Shelf::default();
    for (id, url) in models {
        let registration = Registration {
            model_id: (*id).into(),
            request_url: Some(url.clone()),
            provider: Some("open_ai".into()),
            model_type: Some("text_embedding".into()),
            qualified_name: Some("test-8".into()),
            ..Registration::default()
        };
        shelf.register(&registration, None);
    }
    let engine = Engine::new(Box::new(shelf.clone()), Box::new(NoKeyring));
    (shelf, engine)
}

fn embed(engine: &Engine, model: &str, text: &str, interrupt: &dyn Interrupt) -> Result<Arc<[u8]>> {
    engine.embedding(surface::functions::ml_embedding, model, text, Role::Document, interrupt).map(Option::unwrap)
}

#[test]
fn the_engine_embeds_caches_and_forgets() {
    let e = Endpoint::start().unwrap();
    let (shelf, engine) = shelf(&[("m", e.url("/v1/embeddings"))]);
    let expected: Vec<u8> = embedding_for("hello", 8).iter().flat_map(|x| x.to_le_bytes()).collect();
    for _ in 0..3 {
        assert_eq!(*embed(&engine, "m", "hello", &Never).unwrap(), expected);
    }
    assert_eq!(e.count(), 1);
    shelf.settings.lock().unwrap().cache_memory = 0;
    engine.registry().invalidate();
    embed(&engine, "m", "hello", &Never).unwrap();
    embed(&engine, "m", "hello", &Never).unwrap();
    assert_eq!(e.count(), 3);
    let error = embed(&engine, "absent", "x", &Never).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[test]
fn failures_are_not_cached() {
    let e = Endpoint::start().unwrap();
    let (shelf, engine) = shelf(&[("m", e.url("/retry/1/500"))]);
    shelf.settings.lock().unwrap().max_retries = 0;
    assert!(embed(&engine, "m", "x", &Never).is_err());
    assert!(embed(&engine, "m", "x", &Never).is_ok());
}

/// Interrupts from the second check on.
struct StopSoon(AtomicBool);

impl Interrupt for StopSoon {
    fn check(&self) -> Result<()> {
        if self.0.swap(true, Ordering::SeqCst) {
            Err(Error::interrupted(1317))
        } else {
            Ok(())
        }
    }
}

#[test]
fn a_stopped_statement_frees_its_worker_and_connection() {
    let e = Endpoint::start().unwrap();
    let (_, engine) = shelf(&[("m", e.url("/hang"))]);
    let error = embed(&engine, "m", "x", &StopSoon(AtomicBool::new(false))).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted(1317));
    assert!(e.wait_until_idle(Duration::from_secs(5)));
}

#[test]
fn a_name_that_leads_to_a_forbidden_address_is_refused() {
    // localhost is this machine, so it stands for a name that an attacker points anywhere.
    let list = mysql_ml_core::http::egress::Allowlist::parse("http://10.0.0.0/8").unwrap();
    let settings = NetworkPolicy { egress_allowlist: list, ..NetworkPolicy::default() };
    let error =
        Client::default().send(&call("http://localhost:9/"), 0, &settings, &CancelToken::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
}

#[test]
fn requests_go_through_a_proxy_but_not_to_this_machine() {
    let e = Endpoint::start().unwrap();
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy_port = proxy.local_addr().unwrap().port();
    let target = e.port();
    // A CONNECT proxy that accepts one connection and directs every name to the endpoint.
    let served = std::thread::spawn(move || {
        let (mut client, _) = proxy.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            std::io::Read::read_exact(&mut client, &mut byte).unwrap();
            head.push(byte[0]);
        }
        let mut upstream = std::net::TcpStream::connect(("127.0.0.1", target)).unwrap();
        std::io::Write::write_all(&mut client, b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        let (mut from_client, mut to_upstream) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_upstream);
            let _ = to_upstream.shutdown(std::net::Shutdown::Both);
        });
        let _ = std::io::copy(&mut upstream, &mut client);
        String::from_utf8(head).unwrap()
    });
    let settings = NetworkPolicy {
        proxy: format!("http://127.0.0.1:{proxy_port}"),
        egress_allowlist: mysql_ml_core::http::egress::Allowlist::parse("http://model.internal http://127.0.0.0/8")
            .unwrap(),
        ..NetworkPolicy::default()
    };
    let client = Client::default();
    // Requests to this machine bypass the proxy, which would never answer a second connection.
    client.send(&call(&e.url("/v1/embeddings")), 0, &settings, &CancelToken::default()).unwrap();
    client.send(&call("http://model.internal/v1/embeddings"), 0, &settings, &CancelToken::default()).unwrap();
    assert_eq!(e.count(), 2);
    drop(client);
    assert!(served.join().unwrap().starts_with("CONNECT model.internal:80 HTTP/1.1"));
}
