//! `cargo xtask bench distance`: the cost of a distance, compared with a plain Rust scan and with the server without
//! distances.
//!
//! One session, one table in memory. The server hands every vector over before anything is computed, so a statement
//! has three parts: handing over, computing, sorting.

mod plot;

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use multiversion::multiversion;
use mysql::prelude::Queryable;
use mysql::Conn;

use super::{machine, median, percentile};
use testkit::mysqld::Server;

const DIMENSIONS: usize = 768;
const BYTES: usize = DIMENSIONS * 4;
const NEAREST: usize = 10;
const TABLE: &str = "bench.v";

/// The target: a statement takes at most as long as the server without distances, plus this many plain scans.
const SCANS: f64 = 1.5;

/// Options of a server that holds the table in memory.
pub fn server_args(rows: usize) -> Vec<String> {
    let megabytes = (rows * BYTES * 2) / (1 << 20) + 256;
    vec![format!("--innodb-buffer-pool-size={megabytes}M"), "--innodb-redo-log-capacity=1G".into()]
}

/// The report and its plot.
pub struct Report {
    /// Markdown; embeds the plot as `distance.svg` in the same folder.
    pub text: String,
    /// The plot as SVG.
    pub svg: String,
}

#[derive(Clone, Copy)]
struct Measure {
    name: &'static str,
    function: &'static str,
    order: &'static str,
    plain: fn(&[u8], &[f32]) -> f64,
}

const MEASURES: [Measure; 3] = [
    Measure { name: "cosine", function: "cosine_distance", order: "ASC", plain: plain_cosine },
    Measure { name: "squared L2", function: "l2_squared_distance", order: "ASC", plain: plain_l2 },
    Measure { name: "dot product", function: "dot_product", order: "DESC", plain: plain_dot },
];

/// Statements that read every vector and compute no distance.
const FLOORS: [(&str, &str); 3] = [
    ("`SUM(LENGTH(v))`", "SELECT SUM(LENGTH(v)) FROM bench.v"),
    ("`SUM(CRC32(v))`", "SELECT SUM(CRC32(v)) FROM bench.v"),
    // The third argument is NULL, so nothing is computed: the server only hands two vectors over.
    ("`SUM(vector_distance(v, @q, NULL))`", "SELECT SUM(vector_distance(v, @q, NULL)) FROM bench.v"),
];

/// The sort of a top 10 by a value that costs nothing.
const SORT_FLOOR: &str = "SELECT id FROM bench.v ORDER BY vector_distance(v, @q, NULL) LIMIT 10";

/// The times of one kind in milliseconds, one a round.
type Times = Vec<f64>;

#[derive(Default)]
struct Measured {
    plain: [Times; 3],
    floors: [Times; 3],
    sums: [Times; 3],
    sort_floor: Times,
    nearest: [Times; 3],
}

/// Runs the benchmark.
pub fn run(server: &Server, rows: usize, rounds: usize, progress: &dyn Fn(&str)) -> Result<Report> {
    let mut conn = server.connect("root")?;
    progress("filling the table");
    let mut random = Random(42);
    let (data, query) = (random.vectors(rows), random.vectors(1));
    fill(&mut conn, &data, &query)?;
    let query: Vec<f32> = elements(&query).collect();
    progress("comparing results");
    for measure in MEASURES {
        check(&mut conn, measure, &data, &query)?;
    }
    let mut times = Measured::default();
    for round in 0..=rounds {
        progress(&format!("round {round} of {rounds}{}", if round == 0 { " (warm-up)" } else { "" }));
        let mut once = Measured::default();
        for (i, measure) in MEASURES.iter().enumerate() {
            once.plain[i].push(timed(|| {
                black_box(scan(*measure, black_box(&data), &query));
                Ok(())
            })?);
            once.floors[i].push(statement(&mut conn, FLOORS[i].1)?);
            once.sums[i].push(statement(&mut conn, &sum_of(*measure))?);
            once.nearest[i].push(statement(&mut conn, &nearest_of(*measure))?);
        }
        once.sort_floor.push(statement(&mut conn, SORT_FLOOR)?);
        if round > 0 {
            times.add(once);
        }
    }
    let version: Option<String> = conn.query_first("SELECT VERSION()")?;
    let text = report(rows, rounds, &version.unwrap_or_default(), &times)?;
    Ok(Report { text, svg: plot::svg(&bars(&times)) })
}

