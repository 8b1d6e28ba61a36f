//! `cargo xtask bench generate`: a question to a language model about every row, compared with plain programs.
//!
//! The endpoint is on the same machine and takes a fixed time for a request, as a provider does. All programs send the
//! request that the library sends, one for each text, with the library's default number of requests at once. (a) is a
//! plain Rust program, (b) a typical Python program, generate/openai_client.py.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{ensure, Context, Result};
use mysql::prelude::Queryable;
use mysql::Conn;
use serde::Deserialize;
use serde_json::{json, Value};

use super::bulk::Peak;
use super::{machine, median};
use fake_providers::{Answer, Endpoint};
use testkit::clients;
use testkit::library::{given, workspace_root};
use testkit::mysqld::Server;

/// The folder of (b).
const PEER: &str = "xtask/src/bench/generate";
/// The path of the endpoint that takes its time.
const PATH: &str = "/bench/v1/chat/completions";
/// The library's default number of concurrent questions.
const AT_ONCE: usize = 40;
/// The most rows of the scalar function, which asks them one after the other.
const SCALAR: usize = 20;
/// The longest time for 1,000 rows and 900 ms, seconds, and the largest ratio to the plain program.
const AIM: (f64, f64) = (30.0, 1.15);
/// Rows that share a request, and the longest time for 1,000 rows and 900 ms then.
const PACKED: usize = 16;
const PACKED_AIM: f64 = 3.0;
/// Rows of the aggregate for each of the others, and the most memory that it may take, MiB.
const GROUP: usize = 1000;
const GROUP_AIM: f64 = 256.0;

/// Ids whose answer is yes.
type Ids = BTreeSet<usize>;

/// A chat's answer, as far as the plain program reads it.
#[derive(Deserialize)]
struct Chat {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: String,
}

#[derive(Deserialize)]
struct Decision {
    answer: String,
}

/// What the Python program prints.
#[derive(Deserialize)]
struct Printed {
    seconds: f64,
    yes: Ids,
}

/// Seconds and requests of a way to ask, in each round.
#[derive(Default)]
struct Measured {
    seconds: Vec<f64>,
    requests: u64,
}

/// A table, and its ids whose right answer is yes.
struct Table {
    name: &'static str,
    bodies: Vec<String>,
    yes: Ids,
}

impl Table {
    /// A table of these texts. The endpoint answers yes to texts with this word, and else no.
    fn create(conn: &mut Conn, name: &'static str, bodies: Vec<String>) -> Result<Self> {
        conn.query_drop(format!("CREATE TABLE {name} (id INT PRIMARY KEY, body TEXT, answer TINYINT)"))?;
        conn.query_drop("START TRANSACTION")?;
        conn.exec_batch(format!("INSERT INTO {name} (id, body) VALUES (?, ?)"), bodies.iter().enumerate())?;
        conn.query_drop("COMMIT")?;
        let yes = bodies.iter().enumerate().filter(|(_, body)| body.contains("yes")).map(|(id, _)| id).collect();
        Ok(Table { name, bodies, yes })
    }
}

/// Questions about parcels; to every third the answer is yes.
fn questions(rows: usize) -> Vec<String> {
    let word = |i: usize| if i.is_multiple_of(3) { "yes" } else { "perhaps" };
    super::texts(rows).enumerate().map(|(i, text)| format!("Is the customer angry? {}: {text}", word(i))).collect()
}

