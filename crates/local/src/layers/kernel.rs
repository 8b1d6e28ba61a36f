//! The matrix product of all layers: packed rows times packed columns.
//!
//! Plain Rust that the compiler vectorises, compiled for AVX-512, for AVX2 and for the target's minimum. The first call
//! asks the processor which of them it has.

use multiversion::multiversion;
use multiversion::target::match_target;

use super::activation::Activation;

/// Rows of one block, which a tile multiplies at once.
pub const ROWS: usize = 6;

/// Columns of one panel, which a tile multiplies at once.
pub const COLUMNS: usize = 32;

/// One place of the inner dimension in a block: the numbers of its [`ROWS`] rows.
pub type Left = [f32; ROWS];

/// One place of the inner dimension in a panel: the numbers of its [`COLUMNS`] columns.
pub type Right = [f32; COLUMNS];

/// The product of one block with one panel: `[ROWS, COLUMNS]`.
type Tile = [[f32; COLUMNS]; ROWS];

/// The columns of one panel in a row-major matrix `[rows, width]`.
pub struct Columns<'a> {
    /// The whole matrix.
    pub matrix: &'a mut [f32],
    /// The length of a row.
    pub width: usize,
    /// The panel's first column. Columns of the panel beyond `width` are not written.
    pub first: usize,
}

/// Writes `activation(left * panel + bias)` to the panel's columns of `out`.
///
/// `left` is `[blocks, inner, ROWS]` and `panel` `[inner, COLUMNS]`. `out` has the number of rows; rows that fill the last
/// block of `left` are not computed.
pub fn multiply(left: &[Left], panel: &[Right], bias: &Right, activation: Activation, out: Columns<'_>) {
    let Columns { matrix, width, first } = out;
    if panel.is_empty() || width == 0 {
        return;
    }
    let full = matrix.len() / (ROWS * width);
    let (left, left_rest) = left.split_at(left.len().min(full * panel.len()));
    let (matrix, matrix_rest) = matrix.split_at_mut(full * ROWS * width);
    if !left.is_empty() {
        multiply_blocks::<ROWS>(left, panel, bias, activation, Columns { matrix, width, first });
    }
    let out = Columns { matrix: matrix_rest, width, first };
    match out.matrix.len() / width {
        0 => {}
        1..=2 => multiply_blocks::<2>(left_rest, panel, bias, activation, out),
        3..=4 => multiply_blocks::<4>(left_rest, panel, bias, activation, out),
        _ => multiply_blocks::<ROWS>(left_rest, panel, bias, activation, out),
    }
}

/// [`multiply`] of the first `N` rows of each block.
///
/// Each tile size needs a function of its own. The compiler keeps the sums in registers only where a function has a single
/// tile; otherwise they go through memory, which is twelve times slower.
#[inline(never)]
fn multiply_blocks<const N: usize>(
    left: &[Left],
    panel: &[Right],
    bias: &Right,
    activation: Activation,
    out: Columns<'_>,
) {
    dispatch::<N>(left, panel, bias, activation, out.matrix, out.width, out.first);
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn dispatch<const N: usize>(
    left: &[Left],
    panel: &[Right],
    bias: &Right,
    activation: Activation,
    out: &mut [f32],
    width: usize,
    first: usize,
) {
    for (block, rows) in left.chunks_exact(panel.len()).zip(out.chunks_mut(width * ROWS)) {
        let tile = match_target! {
            "x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma" => tile_at_once::<N>(block, panel),
            "x86_64+avx2+fma" => tile_by_halves::<N, true>(block, panel),
            _ => tile_by_halves::<N, { cfg!(target_arch = "aarch64") }>(block, panel),
        };
        for (sums, row) in tile.iter().zip(rows.chunks_mut(width)) {
            let mut values = [0.0; COLUMNS];
            for ((value, sum), bias) in values.iter_mut().zip(sums).zip(bias) {
                *value = sum + bias;
            }
            activation.apply(&mut values);
            let Some(row) = row.get_mut(first..) else { continue };
            match row.first_chunk_mut() {
                Some(place) => *place = values,
                None => row.iter_mut().zip(values).for_each(|(place, value)| *place = value),
            }
        }
    }
}

/// The first `N` rows of a tile, all columns at once: AVX-512 has registers for all sums. The other rows are 0.
#[inline(always)]
fn tile_at_once<const N: usize>(a: &[Left], b: &[Right]) -> Tile {
    let mut part = [[0.0; COLUMNS]; N];
    for (a, b) in a.iter().zip(b) {
        for (row, x) in part.iter_mut().zip(a) {
            for (sum, y) in row.iter_mut().zip(b) {
                *sum = x.mul_add(*y, *sum);
            }
        }
    }
    let mut tile = [[0.0; COLUMNS]; ROWS];
    tile.iter_mut().zip(part).for_each(|(row, part)| *row = part);
    tile
}

/// The first `N` rows of a tile, half of the columns after the other.
///
/// `FUSED` says that the processor multiplies and adds in one instruction; without it `mul_add` is a slow function.
#[inline(always)]
fn tile_by_halves<const N: usize, const FUSED: bool>(a: &[Left], b: &[Right]) -> Tile {
    let mut tile = [[0.0; COLUMNS]; ROWS];
    for part in 0..2 {
        let half = half_tile::<N, FUSED>(a, b, part);
        for (row, half) in tile.iter_mut().zip(half) {
            if let Some(place) = row.as_chunks_mut().0.get_mut(part) {
                *place = half;
            }
        }
    }
    tile
}

#[inline(always)]
fn half_tile<const N: usize, const FUSED: bool>(a: &[Left], b: &[Right], part: usize) -> [[f32; COLUMNS / 2]; N] {
    let mut tile = [[0.0; COLUMNS / 2]; N];
    for (a, b) in a.iter().zip(b) {
        let Some(b) = b.as_chunks::<{ COLUMNS / 2 }>().0.get(part) else { continue };
        for (row, x) in tile.iter_mut().zip(a) {
            for (sum, y) in row.iter_mut().zip(b) {
                *sum = if FUSED { x.mul_add(*y, *sum) } else { *sum + x * *y };
            }
        }
    }
    tile
}

/// Rows packed for [`multiply`]: `[blocks, inner, ROWS]`.
#[derive(Default)]
pub struct PackedRows {
    blocks: Vec<Left>,
}

impl PackedRows {
    /// Packs `rows`, `[rows, inner]`, in place of the previous ones. Zeros fill the last block.
    pub fn pack(&mut self, rows: &[f32], inner: usize) {
        let inner = inner.max(1);
        let count = rows.len() / inner;
        self.blocks.clear();
        self.blocks.resize(count.div_ceil(ROWS) * inner, [0.0; ROWS]);
        for (block, rows) in self.blocks.chunks_exact_mut(inner).zip(rows.chunks(inner * ROWS)) {
            for (r, row) in rows.chunks_exact(inner).enumerate() {
                for (left, x) in block.iter_mut().zip(row) {
                    if let Some(place) = left.get_mut(r) {
                        *place = *x;
                    }
                }
            }
        }
    }

    /// `[blocks, inner, ROWS]`.
    pub fn blocks(&self) -> &[Left] {
        &self.blocks
    }
}
