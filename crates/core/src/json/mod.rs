//! Reading and filling JSON: vectors out of answers without a tree, templates, paths.

pub mod length;
pub mod numbers;
pub mod scan;
pub mod schema;
pub mod shallow;
pub mod template;

use mysql_ml_base::error::{Error, Kind, Result};

/// The largest JSON argument that is read into a tree, bytes. The tree takes many times as much.
pub const MAX_DOCUMENT: usize = 1 << 20;

/// An error for a JSON argument that is too large to be read into a tree.
pub fn check_document(what: &str, text: &str) -> Result<()> {
    if text.len() <= MAX_DOCUMENT {
        return Ok(());
    }
    Err(Error::new(Kind::TooLarge, format!("{what} has {} bytes, of at most 1 MiB; shorten it", text.len())))
}
