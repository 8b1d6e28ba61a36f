//! `cargo xtask bench endpoints`: one of two endpoints killed under load, and hedging of slow answers.
//!
//! Endpoints, server and 64 sessions share the machine. Each session calls `ml_embedding` for one new text after another.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, Context, Result};
use fake_providers::{embedding_for, Answer, Endpoint};
use mysql::prelude::Queryable;
use mysql::Conn;
use serde_json::{json, Value};

use super::{machine, percentile};
use testkit::mysqld::Server;

const SESSIONS: usize = 64;
const PATH: &str = "/v1/embeddings";
/// Time of an answer, and of one of every fifty in the second part.
const USUAL: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(2000);
const HEDGE_AFTER_MS: u64 = 250;

/// Calls of all sessions: when each ended, and how long it took in ms.
type Calls = Vec<(Instant, f64)>;

/// Runs the benchmark and returns its report as Markdown. `rows`: calls of a round.
pub fn run(server: &Server, rows: usize, rounds: usize, progress: &dyn Fn(&str)) -> Result<String> {
    let mut root = server.connect("root")?;
    root.query_drop("CALL mysql.ml_set_setting('cache_memory_mb', '0')")?;
    let mut kills = Vec::new();
    for round in 1..=rounds {
        progress(&format!("round {round} of {rounds}: killing an endpoint"));
        kills.push(kill(server, &mut root, rows)?);
    }
    let (mut usual, mut hedged, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        progress(&format!("round {round} of {rounds}: slow answers"));
        let (plain, _) = slow(server, &mut root, rows, json!(null))?;
        let (with, requests) = slow(server, &mut root, rows, json!(HEDGE_AFTER_MS))?;
        more.push(100.0 * (requests as f64 / with.len() as f64 - 1.0));
        usual.extend(plain.into_iter().map(|(_, ms)| ms));
        hedged.extend(with.into_iter().map(|(_, ms)| ms));
    }
    let version: Option<String> = root.query_first("SELECT VERSION()")?;
    let mut out = String::from("# Many endpoints for one model\n\n");
    writeln!(
        out,
        "`cargo xtask bench endpoints --rows {rows} --rounds {rounds}`: {}, MySQL {}. {SESSIONS} sessions call `ml_embedding` for one \
         new text after another, some {rows} times a round. Server, both endpoints and the sessions share the cores.\n",
        machine(),
        version.unwrap_or_default()
    )?;
    writeln!(out, "## One of two endpoints is killed\n")?;
    writeln!(out, "Both answer after {} ms. One is stopped in the middle of the round.\n", USUAL.as_millis())?;
    writeln!(out, "| round | calls before | p50 ms | p99 ms | calls after | p50 ms | p99 ms | worst ms | p99 after / before | failed |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|")?;
    for (round, (before, after)) in kills.iter().enumerate() {
        let p = |values: &[f64], p: f64| percentile(values, p);
        writeln!(
            out,
            "| {} | {} | {:.0} | {:.0} | {} | {:.0} | {:.0} | {:.0} | {:.2} | 0 |",
            round + 1,
            before.len(),
            p(before, 50.0),
            p(before, 99.0),
            after.len(),
            p(after, 50.0),
            p(after, 99.0),
            p(after, 100.0),
            p(after, 99.0) / p(before, 99.0)
        )?;
    }
    writeln!(out, "\nA call that fails would end the benchmark.\n\n## Slow answers are overtaken\n")?;
    writeln!(
        out,
        "Both endpoints answer after {} ms, and every fiftieth request after {} ms. All rounds together:\n",
        USUAL.as_millis(),
        SLOW.as_millis()
    )?;
    writeln!(out, "| | calls | p50 ms | p95 ms | p99 ms | p99.9 ms | more requests than calls |")?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    let hedging = format!("`\"hedge_after_ms\": {HEDGE_AFTER_MS}`");
    let most = percentile(&more, 100.0);
    for (name, times, more) in [("without hedging", &usual, 0.0), (hedging.as_str(), &hedged, most)] {
        let [p50, p95, p99, p999] = [50.0, 95.0, 99.0, 99.9].map(|p| percentile(times, p));
        writeln!(out, "| {name} | {} | {p50:.0} | {p95:.0} | {p99:.0} | {p999:.0} | {more:.1} % |", times.len())?;
    }
    writeln!(out, "\nThe last column is that of the round with the most.")?;
    Ok(out)
}

