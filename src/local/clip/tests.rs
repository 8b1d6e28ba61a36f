//! Against transformers: tests/golden/make_tiny_models.py made the models and what it computes with them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(golden("clip.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn model() -> Clip {
    Clip::load(&golden("clip")).unwrap()
}

#[test]
fn texts_are_embedded_as_transformers_does() {
    let model = model();
    let expected = expected();
    let texts: Vec<&str> = expected["texts"].as_array().unwrap().iter().map(|t| t["text"].as_str().unwrap()).collect();
    let together = model.embed_texts(&texts, false, &CancelToken::default()).unwrap();
    for ((text, vector), wanted) in texts.iter().zip(&together).zip(expected["texts"].as_array().unwrap()) {
        let ids: Vec<u32> = wanted["ids"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as u32).collect();
        assert_eq!(model.tokens.encode(text, false).unwrap(), ids, "{text}");
        assert!(furthest(vector, &numbers(&wanted["vector"])) < 2e-5, "{text}: {vector:?}");
        let alone = model.embed_texts(&[text], false, &CancelToken::default()).unwrap();
        assert!(furthest(vector, &alone[0]) < 1e-6, "{text}: alone and together");
    }
}

#[test]
fn images_are_embedded_as_transformers_does() {
    let model = model();
    for wanted in expected()["images"].as_array().unwrap() {
        let file = wanted["file"].as_str().unwrap();
        let image = std::fs::read(golden("images").join(file)).unwrap();
        let pixels = model.preprocessor.pixels(&image).unwrap();
        let some: Vec<f32> = pixels
            .chunks_exact(32 * 32)
            .flat_map(|plane| plane.chunks_exact(32).skip(15).take(2))
            .flat_map(|line| line.iter().step_by(5).copied())
            .collect();
        // Decoders of JPEG and blending on white may round otherwise: steps of 255, in the units of the smallest deviation.
        let steps = if file.ends_with("jpg") || file == "alpha.png" { 1.01 } else { 0.001 };
        let far = furthest(&some, &numbers(&wanted["pixels"]));
        assert!(far < steps / 255.0 / 0.26, "{file}: {far}");
        let vector = model.embed_images(&[&image], &CancelToken::default()).unwrap().remove(0);
        let cosine: f32 = vector.iter().zip(numbers(&wanted["vector"])).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.99999, "{file}: {cosine}");
        println!("{file} pixels {far} cosine {cosine}");
    }
}

#[test]
fn images_of_one_call_are_the_same_as_alone() {
    let model = model();
    let files: Vec<Vec<u8>> = ["wide.png", "palette.gif", "small.png"]
        .iter()
        .map(|f| std::fs::read(golden("images").join(f)).unwrap())
        .collect();
    let images: Vec<&[u8]> = (0..70).map(|i| files[i % 3].as_slice()).collect();
    let together = model.embed_images(&images, &CancelToken::default()).unwrap();
    for (image, vector) in images.iter().zip(&together) {
        let alone = model.embed_images(&[image], &CancelToken::default()).unwrap();
        assert!(furthest(vector, &alone[0]) < 1e-6);
    }
}

#[test]
fn long_texts_are_refused_or_cut() {
    let model = model();
    let long = "cat ".repeat(40);
    let error = model.embed_texts(&[&long], false, &CancelToken::default()).unwrap_err();
    assert!(error.message().contains("42 tokens and the model takes 20"), "{error}");
    let cut = model.embed_texts(&[&long], true, &CancelToken::default()).unwrap();
    let short = model.embed_texts(&["cat ".repeat(18).trim()], false, &CancelToken::default()).unwrap();
    assert_eq!(cut, short);
    assert!(model.embed_texts(&[&"cat ".repeat(1_000_000)], false, &CancelToken::default()).is_err());
}

#[test]
fn a_cancelled_call_ends() {
    let cancel = CancelToken::default();
    cancel.cancel();
    let model = model();
    assert_eq!(model.embed_texts(&["x"], false, &cancel).unwrap_err().sql_code(), 1317);
    assert_eq!(model.embed_images(&[b"x"], &cancel).unwrap_err().sql_code(), 1317);
}

/// A copy of the model with one file changed.
fn broken(file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Error {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden("clip")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let path = folder.path().join(file);
    std::fs::write(&path, change(std::fs::read(&path).unwrap())).unwrap();
    Clip::load(folder.path()).err().unwrap()
}

fn replace(from: &'static str, to: &'static str) -> impl FnOnce(Vec<u8>) -> Vec<u8> {
    move |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(from), "{from}");
        text.replace(from, to).into_bytes()
    }
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    for (from, to, says) in [
        ("\"projection_dim\": 12", "\"projection_dim\": 13", "has the shape [12, 16]"),
        ("\"hidden_size\": 24", "\"hidden_size\": 30", "has the shape [24,"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "has no tensor"),
        ("\"vocab_size\": 101", "\"vocab_size\": 100", "has the token 100"),
        ("\"patch_size\": 8", "\"patch_size\": 4", "has the shape"),
        ("\"image_size\": 32", "\"image_size\": 64", "which config.json wants"),
        ("\"max_position_embeddings\": 20", "\"max_position_embeddings\": 2", "fill"),
    ] {
        let error = broken("config.json", replace(from, to));
        assert!(error.message().contains(says), "{to}: {error}");
    }
    let error = broken("tokenizer.json", |_| b"{}".to_vec());
    assert!(error.message().contains("tokenizer.json is not a tokenizer"), "{error}");
    let error = broken("model.safetensors", |mut bytes| {
        bytes.truncate(30_000);
        bytes
    });
    assert!(error.message().contains("not a whole safetensors file"), "{error}");
    let error = broken("model.safetensors", |mut bytes| {
        let end = bytes.len();
        bytes[end - 2..].copy_from_slice(&[0, 0x7e]);
        bytes
    });
    assert!(error.message().contains("not a finite number"), "{error}");
}

#[test]
fn the_weights_are_counted() {
    let file = std::fs::metadata(golden("clip").join("model.safetensors")).unwrap().len() as usize;
    let bytes = model().memory_bytes();
    assert!(bytes > 2 * file * 8 / 10 && bytes < 2 * file, "{bytes} of {file} in halves");
}
