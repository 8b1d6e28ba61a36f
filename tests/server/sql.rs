//! The SQL suite: files of statements in tests/sql with their expected output. tests/sql/README.md describes them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::common::site::{self, Site};
use crate::common::{start_bare, Running, ENV_KEY, FILE_KEY};
use fake_providers::hub::Hub;
use fake_providers::{Endpoint, Internet};
use mysql::consts::ColumnFlags;
use mysql::prelude::Queryable;
use mysql::{Conn, Value};
use testkit::tiny_model;
use testkit::xprotocol::XSession;

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Text,
    Prepared,
    X,
}

struct Run<'a> {
    site: &'a Site,
    connections: HashMap<String, Conn>,
    sessions: HashMap<String, XSession>,
    user: String,
    protocol: Protocol,
    out: String,
}

/// The files that use a model in a folder of the test.
const NEED_MODELS: [&str; 3] = ["ai_more", "chunk", "local_models"];

#[test]
fn sql_suite() {
    let site = Site::start();
    if let Site::Private(running) = &site {
        put_tiny_models(running);
    }
    let root = testkit::library::workspace_root();
    let folder = root.join("tests/sql");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "sql"))
        .collect();
    files.sort();
    let only = std::env::var("MYSQL_ML_SUITE").ok();
    let record = std::env::var_os("MYSQL_ML_RECORD").is_some();
    let mut failures = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| only.split(',').all(|one| one != name)) {
            continue;
        }
        if site::is_given() && NEED_MODELS.contains(&name.as_str()) {
            site::skip(&format!("tests/sql/{name}.sql needs a server whose folder of models is at hand"));
            continue;
        }
        eprintln!("sql/{name}");
        let actual = run_file(&site, &file);
        let mut root = site.root();
        let left: Vec<String> = root
            .query(
                "SELECT model_id FROM mysql.cloudsql_ml_models UNION ALL SELECT secret_id FROM mysql.cloudsql_ml_secrets \
                 UNION ALL SELECT name FROM mysql.cloudsql_ml_settings",
            )
            .unwrap();
        assert!(left.is_empty(), "tests/sql/{name}.sql leaves registrations behind: {left:?}");
        let expected_file = file.with_extension("out");
        if record {
            std::fs::write(&expected_file, &actual).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
        if actual != expected {
            failures.push(format!("tests/sql/{name}.sql:\n{}", difference(&expected, &actual)));
        }
    }
    assert_eq!(site.errors_in_log(), Vec::<String>::new());
    assert!(failures.is_empty(), "{}\nMYSQL_ML_RECORD=1 records the new output", failures.join("\n\n"));
}

