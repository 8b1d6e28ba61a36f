//! No account's work stops another's; a slow endpoint, function or job delays itself only.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::{server_error, start, start_bare, wait_until, Running};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};
use testkit::xprotocol::XSession;

/// Time for calls of some milliseconds on a busy machine. Waiting for a place takes 30 s and more.
const PROMPT: Duration = Duration::from_secs(5);

fn id(conn: &mut Conn) -> u64 {
    conn.query_first("SELECT CONNECTION_ID()").unwrap().unwrap()
}

fn promptly<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    assert!(began.elapsed() < PROMPT, "{what} took {:?}", began.elapsed());
    done
}

/// Runs a statement to its end: an error may follow the first row or result.
fn run(conn: &mut Conn, statement: &str) -> mysql::Result<()> {
    conn.query::<Row, _>(statement).map(drop)
}

/// An account with the privileges to call models, and further ones.
fn account(running: &Running, name: &str) -> Conn {
    let mut root = running.root();
    root.query_drop(format!("CREATE USER {name}@localhost")).unwrap();
    root.query_drop(format!("GRANT ml_admin TO {name}@localhost")).unwrap();
    root.query_drop(format!("SET DEFAULT ROLE ALL TO {name}@localhost")).unwrap();
    running.server.connect(name).unwrap()
}

/// Calls that must work while something is slow.
fn everything_answers(running: &Running, conn: &mut Conn, round: &str) {
    promptly("ml_status()", || conn.query_drop("SELECT mysql.ml_status()").unwrap());
    promptly("a call of another model", || {
        conn.query_drop(format!("DO mysql.ml_embedding('good', 'text {round}'), ml_embedding('good', 'more {round}')"))
            .unwrap();
    });
    promptly("a setting", || conn.query_drop("CALL mysql.ml_set_setting('max_retries', '2')").unwrap());
    promptly("a registration", || running.embedding_model(conn, &format!("new {round}"), "/v1/embeddings"));
    promptly("a call of the new model", || {
        conn.query_drop(format!("DO mysql.ml_embedding('new {round}', 'text')")).unwrap();
    });
    promptly("dropping it", || {
        conn.query_drop(format!("CALL mysql.ml_drop_model_registration('new {round}')")).unwrap();
    });
    promptly("the configurations", || {
        conn.query_drop("SELECT * FROM ai.embedding_progress_view").unwrap();
    });
}

/// Runs statements on connections of their own; returns the connections' ids.
fn at_once(
    running: &Running,
    user: &str,
    n: usize,
    statement: impl Fn(usize) -> String,
) -> (Vec<u64>, Vec<JoinHandle<(u16, String)>>) {
    let begin = |i| {
        let mut conn = running.server.connect(user).unwrap();
        let (id, statement) = (id(&mut conn), statement(i));
        (id, std::thread::spawn(move || server_error(run(&mut conn, &statement))))
    };
    (0..n).map(begin).unzip()
}

fn in_state(conn: &mut Conn, state: &str) -> Vec<u64> {
    let rows: Vec<Row> = conn.query("SHOW PROCESSLIST").unwrap();
    let has = |row: &Row| row.get::<Option<String>, _>(6).flatten().is_some_and(|s| s.contains(state));
    rows.iter().filter(|row| has(row)).map(|row| row.get(0).unwrap()).collect()
}

