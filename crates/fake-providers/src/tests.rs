#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{json, Value};
use ureq::tls::{Certificate as Trusted, RootCerts, TlsConfig};
use ureq::Agent;

use crate::*;

const SECOND: Duration = Duration::from_secs(1);

fn agent() -> Agent {
    agent_trusting(None)
}

fn agent_trusting(ca_pem: Option<&str>) -> Agent {
    let mut tls = TlsConfig::builder();
    if let Some(pem) = ca_pem {
        let ca = Trusted::from_pem(pem.as_bytes()).unwrap();
        tls = tls.root_certs(RootCerts::new_with_certs(&[ca]));
    }
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(10 * SECOND))
        .tls_config(tls.build())
        .build()
        .into()
}

/// Posts JSON; returns status, headers and body.
fn post(agent: &Agent, url: &str, body: &Value) -> Result<(u16, ureq::http::HeaderMap, Vec<u8>), ureq::Error> {
    let mut response = agent.post(url).content_type("application/json").send(body.to_string())?;
    let bytes = response.body_mut().with_config().limit(1 << 30).read_to_vec()?;
    Ok((response.status().as_u16(), response.headers().clone(), bytes))
}

fn post_json(endpoint: &Endpoint, path: &str, body: &Value) -> (u16, Value) {
    let (status, _, bytes) = post(&agent(), &endpoint.url(path), body).unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn input(text: &str) -> Value {
    json!({"model": "test-4", "input": text})
}

fn floats(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Sends raw bytes and reads until the end.
fn exchange(endpoint: &Endpoint, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", endpoint.port())).unwrap();
    stream.set_read_timeout(Some(10 * SECOND)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn raw_post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

#[test]
fn embeddings_are_deterministic_unit_vectors() {
    let one = embedding_for("one", 1536);
    let length: f64 = one.iter().map(|v| f64::from(*v).powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-6, "{length}");
    assert_eq!(one, embedding_for("one", 1536));
    assert_ne!(one, embedding_for("two", 1536));
    assert_ne!(embedding_for("", 2), embedding_for("a", 2));
    assert!(embedding_for("one", 0).is_empty());
}

#[test]
fn embeddings_route() {
    let endpoint = Endpoint::start().unwrap();
    let body = json!({"model": "test-4", "input": ["one", "zwei ✓"]});
    let (status, answer) = post_json(&endpoint, "/v1/embeddings", &body);
    assert_eq!(status, 200);
    assert_eq!(answer["object"], "list");
    assert_eq!(answer["model"], "test-4");
    assert_eq!(answer["usage"]["total_tokens"], 3);
    assert_eq!(answer["data"][1]["index"], 1);
    assert_eq!(answer["data"][1]["object"], "embedding");
    assert_eq!(floats(&answer["data"][0]["embedding"]), embedding_for("one", 4));
    assert_eq!(floats(&answer["data"][1]["embedding"]), embedding_for("zwei ✓", 4));

    let body = json!({"model": "other", "input": "one"});
    let (_, answer) = post_json(&endpoint, "/v1/embeddings", &body);
    assert_eq!(floats(&answer["data"][0]["embedding"]), embedding_for("one", 1536));

    let body = json!({"model": "other", "input": "one", "dimensions": 7, "encoding_format": "base64"});
    let (_, answer) = post_json(&endpoint, "/v1/embeddings", &body);
    let text = answer["data"][0]["embedding"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let expected: Vec<u8> = embedding_for("one", 7).iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(bytes, expected);
}

#[test]
fn embeddings_route_refuses_bad_requests() {
    let endpoint = Endpoint::start().unwrap();
    for body in [
        json!({"model": "test-4", "input": ""}),
        json!({"model": "test-4", "input": []}),
        json!({"model": "test-4", "input": ["a", ""]}),
        json!({"model": "test-4", "input": 1}),
        json!({"model": "test-4"}),
        json!({"input": "a"}),
        json!({"model": "test-4", "input": "a", "dimensions": 0}),
        json!({"model": "test-4", "input": "a", "encoding_format": "hex"}),
        json!([]),
    ] {
        let (status, answer) = post_json(&endpoint, "/v1/embeddings", &body);
        assert_eq!(status, 400, "{body}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
        assert!(answer["error"]["message"].is_string());
        assert!(answer["error"]["param"].is_null() && answer["error"]["code"].is_null());
    }
    let answer = exchange(&endpoint, b"GET /v1/embeddings HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let (status, _) = post_json(&endpoint, "/nowhere", &json!({}));
    assert_eq!(status, 404);
}

#[test]
fn chat_and_custom_model_routes() {
    let endpoint = Endpoint::start().unwrap();
    let body = json!({"model": "m", "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "second"},
    ]});
    let (status, answer) = post_json(&endpoint, "/v1/chat/completions", &body);
    assert_eq!(status, 200);
    assert_eq!(answer["choices"][0]["message"]["content"], "You said: second");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(answer["usage"]["total_tokens"].is_u64());
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": [{"type": "text", "text": "part"}]},
    ]});
    let (_, answer) = post_json(&endpoint, "/v1/chat/completions", &body);
    assert_eq!(answer["choices"][0]["message"]["content"], "You said: part");

    let (status, answer) = post_json(&endpoint, "/models/text/embeddings/v1", &json!({"prompt": ["text"]}));
    assert_eq!(status, 200);
    assert_eq!(floats(&answer[0]), embedding_for("text", 50));
}

#[test]
fn authorisation() {
    let endpoint = Endpoint::start().unwrap();
    endpoint.set_expected_key("sk-right");
    let send = |key: &str| {
        let mut response = agent()
            .post(endpoint.url("/auth/embeddings"))
            .header("Authorization", format!("Bearer {key}"))
            .send(input("a").to_string())
            .unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), text)
    };
    assert_eq!(send("sk-right").0, 200);
    let (status, text) = send("sk-wrong");
    assert_eq!(status, 401);
    assert!(text.contains("Incorrect API key provided: sk-wrong"), "{text}");
    assert!(text.contains("invalid_api_key"), "{text}");
    assert_eq!(post_json(&endpoint, "/auth/embeddings", &input("a")).0, 401);
}

#[test]
fn echo_and_bytes() {
    let endpoint = Endpoint::start().unwrap();
    let (_, answer) = post_json(&endpoint, "/echo?a=1&b", &json!({"x": [1]}));
    assert_eq!(answer["method"], "POST");
    assert_eq!(answer["path"], "/echo");
    assert_eq!(answer["query"], "a=1&b");
    assert_eq!(answer["headers"]["content-type"], "application/json");
    assert_eq!(answer["body"], json!({"x": [1]}));
    let (status, answer) = post_json(&endpoint, "/bytes/100000", &json!({}));
    assert_eq!((status, answer.as_str().unwrap().len()), (200, 100_000));
}

#[test]
fn records_and_counts() {
    let endpoint = Endpoint::start().unwrap();
    let agent = agent();
    for text in ["one", "two"] {
        post(&agent, &endpoint.url("/v1/embeddings?q=1"), &input(text)).unwrap();
    }
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].method, "POST");
    assert_eq!(requests[0].path, "/v1/embeddings");
    assert_eq!(requests[0].query, "q=1");
    assert_eq!(requests[1].json(), input("two"));
    assert_eq!(requests[1].text(), input("two").to_string());
    assert_eq!(requests[0].header("CONTENT-TYPE"), Some("application/json"));
    assert_eq!(requests[0].header("x-none"), None);
    assert_eq!(requests[0].connection, requests[1].connection, "kept alive");
    assert!(requests[0].at <= requests[1].at);
    assert_eq!((endpoint.connections(), endpoint.open_connections()), (1, 1));

    endpoint.set_recording(false);
    post(&agent, &endpoint.url("/echo"), &input("three")).unwrap();
    assert_eq!(endpoint.requests().len(), 2);
    assert_eq!((endpoint.count(), endpoint.count_for("/echo")), (3, 1));
    endpoint.clear();
    assert!(endpoint.requests().is_empty());
    assert_eq!((endpoint.count(), endpoint.count_for("/echo")), (0, 0));
    drop(agent);
    assert!(endpoint.wait_until_idle(SECOND));
}

