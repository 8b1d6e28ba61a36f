//! The statements of a search, one after the other.

use std::time::Instant;

use super::filters::{first, has_plan, rows_read, Filtered, Next, Round};
use super::known::{forget, lists_for, unusable, LOCKING, RECALL};
use super::options::Options;
use super::proposed::{read_candidates, Proposed, MOST_CANDIDATES};
use super::retrieval::{Counts, Nearest, Retrieval};
use crate::jobs::vector_index::measures::distance_sql;
use crate::mysql::caller::{in_transaction, logs_rows, reads_are_consistent};
use crate::tables::keyed::Keyed;
use crate::tables::layout::{is_named, quoted};
use crate::tables::statements::Key;
use crate::tables::vector_indexes::{VectorIndex, MOST_CHANGES};
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;
use mysql_ml_core::engine::Engine;
use mysql_ml_index::Layout;

/// The reason of a search that reads the table for its filter.
const FEW_PASS: &str = "few rows pass the filter";
/// Bytes of a candidate's key besides its digits.
const BESIDE_A_KEY: usize = 96;

/// What a search does next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// Asks for the server's plan of the filter.
    Plan,
    /// Reads the plan.
    Estimate,
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
pub(super) struct Report {
    pub(super) path: &'static str,
    pub(super) reason: Option<String>,
    pub(super) rounds: u64,
    pub(super) lists: u64,
    pub(super) candidates: usize,
    pub(super) changed: usize,
    pub(super) counts: Option<Counts>,
}

/// A search under way.
pub(super) struct Search {
    pub(super) index: Option<VectorIndex>,
    pub(super) keyed: Keyed,
    pub(super) measure: String,
    /// The query as a SQL literal.
    pub(super) query: String,
    pub(super) dimensions: usize,
    pub(super) rows: u64,
    pub(super) options: Options,
    pub(super) step: Step,
    pub(super) keys: Vec<Key>,
    pub(super) account: Account,
    pub(super) begun: Instant,
    /// The reservation of query, keys and statement.
    pub(super) share: Reservation,
    /// Whether the last candidates are all rows of the table.
    pub(super) complete: bool,
    pub(super) most: usize,
    /// Rows that the server reads for the filter, by its estimate.
    pub(super) read: Option<f64>,
    /// Whether few rows pass the filter.
    pub(super) few: bool,
    /// The least number of lists to read, by the part of rows that pass.
    pub(super) lists: u64,
    pub(super) report: Report,
    /// What follows the search by vectors; `rows` then counts those of the branch.
    pub(super) retrieval: Option<Retrieval>,
}

impl Search {
    pub(super) fn choose_path(&mut self, obstacle: Option<&str>) -> Result<()> {
        let reason = match &self.index {
            _ if self.options.exact => Some("the option exact".to_owned()),
            None => Some("the column has no vector index for this distance".to_owned()),
            // A transaction of its own has REPEATABLE READ.
            Some(_) if !logs_rows() || in_transaction() && !reads_are_consistent() => Some(LOCKING.to_owned()),
            Some(index) => unusable(index, obstacle).or_else(|| {
                let layout = Layout::from_bytes(&index.layout).ok()?;
                (layout.dimensions() != self.dimensions)
                    .then(|| format!("the index has {} dimensions, the query {}", layout.dimensions(), self.dimensions))
            }),
        };
        if let Some(reason) = reason {
            self.scan(reason);
        } else if let Some(filter) = &self.options.filter {
            self.most = first(self.rows, self.most);
            if has_plan(filter) {
                self.step = Step::Plan;
            }
        }
        Ok(())
    }

    fn scan(&mut self, reason: String) {
        self.step = Step::Scan;
        self.report.path = "table";
        self.report.reason = Some(reason);
    }

