//! Runs SQL inside the server while the statement's own thread waits and checks for KILL.
//!
//! The session lives on a thread of the library. On the caller's thread it would disturb the caller's statement. For X
//! Protocol clients, whose thread already holds a session, the server would refuse it.

use std::cell::Cell;
use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use mysql_ml_base::account::Account;
use surface::Function;

use super::caller::{current_account, may_execute_now, CallerContext};
use super::session::{Param, RunAs, Session};
use crate::mysql::ffi::symbols::server_api;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt, Waiting};
use mysql_ml_base::shares::{Share, Turn, Turns};
use mysql_ml_base::wait::Wait;
use mysql_ml_base::workers::{Config, Pending, Workers};

/// Time limit of internal statements together, unless the caller sets a shorter deadline.
pub const SQL_TIMEOUT: Duration = Duration::from_secs(30);

/// The account of an internal session, as chosen on the statement's thread.
#[derive(Debug, Clone)]
pub enum As {
    /// The library's own locked account.
    Library,
    /// The current user of the calling thread.
    Caller,
    /// Another account, with its default roles.
    Account(Account),
    /// The account that stored the text to run, with all roles granted to it, as a caller has them.
    Owner(Account),
}

impl As {
    fn resolve(&self) -> Result<RunAs> {
        Ok(match self {
            As::Library => RunAs::Library,
            As::Caller => RunAs::Caller(CallerContext::copy_current()?),
            As::Account(account) => RunAs::Account(account.clone()),
            As::Owner(account) => RunAs::Owner(account.clone()),
        })
    }
}

/// The kind of an internal session. It selects the pool, and restricts the library's functions in its statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// Not inside an internal session.
    NoSession,
    /// A short statement on the library's tables.
    LibraryStatement,
    /// A short statement with text of the caller's, or on tables that others may lock.
    CallerStatement,
    /// A session of an admitted job ([`job_turn`]), until the job's end.
    Job,
    /// A call of the keyring, which may be a service on the network.
    Keyring,
    /// Calls of users' functions, which may be slow.
    UserFunctions,
    /// A privilege probe: the library's functions must do nothing.
    PrivilegeProbe,
    /// A statement of the caller's whose functions only collect what they would ask.
    Collecting,
}

thread_local! {
    static KIND: Cell<SessionKind> = const { Cell::new(SessionKind::NoSession) };
}

/// The kind of the calling thread's internal session.
pub fn session_kind() -> SessionKind {
    KIND.with(Cell::get)
}

/// An error on the threads of internal sessions: they would wait for threads that wait for them.
pub fn refuse_inside_user_functions() -> Result<()> {
    if matches!(session_kind(), SessionKind::NoSession | SessionKind::Collecting) {
        return Ok(());
    }
    Err(Error::invalid(
        "cannot be called from inside a transform or header function; such functions must not call models",
    ))
}

/// The most concurrent jobs. One account has at most half of them, and half of that for one model.
pub const MAX_JOBS: usize = 128;

/// Sessions for a job, including those of an ended job that are still closing.
const SESSIONS_OF_JOB: usize = 6;

/// The longest wait of a job for admission.
const TURN_WITHIN: Duration = Duration::from_secs(60);

fn turns() -> &'static Turns {
    static TURNS: OnceLock<Turns> = OnceLock::new();
    TURNS.get_or_init(|| Turns::new(MAX_JOBS))
}

/// The number of admitted jobs.
pub fn jobs_under_way() -> usize {
    turns().taken()
}

/// Waits for the admission of a job, which then gets its sessions at once; without `patience` it fails instead of
/// waiting.
pub fn job_turn(share: Share, patience: bool, interrupt: &dyn Interrupt) -> Result<Turn<'static>> {
    let _waiting = Waiting::begin(interrupt, Wait::Job);
    let end = Instant::now() + if patience { TURN_WITHIN } else { Duration::ZERO };
    turns().take(share.clone(), end, interrupt)?.ok_or_else(|| {
        Error::new(
            Kind::NoTurn,
            format!(
                "too many jobs {share}are under way: of {MAX_JOBS} an account may have half of what others leave, and for one model half of that; wait for one to end, or KILL one"
            ),
        )
    })
}

