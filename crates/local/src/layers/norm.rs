//! Norms of rows, `[tokens, hidden]`.

use multiversion::multiversion;

use super::math::sum;
use crate::weights::Weights;
use mysql_ml_base::error::Result;

/// Brings each row to mean 0 and variance 1, then multiplies by `weight` and adds `bias`.
pub struct LayerNorm {
    /// `[hidden]`.
    weight: Vec<f32>,
    /// `[hidden]`.
    bias: Vec<f32>,
    epsilon: f32,
}

impl LayerNorm {
    /// Reads `NAME.weight` and `NAME.bias`, both `[hidden]`. `epsilon` is added to variances.
    pub fn load(weights: &Weights, name: &str, hidden: usize, epsilon: f32) -> Result<Self> {
        // Files that were converted from TensorFlow have the old names.
        let old = weights.has(&format!("{name}.gamma"));
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let read = |part: &str| weights.tensor(&format!("{name}.{part}"), &[hidden]);
        Ok(LayerNorm { weight: read(weight)?, bias: read(bias)?, epsilon })
    }

    /// Normalises the rows of `x`, `[tokens, hidden]`, in place.
    pub fn apply(&self, x: &mut [f32]) {
        normalize(x, &self.weight, &self.bias, self.epsilon);
    }

    /// Writes the normalised rows of `x` to `out`, both `[tokens, hidden]`.
    pub fn apply_to(&self, x: &[f32], out: &mut [f32]) {
        out.copy_from_slice(x);
        self.apply(out);
    }

    /// Replaces `x` by the normalised rows of `x + y`, all `[tokens, hidden]`.
    pub fn apply_to_sum(&self, x: &mut [f32], y: &[f32]) {
        add_and_normalize(x, y, &self.weight, &self.bias, self.epsilon);
    }

    /// Bytes of the parameters.
    pub fn memory_bytes(&self) -> u64 {
        (size_of_val(self.weight.as_slice()) + size_of_val(self.bias.as_slice())) as u64
    }
}

/// Brings each row to a root mean square of 1, then multiplies by `weight`. T5 uses it.
pub struct RmsNorm {
    /// `[hidden]`.
    weight: Vec<f32>,
    epsilon: f32,
}

impl RmsNorm {
    /// Reads `NAME.weight`, `[hidden]`. `epsilon` is added to mean squares.
    pub fn load(weights: &Weights, name: &str, hidden: usize, epsilon: f32) -> Result<Self> {
        Ok(RmsNorm { weight: weights.tensor(&format!("{name}.weight"), &[hidden])?, epsilon })
    }

    /// Writes the normalised rows of `x` to `out`, both `[tokens, hidden]`.
    pub fn apply_to(&self, x: &[f32], out: &mut [f32]) {
        out.copy_from_slice(x);
        scale(out, &self.weight, self.epsilon);
    }

    /// Bytes of the parameters.
    pub fn memory_bytes(&self) -> u64 {
        size_of_val(self.weight.as_slice()) as u64
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn add_and_normalize(rows: &mut [f32], others: &[f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let width = weight.len().max(1);
    for (row, other) in rows.chunks_exact_mut(width).zip(others.chunks_exact(width)) {
        row.iter_mut().zip(other).for_each(|(x, y)| *x += y);
        normalize_row(row, weight, bias, epsilon);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn normalize(rows: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    for row in rows.chunks_exact_mut(weight.len().max(1)) {
        normalize_row(row, weight, bias, epsilon);
    }
}

#[inline(always)]
fn normalize_row(row: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let width = row.len() as f32;
    let mean = sum(row, |x| x) / width;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / width;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for ((x, w), b) in row.iter_mut().zip(weight).zip(bias) {
        *x = (*x - mean) * scale * w + b;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn scale(rows: &mut [f32], weight: &[f32], epsilon: f32) {
    for row in rows.chunks_exact_mut(weight.len().max(1)) {
        let scale = 1.0 / (sum(row, |x| x * x) / row.len() as f32 + epsilon).sqrt();
        row.iter_mut().zip(weight).for_each(|(x, w)| *x *= scale * w);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: &[f32], b: &[f32]) {
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} {b:?}");
    }

    #[test]
    fn rows_are_normalised_one_by_one() {
        let norm = LayerNorm { weight: vec![1.0, 2.0], bias: vec![0.5, 0.0], epsilon: 0.0 };
        let mut rows = [1.0, 3.0, 5.0, 1.0];
        norm.apply(&mut rows);
        close(&rows, &[-0.5, 2.0, 1.5, -2.0]);
        let mut rows = [0.0, 1.0, 2.0, 1.0];
        norm.apply_to_sum(&mut rows, &[1.0, 2.0, 3.0, 0.0]);
        close(&rows, &[-0.5, 2.0, 1.5, -2.0]);
        let norm = RmsNorm { weight: vec![1.0, 2.0], epsilon: 0.0 };
        let mut out = [0.0; 4];
        norm.apply_to(&[3.0, 4.0, 6.0, 8.0], &mut out);
        let [a, b] = [3.0 / 12.5f32.sqrt(), 8.0 / 12.5f32.sqrt()];
        close(&out, &[a, b, a, b]);
    }
}
