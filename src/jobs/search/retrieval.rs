//! What follows the search by vectors if more is asked for: a search by words, the fusion of both, and a reranker.
//!
//! Each branch names the keys of its best rows. Their ranks are fused; the reranker reads the texts of the best of them. The
//! last statement reads the rows, in the snapshot of the others.

use serde_json::Value;

use super::fulltext::{columns_of, relevance, take_columns, text_of_columns};
use crate::mysql::sql::refuse_inside_user_functions;
use crate::mysql::statement::ProcessState;
use crate::tables::keyed::{Keyed, KEYS};
use crate::tables::statements::{unhex, Key};
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;
use mysql_ml_core::ai::Answer;
use mysql_ml_core::catalog::members::{self, Members};
use mysql_ml_core::engine::{Asked, Engine};

/// The most rows of a branch.
const MOST_OF_A_BRANCH: u64 = 10_000;
/// The most rows that a reranker reads in a search.
const MOST_RERANKED: u64 = 1000;
/// Bytes of a row's key in a statement besides its digits.
const BESIDE_A_KEY: usize = 128;

/// The options beside those of a search by vectors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    text_column: Vec<String>,
    text: Option<String>,
    weights: Weights,
    rank_constant: f64,
    rerank: Option<String>,
    rerank_depth: Option<u64>,
    /// The columns whose text the reranker reads; empty: those of the words.
    pub rerank_column: Vec<String>,
}

/// The weights of the branches' ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Weights {
    vector: f64,
    text: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Weights { vector: 1.0, text: 1.0 }
    }
}

/// The names of the options, for errors.
pub const OPTIONS: &str = "text_column, text, weights, rank_constant, rerank, rerank_depth, rerank_column";

impl Options {
    /// Takes the options out of the members of an object. `rows`: those of the result.
    pub fn take(members: &mut Members, rows: u64) -> Result<Self> {
        let weights = |value: Value| {
            let Value::Object(mut given) = value else { return None };
            let mut weight = |name: &str| match given.remove(name) {
                None => Some(1.0),
                Some(weight) => weight.as_f64().filter(|weight| *weight > 0.0 && *weight <= 1e6),
            };
            let weights = Weights { vector: weight("vector")?, text: weight("text")? };
            given.is_empty().then_some(weights)
        };
        let constant = |value: Value| value.as_f64().filter(|constant| (0.0..=1e6).contains(constant));
        let weights = members::take(members, "weights", "an object with vector and text, numbers above 0", weights)?;
        let constant = members::take(members, "rank_constant", "a number from 0 to 1000000", constant)?;
        let options = Options {
            text_column: take_columns(members, "text_column")?,
            text: members::text(members, "text")?,
            weights: weights.unwrap_or_default(),
            rank_constant: constant.unwrap_or(60.0),
            rerank: members::text(members, "rerank")?,
            rerank_depth: members::number(members, "rerank_depth", 1, MOST_RERANKED)?,
            rerank_column: take_columns(members, "rerank_column")?,
        };
        let useless = |given: bool, option: &str, needs: &str| match given {
            true => Err(Error::invalid(format!("option {option} is given without {needs}; give both, or none"))),
            false => Ok(()),
        };
        if options.text_column.is_empty() {
            useless(weights.is_some(), "weights", "text_column")?;
            useless(constant.is_some(), "rank_constant", "text_column")?;
            useless(options.rerank.is_none() && options.text.is_some(), "text", "text_column or rerank")?;
        }
        match &options.rerank {
            None => {
                useless(options.rerank_depth.is_some(), "rerank_depth", "rerank")?;
                useless(!options.rerank_column.is_empty(), "rerank_column", "rerank")?;
            }
            Some(_) => {
                useless(
                    options.rerank_column.is_empty() && options.text_column.is_empty(),
                    "rerank",
                    "rerank_column or text_column, whose text is ranked",
                )?;
                if rows > MOST_RERANKED || options.rerank_depth.is_some_and(|depth| depth < rows) {
                    return Err(Error::invalid(format!(
                        "rerank_depth is less than k, which is {rows}; a search ranks k to {MOST_RERANKED} rows again"
                    )));
                }
            }
        }
        Ok(options)
    }

