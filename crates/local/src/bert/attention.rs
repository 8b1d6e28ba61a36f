//! Attention of the tokens of one text to each other.

use multiversion::multiversion;

use crate::compute::{functions, multiply_block, Left, Packed, Right, COLUMNS, ROWS};
use crate::turn::Turn;

/// Memory that is used again from text to text.
#[derive(Default)]
pub struct Scratch {
    queries: Packed,
    rows: Vec<f32>,
    keys: Vec<Right>,
    values: Vec<Right>,
    scores: Vec<f32>,
    weights: Vec<Left>,
    product: Vec<f32>,
}

/// How attention is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The width of a token.
    pub hidden: usize,
    /// How many heads there are.
    pub heads: usize,
}

/// Writes to `out` (rows of `hidden`) what each token of a text takes from the others. `projected` has a row of queries,
/// keys and values for each token. `bias`: for each head what is added to the scores by distance, as
/// [`super::distance::Distances`] lays it out, and the place of distance 0 in it. Ends early once `turn` does; whoever calls
/// looks at it.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
pub fn attend(
    projected: &[f32],
    layout: Layout,
    bias: Option<(&[Vec<f32>], usize)>,
    scratch: &mut Scratch,
    out: &mut [f32],
    turn: &Turn,
) {
    let hidden = layout.hidden;
    let head = hidden / layout.heads.max(1);
    let tokens = out.len() / hidden.max(1);
    if head == 0 || tokens == 0 {
        return;
    }
    let scale = 1.0 / (head as f32).sqrt();
    let padded = tokens.next_multiple_of(COLUMNS);
    let key_panels = padded / COLUMNS;
    let value_panels = head.div_ceil(COLUMNS);
    for h in 0..layout.heads {
        let part = |which: usize| {
            let from = which * hidden + h * head;
            projected.chunks_exact(3 * hidden).map(move |row| row.get(from..from + head).unwrap_or_default())
        };
        scratch.rows.clear();
        for query in part(0) {
            scratch.rows.extend(query.iter().map(|x| x * scale));
        }
        scratch.queries.fill(&scratch.rows, head);
        // The keys as columns, a panel of them for each COLUMNS tokens; those behind the last token are 0.
        scratch.keys.clear();
        scratch.keys.resize(key_panels * head, [0.0; COLUMNS]);
        let mut keys = part(1);
        for panel in scratch.keys.chunks_exact_mut(head) {
            for (column, key) in keys.by_ref().take(COLUMNS).enumerate() {
                for (place, x) in panel.iter_mut().zip(key) {
                    if let Some(place) = place.get_mut(column) {
                        *place = *x;
                    }
                }
            }
        }
        // The values as they are, in panels of COLUMNS of their numbers.
        scratch.values.clear();
        scratch.values.resize(value_panels * tokens, [0.0; COLUMNS]);
        for (p, panel) in scratch.values.chunks_exact_mut(tokens).enumerate() {
            for (place, value) in panel.iter_mut().zip(part(2)) {
                let numbers = value.get(p * COLUMNS..).unwrap_or_default();
                match numbers.first_chunk() {
                    Some(numbers) => *place = *numbers,
                    None => place.iter_mut().zip(numbers).for_each(|(place, x)| *place = *x),
                }
            }
        }
        scratch.scores.resize(padded * ROWS, 0.0);
        scratch.weights.resize(tokens, [0.0; ROWS]);
        scratch.product.resize(value_panels * COLUMNS * ROWS, 0.0);
        let bias = bias.and_then(|(all, zero)| Some((all.get(h)?, zero)));
        let blocks = scratch.queries.blocks().chunks_exact(head).zip(out.chunks_mut(hidden * ROWS));
        for (b, (queries, out)) in blocks.enumerate() {
            if b.is_multiple_of(8) && turn.check().is_err() {
                return;
            }
            multiply_block(queries, &scratch.keys, &mut scratch.scores, padded);
            for (r, scores) in scratch.scores.chunks_exact_mut(padded).enumerate() {
                let Some(scores) = scores.get_mut(..tokens) else { continue };
                if let Some((bias, zero)) = bias {
                    let bias = bias.get(zero.saturating_sub(b * ROWS + r)..).unwrap_or_default();
                    scores.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
                }
                functions::softmax(scores);
            }
            side_by_side(&scratch.scores, padded, &mut scratch.weights);
            multiply_block(&scratch.weights, &scratch.values, &mut scratch.product, value_panels * COLUMNS);
            let products = scratch.product.chunks_exact(value_panels * COLUMNS);
            for (row, out) in products.zip(out.chunks_mut(hidden)) {
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