    pub(super) fn next(
        &mut self,
        found: Option<&str>,
        engine: &Engine,
        interrupt: &dyn Interrupt,
    ) -> Result<Option<String>> {
        loop {
            match self.step {
                Step::Plan => {
                    self.step = Step::Estimate;
                    return Ok(Some(format!("EXPLAIN FORMAT=JSON INTO @mysql_ml_found {}", self.passing_keys())));
                }
                Step::Estimate => {
                    self.read = found.and_then(rows_read);
                    self.step = Step::Propose;
                    let filtered = self.filtered();
                    if self.read.is_some() && filtered.is_small(self.most) {
                        self.few = filtered.is_few(None);
                        self.scan(FEW_PASS.to_owned());
                    }
                }
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
                        return Ok(Some(self.returning(statement)));
                    }
                }
                Step::Scan => {
                    self.step = Step::End;
                    return Ok(Some(self.returning(self.scan_statement())));
                }
                Step::End => return self.retrieve(found, engine, interrupt),
            }
        }
    }

    /// The statement with the nearest rows, or one that leaves their keys for what follows.
    fn returning(&self, nearest: String) -> String {
        match self.retrieval {
            Some(_) => Retrieval::take_nearest(&nearest),
            None => nearest,
        }
    }

    /// What follows the search by vectors.
    fn retrieve(&mut self, found: Option<&str>, engine: &Engine, interrupt: &dyn Interrupt) -> Result<Option<String>> {
        let Some(mut retrieval) = self.retrieval.take() else { return Ok(None) };
        let nearest = Nearest {
            keyed: &self.keyed,
            columns: self.columns(),
            distance: self.distance(),
            filter: self.options.filter.as_deref(),
            dimensions: self.dimensions,
        };
        let statement = retrieval.next(&nearest, found, engine, interrupt)?;
        self.report.counts = Some(retrieval.counts().clone());
        self.retrieval = Some(retrieval);
        Ok(statement)
    }

    fn propose(&mut self) -> Result<String> {
        let index = self.index.as_ref().ok_or_else(|| Error::internal("a search has no index"))?;
        let growth = 4_u64.saturating_pow(u32::try_from(self.report.rounds).unwrap_or(u32::MAX));
        let lists = match self.options.filter {
            Some(_) if self.report.rounds == 0 => self.filtered().first_lists(),
            _ => self.lists_of_rows().saturating_mul(growth),
        };
        let lists = lists.max(self.lists);
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
        let filter = self.options.filter.as_ref().map(|f| format!(" AND (\n{f}\n)")).unwrap_or_default();
        format!("{}{filter}", self.usable())
    }

    /// The condition of vectors that can be compared.
    fn usable(&self) -> String {
        let v = self.column();
        format!("{v} IS NOT NULL AND LENGTH({v}) = {}", self.dimensions * 4)
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
        let next = if self.complete {
            Next::Enough
        } else if self.options.filter.is_some() {
            let (candidates, most, lists) = (self.keys.len(), self.most, self.report.lists);
            let filtered = self.filtered();
            self.few = filtered.is_few(Some(passing as f64 / candidates.max(1) as f64));
            filtered.next(Round { candidates, passing, most, lists })
        } else if passing >= self.rows {
            Next::Enough
        } else {
            match self.most.saturating_mul(8) {
                more if more <= MOST_CANDIDATES => Next::Candidates(more, 0),
                _ => Next::Table,
            }
        };
        match next {
            Next::Enough => {
                self.step = Step::End;
                return Some(self.last(&ranks));
            }
            Next::Candidates(most, lists) => {
                (self.most, self.lists) = (most, lists);
                self.step = Step::Propose;
            }
            Next::Table if self.options.filter.is_some() => self.scan(FEW_PASS.to_owned()),
            Next::Table => self.scan("the index has too few rows".to_owned()),
        }
        None
    }

    fn filtered(&self) -> Filtered {
        let (rows, lists) = self.index.as_ref().map_or((0, 0), |index| (index.rows, index.lists));
        Filtered {
            rows: rows as f64,
            read: self.read.unwrap_or(rows as f64),
            lists,
            needed: self.lists_of_rows(),
            wanted: self.rows,
        }
    }

    /// The columns that the caller selects.
    fn columns(&self) -> String {
        let table = self.keyed.name();
        match self.options.columns.as_slice() {
            [] => format!("{table}.*"),
            names => {
                let find = |name: &String| self.keyed.columns.iter().find(|c| is_named(c, name));
                let columns = names.iter().filter_map(find).map(|c| format!("{table}.{}", quoted(c)));
                columns.collect::<Vec<_>>().join(", ")
            }
        }
    }

    fn selected(&self) -> String {
        match self.retrieval {
            Some(_) => Retrieval::selected(&self.keyed, &self.distance()),
            None => format!("{}, {} AS distance", self.columns(), self.distance()),
        }
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

    /// The keys of rows that pass the filter.
    fn passing_keys(&self) -> String {
        let table = self.keyed.name();
        let keys = self.keyed.key_columns(&table);
        format!("SELECT {keys} FROM {table} WHERE (\n{}\n)", self.options.filter.as_deref().unwrap_or("TRUE"))
    }

    fn scan_statement(&self) -> String {
        let table = self.keyed.name();
        let from = if self.few {
            // A derived table of its own: vectors are read of the rows in it only.
            let keys = format!("{} LIMIT {}", self.passing_keys(), u64::MAX);
            self.keyed.joined(&keys)
        } else {
            table
        };
        format!(
            "SELECT {} FROM {from} WHERE {} ORDER BY distance LIMIT {}",
            self.selected(),
            if self.few { self.usable() } else { self.condition() },
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
