//! WITH ROLLUP, which the server cannot compute for loadable aggregates.

use mysql_ml_base::error::{Error, Result};

/// Refuses WITH ROLLUP, which would give wrong results: all levels share one function's state, and each level begins
/// its group with the same first row. The server offers no other sign of it. `abandoned`: the only row of a group whose
/// result was not read.
pub fn refuse_rollup<T: PartialEq>(abandoned: Option<T>, first: &T) -> Result<()> {
    match abandoned {
        Some(row) if row == *first => Err(Error::invalid(
            "the server cannot compute loadable aggregates WITH ROLLUP; use UNION ALL with a query of the whole",
        )),
        _ => Ok(()),
    }
}
