//! Baselines of the benchmark of searches: HNSW graphs of pgvector, and of faiss in memory.

use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use testkit::fetch::cache::get_or_make;
use testkit::fetch::{debian, output};
use testkit::library::workspace_root;

use super::super::index::data::{Data, NEAREST};

/// Links of a node, and the breadth of the search for them: the defaults of pgvector.
pub(super) const LINKS: usize = 16;
pub(super) const CONSTRUCTION: usize = 64;

/// Breadths of searches (`ef_search`).
const BREADTHS: [usize; 7] = [20, 40, 80, 160, 320, 640, 1000];

/// The Debian release with pgvector 0.8, and its packages.
const SUITE: &str = "trixie";
const PACKAGES: [&str; 2] = ["postgresql-17", "postgresql-17-pgvector"];
const PROGRAMS: &str = "/usr/lib/postgresql/17/bin";

/// Searches of one breadth.
pub(super) struct Run {
    pub breadth: usize,
    pub found: Vec<Vec<u32>>,
    pub ms: Vec<f64>,
}

/// A graph.
pub(super) struct Graph {
    pub name: String,
    /// Seconds.
    pub built: f64,
    pub bytes: u64,
    pub runs: Vec<Run>,
}

/// Measures a graph of faiss, which has the vectors and all cores for itself while it is built.
pub(super) fn faiss(data: &Data, progress: &dyn Fn(&str)) -> Result<Graph> {
    let environment = get_or_make("bench-search-python", progress, |folder| {
        progress("making a Python environment with faiss");
        let venv = folder.join("venv");
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(&venv);
        output(make)?;
        let mut install = Command::new(venv.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "faiss-cpu==1.15.1", "numpy"]);
        output(install).map(drop)
    })?;
    progress("building a graph of faiss");
    let folder = tempfile::tempdir()?;
    let file = |name: &str, values: &[f32]| -> Result<PathBuf> {
        let path = folder.path().join(name);
        std::fs::write(&path, values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
        Ok(path)
    };
    let queries: Vec<f32> = data.queries().flatten().copied().collect();
    let mut command = Command::new(environment.join("venv/bin/python"));
    command.arg(workspace_root().join("xtask/src/bench/search/graph.py"));
    command.arg(file("vectors", &data.vectors)?).arg(file("queries", &queries)?);
    command.args([data.dimensions, LINKS, CONSTRUCTION].iter().chain(&BREADTHS).map(usize::to_string));
    let answer: Value = serde_json::from_str(&output(command)?)?;
    let runs = answer["runs"].as_array().context("no runs")?.iter().map(|run| -> Result<Run> {
        Ok(Run {
            breadth: serde_json::from_value(run["breadth"].clone())?,
            found: serde_json::from_value(run["found"].clone())?,
            ms: serde_json::from_value(run["ms"].clone())?,
        })
    });
    Ok(Graph {
        name: format!(
            "HNSW of faiss {}, in memory, inside its process",
            answer["version"].as_str().unwrap_or_default()
        ),
        built: answer["built"].as_f64().context("no time")?,
        bytes: answer["bytes"].as_u64().context("no size")?,
        runs: runs.collect::<Result<_>>()?,
    })
}

/// A PostgreSQL server in a Debian system of the cache folder. Needs root.
pub(super) struct Postgres {
    root: PathBuf,
    folder: TempDir,
    server: Option<Child>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "--mode=immediate", "--pgdata"]).arg(self.inside("data"));
        let _ = output(stop);
        let _ = server.wait();
    }
}

