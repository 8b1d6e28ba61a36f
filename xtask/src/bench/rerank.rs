//! `cargo xtask bench rerank`: passages ranked inside the server by a cross-encoder at the size of MiniLM-L6, compared with
//! onnxruntime on the same weights and cores.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{ensure, Context, Result};
use mysql::prelude::Queryable;
use serde_json::json;

use super::local::{load, Baseline, Texts};
use super::{machine, median, percentile};
use testkit::mysqld::Server;

/// The tokens of a passage.
const TOKENS: usize = 64;

/// The words of the query.
const QUERY: (usize, usize) = (8, 8);

/// Runs the benchmark and returns its report.
pub fn run(server: &Server, rows: usize, rounds: usize, progress: &dyn Fn(&str)) -> Result<String> {
    let mut conn = server.connect("root")?;
    conn.query_drop("CALL mysql.ml_create_model_registration('bench', 'reranker', 'bert_rerank_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL)")?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut baseline = Baseline::start(progress)?;
    let mut texts = Texts::new()?;
    let before = load();
    let (mut all, mut one, mut onnx, mut tokens) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        progress(&format!("round {round} of {rounds}{}", if round == 0 { " (warm-up)" } else { "" }));
        // Parts of a long text, of as many tokens as are wanted beside the two of the model.
        let long = texts.make(1, (rows * TOKENS, rows * TOKENS)).concat();
        let options = json!({"by": "tokens", "size": TOKENS + 2, "model_id": "bench"}).to_string();
        let passages: Option<String> = conn.exec_first(
            "SELECT JSON_ARRAYAGG(chunk) FROM JSON_TABLE(ai_chunk(?, ?), '$[*]' COLUMNS (chunk TEXT PATH '$.chunk')) AS c",
            (&long, options),
        )?;
        let mut passages: Vec<String> = serde_json::from_str(&passages.context("no passages")?)?;
        ensure!(passages.len() >= rows, "{} passages", passages.len());
        passages.truncate(rows);
        let query = texts.make(1, QUERY).concat();
        let documents = serde_json::to_string(&passages)?;
        let mut ranked = |threads: usize| -> Result<f64> {
            conn.exec_drop("CALL mysql.ml_set_setting('local_threads', ?)", (threads.to_string(),))?;
            let began = Instant::now();
            let got: Option<usize> =
                conn.exec_first("SELECT JSON_LENGTH(ai.rerank('bench', ?, ?, NULL))", (&query, &documents))?;
            let seconds = began.elapsed().as_secs_f64();
            ensure!(got == Some(rows), "{got:?} documents");
            Ok(seconds * 1000.0)
        };
        let measured = (ranked(cores)?, ranked(1)?, baseline.rank(&query, &passages)? * 1000.0);
        let count: Option<f64> = conn.exec_first(
            "SELECT AVG(JSON_EXTRACT(ai_count_tokens('bench', t), '$.tokens')) - 2 FROM JSON_TABLE(?, '$[*]' COLUMNS (t TEXT PATH '$')) AS d",
            (&documents,),
        )?;
        if round > 0 {
            all.push(measured.0);
            one.push(measured.1);
            onnx.push(measured.2);
            tokens.push(count.context("no tokens")?);
        }
    }
    let mysql: Option<String> = conn.query_first("SELECT VERSION()")?;
    let version = baseline.versions["onnxruntime"].as_str().unwrap_or("?").to_owned();
    let mut out = String::from("# Reranking inside the server\n\n");
    writeln!(
        out,
        "`cargo xtask bench rerank --rows {rows} --rounds {rounds}`: {}, MySQL {}, onnxruntime {version}.\n",
        machine(),
        mysql.unwrap_or_default()
    )?;
    writeln!(
        out,
        "{rows} passages of {:.1} tokens in the mean and a query of {} words, in one `ai.rerank`. The model is all-MiniLM-L6-v2 with a random\nhead: a cross-encoder of the size and speed of MiniLM-L6, whose scores mean nothing. 32-bit floats. onnxruntime passes the same\npairs through the encoder, sorted by length, 32 at a time, on all cores. Client, server and program on the same cores, one after the other\nin each of {rounds} rounds with other texts.\n",
        median(&tokens),
        QUERY.0
    )?;
    writeln!(out, "| | p50, ms | least | largest |\n|---|---|---|---|")?;
    for (what, times) in [
        (format!("`ai.rerank`, `local_threads` {cores}"), &all),
        ("`ai.rerank`, `local_threads` 1".to_owned(), &one),
        ("onnxruntime".to_owned(), &onnx),
    ] {
        let [p50, least, largest] = [50.0, 0.0, 100.0].map(|p| percentile(times, p));
        writeln!(out, "| {what} | {p50:.0} | {least:.0} | {largest:.0} |")?;
    }
    let ratios: Vec<f64> = all.iter().zip(&onnx).map(|(own, onnx)| own / onnx).collect();
    writeln!(
        out,
        "\nOn all cores `ai.rerank` takes {:.2} ({:.2}-{:.2}) of onnxruntime's time, the median of the rounds' ratios. The machine's load average was\n{before} at the beginning and {} at the end.",
        median(&ratios),
        percentile(&ratios, 0.0),
        percentile(&ratios, 100.0),
        load()
    )?;
    Ok(out)
}
