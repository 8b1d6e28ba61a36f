//! Vectors with queries and their true nearest rows.

use anyhow::{ensure, Result};
use fastrand::Rng;

/// The rows that a search wants.
pub const NEAREST: usize = 10;

const QUERIES: usize = 300;

/// Dimensions in which the clusters of synthetic vectors differ.
const LATENT: usize = 96;

/// Synthetic vectors of one cluster, on average.
const CLUSTER: usize = 200;

/// Unit vectors and queries that are not among them.
pub struct Data {
    /// What they are.
    pub name: String,
    /// The length of a vector.
    pub dimensions: usize,
    /// Row-major.
    pub vectors: Vec<f32>,
    queries: Vec<f32>,
    /// The nearest rows of each query.
    pub truth: Vec<Vec<u32>>,
}

impl Data {
    /// Takes the last vectors as queries.
    pub fn new(name: String, dimensions: usize, mut vectors: Vec<f32>) -> Result<Self> {
        ensure!(vectors.len() > 2 * QUERIES * dimensions, "more rows are needed");
        for vector in vectors.chunks_exact_mut(dimensions) {
            mysql_ml_base::vector::normalize(vector);
        }
        let queries = vectors.split_off(vectors.len() - QUERIES * dimensions);
        let mut data = Data { name, dimensions, vectors, queries, truth: Vec::new() };
        data.truth = data.queries().map(|query| data.nearest(query)).collect();
        Ok(data)
    }

    /// Clusters of unequal spread on a curved surface: what a mixture of normal distributions in few dimensions becomes
    /// when it is mapped to many and normalised.
    pub fn synthetic(rows: usize, dimensions: usize) -> Result<Self> {
        let mut rng = Rng::with_seed(3);
        let map: Vec<f32> = (0..LATENT * dimensions).map(|_| normal(&mut rng)).collect();
        let scales: Vec<f32> = (0..LATENT).map(|i| 1.0 / ((i + 1) as f32).sqrt()).collect();
        let clusters: Vec<Vec<f32>> = (0..rows.div_ceil(CLUSTER))
            .map(|_| scales.iter().map(|scale| scale * normal(&mut rng)).collect())
            .collect();
        let mut vectors = Vec::with_capacity((rows + QUERIES) * dimensions);
        for _ in 0..rows + QUERIES {
            let centre = rng.choice(&clusters).map_or(&[] as &[f32], Vec::as_slice);
            let spread = 0.7 + 0.5 * rng.f32();
            let mut vector = vec![0.0; dimensions];
            for ((centre, scale), map) in centre.iter().zip(&scales).zip(map.chunks_exact(dimensions)) {
                let x = centre + spread * scale * normal(&mut rng);
                vector.iter_mut().zip(map).for_each(|(place, m)| *place += x * m);
            }
            vectors.extend(vector.iter().map(|x| x + 0.3 * normal(&mut rng)));
        }
        Data::new(format!("{rows} clustered synthetic vectors of {dimensions} dimensions"), dimensions, vectors)
    }

    /// The number of vectors.
    pub fn rows(&self) -> usize {
        self.vectors.len() / self.dimensions
    }

    /// The queries.
    pub fn queries(&self) -> impl Iterator<Item = &[f32]> {
        self.queries.chunks_exact(self.dimensions)
    }

    fn nearest(&self, query: &[f32]) -> Vec<u32> {
        let mut all: Vec<(f32, u32)> = self
            .vectors
            .chunks_exact(self.dimensions)
            .zip(0..)
            .map(|(vector, row)| {
                let mut lanes = [0.0_f32; 16];
                for (a, b) in vector.as_chunks::<16>().0.iter().zip(query.as_chunks::<16>().0) {
                    lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += a * b);
                }
                (-lanes.iter().sum::<f32>(), row)
            })
            .collect();
        all.select_nth_unstable_by(NEAREST, |a, b| a.0.total_cmp(&b.0));
        all.into_iter().take(NEAREST).map(|(_, row)| row).collect()
    }
}

fn normal(rng: &mut Rng) -> f32 {
    (-2.0 * (1.0 - rng.f32()).ln()).sqrt() * (std::f32::consts::TAU * rng.f32()).cos()
}
