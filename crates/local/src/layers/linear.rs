//! The linear layer: `y = activation(x Wᵀ + b)`.

use super::activation::Activation;
use super::kernel::{multiply, Columns, PackedRows, Right, COLUMNS, ROWS};
use crate::turn::Turn;
use crate::weights::Weights;
use mysql_ml_base::error::{Error, Result};

/// Blocks of rows that meet all panels before the next blocks do: as many as a core's cache keeps.
const BLOCKS: usize = 16;

/// Multiplications between two checks of the [`Turn`]: some milliseconds.
const MULTIPLICATIONS: usize = 1 << 29;

/// A linear layer. Loading packs its weights for the kernel.
pub struct Linear {
    /// The weights `[outputs, inputs]` as `[panels, inputs, COLUMNS]`: each panel has [`COLUMNS`] outputs side by side.
    panels: Vec<Right>,
    /// `[panels, COLUMNS]`.
    bias: Vec<Right>,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    /// Reads `NAME.weight`, `[outputs, inputs]`, and with `bias` also `NAME.bias`, `[outputs]`.
    pub fn load(weights: &Weights, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Self> {
        Self::load_joined(weights, &[name], inputs, outputs, bias)
    }

    /// Reads several layers of the same input as one with `[names * outputs]` outputs, in the order of `names`.
    ///
    /// Each has the tensors of [`Linear::load`].
    pub fn load_joined(
        weights: &Weights,
        names: &[impl AsRef<str>],
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Self> {
        let read = |name: &str| {
            let weight = weights.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
            let bias = bias.then(|| weights.tensor(&format!("{name}.bias"), &[outputs])).transpose()?;
            Ok((weight, bias.unwrap_or_else(|| vec![0.0; outputs])))
        };
        let parts = names.iter().map(|name| read(name.as_ref())).collect::<Result<Vec<_>>>()?;
        let parts: Vec<(&[f32], &[f32])> = parts.iter().map(|(w, b)| (w.as_slice(), b.as_slice())).collect();
        Ok(Self::pack(&parts, inputs))
    }

    /// A layer of the weights `[outputs, inputs]` without a bias.
    pub fn new(weight: &[f32], inputs: usize) -> Self {
        Self::pack(&[(weight, &vec![0.0; weight.len() / inputs.max(1)])], inputs)
    }

    /// Packs pairs of weights `[outputs, inputs]` and bias `[outputs]` as one layer with the outputs of all.
    fn pack(parts: &[(&[f32], &[f32])], inputs: usize) -> Self {
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

    /// The length of an output row.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes of the packed weights.
    pub fn memory_bytes(&self) -> u64 {
        ((self.panels.len() + self.bias.len()) * size_of::<Right>()) as u64
    }

    /// Writes the output of `x`, `[tokens, inputs]`, to `out`, `[tokens, outputs]`.
    ///
    /// `packed` is memory for reuse. The error is that of `turn`, or an internal one for other shapes.
    pub fn apply(
        &self,
        x: &[f32],
        activation: Activation,
        out: &mut [f32],
        packed: &mut PackedRows,
        turn: &Turn,
    ) -> Result<()> {
        let Linear { inputs, outputs, .. } = *self;
        let tokens = x.len() / inputs;
        if x.len() != tokens * inputs || out.len() != tokens * outputs {
            return Err(Error::internal("a linear layer's rows have another width than its weights"));
        }
        packed.pack(x, inputs);
        let block = ROWS.saturating_mul(inputs).saturating_mul(outputs);
        let blocks = (MULTIPLICATIONS / block.max(1)).clamp(1, BLOCKS);
        let groups = packed.blocks().chunks(inputs * blocks);
        for (left, matrix) in groups.zip(out.chunks_mut((outputs * ROWS * blocks).max(1))) {
            turn.check()?;
            for (i, (panel, bias)) in self.panels.chunks_exact(inputs).zip(&self.bias).enumerate() {
                let columns = Columns { matrix: &mut *matrix, width: outputs, first: i * COLUMNS };
                multiply(left, panel, bias, activation, columns);
            }
        }
        Ok(())
    }

    /// [`Linear::apply`] with memory of its own: returns `[tokens, outputs]`.
    pub fn output(&self, x: &[f32], activation: Activation, turn: &Turn) -> Result<Vec<f32>> {
        let mut out = vec![0.0; x.len() / self.inputs * self.outputs];
        self.apply(x, activation, &mut out, &mut PackedRows::default(), turn)?;
        Ok(out)
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
            let out = layer.output(&x, Activation::Relu, &Turn::default()).unwrap();
            for r in 0..rows {
                for c in 0..outputs {
                    let sum: f32 = (0..inputs).map(|k| x[r * inputs + k] * w[c * inputs + k]).sum::<f32>() + b[c];
                    let got = out[r * outputs + c];
                    assert!((got - sum.max(0.0)).abs() < 1e-4, "{rows} {inputs} {outputs}: {got} and not {sum}");
                }
            }
        }
    }

    #[test]
    fn rows_of_another_width_are_refused() {
        let (layer, turn) = (Linear::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2), Turn::default());
        assert_eq!(
            layer.output(&[1.0, 1.0, 0.0, 2.0], Activation::Identity, &turn).unwrap(),
            [3.0, 7.0, 11.0, 4.0, 8.0, 12.0]
        );
        assert!(layer.output(&[1.0], Activation::Identity, &turn).is_err());
        let mut packed = PackedRows::default();
        assert!(layer.apply(&[1.0, 1.0], Activation::Identity, &mut [0.0; 4], &mut packed, &turn).is_err());
    }
}
