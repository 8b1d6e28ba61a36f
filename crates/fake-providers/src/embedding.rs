//! Deterministic vectors and their encodings.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;

/// The endpoint's unit vector for a text.
///
/// Different texts give different vectors (with one dimension only the sign can differ). A text gives the same vector
/// on every machine: its hash seeds a generator.
pub fn embedding_for(text: &str, dims: usize) -> Vec<f32> {
    let mut state = fnv1a(text.as_bytes());
    let mut values = Vec::with_capacity(dims);
    let mut squares = 0.0_f64;
    for _ in 0..dims {
        let value = uniform(&mut state);
        squares += value * value;
        values.push(value);
    }
    // The sum is zero only if every number drawn is zero.
    let scale = if squares > 0.0 { squares.sqrt().recip() } else { 1.0 };
    values.iter().map(|value| (value * scale) as f32).collect()
}

/// A plausible count that depends on the text only.
pub(crate) fn tokens(text: &str) -> usize {
    text.len().div_ceil(4)
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The next number of `SplitMix64`, mapped to [-1, 1).
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    // The 53 high bits are exact in a double.
    (mixed >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// The encoding of vectors in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// A JSON array.
    Float,
    /// A JSON string of the base64 of little-endian floats.
    Base64,
}

/// Appends a vector as JSON.
pub(crate) fn write_vector(vector: &[f32], encoding: Encoding, out: &mut Vec<u8>) {
    match encoding {
        // Neither writing to a Vec nor serializing numbers fails.
        Encoding::Float => drop(serde_json::to_writer(out, vector)),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
    }
}

/// One vector in both encodings.
pub(crate) struct FixedVector {
    float: Vec<u8>,
    base64: Vec<u8>,
}

impl FixedVector {
    pub(crate) fn new(vector: &[f32]) -> Self {
        let encode = |encoding| {
            let mut out = Vec::new();
            write_vector(vector, encoding, &mut out);
            out
        };
        Self { float: encode(Encoding::Float), base64: encode(Encoding::Base64) }
    }

    pub(crate) fn json(&self, encoding: Encoding) -> &[u8] {
        match encoding {
            Encoding::Float => &self.float,
            Encoding::Base64 => &self.base64,
        }
    }
}