#[test]
fn retry_counts_per_path() {
    let endpoint = Endpoint::start().unwrap();
    let agent = agent();
    let send = |path: &str| {
        let (status, headers, _) = post(&agent, &endpoint.url(path), &input("a")).unwrap();
        let after = headers.get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        (status, after)
    };
    let seven = Some("7".to_owned());
    assert_eq!(send("/retry/2/503/7"), (503, seven.clone()));
    assert_eq!(send("/retry/1/429"), (429, None));
    assert_eq!(send("/retry/2/503/7"), (503, seven));
    assert_eq!(send("/retry/2/503/7"), (200, None));
    assert_eq!(send("/retry/1/429"), (200, None));
    endpoint.clear();
    assert_eq!(send("/retry/1/429").0, 429);
    assert_eq!(send("/delay/1/retry/1/500").0, 500);
    assert_eq!(send("/delay/1/retry/1/500").0, 200);
}

#[test]
fn statuses() {
    let endpoint = Endpoint::start().unwrap();
    for code in [200, 400, 404, 418, 500, 503, 599] {
        let (status, answer) = post_json(&endpoint, &format!("/status/{code}"), &input("a"));
        assert_eq!(status, code);
        let message = format!("status {code} for testing");
        assert_eq!(answer, json!({"error": {"message": message}}));
    }
    assert_eq!(post_json(&endpoint, "/status/204", &input("a")), (204, Value::Null));
    assert_eq!(post_json(&endpoint, "/status/nope", &input("a")).0, 404);
    let (status, headers, body) = post(&agent(), &endpoint.url("/ratelimit"), &input("a")).unwrap();
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (429, "3600"));
    assert!(String::from_utf8(body).unwrap().contains("rate_limit_exceeded"));
    let (status, answer) = post_json(&endpoint, "/quota", &input("a"));
    assert_eq!((status, &answer["error"]["code"]), (429, &json!("insufficient_quota")));
    for (path, code) in [("/redirect", 302), ("/redirect-post", 307)] {
        let (status, headers, _) = post(&agent(), &endpoint.url(path), &input("a")).unwrap();
        assert_eq!((status, headers["location"].to_str().unwrap()), (code, "/v1/embeddings"));
    }
}