/// Runs the benchmark and returns its report as Markdown.
pub fn run(server: &Server, rows: usize, ms: u64, rounds: usize, progress: &dyn Fn(&str)) -> Result<String> {
    let requirements = workspace_root().join(PEER).join("requirements.txt");
    let packages = clients::python_packages("bench-generate", &requirements, progress);
    if let Err(error) = &packages {
        progress(&format!("without the Python program: {error:#}"));
    }
    let endpoint = Endpoint::start()?;
    let mut conn = server.connect("root")?;
    conn.exec_drop(
        "CALL mysql.ml_create_model_registration('bench', ?, 'open_ai', 'llm', 'bench-model', NULL, NULL, NULL, NULL, NULL)",
        (endpoint.url(&format!("{PATH}?ms={ms}")),),
    )?;
    conn.query_drop("CREATE DATABASE bench")?;
    let all = Table::create(&mut conn, "bench.t", questions(rows))?;
    let distinct = rows.div_ceil(2);
    let repeated = questions(distinct).into_iter().cycle().take(rows).collect();
    let half = Table::create(&mut conn, "bench.half", repeated)?;
    let request = request_of_library(&endpoint, &mut conn)?;
    endpoint.set_recording(false);

    let few = rows.min(SCALAR);
    let names = [
        "plain",
        "python",
        "scalar",
        "query",
        "array",
        "table",
        "query, half",
        "array, half",
        "table, half",
        "query, packed",
        "array, packed",
        "table, packed",
    ];
    let mut measured: [Measured; 12] = Default::default();
    for round in 1..=rounds {
        for (name, m) in names.iter().zip(&mut measured) {
            progress(&format!("round {round} of {rounds}: {name}"));
            endpoint.clear();
            for table in [&all, &half] {
                conn.query_drop(format!("UPDATE {} SET answer = NULL", table.name))?;
            }
            let started = Instant::now();
            let mut seconds = None;
            let (yes, right, requests) = match *name {
                "plain" => (plain(&endpoint.url(&format!("{PATH}?ms={ms}")), &request, &all.bodies)?, &all, rows),
                "python" => {
                    let Ok(packages) = &packages else { continue };
                    let printed = peer(packages, &endpoint.url("/bench/v1"), ms, &request, server, all.name)?;
                    seconds = Some(printed.seconds);
                    (printed.yes, &all, rows)
                }
                "scalar" => (scalar(&mut conn, all.name, few)?, &all, few),
                "query" => (query(&mut conn, all.name, 1)?, &all, rows),
                "array" => (array(&mut conn, all.name, 1)?, &all, rows),
                "table" => (generate_table(&mut conn, all.name, 1)?, &all, rows),
                "query, half" => (query(&mut conn, half.name, 1)?, &half, distinct),
                "array, half" => (array(&mut conn, half.name, 1)?, &half, distinct),
                "table, half" => (generate_table(&mut conn, half.name, 1)?, &half, distinct),
                "query, packed" => (query(&mut conn, all.name, PACKED)?, &all, in_passes(rows)),
                "array, packed" => (array(&mut conn, all.name, PACKED)?, &all, rows.div_ceil(PACKED)),
                _ => (generate_table(&mut conn, all.name, PACKED)?, &all, rows.div_ceil(PACKED)),
            };
            m.seconds.push(seconds.unwrap_or_else(|| started.elapsed().as_secs_f64()));
            m.requests = endpoint.count();
            let asked = if *name == "scalar" { few } else { rows };
            let right: Ids = right.yes.range(..asked).copied().collect();
            ensure!(yes == right, "{name}: {} answers are yes, of which {} should be", yes.len(), right.len());
            ensure!(m.requests == requests as u64, "{name}: {} requests instead of {requests}", m.requests);
        }
    }
    progress("a group");
    let group = Group::measure(server, &endpoint, &mut conn, rows * GROUP)?;
    report(server, [rows, distinct, few], ms, rounds, &measured, &group)
}

/// Packed requests of `ai.query`, whose passes note as many rows as 40 requests have, then twice as many, and so on.
fn in_passes(rows: usize) -> usize {
    let (mut left, mut window, mut requests) = (rows, AT_ONCE * PACKED, 0);
    while left > 0 {
        let noted = left.min(window);
        requests += noted.div_ceil(PACKED);
        left -= noted;
        window *= 2;
    }
    requests
}

/// One aggregate over many short rows.
struct Group {
    rows: usize,
    seconds: f64,
    requests: u64,
    /// Growth of the server's memory at its peak, MiB: of the aggregate, and of a plain one over the same rows.
    grown: f64,
    plain: f64,
}

