//! The layers that transformers are made of, each once: BERT, CLIP and T5 are put together of them.
//!
//! Numbers are 32-bit floats in row-major slices. What goes from layer to layer is `[tokens, hidden]`: a row of `hidden`
//! numbers for each token, the sequences of a batch one behind the other without padding. A row's result does not depend
//! on other sequences: a text gives the same vector in every batch.
//!
//! Each call computes on the thread that makes it, in plain Rust that the compiler vectorises. It is compiled for several
//! processors; which one this is, is asked at run time.

mod activation;
mod attention;
mod distances;
mod feed_forward;
mod functions;
mod kernel;
mod linear;
mod norm;
mod one_row;
mod table;

pub use self::activation::Activation;
pub use self::attention::{Attention, Heads, Rows, SelfAttention};
pub use self::distances::{Buckets, DistanceTable, Distances};
pub use self::feed_forward::FeedForward;
pub use self::linear::Linear;
pub use self::norm::{LayerNorm, RmsNorm};
pub use self::table::Table;

/// Memory that one layer after the other uses again.
#[derive(Default)]
pub struct Scratch {
    packed: kernel::Packed,
    /// Queries, keys and values: `[tokens, 3 * heads * width]`.
    projected: Vec<f32>,
    /// What the heads give: `[tokens, heads * width]`.
    attended: Vec<f32>,
    heads: attention::Memory,
    /// Between the products of a feed-forward network: `[tokens, inner]`.
    wide: Vec<f32>,
    gates: Vec<f32>,
}

/// Memory for `count` numbers, which may have other values.
fn sized(numbers: &mut Vec<f32>, count: usize) -> &mut [f32] {
    numbers.resize(count, 0.0);
    numbers
}

/// `x += y`, of the same shape.
pub fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