/// The pool for a kind of session. Work that holds a place and work that its holders wait for never share a pool. Slow jobs,
/// users' text and functions, and a slow keyring block neither the registry nor KILL.
fn workers(kind: SessionKind) -> &'static Workers {
    static POOLS: OnceLock<[Workers; 6]> = OnceLock::new();
    let pool = |name, max_threads, wait| {
        Workers::new(Config {
            name,
            max_threads,
            max_waiting: 8192,
            idle: Duration::from_secs(10),
            // More than any @@thread_stack in use: the server measures stack use against that variable.
            stack: 16 << 20,
            wait: Some(wait),
            on_start: begin_thread,
            on_stop: end_thread,
        })
    };
    let [own, caller, job, functions, keyring, collecting] = POOLS.get_or_init(|| {
        [
            pool("mysql_ml-sql", 128, Wait::Statement),
            pool("mysql_ml-caller", 128, Wait::Statement),
            pool("mysql_ml-job", MAX_JOBS * SESSIONS_OF_JOB, Wait::Statement),
            pool("mysql_ml-user", 256, Wait::UserFunction),
            pool("mysql_ml-keys", 16, Wait::Keyring),
            pool("mysql_ml-collect", 128, Wait::Statement),
        ]
    });
    match kind {
        SessionKind::NoSession | SessionKind::LibraryStatement | SessionKind::PrivilegeProbe => own,
        SessionKind::CallerStatement => caller,
        SessionKind::Job => job,
        SessionKind::UserFunctions => functions,
        SessionKind::Keyring => keyring,
        SessionKind::Collecting => collecting,
    }
}

/// The pool for KILL of abandoned statements.
fn stoppers() -> &'static Workers {
    static STOPPERS: OnceLock<Workers> = OnceLock::new();
    STOPPERS.get_or_init(|| {
        Workers::new(Config {
            name: "mysql_ml-kill",
            max_threads: 16,
            max_waiting: 8192,
            idle: Duration::from_secs(10),
            stack: 16 << 20,
            wait: None,
            on_start: begin_thread,
            on_stop: end_thread,
        })
    })
}

fn begin_thread() -> Result<()> {
    let api = server_api()?;
    let _turn = THREAD_CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: a fresh thread of ours; the argument is a static name.
    match unsafe { (api.srv_session_init_thread)(std::ptr::from_ref(&THREAD_NAME).cast()) } {
        0 => Ok(()),
        _ => Err(Error::new(Kind::Busy, "the server did not accept a thread of the library")),
    }
}

fn end_thread() {
    let Ok(api) = server_api() else { return };
    let _turn = THREAD_CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: undoes begin_thread on the same thread; no session is open. While the server shuts down its lists of
    // threads and sessions may be gone already, so the thread then just ends.
    unsafe {
        if (api.srv_session_server_is_available)() != 0 {
            (api.srv_session_deinit_thread)();
        }
    }
}

/// When the last of the library's threads ends, the server closes every session under the library's name. A thread that
/// began between its count and that sweep would lose its session and crash the server. Threads therefore begin and end
/// one at a time.
static THREAD_CHANGES: Mutex<()> = Mutex::new(());

/// The name under which the server counts the library's sessions: `{const char*, size_t}`.
#[repr(C)]
struct ThreadName(*const std::ffi::c_char, usize);
// SAFETY: points to static, immutable bytes.
unsafe impl Sync for ThreadName {}
static THREAD_NAME: ThreadName = ThreadName(c"mysql_ml".as_ptr(), 8);

/// Opens a session as `account`, runs `work` in it on another thread and returns its result.
///
/// The calling thread waits until `deadline` or an interrupt; a statement still running then is killed.
pub fn with_session<T: Send + 'static>(
    account: &As,
    kind: SessionKind,
    interrupt: &dyn Interrupt,
    deadline: Instant,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<T> {
    let job = start_session(account, kind, work)?;
    job.wait(interrupt, deadline)
}

/// A session at work on another thread. Dropping it early kills its statement.
pub struct SessionJob<T> {
    pending: Pending<T>,
    account: As,
    id: Arc<AtomicU32>,
    abandoned: CancelToken,
    ended: Cell<bool>,
}

impl<T> SessionJob<T> {
    /// Waits for the end of the work.
    pub fn wait(&self, interrupt: &dyn Interrupt, deadline: Instant) -> Result<T> {
        let result = self.pending.wait(interrupt, deadline);
        // After an interrupt or the deadline it still runs.
        self.ended.set(!matches!(&result, Err(e) if matches!(e.kind(), Kind::Interrupted(_) | Kind::Timeout)));
        result
    }
}

