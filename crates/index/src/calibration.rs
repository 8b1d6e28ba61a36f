//! How many lists a search has to read, measured while an index is built.

use crate::centroids::Centroids;
use crate::chooser::ListChooser;
use crate::layout::{Layout, Metric};
use crate::nearest::{Keep, Panels, Rows};
use crate::parallel;
use crate::space::Space;

/// Queries of one piece of work: some blocks of the matrix product.
const PIECE: usize = 24;

/// Vectors that are packed at once.
const PACKED: usize = 256;

/// Finds the true nearest rows of some queries in vectors that pass by, and the lists in which they are.
///
/// Queries are vectors of the table itself, so that nothing but the table is needed. A row is not its own neighbour.
/// Data differs: to find 98 % of the nearest rows, some needs 1 % of the lists and other a third.
pub struct Calibration {
    space: Space,
    queries: Vec<f32>,
    pieces: Vec<(Rows, Vec<Nearby>)>,
    rows: u32,
}

/// The nearest rows of a query.
#[derive(Clone)]
struct Nearby {
    /// Score, number of the row, list; the best first.
    found: Vec<(f32, u32, u32)>,
    most: usize,
}

impl Keep for Nearby {
    fn worst(&self) -> f32 {
        match self.found.last() {
            Some((score, ..)) if self.found.len() >= self.most => *score,
            _ => f32::INFINITY,
        }
    }

    fn keep(&mut self, row: u32, score: f32) {
        let place = self.found.partition_point(|(other, ..)| *other <= score);
        self.found.truncate(self.most.saturating_sub(1));
        self.found.insert(place.min(self.found.len()), (score, row, u32::MAX));
    }
}

impl Calibration {
    /// Looks for the `k` nearest rows of each query. `queries` is row-major; vectors that the index leaves out are not
    /// used. Some hundred queries are enough.
    pub fn new(layout: &Layout, queries: &[f32], k: usize) -> Self {
        let space = Space::new(layout);
        let dimensions = layout.dimensions();
        let usable: Vec<&[f32]> = queries.chunks_exact(dimensions).filter(|q| space.scale(q).is_ok()).collect();
        let pieces = usable.chunks(PIECE).map(|queries| {
            let mut rows = Rows::default();
            for query in queries {
                rows.push(space.padded, |place| copy(&space, query, place));
            }
            // One more: the row itself.
            (rows, vec![Nearby { found: Vec::new(), most: k.saturating_add(1) }; queries.len()])
        });
        let pieces = pieces.collect();
        Calibration { queries: usable.concat(), space, pieces, rows: 0 }
    }

    /// Compares all queries with vectors of the table, whose lists are `lists`. Works on the calling thread and up to
    /// `threads - 1` others. Costs as much as assigning the vectors to as many lists as there are queries.
    pub fn offer(&mut self, vectors: &[f32], lists: &[u32], threads: usize) {
        let Calibration { space, pieces, rows, .. } = self;
        let dimensions = space.layout.dimensions();
        for (vectors, lists) in vectors.chunks(PACKED * dimensions).zip(lists.chunks(PACKED)) {
            let mut values = vec![0.0; lists.len() * space.padded];
            for (vector, place) in vectors.chunks_exact(dimensions).zip(values.chunks_exact_mut(space.padded)) {
                copy(space, vector, place);
            }
            let panels = match space.layout.metric() {
                Metric::L2 | Metric::Cosine => Panels::new(&values, space.padded),
                Metric::Dot => Panels::of_products(&values, space.padded),
            };
            let first = *rows;
            let done = parallel::for_each(threads, &|| false, pieces.iter_mut(), |(): &mut (), (queries, nearby)| {
                panels.offer(queries, first, nearby);
                for (_, row, list) in nearby.iter_mut().flat_map(|nearby| &mut nearby.found) {
                    if let Some(own) = row.checked_sub(first).and_then(|at| lists.get(at as usize)) {
                        *list = *own;
                    }
                }
            });
            debug_assert_eq!(done, Ok(()));
            *rows = first.saturating_add(lists.len() as u32);
        }
    }

    /// What was found, for searches over these lists.
    pub fn finish(self, centroids: &Centroids) -> Calibrated {
        let layout = self.space.layout;
        let rows: Vec<Vec<u8>> = (0..centroids.len()).filter_map(|list| centroids.encode(list)).collect();
        let nearby = self.pieces.iter().flat_map(|(_, nearby)| nearby);
        let mut needed = Vec::new();
        for (query, nearby) in self.queries.chunks_exact(layout.dimensions()).zip(nearby) {
            let Ok(mut chooser) = ListChooser::new(&layout, query, rows.len()) else { continue };
            for (list, row) in (0..).zip(&rows) {
                // A row that was just written can be read.
                let _ = chooser.offer(list, row);
            }
            let mut places = vec![usize::MAX; rows.len()];
            for (place, near) in chooser.finish().iter().enumerate() {
                if let Some(slot) = places.get_mut(near.list as usize) {
                    *slot = place;
                }
            }
            // The nearest is the row itself, except perhaps by the product.
            let own = usize::from(layout.metric() != Metric::Dot);
            let found = nearby.found.iter().skip(own).take(nearby.most.saturating_sub(1));
            needed.extend(
                found
                    .filter(|(.., list)| *list != u32::MAX)
                    .map(|(.., list)| places.get(*list as usize).copied().unwrap_or(usize::MAX).saturating_add(1)),
            );
        }
        needed.sort_unstable();
        Calibrated { needed, lists: rows.len() }
    }
}

/// The vector as the metric compares it. One that is left out becomes zero.
fn copy(space: &Space, vector: &[f32], place: &mut [f32]) {
    place.fill(0.0);
    if let Ok(scale) = space.scale(vector) {
        place.iter_mut().zip(vector).for_each(|(place, x)| *place = x * scale);
    }
}

/// The number of lists that searches have to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calibrated {
    /// For each true neighbour, the place of its list among the nearest lists; ascending.
    needed: Vec<usize>,
    lists: usize,
}

impl Calibrated {
    /// The nearest lists that together have the share `recall` of the true nearest rows. All lists without queries or
    /// rows.
    pub fn probes(&self, recall: f64) -> usize {
        let count = (recall.clamp(0.0, 1.0) * self.needed.len() as f64).ceil() as usize;
        self.needed.get(count.max(1) - 1).map_or(self.lists, |probes| (*probes).min(self.lists))
    }
}
