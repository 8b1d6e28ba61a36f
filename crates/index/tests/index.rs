//! The index against exact distances, on vectors whose answers are known.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::sync::atomic::{AtomicUsize, Ordering};

use fastrand::Rng;
use mysql_ml_index::{
    train, Block, BlockBuilder, Calibration, Candidate, Centroids, Code, Encoder, Layout, Limits, ListChooser, Metric,
    Scan, Stopped, LEFT_OUT,
};

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

fn recall(
    metric: Metric,
    vectors: &[f32],
    dimensions: usize,
    index: &Index,
    queries: &[Vec<f32>],
    probes: usize,
) -> f64 {
    let mut found = 0;
    for query in queries {
        let mut exact: Vec<(f64, usize)> =
            vectors.chunks_exact(dimensions).enumerate().map(|(at, v)| (distance(metric, v, query), at)).collect();
        exact.sort_by(|a, b| a.0.total_cmp(&b.0));
        let limits = Limits { k: 10, least: 20, most: 200 };
        let mut candidates: Vec<usize> = index.search(query, probes, limits).iter().map(key).collect();
        candidates.sort_by(|a, b| {
            let exact = |at: usize| distance(metric, row(vectors, dimensions, at), query);
            exact(*a).total_cmp(&exact(*b))
        });
        candidates.truncate(10);
        found += exact.iter().take(10).filter(|(_, at)| candidates.contains(at)).count();
    }
    found as f64 / (queries.len() * 10) as f64
}

#[test]
fn the_nearest_rows_are_found_after_an_exact_comparison() {
    let mut rng = Rng::with_seed(2);
    let (dimensions, rows) = (96, 6000);
    let mut vectors = clustered(&mut rng, rows + 60, dimensions, 60);
    let queries: Vec<Vec<f32>> = vectors.split_off(rows * dimensions).chunks(dimensions).map(<[f32]>::to_vec).collect();
    for metric in METRICS {
        for bits in [1, 4] {
            let index = Index::build(Layout::new(dimensions, metric, bits, 5).unwrap(), &vectors, 60, 64);
            let found = recall(metric, &vectors, dimensions, &index, &queries, 30);
            println!("{metric:?}, {bits} bits: recall {found}");
            assert!(found >= 0.97, "{metric:?}, {bits} bits: recall {found}");
        }
    }
}

#[test]
fn vectors_of_every_width_are_found() {
    let mut rng = Rng::with_seed(3);
    for dimensions in [1, 2, 3, 64, 100, 768, 1537, 16_383] {
        for (metric, bits) in [(Metric::L2, 1), (Metric::Cosine, 2), (Metric::Dot, 4)] {
            let rows = 40;
            let vectors = uniform(&mut rng, rows, dimensions);
            let index = Index::build(Layout::new(dimensions, metric, bits, 8).unwrap(), &vectors, 4, 7);
            for at in [0, 17, 39] {
                let query = row(&vectors, dimensions, at);
                let found = index.search(query, usize::MAX, ALL);
                assert_eq!(found.iter().map(key).collect::<std::collections::HashSet<_>>().len(), rows);
                assert!(found.is_sorted_by(|a, b| a.estimate <= b.estimate));
                let own = found.iter().find(|c| key(c) == at).unwrap();
                let exact = distance(metric, query, query);
                // Three margins: 1.9 deviations each.
                let margin = 3.0 * f64::from(own.estimate - own.lower_bound) + 1e-6;
                let error = (f64::from(own.estimate) - exact).abs();
                assert!(error <= margin, "{metric:?}, {dimensions} dimensions: {error} above {margin}");
            }
        }
    }
}

