//! Real clients on a real server: their handling of vectors, JSON, errors and interrupted calls, and the programs of
//! docs/clients.md.

use crate::common;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::site::{self, Site};
use mysql::prelude::Queryable;
use testkit::{clients, library};

const PASSWORD: &str = "a password, with 'quotes'";

/// A server with the objects that the programs expect, and the programs' environment.
struct Stage {
    site: Site,
    python: PathBuf,
    stores: PathBuf,
    node: PathBuf,
    /// Holds the `mysql` client of the server.
    bin: tempfile::TempDir,
}

/// The fetched folder; `None` if it cannot be fetched and need not be.
fn fetched<E: std::fmt::Display>(what: &str, found: Result<PathBuf, E>) -> Option<PathBuf> {
    match found {
        Ok(folder) => Some(folder),
        Err(error) if std::env::var_os("CI").is_some() => panic!("{what}: {error:#}"),
        Err(error) => {
            site::skip(&format!("tests with clients for {what}: {error:#}"));
            None
        }
    }
}

impl Stage {
    fn set() -> Option<Stage> {
        let progress = |step: &str| eprintln!("{step}");
        let python = fetched("Python", clients::python(&progress))?;
        let stores = fetched("the vector stores", clients::stores(&progress))?;
        let node = fetched("Node", clients::node(&progress))?;
        let site = Site::start();
        let mut root = site.root();
        let url = |path: &str| site.endpoint().url(path);
        for (id, url, provider, kind) in [
            ("words", None, "dummy", "text_embedding"),
            ("chat", Some(url("/v1/chat/completions")), "open_ai", "generic"),
            ("refused", Some(url("/status/401")), "open_ai", "text_embedding"),
            ("hanging", Some(url("/hang")), "open_ai", "text_embedding"),
        ] {
            root.exec_drop(
                "CALL mysql.ml_create_model_registration(?, ?, ?, ?, 'test-8', NULL, NULL, NULL, NULL, NULL)",
                (id, url, provider, kind),
            )
            .unwrap();
        }
        root.query_drop("CREATE DATABASE shop").unwrap();
        root.query_drop("USE shop").unwrap();
        // Creates the tables as the page does.
        for statement in testkit::sqlscript::split(&blocks("sql").remove(0).code).iter().skip(1) {
            root.query_drop(&statement.text).unwrap();
        }
        root.query_drop(format!("CREATE USER app@'%' IDENTIFIED BY '{}'", PASSWORD.replace('\'', "''"))).unwrap();
        root.query_drop("GRANT ml_user TO app@'%'").unwrap();
        root.query_drop("SET DEFAULT ROLE ml_user TO app@'%'").unwrap();
        root.query_drop("GRANT SELECT, CREATE TEMPORARY TABLES ON shop.* TO app@'%'").unwrap();
        root.query_drop("CREATE DATABASE stores").unwrap();
        // The stores' indexes have triggers.
        root.query_drop("SET GLOBAL log_bin_trust_function_creators = ON").unwrap();
        root.query_drop("GRANT ALL ON stores.* TO app@'%'").unwrap();
        let bin = tempfile::tempdir().unwrap();
        let client = common::distribution().client();
        let words = std::iter::once(client.get_program()).chain(client.get_args());
        let quoted: Vec<String> =
            words.map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"))).collect();
        let script = bin.path().join("mysql");
        std::fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\"\n", quoted.join(" "))).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        Some(Stage { site, python, stores, node, bin })
    }

    /// Runs a program and returns its output; it must succeed and print nothing to standard error but warnings of the server.
    fn run(&self, what: &str, program: &str, arguments: &[&Path]) -> String {
        let (port, x_port) = self.site.ports();
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new(program)
            .args(arguments)
            .env("MYSQL_HOST", "127.0.0.1")
            .env("MYSQL_PORT", port.to_string())
            .env("MYSQL_X_PORT", x_port.to_string())
            .env("MYSQL_USER", "app")
            .env("MYSQL_PWD", PASSWORD)
            .env("PATH", format!("{}:{path}", self.bin.path().display()))
            .env("PYTHONPATH", std::env::join_paths([&self.stores, &self.python]).unwrap())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NODE_PATH", &self.node)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // MySQL's client for the X protocol logs an error of the server and the note below it.
        let mut lines = err.lines().filter(|line| !line.is_empty() && !line.contains("Received Warning Notice"));
        assert!(output.status.success() && lines.next().is_none(), "{what}: {}\n{out}{err}", output.status);
        out.into_owned()
    }
}

