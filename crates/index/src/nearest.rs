//! The nearest centroids of many vectors: a matrix product in tiles, as in the layers of local models.

use multiversion::multiversion;
use multiversion::target::match_target;

/// Vectors of one block.
const ROWS: usize = 6;

/// Centroids of one panel.
const COLUMNS: usize = 32;

/// Numbers of vectors that are multiplied with one panel after the other; they stay in the processor's cache.
const CHUNK: usize = 64 << 10;

type Left = [f32; ROWS];
type Right = [f32; COLUMNS];

/// The two nearest lists of a vector, by half of the squared distance less half of the vector's square.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Nearest {
    pub(crate) lists: [u32; 2],
    pub(crate) scores: [f32; 2],
}

/// The best of the scores that it was offered.
pub(crate) trait Keep {
    /// Scores from this on are not kept.
    fn worst(&self) -> f32;

    /// Keeps a score that is below [`Keep::worst`].
    fn keep(&mut self, number: u32, score: f32);
}

impl Keep for Nearest {
    fn worst(&self) -> f32 {
        self.scores[1]
    }

    fn keep(&mut self, list: u32, score: f32) {
        if score < self.scores[0] {
            self.scores = [score, self.scores[0]];
            self.lists = [list, self.lists[0]];
        } else {
            self.scores[1] = score;
            self.lists[1] = list;
        }
    }
}

impl Nearest {
    pub(crate) const NONE: Nearest = Nearest { lists: [u32::MAX; 2], scores: [f32::INFINITY; 2] };
}

/// Centroids packed for products.
pub(crate) struct Panels {
    /// `[panels, padded, COLUMNS]`.
    values: Vec<Right>,
    /// Half of the squared lengths; infinite where there is no centroid.
    halves: Vec<Right>,
    padded: usize,
}

impl Panels {
    /// Packs centroids of `padded` numbers each, for scores that are the negative products.
    pub(crate) fn of_products(centroids: &[f32], padded: usize) -> Self {
        let mut panels = Panels::new(centroids, padded);
        for half in panels.halves.iter_mut().flatten().filter(|half| half.is_finite()) {
            *half = 0.0;
        }
        panels
    }

    /// Packs centroids of `padded` numbers each.
    pub(crate) fn new(centroids: &[f32], padded: usize) -> Self {
        let padded = padded.max(1);
        let count = (centroids.len() / padded).div_ceil(COLUMNS);
        let mut values = vec![[0.0; COLUMNS]; count * padded];
        let mut halves = vec![[f32::INFINITY; COLUMNS]; count];
        let panels = values.chunks_exact_mut(padded).zip(&mut halves);
        for ((panel, halves), centroids) in panels.zip(centroids.chunks(padded * COLUMNS)) {
            for (column, centroid) in centroids.chunks_exact(padded).enumerate() {
                for (right, x) in panel.iter_mut().zip(centroid) {
                    if let Some(place) = right.get_mut(column) {
                        *place = *x;
                    }
                }
                if let Some(half) = halves.get_mut(column) {
                    *half = crate::sums::product(centroid, centroid) / 2.0;
                }
            }
        }
        Panels { values, halves, padded }
    }

    /// Vectors that are best given to [`Panels::nearest`] at once.
    pub(crate) fn chunk(padded: usize) -> usize {
        (CHUNK / padded.max(1) / ROWS).max(1) * ROWS
    }

    /// Writes the two nearest lists of each packed vector.
    pub(crate) fn nearest(&self, rows: &Rows, nearest: &mut [Nearest]) {
        nearest.fill(Nearest::NONE);
        self.offer(rows, 0, nearest);
    }

    /// Offers all centroids' scores to each packed vector. The first centroid has the number `first`.
    pub(crate) fn offer<K: Keep>(&self, rows: &Rows, first: u32, kept: &mut [K]) {
        for (n, (panel, halves)) in self.values.chunks_exact(self.padded).zip(&self.halves).enumerate() {
            compare(&rows.blocks, panel, halves, first + (n * COLUMNS) as u32, kept);
        }
    }
}

/// Vectors packed for products.
#[derive(Default)]
pub(crate) struct Rows {
    /// `[blocks, padded, ROWS]`.
    blocks: Vec<Left>,
    count: usize,
    /// Room for a rotated vector.
    scratch: Vec<f32>,
}

impl Rows {
    /// Removes all vectors.
    pub(crate) fn clear(&mut self) {
        self.blocks.clear();
        self.count = 0;
    }

