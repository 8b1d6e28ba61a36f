//! Private MySQL servers: each with its own data, folders, sockets and ports, removed at its end.

mod home;
mod process;
mod settings;
mod template;
mod turn;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context as _};
use mysql::prelude::Queryable as _;

use crate::fetch::option;
pub use crate::fetch::Distribution;
use home::Home;
use process::Process;
pub use turn::Turn;

/// Time limit of a server's start, and of its end.
const LIMIT: Duration = Duration::from_secs(60);

/// Time limit until a server that answers also accepts the X Protocol.
const X_LIMIT: Duration = Duration::from_secs(10);

/// Interval of checks of a starting server.
const POLL: Duration = Duration::from_millis(10);

/// The server's message for a taken port.
const PORT_TAKEN: &str = "Address already in use";

/// The server's log line when it accepts X Protocol connections.
const X_READY: &str = "X Plugin ready for connections";

/// The server's error number for a refused login.
const ER_ACCESS_DENIED: u16 = 1045;

/// Options of a server.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Options for mysqld, after the usual ones, which they override.
    pub args: Vec<String>,
    /// Environment variables to set.
    pub env: Vec<(String, String)>,
    /// Environment variables to remove.
    pub env_remove: Vec<String>,
    /// The built library, which the server finds as `mysql_ml.so`.
    pub library: Option<PathBuf>,
    /// Whether the server has a keyring: the component `component_keyring_file` with a file in the server's folder.
    pub keyring: bool,
    /// Whether the temporary folder stays after the server's end.
    pub keep: bool,
    /// A folder to use instead of a temporary one. It is kept, with the data that it already holds.
    pub dir: Option<PathBuf>,
}

/// A private running server; dropping it ends it and removes its folder.
#[derive(Debug)]
pub struct Server {
    // Fields are dropped in this order: the process must end before its folder is removed.
    process: Option<Process>,
    home: Home,
    port: u16,
    x_port: u16,
    options: ServerOptions,
    distribution: Distribution,
    _turn: Turn,
}

impl Server {
    /// Starts a server and waits until it answers. Its account `root` has no password.
    ///
    /// Waits while too many other threads of this program have servers.
    pub fn start(distribution: &Distribution, options: ServerOptions) -> anyhow::Result<Server> {
        let turn = Turn::shared();
        let home = match &options.dir {
            Some(folder) => Home::given(folder)?,
            None => Home::temporary(options.keep)?,
        };
        home.fill_plugin_dir(distribution.plugins(), options.library.as_deref())
            .context("cannot fill the server's plugin folder")?;
        if options.keyring {
            home.add_keyring(distribution.mysqld_path()).context("cannot set up the server's keyring")?;
        }
        if !home.datadir().exists() {
            template::instantiate(distribution, &options.args, &home.datadir())?;
        }
        let (port, x_port) = free_ports()?;
        let mut server =
            Server { process: None, home, port, x_port, options, distribution: distribution.clone(), _turn: turn };
        if let Err(error) = server.launch() {
            // Another process may have taken the port since it was chosen.
            if !format!("{error:#}").contains(PORT_TAKEN) {
                return Err(error);
            }
            (server.port, server.x_port) = free_ports()?;
            server.launch()?;
        }
        Ok(server)
    }

    /// The socket for the classic protocol.
    pub fn socket(&self) -> PathBuf {
        self.home.socket()
    }

    /// The socket for the X Protocol.
    pub fn x_socket(&self) -> PathBuf {
        self.home.x_socket()
    }

    /// The port on 127.0.0.1 for the classic protocol.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port on 127.0.0.1 for the X Protocol.
    pub fn x_port(&self) -> u16 {
        self.x_port
    }

    /// The folder that holds everything of this server.
    pub fn dir(&self) -> &Path {
        self.home.folder()
    }

    /// The data directory.
    pub fn datadir(&self) -> PathBuf {
        self.home.datadir()
    }

    /// The folder from which the server loads libraries.
    pub fn plugin_dir(&self) -> PathBuf {
        self.home.plugin_dir()
    }

    /// The keyring's file, if the server has a keyring.
    pub fn keyring_file(&self) -> PathBuf {
        self.home.keyring_file()
    }

