//! `cargo xtask bench index`: the arithmetic of the vector index without a server: building, scanning, and the share of
//! the true nearest rows that a search finds.

pub(super) mod data;
pub(super) mod sentences;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use mysql_ml_index::{
    recommended_lists, recommended_sample, train, BlockBuilder, Calibration, Centroids, Encoder, Layout, Limits,
    ListChooser, Metric, Scan, LEFT_OUT,
};

use self::data::{Data, NEAREST};
use super::{machine, median, percentile};

/// Dimensions of the synthetic vectors.
const DIMENSIONS: usize = 768;

/// Codes of a block.
const BLOCK: usize = 500;

/// Shares of the lists that are read, in percent.
const SHARES: [f64; 6] = [1.0, 2.0, 5.0, 10.0, 20.0, 35.0];

/// Queries of a calibration.
const CALIBRATED: usize = 200;

/// Candidates that are compared exactly.
const RERANKED: [usize; 3] = [50, 100, 200];

/// Runs the benchmark. Returns its report as Markdown.
pub fn run(rows: usize, rounds: usize, progress: &dyn Fn(&str)) -> Result<String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut out = String::new();
    writeln!(out, "# The arithmetic of the vector index\n")?;
    writeln!(out, "`cargo xtask bench index --rows {rows} --rounds {rounds}`: {}. Everything is in the", machine())?;
    writeln!(
        out,
        "memory of one process, without a server. Times are medians of {rounds} rounds, with the least in brackets."
    )?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown");
    writeln!(out, "The machine's load average was {load} at the beginning.\n")?;
    progress("making synthetic vectors");
    let synthetic = Data::synthetic(rows, DIMENSIONS)?;
    let lists = recommended_lists(rows as u64);
    times(&mut out, &synthetic, lists, threads, rounds, progress)?;
    scans(&mut out, &synthetic, rounds, progress)?;
    let few = [(1.0, 1)];
    recall(&mut out, &synthetic, lists, &few, threads, progress)?;
    drop(synthetic);
    match sentences::vectors(rows, progress) {
        Ok(vectors) => {
            let name = format!(
                "{rows} sentences of crates' documentation, all-MiniLM-L6-v2, {} dimensions",
                sentences::DIMENSIONS
            );
            let data = Data::new(name, sentences::DIMENSIONS, vectors)?;
            recall(&mut out, &data, lists / 3, &few, threads, progress)?;
            recall(&mut out, &data, lists, &[(1.0, 1), (1.0, 2), (1.0, 4), (1.05, 1), (1.15, 1)], threads, progress)?;
            recall(&mut out, &data, lists * 2, &few, threads, progress)?;
        }
        Err(error) => writeln!(out, "\nNo embeddings of real sentences: {error:#}.")?,
    }
    Ok(out)
}

fn sample(data: &Data, lists: usize) -> &[f32] {
    let rows = recommended_sample(lists).min(data.rows());
    data.vectors.get(..rows * data.dimensions).unwrap_or_default()
}

fn trained(data: &Data, layout: &Layout, lists: usize, threads: usize) -> Result<Centroids> {
    train(layout, sample(data, lists), lists, threads, &|| false).ok().context("stopped")
}

