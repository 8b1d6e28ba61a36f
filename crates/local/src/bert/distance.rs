//! MPNet's bias of attention: a number for each head and each distance of two tokens, of which far ones are not told
//! apart.

/// Distances from here on are one.
const MOST: f64 = 128.0;

/// What is added to scores, by head and distance.
pub struct Distances {
    heads: Vec<Vec<f32>>,
    zero: usize,
}

impl Distances {
    /// From the table of `buckets` kinds of distances, a row of all heads for each, for texts of `tokens`.
    pub fn new(table: &[f32], buckets: usize, heads: usize, tokens: usize) -> Self {
        let zero = tokens.saturating_sub(1);
        let of_head = |head: usize| {
            (0..2 * zero + 1)
                .map(|place| {
                    let bucket = bucket(place as i64 - zero as i64, buckets);
                    table.get(bucket * heads + head).copied().unwrap_or_default()
                })
                .collect()
        };
        Distances { heads: (0..heads).map(of_head).collect(), zero }
    }

    /// For each head the biases from the least distance to the largest, and the place of distance 0. Those of token `i`
    /// to the tokens from the first on begin `i` places before it.
    pub fn biases(&self) -> (&[Vec<f32>], usize) {
        (&self.heads, self.zero)
    }

    /// The bytes it keeps.
    pub fn memory_bytes(&self) -> u64 {
        (self.heads.len() * (2 * self.zero + 1) * size_of::<f32>()) as u64
    }
}

/// The kind of the distance from one token to another: half of the kinds for those behind, and of each half the first
/// half for single distances.
fn bucket(distance: i64, buckets: usize) -> usize {
    let half = buckets / 2;
    let exact = half / 2;
    let behind = if distance > 0 { half } else { 0 };
    let n = usize::try_from(distance.unsigned_abs()).unwrap_or(usize::MAX);
    if n < exact {
        return behind + n;
    }
    // In f32, as the model was trained: at borders the last bit decides.
    let far = (n as f32 / exact as f32).ln() / (MOST / exact as f64).ln() as f32 * (half - exact) as f32;
    behind + (exact + far as usize).min(half.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_distances_are_those_of_transformers() {
        // MPNetEncoder.relative_position_bucket of transformers 4.
        let wanted =
            [(0, 0), (-1, 1), (-7, 7), (-8, 8), (-16, 10), (-127, 15), (-500, 15), (1, 17), (8, 24), (300, 31)];
        for (distance, bucket_) in wanted {
            assert_eq!(bucket(distance, 32), bucket_, "{distance}");
        }
    }
}
