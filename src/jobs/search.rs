//! `ai.search`: the statements that it runs in the caller's session, one after the other.
//!
//! The index proposes candidates; a statement of the caller joins them to the table, applies the filter, and computes exact
//! distances. If too few rows are left, more lists and candidates are tried, and at last the whole table. All statements
//! see one snapshot: the procedure opens a transaction if there is none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{json, Map, Value};
use surface::functions;

use super::rights::{as_account, refuse_temporary_table};
use super::vector_index::access::{look_up, obstacle, the_index};
use super::vector_index::measures::{distance_sql, take_measure};
use super::Jobs;
use crate::mysql::caller::{connection_id, current_account, in_transaction, reads_are_consistent};
use crate::mysql::sql::As;
use crate::tables::configs;
use crate::tables::keyed::Keyed;
use crate::tables::layout::{is_named, parse_table, quoted, unquoted};
use crate::tables::statements::Key;
use crate::tables::vector_indexes::{set_stale, VectorIndex, MOST_CHANGES};
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::role::Role;
use mysql_ml_base::vector::{check_bytes, to_bytes};
use mysql_ml_core::catalog::members::{self, Members};
use mysql_ml_index::{Candidate, Layout, Limits};

/// The most rows that a search returns.
const MOST_ROWS: u64 = 10_000;
/// The recall that a search aims at by default.
const RECALL: f64 = 0.98;
/// The most candidates that are compared exactly; beyond, the table is read.
const MOST_CANDIDATES: usize = 20_000;
/// Rows that pass the filter, in results, so that the nearest of them are among the candidates.
const ENOUGH: u64 = 3;
/// How long what is known of a column is kept between searches.
const KEPT: Duration = Duration::from_secs(1);
/// How long a connection may use its permission to ask an index.
const ALLOWED: Duration = Duration::from_secs(10);
/// The most searches of an account that are under way.
const MOST_OF_AN_ACCOUNT: usize = 500;
/// The longest search.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a candidate's key besides its digits.
const BESIDE_A_KEY: usize = 96;
/// The most searches under way, and remembered ones.
const MOST_SEARCHES: usize = 10_000;

/// The options of a search.
#[derive(Debug, Default, Clone, PartialEq)]
struct Options {
    columns: Vec<String>,
    filter: Option<String>,
    measure: Option<String>,
    recall: Option<f64>,
    exact: bool,
    model_id: Option<String>,
}

impl Options {
    fn read(text: Option<&str>) -> Result<Self> {
        let mut members = members::of(text)?;
        let names = |value: Value| match value {
            Value::Array(names) if !names.is_empty() => {
                names.into_iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            }
            _ => None,
        };
        let options = Options {
            measure: take_measure(&mut members)?,
            filter: members::text(&mut members, "where")?,
            model_id: members::text(&mut members, "model_id")?,
            exact: members::flag(&mut members, "exact")?.unwrap_or(false),
            recall: take_recall(&mut members)?,
            columns: members::take(&mut members, "columns", "an array of columns", names)?.unwrap_or_default(),
        };
        members::none_left(&members, "columns, where, distance_measure, recall, exact, model_id")?;
        Ok(options)
    }
}

fn take_recall(members: &mut Members) -> Result<Option<f64>> {
    let recall = |value: Value| value.as_f64().filter(|recall| *recall > 0.0 && *recall <= 1.0);
    members::take(members, "recall", "a number above 0, at most 1", recall)
}

/// What a search does next.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// Asks the index.
    Propose,
    /// Compares the candidates exactly.
    Rank,
    /// Decides by the ranks.
    Decide,
    /// Reads the table.
    Scan,
    /// Has returned the last statement.
    End,
}

/// How a search came to its rows, for `ml_vector_search_status`.
#[derive(Debug, Default, Clone)]
struct Report {
    path: &'static str,
    reason: Option<String>,
    rounds: u64,
    lists: u64,
    candidates: usize,
    changed: usize,
}

/// A search under way.
struct Search {
    index: Option<VectorIndex>,
    keyed: Keyed,
    measure: String,
    /// The query as a SQL literal.
    query: String,
    dimensions: usize,
    rows: u64,
    options: Options,
    step: Step,
    keys: Vec<Key>,
    account: Account,
    begun: Instant,
    /// The reservation of query, keys and statement.
    share: Reservation,
    /// Whether the last candidates are all rows of the table.
    complete: bool,
    most: usize,
    /// The least number of lists to read, by the part of rows that pass.
    lists: u64,
    report: Report,
}

