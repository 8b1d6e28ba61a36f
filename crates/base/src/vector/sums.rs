//! Sums over the elements of two vectors, at memory speed.
//!
//! All sums are double precision. A product of two f32 is exact in f64: it cannot overflow, and a fused multiplication
//! gives the same bits as a separate one. Sums have [`LANES`] lanes, added in a fixed order, so results are
//! bit-identical on every processor.
//!
//! Processor features are detected once, at run time. Other processors run the general code, which the compiler
//! vectorises. Tests compare both.

use multiversion::multiversion;
use multiversion::target::match_target;

/// A vector's elements as bytes, which need not be aligned.
pub(super) type Elements<'a> = &'a [[u8; 4]];

/// Number of parallel partial sums.
const LANES: usize = 16;

type Block = [[u8; 4]; LANES];
type Lanes = [f64; LANES];

/// The products of two vectors with each other and with themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Products {
    pub(super) ab: f64,
    pub(super) aa: f64,
    pub(super) bb: f64,
}

/// `a` with `b`, `a` with itself and `b` with itself in one pass.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(super) fn products(a: Elements<'_>, b: Elements<'_>) -> Products {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
    let lanes = match_target! {
        "x86_64+avx2+fma" => avx2::products(a, b),
        _ => general::sums(a, b, general::products),
    };
    let [ab, aa, bb] = finish(lanes, a_rest, b_rest, general::products);
    Products { ab, aa, bb }
}

/// `a` with `b`.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(super) fn product(a: Elements<'_>, b: Elements<'_>) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
    let lanes = match_target! {
        "x86_64+avx2+fma" => avx2::product(a, b),
        _ => general::sums(a, b, general::product),
    };
    let [ab] = finish(lanes, a_rest, b_rest, general::product);
    ab
}

/// The square of the distance of `a` from `b`.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(super) fn squared_distance(a: Elements<'_>, b: Elements<'_>) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
    let lanes = match_target! {
        "x86_64+avx2+fma" => avx2::squared_distance(a, b),
        _ => general::sums(a, b, general::squared_distance),
    };
    let [dd] = finish(lanes, a_rest, b_rest, general::squared_distance);
    dd
}

/// Adds the elements after the last whole block, and then the lanes.
#[inline]
fn finish<const N: usize>(
    mut lanes: [Lanes; N],
    a: Elements<'_>,
    b: Elements<'_>,
    step: impl Fn(f64, f64) -> [f64; N],
) -> [f64; N] {
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        for (lanes, term) in lanes.iter_mut().zip(step(general::element(x), general::element(y))) {
            if let Some(lane) = lanes.get_mut(i) {
                *lane += term;
            }
        }
    }
    lanes.map(|lanes| lanes.iter().sum())
}

/// Plain Rust, for every processor.
mod general {
    use super::{Block, Lanes, LANES};

    #[inline]
    pub(super) fn element(e: &[u8; 4]) -> f64 {
        f64::from(f32::from_le_bytes(*e))
    }

    #[inline]
    pub(super) fn products(x: f64, y: f64) -> [f64; 3] {
        [x * y, x * x, y * y]
    }

    #[inline]
    pub(super) fn product(x: f64, y: f64) -> [f64; 1] {
        [x * y]
    }

    #[inline]
    pub(super) fn squared_distance(x: f64, y: f64) -> [f64; 1] {
        [(x - y) * (x - y)]
    }

    #[inline]
    pub(super) fn sums<const N: usize>(a: &[Block], b: &[Block], step: impl Fn(f64, f64) -> [f64; N]) -> [Lanes; N] {
        let mut sums = [[0.0; LANES]; N];
        for (x, y) in a.iter().zip(b) {
            for (i, (x, y)) in x.iter().zip(y).enumerate() {
                for (lanes, term) in sums.iter_mut().zip(step(element(x), element(y))) {
                    if let Some(lane) = lanes.get_mut(i) {
                        *lane += term;
                    }
                }
            }
        }
        sums
    }
}