fn times(
    out: &mut String,
    data: &Data,
    lists: usize,
    threads: usize,
    rounds: usize,
    progress: &dyn Fn(&str),
) -> Result<()> {
    writeln!(out, "## Building\n")?;
    writeln!(out, "{}; {lists} lists, {threads} threads, 1 bit a dimension.\n", data.name)?;
    let layout = Layout::new(data.dimensions, Metric::Cosine, 1, 1)?;
    let (mut training, mut assigning, mut encoding) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        progress(&format!("building, round {round} of {rounds}"));
        let started = Instant::now();
        let centroids = trained(data, &layout, lists, threads)?;
        training.push(started.elapsed().as_secs_f64());
        let encoder = Encoder::new(&centroids);
        let started = Instant::now();
        let assigned = encoder.assign(&data.vectors, threads);
        assigning.push(started.elapsed().as_secs_f64() * 1e6 / data.rows() as f64);
        let few = data.rows().min(20_000);
        let started = Instant::now();
        for (vector, list) in data.vectors.chunks_exact(data.dimensions).zip(&assigned).take(few) {
            black_box(encoder.encode(vector, *list)?);
        }
        encoding.push(started.elapsed().as_secs_f64() * 1e6 / few as f64);
    }
    let products = 2.0 * (lists * data.dimensions) as f64;
    let sampled = sample(data, lists).len() / data.dimensions;
    writeln!(out, "| step | time |")?;
    writeln!(out, "|---|---|")?;
    writeln!(out, "| k-means on {sampled} vectors | {} s |", spread(&training))?;
    writeln!(
        out,
        "| assigning a vector to its list, all threads | {} µs, at best {:.0} GFLOP/s |",
        spread(&assigning),
        products / percentile(&assigning, 0.0) / 1e3
    )?;
    writeln!(out, "| encoding a vector, one thread | {} µs |", spread(&encoding))?;
    Ok(())
}

fn scans(out: &mut String, data: &Data, rounds: usize, progress: &dyn Fn(&str)) -> Result<()> {
    writeln!(out, "\n## Scanning\n")?;
    writeln!(
        out,
        "Lists of 1000 codes of {} dimensions in two blocks, one thread; 32 lists for a query.\n",
        data.dimensions
    )?;
    writeln!(out, "| bits | ns a code | bytes a code with a key of 8 bytes | of the vector |")?;
    writeln!(out, "|---|---|---|---|")?;
    for bits in [1, 2, 4] {
        progress(&format!("scanning codes of {bits} bits"));
        let layout = Layout::new(data.dimensions, Metric::Cosine, bits, 1)?;
        let lists = Lists::build(
            data,
            &layout,
            &Centroids::from_rows(&layout, centre(data, &layout)?)?,
            &vec![[0, LEFT_OUT]; data.rows()],
        )?;
        let blocks: Vec<&Vec<u8>> = lists.blocks.iter().flatten().take(64).collect();
        let codes = blocks.len() * BLOCK;
        let mut nanoseconds = Vec::new();
        for query in data.queries().take(rounds.max(3) * 3) {
            let mut scan = Scan::new(&layout, query, Limits::of(NEAREST))?;
            let started = Instant::now();
            for block in &blocks {
                scan.offer(lists.centroids.first().context("a list")?, block)?;
            }
            black_box(scan.finish());
            nanoseconds.push(started.elapsed().as_secs_f64() * 1e9 / codes as f64);
        }
        let bytes = blocks.iter().map(|b| b.len()).sum::<usize>() as f64 / codes as f64;
        let share = bytes / (data.dimensions * 4) as f64;
        writeln!(out, "| {bits} | {} | {bytes:.0} | {:.1} % |", spread(&nanoseconds), share * 100.0)?;
    }
    Ok(())
}

/// The median, and the least in brackets.
fn spread(values: &[f64]) -> String {
    format!("{:.2} ({:.2})", median(values), percentile(values, 0.0))
}

/// The row of one centroid for all vectors.
fn centre(data: &Data, layout: &Layout) -> Result<Option<Vec<u8>>> {
    let few = data.vectors.get(..data.dimensions * 1000.min(data.rows())).unwrap_or_default();
    Ok(train(layout, few, 1, 1, &|| false).ok().context("stopped")?.encode(0))
}

/// The rows of an index's tables.
struct Lists {
    centroids: Vec<Vec<u8>>,
    blocks: Vec<Vec<Vec<u8>>>,
    codes: Vec<usize>,
}

