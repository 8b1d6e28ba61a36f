//! `cargo xtask bench search`: `ai.search` by a vector index, against the exact scan of the same table on the same server, and
//! against graphs (HNSW) of pgvector and faiss over the same vectors on the same cores.

mod graphs;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{ensure, Context, Result};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};
use testkit::mysqld::Server;

use self::graphs::{Graph, Postgres, Run, CONSTRUCTION, LINKS};
use super::index::data::{Data, NEAREST};
use super::index::sentences;
use super::{machine, median, percentile};

/// Dimensions of the synthetic vectors.
const DIMENSIONS: usize = 768;

/// Single-row INSERTs whose time is measured, with and without the index.
const INSERTS: usize = 2000;

/// The most sentences that are embedded.
const SENTENCES: usize = 40_000;

/// From this many rows on, graphs are not built: it takes an hour.
const TOO_MANY: usize = 400_000;

/// Queries with each filter.
const FILTERED: usize = 50;

/// Rows that pass a filter, of a thousand.
const FILTERS: [usize; 3] = [100, 10, 1];

/// Options of a server that holds the table in memory.
pub fn server_args(rows: usize) -> Vec<String> {
    let megabytes = (rows * DIMENSIONS * 4 * 2) / (1 << 20) + 512;
    vec![format!("--innodb-buffer-pool-size={megabytes}M"), "--innodb-redo-log-capacity=2G".into()]
}

/// Runs the benchmark. Returns its report as Markdown.
pub fn run(server: &Server, rows: usize, rounds: usize, progress: &dyn Fn(&str)) -> Result<String> {
    let mut conn = server.connect("root")?;
    conn.query_drop("CREATE DATABASE bench")?;
    conn.query_drop("SET GLOBAL event_scheduler = OFF")?;
    let version: String = conn.query_first("SELECT VERSION()")?.unwrap_or_default();
    let mut out = String::new();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    writeln!(out, "# Search by a vector index\n")?;
    writeln!(
        out,
        "`cargo xtask bench search --rows {rows} --rounds {rounds}`: {}, MySQL {version}; load average {} at the\n\
         beginning. The buffer pool holds the tables; one session; cosine; {NEAREST} rows, only their ids. Queries are not in the\n\
         table. Recall is the share of the true nearest rows. Filters pass rows at random. Graphs have {LINKS} links and were built\n\
         with a breadth of {CONSTRUCTION}, pgvector's defaults, by two processes or all cores; pgvector filters by iterative scans in\n\
         strict order. Times of PostgreSQL are those of psql, with the vectors as text.\n",
        machine(),
        load.split_whitespace().next().unwrap_or("unknown")
    )?;
    progress("making synthetic vectors");
    let synthetic = Data::synthetic(rows, DIMENSIONS)?;
    table(&mut conn, &mut out, &synthetic, rounds, progress)?;
    drop(synthetic);
    let count = rows.min(SENTENCES);
    match sentences::vectors(count, progress) {
        Ok(vectors) => {
            let name = format!(
                "{count} sentences of crates' documentation, all-MiniLM-L6-v2, {} dimensions",
                sentences::DIMENSIONS
            );
            table(&mut conn, &mut out, &Data::new(name, sentences::DIMENSIONS, vectors)?, rounds, progress)?;
        }
        Err(error) => writeln!(out, "No embeddings of real sentences: {error:#}.")?,
    }
    Ok(out)
}

/// The column on which filters are.
fn kind(id: usize) -> usize {
    id * 7919 % 1000
}

fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn hex(vector: &[f32]) -> String {
    bytes(vector).iter().map(|b| format!("{b:02x}")).collect()
}