/// 256-bit instructions: x86-64 processors since 2013, of both makers.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256d, _mm256_add_pd, _mm256_castpd256_pd128, _mm256_cvtps_pd, _mm256_extractf128_pd, _mm256_fmadd_pd,
        _mm256_mul_pd, _mm256_setzero_pd, _mm256_sub_pd, _mm_castsi128_ps, _mm_cvtsd_f64, _mm_setr_epi32,
        _mm_unpackhi_pd,
    };

    use super::{Block, Lanes, LANES};

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn products(a: &[Block], b: &[Block]) -> [Lanes; 3] {
        sums(a, b, |[ab, aa, bb], x, y| {
            [_mm256_fmadd_pd(x, y, ab), _mm256_fmadd_pd(x, x, aa), _mm256_fmadd_pd(y, y, bb)]
        })
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn product(a: &[Block], b: &[Block]) -> [Lanes; 1] {
        sums(a, b, |[ab], x, y| [_mm256_fmadd_pd(x, y, ab)])
    }

    /// The square of a difference is not exact in f64: a fused one would differ between processors.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn squared_distance(a: &[Block], b: &[Block]) -> [Lanes; 1] {
        sums(a, b, |[dd], x, y| {
            let d = _mm256_sub_pd(x, y);
            [_mm256_add_pd(dd, _mm256_mul_pd(d, d))]
        })
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn sums<const N: usize>(
        a: &[Block],
        b: &[Block],
        step: impl Fn([__m256d; N], __m256d, __m256d) -> [__m256d; N],
    ) -> [Lanes; N] {
        let mut quarters = [[_mm256_setzero_pd(); N]; 4];
        for (x, y) in a.iter().zip(b) {
            let (x, y) = (x.as_chunks::<4>().0, y.as_chunks::<4>().0);
            for (sums, (x, y)) in quarters.iter_mut().zip(x.iter().zip(y)) {
                *sums = step(*sums, four(x), four(y));
            }
        }
        let mut lanes = [[0.0; LANES]; N];
        for (quarter, sums) in quarters.iter().enumerate() {
            for (lanes, sum) in lanes.iter_mut().zip(sums) {
                if let Some(lanes) = lanes.as_chunks_mut().0.get_mut(quarter) {
                    *lanes = values(*sum);
                }
            }
        }
        lanes
    }

    /// Four elements; the compiler makes one load of it.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn four(&[a, b, c, d]: &[[u8; 4]; 4]) -> __m256d {
        let bits = i32::from_le_bytes;
        _mm256_cvtps_pd(_mm_castsi128_ps(_mm_setr_epi32(bits(a), bits(b), bits(c), bits(d))))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn values(v: __m256d) -> [f64; 4] {
        let (low, high) = (_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
        [
            _mm_cvtsd_f64(low),
            _mm_cvtsd_f64(_mm_unpackhi_pd(low, low)),
            _mm_cvtsd_f64(high),
            _mm_cvtsd_f64(_mm_unpackhi_pd(high, high)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length up to some blocks, and the widths of models.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..=40).chain([768, 1536, 3072, 4096, 16_383])
    }

    /// Elements of both signs and of magnitudes that differ by 2^16, after `offset` other bytes.
    fn random(rng: &mut fastrand::Rng, length: usize, offset: usize) -> Vec<u8> {
        let mut bytes = vec![0xff; offset];
        for _ in 0..length {
            let x = (rng.f32() * 2.0 - 1.0) * 2.0_f32.powi(rng.i32(-8..=8));
            bytes.extend(x.to_le_bytes());
        }
        bytes
    }

    fn elements(bytes: &[u8], offset: usize) -> Elements<'_> {
        bytes[offset..].as_chunks().0
    }

    /// The sum in order of the elements, and the sum of absolute values, which bounds the rounding error.
    fn plain(a: Elements<'_>, b: Elements<'_>, f: impl Fn(f64, f64) -> f64) -> (f64, f64) {
        let terms = || a.iter().zip(b).map(|(x, y)| f(general::element(x), general::element(y)));
        (terms().sum(), terms().map(f64::abs).sum())
    }

    fn assert_close(sum: f64, (plain, size): (f64, f64)) {
        assert!((sum - plain).abs() <= 1e-12 * size, "{sum} is not {plain} (of {size})");
    }

    #[test]
    fn sums_are_those_of_a_plain_loop() {
        let mut rng = fastrand::Rng::with_seed(7);
        for length in lengths() {
            for (i, j) in [(0, 0), (1, 0), (0, 2), (3, 1), (7, 5)] {
                let (a, b) = (random(&mut rng, length, i), random(&mut rng, length, j));
                let (a, b) = (elements(&a, i), elements(&b, j));
                let Products { ab, aa, bb } = products(a, b);
                assert_close(ab, plain(a, b, |x, y| x * y));
                assert_close(aa, plain(a, b, |x, _| x * x));
                assert_close(bb, plain(a, b, |_, y| y * y));
                assert_close(product(a, b), plain(a, b, |x, y| x * y));
                assert_close(squared_distance(a, b), plain(a, b, |x, y| (x - y) * (x - y)));
            }
        }
    }

    #[test]
    fn every_processor_gives_the_same_bits() {
        let mut rng = fastrand::Rng::with_seed(8);
        for length in lengths() {
            let (a, b) = (random(&mut rng, length, 0), random(&mut rng, length, 1));
            let (a, b) = (elements(&a, 0), elements(&b, 1));
            let ((x, x_rest), (y, y_rest)) = (a.as_chunks(), b.as_chunks());
            let [ab, aa, bb] = finish(general::sums(x, y, general::products), x_rest, y_rest, general::products);
            assert_eq!(products(a, b), Products { ab, aa, bb });
            assert_eq!(product(a, b), ab);
            let [dd] =
                finish(general::sums(x, y, general::squared_distance), x_rest, y_rest, general::squared_distance);
            assert_eq!(squared_distance(a, b), dd);
        }
    }
}
