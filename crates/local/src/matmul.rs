//! Products of matrices of any layout, on this thread: plain Rust that the compiler vectorises, compiled for several
//! processors; which one this is, is asked at run time.

use multiversion::multiversion;
use multiversion::target::match_target;

use mysql_ml_base::error::{Error, Result};

/// How many sums are kept side by side.
const LANES: usize = 16;

/// Rows in a slice, which may be parts of longer ones: row `r` begins at `r * stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` rows of `columns` elements each, one row after the other.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows that begin `stride` elements after each other.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Matrix { data, rows, columns, stride }
    }

    fn fits(&self) -> bool {
        fits(self.data, self.rows, self.columns, self.stride)
    }

    /// Row `r`, of a matrix that fits its slice; no elements where there is none.
    #[inline(always)]
    fn row(&self, r: usize) -> &'a [f32] {
        let start = if r < self.rows { r * self.stride } else { self.data.len() };
        self.data.get(start..).and_then(|rest| rest.get(..self.columns)).unwrap_or_default()
    }
}

fn fits(data: &[f32], rows: usize, columns: usize, stride: usize) -> bool {
    let end = rows.checked_sub(1).and_then(|last| last.checked_mul(stride)).and_then(|s| s.checked_add(columns));
    rows == 0 || (end.is_some_and(|end| end <= data.len()) && (stride >= columns || rows == 1))
}

fn misfit(a: &Matrix<'_>, b: &Matrix<'_>) -> Error {
    Error::internal(format!("matrices of {}x{} and {}x{} do not fit", a.rows, a.columns, b.rows, b.columns))
}

/// `out += scale * a * bᵀ`: each row of `a` with each of `b`. The rows of `out` begin `stride` elements after each other.
pub fn add_products(a: Matrix<'_>, b: Matrix<'_>, scale: f32, out: &mut [f32], stride: usize) -> Result<()> {
    if a.columns != b.columns || !a.fits() || !b.fits() || !fits(out, a.rows, b.rows, stride) {
        return Err(misfit(&a, &b));
    }
    products(a, b, scale, out, stride);
    Ok(())
}

