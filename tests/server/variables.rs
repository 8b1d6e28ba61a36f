//! Session variables inherited inside the server: their GLOBAL values change no result of the library.

use crate::common::{start, Running};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};

/// Other values for variables that are neither numbers nor switches.
const OTHERS: &[(&str, &[&str])] = &[
    ("binlog_format", &["STATEMENT"]),
    ("binlog_row_image", &["MINIMAL"]),
    ("binlog_row_value_options", &["PARTIAL_JSON"]),
    ("block_encryption_mode", &["aes-256-cbc"]),
    ("character_set_client", &["latin1"]),
    ("character_set_connection", &["latin1"]),
    ("character_set_database", &["latin1"]),
    ("character_set_filesystem", &["latin1"]),
    ("character_set_results", &["latin1"]),
    ("character_set_server", &["latin1"]),
    ("collation_connection", &["latin1_bin", "utf8mb4_bin"]),
    ("collation_database", &["latin1_bin"]),
    ("collation_server", &["latin1_bin"]),
    ("completion_type", &["CHAIN", "RELEASE"]),
    ("default_collation_for_utf8mb4", &["utf8mb4_general_ci"]),
    ("default_storage_engine", &["MyISAM"]),
    ("default_tmp_storage_engine", &["MyISAM"]),
    ("explain_format", &["JSON"]),
    ("innodb_tmpdir", &["/tmp"]),
    ("internal_tmp_mem_storage_engine", &["MEMORY"]),
    ("lc_messages", &["de_DE"]),
    ("lc_time_names", &["de_DE"]),
    ("myisam_stats_method", &["nulls_equal"]),
    ("optimizer_trace", &["enabled=on"]),
    ("optimizer_trace_features", &["greedy_search=off"]),
    ("session_track_gtids", &["ALL_GTIDS"]),
    ("session_track_system_variables", &["*"]),
    ("session_track_transaction_info", &["CHARACTERISTICS"]),
    (
        "sql_mode",
        &[
            "",
            "ANSI,TRADITIONAL",
            "ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,IGNORE_SPACE,HIGH_NOT_PRECEDENCE,REAL_AS_FLOAT,\
             NO_UNSIGNED_SUBTRACTION,PAD_CHAR_TO_FULL_LENGTH,TIME_TRUNCATE_FRACTIONAL,ALLOW_INVALID_DATES",
        ],
    ),
    ("terminology_use_previous", &["BEFORE_8_0_26"]),
    ("time_zone", &["+05:30"]),
    ("transaction_isolation", &["SERIALIZABLE", "READ-UNCOMMITTED"]),
    ("updatable_views_with_limit", &["NO"]),
    ("use_secondary_engine", &["FORCED"]),
];

/// Variables that are not tested, with the reason.
const NOT_TRIED: &[(&str, &str)] = &[
    ("max_allowed_packet", "read-only in a session; the server's own bound on what a function may return"),
    (
        "connection_memory_limit",
        "the server's own bound, which ends connections of ordinary accounts; not theirs to change",
    ),
    ("external_table_secondary_storage_engine", "has one value"),
    ("external_table_storage_engine", "has one value"),
    ("group_replication_consistency", "waits for a group"),
    ("rbr_exec_mode", "of what a replica applies"),
    ("innodb_ft_user_stopword_table", "names a table of full-text indexes"),
];

/// `ER_LOCAL_VARIABLE`, `ER_INCORRECT_GLOBAL_LOCAL_VAR`: without a GLOBAL value, or without one that can be set.
const CANNOT_BE_SET: [u16; 2] = [1228, 1238];