/// Measures one data set.
fn table(conn: &mut Conn, out: &mut String, data: &Data, rounds: usize, progress: &dyn Fn(&str)) -> Result<()> {
    writeln!(out, "## {}\n", data.name)?;
    progress(&format!("filling a table: {}", data.name));
    conn.query_drop("DROP TABLE IF EXISTS bench.v")?;
    conn.query_drop(format!(
        "CREATE TABLE bench.v (id INT PRIMARY KEY, kind INT NOT NULL, v VECTOR({}) NOT NULL)",
        data.dimensions
    ))?;
    let vectors: Vec<&[f32]> = data.vectors.chunks_exact(data.dimensions).collect();
    for (n, part) in vectors.chunks(500).enumerate() {
        let row = |(i, v): (usize, &&[f32])| {
            let id = n * 500 + i;
            format!("({id},{},x'{}')", kind(id), hex(v))
        };
        let rows: Vec<String> = part.iter().enumerate().map(row).collect();
        conn.query_drop(format!("INSERT INTO bench.v VALUES {}", rows.join(",")))?;
    }
    conn.query_drop("ANALYZE TABLE bench.v")?;
    let queries: Vec<Vec<u8>> = data.queries().map(bytes).collect();
    let exact = times(&queries[..queries.len().min(10 * rounds)], |query| {
        let statement = "SELECT id FROM bench.v ORDER BY cosine_distance(v, ?) LIMIT 10";
        Ok(conn.exec::<u32, _, _>(statement, (query,))?)
    })?;
    progress("inserting without an index");
    let plain = inserts(conn, &vectors, vectors.len())?;
    progress("building the index");
    let started = Instant::now();
    let built: Row = conn.query_first("CALL ai.create_vector_index('bench.v', 'v', NULL)")?.context("a row")?;
    let building = started.elapsed().as_secs_f64();
    let lists: u64 = built.get("lists").context("lists")?;
    let size: u64 = conn.query_first("SELECT bytes FROM ai.vector_indexes")?.context("an index")?;
    progress("inserting with the index");
    let indexed = inserts(conn, &vectors, vectors.len())?;
    conn.query_drop("CALL ai.refresh_vector_index('bench.v', 'v', NULL)")?;
    progress("searching");
    let options = "{\"columns\": [\"id\"]}";
    let mut search = Vec::new();
    for _ in 0..rounds {
        search.extend(times(&queries, |query| found(conn, query, options))?);
    }
    let nearest: Vec<Vec<u32>> = search.iter().take(queries.len()).map(|(_, ids)| ids.clone()).collect();
    let status: String = conn.query_first("SELECT ml_vector_search_status()")?.context("a status")?;
    ensure!(status.contains("\"path\":\"index\""), "the index was not used: {status}");
    let recall = share(&nearest, &data.truth);
    let ms = |times: &[(f64, Vec<u32>)]| times.iter().map(|(ms, _)| *ms).collect::<Vec<_>>();
    let (search, exact) = (ms(&search), ms(&exact));
    writeln!(out, "| | p50 ms | p99 ms | of the scan | recall@10 |\n|---|---|---|---|---|")?;
    writeln!(
        out,
        "| `ORDER BY cosine_distance(v, ?) LIMIT 10` | {:.1} | {:.1} | 1 | 1 |",
        median(&exact),
        percentile(&exact, 99.0)
    )?;
    writeln!(
        out,
        "| `CALL ai.search(...)` | {:.2} | {:.2} | {:.3} | {recall:.3} |",
        median(&search),
        percentile(&search, 99.0),
        median(&search) / median(&exact)
    )?;
    let mut truths = Vec::new();
    for of_thousand in FILTERS {
        let filter = format!("kind < {of_thousand}");
        let options = format!("{{\"columns\": [\"id\"], \"where\": \"{filter}\"}}");
        let exact = format!("{{\"columns\": [\"id\"], \"where\": \"{filter}\", \"exact\": true}}");
        let few = &queries[..queries.len().min(FILTERED)];
        let (mut by_index, mut near, mut truth) = (0, Vec::new(), Vec::new());
        let mut spent = Vec::new();
        for query in few {
            truth.push(found(conn, query, &exact)?);
            let started = Instant::now();
            near.push(found(conn, query, &options)?);
            spent.push(started.elapsed().as_secs_f64() * 1e3);
            let status: String = conn.query_first("SELECT ml_vector_search_status()")?.context("a status")?;
            by_index += usize::from(status.contains("\"path\":\"index\""));
        }
        writeln!(
            out,
            "| the same, a filter that {} % pass; {by_index} of {} by the index | {:.2} | {:.2} | {:.3} | {:.3} |",
            of_thousand as f64 / 10.0,
            few.len(),
            median(&spent),
            percentile(&spent, 99.0),
            median(&spent) / median(&exact_ms(conn, few, &exact)?),
            share(&near, &truth)
        )?;
        truths.push((of_thousand, truth));
    }
    let whole = (data.vectors.len() * 4) as f64;
    writeln!(out, "\n| | |\n|---|---|")?;
    writeln!(out, "| building, {lists} lists | {building:.1} s |")?;
    writeln!(out, "| bytes of the index, of the vectors | {:.3} |", size as f64 / whole)?;
    writeln!(
        out,
        "| {INSERTS} single-row INSERTs, of those without the index | {:.2} of the rate |\n",
        plain / indexed
    )?;
    conn.query_drop("CALL ai.drop_vector_index('bench.v', 'v', NULL)")?;
    if data.rows() > TOO_MANY {
        writeln!(out, "Graphs were not built: there are more than {TOO_MANY} rows.\n")?;
        return Ok(());
    }
    let own = Own { built: building, p50: median(&search), recall };
    match graphs::faiss(data, progress) {
        Ok(graph) => drop(compare(out, &graph, data, &own)?),
        Err(error) => writeln!(out, "faiss was not measured: {error:#}.\n")?,
    }
    let megabytes = data.vectors.len() * 4 * 2 / (1 << 20) + 512;
    match Postgres::start(megabytes, progress) {
        Ok(postgres) => {
            let graph = postgres.build(data, kind, progress)?;
            let equal = compare(out, &graph, data, &own)?;
            writeln!(out, "| pgvector, a filter that | p50 ms | recall@10 |\n|---|---|---|")?;
            for (of_thousand, truth) in &truths {
                progress("searching pgvector with filters");
                let run = postgres.search(data, equal, truth.len(), &format!("kind < {of_thousand}"))?;
                writeln!(
                    out,
                    "| {} % pass, breadth {equal} | {:.2} | {:.3} |",
                    *of_thousand as f64 / 10.0,
                    median(&run.ms),
                    share(&run.found, truth)
                )?;
            }
            writeln!(out)?;
        }
        Err(error) => writeln!(out, "pgvector was not measured: {error:#}.\n")?,
    }
    Ok(())
}