    /// The error log so far.
    pub fn error_log(&self) -> String {
        settings::read(&self.home.error_log())
    }

    /// The general query log so far.
    pub fn general_log(&self) -> String {
        settings::read(&self.home.general_log())
    }

    /// The process ID of the running server.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.process.as_ref().map(Process::pid).context("the server is not running")
    }

    /// Whether the server's process is alive.
    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.exited().is_none())
    }

    /// The server's resident memory in KiB.
    pub fn rss_kib(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.pid()?);
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let words = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = words.and_then(|words| words.split_whitespace().next());
        number
            .with_context(|| format!("no VmRSS in {path}"))?
            .parse()
            .with_context(|| format!("no number in the VmRSS of {path}"))
    }

    /// Options of a connection through the socket, with no default database.
    pub fn conn_opts(&self, user: &str, password: Option<&str>) -> mysql::Opts {
        mysql::OptsBuilder::new().socket(Some(self.socket().to_string_lossy())).user(Some(user)).pass(password).into()
    }

    /// A new connection through the socket for an account without a password.
    pub fn connect(&self, user: &str) -> anyhow::Result<mysql::Conn> {
        mysql::Conn::new(self.conn_opts(user, None))
            .with_context(|| format!("cannot connect as {user} to the server in {}", self.dir().display()))
    }

    /// The `mysql` command-line client with the options for this server.
    pub fn client(&self, user: &str) -> Command {
        let mut command = self.distribution.client();
        command.arg(option("socket", &self.socket()));
        command.arg(format!("--user={user}"));
        command
    }

    /// `mysqldump` of this server.
    pub fn dump_program(&self, user: &str) -> Command {
        let mut command = self.distribution.dump_program();
        command.arg(option("socket", &self.socket()));
        command.arg(format!("--user={user}"));
        command
    }

    /// Ends the server with the statement SHUTDOWN. Returns the time that it took.
    ///
    /// A server that has not ended after a minute is killed, which is an error.
    pub fn shutdown(&mut self) -> anyhow::Result<Duration> {
        let process = self.process.take().context("the server is not running")?;
        let asked = Instant::now();
        if self.ask_to_shut_down().is_err() {
            // A test may have given root a password; the signal requests the same.
            process.terminate();
        }
        let Some(status) = process.wait(LIMIT) else {
            process.kill();
            bail!("the server did not shut down within {LIMIT:?} and was killed:\n{}", self.log_tail());
        };
        let took = asked.elapsed();
        if !status.success() {
            bail!("the server ended badly ({status}):\n{}", self.log_tail());
        }
        Ok(took)
    }

    /// Shuts the server down if it runs, and starts it again with the same data, ports and options.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        if self.is_running() {
            self.shutdown()?;
        }
        self.launch()
    }

    /// Kills the server, as a crash would.
    pub fn kill9(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    fn ask_to_shut_down(&self) -> mysql::Result<()> {
        let opts = mysql::OptsBuilder::from_opts(self.conn_opts("root", None)).read_timeout(Some(LIMIT));
        mysql::Conn::new(opts)?.query_drop("SHUTDOWN")
    }

    fn log_tail(&self) -> String {
        settings::tail(&self.home.error_log())
    }

    /// Starts the process and waits until it answers.
    fn launch(&mut self) -> anyhow::Result<()> {
        // Sockets of a killed server would look like those of the new one.
        for socket in [self.socket(), self.x_socket()] {
            let _ = fs::remove_file(socket);
        }
        let logged = self.error_log().len();
        let process = Process::spawn(self.command()?)?;
        self.wait_until_ready(&process, logged)?;
        self.process = Some(process);
        Ok(())
    }

    fn wait_until_ready(&self, process: &Process, logged: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !self.answers() {
            if let Some(status) = process.exited() {
                bail!("the server ended while starting ({status}):\n{}", self.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("the server did not answer within {LIMIT:?}:\n{}", self.log_tail());
            }
            thread::sleep(POLL);
        }
        if !settings::has_x_protocol(&self.options.args) {
            return Ok(());
        }
        let deadline = Instant::now() + X_LIMIT;
        loop {
            let log = self.error_log();
            let news = log.get(logged..).unwrap_or_default();
            // The server continues without the X Protocol if only that port is taken.
            if news.contains(PORT_TAKEN) {
                bail!("the server could not use a port:\n{}", self.log_tail());
            }
            if news.contains(X_READY) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("the server does not speak the X Protocol:\n{}", self.log_tail());
            }
            thread::sleep(POLL);
        }
    }

    /// Whether the server accepts connections; it does so even when it refuses root without a password.
    fn answers(&self) -> bool {
        match mysql::Conn::new(self.conn_opts("root", None)) {
            Ok(_) => true,
            Err(mysql::Error::MySqlError(error)) => error.code == ER_ACCESS_DENIED,
            Err(_) => false,
        }
    }

    fn command(&self) -> anyhow::Result<Command> {
        let (home, options) = (&self.home, &self.options);
        let mut command = match options.keyring {
            true => self.distribution.mysqld_by(&home.linked_mysqld()),
            false => self.distribution.mysqld(),
        };
        let paths = [
            ("datadir", home.datadir()),
            ("plugin-dir", home.plugin_dir()),
            ("tmpdir", home.tmpdir()),
            ("socket", home.socket()),
            ("mysqlx-socket", home.x_socket()),
            ("pid-file", home.pid_file()),
            ("log-error", home.error_log()),
            ("general-log-file", home.general_log()),
        ];
        for (name, path) in paths {
            command.arg(option(name, &path));
        }
        command.args(["--general-log=1", "--secure-file-priv="]);
        command.args(["--bind-address=127.0.0.1", "--mysqlx-bind-address=127.0.0.1"]);
        command.arg(format!("--port={}", self.port));
        command.arg(format!("--mysqlx-port={}", self.x_port));
        command.args(settings::light());
        if !settings::mentions_binary_log(&options.args) {
            command.arg("--skip-log-bin");
        }
        command.args(&options.args);
        // In this order, so that a given variable stays even if it must not be inherited.
        for name in &options.env_remove {
            command.env_remove(name);
        }
        command.envs(options.env.iter().map(|(name, value)| (name, value)));
        settings::send_output_to(&mut command, &home.error_log())?;
        Ok(command)
    }
}

