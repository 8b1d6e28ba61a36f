//! Memory for intermediate results, which layers reuse.

use super::kernel::{Left, PackedRows, Right};

/// Memory that the layers of a model use one after the other.
#[derive(Default)]
pub struct Scratch {
    /// The input of a linear layer.
    pub(super) packed: PackedRows,
    /// Queries, keys and values side by side: `[tokens, 3 * inner]`.
    pub(super) projected: Vec<f32>,
    /// The values that attention mixed: `[tokens, inner]`.
    pub(super) attended: Vec<f32>,
    pub(super) head: HeadScratch,
    /// The inner rows of a feed-forward network: `[tokens, inner]`.
    pub(super) wide: Vec<f32>,
    /// Its gates: `[tokens, inner]`.
    pub(super) gates: Vec<f32>,
}

/// Memory that the heads of attention use one after the other.
#[derive(Default)]
pub(super) struct HeadScratch {
    /// Scaled queries, `[queries, width]`.
    pub(super) rows: Vec<f32>,
    /// The same, packed.
    pub(super) queries: PackedRows,
    /// `[panels, width, COLUMNS]`.
    pub(super) keys: Vec<Right>,
    /// `[panels, tokens, COLUMNS]`.
    pub(super) values: Vec<Right>,
    /// Scores of one block, `[ROWS, padded]`.
    pub(super) scores: Vec<f32>,
    /// The same after softmax, `[tokens, ROWS]`.
    pub(super) weights: Vec<Left>,
    /// Mixed values of one block, `[ROWS, value_width]`.
    pub(super) mixed: Vec<f32>,
}

/// Makes `numbers` as long as `count`. Their values are arbitrary.
pub(super) fn resized(numbers: &mut Vec<f32>, count: usize) -> &mut [f32] {
    numbers.resize(count, 0.0);
    numbers
}
