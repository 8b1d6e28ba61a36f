//! The code of one vector: a grid point in the direction of its difference from the centroid, and factors.

use multiversion::multiversion;

use crate::layout::{Layout, Metric};
use crate::sums;

/// Steps of the grid that are tried, in terms of the best one for normally distributed coordinates.
const STEPS: [f32; 9] = [0.7, 0.8, 0.87, 0.94, 1.0, 1.07, 1.15, 1.25, 1.4];

/// The best step of a uniform grid of 2, 4, 8, 16 levels for the normal distribution (Max, 1960).
const NORMAL_STEPS: [f32; 4] = [1.5958, 0.9957, 0.5860, 0.3352];

/// The factors of a code, from which a scan estimates distances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Factors {
    /// The squared length of the difference from the centroid.
    pub(crate) square: f32,
    /// The estimated product of a vector with the difference is its product with the grid point times this.
    pub(crate) rescale: f32,
    /// The standard deviation of that estimate, for a vector of length 1.
    pub(crate) error: f32,
    /// The product of centroid and difference. Only [`Metric::Dot`] stores it.
    pub(crate) cross: f32,
}

/// The code of one vector in one list.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    pub(crate) factors: Factors,
    /// `[bits, padded / 64]`: the lowest bits of all dimensions first.
    pub(crate) words: Vec<u64>,
}

impl Code {
    /// The number of factors that a block stores.
    pub(crate) fn factor_count(layout: &Layout) -> usize {
        match layout.metric() {
            Metric::L2 | Metric::Cosine => 3,
            Metric::Dot => 4,
        }
    }

    pub(crate) fn new(layout: &Layout, residual: &[f32], centroid: &[f32]) -> Code {
        let square = sums::product(residual, residual);
        let mut words = vec![0; layout.words()];
        let mut factors = Factors { square, rescale: 0.0, error: 0.0, cross: sums::product(centroid, residual) };
        if square > 0.0 {
            let padded = residual.len() as f32;
            let step = best_step(layout.bits(), residual, (square / padded).sqrt());
            let mut levels = vec![0; residual.len()];
            let (product, length) = round(residual, step, layout.bits(), &mut levels);
            write_planes(&levels, &mut words);
            if product > 0.0 {
                factors.rescale = square / product;
                // 1 / cos² - 1 of the angle between the difference and the grid point.
                let spread = (square * length / (product * product) - 1.0).max(0.0);
                factors.error = (square * spread / (padded - 1.0)).sqrt();
            }
        }
        Code { factors, words }
    }
}

/// The step of the grid with the least angle between `residual` and its grid point. `deviation` is that of the
/// coordinates.
fn best_step(bits: u8, residual: &[f32], deviation: f32) -> f32 {
    let normal = NORMAL_STEPS.get(usize::from(bits).saturating_sub(1)).copied().unwrap_or(1.0) * deviation;
    if bits <= 1 {
        return normal;
    }
    let mut best = (0.0, normal);
    for factor in STEPS {
        let step = normal * factor;
        let (product, length) = grid_point(residual, 1.0 / step, top(bits));
        let quality = product * product / length;
        if quality > best.0 {
            best = (quality, step);
        }
    }
    best.1
}

/// The highest level of a sign.
fn top(bits: u8) -> f32 {
    f32::from((1_u16 << bits.clamp(1, 8) >> 1) - 1)
}

const LANES: usize = 16;

/// The whole part of a number that is not negative, at most `top`.
#[inline(always)]
fn level(x: f32, top: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to an integer, in fewer instructions than a conversion.
    const ROUND: f32 = 12_582_912.0;
    x.min(top + 0.5) - 0.5 + ROUND - ROUND
}

/// The product of `x` with its grid point, and the squared length of that, in steps of the grid.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn grid_point(x: &[f32], inverse: f32, top: f32) -> (f32, f32) {
    let (mut products, mut lengths) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    for x in x.as_chunks::<LANES>().0 {
        for ((product, length), x) in products.iter_mut().zip(&mut lengths).zip(x) {
            let level = level(x.abs() * inverse, top) + 0.5;
            *product += x.abs() * level;
            *length += level * level;
        }
    }
    (products.iter().sum(), lengths.iter().sum())
}