impl<T> Drop for SessionJob<T> {
    fn drop(&mut self) {
        if !self.ended.get() {
            self.abandoned.cancel();
            kill(&self.account, self.id.load(Ordering::Acquire));
        }
    }
}

/// Opens a session as `account` and runs `work` in it on another thread, without waiting.
pub fn start_session<T: Send + 'static>(
    account: &As,
    kind: SessionKind,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<SessionJob<T>> {
    refuse_inside_user_functions()?;
    let run_as = account.resolve()?;
    let id = Arc::new(AtomicU32::new(0));
    let abandoned = CancelToken::default();
    let (session_id, cancelled) = (Arc::clone(&id), abandoned.clone());
    let share = match (kind, account) {
        // Admitted as a whole.
        (SessionKind::Job, _) => Share::default(),
        (_, account) => Share {
            // Threads of the library have no security context.
            account: current_account().ok().map(|a| a.to_string().into()),
            source: match account {
                As::Account(other) | As::Owner(other) => Some(format!("what {other} stored").into()),
                As::Library | As::Caller => None,
            },
        },
    };
    let pending = workers(kind).run(&share, &abandoned, move || {
        if cancelled.is_cancelled() {
            return Err(Error::interrupted(1317)); // it was queued, and its caller has stopped waiting
        }
        // Known from the start: becoming the account may already wait for a lock.
        let mut session = Session::open(run_as, |id| session_id.store(id, Ordering::Release))?;
        if cancelled.is_cancelled() {
            return Err(Error::interrupted(1317)); // a KILL that came between its first statements stopped none
        }
        KIND.with(|k| k.set(kind));
        let result = mysql_ml_base::panics::catch(|| work(&mut session));
        KIND.with(|k| k.set(SessionKind::NoSession));
        session_id.store(0, Ordering::Release);
        drop(session);
        result
    })?;
    Ok(SessionJob { pending, account: account.clone(), id, abandoned, ended: Cell::new(false) })
}

/// Kills the statement of the session `id`, without waiting: the caller has already been stopped.
fn kill(account: &As, id: u32) {
    if id == 0 {
        return;
    }
    let Ok(run_as) = account.resolve() else { return };
    let killing = stoppers().run(&Share::default(), &CancelToken::default(), move || {
        let mut session = Session::open(run_as, |_| {})?;
        session.query("KILL QUERY ?", &[Param::Number(id.into())])?;
        Ok(())
    });
    // A kill that fails leaves a statement that ends by its own lock wait timeout.
    drop(killing);
}

fn routine(function: &'static Function) -> Result<(&'static str, &'static str)> {
    function.routine_name().ok_or_else(|| Error::internal(format!("{} has no routine", function.name)))
}

/// Checks that the current user may execute the routine of a function; otherwise the server's own error 1370.
///
/// The answer is never kept: a REVOKE takes effect with the next call. Active roles are checked in memory. If they do
/// not suffice, the server checks all roles granted to the account.
pub fn check_may_execute(function: &'static Function, interrupt: &dyn Interrupt) -> Result<()> {
    let (schema, name) = routine(function)?;
    let text = |text: &str| CString::new(text).map_err(|_| Error::internal("a routine's name has a NUL"));
    if matches!(session_kind(), SessionKind::NoSession | SessionKind::Collecting)
        && may_execute_now(&text(schema)?, &text(name)?, function.is_procedure())
    {
        return Ok(());
    }
    check_account_may_execute(&As::Caller, function, interrupt)
}

/// The same for another account. Asks the server by calling the routine with NULLs in an internal session, where the
/// library's functions do nothing.
pub fn check_account_may_execute(account: &As, function: &'static Function, interrupt: &dyn Interrupt) -> Result<()> {
    let statement = if function.is_procedure() { "CALL" } else { "DO" };
    let nulls = vec!["NULL"; function.declared().count()].join(", ");
    let (schema, name) = routine(function)?;
    let statement = format!("{statement} {schema}.{name}({nulls})");
    let deadline = Instant::now() + SQL_TIMEOUT;
    with_session(account, SessionKind::PrivilegeProbe, interrupt, deadline, move |session| {
        session.run(statement.as_bytes()).map(|_| ())
    })
}
