//! `cargo xtask fuzz sql`: random statements over every function and routine, on a private server. Several accounts
//! run them at once, on a broken registry, while other sessions kill statements.
//!
//! A seed determines the statements of each session, but not their interleaving. The run fails if:
//! - the server ends;
//! - a statement has no answer within `HANG`;
//! - the error log has an `[ERROR]`, or an answer says `internal error`;
//! - a key appears in an answer or a log;
//! - the server's memory exceeds `MEMORY_MIB`;
//! - in a soak, memory grows in the second half, or threads or connections are left at the end.
//!
//! Left out, because the server itself crashes on it with any library (docs/server-crash.c, SECURITY.md):
//! - DROP FUNCTION and CREATE FUNCTION of loadable functions while other sessions call them;
//! - a subquery in an expression of a stored program that calls a loadable function (RETURN, SET, IF, DEFAULT, triggers).
//!
//! A session that changes privileges is not killed meanwhile, because the server itself can deadlock: `KILL` locks the
//! session and waits for the privileges, and the session's DROP FUNCTION holds the privileges and locks the session.

mod call;
mod catalogue;
mod statement;
mod value;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{bail, Context as _, Result};
use mysql::prelude::Queryable as _;
use mysql::{Conn, Opts, OptsBuilder};

use crate::mysqld::{Distribution, Server, ServerOptions};
use crate::surroundings::{self, ENV_KEY, FILE_KEY};
use crate::{library, sqlscript};
use catalogue::Catalogue;
use fake_providers::Endpoint;
use statement::{Generator, Step};

/// Time limit of every statement: waits for locks take 2 s, models 1 s, and jobs are small.
const HANG: Duration = Duration::from_secs(90);
/// The server's maximum memory.
const MEMORY_MIB: u64 = 3072;
/// Statements of each session in a report.
const SHOWN: usize = 12;
/// Bytes of a statement in a report.
const SHOWN_BYTES: usize = 2000;
/// The accounts, assigned to the sessions in turn: all privileges, the library's roles, none.
const ACCOUNTS: [&str; 4] = ["root", "fz_admin", "fz_user", "fz_nobody"];

/// Parameters of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Duration.
    pub seconds: u64,
    /// Seed of the statements.
    pub seed: u64,
    /// Number of concurrent sessions.
    pub sessions: usize,
    /// In a soak: the time in which the library's threads and connections must have ended after the sessions. `None`:
    /// they are not looked at, nor is the growth of memory.
    pub settle: Option<Duration>,
}

/// Statistics of a run without findings.
#[derive(Debug)]
pub struct Report {
    /// Number of sent statements.
    pub statements: u64,
    /// Number of statements that succeeded.
    pub succeeded: u64,
    /// Number of killed statements.
    pub killed: u64,
    /// The most frequent errors: the server's number, and the count.
    pub errors: Vec<(u16, u64)>,
    /// The peaks of the server's memory in the first half and in the second.
    pub peak_mib: [u64; 2],
}

/// State shared by the sessions and the watcher.
struct Shared {
    ended: AtomicBool,
    finding: Mutex<Option<String>>,
    statements: AtomicU64,
    succeeded: AtomicU64,
    killed: AtomicU64,
    errors: Mutex<BTreeMap<u16, u64>>,
    sessions: Vec<Session>,
}

/// A session's state, for the watcher and reports.
struct Session {
    account: &'static str,
    connection: AtomicU32,
    log: Mutex<Log>,
    /// Held by a `KILL` of this session, and by this session while it changes privileges.
    spared: Mutex<()>,
}

#[derive(Default)]
struct Log {
    last: VecDeque<String>,
    since: Option<Instant>,
}

