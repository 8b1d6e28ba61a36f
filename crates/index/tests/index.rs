//! The index against exact distances, on vectors whose answers are known.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use fastrand::Rng;
use mysql_ml_index::{train, BlockBuilder, Candidate, Encoder, Layout, Limits, ListChooser, Metric, Scan, LEFT_OUT};

const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::Dot];

fn normal(rng: &mut Rng) -> f32 {
    (-2.0 * (1.0 - rng.f32()).ln()).sqrt() * (std::f32::consts::TAU * rng.f32()).cos()
}

/// Vectors around `clusters` centres, of different lengths, and away from the origin.
fn clustered(rng: &mut Rng, rows: usize, dimensions: usize, clusters: usize) -> Vec<f32> {
    let centres: Vec<f32> = (0..clusters * dimensions).map(|_| normal(rng) + 0.3).collect();
    let mut vectors = Vec::with_capacity(rows * dimensions);
    for _ in 0..rows {
        let centre = rng.usize(..clusters) * dimensions;
        let size = 0.5 + rng.f32();
        vectors.extend(centres[centre..centre + dimensions].iter().map(|x| (x + 0.7 * normal(rng)) * size));
    }
    vectors
}

fn uniform(rng: &mut Rng, rows: usize, dimensions: usize) -> Vec<f32> {
    (0..rows * dimensions).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let sum = |f: fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(f64::from(*x), f64::from(*y))).sum::<f64>();
    match metric {
        Metric::L2 => sum(|x, y| (x - y) * (x - y)),
        Metric::Cosine => 1.0 - sum(|x, y| x * y) / (sum(|x, _| x * x) * sum(|_, y| y * y)).sqrt(),
        Metric::Dot => -sum(|x, y| x * y),
    }
}

/// An index in memory: the rows of its tables. A key is the number of its vector.
struct Index {
    layout: Layout,
    centroids: Vec<Vec<u8>>,
    blocks: Vec<Vec<Vec<u8>>>,
}

impl Index {
    fn build(layout: Layout, vectors: &[f32], lists: usize, codes_a_block: usize) -> Index {
        let centroids = train(&layout, vectors, lists, 2, &|| false).unwrap();
        let encoder = Encoder::new(&centroids);
        let mut builders: Vec<Vec<BlockBuilder>> = (0..centroids.len()).map(|_| Vec::new()).collect();
        let rows = vectors.chunks_exact(layout.dimensions());
        for ((key, vector), list) in (0_u32..).zip(rows).zip(encoder.assign(vectors, 2)) {
            if list == LEFT_OUT {
                continue;
            }
            let builders = &mut builders[list as usize];
            if builders.last().is_none_or(|b| b.len() >= codes_a_block) {
                builders.push(BlockBuilder::new(&layout));
            }
            let code = encoder.encode(vector, list).unwrap();
            builders.last_mut().unwrap().push(&key.to_be_bytes(), &code).unwrap();
        }
        let blocks = builders.into_iter().map(|list| list.into_iter().map(BlockBuilder::finish).collect()).collect();
        let rows = (0..centroids.len()).map(|list| centroids.encode(list).unwrap()).collect();
        Index { layout, centroids: rows, blocks }
    }

    fn search(&self, query: &[f32], probes: usize, limits: Limits) -> Vec<Candidate> {
        let mut chooser = ListChooser::new(&self.layout, query, probes).unwrap();
        for (list, row) in (0..).zip(&self.centroids) {
            chooser.offer(list, row).unwrap();
        }
        let mut scan = Scan::new(&self.layout, query, limits).unwrap();
        for near in chooser.finish() {
            for block in &self.blocks[near.list as usize] {
                scan.offer(&self.centroids[near.list as usize], block).unwrap();
            }
        }
        scan.finish()
    }
}

const ALL: Limits = Limits { k: 10, least: usize::MAX, most: usize::MAX };

fn key(candidate: &Candidate) -> usize {
    u32::from_be_bytes(candidate.key.as_slice().try_into().unwrap()) as usize
}

fn row(vectors: &[f32], dimensions: usize, at: usize) -> &[f32] {
    &vectors[at * dimensions..(at + 1) * dimensions]
}

#[test]
fn estimates_are_unbiased_and_bounds_hold() {
    let mut rng = Rng::with_seed(1);
    let (dimensions, rows) = (200, 1500);
    for clusters in [0, 12] {
        let vectors = match clusters {
            0 => uniform(&mut rng, rows, dimensions),
            n => clustered(&mut rng, rows, dimensions, n),
        };
        for metric in METRICS {
            for bits in 1..=4 {
                let layout = Layout::new(dimensions, metric, bits, 11).unwrap();
                let index = Index::build(layout, &vectors, 12, 100);
                let (mut bias, mut spread, mut margins, mut beyond, mut count) = (0.0, 0.0, 0.0, 0, 0);
                for _ in 0..40 {
                    let query: Vec<f32> = row(&vectors, dimensions, rng.usize(..rows))
                        .iter()
                        .map(|x| x + 0.3 * normal(&mut rng))
                        .collect();
                    let found = index.search(&query, 12, ALL);
                    assert_eq!(found.len(), rows);
                    for candidate in &found {
                        let exact = distance(metric, row(&vectors, dimensions, key(candidate)), &query);
                        let error = f64::from(candidate.estimate) - exact;
                        let margin = f64::from(candidate.estimate - candidate.lower_bound);
                        bias += error / margin;
                        spread += (error / margin).powi(2);
                        margins += margin / (exact.abs() + 1e-9);
                        beyond += usize::from(exact < f64::from(candidate.lower_bound));
                        count += 1;
                    }
                }
                let n = f64::from(count);
                let what = format!("{metric:?}, {bits} bits, {clusters} clusters");
                println!(
                    "{what}: bias {:.4}, deviation {:.3} of the margin, margin {:.3} of the distance, beyond {:.4}",
                    bias / n,
                    (spread / n).sqrt(),
                    margins / n,
                    beyond as f64 / n
                );
                assert!((bias / n).abs() < 0.03, "{what}: the mean error is {} margins", bias / n);
                // The margin is 1.9 deviations.
                let deviation = (spread / n).sqrt() * 1.9;
                assert!((0.6..1.15).contains(&deviation), "{what}: the deviation is {deviation} of that expected");
                assert!((beyond as f64) < 0.045 * n, "{what}: {beyond} of {count} are below the lower bound");
            }
        }
    }
}
