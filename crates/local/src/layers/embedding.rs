//! Embeddings: a row for each token, position or segment.

use super::vector_product::dot_rows;
use crate::weights::Weights;
use mysql_ml_base::error::{Error, Result};

/// The rows `[count, hidden]`.
pub struct Embedding {
    rows: Vec<f32>,
    hidden: usize,
}

impl Embedding {
    /// Reads the tensor `name`, `[count, hidden]`.
    pub fn load(weights: &Weights, name: &str, count: usize, hidden: usize) -> Result<Self> {
        Ok(Embedding { rows: weights.tensor(name, &[count, hidden])?, hidden })
    }

    /// Row `index`, `[hidden]`; `None` beyond the last.
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        let start = index.checked_mul(self.hidden)?;
        self.rows.get(start..start.checked_add(self.hidden)?)
    }

    /// All rows, `[count, hidden]`.
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// The products of `x`, `[hidden]`, with all rows: `[count]`.
    pub fn products(&self, x: &[f32]) -> Result<Vec<f32>> {
        if x.len() != self.hidden || x.is_empty() {
            return Err(Error::internal("a row has another width than the embeddings"));
        }
        let mut out = vec![0.0; self.rows.len() / self.hidden];
        dot_rows(x, &self.rows, self.hidden, &mut out);
        Ok(out)
    }

    /// Bytes of the rows.
    pub fn memory_bytes(&self) -> u64 {
        size_of_val(self.rows.as_slice()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_products() {
        let table = Embedding { rows: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], hidden: 2 };
        assert_eq!((table.row(1), table.row(3), table.row(usize::MAX)), (Some(&[3.0, 4.0][..]), None, None));
        assert_eq!(table.products(&[1.0, 1.0]).unwrap(), [3.0, 7.0, 11.0]);
        assert!(table.products(&[1.0]).is_err());
    }
}
