//! The list of status variables: numbers of the process, of its waits and of its errors.

use crate::counters::{self, Counter};
use crate::symbol::Symbol;
use crate::wait::Wait;

/// All numbers, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Counter> {
    let waits = Wait::ALL.iter().map(|wait| wait.gauge());
    let errors = Symbol::ALL.iter().map(|symbol| symbol.errors());
    let failures = Symbol::ALL.iter().map(|symbol| symbol.failures());
    counters::list().chain(waits).chain(errors).chain(failures)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_is_fit_for_a_status_variable_and_no_two_are_the_same() {
        let mut seen = HashSet::new();
        for counter in all() {
            let name = counter.text();
            assert!(!name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'), "{name}");
            // The server's limit is 64 with the prefix.
            assert!(name.len() < 50, "{name}");
            assert!(!counter.help.is_empty() && seen.insert(name), "{name}");
        }
    }

    /// The rows of a table in docs/monitoring.md.
    fn documented(name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/monitoring.md")).unwrap();
        let (_, text) = text.split_once(&format!("<!-- {name} -->")).unwrap();
        let (table, _) = text.split_once(&format!("<!-- end of {name} -->")).unwrap();
        table.lines().skip(3).map(str::to_owned).collect()
    }

    #[test]
    fn the_documentation_lists_the_status_variables_and_the_waits() {
        let kind = |counter: &Counter| if counter.gauge { "gauge" } else { "counter" };
        let rows: Vec<String> =
            counters::list().map(|c| format!("| `Mysql_ml_{}` | {} | {} |", c.text(), kind(c), c.help)).collect();
        assert_eq!(documented("status variables"), rows);
        let rows: Vec<String> = Wait::ALL
            .iter()
            .map(|w| format!("| `{}` | `Mysql_ml_{}` |", w.state().to_str().unwrap(), w.gauge().text()))
            .collect();
        assert_eq!(documented("waits"), rows);
    }

    #[test]
    fn the_dashboard_asks_for_metrics_that_exist() {
        const PREFIX: &str = "mysql_global_status_mysql_ml_";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contrib/grafana/mysql-ml.json");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap().pointer("/panels/9").is_some());
        let names: HashSet<&str> = all().map(Counter::text).collect();
        let mut asked = 0;
        for (at, _) in text.match_indices(PREFIX) {
            let rest = &text[at + PREFIX.len()..];
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap();
            let (name, after) = rest.split_at(end);
            // A family: `errors_.+`.
            let family = after.starts_with(".+") || after.starts_with("(.+");
            assert!(names.contains(name) || (family && names.iter().any(|n| n.starts_with(name))), "{name}");
            asked += 1;
        }
        assert!(asked > 20, "{asked}");
    }
}
