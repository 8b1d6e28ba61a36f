//! Attention: each token of a sequence mixes the values of others, weighted by how its query fits their keys.

use multiversion::multiversion;

use super::activation::Activation;
use super::kernel::{multiply, Columns, Left, Right, COLUMNS, ROWS};
use super::linear::Linear;
use super::relative_position::PositionBias;
use super::scratch::{resized, HeadScratch, Scratch};
use super::{math, vector_product};
use crate::turn::Turn;
use crate::weights::Weights;
use mysql_ml_base::error::{Error, Result};

/// Query blocks between two checks of the [`Turn`].
const BLOCKS: usize = 8;

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// The number of heads.
    pub count: usize,
    /// The numbers of a query, key or value in one head.
    pub width: usize,
}

impl Heads {
    /// The length of a row with all heads side by side.
    pub fn inner(self) -> usize {
        self.count * self.width
    }
}

/// Queries, keys or values, `[tokens, inner]`: a range of columns in rows of `stride` numbers.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    data: &'a [f32],
    tokens: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    /// The columns from `column` on of `matrix`, `[tokens, stride]`.
    pub fn columns(matrix: &'a [f32], column: usize, stride: usize) -> Self {
        let stride = stride.max(1);
        Rows { data: matrix.get(column..).unwrap_or_default(), tokens: matrix.len() / stride, stride }
    }

    fn have(&self, width: usize) -> bool {
        self.tokens == 0 || (self.tokens - 1) * self.stride + width <= self.data.len()
    }

    /// The rows of one head, each `[width]`.
    #[inline(always)]
    fn of_head(self, head: usize, width: usize) -> impl Iterator<Item = &'a [f32]> + Clone {
        let rows = self.data.chunks(self.stride).take(self.tokens);
        rows.map(move |row| row.get(head * width..(head + 1) * width).unwrap_or_default())
    }
}

/// `softmax(scale * Q Kᵀ + bias) V` in each head.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// The heads of queries, keys and values.
    pub heads: Heads,
    /// The factor of scores.
    pub scale: f32,
    /// Whether a token attends to no later token.
    pub causal: bool,
}