    /// The columns of the rows' text: those of the reranker, else those of the words; empty if there are none.
    pub fn columns_of_text(&self) -> &[String] {
        if self.rerank_column.is_empty() {
            &self.text_column
        } else {
            &self.rerank_column
        }
    }

    fn is_asked(&self) -> bool {
        self.rerank.is_some() || !self.text_column.is_empty()
    }

    /// Rows that the reranker reads.
    fn reranked(&self, rows: u64) -> u64 {
        self.rerank_depth.unwrap_or_else(|| rows.saturating_mul(5).min(100).max(rows))
    }
}

/// What becomes of the rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Purpose {
    /// They are returned.
    Rows,
    /// They are sources of an answer: keys and texts, left in `@mysql_ml_found` as a JSON array.
    Sources {
        /// The columns of their text; empty: [`Options::columns_of_text`].
        columns: Vec<String>,
        /// The most characters of a text.
        characters: usize,
    },
}

/// The search by vectors, as this part sees it.
#[derive(Debug)]
pub struct Nearest<'s> {
    /// The table.
    pub keyed: &'s Keyed,
    /// The selected columns, as SQL.
    pub columns: String,
    /// The distance of a row's vector, as SQL.
    pub distance: String,
    /// The condition on the rows, as the caller wrote it.
    pub filter: Option<&'s str>,
    /// The dimensions of the query.
    pub dimensions: usize,
}

/// Numbers of rows, for `ml_vector_search_status`.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    vector: usize,
    text: Option<usize>,
    /// The server had no number of rows to weigh words by.
    unweighted: bool,
    reranked: Option<usize>,
}

/// InnoDB computes an infinite relevance, which is limited to the largest number, while its statistics say that a table is empty.
const INFINITE: f64 = 1e300;