/// What is known of a column and an account.
#[derive(Clone)]
struct Known {
    index: Option<VectorIndex>,
    keyed: Keyed,
    obstacle: Option<String>,
    read_at: Instant,
}

/// An account, and schema, table, column and measure as it named them.
type Asked = (Account, String, String, String, Option<String>);

/// Searches of connections, and what was read for them.
#[derive(Default)]
pub(super) struct Searches {
    active: Mutex<HashMap<u64, Search>>,
    reports: Mutex<HashMap<u64, Report>>,
    known: Mutex<HashMap<Asked, Arc<Known>>>,
    /// Connections that may ask an index for candidates once, because they may read its table.
    allowed: Mutex<HashMap<(u64, u64), Instant>>,
}

impl Searches {
    /// Lets a connection ask an index for candidates, once.
    pub fn allow(&self, connection: u64, index: u64) {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        if allowed.len() >= MOST_SEARCHES {
            allowed.retain(|_, at| at.elapsed() < ALLOWED);
        }
        allowed.insert((connection, index), Instant::now());
    }

    fn is_allowed(&self, connection: u64, index: u64) -> bool {
        let given = self.allowed.lock().unwrap_or_else(PoisonError::into_inner).remove(&(connection, index));
        given.is_some_and(|at| at.elapsed() < ALLOWED)
    }
}

/// Forgets what is known of an index's column.
pub(super) fn forget(index: &VectorIndex) {
    let mut known = Jobs::global().searches.known.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|_, known| {
        known.keyed.schema != index.schema || known.keyed.table != index.table || known.keyed.column != index.column
    });
}

/// In the place of an index: a connection that has read its lists may read its blocks.
pub const ITS_BLOCKS: u64 = u64::MAX;

/// An error unless this connection was allowed to ask the index. Then it may read its blocks.
pub fn must_be_allowed(index: u64) -> Result<()> {
    let searches = &Jobs::global().searches;
    if !reads_are_consistent() {
        return Err(Error::invalid(LOCKING));
    }
    let allowed = connection_id().filter(|connection| searches.is_allowed(*connection, index));
    if let Some(connection) = allowed {
        if index != ITS_BLOCKS {
            searches.allow(connection, ITS_BLOCKS);
        }
        Ok(())
    } else {
        Err(Error::new(
            Kind::Denied,
            "candidates are given to ai.search and ai.vector_candidates only, which check the rights on the table; call one of these",
        ))
    }
}

/// Lists to read by default.
pub(super) fn default_lists(index: &VectorIndex) -> u64 {
    lists_for(index, RECALL)
}

/// Lists to read for a recall, by the measured shares of neighbours.
fn lists_for(index: &VectorIndex, recall: f64) -> u64 {
    // The shares are measured on some hundred neighbours, and candidates lose a little too.
    let wanted = recall + (1.0 - recall) * 0.4;
    index.coverage.iter().find(|(_, share)| *share >= wanted).map_or(index.lists, |(lists, _)| *lists).max(1)
}

/// Candidates to compare exactly for a number of rows.
pub(super) fn candidates_for(rows: u64) -> usize {
    Limits::of(usize::try_from(rows).unwrap_or(usize::MAX)).most.min(MOST_CANDIDATES)
}

/// A vector from an argument: bytes of a VECTOR, or a text like `[1, 2]`; otherwise a text to embed.
enum Query {
    Vector(Vec<u8>),
    Text(String),
}