/// `out = a * b`: for each row of `a` the rows of `b`, as often as it says. The rows of `out` begin `stride` elements after
/// each other.
pub fn mix(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], stride: usize) -> Result<()> {
    if a.columns != b.rows || !a.fits() || !b.fits() || !fits(out, a.rows, b.columns, stride) {
        return Err(misfit(&a, &b));
    }
    mixed(a, b, out, stride);
    Ok(())
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn products(a: Matrix<'_>, b: Matrix<'_>, scale: f32, out: &mut [f32], stride: usize) {
    // Three rows of `b` stay in the nearest cache while those of `a` go by in pairs.
    for j in (0..b.rows).step_by(3) {
        let columns = [b.row(j), b.row(j + 1), b.row(j + 2)];
        for (i, out) in (0..a.rows).step_by(2).zip(out.chunks_mut(stride.max(1) * 2)) {
            let rows = [a.row(i), a.row(i + 1)];
            let sums = match_target! {
                "x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma" => dots::<true>(rows, columns),
                "x86_64+avx2+fma" => dots::<true>(rows, columns),
                _ => dots::<{ cfg!(target_arch = "aarch64") }>(rows, columns),
            };
            for (sums, out) in sums.into_iter().zip(out.chunks_mut(stride.max(1))) {
                let places = out.get_mut(j..b.rows).unwrap_or_default();
                places.iter_mut().zip(sums).for_each(|(place, sum)| *place += scale * sum);
            }
        }
    }
}

/// The products of two rows with three others. A row that is missing is empty, and its products are those of none.
/// `FUSED`: whether the processor multiplies and adds in one instruction; elsewhere `mul_add` is a slow function.
#[inline(always)]
fn dots<'r, const FUSED: bool>(a: [&'r [f32]; 2], b: [&'r [f32]; 3]) -> [[f32; 3]; 2] {
    // What is missing stands in for itself, so that the loop has no other form.
    let ([a0, a1], [b0, b1, b2]) = (a, b);
    let or = |row: &'r [f32], instead: &'r [f32]| if row.is_empty() { instead } else { row };
    let [(a0, r0), (a1, r1)] = [a0, or(a1, a0)].map(|row| row.as_chunks::<LANES>());
    let [(b0, s0), (b1, s1), (b2, s2)] = [b0, or(b1, b0), or(b2, b0)].map(|row| row.as_chunks::<LANES>());
    let mut sums = [[[0.0_f32; LANES]; 3]; 2];
    for ((((a0, a1), b0), b1), b2) in a0.iter().zip(a1).zip(b0).zip(b1).zip(b2) {
        for (sums, a) in sums.iter_mut().zip([a0, a1]) {
            for (sums, b) in sums.iter_mut().zip([b0, b1, b2]) {
                for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
                    *sum = if FUSED { x.mul_add(*y, *sum) } else { *sum + x * y };
                }
            }
        }
    }
    let mut out = [[0.0; 3]; 2];
    for ((out, sums), rest) in out.iter_mut().zip(&sums).zip([r0, r1]) {
        for ((out, lanes), other) in out.iter_mut().zip(sums).zip([s0, s1, s2]) {
            *out = lanes.iter().sum::<f32>() + rest.iter().zip(other).map(|(x, y)| x * y).sum::<f32>();
        }
    }
    out
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn mixed(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], stride: usize) {
    for (i, out) in (0..a.rows).zip(out.chunks_mut(stride.max(1))) {
        let out = out.get_mut(..b.columns).unwrap_or_default();
        out.fill(0.0);
        for (j, weight) in a.row(i).iter().enumerate() {
            out.iter_mut().zip(b.row(j)).for_each(|(sum, x)| *sum += weight * x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_plain_loops_for_all_sizes() {
        let mut rng = fastrand::Rng::with_seed(5);
        for (m, n, k) in [(1, 1, 1), (2, 3, 16), (3, 4, 17), (1, 7, 40), (5, 2, 100), (8, 9, 3), (4, 4, 0), (0, 3, 2)] {
            let mut random = |n: usize| (0..n).map(|_| rng.f32() - 0.5).collect::<Vec<f32>>();
            // Each a part of wider rows.
            let (a, b, c) = (random(m * (k + 2)), random(n * (k + 1)), random(k * (n + 3)));
            let mut sums = vec![1.0; m * (n + 4)];
            let (left, right) = (Matrix::strided(&a, m, k, k + 2), Matrix::strided(&b, n, k, k + 1));
            add_products(left, right, 2.0, &mut sums, n + 4).unwrap();
            let mut mixed = vec![7.0; m * (n + 4)];
            mix(left, Matrix::strided(&c, k, n, n + 3), &mut mixed, n + 4).unwrap();
            for i in 0..m {
                for j in 0..n + 4 {
                    let product: f32 = (0..k).filter(|_| j < n).map(|x| a[i * (k + 2) + x] * b[j * (k + 1) + x]).sum();
                    assert!((sums[i * (n + 4) + j] - 1.0 - 2.0 * product).abs() < 1e-5, "{m} {n} {k}: {i} {j}");
                    let plain: f32 = (0..k).filter(|_| j < n).map(|x| a[i * (k + 2) + x] * c[x * (n + 3) + j]).sum();
                    let wanted = if j < n { plain } else { 7.0 };
                    assert!((mixed[i * (n + 4) + j] - wanted).abs() < 1e-5, "{m} {n} {k}: {i} {j}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        const A: [f32; 6] = [1.0; 6];
        let mut out = [0.0; 4];
        let two_by_three = Matrix::new(&A, 2, 3);
        for (a, b, stride) in [
            (two_by_three, Matrix::new(&A, 3, 2), 2),
            (Matrix::new(&A, 3, 3), two_by_three, 2),
            (two_by_three, two_by_three, 3),
            (two_by_three, two_by_three, 1),
            (Matrix::strided(&A, 2, 3, usize::MAX), two_by_three, 2),
            (Matrix::strided(&A, 2, 3, 1), two_by_three, 2),
        ] {
            assert!(add_products(a, b, 1.0, &mut out, stride).is_err());
        }
        assert!(mix(two_by_three, two_by_three, &mut out, 3).is_err());
        assert!(mix(two_by_three, Matrix::new(&A, 3, 2), &mut out, 3).is_err());
    }
}
