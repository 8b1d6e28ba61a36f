//! Models that run inside the server.

pub mod clip;
pub mod layers;
pub mod matmul;
pub mod t5;
pub mod text;
pub mod weights;

use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Kind, Result};

/// The bytes of a small file of a model, at most `max`.
pub(crate) fn read_small(path: &Path, max: u64) -> Result<Vec<u8>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let failed = |e: std::io::Error| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Invalid };
        Error::new(kind, format!("cannot read {name} ({e}); take it from the model's Hugging Face folder"))
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(Error::new(Kind::TooLarge, format!("{name} has more than {max} bytes; it is not a model's")));
    }
    Ok(bytes)
}

/// Reads a JSON object. Structures with defaults would be read from an empty array too.
pub(crate) fn read_object<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(Value::Object(serde_json::from_slice(json)?))
}