impl Counts {
    /// Adds them to a report.
    pub fn add_to(&self, report: &mut Members) {
        report.insert("vector_rows".into(), self.vector.into());
        if let Some(text) = self.text {
            report.insert("text_rows".into(), text.into());
            let none = "no row has a word of the text; stopwords, and words shorter than the server's minimum, are in no index";
            let unweighted =
                "the server's statistics call the table empty, so its relevances are infinite and say no order; ANALYZE TABLE";
            let note = if self.unweighted { Some(unweighted) } else { (text == 0).then_some(none) };
            report.insert("text_note".into(), note.into());
        }
        if let Some(reranked) = self.reranked {
            report.insert("reranked".into(), reranked.into());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// Takes the rows that are nearest.
    Nearest,
    /// Takes those that match the words.
    Matching,
    /// Ranks by their texts.
    Rank,
    /// Has returned the last statement.
    End,
}

/// The state of this part of a search.
#[derive(Debug)]
pub struct Retrieval {
    options: Options,
    rows: u64,
    purpose: Purpose,
    /// The query's text.
    text: String,
    /// The relevance of a row by words, as SQL.
    relevance: Option<String>,
    /// The text of a row for the reranker, as SQL.
    document: String,
    /// The text of a source, as SQL.
    source: String,
    step: Step,
    nearest: Vec<Ranked>,
    candidates: Vec<Candidate>,
    counts: Counts,
    share: Reservation,
}

/// A row of a branch: its key, and its distance or relevance.
type Ranked = (Vec<u8>, f64);

/// A row that may be among the results.
#[derive(Debug, Clone, PartialEq)]
struct Candidate {
    key: Vec<u8>,
    /// Its place among rows of equal scores.
    place: usize,
    /// Its distance; `None` if it was found by words only.
    distance: Option<f64>,
    /// Its relevance; `None` if it was found by its vector only.
    relevance: Option<f64>,
    score: Option<f64>,
}

impl Retrieval {
    /// The state at the beginning; `None` if only the nearest rows are asked for. `query`: the text that was embedded, if
    /// the query is one.
    pub fn begin(
        options: &Options,
        rows: u64,
        purpose: Purpose,
        query: Option<&str>,
        keyed: &Keyed,
        interrupt: &dyn Interrupt,
    ) -> Result<Option<Self>> {
        if !options.is_asked() && purpose == Purpose::Rows {
            return Ok(None);
        }
        let text = options.text.as_deref().or(query).unwrap_or_default().to_owned();
        if text.is_empty() && options.is_asked() {
            let option = if options.text_column.is_empty() { "rerank" } else { "text_column" };
            return Err(Error::invalid(format!(
                "option {option} needs a text, and the query is a vector; give the text in the option text"
            )));
        }
        let words = columns_of(keyed, "text_column", &options.text_column)?;
        let relevance = match words.as_slice() {
            [] => None,
            words => Some(relevance(keyed, words, &text, interrupt)?),
        };
        let documents = columns_of(keyed, "rerank_column", options.columns_of_text())?;
        let sources = match &purpose {
            Purpose::Sources { columns, .. } if !columns.is_empty() => columns_of(keyed, "source_column", columns)?,
            _ => documents.clone(),
        };
        if sources.is_empty() && purpose != Purpose::Rows {
            return Err(Error::invalid("no column has the text of the sources; name it with the option source_column"));
        }
        Ok(Some(Retrieval {
            options: options.clone(),
            rows,
            purpose,
            share: Reservation::take(text.len().saturating_mul(8), "the text of a search")?,
            text,
            relevance,
            document: text_of_columns(keyed, &documents),
            source: text_of_columns(keyed, &sources),
            step: Step::Nearest,
            nearest: Vec::new(),
            candidates: Vec::new(),
            counts: Counts::default(),
        }))
    }

    /// The rows that each branch takes.
    pub fn depth(&self) -> u64 {
        let rows = match &self.options.rerank {
            Some(_) => self.options.reranked(self.rows),
            None => self.rows,
        };
        let fused = if self.relevance.is_some() { self.rows.saturating_mul(4).max(50) } else { 0 };
        rows.max(fused).min(MOST_OF_A_BRANCH)
    }

    /// A condition on the rows besides the caller's: sources have a text.
    pub fn condition(&self) -> Option<String> {
        (self.purpose != Purpose::Rows).then(|| format!("TRIM({}) <> ''", self.source))
    }

    /// The numbers of rows.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The statement that leaves the keys of the nearest rows in `@mysql_ml_found`. `rows` selects [`Self::selected`].
    pub fn take_nearest(rows: &str) -> String {
        format!(
            "SELECT JSON_ARRAYAGG(JSON_ARRAY(mysql_ml_key, distance)) INTO @mysql_ml_found FROM ({rows}) AS mysql_ml_nearest"
        )
    }

    /// What is selected of the nearest rows.
    pub fn selected(keyed: &Keyed, distance: &str) -> String {
        format!("HEX({}) AS mysql_ml_key, {distance} AS distance", keyed.key_in_trigger(&keyed.name()))
    }

    /// The next statement; `None` after the last. `found`: the result of the one before.
    pub fn next(
        &mut self,
        search: &Nearest<'_>,
        found: Option<&str>,
        engine: &Engine,
        interrupt: &dyn Interrupt,
    ) -> Result<Option<String>> {
        match self.step {
            Step::Nearest => {
                self.nearest = self.read(found)?;
                self.nearest.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
                self.counts.vector = self.nearest.len();
                if let Some(relevance) = &self.relevance {
                    self.step = Step::Matching;
                    return Ok(Some(self.matching(search, relevance)));
                }
                self.fused(search, Vec::new()).map(Some)
            }
            Step::Matching => {
                let mut matching = self.read(found)?;
                matching.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
                self.counts.text = Some(matching.len());
                self.counts.unweighted = matching.iter().any(|(_, relevance)| *relevance > INFINITE);
                self.fused(search, matching).map(Some)
            }
            Step::Rank => {
                self.rank(found, engine, interrupt)?;
                self.step = Step::End;
                self.last(search).map(Some)
            }
            Step::End => Ok(None),
        }
    }

    /// Reads keys and numbers of rows.
    fn read(&mut self, found: Option<&str>) -> Result<Vec<Ranked>> {
        let Some(found) = found else { return Ok(Vec::new()) };
        self.share.spend(found.len().saturating_mul(3), "the candidates of a search")?;
        let rows: Vec<(String, Option<f64>)> =
            serde_json::from_str(found).map_err(|_| Error::internal("the rows of a search cannot be read"))?;
        // A distance of NULL has no rank.
        Ok(rows.into_iter().filter_map(|(key, number)| Some((unhex(&key), number?))).collect())
    }

    /// The best rows by their words.
    fn matching(&self, search: &Nearest<'_>, relevance: &str) -> String {
        let table = search.keyed.name();
        format!(
            "SELECT JSON_ARRAYAGG(JSON_ARRAY(mysql_ml_key, mysql_ml_relevance)) INTO @mysql_ml_found FROM (\
             SELECT HEX({}) AS mysql_ml_key, {relevance} AS mysql_ml_relevance FROM {table} WHERE {relevance}{} \
             ORDER BY mysql_ml_relevance DESC, {} LIMIT {}) AS mysql_ml_matching",
            search.keyed.key_in_trigger(&table),
            search.and_filter(),
            search.keyed.key_columns(&table),
            self.depth()
        )
    }

    /// The statement after the branches.
    fn fused(&mut self, search: &Nearest<'_>, matching: Vec<Ranked>) -> Result<String> {
        let nearest = std::mem::take(&mut self.nearest);
        self.candidates = fuse(nearest, matching, self.options.weights, self.options.rank_constant);
        let Some(_) = &self.options.rerank else {
            keep_best(&mut self.candidates, self.rows);
            self.step = Step::End;
            return self.last(search);
        };
        keep_best(&mut self.candidates, self.options.reranked(self.rows));
        if self.candidates.is_empty() {
            self.counts.reranked = Some(0);
            self.step = Step::End;
            return self.last(search);
        }
        self.step = Step::Rank;
        let (keys, size) = self.keys(search)?;
        self.share.spend(size, "the candidates of a search")?;
        let order = search.order();
        Ok(format!(
            "SELECT JSON_ARRAYAGG(JSON_ARRAY(mysql_ml_key, mysql_ml_text)) INTO @mysql_ml_found FROM (\
             SELECT JSON_ARRAY(HEX({}), ROW_NUMBER() OVER (ORDER BY {order}), {KEYS}.mysql_ml_relevance) AS mysql_ml_key, \
             {} AS mysql_ml_text {} ORDER BY {order} LIMIT {}) AS mysql_ml_texts",
            search.keyed.key_in_trigger(&search.keyed.name()),
            self.document,
            search.from(&keys),
            self.options.reranked(self.rows)
        ))
    }

    /// Ranks the rows by the model's scores. Rows without a text have none, and come last.
    fn rank(&mut self, found: Option<&str>, engine: &Engine, interrupt: &dyn Interrupt) -> Result<()> {
        type Row = ((String, usize, Option<f64>), Option<String>);
        let found = found.unwrap_or("[]");
        self.share.spend(found.len().saturating_mul(3), "the texts of a search")?;
        let mut rows: Vec<Row> =
            serde_json::from_str(found).map_err(|_| Error::internal("the texts of a search cannot be read"))?;
        rows.sort_by_key(|((_, place, _), _)| *place);
        let has_text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
        let texts: Vec<&str> =
            rows.iter().filter(|(_, text)| has_text(text)).filter_map(|(_, t)| t.as_deref()).collect();
        self.counts.reranked = Some(texts.len());
        let mut scores = self.scores(&texts, engine, interrupt)?.into_iter();
        self.candidates = rows
            .iter()
            .map(|((key, place, relevance), text)| Candidate {
                key: unhex(key),
                place: *place,
                distance: None,
                relevance: *relevance,
                score: if has_text(text) { scores.next() } else { None },
            })
            .collect();
        Ok(())
    }

    /// The model's scores of texts, in their order.
    fn scores(&self, texts: &[&str], engine: &Engine, interrupt: &dyn Interrupt) -> Result<Vec<f64>> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        refuse_inside_user_functions()?;
        let _state = ProcessState::set(c"waiting for a model: ai_rerank");
        let unreadable = || Error::internal("a ranking that cannot be read");
        let documents = serde_json::to_string(texts).map_err(|_| unreadable())?;
        // An answer that failed would be another order.
        let ranking = match engine.rerank(self.options.rerank.as_deref(), &self.text, &documents, None, interrupt)? {
            Asked::Answered(answer, _) => answer,
            Asked::Failed(error, _) => return Err(error),
            Asked::Noted => return Err(unreadable()),
        };
        let Answer::Json(ranking) = &*ranking else { return Err(unreadable()) };
        let mut scores = vec![None; texts.len()];
        for scored in serde_json::from_str::<Vec<Value>>(ranking).map_err(|_| unreadable())? {
            let index =
                scored.get("index").and_then(Value::as_u64).and_then(|i| usize::try_from(i).ok()?.checked_sub(1));
            *index.and_then(|i| scores.get_mut(i)).ok_or_else(unreadable)? =
                scored.get("score").and_then(Value::as_f64);
        }
        scores.into_iter().collect::<Option<Vec<f64>>>().ok_or_else(unreadable)
    }

    /// The candidates as a derived table, and its size.
    fn keys(&self, search: &Nearest<'_>) -> Result<(String, usize)> {
        let number = |n: Option<f64>| n.map_or_else(|| "NULL".to_owned(), |n| format!("{n:e}"));
        let mut rows: Vec<(Key, String)> = Vec::with_capacity(self.candidates.len());
        let mut size = 0_usize;
        for c in &self.candidates {
            size = size.saturating_add(c.key.len().saturating_mul(8)).saturating_add(BESIDE_A_KEY);
            rows.push((
                search.keyed.literals(&c.key)?,
                format!(",{},{},{}", number(c.score), number(c.relevance), c.place),
            ));
        }
        let names = ", mysql_ml_score, mysql_ml_relevance, mysql_ml_place";
        let rows = rows.iter().map(|(key, more)| (key, more.as_str()));
        Ok((search.keyed.derived_with(rows, names), size))
    }

    /// The statement that returns the rows, or leaves them as sources.
    fn last(&mut self, search: &Nearest<'_>) -> Result<String> {
        let (distance, order) = (search.distance_or_null(), search.order());
        let fused = if self.options.is_asked() { "mysql_ml_score" } else { "NULL" };
        if self.candidates.is_empty() {
            return Ok(match self.purpose {
                Purpose::Rows => format!(
                    "SELECT {}, {distance} AS distance, CAST(NULL AS DOUBLE) AS score{} FROM {} LIMIT 0",
                    search.columns,
                    if self.relevance.is_some() { ", CAST(NULL AS DOUBLE) AS relevance" } else { "" },
                    search.keyed.name(),
                ),
                Purpose::Sources { .. } => "SET @mysql_ml_found = '[]'".to_owned(),
            });
        }
        let (keys, size) = self.keys(search)?;
        self.share.spend(size, "the candidates of a search")?;
        let from = search.from(&keys);
        Ok(match &self.purpose {
            Purpose::Rows => format!(
                "SELECT {}, {distance} AS distance, {KEYS}.mysql_ml_score AS score{} {from} ORDER BY {order} LIMIT {}",
                search.columns,
                match self.relevance {
                    Some(_) => format!(", {KEYS}.mysql_ml_relevance AS relevance"),
                    None => String::new(),
                },
                self.rows
            ),
            Purpose::Sources { characters, .. } => format!(
                "SELECT JSON_ARRAYAGG(JSON_OBJECT('number', mysql_ml_number, 'key', mysql_ml_key, 'distance', mysql_ml_distance, \
                 'score', {fused}, 'text', mysql_ml_text)) INTO @mysql_ml_found FROM (\
                 SELECT ROW_NUMBER() OVER (ORDER BY {order}) AS mysql_ml_number, {} AS mysql_ml_key, {distance} AS mysql_ml_distance, \
                 {KEYS}.mysql_ml_score, LEFT({}, {characters}) AS mysql_ml_text {from} ORDER BY {order} LIMIT {}) AS mysql_ml_sources",
                search.keyed.json_key(&search.keyed.name()),
                self.source,
                self.rows
            ),
        })
    }
}

impl Nearest<'_> {
    fn and_filter(&self) -> String {
        self.filter.map(|filter| format!(" AND (\n{filter}\n)")).unwrap_or_default()
    }

