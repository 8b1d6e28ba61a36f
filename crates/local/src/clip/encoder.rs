//! The transformer of both towers: layers of attention and a feed-forward network, each normalised before.

use crate::layers::{attention, Activation, Heads, LayerNorm, Linear, Rows};
use crate::turn::Turn;
use crate::weights::Weights;
use mysql_ml_base::error::{Error, Result};

/// What an encoder is made of.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Elements of a token's row.
    pub width: usize,
    /// Elements between the two halves of the feed-forward network.
    pub inner: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of attention.
    pub heads: usize,
    /// What stands in the feed-forward network.
    pub activation: Activation,
    /// What the norms add to the variance.
    pub epsilon: f64,
    /// Whether a token sees only itself and those before it.
    pub causal: bool,
}

struct Layer {
    before_attention: LayerNorm,
    queries_keys_values: Linear,
    after_attention: Linear,
    before_network: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

/// The layers.
pub struct Encoder {
    layers: Vec<Layer>,
    shape: Shape,
}

impl Encoder {
    /// Reads the layers under `name`.
    pub fn load(weights: &Weights, name: &str, shape: Shape) -> Result<Self> {
        let Shape { width, inner, epsilon, .. } = shape;
        let layers = (0..shape.layers)
            .map(|i| {
                let at = |part: &str| format!("{name}.layers.{i}.{part}");
                let parts = [at("self_attn.q_proj"), at("self_attn.k_proj"), at("self_attn.v_proj")];
                Ok(Layer {
                    before_attention: LayerNorm::load(weights, &at("layer_norm1"), width, epsilon)?,
                    queries_keys_values: Linear::load_joined(weights, &parts, width, width, true)?,
                    after_attention: Linear::load(weights, &at("self_attn.out_proj"), width, width, true)?,
                    before_network: LayerNorm::load(weights, &at("layer_norm2"), width, epsilon)?,
                    widen: Linear::load(weights, &at("mlp.fc1"), width, inner, true)?,
                    narrow: Linear::load(weights, &at("mlp.fc2"), inner, width, true)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Encoder { layers, shape })
    }

    /// Changes the rows of `x`, which are those of several sequences of these lengths, one after the other.
    pub fn apply(&self, x: &mut [f32], lengths: &[usize], turn: &Turn) -> Result<()> {
        let width = self.shape.width;
        let heads = Heads { count: self.shape.heads, width: width / self.shape.heads };
        let scale = 1.0 / (heads.width as f32).sqrt();
        let (mut normed, mut joined, mut seen, mut wide, mut scores) = (vec![], vec![], vec![], vec![], vec![]);
        for layer in &self.layers {
            turn.check()?;
            layer.before_attention.apply(x, &mut normed);
            layer.queries_keys_values.apply(&normed, &mut joined, turn)?;
            seen.clear();
            seen.resize(x.len(), 0.0);
            let mut start = 0;
            for length in lengths {
                let part = |i: usize| {
                    let data = joined.get(start * 3 * width + i * width..);
                    let data = data.ok_or_else(|| Error::internal("a sequence outside of its batch"))?;
                    Ok(Rows { data, rows: *length, stride: 3 * width })
                };
                let out = seen.get_mut(start * width..(start + length) * width);
                let out = out.ok_or_else(|| Error::internal("a sequence outside of its batch"))?;
                attention([part(0)?, part(1)?, part(2)?], heads, scale, &mut scores, out, turn, |_, scores| {
                    if self.shape.causal {
                        for (i, row) in scores.chunks_exact_mut(*length).enumerate() {
                            row.iter_mut().skip(i + 1).for_each(|s| *s = f32::NEG_INFINITY);
                        }
                    }
                })?;
                start += length;
            }
            layer.after_attention.add_to(&seen, x, turn)?;
            layer.before_network.apply(x, &mut normed);
            layer.widen.apply(&normed, &mut wide, turn)?;
            self.shape.activation.apply(&mut wide);
            layer.narrow.add_to(&wide, x, turn)?;
        }
        Ok(())
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        self.layers
            .iter()
            .map(|l| {
                l.before_attention.bytes()
                    + l.queries_keys_values.bytes()
                    + l.after_attention.bytes()
                    + l.before_network.bytes()
                    + l.widen.bytes()
                    + l.narrow.bytes()
            })
            .sum()
    }
}
