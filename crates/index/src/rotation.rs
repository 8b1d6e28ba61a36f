//! The random rotation: random signs and fast Walsh-Hadamard transforms, as in the RaBitQ library.

use multiversion::multiversion;

use crate::random::Random;

/// Rounds of signs and transform. From three on, the result resembles a uniformly random rotation.
const ROUNDS: usize = 4;

/// A rotation of vectors whose length is a multiple of 64.
pub(crate) struct Rotation {
    /// For each round, 1 or -1 for each dimension, times the scale of the round's transform.
    signs: Vec<f32>,
    padded: usize,
}

impl Rotation {
    pub(crate) fn new(seed: u64, padded: usize) -> Self {
        let mut random = Random::new(seed);
        let mut signs = Vec::with_capacity(ROUNDS * padded);
        for _ in 0..ROUNDS * padded / 64 {
            let bits = random.next();
            signs.extend((0..64).map(|i| if bits >> i & 1 == 0 { 1.0 } else { -1.0 }));
        }
        Rotation { signs, padded }
    }

    /// Rotates `vector`, whose length is that of the rotation. Lengths and angles stay.
    pub(crate) fn apply(&self, vector: &mut [f32]) {
        rotate(vector, &self.signs, self.padded);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn rotate(vector: &mut [f32], signs: &[f32], padded: usize) {
    // The transform covers a power of two: the first dimensions in one round, the last ones in the next.
    let part = if padded.is_power_of_two() { padded } else { padded.next_power_of_two() / 2 };
    let scale = 1.0 / (part as f32).sqrt();
    for (round, signs) in signs.chunks_exact(padded.max(1)).enumerate() {
        for (x, sign) in vector.iter_mut().zip(signs) {
            *x *= sign;
        }
        let from = if round % 2 == 0 { 0 } else { padded - part };
        if let Some(part) = vector.get_mut(from..from + part) {
            transform(part);
            for x in part {
                *x *= scale;
            }
        }
        if part != padded {
            mix_halves(vector);
        }
    }
}

/// The Walsh-Hadamard transform of a power of two of at least 16 numbers, not scaled.
#[inline(always)]
fn transform(x: &mut [f32]) {
    for sixteen in x.as_chunks_mut::<16>().0 {
        let mut y = *sixteen;
        for h in [1, 2, 4, 8] {
            let z = y;
            y = std::array::from_fn(|i| {
                let other = z.get(i ^ h).copied().unwrap_or_default();
                let own = z.get(i).copied().unwrap_or_default();
                if i & h == 0 {
                    own + other
                } else {
                    other - own
                }
            });
        }
        *sixteen = y;
    }
    let mut h = 16;
    while h < x.len() {
        for pair in x.chunks_exact_mut(2 * h) {
            let (a, b) = pair.split_at_mut(h);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        h *= 2;
    }
}

/// Turns each dimension of the first half with that of the second by 45 degrees.
#[inline(always)]
fn mix_halves(vector: &mut [f32]) {
    let (a, b) = vector.split_at_mut(vector.len() / 2);
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = ((*a + *b) * std::f32::consts::FRAC_1_SQRT_2, (*a - *b) * std::f32::consts::FRAC_1_SQRT_2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_is_that_of_the_definition() {
        let mut rng = fastrand::Rng::with_seed(1);
        let x: Vec<f32> = (0..64).map(|_| rng.f32() - 0.5).collect();
        let mut y = x.clone();
        transform(&mut y);
        for (i, y) in y.iter().enumerate() {
            let plain: f32 =
                x.iter().enumerate().map(|(j, x)| if (i & j).count_ones() % 2 == 0 { *x } else { -x }).sum();
            assert!((plain - y).abs() < 1e-4);
        }
    }

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
