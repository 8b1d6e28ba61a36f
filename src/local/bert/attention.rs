//! Attention of the tokens of one text to each other.

use multiversion::multiversion;

use crate::local::compute::{functions, tile, Left, Packed, Right, COLUMNS, ROWS};

/// Memory that is used again from text to text.
#[derive(Default)]
pub struct Scratch {
    queries: Packed,
    rows: Vec<f32>,
    keys: Vec<Right>,
    values: Vec<Right>,
    scores: Vec<f32>,
    weights: Vec<Left>,
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
/// [`super::distance::Distances`] lays it out, and the place of distance 0 in it.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
pub fn attend(
    projected: &[f32],
    layout: Layout,
    bias: Option<(&[Vec<f32>], usize)>,
    scratch: &mut Scratch,
    out: &mut [f32],
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
        let part = |row: &mut dyn FnMut(usize, &[f32]), which: usize| {
            for (i, projected) in projected.chunks_exact(3 * hidden).enumerate() {
                row(i, projected.get(which * hidden + h * head..).and_then(|p| p.get(..head)).unwrap_or_default());
            }
        };
        scratch.rows.clear();
        part(&mut |_, query| scratch.rows.extend(query.iter().map(|x| x * scale)), 0);
        scratch.queries.fill(&scratch.rows, head);
        // The keys as columns, a panel of them for each COLUMNS tokens; those behind the last token are 0.
        scratch.keys.clear();
        scratch.keys.resize(key_panels * head, [0.0; COLUMNS]);
        let keys = &mut scratch.keys;
        part(
            &mut |i, key| {
                let panel = keys.chunks_exact_mut(head).nth(i / COLUMNS);
                for (place, x) in panel.into_iter().flatten().zip(key) {
                    if let Some(place) = place.get_mut(i % COLUMNS) {
                        *place = *x;
                    }
                }
            },
            1,
        );
        // The values as they are, in panels of COLUMNS of their numbers.
        scratch.values.clear();
        scratch.values.resize(value_panels * tokens, [0.0; COLUMNS]);
        let values = &mut scratch.values;
        part(
            &mut |i, value| {
                for (p, numbers) in value.chunks(COLUMNS).enumerate() {
                    if let Some(place) = values.get_mut(p * tokens + i) {
                        place.iter_mut().zip(numbers).for_each(|(place, x)| *place = *x);
                    }
                }
            },
            2,
        );
        scratch.scores.resize(padded * ROWS, 0.0);
        scratch.weights.resize(tokens, [0.0; ROWS]);
        let bias = bias.and_then(|(all, zero)| Some((all.get(h)?, zero)));
        let blocks = scratch.queries.blocks().chunks_exact(head).zip(out.chunks_mut(hidden * ROWS));
        for (b, (queries, out)) in blocks.enumerate() {
            for (p, keys) in scratch.keys.chunks_exact(head).enumerate() {
                let product = tile!(queries, keys);
                for (row, scores) in product.iter().zip(scratch.scores.chunks_exact_mut(padded)) {
                    if let Some(place) = scores.as_chunks_mut().0.get_mut(p) {
                        *place = *row;
                    }
                }
            }
            for (r, scores) in scratch.scores.chunks_exact_mut(padded).enumerate() {
                let Some(scores) = scores.get_mut(..tokens) else { continue };
                if let Some((bias, zero)) = bias {
                    let bias = bias.get(zero.saturating_sub(b * ROWS + r)..).unwrap_or_default();
                    scores.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
                }
                functions::softmax(scores);
                for (place, weight) in scratch.weights.iter_mut().zip(scores.iter()) {
                    if let Some(place) = place.get_mut(r) {
                        *place = *weight;
                    }
                }
            }
            for (p, values) in scratch.values.chunks_exact(tokens).enumerate() {
                let product = tile!(&scratch.weights, values);
                for (row, out) in product.iter().zip(out.chunks_mut(hidden)) {
                    let place = out.get_mut(h * head..(h + 1) * head).and_then(|o| o.get_mut(p * COLUMNS..));
                    place.into_iter().flatten().zip(row).for_each(|(place, x)| *place = *x);
                }
            }
        }
    }
}
