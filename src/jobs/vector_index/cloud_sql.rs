//! Vector indexes by the names and options of Cloud SQL: `mysql.create_vector_index` and its relatives.
//!
//! There an index has a name in its schema, and options are a text: `distance_measure=cosine, num_partitions=100`. What has
//! no meaning here is refused, or noted in the result.

use std::sync::Arc;

use mysql_ml_index::Metric;
use surface::functions;

use super::super::at_work::Held;
use super::access::{must_be_theirs, table_of};
use super::measures::{metric, name_of};
use super::wanted::{Wanted, DEFAULT_BITS, MOST_LISTS};
use super::{build_index, refuse_on_replica};
use crate::jobs::Jobs;
use crate::tables::layout::{parse_table, unquoted};
use crate::tables::vector_indexes::{self as store, VectorIndex};
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;

/// The type of Cloud SQL that is nearest to an index of this library: lists of codes.
pub(super) const INDEX_TYPE: &str = "TREE_SQ";

/// The most characters of a name.
const LONGEST_NAME: usize = 64;

/// Options of Cloud SQL.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    metric: Option<Metric>,
    lists: Option<usize>,
    /// What was not done as it was asked.
    notes: Vec<String>,
}

impl Asked {
    fn read(options: Option<&str>) -> Result<Self> {
        let mut asked = Asked::default();
        let mut seen: Vec<String> = Vec::new();
        for option in options.unwrap_or_default().split(',').map(str::trim).filter(|option| !option.is_empty()) {
            let Some((name, value)) = option.split_once('=') else {
                return Err(Error::invalid(format!("option '{}' has no value; write name=value", cut(option, 60))));
            };
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            let number = |most: usize| {
                let number = value.parse::<usize>().ok().filter(|n| (1..=most).contains(n));
                number.ok_or_else(|| Error::invalid(format!("option {name} takes a whole number from 1 to {most}")))
            };
            match name.as_str() {
                "distance_measure" => asked.metric = Some(metric(value)?),
                "num_partitions" | "num_leaves" => asked.lists = Some(number(MOST_LISTS)?),
                "num_neighbors" => {
                    number(usize::MAX)?;
                    asked.notes.push("num_neighbors is not kept: each search gives its number of rows".to_owned());
                }
                "index_type" => asked.notes.extend(note_of_type(value)?),
                _ => {
                    return Err(Error::invalid(format!(
                    "option '{}' is not known; accepted: distance_measure, index_type, num_partitions, num_neighbors",
                    cut(&name, 60)
                )))
                }
            }
            if seen.contains(&name) {
                return Err(Error::invalid(format!("option {name} is given twice; leave one out")));
            }
            seen.push(name);
        }
        Ok(asked)
    }

    fn wanted(&self, metric: Metric, bits: u8) -> Wanted {
        Wanted { metric, bits, lists: self.lists, dimensions: None }
    }
}

/// What becomes of an index type.
fn note_of_type(value: &str) -> Result<Option<String>> {
    match value.to_ascii_uppercase().as_str() {
        INDEX_TYPE => Ok(None),
        other @ "TREE_AH" => Ok(Some(format!("index_type {other} is built like {INDEX_TYPE}"))),
        "BRUTE_FORCE" => Err(Error::invalid(
            "index_type BRUTE_FORCE compares all rows, for which no index is needed here; create none, or take TREE_SQ",
        )),
        _ => Err(Error::invalid(format!("index_type '{}' is not known; accepted: TREE_SQ, TREE_AH", cut(value, 60)))),
    }
}

/// A name of an index, and its schema if it names one.
fn name_of_index(text: &str) -> Result<(Option<String>, String)> {
    let (schema, name) = match parse_table(text) {
        Ok((schema, name)) => (Some(schema), name),
        Err(_) => (None, unquoted(text)),
    };
    let bare = schema.is_none() && name.contains(['.', '`']);
    if bare || name.trim().is_empty() || name.chars().count() > LONGEST_NAME || name.contains(char::is_control) {
        return Err(Error::invalid(format!(
            "index_name '{}' is not an index's name; write a name of at most {LONGEST_NAME} characters, or schema.name",
            cut(text, 130)
        )));
    }
    Ok((schema, name))
}

fn no_index(name: &str) -> Error {
    Error::new(
        Kind::NotFound,
        format!(
            "you have no vector index '{}'; SELECT index_name FROM mysql.vector_indexes shows those of your tables",
            cut(name, 130)
        ),
    )
}

