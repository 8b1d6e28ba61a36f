//! A scan: estimated distances of the codes in blocks, of which the nearest become candidates.

use std::collections::HashSet;

use multiversion::multiversion;
use mysql_ml_base::error::Result;

use crate::block::{broken, Block};
use crate::centroids::Row;
use crate::code;
use crate::layout::{Layout, Metric};
use crate::space::Space;
use crate::sums;

/// Bits of a query's coordinate.
const QUERY_BITS: usize = 6;

/// Bounds are this many standard deviations of the estimate away: 97 % of the distances are not below the lower one.
const DEVIATIONS: f32 = 1.9;

/// What a scan returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The number of rows that the search wants.
    pub k: usize,
    /// The nearest candidates that are returned whatever their bounds are.
    pub least: usize,
    /// The most candidates. The scan keeps at most twice as many.
    pub most: usize,
}

impl Limits {
    /// The recommended limits for the `k` nearest rows. The bounds of codes of one bit ask for 30 to 100 candidates for
    /// 10 rows, and for fewer with more bits.
    pub fn of(k: usize) -> Limits {
        Limits { k, least: k.saturating_mul(2), most: k.saturating_mul(10).saturating_add(400) }
    }
}

/// A row that may be among the nearest.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The key of the row.
    pub key: Vec<u8>,
    /// The estimated distance by the metric: squared for L2.
    pub estimate: f32,
    /// The distance is hardly less.
    pub lower_bound: f32,
}

/// Searches blocks for the vectors nearest to a query.
pub struct Scan {
    space: Space,
    query: Vec<f32>,
    limits: Limits,
    /// The row of the centroid for which `rounded` was made.
    centroid: Vec<u8>,
    rounded: Rounded,
    pool: Vec<Found>,
    /// Estimates above this are of no use.
    worst: f32,
    work: Work,
}

/// Room for the numbers of a block.
#[derive(Default)]
struct Work {
    sums: Vec<i64>,
    estimates: Vec<f32>,
    margins: Vec<f32>,
}

struct Found {
    estimate: f32,
    /// The distance of the bounds from the estimate.
    margin: f32,
    key: Vec<u8>,
}

/// The query relative to a centroid, rounded to small integers.
#[derive(Default)]
struct Rounded {
    /// For each 64 dimensions, the integers' bits, in two's complement.
    planes: Vec<[u64; QUERY_BITS]>,
    /// The sum of the integers.
    total: f32,
    estimator: Estimator,
}

/// The numbers by which sums become estimates and margins.
#[derive(Default, Clone, Copy)]
struct Estimator {
    /// The estimate is `base + square_factor * square + cross_factor * cross - product_factor * rescale * product`.
    base: f32,
    square_factor: f32,
    cross_factor: f32,
    product_factor: f32,
    /// The product is `sum * step - offset`.
    step: f32,
    offset: f32,
    /// The margin is the root of `error_factor * error² + noise_factor * square`, and `slack` of the magnitudes.
    error_factor: f32,
    noise_factor: f32,
}

/// Rounding of single precision, relative to the terms of an estimate.
const SLACK: f32 = 1e-6;

impl Scan {
    /// A scan for `query`. Errors for vectors that have no place in the index.
    pub fn new(layout: &Layout, query: &[f32], limits: Limits) -> Result<Self> {
        let space = Space::new(layout);
        let query = space.prepare(query)?;
        Ok(Scan {
            space,
            query,
            limits,
            centroid: Vec::new(),
            rounded: Rounded::default(),
            pool: Vec::new(),
            worst: f32::INFINITY,
            work: Work::default(),
        })
    }

