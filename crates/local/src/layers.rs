//! The layers that transformers are made of, over rows of 32-bit floats: one row a token.

use multiversion::multiversion;
use serde::Deserialize;

use super::compute::functions::{self, erf, exp};
use super::compute::{linear, Packed};
use super::matmul::{add_products, mix, Matrix};
use super::turn::Turn;
use super::weights::Weights;
use mysql_ml_base::error::{Error, Result};

/// `y = x * Wᵀ + b`, with the weights packed for it.
pub struct Linear {
    packed: linear::Linear,
    inputs: usize,
}

impl Linear {
    /// Reads `NAME.weight`, and `NAME.bias` where there is to be one.
    pub fn load(weights: &Weights, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Self> {
        Self::load_joined(weights, &[name], inputs, outputs, bias)
    }

    /// Layers of the same input as one, whose outputs stand side by side; `outputs` are those of each.
    pub fn load_joined(
        weights: &Weights,
        names: &[impl AsRef<str>],
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Self> {
        let read = |name: &str| {
            let weight = weights.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
            let bias = match bias {
                true => weights.tensor(&format!("{name}.bias"), &[outputs])?,
                false => vec![0.0; outputs],
            };
            Ok((weight, bias))
        };
        let parts = names.iter().map(|name| read(name.as_ref())).collect::<Result<Vec<_>>>()?;
        let parts: Vec<(&[f32], &[f32])> = parts.iter().map(|(w, b)| (w.as_slice(), b.as_slice())).collect();
        Ok(Linear { packed: linear::Linear::pack(&parts, inputs), inputs })
    }

    /// A layer of these weights, without a bias.
    pub fn new(weight: &[f32], inputs: usize) -> Self {
        let bias = vec![0.0; weight.len().checked_div(inputs).unwrap_or(0)];
        Linear { packed: linear::Linear::pack(&[(weight, &bias)], inputs), inputs }
    }

    /// How many elements a row of output has.
    pub fn outputs(&self) -> usize {
        self.packed.outputs()
    }

    /// The output for each row of `x`, instead of what `out` held.
    pub fn apply(&self, x: &[f32], out: &mut Vec<f32>, turn: &Turn) -> Result<()> {
        let rows = x.len().checked_div(self.inputs).unwrap_or(0);
        let mut left = Packed::default();
        left.fill(x, self.inputs);
        out.clear();
        out.resize(rows * self.outputs(), 0.0);
        self.packed.apply(&left, functions::Activation::None, out, turn);
        turn.check()
    }

    /// Adds the output for each row of `x` to `out`.
    pub fn add_to(&self, x: &[f32], out: &mut [f32], turn: &Turn) -> Result<()> {
        let mut product = Vec::new();
        self.apply(x, &mut product, turn)?;
        add(out, &product);
        Ok(())
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        self.packed.memory_bytes()
    }
}

/// Embeddings: a row for each token.
pub struct Table {
    rows: Vec<f32>,
    width: usize,
}

impl Table {
    /// Reads the tensor `name`.
    pub fn load(weights: &Weights, name: &str, rows: usize, width: usize) -> Result<Self> {
        Ok(Table { rows: weights.tensor(name, &[rows, width])?, width })
    }

    /// The row of a token.
    pub fn row(&self, token: u32) -> Option<&[f32]> {
        let start = (token as usize).checked_mul(self.width)?;
        self.rows.get(start..start.checked_add(self.width)?)
    }

    /// The product of `x` with each row, instead of what `out` held.
    pub fn products(&self, x: &[f32], out: &mut Vec<f32>) -> Result<()> {
        let rows = self.rows.len().checked_div(self.width).unwrap_or(0);
        out.clear();
        out.resize(rows, 0.0);
        add_products(Matrix::new(x, 1, self.width), Matrix::new(&self.rows, rows, self.width), 1.0, out, rows)
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        4 * self.rows.len() as u64
    }
}

/// `x += y`.
pub fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Brings each row to mean 0 and variance 1, then scales and shifts it.
pub struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl LayerNorm {
    /// Reads `NAME.weight` and `NAME.bias`.
    pub fn load(weights: &Weights, name: &str, width: usize, epsilon: f64) -> Result<Self> {
        Ok(LayerNorm {
            weight: weights.tensor(&format!("{name}.weight"), &[width])?,
            bias: weights.tensor(&format!("{name}.bias"), &[width])?,
            epsilon: epsilon as f32,
        })
    }

    /// The normalised rows of `x`, instead of what `out` held.
    pub fn apply(&self, x: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(x);
        let width = self.weight.len();
        for row in out.chunks_exact_mut(width) {
            let mean = row.iter().sum::<f32>() / width as f32;
            let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / width as f32;
            let scale = 1.0 / (variance + self.epsilon).sqrt();
            for ((v, w), b) in row.iter_mut().zip(&self.weight).zip(&self.bias) {
                *v = (*v - mean) * scale * w + b;
            }
        }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        4 * (self.weight.len() + self.bias.len()) as u64
    }
}

/// Brings each row to a root mean square of 1, then scales it: T5's norm.
pub struct RmsNorm {
    weight: Vec<f32>,
    epsilon: f32,
}

impl RmsNorm {
    /// Reads `NAME.weight`.
    pub fn load(weights: &Weights, name: &str, width: usize, epsilon: f64) -> Result<Self> {
        Ok(RmsNorm { weight: weights.tensor(&format!("{name}.weight"), &[width])?, epsilon: epsilon as f32 })
    }

    /// The normalised rows of `x`, instead of what `out` held.
    pub fn apply(&self, x: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(x);
        let width = self.weight.len();
        for row in out.chunks_exact_mut(width) {
            let mean_square = row.iter().map(|v| v * v).sum::<f32>() / width as f32;
            let scale = 1.0 / (mean_square + self.epsilon).sqrt();
            for (v, w) in row.iter_mut().zip(&self.weight) {
                *v *= scale * w;
            }
        }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        4 * self.weight.len() as u64
    }
}

/// Makes each row of `width` numbers positive with the sum 1. Elements of minus infinity become 0.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
pub fn softmax(x: &mut [f32], width: usize) {
    x.chunks_exact_mut(width.max(1)).for_each(functions::softmax);
}

/// What stands between the two halves of a feed-forward layer, under the names that config.json has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `x * Φ(x)`, with the error function.
    Gelu,
    /// `x * Φ(x)`, with the hyperbolic tangent.
    #[serde(alias = "gelu_pytorch_tanh")]
    GeluNew,
    /// `x * sigmoid(x)`.
    #[serde(alias = "swish")]
    Silu,
}

impl Activation {
    /// Replaces each number.
    pub fn apply(self, x: &mut [f32]) {
        activate(self, x);
    }

