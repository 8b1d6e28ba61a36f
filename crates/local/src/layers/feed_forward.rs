//! The feed-forward network of a transformer's layer.

use super::{sized, Activation, Linear, Scratch};
use crate::turn::Turn;
use mysql_ml_base::error::{Error, Result};

/// Tokens that go through both products at once: what is between them then stays in a core's cache.
const TOKENS: usize = 96;

/// `down(activation(up(x)))`, and where there is a gate `down(activation(up(x)) * gate(x))`.
pub struct FeedForward {
    /// From `hidden` to `inner`.
    pub up: Linear,
    /// From `hidden` to `inner`.
    pub gate: Option<Linear>,
    /// From `inner` to `hidden`.
    pub down: Linear,
    /// What is done to what `up` makes.
    pub activation: Activation,
}

impl FeedForward {
    /// `x` and `out`: `[tokens, hidden]`.
    pub fn apply(&self, x: &[f32], out: &mut [f32], scratch: &mut Scratch, turn: &Turn) -> Result<()> {
        let (hidden, inner) = (self.down.outputs(), self.up.outputs());
        if hidden == 0 || x.len() != out.len() {
            return Err(Error::internal("a feed-forward network whose ends have other shapes"));
        }
        for (x, out) in x.chunks(hidden * TOKENS).zip(out.chunks_mut(hidden * TOKENS)) {
            let numbers = x.len() / hidden * inner;
            let wide = sized(&mut scratch.wide, numbers);
            self.up.apply(x, self.activation, wide, &mut scratch.packed, turn)?;
            if let Some(gate) = &self.gate {
                let gates = sized(&mut scratch.gates, numbers);
                gate.apply(x, Activation::Identity, gates, &mut scratch.packed, turn)?;
                wide.iter_mut().zip(gates).for_each(|(v, gate)| *v *= *gate);
            }
            self.down.apply(wide, Activation::Identity, out, &mut scratch.packed, turn)?;
        }
        Ok(())
    }

    /// The bytes it keeps.
    pub fn memory_bytes(&self) -> u64 {
        self.up.memory_bytes() + self.gate.as_ref().map_or(0, Linear::memory_bytes) + self.down.memory_bytes()
    }
}
