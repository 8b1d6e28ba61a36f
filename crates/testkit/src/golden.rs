//! Vectors that sentence-transformers computed with all-MiniLM-L6-v2; tests/golden/make_minilm.py wrote them.

use anyhow::Context as _;
use base64::prelude::{Engine as _, BASE64_STANDARD};
use half::f16;

/// Texts with their vectors, each `[384]`.
pub fn minilm() -> anyhow::Result<Vec<(String, Vec<f32>)>> {
    let read = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line)?;
        let part = |name: &str| value[name].as_str().context("a line has no text or vector");
        let bytes = BASE64_STANDARD.decode(part("vector")?)?;
        let vector = bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect();
        Ok((part("text")?.to_owned(), vector))
    };
    include_str!("../../../tests/golden/minilm.jsonl").lines().map(read).collect()
}

/// The cosine of the angle between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