#[test]
fn equal_vectors_make_one_list() {
    for metric in METRICS {
        let layout = Layout::new(5, metric, 1, 1).unwrap();
        let vectors = [1.0, -2.0, 3.0, 0.5, 4.0].repeat(500);
        let index = Index::build(layout, &vectors, 16, 100);
        assert_eq!((index.centroids.len(), index.blocks[0].len()), (1, 5));
        let found = index.search(&vectors[..5], 1, ALL);
        let exact = distance(metric, &vectors[..5], &vectors[..5]);
        assert_eq!(found.len(), 500);
        assert!(found.iter().all(|c| (f64::from(c.estimate) - exact).abs() < 1e-3 && c.lower_bound <= c.estimate));
    }
}

#[test]
fn there_are_no_more_lists_than_vectors() {
    let layout = Layout::new(3, Metric::L2, 1, 1).unwrap();
    let vectors = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    assert_eq!(train(&layout, &vectors, 100, 2, &|| false).unwrap().len(), 3);
    for nothing in [&[] as &[f32], &[f32::NAN; 3], &[1.0, 2.0]] {
        let centroids = train(&layout, nothing, 100, 2, &|| false).unwrap();
        assert_eq!(centroids.len(), 1);
        assert!(centroids.get(0).unwrap().iter().all(|x| *x == 0.0));
    }
}

#[test]
fn empty_lists_are_filled_from_large_ones() {
    // Eight distinct points, of which one is nearly all of the sample: most initial centroids are that one.
    let mut vectors = [9.0, 9.0].repeat(900);
    for i in 0..7 {
        for n in 0..10 {
            vectors.extend([i as f32 * 10.0 - 40.0, n as f32 * 0.001]);
        }
    }
    let layout = Layout::new(2, Metric::L2, 1, 3).unwrap();
    let centroids = train(&layout, &vectors, 8, 2, &|| false).unwrap();
    let assigned = Encoder::new(&centroids).assign(&vectors, 1);
    let used: std::collections::HashSet<u32> = assigned.iter().copied().collect();
    assert_eq!(used.len(), centroids.len(), "every list has vectors");
    assert!(centroids.len() >= 4, "{} lists", centroids.len());
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let mut rng = Rng::with_seed(4);
    let vectors = clustered(&mut rng, 1000, 70, 9);
    let layout = Layout::new(70, Metric::Cosine, 2, 77).unwrap();
    let alone = train(&layout, &vectors, 20, 1, &|| false).unwrap();
    assert!(alone == train(&layout, &vectors, 20, 5, &|| false).unwrap());
    let other = Layout::new(70, Metric::Cosine, 2, 78).unwrap();
    assert!(alone.encode(0) != train(&other, &vectors, 20, 1, &|| false).unwrap().encode(0));
    let encoder = Encoder::new(&alone);
    assert_eq!(encoder.assign(&vectors, 1), encoder.assign(&vectors, 4));
}

#[test]
fn training_stops_when_told() {
    let mut rng = Rng::with_seed(5);
    let vectors = uniform(&mut rng, 2000, 64);
    let layout = Layout::new(64, Metric::L2, 1, 1).unwrap();
    for pieces in [0, 1, 7] {
        let asked = AtomicUsize::new(0);
        let stop = || asked.fetch_add(1, Ordering::Relaxed) >= pieces;
        assert_eq!(train(&layout, &vectors, 50, 2, &stop).err(), Some(Stopped));
        assert_eq!(asked.into_inner(), pieces + 1);
    }
}

