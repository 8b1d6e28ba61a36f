//! `cargo xtask bench bulk`: embeds a whole table, compared with plain programs that do a part of it.
//!
//! The endpoint is on the same machine and answers with numbers as JSON text: at once, or after 20 ms and 0.1 ms a
//! text. Endpoint, server and the plain programs share its cores. (a) only fetches and parses, with as many
//! concurrent requests and as many texts in each as the library. (a') only writes ready vectors into the same table.
//! (b) is a typical Python program, bulk/openai_client.py.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::prelude::{Engine as _, BASE64_STANDARD};
use mysql::prelude::Queryable;
use mysql::{Conn, Row, Value};
use serde::{Deserialize, Serialize};

use super::bars::{self, Scale};
use super::{machine, median};
use fake_providers::{embedding_for, Endpoint};
use testkit::clients;
use testkit::fetch::output;
use testkit::library::workspace_root;
use testkit::mysqld::Server;

pub(super) const DIMENSIONS: usize = 1536;
/// The folder of (b).
const PEER: &str = "xtask/src/bench/bulk";
/// The library's batch size and concurrency for a server with OpenAI's API.
const BATCH: usize = 64;
const AT_ONCE: usize = 8;
/// Vectors in one statement or transaction of the plain writer.
const GROUP: usize = 170;
/// Texts of one `ml_embedding_batch`.
const ARRAY: usize = 2000;

/// A latency of the endpoint: its name, the time of a request, and the time of each text.
const LATENCIES: [(&str, Duration, Duration); 2] = [
    ("no latency", Duration::ZERO, Duration::ZERO),
    ("20 ms + 0.1 ms a text", Duration::from_millis(20), Duration::from_micros(100)),
];

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer<E> {
    data: Vec<Item<E>>,
}

#[derive(Deserialize)]
struct Item<E> {
    embedding: E,
}

/// Results at one latency: rows a second of each round.
#[derive(Default)]
struct Measured {
    fetch: Vec<f64>,
    fetch_base64: Vec<f64>,
    write: Vec<f64>,
    peer: Vec<f64>,
    table: Vec<f64>,
    table_base64: Vec<f64>,
    array: Vec<f64>,
    single: Vec<f64>,
    cpu: Vec<f64>,
    peak_mib: f64,
}

/// The server's options: memory for the table, and a redo log that is large enough not to be the bottleneck.
pub fn server_args() -> Vec<String> {
    ["--innodb-buffer-pool-size=1G", "--innodb-redo-log-capacity=512M", "--max-allowed-packet=1G"]
        .map(str::to_owned)
        .into()
}

