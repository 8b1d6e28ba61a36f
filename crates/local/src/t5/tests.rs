//! Comparison with transformers. tests/golden/make_tiny_models.py made the models and expected outputs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::*;
use mysql_ml_base::interrupt::CancelToken;
use mysql_ml_base::role::Role;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

fn open(name: &str) -> Result<T5> {
    T5::load(&ModelDir::open(&golden(""), name).unwrap())
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, temperature: 0.0, top_p: 1.0, seed: 0, truncate: false }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

/// The largest logit of each step along these tokens.
fn largest(model: &T5, prompt: &[u32], answer: &[u32]) -> Vec<f32> {
    let turn = Turn::default();
    let embedded = prompt.iter().flat_map(|t| model.embedding(*t).unwrap().to_vec()).collect();
    let meaning = model.encoder.apply(embedded, &turn).unwrap();
    let mut written = model.decoder.begin(&meaning, answer.len(), &turn).unwrap();
    let before = std::iter::once(model.config.start()).chain(answer.iter().copied());
    before
        .take(answer.len())
        .map(|last| model.next(&mut written, last, &turn).unwrap().into_iter().fold(f32::MIN, f32::max))
        .collect()
}

fn agrees(name: &str) {
    let model = open(name).unwrap();
    let expected: Value = serde_json::from_slice(&std::fs::read(golden(&format!("{name}.json"))).unwrap()).unwrap();
    for case in expected.as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let (prompt_ids, tokens) = (ids(&case["ids"]), ids(&case["generated"]));
        assert_eq!(model.tokenizer.encode(prompt, false, &Turn::default()).unwrap().ids, prompt_ids, "{prompt}");
        for (i, (ours, theirs)) in
            largest(&model, &prompt_ids, &tokens).iter().zip(case["largest"].as_array().unwrap()).enumerate()
        {
            assert!((f64::from(*ours) - theirs.as_f64().unwrap()).abs() < 5e-4, "{prompt}, step {i}: {ours} {theirs}");
        }
        let written = model.write(prompt, &greedy(60), &Turn::default()).unwrap();
        let finished = tokens.last() == Some(&1);
        assert_eq!(model.tokenizer.decode(&written.tokens, &Turn::default()).unwrap(), case["text"].as_str().unwrap());
        assert_eq!(written, Written { tokens, prompt_tokens: prompt_ids.len(), finished }, "{prompt}");
        let generated = model.generate(prompt, &greedy(60), &Turn::default());
        match generated {
            Ok(generated) => assert!(finished && generated.text == case["text"].as_str().unwrap()),
            Err(error) => assert!(!finished && error.message().contains("cut at the limit of 60 tokens"), "{error}"),
        }
    }
}

#[test]
fn the_first_shape_writes_as_transformers_does() {
    agrees("t5");
}

#[test]
fn gates_and_a_head_of_its_own_too() {
    agrees("t5_gated");
}

#[test]
fn bounds_on_tokens() {
    let model = open("t5").unwrap();
    let short = model.write("a", &greedy(3), &Turn::default()).unwrap();
    assert_eq!((short.tokens.len(), short.finished), (3, false));
    let long = "a table ".repeat(100);
    let error = model.generate(&long, &greedy(1), &Turn::default()).unwrap_err();
    assert!(error.message().contains("more than the 64 tokens"), "{error}");
    let options = GenerateOptions { truncate: true, ..greedy(1) };
    assert_eq!(model.write(&long, &options, &Turn::default()).unwrap().prompt_tokens, 64);
    assert!(model
        .embed(&["a"], EmbedOptions { role: Role::Document, truncate: false, dimensions: None }, &Turn::default())
        .is_err());
}

#[test]
fn chance_with_a_seed_repeats_itself() {
    let model = open("t5").unwrap();
    let of = |seed: u64| {
        let options = GenerateOptions { temperature: 1.5, top_p: 0.95, seed, ..greedy(20) };
        model.write("a", &options, &Turn::default()).unwrap().tokens
    };
    assert_eq!(of(1), of(1));
    assert!((2..6).any(|seed| of(seed) != of(1)));
}

#[test]
fn a_cancelled_call_ends() {
    let model = open("t5").unwrap();
    let cancel = CancelToken::default();
    cancel.cancel();
    let turn = Turn::of(cancel);
    assert_eq!(model.generate("a", &greedy(9), &turn).unwrap_err().sql_code(), 1317);
    // The call is cancelled in the middle of an endless answer.
    let cancel = CancelToken::default();
    let (turn, canceller) = (Turn::of(cancel.clone()), cancel);
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        canceller.cancel();
    });
    let mut calls = 0;
    let error = loop {
        calls += 1;
        match model.write("summarize: rows", &greedy(MAX_NEW_TOKENS), &turn) {
            Ok(_) => {}
            Err(e) => break e,
        }
    };
    killer.join().unwrap();
    assert_eq!(error.sql_code(), 1317, "after {calls} calls");
}

/// A copy of the model with one file changed.
fn broken(file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Error {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("m");
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(golden("t5_gated")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let path = folder.join(file);
    std::fs::write(&path, change(std::fs::read(&path).unwrap())).unwrap();
    T5::load(&ModelDir::open(root.path(), "m").unwrap()).err().unwrap()
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    for (from, to, says) in [
        ("\"d_model\":16", "\"d_model\":17", "has the shape"),
        ("\"d_kv\":6", "\"d_kv\":7", "has the shape"),
        ("\"num_decoder_layers\":3", "\"num_decoder_layers\":4", "no tensor decoder.block.3"),
        ("\"feed_forward_proj\":\"gated-gelu\"", "\"feed_forward_proj\":\"relu\"", "no tensor"),
        ("\"relative_attention_num_buckets\":32", "\"relative_attention_num_buckets\":16", "has the shape"),
        ("\"vocab_size\":", "\"vocab_size\":1", "has the shape"),
        ("\"vocab_size\":", "\"vocab_size\":9,\"was\":", "take both from the same model"),
        ("\"num_heads\":3", "\"num_heads\":0", "absurd"),
    ] {
        let error = broken("config.json", |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(from), "{from}");
            text.replace(from, to).into_bytes()
        });
        assert!(error.message().contains(says), "{to}: {error}");
    }
    for (file, says) in [
        ("tokenizer.json", "is no tokenizer"),
        ("model.safetensors", "is damaged or not complete"),
        ("config.json", "not that of a T5 model"),
        ("generation_config.json", "cannot be read"),
    ] {
        let error = broken(file, |_| b"#".to_vec());
        assert!(error.message().contains(says), "{file}: {error}");
    }
}

#[test]
fn the_weights_are_counted() {
    for name in ["t5", "t5_gated"] {
        let file = std::fs::metadata(golden(name).join("model.safetensors")).unwrap().len();
        let model = open(name).unwrap();
        let bytes = model.memory_bytes() - model.tokenizer.memory_bytes();
        // Packing rounds outputs up to 32, which is much for so small a model.
        assert!(bytes > 2 * file * 7 / 10 && bytes < 4 * file, "{name}: {bytes} of {file} in halves");
    }
}
