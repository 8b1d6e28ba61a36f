//! `cargo xtask bench bulk`: a whole table embedded, next to plain programs that do a part of it.
//!
//! The endpoint is on the same machine and answers with numbers as JSON text, at once or after 20 ms and 0.1 ms a text.
//! Endpoint, server and the plain programs share its cores. (a) only fetches and parses, with as many requests at once
//! and as many texts in each as the library; (a') only writes ready vectors into the same table.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mysql::prelude::Queryable;
use mysql::{Conn, Row, Value};
use serde::{Deserialize, Serialize};

use super::{machine, median};
use crate::endpoint::{embedding_for, Endpoint};
use crate::mysqld::Server;

const DIMENSIONS: usize = 1536;
/// What the library sends together to a server that speaks OpenAI's API, and how many requests at once.
const BATCH: usize = 64;
const AT_ONCE: usize = 8;
/// Vectors in one statement or transaction of the plain writer.
const GROUP: usize = 170;
/// Texts of one `ml_embedding_batch`.
const ARRAY: usize = 2000;

/// A latency of the endpoint: its name, what a request takes, what each text adds.
const LATENCIES: [(&str, Duration, Duration); 2] = [
    ("no latency", Duration::ZERO, Duration::ZERO),
    ("20 ms + 0.1 ms a text", Duration::from_millis(20), Duration::from_micros(100)),
];

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    embedding: Vec<f32>,
}

/// What was measured at one latency: rows a second of each round.
#[derive(Default)]
struct Measured {
    fetch: Vec<f64>,
    write: Vec<f64>,
    table: Vec<f64>,
    array: Vec<f64>,
    single: Vec<f64>,
    cpu: Vec<f64>,
    peak_mib: f64,
}

/// The server's options: room for the table, and a log that is not the bottleneck by its small size.
pub fn server_args() -> Vec<String> {
    ["--innodb-buffer-pool-size=1G", "--innodb-redo-log-capacity=512M", "--max-allowed-packet=1G"]
        .map(str::to_owned)
        .into()
}

/// Runs the benchmark and returns its report as Markdown.
pub fn run(server: &Server, rows: usize, rounds: usize, progress: &dyn Fn(&str)) -> Result<String> {
    let endpoint = Endpoint::start()?;
    endpoint.set_recording(false);
    let vector = embedding_for("any text", DIMENSIONS);
    endpoint.set_fixed_vector(Some(&vector));
    let url = endpoint.url("/v1/embeddings");
    let mut conn = server.connect("root")?;
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration('bench', ?, 'open_ai', 'text_embedding', 'bench-model', NULL, NULL, NULL, NULL, NULL)",
        (&url,),
    )?;
    // Each row is to cost a request or its share of one.
    conn.query_drop("CALL mysql.ml_set_setting('cache_memory_mb', '0')")?;
    let texts = fill_table(&mut conn, rows)?;
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut all = Vec::new();
    for (name, fixed, per_text) in LATENCIES {
        let mut m = Measured::default();
        for round in 0..=rounds {
            progress(&format!("{name}: round {round} of {rounds}{}", if round == 0 { " (warm-up)" } else { "" }));
            endpoint.set_latency(fixed, per_text);
            let fetch = rate(rows, || plain_fetch(&url, &texts))?;
            clear(&mut conn)?;
            let joined = rate(rows, || plain_write(&mut conn, rows, &bytes, true))?;
            clear(&mut conn)?;
            let write = joined.max(rate(rows, || plain_write(&mut conn, rows, &bytes, false))?);
            clear(&mut conn)?;
            let (before, base) = (cpu_seconds(server)?, server.rss_kib()?);
            let table = rate(rows, || {
                let row: Option<Row> =
                    conn.query_first("CALL mysql.ml_embed_table('bench', 'bench.t', 'body', 'v', NULL)")?;
                let embedded: u64 = row.and_then(|r| r.get(0)).context("a row")?;
                anyhow::ensure!(embedded == rows as u64, "{embedded} rows were embedded");
                Ok(())
            })?;
            let cpu = (cpu_seconds(server)? - before) * 1000.0 / rows as f64;
            let grown = server.rss_kib()?.saturating_sub(base) as f64 / 1024.0;
            let few = rows.min(ARRAY * 5);
            let array = rate(few, || arrays(&mut conn, few))?;
            // Row by row is slow, and its pace does not depend on the number of rows.
            let few = if fixed.is_zero() { rows.min(5000) } else { 200 };
            conn.query_drop(format!("UPDATE bench.t SET v = NULL WHERE id < {few}"))?;
            let single = rate(few, || {
                Ok(conn
                    .query_drop(format!("UPDATE bench.t SET v = mysql.ml_embedding('bench', body) WHERE id < {few}"))?)
            })?;
            if round > 0 {
                m.fetch.push(fetch);
                m.write.push(write);
                m.table.push(table);
                m.array.push(array);
                m.single.push(single);
                m.cpu.push(cpu);
                m.peak_mib = m.peak_mib.max(grown);
            }
        }
        all.push((name, m));
    }
    report(rows, rounds, server, &all)
}