/// Reads the argument `query`. `widths`: bytes of the column's vectors.
fn read_query(bytes: &[u8], widths: &[usize]) -> Result<Query> {
    let text = std::str::from_utf8(bytes).ok();
    let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    match text.filter(|text| !text.contains(control)) {
        Some(text) if text.trim_start().starts_with('[') => {
            let numbers: Vec<f32> = serde_json::from_str(text).map_err(|_| {
                Error::invalid("the query begins like a vector, but is no array of numbers; write [0.1, 0.2]")
            })?;
            Ok(Query::Vector(to_bytes(&numbers)?))
        }
        // Bytes that could be both.
        Some(_) if widths.contains(&bytes.len()) => Err(Error::invalid(format!(
            "the query has {} bytes, as a vector of the column has, and is text too; write a vector as [0.1, 0.2], or add a space to a text",
            bytes.len()
        ))),
        Some(text) if !text.trim().is_empty() => Ok(Query::Text(text.to_owned())),
        Some(_) => Err(Error::invalid("the query is empty; give a vector or a text")),
        None if bytes.len().is_multiple_of(4) && widths.iter().any(|width| bytes.len() <= *width) => {
            check_bytes(bytes)?;
            Ok(Query::Vector(bytes.to_vec()))
        }
        None => Err(Error::invalid(format!(
            "the query has {} bytes, which are neither text in UTF-8 nor a vector for the column; pass a VECTOR, or a text in utf8mb4",
            bytes.len()
        ))),
    }
}

