//! Products of a vector with the rows of a matrix, for the single token of a generation step.
//!
//! Memory bounds their speed, so nothing is packed and each number is read once.

use multiversion::multiversion;
use multiversion::target::match_target;

/// Sums that are kept side by side.
const LANES: usize = 32;

/// Writes to `out[j]` the product of `x`, `[width]`, with row `j` of `rows`, which begins at `j * stride`.
///
/// Elements of `out` beyond the last row become 0.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
pub fn dot_rows(x: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    let mut rows = rows.chunks(stride.max(1));
    for out in out {
        let row = rows.next().unwrap_or_default();
        *out = match_target! {
            "x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma" => dot::<true>(x, row),
            "x86_64+avx2+fma" => dot::<true>(x, row),
            _ => dot::<{ cfg!(target_arch = "aarch64") }>(x, row),
        };
    }
}

/// Writes the sum of `weights[j]` times row `j` to `out`, `[width]`. Row `j` of `rows` begins at `j * stride`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
pub fn mix_rows(weights: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    out.fill(0.0);
    for (weight, row) in weights.iter().zip(rows.chunks(stride.max(1))) {
        out.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight * x);
    }
}

/// The product of `x` with the numbers of `row` that it has.
///
/// `FUSED` says that the processor multiplies and adds in one instruction; without it `mul_add` is a slow function.
#[inline(always)]
fn dot<const FUSED: bool>(x: &[f32], row: &[f32]) -> f32 {
    let row = row.get(..x.len()).unwrap_or_default();
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), row.as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for (xs, ys) in xs.iter().zip(ys) {
        for ((sum, x), y) in sums.iter_mut().zip(xs).zip(ys) {
            *sum = if FUSED { x.mul_add(*y, *sum) } else { *sum + x * y };
        }
    }
    let mut few = [0.0_f32; LANES / 4];
    for part in sums.as_chunks::<{ LANES / 4 }>().0 {
        few.iter_mut().zip(part).for_each(|(few, sum)| *few += sum);
    }
    few.iter().sum::<f32>() + x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_plain_loops_for_all_sizes() {
        let mut rng = fastrand::Rng::with_seed(5);
        for (count, width, stride) in [(1, 1, 1), (3, 16, 17), (4, 17, 17), (7, 40, 43), (9, 100, 120), (0, 3, 3)] {
            let mut random = |n: usize| (0..n).map(|_| rng.f32() - 0.5).collect::<Vec<f32>>();
            // The last row has no stride behind it.
            let (x, weights, rows) =
                (random(width), random(count), random((count * stride).saturating_sub(stride - width)));
            let mut got = vec![7.0; count + 2];
            dot_rows(&x, &rows, stride, &mut got);
            let mut mixed = vec![7.0; width];
            mix_rows(&weights, &rows, stride, &mut mixed);
            for j in 0..count + 2 {
                let wanted: f32 = (0..width).filter(|_| j < count).map(|i| x[i] * rows[j * stride + i]).sum();
                assert!((got[j] - wanted).abs() < 1e-5, "{count} {width} {stride}: {j}");
            }
            for i in 0..width {
                let wanted: f32 = (0..count).map(|j| weights[j] * rows[j * stride + i]).sum();
                assert!((mixed[i] - wanted).abs() < 1e-5, "{count} {width} {stride}: {i}");
            }
        }
    }
}
