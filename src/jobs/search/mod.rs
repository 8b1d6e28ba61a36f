//! `ai.search`: the statements that it runs in the caller's session, one after the other.
//!
//! The index proposes candidates; a statement of the caller joins them to the table, applies the filter, and computes exact
//! distances. If too few rows are left, more lists and candidates are tried, and at last the whole table. All statements
//! see one snapshot: the procedure opens a transaction if there is none.

mod answer;
pub mod centroids;
mod filters;
mod fulltext;
pub(in crate::jobs) mod known;
mod options;
pub(in crate::jobs) mod proposed;
mod retrieval;
mod steps;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use surface::functions;

use self::known::{known, lists_for, unusable, LOCKING, RECALL};
use self::options::{read_query, read_rows, take_recall, Options, Query};
use self::proposed::{candidates_for, read_candidates, MOST_CANDIDATES};
use self::retrieval::{Purpose, Retrieval};
use self::steps::{Report, Search, Step};
use super::rights::refuse_temporary_table;
use super::vector_index::measures::take_measure;
use super::Jobs;
use crate::mysql::caller::{connection_id, current_account, in_transaction, reads_are_consistent};
use crate::tables::configs;
use crate::tables::keyed::Keyed;
use crate::tables::layout::is_named;
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::role::Role;
use mysql_ml_core::catalog::members;
use mysql_ml_index::Layout;

pub use self::proposed::to_json;

/// How long a connection may use its permission to ask an index.
const ALLOWED: Duration = Duration::from_secs(10);
/// The most searches of an account that are under way.
const MOST_OF_AN_ACCOUNT: usize = 500;
/// The longest search.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The most searches under way, and remembered ones.
const MOST_SEARCHES: usize = 10_000;

/// Searches of connections, and what was read for them.
#[derive(Default)]
pub(super) struct Searches {
    active: Mutex<HashMap<u64, Search>>,
    reports: Mutex<HashMap<u64, Report>>,
    /// Connections that may ask an index for candidates once, because they may read its table.
    allowed: Mutex<HashMap<(u64, u64), Instant>>,
}

impl Searches {
    /// Lets a connection ask an index for candidates, once.
    pub fn allow(&self, connection: u64, index: u64) {
        self.allow_since(connection, index, Instant::now());
    }

    fn allow_since(&self, connection: u64, index: u64, at: Instant) {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        if allowed.len() >= MOST_SEARCHES {
            allowed.retain(|_, at| at.elapsed() < ALLOWED);
        }
        allowed.insert((connection, index), at);
    }

    /// When the connection was allowed to ask the index, if it still is; then it is no more.
    fn take_permission(&self, connection: u64, index: u64) -> Option<Instant> {
        let given = self.allowed.lock().unwrap_or_else(PoisonError::into_inner).remove(&(connection, index));
        given.filter(|at| at.elapsed() < ALLOWED)
    }
}

/// In the place of an index: a connection that has read its lists may read its blocks.
pub const ITS_BLOCKS: u64 = u64::MAX;

/// A used permission to ask an index.
pub struct Permission(u64, u64, Instant);

impl Permission {
    /// Gives it back: the index was not asked. It ends when it would have ended.
    pub fn give_back(self) {
        Jobs::global().searches.allow_since(self.0, self.1, self.2);
    }
}

