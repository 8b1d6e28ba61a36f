//! The lists that a search reads.

use std::collections::BinaryHeap;

use mysql_ml_base::error::Result;

use crate::centroids::Row;
use crate::layout::{Layout, Metric};
use crate::space::Space;
use crate::sums;

/// The weight of a list's spread. Without it a search reads a tenth more codes for the same recall.
const SPREAD: f32 = 0.5;

/// A list and its distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    /// The list.
    pub list: u32,
    /// A number that is smaller for nearer lists. For [`Metric::Dot`] the negative product with the centroid, else the
    /// squared distance from it; a search adds half of the list's mean squared distance from it.
    pub distance: f32,
}

impl Eq for Near {}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.list.cmp(&other.list))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Chooses the nearest lists of a vector.
pub struct ListChooser {
    layout: Layout,
    metric: Metric,
    vector: Vec<f32>,
    /// The weight of the lists' spreads.
    spread: f32,
    most: usize,
    nearest: BinaryHeap<Near>,
}

impl ListChooser {
    /// Chooses `n` lists for a search. Errors for vectors that have no place in the index.
    pub fn new(layout: &Layout, query: &[f32], n: usize) -> Result<Self> {
        let vector = Space::new(layout).prepare(query)?;
        Ok(ListChooser {
            layout: *layout,
            metric: layout.metric(),
            vector,
            spread: SPREAD,
            most: n,
            nearest: BinaryHeap::new(),
        })
    }

    /// Chooses the list to which a vector belongs: the same as [`Encoder::assign`](crate::Encoder::assign), but for
    /// rounding. Errors for vectors that the index leaves out.
    pub fn for_insert(layout: &Layout, vector: &[f32]) -> Result<Self> {
        let mut chooser = ListChooser::new(layout, vector, 1)?;
        chooser.metric = Metric::L2;
        chooser.spread = 0.0;
        Ok(chooser)
    }

    /// Compares the vector with the row of a list's centroid. Errors for a damaged row.
    pub fn offer(&mut self, list: u32, centroid: &[u8]) -> Result<()> {
        let Row { integers, scale, spread } = Row::parse(&self.layout, centroid)?;
        let distance = match self.metric {
            Metric::L2 | Metric::Cosine => sums::squared_distance(&self.vector, integers, scale) + self.spread * spread,
            Metric::Dot => -sums::scaled_product(&self.vector, integers, scale),
        };
        let near = Near { list, distance };
        if self.nearest.len() < self.most {
            self.nearest.push(near);
        } else if self.nearest.peek().is_some_and(|farthest| near < *farthest) {
            self.nearest.pop();
            self.nearest.push(near);
        }
        Ok(())
    }

    /// The nearest lists, nearest first.
    pub fn finish(self) -> Vec<Near> {
        self.nearest.into_sorted_vec()
    }
}
