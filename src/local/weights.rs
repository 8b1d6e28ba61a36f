//! A model's weights: tensors of a `model.safetensors` file, read one at a time into 32-bit floats.
//!
//! The file is read, not mapped: one that is cut while it is mapped would end the server.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use safetensors::tensor::Metadata;
use safetensors::Dtype;

use crate::error::{cut, Error, Kind, Result};

/// The most bytes of a file's header; those of models with thousands of tensors have some hundred kilobytes.
const MAX_HEADER: u64 = 16 << 20;
/// How much of a tensor is read at once.
const CHUNK: usize = 1 << 20;

/// An open file of weights.
pub struct Weights {
    file: File,
    name: String,
    start: u64,
    tensors: Metadata,
}

impl Weights {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let failed = |e: std::io::Error| {
            let kind = if e.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Invalid };
            Error::new(kind, format!("cannot read {name} ({e}); put the model's weights there as safetensors"))
        };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let damaged = |why: &dyn std::fmt::Display| {
            Error::invalid(format!("{name} is not a whole safetensors file ({why}); fetch it again"))
        };
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0).map_err(|_| damaged(&"it has no header"))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length > size.saturating_sub(8) {
            return Err(damaged(&"the length of its header is wrong"));
        }
        let mut header = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut header, 8).map_err(failed)?;
        let tensors: Metadata =
            serde_json::from_slice(&header).map_err(|e| damaged(&cut(&e.to_string(), 120).into_owned()))?;
        let start = 8 + length;
        if start + tensors.data_len() as u64 != size {
            return Err(damaged(&format!("it should have {} bytes and has {size}", start + tensors.data_len() as u64)));
        }
        Ok(Weights { file, name, start, tensors })
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, tensor: &str) -> bool {
        self.tensors.info(tensor).is_some()
    }

    /// The elements of a tensor, which must have this shape and be finite.
    pub fn read(&self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let name = &self.name;
        let info = self.tensors.info(tensor).ok_or_else(|| {
            Error::invalid(format!("{name} has no tensor {tensor}; it is not the kind of model that config.json says"))
        })?;
        if info.shape != shape {
            return Err(Error::invalid(format!(
                "tensor {tensor} of {name} has the shape {:?}, and config.json asks for {shape:?}; take both from the same model",
                info.shape
            )));
        }
        let width = match info.dtype {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            other => {
                return Err(Error::invalid(format!(
                    "tensor {tensor} of {name} has elements of type {other:?}; F32, F16 and BF16 are read"
                )))
            }
        };
        let (begin, end) = info.data_offsets;
        let mut values = Vec::with_capacity((end - begin) / width);
        let mut buffer = vec![0; CHUNK.min(end - begin)];
        let mut at = begin;
        while at < end {
            let count = CHUNK.min(end - at);
            let part = buffer.get_mut(..count).ok_or_else(|| Error::internal("a buffer is too short"))?;
            self.file
                .read_exact_at(part, self.start + at as u64)
                .map_err(|e| Error::invalid(format!("cannot read tensor {tensor} of {name} ({e})")))?;
            match info.dtype {
                Dtype::F32 => values.extend(part.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))),
                Dtype::BF16 => values.extend(
                    part.as_chunks::<2>().0.iter().map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)),
                ),
                _ => values.extend(part.as_chunks::<2>().0.iter().map(|b| half(u16::from_le_bytes(*b)))),
            }
            at += count;
        }
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::invalid(format!(
                "element {i} of tensor {tensor} of {name} is not a finite number; the file is damaged"
            )));
        }
        Ok(values)
    }
}

/// A 16-bit float as a 32-bit one.
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits & 0x3ff);
    match exponent {
        // A subnormal one counts in steps of 2^-24.
        0 => {
            let magnitude = fraction as f32 * (1.0 / 16_777_216.0);
            f32::from_bits(magnitude.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn halves_are_exact() {
        for (bits, value) in [
            (0, 0.0),
            (1, 2f32.powi(-24)),
            (0x3ff, 1023.0 * 2f32.powi(-24)),
            (0x3c00, 1.0),
            (0xc500, -5.0),
            (0x7bff, 65504.0),
        ] {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x8000).is_sign_negative() && half(0x7c00).is_infinite() && half(0x7e00).is_nan());
    }

    #[test]
    fn the_three_types_are_read() {
        let header = r#"{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[1],"data_offsets":[8,10]},
            "c":{"dtype":"BF16","shape":[1],"data_offsets":[10,12]},"d":{"dtype":"I16","shape":[1],"data_offsets":[12,14]}}"#;
        let (_folder, path) = file(header, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0x3c, 0x80, 0x3f, 1, 0]);
        let weights = Weights::open(&path).unwrap();
        assert!(weights.contains("a") && !weights.contains("e"));
        assert_eq!(weights.read("a", &[1, 2]).unwrap(), [1.0, -2.0]);
        assert_eq!(weights.read("b", &[1]).unwrap(), [1.0]);
        assert_eq!(weights.read("c", &[1]).unwrap(), [1.0]);
        for (tensor, shape, says) in
            [("a", &[2, 1][..], "has the shape [1, 2]"), ("d", &[1], "of type I16"), ("e", &[1], "no tensor e")]
        {
            let error = weights.read(tensor, shape).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let one = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        for (header, data) in [
            (one, &[0; 3][..]),
            (one, &[0; 5]),
            ("{", &[]),
            ("[]", &[]),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, &[0; 4]),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, &[0; 4]),
            (r#"{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}"#, &[0; 4]),
        ] {
            let (_folder, path) = file(header, data);
            let error = Weights::open(&path).err().unwrap();
            assert!(error.message().contains("not a whole safetensors file"), "{header}: {error}");
        }
        let (folder, path) = file(one, &f32::NAN.to_le_bytes());
        let error = Weights::open(&path).unwrap().read("a", &[1]).unwrap_err();
        assert!(error.message().contains("not a finite number"), "{error}");
        for bytes in [&b""[..], b"1234567", &u64::MAX.to_le_bytes(), &100u64.to_le_bytes()] {
            std::fs::write(&path, bytes).unwrap();
            assert!(Weights::open(&path).is_err());
        }
        assert_eq!(Weights::open(&folder.path().join("none")).err().unwrap().kind(), Kind::NotFound);
    }
}