impl Jobs {
    /// Begins the search of this connection. Returns whether it needs a transaction of its own.
    pub fn begin_search(
        &self,
        table: &str,
        column: &str,
        query: &[u8],
        rows: Option<&str>,
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<bool> {
        self.engine.may_call(functions::ai_search_begin, interrupt)?;
        let connection = connection_id().ok_or_else(|| Error::internal("no connection"))?;
        let account = current_account()?;
        let options = Options::read(options)?;
        let rows = rows.map_or(Ok(10), |text| {
            let rows = text.trim().parse::<u64>().ok().filter(|n| (1..=MOST_ROWS).contains(n));
            rows.ok_or_else(|| Error::invalid(format!("k takes a whole number from 1 to {MOST_ROWS}")))
        })?;
        refuse_temporary_table(table)?;
        let known = self.known(table, column, options.measure.as_deref(), interrupt)?;
        let keyed = known.keyed.clone();
        for column in &options.columns {
            if !keyed.columns.iter().any(|c| is_named(c, column)) {
                return Err(Error::new(
                    Kind::NotFound,
                    format!("option columns: {} has no column '{}'; check its name", keyed.name(), cut(column, 64)),
                ));
            }
        }
        let mut widths = vec![keyed.width * 4];
        widths
            .extend(known.index.as_ref().and_then(|i| Layout::from_bytes(&i.layout).ok()).map(|l| l.dimensions() * 4));
        let query = match read_query(query, &widths)? {
            Query::Vector(vector) => vector,
            Query::Text(text) => self.embed_query(&keyed, &options, &text, interrupt)?,
        };
        let mut search = Search {
            measure: options
                .measure
                .clone()
                .or_else(|| known.index.as_ref().map(|index| index.measure.clone()))
                .unwrap_or_else(|| "cosine".to_owned()),
            index: known.index.clone(),
            keyed,
            dimensions: query.len() / 4,
            query: format!("_binary {}", crate::mysql::session::hex_literal(&query)),
            rows,
            options,
            step: Step::Propose,
            keys: Vec::new(),
            account: account.clone(),
            begun: Instant::now(),
            share: Reservation::take(query.len() * 4, "the query of a search")?,
            complete: false,
            most: candidates_for(rows),
            lists: 0,
            report: Report { path: "index", ..Report::default() },
        };
        search.choose_path(known.obstacle.as_deref())?;
        let mut active = self.searches.active.lock().unwrap_or_else(PoisonError::into_inner);
        // A KILL leaves its search behind.
        active.retain(|_, search| search.begun.elapsed() < LONGEST);
        let own = |search: &&Search| search.account == account;
        if active.values().filter(own).count() >= MOST_OF_AN_ACCOUNT {
            let oldest = active.iter().filter(|(_, search)| own(search)).min_by_key(|(_, search)| search.begun);
            let oldest = oldest.map(|(connection, _)| *connection);
            oldest.and_then(|connection| active.remove(&connection));
        }
        if active.len() >= MOST_SEARCHES && !active.contains_key(&connection) {
            return Err(Error::new(Kind::Busy, "too many searches are under way; call again"));
        }
        active.insert(connection, search);
        Ok(!in_transaction())
    }

    /// The next statement of this connection's search; `None` after the last. `found`: the result of the one before.
    pub fn next_of_search(&self, found: Option<&str>) -> Result<Option<String>> {
        let connection = connection_id().ok_or_else(|| Error::internal("no connection"))?;
        let active = || self.searches.active.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out: others do not wait for this one's statement.
        let mut search =
            active().remove(&connection).ok_or_else(|| Error::invalid("no search is under way; call ai.search"))?;
        let statement = search.next(found)?;
        if let (Step::Rank, Some(index)) = (search.step, &search.index) {
            self.searches.allow(connection, index.id);
        }
        match &statement {
            Some(_) => drop(active().insert(connection, search)),
            None => self.note(connection, search.report),
        }
        Ok(statement)
    }

    /// Ends the search of this connection after an error.
    pub fn end_search(&self) {
        if let Some(connection) = connection_id() {
            self.searches.active.lock().unwrap_or_else(PoisonError::into_inner).remove(&connection);
        }
    }

    fn note(&self, connection: u64, report: Report) {
        let mut reports = self.searches.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.len() >= MOST_SEARCHES {
            reports.clear();
        }
        reports.insert(connection, report);
    }

    /// How the last search of this connection came to its rows, as a JSON object; `None` if there was none.
    pub fn search_status(&self) -> Option<String> {
        let reports = self.searches.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let report = reports.get(&connection_id()?)?;
        Some(
            json!({
                "path": report.path, "reason": report.reason, "rounds": report.rounds, "lists": report.lists,
                "candidates": report.candidates, "changed": report.changed,
            })
            .to_string(),
        )
    }

    /// Arguments for `mysql_ml.vector_candidates`, which this connection may then call once: index, lists, rows, candidates.
    /// `None` if the table must be read instead.
    pub fn candidates_of(
        &self,
        table: &str,
        column: &str,
        rows: u64,
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        self.engine.may_call(functions::ai_vector_candidates, interrupt)?;
        let connection = connection_id().ok_or_else(|| Error::internal("no connection"))?;
        let mut members = members::of(options)?;
        let measure = take_measure(&mut members)?;
        let recall = take_recall(&mut members)?;
        let most = members::number(&mut members, "candidates", 1, MOST_CANDIDATES as u64)?;
        members::none_left(&members, "distance_measure, recall, candidates")?;
        let known = self.known(table, column, measure.as_deref(), interrupt)?;
        let index = known.index.as_ref().ok_or_else(|| {
            Error::new(Kind::NotFound, format!("{} has no vector index on it; create one", known.keyed.name()))
        })?;
        let locking = (!reads_are_consistent()).then(|| LOCKING.to_owned());
        if let Some(reason) = unusable(index, known.obstacle.as_deref()).or(locking) {
            return Err(Error::new(Kind::Invalid, format!("the vector index cannot be used: {reason}")));
        }
        let most = most.and_then(|m| usize::try_from(m).ok()).unwrap_or_else(|| candidates_for(rows));
        let lists = lists_for(index, recall.unwrap_or(RECALL));
        self.searches.allow(connection, index.id);
        Ok(json!({"index": index.id, "lists": lists, "most": most}).to_string())
    }

    /// The keys in an answer of `mysql_ml.vector_candidates`, as a JSON array of objects.
    pub fn keys_of_candidates(
        &self,
        table: &str,
        column: &str,
        options: Option<&str>,
        found: &str,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        self.engine.may_call(functions::ai_vector_candidates, interrupt)?;
        let measure = take_measure(&mut members::of(options)?)?;
        let known = self.known(table, column, measure.as_deref(), interrupt)?;
        let keys = read_candidates(found)?.keys;
        let objects = keys.iter().map(|key| known.keyed.json_of(key).map(Value::Object)).collect::<Result<Vec<_>>>()?;
        Ok(Value::Array(objects).to_string())
    }

    /// What is known of a column, read with the caller's rights at most a second ago.
    fn known(&self, table: &str, column: &str, measure: Option<&str>, interrupt: &dyn Interrupt) -> Result<Arc<Known>> {
        // Bounded by the longest names.
        let (schema, bare) = parse_table(table)?;
        let column_name = unquoted(column);
        if column_name.len() > 256 {
            return Err(Error::new(Kind::NotFound, "a column's name has at most 64 characters; check it"));
        }
        let name = (current_account()?, schema, bare, column_name, measure.map(str::to_owned));
        {
            let known = self.searches.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = known.get(&name).filter(|known| known.read_at.elapsed() < KEPT) {
                return Ok(Arc::clone(known));
            }
        }
        let read_at = Instant::now();
        let keyed = look_up(&As::Caller, table, column, interrupt)?;
        let readable = keyed.clone();
        as_account(&As::Caller, interrupt, move |s| readable.must_be_readable(s))?;
        let index = match the_index(&keyed.name(), &quoted(&keyed.column), measure, interrupt) {
            Ok(index) => Some(index),
            Err(e) if e.kind() == Kind::NotFound => None,
            Err(e) => return Err(e),
        };
        let obstacle = match &index {
            Some(index) if index.stale.is_none() && index.version.is_some() => {
                match obstacle(index, &keyed, interrupt) {
                    Ok(Some(reason)) => {
                        // Changes are lost, also if the cause goes. A replica cannot note it.
                        let _ = set_stale(index.id, &reason, interrupt);
                        Some(reason)
                    }
                    Ok(None) => None,
                    // For example, the account that created it is gone, or a lock holds the view.
                    Err(e) => Some(e.message().to_owned()),
                }
            }
            _ => None,
        };
        let known = Arc::new(Known { index, keyed, obstacle, read_at });
        let mut all = self.searches.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_SEARCHES {
            all.retain(|_, known| known.read_at.elapsed() < KEPT);
        }
        all.insert(name, Arc::clone(&known));
        Ok(known)
    }

    /// Embeds the text of a query with the option's model, or that of the column's automatic embeddings.
    fn embed_query(&self, keyed: &Keyed, options: &Options, text: &str, interrupt: &dyn Interrupt) -> Result<Vec<u8>> {
        let model = match &options.model_id {
            Some(model) => model.clone(),
            None => configs::all(interrupt)?
                .into_iter()
                .map(|state| state.config)
                .find(|c| {
                    c.place.schema == keyed.schema && c.place.table == keyed.table && c.place.embedding == keyed.column
                })
                .map(|config| config.model_id)
                .ok_or_else(|| {
                    Error::invalid(format!(
                        "the query is a text, and column {} has no automatic embeddings that name a model; name one with the option model_id, or pass a vector",
                        keyed.column
                    ))
                })?,
        };
        let vector = self.engine.embedding(functions::ml_query_embedding, &model, text, Role::Query, interrupt)?;
        vector.map(|v| v.to_vec()).ok_or_else(|| Error::invalid("a search inside ai.query cannot embed its query"))
    }
}

/// Reads of an index in such a transaction would lock other accounts' changes out, or miss rows.
const LOCKING: &str =
    "the transaction reads with locks or uncommitted rows; an index needs REPEATABLE READ or READ COMMITTED and the binlog_format ROW";

/// Why an index cannot serve, if it cannot.
fn unusable(index: &VectorIndex, obstacle: Option<&str>) -> Option<String> {
    if index.version.is_none() {
        return Some("the index was never built to its end; CALL ai.rebuild_vector_index".to_owned());
    }
    if let Some(reason) = index.stale.as_deref().or(obstacle) {
        return Some(format!("the index is stale: {reason}; CALL ai.rebuild_vector_index"));
    }
    if index.changes > MOST_CHANGES {
        return Some(format!("more than {MOST_CHANGES} changes wait; CALL ai.refresh_vector_index"));
    }
    None
}

/// An answer of `mysql_ml.vector_candidates`.
pub(super) struct Proposed {
    /// The keys of changes and candidates, each once.
    pub keys: Vec<Vec<u8>>,
    /// The numbers of changes and of candidates.
    changed: usize,
    candidates: usize,
    /// The version that was read, and its lists; 0: there is no index.
    version: u64,
    lists: u64,
    /// Rows that it leaves out.
    left_out: u64,
}

/// Reads an answer of `mysql_ml.vector_candidates`.
pub(super) fn read_candidates(found: &str) -> Result<Proposed> {
    let wrong = || Error::internal("the candidates cannot be read");
    let document: Map<String, Value> = serde_json::from_str(found).map_err(|_| wrong())?;
    let list = |name: &str| -> Result<Vec<Vec<u8>>> {
        let Some(Value::Array(keys)) = document.get(name) else { return Ok(Vec::new()) };
        let key = |key: &Value| key.as_str().map(crate::tables::statements::unhex).ok_or_else(wrong);
        keys.iter().map(key).collect()
    };
    let (candidates, changed) = (list("candidates")?, list("changed")?);
    let (proposed, count) = (candidates.len(), changed.len());
    let mut seen = std::collections::HashSet::new();
    let keys = changed.into_iter().chain(candidates).filter(|key| seen.insert(key.clone())).collect();
    let number = |name: &str| document.get(name).and_then(Value::as_u64).ok_or_else(wrong);
    Ok(Proposed {
        keys,
        changed: count,
        candidates: proposed,
        version: number("version")?,
        lists: number("lists")?,
        left_out: number("left_out")?,
    })
}

impl Search {
    fn choose_path(&mut self, obstacle: Option<&str>) -> Result<()> {
        let reason = match &self.index {
            _ if self.options.exact => Some("the option exact".to_owned()),
            None => Some("the column has no vector index for this distance".to_owned()),
            // A transaction of its own has REPEATABLE READ.
            Some(_) if in_transaction() && !reads_are_consistent() => Some(LOCKING.to_owned()),
            Some(index) => unusable(index, obstacle).or_else(|| {
                let layout = Layout::from_bytes(&index.layout).ok()?;
                (layout.dimensions() != self.dimensions)
                    .then(|| format!("the index has {} dimensions, the query {}", layout.dimensions(), self.dimensions))
            }),
        };
        if let Some(reason) = reason {
            self.scan(reason);
        }
        Ok(())
    }