/// Runs the benchmark. Returns its report as Markdown and its plot as SVG.
pub fn run(server: &Server, rows: usize, rounds: usize, progress: &dyn Fn(&str)) -> Result<(String, String)> {
    let packages =
        clients::python_packages("bench-bulk", &workspace_root().join(PEER).join("requirements.txt"), progress)?;
    let endpoint = Endpoint::start()?;
    endpoint.set_recording(false);
    let vector = embedding_for("any text", DIMENSIONS);
    endpoint.set_fixed_vector(Some(&vector));
    let url = endpoint.url("/v1/embeddings");
    let mut conn = server.connect("root")?;
    for (id, options) in [("bench", "{}"), ("bench64", r#"{"encoding_format": "base64"}"#)] {
        conn.exec_drop(
            "CALL mysql.ml_create_model_registration(?, ?, 'open_ai', 'text_embedding', 'bench-model', NULL, NULL, NULL, NULL, NULL)",
            (id, &url),
        )?;
        conn.exec_drop("CALL mysql.ml_set_model_options(?, ?)", (id, options))?;
    }
    // Each row must cost a request or its share of one.
    conn.query_drop("CALL mysql.ml_set_setting('cache_memory_mb', '0')")?;
    let texts = fill_table(&mut conn, rows)?;
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut all = Vec::new();
    for (name, fixed, per_text) in LATENCIES {
        let mut m = Measured::default();
        for round in 0..=rounds {
            progress(&format!("{name}: round {round} of {rounds}{}", if round == 0 { " (warm-up)" } else { "" }));
            endpoint.set_latency(fixed, per_text);
            let fetch = rate(rows, || plain_fetch(&url, &texts, None))?;
            let fetch_base64 = rate(rows, || plain_fetch(&url, &texts, Some("base64")))?;
            let mut write = 0.0_f64;
            for joined in [true, false] {
                for sessions in [1, 2] {
                    clear(&mut conn)?;
                    write = write.max(rate(rows, || plain_writes(server, rows, &bytes, joined, sessions))?);
                }
            }
            clear(&mut conn)?;
            let peer = peer(&packages, &endpoint.url("/v1"), server)?;
            clear(&mut conn)?;
            let (before, memory) = (cpu_seconds(server)?, Peak::begin(server)?);
            let table = rate(rows, || embed_table(&mut conn, "bench", rows))?;
            let cpu = (cpu_seconds(server)? - before) * 1000.0 / rows as f64;
            let grown = memory.grown_mib()?;
            clear(&mut conn)?;
            let table_base64 = rate(rows, || embed_table(&mut conn, "bench64", rows))?;
            let few = rows.min(ARRAY * 5);
            let array = rate(few, || arrays(&mut conn, few))?;
            // Row by row is slow, and its speed does not depend on the number of rows.
            let few = if fixed.is_zero() { rows.min(5000) } else { 200 };
            conn.query_drop(format!("UPDATE bench.t SET v = NULL WHERE id < {few}"))?;
            let single = rate(few, || {
                Ok(conn
                    .query_drop(format!("UPDATE bench.t SET v = mysql.ml_embedding('bench', body) WHERE id < {few}"))?)
            })?;
            if round > 0 {
                m.fetch.push(fetch);
                m.fetch_base64.push(fetch_base64);
                m.write.push(write);
                m.peer.push(peer);
                m.table.push(table);
                m.table_base64.push(table_base64);
                m.array.push(array);
                m.single.push(single);
                m.cpu.push(cpu);
                m.peak_mib = m.peak_mib.max(grown);
            }
        }
        all.push((name, m));
    }
    Ok((report(rows, rounds, server, &all)?, plot(&all)))
}

/// Embeds the whole table.
pub(super) fn embed_table(conn: &mut Conn, model: &str, rows: usize) -> Result<()> {
    let row: Option<Row> = conn.exec_first("CALL mysql.ml_embed_table(?, 'bench.t', 'body', 'v', NULL)", (model,))?;
    let embedded: u64 = row.and_then(|r| r.get(0)).context("a row")?;
    anyhow::ensure!(embedded == rows as u64, "{embedded} rows were embedded");
    Ok(())
}

/// (b): the Python program.
fn peer(packages: &Path, url: &str, server: &Server) -> Result<f64> {
    let mut python = Command::new("python3");
    python.arg(workspace_root().join(PEER).join("openai_client.py")).arg(url).arg(server.socket());
    python.env("PYTHONPATH", packages);
    let printed = output(python).context("the Python client failed")?;
    printed.trim().parse().context("the Python client printed no number")
}

/// The peak of a server's memory.
pub(super) struct Peak {
    pid: u32,
    before: u64,
}

impl Peak {
    /// Starts the measurement.
    pub(super) fn begin(server: &Server) -> Result<Self> {
        let pid = server.pid()?;
        // Resets the high-water mark to the current use on Linux.
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak of memory cannot be reset")?;
        Ok(Peak { pid, before: server.rss_kib()? })
    }

    /// The growth at the peak since then, in MiB.
    pub(super) fn grown_mib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse()?;
        Ok(peak.saturating_sub(self.before) as f64 / 1024.0)
    }
}

fn rate(rows: usize, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(rows as f64 / started.elapsed().as_secs_f64())
}

pub(super) fn fill_table(conn: &mut Conn, rows: usize) -> Result<Vec<String>> {
    conn.query_drop("CREATE DATABASE bench")?;
    conn.query_drop(format!("CREATE TABLE bench.t (id INT PRIMARY KEY, body TEXT, v VECTOR({DIMENSIONS}))"))?;
    let texts: Vec<String> = super::texts(rows).collect();
    conn.query_drop("START TRANSACTION")?;
    conn.exec_batch("INSERT INTO bench.t (id, body) VALUES (?, ?)", texts.iter().enumerate())?;
    conn.query_drop("COMMIT")?;
    Ok(texts)
}

pub(super) fn clear(conn: &mut Conn) -> Result<()> {
    // A new table each time: an update of existing vectors costs more or less than a first one.
    conn.query_drop("CREATE TABLE bench.new LIKE bench.t")?;
    conn.query_drop("INSERT INTO bench.new (id, body) SELECT id, body FROM bench.t")?;
    conn.query_drop("DROP TABLE bench.t")?;
    Ok(conn.query_drop("RENAME TABLE bench.new TO bench.t")?)
}