#[test]
fn jobs_on_an_endpoint_that_hangs_stop_nothing_else() {
    const JOBS: usize = 40;
    const KEPT: usize = 20;
    // The library's own sessions and those of events count too.
    let running = start_bare(&["--max-connections=400"], &[]);
    running.install();
    let mut root = running.root();
    let mut other = account(&running, "other");
    running.embedding_model(&mut root, "hangs", "/hang");
    running.embedding_model(&mut root, "good", "/v1/embeddings");
    root.query_drop("CALL mysql.ml_set_model_options('hangs', '{\"timeout_ms\": 600000}')").unwrap();
    root.query_drop("CREATE DATABASE e").unwrap();
    let table = |conn: &mut Conn, i: usize| {
        conn.query_drop(format!("CREATE TABLE e.t{i} (id INT PRIMARY KEY, body TEXT, v VECTOR(8))")).unwrap();
    };
    for i in JOBS..JOBS + KEPT {
        table(&mut root, i);
        let arguments = format!("'hangs', 'e.t{i}', 'body', 'v', NULL, 'transactional'");
        root.query_drop(format!("CALL ai.initialize_embeddings({arguments})")).unwrap();
    }
    let events: Vec<String> =
        root.query("SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'e'").unwrap();
    assert_eq!(events.len(), KEPT);
    for event in events {
        root.query_drop(format!("ALTER EVENT e.`{event}` ON SCHEDULE EVERY 1 SECOND")).unwrap();
    }
    for i in 0..JOBS {
        table(&mut root, i);
        root.query_drop(format!("INSERT INTO e.t{i} (id, body) VALUES (1, 'text {i}')")).unwrap();
    }
    let (ids, jobs) =
        at_once(&running, "root", JOBS, |i| format!("CALL mysql.ml_embed_table('hangs', 'e.t{i}', 'body', 'v', NULL)"));
    // One model has a quarter of the 128 jobs for an account: the others wait for their turn, and report it.
    wait_until("32 jobs send", || running.endpoint.count() >= 32);
    wait_until("the others wait", || in_state(&mut root, "waiting for other jobs to end").len() == JOBS - 32);
    everything_answers(&running, &mut other, "of another account");
    everything_answers(&running, &mut root, "of the same account");
    // The events of automatically embedded tables come on top; they do not wait but run again later.
    for i in JOBS..JOBS + KEPT {
        root.query_drop(format!("INSERT INTO e.t{i} (id, body) VALUES (1, 'text {i}')")).unwrap();
    }
    wait_until("an event reports that it waits", || {
        root.query_first::<String, _>(
            "SELECT last_error FROM mysql.cloudsql_ml_embed_configs WHERE last_error LIKE '%too many jobs%' LIMIT 1",
        )
        .unwrap()
        .is_some()
    });
    everything_answers(&running, &mut other, "beside events");
    // Another model of the same account has its own jobs.
    root.query_drop("CREATE TABLE e.small (id INT PRIMARY KEY, body TEXT, v VECTOR(8))").unwrap();
    root.query_drop("INSERT INTO e.small (id, body) VALUES (1, 'a'), (2, 'b')").unwrap();
    promptly("a job with another model", || {
        root.query_drop("CALL mysql.ml_embed_table('good', 'e.small', 'body', 'v', NULL)").unwrap();
    });
    for waiting in in_state(&mut root, "waiting for other jobs to end") {
        root.query_drop(format!("KILL QUERY {waiting}")).unwrap();
    }
    for id in ids {
        let _ = root.query_drop(format!("KILL QUERY {id}"));
    }
    for job in jobs {
        let (code, message) = promptly("a job that is killed", || job.join().unwrap());
        assert_eq!(code, 1317, "{message}");
    }
    root.query_drop("DROP DATABASE e").unwrap();
}

#[test]
fn forty_sessions_on_a_provider_that_hangs_leave_threads_to_other_models() {
    let running = start();
    let mut root = running.root();
    let mut other = account(&running, "other");
    running.embedding_model(&mut root, "hangs", "/hang");
    running.embedding_model(&mut root, "good", "/v1/embeddings");
    root.query_drop("CALL mysql.ml_set_model_options('hangs', '{\"batch_size\": 1, \"concurrency\": 8}')").unwrap();
    let (ids, calls) = at_once(&running, "root", 40, |i| {
        let texts: Vec<String> = (0..8).map(|n| format!("\"{i} {n}\"")).collect();
        format!("DO mysql.ml_embedding_batch('hangs', '[{}]')", texts.join(","))
    });
    wait_until("all threads of one model are in use", || running.endpoint.count() >= 256);
    everything_answers(&running, &mut root, "of the same account");
    everything_answers(&running, &mut other, "of another account");
    for id in ids {
        root.query_drop(format!("KILL QUERY {id}")).unwrap();
    }
    for call in calls {
        assert_eq!(call.join().unwrap().0, 1317);
    }
    promptly("the model itself, once the others have gone", || {
        root.query_drop("CALL mysql.ml_set_model_options('hangs', '{\"timeout_ms\": 200}')").unwrap();
        let (_, message) = server_error(root.query_drop("DO mysql.ml_embedding('hangs', 'x')"));
        assert!(!message.contains("share"), "{message}");
    });
}

