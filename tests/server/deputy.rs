//! No account's stored text runs as another account, and no account stops another's work. Accounts with the usual
//! privileges attack automatic embeddings, jobs and registrations on a real server.

use crate::common::{self, server_error, start, wait_until, Running};
use mysql::prelude::Queryable;
use mysql::Conn;
use testkit::sqlscript;

/// A server with a model, an owner's schema `shop`, and an attacker. The attacker may call models and has a schema
/// with a function that records its current user.
fn prepare() -> (Running, Conn, Conn, Conn) {
    let running = start();
    let mut root = running.root();
    running.embedding_model(&mut root, "m", "/v1/embeddings");
    for statement in [
        "CREATE USER owner@localhost, mallory@localhost",
        "GRANT `ml_user` TO owner@localhost, mallory@localhost",
        "SET DEFAULT ROLE `ml_user` TO owner@localhost, mallory@localhost",
        "CREATE DATABASE shop",
        "CREATE DATABASE own",
        "GRANT ALL ON shop.* TO owner@localhost",
        "GRANT ALL ON own.* TO mallory@localhost",
        "CREATE TABLE shop.docs (id INT PRIMARY KEY AUTO_INCREMENT, body TEXT, v VECTOR(8))",
        "INSERT INTO shop.docs (body) VALUES ('one'), ('two')",
        "CREATE TABLE own.seen (who VARCHAR(288) NOT NULL)",
        "CREATE TABLE own.t (id INT PRIMARY KEY AUTO_INCREMENT, body TEXT, v VECTOR(8))",
        "INSERT INTO own.t (body) VALUES ('x')",
    ] {
        root.query_drop(statement).unwrap();
    }
    let mut mallory = running.server.connect("mallory").unwrap();
    mallory
        .query_drop(
            "CREATE FUNCTION own.f(x TEXT) RETURNS TEXT NOT DETERMINISTIC MODIFIES SQL DATA SQL SECURITY INVOKER \
             BEGIN INSERT INTO own.seen VALUES (CURRENT_USER()); RETURN x; END",
        )
        .unwrap();
    let owner = running.server.connect("owner").unwrap();
    (running, root, owner, mallory)
}

/// Runs a statement to its end: a procedure's error may follow its first rows.
fn run(conn: &mut Conn, statement: &str) -> mysql::Result<Vec<mysql::Row>> {
    conn.query(statement)
}

/// The accounts as which the attacker's function ran.
fn seen(conn: &mut Conn) -> Vec<String> {
    conn.query("SELECT DISTINCT who FROM own.seen ORDER BY who").unwrap()
}

fn text(conn: &mut Conn, query: &str) -> Option<String> {
    conn.query_first::<Option<String>, _>(query).unwrap().flatten()
}

fn number(conn: &mut Conn, query: &str) -> u64 {
    conn.query_first(query).unwrap().unwrap()
}

/// The name of the column's trigger and event.
fn object(conn: &mut Conn) -> String {
    text(conn, "SELECT object_name FROM mysql.cloudsql_ml_embed_configs WHERE table_schema = 'shop'").unwrap()
}

fn owners_column(owner: &mut Conn) {
    run(owner, "CALL ai.initialize_embeddings('m', 'shop.docs', 'body', 'v', NULL, 'transactional')").unwrap();
}

/// `(status, note)` of the owner's column in the view.
fn progress(conn: &mut Conn) -> (String, Option<String>) {
    loop {
        let row: (String, Option<String>) = conn
            .query_first("SELECT status, note FROM ai.embedding_progress_view WHERE table_name = 'shop.docs'")
            .unwrap()
            .unwrap();
        // The event may be running.
        if row.0 != "running" {
            return row;
        }
    }
}

