//! Relative positions: learned biases of attention scores by the distance of two tokens. MPNet and T5 have them.

use crate::weights::Weights;
use mysql_ml_base::error::Result;

/// The buckets of distances: one for each near distance, wider ones for far distances.
#[derive(Debug, Clone, Copy)]
pub struct Buckets {
    /// The number of buckets, a multiple of 4.
    pub count: usize,
    /// Distances from here on share the last bucket.
    pub furthest: usize,
    /// Whether half of the buckets are for later tokens; otherwise all later tokens share the bucket of distance 0.
    pub both_ways: bool,
}

impl Buckets {
    /// The bucket of a distance: the key's position minus the query's.
    fn of(self, distance: isize) -> usize {
        let (base, count, distance) = match self.both_ways {
            true => (if distance > 0 { self.count / 2 } else { 0 }, self.count / 2, distance.unsigned_abs()),
            false => (0, self.count, if distance < 0 { distance.unsigned_abs() } else { 0 }),
        };
        let exact = count / 2;
        if distance < exact {
            return base + distance;
        }
        // torch computes in 32 bits, and its rounding decides the bounds of buckets.
        let ratio = (distance as f32 / exact as f32).ln() / (self.furthest as f64 / exact as f64).ln() as f32;
        base + (exact + (ratio * (count - exact) as f32) as usize).min(count.saturating_sub(1))
    }
}

/// The learned biases, `[buckets, heads]`.
pub struct RelativePositions {
    table: Vec<f32>,
    buckets: Buckets,
    heads: usize,
}

impl RelativePositions {
    /// Reads the tensor `name`, `[buckets, heads]`.
    pub fn load(weights: &Weights, name: &str, buckets: Buckets, heads: usize) -> Result<Self> {
        Ok(RelativePositions { table: weights.tensor(name, &[buckets.count, heads])?, buckets, heads })
    }

    #[cfg(test)]
    pub(super) fn new(table: Vec<f32>, buckets: Buckets, heads: usize) -> Self {
        RelativePositions { table, buckets, heads }
    }

    /// The biases of distances from `before` tokens back to `after` tokens forward.
    pub fn bias(&self, before: usize, after: usize) -> PositionBias {
        let bias = |head: usize, i: usize| {
            let bucket = self.buckets.of(i as isize - before as isize);
            self.table.get(bucket * self.heads + head).copied().unwrap_or_default()
        };
        let of_head = |head| (0..before + after + 1).map(|i| bias(head, i)).collect();
        PositionBias { heads: (0..self.heads).map(of_head).collect(), before }
    }

    /// Bytes of the biases.
    pub fn memory_bytes(&self) -> u64 {
        size_of_val(self.table.as_slice()) as u64
    }
}

/// The biases of scores by head and distance.
pub struct PositionBias {
    /// `[heads, before + 1 + after]`.
    heads: Vec<Vec<f32>>,
    before: usize,
}

impl PositionBias {
    /// The biases of a query at `position` for the keys from the first on: `[keys]`.
    pub fn row(&self, head: usize, position: usize) -> &[f32] {
        let from = self.before.saturating_sub(position);
        self.heads.get(head).and_then(|all| all.get(from..)).unwrap_or_default()
    }

    /// Bytes of the biases.
    pub fn memory_bytes(&self) -> u64 {
        self.heads.iter().map(|all| size_of_val(all.as_slice()) as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_transformers() {
        // T5Attention._relative_position_bucket with 32 buckets and a distance of 128; MPNet has those of both ways.
        const BOTH_WAYS: [usize; 21] = [15, 15, 15, 14, 10, 10, 9, 8, 7, 1, 0, 17, 23, 24, 24, 24, 25, 26, 30, 31, 31];
        const BACKWARD: [usize; 21] = [31, 31, 29, 26, 17, 16, 15, 8, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let buckets = |both_ways| Buckets { count: 32, furthest: 128, both_ways };
        let of = |both_ways| {
            [-200, -127, -91, -64, -20, -16, -15, -8, -7, -1, 0, 1, 7, 8, 9, 11, 12, 16, 90, 91, 200]
                .map(|d| buckets(both_ways).of(d))
        };
        assert_eq!((of(true), of(false)), (BOTH_WAYS, BACKWARD));
        let all = |both_ways| (0..2000).map(|i| buckets(both_ways).of(i - 1000) * (i as usize % 7 + 1)).sum::<usize>();
        assert_eq!((all(true), all(false)), (181275, 120267));
        for (distance, bucket) in [(-127, 15), (-500, 15), (1, 17), (8, 24), (300, 31)] {
            assert_eq!(buckets(true).of(distance), bucket, "{distance}");
        }
    }

    #[test]
    fn the_biases_of_a_query_begin_with_the_first_key() {
        let buckets = Buckets { count: 4, furthest: 8, both_ways: true };
        let table = RelativePositions::new((0..8).map(|i| i as f32).collect(), buckets, 2);
        let bias = table.bias(2, 2);
        assert_eq!(bias.row(0, 0), [0.0, 6.0, 6.0]);
        assert_eq!(bias.row(1, 1)[..3], [3.0, 1.0, 7.0]);
        assert_eq!((bias.row(2, 0), bias.row(0, 9).len()), (&[][..], 5));
    }
}
