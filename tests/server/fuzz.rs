//! Statements with a loadable function that crash the server itself, a short run of the statement fuzzer, and a check
//! that the tests named in the threat model exist.

use crate::common::{self, server_error, start};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};

const REFUSED: &str = "into a variable first";

/// A vector of one dimension, and a subquery for another one with an aggregate that crashes the server.
const ONE: &str = "x'0000803f'";
const MANY: &str = "(SELECT MAX(v) FROM s.t)";

fn schema(conn: &mut Conn) {
    for statement in [
        "CREATE DATABASE s",
        "CREATE TABLE s.t (id INT PRIMARY KEY, v VARBINARY(4) NOT NULL)",
        "INSERT INTO s.t VALUES (1, x'0000803f'), (2, x'00000040')",
        "CREATE TABLE s.u (id INT PRIMARY KEY AUTO_INCREMENT, v VARBINARY(4), d DOUBLE)",
        "CREATE PROCEDURE s.take(x DOUBLE) BEGIN END",
    ] {
        conn.query_drop(statement).unwrap();
    }
}

/// Three executions in one session: the server would crash at the second.
fn thrice(conn: &mut Conn, statement: &str) -> Vec<mysql::Result<Vec<Row>>> {
    (0..3).map(|_| conn.query::<Row, _>(statement)).collect()
}

#[test]
fn a_subquery_in_an_expression_of_a_stored_program_is_refused_before_the_server_crashes() {
    let running = start();
    let mut conn = running.root();
    schema(&mut conn);
    let expressions = [
        format!("l2_squared_distance({ONE}, {MANY})"),
        format!("vector_distance({ONE}, IFNULL({MANY}, {ONE}), 'distance_measure=cosine')"),
        format!("dot_product({ONE}, ( /* c */ (WITH w AS {MANY} TABLE w)))"),
        format!("(SELECT MIN(cosine_distance(v, {ONE})) FROM s.t)"),
        format!("(SELECT COUNT(*) FROM s.t WHERE cosine_distance({ONE}, v) < 0.5)"),
        format!("EXISTS(SELECT v FROM s.t HAVING l2_squared_distance(v, {ONE}) < 1)"),
        format!("(SELECT ROW_NUMBER() OVER (ORDER BY dot_product(v, {ONE})) FROM s.t LIMIT 1)"),
    ];
    for expression in &expressions {
        for (body, call) in [
            (format!("CREATE FUNCTION s.f() RETURNS DOUBLE READS SQL DATA RETURN {expression}"), "SELECT s.f()"),
            (format!("CREATE PROCEDURE s.p() BEGIN DECLARE x DOUBLE; SET x = {expression}; END"), "CALL s.p()"),
            (format!("CREATE PROCEDURE s.p() BEGIN DECLARE x DOUBLE DEFAULT {expression}; END"), "CALL s.p()"),
            (format!("CREATE PROCEDURE s.p() SET @x = {expression}"), "CALL s.p()"),
            (format!("CREATE PROCEDURE s.p() IF {expression} THEN DO 0; END IF"), "CALL s.p()"),
            (format!("CREATE PROCEDURE s.p() WHILE {expression} < 0 DO DO 0; END WHILE"), "CALL s.p()"),
            (
                format!("CREATE TRIGGER s.u_bi BEFORE INSERT ON s.u FOR EACH ROW SET NEW.d = {expression}"),
                "INSERT INTO s.u (v) VALUES (x'0000803f'), (x'0000803f')",
            ),
        ] {
            conn.query_drop(&body).unwrap();
            for result in thrice(&mut conn, call) {
                assert!(result.is_err(), "{body}");
                let (code, message) = server_error(result);
                assert_eq!(code, 3200, "{body}: {message}");
                assert!(message.contains(REFUSED), "{body}: {message}");
            }
            for drop in ["FUNCTION IF EXISTS s.f", "PROCEDURE IF EXISTS s.p", "TRIGGER IF EXISTS s.u_bi"] {
                conn.query_drop(format!("DROP {drop}")).unwrap();
            }
        }
    }
    // CASE once: the server replaces the refused result by NULL, and would crash at the second execution.
    conn.query_drop(format!("CREATE PROCEDURE s.p() CASE {} WHEN 77 THEN DO 1; ELSE DO 0; END CASE", expressions[0]))
        .unwrap();
    assert!(server_error(conn.query::<Row, _>("CALL s.p()")).1.contains(REFUSED));
    assert!(running.server.is_running());
}