#[test]
fn latency_and_delay() {
    let endpoint = Endpoint::start().unwrap();
    let timed = |path: &str| {
        let begin = Instant::now();
        let body = json!({"model": "test-4", "input": ["a", "b", "c"]});
        assert_eq!(post_json(&endpoint, path, &body).0, 200);
        begin.elapsed()
    };
    assert!(timed("/delay/100/v1/embeddings") >= Duration::from_millis(100));
    endpoint.set_latency(Duration::from_millis(20), Duration::from_millis(10));
    assert!(timed("/v1/embeddings") >= Duration::from_millis(50));
}

#[test]
fn wrong_bodies() {
    let endpoint = Endpoint::start().unwrap();
    let agent = agent();
    let send = |path: &str| {
        let (status, headers, body) = post(&agent, &endpoint.url(path), &input("a")).unwrap();
        assert_eq!(status, 200, "{path}");
        (headers, String::from_utf8(body).unwrap())
    };
    let (headers, body) = send("/not-json");
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(body.starts_with('<'));
    for path in ["/broken-json", "/nan", "/inf", "/deep"] {
        assert!(serde_json::from_str::<Value>(&send(path).1).is_err(), "{path}");
    }
    assert!(send("/nan").1.contains("[NaN,1.0]"));
    assert!(send("/inf").1.contains("[1e999]"));
    assert_eq!(send("/no-data").1, r#"{"object":"list"}"#);
    assert_eq!(send("/deep").1.len(), 200_000);
    let width = |path: &str| {
        let answer: Value = serde_json::from_str(&send(path).1).unwrap();
        floats(&answer["data"][0]["embedding"]).len()
    };
    assert_eq!(width("/wrong-width/9"), 9);
    assert_eq!(width("/empty-embedding"), 0);
    assert_eq!(width("/gzip"), 4);
    assert_eq!(endpoint.connections(), 1);
    let compressed = exchange(
        &endpoint,
        &[
            b"POST /gzip HTTP/1.1\r\nConnection: close\r\nContent-Length: 31\r\n\r\n".as_slice(),
            br#"{"model":"test-4","input":"ab"}"#,
        ]
        .concat(),
    );
    assert!(compressed.contains("Content-Encoding: gzip"), "{compressed}");
}

#[test]
fn oversized_answers() {
    let endpoint = Endpoint::start().unwrap();
    for path in ["/huge", "/gzip-bomb"] {
        let (_, _, body) = post(&agent(), &endpoint.url(path), &input("a")).unwrap();
        assert_eq!(body.len(), misbehave::HUGE, "{path}");
        assert_eq!((body[0], body[1], body[body.len() - 1]), (b'"', b'a', b'"'), "{path}");
    }
    let mut stream = TcpStream::connect(("127.0.0.1", endpoint.port())).unwrap();
    stream.write_all(&raw_post("/huge-header", &input("a").to_string())).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.len() > 1 << 20);
}