    #[inline(always)]
    fn apply_here(self, x: &mut [f32]) {
        // One loop each, so that the choice is not made anew for every number.
        match self {
            Activation::Relu => x.iter_mut().for_each(|v| *v = v.max(0.0)),
            Activation::QuickGelu => x.iter_mut().for_each(|v| *v /= 1.0 + exp(-1.702 * *v)),
            Activation::Silu => x.iter_mut().for_each(|v| *v /= 1.0 + exp(-*v)),
            Activation::Gelu => {
                x.iter_mut().for_each(|v| *v *= 0.5 * (1.0 + erf(*v * std::f32::consts::FRAC_1_SQRT_2)));
            }
            Activation::GeluNew => {
                let scale = (2.0 / std::f32::consts::PI).sqrt();
                x.iter_mut().for_each(|v| *v *= 0.5 * (1.0 + tanh(scale * (*v + 0.044_715 * *v * *v * *v))));
            }
        }
    }
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn activate(activation: Activation, x: &mut [f32]) {
    activation.apply_here(x);
}

/// How a row of queries, keys or values is cut into heads.
#[derive(Clone, Copy)]
pub struct Heads {
    /// How many there are.
    pub count: usize,
    /// Elements of each.
    pub width: usize,
}

/// Rows of one tensor in a wider one: `rows` rows, each `stride` elements after the last, that begin at `data`'s start.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The first row and what follows.
    pub data: &'a [f32],
    /// How many rows.
    pub rows: usize,
    /// From the start of one to the start of the next.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    fn head(self, head: usize, heads: Heads) -> Result<Matrix<'a>> {
        let data = self.data.get(head * heads.width..).ok_or_else(|| Error::internal("a head outside of its row"))?;
        Ok(Matrix::strided(data, self.rows, heads.width, self.stride))
    }
}