#[test]
fn functions_of_one_account_that_sleep_keep_no_other_accounts_functions_waiting() {
    let running = start_bare(&["--max-connections=400"], &[]);
    running.install();
    let mut root = running.root();
    root.query_drop("CREATE DATABASE f").unwrap();
    let mut register = |name: &str, sleep: u32| {
        let mut conn = account(&running, name);
        root.query_drop(format!("GRANT ALL ON f.* TO {name}@localhost")).unwrap();
        root.query_drop("SET GLOBAL log_bin_trust_function_creators = 1").unwrap();
        conn.query_drop(format!(
            "CREATE FUNCTION f.{name}_headers(m VARCHAR(100), t TEXT) RETURNS JSON NO SQL BEGIN DO SLEEP({sleep}); RETURN '{{}}'; END"
        ))
        .unwrap();
        conn.exec_drop(
            "CALL mysql.ml_create_model_registration(?, ?, 'open_ai', 'text_embedding', 'test-8', NULL, NULL, ?, NULL, NULL)",
            (name, running.endpoint.url("/v1/embeddings"), format!("f.{name}_headers")),
        )
        .unwrap();
        conn
    };
    register("hog", 60);
    let mut other = register("other", 0);
    let (ids, calls) = at_once(&running, "hog", 100, |i| format!("DO mysql.ml_embedding('hog', 'text {i}')"));
    wait_until("its functions sleep", || in_state(&mut root, "User sleep").len() == 64);
    promptly("a call with a function of another account", || {
        other.query_drop("DO mysql.ml_embedding('other', 'x')").unwrap();
    });
    for id in ids {
        root.query_drop(format!("KILL QUERY {id}")).unwrap();
    }
    for call in calls {
        assert_eq!(call.join().unwrap().0, 1317);
    }
    wait_until("what they ran is stopped", || in_state(&mut root, "User sleep").is_empty());
}