impl Measured {
    fn add(&mut self, other: Measured) {
        for i in 0..3 {
            self.plain[i].extend(&other.plain[i]);
            self.floors[i].extend(&other.floors[i]);
            self.sums[i].extend(&other.sums[i]);
            self.nearest[i].extend(&other.nearest[i]);
        }
        self.sort_floor.extend(&other.sort_floor);
    }

    /// Handing over: the server's time for calls of a function that computes nothing.
    fn handing_over(&self) -> &Times {
        &self.floors[2]
    }
}

fn sum_of(measure: Measure) -> String {
    format!("SELECT SUM({}(v, @q)) FROM {TABLE}", measure.function)
}

fn nearest_of(measure: Measure) -> String {
    format!("SELECT id FROM {TABLE} ORDER BY {}(v, @q) {} LIMIT {NEAREST}", measure.function, measure.order)
}

fn timed(f: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    f()?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

fn statement(conn: &mut Conn, sql: &str) -> Result<f64> {
    timed(|| conn.query_drop(sql).with_context(|| sql.to_owned()))
}

fn fill(conn: &mut Conn, data: &[u8], query: &[u8]) -> Result<()> {
    conn.query_drop("CREATE DATABASE IF NOT EXISTS bench")?;
    conn.query_drop(format!("CREATE TABLE {TABLE} (id INT PRIMARY KEY, v VECTOR({DIMENSIONS}))"))?;
    conn.query_drop("START TRANSACTION")?;
    // The server declares a parameter as text; CAST makes it bytes.
    conn.exec_batch(
        format!("INSERT INTO {TABLE} VALUES (?, CAST(? AS BINARY))"),
        data.chunks_exact(BYTES).enumerate(),
    )?;
    conn.query_drop("COMMIT")?;
    conn.query_drop(format!("ANALYZE TABLE {TABLE}"))?;
    conn.exec_drop("SET @q = CAST(? AS BINARY)", (query,))?;
    Ok(())
}

/// Checks that the server's distances equal those of the plain scan; otherwise the times have no meaning.
fn check(conn: &mut Conn, measure: Measure, data: &[u8], query: &[f32]) -> Result<()> {
    let plain = scan(measure, data, query);
    let sum: f64 = conn.query_first(sum_of(measure))?.context("a sum")?;
    let size: f64 = data.chunks_exact(BYTES).map(|v| (measure.plain)(v, query).abs()).sum();
    anyhow::ensure!((sum - plain).abs() <= 1e-6 * size, "{}: the sum is {sum}, not {plain}", measure.name);
    let mut order: Vec<(usize, f64)> =
        data.chunks_exact(BYTES).map(|v| (measure.plain)(v, query)).enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    if measure.order == "DESC" {
        order.reverse();
    }
    let nearest: Vec<usize> = conn.query(nearest_of(measure))?;
    let expected: Vec<usize> = order.iter().take(NEAREST).map(|(i, _)| *i).collect();
    anyhow::ensure!(nearest == expected, "{}: the nearest are {nearest:?}, not {expected:?}", measure.name);
    Ok(())
}

/// The sum of all distances.
fn scan(measure: Measure, data: &[u8], query: &[f32]) -> f64 {
    data.chunks_exact(BYTES).map(|v| (measure.plain)(v, query)).sum()
}

fn plain_cosine(v: &[u8], query: &[f32]) -> f64 {
    let [vq, vv, qq] = plain_sums(v, query);
    1.0 - vq / (vv * qq).sqrt()
}

fn plain_l2(v: &[u8], query: &[f32]) -> f64 {
    plain_squared_l2(v, query)
}

fn plain_dot(v: &[u8], query: &[f32]) -> f64 {
    let [vq, ..] = plain_sums(v, query);
    vq
}

const LANES: usize = 32;

/// Inner product and squared norms in single precision: the fastest kernel, and precise enough for these vectors.
#[multiversion(targets("x86_64+avx2+fma"))]
fn plain_sums(v: &[u8], query: &[f32]) -> [f64; 3] {
    let (mut vq, mut vv, mut qq) = ([0.0_f32; LANES], [0.0_f32; LANES], [0.0_f32; LANES]);
    for (v, q) in v.as_chunks::<4>().0.as_chunks::<LANES>().0.iter().zip(query.as_chunks::<LANES>().0) {
        for i in 0..LANES {
            let (x, y) = (f32::from_le_bytes(v[i]), q[i]);
            vq[i] += x * y;
            vv[i] += x * x;
            qq[i] += y * y;
        }
    }
    [vq, vv, qq].map(|lanes| lanes.iter().map(|x| f64::from(*x)).sum())
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn plain_squared_l2(v: &[u8], query: &[f32]) -> f64 {
    let mut dd = [0.0_f32; LANES];
    for (v, q) in v.as_chunks::<4>().0.as_chunks::<LANES>().0.iter().zip(query.as_chunks::<LANES>().0) {
        for i in 0..LANES {
            let d = f32::from_le_bytes(v[i]) - q[i];
            dd[i] += d * d;
        }
    }
    dd.iter().map(|x| f64::from(*x)).sum()
}

fn elements(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|e| f32::from_le_bytes(*e))
}

/// Pseudorandom numbers, the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Elements from -1 to 1.
    fn vectors(&mut self, count: usize) -> Vec<u8> {
        let unit = |bits: u64| (bits >> 40) as f32 / (1_u32 << 23) as f32 - 1.0;
        (0..count * DIMENSIONS).flat_map(|_| unit(self.next()).to_le_bytes()).collect()
    }
}

