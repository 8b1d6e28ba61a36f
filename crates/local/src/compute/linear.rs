//! A layer that multiplies rows by a matrix and adds a bias: `y = x Wᵀ + b`.

use multiversion::multiversion;

use super::functions::Activation;
use super::{tile, Left, Packed, Right, COLUMNS, ROWS};
use crate::turn::Turn;

/// Blocks of rows that are multiplied with all columns before the next: what stays in a core's cache.
const BLOCKS: usize = 16;

/// Products of single numbers between two looks at whether anybody still waits: some milliseconds.
const PRODUCTS: usize = 1 << 29;

/// A layer's weights, packed.
pub struct Linear {
    /// Panel after panel of [`COLUMNS`] outputs, each with the columns side by side for every input.
    panels: Vec<Right>,
    bias: Vec<Right>,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    /// Packs the weights of layers with the same inputs as one that has the outputs of all. Each is given as `weight`, row
    /// after row one row an output, and `bias`.
    pub fn pack(parts: &[(&[f32], &[f32])], inputs: usize) -> Self {
        let inputs = inputs.max(1);
        let outputs: usize = parts.iter().map(|(_, bias)| bias.len()).sum();
        let count = outputs.div_ceil(COLUMNS);
        let mut panels = vec![[0.0; COLUMNS]; count * inputs];
        let mut biases = vec![[0.0; COLUMNS]; count];
        let rows = parts.iter().flat_map(|(weight, bias)| weight.chunks_exact(inputs).zip(*bias));
        for (output, (row, bias)) in rows.enumerate() {
            let (panel, column) = (output / COLUMNS, output % COLUMNS);
            let Some(places) = panels.chunks_exact_mut(inputs).nth(panel) else { continue };
            for (place, x) in places.iter_mut().zip(row) {
                if let Some(place) = place.get_mut(column) {
                    *place = *x;
                }
            }
            if let Some(place) = biases.get_mut(panel).and_then(|b| b.get_mut(column)) {
                *place = *bias;
            }
        }
        Linear { panels, bias: biases, inputs, outputs }
    }

    /// How many numbers it makes of a row.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The bytes it keeps.
    pub fn memory_bytes(&self) -> u64 {
        ((self.panels.len() + self.bias.len()) * size_of::<Right>()) as u64
    }

    /// Writes the product of `rows` to `out`, row after row. Ends early once `turn` does; whoever calls looks at it.
    pub fn apply(&self, rows: &Packed, activation: Activation, out: &mut [f32], turn: &Turn) {
        if rows.inner() != self.inputs || self.outputs == 0 {
            return;
        }
        let sizes = (self.inputs, self.outputs);
        let block = ROWS.saturating_mul(self.inputs).saturating_mul(self.outputs);
        let blocks = (PRODUCTS / block.max(1)).clamp(1, BLOCKS);
        let groups = rows.blocks().chunks(self.inputs * blocks).zip(out.chunks_mut(self.outputs * ROWS * blocks));
        for (left, out) in groups {
            if turn.check().is_err() {
                return;
            }
            multiply(left, &self.panels, &self.bias, sizes, activation, out);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn multiply(
    left: &[Left],
    panels: &[Right],
    biases: &[Right],
    (inputs, outputs): (usize, usize),
    activation: Activation,
    out: &mut [f32],
) {
    for (j, (panel, bias)) in panels.chunks_exact(inputs).zip(biases).enumerate() {
        for (block, rows) in left.chunks_exact(inputs).zip(out.chunks_mut(outputs * ROWS)) {
            // The last rows of a short text: of what is not there nothing is computed.
            let product = match rows.len() / outputs {
                0..=2 => tile!(2, block, panel),
                3..=4 => tile!(4, block, panel),
                _ => tile!(6, block, panel),
            };
            for (sums, row) in product.iter().zip(rows.chunks_mut(outputs)) {
                let mut values = [0.0; COLUMNS];
                for ((value, sum), bias) in values.iter_mut().zip(sums).zip(bias) {
                    *value = sum + bias;
                }
                activation.apply(&mut values);
                let Some(row) = row.get_mut(j * COLUMNS..) else { continue };
                match row.first_chunk_mut() {
                    Some(place) => *place = values,
                    None => row.iter_mut().zip(values).for_each(|(place, value)| *place = value),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_a_plain_loop_for_all_sizes() {
        let mut rng = fastrand::Rng::with_seed(3);
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 3, 31), (6, 32, 32), (7, 40, 33), (100, 17, 100), (200, 64, 96)]
        {
            let mut random = |n: usize| (0..n).map(|_| rng.f32() - 0.5).collect::<Vec<f32>>();
            let (x, w, b) = (random(rows * inputs), random(inputs * outputs), random(outputs));
            let split = outputs / 2;
            let parts = [(&w[..split * inputs], &b[..split]), (&w[split * inputs..], &b[split..])];
            let layer = Linear::pack(&parts, inputs);
            let mut packed = Packed::default();
            packed.fill(&x, inputs);
            let mut out = vec![f32::NAN; rows * outputs];
            layer.apply(&packed, Activation::Relu, &mut out, &Turn::default());
            for r in 0..rows {
                for c in 0..outputs {
                    let sum: f32 = (0..inputs).map(|k| x[r * inputs + k] * w[c * inputs + k]).sum::<f32>() + b[c];
                    let got = out[r * outputs + c];
                    assert!((got - sum.max(0.0)).abs() < 1e-4, "{rows} {inputs} {outputs}: {got} and not {sum}");
                }
            }
        }
    }
}
