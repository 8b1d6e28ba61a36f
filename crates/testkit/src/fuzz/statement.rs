//! Random statements of one session.

use std::collections::VecDeque;
use std::fmt;

use fastrand::Rng;

use super::call;
use super::catalogue::Catalogue;
use super::value::{pick, Scope};

/// One step of a session.
pub(super) enum Step {
    /// Sends a statement as text.
    Text(String),
    /// Prepares a statement and executes it.
    Prepared(String, Vec<mysql::Value>),
    /// Kills the statement or the connection of a session.
    Kill {
        /// The session's number.
        session: usize,
        /// Whether the connection is killed too.
        connection: bool,
    },
}

impl Step {
    /// Whether the statement changes the server's privileges. DROP FUNCTION and DROP PROCEDURE revoke those on the
    /// routine.
    pub(super) fn changes_privileges(&self) -> bool {
        let Step::Text(sql) = self else { return false };
        ["CREATE FUNCTION", "CREATE PROCEDURE", "DROP FUNCTION", "DROP PROCEDURE", "GRANT", "REVOKE"]
            .iter()
            .any(|start| sql.starts_with(start))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Text(sql) => f.write_str(sql),
            Step::Prepared(sql, values) => write!(f, "{sql} with {values:?}"),
            Step::Kill { session, connection: false } => write!(f, "KILL QUERY of session {session}"),
            Step::Kill { session, connection: true } => write!(f, "KILL of session {session}"),
        }
    }
}

const EVERYTHING: Scope = Scope { columns: true, subqueries: true };
const NO_TABLE: Scope = Scope { columns: false, subqueries: true };
/// Expressions of stored programs: there a subquery crashes the server itself.
const STORED: Scope = Scope { columns: false, subqueries: false };

/// Changes of a session's variables and state.
const SURROUNDINGS: [&str; 28] = [
    "SET SESSION sql_mode = ''",
    "SET SESSION sql_mode = DEFAULT",
    "SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES'",
    "SET SESSION sql_mode = 'TRADITIONAL'",
    "SET NAMES latin1",
    "SET NAMES utf8mb4",
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
    "SET NAMES binary",
    "SET SESSION max_execution_time = 100",
    "SET SESSION max_execution_time = 0",
    "SET SESSION autocommit = 0",
    "SET SESSION autocommit = 1",
    "SET SESSION time_zone = '-03:30'",
    "SET SESSION sql_select_limit = 1",
    "SET SESSION sql_select_limit = DEFAULT",
    "SET SESSION optimizer_switch = 'derived_merge=off'",
    "SET SESSION optimizer_switch = DEFAULT",
    "SET SESSION group_concat_max_len = 4",
    "SET @u = REPEAT('u', 100)",
    "SET @u = x'0000803f'",
    "SET SESSION transaction_isolation = 'SERIALIZABLE'",
    "SET SESSION transaction_isolation = DEFAULT",
    "USE fz",
    "USE mysql",
    "SHOW WARNINGS",
    "SET ROLE NONE",
    "SET ROLE ALL",
    "SET ROLE DEFAULT",
];

const TRANSACTIONS: [&str; 14] = [
    "START TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "START TRANSACTION READ ONLY",
    "SAVEPOINT s",
    "ROLLBACK TO SAVEPOINT s",
    "LOCK TABLES fz.docs WRITE",
    "LOCK TABLES fz.docs READ, fz.sink WRITE",
    "UNLOCK TABLES",
    "UNLOCK TABLES",
    "SELECT GET_LOCK('fz', 0), RELEASE_ALL_LOCKS()",
    "UPDATE fz.docs SET body = CONCAT(body, '.') WHERE id < 3",
    "SELECT * FROM fz.docs WHERE id = 2 FOR UPDATE",
    "DELETE FROM fz.docs WHERE id > 40",
];

