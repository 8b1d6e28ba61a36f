//! The encoders against golden values of sentence-transformers, and files that are not as they should be. No server.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::prelude::{Engine as _, BASE64_STANDARD};
use half::f16;
use mysql_ml::local::files::ModelDir;
use mysql_ml::local::sentence::SentenceModel;
use mysql_ml::local::{EmbedOptions, LocalModel};
use mysql_ml::providers::Role;
use mysql_ml::threads::interrupt::CancelToken;

const CUT: EmbedOptions = EmbedOptions { role: Role::Document, truncate: true };

fn minilm() -> ModelDir {
    let path = xtask::weights::minilm(&|line| eprintln!("{line}")).expect("the weights of all-MiniLM-L6-v2");
    ModelDir::open(path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap()).unwrap()
}

fn golden() -> Vec<(String, Vec<f32>)> {
    let read = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = BASE64_STANDARD.decode(value["vector"].as_str().unwrap()).unwrap();
        let vector = bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect();
        (value["text"].as_str().unwrap().to_owned(), vector)
    };
    include_str!("golden/minilm.jsonl").lines().map(read).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let model = SentenceModel::open(&minilm()).unwrap();
    let golden = golden();
    assert_eq!((golden.len(), model.dimensions()), (200, Some(384)));
    let texts: Vec<&str> = golden.iter().map(|(text, _)| text.as_str()).collect();
    let vectors = model.embed(&texts, CUT, &CancelToken::default()).unwrap();
    let mut worst = 1.0_f64;
    for (i, ((text, wanted), got)) in golden.iter().zip(&vectors).enumerate() {
        let got = got.as_ref().unwrap();
        let cosine = cosine(wanted, got);
        worst = worst.min(cosine);
        assert!(cosine > 0.9999, "{cosine} for {text}");
        if i % 8 != 0 {
            continue;
        }
        let alone = model.embed(&[text], CUT, &CancelToken::default()).unwrap().remove(0).unwrap();
        assert_eq!(&alone, got, "alone and among others: {text}");
    }
    println!("the least cosine is {worst}");
}
