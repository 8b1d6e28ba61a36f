//! `cargo xtask bench local`: all-MiniLM-L6-v2 inside the server, compared with sentence-transformers and onnxruntime
//! on the same weights and cores. Also a table of sentences, in batches of the default size and in one.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{ensure, Context, Result};
use mysql::prelude::Queryable;
use mysql::Conn;
use serde_json::{json, Value};

use super::{machine, median, percentile};
use testkit::fetch::cache::get_or_make;
use testkit::library::workspace_root;
use testkit::mysqld::Server;
use testkit::weights;

/// The packages of the Python programs.
const PACKAGES: [&str; 4] = ["sentence-transformers", "onnxruntime", "onnx", "onnxscript"];

/// Minimum and maximum words of a sentence and of a paragraph: some 20 and 230 tokens.
const SENTENCE: (usize, usize) = (10, 20);
const PARAGRAPH: (usize, usize) = (150, 205);

/// Concurrent sessions, each with one text at a time.
const SESSIONS: usize = 8;

/// Texts of a round that are embedded one by one.
const ALONE: usize = 100;

pub(super) struct Baseline {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub versions: Value,
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Baseline {
    pub fn start(progress: &dyn Fn(&str)) -> Result<Self> {
        let environment = get_or_make("bench-local-python", progress, |folder| {
            progress("making a Python environment with sentence-transformers and onnxruntime (some GB)");
            let run = |program: &Path, args: &[&str]| -> Result<()> {
                let status = Command::new(program).args(args).status().context("cannot start Python")?;
                ensure!(status.success(), "{} {} failed", program.display(), args.join(" "));
                Ok(())
            };
            let venv = folder.join("venv");
            run(Path::new("python3"), &["-m", "venv", venv.to_str().context("path")?])?;
            let mut args = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            args.extend(PACKAGES);
            run(&venv.join("bin/python"), &args)
        })?;
        let model = weights::minilm(progress)?;
        progress("starting the Python programs");
        let mut child = Command::new(environment.join("venv/bin/python"))
            .arg(workspace_root().join("xtask/src/bench/local/baseline.py"))
            .arg(&model)
            .arg(environment.join("all-MiniLM-L6-v2.onnx"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Some machines set these for older builds; they slow the libraries down.
            .env_remove("OPENBLAS_CORETYPE")
            .env_remove("OPENBLAS_L2_SIZE")
            .spawn()?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut baseline = Baseline { child, input, output, versions: Value::Null };
        baseline.versions = baseline.read()?["versions"].clone();
        Ok(baseline)
    }

    fn read(&mut self) -> Result<Value> {
        // Skips messages that libraries print.
        loop {
            let mut line = String::new();
            ensure!(
                self.output.read_line(&mut line)? > 0,
                "the Python program ended; run xtask/src/bench/local/baseline.py"
            );
            if let Ok(value @ Value::Object(_)) = serde_json::from_str(&line) {
                return Ok(value);
            }
        }
    }

    /// The seconds of onnxruntime for pairs of the query and each text.
    pub fn rank(&mut self, query: &str, texts: &[String]) -> Result<f64> {
        writeln!(self.input, "{}", json!({"engine": "onnxruntime", "texts": texts, "query": query}))?;
        self.read()?["seconds"].as_f64().context("no seconds")
    }

    fn ask(&mut self, engine: &str, texts: &[String], alone: Option<usize>) -> Result<(f64, Vec<f64>)> {
        writeln!(self.input, "{}", json!({"engine": engine, "texts": texts, "alone": alone}))?;
        let answer = self.read()?;
        let each = answer["each"].as_array().map(|a| a.iter().filter_map(Value::as_f64).collect());
        Ok((answer["seconds"].as_f64().context("no seconds")?, each.unwrap_or_default()))
    }
}

/// Texts of random sentences in the words of the demo's collection.
pub(super) struct Texts {
    words: Vec<String>,
    seed: u64,
}

impl Texts {
    pub fn new() -> Result<Self> {
        let file = std::fs::read_to_string(workspace_root().join("demo/support.tsv"))?;
        let words = file.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| w.len() > 1).map(str::to_lowercase);
        Ok(Texts { words: words.collect(), seed: 1 })
    }

    fn next(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % below
    }

    pub fn make(&mut self, count: usize, (least, most): (usize, usize)) -> Vec<String> {
        (0..count)
            .map(|_| {
                let length = least + self.next(most - least + 1);
                let words: Vec<String> = (0..length)
                    .map(|_| {
                        let i = self.next(self.words.len());
                        self.words[i].clone()
                    })
                    .collect();
                words.join(" ") + "."
            })
            .collect()
    }
}

/// One way of embedding, with its result of each round.
#[derive(Default)]
struct Measured {
    sentences: Vec<f64>,
    paragraphs: Vec<f64>,
    alone: Vec<f64>,
    sessions: Vec<f64>,
    in_sessions: Vec<f64>,
}

/// Runs the benchmark and returns its report.
pub fn run(server: &Server, rows: usize, rounds: usize, progress: &dyn Fn(&str)) -> Result<String> {
    let mut conn = server.connect("root")?;
    let before = server.rss_kib()?;
    conn.query_drop("CALL mysql.ml_create_model_registration('bench', 'all-MiniLM-L6-v2', 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL)")?;
    let mut ready = Vec::new();
    for _ in 0..5 {
        conn.query_drop("CALL mysql.ml_unload_model('bench')")?;
        let loaded: Option<String> = conn.query_first("SELECT ml_load_model('bench')")?;
        let loaded: Value = serde_json::from_str(&loaded.context("nothing was loaded")?)?;
        ready.push(loaded["ms"].as_f64().context("no time")?);
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    conn.exec_drop("CALL mysql.ml_set_setting('local_threads', ?)", (cores.to_string(),))?;
    conn.query_drop("CALL mysql.ml_set_setting('cache_memory_mb', '0')")?;
    conn.query_drop("SELECT ml_embedding('bench', 'once')")?;
    let memory = (server.rss_kib()? - before) as f64 / 1024.0;

    conn.query_drop("CREATE DATABASE bench_local")?;
    conn.query_drop("CREATE TABLE bench_local.t (id INT PRIMARY KEY, body TEXT, v VECTOR(384))")?;
    let load_before = load();
    let mut tables: [Vec<f64>; 2] = Default::default();
    let mut baseline = Baseline::start(progress)?;
    let mut texts = Texts::new()?;
    let names = ["sentence-transformers", "onnxruntime", "bert_local"];
    let mut all: [Measured; 3] = Default::default();
    for round in 0..=rounds {
        progress(&format!("round {round} of {rounds}{}", if round == 0 { " (warm-up)" } else { "" }));
        let sentences = texts.make(rows, SENTENCE);
        let paragraphs = texts.make(rows.div_ceil(5), PARAGRAPH);
        let alone = texts.make(ALONE, SENTENCE);
        for (name, m) in names.iter().zip(&mut all) {
            let rate = |texts: &[String], seconds: f64| texts.len() as f64 / seconds;
            let measured = if *name == "bert_local" {
                let (_, each) = in_sessions(server, &alone, 1)?;
                let (many, each_of_many) = in_sessions(server, &alone, SESSIONS)?;
                [
                    rate(&sentences, batch(&mut conn, &sentences)?),
                    rate(&paragraphs, batch(&mut conn, &paragraphs)?),
                    median(&each) * 1000.0,
                    rate(&alone, many),
                    median(&each_of_many) * 1000.0,
                ]
            } else {
                let (_, each) = baseline.ask(name, &alone, Some(1))?;
                let (many, each_of_many) = baseline.ask(name, &alone, Some(SESSIONS))?;
                [
                    rate(&sentences, baseline.ask(name, &sentences, None)?.0),
                    rate(&paragraphs, baseline.ask(name, &paragraphs, None)?.0),
                    median(&each) * 1000.0,
                    rate(&alone, many),
                    median(&each_of_many) * 1000.0,
                ]
            };
            if round > 0 {
                let places = [&mut m.sentences, &mut m.paragraphs, &mut m.alone, &mut m.sessions, &mut m.in_sessions];
                places.into_iter().zip(measured).for_each(|(place, value)| place.push(value));
            }
        }
    }
    for round in 0..=rounds {
        progress(&format!("a table: round {round} of {rounds}{}", if round == 0 { " (warm-up)" } else { "" }));
        fill(&mut conn, &texts.make(TABLES * rows, SENTENCE))?;
        // The two take turns to be first: for the second, written pages are already in the server's memory.
        for i in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let rate = (TABLES * rows) as f64 / table(&mut conn, WAVES[i])?;
            if round > 0 {
                tables[i].push(rate);
            }
        }
    }
    let load = (load_before, load());
    let versions = baseline.versions.clone();
    drop(baseline);
    conn.query_drop("CALL mysql.ml_unload_model('bench')")?;
    let left = (server.rss_kib()? as f64 - before as f64) / 1024.0;
    report(server, (rows, rounds), &names, &all, &tables, &versions, (median(&ready), memory, left), load)
}

/// Size of the table, in multiples of the array.
const TABLES: usize = 4;

/// Options of a job: batches of the default size, or all rows in one.
const WAVES: [Option<&str>; 2] = [None, Some(r#"{"batch_size": 10000}"#)];

/// Fills the table with the texts, without vectors.
fn fill(conn: &mut Conn, texts: &[String]) -> Result<()> {
    conn.query_drop("TRUNCATE TABLE bench_local.t")?;
    conn.query_drop("START TRANSACTION")?;
    conn.exec_batch("INSERT INTO bench_local.t (id, body) VALUES (?, ?)", texts.iter().enumerate())?;
    Ok(conn.query_drop("COMMIT")?)
}

/// Embeds the table anew. Returns the seconds.
fn table(conn: &mut Conn, options: Option<&str>) -> Result<f64> {
    conn.query_drop("UPDATE bench_local.t SET v = NULL")?;
    let began = Instant::now();
    conn.exec_drop("CALL mysql.ml_embed_table('bench', 'bench_local.t', 'body', 'v', ?)", (options,))?;
    let seconds = began.elapsed().as_secs_f64();
    let left: Option<u64> = conn.query_first("SELECT COUNT(*) FROM bench_local.t WHERE v IS NULL")?;
    ensure!(left == Some(0), "{left:?} rows have no vector");
    Ok(seconds)
}

/// The machine's load average of the last minute.
pub(super) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Embeds all texts with one `ml_embedding_batch`. Returns the seconds.
fn batch(conn: &mut Conn, texts: &[String]) -> Result<f64> {
    let array = serde_json::to_string(texts)?;
    let began = Instant::now();
    let got: Option<usize> = conn.exec_first("SELECT JSON_LENGTH(mysql.ml_embedding_batch('bench', ?))", (array,))?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(got == Some(texts.len()), "{got:?} vectors of {}", texts.len());
    Ok(seconds)
}

/// Embeds each text with a statement of its own, in several concurrent sessions. Returns the seconds of all and of
/// each.
fn in_sessions(server: &Server, texts: &[String], sessions: usize) -> Result<(f64, Vec<f64>)> {
    let next = AtomicUsize::new(0);
    let conns = (0..sessions).map(|_| server.connect("root")).collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    let each = std::thread::scope(|scope| {
        let threads: Vec<_> = conns
            .into_iter()
            .map(|mut conn| {
                let next = &next;
                scope.spawn(move || -> Result<Vec<f64>> {
                    let mut times = Vec::new();
                    while let Some(text) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let began = Instant::now();
                        let vector: Option<Vec<u8>> = conn.exec_first("SELECT ml_embedding('bench', ?)", (text,))?;
                        times.push(began.elapsed().as_secs_f64());
                        ensure!(vector.is_some_and(|v| v.len() == 384 * 4), "no vector");
                    }
                    Ok(times)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| anyhow::bail!("a session panicked")))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok((began.elapsed().as_secs_f64(), each.into_iter().flatten().collect()))
}

#[allow(clippy::too_many_arguments)]
fn report(
    server: &Server,
    (rows, rounds): (usize, usize),
    names: &[&str],
    all: &[Measured],
    [small, whole]: &[Vec<f64>; 2],
    versions: &Value,
    (ready, memory, left): (f64, f64, f64),
    (load_before, load_after): (String, String),
) -> Result<String> {
    let mysql: Option<String> = server.connect("root")?.query_first("SELECT VERSION()")?;
    let [_, onnx, own] = all else { anyhow::bail!("not three") };
    let version = |name: &str| versions[name].as_str().unwrap_or("?").to_owned();
    let mut out = String::from("# Models inside the server\n\n");
    writeln!(
        out,
        "`cargo xtask bench local --rows {rows} --rounds {rounds}`: {}, MySQL {}, sentence-transformers {} with torch {},\nonnxruntime {}.\n",
        machine(),
        mysql.unwrap_or_default(),
        version("sentence_transformers"),
        version("torch"),
        version("onnxruntime"),
    )?;
    writeln!(
        out,
        "all-MiniLM-L6-v2 in 32-bit floats, the same weights for all, `local_threads` and the others' threads all the cores, the\ncache off. Client, server and programs on the same cores, one after the other in each of {rounds} rounds with other texts;\nmedians of the rounds, and of their ratios (with the least and the largest).\n"
    )?;
    writeln!(
        out,
        "| | {} | `bert_local` to onnxruntime |",
        names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" | ")
    )?;
    writeln!(out, "|---|---|---|---|---|")?;
    let mut row = |what: &str, of: &dyn Fn(&Measured) -> &Vec<f64>, digits: usize| -> std::fmt::Result {
        let ratios: Vec<f64> = of(own).iter().zip(of(onnx)).map(|(own, onnx)| own / onnx).collect();
        let cells: Vec<String> = all.iter().map(|m| format!("{:.digits$}", median(of(m)))).collect();
        writeln!(
            out,
            "| {what} | {} | {:.2} ({:.2}-{:.2}) |",
            cells.join(" | "),
            median(&ratios),
            percentile(&ratios, 0.0),
            percentile(&ratios, 100.0)
        )
    };
    row(&format!("{rows} sentences of some 20 tokens in one call, texts/s"), &|m| &m.sentences, 0)?;
    row(&format!("{} paragraphs of some 230 tokens in one call, texts/s", rows.div_ceil(5)), &|m| &m.paragraphs, 1)?;
    row("one sentence after the other, p50 in ms", &|m| &m.alone, 1)?;
    row(&format!("{SESSIONS} at once, one sentence after the other each, texts/s"), &|m| &m.sessions, 0)?;
    row(&format!("{SESSIONS} at once, p50 of a sentence in ms"), &|m| &m.in_sessions, 1)?;
    let ratios: Vec<f64> = small.iter().zip(whole).map(|(small, whole)| small / whole).collect();
    writeln!(
        out,
        "\n`ml_embed_table` over {} such sentences wrote {:.0} rows/s in batches of the default size, which it writes one after the other\nfrom the first on, and {:.0} with all in one batch: {:.2} ({:.2}-{:.2}).",
        TABLES * rows,
        median(small),
        median(whole),
        median(&ratios),
        percentile(&ratios, 0.0),
        percentile(&ratios, 100.0)
    )?;
    writeln!(
        out,
        "\nThe last column is `bert_local` divided by onnxruntime: for texts/s more is better, for ms less. The machine's load average was\n{load_before} at the beginning and {load_after} at the end, of which the benchmark itself makes about as much as there are cores: what runs beside it\nslows programs of several threads down more than one.\n\nThe model is ready after {ready:.0} ms (`ml_load_model`, files in the page cache). mysqld's resident memory grew by {memory:.0} MiB when\nit was loaded and used; {left:.0} MiB of that and of what the runs needed are left after `ml_unload_model`."
    )?;
    Ok(out)
}
