//! Vector indexes on a real server: what a search returns while others write, after crashes, on a replica, and to whom.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mysql::prelude::Queryable;
use mysql::{Conn, Row};

use crate::common::{
    follow, replicate, replicating, server_error, start, start_bare, take_over, wait_until, Running, Stop,
};

const DIMENSIONS: usize = 16;

/// A vector near one of 30 points, as a hexadecimal literal.
fn vector(rng: &mut Rng) -> String {
    let point = rng.u64(..30);
    let mut center = Rng::with_seed(point);
    let floats = (0..DIMENSIONS).map(|_| center.f32() * 2.0 - 1.0).collect::<Vec<_>>();
    let bytes = floats.into_iter().flat_map(|x| (x + (rng.f32() - 0.5) * 0.5).to_le_bytes());
    format!("x'{}'", bytes.map(|b| format!("{b:02x}")).collect::<String>())
}

fn fill(conn: &mut Conn, table: &str, rows: usize, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    for part in (1..=rows).collect::<Vec<_>>().chunks(500) {
        let values: Vec<String> = part.iter().map(|id| format!("({id}, {}, {})", id % 7, vector(&mut rng))).collect();
        conn.query_drop(format!("INSERT INTO {table} (id, kind, v) VALUES {}", values.join(","))).unwrap();
    }
}

fn call(conn: &mut Conn, statement: &str) -> Vec<Row> {
    conn.query(statement).unwrap_or_else(|e| panic!("{statement}: {e}"))
}

/// `(id, distance)` of a search.
fn search(conn: &mut Conn, query: &str, k: usize, options: &str) -> mysql::Result<Vec<(i64, f64)>> {
    conn.query(format!("CALL ai.search('s.t', 'v', {query}, {k}, '{{\"columns\": [\"id\"]{options}}}')"))
}

/// The same by reading the table.
fn exact(conn: &mut Conn, query: &str, k: usize, filter: &str) -> Vec<(i64, f64)> {
    let statement = format!(
        "SELECT id, l2_squared_distance(v, {query}) AS d FROM s.t WHERE v IS NOT NULL AND {filter} ORDER BY d, id LIMIT {k}"
    );
    conn.query(&statement).unwrap_or_else(|e| panic!("{statement}: {e}"))
}

fn path(conn: &mut Conn) -> String {
    conn.query_first("SELECT ml_vector_search_status()").unwrap().unwrap()
}

/// `(rows, missing, dead, recall)` of a check.
fn check(conn: &mut Conn, queries: usize) -> (u64, u64, u64, f64) {
    let row: Row = conn
        .query_first(format!("CALL ai.check_vector_index('s.t', 'v', '{{\"queries\": {queries}}}')"))
        .unwrap()
        .unwrap();
    (row.get("rows").unwrap(), row.get("missing").unwrap(), row.get("dead").unwrap(), row.get("recall").unwrap_or(0.0))
}

fn prepare(running: &Running, rows: usize, partitions: &str) -> Conn {
    let mut root = running.root();
    root.query_drop("CREATE DATABASE s").unwrap();
    root.query_drop(format!(
        "CREATE TABLE s.t (id INT PRIMARY KEY, kind INT, v VECTOR({DIMENSIONS}), w VECTOR({DIMENSIONS}), KEY (kind)) {partitions}"
    ))
    .unwrap();
    fill(&mut root, "s.t", rows, 1);
    root
}

const CREATE: &str = "CALL ai.create_vector_index('s.t', 'v', '{\"distance_measure\": \"l2_squared\"}')";

/// One random change. The server may refuse some of them: keys that exist, locks of others.
fn change(rng: &mut Rng) -> String {
    let (id, other) = (rng.i32(1..4000), rng.i32(1..4000));
    match rng.u8(..10) {
        0..3 => format!("INSERT INTO s.t (id, kind, v) VALUES ({id}, {}, {})", id % 7, vector(rng)),
        3..5 => format!("UPDATE s.t SET v = {} WHERE id = {id}", vector(rng)),
        5 => format!("UPDATE s.t SET v = NULL WHERE id = {id}"),
        6 => format!("UPDATE s.t SET id = {} WHERE id = {id}", other + 4000),
        7 => format!("DELETE FROM s.t WHERE id BETWEEN {id} AND {}", id + 3),
        8 => format!("REPLACE INTO s.t (id, kind, v) VALUES ({id}, {}, {})", id % 7, vector(rng)),
        _ => format!(
            "INSERT INTO s.t (id, kind, v) SELECT id + 8000, kind, v FROM s.t WHERE id BETWEEN {id} AND {}",
            id + 2
        ),
    }
}

