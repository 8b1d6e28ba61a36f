//! A model's weights: `model.safetensors`, or its parts that `model.safetensors.index.json` names.
//!
//! Tensors are read one by one with positioned reads, so a model is never in memory twice. Files are not mapped:
//! truncating a mapped file would kill the process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::Dtype;
use serde::Deserialize;

use super::files::ModelDir;
use mysql_ml_base::error::{cut, Error, Kind, Result};

/// The file with all weights of most models.
pub const FILE: &str = "model.safetensors";

/// The file with the places of a large model's weights.
pub const INDEX: &str = "model.safetensors.index.json";

/// The maximum of bytes in a header.
const MAX_HEADER: u64 = 16 << 20;

/// Bytes of a tensor per read.
const PIECE: usize = 1 << 20;

/// The maximum of files with one model's weights.
const MAX_FILES: usize = 200;

/// The weights of a model on disk.
pub struct Weights {
    parts: Vec<Part>,
}

struct Part {
    /// The file's name in errors.
    name: String,
    file: File,
    metadata: Metadata,
    /// The offset of the tensors.
    data: u64,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Reads the headers of the files.
    pub fn open(dir: &ModelDir) -> Result<Self> {
        let names: Vec<String> = if dir.has(FILE) || !dir.has(INDEX) {
            if !dir.has(FILE) && dir.has("pytorch_model.bin") {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!(
                        "{} has its weights as pytorch_model.bin only, which could run any code; convert them to {FILE}",
                        dir.shown()
                    ),
                ));
            }
            vec![FILE.to_owned()]
        } else {
            let index: Index = dir.json(INDEX)?;
            let mut names: Vec<String> = index.weight_map.into_values().collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        if names.is_empty() || names.len() > MAX_FILES {
            return Err(Error::invalid(format!(
                "{} names {} files of weights; 1 to {MAX_FILES} are read",
                dir.name(INDEX),
                names.len()
            )));
        }
        let parts = names.iter().map(|name| Part::open(dir, name)).collect::<Result<Vec<_>>>()?;
        Ok(Weights { parts })
    }

    /// The names of all tensors.
    pub fn names(&self) -> Vec<String> {
        self.parts.iter().flat_map(|p| p.metadata.offset_keys()).collect()
    }

    fn find(&self, name: &str) -> Option<(&Part, &TensorInfo)> {
        self.parts.iter().find_map(|p| p.metadata.info(name).map(|info| (p, info)))
    }

    /// Whether the tensor exists.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        match self.find(name) {
            Some((_, info)) => Ok(&info.shape),
            None => Err(self.missing(name)),
        }
    }

    /// The count of numbers in all tensors, for an estimate of memory.
    pub fn elements(&self) -> u64 {
        let of = |p: &Part| -> u64 {
            let sizes = p.metadata.tensors();
            sizes.values().map(|t| t.shape.iter().map(|n| *n as u64).fold(1, u64::saturating_mul)).sum()
        };
        self.parts.iter().map(of).fold(0, u64::saturating_add)
    }

    /// A one-dimensional tensor of non-negative integers.
    pub fn integers(&self, name: &str) -> Result<Vec<u32>> {
        let (part, info) = self.find(name).ok_or_else(|| self.missing(name))?;
        let bytes = part.bytes(name, info)?;
        let numbers: Option<Vec<u32>> = match (info.dtype, info.shape.len()) {
            (Dtype::I64, 1) => bytes.as_chunks().0.iter().map(|b| u32::try_from(i64::from_le_bytes(*b)).ok()).collect(),
            (Dtype::I32, 1) => bytes.as_chunks().0.iter().map(|b| u32::try_from(i32::from_le_bytes(*b)).ok()).collect(),
            (Dtype::U32, 1) => Some(bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect()),
            _ => None,
        };
        numbers.ok_or_else(|| {
            Error::invalid(format!(
                "{}: tensor {} is no row of whole numbers; fetch the file anew",
                part.name,
                cut(name, 120)
            ))
        })
    }

    fn missing(&self, name: &str) -> Error {
        let file = self.parts.first().map_or(FILE, |p| &p.name);
        Error::invalid(format!(
            "{file} has no tensor {}; it is not the model that config.json describes",
            cut(name, 120)
        ))
    }

    /// A tensor's numbers in row-major order.
    ///
    /// An error if the tensor is missing, has another shape or no floating-point type, or holds a number that is not
    /// finite.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (part, info) = self.find(name).ok_or_else(|| self.missing(name))?;
        if info.shape != shape {
            return Err(Error::invalid(format!(
                "{}: tensor {} has the shape {:?}, and config.json wants {:?}; these files do not belong together",
                part.name,
                cut(name, 120),
                info.shape,
                shape
            )));
        }
        part.read(name, info)
    }
}

