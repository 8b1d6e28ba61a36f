//! A private server with the library installed and a local model endpoint beside it.

pub mod site;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fake_providers::Endpoint;
use mysql::prelude::Queryable;
use mysql::Conn;
use testkit::mysqld::{Distribution, Server, ServerOptions};
use testkit::{library, sqlscript, surroundings};

/// Keys that must appear in request headers only. The tests search logs and tables for them.
pub use testkit::surroundings::{ENV_KEY, FILE_KEY};
/// The prefix of the keys that tests put into the keyring.
pub const KEYRING_KEY: &str = "sk-ring-5ecret-0003";

/// A server, an endpoint and the secrets directory.
pub struct Running {
    pub server: Server,
    pub endpoint: Endpoint,
    pub secrets: tempfile::TempDir,
}

pub fn distribution() -> &'static Distribution {
    static FOUND: OnceLock<Distribution> = OnceLock::new();
    FOUND.get_or_init(|| Distribution::find_or_fetch(&|step| eprintln!("{step}")).expect("a MySQL 9.7 server"))
}

pub fn built_library() -> PathBuf {
    library::under_test().expect("the library builds")
}

pub fn script(name: &str) -> String {
    library::script(name).unwrap()
}

/// Starts a server with `args`, without the library's functions.
pub fn start_bare(args: &[&str], env: &[(&str, &str)]) -> Running {
    start_server(args, env, false)
}

/// Starts a server with a keyring and the library installed.
pub fn start_with_keyring(args: &[&str]) -> Running {
    let running = start_server(args, &[], true);
    running.install();
    running
}

fn start_server(args: &[&str], env: &[(&str, &str)], keyring: bool) -> Running {
    let endpoint = Endpoint::start().unwrap();
    let secrets = tempfile::tempdir().unwrap();
    surroundings::fill_secrets(&endpoint, secrets.path()).unwrap();
    let mut environment = surroundings::environment(&endpoint, secrets.path());
    environment.retain(|(name, _)| !env.iter().any(|(given, _)| given == name));
    environment.extend(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    let options = ServerOptions {
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        // An empty value removes a variable.
        env: environment.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        env_remove: surroundings::NOT_INHERITED.map(str::to_owned).to_vec(),
        library: Some(built_library()),
        keyring,
        ..ServerOptions::default()
    };
    let server = Server::start(distribution(), options).expect("the server starts");
    Running { server, endpoint, secrets }
}

/// Starts a server with the library installed.
pub fn start() -> Running {
    let running = start_bare(&[], &[]);
    running.install();
    running
}

impl Drop for Running {
    /// Checks after every test that no log has a key.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for (log, text) in [("error log", self.server.error_log()), ("general log", self.server.general_log())] {
            for key in [
                ENV_KEY,
                FILE_KEY,
                KEYRING_KEY,
                "ya29.",
                "test-client-5ecret",
                "test-refresh-5ecret",
                "subject-5ecret",
                "PRIVATE KEY",
            ] {
                assert!(!text.contains(key), "the {log} holds the key {key}");
            }
        }
    }
}

impl Running {
    pub fn install(&self) {
        for name in ["install.sql", "install-ai.sql"] {
            sqlscript::run(&mut self.root(), &script(name), name).unwrap();
        }
    }

    /// The server's directory of models.
    pub fn models(&self) -> PathBuf {
        self.secrets.path().join("models")
    }

    /// Puts all-MiniLM-L6-v2 into the directory that `bert_local` uses.
    pub fn put_minilm(&self) {
        let weights = testkit::weights::minilm(&|step| eprintln!("{step}")).expect("the weights of all-MiniLM-L6-v2");
        testkit::weights::copy(&weights, &self.models().join("sentence-transformers/all-MiniLM-L6-v2")).unwrap();
    }

    pub fn root(&self) -> Conn {
        self.server.connect("root").unwrap()
    }

    /// Registers an open_ai embedding model at a path of the endpoint.
    pub fn embedding_model(&self, conn: &mut Conn, id: &str, path: &str) {
        let url = self.endpoint.url(path);
        conn.exec_drop(
            "CALL mysql.ml_create_model_registration(?, ?, 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL)",
            (id, url),
        )
        .unwrap();
    }

    /// Registers a generic custom model at a path of the endpoint.
    pub fn generic_model(&self, conn: &mut Conn, id: &str, path: &str) {
        let url = self.endpoint.url(path);
        conn.exec_drop(
            "CALL mysql.ml_create_model_registration(?, ?, 'custom', 'generic', NULL, NULL, NULL, NULL, NULL, NULL)",
            (id, url),
        )
        .unwrap();
    }

    /// The error log without the lines of the tests' own server set-up.
    pub fn errors_in_log(&self) -> Vec<String> {
        self.server.error_log().lines().filter(|l| l.contains("[ERROR]")).map(str::to_owned).collect()
    }
}

/// Options of a server that replicates, or is replicated.
pub fn replicating(id: &'static str) -> [&'static str; 5] {
    [id, "--log-bin=binlog", "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--relay-log=relay"]
}

/// Starts replication from `source`, and makes the replica read-only. The replica must lack what the source's binary log
/// creates.
pub fn replicate(source: &Running, replica: &Running) {
    let mut at_source = source.root();
    at_source.query_drop("CREATE USER repl@'%'").unwrap();
    at_source.query_drop("GRANT REPLICATION SLAVE ON *.* TO repl@'%'").unwrap();
    let mut at_replica = replica.root();
    at_replica
        .query_drop(format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, SOURCE_USER = 'repl', \
             SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
            source.server.port()
        ))
        .unwrap();
    at_replica.query_drop("START REPLICA").unwrap();
    at_replica.query_drop("SET GLOBAL super_read_only = ON").unwrap();
}

/// Waits until a replica has what its source has.
pub fn follow(source: &Running, replica: &Running) {
    let done: String = source.root().query_first("SELECT @@GLOBAL.gtid_executed").unwrap().unwrap();
    let waited: u8 = replica.root().exec_first("SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 60)", (&done,)).unwrap().unwrap();
    assert_eq!(waited, 0, "the replica follows: {:?}", replica.errors_in_log());
}

/// Makes a replica a source.
pub fn take_over(replica: &Running) {
    let mut at_replica = replica.root();
    for statement in
        ["STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF"]
    {
        at_replica.query_drop(statement).unwrap();
    }
}

/// Whether a cell of the row holds the text. (A printed row has the first bytes of each cell only.)
pub fn holds(row: &mysql::Row, needle: &str) -> bool {
    (0..row.len()).any(|i| match row.as_ref(i) {
        Some(mysql::Value::Bytes(bytes)) => bytes.windows(needle.len()).any(|w| w == needle.as_bytes()),
        _ => false,
    })
}

/// The server's error number and message of a failed query.
pub fn server_error<T: std::fmt::Debug>(result: mysql::Result<T>) -> (u16, String) {
    match result {
        Err(mysql::Error::MySqlError(e)) => (e.code, e.message),
        other => panic!("expected a server error, got {other:?}"),
    }
}

/// Sets the flag when it is dropped, after a failed assertion too. A scope waits for threads that run until the flag is set.
pub struct Stop<'a>(pub &'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Release);
    }
}

/// Waits up to half a minute for a condition.
pub fn wait_until(what: &str, mut f: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !f() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
