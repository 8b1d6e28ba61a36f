//! `ai.query`: a statement whose calls of models are collected, made together, and found when the statement runs.
//!
//! Passes run the statement in an internal session of the caller's account, in a read-only transaction. The statement
//! itself then runs in the caller's session, and calls singly for whatever is still unknown.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;
use serde_json::{Map, Value};

use mysql_ml_base::account::Account;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_core::engine::collected::{Active, Collection, Pass};
use mysql_ml_core::engine::SetOptions;

use super::engine;
use crate::mysql::caller::{connection_id, current_account};
use crate::mysql::error_numbers::{ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, ER_NO_DB};
use crate::mysql::meaning::Meaning;
use crate::mysql::sql::{with_session, As, SessionKind};
use crate::tables::expression::{Code, Word};

/// The longest time that one pass may take. KILL ends it too.
const PASS_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// The most passes of one statement.
const MAX_PASSES: u32 = 1000;

/// How long the answers of a statement are found: a KILL may keep it from releasing them.
const KEPT: Duration = Duration::from_secs(600);

/// The statements whose answers are in use, by connection.
#[derive(Default)]
struct Queries {
    by_connection: Mutex<HashMap<u64, Query>>,
    /// Their number, which calls read first.
    count: AtomicUsize,
}

struct Query {
    account: Account,
    answers: Arc<Collection>,
    since: Instant,
}

static QUERIES: Lazy<Queries> = Lazy::new(Queries::default);

impl Queries {
    /// Makes a change at a time, when what was kept too long is released.
    fn change<T>(&self, now: Instant, change: impl FnOnce(&mut HashMap<u64, Query>) -> T) -> T {
        let mut queries = self.lock();
        queries.retain(|_, query| now.saturating_duration_since(query.since) < KEPT);
        let changed = change(&mut queries);
        self.count.store(queries.len(), Ordering::Release);
        changed
    }