impl Part {
    fn open(dir: &ModelDir, name: &str) -> Result<Part> {
        let (mut file, size) = dir.file(name)?;
        let name = dir.name(name);
        let damaged =
            |what: String| Error::invalid(format!("{name} is damaged or not complete: {what}; fetch it anew"));
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|e| damaged(format!("no header ({e})")))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length > size {
            return Err(damaged(format!("its header is said to have {length} bytes of the file's {size}")));
        }
        let mut header = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact(&mut header).map_err(|e| damaged(format!("the header ends early ({e})")))?;
        // `Metadata` checks offsets against each other and against shapes.
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| damaged(format!("its header: {e}")))?;
        let data = 8 + length;
        let wanted = data.saturating_add(metadata.data_len() as u64);
        if wanted != size {
            return Err(damaged(format!("it has {size} bytes, its header wants {wanted}")));
        }
        Ok(Part { name, file, metadata, data })
    }

    fn bytes(&self, name: &str, info: &TensorInfo) -> Result<Vec<u8>> {
        let (begin, end) = info.data_offsets;
        let mut bytes = vec![0; end.saturating_sub(begin)];
        self.file.read_exact_at(&mut bytes, self.data + begin as u64).map_err(|e| {
            let tensor = cut(name, 120);
            Error::invalid(format!("{}: tensor {tensor} cannot be read ({e}); fetch the file anew", self.name))
        })?;
        Ok(bytes)
    }

    /// Reads the numbers in pieces. A whole buffer would double the memory.
    fn read(&self, name: &str, info: &TensorInfo) -> Result<Vec<f32>> {
        let shown = || format!("{}: tensor {}", self.name, cut(name, 120));
        let size = match info.dtype {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            other => {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("{} has the type {other:?}; F32, F16 and BF16 are read", shown()),
                ))
            }
        };
        let (begin, end) = info.data_offsets;
        let mut numbers: Vec<f32> = Vec::new();
        numbers
            .try_reserve_exact(end.saturating_sub(begin) / size)
            .map_err(|_| Error::new(Kind::TooLarge, format!("{} does not fit into the server's memory", shown())))?;
        let mut piece = vec![0; PIECE];
        for at in (begin..end).step_by(PIECE) {
            let bytes = piece.get_mut(..PIECE.min(end - at)).unwrap_or_default();
            self.file
                .read_exact_at(bytes, self.data + at as u64)
                .map_err(|e| Error::invalid(format!("{} cannot be read ({e}); fetch the file anew", shown())))?;
            match info.dtype {
                Dtype::F32 => numbers.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
                Dtype::F16 => numbers.extend(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
                _ => numbers.extend(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
            }
        }
        // A product with a finite number is 0 for these alone.
        if let Some(at) = numbers.iter().position(|x| !x.is_finite()) {
            return Err(Error::invalid(format!(
                "{} has a number that is not finite (the {at}th); fetch the file anew",
                shown()
            )));
        }
        Ok(numbers)
    }
}
