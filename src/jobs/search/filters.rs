//! A search with a filter: whether the index or the table finds its rows at less cost.

use serde_json::Value;

use super::proposed::MOST_CANDIDATES;

/// Rows that pass the filter, in results, so that the nearest of them are among the candidates.
pub(super) const ENOUGH: u64 = 3;

/// The least candidates of a first round, which tells the part of the rows that pass.
const FIRST: usize = 200;

// Costs, in rows that a scan of the table reads without their vectors. Measured on tables that the buffer pool holds.
/// A candidate: its key in statements and a look-up.
const CANDIDATE: f64 = 30.0;
/// A row that is read by another index of the table.
const BY_KEY: f64 = 10.0;
/// A row that passes the filter: its vector is read, and compared.
const PASSING: f64 = 18.0;
/// A code of a list.
const CODE: f64 = 0.1;
/// A list: its centroid and blocks.
const LIST: f64 = 45.0;

/// More candidates are tried than seem to pay if they cost less than this part of reading the table.
const LOOK: f64 = 0.125;
/// A round has read enough lists if they are more than this part of those that the part of passing rows asks for.
const ALMOST: f64 = 0.8;
/// More candidates than the part that passes asks for, because it is an estimate.
const MARGIN: f64 = 1.3;

/// From this part on, a scan reads vectors together with the rows.
const FEW: f64 = 0.1;

/// What a filter asks for after a round of candidates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Next {
    /// They suffice.
    Enough,
    /// So many candidates, and at least so many lists.
    Candidates(usize, u64),
    /// The table.
    Table,
}

/// Table, index and filter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Filtered {
    /// Rows of the table.
    pub rows: f64,
    /// Rows that the server reads for the filter, by its estimate.
    pub read: f64,
    /// Lists of the index.
    pub lists: u64,
    /// Lists that a search without a filter reads.
    pub needed: u64,
    /// Rows that the search returns.
    pub wanted: u64,
}

/// A round of candidates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Round {
    /// Candidates, and how many of them passed.
    pub candidates: usize,
    pub passing: u64,
    /// The most candidates that were asked for.
    pub most: usize,
    /// Lists that were read.
    pub lists: u64,
}

/// Candidates of the first round.
pub(super) fn first(wanted: u64, most: usize) -> usize {
    usize::try_from(wanted.saturating_mul(ENOUGH * 4)).unwrap_or(most).max(FIRST).min(most)
}

impl Filtered {
    /// Lists of the first round: more than without a filter, if that costs little.
    pub(super) fn first_lists(&self) -> u64 {
        self.needed.saturating_mul(4).min(self.needed.max(self.lists / 8))
    }

    /// Whether the table is read at less cost than a first round, whatever part of the candidates would pass.
    pub(super) fn is_small(&self, first: usize) -> bool {
        self.of_table(1.0) < first as f64 * CANDIDATE + self.of_lists(self.needed)
    }

    /// What to do after a round.
    pub(super) fn next(&self, round: Round) -> Next {
        let wanted = self.wanted.saturating_mul(ENOUGH);
        // None of few is not none of all.
        let part = ((round.passing as f64 + 0.5) / round.candidates.max(1) as f64).min(1.0);
        // Of a part of the rows, the nearest are in as many more lists.
        let lists = ((self.needed as f64 / part).ceil() as u64).min(self.lists);
        let suffice = round.passing >= wanted;
        if suffice && round.lists as f64 >= lists as f64 * ALMOST {
            return Next::Enough;
        }
        if round.lists >= self.lists && round.candidates < round.most {
            // The index has no others.
            return Next::Table;
        }
        let table = self.of_table(part);
        let more = round.most.saturating_mul(2);
        let asked = (wanted as f64 / part * MARGIN).min(1e9) as usize;
        let asked = if suffice { round.most } else { asked.max(more) };
        let (look, near) = (round.most.saturating_mul(8), lists.min(round.lists.saturating_mul(2)));
        let is_cheap = look <= MOST_CANDIDATES && look as f64 * CANDIDATE + self.of_lists(near) < table * LOOK;
        // One of some hundred says little of the part.
        if round.passing < 2 && is_cheap {
            return Next::Candidates(look, near);
        }
        if asked <= MOST_CANDIDATES && asked as f64 * CANDIDATE + self.of_lists(lists) < table {
            return Next::Candidates(asked, lists);
        }
        if is_cheap && !suffice {
            Next::Candidates(look, near)
        } else {
            Next::Table
        }
    }

    /// Whether a scan finds the rows that pass before it reads vectors. `part`: that passes, if it is known.
    pub(super) fn is_few(&self, part: Option<f64>) -> bool {
        self.read < self.rows * FEW || part.is_some_and(|part| part < FEW)
    }

    fn of_lists(&self, lists: u64) -> f64 {
        let part = lists as f64 / self.lists.max(1) as f64;
        part * self.rows * CODE + lists as f64 * LIST
    }

