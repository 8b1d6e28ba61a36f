//! The random rotation: rounds of random signs and of butterflies.
//!
//! This is the idea of the fast Walsh-Hadamard transform. Its steps of distance 1 to 8 are replaced by others that no
//! processor has to shuffle for.

use std::f32::consts::FRAC_1_SQRT_2;

use multiversion::multiversion;

use crate::random::Random;

/// Rounds. From three on, the result resembles a uniformly random rotation.
const ROUNDS: usize = 4;

/// Numbers of a vector register, at most.
const LANES: usize = 16;

/// A rotation of vectors whose length is a multiple of 64.
pub(crate) struct Rotation {
    /// For each round, a factor for each dimension: 1 or -1, divided by what the round's transform multiplies lengths by.
    factors: Vec<f32>,
    padded: usize,
}

impl Rotation {
    pub(crate) fn new(seed: u64, padded: usize) -> Self {
        let mut random = Random::new(seed);
        let mut factors = Vec::with_capacity(ROUNDS * padded);
        for round in 0..ROUNDS {
            let (from, length) = transformed(padded, round);
            let scale = 1.0 / ((length / LANES) as f32).sqrt();
            for word in 0..padded / 64 {
                let bits = random.next();
                factors.extend((0..64).map(|i| {
                    let scale = if (from..from + length).contains(&(word * 64 + i)) { scale } else { 1.0 };
                    if bits >> i & 1 == 0 {
                        scale
                    } else {
                        -scale
                    }
                }));
            }
        }
        Rotation { factors, padded }
    }

    /// Rotates `vector`, whose length is that of the rotation. Lengths and angles stay.
    pub(crate) fn apply(&self, vector: &mut [f32]) {
        rotate(vector, &self.factors, self.padded);
    }
}

/// The dimensions that a round transforms, a power of two: first and number. Rounds begin at the first dimension, and
/// end at the last, in turn.
fn transformed(padded: usize, round: usize) -> (usize, usize) {
    let length = if padded.is_power_of_two() { padded } else { padded.next_power_of_two() / 2 };
    (if round & 1 == 0 { 0 } else { padded - length }, length)
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn rotate(vector: &mut [f32], factors: &[f32], padded: usize) {
    for (round, factors) in factors.chunks_exact(padded.max(1)).enumerate() {
        for (x, factor) in vector.iter_mut().zip(factors) {
            *x *= factor;
        }
        let (from, length) = transformed(padded, round);
        let Some(part) = vector.get_mut(from..from + length) else { continue };
        let mut distance = LANES;
        while distance < length {
            for pair in part.chunks_exact_mut(2 * distance) {
                let (a, b) = pair.split_at_mut(distance);
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            distance *= 2;
        }
        // Distances that are no multiple of the lanes mix these.
        for less in [1, 2, 4, 8] {
            let (a, b) = vector.split_at_mut(padded / 2 - less);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = ((*a + *b) * FRAC_1_SQRT_2, (*a - *b) * FRAC_1_SQRT_2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_products_stay() {
        let mut rng = fastrand::Rng::with_seed(2);
        for padded in [64, 128, 192, 768, 1536, 1600, 16_384] {
            let rotation = Rotation::new(9, padded);
            let a: Vec<f32> = (0..padded).map(|_| rng.f32() - 0.3).collect();
            let b: Vec<f32> = (0..padded).map(|_| rng.f32() - 0.6).collect();
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x * *y)).sum::<f64>();
            let (mut ra, mut rb) = (a.clone(), b.clone());
            rotation.apply(&mut ra);
            rotation.apply(&mut rb);
            assert!((product(&a, &a) / product(&ra, &ra) - 1.0).abs() < 1e-5, "{padded}");
            assert!((product(&a, &b) - product(&ra, &rb)).abs() < 1e-5 * product(&a, &a), "{padded}");
        }
    }

    #[test]
    fn one_dimension_spreads_over_all() {
        for padded in [64, 768, 1600] {
            let rotation = Rotation::new(3, padded);
            for at in [0, padded / 2, padded - 1] {
                let mut x = vec![0.0; padded];
                x[at] = 1.0;
                rotation.apply(&mut x);
                let largest = x.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
                assert!(largest < 6.0 / (padded as f32).sqrt(), "{padded} {at}: {largest}");
            }
        }
    }
}
