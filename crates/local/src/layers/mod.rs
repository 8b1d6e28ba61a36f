//! The layers of transformers, one file each. BERT, CLIP and T5 are made of them.
//!
//! Tensors are row-major slices of 32-bit floats; their shapes are written as `[tokens, hidden]`. Layers exchange
//! `[tokens, hidden]`: the sequences of a batch lie one behind the other without padding.
//!
//! A token's row does not depend on other sequences, so a text has the same vector in every batch. Each call computes on
//! its own thread.

mod activation;
mod attention;
mod embedding;
mod feed_forward;
mod kernel;
mod linear;
mod math;
mod norm;
mod relative_position;
mod scratch;
mod vector_product;

pub use self::activation::Activation;
pub use self::attention::{Attention, Heads, Rows, SelfAttention};
pub use self::embedding::Embedding;
pub use self::feed_forward::FeedForward;
pub use self::linear::Linear;
pub use self::norm::{LayerNorm, RmsNorm};
pub use self::relative_position::{Buckets, PositionBias, RelativePositions};
pub use self::scratch::Scratch;

/// `x += y`, of the same shape.
pub fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