fn bars(times: &Measured) -> Vec<plot::Bar> {
    let floor = median(times.handing_over());
    let mut bars = vec![
        plot::Bar { name: "plain Rust scan, cosine".into(), handing_over: 0.0, rest: median(&times.plain[0]) },
        plot::Bar { name: "SUM(LENGTH(v))".into(), handing_over: median(&times.floors[0]), rest: 0.0 },
        plot::Bar { name: "SUM(vector_distance(v, @q, NULL))".into(), handing_over: floor, rest: 0.0 },
    ];
    for (measure, sums) in MEASURES.iter().zip(&times.sums) {
        let total = median(sums);
        bars.push(plot::Bar {
            name: format!("SUM({}(v, @q))", measure.function),
            handing_over: floor.min(total),
            rest: (total - floor).max(0.0),
        });
    }
    for (measure, nearest) in MEASURES.iter().zip(&times.nearest) {
        let total = median(nearest);
        bars.push(plot::Bar {
            name: format!("ORDER BY {} LIMIT {NEAREST}", measure.function),
            handing_over: floor.min(total),
            rest: (total - floor).max(0.0),
        });
    }
    bars
}

fn report(rows: usize, rounds: usize, version: &str, times: &Measured) -> Result<String> {
    let mut out = String::new();
    let row = |out: &mut String, name: &str, times: &Times| {
        let middle = median(times);
        writeln!(
            out,
            "| {name} | {middle:.1} | {:.1} | {:.1} | {:.0} |",
            percentile(times, 0.0),
            percentile(times, 100.0),
            middle * 1e6 / rows as f64
        )
    };
    let of_rounds = |f: &dyn Fn(usize) -> f64| median(&(0..rounds).map(f).collect::<Vec<_>>());
    writeln!(out, "# Distances over a table\n")?;
    writeln!(out, "`cargo xtask bench distance --rows {rows} --rounds {rounds}`: {}, MySQL {version}.", machine())?;
    writeln!(out, "{rows} VECTORs of {DIMENSIONS} dimensions ({} MB) in InnoDB, all in the buffer pool; one session. The plain scan reads the", rows * BYTES / 1_000_000)?;
    writeln!(out, "same bytes, one after the other, in the memory of another process, in single precision with AVX2 where there is.")?;
    writeln!(out, "Medians of {rounds} rounds, each of which measures everything once in turn.\n")?;
    writeln!(out, "![What a scan takes](distance.svg)\n")?;
    writeln!(out, "| | ms | min | max | ns a row |\n|---|---|---|---|---|")?;
    for (measure, plain) in MEASURES.iter().zip(&times.plain) {
        row(&mut out, &format!("plain Rust scan, {}", measure.name), plain)?;
    }
    for ((name, _), floor) in FLOORS.iter().zip(&times.floors) {
        row(&mut out, &format!("no distance: {name}"), floor)?;
    }
    for (measure, sums) in MEASURES.iter().zip(&times.sums) {
        row(&mut out, &format!("`SUM({}(v, @q))`", measure.function), sums)?;
    }
    row(&mut out, &format!("no distance: `ORDER BY vector_distance(v, @q, NULL) LIMIT {NEAREST}`"), &times.sort_floor)?;
    for (measure, nearest) in MEASURES.iter().zip(&times.nearest) {
        row(&mut out, &format!("`ORDER BY {}(v, @q) LIMIT {NEAREST}`", measure.function), nearest)?;
    }
    writeln!(out, "\nA statement cannot be faster than the server hands the vectors over. That is the function that is called with both")?;
    writeln!(out, "vectors and a NULL, and computes nothing. What is beyond that is compared with a plain scan; the target is {SCANS} of them.\n")?;
    writeln!(out, "| | handing over, ms | beyond it, ms | beyond it, in plain scans | of handing over + {SCANS} plain scans |\n|---|---|---|---|---|")?;
    for (i, measure) in MEASURES.iter().enumerate() {
        let (sums, plain, floor) = (&times.sums[i], &times.plain[i], times.handing_over());
        writeln!(
            out,
            "| `SUM({}(v, @q))` | {:.1} | {:.1} | {:.2} | {:.2} |",
            measure.function,
            median(floor),
            of_rounds(&|r| sums[r] - floor[r]),
            of_rounds(&|r| (sums[r] - floor[r]) / plain[r]),
            of_rounds(&|r| sums[r] / (floor[r] + SCANS * plain[r])),
        )?;
    }
    let share = of_rounds(&|r| times.handing_over()[r] / times.sums[0][r]);
    let sorting = of_rounds(&|r| times.nearest[0][r] / times.sums[0][r]);
    let bound = match share >= 0.75 {
        true => "the server's reading row by row is what bounds it, not the arithmetic",
        false => "the rest is arithmetic",
    };
    writeln!(out, "\nHanding over is {:.0} % of `SUM(cosine_distance(v, @q))`: {bound}.", share * 100.0)?;
    writeln!(out, "The top {NEAREST} takes {sorting:.2} times as long as the sum.")?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_scan_measures_distances() {
        let bytes = |x: f32| x.to_le_bytes().repeat(DIMENSIONS);
        let ones = vec![1.0; DIMENSIONS];
        assert_eq!(plain_cosine(&bytes(-2.0), &ones), 2.0);
        assert_eq!(plain_l2(&bytes(3.0), &ones), 4.0 * DIMENSIONS as f64);
        assert_eq!(plain_dot(&bytes(0.5), &ones), 0.5 * DIMENSIONS as f64);
    }

    #[test]
    fn random_elements_are_within_their_bounds() {
        let bytes = Random(1).vectors(10);
        assert_eq!(bytes.len(), 10 * BYTES);
        assert!(elements(&bytes).all(|x| (-1.0..=1.0).contains(&x)));
        assert!(elements(&bytes).any(|x| x > 0.9) && elements(&bytes).any(|x| x < -0.9));
    }
}
