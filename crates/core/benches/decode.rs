//! `cargo bench --bench decode`: reads the vectors of an answer, compared with plain ways to do it.
//!
//! Answers of OpenAI's API with 64 vectors of 1536 numbers. All ways are measured in turn in each round. Prints a table
//! as in docs/benchmarks/decode.md.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use mysql_ml_base::account::Account;
use mysql_ml_core::providers::table::provider;
use mysql_ml_core::registration::Registration;
use serde::Deserialize;
use serde_json::Value;

const VECTORS: usize = 64;
const DIMENSIONS: usize = 1536;
const ROUNDS: usize = 60;

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    embedding: Vec<f32>,
}

/// A way: its name, the answer that it reads, and how; it returns the number of vectors.
type Way<'a> = (&'a str, &'a [u8], &'a dyn Fn(&[u8]) -> usize);

fn answer(vector: impl Fn(&[f32]) -> String) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(1);
    let items: Vec<String> = (0..VECTORS)
        .map(|i| {
            let numbers: Vec<f32> = (0..DIMENSIONS).map(|_| (rng.f32() - 0.5) / 16.0).collect();
            format!(r#"{{"object":"embedding","index":{i},"embedding":{}}}"#, vector(&numbers))
        })
        .collect();
    format!(
        r#"{{"object":"list","data":[{}],"model":"m","usage":{{"prompt_tokens":9,"total_tokens":9}}}}"#,
        items.join(",")
    )
    .into_bytes()
}

fn main() {
    let nothing = || None;
    let registration = Registration::from_arguments([
        Some("m".to_owned()),
        nothing(),
        Some("open_ai".to_owned()),
        Some("text_embedding".to_owned()),
        Some("m".to_owned()),
        nothing(),
        nothing(),
        nothing(),
        nothing(),
        nothing(),
    ]);
    let model = registration.unwrap().to_model(None, Account::library(), "").unwrap();
    let api = provider(model.provider);
    let numbers = answer(|v| format!("[{}]", v.iter().map(|x| format!("{x:.9}")).collect::<Vec<_>>().join(",")));
    let base64 = answer(|v| {
        let bytes: Vec<u8> = v.iter().flat_map(|x| x.to_le_bytes()).collect();
        format!("\"{}\"", BASE64_STANDARD.encode(bytes))
    });

    let ours = |answer: &[u8]| black_box(api.read_embeddings(&model, answer, VECTORS).unwrap().vectors.len());
    let ways: [Way<'_>; 4] = [
        ("numbers, a tree: `serde_json::Value`", &numbers, &|a| {
            let tree: Value = serde_json::from_slice(a).unwrap();
            let vectors: Vec<Vec<f32>> = tree["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect())
                .collect();
            black_box(vectors.len())
        }),
        ("numbers, serde straight into `Vec<f32>`", &numbers, &|a| {
            let answer: Answer = serde_json::from_slice(a).unwrap();
            black_box(answer.data.iter().filter(|i| i.embedding.len() == DIMENSIONS).count())
        }),
        ("numbers, the library", &numbers, &ours),
        ("base64, the library", &base64, &ours),
    ];
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for ((_, answer, read), times) in ways.iter().zip(&mut times) {
            let started = Instant::now();
            assert_eq!(read(answer), VECTORS);
            times.push(started.elapsed().as_secs_f64() * 1e6 / VECTORS as f64);
        }
    }
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|t| {
            t.sort_by(f64::total_cmp);
            t[t.len() / 2]
        })
        .collect();
    println!("| {DIMENSIONS} numbers, µs a vector | median | of serde straight into `Vec<f32>` |\n|---|---|---|");
    for ((name, ..), median) in ways.iter().zip(&medians) {
        println!("| {name} | {median:.1} | {:.2} |", median / medians[1]);
    }
}