impl Lists {
    fn build(data: &Data, layout: &Layout, centroids: &Centroids, assigned: &[[u32; 2]]) -> Result<Lists> {
        // The bits differ from those of the training.
        let rows: Vec<Vec<u8>> = (0..centroids.len()).filter_map(|list| centroids.encode(list)).collect();
        let centroids = Centroids::from_rows(layout, &rows)?;
        let encoder = Encoder::new(&centroids);
        let mut lists = Lists { blocks: vec![Vec::new(); rows.len()], codes: vec![0; rows.len()], centroids: rows };
        let mut open: Vec<Option<BlockBuilder>> = (0..lists.centroids.len()).map(|_| None).collect();
        for ((row, vector), twice) in (0_u32..).zip(data.vectors.chunks_exact(data.dimensions)).zip(assigned) {
            for list in twice.iter().filter(|list| **list != LEFT_OUT) {
                let at = *list as usize;
                let builder = open.get_mut(at).context("a list")?;
                let block = builder.get_or_insert_with(|| BlockBuilder::new(layout));
                block.push(&u64::from(row).to_be_bytes(), &encoder.encode(vector, *list)?)?;
                *lists.codes.get_mut(at).context("a list")? += 1;
                if block.len() == BLOCK {
                    let full = builder.take().map(BlockBuilder::finish);
                    lists.blocks.get_mut(at).context("a list")?.extend(full);
                }
            }
        }
        for (blocks, builder) in lists.blocks.iter_mut().zip(open) {
            blocks.extend(builder.map(BlockBuilder::finish));
        }
        Ok(lists)
    }
}

/// The results of searches that read the same number of lists.
#[derive(Default)]
struct Found {
    codes: f64,
    covered: f64,
    /// For each of [`RERANKED`].
    recall: [f64; RERANKED.len()],
    /// With as many candidates as the bounds ask for, and their number.
    by_bounds: (f64, f64),
}

fn search(data: &Data, layout: &Layout, lists: &Lists, probes: usize) -> Result<Found> {
    let mut found = Found::default();
    for (query, truth) in data.queries().zip(&data.truth) {
        let mut chooser = ListChooser::new(layout, query, probes)?;
        for (list, centroid) in (0..).zip(&lists.centroids) {
            chooser.offer(list, centroid)?;
        }
        let mut scan = Scan::new(layout, query, Limits { k: NEAREST, least: 500, most: 500 })?;
        let mut guided = Scan::new(layout, query, Limits::of(NEAREST))?;
        let mut everything = HashSet::new();
        for near in chooser.finish() {
            let at = near.list as usize;
            let centroid = lists.centroids.get(at).context("a list")?;
            found.codes += *lists.codes.get(at).context("a list")? as f64;
            for block in lists.blocks.get(at).into_iter().flatten() {
                scan.offer(centroid, block)?;
                guided.offer(centroid, block)?;
                everything.extend(mysql_ml_index::Block::parse(layout, block)?.keys().map(<[u8]>::to_vec));
            }
        }
        let hits = |keys: &HashSet<Vec<u8>>| {
            let hits = truth.iter().filter(|row| keys.contains(u64::from(**row).to_be_bytes().as_slice())).count();
            hits as f64 / NEAREST as f64
        };
        found.covered += hits(&everything);
        let candidates = scan.finish();
        for (recall, most) in found.recall.iter_mut().zip(RERANKED) {
            *recall += hits(&candidates.iter().take(most).map(|c| c.key.clone()).collect());
        }
        let guided = guided.finish();
        found.by_bounds.1 += guided.len() as f64;
        found.by_bounds.0 += hits(&guided.into_iter().map(|c| c.key).collect());
    }
    let queries = data.truth.len() as f64;
    Ok(Found {
        codes: found.codes / queries / data.rows() as f64,
        covered: found.covered / queries,
        recall: found.recall.map(|recall| recall / queries),
        by_bounds: (found.by_bounds.0 / queries, found.by_bounds.1 / queries),
    })
}