#[test]
fn a_revoke_is_in_force_with_the_next_bare_call() {
    let running = start();
    let mut root = running.root();
    root.query_drop("CALL mysql.ml_create_model_registration('d', NULL, 'dummy', 'text_embedding', NULL, NULL, NULL, NULL, NULL, NULL)").unwrap();
    // The registry cache does not expire during the test.
    root.query_drop("CALL mysql.ml_set_setting('registry_ttl_ms', '60000')").unwrap();
    root.query_drop("CREATE USER caller@localhost, by_role@localhost, idle_role@localhost").unwrap();
    root.query_drop("CREATE ROLE callers").unwrap();
    root.query_drop("GRANT SELECT ON mysql.ml_model_providers TO callers").unwrap();
    root.query_drop("GRANT callers TO by_role@localhost, idle_role@localhost").unwrap();
    root.query_drop("SET DEFAULT ROLE ALL TO by_role@localhost").unwrap();
    root.query_drop("CREATE TABLE mysql.ml_revoke_test (n INT)").unwrap();
    root.query_drop("INSERT INTO mysql.ml_revoke_test VALUES (1), (2)").unwrap();
    root.query_drop("GRANT SELECT ON mysql.ml_revoke_test TO caller@localhost, callers").unwrap();
    for (user, grantee) in [("caller", "caller@localhost"), ("by_role", "callers"), ("idle_role", "callers")] {
        root.query_drop(format!("GRANT EXECUTE ON FUNCTION mysql.ml_embedding TO {grantee}")).unwrap();
        let mut conn = running.server.connect(user).unwrap();
        conn.query_drop("PREPARE constant FROM 'DO ml_embedding(''d'', ''x'')'").unwrap();
        conn.query_drop("PREPARE variable FROM 'SELECT ml_embedding(?, ?)'").unwrap();
        conn.query_drop("SET @m = 'd', @t = 'x'").unwrap();
        let statements = ["DO ml_embedding('d', 'x')", "EXECUTE constant", "EXECUTE variable USING @m, @t"];
        for round in 0..3 {
            for statement in statements {
                run(&mut conn, statement).unwrap_or_else(|e| panic!("{user}, round {round}, {statement}: {e}"));
            }
            root.query_drop(format!("REVOKE EXECUTE ON FUNCTION mysql.ml_embedding FROM {grantee}")).unwrap();
            for statement in statements {
                let result = run(&mut conn, statement);
                assert!(result.is_err(), "{user}, round {round}, {statement} goes on");
                let (code, message) = server_error(result);
                assert_eq!(code, 1370, "{user}, round {round}, {statement}: {message}");
            }
            root.query_drop(format!("GRANT EXECUTE ON FUNCTION mysql.ml_embedding TO {grantee}")).unwrap();
        }
        root.query_drop(format!("REVOKE EXECUTE ON FUNCTION mysql.ml_embedding FROM {grantee}")).unwrap();
    }
    // EXECUTE on a procedure is not EXECUTE on a function, nor on another name.
    root.query_drop("GRANT EXECUTE ON PROCEDURE mysql.ml_embed_table TO caller@localhost").unwrap();
    root.query_drop("GRANT EXECUTE ON FUNCTION mysql.ml_generate TO caller@localhost").unwrap();
    let mut conn = running.server.connect("caller").unwrap();
    assert_eq!(server_error(conn.query_drop("DO ml_embedding('d', 'x')")).0, 1370);
    assert_eq!(server_error(conn.query_drop("DO ml_cache_clear(NULL)")).0, 1370);
    assert_eq!(server_error(conn.query_drop("DO ml_status()")).0, 1370);
    root.query_drop("GRANT EXECUTE ON PROCEDURE mysql.ml_cache_clear TO caller@localhost").unwrap();
    conn.query_drop("DO ml_cache_clear(NULL)").unwrap();
    // The check leaves no error, warning or row count.
    conn.query_drop("SELECT 1 UNION SELECT 2").unwrap();
    let _ = server_error(conn.query_drop("DO ml_status()"));
    let warnings: Vec<(String, u16, String)> = conn.query("SHOW WARNINGS").unwrap();
    assert_eq!(warnings.iter().map(|w| w.1).collect::<Vec<_>>(), [1370]);
}

#[test]
fn a_kill_over_the_x_protocol_has_the_servers_own_error() {
    let running = start();
    let mut root = running.root();
    running.embedding_model(&mut root, "hangs", "/hang");
    let mut killed = |kill: &str, statement: &'static str, state: &str| {
        let mut x = XSession::connect(&running.server.x_socket(), "root", "").unwrap();
        let x_id = String::from_utf8(x.execute("SELECT CONNECTION_ID()").unwrap().rows[0][0].clone().unwrap()).unwrap();
        let call = std::thread::spawn(move || x.execute(statement));
        wait_until("it waits", || in_state(&mut root, state).contains(&x_id.parse().unwrap()));
        root.query_drop(format!("{kill} {x_id}")).unwrap();
        // A killed connection may end before it reports the error.
        promptly(kill, || call.join().unwrap()).ok().map(|result| result.error.map(|e| e.0))
    };
    let call = ("SELECT ml_embedding('hangs', 'x')", "waiting for a model");
    let own = ("SELECT 1 FROM (SELECT SLEEP(60)) AS s", "User sleep");
    assert_eq!(killed("KILL QUERY", call.0, call.1), Some(Some(1317)));
    assert_eq!(killed("KILL", call.0, call.1), killed("KILL", own.0, own.1));
}