fn prepare(running: &Running) -> Conn {
    let mut root = running.root();
    let url = running.endpoint.url("/v1/embeddings");
    root.query_drop("SET GLOBAL log_bin_trust_function_creators = 1").unwrap();
    root.query_drop("CREATE DATABASE f").unwrap();
    root.query_drop("CREATE USER owner@localhost").unwrap();
    root.query_drop("GRANT ml_admin TO owner@localhost").unwrap();
    root.query_drop("SET DEFAULT ROLE ALL TO owner@localhost").unwrap();
    root.query_drop("GRANT ALL ON f.* TO owner@localhost").unwrap();
    let mut owner = running.server.connect("owner").unwrap();
    for statement in [
        "CREATE TABLE f.many (n INT PRIMARY KEY, s VARCHAR(20), KEY (s))",
        "INSERT INTO f.many VALUES (1, 'a'), (2, 'B'), (3, 'b'), (4, NULL), (5, 'e')",
        "CREATE TABLE f.t (id DECIMAL(6,2) PRIMARY KEY, body VARCHAR(200), at DATETIME, v VECTOR(8))",
        "INSERT INTO f.t (id, body, at) VALUES (1, 'one', '2024-01-05'), (2.5, 'two \\\\ \\'x\\'', '2024-02-05'), \
         (3, 'thr\u{e9}\u{e9} \u{1F600}', NULL), (4, 'four', '2024-12-31 23:59:59')",
        "CREATE TABLE f.auto (id INT PRIMARY KEY, body TEXT, v VECTOR(8))",
        "INSERT INTO f.auto VALUES (1, 'a', NULL), (2, 'b', NULL), (3, 'c', NULL)",
        // Its results go into a header, where the test reads them.
        "CREATE FUNCTION f.headers(m VARCHAR(100), t TEXT) RETURNS JSON READS SQL DATA RETURN JSON_OBJECT('x-seen', \
         CONCAT_WS(',', 1 / 3, DATE_FORMAT('2024-01-05', '%W'), WEEK('2008-02-20'), (SELECT COUNT(*) FROM f.many), \
         (SELECT GROUP_CONCAT(REPEAT(IFNULL(s, '-'), 300) ORDER BY n) FROM f.many), \
         (SELECT COUNT(*) FROM f.many a JOIN f.many b JOIN f.many c), HEX('\u{e9}' COLLATE utf8mb4_bin)))",
    ] {
        owner.query_drop(statement).unwrap();
    }
    let mut register = |id: &str, url: &str, headers: Option<&str>| {
        owner
            .exec_drop(
                "CALL mysql.ml_create_model_registration(?, ?, 'open_ai', 'text_embedding', 'test-8', NULL, NULL, ?, NULL, NULL)",
                (id, url, headers),
            )
            .unwrap();
    };
    register("good", &url, None);
    register("computed", &url, Some("f.headers"));
    register("forbidden", "https://10.1.2.3/v1/embeddings", None);
    for (name, value) in [
        ("egress_allowlist", "api.openai.com, http://127.0.0.0/8"),
        ("max_retries", "0"),
        ("timeout_ms", "20000"),
        ("registry_ttl_ms", "0"),
    ] {
        owner.exec_drop("CALL mysql.ml_set_setting(?, ?)", (name, value)).unwrap();
    }
    owner
}

/// A result as text.
fn result_of(conn: &mut Conn, statement: &str) -> String {
    let value = |value: mysql::Value| match value {
        mysql::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    };
    match conn.query::<Row, _>(statement) {
        Ok(rows) => {
            let row = |row: Row| row.unwrap().into_iter().map(value).collect::<Vec<_>>().join(" | ");
            rows.into_iter().map(row).collect::<Vec<_>>().join("\n")
        }
        Err(e) => e.to_string(),
    }
}