/// An error unless this connection was allowed to ask the index. Then it may read its blocks.
pub fn must_be_allowed(index: u64) -> Result<Permission> {
    let searches = &Jobs::global().searches;
    if !reads_are_consistent() {
        return Err(Error::invalid(LOCKING));
    }
    let allowed = connection_id().and_then(|c| Some(Permission(c, index, searches.take_permission(c, index)?)));
    if let Some(permission) = allowed {
        if index != ITS_BLOCKS {
            searches.allow(permission.0, ITS_BLOCKS);
        }
        Ok(permission)
    } else {
        Err(Error::new(
            Kind::Denied,
            "candidates are given to ai.search and ai.vector_candidates only, which check the rights on the table; call one of these",
        ))
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
        let rows = rows.map_or(Ok(10), read_rows)?;
        let options = Options::read(members::of(options)?, rows)?;
        self.begin(table, column, query, rows, options, Purpose::Rows, interrupt)
    }

    #[allow(clippy::too_many_arguments)]
    fn begin(
        &self,
        table: &str,
        column: &str,
        query: &[u8],
        rows: u64,
        options: Options,
        purpose: Purpose,
        interrupt: &dyn Interrupt,
    ) -> Result<bool> {
        self.engine.may_call(functions::ai_search_begin, interrupt)?;
        let connection = connection_id().ok_or_else(|| Error::internal("no connection"))?;
        let account = current_account()?;
        refuse_temporary_table(table)?;
        let known = known(table, column, options.measure.as_deref(), interrupt)?;
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
        let query = match purpose {
            Purpose::Rows => read_query(query, &widths)?,
            // A question is a text, whatever it looks like.
            Purpose::Sources { .. } => Query::Text(String::from_utf8_lossy(query).into_owned()),
        };
        let text = match &query {
            Query::Vector(_) => None,
            Query::Text(text) => Some(text.as_str()),
        };
        let retrieval = Retrieval::begin(&options.retrieval, rows, purpose, text, &keyed, interrupt)?;
        let rows = retrieval.as_ref().map_or(rows, Retrieval::depth);
        let options = match retrieval.as_ref().and_then(Retrieval::condition) {
            Some(condition) => options.with_condition(&condition),
            None => options,
        };
        let query = match query {
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
            read: None,
            few: false,
            lists: 0,
            report: Report { path: "index", ..Report::default() },
            retrieval,
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
    pub fn next_of_search(&self, found: Option<&str>, interrupt: &dyn Interrupt) -> Result<Option<String>> {
        let connection = connection_id().ok_or_else(|| Error::internal("no connection"))?;
        let active = || self.searches.active.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out: others do not wait for this one's statement.
        let mut search =
            active().remove(&connection).ok_or_else(|| Error::invalid("no search is under way; call ai.search"))?;
        let statement = search.next(found, self.engine, interrupt)?;
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
        let mut members = members::Members::from_iter([
            ("path".to_owned(), report.path.into()),
            ("reason".to_owned(), report.reason.as_deref().into()),
            ("rounds".to_owned(), report.rounds.into()),
            ("lists".to_owned(), report.lists.into()),
            ("candidates".to_owned(), report.candidates.into()),
            ("changed".to_owned(), report.changed.into()),
        ]);
        if let Some(counts) = &report.counts {
            counts.add_to(&mut members);
        }
        Some(Value::Object(members).to_string())
    }

    /// Arguments for `mysql_ml.vector_candidates`, which this connection may then call once: index, lists, rows, candidates.
    /// `None` if the table must be read instead.
    pub fn candidates_of(
        &self,
        table: &str,
        column: &str,
        rows: &str,
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        self.engine.may_call(functions::ai_vector_candidates, interrupt)?;
        let rows = read_rows(rows)?;
        let connection = connection_id().ok_or_else(|| Error::internal("no connection"))?;
        let mut members = members::of(options)?;
        let measure = take_measure(&mut members)?;
        let recall = take_recall(&mut members)?;
        let most = members::number(&mut members, "candidates", 1, MOST_CANDIDATES as u64)?;
        members::none_left(&members, "distance_measure, recall, candidates")?;
        let known = known(table, column, measure.as_deref(), interrupt)?;
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
        let known = known(table, column, measure.as_deref(), interrupt)?;
        let keys = read_candidates(found)?.keys;
        let objects = keys.iter().map(|key| known.keyed.json_of(key).map(Value::Object)).collect::<Result<Vec<_>>>()?;
        Ok(Value::Array(objects).to_string())
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