#[test]
fn failing_connections() {
    let endpoint = Endpoint::start().unwrap();
    let open = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", endpoint.port())).unwrap();
        stream.set_read_timeout(Some(10 * SECOND)).unwrap();
        stream.write_all(&raw_post(path, &input("a").to_string())).unwrap();
        stream
    };
    let mut bytes = Vec::new();
    let error = open("/reset").read_to_end(&mut bytes).unwrap_err();
    assert_eq!((error.kind(), bytes.len()), (ErrorKind::ConnectionReset, 0));
    assert_eq!(open("/eof").read_to_end(&mut bytes).unwrap(), 0);
    open("/truncated").read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(std::mem::take(&mut bytes)).unwrap();
    assert!(text.contains("Content-Length: 1048576\r\n") && text.len() < 1000, "{text}");
    open("/close-keepalive").read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(std::mem::take(&mut bytes)).unwrap();
    assert!(text.contains("Connection: keep-alive") && text.ends_with('}'), "{text}");

    let mut drip = open("/drip");
    let mut buffer = [0; 4096];
    let mut read = drip.read(&mut buffer).unwrap();
    assert!(buffer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let begin = Instant::now();
    while read < 200 && begin.elapsed() < Duration::from_millis(350) {
        read += drip.read(&mut buffer).unwrap();
    }
    assert!(endpoint.wait_for("/drip", 1, SECOND));
    drop(drip);

    let mut hang = open("/hang");
    hang.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(hang.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(!endpoint.wait_until_idle(Duration::from_millis(10)));
    drop(hang);
    assert!(endpoint.wait_until_idle(SECOND), "notices that its clients have gone");
}

#[test]
fn dropping_ends_waiting_connections() {
    let endpoint = Endpoint::start().unwrap();
    let streams: Vec<TcpStream> = ["/hang", "/delay/60000/echo", "/drip", "/huge"]
        .iter()
        .map(|path| {
            let mut stream = TcpStream::connect(("127.0.0.1", endpoint.port())).unwrap();
            stream.write_all(&raw_post(path, "{}")).unwrap();
            assert!(endpoint.wait_for(path, 1, SECOND));
            stream
        })
        .collect();
    let port = endpoint.port();
    let begin = Instant::now();
    drop(endpoint);
    assert!(begin.elapsed() < SECOND, "{:?}", begin.elapsed());
    for mut stream in streams {
        stream.set_read_timeout(Some(SECOND)).unwrap();
        let mut bytes = Vec::new();
        let end = stream.read_to_end(&mut bytes);
        assert!(!matches!(end, Err(error) if error.kind() == ErrorKind::WouldBlock));
    }
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn custom_and_prebuilt_routes() {
    let endpoint = Endpoint::start().unwrap();
    endpoint
        .on("/mine", |request| Answer::json(201, &json!({"got": request.text()})).with_header("Connection", "close"));
    let (status, answer) = post_json(&endpoint, "/mine", &json!(1));
    assert_eq!((status, answer), (201, json!({"got": "1"})));
    endpoint.prebuild("/v1/embeddings", &Answer::json(200, &json!([1])));
    assert_eq!(post_json(&endpoint, "/v1/embeddings", &json!(1)), (200, json!([1])));
    endpoint.on("/panic", |_| panic!("on purpose"));
    assert!(post(&agent(), &endpoint.url("/panic"), &json!(1)).is_err());
    assert!(endpoint.wait_until_idle(SECOND));
}

#[test]
fn fixed_vector() {
    let endpoint = Endpoint::start().unwrap();
    endpoint.set_fixed_vector(Some(&[0.5, -1.0]));
    let body = json!({"model": "m", "input": ["a", "b"]});
    let (_, answer) = post_json(&endpoint, "/v1/embeddings", &body);
    assert_eq!(answer["data"][1]["embedding"], json!([0.5, -1.0]));
    let body = json!({"model": "m", "input": "a", "encoding_format": "base64"});
    let (_, answer) = post_json(&endpoint, "/v1/embeddings", &body);
    assert_eq!(answer["data"][0]["embedding"], json!("AAAAPwAAgL8="));
    endpoint.set_fixed_vector(None);
    let (_, answer) = post_json(&endpoint, "/v1/embeddings", &input("a"));
    assert_eq!(floats(&answer["data"][0]["embedding"]), embedding_for("a", 4));
}

#[test]
fn framing() {
    let endpoint = Endpoint::start().unwrap();
    // Two requests in one packet, the first of them chunked.
    let answer = exchange(
        &endpoint,
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\"ab\r\n2;x=y\r\nc\"\r\n0\r\n\r\n\
          POST /echo?second HTTP/1.1\r\nConnection: close\r\nContent-Length: 3\r\n\r\nnot",
    );
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert!(answer.contains(r#""body":"abc""#) && answer.contains(r#""body":"not""#), "{answer}");
    let answer = exchange(&endpoint, b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{answer}");
    let answer = exchange(&endpoint, b"POST /echo HTTP/1.1\r\nContent-Length: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = exchange(&endpoint, b"\0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // A body and a head larger than the buffer.
    let body = json!("b".repeat(3_000_000));
    let (_, answer) = post_json(&endpoint, "/echo", &body);
    assert_eq!(answer["body"], body);
    let long = "h".repeat(200_000);
    let answer =
        exchange(&endpoint, format!("GET /echo HTTP/1.1\r\nConnection: close\r\nX-Long: {long}\r\n\r\n").as_bytes());
    assert!(answer.contains(&long));
}

#[test]
fn tls_certificates() {
    let valid = Endpoint::start_tls(Certificate::Valid).unwrap();
    assert!(valid.url("/a").starts_with("https://localhost:"));
    assert!(valid.ca_pem().starts_with("-----BEGIN CERTIFICATE-----"));
    let trusting = agent_trusting(Some(valid.ca_pem()));
    for _ in 0..2 {
        let (status, _, body) = post(&trusting, &valid.url("/v1/embeddings"), &input("a")).unwrap();
        assert_eq!(status, 200);
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(floats(&answer["data"][0]["embedding"]), embedding_for("a", 4));
    }
    assert_eq!(valid.connections(), 1);
    let (_, _, body) = post(&trusting, &valid.url("/bytes/3000000"), &input("a")).unwrap();
    assert_eq!(body.len(), 3_000_002);

    let refused = |endpoint: &Endpoint, ca: Option<&str>| {
        let error = post(&agent_trusting(ca), &endpoint.url("/echo"), &input("a")).unwrap_err();
        assert_eq!(endpoint.count_for("/echo"), 0);
        format!("{error:?}")
    };
    let error = refused(&valid, None);
    assert!(error.contains("UnknownIssuer"), "{error}");
    for (kind, expected) in [(Certificate::WrongHost, "NotValidForName"), (Certificate::Expired, "Expired")] {
        let endpoint = Endpoint::start_tls(kind).unwrap();
        let error = refused(&endpoint, Some(endpoint.ca_pem()));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn failing_ports() {
    let error = TcpStream::connect(("127.0.0.1", refused_port())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let blackhole = Blackhole::open().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, blackhole.port()));
    for _ in 0..2 {
        let error = TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}

/// Requests a second on one connection: `cargo test --release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let body = json!({"model": "test-1536", "input": "some text"}).to_string();
    let measure = |name: &str, prepare: &dyn Fn(&Endpoint)| {
        let endpoint = Endpoint::start().unwrap();
        endpoint.set_recording(false);
        prepare(&endpoint);
        let mut stream = TcpStream::connect(("127.0.0.1", endpoint.port())).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = raw_post("/v1/embeddings", &body);
        let mut buffer = vec![0; 1 << 20];
        let begin = Instant::now();
        let mut size = 0;
        while begin.elapsed() < 3 * SECOND {
            stream.write_all(&request).unwrap();
            let mut filled = stream.read(&mut buffer).unwrap();
            let total = loop {
                let text = std::str::from_utf8(&buffer[..filled]).unwrap();
                if let Some((head, _)) = text.split_once("\r\n\r\n") {
                    let (_, length) = head.split_once("Content-Length: ").unwrap();
                    let length = length.lines().next().unwrap().parse::<usize>().unwrap();
                    break head.len() + 4 + length;
                }
                filled += stream.read(&mut buffer[filled..]).unwrap();
            };
            while filled < total {
                filled += stream.read(&mut buffer[filled..]).unwrap();
            }
            size = total;
        }
        let rate = endpoint.count() as f64 / begin.elapsed().as_secs_f64();
        println!("{name}: {rate:.0} requests/s of {size} bytes");
    };
    let vector = embedding_for("fixed", 1536);
    measure("computed", &|_| {});
    measure("fixed vector", &|endpoint| endpoint.set_fixed_vector(Some(&vector)));
    measure("prebuilt", &|endpoint| {
        let data = json!([{"object": "embedding", "index": 0, "embedding": vector}]);
        endpoint.prebuild("/v1/embeddings", &Answer::json(200, &json!({"data": data})));
    });
}

/// Chats of 900 ms, 512 at once: `cargo test -p fake-providers -- --ignored --nocapture many_at_once`.
#[test]
#[ignore = "a measurement"]
fn many_at_once() {
    let endpoint = Endpoint::start().unwrap();
    endpoint.set_recording(false);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let request = raw_post("/bench/v1/chat/completions?ms=900", &body);
    for _ in 0..3 {
        let begin = Instant::now();
        let mut streams: Vec<TcpStream> =
            (0..512).map(|_| TcpStream::connect(("127.0.0.1", endpoint.port())).unwrap()).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(&request).unwrap());
        for stream in &mut streams {
            let mut start = [0; 15];
            stream.read_exact(&mut start).unwrap();
            assert_eq!(&start, b"HTTP/1.1 200 OK");
        }
        println!("512 chats of 900 ms: {:?}", begin.elapsed());
    }
}