    /// Scans a block of the list with this centroid. Blocks of one list are best offered one after the other. Errors
    /// for a damaged row or block.
    pub fn offer(&mut self, centroid: &[u8], block: &[u8]) -> Result<()> {
        if self.centroid != centroid {
            let row = Row::parse(&self.space.layout, centroid)?;
            self.rounded.round(&self.space, &self.query, row);
            self.centroid.clear();
            self.centroid.extend_from_slice(centroid);
        }
        let block = Block::parse(&self.space.layout, block)?;
        let work = &mut self.work;
        work.sums.clear();
        work.sums.resize(block.len(), 0);
        products(block.words, &self.rounded.planes, &mut work.sums);
        work.estimates.resize(block.len(), 0.0);
        work.margins.resize(block.len(), 0.0);
        if !estimates(&self.rounded.estimator, &work.sums, block.factors, &mut work.estimates, &mut work.margins) {
            return Err(broken());
        }
        for (at, (estimate, margin)) in self.work.estimates.iter().zip(&self.work.margins).enumerate() {
            if *estimate <= self.worst {
                self.pool.push(Found { estimate: *estimate, margin: *margin, key: block.key(at).to_vec() });
                if self.pool.len() >= self.limits.most.saturating_mul(2).max(1) {
                    self.worst = compact(&mut self.pool, self.limits.most);
                }
            }
        }
        Ok(())
    }

    /// The candidates by their estimates, each key once: those whose lower bound is not beyond the `k`-th upper bound,
    /// but at least `least` and at most `most`.
    pub fn finish(mut self) -> Vec<Candidate> {
        compact(&mut self.pool, self.limits.most);
        let mut upper: Vec<f32> = self.pool.iter().map(|f| f.estimate + f.margin).collect();
        upper.sort_by(f32::total_cmp);
        let bound = self.limits.k.checked_sub(1).and_then(|k| upper.get(k)).copied();
        let bound = bound.unwrap_or(if self.limits.k == 0 { f32::NEG_INFINITY } else { f32::INFINITY });
        let candidates = self.pool.into_iter().enumerate().filter_map(|(at, Found { estimate, margin, key })| {
            let lower_bound = estimate - margin;
            (at < self.limits.least || lower_bound <= bound).then_some(Candidate { key, estimate, lower_bound })
        });
        candidates.collect()
    }
}

/// Sorts by estimate, and keeps the nearest `most`, each key once. Returns the estimate that further ones must not
/// exceed.
fn compact(pool: &mut Vec<Found>, most: usize) -> f32 {
    pool.sort_by(|a, b| a.estimate.total_cmp(&b.estimate).then_with(|| a.key.cmp(&b.key)));
    let mut seen = HashSet::with_capacity(pool.len());
    let keep: Vec<bool> = pool.iter().map(|found| seen.len() < most && seen.insert(found.key.as_slice())).collect();
    let mut keep = keep.into_iter();
    pool.retain(|_| keep.next().unwrap_or(false));
    match pool.last() {
        Some(last) if pool.len() >= most => last.estimate,
        _ if most == 0 => f32::NEG_INFINITY,
        _ => f32::INFINITY,
    }
}

impl Rounded {
    fn round(&mut self, space: &Space, query: &[f32], centroid: Row<'_>) {
        let (integers, scale) = (centroid.integers, centroid.scale);
        // For products, a multiple of the centroid is exact, because codes have their product with it.
        let (share, product) = match space.layout.metric() {
            Metric::L2 | Metric::Cosine => (1.0, 0.0),
            Metric::Dot => {
                let product = sums::scaled_product(query, integers, scale);
                let square: f32 = centroid.values().map(|x| x * x).sum();
                (if square > 0.0 { product / square } else { 0.0 }, product)
            }
        };
        let mut rest = vec![0.0; query.len()];
        subtract(query, integers, scale * share, &mut rest);
        let square = sums::product(&rest, &rest);
        let largest = rest.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        let highest = ((1 << (QUERY_BITS - 1)) - 1) as f32;
        // A smaller one has no finite inverse.
        let step = (largest / highest).max(f32::MIN_POSITIVE);
        self.planes.clear();
        let mut total = 0;
        for rest in rest.as_chunks::<64>().0 {
            let mut numbers = [0; 64];
            total += small_integers(rest, 1.0 / step, &mut numbers);
            let [a, b, c, d, e, f, ..] = code::planes(&numbers);
            self.planes.push([a, b, c, d, e, f]);
        }
        self.total = total as f32;
        let padded = query.len() as f32;
        let middle = ((1_u16 << space.layout.bits()) - 1) as f32 / 2.0;
        // The variance of a coordinate's rounding.
        let noise = step * step / 12.0;
        let (base, square_factor, cross_factor, product_factor) = match space.layout.metric() {
            Metric::L2 => (square, 1.0, 0.0, 2.0),
            Metric::Cosine => (square / 2.0, 0.5, 0.0, 1.0),
            Metric::Dot => (-product, 0.0, -share, 1.0),
        };
        let width = DEVIATIONS * product_factor;
        self.estimator = Estimator {
            base,
            square_factor,
            cross_factor,
            product_factor,
            step,
            offset: step * middle * self.total,
            error_factor: width * width * (square + noise * (padded - 1.0)),
            noise_factor: width * width * noise,
        };
    }
}