#[test]
fn subqueries_beside_loadable_functions_work_wherever_the_server_does() {
    let running = start();
    let mut conn = running.root();
    schema(&mut conn);
    let distance = format!("l2_squared_distance({ONE}, {MANY})");
    for statement in [
        format!("CREATE VIEW s.w AS SELECT {distance} AS d"),
        format!("CREATE PROCEDURE s.p() BEGIN DECLARE x DOUBLE; SELECT {distance} INTO x; DO {distance}; CALL s.take({distance}); SELECT x; END"),
        format!("CREATE FUNCTION s.f() RETURNS DOUBLE READS SQL DATA BEGIN DECLARE m VARBINARY(4); SELECT MAX(v) INTO m FROM s.t; RETURN l2_squared_distance({ONE}, m); END"),
        "CREATE FUNCTION s.g(a VARBINARY(4), b VARBINARY(4)) RETURNS DOUBLE DETERMINISTIC RETURN l2_squared_distance(a, b)".to_owned(),
        "CREATE TRIGGER s.u_bi BEFORE INSERT ON s.u FOR EACH ROW SET NEW.d = l2_squared_distance(NEW.v, CONCAT(NEW.v, '')), @text = LENGTH(ml_version()) + CHAR_LENGTH('(SELECT 1)')".to_owned(),
        // Queries of statements and cursors in stored programs.
        format!("CREATE PROCEDURE s.c() BEGIN DECLARE x DOUBLE; DECLARE c CURSOR FOR SELECT MAX({distance}) FROM s.t; OPEN c; FETCH c INTO x; CLOSE c; END"),
        "CREATE PROCEDURE s.w() BEGIN CREATE OR REPLACE VIEW s.m AS SELECT MAX(dot_product(v, v)) AS m FROM s.t; EXPLAIN SELECT MAX(dot_product(v, v)) FROM s.t; UPDATE s.u SET d = (SELECT MAX(dot_product(v, v)) FROM s.t); END".to_owned(),
        "CREATE TRIGGER s.u_ai AFTER INSERT ON s.u FOR EACH ROW BEGIN DECLARE m DOUBLE; SELECT MAX(dot_product(v, NEW.v)) INTO m FROM s.t; END".to_owned(),
        format!("PREPARE q FROM 'SELECT {}'", distance.replace('\'', "''")),
    ] {
        conn.query_drop(statement).unwrap();
    }
    for statement in [
        format!("SELECT {distance}"),
        format!("SET @x = {distance}"),
        format!("DO {distance}"),
        format!("SELECT id FROM s.t WHERE {distance} > 0 ORDER BY l2_squared_distance(v, {MANY})"),
        "SELECT * FROM s.w".to_owned(),
        "CALL s.p()".to_owned(),
        "CALL s.c()".to_owned(),
        "CALL s.w()".to_owned(),
        "SELECT s.f()".to_owned(),
        "SELECT s.g(NULL, v) FROM s.t".to_owned(),
        format!("SELECT s.g(v, {MANY}) FROM s.t"),
        format!("SET @x = s.g({ONE}, {MANY})"),
        "INSERT INTO s.u (v) VALUES (x'0000803f'), (NULL)".to_owned(),
        "EXECUTE q".to_owned(),
    ] {
        for result in thrice(&mut conn, &statement) {
            result.unwrap_or_else(|e| panic!("{statement}: {e}"));
        }
    }
}

/// `cargo xtask fuzz sql` runs longer, with a new seed each time.
#[test]
fn random_statements_of_several_accounts_do_no_harm() {
    let _alone = testkit::mysqld::Turn::alone();
    let options = testkit::fuzz::Options { seconds: 8, seed: 1, sessions: 8, settle: None };
    let report =
        testkit::fuzz::run(common::distribution(), &common::built_library(), &options, &|step| eprintln!("{step}"));
    let report = report.unwrap_or_else(|found| panic!("{found:#}"));
    assert!(report.statements > 100, "{report:?}");
    assert!(report.succeeded > 20, "{report:?}");
}

/// The names in backticks of a table's last column, `file::test` or `sql/name`.
fn named_tests(page: &str) -> Vec<&str> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let last = rows.filter_map(|line| line.trim_end_matches('|').rsplit_once('|')).map(|(_, cell)| cell);
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let root = testkit::library::workspace_root();
    let named = named_tests(&common::script("SECURITY.md")).into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        if let Some(suite) = name.strip_prefix("sql/") {
            for end in ["sql", "out"] {
                assert!(root.join(format!("tests/sql/{suite}.{end}")).is_file(), "{name}");
            }
            continue;
        }
        let (place, test) = name.rsplit_once("::").unwrap_or_else(|| panic!("{name} is no test's name"));
        let place = place.replace("::", "/");
        let crates = std::fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path());
        let of_crates = crates.flat_map(|folder| [folder.join("src"), folder.join("tests")]);
        let folders = of_crates.chain(["src", "tests", "tests/server", "fuzz/tests"].map(|folder| root.join(folder)));
        let files = folders.flat_map(|folder| [folder.join(format!("{place}.rs")), folder.join(&place).join("mod.rs")]);
        let text: String = files.filter_map(|file| std::fs::read_to_string(file).ok()).collect();
        assert!(
            text.contains(&format!("#[test]\n    fn {test}()")) || text.contains(&format!("#[test]\nfn {test}()")),
            "{name}"
        );
    }
}
