//! The install scripts over the tables of the first version.

use crate::common::{script, start, start_bare, ENV_KEY};
use mysql::prelude::Queryable;
use mysql::Conn;
use testkit::sqlscript;

/// Tables, columns, keys, constraints, routines, views, accounts and grants of the library.
fn installed(conn: &mut Conn) -> Vec<String> {
    let tables = "(TABLE_SCHEMA = 'mysql' AND TABLE_NAME LIKE 'cloudsql_ml%' OR TABLE_SCHEMA IN ('ai', 'mysql_ml'))";
    let queries = [
        format!("SELECT CONCAT_WS(' ', TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION, COLUMN_NAME, COLUMN_TYPE, COLLATION_NAME, IS_NULLABLE) FROM information_schema.COLUMNS WHERE {tables}"),
        format!("SELECT CONCAT_WS(' ', TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX, COLUMN_NAME, NON_UNIQUE) FROM information_schema.STATISTICS WHERE {tables}"),
        "SELECT CONCAT_WS(' ', CONSTRAINT_SCHEMA, CONSTRAINT_NAME, CHECK_CLAUSE) FROM information_schema.CHECK_CONSTRAINTS WHERE CONSTRAINT_SCHEMA IN ('mysql', 'ai', 'mysql_ml')".to_owned(),
        "SELECT CONCAT_WS(' ', ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE, SECURITY_TYPE, ROUTINE_DEFINITION) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN ('mysql', 'ai', 'mysql_ml')".to_owned(),
        "SELECT CONCAT_WS(' ', TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION) FROM information_schema.VIEWS WHERE TABLE_SCHEMA IN ('mysql', 'ai', 'mysql_ml')".to_owned(),
        "SELECT CONCAT_WS(' ', name, dl, type) FROM mysql.func".to_owned(),
        "SELECT CONCAT_WS(' ', User, Host, Db, Routine_name, Routine_type, Proc_priv) FROM mysql.procs_priv".to_owned(),
        "SELECT CONCAT_WS(' ', User, Host, Db, Table_name, Table_priv) FROM mysql.tables_priv WHERE User LIKE 'm%'".to_owned(),
    ];
    let mut all: Vec<String> = queries.iter().flat_map(|query| conn.query::<String, _>(query).unwrap()).collect();
    all.sort();
    all
}

#[test]
fn tables_of_the_first_version_become_those_of_this_one_and_their_rows_work() {
    let running = start_bare(&[], &[]);
    let mut conn = running.root();
    let old =
        script("tests/upgrade/oldest.sql").replace("{{endpoint}}", running.endpoint.url("").trim_end_matches('/'));
    sqlscript::run(&mut conn, &old, "oldest.sql").unwrap();
    // Twice: an administrator may run the scripts as often as they like.
    running.install();
    running.install();

    let upgraded = installed(&mut conn);
    let fresh = installed(&mut start().root());
    assert!(fresh.len() > 200, "{}", fresh.len());
    let differing: Vec<&String> = upgraded
        .iter()
        .filter(|line| !fresh.contains(line))
        .chain(fresh.iter().filter(|line| !upgraded.contains(line)))
        .collect();
    assert!(differing.is_empty(), "{differing:#?}");

    let registered: String =
        conn.query_first("SELECT CAST(mysql.ml_list_registered_model('m') AS CHAR)").unwrap().unwrap();
    assert!(registered.contains("old_key") && registered.contains("\"batch_size\": 2"), "{registered}");
    let settings: String = conn.query_first("SELECT CAST(mysql.ml_list_settings() AS CHAR)").unwrap().unwrap();
    assert!(settings.contains("12345"), "{settings}");
    running.endpoint.set_recording(true);
    // The model is called with the key of the registered secret.
    let width: u32 = conn.query_first("SELECT VECTOR_DIM(mysql.ml_embedding('m', 'hello'))").unwrap().unwrap();
    assert_eq!(width, 8);
    let sent = running.endpoint.requests();
    assert!(sent.iter().any(|request| format!("{request:?}").contains(ENV_KEY)), "no request has the key");

    // Notes of jobs without an account are nobody's; the column that was kept embedded still is.
    for table in ["progress", "failures"] {
        let left: u64 =
            conn.query_first(format!("SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_{table}")).unwrap().unwrap();
        assert_eq!(left, 0, "{table}");
    }
    conn.query::<mysql::Row, _>("CALL ai.refresh_embeddings('u.t', 'v', NULL)").unwrap();
    let embedded: u64 =
        conn.query_first("SELECT COUNT(*) FROM u.t WHERE v = mysql.ml_embedding('m', body)").unwrap().unwrap();
    assert_eq!(embedded, 2);
    conn.query::<mysql::Row, _>("CALL ai.drop_embedding_config('u.t', 'v')").unwrap();
    let left: u64 = conn.query_first("SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_configs").unwrap().unwrap();
    assert_eq!(left, 0);
}
