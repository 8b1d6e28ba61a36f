//! The transformer of both towers: layers of attention and a feed-forward network, each normalised before.

use crate::layers::{add, Activation, Attention, FeedForward, Heads, LayerNorm, Linear, Scratch, SelfAttention};
use crate::turn::Turn;
use crate::weights::Weights;
use mysql_ml_base::error::Result;

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
    pub epsilon: f32,
    /// Whether a token sees only itself and those before it.
    pub causal: bool,
}

struct Layer {
    before_attention: LayerNorm,
    attention: SelfAttention,
    before_network: LayerNorm,
    network: FeedForward,
}

/// The layers.
pub struct Encoder {
    layers: Vec<Layer>,
}

impl Encoder {
    /// Reads the layers under `name`.
    pub fn load(weights: &Weights, name: &str, shape: Shape) -> Result<Self> {
        let Shape { width, inner, epsilon, causal, activation, .. } = shape;
        let heads = Heads { count: shape.heads, width: width / shape.heads.max(1) };
        let attention = Attention { heads, scale: 1.0 / (heads.width as f32).sqrt(), causal };
        let layers = (0..shape.layers)
            .map(|i| {
                let at = |part: &str| format!("{name}.layers.{i}.{part}");
                let [q, k, v, out] = ["q_proj", "k_proj", "v_proj", "out_proj"].map(|p| at(&format!("self_attn.{p}")));
                Ok(Layer {
                    before_attention: LayerNorm::load(weights, &at("layer_norm1"), width, epsilon)?,
                    attention: SelfAttention::load(weights, [&q, &k, &v, &out], width, attention, true)?,
                    before_network: LayerNorm::load(weights, &at("layer_norm2"), width, epsilon)?,
                    network: FeedForward {
                        up: Linear::load(weights, &at("mlp.fc1"), width, inner, true)?,
                        gate: None,
                        down: Linear::load(weights, &at("mlp.fc2"), inner, width, true)?,
                        activation,
                    },
                })
            })
            .collect::<Result<_>>()?;
        Ok(Encoder { layers })
    }

    /// Changes `x`, which is `[tokens, width]`, of several sequences of so many tokens each.
    pub fn apply(&self, x: &mut [f32], sequences: &[usize], turn: &Turn) -> Result<()> {
        let (mut normed, mut out) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        let mut scratch = Scratch::default();
        for layer in &self.layers {
            layer.before_attention.apply_to(x, &mut normed);
            layer.attention.apply(&normed, sequences.iter().copied(), None, &mut out, &mut scratch, turn)?;
            add(x, &out);
            layer.before_network.apply_to(x, &mut normed);
            layer.network.apply(&normed, &mut out, &mut scratch, turn)?;
            add(x, &out);
        }
        turn.check()
    }

    /// The bytes it keeps.
    pub fn memory_bytes(&self) -> u64 {
        let of = |l: &Layer| {
            let norms = l.before_attention.memory_bytes() + l.before_network.memory_bytes();
            norms + l.attention.memory_bytes() + l.network.memory_bytes()
        };
        self.layers.iter().map(of).sum()
    }
}
