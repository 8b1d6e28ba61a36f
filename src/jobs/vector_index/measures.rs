//! Distance measures of vector indexes: their names, and the exact distance in SQL.

use mysql_ml_index::Metric;

use mysql_ml_base::error::{cut, Error, Result};
use mysql_ml_core::catalog::members::{self, Members};

/// Takes the option `distance_measure`.
pub(in crate::jobs) fn take_measure(members: &mut Members) -> Result<Option<String>> {
    let text = members::text(members, "distance_measure")?;
    text.map(|text| metric(&text).map(|metric| name_of(metric).to_owned())).transpose()
}

/// The metric of a name.
pub(in crate::jobs) fn metric(text: &str) -> Result<Metric> {
    match text.trim().to_ascii_lowercase().as_str() {
        "cosine" => Ok(Metric::Cosine),
        "l2_squared" | "squared_l2" | "euclidean" | "euclidean_squared" | "l2" => Ok(Metric::L2),
        "dot_product" | "dot" => Ok(Metric::Dot),
        _ => Err(Error::invalid(format!(
            "distance_measure '{}' is not known; accepted: cosine, l2_squared, dot_product",
            cut(text, 60)
        ))),
    }
}

/// The stored name of a metric.
pub(in crate::jobs) fn name_of(metric: Metric) -> &'static str {
    match metric {
        Metric::Cosine => "cosine",
        Metric::L2 => "l2_squared",
        Metric::Dot => "dot_product",
    }
}

/// The exact distance of a column from a vector, as SQL; smaller is closer.
pub(in crate::jobs) fn distance_sql(name: &str, column: &str, query: &str) -> String {
    match name {
        "l2_squared" => format!("l2_squared_distance({column}, {query})"),
        "dot_product" => format!("-dot_product({column}, {query})"),
        _ => format!("cosine_distance({column}, {query})"),
    }
}