impl Group {
    /// Measures it with an endpoint that answers at once, in some words.
    fn measure(server: &Server, endpoint: &Endpoint, conn: &mut Conn, rows: usize) -> Result<Self> {
        const PATH: &str = "/group/v1/chat/completions";
        let message =
            json!({"role": "assistant", "content": "Customers ask about parcels: where they are, and refunds."});
        let usage = json!({"prompt_tokens": 8000, "completion_tokens": 20, "total_tokens": 8020});
        let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
        endpoint.prebuild(PATH, &Answer::json(200, &json!({"choices": [choice], "usage": usage})));
        conn.exec_drop(
            "CALL mysql.ml_create_model_registration('group', ?, 'open_ai', 'llm', 'bench-model', NULL, NULL, NULL, NULL, NULL)",
            (endpoint.url(PATH),),
        )?;
        conn.query_drop("CREATE TABLE bench.many (id INT PRIMARY KEY, body VARCHAR(60))")?;
        conn.query_drop(format!("SET SESSION cte_max_recursion_depth = {rows}"))?;
        conn.query_drop(format!(
            "INSERT INTO bench.many WITH RECURSIVE i AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM i WHERE i < {rows}) \
             SELECT i, CONCAT('where is parcel ', i, '?') FROM i"
        ))?;
        // Its pages are in the buffer pool before anything is measured, as far as they fit.
        let over = |what: &str| format!("SELECT {what} FROM bench.many");
        for _ in 0..2 {
            let _: Option<u64> = conn.query_first(over("COUNT(DISTINCT LENGTH(body))"))?;
        }
        let memory = Peak::begin(server)?;
        let _: Option<u64> = conn.query_first(over("SUM(CRC32(body))"))?;
        let plain = memory.grown_mib()?;
        endpoint.clear();
        let (memory, started) = (Peak::begin(server)?, Instant::now());
        let answer: Option<String> = conn.query_first(over("ai_agg(body, 'What do the customers want?', 'group')"))?;
        let (seconds, grown) = (started.elapsed().as_secs_f64(), memory.grown_mib()?);
        ensure!(answer.is_some_and(|answer| answer.starts_with("Customers")), "the group has no answer");
        Ok(Group { rows, seconds, requests: endpoint.count(), grown, plain })
    }
}

/// The body of the library's request for a text.
fn request_of_library(endpoint: &Endpoint, conn: &mut Conn) -> Result<Value> {
    let _: Option<i64> = conn.query_first("SELECT ai.if('yes', 'bench')")?;
    Ok(endpoint.requests().last().context("the library sent no request")?.json())
}

/// The request about another text.
fn about(request: &Value, text: &str) -> Result<Value> {
    let mut request = request.clone();
    let content = request.pointer_mut("/messages").and_then(Value::as_array_mut).and_then(|all| all.last_mut());
    *content.and_then(|message| message.get_mut("content")).context("a request without a message")? = text.into();
    Ok(request)
}