/// The index of a name that the caller created, or whose table they may alter. Of others they learn nothing.
fn named(text: &str, interrupt: &dyn Interrupt) -> Result<VectorIndex> {
    let (schema, name) = name_of_index(text)?;
    let mut theirs = Vec::new();
    for index in store::of_name(schema.as_deref(), &name, interrupt)? {
        match must_be_theirs(&index, interrupt) {
            Ok(()) => theirs.push(index),
            Err(e) if matches!(e.kind(), Kind::Server(_) | Kind::Denied) => {}
            Err(e) => return Err(e),
        }
    }
    match theirs.len() {
        1 => theirs.pop().ok_or_else(|| no_index(text)),
        0 => Err(no_index(text)),
        _ => {
            Err(Error::invalid(format!("several schemas have a vector index '{}'; write schema.name", cut(text, 130))))
        }
    }
}

impl Jobs {
    /// `mysql.create_vector_index`: creates an index with a name and builds it. Returns the object of
    /// [`Jobs::create_vector_index`].
    pub fn create_named_vector_index(
        &self,
        name: &str,
        table: &str,
        column: &str,
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        self.engine.may_call(functions::ml_create_vector_index, interrupt)?;
        let (schema, name) = name_of_index(name)?;
        let (its_schema, _) = parse_table(table)?;
        if let Some(schema) = schema.filter(|schema| *schema != its_schema) {
            return Err(Error::invalid(format!(
                "index_name names the schema {}, and the table is in {}; an index is in the schema of its table",
                cut(&schema, 64),
                cut(&its_schema, 64)
            )));
        }
        let asked = Asked::read(options)?;
        // Cloud SQL's default.
        let wanted = asked.wanted(asked.metric.unwrap_or(Metric::L2), DEFAULT_BITS);
        self.create_index(Some(name), table, column, &wanted, asked.notes, interrupt)
    }

    /// `mysql.alter_vector_index`: builds an index again with other options. Returns the same object.
    pub fn alter_named_vector_index(
        &self,
        name: &str,
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        self.engine.may_call(functions::ml_alter_vector_index, interrupt)?;
        refuse_on_replica(interrupt)?;
        let asked = Asked::read(options)?;
        let (_held, index) = self.hold_named(name, interrupt)?;
        let built = Wanted::of(&index)?;
        if let Some(other) = asked.metric.filter(|metric| *metric != built.metric) {
            return Err(Error::invalid(format!(
                "the index was built for {}, and distance_measure {} needs another one; drop it, then create it again",
                index.measure,
                name_of(other)
            )));
        }
        let keyed = table_of(&index, interrupt)?;
        build_index(&index, &keyed, &asked.wanted(built.metric, built.bits), asked.notes, interrupt)
    }

    /// `mysql.drop_vector_index`: removes an index. Returns the object of [`Jobs::drop_vector_index`].
    pub fn drop_named_vector_index(&self, name: &str, interrupt: &dyn Interrupt) -> Result<String> {
        self.engine.may_call(functions::ml_drop_vector_index, interrupt)?;
        let (_held, index) = self.hold_named(name, interrupt)?;
        Self::remove_index(&index, interrupt)
    }

    fn hold_named(&self, name: &str, interrupt: &dyn Interrupt) -> Result<(Arc<Held>, VectorIndex)> {
        let found = named(name, interrupt)?;
        let (held, index) = self.hold_index(&found, interrupt)?;
        // Another one may have taken its place.
        if index.id == found.id {
            Ok((held, index))
        } else {
            Err(no_index(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_cloud_sql_are_read_or_refused() {
        let asked = Asked::read(Some("index_type=TREE_SQ, distance_measure = squared_l2,num_partitions=7")).unwrap();
        assert_eq!(asked, Asked { metric: Some(Metric::L2), lists: Some(7), notes: Vec::new() });
        let noted = Asked::read(Some("INDEX_TYPE=tree_ah,num_neighbors=5")).unwrap().notes;
        assert_eq!(noted.len(), 2, "{noted:?}");
        assert_eq!(Asked::read(None).unwrap(), Asked::default());
        assert_eq!(Asked::read(Some(" ")).unwrap(), Asked::default());
        for bad in [
            "cosine",
            "a=b",
            "index_type=BRUTE_FORCE",
            "index_type=HNSW",
            "num_partitions=0",
            "num_partitions=10000",
            "num_neighbors=x",
            "num_leaves=1,num_leaves=2",
            "distance_measure=x",
        ] {
            assert!(Asked::read(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_may_have_its_schema() {
        let name = |text| name_of_index(text).unwrap();
        assert_eq!(name("i"), (None, "i".to_owned()));
        assert_eq!(name(" s.i "), (Some("s".to_owned()), "i".to_owned()));
        assert_eq!(name("`my s`.`a.b`"), (Some("my s".to_owned()), "a.b".to_owned()));
        for bad in ["", " ", "a.b.c", ".i", "i.", "`a", "a\nb", &"x".repeat(65)] {
            assert!(name_of_index(bad).is_err(), "{bad:?}");
        }
    }
}