    /// The distance; NULL of a row without a vector of the query's width.
    fn distance_or_null(&self) -> String {
        let vector = format!("{}.{}", self.keyed.name(), crate::tables::layout::quoted(&self.keyed.column));
        format!("IF(LENGTH({vector}) = {}, {}, NULL)", self.dimensions * 4, self.distance)
    }

    /// The order of results: equal scores by distance, and equal distances by key.
    fn order(&self) -> String {
        let distance = self.distance_or_null();
        format!(
            "{KEYS}.mysql_ml_score IS NULL, {KEYS}.mysql_ml_score DESC, {KEYS}.mysql_ml_place, {distance} IS NULL, {distance}, {}",
            self.keyed.key_columns(&self.keyed.name())
        )
    }

    /// The rows of keys that pass the filter.
    fn from(&self, keys: &str) -> String {
        let table = self.keyed.name();
        format!(
            "FROM {keys} STRAIGHT_JOIN {table} FORCE INDEX ({}) ON {} WHERE TRUE{}",
            crate::tables::layout::quoted(&self.keyed.index),
            self.keyed.matching(&table),
            self.and_filter()
        )
    }
}

/// Both branches' rows with their fused scores, the best first. A rank is the number of better rows, plus one: equal distances
/// and relevances have equal ranks.
fn fuse(nearest: Vec<Ranked>, matching: Vec<Ranked>, weights: Weights, constant: f64) -> Vec<Candidate> {
    let mut found: std::collections::HashMap<Vec<u8>, Candidate> = std::collections::HashMap::new();
    let mut add = |rows: Vec<Ranked>, weight: f64, note: fn(&mut Candidate, f64)| {
        let (mut rank, mut last) = (0, None);
        for (place, (key, number)) in rows.into_iter().enumerate() {
            if last != Some(number) {
                (rank, last) = (place + 1, Some(number));
            }
            let new = || Candidate { key: key.clone(), place: 0, distance: None, relevance: None, score: None };
            let row = found.entry(key.clone()).or_insert_with(new);
            row.score = Some(row.score.unwrap_or_default() + weight / (constant + rank as f64));
            note(row, number);
        }
    };
    add(nearest, weights.vector, |row, distance| row.distance = Some(distance));
    add(matching, weights.text, |row, relevance| row.relevance = Some(relevance));
    let mut rows: Vec<Candidate> = found.into_values().collect();
    let distance = |c: &Candidate| c.distance.unwrap_or(f64::INFINITY);
    rows.sort_by(|a, b| {
        let by_score = b.score.unwrap_or_default().total_cmp(&a.score.unwrap_or_default());
        by_score.then(distance(a).total_cmp(&distance(b))).then_with(|| a.key.cmp(&b.key))
    });
    rows
}