/// Damage to the registry, by root.
const VANDALISM: [&str; 18] = [
    "ALTER TABLE mysql.cloudsql_ml_models DROP COLUMN options",
    "ALTER TABLE mysql.cloudsql_ml_models MODIFY options TEXT NULL",
    "ALTER TABLE mysql.cloudsql_ml_models MODIFY model_provider VARBINARY(64) NULL",
    "ALTER TABLE mysql.cloudsql_ml_models DROP PRIMARY KEY",
    "DROP TABLE mysql.cloudsql_ml_settings",
    "DROP TABLE mysql.cloudsql_ml_secrets",
    "DROP TABLE mysql.cloudsql_ml_embed_configs",
    "UPDATE mysql.cloudsql_ml_models SET model_provider = 'nobody' WHERE model_id = 'ok'",
    "UPDATE mysql.cloudsql_ml_models SET options = '[1, 2]' WHERE model_id < 'f'",
    "UPDATE mysql.cloudsql_ml_models SET definer = 'nobody@nowhere'",
    "UPDATE mysql.cloudsql_ml_models SET model_request_url = CONCAT('http://', REPEAT('x', 2000)) WHERE model_id = 'key'",
    "UPDATE mysql.cloudsql_ml_secrets SET secret_path = 'file:/etc/passwd'",
    "INSERT INTO mysql.cloudsql_ml_models (model_id, model_provider, model_type, definer) VALUES ('', '', '', ''), ('?', 'open_ai', 'x', '@')",
    "INSERT INTO mysql.cloudsql_ml_embed_configs (table_schema, table_name, embedding_column, content_column, model_id, incremental_refresh_mode, definer) VALUES ('fz', 'docs', 'w', ')', 'ok', 'odd', 'x'), ('', '', '', '', '', '', '')",
    "UPDATE mysql.cloudsql_ml_settings SET value = 'many'",
    "LOCK TABLES mysql.cloudsql_ml_models WRITE",
    "RENAME TABLE mysql.cloudsql_ml_models TO mysql.cloudsql_ml_models_away",
    "REVOKE EXECUTE ON FUNCTION mysql.ml_embedding FROM ml_user",
];

/// The registry before the damage.
const TABLES: [&str; 6] = [
    "cloudsql_ml_models",
    "cloudsql_ml_secrets",
    "cloudsql_ml_settings",
    "cloudsql_ml_embed_configs",
    "cloudsql_ml_embed_progress",
    "cloudsql_ml_embed_failures",
];

/// Generates a session's statements.
pub(super) struct Generator<'c> {
    all: &'c Catalogue,
    rng: Rng,
    session: usize,
    /// Queued steps that belong together.
    next: VecDeque<Step>,
}

impl<'c> Generator<'c> {
    pub(super) fn new(all: &'c Catalogue, session: usize, seed: u64) -> Self {
        Generator { all, rng: Rng::with_seed(seed), session, next: VecDeque::new() }
    }

    /// The next step.
    pub(super) fn next(&mut self) -> Step {
        if let Some(step) = self.next.pop_front() {
            return step;
        }
        match self.rng.u8(..100) {
            0..40 => self.select(),
            40..55 => Step::Text(call::procedure(&mut self.rng, self.all, NO_TABLE)),
            55..63 => {
                let (sql, values) = call::with_parameters(&mut self.rng, self.all);
                Step::Prepared(sql, values)
            }
            63..70 => self.stored(),
            70..78 => self.writes(),
            78..85 => Step::Text(pick(&mut self.rng, &SURROUNDINGS).to_owned()),
            85..90 => Step::Text(pick(&mut self.rng, &TRANSACTIONS).to_owned()),
            90..97 => Step::Kill { session: self.rng.usize(..8), connection: self.rng.u8(..12) == 0 },
            // Only root may do this; for others it is one more refused statement.
            97 => Step::Text(pick(&mut self.rng, &VANDALISM).to_owned()),
            _ => self.heal(),
        }
    }

    fn then(&mut self, sql: String) {
        self.next.push_back(Step::Text(sql));
    }

    fn call(&mut self, scope: Scope) -> String {
        call::function(&mut self.rng, self.all, scope)
    }