#[test]
fn what_has_no_place_in_the_index_is_left_out() {
    let centroids = |metric| {
        let layout = Layout::new(2, metric, 1, 1).unwrap();
        train(&layout, &[1.0, 2.0, -3.0, 1.0], 2, 1, &|| false).unwrap()
    };
    let vectors = [1.0, 2.0, f32::NAN, 0.0, 0.0, f32::NEG_INFINITY, 1e19, 0.0, 0.0, 0.0, -3.0, 1.0];
    for metric in METRICS {
        let centroids = centroids(metric);
        let layout = *centroids.layout();
        let encoder = Encoder::new(&centroids);
        let assigned = encoder.assign(&vectors, 1);
        let left_out: Vec<bool> = assigned.iter().map(|list| *list == LEFT_OUT).collect();
        assert_eq!(left_out, [false, true, true, true, metric == Metric::Cosine, false]);
        assert_ne!(assigned[0], assigned[5]);
        for (vector, left_out) in vectors.chunks(2).zip(left_out) {
            assert_eq!(encoder.encode(vector, 0).is_err(), left_out);
            assert_eq!(ListChooser::new(&layout, vector, 1).is_err(), left_out);
            assert_eq!(ListChooser::for_insert(&layout, vector).is_err(), left_out);
            assert_eq!(Scan::new(&layout, vector, ALL).is_err(), left_out);
        }
        assert!(encoder.encode(&[1.0], 0).is_err(), "another width");
        assert!(encoder.encode(&[1.0, 1.0], 2).is_err(), "no such list");
        assert!(encoder.encode(&[1.0, 1.0], LEFT_OUT).is_err(), "no list");
    }
}

#[test]
fn cosine_sees_no_lengths() {
    let mut rng = Rng::with_seed(6);
    let vectors = clustered(&mut rng, 300, 40, 6);
    let scaled: Vec<f32> = vectors.chunks(40).flat_map(|v| v.iter().map(|x| x * 1e-20)).collect();
    let layout = Layout::new(40, Metric::Cosine, 3, 1).unwrap();
    let (index, same) = (Index::build(layout, &vectors, 5, 50), Index::build(layout, &scaled, 5, 50));
    let (a, b) = (index.search(&vectors[..40], 5, ALL), same.search(&scaled[..40], 5, ALL));
    for (a, b) in a.iter().zip(&b) {
        assert!((a.estimate - b.estimate).abs() < 1e-3);
    }
}

#[test]
fn a_vector_is_inserted_where_training_puts_it() {
    let mut rng = Rng::with_seed(7);
    let vectors = clustered(&mut rng, 500, 30, 10);
    for metric in METRICS {
        let layout = Layout::new(30, metric, 1, 1).unwrap();
        let centroids = train(&layout, &vectors, 20, 1, &|| false).unwrap();
        let assigned = Encoder::new(&centroids).assign(&vectors, 1);
        let twice = Encoder::new(&centroids).assign_twice(&vectors, 1.1, 1);
        for ((vector, list), twice) in vectors.chunks(30).zip(assigned).zip(twice) {
            let mut chooser = ListChooser::for_insert(&layout, vector).unwrap();
            for list in 0..centroids.len() {
                chooser.offer(list as u32, &centroids.encode(list).unwrap()).unwrap();
            }
            assert_eq!((chooser.finish()[0].list, twice[0]), (list, list));
            // One centroid is enough to encode.
            let one = Centroids::from_rows(&layout, [centroids.encode(list as usize).unwrap()]).unwrap();
            let code = Encoder::new(&one).encode(vector, 0).unwrap();
            assert!(code == Encoder::new(&centroids).encode(vector, list).unwrap());
        }
    }
}

#[test]
fn the_nearest_lists_come_first() {
    let layout = Layout::new(1, Metric::L2, 1, 1).unwrap();
    let centroids = train(&layout, &[0.0, 1.0, 2.0, 3.0, 10.0], 5, 1, &|| false).unwrap();
    let mut chooser = ListChooser::new(&layout, &[2.9], 3).unwrap();
    for list in 0..5 {
        chooser.offer(100 + list, &centroids.encode(list as usize).unwrap()).unwrap();
    }
    let squares: Vec<i32> = chooser.finish().iter().map(|near| (near.distance * 100.0).round() as i32).collect();
    assert_eq!(squares, [1, 81, 361]);
    let mut none = ListChooser::new(&layout, &[2.9], 0).unwrap();
    none.offer(1, &centroids.encode(0).unwrap()).unwrap();
    assert!(none.finish().is_empty());
}

