//! The server for tests: a private one, or that of `MYSQL_ML_TEST_URL`.

use std::io::Write as _;
use std::path::PathBuf;

use fake_providers::Endpoint;
use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder};
use testkit::mysqld::Turn;
use testkit::xprotocol::XSession;

use super::{start, Running};

/// URL of a given server, for an account with all privileges. Through a socket, because the tests' accounts are those
/// of `localhost`.
const URL: &str = "MYSQL_ML_TEST_URL";
/// The port of the local endpoint in the server's environment.
const ENDPOINT_PORT: &str = "MYSQL_ML_TEST_ENDPOINT_PORT";
/// The server's secrets directory, by its local path.
const SECRETS_DIR: &str = "MYSQL_ML_TEST_SECRETS_DIR";

/// A server with the library installed, and an endpoint beside it.
pub enum Site {
    Private(Box<Running>),
    Given(Given),
}

/// A given server, with the environment of `testkit::surroundings`.
pub struct Given {
    opts: Opts,
    endpoint: Endpoint,
    secrets: String,
    port: u16,
    x_port: u16,
    x_socket: PathBuf,
    /// Start of the test by the server's clock.
    since: String,
    /// Dropped last: other tests use the same server and port.
    _turn: Turn,
}

/// Whether the tests run against a given server.
pub fn is_given() -> bool {
    std::env::var_os(URL).is_some_and(|url| !url.is_empty())
}

/// Reports a skipped test past the test runner's capture.
pub fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "\nNOT RUN: {why}\n");
}

impl Site {
    /// The given server, or else a new private one.
    pub fn start() -> Site {
        if is_given() {
            Site::Given(Given::find())
        } else {
            Site::Private(Box::new(start()))
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        match self {
            Site::Private(running) => &running.endpoint,
            Site::Given(given) => &given.endpoint,
        }
    }

    /// A connection as root, or as an account without a password.
    pub fn connect(&self, user: &str) -> Conn {
        match self {
            Site::Private(running) => running.server.connect(user).unwrap(),
            Site::Given(given) => given.connect(user),
        }
    }

    pub fn root(&self) -> Conn {
        self.connect("root")
    }

    pub fn x_session(&self, user: &str) -> XSession {
        match self {
            Site::Private(running) => XSession::connect(&running.server.x_socket(), user, "").unwrap(),
            Site::Given(given) => XSession::connect(&given.x_socket, user, given.password(user)).unwrap(),
        }
    }

    /// The ports on 127.0.0.1 for the classic and the X Protocol.
    pub fn ports(&self) -> (u16, u16) {
        match self {
            Site::Private(running) => (running.server.port(), running.server.x_port()),
            Site::Given(given) => (given.port, given.x_port),
        }
    }

    pub fn secrets_dir(&self) -> String {
        match self {
            Site::Private(running) => running.secrets.path().display().to_string(),
            Site::Given(given) => given.secrets.clone(),
        }
    }

    /// The errors in the server's log.
    pub fn errors_in_log(&self) -> Vec<String> {
        match self {
            Site::Private(running) => running.errors_in_log(),
            Site::Given(given) => self
                .root()
                .exec(
                    "SELECT data FROM performance_schema.error_log WHERE prio = 'Error' AND logged >= ?",
                    (&given.since,),
                )
                .unwrap(),
        }
    }
}

impl Given {
    fn find() -> Given {
        let turn = Turn::alone();
        let variable =
            |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{URL} is set, so {name} must be too"));
        let opts = Opts::from_url(&variable(URL)).expect("a MySQL URL");
        let socket = PathBuf::from(opts.get_socket().unwrap_or_else(|| {
            panic!("{URL} must name a socket: mysql://root:PASSWORD@localhost?socket=%2Fpath%2Fmysqld.sock")
        }));
        let port: u16 = variable(ENDPOINT_PORT).parse().expect("a port");
        let mut conn = Conn::new(opts.clone()).unwrap_or_else(|error| panic!("{URL}: {error}"));
        let (port_of_server, x_port, x_socket, since): (u16, u16, String, String) =
            conn.query_first("SELECT @@port, @@mysqlx_port, @@mysqlx_socket, CAST(NOW(6) AS CHAR)").unwrap().unwrap();
        let version: Option<String> =
            conn.query_first("SELECT mysql.ml_version()").expect("run install.sql there first");
        eprintln!("mysql-ml {} of the given server", version.unwrap());
        // The schema ai is optional.
        testkit::sqlscript::run(&mut conn, &super::script("install-ai.sql"), "install-ai.sql").unwrap();
        // The folder of the sockets may have another path there.
        let x_socket = socket.with_file_name(PathBuf::from(x_socket).file_name().unwrap());
        Given {
            opts,
            endpoint: Endpoint::start_on((std::net::Ipv4Addr::LOCALHOST, port).into())
                .expect("the endpoint's port is free"),
            secrets: variable(SECRETS_DIR),
            port: port_of_server,
            x_port,
            x_socket,
            since,
            _turn: turn,
        }
    }

    fn password(&self, user: &str) -> &str {
        match self.opts.get_user() == Some(user) {
            true => self.opts.get_pass().unwrap_or_default(),
            false => "",
        }
    }

    fn connect(&self, user: &str) -> Conn {
        let password = self.password(user);
        let opts = OptsBuilder::from_opts(self.opts.clone()).user(Some(user)).pass(Some(password));
        Conn::new(opts).unwrap_or_else(|error| panic!("cannot connect as {user}: {error}"))
    }
}
