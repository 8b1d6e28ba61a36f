//! `cargo xtask bench call`: the cost of one call a row, compared with the same loop in plain Rust.
//!
//! One session, one call at a time, 1536 dimensions, an endpoint without latency on the same machine. The plain loop
//! uses the library's HTTP client (ureq) with one kept-alive connection, and parses the numbers directly into f32, as
//! the library does.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mysql::prelude::Queryable;
use mysql::Conn;
use serde::{Deserialize, Serialize};

use super::bars::{self, Scale};
use super::{machine, median, percentile};
use fake_providers::{embedding_for, Endpoint};
use testkit::mysqld::Server;

const DIMENSIONS: usize = 1536;
/// Statements for the latency of a single call.
const SINGLE_CALLS: usize = 2000;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    embedding: Vec<f32>,
}

/// Runs the benchmark. Returns its report as Markdown and its plot as SVG.
pub fn run(server: &Server, rows: usize, rounds: usize, progress: &dyn Fn(&str)) -> Result<(String, String)> {
    let endpoint = Endpoint::start()?;
    endpoint.set_recording(false);
    endpoint.set_fixed_vector(Some(&embedding_for("any text", DIMENSIONS)));
    let url = endpoint.url("/v1/embeddings");
    let mut conn = server.connect("root")?;
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration('bench', ?, 'open_ai', 'text_embedding', 'bench-model', NULL, NULL, NULL, NULL, NULL)",
        (&url,),
    )?;
    let texts = fill_table(&mut conn, rows)?;
    let agent = ureq::Agent::new_with_defaults();

    let (mut plain, mut bare, mut wrapped, mut hits, mut wrapped_hits, mut scan) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        progress(&format!("round {round} of {rounds}{}", if round == 0 { " (warm-up)" } else { "" }));
        let started = Instant::now();
        let mut bytes = 0;
        for text in &texts {
            bytes += plain_call(&agent, &url, &format!("plain {round} {text}"))?.len();
        }
        let plain_time = started.elapsed();
        anyhow::ensure!(bytes == rows * DIMENSIONS * 4, "the plain loop got {bytes} bytes");
        let bare_time = statement(
            &mut conn,
            &format!("SELECT SUM(LENGTH(ml_embedding('bench', CONCAT('bare {round} ', body)))) FROM bench.t"),
            rows,
        )?;
        let wrapped_time = statement(
            &mut conn,
            &format!("SELECT SUM(LENGTH(mysql.ml_embedding('bench', CONCAT('wrapped {round} ', body)))) FROM bench.t"),
            rows,
        )?;
        // Consecutive texts differ, so that the cache answers instead of the statement's last call.
        let few = rows.min(HITS);
        let (bare_hits, wrapped_hits_sql, scan_sql) = (
            format!("SELECT SUM(LENGTH(ml_embedding('bench', CONCAT('hit ', body)))) FROM bench.t WHERE id < {few}"),
            format!(
                "SELECT SUM(LENGTH(mysql.ml_embedding('bench', CONCAT('hit ', body)))) FROM bench.t WHERE id < {few}"
            ),
            format!("SELECT SUM(LENGTH(CONCAT('hit ', body))) FROM bench.t WHERE id < {few}"),
        );
        statement(&mut conn, &bare_hits, few)?;
        let (mut hit_time, mut wrapped_hit_time, mut scan_time) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for _ in 0..REPEATS {
            hit_time += statement(&mut conn, &bare_hits, few)?;
            wrapped_hit_time += statement(&mut conn, &wrapped_hits_sql, few)?;
            let started = Instant::now();
            let _: Option<u64> = conn.query_first(&scan_sql)?;
            scan_time += started.elapsed();
        }
        if round > 0 {
            let per_second = |time: Duration| rows as f64 / time.as_secs_f64();
            plain.push(per_second(plain_time));
            bare.push(per_second(bare_time));
            wrapped.push(per_second(wrapped_time));
            let micros = |time: Duration| time.as_secs_f64() * 1e6 / (few * REPEATS) as f64;
            hits.push(micros(hit_time));
            wrapped_hits.push(micros(wrapped_hit_time));
            scan.push(micros(scan_time));
        }
    }
    progress("single calls");
    let mut single = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for i in 0..SINGLE_CALLS {
        let [plain, bare, wrapped, nothing] = &mut single;
        plain.push(timed(|| plain_call(&agent, &url, &format!("single {i}")).map(|_| ()))?);
        bare.push(timed(|| one(&mut conn, &format!("SELECT ml_embedding('bench', 'single bare {i}')")))?);
        wrapped.push(timed(|| one(&mut conn, &format!("SELECT mysql.ml_embedding('bench', 'single wrapped {i}')")))?);
        nothing.push(timed(|| one(&mut conn, &format!("SELECT REPEAT('x', {})", DIMENSIONS * 4)))?);
    }
    let [p, b, w] = [&plain, &bare, &wrapped].map(|values| median(values));
    let bars = [("plain Rust loop", p), ("SELECT ml_embedding(...)", b), ("SELECT mysql.ml_embedding(...)", w)];
    let plot = bars::svg("rows a second, one session", &bars, Scale::Linear, "ml_embedding");
    let report = report(rows, rounds, server, [&plain, &bare, &wrapped], [&hits, &wrapped_hits, &scan], &single)?;
    Ok((report, plot))
}