type Keyed = (Vec<u8>, Code);

/// A layout, a centroid's row, codes in its list with keys, and their vectors.
fn some_codes(metric: Metric, bits: u8, codes: usize) -> (Layout, Vec<u8>, Vec<Keyed>, Vec<f32>) {
    let mut rng = Rng::with_seed(8);
    let vectors = clustered(&mut rng, codes, 130, 3);
    let layout = Layout::new(130, metric, bits, 2).unwrap();
    let centroids = train(&layout, &vectors, 1, 1, &|| false).unwrap();
    let encoder = Encoder::new(&centroids);
    let codes = vectors.chunks(130).map(|v| (vec![b'k'; rng.usize(..9)], encoder.encode(v, 0).unwrap())).collect();
    (layout, centroids.encode(0).unwrap(), codes, vectors)
}

fn block(layout: &Layout, codes: &[Keyed]) -> Vec<u8> {
    let mut builder = BlockBuilder::new(layout);
    for (key, code) in codes {
        builder.push(key, code).unwrap();
    }
    assert_eq!(builder.len(), codes.len());
    let bytes = builder.bytes();
    let block = builder.finish();
    assert_eq!(block.len(), bytes);
    block
}

#[test]
fn a_block_has_the_codes_and_keys_that_were_pushed() {
    for metric in METRICS {
        for bits in 1..=4 {
            for count in [0, 1, 2, 7, 8, 9, 100, 700] {
                let (layout, _, codes, _) = some_codes(metric, bits, count.max(1));
                let codes = &codes[..count];
                let bytes = block(&layout, codes);
                let read = Block::parse(&layout, &bytes).unwrap();
                assert_eq!((read.len(), read.is_empty()), (count, count == 0));
                assert!(read.keys().eq(codes.iter().map(|(key, _)| key.as_slice())));
                let again: Vec<Keyed> = read.codes().map(|(key, code)| (key.to_vec(), code)).collect();
                // Factors that the metric does not use are not stored, so bytes are compared.
                assert_eq!(block(&layout, &again), bytes);
                assert!(Block::parse(&Layout::new(130, metric, bits, 3).unwrap(), &bytes).is_err(), "another seed");
            }
        }
    }
}

#[test]
fn blocks_of_any_size_give_the_same_estimates() {
    for bits in [1, 3] {
        let (layout, centroid, codes, vectors) = some_codes(Metric::L2, bits, 1100);
        let codes: Vec<Keyed> =
            codes.into_iter().enumerate().map(|(at, (_, code))| ((at as u32).to_be_bytes().to_vec(), code)).collect();
        let scan = |size: usize| {
            let mut scan = Scan::new(&layout, &vectors[..130], ALL).unwrap();
            for codes in codes.chunks(size) {
                scan.offer(&centroid, &block(&layout, codes)).unwrap();
            }
            scan.finish()
        };
        let whole = scan(1100);
        for size in [1, 3, 511, 513] {
            assert_eq!(scan(size), whole);
        }
    }
}

