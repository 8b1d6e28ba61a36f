//! Sums over vectors: plain loops, compiled for several processors.

use multiversion::multiversion;

/// Number of parallel partial sums.
const LANES: usize = 16;

/// The sum of squares, in double precision. It is not finite exactly if an element is not.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn squares(x: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*x) * f64::from(*x);
        }
    }
    rest.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() + lanes.iter().sum::<f64>()
}

/// The inner product of vectors of one length, a multiple of 16.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum()
}

/// The squared distance of `a` from the integers `b` times `scale`; lengths are a multiple of 16.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn squared_distance(a: &[f32], b: &[[u8; 2]], scale: f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            let d = a - f32::from(i16::from_le_bytes(*b)) * scale;
            *lane += d * d;
        }
    }
    lanes.iter().sum()
}

/// The inner product of `a` with the integers `b` times `scale`; lengths are a multiple of 16.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn scaled_product(a: &[f32], b: &[[u8; 2]], scale: f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * f32::from(i16::from_le_bytes(*b));
        }
    }
    lanes.iter().sum::<f32>() * scale
}