/// The results of the library's calls, with their names.
fn results(running: &Running, conn: &mut Conn) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for statement in [
        "SELECT mysql.ml_list_settings()",
        "SELECT JSON_REMOVE(mysql.ml_list_registered_model('good'), '$.x')",
        "SELECT ml_model_qualified_name_of('good')",
        "DO ml_cache_clear(NULL)",
        "SELECT HEX(mysql.ml_embedding('good', 'text')), HEX(ml_embedding('good', 'th\u{e9}'))",
        "SELECT ml_embedding('forbidden', 'text')",
        "SELECT ml_embedding('unknown', 'text')",
        "SELECT ml_embedding('Good', 'text')",
        "SELECT mysql.ml_audit_secrets()",
        "CALL mysql.ml_create_sm_secret_registration('s\u{e9}cret', 'env:OPENAI_API_KEY')",
        "CALL mysql.ml_set_secret_options('s\u{e9}cret', '{\"url_prefix\": \"https://api.openai.com/\"}')",
        "SELECT secret_id, secret_path, options FROM mysql.cloudsql_ml_secrets",
        "CALL mysql.ml_drop_sm_secret_registration('s\u{e9}cret')",
        "CALL mysql.ml_create_model_registration('headless', 'https://api.openai.com/v1/embeddings', 'open_ai', NULL, 'x', NULL, NULL, 'f.nothing', NULL, NULL)",
        "UPDATE f.t SET v = NULL",
        "CALL mysql.ml_embed_table('good', 'f.t', 'CONCAT(id / 3, \" \", body, IFNULL(at, \"never\"), WEEK(\"2008-02-20\"))', 'v', '{\"where\": \"id > 0.5 OR body LIKE CONCAT(\\'x\\', \\'%\\')\"}')",
        "SELECT id, HEX(v) FROM f.t",
        "UPDATE f.auto SET v = NULL",
        "CALL ai.initialize_embeddings('good', 'f.auto', 'body', 'v', 2, 'manual')",
        "SELECT table_name, embedding_column, status, rows_processed, percent_progress, last_error FROM ai.embedding_progress_view",
        "INSERT INTO f.auto VALUES (4, 'd', NULL)",
        "CALL ai.refresh_embeddings('f.auto', 'v', NULL)",
        "SELECT id, HEX(v) FROM f.auto",
        "DELETE FROM f.auto WHERE id = 4",
        "CALL ai.drop_embedding_config('f.auto', 'v')",
    ] {
        let mut result = result_of(conn, statement);
        // Durations.
        if statement.contains("embed_table(") || statement.contains("itialize_emb") || statement.contains("refresh_") {
            let columns: Vec<&str> = result.split(" | ").collect();
            result = columns.iter().enumerate().filter(|(i, _)| *i != 3).map(|(_, c)| *c).collect::<Vec<_>>().join(" | ");
        }
        all.push((statement, result));
    }
    running.endpoint.clear();
    all.push(("the call of a computed header", result_of(conn, "SELECT HEX(ml_embedding('computed', UUID())) = ''")));
    let seen = running.endpoint.requests().last().and_then(|r| r.header("x-seen").map(str::to_owned));
    all.push(("the computed header", seen.unwrap_or_default()));
    all
}