fn rate(rows: usize, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(rows as f64 / started.elapsed().as_secs_f64())
}

fn fill_table(conn: &mut Conn, rows: usize) -> Result<Vec<String>> {
    conn.query_drop("CREATE DATABASE bench")?;
    conn.query_drop(format!("CREATE TABLE bench.t (id INT PRIMARY KEY, body TEXT, v VECTOR({DIMENSIONS}))"))?;
    let texts: Vec<String> = (0..rows)
        .map(|i| format!("text number {i}: a customer asks where the parcel with order {} has got to, and whether a refund is possible if it arrives late", i * 7919))
        .collect();
    conn.query_drop("START TRANSACTION")?;
    conn.exec_batch("INSERT INTO bench.t (id, body) VALUES (?, ?)", texts.iter().enumerate())?;
    conn.query_drop("COMMIT")?;
    Ok(texts)
}

fn clear(conn: &mut Conn) -> Result<()> {
    // A table made anew each time: an update in place of vectors that are there would be cheaper or dearer than the first.
    conn.query_drop("CREATE TABLE bench.new LIKE bench.t")?;
    conn.query_drop("INSERT INTO bench.new (id, body) SELECT id, body FROM bench.t")?;
    conn.query_drop("DROP TABLE bench.t")?;
    Ok(conn.query_drop("RENAME TABLE bench.new TO bench.t")?)
}

/// (a): fetches and parses, nothing else.
fn plain_fetch(url: &str, texts: &[String]) -> Result<()> {
    let batches: Vec<&[String]> = texts.chunks(BATCH).collect();
    let (next, got) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let agent = ureq::Agent::new_with_defaults();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let input: Vec<&str> = batch.iter().map(String::as_str).collect();
                        let body = serde_json::to_vec(&Request { model: "bench-model", input: &input })?;
                        let mut response = agent.post(url).header("content-type", "application/json").send(&body)?;
                        let answer: Answer =
                            serde_json::from_slice(&response.body_mut().with_config().limit(1 << 30).read_to_vec()?)?;
                        let numbers: usize = answer.data.iter().map(|i| i.embedding.len()).sum();
                        got.fetch_add(numbers / DIMENSIONS, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
    })?;
    anyhow::ensure!(got.load(Ordering::Relaxed) == texts.len(), "the plain fetch got {got:?} vectors");
    Ok(())
}