impl Attention {
    /// Writes the mixed values of each query to `out`, `[queries, inner]`.
    ///
    /// `parts` are queries, keys and values. With `causal` or `bias` the queries belong to the last tokens that have keys.
    /// The error is that of `turn`, or an internal one for other shapes.
    pub fn apply(
        self,
        parts: [Rows<'_>; 3],
        bias: Option<&PositionBias>,
        out: &mut [f32],
        scratch: &mut Scratch,
        turn: &Turn,
    ) -> Result<()> {
        self.attend(parts, bias, out, &mut scratch.head, turn)
    }

    fn attend(
        self,
        parts: [Rows<'_>; 3],
        bias: Option<&PositionBias>,
        out: &mut [f32],
        scratch: &mut HeadScratch,
        turn: &Turn,
    ) -> Result<()> {
        let [queries, keys, values] = parts;
        let inner = self.heads.inner();
        let fit = parts.iter().all(|rows| rows.have(inner));
        if !fit || inner == 0 || keys.tokens != values.tokens || out.len() != queries.tokens * inner {
            return Err(Error::internal("queries, keys and values have other shapes than their heads"));
        }
        turn.check()?;
        match (queries.tokens, keys.tokens) {
            (0, _) | (_, 0) => out.fill(0.0),
            (1, _) => attend_one(self, parts, bias, scratch, out),
            _ => attend_all(self, parts, bias, scratch, out, turn),
        }
        turn.check()
    }
}

/// Attention of a single query to all keys.
fn attend_one(
    attention: Attention,
    [query, keys, values]: [Rows<'_>; 3],
    bias: Option<&PositionBias>,
    scratch: &mut HeadScratch,
    out: &mut [f32],
) {
    let Attention { heads: Heads { count, width }, scale, .. } = attention;
    for (head, out) in (0..count).zip(out.chunks_exact_mut(width)) {
        let from = head * width;
        let query = query.data.get(from..from + width).unwrap_or_default();
        let scores = resized(&mut scratch.scores, keys.tokens);
        vector_product::dot_rows(query, keys.data.get(from..).unwrap_or_default(), keys.stride, scores);
        scores.iter_mut().for_each(|score| *score *= scale);
        if let Some(bias) = bias {
            scores.iter_mut().zip(bias.row(head, keys.tokens - 1)).for_each(|(score, bias)| *score += bias);
        }
        softmax(scores);
        vector_product::mix_rows(scores, values.data.get(from..).unwrap_or_default(), values.stride, out);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn softmax(scores: &mut [f32]) {
    math::softmax(scores);
}

/// Attention of several queries as products of packed matrices. It returns early once `turn` ends; the caller checks it.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn attend_all(
    attention: Attention,
    [queries, keys, values]: [Rows<'_>; 3],
    bias: Option<&PositionBias>,
    scratch: &mut HeadScratch,
    out: &mut [f32],
    turn: &Turn,
) {
    let Attention { heads: Heads { count, width: head_width }, scale, causal } = attention;
    let (tokens, inner) = (keys.tokens, count * head_width);
    let first = tokens.saturating_sub(queries.tokens);
    let padded = tokens.next_multiple_of(COLUMNS);
    let value_width = head_width.next_multiple_of(COLUMNS);
    resized(&mut scratch.scores, padded * ROWS);
    resized(&mut scratch.mixed, value_width * ROWS);
    for head in 0..count {
        scratch.rows.clear();
        for query in queries.of_head(head, head_width) {
            scratch.rows.extend(query.iter().map(|x| x * scale));
        }
        scratch.queries.pack(&scratch.rows, head_width);
        pack_keys(keys.of_head(head, head_width), head_width, padded, &mut scratch.keys);
        pack_values(values.of_head(head, head_width), tokens, value_width, &mut scratch.values);
        let blocks = scratch.queries.blocks().chunks_exact(head_width).zip(out.chunks_mut(inner * ROWS));
        for (b, (queries, out)) in blocks.enumerate() {
            if b.is_multiple_of(BLOCKS) && turn.check().is_err() {
                return;
            }
            let rows = out.len() / inner;
            multiply_panels(queries, &scratch.keys, scratch.scores.get_mut(..rows * padded), padded);
            for (r, scores) in scratch.scores.chunks_exact_mut(padded).take(rows).enumerate() {
                let position = first + b * ROWS + r;
                let Some(scores) = scores.get_mut(..tokens) else { continue };
                if let Some(bias) = bias {
                    scores.iter_mut().zip(bias.row(head, position)).for_each(|(score, bias)| *score += bias);
                }
                let visible = if causal { tokens.min(position + 1) } else { tokens };
                let (visible, hidden) = scores.split_at_mut(visible);
                math::softmax(visible);
                hidden.fill(0.0);
            }
            scratch.weights.resize(tokens, [0.0; ROWS]);
            interleave(&scratch.scores, padded, &mut scratch.weights);
            let weights = &scratch.weights;
            multiply_panels(weights, &scratch.values, scratch.mixed.get_mut(..rows * value_width), value_width);
            for (mixed, out) in scratch.mixed.chunks_exact(value_width).zip(out.chunks_mut(inner)) {
                let place = out.get_mut(head * head_width..(head + 1) * head_width);
                if let (Some(place), Some(mixed)) = (place, mixed.get(..head_width)) {
                    place.copy_from_slice(mixed);
                }
            }
        }
    }
}

/// Writes the product of one block, `[inner, ROWS]`, with all panels, `[panels, inner, COLUMNS]`, to `out`, `[rows, width]`.
#[inline(always)]
fn multiply_panels(block: &[Left], panels: &[Right], out: Option<&mut [f32]>, width: usize) {
    let out = out.unwrap_or_default();
    for (i, panel) in panels.chunks_exact(block.len().max(1)).enumerate() {
        let columns = Columns { matrix: &mut *out, width, first: i * COLUMNS };
        multiply(block, panel, &[0.0; COLUMNS], Activation::Identity, columns);
    }
}

/// Packs keys as columns: `[padded / COLUMNS, width, COLUMNS]`. Zeros fill the last panel.
#[inline(always)]
fn pack_keys<'a>(mut keys: impl Iterator<Item = &'a [f32]>, width: usize, padded: usize, panels: &mut Vec<Right>) {
    panels.clear();
    panels.resize(padded / COLUMNS * width, [0.0; COLUMNS]);
    for panel in panels.chunks_exact_mut(width) {
        for (column, key) in keys.by_ref().take(COLUMNS).enumerate() {
            for (place, x) in panel.iter_mut().zip(key) {
                if let Some(place) = place.get_mut(column) {
                    *place = *x;
                }
            }
        }
    }
}

/// Packs values as rows: `[value_width / COLUMNS, tokens, COLUMNS]`. Zeros fill the last panel.
#[inline(always)]
fn pack_values<'a>(
    values: impl Iterator<Item = &'a [f32]> + Clone,
    tokens: usize,
    value_width: usize,
    panels: &mut Vec<Right>,
) {
    panels.clear();
    panels.resize(value_width / COLUMNS * tokens, [0.0; COLUMNS]);
    for (p, panel) in panels.chunks_exact_mut(tokens).enumerate() {
        for (place, value) in panel.iter_mut().zip(values.clone()) {
            let numbers = value.get(p * COLUMNS..).unwrap_or_default();
            match numbers.first_chunk() {
                Some(numbers) => *place = *numbers,
                None => place.iter_mut().zip(numbers).for_each(|(place, x)| *place = *x),
            }
        }
    }
}

/// Packs the block `rows`, `[ROWS, width]`, as `[width, ROWS]`.
#[inline(always)]
fn interleave(rows: &[f32], width: usize, out: &mut [Left]) {
    let mut rows = rows.chunks_exact(width);
    let mut next = || rows.next().unwrap_or_default().iter();
    let rows: [_; ROWS] = [next(), next(), next(), next(), next(), next()];
    let [a, b, c, d, e, f] = rows;
    for (place, (((((a, b), c), d), e), f)) in out.iter_mut().zip(a.zip(b).zip(c).zip(d).zip(e).zip(f)) {
        *place = [*a, *b, *c, *d, *e, *f];
    }
}

/// Attention of the tokens of a sequence to each other, with its linear layers.
pub struct SelfAttention {
    /// From `hidden` to `3 * inner`: queries, keys and values side by side.
    pub projections: Linear,
    /// From `inner` to `hidden`.
    pub output: Linear,
    /// Mixes the projected values.
    pub attention: Attention,
}

impl SelfAttention {
    /// Reads the linear layers of queries, keys, values and output. `bias` says that all have one.
    pub fn load(
        weights: &Weights,
        [queries, keys, values, output]: [&str; 4],
        hidden: usize,
        attention: Attention,
        bias: bool,
    ) -> Result<Self> {
        let inner = attention.heads.inner();
        Ok(SelfAttention {
            projections: Linear::load_joined(weights, &[queries, keys, values], hidden, inner, bias)?,
            output: Linear::load(weights, output, inner, hidden, bias)?,
            attention,
        })
    }

    /// Writes the output of `x` to `out`, both `[tokens, hidden]`.
    ///
    /// `lengths` are the tokens of each sequence in `x`. The error is that of `turn`, or an internal one for other shapes.
    pub fn apply(
        &self,
        x: &[f32],
        lengths: impl IntoIterator<Item = usize>,
        bias: Option<&PositionBias>,
        out: &mut [f32],
        scratch: &mut Scratch,
        turn: &Turn,
    ) -> Result<()> {
        let inner = self.attention.heads.inner();
        let tokens = x.len() / self.output.outputs().max(1);
        let Scratch { packed, projected, attended, head, .. } = scratch;
        let (projected, attended) = (resized(projected, tokens * 3 * inner), resized(attended, tokens * inner));
        self.projections.apply(x, Activation::Identity, projected, packed, turn)?;
        let (mut from, mut to) = (&*projected, &mut *attended);
        for tokens in lengths {
            let (sequence, rest) = from.split_at_checked(tokens * 3 * inner).ok_or_else(too_long)?;
            let (out, out_rest) = to.split_at_mut_checked(tokens * inner).ok_or_else(too_long)?;
            let part = |i: usize| Rows::columns(sequence, i * inner, 3 * inner);
            self.attention.attend([part(0), part(1), part(2)], bias, out, head, turn)?;
            (from, to) = (rest, out_rest);
        }
        self.output.apply(attended, Activation::Identity, out, packed, turn)
    }

    /// Writes the output of the first token of each sequence to `out`, `[sequences, hidden]`.
    ///
    /// `x` and `lengths` are those of [`SelfAttention::apply`], without an empty sequence. The error is the same.
    pub fn apply_to_first(
        &self,
        x: &[f32],
        lengths: impl IntoIterator<Item = usize>,
        out: &mut [f32],
        scratch: &mut Scratch,
        turn: &Turn,
    ) -> Result<()> {
        let (inner, hidden) = (self.attention.heads.inner(), self.output.outputs().max(1));
        let Scratch { packed, projected, attended, head, .. } = scratch;
        let projected = resized(projected, x.len() / hidden * 3 * inner);
        let attended = resized(attended, out.len() / hidden * inner);
        self.projections.apply(x, Activation::Identity, projected, packed, turn)?;
        let mut from = &*projected;
        for (tokens, out) in lengths.into_iter().zip(attended.chunks_mut(inner.max(1))) {
            let (sequence, rest) = from.split_at_checked(tokens * 3 * inner).ok_or_else(too_long)?;
            let (first, _) = sequence.split_at_checked(3 * inner).ok_or_else(too_long)?;
            let part = |rows, i: usize| Rows::columns(rows, i * inner, 3 * inner);
            self.attention.attend([part(first, 0), part(sequence, 1), part(sequence, 2)], None, out, head, turn)?;
            from = rest;
        }
        self.output.apply(attended, Activation::Identity, out, packed, turn)
    }

    /// Bytes of the packed weights.
    pub fn memory_bytes(&self) -> u64 {
        self.projections.memory_bytes() + self.output.memory_bytes()
    }
}

fn too_long() -> Error {
    Error::internal("sequences have more tokens than there are rows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Buckets, RelativePositions};

    /// Attention by plain loops.
    fn plain(attention: Attention, q: &[f32], k: &[f32], v: &[f32], bias: Option<&PositionBias>) -> Vec<f32> {
        let Attention { heads: Heads { count, width }, scale, causal } = attention;
        let inner = count * width;
        let (queries, keys) = (q.len() / inner, k.len() / inner);
        let mut out = vec![0.0; q.len()];
        for (i, h) in (0..queries).flat_map(|i| (0..count).map(move |h| (i, h))) {
            let place = keys - queries + i;
            let score = |j: usize| {
                let product: f32 =
                    (0..width).map(|x| q[i * inner + h * width + x] * k[j * inner + h * width + x]).sum();
                let masked = if causal && j > place { f32::NEG_INFINITY } else { 0.0 };
                scale * product + bias.map_or(0.0, |b| b.row(h, place)[j]) + masked
            };
            let weights: Vec<f32> = (0..keys).map(|j| score(j).exp()).collect();
            let sum: f32 = weights.iter().sum();
            for x in 0..width {
                let mixed: f32 = (0..keys).map(|j| weights[j] * v[j * inner + h * width + x]).sum();
                out[i * inner + h * width + x] = mixed / sum;
            }
        }
        out
    }

    #[test]
    fn attention_is_that_of_plain_loops_for_all_sizes() {
        let mut rng = fastrand::Rng::with_seed(7);
        let turn = Turn::default();
        let mut scratch = Scratch::default();
        for (queries, keys, count, width) in
            [(1, 1, 1, 1), (1, 9, 3, 6), (7, 7, 2, 33), (13, 13, 3, 6), (40, 40, 2, 32), (5, 50, 1, 8), (33, 33, 4, 17)]
        {
            let inner = count * width;
            let mut random = |n: usize| (0..n).map(|_| rng.f32() * 4.0 - 2.0).collect::<Vec<f32>>();
            let (q, k, v) = (random(queries * inner), random(keys * inner), random(keys * inner));
            let table = random(8 * count);
            // Keys and values as parts of wider rows.
            let pairs: Vec<f32> = k.chunks(inner).zip(v.chunks(inner)).flat_map(|(k, v)| [k, v].concat()).collect();
            let buckets = Buckets { count: 8, furthest: 20, both_ways: queries > 1 };
            let bias = RelativePositions::new(table, buckets, count).bias(keys - 1, keys - 1);
            for (causal, bias) in [(false, None), (true, None), (false, Some(&bias)), (true, Some(&bias))] {
                let attention = Attention { heads: Heads { count, width }, scale: 0.3, causal };
                let parts = [
                    Rows::columns(&q, 0, inner),
                    Rows::columns(&pairs, 0, 2 * inner),
                    Rows::columns(&pairs, inner, 2 * inner),
                ];
                let mut out = vec![f32::NAN; queries * inner];
                attention.apply(parts, bias, &mut out, &mut scratch, &turn).unwrap();
                for (got, wanted) in out.iter().zip(plain(attention, &q, &k, &v, bias)) {
                    assert!((got - wanted).abs() < 1e-5, "{queries} {keys} {count} {width} {causal}: {got} {wanted}");
                }
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (turn, mut scratch) = (Turn::default(), Scratch::default());
        let attention = Attention { heads: Heads { count: 2, width: 2 }, scale: 1.0, causal: false };
        let rows = Rows::columns(&[0.0; 8], 0, 4);
        let narrow = Rows::columns(&[0.0; 6], 0, 3);
        let less = Rows::columns(&[0.0; 4], 0, 4);
        let mut apply = |parts, length| attention.apply(parts, None, &mut vec![0.0; length], &mut scratch, &turn);
        assert!(apply([rows; 3], 8).is_ok());
        assert!(apply([rows; 3], 7).is_err());
        assert!(apply([narrow, rows, rows], 8).is_err());
        assert!(apply([rows, rows, less], 8).is_err());
        assert!(apply([rows, Rows::columns(&[0.0; 8], 9, 4), rows], 8).is_err());
    }
}