/// Number of cached texts, and of reads of each.
const HITS: usize = 1000;
const REPEATS: usize = 20;

fn fill_table(conn: &mut Conn, rows: usize) -> Result<Vec<String>> {
    conn.query_drop("CREATE DATABASE bench")?;
    conn.query_drop("CREATE TABLE bench.t (id INT PRIMARY KEY, body TEXT)")?;
    let texts: Vec<String> = super::texts(rows).collect();
    conn.query_drop("START TRANSACTION")?;
    conn.exec_batch("INSERT INTO bench.t VALUES (?, ?)", texts.iter().enumerate())?;
    conn.query_drop("COMMIT")?;
    Ok(texts)
}

fn plain_call(agent: &ureq::Agent, url: &str, text: &str) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(&Request { model: "bench-model", input: text })?;
    let mut response = agent.post(url).header("content-type", "application/json").send(&body)?;
    let answer: Answer = serde_json::from_slice(&response.body_mut().read_to_vec()?)?;
    let item = answer.data.into_iter().next().context("an embedding")?;
    Ok(item.embedding.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn statement(conn: &mut Conn, sql: &str, rows: usize) -> Result<Duration> {
    let started = Instant::now();
    let bytes: Option<usize> = conn.query_first(sql)?;
    let took = started.elapsed();
    anyhow::ensure!(bytes == Some(rows * DIMENSIONS * 4), "a statement got {bytes:?} bytes: {sql}");
    Ok(took)
}

fn one(conn: &mut Conn, sql: &str) -> Result<()> {
    let bytes: Option<Vec<u8>> = conn.query_first(sql)?;
    anyhow::ensure!(bytes.is_some_and(|b| b.len() == DIMENSIONS * 4), "wrong width: {sql}");
    Ok(())
}

fn timed(f: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    f()?;
    Ok(started.elapsed().as_secs_f64() * 1e6)
}

fn report(
    rows: usize,
    rounds: usize,
    server: &Server,
    [plain, bare, wrapped]: [&[f64]; 3],
    [hits, wrapped_hits, scan]: [&[f64]; 3],
    single: &[Vec<f64>; 4],
) -> Result<String> {
    let ratio = |a: &[f64]| median(&a.iter().zip(plain).map(|(x, p)| x / p).collect::<Vec<_>>());
    let version: Option<String> = server.connect("root")?.query_first("SELECT VERSION()")?;
    let mut out = String::new();
    writeln!(out, "# One call a row\n")?;
    writeln!(
        out,
        "`cargo xtask bench call --rows {rows} --rounds {rounds}`: {}, MySQL {}.",
        machine(),
        version.unwrap_or_default()
    )?;
    writeln!(
        out,
        "The endpoint runs on the same machine, adds no latency and answers with {DIMENSIONS} numbers as JSON text;"
    )?;
    writeln!(out, "server, endpoint and client share the cores. Medians of {rounds} rounds; a ratio is the median of the rounds' ratios.\n")?;
    writeln!(out, "![Rows a second](call.svg)\n")?;
    writeln!(out, "| rows a second, one session | median | min | max | of the plain loop |")?;
    writeln!(out, "|---|---|---|---|---|")?;
    for (name, values) in [
        ("plain Rust loop, ureq", plain),
        ("`SELECT ml_embedding(...)`", bare),
        ("`SELECT mysql.ml_embedding(...)`", wrapped),
    ] {
        writeln!(
            out,
            "| {name} | {:.0} | {:.0} | {:.0} | {:.2} |",
            median(values),
            percentile(values, 0.0),
            percentile(values, 100.0),
            ratio(values)
        )?;
    }
    writeln!(out, "\n| one statement, µs | p50 | p99 |")?;
    writeln!(out, "|---|---|---|")?;
    let names = [
        "plain Rust call",
        "`SELECT ml_embedding(...)`",
        "`SELECT mysql.ml_embedding(...)`",
        "`SELECT REPEAT(...)` of as many bytes, no call",
    ];
    for (name, values) in names.iter().zip(single) {
        writeln!(out, "| {name} | {:.0} | {:.0} |", median(values), percentile(values, 99.0))?;
    }
    writeln!(out, "\n| cache hit, µs a row | median | less the scan itself |")?;
    writeln!(out, "|---|---|---|")?;
    for (name, values) in
        [("`ml_embedding`", hits), ("`mysql.ml_embedding`", wrapped_hits), ("the scan without a call", scan)]
    {
        writeln!(out, "| {name} | {:.2} | {:.2} |", median(values), median(values) - median(scan))?;
    }
    Ok(out)
}