    fn scan(&mut self, reason: String) {
        self.step = Step::Scan;
        self.report.path = "table";
        self.report.reason = Some(reason);
    }

    fn next(&mut self, found: Option<&str>) -> Result<Option<String>> {
        loop {
            match self.step {
                Step::Propose => {
                    self.step = Step::Rank;
                    return self.propose().map(Some);
                }
                Step::Rank => {
                    let found = found.ok_or_else(|| Error::internal("a search has no candidates"))?;
                    let Proposed { keys, changed, candidates, version, lists, left_out } = read_candidates(found)?;
                    if let Some(index) = self.index.as_mut().filter(|index| index.version != Some(version)) {
                        // Built since it was looked up, or the snapshot is older: how many lists to read is not known.
                        forget(index);
                        (index.version, index.lists, index.coverage) = (Some(version), lists, Vec::new());
                        self.step = Step::Propose;
                        continue;
                    }
                    self.report.candidates = keys.len();
                    self.report.changed = changed;
                    if changed as u64 > MOST_CHANGES {
                        self.scan(format!("more than {MOST_CHANGES} changes wait; CALL ai.refresh_vector_index"));
                        continue;
                    }
                    // Fewer than asked for, of all lists of the version that was read: these are all rows.
                    self.complete = (1..=self.report.lists).contains(&lists)
                        && left_out == 0
                        && self.least() == self.most
                        && candidates < self.most;
                    self.keys.clear();
                    self.share.shrink_to(self.query.len() * 2);
                    let size = keys.iter().map(|key| key.len() * 4 + BESIDE_A_KEY).sum();
                    self.share.spend(size, "the candidates of a search")?;
                    // A key that cannot be read is one of before a change of the table's key.
                    self.keys = keys.iter().filter_map(|key| self.keyed.literals(key).ok()).collect();
                    self.complete &= self.keys.len() == keys.len();
                    self.step = Step::Decide;
                    if !self.keys.is_empty() {
                        return Ok(Some(self.rank()));
                    }
                }
                Step::Decide => {
                    let ranks = if self.keys.is_empty() { Vec::new() } else { read_ranks(found)? };
                    if let Some(statement) = self.decide(ranks) {
                        return Ok(Some(statement));
                    }
                }
                Step::Scan => {
                    self.step = Step::End;
                    return Ok(Some(self.scan_statement()));
                }
                Step::End => return Ok(None),
            }
        }
    }