/// Two free ports.
fn free_ports() -> anyhow::Result<(u16, u16)> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // Both are bound at once, so that they differ.
    let (first, second) = (bind().context("no free port")?, bind().context("no free port")?);
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test for the whole life cycle, because each server takes time to start.
    #[test]
    fn a_server_lives_and_ends() -> anyhow::Result<()> {
        let distribution = Distribution::find_or_fetch(&|message| eprintln!("{message}"))?;
        let mut server = Server::start(&distribution, ServerOptions::default())?;
        let folder = server.dir().to_owned();

        let version: Option<String> = server.connect("root")?.query_first("SELECT VERSION()")?;
        assert_eq!(version.as_deref(), Some(distribution.version()));
        assert!(server.general_log().contains("SELECT VERSION()"));
        assert!(server.rss_kib()? > 0);
        let client = server.client("root").args(["-Ne", "SELECT 6 * 7"]).output()?;
        assert_eq!(String::from_utf8_lossy(&client.stdout).trim(), "42", "{client:?}");

        server.connect("root")?.query_drop("CREATE TABLE mysql.kept (a INT PRIMARY KEY)")?;
        server.restart()?;
        server.connect("root")?.query_drop("INSERT INTO mysql.kept VALUES (1)")?;
        server.kill9();
        assert!(!server.is_running());
        assert!(server.shutdown().is_err());
        server.restart()?;
        let kept: Option<u8> = server.connect("root")?.query_first("SELECT a FROM mysql.kept")?;
        assert_eq!(kept, Some(1));

        server.shutdown()?;
        assert!(!server.is_running());
        drop(server);
        assert!(!folder.exists());
        Ok(())
    }

    #[test]
    fn a_server_that_cannot_start_reports_the_reason() -> anyhow::Result<()> {
        let distribution = Distribution::find_or_fetch(&|message| eprintln!("{message}"))?;
        let options = ServerOptions { args: vec!["--no-such-option".to_owned()], ..ServerOptions::default() };
        let error = Server::start(&distribution, options).err().context("it started")?;
        assert!(format!("{error:#}").contains("no-such-option"), "{error:#}");
        Ok(())
    }
}