    /// Adds a vector of `padded` numbers, which `write` writes.
    pub(crate) fn push(&mut self, padded: usize, write: impl FnOnce(&mut [f32])) {
        self.scratch.resize(padded, 0.0);
        write(&mut self.scratch);
        let place = self.count % ROWS;
        if place == 0 {
            self.blocks.resize(self.blocks.len() + padded, [0.0; ROWS]);
        }
        let begin = self.blocks.len().saturating_sub(padded);
        for (left, x) in self.blocks.iter_mut().skip(begin).zip(&self.scratch) {
            if let Some(left) = left.get_mut(place) {
                *left = *x;
            }
        }
        self.count += 1;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn compare<K: Keep>(rows: &[Left], panel: &[Right], halves: &Right, first: u32, kept: &mut [K]) {
    for (block, kept) in rows.chunks_exact(panel.len().max(1)).zip(kept.chunks_mut(ROWS)) {
        let tile = match_target! {
            "x86_64+avx512f+avx512vl+avx512bw+avx512dq+avx2+fma" => tile_at_once(block, panel),
            "x86_64+avx2+fma" => tile_by_halves::<true>(block, panel),
            _ => tile_by_halves::<{ cfg!(target_arch = "aarch64") }>(block, panel),
        };
        for (products, kept) in tile.iter().zip(kept) {
            let mut scores = *halves;
            for (score, product) in scores.iter_mut().zip(products) {
                *score -= product;
            }
            let least = scores.iter().fold(f32::INFINITY, |least, score| if *score < least { *score } else { least });
            if least >= kept.worst() {
                continue;
            }
            for (number, score) in (first..).zip(scores) {
                if score < kept.worst() {
                    kept.keep(number, score);
                }
            }
        }
    }
}

/// All columns at once: AVX-512 has registers for all sums.
#[inline(always)]
fn tile_at_once(a: &[Left], b: &[Right]) -> [Right; ROWS] {
    let mut tile = [[0.0; COLUMNS]; ROWS];
    for (a, b) in a.iter().zip(b) {
        for (row, x) in tile.iter_mut().zip(a) {
            for (sum, y) in row.iter_mut().zip(b) {
                *sum = x.mul_add(*y, *sum);
            }
        }
    }
    tile
}

/// Half of the columns after the other. `FUSED` says that the processor multiplies and adds in one instruction.
#[inline(always)]
fn tile_by_halves<const FUSED: bool>(a: &[Left], b: &[Right]) -> [Right; ROWS] {
    let mut tile = [[0.0; COLUMNS]; ROWS];
    for part in 0..2 {
        let mut half = [[0.0; COLUMNS / 2]; ROWS];
        for (a, b) in a.iter().zip(b) {
            let Some(b) = b.as_chunks::<{ COLUMNS / 2 }>().0.get(part) else { continue };
            for (row, x) in half.iter_mut().zip(a) {
                for (sum, y) in row.iter_mut().zip(b) {
                    *sum = if FUSED { x.mul_add(*y, *sum) } else { *sum + x * *y };
                }
            }
        }
        for (row, half) in tile.iter_mut().zip(half) {
            if let Some(place) = row.as_chunks_mut().0.get_mut(part) {
                *place = half;
            }
        }
    }
    tile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_two_are_those_of_a_plain_loop() {
        let mut rng = fastrand::Rng::with_seed(5);
        for (padded, count, vectors) in [(64, 1, 1), (64, 2, 7), (128, 31, 13), (192, 33, 40), (64, 100, 6)] {
            let centroids: Vec<f32> = (0..padded * count).map(|_| rng.f32() - 0.5).collect();
            let rows: Vec<f32> = (0..padded * vectors).map(|_| rng.f32() - 0.5).collect();
            let mut packed = Rows::default();
            packed.push(padded, |row| row.fill(9.0));
            packed.clear();
            for row in rows.chunks(padded) {
                packed.push(padded, |place| place.copy_from_slice(row));
            }
            let mut nearest = vec![Nearest::NONE; vectors];
            Panels::new(&centroids, padded).nearest(&packed, &mut nearest);
            for (row, nearest) in rows.chunks(padded).zip(&nearest) {
                let mut plain: Vec<(f32, u32)> = centroids
                    .chunks(padded)
                    .zip(0..)
                    .map(|(c, list)| (c.iter().zip(row).map(|(c, x)| c * c / 2.0 - c * x).sum(), list))
                    .collect();
                plain.sort_by(|a, b| a.0.total_cmp(&b.0));
                plain.resize(plain.len().max(2), (f32::INFINITY, u32::MAX));
                assert_eq!(nearest.lists, [plain[0].1, plain[1].1]);
                assert!((nearest.scores[0] - plain[0].0).abs() < 1e-4);
            }
        }
    }
}