/// Keeps the best rows, and those whose score equals that of the last of them: the server decides between these.
fn keep_best(rows: &mut Vec<Candidate>, most: u64) {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if let Some(last) = most.checked_sub(1).and_then(|i| rows.get(i)).and_then(|row| row.score) {
        rows.retain(|row| row.score.is_some_and(|score| score >= last));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(json: Value, rows: u64) -> Result<Options> {
        let mut members = json.as_object().cloned().unwrap_or_default();
        let options = Options::take(&mut members, rows)?;
        assert!(members.is_empty());
        Ok(options)
    }

    #[test]
    fn ranks_are_fused_and_equal_values_have_equal_ranks() {
        let row = |key: &str, number: f64| (key.as_bytes().to_vec(), number);
        let nearest = vec![row("a", 0.1), row("b", 0.2), row("c", 0.2), row("d", 0.3)];
        let matching = vec![row("d", 9.0), row("e", 1.0)];
        let fused = fuse(nearest, matching, Weights { vector: 1.0, text: 2.0 }, 60.0);
        let found: Vec<(&[u8], f64)> = fused.iter().map(|c| (c.key.as_slice(), c.score.unwrap())).collect();
        assert_eq!(
            found,
            [
                (&b"d"[..], 1.0 / 64.0 + 2.0 / 61.0),
                (b"e", 2.0 / 62.0),
                (b"a", 1.0 / 61.0),
                (b"b", 1.0 / 62.0),
                (b"c", 1.0 / 62.0)
            ]
        );
        assert_eq!((fused[1].distance, fused[1].relevance), (None, Some(1.0)));
        let kept = |most| {
            let mut rows = fused.clone();
            keep_best(&mut rows, most);
            rows.len()
        };
        assert_eq!((kept(1), kept(4), kept(9)), (1, 5, 5), "the server decides between equal scores");
    }

    #[test]
    fn options_that_would_do_nothing_are_refused() {
        assert!(options(json!({}), 10).is_ok_and(|o| !o.is_asked()));
        let all = json!({"text_column": ["a", "b"], "weights": {"text": 2}, "rank_constant": 0, "rerank": "m", "rerank_depth": 20});
        assert!(options(all, 10).is_ok_and(|o| o.is_asked() && o.weights.vector == 1.0 && o.weights.text == 2.0));
        for (bad, says) in [
            (json!({"weights": {"text": 2}}), "option weights is given without text_column"),
            (json!({"rank_constant": 1}), "option rank_constant is given without"),
            (json!({"text": "x"}), "option text is given without"),
            (json!({"rerank_depth": 20}), "option rerank_depth is given without rerank"),
            (json!({"rerank_column": "a"}), "option rerank_column is given without rerank"),
            (json!({"rerank": "m"}), "option rerank is given without rerank_column or text_column"),
            (json!({"rerank": "m", "rerank_column": "a", "rerank_depth": 9}), "rerank_depth is less than k"),
            (json!({"text_column": "a", "weights": {"text": 0}}), "option weights takes"),
            (json!({"text_column": "a", "weights": {"words": 1}}), "option weights takes"),
            (json!({"text_column": "a", "rank_constant": -1}), "option rank_constant takes"),
            (json!({"text_column": []}), "option text_column takes"),
        ] {
            let error = options(bad.clone(), 10).unwrap_err();
            assert!(error.message().contains(says), "{bad}: {error}");
        }
        assert_eq!(options(json!({"rerank": "m", "rerank_column": "a"}), 10).unwrap().reranked(10), 50);
        assert_eq!(options(json!({"rerank": "m", "rerank_column": "a"}), 200).unwrap().reranked(200), 200);
    }
}