/// Tiny models in the server's directory, and one that can be fetched.
fn put_tiny_models(running: &Running) {
    let models = running.models();
    tiny_model::bert(&models.join("tiny")).unwrap();
    tiny_model::static_embedding(&models.join("tiny-static")).unwrap();
    tiny_model::reranker(&models.join("tiny-rerank")).unwrap();
    tiny_model::bert(&models.join("cut")).unwrap();
    let weights = models.join("cut/model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 4]).unwrap();
    let outside = running.secrets.path().join("outside");
    tiny_model::bert(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, models.join("link")).unwrap();
    let golden = testkit::library::workspace_root().join("tests/golden");
    for (from, to) in [("clip", "tiny-clip"), ("t5_gated", "tiny-t5")] {
        let target = models.join(to);
        std::fs::create_dir(&target).unwrap();
        for entry in std::fs::read_dir(golden.join(from)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
        }
    }
    Hub::serve(&running.endpoint, "test/tiny", &models.join("tiny")).unwrap();
}

/// The documentation's SQL runs unchanged, with its hosts: a proxy serves them (fake_providers' `Internet`). Its
/// files, variables and Secret Manager secrets hold a test key.
#[test]
fn documented_statements_work() {
    if site::is_given() {
        site::skip("the documentation's SQL needs a server with a proxy in its environment");
        return;
    }
    let root = testkit::library::workspace_root();
    let mut pages = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/providers"].iter().filter(|folder| root.join(folder).is_dir()) {
        let mut names: Vec<String> = std::fs::read_dir(root.join(folder))
            .unwrap()
            .map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy()))
            .filter(|name| name.ends_with(".md"))
            .collect();
        names.sort();
        pages.extend(names);
    }
    let pages: Vec<(String, Vec<(usize, String)>)> = pages
        .into_iter()
        .map(|page| {
            let blocks = sql_blocks(&std::fs::read_to_string(root.join(&page)).unwrap());
            (page, blocks)
        })
        .collect();
    let all: String = pages.iter().flat_map(|(_, blocks)| blocks).map(|(_, block)| block.as_str()).collect();

    let world = Endpoint::start().unwrap();
    world.set_expected_key(FILE_KEY);
    let internet = Internet::start(&world).unwrap();
    let proxy = internet.proxy_url();
    let metadata = format!("127.0.0.1:{}", world.port());
    let mut environment = vec![
        ("HTTPS_PROXY", proxy.as_str()),
        ("GCE_METADATA_HOST", metadata.as_str()),
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", ""),
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_DISCOVERYENGINE", ""),
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", ""),
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS", ""),
        ("GOOGLE_GEMINI_BASE_URL", ""),
    ];
    let variables = mentioned(&all, "'env:");
    environment.extend(variables.iter().map(|name| (name.as_str(), FILE_KEY)));
    let running = start_bare(&[], &environment);
    running.install();
    running.put_minilm();
    put_tiny_models(&running);
    Hub::serve(&world, "sentence-transformers/all-MiniLM-L6-v2", &running.models().join("tiny")).unwrap();

    let mut account = world.service_account_key();
    account["token_uri"] = "https://oauth2.googleapis.com/token".into();
    let secrets = running.secrets.path();
    std::fs::write(secrets.join("service-account.json"), account.to_string()).unwrap();
    for name in mentioned(&all, "'file:") {
        let file = secrets.join(&name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let content = if name.ends_with(".json") { account.to_string() } else { FILE_KEY.to_owned() };
        std::fs::write(file, content).unwrap();
    }
    for name in mentioned(&all, "'projects/").iter().filter(|name| name.contains("/secrets/")) {
        world.set_secret(&format!("projects/{name}"), FILE_KEY.as_bytes());
    }
    let ca_file = secrets.join("authority.pem");
    std::fs::write(&ca_file, internet.ca_pem()).unwrap();

    let mut count = 0;
    let mut failures = Vec::new();
    for (page, blocks) in &pages {
        if page.ends_with("providers/local.md") {
            // The page fetches the model itself; a fetch does not replace a folder that others filled.
            std::fs::remove_dir_all(running.models().join("sentence-transformers/all-MiniLM-L6-v2")).unwrap();
        }
        let mut conn = running.root();
        conn.exec_drop("CALL mysql.ml_set_setting('ca_file', ?)", (ca_file.to_str().unwrap(),)).unwrap();
        conn.query_drop("CREATE DATABASE IF NOT EXISTS shop").unwrap();
        conn.query_drop("USE shop").unwrap();
        for (line, block) in blocks {
            // Requests to the same machine bypass the proxy.
            let block = block.replace("http://localhost:11434", &running.endpoint.url(""));
            for statement in testkit::sqlscript::split(&block) {
                let result: mysql::Result<Vec<mysql::Row>> = conn.query(&statement.text);
                let failure = match result {
                    Err(e) => Some(e.to_string()),
                    // A trial call's finding is no error of the statement.
                    Ok(rows) => rows
                        .into_iter()
                        .flat_map(mysql::Row::unwrap)
                        .map(|value| cell(&value, false))
                        .find(|cell| cell.contains("\"ok\": false")),
                };
                if let Some(failure) = failure {
                    failures.push(format!("{page}, block at line {line}: {}\n{failure}", statement.text));
                }
                count += 1;
            }
        }
        conn.query_drop("DELETE FROM mysql.cloudsql_ml_models").unwrap();
        conn.query_drop("DELETE FROM mysql.cloudsql_ml_secrets").unwrap();
        conn.query_drop("DELETE FROM mysql.cloudsql_ml_settings").unwrap();
        conn.query_drop("DROP DATABASE shop").unwrap();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(count > 80, "only {count} statements were found in the documentation");
}

/// The distinct texts after `before` in SQL text, each up to its closing quote.
fn mentioned(text: &str, before: &str) -> Vec<String> {
    let found = text.match_indices(before).filter_map(|(at, _)| text[at + before.len()..].split('\'').next());
    let mut found: Vec<String> = found.map(str::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

/// The fenced blocks marked `sql` of a Markdown page, with the line of each.
fn sql_blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut current: Option<(usize, String)> = None;
    for (i, line) in text.lines().enumerate() {
        match &mut current {
            None if line.trim() == "```sql" => current = Some((i + 1, String::new())),
            Some(_) if line.trim() == "```" => blocks.extend(current.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
            None => {}
        }
    }
    blocks
}

fn run_file(site: &Site, file: &Path) -> String {
    site.endpoint().clear();
    let mut run = Run {
        site,
        connections: HashMap::new(),
        sessions: HashMap::new(),
        user: "root".into(),
        protocol: Protocol::Text,
        out: String::new(),
    };
    let text = std::fs::read_to_string(file).unwrap();
    let mut chunk = String::new();
    for line in text.lines() {
        if let Some(directive) = line.strip_prefix("--@ ") {
            run.statements(&std::mem::take(&mut chunk));
            run.directive(directive.trim());
        } else {
            chunk.push_str(line);
            chunk.push('\n');
        }
    }
    run.statements(&chunk);
    run.out
}

impl Run<'_> {
    fn directive(&mut self, directive: &str) {
        let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        let _ = writeln!(self.out, "--@ {directive}");
        match word {
            "user" => self.user = rest.into(),
            "protocol" => {
                self.protocol = match rest {
                    "text" => Protocol::Text,
                    "prepared" => Protocol::Prepared,
                    "x" => Protocol::X,
                    other => panic!("unknown protocol {other}"),
                }
            }
            "clear" => self.site.endpoint().clear(),
            "requests" => {
                let count = self.site.endpoint().count();
                self.site.endpoint().clear();
                let _ = writeln!(self.out, "requests: {count}");
            }
            "last" => {
                let requests = self.site.endpoint().requests();
                let Some(last) = requests.last() else {
                    self.out.push_str("(no request)\n");
                    return;
                };
                let shown = match rest.split_once(' ') {
                    Some(("header", name)) => last.header(name).unwrap_or("(none)").to_owned(),
                    _ if rest == "METHOD" => last.method.clone(),
                    _ if rest == "PATH" => last.path.clone(),
                    _ if rest == "BODY" => last.text().to_string(),
                    _ => panic!("unknown: last {rest}"),
                };
                let shown =
                    shown.replace(ENV_KEY, "<the key of the environment>").replace(FILE_KEY, "<the key of the file>");
                let _ = writeln!(self.out, "{shown}");
            }
            "secret" => self.site.endpoint().set_secret(rest, format!("{FILE_KEY}\n").as_bytes()),
            other => panic!("unknown directive {other}"),
        }
    }

    fn statements(&mut self, text: &str) {
        for statement in testkit::sqlscript::split(text) {
            let _ = writeln!(self.out, "{};", statement.text);
            let sql = statement.text.replace("{{endpoint}}", self.site.endpoint().url("").trim_end_matches('/'));
            let result = if self.protocol == Protocol::X { self.execute_x(&sql) } else { self.execute(&sql) };
            let mut shown = result.unwrap_or_else(|e| e);
            let port = self.site.endpoint().port().to_string();
            shown = shown.replace(&format!("127.0.0.1:{port}"), "ENDPOINT");
            for key in [ENV_KEY, FILE_KEY] {
                assert!(!shown.contains(key), "a result holds the key {key}: {}", statement.text);
            }
            shown = shown.replace(&self.site.secrets_dir(), "SECRETS_DIR");
            self.out.push_str(&shown);
        }
    }

    fn execute(&mut self, sql: &str) -> Result<String, String> {
        let user = self.user.clone();
        let conn = self.connections.entry(user.clone()).or_insert_with(|| self.site.connect(&user));
        let mut out = String::new();
        let text_error = |e: mysql::Error| match e {
            mysql::Error::MySqlError(e) => format!("ERROR {} ({}): {}\n", e.code, e.state, e.message),
            other => panic!("{sql}: {other}"),
        };
        macro_rules! show {
            ($result:expr) => {{
                let mut result = $result.map_err(text_error)?;
                while let Some(set) = result.iter() {
                    let columns: Vec<(String, bool)> =
                        set.columns().as_ref().iter().map(|c| (c.name_str().into_owned(), is_binary(c))).collect();
                    if !columns.is_empty() {
                        let _ = writeln!(out, "{}", columns.iter().map(|c| c.0.clone()).collect::<Vec<_>>().join("\t"));
                    }
                    for row in set {
                        let values = row.map_err(text_error)?.unwrap();
                        let cells: Vec<String> = values
                            .iter()
                            .zip(&columns)
                            // Durations and the recall of random queries differ from run to run.
                            .map(|(v, c)| match c.0.as_str() {
                                "seconds" => "#".to_owned(),
                                "recall" if *v != mysql::Value::NULL => "#".to_owned(),
                                _ => cell(v, c.1),
                            })
                            .collect();
                        let _ = writeln!(out, "{}", cells.join("\t"));
                    }
                }
            }};
        }
        match self.protocol {
            Protocol::Text => show!(conn.query_iter(sql)),
            _ => show!(conn.exec_iter(sql, ())),
        }
        Ok(out)
    }

    fn execute_x(&mut self, sql: &str) -> Result<String, String> {
        let user = self.user.clone();
        let session = self.sessions.entry(user.clone()).or_insert_with(|| self.site.x_session(&user));
        let result = session.execute(sql).unwrap();
        if let Some((code, state, message)) = result.error {
            return Err(format!("ERROR {code} ({state}): {message}\n"));
        }
        let mut out = String::new();
        for row in result.rows {
            let cells: Vec<String> = row
                .into_iter()
                .map(|c| c.map_or("NULL".into(), |b| cell(&Value::Bytes(b.clone()), std::str::from_utf8(&b).is_err())))
                .collect();
            let _ = writeln!(out, "{}", cells.join("\t"));
        }
        Ok(out)
    }
}

fn is_binary(column: &mysql::Column) -> bool {
    column.character_set() == 63
        && column.flags().contains(ColumnFlags::BINARY_FLAG)
        && column.column_type().is_character_type()
        || matches!(column.column_type() as u8, 242 | 249..=253) && column.character_set() == 63
}

fn cell(value: &Value, binary: bool) -> String {
    match value {
        Value::NULL => "NULL".into(),
        Value::Bytes(bytes) if binary => {
            let shown: String = bytes.iter().take(16).map(|b| format!("{b:02x}")).collect();
            if bytes.len() > 16 {
                format!("x'{shown}...' ({} bytes)", bytes.len())
            } else {
                format!("x'{shown}'")
            }
        }
        Value::Bytes(bytes) => {
            let text = String::from_utf8_lossy(bytes).replace('\n', "\\n").replace('\t', "\\t");
            if text.len() > 3000 {
                format!("{}... ({} bytes)", &text[..60], bytes.len())
            } else {
                text
            }
        }
        other => other.as_sql(true).trim_matches('\'').to_owned(),
    }
}

fn difference(expected: &str, actual: &str) -> String {
    let (e, a): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let at = e.iter().zip(&a).position(|(x, y)| x != y).unwrap_or(e.len().min(a.len()));
    let from = at.saturating_sub(3);
    let show =
        |lines: &[&str]| lines.iter().skip(from).take(10).map(|l| format!("    {l}")).collect::<Vec<_>>().join("\n");
    format!("first difference in line {}\n  expected:\n{}\n  actual:\n{}", at + 1, show(&e), show(&a))
}