    fn propose(&mut self) -> Result<String> {
        let index = self.index.as_ref().ok_or_else(|| Error::internal("a search has no index"))?;
        // A filter leaves rows that are farther away.
        let filtered = u32::from(self.options.filter.is_some());
        let growth =
            4_u64.saturating_pow(u32::try_from(self.report.rounds).unwrap_or(u32::MAX).saturating_add(filtered));
        let lists = self.lists_of_rows().saturating_mul(growth).max(self.lists);
        self.report.lists = lists.min(index.lists);
        self.report.rounds += 1;
        Ok(format!(
            "SET @mysql_ml_found = mysql_ml.vector_candidates({}, {}, {}, {}, {}, {})",
            index.id,
            self.query,
            self.report.lists,
            self.rows,
            self.least(),
            self.most
        ))
    }

    /// Lists to read for the nearest rows without a filter.
    fn lists_of_rows(&self) -> u64 {
        self.index.as_ref().map_or(1, |index| lists_for(index, self.options.recall.unwrap_or(RECALL)))
    }

    /// Candidates to take whatever their bounds are. The bounds say which rows may be among the nearest, not which of these
    /// pass the filter or still exist.
    fn least(&self) -> usize {
        let unfiltered = self.options.filter.is_none() && self.report.rounds == 1;
        if unfiltered {
            self.most.min(usize::try_from(self.rows).unwrap_or(self.most) * 3)
        } else {
            self.most
        }
    }