#[test]
fn mutated_blocks_never_panic() {
    let mut rng = Rng::with_seed(9);
    for metric in METRICS {
        let (layout, centroid, codes, vectors) = some_codes(metric, 2, 20);
        let good = block(&layout, &codes);
        let mut read = 0;
        for _ in 0..20_000 {
            let mut bad = good.clone();
            match rng.u8(..4) {
                0 => bad.truncate(rng.usize(..=good.len())),
                1 => bad.extend((0..rng.usize(1..40)).map(|_| rng.u8(..))),
                // Sizes and ends of keys: the header and the last part.
                2 => bad[rng.usize(..16)] = rng.u8(..),
                _ => {}
            }
            for _ in 0..rng.usize(..4) {
                if !bad.is_empty() {
                    let at = if rng.bool() {
                        rng.usize(..bad.len())
                    } else {
                        bad.len() - 1 - rng.usize(..bad.len().min(150))
                    };
                    bad[at] = rng.u8(..);
                }
            }
            let parsed = Block::parse(&layout, &bad);
            if let Ok(parsed) = &parsed {
                read += 1;
                assert!(parsed.len() * 4 <= bad.len());
                assert_eq!(parsed.keys().count(), parsed.len());
                assert!(parsed.keys().map(<[u8]>::len).sum::<usize>() <= bad.len());
                assert_eq!(parsed.codes().count(), parsed.len());
            }
            let mut scan = Scan::new(&layout, &vectors[..130], Limits { k: 3, least: 3, most: 5 }).unwrap();
            if scan.offer(&centroid, &bad).is_ok() {
                assert!(parsed.is_ok());
                assert!(scan.finish().iter().all(|c| c.estimate.is_finite() && c.lower_bound.is_finite()));
            }
            let mut row = centroid.clone();
            row[rng.usize(..8)] = rng.u8(..);
            row.truncate(rng.usize(row.len() - 3..=row.len()));
            let _ = scan_row(&layout, &vectors[..130], &row, &good);
        }
        assert!(read > 1000, "{read} mutated blocks were read");
    }
}

fn scan_row(layout: &Layout, query: &[f32], centroid: &[u8], block: &[u8]) -> Option<Vec<Candidate>> {
    let mut scan = Scan::new(layout, query, ALL).unwrap();
    scan.offer(centroid, block).ok()?;
    Some(scan.finish())
}

#[test]
fn a_query_next_to_a_centroid_overflows_nothing() {
    for metric in [Metric::L2, Metric::Dot] {
        let layout = Layout::new(3, metric, 2, 1).unwrap();
        let centroids = train(&layout, &[0.0; 3], 1, 1, &|| false).unwrap();
        let code = Encoder::new(&centroids).encode(&[1.0, 2.0, 3.0], 0).unwrap();
        let found = scan_row(
            &layout,
            &[1e-40, -2e-40, 1e-40],
            &centroids.encode(0).unwrap(),
            &block(&layout, &[(b"k".to_vec(), code)]),
        );
        let found = found.unwrap();
        assert!(found.len() == 1 && found[0].estimate.is_finite(), "{found:?}");
    }
}

#[test]
fn a_header_that_promises_more_than_there_is_is_refused() {
    let (layout, _, codes, _) = some_codes(Metric::L2, 1, 3);
    let good = block(&layout, &codes);
    for at in [8, 12] {
        for count in [4_u32, u32::MAX / 2, u32::MAX] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&count.to_le_bytes());
            assert!(Block::parse(&layout, &bad).is_err());
        }
    }
    for end in 0..good.len() {
        assert!(Block::parse(&layout, &good[..end]).is_err());
    }
}

#[test]
fn a_scan_returns_what_its_limits_say() {
    let (layout, centroid, codes, vectors) = some_codes(Metric::L2, 1, 400);
    let codes: Vec<Keyed> =
        codes.into_iter().enumerate().map(|(at, (_, code))| ((at as u32 % 300).to_be_bytes().to_vec(), code)).collect();
    let blocks: Vec<Vec<u8>> = codes.chunks(37).map(|codes| block(&layout, codes)).collect();
    let scan = |k, least, most| {
        let mut scan = Scan::new(&layout, &vectors[..130], Limits { k, least, most }).unwrap();
        for block in &blocks {
            scan.offer(&centroid, block).unwrap();
        }
        scan.finish()
    };
    let all = scan(10, 400, 400);
    assert_eq!(all.len(), 300, "each key once");
    assert!(all.is_sorted_by(|a, b| a.estimate <= b.estimate));
    for (k, least, most) in [(10, 0, 400), (1, 0, 400), (10, 30, 400), (10, 0, 15), (10, 50, 20), (0, 7, 30), (5, 0, 0)]
    {
        let found = scan(k, least, most);
        assert!(found.len() >= least.min(most) && found.len() <= most, "{k} {least} {most}: {}", found.len());
        assert!(found.iter().all(|c| all[..most.min(300)].contains(c)), "the nearest ones");
    }
    // The bound is the k-th upper one.
    let mut upper: Vec<f32> = all.iter().map(|c| 2.0 * c.estimate - c.lower_bound).collect();
    upper.sort_by(f32::total_cmp);
    let within = all.iter().filter(|c| c.lower_bound <= upper[9]).count();
    assert_eq!(scan(10, 0, 400).len(), within);
    assert!(within < 300);
    // The better of two codes of a key counts.
    for candidate in &all {
        assert_eq!(all.iter().filter(|c| c.key == candidate.key).count(), 1);
    }
}

