//! Training: k-means on a sample.

use crate::centroids::Centroids;
use crate::layout::Layout;
use crate::nearest::{Nearest, Panels, Rows};
use crate::parallel::{self, Stopped};
use crate::random::Random;
use crate::space::Space;
use crate::sums;

/// Rounds of k-means. More change recall by less than the sample's choice does.
const ROUNDS: usize = 6;

/// The most lists that are recommended: assigning a row costs as much as comparing it with each.
const MOST_LISTS: u64 = 4096;

/// Vectors of a list in the recommended sample. Twice as many change recall by less than another sample does.
const SAMPLED: usize = 32;

/// The recommended number of lists for a table of `rows` rows: three times the square root, but at least 30 rows a list
/// and at most 4096 lists.
pub fn recommended_lists(rows: u64) -> usize {
    (3 * rows.isqrt()).min(rows / 30).clamp(1, MOST_LISTS) as usize
}

/// The recommended number of vectors in the sample for [`train`].
pub fn recommended_sample(lists: usize) -> usize {
    lists.saturating_mul(SAMPLED)
}

/// Vectors of a sample beyond these are not used.
const MOST: usize = 1 << 30;

/// The memory of [`train`] in bytes, besides the sample, for `lists` lists and `rows` vectors.
pub fn train_bytes(layout: &Layout, rows: usize, lists: usize) -> usize {
    let lists = lists.min(rows).max(1);
    lists.saturating_mul(layout.padded() * 4 * 4).saturating_add(rows.saturating_mul(64))
}

/// Finds centroids for `lists` lists by k-means on a row-major sample.
///
/// Vectors that the index leaves out are not used. There are fewer lists if the sample has fewer different vectors, and
/// one list of zero if it has none. The same arguments give the same centroids on any number of threads. `stop` is asked
/// on the calling thread, some times a second.
pub fn train(
    layout: &Layout,
    sample: &[f32],
    lists: usize,
    threads: usize,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Centroids, Stopped> {
    let space = Space::new(layout);
    let (dimensions, padded) = (layout.dimensions(), space.padded);
    // The vectors that can be used, with the factor that prepares them.
    let usable: Vec<(&[f32], f32)> =
        sample.chunks_exact(dimensions).take(MOST).filter_map(|row| Some((row, space.scale(row).ok()?))).collect();
    let lists = lists.clamp(1, usable.len().max(1));
    let mut random = Random::new(layout.seed().wrapping_add(1));

    let mut values = vec![0.0; lists * padded];
    let mut order: Vec<u32> = (0..usable.len() as u32).collect();
    for (at, centroid) in values.chunks_exact_mut(padded).enumerate() {
        if at < order.len() {
            let other = at + random.below(order.len() - at);
            order.swap(at, other);
        }
        if let Some((row, scale)) = order.get(at).and_then(|row| usable.get(*row as usize)) {
            space.rotate(row, *scale, centroid);
        }
    }
    drop(order);

    let mut nearest = vec![Nearest::NONE; usable.len()];
    let mut spreads = vec![0.0; lists];
    let mut members = Vec::new();
    let mut previous = Vec::new();
    for round in 1..=ROUNDS {
        let panels = Panels::new(&values, padded);
        let chunk = Panels::chunk(padded);
        let work = usable.chunks(chunk).zip(nearest.chunks_mut(chunk));
        parallel::for_each(threads, stop, work, |rows: &mut Rows, (vectors, nearest)| {
            rows.clear();
            for (vector, scale) in vectors {
                rows.push(padded, |place| space.rotate(vector, *scale, place));
            }
            panels.nearest(rows, nearest);
        })?;
        members = by_list(&nearest, lists);
        // What is empty in the last round stays so and is dropped: the sample has too few different vectors.
        if round < ROUNDS {
            fill_empty(&mut members, &mut random);
        }
        if members == previous {
            break;
        }
        let work = values.chunks_exact_mut(padded).zip(&mut spreads).zip(&members);
        parallel::for_each(threads, stop, work, |(): &mut (), ((centroid, spread), members)| {
            let mut sum = vec![0.0_f64; dimensions];
            let mut squares = 0.0;
            for (vector, scale) in members.iter().filter_map(|row| usable.get(*row as usize)) {
                for (sum, x) in sum.iter_mut().zip(*vector) {
                    *sum += f64::from(x * scale);
                }
                squares += sums::squares(vector) * f64::from(*scale) * f64::from(*scale);
            }
            if !members.is_empty() {
                let count = members.len() as f64;
                let mean: Vec<f32> = sum.iter().map(|sum| (sum / count) as f32).collect();
                space.rotate(&mean, 1.0, centroid);
                *spread = (squares / count - sums::squares(&mean)).max(0.0) as f32;
            }
        })?;
        previous.clone_from(&members);
    }
    let mut centroids = Centroids::new(layout);
    for ((centroid, spread), members) in values.chunks_exact(padded).zip(spreads).zip(&members) {
        if !members.is_empty() {
            centroids.add(centroid, spread);
        }
    }
    if centroids.is_empty() {
        centroids.add(&vec![0.0; padded], 0.0);
    }
    Ok(centroids)
}

/// The vectors of each list.
fn by_list(nearest: &[Nearest], lists: usize) -> Vec<Vec<u32>> {
    let mut members = vec![Vec::new(); lists];
    for (row, nearest) in (0..).zip(nearest) {
        if let Some(members) = members.get_mut(nearest.lists[0] as usize) {
            members.push(row);
        }
    }
    members
}

/// Gives each empty list a random half of the largest list. Equal vectors come together again in the next round.
fn fill_empty(members: &mut [Vec<u32>], random: &mut Random) {
    let empty: Vec<usize> = members.iter().enumerate().filter(|(_, m)| m.is_empty()).map(|(list, _)| list).collect();
    for list in empty {
        let largest = members.iter_mut().enumerate().max_by_key(|(list, m)| (m.len(), usize::MAX - list));
        let Some((_, largest)) = largest.filter(|(_, m)| m.len() > 1) else { return };
        let mut half = Vec::new();
        largest.retain(|row| {
            let moved = random.next() & 1 == 1;
            if moved {
                half.push(*row);
            }
            !moved
        });
        if let Some(place) = members.get_mut(list) {
            *place = half;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recommended_numbers_of_lists_suit_tables_of_every_size() {
        let rows = [0, 1, 59, 300, 8_100, 100_000, 1_000_000, u64::MAX];
        assert_eq!(rows.map(recommended_lists), [1, 1, 1, 10, 270, 948, 3000, 4096]);
    }
}