/// (a'): writes ready vectors by the faster of two ways: a prepared UPDATE that joins many by the key, or a prepared
/// UPDATE a row with many in a transaction.
fn plain_write(conn: &mut Conn, rows: usize, vector: &[u8], joined: bool) -> Result<()> {
    let ids: Vec<usize> = (0..rows).collect();
    let single = conn.prep("UPDATE bench.t SET v = CAST(? AS BINARY) WHERE id = ?")?;
    for group in ids.chunks(GROUP) {
        if joined {
            let values = vec!["ROW(CAST(? AS SIGNED), CAST(? AS BINARY))"; group.len()].join(",");
            let sql = format!(
                "UPDATE (VALUES {values}) AS n (id, v) STRAIGHT_JOIN bench.t FORCE INDEX (PRIMARY) ON t.id = n.id SET t.v = n.v"
            );
            let params: Vec<Value> =
                group.iter().flat_map(|id| [Value::UInt(*id as u64), Value::Bytes(vector.to_vec())]).collect();
            conn.exec_drop(sql, params)?;
            continue;
        }
        conn.query_drop("START TRANSACTION")?;
        for id in group {
            conn.exec_drop(&single, (vector, id))?;
        }
        conn.query_drop("COMMIT")?;
    }
    Ok(())
}

/// `ml_embedding_batch`, arrays of texts in, arrays of base64 out, not stored.
fn arrays(conn: &mut Conn, rows: usize) -> Result<()> {
    let mut from = 0;
    while from < rows {
        let to = (from + ARRAY).min(rows);
        let got: Option<usize> = conn.query_first(format!(
            "SELECT JSON_LENGTH(mysql.ml_embedding_batch('bench', (SELECT JSON_ARRAYAGG(body) FROM bench.t WHERE id >= {from} AND id < {to})))"
        ))?;
        anyhow::ensure!(got == Some(to - from), "an array of {got:?} vectors");
        from = to;
    }
    Ok(())
}

/// The server's processor time so far.
fn cpu_seconds(server: &Server) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid()?))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // Linux counts in hundredths here on every machine that this runs on.
    Ok((ticks(11) + ticks(12)) / 100.0)
}

fn report(rows: usize, rounds: usize, server: &Server, all: &[(&str, Measured)]) -> Result<String> {
    let version: Option<String> = server.connect("root")?.query_first("SELECT VERSION()")?;
    let mut out = String::from("# Whole tables\n\n");
    writeln!(
        out,
        "`cargo xtask bench bulk --rows {rows} --rounds {rounds}`: {}, MySQL {}.",
        machine(),
        version.unwrap_or_default()
    )?;
    writeln!(
        out,
        "{DIMENSIONS} dimensions as JSON text, texts of some 140 bytes, {BATCH} in a request, {AT_ONCE} requests at once; endpoint, server and\nplain programs on the same cores. Medians of {rounds} rounds, each of them all in turn; ratios are medians of the rounds' ratios.\n"
    )?;
    for (name, m) in all {
        let ratio = |a: &[f64], b: &[f64]| median(&a.iter().zip(b).map(|(x, y)| x / y).collect::<Vec<_>>());
        let slower: Vec<f64> = m.fetch.iter().zip(&m.write).map(|(a, b)| a.min(*b)).collect();
        writeln!(out, "| rows a second, {name} | median | `ml_embed_table` to it |\n|---|---|---|")?;
        for (what, values) in [
            ("(a) plain program that fetches and parses", &m.fetch),
            ("(a') plain client that writes ready vectors", &m.write),
            ("the slower of both in each round", &slower),
            ("`ml_embedding_batch`, not stored", &m.array),
            ("row by row, `UPDATE ... SET v = mysql.ml_embedding(...)`", &m.single),
        ] {
            writeln!(out, "| {what} | {:.0} | {:.2} |", median(values), ratio(&m.table, values))?;
        }
        writeln!(out, "| **`ml_embed_table`** | **{:.0}** | |\n", median(&m.table))?;
        writeln!(
            out,
            "`ml_embed_table`: {:.2} s of mysqld's processor time for 1,000 rows; its memory grew by at most {:.0} MiB, what the buffer pool took included.\n",
            median(&m.cpu),
            m.peak_mib
        )?;
    }
    Ok(out)
}