#[test]
fn calibration_finds_how_many_lists_have_the_nearest_rows() {
    let mut rng = Rng::with_seed(10);
    let (dimensions, rows) = (70, 3000);
    let mut vectors = clustered(&mut rng, rows, dimensions, 100);
    vectors[5] = f32::NAN;
    for metric in METRICS {
        let layout = Layout::new(dimensions, metric, 1, 4).unwrap();
        let centroids = train(&layout, &vectors, 40, 2, &|| false).unwrap();
        let rows_of_lists: Vec<Vec<u8>> = (0..centroids.len()).map(|list| centroids.encode(list).unwrap()).collect();
        let assigned = Encoder::new(&centroids).assign(&vectors, 2);
        // The first vector cannot be used.
        let queries = &vectors[..101 * dimensions];
        let mut calibration = Calibration::new(&layout, queries, 10);
        for (vectors, lists) in vectors.chunks(700 * dimensions).zip(assigned.chunks(700)) {
            calibration.offer(vectors, lists, 2);
        }
        let calibrated = calibration.finish(&centroids);
        assert!(calibrated.probes(0.5) <= calibrated.probes(0.9) && calibrated.probes(0.9) <= calibrated.probes(1.0));
        assert!(calibrated.probes(1.0) <= 40 && calibrated.probes(0.0) >= 1);

        // The same, slowly.
        let share = |probes: usize| {
            let mut covered = 0;
            for at in 1..101 {
                let query = row(&vectors, dimensions, at);
                let mut exact: Vec<(f64, usize)> = (1..rows)
                    .filter(|other| *other != at || metric == Metric::Dot)
                    .map(|other| (distance(metric, query, row(&vectors, dimensions, other)), other))
                    .collect();
                exact.sort_by(|a, b| a.0.total_cmp(&b.0));
                let mut chooser = ListChooser::new(&layout, query, probes).unwrap();
                for (list, row) in (0..).zip(&rows_of_lists) {
                    chooser.offer(list, row).unwrap();
                }
                let lists: Vec<u32> = chooser.finish().iter().map(|near| near.list).collect();
                covered += exact.iter().take(10).filter(|(_, other)| lists.contains(&assigned[*other])).count();
            }
            f64::from(covered as u32) / 1000.0
        };
        for recall in [0.5, 0.9, 0.98] {
            let probes = calibrated.probes(recall);
            assert!(share(probes) >= recall - 0.002, "{metric:?}: {probes} lists have {}", share(probes));
            assert!(
                probes == 1 || share(probes - 1) < recall + 0.002,
                "{metric:?}: fewer than {probes} lists have as much"
            );
        }
    }
    let layout = Layout::new(3, Metric::L2, 1, 4).unwrap();
    let centroids = train(&layout, &[1.0, 2.0, 3.0, 5.0, 6.0, 7.0], 2, 1, &|| false).unwrap();
    assert_eq!(Calibration::new(&layout, &[], 10).finish(&centroids).probes(0.98), 2, "all lists without a query");
}
