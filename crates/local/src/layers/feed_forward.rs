//! The feed-forward network of a transformer's layer.

use super::activation::Activation;
use super::linear::Linear;
use super::scratch::{resized, Scratch};
use crate::turn::Turn;
use mysql_ml_base::error::{Error, Result};

/// Tokens that pass all linear layers before the next do: their inner rows stay in a core's cache.
const TOKENS: usize = 96;

/// `down(activation(up(x)))`, or `down(activation(up(x)) * gate(x))`.
pub struct FeedForward {
    /// From `hidden` to `inner`.
    pub up: Linear,
    /// From `hidden` to `inner`.
    pub gate: Option<Linear>,
    /// From `inner` to `hidden`.
    pub down: Linear,
    /// The activation of `up`.
    pub activation: Activation,
}

impl FeedForward {
    /// Writes the output of `x` to `out`, both `[tokens, hidden]`.
    ///
    /// The error is that of `turn`, or an internal one for other shapes.
    pub fn apply(&self, x: &[f32], out: &mut [f32], scratch: &mut Scratch, turn: &Turn) -> Result<()> {
        let (hidden, inner) = (self.down.outputs(), self.up.outputs());
        if hidden == 0 || x.len() != out.len() {
            return Err(Error::internal("a feed-forward network has input and output of other shapes"));
        }
        let Scratch { packed, wide, gates, .. } = scratch;
        for (x, out) in x.chunks(hidden * TOKENS).zip(out.chunks_mut(hidden * TOKENS)) {
            let wide = resized(wide, x.len() / hidden * inner);
            self.up.apply(x, self.activation, wide, packed, turn)?;
            if let Some(gate) = &self.gate {
                let gates = resized(gates, wide.len());
                gate.apply(x, Activation::Identity, gates, packed, turn)?;
                wide.iter_mut().zip(gates).for_each(|(x, gate)| *x *= *gate);
            }
            self.down.apply(wide, Activation::Identity, out, packed, turn)?;
        }
        Ok(())
    }

    /// Bytes of the packed weights.
    pub fn memory_bytes(&self) -> u64 {
        self.up.memory_bytes() + self.gate.as_ref().map_or(0, Linear::memory_bytes) + self.down.memory_bytes()
    }
}