    fn of_table(&self, part: f64) -> f64 {
        let row = if self.read < self.rows / 2.0 { BY_KEY } else { 1.0 };
        self.read * row + (self.rows * part).min(self.read) * PASSING
    }
}

/// Whether the server's plan of a statement with this filter can be asked for. Plans of views need a right of their own.
pub(super) fn has_plan(filter: &str) -> bool {
    let words = filter.split(|c: char| !c.is_ascii_alphabetic());
    !words.into_iter().any(|word| word.eq_ignore_ascii_case("select") || word.eq_ignore_ascii_case("table"))
}

/// The rows that a statement on one table reads, from the server's plan in JSON, of either format.
pub(super) fn rows_read(plan: &str) -> Option<f64> {
    let plan: Value = serde_json::from_str(plan).ok()?;
    match plan.get("query_plan") {
        Some(node) => leaves(node),
        None => plan.pointer("/query_block/table/rows_examined_per_scan")?.as_f64(),
    }
}

fn leaves(node: &Value) -> Option<f64> {
    match node.get("inputs").and_then(Value::as_array) {
        // As deep as a parsed document can be.
        Some(inputs) if !inputs.is_empty() => inputs.iter().map(leaves).sum(),
        _ => node.get("estimated_rows")?.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Filtered = Filtered { rows: 1e5, read: 1e5, lists: 949, needed: 20, wanted: 10 };

    fn round(candidates: usize, passing: u64, lists: u64) -> Round {
        Round { candidates, passing, most: candidates, lists }
    }

    #[test]
    fn the_cheaper_way_is_taken_after_one_round() {
        // Half of the rows.
        assert_eq!(TABLE.next(round(200, 100, 80)), Next::Enough);
        // A tenth: more of them, from more lists.
        assert!(matches!(TABLE.next(round(200, 20, 80)), Next::Candidates(350..450, 180..210)));
        // Enough rows, of too few lists.
        assert_eq!(TABLE.next(round(400, 40, 80)), Next::Candidates(400, 198));
        // A hundredth and less.
        assert_eq!(TABLE.next(round(200, 2, 80)), Next::Table);
        assert_eq!(TABLE.next(round(200, 0, 80)), Next::Table);
        // The same of a table ten times as large.
        let large = Filtered { rows: 1e6, read: 1e6, lists: 3000, ..TABLE };
        assert!(matches!(large.next(round(200, 2, 80)), Next::Candidates(3000..4000, 1600)));
        assert!(matches!(large.next(round(200, 0, 80)), Next::Candidates(1600, 160)));
        assert_eq!(large.next(round(1600, 0, 3000)), Next::Table);
        // Another index of the table finds the rows.
        let by_key = Filtered { read: 100.0, ..TABLE };
        assert!(by_key.is_small(200) && by_key.is_few(None) && !TABLE.is_small(200) && !TABLE.is_few(None));
        assert!(TABLE.is_few(Some(0.01)));
        // All lists were read, and had fewer candidates than were asked for.
        assert_eq!(large.next(Round { most: 500, ..round(450, 20, 3000) }), Next::Table);
    }

    #[test]
    fn rounds_end() {
        for rows in [1e2, 1e4, 1e6, 1e9] {
            for passing in [0, 1, 5, 20, 1000] {
                let filtered = Filtered { rows, read: rows, lists: 3000, needed: 30, wanted: 10 };
                let (mut most, mut lists, mut rounds) = (200, 30, 0);
                while let Next::Candidates(more, least) =
                    filtered.next(Round { candidates: most, passing, most, lists })
                {
                    (most, lists, rounds) = (more, (lists * 4).max(least), rounds + 1);
                }
                assert!(rounds < 8, "{rows} {passing}");
            }
        }
    }

    #[test]
    fn the_servers_plan_tells_the_rows_that_it_reads() {
        let plan =
            r#"{"query_plan":{"inputs":[{"estimated_rows":1000.0,"access_type":"index"}],"estimated_rows":10.0}}"#;
        assert_eq!(rows_read(plan), Some(1000.0));
        let merged = r#"{"query_plan":{"inputs":[{"estimated_rows":2,"inputs":[]},{"estimated_rows":3.5}]}}"#;
        assert_eq!(rows_read(merged), Some(5.5));
        let old = r#"{"query_block":{"table":{"rows_examined_per_scan":7,"access_type":"range"}}}"#;
        assert_eq!(rows_read(old), Some(7.0));
        for other in ["", "{}", r#"{"query_plan":{"operation":"Zero rows"}}"#] {
            assert_eq!(rows_read(other), None, "{other}");
        }
        assert!(has_plan("kind = 'selected' AND a < 3") && !has_plan("id IN (SELECT id FROM w)"));
        assert!(!has_plan("id IN (TABLE v)"));
    }
}