impl Postgres {
    /// Starts a server whose buffers hold the table.
    pub fn start(megabytes: usize, progress: &dyn Fn(&str)) -> Result<Self> {
        let root = debian::system(SUITE, &PACKAGES, progress)?;
        progress("starting PostgreSQL");
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(root.join("tmp"))?;
        let accounts = std::fs::read_to_string(root.join("etc/passwd"))?;
        let ids = accounts.lines().find(|line| line.starts_with("postgres:")).context("no account postgres")?;
        let id = |n| ids.split(':').nth(n).and_then(|id| id.parse().ok());
        chown(folder.path(), id(2), id(3))?;
        let mut postgres = Postgres { root, folder, server: None };
        let data = postgres.inside("data");
        let mut make = postgres.command("initdb");
        make.args(["--auth=trust", "--username=postgres", "--locale=C", "--encoding=UTF8", "--pgdata"]).arg(&data);
        output(make)?;
        let mut start = postgres.command("postgres");
        start.arg("-D").arg(&data).arg("-k").arg(postgres.inside(""));
        for setting in [
            "listen_addresses=".to_owned(),
            format!("shared_buffers={megabytes}MB"),
            format!("maintenance_work_mem={megabytes}MB"),
            // The leader and another, as far as there are two cores.
            "max_parallel_maintenance_workers=1".into(),
            "max_parallel_workers_per_gather=0".into(),
            "dynamic_shared_memory_type=mmap".into(),
            "max_wal_size=8GB".into(),
            "jit=off".into(),
        ] {
            start.arg("-c").arg(setting);
        }
        let log = std::fs::File::create(postgres.folder.path().join("log"))?;
        postgres.server = Some(start.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
        let begun = Instant::now();
        while let Err(error) = postgres.run("SELECT 1;") {
            ensure!(begun.elapsed() < Duration::from_secs(60), "PostgreSQL did not start: {error:#}");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(postgres)
    }

    fn inside(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().file_name().unwrap_or_default();
        Path::new("/tmp").join(folder).join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg("--userspec=postgres:postgres").arg(&self.root).arg(format!("{PROGRAMS}/{program}"));
        command.current_dir("/").env("LC_ALL", "C");
        command
    }

    /// Runs a script of psql and returns what it prints, without headings.
    fn run(&self, script: &str) -> Result<String> {
        let mut psql = self.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-f", "-", "-h"]);
        psql.arg(self.inside("")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = psql.spawn().context("psql")?;
        let mut input = child.stdin.take().context("no standard input")?;
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || input.write_all(script.as_bytes()));
            let output = child.wait_with_output()?;
            // A script that failed was not read to its end.
            let _ = writing.join();
            if !output.status.success() {
                bail!("psql: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(String::from_utf8(output.stdout)?)
        })
    }

    /// Fills a table and builds a graph.
    pub fn build(&self, data: &Data, kind: impl Fn(usize) -> usize, progress: &dyn Fn(&str)) -> Result<Graph> {
        progress("filling a table of PostgreSQL");
        let file = self.folder.path().join("rows");
        let mut rows = std::io::BufWriter::new(std::fs::File::create(&file)?);
        rows.write_all(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")?;
        for (id, vector) in data.vectors.chunks_exact(data.dimensions).enumerate() {
            rows.write_all(&3_i16.to_be_bytes())?;
            for number in [id, kind(id)] {
                rows.write_all(&4_i32.to_be_bytes())?;
                rows.write_all(&i32::try_from(number)?.to_be_bytes())?;
            }
            rows.write_all(&i32::try_from(4 + vector.len() * 4)?.to_be_bytes())?;
            rows.write_all(&i16::try_from(vector.len())?.to_be_bytes())?;
            rows.write_all(&[0, 0])?;
            for x in vector {
                rows.write_all(&x.to_be_bytes())?;
            }
        }
        rows.write_all(&(-1_i16).to_be_bytes())?;
        rows.flush()?;
        drop(rows);
        self.run(&format!(
            "CREATE EXTENSION IF NOT EXISTS vector; DROP TABLE IF EXISTS v; \
             CREATE TABLE v (id INT PRIMARY KEY, kind INT NOT NULL, v VECTOR({}) NOT NULL); \
             COPY v FROM '{}' (FORMAT binary); ANALYZE v;",
            data.dimensions,
            self.inside("rows").display()
        ))?;
        std::fs::remove_file(&file)?;
        progress("building a graph of pgvector");
        let begun = Instant::now();
        self.run(&format!(
            "CREATE INDEX v_graph ON v USING hnsw (v vector_cosine_ops) WITH (m = {LINKS}, ef_construction = {CONSTRUCTION});"
        ))?;
        let built = begun.elapsed().as_secs_f64();
        let version = self.run("SELECT extversion FROM pg_extension WHERE extname = 'vector';")?;
        let bytes = self.run("SELECT pg_relation_size('v_graph');")?.trim().parse()?;
        let runs = BREADTHS.iter().map(|breadth| self.search(data, *breadth, data.queries().count(), "TRUE"));
        let name = format!("HNSW of pgvector {} in PostgreSQL 17", version.trim());
        Ok(Graph { name, built, bytes, runs: runs.collect::<Result<_>>()? })
    }

    /// Searches one after the other, each a prepared statement.
    pub fn search(&self, data: &Data, breadth: usize, queries: usize, filter: &str) -> Result<Run> {
        let mut script = format!(
            "SET hnsw.ef_search = {breadth}; SET hnsw.iterative_scan = strict_order; \
             PREPARE q (vector) AS SELECT id FROM v WHERE {filter} ORDER BY v <=> $1 LIMIT {NEAREST};\n\\timing on\n"
        );
        for query in data.queries().take(queries) {
            let numbers: Vec<String> = query.iter().map(f32::to_string).collect();
            script.push_str(&format!("EXECUTE q('[{}]');\n", numbers.join(",")));
        }
        let (mut found, mut ms, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for line in self.run(&script)?.lines() {
            match line.strip_prefix("Time: ") {
                Some(time) => {
                    ms.push(time.split(' ').next().unwrap_or_default().parse()?);
                    found.push(std::mem::take(&mut rows));
                }
                None => rows.push(line.parse()?),
            }
        }
        ensure!(found.len() == queries.min(data.queries().count()), "{} of {queries} searches", found.len());
        Ok(Run { breadth, found, ms })
    }
}