    /// The condition of rows that take part.
    fn condition(&self) -> String {
        let v = self.column();
        let filter = self.options.filter.as_ref().map(|f| format!(" AND (\n{f}\n)")).unwrap_or_default();
        format!("{v} IS NOT NULL AND LENGTH({v}) = {}{filter}", self.dimensions * 4)
    }

    fn column(&self) -> String {
        format!("{}.{}", self.keyed.name(), quoted(&self.keyed.column))
    }

    fn distance(&self) -> String {
        distance_sql(&self.measure, &self.column(), &self.query)
    }

    /// The nearest of the candidates: number, distance, and how many pass, in `@mysql_ml_found`.
    fn rank(&self) -> String {
        let keys = self.keyed.derived(self.keys.iter().zip(0..).map(|(key, n)| (key, Some(n))));
        let table = self.keyed.name();
        format!(
            "SELECT JSON_ARRAYAGG(JSON_ARRAY(n, d, passing)) INTO @mysql_ml_found FROM (SELECT MIN(mysql_ml_number) AS n, {} AS d, \
             COUNT(*) OVER () AS passing FROM {keys} STRAIGHT_JOIN {table} FORCE INDEX ({}) ON {} WHERE {} \
             GROUP BY {} ORDER BY d, n LIMIT {}) AS mysql_ml_ranks",
            self.distance(),
            quoted(&self.keyed.index),
            self.keyed.matching(&table),
            self.condition(),
            // Keys of other bytes may be equal by the column's collation.
            self.keyed.key_columns(&table),
            self.rows
        )
    }

    /// The last statement if the ranks suffice; otherwise changes the step.
    fn decide(&mut self, ranks: Vec<(usize, f64, u64)>) -> Option<String> {
        let passing = ranks.first().map_or(0, |(_, _, passing)| *passing);
        let wanted = if self.options.filter.is_some() { self.rows.saturating_mul(ENOUGH) } else { self.rows };
        // Of a part of the rows, the nearest are in as many more lists.
        let most = self.index.as_ref().map_or(0, |index| index.lists);
        if self.options.filter.is_some() && passing > 0 {
            let part = self.keys.len() as f64 / passing as f64;
            self.lists = ((self.lists_of_rows() as f64 * part).ceil() as u64).min(most);
        }
        let enough = (passing >= wanted && self.report.lists >= self.lists) || self.complete;
        if enough {
            self.step = Step::End;
            return Some(self.last(&ranks));
        }
        let more = if passing >= wanted { self.most } else { self.most.saturating_mul(8) };
        if self.complete || more > MOST_CANDIDATES {
            self.scan(match &self.options.filter {
                Some(_) => "few rows pass the filter".to_owned(),
                None => "the index has too few rows".to_owned(),
            });
        } else {
            self.most = more;
            self.step = Step::Propose;
        }
        None
    }

    fn selected(&self) -> String {
        let table = self.keyed.name();
        let columns = match self.options.columns.as_slice() {
            [] => format!("{table}.*"),
            names => {
                let find = |name: &String| self.keyed.columns.iter().find(|c| is_named(c, name));
                let columns = names.iter().filter_map(find).map(|c| format!("{table}.{}", quoted(c)));
                columns.collect::<Vec<_>>().join(", ")
            }
        };
        format!("{columns}, {} AS distance", self.distance())
    }