/// `a` less the integers `b` times `scale`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn subtract(a: &[f32], b: &[[u8; 2]], scale: f32, out: &mut [f32]) {
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        *out = a - f32::from(i16::from_le_bytes(*b)) * scale;
    }
}

/// Rounds to integers, written in two's complement. Returns their sum.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn small_integers(x: &[f32; 64], inverse: f32, out: &mut [u8; 64]) -> i32 {
    let mut total = 0;
    for (x, out) in x.iter().zip(out) {
        // Adding and subtracting 1.5 * 2^23 rounds to an integer.
        let integer = (x * inverse + 12_582_912.0 - 12_582_912.0) as i32;
        total += integer;
        *out = integer as u8;
    }
    total
}

/// Codes whose sums are computed at once; they stay in the processor's cache.
const CHUNK: usize = 512;

/// Adds the sum over all dimensions of code times query for each code.
///
/// `words` is `[bits, padded / 64, codes]`, `query` has the bits of 64 dimensions each.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx512vpopcntdq+avx2+popcnt",
    "x86_64+avx2+popcnt",
    "x86_64+popcnt"
))]
fn products(words: &[[u8; 8]], query: &[[u64; QUERY_BITS]], sums: &mut [i64]) {
    let count = sums.len().max(1);
    for (chunk, sums) in sums.chunks_mut(CHUNK).enumerate() {
        let begin = chunk * CHUNK;
        for (bit, plane) in words.chunks_exact(count * query.len().max(1)).enumerate() {
            for (words, [a, b, c, d, e, f]) in plane.chunks_exact(count).zip(query) {
                let Some(words) = words.get(begin..begin + sums.len()) else { continue };
                for (sum, word) in sums.iter_mut().zip(words) {
                    let word = u64::from_le_bytes(*word);
                    let count = |plane: &u64| i64::from((word & plane).count_ones());
                    // The highest bit of two's complement counts negatively.
                    let product = count(a) + (count(b) << 1) + (count(c) << 2) + (count(d) << 3) + (count(e) << 4)
                        - (count(f) << 5);
                    *sum += product << bit;
                }
            }
        }
    }
}

/// Estimates and margins of all codes; false if one is not finite.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn estimates(
    estimator: &Estimator,
    sums: &[i64],
    factors: &[[u8; 4]],
    estimates: &mut [f32],
    margins: &mut [f32],
) -> bool {
    let e = *estimator;
    let (squares, factors) = factors.split_at(sums.len().min(factors.len()));
    let (rescales, factors) = factors.split_at(sums.len().min(factors.len()));
    let (errors, crosses) = factors.split_at(sums.len().min(factors.len()));
    // Without this factor its place is taken by another, times 0.
    let crosses = if crosses.len() == sums.len() { crosses } else { squares };
    let number = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
    let mut infinite = 0;
    let codes = sums.iter().zip(squares).zip(rescales).zip(errors).zip(crosses);
    for (((((sum, square), rescale), error), cross), (estimate, margin)) in codes.zip(estimates.iter_mut().zip(margins))
    {
        let (square, rescale, error, cross) = (number(square), number(rescale), number(error), number(cross));
        let product = rescale * (*sum as f32 * e.step - e.offset);
        let fixed = e.base + e.square_factor * square;
        *estimate = fixed + e.cross_factor * cross - e.product_factor * product;
        let slack = SLACK * (fixed.abs() + (e.cross_factor * cross).abs() + product.abs());
        *margin = (e.error_factor * error * error + e.noise_factor * square).sqrt() + slack;
        // All bits of the exponent are set if it is not finite.
        infinite |= u32::from((*estimate + *margin).to_bits() & 0x7f80_0000 == 0x7f80_0000);
    }
    infinite == 0
}
