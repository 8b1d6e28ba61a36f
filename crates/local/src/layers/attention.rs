//! Attention: what the tokens of a sequence take from others.

use multiversion::multiversion;

use super::kernel::{multiply_block, Left, Packed, Right, COLUMNS, ROWS};
use super::{functions, one_row, sized, Activation, Distances, Linear, Scratch};
use crate::turn::Turn;
use crate::weights::Weights;
use mysql_ml_base::error::{Error, Result};

/// Memory that is used again from head to head.
#[derive(Default)]
pub(super) struct Memory {
    queries: Packed,
    rows: Vec<f32>,
    keys: Vec<Right>,
    values: Vec<Right>,
    scores: Vec<f32>,
    weights: Vec<Left>,
    product: Vec<f32>,
}

/// How a row of queries, keys or values is cut into heads.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// How many there are.
    pub count: usize,
    /// Numbers of each.
    pub width: usize,
}

/// Queries, keys or values, `[tokens, heads * width]`, which may be parts of wider rows.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    data: &'a [f32],
    tokens: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    /// The rows that begin with number `column` of each of `rows`, which have `stride` numbers.
    pub fn columns(rows: &'a [f32], column: usize, stride: usize) -> Self {
        let stride = stride.max(1);
        Rows { data: rows.get(column..).unwrap_or_default(), tokens: rows.len() / stride, stride }
    }

    fn fit(&self, width: usize) -> bool {
        self.tokens == 0 || (self.tokens - 1) * self.stride + width <= self.data.len()
    }

    /// The part of a head in each row.
    #[inline(always)]
    fn head(self, head: usize, width: usize) -> impl Iterator<Item = &'a [f32]> {
        let rows = self.data.chunks(self.stride).take(self.tokens);
        rows.map(move |row| row.get(head * width..(head + 1) * width).unwrap_or_default())
    }
}

/// `softmax(scale * Q Kᵀ + bias) V` for each head.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// How rows are cut.
    pub heads: Heads,
    /// What scores are multiplied with.
    pub scale: f32,
    /// Whether a token sees only itself and those before it.
    pub causal: bool,
}

