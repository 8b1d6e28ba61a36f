//! The transformer of both towers. Norms precede attention and feed-forward network.

use crate::layers::{add, Activation, Attention, FeedForward, Heads, LayerNorm, Linear, Scratch, SelfAttention};
use crate::turn::Turn;
use crate::weights::Weights;
use mysql_ml_base::error::Result;

/// The sizes of an encoder.
#[derive(Clone, Copy)]
pub struct Shape {
    /// The length of a token's row.
    pub width: usize,
    /// The inner length of the feed-forward network.
    pub inner: usize,
    /// The number of layers.
    pub layers: usize,
    /// The number of heads.
    pub heads: usize,
    /// The activation of the feed-forward network.
    pub activation: Activation,
    /// The epsilon of the norms.
    pub epsilon: f32,
    /// Whether a token attends to no later token.
    pub causal: bool,
}

struct Layer {
    before_attention: LayerNorm,
    attention: SelfAttention,
    before_network: LayerNorm,
    network: FeedForward,
}

/// The layers of a tower.
pub struct Encoder {
    layers: Vec<Layer>,
}

impl Encoder {
    /// Reads the layers with the name prefix `name`.
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

    /// Replaces `x`, `[tokens, width]`, by the output. `sequences` are the tokens of each sequence in `x`.
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

    /// Bytes of the weights.
    pub fn memory_bytes(&self) -> u64 {
        let of = |l: &Layer| {
            let norms = l.before_attention.memory_bytes() + l.before_network.memory_bytes();
            norms + l.attention.memory_bytes() + l.network.memory_bytes()
        };
        self.layers.iter().map(of).sum()
    }
}
