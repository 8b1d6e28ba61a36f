//! Products of matrices: the one place that calls the `gemm` crate, which picks its kernels by the processor it runs on.

#![allow(unsafe_code)]

use gemm::{gemm, Parallelism};

use crate::error::{Error, Result};

/// A matrix in a slice: element (r, c) is at `r * row_stride + c * column_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` rows of `columns` elements each, one row after the other.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows that begin `row_stride` elements after each other.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Matrix { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// Columns become rows.
    #[must_use]
    pub fn transposed(self) -> Self {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn fits(&self) -> bool {
        self.rows == 0
            || self.columns == 0
            || extent(self.rows, self.row_stride)
                .zip(extent(self.columns, self.column_stride))
                .and_then(|(r, c)| r.checked_add(c))
                .is_some_and(|last| last < self.data.len())
    }
}

/// How far the last of `count` things is from the first.
fn extent(count: usize, stride: usize) -> Option<usize> {
    count.checked_sub(1)?.checked_mul(stride)
}

/// `out = scale * a * b`, or `out += scale * a * b` with `add`; the rows of `out` begin `out_stride` elements after each
/// other. Computes on this thread.
pub fn multiply(a: Matrix<'_>, b: Matrix<'_>, scale: f32, add: bool, out: &mut [f32], out_stride: usize) -> Result<()> {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let out_fits = m == 0
        || n == 0
        || extent(m, out_stride).and_then(|last| last.checked_add(n)).is_some_and(|end| end <= out.len())
            && (out_stride >= n || m == 1);
    if b.rows != k || !out_fits || !a.fits() || !b.fits() {
        return Err(Error::internal(format!("matrices of {m}x{k} and {}x{n} do not fit", b.rows)));
    }
    let stride = |s: usize| isize::try_from(s).map_err(|_| Error::internal("a matrix is too large"));
    let (a_rows, a_columns) = (stride(a.row_stride)?, stride(a.column_stride)?);
    let (b_rows, b_columns) = (stride(b.row_stride)?, stride(b.column_stride)?);
    let out_rows = stride(out_stride)?;
    // SAFETY: every element that the shapes and strides lead to is inside its slice: checked above, all strides being
    // positive. The rows of `out` do not overlap, and nothing else refers to `out`, which is borrowed mutably.
    unsafe {
        gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_rows,
            add,
            a.data.as_ptr(),
            a_columns,
            a_rows,
            b.data.as_ptr(),
            b_columns,
            b_rows,
            if add { 1.0 } else { 0.0 },
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    const B: [f32; 6] = [1.0, 0.5, 2.0, -1.0, 0.0, 3.0];

    #[test]
    fn products_with_and_without_transposing() {
        let mut out = [9.0; 4];
        multiply(Matrix::new(&A, 2, 3), Matrix::new(&B, 3, 2), 1.0, false, &mut out, 2).unwrap();
        assert_eq!(out, [5.0, 7.5, 14.0, 15.0]);
        multiply(Matrix::new(&A, 2, 3), Matrix::new(&B, 2, 3).transposed(), 2.0, true, &mut out, 2).unwrap();
        assert_eq!(out, [5.0 + 16.0, 7.5 + 16.0, 14.0 + 37.0, 15.0 + 28.0]);
    }

    #[test]
    fn parts_of_wider_matrices() {
        let mut out = [0.0; 6];
        let a = Matrix::strided(A.get(1..).unwrap(), 2, 2, 3); // 2 3 / 5 6
        multiply(a, Matrix::new(&B, 2, 2), 1.0, false, out.get_mut(1..).unwrap(), 3).unwrap();
        assert_eq!(out, [0.0, 8.0, -2.0, 0.0, 17.0, -3.5]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut out = [0.0; 4];
        for (a, b, stride) in [
            (Matrix::new(&A, 2, 3), Matrix::new(&B, 2, 3), 2),
            (Matrix::new(&A, 3, 3), Matrix::new(&B, 3, 2), 2),
            (Matrix::new(&A, 2, 3), Matrix::new(&B, 3, 2), 3),
            (Matrix::new(&A, 2, 3), Matrix::new(&B, 3, 2), 1),
            (Matrix::strided(&A, 2, 3, usize::MAX), Matrix::new(&B, 3, 2), 2),
        ] {
            assert!(multiply(a, b, 1.0, false, &mut out, stride).is_err());
        }
    }
}