impl Shared {
    fn find(&self, what: String) {
        self.finding.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
        self.ended.store(true, Ordering::SeqCst);
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

/// Runs the library at `built`. An error has the finding, the seed and the last statements of every session.
pub fn run(distribution: &Distribution, built: &Path, options: &Options, progress: &dyn Fn(&str)) -> Result<Report> {
    let catalogue = Arc::new(Catalogue::new());
    let endpoint = Endpoint::start()?;
    let secrets = tempfile::tempdir()?;
    surroundings::fill_secrets(&endpoint, secrets.path())?;
    let mut server = Server::start(
        distribution,
        ServerOptions {
            library: Some(built.to_owned()),
            env: surroundings::environment(&endpoint, secrets.path()),
            env_remove: surroundings::NOT_INHERITED.map(str::to_owned).to_vec(),
            args: [
                "--event-scheduler=ON",
                "--max-connections=200",
                "--innodb-lock-wait-timeout=2",
                "--lock-wait-timeout=2",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..ServerOptions::default()
        },
    )?;
    set_up(&server, &endpoint)?;
    let logged = server.error_log().len();
    let before = Resources::of(&server)?;
    let shared = Arc::new(Shared {
        ended: AtomicBool::new(false),
        finding: Mutex::new(None),
        statements: AtomicU64::new(0),
        succeeded: AtomicU64::new(0),
        killed: AtomicU64::new(0),
        errors: Mutex::new(BTreeMap::new()),
        sessions: ACCOUNTS
            .iter()
            .cycle()
            .take(options.sessions.max(1))
            .map(|account| Session {
                account,
                connection: AtomicU32::new(0),
                log: Mutex::new(Log::default()),
                spared: Mutex::new(()),
            })
            .collect(),
    });
    progress(&format!(
        "{} functions and routines, {} sessions, seed {}",
        catalogue.len(),
        options.sessions,
        options.seed
    ));
    let threads: Vec<_> = (0..shared.sessions.len())
        .map(|number| {
            let (shared, catalogue) = (Arc::clone(&shared), Arc::clone(&catalogue));
            let seed = options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number as u64);
            let opts = shared.sessions.get(number).map(|s| server.conn_opts(s.account, None)).unwrap_or_default();
            thread::spawn(move || session(number, &shared, Generator::new(&catalogue, number, seed), opts))
        })
        .collect();
    let peak_mib = watch(&server, &shared, options, logged, &threads);
    for thread in threads {
        // A hanging session is the finding itself; it is not waited for.
        if shared.finding.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            break;
        }
        if thread.join().is_err() {
            shared.find("a session of the fuzzer panicked".to_owned());
        }
    }
    let finding = shared.finding.lock().unwrap_or_else(PoisonError::into_inner).take();
    let settled = |settle| before.settle(&server, settle).or_else(|| growth(peak_mib));
    let finding = finding.or_else(|| options.settle.and_then(settled));
    let finding = finding.or_else(|| at_the_end(&mut server, logged));
    if let Some(what) = finding {
        bail!("{what}\n\nseed {}, {} sessions\n{}", options.seed, options.sessions, last_statements(&shared, &server));
    }
    let mut errors: Vec<(u16, u64)> =
        shared.errors.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(code, n)| (*code, *n)).collect();
    errors.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    errors.truncate(12);
    Ok(Report {
        errors,
        statements: shared.statements.load(Ordering::SeqCst),
        succeeded: shared.succeeded.load(Ordering::SeqCst),
        killed: shared.killed.load(Ordering::SeqCst),
        peak_mib,
    })
}

/// Installs the library; creates accounts, tables and models to work on.
fn set_up(server: &Server, endpoint: &Endpoint) -> Result<()> {
    let mut root = server.connect("root")?;
    for name in library::INSTALL_SCRIPTS {
        let script = std::fs::read_to_string(library::workspace_root().join(name)).context(name)?;
        sqlscript::run(&mut root, &script, name)?;
    }
    let script = include_str!("fuzz/set_up.sql").replace("{{endpoint}}", endpoint.url("").trim_end_matches('/'));
    sqlscript::run(&mut root, &script, "set_up.sql")
}

