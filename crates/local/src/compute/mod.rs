//! The arithmetic of encoders on the processor, single-threaded: products with weights that were packed when the model was
//! loaded, and what stands between them.
//!
//! Plain Rust that the compiler vectorises, compiled for several processors; which one this is, is asked at run time. A
//! row's result does not depend on the rows beside it: a text gives the same vector in every batch.

pub mod functions;
pub mod linear;

/// Rows of the left factor that are multiplied at once.
pub const ROWS: usize = 6;

/// Columns of the right factor that are multiplied at once.
pub const COLUMNS: usize = 32;

/// Rows of the left factor, [`ROWS`] side by side, at one place of the inner dimension.
pub type Left = [f32; ROWS];

/// Columns of the right factor at one place of the inner dimension.
pub type Right = [f32; COLUMNS];

/// The product of some rows with some columns.
pub type Tile = [[f32; COLUMNS]; ROWS];

/// The first `N` rows of a tile where there are registers for all of it at once: AVX-512. The others are 0.
#[inline(always)]
pub fn tile_at_once<const N: usize>(a: &[Left], b: &[Right]) -> Tile {
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

/// A tile half by half. `FUSED`: whether the processor multiplies and adds in one instruction; elsewhere `mul_add` is a
/// slow function.
#[inline(always)]
pub fn tile_by_halves<const N: usize, const FUSED: bool>(a: &[Left], b: &[Right]) -> Tile {
    let mut tile = [[0.0; COLUMNS]; ROWS];
    for part in 0..2 {
        let half = half::<N, FUSED>(a, b, part);
        for (row, half) in tile.iter_mut().zip(half) {
            if let Some(place) = row.as_chunks_mut().0.get_mut(part) {
                *place = half;
            }
        }
    }
    tile
}

#[inline(always)]
fn half<const N: usize, const FUSED: bool>(a: &[Left], b: &[Right], part: usize) -> [[f32; COLUMNS / 2]; N] {
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

/// The first rows of a tile, in the way that suits the processor a function was compiled for.
macro_rules! tile {
    ($rows:literal, $a:expr, $b:expr) => {
        multiversion::target::match_target! {
            "x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma" => $crate::compute::tile_at_once::<$rows>($a, $b),
            "x86_64+avx2+fma" => $crate::compute::tile_by_halves::<$rows, true>($a, $b),
            _ => $crate::compute::tile_by_halves::<$rows, { cfg!(target_arch = "aarch64") }>($a, $b),
        }
    };
}
pub(crate) use tile;

/// Writes the product of one block of rows with all panels to `out`, whose rows are `width` apart. What of a panel is beyond a
/// row's end is left out.
///
/// A function of its own and not part of what calls it: inside of larger ones the compiler has been seen to keep the tile in
/// memory, twenty times slower.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
pub fn multiply_block(left: &[Left], panels: &[Right], out: &mut [f32], width: usize) {
    if left.is_empty() || width == 0 {
        return;
    }
    for (j, panel) in panels.chunks_exact(left.len()).enumerate() {
        let product = tile!(6, left, panel);
        for (sums, row) in product.iter().zip(out.chunks_mut(width)) {
            let Some(row) = row.get_mut(j * COLUMNS..) else { continue };
            match row.first_chunk_mut() {
                Some(place) => *place = *sums,
                None => row.iter_mut().zip(sums).for_each(|(place, sum)| *place = *sum),
            }
        }
    }
}

/// Rows of numbers as left factors: block after block of [`ROWS`] rows, each with the rows side by side for every place of
/// the inner dimension.
#[derive(Default)]
pub struct Packed {
    blocks: Vec<Left>,
    inner: usize,
}

impl Packed {
    /// Takes over rows of `inner` numbers each.
    pub fn fill(&mut self, rows: &[f32], inner: usize) {
        self.inner = inner.max(1);
        let count = rows.len() / self.inner;
        self.blocks.clear();
        self.blocks.resize(count.div_ceil(ROWS) * self.inner, [0.0; ROWS]);
        for (block, rows) in self.blocks.chunks_exact_mut(self.inner).zip(rows.chunks(self.inner * ROWS)) {
            for (r, row) in rows.chunks_exact(self.inner).enumerate() {
                for (left, x) in block.iter_mut().zip(row) {
                    if let Some(place) = left.get_mut(r) {
                        *place = *x;
                    }
                }
            }
        }
    }

    /// The blocks, one after the other.
    pub fn blocks(&self) -> &[Left] {
        &self.blocks
    }

    /// The length of a row.
    pub fn inner(&self) -> usize {
        self.inner
    }
}
