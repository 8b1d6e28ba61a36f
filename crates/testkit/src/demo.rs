//! `cargo xtask demo`: the main job end to end; every statement is printed with its result.

use anyhow::{Context, Result};
use mysql::prelude::Queryable;
use mysql::{Conn, Row, Value};

use crate::library::workspace_root;
use crate::mysqld::Server;
use fake_providers::Endpoint;

/// Wider cells are cut in the output.
const WIDTH: usize = 76;

/// Runs the demo on a server with the library installed. `minilm`: whether the server has the weights of
/// all-MiniLM-L6-v2; otherwise the demo uses a lexical embedding.
pub fn run(server: &Server, minilm: bool) -> Result<()> {
    let endpoint = Endpoint::start()?;
    let mut conn = server.connect("root")?;
    let mut show = |sql: &str| statement(&mut conn, sql);

    show("SELECT mysql.ml_version()")?;
    if minilm {
        println!("# A model that runs in the server: all-MiniLM-L6-v2, from the directory of models. No text leaves the machine.\n");
        show("CALL mysql.ml_create_model_registration('minilm', 'all-MiniLM-L6-v2', 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL)")?;
    } else {
        println!("# A model that needs no endpoint: a lexical embedding, computed in the server. The weights of a real one\n# (all-MiniLM-L6-v2, with pip) could not be had here.\n");
        show("CALL mysql.ml_create_model_registration('words', NULL, 'dummy', 'text_embedding', NULL, NULL, NULL, NULL, NULL, NULL)")?;
    }
    let model = if minilm { "minilm" } else { "words" };
    show("CREATE DATABASE shop")?;
    show("CREATE TABLE shop.support (\n  id INT PRIMARY KEY,\n  category VARCHAR(40),\n  question TEXT,\n  answer TEXT,\n  v VECTOR(384)\n)")?;
    let count = load(&mut conn)?;
    println!("# {count} questions and answers were loaded from demo/support.tsv.\n");
    let mut show = |sql: &str| statement(&mut conn, sql);
    show("ALTER TABLE shop.support ADD body TEXT AS (CONCAT(question, ' ', answer)) STORED")?;
    show(&format!("CALL mysql.ml_embed_table('{model}', 'shop.support', 'body', 'v', NULL)"))?;
    println!("# Search: the closest texts first.\n");
    for query in [
        "I forgot my password and cannot sign in",
        "the parcel arrived broken, can I send it back?",
        "weak wifi signal in the bedroom",
    ] {
        show(&format!("SET @query = mysql.ml_query_embedding('{model}', '{query}')"))?;
        show("SELECT ROUND(cosine_distance(v, @query), 3) AS distance, category, question\nFROM shop.support\nORDER BY cosine_distance(v, @query)\nLIMIT 3")?;
    }
    println!("# Any JSON endpoint: here a small local one that speaks OpenAI's chat API.\n");
    show(&format!(
        "CALL mysql.ml_create_model_registration('chat', '{}', 'open_ai', 'generic', 'demo-model', NULL, NULL, NULL, NULL, NULL)",
        endpoint.url("/v1/chat/completions")
    ))?;
    show("SELECT JSON_UNQUOTE(JSON_EXTRACT(\n  mysql.ml_predict_row('chat', JSON_OBJECT('messages', JSON_ARRAY(\n    JSON_OBJECT('role', 'user', 'content', 'Say hello to MySQL')))),\n  '$.choices[0].message.content')) AS answer")?;
    show("SELECT model_id, model_provider, model_type, definer FROM mysql.cloudsql_ml_models")?;
    Ok(())
}

fn load(conn: &mut Conn) -> Result<usize> {
    let file = workspace_root().join("demo/support.tsv");
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|l| l.split('\t').collect()).collect();
    conn.query_drop("START TRANSACTION")?;
    for row in &rows {
        let [id, category, question, answer] = row.as_slice() else {
            anyhow::bail!("a line of {} has not four fields", file.display())
        };
        conn.exec_drop(
            "INSERT INTO shop.support (id, category, question, answer) VALUES (?, ?, ?, ?)",
            (id, category, question, answer),
        )?;
    }
    conn.query_drop("COMMIT")?;
    Ok(rows.len())
}

/// Runs a statement and prints it with its rows.
fn statement(conn: &mut Conn, sql: &str) -> Result<()> {
    println!("mysql> {};", sql.replace('\n', "\n    -> "));
    let started = std::time::Instant::now();
    let result = conn.query_iter(sql)?;
    let affected = result.affected_rows();
    let columns: Vec<String> = result.columns().as_ref().iter().map(|c| c.name_str().into_owned()).collect();
    let rows: Vec<Row> = result.collect::<Result<_, _>>()?;
    let took = started.elapsed().as_secs_f64();
    if columns.is_empty() {
        println!("Query OK, {affected} rows affected ({took:.2} sec)\n");
        return Ok(());
    }
    let cells: Vec<Vec<String>> = rows.into_iter().map(|row| row.unwrap().iter().map(cell).collect()).collect();
    table(&columns, &cells);
    println!("{} rows in set ({took:.2} sec)\n", cells.len());
    Ok(())
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::NULL => "NULL".into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).replace('\n', " "),
        other => other.as_sql(true),
    };
    if text.chars().count() > WIDTH {
        format!("{}...", text.chars().take(WIDTH - 3).collect::<String>())
    } else {
        text
    }
}

fn table(columns: &[String], rows: &[Vec<String>]) {
    let width = |i: usize| {
        let header = columns.get(i).map_or(0, |c| c.chars().count());
        rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0).max(header)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let border: String = widths.iter().map(|w| format!("+{}", "-".repeat(w + 2))).collect::<String>() + "+";
    let line = |cells: &[String]| {
        cells
            .iter()
            .zip(&widths)
            .map(|(c, w)| format!("| {c}{} ", " ".repeat(w.saturating_sub(c.chars().count()))))
            .collect::<String>()
            + "|"
    };
    println!("{border}\n{}\n{border}", line(columns));
    for row in rows {
        println!("{}", line(row));
    }
    println!("{border}");
}
