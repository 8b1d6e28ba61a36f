//! `cargo xtask bench memory`: the server's memory for `ml_embed_table`, beyond its buffer pool.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::Result;

use mysql::prelude::Queryable;

use super::bulk::{clear, embed_table, fill_table, plain_write, Peak, DIMENSIONS};
use super::machine;
use fake_providers::{embedding_for, Endpoint};
use testkit::mysqld::Server;

/// The server's options: a buffer pool that is full before the measurement.
pub fn server_args() -> Vec<String> {
    ["--innodb-buffer-pool-size=128M", "--innodb-redo-log-capacity=512M", "--max-allowed-packet=1G"]
        .map(str::to_owned)
        .into()
}

/// Runs the benchmark and returns its report as Markdown.
pub fn run(server: &Server, rows: usize, progress: &dyn Fn(&str)) -> Result<String> {
    let endpoint = Endpoint::start()?;
    endpoint.set_recording(false);
    let vector = embedding_for("any text", DIMENSIONS);
    endpoint.set_fixed_vector(Some(&vector));
    let mut conn = server.connect("root")?;
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration('bench', ?, 'open_ai', 'text_embedding', 'bench-model', NULL, NULL, NULL, NULL, NULL)",
        (endpoint.url("/v1/embeddings"),),
    )?;
    let cache: u64 = 64;
    progress("filling the table");
    fill_table(&mut conn, rows)?;
    progress("filling the buffer pool");
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let ids: Vec<usize> = (0..rows.min(50_000)).collect();
    plain_write(&mut conn, &ids, &bytes, true)?;
    clear(&mut conn)?;
    progress("embedding");
    let (memory, started) = (Peak::begin(server)?, Instant::now());
    embed_table(&mut conn, "bench", rows)?;
    let (seconds, grown) = (started.elapsed().as_secs_f64(), memory.grown_mib()?);
    let version: Option<String> = conn.query_first("SELECT VERSION()")?;
    let mut out = String::from("# Memory for a large table\n\n");
    writeln!(
        out,
        "`cargo xtask bench memory --rows {rows}`: {}, MySQL {}, a buffer pool of 128 MB that was full before.\n",
        machine(),
        version.unwrap_or_default()
    )?;
    writeln!(
        out,
        "`ml_embed_table` embedded {rows} rows with {DIMENSIONS} dimensions in {seconds:.0} s, {:.0} rows a second, from a local endpoint \
         without latency. The server's memory grew by at most {grown:.0} MiB; {cache} MiB of that is the cache of embeddings, \
         which was on (`cache_memory_mb`).",
        rows as f64 / seconds
    )?;
    Ok(out)
}