#[test]
fn searches_agree_with_the_table_in_every_snapshot_while_eight_sessions_write() {
    let running = start();
    let mut root = prepare(&running, 3000, "PARTITION BY HASH(id) PARTITIONS 3");
    call(&mut root, CREATE);
    let (searches, found, wanted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let by_index = AtomicU64::new(0);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = Stop(&ended);
        let refreshing = scope.spawn(|| {
            let mut conn = running.root();
            let mut refreshed = 0;
            while !ended.load(Ordering::SeqCst) {
                refreshed += 1;
                let statement = if refreshed % 10 == 0 { "rebuild" } else { "refresh" };
                match conn.query::<Row, _>(format!("CALL ai.{statement}_vector_index('s.t', 'v', NULL)")) {
                    // It waited for the TRUNCATE, which waits for the others.
                    Err(mysql::Error::MySqlError(e)) if e.code == 1205 => {}
                    result => drop(result.unwrap()),
                }
            }
            refreshed
        });
        let writers: Vec<_> = (0..8)
            .map(|seed| {
                let (searches, found, wanted, by_index) = (&searches, &found, &wanted, &by_index);
                let mut conn = running.root();
                scope.spawn(move || {
                    let mut rng = Rng::with_seed(100 + seed);
                    conn.query_drop("SET SESSION innodb_lock_wait_timeout = 5").unwrap();
                    for round in 0..16 {
                        if seed == 0 && round == 8 {
                            conn.query_drop("TRUNCATE TABLE s.t").unwrap();
                            fill_some(&mut conn, &mut rng);
                        }
                        conn.query_drop("START TRANSACTION").unwrap();
                        for _ in 0..rng.usize(..6) {
                            match conn.query_drop(change(&mut rng)) {
                                // The victim of a deadlock has no transaction any more.
                                Err(mysql::Error::MySqlError(e)) if e.code == 1213 => {
                                    conn.query_drop("START TRANSACTION").unwrap();
                                }
                                // Any other refused change leaves the transaction as it is.
                                _ => {}
                            }
                        }
                        let (query, k) = (vector(&mut rng), rng.usize(1..12));
                        let (options, filter) = match rng.u8(..3) {
                            0 => (", \"where\": \"kind < 2\"", "kind < 2"),
                            _ => ("", "TRUE"),
                        };
                        let near = match search(&mut conn, &query, k, options) {
                            // The table was truncated since the snapshot, or a deadlock.
                            Err(mysql::Error::MySqlError(e)) if matches!(e.code, 1412 | 1213 | 1205) => {
                                let _ = conn.query_drop("ROLLBACK");
                                continue;
                            }
                            near => near.unwrap(),
                        };
                        by_index.fetch_add(path(&mut conn).contains("\"path\":\"index\"").into(), Ordering::Relaxed);
                        let all: HashMap<i64, f64> = exact(&mut conn, &query, 100_000, filter).into_iter().collect();
                        let truth = exact(&mut conn, &query, k, filter);
                        assert_eq!(near.len(), truth.len(), "{query} {k} {filter}");
                        let mut last = f64::MIN;
                        for (id, distance) in &near {
                            assert_eq!(all.get(id), Some(distance), "row {id} of {query}");
                            assert!(*distance >= last);
                            last = *distance;
                        }
                        let farthest = truth.last().map_or(0.0, |(_, d)| *d);
                        found.fetch_add(near.iter().filter(|(_, d)| *d <= farthest).count() as u64, Ordering::Relaxed);
                        wanted.fetch_add(truth.len() as u64, Ordering::Relaxed);
                        searches.fetch_add(1, Ordering::Relaxed);
                        let end = if rng.u8(..3) == 0 { "ROLLBACK" } else { "COMMIT" };
                        let _ = conn.query_drop(end);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        drop(stop);
        assert!(refreshing.join().unwrap() > 3);
    });
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    assert!(count(&searches) > 80, "{}", count(&searches));
    assert!(count(&by_index) > count(&searches) / 2, "{} of {}", count(&by_index), count(&searches));
    let recall = count(&found) as f64 / count(&wanted) as f64;
    // Codes of 16 dimensions say little; the lists change all the time.
    assert!(recall > 0.85, "{recall}");
    call(&mut root, "CALL ai.refresh_vector_index('s.t', 'v', NULL)");
    let (_, missing, ..) = check(&mut root, 10);
    assert_eq!(missing, 0);
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

fn fill_some(conn: &mut Conn, rng: &mut Rng) {
    let values: Vec<String> = (0..300).map(|i| format!("({}, {}, {})", 20_000 + i, i % 7, vector(rng))).collect();
    let _ = conn.query_drop(format!("INSERT INTO s.t (id, kind, v) VALUES {}", values.join(",")));
}

#[test]
fn an_index_survives_kill_9_in_build_and_refresh() {
    let mut running = start_bare(&["--innodb-flush-log-at-trx-commit=1"], &[]);
    running.install();
    let mut root = prepare(&running, 4000, "");
    let before = |conn: &mut Conn, sql: &str, running: &mut Running, wait: Duration| {
        let id = conn.connection_id();
        let mut conn = running.root();
        assert_ne!(conn.connection_id(), id);
        let sql = sql.to_owned();
        let statement = thread::spawn(move || {
            let _ = conn.query_drop(sql);
        });
        thread::sleep(wait);
        running.server.kill9();
        statement.join().unwrap();
        running.server.restart().unwrap();
    };
    for wait in [5, 30, 80, 160] {
        before(&mut root, CREATE, &mut running, Duration::from_millis(wait));
        root = running.root();
        // Either it is not there or dropped, built again, or ready.
        let status: Option<String> = root.query_first("SELECT status FROM ai.vector_indexes").unwrap();
        let query = vector(&mut Rng::with_seed(wait));
        let near = search(&mut root, &query, 5, ", \"distance_measure\": \"l2_squared\", \"recall\": 1").unwrap();
        assert_eq!(near, exact(&mut root, &query, 5, "TRUE"), "{status:?}");
        match status.as_deref() {
            None => {}
            Some("building") => assert!(path(&mut root).contains("never built"), "{}", path(&mut root)),
            Some(other) => assert_eq!(other, "ready"),
        }
        if status.is_some() {
            call(&mut root, "CALL ai.rebuild_vector_index('s.t', 'v', NULL)");
            assert_eq!(check(&mut root, 3).1, 0);
            call(&mut root, "CALL ai.drop_vector_index('s.t', 'v', NULL)");
        }
    }
    call(&mut root, CREATE);
    for wait in [1, 10, 40] {
        let mut rng = Rng::with_seed(wait);
        for _ in 0..300 {
            let _ = root.query_drop(change(&mut rng));
        }
        before(&mut root, "CALL ai.refresh_vector_index('s.t', 'v', NULL)", &mut running, Duration::from_millis(wait));
        root = running.root();
        let (_, missing, ..) = check(&mut root, 5);
        assert_eq!(missing, 0, "after {wait} ms");
    }
    let versions: u64 =
        root.query_first("SELECT COUNT(DISTINCT version) FROM mysql_ml.vector_blocks").unwrap().unwrap();
    assert_eq!(versions, 1);
}

#[test]
fn a_killed_build_leaves_nothing() {
    let running = start();
    let mut root = prepare(&running, 8000, "");
    let mut builder = running.root();
    let id = builder.connection_id();
    let building = thread::spawn(move || server_error(builder.query::<Row, _>(CREATE)));
    wait_until("it builds", || {
        root.query_first::<Option<String>, _>(format!(
            "SELECT STATE FROM information_schema.PROCESSLIST WHERE ID = {id}"
        ))
        .unwrap()
        .flatten()
        .is_some_and(|state| state.starts_with("vector index"))
    });
    root.query_drop(format!("KILL QUERY {id}")).unwrap();
    assert_eq!(building.join().unwrap().0, 1317);
    for nothing in [
        "SELECT COUNT(*) FROM mysql_ml.vector_indexes",
        "SELECT COUNT(*) FROM mysql_ml.vector_lists",
        "SELECT COUNT(*) FROM mysql_ml.vector_blocks",
        "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 's'",
        "SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 's'",
        "SELECT COUNT(*) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'mysql_ml'",
    ] {
        let count: u64 = root.query_first(nothing).unwrap().unwrap();
        assert_eq!(count, 0, "{nothing}");
    }
    call(&mut root, CREATE);
}

#[test]
fn nothing_of_an_index_keeps_anybody_from_writing() {
    let running = start();
    let mut root = prepare(&running, 200, "");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    root.query_drop("CREATE USER writer@localhost").unwrap();
    root.query_drop("GRANT SELECT, INSERT, UPDATE, DELETE ON s.t TO writer@localhost").unwrap();
    call(&mut root, CREATE);
    let mut writer = running.server.connect("writer").unwrap();
    let mut rng = Rng::with_seed(3);
    let mut write = |id: u32| {
        writer.query_drop(format!("INSERT INTO s.t (id, kind, v) VALUES ({id}, 0, {})", vector(&mut rng))).unwrap();
        writer.query_drop(format!("UPDATE s.t SET v = {} WHERE id = {id}", vector(&mut rng))).unwrap();
    };
    write(1001);
    let view: String = root
        .query_first("SELECT TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'mysql_ml'")
        .unwrap()
        .unwrap();
    root.query_drop(format!("DROP VIEW mysql_ml.`{view}`")).unwrap();
    write(1002);
    // A search notices.
    thread::sleep(Duration::from_millis(1100));
    let query = vector(&mut Rng::with_seed(9));
    assert_eq!(search(&mut root, &query, 5, "").unwrap(), exact(&mut root, &query, 5, "TRUE"));
    assert!(path(&mut root).contains("may not record changes"), "{}", path(&mut root));
    assert_eq!(check(&mut root, 1).1, 1);
    call(&mut root, "CALL ai.rebuild_vector_index('s.t', 'v', NULL)");
    assert_eq!(search(&mut root, &query, 5, "").unwrap(), exact(&mut root, &query, 5, "TRUE"));
    assert!(path(&mut root).contains("\"path\":\"index\""), "{}", path(&mut root));
    write(1003);
    root.query_drop("DROP TABLE mysql_ml.vector_changes").unwrap();
    write(1004);
    let mut id = 1004;
    for script in ["uninstall.sql", "install.sql", "install-ai.sql"] {
        testkit::sqlscript::run(&mut root, &crate::common::script(script), script).unwrap();
        id += 1;
        write(id);
    }
    let (status, note): (String, String) =
        root.query_first("SELECT status, note FROM ai.vector_indexes").unwrap().unwrap();
    assert_eq!((status.as_str(), note.as_str()), ("stale", "the library was uninstalled"));
    assert_eq!(search(&mut root, &query, 5, "").unwrap(), exact(&mut root, &query, 5, "TRUE"));
    call(&mut root, "CALL ai.rebuild_vector_index('s.t', 'v', NULL)");
    assert_eq!(check(&mut root, 1).1, 0);
}

#[test]
fn a_search_gives_nobody_what_the_table_does_not() {
    let running = start();
    let mut root = prepare(&running, 500, "");
    for statement in [
        "CREATE USER owner@localhost, reader@localhost, other@localhost, half@localhost",
        "GRANT `ml_user` TO owner@localhost, reader@localhost, other@localhost, half@localhost",
        "SET DEFAULT ROLE ALL TO owner@localhost, reader@localhost, other@localhost, half@localhost",
        "GRANT ALL ON s.* TO owner@localhost",
        "GRANT SELECT ON s.t TO reader@localhost",
        "GRANT SELECT (id, kind) ON s.t TO half@localhost",
        "CREATE DATABASE o",
        "GRANT ALL ON o.* TO other@localhost",
    ] {
        root.query_drop(statement).unwrap();
    }
    let mut owner = running.server.connect("owner").unwrap();
    call(&mut owner, CREATE);
    let query = vector(&mut Rng::with_seed(2));
    let mut reader = running.server.connect("reader").unwrap();
    assert_eq!(search(&mut reader, &query, 3, "").unwrap(), exact(&mut root, &query, 3, "TRUE"));
    assert!(path(&mut reader).contains("\"path\":\"index\""), "{}", path(&mut reader));
    let id: u64 = root.query_first("SELECT index_id FROM mysql_ml.vector_indexes").unwrap().unwrap();
    let candidates = format!("SELECT ai.vector_candidates('s.t', 'v', {query}, 3, NULL)");
    assert!(reader.query_first::<String, _>(&candidates).unwrap().unwrap().contains("\"id\""));
    for account in ["other", "half"] {
        let mut conn = running.server.connect(account).unwrap();
        let _ = server_error(search(&mut conn, &query, 3, ""));
        let _ = server_error(conn.query::<Row, _>(&candidates));
        let direct = format!("SELECT mysql_ml.vector_candidates({id}, {query}, 1, 3, 10, 10)");
        let choose = format!("SELECT ml_vector_choose({id}, 1, 1, '', x'', {query}, 1)");
        assert!(server_error(conn.query::<Row, _>(&choose)).1.contains("check the rights"));
        let (code, message) = server_error(conn.query::<Row, _>(&direct));
        assert!(code == 3200 && message.contains("check the rights"), "{code} {message}");
        for refused in [
            "CALL ai.drop_vector_index('s.t', 'v', NULL)",
            "CALL ai.rebuild_vector_index('s.t', 'v', NULL)",
            "CALL ai.refresh_vector_index('s.t', 'v', NULL)",
            "CALL ai.check_vector_index('s.t', 'v', NULL)",
            CREATE,
            "SELECT * FROM mysql_ml.vector_changes",
            "SELECT * FROM mysql_ml.vector_blocks",
            "INSERT INTO mysql_ml.vector_changes (index_id, row_key) VALUES (1, '1')",
        ] {
            let _ = server_error(conn.query::<Row, _>(refused));
        }
        let seen: u64 = conn.query_first("SELECT COUNT(*) FROM ai.vector_indexes").unwrap().unwrap();
        assert_eq!(seen, 0, "{account}");
    }
    // Blocks are read only after lists.
    let scan = format!("SELECT ml_vector_scan(layout, {query}, 3, 3, 3, x'', x'') FROM mysql_ml.vector_indexes");
    let (_, message) = server_error(root.query::<Row, _>(&scan));
    assert!(message.contains("check the rights"), "{message}");
    // The permission to ask for candidates is for one call.
    let direct = format!("SELECT mysql_ml.vector_candidates({id}, {query}, 1, 3, 10, 10)");
    let (_, message) = server_error(reader.query::<Row, _>(&direct));
    assert!(message.contains("check the rights"), "{message}");
    // An account records changes of its own indexes only.
    let view: String = root
        .query_first("SELECT TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'mysql_ml'")
        .unwrap()
        .unwrap();
    owner.query_drop(format!("INSERT INTO mysql_ml.`{view}` (index_id, row_key) VALUES ({id}, '77')")).unwrap();
    let (code, _) = server_error(
        owner.query::<Row, _>(format!("INSERT INTO mysql_ml.`{view}` (index_id, row_key) VALUES ({}, '1')", id + 1)),
    );
    assert_eq!(code, 1369);
    // Nothing of its rights stays.
    call(&mut owner, "CALL ai.drop_vector_index('s.t', 'v', NULL)");
    let grants: Vec<String> = root.query("SHOW GRANTS FOR owner@localhost").unwrap();
    assert!(!grants.iter().any(|grant| grant.contains("mysql_ml")), "{grants:?}");
    call(&mut owner, CREATE);
    // A revoked right counts with the next search.
    root.query_drop("REVOKE SELECT ON s.t FROM reader@localhost").unwrap();
    let (code, _) = server_error(search(&mut reader, &query, 3, ""));
    assert!(matches!(code, 1142 | 1143 | 3200), "{code}");
}

#[test]
fn an_event_moves_changes_into_the_index() {
    let running = start();
    let mut root = prepare(&running, 500, "");
    call(&mut root, CREATE);
    let event: String =
        root.query_first("SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 's'").unwrap().unwrap();
    root.query_drop(format!("ALTER EVENT s.`{event}` ON SCHEDULE EVERY 1 SECOND")).unwrap();
    let mut rng = Rng::with_seed(4);
    for id in 1000..1050 {
        root.query_drop(format!("INSERT INTO s.t (id, kind, v) VALUES ({id}, 0, {})", vector(&mut rng))).unwrap();
    }
    wait_until("the changes are in the index", || {
        root.query_first::<u64, _>("SELECT changes FROM ai.vector_indexes").unwrap() == Some(0)
    });
    assert_eq!(check(&mut root, 5).1, 0);
    assert_eq!(running.errors_in_log(), Vec::<String>::new());
}

#[test]
fn a_replica_searches_with_the_replicated_index() {
    let options = |id| {
        let more = ["--event-scheduler=OFF", "--log-bin-trust-function-creators=ON"];
        replicating(id).into_iter().chain(more).collect::<Vec<_>>()
    };
    let source = start_bare(&options("--server-id=1"), &[]);
    let replica = start_bare(&options("--server-id=2"), &[]);
    source.install();
    let mut at_source = prepare(&source, 1000, "");
    call(&mut at_source, CREATE);
    replicate(&source, &replica);
    let mut at_replica = replica.root();
    let mut rng = Rng::with_seed(5);
    for id in 2000..2040 {
        at_source.query_drop(format!("INSERT INTO s.t (id, kind, v) VALUES ({id}, 0, {})", vector(&mut rng))).unwrap();
    }
    follow(&source, &replica);
    let query = vector(&mut rng);
    let compare = |at_replica: &mut Conn| {
        assert_eq!(search(at_replica, &query, 5, "").unwrap(), exact(at_replica, &query, 5, "TRUE"));
        assert!(path(at_replica).contains("\"path\":\"index\""), "{}", path(at_replica));
    };
    compare(&mut at_replica);
    // Statements of writers in place of rows: the replica's own triggers record the changes. A search locks nothing then.
    for (format, first) in [("STATEMENT", 2100), ("MIXED", 2200)] {
        at_source.query_drop(format!("SET SESSION binlog_format = {format}")).unwrap();
        for id in first..first + 20 {
            let row = format!("({id}, 0, {})", vector(&mut rng));
            at_source.query_drop(format!("INSERT INTO s.t (id, kind, v) VALUES {row}")).unwrap();
        }
        at_source.query_drop(format!("UPDATE s.t SET id = id + 50 WHERE id BETWEEN {first} AND {first} + 9")).unwrap();
        for within in [false, true] {
            if within {
                at_source.query_drop("START TRANSACTION").unwrap();
            }
            assert_eq!(search(&mut at_source, &query, 5, "").unwrap(), exact(&mut at_source, &query, 5, "TRUE"));
            assert!(path(&mut at_source).contains("binlog_format ROW"), "{format} {within}: {}", path(&mut at_source));
            at_source.query_drop("COMMIT").unwrap();
        }
    }
    at_source.query_drop("SET SESSION binlog_format = ROW").unwrap();
    follow(&source, &replica);
    let keys = |conn: &mut Conn| -> Vec<String> {
        conn.query("SELECT HEX(row_key) FROM mysql_ml.vector_changes ORDER BY 1").unwrap()
    };
    assert_eq!(keys(&mut at_source), keys(&mut at_replica));
    compare(&mut at_replica);
    let (_, message) = server_error(at_replica.query::<Row, _>("CALL ai.refresh_vector_index('s.t', 'v', NULL)"));
    assert!(message.contains("read-only"), "{message}");
    call(&mut at_source, "CALL ai.refresh_vector_index('s.t', 'v', NULL)");
    follow(&source, &replica);
    compare(&mut at_replica);
    take_over(&replica);
    for id in 3000..3040 {
        at_replica.query_drop(format!("INSERT INTO s.t (id, kind, v) VALUES ({id}, 0, {})", vector(&mut rng))).unwrap();
    }
    compare(&mut at_replica);
    call(&mut at_replica, "CALL ai.refresh_vector_index('s.t', 'v', NULL)");
    assert_eq!(check(&mut at_replica, 5).1, 0);
}

#[test]
fn blocks_of_a_list_are_merged_without_the_codes_of_deleted_rows() {
    let running = start();
    let mut root = prepare(&running, 1000, "");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    call(&mut root, "CALL ai.create_vector_index('s.t', 'v', '{\"distance_measure\": \"l2_squared\", \"lists\": 4}')");
    let mut rng = Rng::with_seed(6);
    let started = Instant::now();
    let mut merged = 0;
    while merged == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "never merged");
        for id in 1..=40 {
            root.query_drop(format!("UPDATE s.t SET v = {} WHERE id = {id}", vector(&mut rng))).unwrap();
        }
        let row: Row = root.query_first("CALL ai.refresh_vector_index('s.t', 'v', NULL)").unwrap().unwrap();
        merged = row.get::<u64, _>("merged_lists").unwrap();
    }
    root.query_drop("DELETE FROM s.t WHERE id > 500").unwrap();
    let (rows, missing, ..) = check(&mut root, 10);
    assert_eq!((rows, missing), (500, 0));
    let query = vector(&mut rng);
    assert_eq!(search(&mut root, &query, 5, "").unwrap(), exact(&mut root, &query, 5, "TRUE"));
    call(&mut root, "CALL ai.rebuild_vector_index('s.t', 'v', NULL)");
    let (rows, missing, dead, recall) = check(&mut root, 10);
    assert_eq!((rows, missing, dead), (500, 0, 0));
    assert!(recall > 0.9, "{recall}");
}

#[test]
fn a_transaction_that_reads_with_locks_keeps_no_other_account_from_writing() {
    let running = start();
    let mut root = prepare(&running, 300, "");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    root.query_drop(format!("CREATE TABLE s.other (id INT PRIMARY KEY, v VECTOR({DIMENSIONS}))")).unwrap();
    call(&mut root, CREATE);
    call(&mut root, "CALL ai.create_vector_index('s.other', 'v', NULL)");
    let mut rng = Rng::with_seed(8);
    let query = vector(&mut rng);
    for isolation in ["SERIALIZABLE", "READ-UNCOMMITTED"] {
        let mut reader = running.root();
        reader.query_drop(format!("SET SESSION transaction_isolation = '{isolation}'")).unwrap();
        reader.query_drop("START TRANSACTION").unwrap();
        assert_eq!(search(&mut reader, &query, 3, "").unwrap(), exact(&mut root, &query, 3, "TRUE"));
        assert!(path(&mut reader).contains("reads with locks"), "{}", path(&mut reader));
        let candidates = format!("SELECT ai.vector_candidates('s.t', 'v', {query}, 3, NULL)");
        assert!(server_error(reader.query::<Row, _>(&candidates)).1.contains("reads with locks"));
        root.query_drop("SET SESSION innodb_lock_wait_timeout = 3").unwrap();
        let id = rng.u32(1..1_000_000);
        root.query_drop(format!("INSERT INTO s.other VALUES ({id}, {})", vector(&mut rng))).unwrap();
        // Outside of a transaction the search has its own.
        reader.query_drop("ROLLBACK").unwrap();
        assert_eq!(search(&mut reader, &query, 3, "").unwrap(), exact(&mut root, &query, 3, "TRUE"));
        assert!(path(&mut reader).contains("\"path\":\"index\""), "{}", path(&mut reader));
    }
    let changes: u64 = root.query_first("SELECT COUNT(*) FROM mysql_ml.vector_changes").unwrap().unwrap();
    assert_eq!(changes, 2);
}

#[test]
fn keys_that_are_equal_by_collation_are_one_row() {
    let running = start();
    let mut root = running.root();
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    root.query_drop("CREATE DATABASE s").unwrap();
    root.query_drop(format!("CREATE TABLE s.t (name VARCHAR(20), id INT, v VECTOR({DIMENSIONS}), PRIMARY KEY (name))"))
        .unwrap();
    let mut rng = Rng::with_seed(9);
    for id in 0..50 {
        root.query_drop(format!("INSERT INTO s.t VALUES ('abc{id}', {id}, {})", vector(&mut rng))).unwrap();
    }
    call(&mut root, CREATE);
    root.query_drop("CREATE TABLE s.kept AS SELECT UPPER(name) AS name, id, v FROM s.t").unwrap();
    root.query_drop("DELETE FROM s.t").unwrap();
    root.query_drop("INSERT INTO s.t SELECT * FROM s.kept").unwrap();
    root.query_drop("UPDATE s.t SET name = CONCAT('aBc', id) WHERE id < 9").unwrap();
    let query = vector(&mut rng);
    assert_eq!(search(&mut root, &query, 20, "").unwrap(), exact(&mut root, &query, 20, "TRUE"));
    assert!(path(&mut root).contains("\"path\":\"index\""), "{}", path(&mut root));
    call(&mut root, "CALL ai.refresh_vector_index('s.t', 'v', NULL)");
    assert_eq!(search(&mut root, &query, 20, "").unwrap(), exact(&mut root, &query, 20, "TRUE"));
    assert_eq!(check(&mut root, 3).1, 0);
}

#[test]
fn a_waiting_change_does_not_make_few_candidates_all_rows() {
    let running = start();
    let mut root = prepare(&running, 6000, "");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    call(&mut root, "CALL ai.create_vector_index('s.t', 'v', '{\"distance_measure\": \"l2_squared\", \"lists\": 1}')");
    root.query_drop("UPDATE s.t SET v = (SELECT v FROM (SELECT v FROM s.t WHERE id = 2) AS x) WHERE id = 1").unwrap();
    let query: String =
        root.query_first("SELECT CONCAT('x\\'', HEX(v), '\\'') FROM s.t WHERE id = 1").unwrap().unwrap();
    let far: Vec<i64> =
        root.query(format!("SELECT id FROM s.t ORDER BY l2_squared_distance(v, {query}) DESC LIMIT 5")).unwrap();
    // The server has no plan for it but to read all rows, so the index is asked first.
    let filter = format!("id + 0 IN ({})", far.iter().map(i64::to_string).collect::<Vec<_>>().join(","));
    let found = search(&mut root, &query, 5, &format!(", \"where\": \"{filter}\"")).unwrap();
    assert_eq!(found, exact(&mut root, &query, 5, &filter));
    assert_eq!(found.len(), 5);
}

#[test]
fn a_filter_finds_its_rows_wherever_they_are() {
    let running = start();
    let mut root = prepare(&running, 6000, "");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    call(&mut root, CREATE);
    let query = vector(&mut Rng::with_seed(7));
    // Twelve groups of rows, the nearest first; and one of each hundred.
    root.query_drop(format!(
        "UPDATE s.t JOIN (SELECT id, ROW_NUMBER() OVER (ORDER BY l2_squared_distance(v, {query})) - 1 AS n FROM s.t) AS near USING (id) \
         SET kind = n DIV 500 + 100 * (n % 100 = 0)"
    ))
    .unwrap();
    root.query_drop("ANALYZE TABLE s.t").unwrap();
    call(&mut root, "CALL ai.refresh_vector_index('s.t', 'v', NULL)");
    let mut path_of = |filter: &str| {
        let truth = exact(&mut root, &query, 10, filter);
        let found = search(&mut root, &query, 10, &format!(", \"where\": \"{filter}\"")).unwrap();
        let hits = found.iter().filter(|row| truth.contains(row)).count();
        assert!(found.len() == truth.len() && hits + 1 >= truth.len(), "{filter}: {found:?} {truth:?}");
        path(&mut root)
    };
    // Near rows, by the index; far ones and few ones by the table.
    assert!(path_of("kind + 0 IN (0, 100)").contains("\"path\":\"index\""));
    for filter in ["kind + 0 = 11", "kind + 0 >= 100", "id = 5", "FALSE", "kind IN (104, 105)"] {
        let path = path_of(filter);
        assert!(path.contains("\"path\":\"table\"") && path.contains("few rows pass the filter"), "{filter}: {path}");
    }
    // The server's plan of the filter is enough.
    assert!(path_of("kind = 107").contains("\"rounds\":0"));
    // Plans of subqueries are not asked for; most rows pass.
    assert!(path_of("id NOT IN (SELECT 1 UNION SELECT 2)").contains("\"path\":\"index\""));
    assert!(path_of("id + 0 IN (SELECT 1 UNION SELECT 2)").contains("\"path\":\"table\""));
}

#[test]
fn a_search_reads_no_centroids_and_gets_those_of_its_snapshot() {
    let running = start();
    let mut root = prepare(&running, 3000, "");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    call(&mut root, "CALL ai.create_vector_index('s.t', 'v', '{\"distance_measure\": \"l2_squared\", \"lists\": 90}')");
    let query = vector(&mut Rng::with_seed(3));
    let truth = exact(&mut root, &query, 10, "TRUE");
    let near = |conn: &mut Conn| {
        let found = search(conn, &query, 10, ", \"recall\": 0.999").unwrap();
        let hits = found.iter().filter(|row| truth.contains(row)).count();
        assert!(hits >= 9 && path(conn).contains("\"path\":\"index\""), "{found:?} {truth:?} {}", path(conn));
        path(conn)
    };
    near(&mut root);
    root.query_drop("FLUSH STATUS").unwrap();
    near(&mut root);
    let (_, read): (String, u64) = root.query_first("SHOW SESSION STATUS LIKE 'Handler_read_next'").unwrap().unwrap();
    assert!(read < 90, "{read} rows were read in order");
    let mut old = running.root();
    old.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").unwrap();
    call(&mut root, "CALL ai.rebuild_vector_index('s.t', 'v', '{\"lists\": 31}')");
    let first = near(&mut old);
    assert!(first.contains("\"lists\":90"), "{first}");
    let now = near(&mut root);
    assert!(!now.contains("\"lists\":90"), "{now}");
    assert_eq!(near(&mut old), first);
}

#[test]
fn keys_are_given_to_nobody_while_an_index_has_no_lists() {
    let running = start();
    let mut root = prepare(&running, 50, "");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    root.query_drop("CREATE USER other@localhost").unwrap();
    root.query_drop("GRANT `ml_user` TO other@localhost").unwrap();
    root.query_drop("SET DEFAULT ROLE ALL TO other@localhost").unwrap();
    call(&mut root, CREATE);
    root.query_drop("UPDATE mysql_ml.vector_indexes SET version = NULL").unwrap();
    root.query_drop(format!("UPDATE s.t SET v = {} WHERE id = 5", vector(&mut Rng::with_seed(1)))).unwrap();
    let mut other = running.server.connect("other").unwrap();
    let id: u64 = root.query_first("SELECT index_id FROM mysql_ml.vector_indexes").unwrap().unwrap();
    let direct = format!("SELECT mysql_ml.vector_candidates({id}, x'00000000', 1, 3, 10, 10)");
    // An error, or no key.
    if let Ok(found) = other.query_first::<String, _>(&direct) {
        assert!(found.unwrap().contains("\"changed\":[]"));
    }
}

#[test]
fn an_index_outlives_a_change_of_its_tables_key() {
    let running = start();
    let mut root = prepare(&running, 400, "");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    call(&mut root, CREATE);
    let mut rng = Rng::with_seed(10);
    root.query_drop(format!("UPDATE s.t SET v = {} WHERE id = 5", vector(&mut rng))).unwrap();
    root.query_drop("ALTER TABLE s.t MODIFY kind INT NOT NULL, DROP PRIMARY KEY, ADD PRIMARY KEY (kind, id)").unwrap();
    thread::sleep(Duration::from_millis(1100));
    let query = vector(&mut rng);
    assert_eq!(search(&mut root, &query, 5, "").unwrap(), exact(&mut root, &query, 5, "TRUE"));
    assert!(path(&mut root).contains("its trigger"), "{}", path(&mut root));
    call(&mut root, "CALL ai.rebuild_vector_index('s.t', 'v', NULL)");
    assert_eq!(search(&mut root, &query, 5, "").unwrap(), exact(&mut root, &query, 5, "TRUE"));
    assert!(path(&mut root).contains("\"path\":\"index\""), "{}", path(&mut root));
    assert_eq!(check(&mut root, 3).1, 0);
}

#[test]
fn a_restored_table_makes_its_index_stale_although_its_triggers_are_right() {
    let running = start();
    let mut root = prepare(&running, 100, "");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    call(&mut root, CREATE);
    let triggers: Vec<(String, String)> = root
        .query(
            "SELECT CONCAT('CREATE TRIGGER s.', TRIGGER_NAME, ' ', ACTION_TIMING, ' ', EVENT_MANIPULATION, ' ON s.t FOR EACH ROW '), \
             ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 's'",
        )
        .unwrap();
    root.query_drop("CREATE TABLE s.saved LIKE s.t").unwrap();
    root.query_drop("INSERT INTO s.saved SELECT * FROM s.t").unwrap();
    root.query_drop("DROP TABLE s.t").unwrap();
    root.query_drop("RENAME TABLE s.saved TO s.t").unwrap();
    fill_some(&mut root, &mut Rng::with_seed(11));
    for (head, body) in triggers {
        root.query_drop(format!("{head}{body}")).unwrap();
    }
    thread::sleep(Duration::from_millis(1100));
    let query = vector(&mut Rng::with_seed(12));
    assert_eq!(search(&mut root, &query, 5, "").unwrap(), exact(&mut root, &query, 5, "TRUE"));
    assert!(path(&mut root).contains("\"path\":\"table\""), "{}", path(&mut root));
    let status: String = root.query_first("SELECT status FROM ai.vector_indexes").unwrap().unwrap();
    assert_eq!(status, "stale");
    call(&mut root, "CALL ai.rebuild_vector_index('s.t', 'v', NULL)");
    assert_eq!(search(&mut root, &query, 5, "").unwrap(), exact(&mut root, &query, 5, "TRUE"));
    assert!(path(&mut root).contains("\"path\":\"index\""), "{}", path(&mut root));
}

#[test]
fn rights_of_a_role_that_is_not_default_do_not_make_triggers_that_fail_every_write() {
    let running = start();
    let mut root = prepare(&running, 50, "");
    for statement in [
        "CREATE USER owner@localhost",
        "CREATE ROLE keeper",
        "GRANT ALL ON s.* TO keeper",
        "GRANT SELECT, ALTER ON s.t TO owner@localhost",
        "GRANT keeper, `ml_user` TO owner@localhost",
        "SET DEFAULT ROLE `ml_user` TO owner@localhost",
    ] {
        root.query_drop(statement).unwrap();
    }
    let mut owner = running.server.connect("owner").unwrap();
    owner.query_drop("SET ROLE ALL").unwrap();
    let (code, message) = server_error(owner.query::<Row, _>(CREATE));
    assert_eq!(code, 1142, "{message}");
    let mut rng = Rng::with_seed(13);
    root.query_drop(format!("INSERT INTO s.t (id, kind, v) VALUES (5000, 1, {})", vector(&mut rng))).unwrap();
    let triggers: u64 = root
        .query_first("SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 's'")
        .unwrap()
        .unwrap();
    assert_eq!(triggers, 0);
}

#[test]
fn an_index_is_built_again_when_it_has_outgrown_its_lists() {
    let running = start();
    let mut root = prepare(&running, 100, "");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    call(&mut root, CREATE);
    let lists = "SELECT lists FROM ai.vector_indexes";
    let before: u64 = root.query_first(lists).unwrap().unwrap();
    let copies =
        "INSERT INTO s.t (id, kind, v) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 60) \
                  SELECT id + 1000 * i, kind, v FROM s.t JOIN n";
    root.query_drop(copies).unwrap();
    let row: Row = root.query_first("CALL ai.refresh_vector_index('s.t', 'v', NULL)").unwrap().unwrap();
    assert_eq!(row.get::<u64, _>("rows"), Some(6000));
    assert!(row.get::<String, _>("note").unwrap().contains("built again"));
    assert!(root.query_first::<u64, _>(lists).unwrap().unwrap() > before);
    let (rows, missing, dead, _) = check(&mut root, 3);
    assert_eq!((rows, missing, dead), (6100, 0, 0));
}

#[test]
fn an_index_of_an_empty_table_serves_the_rows_to_come() {
    let running = start();
    let mut root = prepare(&running, 0, "");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    call(&mut root, CREATE);
    fill(&mut root, "s.t", 50, 7);
    let query = vector(&mut Rng::with_seed(14));
    for _ in 0..2 {
        assert_eq!(search(&mut root, &query, 5, "").unwrap(), exact(&mut root, &query, 5, "TRUE"));
        assert!(path(&mut root).contains("\"path\":\"index\""), "{}", path(&mut root));
        call(&mut root, "CALL ai.refresh_vector_index('s.t', 'v', NULL)");
    }
    assert_eq!(check(&mut root, 3).1, 0);
}

#[test]
fn rows_that_the_index_leaves_out_are_found_by_reading_the_table() {
    let running = start();
    let mut root = prepare(&running, 20, "");
    root.query_drop("SET GLOBAL event_scheduler = OFF").unwrap();
    let zero = format!("x'{}'", "00".repeat(DIMENSIONS * 4));
    root.query_drop(format!("INSERT INTO s.t (id, kind, v) VALUES (21, 0, {zero}), (22, 0, x'0000803f')")).unwrap();
    let row: Row = root.query_first("CALL ai.create_vector_index('s.t', 'v', NULL)").unwrap().unwrap();
    assert_eq!((row.get::<u64, _>("rows"), row.get::<u64, _>("left_out")), (Some(20), Some(2)));
    // The vector of one dimension cannot be compared with the query.
    let found = search(&mut root, &vector(&mut Rng::with_seed(15)), 100, "").unwrap();
    assert_eq!(found.len(), 21);
    assert!(path(&mut root).contains("\"path\":\"table\""), "{}", path(&mut root));
    assert_eq!(check(&mut root, 2).1, 0);
}

#[test]
fn an_exchanged_partition_is_noticed_and_built_again() {
    let running = start_bare(&["--event-scheduler=OFF"], &[]);
    running.install();
    let partitions =
        "PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (301), PARTITION p1 VALUES LESS THAN MAXVALUE)";
    let mut root = prepare(&running, 600, partitions);
    root.query_drop("CREATE TABLE s.x LIKE s.t").unwrap();
    root.query_drop("ALTER TABLE s.x REMOVE PARTITIONING").unwrap();
    fill(&mut root, "s.x", 300, 77);
    call(&mut root, CREATE);
    let query: String = root.query_first("SELECT CONCAT('x''', HEX(v), '''') FROM s.x WHERE id = 7").unwrap().unwrap();
    // What is known of the index is kept for a second.
    let compare = |root: &mut Conn, what: &str, wanted: &str| {
        wait_until(what, || {
            let near = search(root, &query, 5, ", \"recall\": 1").unwrap();
            let as_wanted = path(root).contains(wanted);
            assert!(!as_wanted || near == exact(root, &query, 5, "TRUE"), "{what}: {near:?}");
            as_wanted
        });
    };
    let refreshed = |root: &mut Conn| -> Option<String> {
        let row: Row = root.query_first("CALL ai.refresh_vector_index('s.t', 'v', NULL)").unwrap().unwrap();
        row.get("note").unwrap()
    };
    compare(&mut root, "the index serves", "\"path\":\"index\"");
    root.query_drop("ALTER TABLE s.t EXCHANGE PARTITION p0 WITH TABLE s.x").unwrap();
    compare(&mut root, "the table is read", "a partition was exchanged");
    assert_eq!(search(&mut root, &query, 1, "").unwrap(), [(7, 0.0)]);
    let note = refreshed(&mut root).unwrap();
    assert!(note.contains("built again"), "{note}");
    compare(&mut root, "the index serves again", "\"path\":\"index\"");
    assert_eq!(check(&mut root, 5).1, 0);

    // What copies rows needs nothing.
    for statement in ["ALTER TABLE s.t FORCE", "ALTER TABLE s.t ADD COLUMN more INT", "OPTIMIZE TABLE s.t"] {
        // The time of the table's creation is in seconds.
        thread::sleep(Duration::from_millis(1100));
        call(&mut root, statement);
        assert_eq!(refreshed(&mut root), None, "{statement}");
        compare(&mut root, statement, "\"path\":\"index\"");
    }
    root.query_drop("ALTER TABLE s.t TRUNCATE PARTITION p1").unwrap();
    let note = refreshed(&mut root).unwrap();
    assert!(note.contains("built again"), "{note}");
    compare(&mut root, "the index of the rest serves", "\"path\":\"index\"");
    assert_eq!(check(&mut root, 5).1, 0);
}

#[test]
fn more_changes_than_a_search_reads_send_it_to_the_table() {
    let running = start_bare(&["--event-scheduler=OFF"], &[]);
    running.install();
    let mut root = prepare(&running, 2100, "");
    call(&mut root, CREATE);
    for times in 1..=10 {
        let copy =
            format!("INSERT INTO s.t (id, kind, v) SELECT id + {times} * 3000, kind, v FROM s.t WHERE id < 2101");
        root.query_drop(copy).unwrap();
    }
    let query = vector(&mut Rng::with_seed(12));
    let distances = |rows: Vec<(i64, f64)>| rows.into_iter().map(|(_, distance)| distance).collect::<Vec<_>>();
    let compare = |root: &mut Conn| {
        let found = distances(search(root, &query, 30, ", \"recall\": 1").unwrap());
        assert_eq!(found, distances(exact(root, &query, 30, "TRUE")));
    };
    wait_until("the search reads the table", || {
        compare(&mut root);
        path(&mut root).contains("more than 20000 changes wait")
    });
    let (status, changes): (String, u64) =
        root.query_first("SELECT status, changes FROM ai.vector_indexes").unwrap().unwrap();
    assert_eq!((status.as_str(), changes), ("behind", 21_000));
    let candidates = root.query::<Row, _>(format!("SELECT ai.vector_candidates('s.t', 'v', {query}, 3, NULL)"));
    assert!(server_error(candidates).1.contains("changes wait"));
    // A transaction has the changes of its snapshot.
    root.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").unwrap();
    call(&mut running.root(), "CALL ai.refresh_vector_index('s.t', 'v', NULL)");
    compare(&mut root);
    assert!(path(&mut root).contains("more than 20000 changes wait"), "{}", path(&mut root));
    root.query_drop("COMMIT").unwrap();
    compare(&mut root);
    assert!(path(&mut root).contains("\"path\":\"index\""), "{}", path(&mut root));
    assert_eq!(check(&mut root, 3).1, 0);
}

#[test]
fn a_view_has_no_index_and_a_renamed_table_needs_a_new_one() {
    let running = start_bare(&["--event-scheduler=OFF"], &[]);
    running.install();
    let mut root = prepare(&running, 300, "");
    root.query_drop("CREATE VIEW s.seen AS SELECT id, kind, v FROM s.t").unwrap();
    for call in ["ai.create_vector_index(", "mysql.create_vector_index('i', "] {
        let (_, message) = server_error(root.query::<Row, _>(format!("CALL {call}'s.seen', 'v', NULL)")));
        assert!(message.contains("is a view"), "{message}");
    }
    call(&mut root, "CALL mysql.create_vector_index('i', 's.t', 'v', NULL)");
    root.query_drop("RENAME TABLE s.t TO s.old").unwrap();
    let status = "SELECT status FROM mysql.vector_indexes WHERE index_name = 's.i'";
    assert_eq!(root.query_first::<String, _>(status).unwrap().as_deref(), Some("stale"));
    // The table is written and searched under its new name.
    root.query_drop("UPDATE s.old SET kind = 9 WHERE id = 1").unwrap();
    root.query_drop("INSERT INTO s.old (id, kind, v) SELECT id + 1000, kind, v FROM s.old").unwrap();
    let query = vector(&mut Rng::with_seed(3));
    let options = "{\"columns\": [\"kind\"], \"distance_measure\": \"l2_squared\"}";
    let found: Vec<(i64, f64)> = root.query(format!("CALL ai.search('s.old', 'v', {query}, 4, '{options}')")).unwrap();
    let wanted: Vec<f64> =
        root.query(format!("SELECT l2_squared_distance(v, {query}) AS d FROM s.old ORDER BY d LIMIT 4")).unwrap();
    assert_eq!(found.iter().map(|row| row.1).collect::<Vec<_>>(), wanted);
    assert!(path(&mut root).contains("no vector index"), "{}", path(&mut root));
    call(&mut root, "CALL mysql.drop_vector_index('s.i')");
    let triggers = "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 's'";
    assert_eq!(root.query_first::<u64, _>(triggers).unwrap(), Some(0));
    call(&mut root, "CALL mysql.create_vector_index('i', 's.old', 'v', NULL)");
    assert_eq!(root.query_first::<String, _>(status).unwrap().as_deref(), Some("ready"));
    // Removing the library with its registrations takes triggers, event and storage away.
    let all = format!("SET @mysql_ml_drop_registrations = 1;\n{}", crate::common::script("uninstall.sql"));
    testkit::sqlscript::run(&mut root, &all, "uninstall.sql").unwrap();
    let left = "SELECT (SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 's') + \
         (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 's') + \
         (SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ('ai', 'mysql_ml'))";
    assert_eq!(root.query_first::<u64, _>(left).unwrap(), Some(0));
}