/// (a): asks about every text with threads.
fn plain(url: &str, request: &Value, texts: &[String]) -> Result<Ids> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .max_idle_connections(AT_ONCE)
        .max_idle_connections_per_host(AT_ONCE)
        .build()
        .into();
    let (next, yes) = (AtomicUsize::new(0), Mutex::new(Ids::new()));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        let Some(text) = texts.get(id) else { return Ok(()) };
                        let body = serde_json::to_vec(&about(request, text)?)?;
                        let mut response = agent.post(url).header("content-type", "application/json").send(&body)?;
                        let chat: Chat = serde_json::from_slice(&response.body_mut().read_to_vec()?)?;
                        let choice = chat.choices.first().context("an answer without a choice")?;
                        let decision: Decision = serde_json::from_str(&choice.message.content)?;
                        if decision.answer == "yes" {
                            yes.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
    })?;
    Ok(yes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// (b): the Python program.
fn peer(packages: &Path, url: &str, ms: u64, request: &Value, server: &Server, table: &str) -> Result<Printed> {
    let mut child = Command::new("python3")
        .arg(workspace_root().join(PEER).join("openai_client.py"))
        .args([url, &ms.to_string(), &AT_ONCE.to_string()])
        .arg(server.socket())
        .arg(table)
        .env("PYTHONPATH", packages)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run python3")?;
    child.stdin.take().context("no standard input")?.write_all(request.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the Python program failed ({})", output.status);
    serde_json::from_slice(&output.stdout).context("the Python program printed no result")
}

/// The function in a WHERE, row by row.
fn scalar(conn: &mut Conn, table: &str, rows: usize) -> Result<Ids> {
    let ids: Vec<usize> = conn.query(format!("SELECT id FROM {table} WHERE id < {rows} AND ai.if(body, 'bench')"))?;
    Ok(ids.into_iter().collect())
}

/// The same condition in `ai.query`; the text is an expression.
fn query(conn: &mut Conn, table: &str, packed: usize) -> Result<Ids> {
    let statement = format!("SELECT id FROM {table} WHERE ai.if(CONCAT(LEFT(body, 22), SUBSTR(body, 23)), 'bench')");
    let options = json!({"rows_per_request": packed}).to_string();
    let ids: Vec<usize> = conn.exec("CALL ai.query(?, ?)", (statement, options))?;
    Ok(ids.into_iter().collect())
}

/// The array function over the whole table.
fn array(conn: &mut Conn, table: &str, packed: usize) -> Result<Ids> {
    let row: Option<(String, String)> = conn.query_first(format!(
        "SELECT JSON_ARRAYAGG(id), ai.if_batch(JSON_ARRAYAGG(body), 'bench', '{{\"rows_per_request\": {packed}}}') FROM {table}"
    ))?;
    let (ids, answers) = row.context("no row")?;
    let (ids, answers): (Vec<usize>, Vec<Option<bool>>) =
        (serde_json::from_str(&ids)?, serde_json::from_str(&answers)?);
    ensure!(ids.len() == answers.len(), "{} answers for {} texts", answers.len(), ids.len());
    Ok(ids.into_iter().zip(answers).filter(|(_, answer)| *answer == Some(true)).map(|(id, _)| id).collect())
}

/// The job that writes every row's answer into a column.
fn generate_table(conn: &mut Conn, table: &str, packed: usize) -> Result<Ids> {
    let options = json!({"task": "if", "rows_per_request": packed}).to_string();
    conn.exec_drop("CALL ai.generate_table('bench', ?, 'body', 'answer', ?)", (table, options))?;
    let answers: Vec<(usize, Option<bool>)> = conn.query(format!("SELECT id, answer FROM {table}"))?;
    ensure!(answers.iter().all(|(_, answer)| answer.is_some()), "{table}: rows without an answer");
    Ok(answers.into_iter().filter(|(_, answer)| *answer == Some(true)).map(|(id, _)| id).collect())
}

fn report(
    server: &Server,
    [rows, distinct, few]: [usize; 3],
    ms: u64,
    rounds: usize,
    measured: &[Measured; 12],
    group: &Group,
) -> Result<String> {
    let [plain, python, scalar, query, array, table, query_half, array_half, table_half, packed @ ..] = measured;
    let [query_packed, array_packed, table_packed] = packed;
    let version: Option<String> = server.connect("root")?.query_first("SELECT VERSION()")?;
    let ratio = |m: &Measured| median(&m.seconds.iter().zip(&plain.seconds).map(|(x, p)| x / p).collect::<Vec<_>>());
    let debug = given().is_some_and(|file| file.iter().any(|part| part == "debug"));
    let mut out = String::from("# A question about every row\n\n");
    writeln!(
        out,
        "`cargo xtask bench generate --rows {rows} --ms {ms} --rounds {rounds}`: {}, MySQL {}{}.",
        machine(),
        version.unwrap_or_default(),
        if debug { "; **a debug build of the library**" } else { "" }
    )?;
    writeln!(
        out,
        "Texts of some 170 bytes, one in a request; the endpoint takes {ms} ms for each and is on the same machine. Every program sends\n\
         the library's request, {AT_ONCE} at once, so that none can be faster than {:.1} s. Medians of {rounds} rounds, each of them all in\n\
         turn; a ratio is the median of the rounds' ratios. All answers and the endpoint's count of requests are checked in every run.\n",
        (rows.div_ceil(AT_ONCE) as f64) * ms as f64 / 1000.0
    )?;
    writeln!(out, "| {rows} rows | seconds | of (a) | requests |\n|---|---|---|---|")?;
    for (what, m) in [
        ("(a) plain Rust program: threads, ureq", plain),
        ("(b) Python: openai client, asynchronous", python),
        ("**`CALL ai.query('SELECT ... WHERE ai.if(CONCAT(...), ...)', NULL)`**", query),
        ("**`ai.if_batch(JSON_ARRAYAGG(...), ...)`**", array),
        ("**`CALL ai.generate_table(...)`**, which also writes the answers", table),
    ] {
        if m.seconds.is_empty() {
            writeln!(out, "| {what} | not measured: no packages from PyPI | | |")?;
            continue;
        }
        writeln!(out, "| {what} | {:.2} | {:.2} | {} |", median(&m.seconds), ratio(m), m.requests)?;
    }
    let scaled = rows as f64 / few as f64;
    writeln!(
        out,
        "| `SELECT ... WHERE ai.if(...)`, row by row; measured with {few} rows, of which {rows} take {scaled:.0} times as long | {:.0} | {:.1} | {} |",
        median(&scalar.seconds) * scaled,
        ratio(scalar) * scaled,
        scalar.requests
    )?;
    writeln!(out, "\n| {rows} rows with {distinct} distinct texts | seconds | requests |\n|---|---|---|")?;
    for (what, m) in [("`ai.query`", query_half), ("`ai.if_batch`", array_half), ("`ai.generate_table`", table_half)] {
        writeln!(out, "| {what} | {:.2} | {} |", median(&m.seconds), m.requests)?;
    }
    writeln!(out, "\n| {rows} rows, `rows_per_request` = {PACKED} | seconds | of (a) | requests |\n|---|---|---|---|")?;
    for (what, m) in
        [("`ai.query`", query_packed), ("`ai.if_batch`", array_packed), ("`ai.generate_table`", table_packed)]
    {
        writeln!(out, "| {what} | {:.2} | {:.2} | {} |", median(&m.seconds), ratio(m), m.requests)?;
    }
    writeln!(
        out,
        "\nThe endpoint takes the same time for {PACKED} rows as for one; a model needs more for {PACKED} answers. So this is the \
         library's\nown part. What packing does to answers depends on the model and is not measured here."
    )?;
    writeln!(
        out,
        "\n| one group of {} short rows | seconds | requests | memory of the server, MiB more at the peak |\n|---|---|---|---|\n\
         | `ai_agg(body, ...)`, an endpoint that answers at once | {:.1} | {} | {:.0} |\n\
         | `SUM(CRC32(body))` | | | {:.0} |",
        group.rows, group.seconds, group.requests, group.grown, group.plain
    )?;
    let longest = AIM.0 * rows as f64 / 1000.0 * ms as f64 / 900.0;
    let met = |m: &Measured| ratio(m) <= AIM.1 && median(&m.seconds) <= longest;
    let said = |met: bool| if met { "met" } else { "**not met**" };
    writeln!(
        out,
        "\nAims: at most {} times as long as (a), and at most {:.1} s. `ai.query`: {}; `ai.if_batch`: {}; `ai.generate_table`: {}.",
        AIM.1,
        longest,
        said(met(query)),
        said(met(array)),
        said(met(table))
    )?;
    let packed_longest = PACKED_AIM * rows as f64 / 1000.0 * ms as f64 / 900.0;
    let slowest = packed.iter().map(|m| median(&m.seconds)).fold(0.0, f64::max);
    writeln!(
        out,
        "With {PACKED} rows a request at most {packed_longest:.1} s: {}. A group within {GROUP_AIM:.0} MB: {}.",
        said(slowest <= packed_longest),
        said(group.grown <= GROUP_AIM)
    )?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn passes_of_packed_questions_double() {
        assert_eq!((in_passes(0), in_passes(1), in_passes(640), in_passes(641)), (0, 1, 40, 41));
        assert_eq!(in_passes(1000), 63);
        assert_eq!(in_passes(640 + 1280 + 1), 40 + 80 + 1);
    }

    #[test]
    fn the_plain_program_asks_about_every_text_and_reads_the_answers() {
        let endpoint = Endpoint::start().unwrap();
        let schema = json!({
            "type": "object",
            "properties": {"answer": {"type": "string", "enum": ["unknown", "yes", "no"]}},
            "required": ["answer"],
            "additionalProperties": false,
        });
        let request = json!({
            "model": "m",
            "messages": [{"role": "system", "content": "Decide."}, {"role": "user", "content": "x"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": schema}},
        });
        let texts = questions(50);
        let yes = plain(&endpoint.url("/bench/v1/chat/completions?ms=1"), &request, &texts).unwrap();
        assert_eq!(yes, (0..50).step_by(3).collect::<Ids>());
        assert_eq!(endpoint.count(), 50);
    }
}