#[test]
fn a_stored_expression_runs_as_the_account_that_stored_it_whoever_refreshes() {
    let (running, mut root, _, mut mallory) = prepare();
    run(&mut mallory, "CALL ai.initialize_embeddings('m', 'own.t', 'own.f(body)', 'v', NULL, 'manual')").unwrap();
    assert_eq!(seen(&mut root), ["mallory@localhost"]);
    let vectors = "SELECT COUNT(v) FROM own.t";
    for call in [
        "CALL ai.refresh_embeddings(NULL, NULL, NULL)",
        "DO ml_refresh_embeddings(NULL)",
        "SELECT * FROM ai.embedding_progress_view",
        "DO ml_embedding_progress()",
        "DO ml_refresh_embeddings('own.t', 'v', NULL, 'event')",
    ] {
        root.query_drop("UPDATE own.t SET v = NULL").unwrap();
        run(&mut root, call).unwrap();
        assert_eq!(seen(&mut root), ["mallory@localhost"], "{call}");
        assert_eq!(number(&mut root, vectors), 0, "{call} is not about others' configurations");
    }
    // A refresh by name runs as the account that configured it.
    run(&mut root, "CALL ai.refresh_embeddings('own.t', NULL, NULL)").unwrap();
    assert_eq!(number(&mut root, vectors), 1);
    assert_eq!(seen(&mut root), ["mallory@localhost"]);
    root.query_drop("DROP FUNCTION own.f").unwrap();
    run(&mut root, "CALL ai.drop_embedding_config('own.t', NULL)").unwrap();
    assert_eq!(seen(&mut root), ["mallory@localhost"]);
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_configs"), 0);
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn a_view_in_the_place_of_a_configured_table_is_not_opened() {
    let (_running, mut root, _, mut mallory) = prepare();
    for column in ["body", "own.f(body)"] {
        mallory
            .exec_drop("CALL ai.initialize_embeddings('m', 'own.t', ?, 'v', NULL, 'transactional')", (column,))
            .unwrap();
        mallory.query_drop("RENAME TABLE own.t TO own.kept").unwrap();
        // The server fills a derived table of one row during optimization, whatever the LIMIT.
        mallory
            .query_drop(
                "CREATE ALGORITHM = TEMPTABLE SQL SECURITY INVOKER VIEW own.t AS \
                 SELECT 1 AS id, own.f('x') AS body, CAST(own.f(NULL) AS BINARY) AS v",
            )
            .unwrap();
        mallory.query_drop("TRUNCATE TABLE own.seen").unwrap();
        for call in [
            "SELECT * FROM ai.embedding_progress_view",
            "DO ml_embedding_progress()",
            "CALL ai.refresh_embeddings(NULL, NULL, NULL)",
            "CALL ai.refresh_embeddings('own.t', NULL, NULL)",
            "DO ml_refresh_embeddings('own.t', 'v', NULL, 'event')",
            "CALL ai.drop_embedding_config(NULL, NULL)",
            "CALL ai.drop_embedding_config('own.t', 'v')",
        ] {
            let _ = run(&mut root, call);
            let others: Vec<String> = seen(&mut root).into_iter().filter(|who| who != "mallory@localhost").collect();
            assert_eq!(others, Vec::<String>::new(), "{call}");
        }
        mallory.query_drop("DROP VIEW own.t").unwrap();
        mallory.query_drop("RENAME TABLE own.kept TO own.t").unwrap();
        let _ = mallory.query_drop("CALL ai.drop_embedding_config(NULL, NULL)");
    }
}

#[test]
fn only_its_account_or_who_may_alter_the_table_drops_replaces_and_refreshes() {
    let (_running, mut root, mut owner, mut mallory) = prepare();
    run(&mut owner, "CALL ai.initialize_embeddings('m', 'shop.docs', 'body', 'v', NULL, NULL)").unwrap();
    root.query_drop("GRANT SELECT, UPDATE (v) ON shop.docs TO mallory@localhost").unwrap();
    for call in [
        "CALL ai.drop_embedding_config('shop.docs', 'v')",
        "CALL ai.drop_embedding_config('shop.docs', NULL)",
        "CALL ai.refresh_embeddings('shop.docs', NULL, NULL)",
    ] {
        let (code, message) = server_error(run(&mut mallory, call));
        assert_eq!((code, message.contains("ALTER command denied")), (1142, true), "{call}: {message}");
    }
    let (_, message) = server_error(run(
        &mut mallory,
        "CALL ai.initialize_embeddings('m', 'shop.docs', 'own.f(body)', 'v', NULL, NULL)",
    ));
    assert!(message.contains("initialized already"), "{message}");
    run(&mut mallory, "CALL ai.drop_embedding_config(NULL, NULL)").unwrap();
    let kept = "SELECT CONCAT(definer, ' ', content_column) FROM mysql.cloudsql_ml_embed_configs";
    assert_eq!(text(&mut root, kept).as_deref(), Some("owner@localhost body"));

    // ALTER on the table allows all of it; the stored text still runs as the owner.
    root.query_drop("GRANT ALTER ON shop.docs TO mallory@localhost").unwrap();
    root.query_drop("REVOKE SELECT, UPDATE (v) ON shop.docs FROM mallory@localhost").unwrap();
    root.query_drop("UPDATE shop.docs SET v = NULL").unwrap();
    run(&mut mallory, "CALL ai.refresh_embeddings('shop.docs', NULL, NULL)").unwrap();
    assert_eq!(number(&mut root, "SELECT COUNT(v) FROM shop.docs"), 2);
    run(&mut mallory, "CALL ai.drop_embedding_config('shop.docs', 'v')").unwrap();
    assert_eq!(text(&mut root, kept), None);

    // A privilege probe changes nothing.
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'shop'"), 3);
}

#[test]
fn a_planted_event_neither_gets_rights_nor_counts_as_ours() {
    let (running, mut root, mut owner, _) = prepare();
    root.query_drop("CREATE USER planter@localhost").unwrap();
    root.query_drop("GRANT EVENT ON shop.* TO planter@localhost").unwrap();
    let mut planter = running.server.connect("planter").unwrap();
    let evil = "INSERT INTO own.seen VALUES (CURRENT_USER())";
    // The name cannot be predicted.
    let first = {
        owners_column(&mut owner);
        let name = object(&mut root);
        run(&mut owner, "CALL ai.drop_embedding_config('shop.docs', 'v')").unwrap();
        name
    };
    owners_column(&mut owner);
    let name = object(&mut root);
    assert_ne!(first, name);
    assert_eq!(progress(&mut owner).1, None);
    for how in ["DISABLE ON REPLICA", "ENABLE", "DISABLE"] {
        for body in [evil, "DO 0"] {
            planter.query_drop(format!("DROP EVENT shop.`{name}`")).unwrap();
            planter
                .query_drop(format!("CREATE EVENT shop.`{name}` ON SCHEDULE EVERY 1 SECOND {how} DO {body}"))
                .unwrap();
            let (status, note) = progress(&mut root);
            assert!(status == "stopped" && note.as_deref().unwrap().contains("planter@localhost"), "{status} {note:?}");
            let note = text(&mut root, "SELECT ml_refresh_embeddings('shop.docs', 'v', NULL)").unwrap();
            assert!(note.contains("planter@localhost") && note.contains("replaced"), "{note}");
            let event: (String, String, String) = root
                .query_first("SELECT DEFINER, STATUS, EVENT_DEFINITION FROM information_schema.EVENTS")
                .unwrap()
                .unwrap();
            assert_eq!((event.0.as_str(), event.1.as_str()), ("owner@localhost", "ENABLED"), "{how} {body}");
            assert!(event.2.contains("ml_refresh_embeddings"), "{}", event.2);
            assert_eq!(progress(&mut owner), ("finished".to_owned(), None));
        }
    }
    // The library's event, altered by another account, which thereby becomes its definer.
    planter.query_drop(format!("ALTER EVENT shop.`{name}` ON SCHEDULE EVERY 1 SECOND")).unwrap();
    // The owner's event may still be running, and would find the new row.
    wait_until("no event runs", || {
        number(&mut root, "SELECT COUNT(*) FROM performance_schema.threads WHERE NAME = 'thread/sql/event_worker'") == 0
    });
    owner.query_drop("INSERT INTO shop.docs (body) VALUES ('three')").unwrap();
    assert!(progress(&mut owner).1.unwrap().contains("planter@localhost"));
    let call = "SELECT ml_refresh_embeddings('shop.docs', 'v', NULL, 'event')";
    assert!(text(&mut root, call).unwrap().contains("nothing is done"));
    assert_eq!(number(&mut root, "SELECT COUNT(*) FROM shop.docs WHERE v IS NULL"), 1);
    run(&mut owner, "CALL ai.refresh_embeddings(NULL, NULL, NULL)").unwrap();
    assert_eq!(progress(&mut owner), ("finished".to_owned(), None));
    assert!(!seen(&mut root).iter().any(|who| who != "planter@localhost"), "{:?}", seen(&mut root));
}

#[test]
fn a_planted_trigger_is_replaced_and_reported() {
    let (running, mut root, mut owner, _) = prepare();
    owners_column(&mut owner);
    let name = object(&mut root);
    root.query_drop("CREATE USER planter@localhost").unwrap();
    root.query_drop("GRANT TRIGGER ON shop.docs TO planter@localhost").unwrap();
    let mut planter = running.server.connect("planter").unwrap();
    let body =
        text(&mut root, "SELECT ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop'");
    let body = body.unwrap();
    for planted in [
        format!("CREATE TRIGGER shop.`{name}` BEFORE UPDATE ON shop.docs FOR EACH ROW SET @x = 1"),
        format!("CREATE TRIGGER shop.`{name}` BEFORE UPDATE ON shop.docs FOR EACH ROW {body}"),
    ] {
        planter.query_drop(format!("DROP TRIGGER shop.`{name}`")).unwrap();
        assert!(progress(&mut owner).1.unwrap().contains("trigger is missing"));
        planter.query_drop(planted).unwrap();
        let (status, note) = progress(&mut owner);
        assert!(status == "stopped" && note.as_deref().unwrap().contains("planter@localhost"), "{status} {note:?}");
        run(&mut owner, "CALL ai.refresh_embeddings(NULL, NULL, NULL)").unwrap();
        assert_eq!(progress(&mut owner), ("finished".to_owned(), None));
        let trigger = text(&mut root, "SELECT CONCAT(DEFINER, ' ', ACTION_STATEMENT) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop'");
        assert_eq!(trigger.unwrap(), format!("owner@localhost {body}"));
    }
}

#[test]
fn the_events_of_another_server_are_made_anew_by_their_account() {
    let (_running, mut root, mut owner, mut mallory) = prepare();
    owners_column(&mut owner);
    mallory
        .query_drop("CALL ai.initialize_embeddings('m', 'own.t', 'own.f(body)', 'v', NULL, 'transactional')")
        .unwrap();
    for event in
        root.query::<(String, String), _>("SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS").unwrap()
    {
        // As an event that came by replication; the altering account becomes its definer.
        let definer = if event.0 == "shop" { &mut owner } else { &mut mallory };
        definer
            .query_drop(format!("ALTER EVENT {}.`{}` ON SCHEDULE EVERY 7 SECOND DISABLE ON REPLICA", event.0, event.1))
            .unwrap();
    }
    let (status, note) = progress(&mut root);
    assert!(
        status == "stopped" && note.as_deref().unwrap().contains("CALL ai.refresh_embeddings('shop.docs', 'v', NULL)"),
        "{status} {note:?}"
    );
    // The documented statement for administrators after a failover.
    root.query_drop("SELECT table_name, ml_refresh_embeddings(table_name, embedding_column) AS done FROM ai.embedding_progress_view").unwrap();
    let events: Vec<(String, String, String)> =
        root.query("SELECT DEFINER, STATUS, INTERVAL_VALUE FROM information_schema.EVENTS ORDER BY DEFINER").unwrap();
    let expected = |who: &str| (who.to_owned(), "ENABLED".to_owned(), "7".to_owned());
    assert_eq!(events, [expected("mallory@localhost"), expected("owner@localhost")]);
    assert_eq!(seen(&mut root), ["mallory@localhost"]);
}

#[test]
fn a_stored_function_of_the_schema_does_not_run_as_the_event_once_the_library_is_gone() {
    let (running, mut root, mut owner, _) = prepare();
    owners_column(&mut owner);
    let name = object(&mut root);
    owner.query_drop(format!("ALTER EVENT shop.`{name}` ON SCHEDULE EVERY 1 SECOND")).unwrap();
    root.query_drop("CREATE USER writer@localhost").unwrap();
    root.query_drop("GRANT CREATE ROUTINE ON shop.* TO writer@localhost").unwrap();
    let mut writer = running.server.connect("writer").unwrap();
    writer
        .query_drop(
            "CREATE FUNCTION shop.ml_refresh_embeddings(a TEXT, b TEXT, c TEXT, d TEXT) RETURNS INT NOT DETERMINISTIC \
             MODIFIES SQL DATA SQL SECURITY INVOKER BEGIN INSERT INTO own.seen VALUES (CURRENT_USER()); RETURN 1; END",
        )
        .unwrap();
    root.query_drop("GRANT INSERT ON own.seen TO owner@localhost").unwrap();
    sqlscript::run(&mut root, &common::script("uninstall.sql"), "uninstall.sql").unwrap();
    for _ in 0..2 {
        let last = |conn: &mut Conn| text(conn, "SELECT CAST(LAST_EXECUTED AS CHAR) FROM information_schema.EVENTS");
        let before = last(&mut root);
        wait_until("the event runs", || last(&mut root) != before);
    }
    assert_eq!(seen(&mut root), Vec::<String>::new());
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn jobs_without_the_right_to_write_leave_the_owners_notes_alone() {
    let (running, mut root, mut owner, mut mallory) = prepare();
    owner.query_drop("INSERT INTO shop.docs (body) VALUES ('')").unwrap();
    run(&mut owner, "CALL ai.initialize_embeddings('m', 'shop.docs', 'body', 'v', NULL, 'manual')").unwrap();
    let notes = "SELECT CONCAT_WS(' ', p.account, p.status, p.embedded, p.failed, p.updated_at, f.account, f.row_key, f.tries, f.failed_at) \
                 FROM mysql.cloudsql_ml_embed_progress p JOIN mysql.cloudsql_ml_embed_failures f USING (table_schema, table_name)";
    let before = text(&mut root, notes).unwrap();
    root.query_drop("GRANT SELECT ON shop.* TO mallory@localhost").unwrap();
    running.endpoint.clear();
    for job in [
        "CALL mysql.ml_embed_table('m', 'shop.docs', 'body', 'v', NULL)",
        "CALL mysql.ml_embed_table('m', 'shop.docs', 'LEFT(body, 0)', 'v', '{\"on_error\": \"record\"}')",
        "CALL mysql.ml_embed_table('m', 'shop.docs', 'body', 'v', '{\"on_error\": \"stop\"}')",
    ] {
        let (code, message) = server_error(run(&mut mallory, job));
        assert_eq!(code, 1142, "{message}");
    }
    assert_eq!(running.endpoint.count(), 0);
    assert_eq!(text(&mut root, notes).unwrap(), before);
    // With UPDATE, an account has records of its own.
    root.query_drop("GRANT UPDATE (v) ON shop.docs TO mallory@localhost").unwrap();
    run(&mut mallory, "CALL mysql.ml_embed_table('m', 'shop.docs', 'body', 'v', NULL)").unwrap();
    let accounts: Vec<String> =
        root.query("SELECT account FROM mysql.cloudsql_ml_embed_failures ORDER BY account").unwrap();
    assert_eq!(accounts, ["mallory@localhost", "owner@localhost"]);
    let own = format!("{notes} WHERE p.account = 'owner@localhost' AND f.account = p.account");
    assert_eq!(text(&mut root, &own).unwrap(), before);
}

#[test]
fn no_named_lock_holds_a_job_up() {
    let (_running, _root, mut owner, mut mallory) = prepare();
    // The lock of an earlier version.
    mallory.query_drop("SELECT GET_LOCK(CONCAT('mysql_ml:', LEFT(SHA2('shop.docs.v', 256), 48)), 0)").unwrap();
    run(&mut owner, "CALL mysql.ml_embed_table('m', 'shop.docs', 'body', 'v', NULL)").unwrap();
    assert_eq!(number(&mut owner, "SELECT COUNT(v) FROM shop.docs"), 2);
}

#[test]
fn question_marks_in_names_and_expressions_are_no_placeholders() {
    let (_running, mut root, _, _) = prepare();
    for statement in [
        "SET GLOBAL event_scheduler = OFF",
        "CREATE DATABASE `q?`",
        "CREATE TABLE `q?`.`t?` (`id?` INT, `k?` VARCHAR(10), `body?` TEXT, `v?` VECTOR(8), `h?` BINARY(32), PRIMARY KEY (`id?`, `k?`))",
        "INSERT INTO `q?`.`t?` (`id?`, `k?`, `body?`) VALUES (1, '?', 'what?'), (2, '??', '?')",
    ] {
        root.query_drop(statement).unwrap();
    }
    for content in ["body?", "CONCAT(`body?`, '?')", "`body?`"] {
        root.query_drop("UPDATE `q?`.`t?` SET `v?` = NULL").unwrap();
        root.exec_drop(
            "CALL mysql.ml_embed_table('m', '`q?`.`t?`', ?, 'v?', ?)",
            (content, r#"{"hash_column": "h?", "where": "`id?` > 0 OR '?'"}"#),
        )
        .unwrap();
        assert_eq!(number(&mut root, "SELECT COUNT(`v?`) FROM `q?`.`t?`"), 2, "{content}");
        root.query_drop("UPDATE `q?`.`t?` SET `v?` = NULL").unwrap();
        root.exec_drop("CALL ai.initialize_embeddings('m', '`q?`.`t?`', ?, 'v?', NULL, 'transactional')", (content,))
            .unwrap();
        root.query_drop("UPDATE `q?`.`t?` SET `body?` = CONCAT(`body?`, '?')").unwrap();
        assert_eq!(number(&mut root, "SELECT COUNT(`v?`) FROM `q?`.`t?`"), 0, "{content}");
        run(&mut root, "CALL ai.refresh_embeddings('`q?`.`t?`', NULL, NULL)").unwrap();
        let shown: (String, String, Option<String>) =
            root.query_first("SELECT table_name, status, note FROM ai.embedding_progress_view").unwrap().unwrap();
        // The comparison finds trigger and event unchanged.
        assert!(shown.2.is_some_and(|note| note.starts_with("the event scheduler is off")));
        assert_eq!((shown.0.as_str(), shown.1.as_str()), ("`q?`.`t?`", "stopped"));
        assert_eq!(number(&mut root, "SELECT COUNT(`v?`) FROM `q?`.`t?`"), 2, "{content}");
        run(&mut root, "CALL ai.drop_embedding_config('`q?`.`t?`', 'v?')").unwrap();
    }
}

#[test]
fn altering_a_model_does_not_run_anothers_function() {
    let (running, mut root, _, mut mallory) = prepare();
    root.query_drop("GRANT EXECUTE ON PROCEDURE mysql.ml_create_model_registration TO mallory@localhost").unwrap();
    mallory
        .query_drop(
            "CREATE FUNCTION own.header(model_id VARCHAR(100), input_text TEXT) RETURNS JSON NOT DETERMINISTIC MODIFIES SQL DATA \
             SQL SECURITY INVOKER BEGIN INSERT INTO own.seen VALUES (CURRENT_USER()); RETURN JSON_OBJECT('x-a', 'b'); END",
        )
        .unwrap();
    let url = running.endpoint.url("/v1/embeddings");
    mallory
        .exec_drop(
            "CALL mysql.ml_create_model_registration('theirs', ?, 'open_ai', 'text_embedding', 'test-8', NULL, NULL, 'own.header', NULL, NULL)",
            (&url,),
        )
        .unwrap();
    root.query_drop("DO mysql.ml_embedding('theirs', 'one')").unwrap();
    assert_eq!(seen(&mut root), ["mallory@localhost"]);
    let (_, message) = server_error(root.exec_drop(
        "CALL mysql.ml_alter_model_registration('theirs', ?, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        (&url,),
    ));
    assert!(message.contains("chosen by mallory@localhost"), "{message}");
    root.query_drop("DO mysql.ml_embedding('theirs', 'two')").unwrap();
    assert_eq!(seen(&mut root), ["mallory@localhost"]);
    // Changed options keep the functions.
    run(&mut root, "CALL mysql.ml_set_model_options('theirs', '{\"dimensions\": 8}')").unwrap();
    root.query_drop("DO mysql.ml_embedding('theirs', 'three')").unwrap();
    assert_eq!(seen(&mut root), ["mallory@localhost"]);
    // Without functions the model belongs to the altering account.
    root.exec_drop(
        "CALL mysql.ml_alter_model_registration('theirs', ?, NULL, NULL, NULL, NULL, NULL, '', NULL, NULL)",
        (&url,),
    )
    .unwrap();
    let definer = text(&mut root, "SELECT definer FROM mysql.cloudsql_ml_models WHERE model_id = 'theirs'");
    assert_eq!(definer.as_deref(), Some("root@localhost"));
}

#[test]
fn configurations_of_a_dropped_account_run_as_nobody_and_can_be_dropped() {
    let (running, mut root, mut owner, mut mallory) = prepare();
    owners_column(&mut owner);
    run(&mut mallory, "CALL ai.initialize_embeddings('m', 'own.t', 'own.f(body)', 'v', NULL, 'manual')").unwrap();
    root.query_drop("TRUNCATE TABLE own.seen").unwrap();
    root.query_drop("DROP USER mallory@localhost").unwrap();
    let (_, message) = server_error(run(&mut root, "CALL ai.refresh_embeddings('own.t', 'v', NULL)"));
    assert!(message.contains("mallory@localhost does not exist"), "{message}");
    let note = text(&mut root, "SELECT note FROM ai.embedding_progress_view WHERE table_name = 'own.t'").unwrap();
    assert!(note.contains("mallory@localhost does not exist"), "{note}");
    assert_eq!(seen(&mut root), Vec::<String>::new());
    // Removing the registrations removes the objects of all accounts.
    let all = format!("SET @mysql_ml_drop_registrations = 1;\n{}", common::script("uninstall.sql"));
    sqlscript::run(&mut root, &all, "uninstall.sql").unwrap();
    let left = "SELECT (SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN ('shop', 'own')) + \
                (SELECT COUNT(*) FROM information_schema.EVENTS) + \
                (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_NAME LIKE 'cloudsql\\_ml\\_%')";
    assert_eq!(number(&mut root, left), 0);
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn the_definer_needs_the_right_to_call_models_too() {
    let (_running, mut root, mut owner, _) = prepare();
    run(&mut owner, "CALL ai.initialize_embeddings('m', 'shop.docs', 'body', 'v', NULL, 'manual')").unwrap();
    root.query_drop("UPDATE shop.docs SET v = NULL").unwrap();
    root.query_drop("REVOKE `ml_user` FROM owner@localhost").unwrap();
    let (code, message) = server_error(run(&mut root, "CALL ai.refresh_embeddings('shop.docs', 'v', NULL)"));
    assert_eq!((code, message.contains("owner")), (1370, true), "{message}");
    assert_eq!(number(&mut root, "SELECT COUNT(v) FROM shop.docs"), 0);
    // The caller needs it too, for any account's configuration.
    let (code, _) = server_error(run(&mut owner, "DO ml_refresh_embeddings(NULL)"));
    assert_eq!(code, 1370);
}

#[test]
fn tables_of_an_earlier_version_are_brought_up_to_date() {
    let (running, mut root, mut owner, _) = prepare();
    owners_column(&mut owner);
    for statement in [
        "ALTER TABLE mysql.cloudsql_ml_embed_progress DROP PRIMARY KEY, DROP COLUMN account, ADD PRIMARY KEY (table_schema, table_name, embedding_column)",
        "ALTER TABLE mysql.cloudsql_ml_embed_failures DROP PRIMARY KEY, DROP COLUMN account, ADD PRIMARY KEY (table_schema, table_name, embedding_column, row_key_hash)",
        "ALTER TABLE mysql.cloudsql_ml_embed_configs DROP COLUMN object_name",
    ] {
        root.query_drop(statement).unwrap();
    }
    running.install();
    running.install();
    owner.query_drop("INSERT INTO shop.docs (body) VALUES ('three')").unwrap();
    run(&mut owner, "CALL ai.refresh_embeddings(NULL, NULL, NULL)").unwrap();
    assert_eq!(progress(&mut owner), ("finished".to_owned(), None));
    // Objects with an older name are found by their body.
    let counts: (u64, u64, u64) = root
        .query_first(
            "SELECT (SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop'), \
             (SELECT COUNT(*) FROM information_schema.EVENTS), (SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_progress)",
        )
        .unwrap()
        .unwrap();
    assert_eq!(counts, (1, 1, 1));
}

#[test]
fn errors_that_may_quote_rows_are_not_displayed_to_everybody() {
    let (_running, mut root, mut owner, mut mallory) = prepare();
    run(&mut owner, "CALL ai.initialize_embeddings('m', 'shop.docs', 'body', 'v', NULL, 'manual')").unwrap();
    root.query_drop("UPDATE mysql.cloudsql_ml_embed_configs SET last_error = 'a row says: secret'").unwrap();
    root.query_drop("GRANT SELECT (v) ON shop.docs TO mallory@localhost").unwrap();
    let shown = "SELECT CONCAT(table_name, ' ', IFNULL(last_error, 'none')) FROM ai.embedding_progress_view";
    assert_eq!(text(&mut mallory, shown).as_deref(), Some("shop.docs none"));
    assert_eq!(text(&mut owner, shown).as_deref(), Some("shop.docs a row says: secret"));
    assert_eq!(text(&mut root, shown).as_deref(), Some("shop.docs a row says: secret"));
}