    fn select(&mut self) -> Step {
        let lone = self.rng.bool();
        let c = self.call(if lone { NO_TABLE } else { EVERYTHING });
        let other = self.call(EVERYTHING);
        let rows = self.rng.usize(..6);
        let view = self.all.views.get(self.rng.usize(..self.all.views.len().max(1))).cloned().unwrap_or_default();
        let sql = match (lone, self.rng.u8(..16)) {
            (true, 0) => format!("DO {c}"),
            (true, 1) => format!("SET @u = {c}"),
            (true, 2) => format!("SELECT {c} AS x UNION SELECT {c}"),
            (true, 3) => format!("WITH q AS (SELECT {c} AS x) SELECT a.x, b.x FROM q a JOIN q b"),
            (true, 4) => format!("SELECT * FROM JSON_TABLE({c}, '$[*]' COLUMNS (x TEXT PATH '$')) AS r"),
            (true, 5) => format!("EXPLAIN SELECT {c}"),
            (true, 6) => format!("SELECT * FROM {view} LIMIT {rows}"),
            (true, 7) => format!("SELECT /*+ MAX_EXECUTION_TIME(30) */ {c}"),
            (true, _) => format!("SELECT {c}"),
            (false, 0) => format!("SELECT id FROM fz.docs WHERE {c} ORDER BY {other} LIMIT {rows}"),
            (false, 1) => format!("SELECT {c} AS x, COUNT(*) FROM fz.docs GROUP BY {c} HAVING x IS NOT NULL"),
            (false, 2) => format!("SELECT id, {c} AS x FROM fz.docs ORDER BY x DESC LIMIT {rows}"),
            (false, 3) => format!("SELECT SUM({c}) OVER (PARTITION BY {other} ORDER BY id) FROM fz.docs LIMIT {rows}"),
            (false, 4) => format!("SELECT {c} FROM fz.docs LIMIT 0"),
            (false, 5) => format!("SELECT DISTINCT {c} FROM fz.docs UNION ALL SELECT {other} FROM fz.docs LIMIT {rows}"),
            (false, 6) => format!("SELECT x FROM (SELECT {c} AS x FROM fz.docs LIMIT {rows}) AS q WHERE x <> ''"),
            (false, 7) => format!("SELECT a.id FROM fz.docs a JOIN fz.docs docs ON a.id = docs.id AND {} LIMIT {rows}", c.replace("id)", "docs.id)")),
            (false, 8) => format!("SELECT GROUP_CONCAT({c} SEPARATOR '|') FROM fz.docs WHERE id < {rows}"),
            (false, 9) => format!("EXPLAIN ANALYZE SELECT {c} FROM fz.docs WHERE id < {rows}"),
            (false, 10) => format!("SELECT CASE WHEN id = 1 THEN {c} ELSE {other} END FROM fz.docs LIMIT {rows}"),
            (false, 11 | 12) => {
                let agg = call::aggregate(&mut self.rng, self.all, EVERYTHING);
                let group = pick(&mut self.rng, &["", " GROUP BY n", " GROUP BY id", " GROUP BY n WITH ROLLUP"]);
                format!("SELECT {agg} FROM fz.docs WHERE id < {rows}{group}")
            }
            (false, 13) => format!("WITH RECURSIVE r AS (SELECT 1 AS id, CAST('b' AS CHAR(9)) AS body UNION ALL SELECT id + 1, body FROM r WHERE id < {rows}) SELECT {c} FROM r"),
            _ => format!("SELECT id, {c} FROM fz.docs WHERE id <= {rows}"),
        };
        Step::Text(sql)
    }

    /// A statement that stores a function's result.
    fn writes(&mut self) -> Step {
        let c = self.call(EVERYTHING);
        let lone = self.call(NO_TABLE);
        let (session, row) = (self.session, self.rng.usize(1..6));
        Step::Text(match self.rng.u8(..9) {
            0 => format!("INSERT INTO fz.sink (x) SELECT {c} FROM fz.docs WHERE id <= {row}"),
            1 => format!("INSERT INTO fz.sink (y, z) VALUES ({lone}, {lone})"),
            2 => format!("UPDATE fz.docs SET note = {c} WHERE id = {row}"),
            3 => format!("UPDATE fz.docs SET v = {c} LIMIT {row}"),
            4 => format!("DELETE FROM fz.sink WHERE x = {lone}"),
            5 => {
                self.then(format!("DROP TABLE IF EXISTS fz.made{session}"));
                format!("CREATE TABLE fz.made{session} AS SELECT {c} AS x FROM fz.docs LIMIT {row}")
            }
            6 => {
                self.then(format!("DROP TEMPORARY TABLE IF EXISTS fz.temp{session}"));
                format!("CREATE TEMPORARY TABLE fz.temp{session} SELECT {lone} AS x")
            }
            7 => format!("REPLACE INTO fz.docs (id, body) VALUES ({row}, {lone})"),
            _ => "TRUNCATE TABLE fz.sink".to_owned(),
        })
    }