/// What was measured of `ai.search`.
struct Own {
    built: f64,
    p50: f64,
    recall: f64,
}

/// Reports a graph next to `ai.search`. Returns the least breadth with the same recall, or the greatest.
fn compare(out: &mut String, graph: &Graph, data: &Data, own: &Own) -> Result<usize> {
    let recalls: Vec<(&Run, f64)> = graph.runs.iter().map(|run| (run, share(&run.found, &data.truth))).collect();
    let (equal, _) = recalls.iter().find(|(_, recall)| *recall >= own.recall).or(recalls.last()).context("a run")?;
    writeln!(out, "{}: built in {:.1} s, {:.1} times the time of the index in MySQL; {:.3} of the vectors' bytes. At the least recall that\n\
         is not below {:.3}, its p50 is {:.2} of that of `ai.search`.\n", graph.name, graph.built, graph.built / own.built,
        graph.bytes as f64 / (data.vectors.len() * 4) as f64, own.recall, median(&equal.ms) / own.p50)?;
    writeln!(out, "| breadth (`ef_search`) | p50 ms | p99 ms | recall@10 |\n|---|---|---|---|")?;
    for (run, recall) in &recalls {
        writeln!(out, "| {} | {:.2} | {:.2} | {recall:.3} |", run.breadth, median(&run.ms), percentile(&run.ms, 99.0))?;
    }
    writeln!(out)?;
    Ok(equal.breadth)
}

fn exact_ms(conn: &mut Conn, queries: &[Vec<u8>], options: &str) -> Result<Vec<f64>> {
    let few = &queries[..queries.len().min(5)];
    Ok(times(few, |query| found(conn, query, options))?.into_iter().map(|(ms, _)| ms).collect())
}

fn found(conn: &mut Conn, query: &[u8], options: &str) -> Result<Vec<u32>> {
    let rows: Vec<Row> = conn.exec("CALL ai.search('bench.v', 'v', ?, 10, ?)", (query, options))?;
    rows.iter().map(|row| row.get("id").context("an id")).collect()
}

/// Milliseconds and results of each query.
fn times(queries: &[Vec<u8>], mut run: impl FnMut(&[u8]) -> Result<Vec<u32>>) -> Result<Vec<(f64, Vec<u32>)>> {
    let mut times = Vec::new();
    for query in queries {
        let started = Instant::now();
        let ids = run(query)?;
        times.push((started.elapsed().as_secs_f64() * 1e3, ids));
    }
    Ok(times)
}

/// Seconds of single-row INSERTs, each a transaction of its own. The rows are deleted again.
fn inserts(conn: &mut Conn, vectors: &[&[f32]], first: usize) -> Result<f64> {
    let statement = conn.prep("INSERT INTO bench.v VALUES (?, 0, ?)")?;
    let rows: Vec<(usize, Vec<u8>)> =
        vectors.iter().take(INSERTS).enumerate().map(|(i, v)| (first + i, bytes(v))).collect();
    let started = Instant::now();
    for (id, vector) in &rows {
        conn.exec_drop(&statement, (id, vector))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    conn.exec_drop("DELETE FROM bench.v WHERE id >= ?", (first,))?;
    Ok(seconds)
}

/// The share of the true nearest rows among those found.
fn share(found: &[Vec<u32>], truth: &[Vec<u32>]) -> f64 {
    let (mut hits, mut all) = (0, 0);
    for (found, truth) in found.iter().zip(truth) {
        let truth: HashSet<&u32> = truth.iter().collect();
        hits += found.iter().filter(|id| truth.contains(id)).count();
        all += truth.len();
    }
    hits as f64 / all.max(1) as f64
}
