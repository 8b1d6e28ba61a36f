//! `cargo xtask bench cache`: the cost of an embedding from memory, from disk and from the local endpoint.
//!
//! One session, one call a row, 1536 dimensions. Each round measures all three in turn, with new texts.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mysql::prelude::Queryable;
use mysql::Conn;

use super::bars::{self, Scale};
use super::{machine, median, percentile};
use fake_providers::{embedding_for, Endpoint};
use testkit::mysqld::Server;

const DIMENSIONS: usize = 1536;

/// Results, one value a round, in microseconds a row.
#[derive(Default)]
struct Measured {
    memory: Vec<f64>,
    disk: Vec<f64>,
    endpoint: Vec<f64>,
    endpoint_and_disk: Vec<f64>,
    scan: Vec<f64>,
    written: Vec<f64>,
}

/// Runs the benchmark. Returns its report as Markdown and its plot as SVG.
pub fn run(server: &Server, rows: usize, rounds: usize, progress: &dyn Fn(&str)) -> Result<(String, String)> {
    let endpoint = Endpoint::start()?;
    endpoint.set_recording(false);
    endpoint.set_fixed_vector(Some(&embedding_for("any text", DIMENSIONS)));
    let mut conn = server.connect("root")?;
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration('bench', ?, 'open_ai', 'text_embedding', 'bench-model', NULL, NULL, NULL, NULL, NULL)",
        (endpoint.url("/v1/embeddings"),),
    )?;
    conn.query_drop("CREATE DATABASE bench")?;
    conn.query_drop("CREATE TABLE bench.t (id INT PRIMARY KEY, body TEXT)")?;
    conn.query_drop("START TRANSACTION")?;
    let texts =
        (0..rows).map(|i| (i, format!("text number {i}: where has the parcel with order {} got to?", i * 7919)));
    conn.exec_batch("INSERT INTO bench.t VALUES (?, ?)", texts)?;
    conn.query_drop("COMMIT")?;

    let mut measured = Measured::default();
    let mut file_bytes = 0;
    for round in 0..=rounds {
        progress(&format!("round {round} of {rounds}{}", if round == 0 { " (warm-up)" } else { "" }));
        let sql = |what: &str| {
            format!("SELECT SUM(LENGTH(ml_embedding('bench', CONCAT('{what} {round} ', body)))) FROM bench.t")
        };
        set(&mut conn, "cache_disk_mb", "0")?;
        set(&mut conn, "cache_memory_mb", "1024")?;
        let endpoint_time = statement(&mut conn, &sql("plain"), rows)?;
        let memory_time = statement(&mut conn, &sql("plain"), rows)?;
        set(&mut conn, "cache_memory_mb", "0")?;
        set(&mut conn, "cache_disk_mb", "1024")?;
        let both_time = statement(&mut conn, &sql("stored"), rows)?;
        let written_time = both_time + wait_for(&mut conn, rows)?;
        let disk_time = statement(&mut conn, &sql("stored"), rows)?;
        file_bytes = bytes_in(&server.datadir().join("#mysql_ml_cache"));
        let started = Instant::now();
        let _: Option<u64> =
            conn.query_first(format!("SELECT SUM(LENGTH(CONCAT('stored {round} ', body))) FROM bench.t"))?;
        let scan_time = started.elapsed();
        if round > 0 {
            let micros = |time: Duration| time.as_secs_f64() * 1e6 / rows as f64;
            measured.endpoint.push(micros(endpoint_time));
            measured.memory.push(micros(memory_time));
            measured.endpoint_and_disk.push(micros(both_time));
            measured.written.push(micros(written_time));
            measured.disk.push(micros(disk_time));
            measured.scan.push(micros(scan_time));
        }
    }
    let version: Option<String> = conn.query_first("SELECT VERSION()")?;
    let report = report(rows, rounds, &version.unwrap_or_default(), &measured, file_bytes as f64 / rows as f64)?;
    Ok((report, plot(&measured)))
}

fn set(conn: &mut Conn, name: &str, value: &str) -> Result<()> {
    Ok(conn.exec_drop("CALL mysql.ml_set_setting(?, ?)", (name, value))?)
}

fn statement(conn: &mut Conn, sql: &str, rows: usize) -> Result<Duration> {
    let started = Instant::now();
    let bytes: Option<usize> = conn.query_first(sql)?;
    let took = started.elapsed();
    anyhow::ensure!(bytes == Some(rows * DIMENSIONS * 4), "a statement got {bytes:?} bytes: {sql}");
    Ok(took)
}

/// Waits until all embeddings are written. Returns the time.
fn wait_for(conn: &mut Conn, rows: usize) -> Result<Duration> {
    let started = Instant::now();
    loop {
        let entries: Option<usize> =
            conn.query_first("SELECT JSON_VALUE(mysql.ml_status(), '$.cache.disk.entries' RETURNING UNSIGNED)")?;
        let dropped: Option<usize> =
            conn.query_first("SELECT JSON_VALUE(mysql.ml_status(), '$.cache.disk.dropped' RETURNING UNSIGNED)")?;
        anyhow::ensure!(dropped == Some(0), "{dropped:?} embeddings were not written");
        if entries.context("a counter")? >= rows {
            return Ok(started.elapsed());
        }
        anyhow::ensure!(started.elapsed() < Duration::from_secs(60), "not all is written after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
}

fn lines(measured: &Measured) -> [(&'static str, &[f64]); 4] {
    [
        ("from memory", &measured.memory),
        ("from disk", &measured.disk),
        ("request to the local endpoint", &measured.endpoint),
        ("request, and stored on disk", &measured.endpoint_and_disk),
    ]
}

fn report(rows: usize, rounds: usize, version: &str, measured: &Measured, file_bytes: f64) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "# An embedding from memory, from disk, from the endpoint\n")?;
    writeln!(out, "`cargo xtask bench cache --rows {rows} --rounds {rounds}`: {}, MySQL {version}.", machine())?;
    writeln!(out, "One session, `SELECT ml_embedding(...)` a row, {DIMENSIONS} numbers. The endpoint runs on the same machine, adds no")?;
    writeln!(
        out,
        "latency and sends JSON text. The file was in the page cache of the system. Medians of {rounds} rounds.\n"
    )?;
    writeln!(out, "![µs a row](cache.svg)\n")?;
    writeln!(out, "| µs a row | median | min | max | less the scan itself |")?;
    writeln!(out, "|---|---|---|---|---|")?;
    let scan = median(&measured.scan);
    for (name, values) in lines(measured) {
        writeln!(
            out,
            "| {name} | {:.1} | {:.1} | {:.1} | {:.1} |",
            median(values),
            percentile(values, 0.0),
            percentile(values, 100.0),
            median(values) - scan
        )?;
    }
    writeln!(out, "| the scan without a call | {scan:.1} | | | |")?;
    writeln!(out, "\nUntil the last row was in the file too it took {:.1} µs a row. An embedding of {} bytes takes {file_bytes:.0} bytes of file and log.", median(&measured.written), DIMENSIONS * 4)?;
    Ok(out)
}

/// Bars, because the cases are discrete.
fn plot(measured: &Measured) -> String {
    let lines = lines(measured);
    let bars: Vec<_> = lines.iter().map(|(name, values)| (*name, median(values))).collect();
    bars::svg("µs a row", &bars, Scale::Logarithmic, "from")
}