    /// Views, prepared statements, stored programs and events.
    fn stored(&mut self) -> Step {
        let session = self.session;
        let name = format!("fz.x{session}");
        let c = self.call(EVERYTHING);
        let inside = self.call(STORED);
        let times = self.rng.usize(1..4);
        match self.rng.u8(..9) {
            0 | 1 => {
                let view =
                    pick(&mut self.rng, &["", "ALGORITHM = TEMPTABLE ", "ALGORITHM = MERGE SQL SECURITY INVOKER "]);
                self.then(format!("SELECT * FROM {name} LIMIT {times}"));
                self.then(format!("SELECT COUNT(*) FROM {name} WHERE x = 'y'"));
                Step::Text(format!("CREATE OR REPLACE {view}VIEW {name} AS SELECT {c} AS x FROM fz.docs"))
            }
            2 | 3 => {
                for _ in 0..times {
                    self.then("EXECUTE p".to_owned());
                }
                self.then("DEALLOCATE PREPARE p".to_owned());
                let quoted = c.replace('\\', "\\\\").replace('\'', "''");
                Step::Text(format!("PREPARE p FROM 'SELECT {quoted} FROM fz.docs LIMIT {times}'"))
            }
            4 | 5 => {
                for _ in 0..times {
                    self.then(format!("SELECT {name}('a', 1)"));
                }
                self.then(format!("DROP FUNCTION IF EXISTS {name}"));
                Step::Text(format!(
                    "CREATE FUNCTION {name}(body TEXT, id INT) RETURNS LONGTEXT READS SQL DATA RETURN {inside}"
                ))
            }
            6 => {
                let row = self.rng.usize(1..6);
                self.then(format!("UPDATE fz.docs SET body = CONCAT(body, '!') WHERE id = {row}"));
                self.then(format!("DROP TRIGGER IF EXISTS {name}"));
                Step::Text(format!(
                    "CREATE TRIGGER {name} BEFORE UPDATE ON fz.docs FOR EACH ROW SET NEW.note = {inside}"
                ))
            }
            7 => {
                for _ in 0..times {
                    self.then(format!("CALL {name}()"));
                }
                self.then(format!("DROP PROCEDURE IF EXISTS {name}"));
                Step::Text(format!(
                    "CREATE PROCEDURE {name}() BEGIN DECLARE i INT DEFAULT 0; DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SET i = i + 1; \
                     WHILE i < 2 DO DO {c}; SET @u = {inside}; SET i = i + 1; END WHILE; SELECT i; END"
                ))
            }
            _ => {
                self.then(format!("DROP EVENT IF EXISTS {name}"));
                Step::Text(format!(
                    "CREATE EVENT {name} ON SCHEDULE EVERY 1 SECOND DO INSERT INTO fz.sink (y) SELECT {}",
                    self.call(NO_TABLE)
                ))
            }
        }
    }

    /// Restores the registry.
    fn heal(&mut self) -> Step {
        for table in TABLES {
            self.then(format!("DROP TABLE IF EXISTS mysql.{table}, mysql.{table}_away"));
            self.then(format!("CREATE TABLE mysql.{table} LIKE fz_keep.{table}"));
            self.then(format!("INSERT INTO mysql.{table} SELECT * FROM fz_keep.{table}"));
        }
        self.then("GRANT EXECUTE ON FUNCTION mysql.ml_embedding TO ml_user".to_owned());
        Step::Text("UNLOCK TABLES".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(seed: u64) -> Vec<String> {
        let all = Catalogue::new();
        let mut generator = Generator::new(&all, 3, seed);
        (0..2000).map(|_| generator.next().to_string()).collect()
    }

    #[test]
    fn a_seed_decides_the_statements() {
        let first = statements(7);
        assert_eq!(first, statements(7));
        assert_ne!(first, statements(8));
    }

    #[test]
    fn no_statement_is_one_that_crashes_the_server_by_itself() {
        for statement in (0..5).flat_map(statements) {
            let stored = statement.split_once(" RETURN ").or_else(|| statement.split_once(" SET NEW.note = "));
            let expression = stored.map_or("", |(_, expression)| expression);
            assert!(!expression.contains("(SELECT") && !expression.contains("(WITH"), "{statement}");
            assert!(!statement.contains(" SONAME "), "{statement}");
            assert!(!statement.starts_with("DROP FUNCTION IF EXISTS ml_"), "{statement}");
        }
    }
}
