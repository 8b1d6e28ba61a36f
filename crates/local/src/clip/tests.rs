//! Comparison with transformers. tests/golden/make_tiny_models.py made the models and expected outputs.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use mysql_ml_base::interrupt::CancelToken;
use mysql_ml_base::role::Role;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
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
    Clip::load(&ModelDir::open(&golden(""), "clip").unwrap()).unwrap()
}

fn texts(model: &Clip, texts: &[&str], truncate: bool) -> Vec<Result<Vec<f32>>> {
    model.embed(texts, EmbedOptions { role: Role::Document, truncate, dimensions: None }, &Turn::default()).unwrap()
}

fn text(model: &Clip, text: &str) -> Vec<f32> {
    texts(model, &[text], false).remove(0).unwrap()
}

fn image(model: &Clip, image: &[u8]) -> Result<Vec<f32>> {
    model.embed_images(&[image], &Turn::default()).unwrap().remove(0)
}

#[test]
fn texts_are_embedded_as_transformers_does() {
    let model = model();
    let expected = expected();
    let all: Vec<&str> = expected["texts"].as_array().unwrap().iter().map(|t| t["text"].as_str().unwrap()).collect();
    let together = texts(&model, &all, false);
    for ((one, vector), wanted) in all.iter().zip(together).zip(expected["texts"].as_array().unwrap()) {
        let ids: Vec<u32> = wanted["ids"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as u32).collect();
        let vector = vector.unwrap();
        assert_eq!(model.tokenizer.encode(one, false, &Turn::default()).unwrap().ids, ids, "{one}");
        assert!(furthest(&vector, &numbers(&wanted["vector"])) < 2e-5, "{one}: {vector:?}");
        assert!(furthest(&vector, &text(&model, one)) < 1e-6, "{one}: alone and together");
    }
    assert_eq!(model.dimensions(), Some(together_width(&expected)));
}

fn together_width(expected: &Value) -> usize {
    expected["texts"][0]["vector"].as_array().unwrap().len()
}

#[test]
fn images_are_embedded_as_transformers_does() {
    let model = model();
    for wanted in expected()["images"].as_array().unwrap() {
        let file = wanted["file"].as_str().unwrap();
        let bytes = std::fs::read(golden("images").join(file)).unwrap();
        let pixels = model.preprocessor.pixels(&bytes).unwrap();
        let some: Vec<f32> = pixels
            .chunks_exact(32 * 32)
            .flat_map(|plane| plane.chunks_exact(32).skip(15).take(2))
            .flat_map(|line| line.iter().step_by(5).copied())
            .collect();
        // JPEG decoders and blending on white may round differently: by one step of 255, divided by the smallest
        // deviation.
        let steps = if file.ends_with("jpg") || file == "alpha.png" { 1.01 } else { 0.001 };
        let far = furthest(&some, &numbers(&wanted["pixels"]));
        assert!(far < steps / 255.0 / 0.26, "{file}: {far}");
        let vector = image(&model, &bytes).unwrap();
        let cosine: f32 = vector.iter().zip(numbers(&wanted["vector"])).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.99999, "{file}: {cosine}");
    }
}

#[test]
fn images_of_one_call_are_the_same_as_alone() {
    let model = model();
    let files: Vec<Vec<u8>> = ["wide.png", "palette.gif", "small.png"]
        .iter()
        .map(|f| std::fs::read(golden("images").join(f)).unwrap())
        .collect();
    let mut images: Vec<&[u8]> = (0..70).map(|i| files[i % 3].as_slice()).collect();
    images[33] = b"no image";
    let together = model.embed_images(&images, &Turn::default()).unwrap();
    for (i, (bytes, vector)) in images.iter().zip(together).enumerate() {
        match vector {
            Ok(vector) => assert!(i != 33 && furthest(&vector, &image(&model, bytes).unwrap()) < 1e-6, "{i}"),
            Err(error) => assert!(i == 33 && error.message().contains("no image of a known kind"), "{i}: {error}"),
        }
    }
}

#[test]
fn long_texts_are_refused_or_cut() {
    let model = model();
    let long = "cat ".repeat(40);
    let mixed = texts(&model, &["cat", &long, "dog"], false);
    let error = mixed[1].as_ref().unwrap_err();
    assert!(error.message().contains("more than the 20 tokens"), "{error}");
    assert_eq!((mixed[0].as_ref().unwrap(), mixed[2].as_ref().unwrap()), (&text(&model, "cat"), &text(&model, "dog")));
    let cut = texts(&model, &[&long], true).remove(0).unwrap();
    assert_eq!(cut, text(&model, "cat ".repeat(18).trim()));
}

#[test]
fn a_cancelled_call_ends() {
    let cancel = CancelToken::default();
    cancel.cancel();
    let turn = Turn::of(cancel);
    let model = model();
    let options = EmbedOptions { role: Role::Document, truncate: false, dimensions: None };
    assert_eq!(model.embed(&["x"], options, &turn).unwrap_err().sql_code(), 1317);
    assert_eq!(model.embed_images(&[b"x"], &turn).unwrap_err().sql_code(), 1317);
}

/// A copy of the model with one file changed.
fn broken(file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Error {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("m");
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(golden("clip")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let path = folder.join(file);
    std::fs::write(&path, change(std::fs::read(&path).unwrap())).unwrap();
    Clip::load(&ModelDir::open(root.path(), "m").unwrap()).err().unwrap()
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
        ("\"vocab_size\": 101", "\"vocab_size\": 100", "take both from the same model"),
        ("\"patch_size\": 8", "\"patch_size\": 4", "has the shape"),
        ("\"image_size\": 32", "\"image_size\": 64", "which config.json wants"),
        ("\"max_position_embeddings\": 20", "\"max_position_embeddings\": 2", "are added to each text"),
    ] {
        let error = broken("config.json", replace(from, to));
        assert!(error.message().contains(says), "{to}: {error}");
    }
    let error = broken("tokenizer.json", |_| b"{}".to_vec());
    assert!(error.message().contains("is no tokenizer"), "{error}");
    let error = broken("model.safetensors", |mut bytes| {
        bytes.truncate(30_000);
        bytes
    });
    assert!(error.message().contains("is damaged or not complete"), "{error}");
    let error = broken("model.safetensors", |mut bytes| {
        let end = bytes.len();
        bytes[end - 2..].copy_from_slice(&[0, 0x7e]);
        bytes
    });
    assert!(error.message().contains("not finite"), "{error}");
}

#[test]
fn the_weights_are_counted() {
    let file = std::fs::metadata(golden("clip").join("model.safetensors")).unwrap().len();
    let bytes = model().memory_bytes() - model().tokenizer.memory_bytes();
    // Packing rounds outputs up to 32, which is much for so small a model.
    assert!(bytes > 2 * file * 8 / 10 && bytes < 4 * file, "{bytes} of {file} in halves");
}