impl Drop for Stage {
    /// The server may be a given one, which continues.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut root = self.site.root();
        for statement in [
            "DROP DATABASE shop",
            "DROP DATABASE stores",
            "SET GLOBAL log_bin_trust_function_creators = DEFAULT",
            "DROP USER app@'%'",
        ] {
            root.query_drop(statement).unwrap();
        }
        for id in ["words", "chat", "refused", "hanging"] {
            root.exec_drop("CALL mysql.ml_drop_model_registration(?)", (id,)).unwrap();
        }
        assert_eq!(self.site.errors_in_log(), Vec::<String>::new());
    }
}

/// A fenced block of docs/clients.md.
struct Block {
    /// The word after the language.
    name: String,
    code: String,
}

/// The blocks of a language, in their order.
fn blocks(language: &str) -> Vec<Block> {
    let page = std::fs::read_to_string(library::workspace_root().join("docs/clients.md")).unwrap();
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let code: String = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        let (word, name) = info.split_once(' ').unwrap_or((info, ""));
        if word == language {
            found.push(Block { name: name.to_owned(), code });
        }
    }
    found
}

#[test]
fn clients_work() {
    let Some(stage) = Stage::set() else { return };
    let folder = library::workspace_root().join("tests/clients");
    for (file, program, at_least) in [
        ("cli_checks.py", "python3", 10),
        ("pymysql_checks.py", "python3", 18),
        ("connector_checks.py", "python3", 28),
        ("mysqlx_checks.py", "python3", 14),
        ("sqlalchemy_checks.py", "python3", 12),
        ("mysql2_checks.js", "node", 15),
        ("langchain_google_checks.py", "python3", 24),
        ("native_vector_checks.py", "python3", 30),
    ] {
        let out = stage.run(file, program, &[&folder.join(file)]);
        let checks: Option<usize> = out.lines().last().and_then(|line| line.strip_prefix("checks: ")?.parse().ok());
        assert!(checks.is_some_and(|checks| checks >= at_least), "{file}: {out}");
    }
    drop(stage);
    documented_programs_print_what_the_page_says();
}

/// In turn on one server: a given server has one database `shop`.
fn documented_programs_print_what_the_page_says() {
    let Some(stage) = Stage::set() else { return };
    let programs: Vec<Block> = ["sh", "python", "js"].into_iter().flat_map(blocks).collect();
    let outputs = blocks("output");
    assert_eq!((programs.len(), outputs.len()), (6, 6));
    // The page's order is by client.
    let page = ["mysql", "pymysql", "connector", "mysqlx", "sqlalchemy", "mysql2"];
    let folder = tempfile::tempdir().unwrap();
    for (name, output) in page.into_iter().zip(outputs) {
        let block = programs.iter().find(|block| block.name == name).unwrap_or_else(|| panic!("no program {name}"));
        let (suffix, program) = match name {
            "mysql" => ("sh", "sh"),
            "mysql2" => ("js", "node"),
            _ => ("py", "python3"),
        };
        // The file must not have the name of a package that it imports.
        let file = folder.path().join(format!("documented-{name}.{suffix}"));
        std::fs::write(&file, &block.code).unwrap();
        assert_eq!(stage.run(name, program, &[&file]), output.code, "{name}");
    }
}
