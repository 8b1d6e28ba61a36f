//! Products of one row with others, as the next token of an answer needs them: with so little to compute, what counts is
//! that each number is read once and nothing is packed before.

use multiversion::multiversion;
use multiversion::target::match_target;

/// How many sums are kept side by side.
const LANES: usize = 16;

/// Rows that are multiplied at once.
const ROWS: usize = 4;

/// `out[j]` is the product of `x` with the row that begins at `j * stride` of `rows`; 0 where there is none.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
pub fn products(x: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    let mut rows = rows.chunks(stride.max(1)).map(|row| row.get(..x.len()).unwrap_or_default());
    for out in out.chunks_mut(ROWS) {
        let four = [(); ROWS].map(|()| rows.next().unwrap_or_default());
        let sums = match_target! {
            "x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma" => dots::<true>(x, four),
            "x86_64+avx2+fma" => dots::<true>(x, four),
            _ => dots::<{ cfg!(target_arch = "aarch64") }>(x, four),
        };
        out.iter_mut().zip(sums).for_each(|(place, sum)| *place = sum);
    }
}

/// `out` is the sum of the rows that begin `stride` after each other in `rows`, each as often as `weights` says.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
pub fn mix(weights: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    out.fill(0.0);
    for (weight, row) in weights.iter().zip(rows.chunks(stride.max(1))) {
        out.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight * x);
    }
}

/// `FUSED`: whether the processor multiplies and adds in one instruction; elsewhere `mul_add` is a slow function. A row that
/// is missing is empty.
#[inline(always)]
fn dots<const FUSED: bool>(x: &[f32], rows: [&[f32]; ROWS]) -> [f32; ROWS] {
    // What is missing stands in for itself, so that the loop has no other form.
    let [a, b, c, d] = rows.map(|row| if row.is_empty() { x } else { row }.as_chunks::<LANES>());
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [[0.0_f32; LANES]; ROWS];
    for ((((x, a), b), c), d) in chunks.iter().zip(a.0).zip(b.0).zip(c.0).zip(d.0) {
        for (sums, row) in sums.iter_mut().zip([a, b, c, d]) {
            for ((sum, x), y) in sums.iter_mut().zip(x).zip(row) {
                *sum = if FUSED { x.mul_add(*y, *sum) } else { *sum + x * y };
            }
        }
    }
    let mut out = [0.0; ROWS];
    for (((out, sums), others), row) in out.iter_mut().zip(&sums).zip([a.1, b.1, c.1, d.1]).zip(rows) {
        if !row.is_empty() {
            *out = sums.iter().sum::<f32>() + rest.iter().zip(others).map(|(x, y)| x * y).sum::<f32>();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_plain_loops_for_all_sizes() {
        let mut rng = fastrand::Rng::with_seed(5);
        for (count, width, stride) in [(1, 1, 1), (3, 16, 17), (4, 17, 17), (7, 40, 43), (9, 100, 120), (0, 3, 3)] {
            let mut random = |n: usize| (0..n).map(|_| rng.f32() - 0.5).collect::<Vec<f32>>();
            // The last row ends where it ends.
            let (x, weights, rows) =
                (random(width), random(count), random((count * stride).saturating_sub(stride - width)));
            let mut got = vec![7.0; count + 2];
            products(&x, &rows, stride, &mut got);
            let mut mixed = vec![7.0; width];
            mix(&weights, &rows, stride, &mut mixed);
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