impl Attention {
    /// Of queries, keys and values: what each query takes, in `out`, `[queries, heads * width]`. Where the places of tokens
    /// count, in `causal` and `distances`, the queries are those of the last tokens that have keys.
    pub fn apply(
        self,
        parts: [Rows<'_>; 3],
        distances: Option<&Distances>,
        out: &mut [f32],
        scratch: &mut Scratch,
        turn: &Turn,
    ) -> Result<()> {
        self.with(parts, distances, out, &mut scratch.heads, turn)
    }

    fn with(
        self,
        parts: [Rows<'_>; 3],
        distances: Option<&Distances>,
        out: &mut [f32],
        memory: &mut Memory,
        turn: &Turn,
    ) -> Result<()> {
        let [queries, keys, values] = parts;
        let width = self.heads.count * self.heads.width;
        let fit = parts.iter().all(|rows| rows.fit(width));
        if !fit || width == 0 || keys.tokens != values.tokens || out.len() != queries.tokens * width {
            return Err(Error::internal("queries, keys and values of other shapes than their heads"));
        }
        turn.check()?;
        match (queries.tokens, keys.tokens) {
            (0, _) | (_, 0) => out.fill(0.0),
            (1, _) => one(self, parts, distances, memory, out),
            _ => many(self, parts, distances, memory, out, turn),
        }
        turn.check()
    }
}

/// Attention of one query, which sees all keys.
fn one(
    attention: Attention,
    [query, keys, values]: [Rows<'_>; 3],
    distances: Option<&Distances>,
    memory: &mut Memory,
    out: &mut [f32],
) {
    let Attention { heads: Heads { count, width }, scale, .. } = attention;
    for (head, out) in (0..count).zip(out.chunks_exact_mut(width)) {
        let from = head * width;
        let query = query.data.get(from..from + width).unwrap_or_default();
        let scores = sized(&mut memory.scores, keys.tokens);
        one_row::products(query, keys.data.get(from..).unwrap_or_default(), keys.stride, scores);
        scores.iter_mut().for_each(|score| *score *= scale);
        if let Some(distances) = distances {
            scores.iter_mut().zip(distances.of(head, keys.tokens - 1)).for_each(|(score, bias)| *score += bias);
        }
        softmax(scores);
        one_row::mix(scores, values.data.get(from..).unwrap_or_default(), values.stride, out);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn softmax(scores: &mut [f32]) {
    functions::softmax(scores);
}

/// Attention of several queries, as products of packed matrices. Ends early once `turn` does; whoever calls looks at it.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn many(
    attention: Attention,
    parts: [Rows<'_>; 3],
    distances: Option<&Distances>,
    memory: &mut Memory,
    out: &mut [f32],
    turn: &Turn,
) {
    let Attention { heads: Heads { count, width: head }, scale, causal } = attention;
    let [queries, keys, values] = parts;
    let (tokens, inner) = (keys.tokens, count * head);
    let first = tokens.saturating_sub(queries.tokens);
    let padded = tokens.next_multiple_of(COLUMNS);
    let value_panels = head.div_ceil(COLUMNS);
    for h in 0..count {
        memory.rows.clear();
        for query in queries.head(h, head) {
            memory.rows.extend(query.iter().map(|x| x * scale));
        }
        memory.queries.fill(&memory.rows, head);
        // The keys as columns, a panel of them for each COLUMNS tokens; those behind the last token are 0.
        memory.keys.clear();
        memory.keys.resize(padded / COLUMNS * head, [0.0; COLUMNS]);
        let mut rows = keys.head(h, head);
        for panel in memory.keys.chunks_exact_mut(head) {
            for (column, key) in rows.by_ref().take(COLUMNS).enumerate() {
                for (place, x) in panel.iter_mut().zip(key) {
                    if let Some(place) = place.get_mut(column) {
                        *place = *x;
                    }
                }
            }
        }
        // The values as they are, in panels of COLUMNS of their numbers.
        memory.values.clear();
        memory.values.resize(value_panels * tokens, [0.0; COLUMNS]);
        for (p, panel) in memory.values.chunks_exact_mut(tokens).enumerate() {
            for (place, value) in panel.iter_mut().zip(values.head(h, head)) {
                let numbers = value.get(p * COLUMNS..).unwrap_or_default();
                match numbers.first_chunk() {
                    Some(numbers) => *place = *numbers,
                    None => place.iter_mut().zip(numbers).for_each(|(place, x)| *place = *x),
                }
            }
        }
        memory.scores.resize(padded * ROWS, 0.0);
        memory.weights.resize(tokens, [0.0; ROWS]);
        memory.product.resize(value_panels * COLUMNS * ROWS, 0.0);
        let blocks = memory.queries.blocks().chunks_exact(head).zip(out.chunks_mut(inner * ROWS));
        for (b, (queries, out)) in blocks.enumerate() {
            if b.is_multiple_of(8) && turn.check().is_err() {
                return;
            }
            multiply_block(queries, &memory.keys, &mut memory.scores, padded);
            for (r, scores) in memory.scores.chunks_exact_mut(padded).enumerate() {
                let place = first + b * ROWS + r;
                let Some(scores) = scores.get_mut(..tokens) else { continue };
                if let Some(distances) = distances {
                    scores.iter_mut().zip(distances.of(h, place)).for_each(|(score, bias)| *score += bias);
                }
                let seen = if causal { tokens.min(place + 1) } else { tokens };
                let (seen, unseen) = scores.split_at_mut(seen);
                functions::softmax(seen);
                unseen.fill(0.0);
            }
            side_by_side(&memory.scores, padded, &mut memory.weights);
            multiply_block(&memory.weights, &memory.values, &mut memory.product, value_panels * COLUMNS);
            let products = memory.product.chunks_exact(value_panels * COLUMNS);
            for (row, out) in products.zip(out.chunks_mut(inner)) {
                if let (Some(place), Some(row)) = (out.get_mut(h * head..(h + 1) * head), row.get(..head)) {
                    place.copy_from_slice(row);
                }
            }
        }
    }
}

/// Puts the rows side by side, as a left factor has them.
#[inline(always)]
fn side_by_side(rows: &[f32], width: usize, out: &mut [Left]) {
    let mut rows = rows.chunks_exact(width);
    let mut next = || rows.next().unwrap_or_default().iter();
    let rows: [_; ROWS] = [next(), next(), next(), next(), next(), next()];
    let [a, b, c, d, e, f] = rows;
    for (place, (((((a, b), c), d), e), f)) in out.iter_mut().zip(a.zip(b).zip(c).zip(d).zip(e).zip(f)) {
        *place = [*a, *b, *c, *d, *e, *f];
    }
}

/// Attention of the tokens of a sequence to one another, with the products before and behind it.
pub struct SelfAttention {
    /// Queries, keys and values side by side: from `hidden` to `3 * heads * width`.
    pub projections: Linear,
    /// From `heads * width` to `hidden`.
    pub output: Linear,
    /// What is between them.
    pub attention: Attention,
}

impl SelfAttention {
    /// Reads the layers of queries, keys, values and the output by their names, all with a bias or without.
    pub fn load(
        weights: &Weights,
        [queries, keys, values, output]: [&str; 4],
        hidden: usize,
        attention: Attention,
        bias: bool,
    ) -> Result<Self> {
        let inner = attention.heads.count * attention.heads.width;
        Ok(SelfAttention {
            projections: Linear::load_joined(weights, &[queries, keys, values], hidden, inner, bias)?,
            output: Linear::load(weights, output, inner, hidden, bias)?,
            attention,
        })
    }

    /// `x` and `out`: `[tokens, hidden]`, of sequences of so many tokens each.
    pub fn apply(
        &self,
        x: &[f32],
        sequences: impl IntoIterator<Item = usize>,
        distances: Option<&Distances>,
        out: &mut [f32],
        scratch: &mut Scratch,
        turn: &Turn,
    ) -> Result<()> {
        let inner = self.attention.heads.count * self.attention.heads.width;
        let tokens = x.len() / self.output.outputs().max(1);
        let Scratch { packed, projected, attended, heads, .. } = scratch;
        let (projected, attended) = (sized(projected, tokens * 3 * inner), sized(attended, tokens * inner));
        self.projections.apply(x, Activation::Identity, projected, packed, turn)?;
        let (mut from, mut to) = (&*projected, &mut *attended);
        for tokens in sequences {
            let (this, rest) = from.split_at_checked(tokens * 3 * inner).ok_or_else(too_long)?;
            let (out, out_rest) = to.split_at_mut_checked(tokens * inner).ok_or_else(too_long)?;
            let part = |i: usize| Rows::columns(this, i * inner, 3 * inner);
            self.attention.with([part(0), part(1), part(2)], distances, out, heads, turn)?;
            (from, to) = (rest, out_rest);
        }
        self.output.apply(attended, Activation::Identity, out, packed, turn)
    }

    /// The bytes it keeps.
    pub fn memory_bytes(&self) -> u64 {
        self.projections.memory_bytes() + self.output.memory_bytes()
    }
}

fn too_long() -> Error {
    Error::internal("sequences of more tokens than there are rows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Buckets, DistanceTable};

    /// As it is written in papers, number by number.
    fn plain(attention: Attention, q: &[f32], k: &[f32], v: &[f32], distances: Option<&Distances>) -> Vec<f32> {
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
                scale * product + distances.map_or(0.0, |d| d.of(h, place)[j]) + masked
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
            let distances = DistanceTable::of(table, buckets, count).distances(keys - 1, keys - 1);
            for (causal, distances) in
                [(false, None), (true, None), (false, Some(&distances)), (true, Some(&distances))]
            {
                let attention = Attention { heads: Heads { count, width }, scale: 0.3, causal };
                let parts = [
                    Rows::columns(&q, 0, inner),
                    Rows::columns(&pairs, 0, 2 * inner),
                    Rows::columns(&pairs, inner, 2 * inner),
                ];
                let mut out = vec![f32::NAN; queries * inner];
                attention.apply(parts, distances, &mut out, &mut scratch, &turn).unwrap();
                for (got, wanted) in out.iter().zip(plain(attention, &q, &k, &v, distances)) {
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