    /// The rows of the nearest candidates.
    fn last(&self, ranks: &[(usize, f64, u64)]) -> String {
        let table = self.keyed.name();
        if ranks.is_empty() {
            return format!("SELECT {} FROM {table} LIMIT 0", self.selected());
        }
        let keys = ranks.iter().zip(0..).filter_map(|((n, ..), rank)| Some((self.keys.get(*n)?, Some(rank))));
        format!(
            "SELECT {} FROM {} STRAIGHT_JOIN {table} FORCE INDEX ({}) ON {} WHERE {} ORDER BY distance, mysql_ml_number",
            self.selected(),
            self.keyed.derived(keys),
            quoted(&self.keyed.index),
            self.keyed.matching(&table),
            self.condition(),
        )
    }

    fn scan_statement(&self) -> String {
        format!(
            "SELECT {} FROM {} WHERE {} ORDER BY distance LIMIT {}",
            self.selected(),
            self.keyed.name(),
            self.condition(),
            self.rows
        )
    }
}

/// Ranks of candidates: number, distance, number of rows that pass; the nearest first.
fn read_ranks(found: Option<&str>) -> Result<Vec<(usize, f64, u64)>> {
    let Some(found) = found else { return Ok(Vec::new()) };
    let mut ranks: Vec<(usize, f64, u64)> =
        serde_json::from_str(found).map_err(|_| Error::internal("the ranks of candidates cannot be read"))?;
    ranks.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    Ok(ranks)
}

/// The keys of candidates as `mysql_ml.vector_candidates` passes them on: a JSON array of hexadecimal digits.
pub fn to_json(candidates: &[Candidate]) -> String {
    let keys = candidates.iter().map(|c| Value::String(crate::mysql::session::hex(&c.key)));
    Value::Array(keys.collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_a_vector_a_text_or_refused() {
        let vector = |bytes: &[u8]| matches!(read_query(bytes, &[8]), Ok(Query::Vector(_)));
        assert!(vector(&[0, 0, 128, 63, 0, 0, 0, 64]) && vector(b"[1, 2]") && vector(&[0, 0, 128, 63]));
        assert!(matches!(read_query("grün".as_bytes(), &[8]), Ok(Query::Text(text)) if text == "grün"));
        let refused: [&[u8]; 5] = [b"", b"  ", b"12345678", &[255, 0, 1], &[0, 0, 192, 127]];
        for bytes in refused {
            assert!(read_query(bytes, &[8]).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn candidates_are_read_once_each() {
        let found = r#"{"version":2,"lists":3,"left_out":0,"candidates":["31","32"],"changed":["32","33"]}"#;
        let proposed = read_candidates(found).unwrap();
        assert_eq!(proposed.keys, [b"2", b"3", b"1"]);
        assert_eq!((proposed.changed, proposed.lists, proposed.left_out), (2, 3, 0));
        assert_eq!((proposed.version, proposed.candidates), (2, 2));
        assert!(read_candidates("{}").is_err() && read_candidates("[]").is_err());
    }

    #[test]
    fn more_recall_reads_more_lists() {
        let index = |coverage: Vec<(u64, f64)>| VectorIndex {
            id: 1,
            schema: "s".into(),
            table: "t".into(),
            column: "v".into(),
            definer: Account { user: "a".into(), host: "b".into() },
            object: "x".into(),
            measure: "cosine".into(),
            layout: Vec::new(),
            version: Some(1),
            lists: 50,
            coverage,
            rows: 1,
            left_out: 0,
            stale: None,
            changes: 0,
            codes: 0,
            bytes: 0,
            recall: None,
            built_at: None,
        };
        let measured = index(vec![(1, 0.5), (5, 0.9), (20, 0.99), (50, 1.0)]);
        assert_eq!(lists_for(&measured, 0.5), 5);
        assert_eq!(lists_for(&measured, 0.98), 20);
        assert_eq!(lists_for(&measured, 1.0), 50);
        assert_eq!(lists_for(&index(Vec::new()), 0.98), 50);
    }
}