/// Sends statements until the end.
fn session(number: usize, shared: &Shared, mut generator: Generator<'_>, opts: Opts) {
    let Some(own) = shared.sessions.get(number) else { return };
    // The driver's own limit is longer than the watcher's, which reports a hang.
    let opts: Opts = OptsBuilder::from_opts(opts).read_timeout(Some(HANG * 2)).into();
    let mut conn: Option<Conn> = None;
    while !shared.ended() {
        let Some(open) = &mut conn else {
            match Conn::new(opts.clone()) {
                Ok(mut new) => {
                    own.connection.store(new.connection_id(), Ordering::SeqCst);
                    let _ = new.query_drop("SET SESSION lock_wait_timeout = 2");
                    conn = Some(new);
                }
                // The watcher distinguishes a server that ended from one that is full.
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
            continue;
        };
        let step = generator.next();
        {
            let mut log = own.log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.last.len() == SHOWN {
                log.last.pop_front();
            }
            log.last.push_back(step.to_string());
            log.since = Some(Instant::now());
        }
        let result = match &step {
            Step::Kill { session, connection } => kill(open, shared.sessions.get(*session), *connection),
            step => {
                let spared =
                    step.changes_privileges().then(|| own.spared.lock().unwrap_or_else(PoisonError::into_inner));
                let result = send(open, step);
                drop(spared);
                result
            }
        };
        let note = match &result {
            Ok(seen) => {
                shared.succeeded.fetch_add(1, Ordering::Relaxed);
                format!("ok, {seen} bytes")
            }
            Err(error) => format!("{error:#}"),
        };
        shared.statements.fetch_add(1, Ordering::Relaxed);
        {
            let mut log = own.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.since = None;
            if let Some(last) = log.last.back_mut() {
                last.push_str("\n      -> ");
                last.push_str(shortened(&note));
            }
        }
        if let Err(error) = result {
            if note.contains("internal error") || note.contains("please report") {
                shared.find(format!("an internal error: {note}\nof: {step}"));
            }
            if let Some(key) = key_in(note.as_bytes()) {
                shared.find(format!("an error holds the key {key}: {note}\nof: {step}"));
            }
            match error.downcast_ref::<mysql::Error>() {
                Some(mysql::Error::MySqlError(server)) => {
                    *shared.errors.lock().unwrap_or_else(PoisonError::into_inner).entry(server.code).or_default() += 1;
                    if matches!(server.code, 1317 | 3024) {
                        shared.killed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Some(_) => conn = None,
                None => shared.find(format!("{error:#}\nof: {step}")),
            }
        }
    }
}

/// Sends one statement and reads its whole answer. Returns the answer's size.
fn send(conn: &mut Conn, step: &Step) -> Result<usize> {
    let mut seen = 0;
    let mut check = |row: mysql::Row| -> Result<()> {
        for value in row.unwrap_raw().into_iter().flatten() {
            if let mysql::Value::Bytes(bytes) = value {
                seen += bytes.len();
                if let Some(key) = key_in(&bytes) {
                    bail!("an answer holds the key {key}");
                }
            }
        }
        Ok(())
    };
    match step {
        Step::Text(sql) => {
            let mut result = conn.query_iter(sql)?;
            while let Some(set) = result.iter() {
                for row in set {
                    check(row?)?;
                }
            }
        }
        Step::Prepared(sql, parameters) => {
            let statement = conn.prep(sql)?;
            let mut result = conn.exec_iter(&statement, parameters.clone())?;
            while let Some(set) = result.iter() {
                for row in set {
                    check(row?)?;
                }
            }
        }
        Step::Kill { .. } => bail!("not a statement: {step}"),
    }
    Ok(seen)
}

/// Kills the statement, or the connection, of a session that does not change privileges.
fn kill(conn: &mut Conn, session: Option<&Session>, connection: bool) -> Result<usize> {
    let Some(session) = session else { return Ok(0) };
    let _spared = match session.spared.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
        Err(TryLockError::WouldBlock) => return Ok(0),
    };
    let what = if connection { "" } else { "QUERY " };
    conn.query_drop(format!("KILL {what}{}", session.connection.load(Ordering::SeqCst)))?;
    Ok(0)
}

/// Watches the server until the time is over and the sessions have ended, or there is a finding. Returns its peak
/// memory in MiB, in the first half of the time and in the second.
fn watch(server: &Server, shared: &Shared, options: &Options, logged: usize, threads: &[JoinHandle<()>]) -> [u64; 2] {
    let whole = Duration::from_secs(options.seconds);
    let (middle, end) = (Instant::now() + whole / 2, Instant::now() + whole);
    let mut peaks = [0; 2];
    let found = || shared.finding.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    while !found() && !threads.iter().all(JoinHandle::is_finished) {
        thread::sleep(Duration::from_millis(250));
        if Instant::now() > end {
            shared.ended.store(true, Ordering::SeqCst);
        }
        if !server.is_running() {
            shared.find("the server ended".to_owned());
            break;
        }
        if let Some(error) = errors(&server.error_log(), logged) {
            shared.find(error);
        }
        let rss = server.rss_kib().unwrap_or(0) / 1024;
        let [first, second] = &mut peaks;
        let peak = if Instant::now() < middle { first } else { second };
        *peak = rss.max(*peak);
        if rss > MEMORY_MIB {
            shared.find(format!("the server has {rss} MiB of memory"));
        }
        for session in &shared.sessions {
            let log = session.log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.since.is_some_and(|since| since.elapsed() > HANG) {
                let statement = log.last.back().cloned().unwrap_or_default();
                drop(log);
                shared.find(format!("no answer for {HANG:?} to {}: {statement}", session.account));
            }
        }
    }
    peaks
}

/// Growth of memory from the first half to the second that is more than chance.
fn growth([first, second]: [u64; 2]) -> Option<String> {
    (second > first + first / 5 + 100)
        .then(|| format!("memory grew from {first} MiB in the first half to {second} MiB"))
}

/// What a server keeps: the library's threads, and sockets of all kinds.
#[derive(Debug, Clone, Copy)]
struct Resources {
    threads: usize,
    sockets: usize,
}

impl Resources {
    fn of(server: &Server) -> Result<Self> {
        let process = Path::new("/proc").join(server.pid()?.to_string());
        // Threads and descriptors may end meanwhile.
        let entries = |folder: &str| -> Result<Vec<_>> {
            Ok(std::fs::read_dir(process.join(folder))?.filter_map(|entry| Some(entry.ok()?.path())).collect())
        };
        let of_library = |task: &std::path::PathBuf| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("mysql_ml"))
        };
        let is_socket = |descriptor: &std::path::PathBuf| {
            std::fs::read_link(descriptor).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        Ok(Resources {
            threads: entries("task")?.iter().filter(|task| of_library(task)).count(),
            sockets: entries("fd")?.iter().filter(|descriptor| is_socket(descriptor)).count(),
        })
    }

    /// Waits until there is no more than this; else says what is left.
    fn settle(self, server: &Server, within: Duration) -> Option<String> {
        let end = Instant::now() + within;
        loop {
            let now = match Resources::of(server) {
                Ok(now) => now,
                Err(error) => return Some(format!("{error:#}")),
            };
            if now.threads <= self.threads && now.sockets <= self.sockets {
                return None;
            }
            if Instant::now() > end {
                return Some(format!("after {within:?} without sessions there is {now:?}, before there was {self:?}"));
            }
            thread::sleep(Duration::from_millis(250));
        }
    }
}

/// The last checks, after all sessions: the server works and shuts down, and its logs are clean.
fn at_the_end(server: &mut Server, logged: usize) -> Option<String> {
    let works = || -> Result<()> {
        let opts = OptsBuilder::from_opts(server.conn_opts("root", None)).read_timeout(Some(HANG));
        let mut root = Conn::new(opts)?;
        root.query_drop(
            "SELECT ml_version(), cosine_distance(x'0000803f', x'0000803f'), CAST(ml_list_settings() AS CHAR)",
        )?;
        Ok(())
    };
    // A broken registry must be an error that names it.
    if let Err(error) = works()
        && !matches!(error.downcast_ref::<mysql::Error>(), Some(mysql::Error::MySqlError(e)) if e.code != 1305)
    {
        return Some(format!("after the run the library does not work: {error:#}"));
    }
    if let Err(error) = server.shutdown() {
        return Some(format!("the server does not shut down: {error:#}"));
    }
    let log = server.error_log();
    if let Some(key) = key_in(log.as_bytes()).or_else(|| key_in(server.general_log().as_bytes())) {
        return Some(format!("a log of the server holds the key {key}"));
    }
    errors(&log, logged)
}

/// The first error in the server's log that does not come from a statement of the fuzzer.
fn errors(log: &str, logged: usize) -> Option<String> {
    log.get(logged..)?
        .lines()
        .find(|line| {
            let serious = line.contains("[ERROR]") || line.contains("internal error") || line.contains("signal ");
            // The event scheduler logs errors of users' events, which are frequent here.
            serious && !line.contains("Event Scheduler:") && !line.contains("MY-010045")
        })
        .map(|line| format!("the error log says: {line}"))
}

/// The key in `bytes`, if there is one.
fn key_in(bytes: &[u8]) -> Option<&'static str> {
    [ENV_KEY, FILE_KEY, "PRIVATE KEY", "ya29."]
        .into_iter()
        .find(|key| bytes.windows(key.len()).any(|window| window == key.as_bytes()))
}

fn shortened(text: &str) -> &str {
    if text.len() <= SHOWN_BYTES {
        return text;
    }
    let end = (0..=SHOWN_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

fn last_statements(shared: &Shared, server: &Server) -> String {
    let mut report = String::new();
    for (number, session) in shared.sessions.iter().enumerate() {
        report.push_str(&format!("\nsession {number}, {}:\n", session.account));
        for statement in &session.log.lock().unwrap_or_else(PoisonError::into_inner).last {
            report.push_str(&format!("  {}\n", shortened(statement)));
        }
    }
    let log = server.error_log();
    let lines: Vec<&str> = log.lines().collect();
    report.push_str("\nthe error log ends:\n");
    for line in lines.iter().skip(lines.len().saturating_sub(50)) {
        report.push_str(&format!("  {line}\n"));
    }
    report
}