/// (a): fetches and parses only.
fn plain_fetch(url: &str, texts: &[String], encoding: Option<&str>) -> Result<()> {
    let batches: Vec<&[String]> = texts.chunks(BATCH).collect();
    let (next, got) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let agent = ureq::Agent::new_with_defaults();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let input: Vec<&str> = batch.iter().map(String::as_str).collect();
                        let request = Request { model: "bench-model", input: &input, encoding_format: encoding };
                        let body = serde_json::to_vec(&request)?;
                        let mut response = agent.post(url).header("content-type", "application/json").send(&body)?;
                        let answer = response.body_mut().with_config().limit(1 << 30).read_to_vec()?;
                        let numbers: usize = match encoding {
                            None => {
                                let answer: Answer<Vec<f32>> = serde_json::from_slice(&answer)?;
                                answer.data.iter().map(|i| i.embedding.len()).sum()
                            }
                            Some(_) => {
                                let answer: Answer<Cow<'_, str>> = serde_json::from_slice(&answer)?;
                                let vectors =
                                    answer.data.iter().map(|i| BASE64_STANDARD.decode(i.embedding.as_bytes()));
                                vectors.map(|v| Ok(v?.len() / 4)).sum::<Result<usize>>()?
                            }
                        };
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

/// (a'): writes ready vectors with this many sessions, each for a range of the keys.
fn plain_writes(server: &Server, rows: usize, vector: &[u8], joined: bool, sessions: usize) -> Result<()> {
    let ids: Vec<usize> = (0..rows).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = ids
            .chunks(rows.div_ceil(sessions))
            .map(|ids| scope.spawn(move || plain_write(&mut server.connect("root")?, ids, vector, joined)))
            .collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
    })
}

/// Either a prepared UPDATE that joins many rows by the key, or a prepared UPDATE for each row with many in a
/// transaction.
pub(super) fn plain_write(conn: &mut Conn, ids: &[usize], vector: &[u8], joined: bool) -> Result<()> {
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

/// `ml_embedding_batch`: arrays of texts in, arrays of base64 out, not stored.
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

/// The server's processor time so far, in seconds.
fn cpu_seconds(server: &Server) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid()?))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // Linux counts in hundredths of a second on all supported machines.
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
        "{DIMENSIONS} dimensions as JSON text, texts of some 140 bytes, {BATCH} in a request, {AT_ONCE} requests at once ((b): 100 and 64; its client asks for base64\nby itself); endpoint, server and programs on the same cores. (a') is the fastest of one or two sessions and two kinds of statements. Medians of {rounds} rounds, each of them all in turn; ratios are medians of the rounds' ratios.\n"
    )?;
    writeln!(out, "![Rows a second](bulk.svg)\n")?;
    let ratio = |a: &[f64], b: &[f64]| median(&a.iter().zip(b).map(|(x, y)| x / y).collect::<Vec<_>>());
    let slower = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a.min(*b)).collect::<Vec<_>>();
    for (name, m) in all {
        let (bound, bound_base64) = (slower(&m.fetch, &m.write), slower(&m.fetch_base64, &m.write));
        writeln!(out, "| rows a second, {name} | median | `ml_embed_table` to it |\n|---|---|---|")?;
        for (what, values) in [
            ("(a) plain program that fetches and parses", &m.fetch),
            ("(a') plain client that writes ready vectors", &m.write),
            ("the slower of both in each round", &bound),
            ("(b) Python: openai client, asynchronous, and executemany", &m.peer),
            ("`ml_embedding_batch`, not stored", &m.array),
            ("row by row, `UPDATE ... SET v = mysql.ml_embedding(...)`", &m.single),
        ] {
            writeln!(out, "| {what} | {:.0} | {:.2} |", median(values), ratio(&m.table, values))?;
        }
        writeln!(out, "| **`ml_embed_table`** | **{:.0}** | |", median(&m.table))?;
        writeln!(
            out,
            "| `ml_embed_table` with `\"encoding_format\": \"base64\"`; (a) in base64 {:.0} | {:.0} | {:.2} of the slower of (a) in base64 and (a'), {:.2} of (b) |\n",
            median(&m.fetch_base64),
            median(&m.table_base64),
            ratio(&m.table_base64, &bound_base64),
            ratio(&m.table_base64, &m.peer)
        )?;
        writeln!(
            out,
            "`ml_embed_table`: {:.2} s of mysqld's processor time for 1,000 rows; its memory grew by at most {:.0} MiB, what the buffer pool took included.\n",
            median(&m.cpu),
            m.peak_mib
        )?;
    }
    Ok(out)
}

fn plot(all: &[(&str, Measured)]) -> String {
    let mut named = Vec::new();
    for (latency, m) in all {
        for (name, values) in [
            ("fetches only", &m.fetch),
            ("writes only", &m.write),
            ("ml_embed_table", &m.table),
            ("ml_embed_table, base64", &m.table_base64),
            ("Python, asynchronous", &m.peer),
            ("row by row", &m.single),
        ] {
            named.push((format!("{name}, {latency}"), median(values)));
        }
    }
    let named: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    bars::svg("rows a second", &named, Scale::Logarithmic, "ml_embed_table")
}