/// Attention of each query to the keys, all heads: `softmax(scale * Q Kᵀ + bias) V`, into rows of `out`.
///
/// `prepare(head, scores)` sees the scores of a head, a row a query, before the softmax: for a mask or a bias. `scores`
/// is memory that is used again.
pub fn attention(
    [queries, keys, values]: [Rows<'_>; 3],
    heads: Heads,
    scale: f32,
    scores: &mut Vec<f32>,
    out: &mut [f32],
    turn: &Turn,
    mut prepare: impl FnMut(usize, &mut [f32]),
) -> Result<()> {
    let width = keys.rows;
    for head in 0..heads.count {
        scores.clear();
        scores.resize(queries.rows * width, 0.0);
        turn.check()?;
        add_products(queries.head(head, heads)?, keys.head(head, heads)?, scale, scores, width)?;
        turn.check()?;
        prepare(head, scores);
        softmax(scores, width);
        turn.check()?;
        let out = out.get_mut(head * heads.width..).ok_or_else(|| Error::internal("a head outside of its row"))?;
        let weights = Matrix::new(scores, queries.rows, width);
        mix(weights, values.head(head, heads)?, out, heads.count * heads.width)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: &[f32], b: &[f32]) {
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} {b:?}");
    }

    #[test]
    fn linear_layers_and_tables() {
        let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let layer = Linear::new(&weight, 2);
        let mut out = vec![7.0];
        let turn = Turn::default();
        layer.apply(&[1.0, 1.0, 0.0, 2.0], &mut out, &turn).unwrap();
        assert_eq!(out, [3.0, 7.0, 11.0, 4.0, 8.0, 12.0]);
        layer.add_to(&[1.0, 0.0, 0.0, 0.0], &mut out, &turn).unwrap();
        assert_eq!(out, [4.0, 10.0, 16.0, 4.0, 8.0, 12.0]);
        let table = Table { rows: weight.to_vec(), width: 2 };
        assert_eq!((table.row(1), table.row(3), table.row(u32::MAX)), (Some(&[3.0, 4.0][..]), None, None));
        table.products(&[1.0, 1.0], &mut out).unwrap();
        assert_eq!(out, [3.0, 7.0, 11.0]);
        assert!(table.products(&[1.0], &mut out).is_err());
    }

    #[test]
    fn norms() {
        let mut out = Vec::new();
        let norm = LayerNorm { weight: vec![1.0, 2.0], bias: vec![0.5, 0.0], epsilon: 0.0 };
        norm.apply(&[1.0, 3.0, 5.0, 1.0], &mut out);
        close(&out, &[-0.5, 2.0, 1.5, -2.0]);
        let norm = RmsNorm { weight: vec![1.0, 2.0], epsilon: 0.0 };
        norm.apply(&[3.0, 4.0], &mut out);
        close(&out, &[3.0 / 12.5f32.sqrt(), 8.0 / 12.5f32.sqrt()]);
    }

    #[test]
    fn activations() {
        let at = |a: Activation, v: f32| {
            let mut x = [v];
            a.apply(&mut x);
            x[0]
        };
        // As torch computes them.
        for (activation, minus, plus) in [
            (Activation::Relu, 0.0, 1.5),
            (Activation::QuickGelu, -0.108_386, 1.391_614),
            (Activation::Gelu, -0.100_211, 1.399_789),
            (Activation::GeluNew, -0.100_42, 1.399_58),
            (Activation::Silu, -0.273_638, 1.226_362),
        ] {
            assert!((at(activation, -1.5) - minus).abs() < 2e-4, "{activation:?} {}", at(activation, -1.5));
            assert!((at(activation, 1.5) - plus).abs() < 2e-4, "{activation:?} {}", at(activation, 1.5));
            assert!(
                at(activation, -100.0).abs() < 1e-3 && (at(activation, 100.0) - 100.0).abs() < 1e-3,
                "{activation:?}"
            );
        }
    }

    #[test]
    fn softmax_of_large_and_masked_numbers() {
        let mut x = [1000.0, 1000.0, f32::NEG_INFINITY, 0.0];
        softmax(&mut x, 2);
        close(&x, &[0.5, 0.5, 0.0, 1.0]);
    }
}