    /// The answers of a connection's statement, if it belongs to the account.
    fn answers(&self, id: u64, account: &Account, now: Instant) -> Option<Arc<Collection>> {
        let own = |queries: &mut HashMap<u64, Query>| {
            queries.get(&id).filter(|query| query.account == *account).map(|query| Arc::clone(&query.answers))
        };
        self.change(now, own)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Query>> {
        self.by_connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the answers of the connection's statement active on this thread; `None` if it has none.
pub fn answers_of_connection() -> Option<Active> {
    if QUERIES.count.load(Ordering::Acquire) == 0 {
        return None;
    }
    let (id, account) = (connection_id()?, current_account().ok()?);
    QUERIES.answers(id, &account, Instant::now()).map(Active::set)
}

/// Runs passes over `statement` until every input is known, and keeps the answers for the connection. Returns the
/// statement.
pub fn collect(statement: &str, options: SetOptions, interrupt: &dyn Interrupt) -> Result<String> {
    let meaning = Meaning::of_caller();
    let statement = read_only(statement, &meaning)?;
    let (id, account) = match (connection_id(), current_account()) {
        (Some(id), Ok(account)) => (id, account),
        _ => return Err(Error::internal("no statement on this thread")),
    };
    release();
    let answers = Arc::new(Collection::default());
    for _ in 0..MAX_PASSES {
        if pass(&statement, &meaning, &answers, options.packing.rows, interrupt)? == Pass::Complete {
            let since = Instant::now();
            QUERIES.change(since, |queries| queries.insert(id, Query { account, answers, since }));
            return Ok(statement);
        }
        engine().ask_noted(&answers, options, interrupt)?;
    }
    Err(Error::new(Kind::TooLarge, format!("the statement needs more than {MAX_PASSES} passes; divide it")))
}

/// Releases the answers of the connection.
pub fn release() {
    if let Some(id) = connection_id() {
        QUERIES.change(Instant::now(), |queries| queries.remove(&id));
    }
}

/// One pass. `rows`: inputs of one request.
fn pass(
    statement: &str,
    meaning: &Meaning,
    answers: &Arc<Collection>,
    rows: usize,
    interrupt: &dyn Interrupt,
) -> Result<Pass> {
    let (statement, meaning, own) = (statement.to_owned(), meaning.clone(), Arc::clone(answers));
    answers.begin_pass(rows);
    let deadline = Instant::now() + PASS_WITHIN;
    let ran = with_session(&As::Caller, SessionKind::Collecting, interrupt, deadline, move |session| {
        meaning.set_in(session)?;
        session.query("START TRANSACTION READ ONLY", &[])?;
        let _active = Active::set(own);
        session.run_without_rows(statement.as_bytes())
    });
    match answers.end_pass(ran) {
        Err(e) if e.kind() == Kind::Server(ER_NO_DB) => Err(Error::new(
            e.kind(),
            format!("{}; ai.query has no default schema: name every table with its schema", e.message()),
        )),
        // It writes.
        Err(e) if e.kind() == Kind::Server(ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION) => Err(e),
        // Functions that are not collected are NULL in passes: the statement itself shows whether it is wrong.
        Err(e) if matches!(e.kind(), Kind::Server(_)) => Ok(Pass::Complete),
        ended => ended,
    }
}

/// The statement without what ends it; an error if it may do more than read.
pub fn read_only(statement: &str, meaning: &Meaning) -> Result<String> {
    let code = Code::of(statement, !meaning.has_mode("NO_BACKSLASH_ESCAPES"));
    let statement = statement.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    let words = &code.words;
    let refuse = |why: &str| {
        Err(Error::invalid(format!(
            "the statement {why}; ai.query runs a statement several times and takes only one SELECT that changes nothing"
        )))
    };
    let begins = |keyword: &&str| words.first().is_some_and(|word| word.is_keyword(keyword));
    if !["SELECT", "WITH", "TABLE", "VALUES"].iter().any(begins) {
        return refuse("is not a SELECT");
    }
    if code.code.trim_end_matches(|c: char| c == ';' || c.is_whitespace()).contains(';') {
        return refuse("has a ';' inside");
    }
    if code.code.contains(":=") || code.code.contains("/*!") {
        return refuse("assigns a variable or has an executable comment");
    }
    let pair = |first: &str, second: &[&str]| {
        let follows = |word: &Word| second.iter().any(|keyword| word.is_keyword(keyword));
        words.iter().zip(words.iter().skip(1)).any(|(a, b)| a.is_keyword(first) && follows(b))
    };
    if code.names_user_variable() {
        return refuse("names a user variable, which passes in other sessions do not know (write its value)");
    }
    if words.iter().any(|word| word.is_keyword("INTO")) {
        return refuse("has INTO");
    }
    if pair("FOR", &["UPDATE", "SHARE"]) || pair("LOCK", &["IN"]) {
        return refuse("locks rows");
    }
    const EFFECTS: [&str; 12] = [
        "GET_LOCK",
        "RELEASE_LOCK",
        "RELEASE_ALL_LOCKS",
        "SLEEP",
        "BENCHMARK",
        "LAST_INSERT_ID",
        "NEXTVAL",
        "SETVAL",
        "LOAD_FILE",
        "MASTER_POS_WAIT",
        "SOURCE_POS_WAIT",
        "WAIT_FOR_EXECUTED_GTID_SET",
    ];
    if let Some(effect) = EFFECTS.iter().find(|effect| words.iter().any(|word| word.calls(effect))) {
        return refuse(&format!("calls {effect}"));
    }
    Ok(statement.to_owned())
}

/// Reads the options of `ai.query`.
pub fn read_options(members: Map<String, Value>) -> Result<SetOptions> {
    let mut members = members;
    let options = SetOptions::take(&mut members)?;
    match members.keys().next() {
        None if options.each.on_error.is_none() && options.each.cache_answers.is_none() => Ok(options),
        None => Err(Error::invalid(
            "options on_error and cache_answers belong into the functions of the statement, the model's options or the settings",
        )),
        Some(name) => Err(Error::invalid(format!(
            "option '{}' is not known; accepted: concurrency, max_error_ratio, rows_per_request, max_input_tokens",
            mysql_ml_base::error::cut(name, 60)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_ten_minutes_and_for_their_connection_and_account() {
        let queries = Queries::default();
        let account = |user: &str| Account { user: user.into(), host: "%".into() };
        let since = Instant::now();
        let query = |answers| Query { account: account("a"), answers, since };
        let answers = Arc::new(Collection::default());
        queries.change(since, |all| all.insert(7, query(Arc::clone(&answers))));
        let found = |id, user: &str, after: u64| {
            queries.answers(id, &account(user), since + Duration::from_secs(after)).is_some()
        };
        assert!(found(7, "a", 0) && found(7, "a", 599));
        assert!(!found(8, "a", 0) && !found(7, "b", 0));
        assert_eq!((queries.count.load(Ordering::Acquire), Arc::strong_count(&answers)), (1, 2));
        assert!(!found(7, "a", 600));
        // Released, not only hidden: calls do not look for answers any more, and their memory is free.
        assert_eq!((queries.count.load(Ordering::Acquire), Arc::strong_count(&answers)), (0, 1));
    }

    #[test]
    fn statements_that_do_more_than_read_are_refused() {
        let of = |statement: &str| read_only(statement, &Meaning::default());
        assert_eq!(of(" SELECT 1 ; ").unwrap(), "SELECT 1");
        for good in [
            "select `into` from s.t where ai.if('INTO; FOR UPDATE', 'm')",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "TABLE s.t",
            "VALUES ROW(1)",
            "SELECT 'x' -- INTO\n",
            "SELECT sleep, `get_lock`, \"SLEEP(1)\", 'SLEEP'(1) FROM s.t",
            "SELECT `a``into`, `for` update FROM s.t",
        ] {
            assert!(of(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "INSERT INTO s.t SELECT 1",
            "DELETE FROM s.t",
            "SELECT 1; SELECT 2",
            "SELECT 1 INTO @x",
            "SELECT 1 INTO OUTFILE '/tmp/x'",
            "SELECT * FROM s.t FOR UPDATE",
            "SELECT * FROM s.t LOCK IN SHARE MODE",
            "SELECT @x := 1",
            "SELECT ai.if(@x, 'm')",
            "SELECT GET_LOCK('a', 1)",
            "SELECT `GET_LOCK`('a', 1)",
            "SELECT `sleep` (1)",
            "SELECT `a``b`, `SLEEP`/**/(1)",
            "SELECT \"sleep\"(1)",
            "SELECT /*! SLEEP(1) */ 1",
            "CALL s.p()",
            "WITH a AS (SELECT 1) UPDATE s.t SET x = 1",
        ] {
            let refused = of(bad).is_err() || bad.starts_with("WITH");
            assert!(refused, "{bad}");
        }
    }
}