/// A table for each of `kinds`: how much farther a vector's second list may be, and bits a dimension.
fn recall(
    out: &mut String,
    data: &Data,
    lists: usize,
    kinds: &[(f32, u8)],
    threads: usize,
    progress: &dyn Fn(&str),
) -> Result<()> {
    writeln!(out, "\n## Recall: {}, {lists} lists\n", data.name)?;
    writeln!(
        out,
        "{} queries that are not in the data, cosine. Some vectors are in a second list that is nearly as close;",
        data.truth.len()
    )?;
    writeln!(out, "the first column has their share. Recall@{NEAREST} after an exact comparison of {RERANKED:?} candidates; the last column")?;
    writeln!(
        out,
        "has as many as the bounds ask for, {} to {}.\n",
        Limits::of(NEAREST).least,
        Limits::of(NEAREST).most
    )?;
    let layout = Layout::new(data.dimensions, Metric::Cosine, 1, 1)?;
    let centroids = trained(data, &layout, lists, threads)?;
    calibration(out, data, &layout, &centroids, threads)?;
    table_head(out)?;
    for &(reach, bits) in kinds {
        progress(&format!("recall: {}, {lists} lists, {bits} bits, reach {reach}", data.name));
        let mut assigned = Encoder::new(&centroids).assign_twice(&data.vectors, reach, threads);
        if reach == 1.0 {
            assigned.iter_mut().for_each(|twice| twice[1] = LEFT_OUT);
        }
        let second = assigned.iter().filter(|twice| twice[1] != LEFT_OUT).count() as f64 / data.rows() as f64;
        let layout = Layout::new(data.dimensions, Metric::Cosine, bits, 1)?;
        let built = Lists::build(data, &layout, &centroids, &assigned)?;
        for share in SHARES {
            let probes = (centroids.len() as f64 * share / 100.0).round().max(1.0) as usize;
            let Found { codes, covered, recall: [a, b, c], by_bounds: (bounded, candidates) } =
                search(data, &layout, &built, probes)?;
            writeln!(
                out,
                "| {:.0} % | {bits} | {probes} ({share:.0} %) | {:.1} % | {covered:.3} | {a:.3} / {b:.3} / {c:.3} | {bounded:.3} ({candidates:.0}) |",
                second * 100.0,
                codes * 100.0
            )?;
        }
    }
    Ok(())
}

fn table_head(out: &mut String) -> Result<()> {
    writeln!(out, "| in two lists | bits | lists read | codes read | covered by the lists | recall 50 / 100 / 200 | recall by bounds (candidates) |")?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    Ok(())
}

/// What a calibration with vectors of the data says, and what queries find that are not in the data.
fn calibration(out: &mut String, data: &Data, layout: &Layout, centroids: &Centroids, threads: usize) -> Result<()> {
    let started = Instant::now();
    let assigned = Encoder::new(centroids).assign(&data.vectors, threads);
    let assigning = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let step = data.rows() / CALIBRATED;
    let queries: Vec<f32> =
        data.vectors.chunks_exact(data.dimensions).step_by(step.max(1)).take(CALIBRATED).flatten().copied().collect();
    let mut calibration = Calibration::new(layout, &queries, NEAREST);
    for (vectors, lists) in data.vectors.chunks(BLOCK * data.dimensions).zip(assigned.chunks(BLOCK)) {
        calibration.offer(vectors, lists, threads);
    }
    let calibrated = calibration.finish(centroids);
    let took = started.elapsed().as_secs_f64();
    let twice: Vec<[u32; 2]> = assigned.iter().map(|list| [*list, LEFT_OUT]).collect();
    let built = Lists::build(data, layout, centroids, &twice)?;
    writeln!(
        out,
        "Calibration with {CALIBRATED} vectors of the data takes {took:.2} s, assigning {assigning:.2} s:\n"
    )?;
    writeln!(out, "| recall asked for | lists read | codes read | recall of the queries, 1 bit |")?;
    writeln!(out, "|---|---|---|---|")?;
    for asked in [0.9, 0.95, 0.98, 0.99] {
        let probes = calibrated.probes(asked);
        let found = search(data, layout, &built, probes)?;
        writeln!(out, "| {asked} | {probes} | {:.1} % | {:.3} |", found.codes * 100.0, found.by_bounds.0)?;
    }
    writeln!(out)?;
    Ok(())
}