fn register(root: &mut Conn, urls: [String; 2], hedge: Value) -> Result<()> {
    root.query_drop("DELETE FROM mysql.cloudsql_ml_models WHERE model_id = 'bench'")?;
    root.exec_drop(
        "CALL mysql.ml_create_model_registration('bench', ?, 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL)",
        (&urls[0],),
    )?;
    let options = json!({"endpoints": urls.map(|url| json!({"url": url})), "hedge_after_ms": hedge});
    root.exec_drop("CALL mysql.ml_set_model_options('bench', ?)", (options.to_string(),))?;
    Ok(())
}

/// The latencies before and after the end of one endpoint.
fn kill(server: &Server, root: &mut Conn, rows: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let (kept, killed) = (Endpoint::start()?, Endpoint::start()?);
    for endpoint in [&kept, &killed] {
        endpoint.set_recording(false);
        endpoint.set_latency(USUAL, Duration::ZERO);
    }
    register(root, [kept.url(PATH), killed.url(PATH)], json!(null))?;
    let killed = std::sync::Mutex::new(Some(killed));
    let done = AtomicU64::new(0);
    let (calls, at) = thread::scope(|scope| {
        let killer = scope.spawn(|| {
            while done.load(Ordering::Relaxed) < rows as u64 / 2 {
                thread::sleep(Duration::from_millis(1));
            }
            let at = Instant::now();
            drop(killed.lock().map(|mut killed| killed.take()));
            at
        });
        let calls = sessions(server, rows, &done);
        (calls, killer.join())
    });
    let (calls, at) = (calls?, at.map_err(|_| anyhow!("the killer panicked"))?);
    let (before, after): (Calls, Calls) = calls.into_iter().partition(|(ended, _)| *ended < at);
    let times = |calls: Calls| calls.into_iter().map(|(_, ms)| ms).collect();
    Ok((times(before), times(after)))
}

/// The latencies with slow answers among the others, and the requests that the endpoints got.
fn slow(server: &Server, root: &mut Conn, rows: usize, hedge: Value) -> Result<(Calls, u64)> {
    let endpoints = [Endpoint::start()?, Endpoint::start()?];
    for endpoint in &endpoints {
        endpoint.set_recording(false);
        let asked = AtomicU64::new(0);
        let answer = Answer::json(200, &json!({"data": [{"index": 0, "embedding": embedding_for("x", 8)}]}));
        endpoint.on(PATH, move |_| {
            let slow = asked.fetch_add(1, Ordering::Relaxed) % 50 == 49;
            thread::sleep(if slow { SLOW } else { USUAL });
            answer.clone()
        });
    }
    register(root, [endpoints[0].url(PATH), endpoints[1].url(PATH)], hedge)?;
    let calls = sessions(server, rows, &AtomicU64::new(0))?;
    Ok((calls, endpoints.iter().map(Endpoint::count).sum()))
}

/// Calls of all sessions, `rows` together. An error if one fails.
fn sessions(server: &Server, rows: usize, done: &AtomicU64) -> Result<Calls> {
    let failed = AtomicBool::new(false);
    let conns = (0..SESSIONS).map(|_| server.connect("root")).collect::<Result<Vec<Conn>, _>>()?;
    let session = |session: usize, mut conn: Conn| -> Result<Calls> {
        let mut calls = Vec::new();
        while done.load(Ordering::Relaxed) < rows as u64 && !failed.load(Ordering::Relaxed) {
            let began = Instant::now();
            let text = format!("{session} {}", calls.len());
            let vector: mysql::Result<Option<Vec<u8>>> =
                conn.exec_first("SELECT mysql.ml_embedding('bench', ?)", (text,));
            let vector = vector.inspect_err(|_| failed.store(true, Ordering::Relaxed));
            vector.context("a statement failed")?.filter(|v| v.len() == 32).context("no vector")?;
            calls.push((Instant::now(), began.elapsed().as_secs_f64() * 1e3));
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(calls)
    };
    let all = thread::scope(|scope| {
        let session = &session;
        let spawn = |(i, conn)| scope.spawn(move || session(i, conn));
        let threads: Vec<_> = conns.into_iter().enumerate().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let mut calls = Vec::new();
    for session in all {
        calls.extend(session.map_err(|_| anyhow!("a session panicked"))??);
    }
    Ok(calls)
}