/// Writes the levels of the grid point, from 0 on, and returns the same as [`grid_point`].
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn round(x: &[f32], step: f32, bits: u8, levels: &mut [u8]) -> (f32, f32) {
    let (inverse, top) = (1.0 / step, top(bits));
    let (mut products, mut lengths) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    for (x, levels) in x.as_chunks::<LANES>().0.iter().zip(levels.as_chunks_mut::<LANES>().0) {
        for (((product, length), x), place) in products.iter_mut().zip(&mut lengths).zip(x).zip(levels) {
            let level = level(x.abs() * inverse, top);
            *product += x.abs() * (level + 0.5);
            *length += (level + 0.5) * (level + 0.5);
            *place = if *x > 0.0 { level + top + 1.0 } else { top - level } as u8;
        }
    }
    (products.iter().sum(), lengths.iter().sum())
}

/// Writes the bits of small numbers, one plane of bits after the other; `words` has a whole number of planes.
pub(crate) fn write_planes(numbers: &[u8], words: &mut [u64]) {
    let per_plane = numbers.len() / 64;
    for (n, numbers) in numbers.as_chunks::<64>().0.iter().enumerate() {
        let transposed = planes(numbers);
        for (plane, bits) in words.chunks_exact_mut(per_plane.max(1)).zip(transposed) {
            if let Some(word) = plane.get_mut(n) {
                *word = bits;
            }
        }
    }
}

/// The bits of 64 numbers: the lowest bits of all, and so on. The first number is in the lowest bits.
pub(crate) fn planes(numbers: &[u8; 64]) -> [u64; 8] {
    let mut planes = [0; 8];
    for (n, eight) in numbers.as_chunks::<8>().0.iter().enumerate() {
        // An 8 by 8 matrix of bits is transposed by three exchanges (Hacker's Delight, 7-3).
        let mut x = u64::from_le_bytes(*eight);
        let mut t = (x ^ (x >> 7)) & 0x00aa_00aa_00aa_00aa;
        x ^= t ^ (t << 7);
        t = (x ^ (x >> 14)) & 0x0000_cccc_0000_cccc;
        x ^= t ^ (t << 14);
        t = (x ^ (x >> 28)) & 0x0000_0000_f0f0_f0f0;
        x ^= t ^ (t << 28);
        for (plane, byte) in planes.iter_mut().zip(x.to_le_bytes()) {
            *plane |= u64::from(byte) << (8 * n);
        }
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_the_bits_of_the_numbers() {
        let mut rng = fastrand::Rng::with_seed(6);
        let numbers: [u8; 64] = std::array::from_fn(|_| rng.u8(..));
        for (bit, plane) in planes(&numbers).iter().enumerate() {
            for (i, n) in numbers.iter().enumerate() {
                assert_eq!(plane >> i & 1, u64::from(n >> bit & 1));
            }
        }
    }

    #[test]
    fn the_grid_point_is_close_to_the_vector() {
        let mut rng = fastrand::Rng::with_seed(7);
        // 1 / cos² - 1 of normally distributed coordinates.
        for (bits, spread) in [(1, 0.65), (2, 0.16), (3, 0.045), (4, 0.014)] {
            let layout = Layout::new(768, Metric::L2, bits, 1).unwrap();
            for size in [1e-6, 1.0, 1e6] {
                let x: Vec<f32> =
                    (0..768).map(|_| (0..12).map(|_| rng.f32()).sum::<f32>() - 6.0).map(|x| x * size).collect();
                let factors = Code::new(&layout, &x, &x).factors;
                let found = factors.error * factors.error * 767.0 / factors.square;
                assert!(found < spread && found > spread / 2.0, "{bits} bits: {found}");
            }
        }
    }
}