#[test]
fn whatever_the_global_values_of_session_variables_are_the_library_gives_the_same_results() {
    let running = start();
    let mut owner = prepare(&running);
    let mut root = running.root();
    let expected = results(&running, &mut owner);
    assert!(expected.iter().any(|(_, r)| r.contains("egress_allowlist")), "{expected:?}");
    assert!(expected.iter().any(|(s, r)| s.contains("forbidden") && r.contains("allowlist")), "{expected:?}");
    assert_eq!(expected, results(&running, &mut owner), "the same twice");
    let variables: Vec<(String, String, String, String)> = root
        .query(
            "SELECT VARIABLE_NAME, s.VARIABLE_VALUE, MIN_VALUE, MAX_VALUE FROM performance_schema.session_variables s \
             JOIN performance_schema.variables_info USING (VARIABLE_NAME) ORDER BY VARIABLE_NAME",
        )
        .unwrap();
    let (mut wrong, mut tried, mut strange) = (Vec::new(), 0, Vec::new());
    for (name, _, min, max) in &variables {
        if NOT_TRIED.iter().any(|(n, _)| n == name) {
            continue;
        }
        // A session variable of its own: setting it there is no error of "GLOBAL only".
        let in_session = root.query_drop(format!("SET SESSION `{name}` = DEFAULT"));
        if matches!(in_session, Err(mysql::Error::MySqlError(ref e)) if CANNOT_BE_SET.contains(&e.code) || e.code == 1229)
        {
            continue;
        }
        let before: Option<Option<String>> = match root.query_first(format!("SELECT @@GLOBAL.`{name}`")) {
            Ok(value) => value,
            Err(mysql::Error::MySqlError(e)) if CANNOT_BE_SET.contains(&e.code) => continue,
            Err(e) => panic!("{name}: {e}"),
        };
        let before = before.flatten().unwrap_or_default();
        let named = OTHERS.iter().find(|(n, _)| n == name).map(|(_, values)| *values);
        let quote = |value: &str| format!("'{}'", value.replace('\'', "''"));
        let is_number = before.parse::<f64>().is_ok();
        let flipped = if before == "0" { "1" } else { "0" };
        let values: Vec<String> = match named {
            Some(values) => values.iter().map(|v| quote(v)).collect(),
            None if name == "optimizer_switch" => {
                let switch = |s: &str| match s.split_once('=') {
                    Some((n, "on")) => format!("{n}=off"),
                    Some((n, _)) if n == "hypergraph_optimizer" => format!("{n}=off"),
                    Some((n, _)) => format!("{n}=on"),
                    None => s.to_owned(),
                };
                vec![quote(&before.split(',').map(switch).collect::<Vec<_>>().join(","))]
            }
            // Switches have no bounds.
            None if is_number && min == "0" && max == "0" => vec![flipped.to_owned()],
            None if is_number && *min != before => vec![min.clone()],
            None if is_number => vec![max.clone()],
            None => {
                strange.push(format!("{name} = '{before}'"));
                continue;
            }
        };
        for value in values {
            match root.query_drop(format!("SET GLOBAL `{name}` = {value}")) {
                Ok(()) => {}
                Err(mysql::Error::MySqlError(e)) if CANNOT_BE_SET.contains(&e.code) => continue,
                Err(e) => {
                    strange.push(format!("{name} = {value}: {e}"));
                    continue;
                }
            }
            tried += 1;
            for ((what, want), (_, got)) in expected.iter().zip(results(&running, &mut owner)) {
                if *want != got {
                    wrong.push(format!("{name} = {value}: {what}\n  {want}\n  {got}"));
                }
            }
            let back = if is_number && named.is_none() { before.clone() } else { quote(&before) };
            if root.query_drop(format!("SET GLOBAL `{name}` = {back}")).is_err() {
                // A variable that has no value until it is set.
                root.query_drop(format!("SET GLOBAL `{name}` = DEFAULT")).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(strange.is_empty(), "not set; name them in OTHERS or NOT_TRIED: {strange:#?}");
    assert!(tried > 100, "{tried}");
}

/// Rows of `f.t` whose vector differs from that of the expression in this session.
fn misunderstood(conn: &mut Conn, expression: &str) -> Vec<String> {
    conn.query(format!("SELECT ({expression}) FROM f.t WHERE NOT HEX(v) <=> HEX(ml_embedding('good', ({expression})))"))
        .unwrap()
}

#[test]
fn a_callers_expression_means_what_it_means_in_the_callers_session() {
    let running = start();
    let mut conn = prepare(&running);
    conn.query_drop("DROP TABLE f.t").unwrap();
    conn.query_drop("SET sql_mode = 'ALLOW_INVALID_DATES'").unwrap();
    conn.query_drop(
        "CREATE TABLE f.t (k CHAR(10) PRIMARY KEY, title TEXT, body TEXT, n INT, u INT UNSIGNED, c CHAR(8), at DATETIME, ts TIMESTAMP NULL, v VECTOR(8))",
    )
    .unwrap();
    conn.query_drop("SET time_zone = '+00:00'").unwrap();
    for (i, at) in
        ["2024-01-07 23:30:00", "2008-02-20 00:00:00", "0000-00-00 00:00:00", "2024-02-31 01:02:03"].iter().enumerate()
    {
        conn.query_drop(format!(
            "INSERT INTO f.t VALUES ('k{i}', 'title {i}', 'it''s \\\\ {i}', {i}, {i}, 'c{i}', '{at}', '2024-07-0{} 12:00:00', NULL)",
            i + 1
        ))
        .unwrap();
    }
    let cases = [
        ("sql_mode = 'ANSI_QUOTES'", r#"CONCAT("title", ' ', "body")"#),
        ("sql_mode = 'ANSI,STRICT_ALL_TABLES'", r#""title" || ' ' || "body""#),
        ("sql_mode = 'PIPES_AS_CONCAT'", r#"title || "-" || body"#),
        ("sql_mode = 'NO_BACKSLASH_ESCAPES'", r"CONCAT('\', title, '\n', body)"),
        ("sql_mode = ''", r"CONCAT('\\', title, '\n', body)"),
        ("sql_mode = 'HIGH_NOT_PRECEDENCE'", "CONCAT(NOT n BETWEEN -5 AND 5, body)"),
        ("sql_mode = 'IGNORE_SPACE'", "CONCAT (LENGTH (title), body)"),
        ("sql_mode = 'NO_UNSIGNED_SUBTRACTION'", "CONCAT(u - 5, body)"),
        ("sql_mode = 'PAD_CHAR_TO_FULL_LENGTH'", "CONCAT(c, '|', body)"),
        ("sql_mode = 'TIME_TRUNCATE_FRACTIONAL'", "CONCAT(CAST('10:10:10.9' AS TIME), body)"),
        (
            "sql_mode = 'NO_ZERO_DATE,STRICT_TRANS_TABLES'",
            "CONCAT(at, ' ', IFNULL(DATE_FORMAT(at, '%W'), 'none'), body)",
        ),
        (
            "sql_mode = 'STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO'",
            "CONCAT(IFNULL(1 / n, 'none'), IFNULL(CAST(body AS SIGNED), 0), IFNULL(CAST(at AS DATE), 'none'), body)",
        ),
        ("time_zone = '+05:30'", "CONCAT(ts, body)"),
        ("lc_time_names = 'de_DE'", "CONCAT(IFNULL(DATE_FORMAT(at, '%W %M'), ''), body)"),
        ("default_week_format = 3", "CONCAT(IFNULL(WEEK(at), ''), body)"),
        ("div_precision_increment = 12", "CONCAT(n / 7, body)"),
        ("collation_connection = 'utf8mb4_bin'", "CONCAT(IF('a' = 'A', 'same', 'other'), body)"),
        ("NAMES latin1", "CONCAT(IF('a' = 'A', 'same', 'other'), body)"),
    ];
    for (set, expression) in cases {
        let mut other = running.server.connect("owner").unwrap();
        other.query_drop(format!("SET {set}")).unwrap();
        other.query_drop("UPDATE f.t SET v = NULL").unwrap();
        let literal: String = expression.bytes().map(|b| format!("{b:02x}")).collect();
        let literal = format!("_utf8mb4 x'{literal}'");
        let result = result_of(&mut other, &format!("SELECT ml_embed_table('good', 'f.t', {literal}, 'v')"));
        assert!(result.contains("\"embedded\":4"), "{set}: {expression}: {result}");
        assert_eq!(misunderstood(&mut other, expression), [""; 0], "{set}: {expression}");
        // It is stored with the configuration, which runs later in another kind of session.
        let mut third = running.server.connect("owner").unwrap();
        let initialize = format!("SELECT ml_initialize_embeddings('good', 'f.t', {literal}, 'v')");
        let result = result_of(&mut other, &initialize);
        assert!(result.contains("seconds"), "{set}: {expression}: {result}");
        third.query_drop("UPDATE f.t SET v = NULL").unwrap();
        let result = result_of(&mut third, "CALL ai.refresh_embeddings('f.t', 'v', NULL)");
        assert_eq!(misunderstood(&mut other, expression), [""; 0], "refreshed, {set}: {expression}: {result}");
        third.query_drop("CALL ai.drop_embedding_config('f.t', 'v')").unwrap();
    }
    // The stored procedure does not know its caller's mode; an expression valid in one mode only has that mode.
    let mut other = running.server.connect("owner").unwrap();
    other.query_drop("SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'").unwrap();
    for expression in [r#"CONCAT("title", ' ', "body")"#, r#""title" || ' ' || "body""#] {
        other.query_drop("UPDATE f.t SET v = NULL").unwrap();
        other.exec_drop("CALL mysql.ml_embed_table('good', 'f.t', ?, 'v', NULL)", (expression,)).unwrap();
        assert_eq!(misunderstood(&mut other, expression), [""; 0], "{expression}");
    }
    // The same for a condition, which would otherwise compare the column's name with a text and be true for no row.
    for (condition, rows) in [(r#""n" >= 2"#, 2), (r#""title" = 'title 1'"#, 1)] {
        other.query_drop("UPDATE f.t SET v = NULL").unwrap();
        let options = serde_json::json!({"where": condition}).to_string();
        let call = "CALL mysql.ml_embed_table('good', 'f.t', 'body', 'v', ?)";
        let embedded: Option<(u64, u64)> = other
            .exec_map(call, (options,), |row: mysql::Row| (row.get(0).unwrap(), row.get(1).unwrap()))
            .unwrap()
            .pop();
        assert_eq!(embedded, Some((rows, 0)), "{condition}");
    }
    let both = serde_json::json!({"where": r#""title" = body OR n = 2"#}).to_string();
    let both: String = both.bytes().map(|b| format!("{b:02x}")).collect();
    let call = format!("CALL mysql.ml_embed_table('good', 'f.t', 'body', 'v', _utf8mb4 x'{both}')");
    let refused = result_of(&mut other, &call);
    assert!(refused.contains("option where") && refused.contains("is a text in this sql_mode"), "{refused}");
    // GROUP_CONCAT truncates as in the caller's session, which is noted.
    other.query_drop("CREATE TABLE f.tags (tag VARCHAR(20) PRIMARY KEY)").unwrap();
    other.query_drop("INSERT INTO f.tags VALUES ('apple'), ('banana'), ('cherry')").unwrap();
    let tags = "CONCAT((SELECT GROUP_CONCAT(tag ORDER BY tag) FROM f.tags), body)";
    for (longest, cut) in [("12", true), ("100", false)] {
        other.query_drop(format!("SET sql_mode = DEFAULT, group_concat_max_len = {longest}")).unwrap();
        other.query_drop("UPDATE f.t SET v = NULL").unwrap();
        let result = result_of(&mut other, &format!("SELECT ml_embed_table('good', 'f.t', '{tags}', 'v')"));
        assert!(result.contains("\"embedded\":4") && result.contains("GROUP_CONCAT cut") == cut, "{longest}: {result}");
        assert_eq!(misunderstood(&mut other, tags), [""; 0], "{longest}");
    }
    // A state that cannot be transferred, or no text, is refused.
    other.query_drop("CREATE TEMPORARY TABLE f.auto (id INT PRIMARY KEY, body TEXT, v VECTOR(8))").unwrap();
    for (table, expression, options, message) in [
        ("f.t", "CONCAT(@x, body)", "{}", "user variable"),
        ("f.t", "body", r#"{"where": "n > @n"}"#, "user variable"),
        ("f.t", "'a text'", "{}", "names no column"),
        ("f.t", "42", "{}", "names no column"),
        ("f.t", r#"CONCAT(body, "title")"#, "{}", "write `title` for the column"),
        ("f.auto", "body", "{}", "temporary table"),
    ] {
        let call = "CALL mysql.ml_embed_table('good', ?, ?, 'v', ?)";
        let refused = other.exec::<Row, _, _>(call, (table, expression, options)).unwrap_err().to_string();
        assert!(refused.contains(message), "{expression}: {refused}");
    }
}
