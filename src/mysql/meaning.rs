//! The caller's session variables that affect the meaning of SQL text: read in its session, set in ours.

use std::collections::BTreeMap;
use std::ffi::CStr;

use super::session::{Param, Session};
use super::statement::session_variable;
use mysql_ml_base::error::Result;

const SQL_MODE: &str = "sql_mode";

/// The variables, each with the assignment that sets it.
const VARIABLES: [(&CStr, &str); 8] = [
    (c"sql_mode", "SESSION sql_mode = ?"),
    (c"time_zone", "SESSION time_zone = ?"),
    (c"lc_time_names", "SESSION lc_time_names = ?"),
    (c"collation_connection", "SESSION collation_connection = ?"),
    (c"default_week_format", "SESSION default_week_format = ?"),
    (c"div_precision_increment", "SESSION div_precision_increment = ?"),
    (c"block_encryption_mode", "SESSION block_encryption_mode = ?"),
    (c"group_concat_max_len", "SESSION group_concat_max_len = ?"),
];

/// Modes that only refuse data. They are dropped, so that rows which were read can also be written.
const REFUSING: [&str; 3] = ["STRICT_TRANS_TABLES", "STRICT_ALL_TABLES", "TRADITIONAL"];

/// The mode of reading sessions: without it, bytes that are not text become question marks without an error.
const STRICT: &str = "STRICT_TRANS_TABLES";

/// Values of `VARIABLES` by name. Missing ones keep the value of the library's sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meaning(BTreeMap<String, String>);

impl Meaning {
    /// Reads the variables of the calling thread's session. Inside a stored routine, `sql_mode` and
    /// `collation_connection` are those of its creation.
    pub fn of_caller() -> Self {
        let mut values = BTreeMap::new();
        for (name, _) in VARIABLES {
            if let (Ok(key), Some(value)) = (name.to_str(), session_variable(name)) {
                values.insert(key.to_owned(), value);
            }
        }
        let mut meaning = Meaning(values);
        meaning.drop_refusing_modes();
        meaning
    }

    /// Reads the JSON of [`Meaning::to_json`]; unknown members are ignored.
    pub fn from_json(text: &str) -> Self {
        let values: BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
        let known = |name: &str| VARIABLES.iter().any(|(n, _)| n.to_str() == Ok(name));
        Meaning(values.into_iter().filter(|(name, _)| known(name)).collect())
    }

    /// As a JSON object, to store for later runs.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    fn drop_refusing_modes(&mut self) {
        if let Some(mode) = self.0.get_mut(SQL_MODE) {
            *mode = mode.split(',').filter(|m| !REFUSING.contains(m)).collect::<Vec<_>>().join(",");
        }
    }

    /// The same for a session that reads texts.
    pub fn for_reading(mut self) -> Self {
        if self.0.contains_key(SQL_MODE) {
            self.add_mode(STRICT);
        }
        self
    }

    /// Whether `sql_mode` has the mode.
    pub fn has_mode(&self, mode: &str) -> bool {
        self.0.get(SQL_MODE).is_some_and(|modes| modes.split(',').any(|m| m.eq_ignore_ascii_case(mode)))
    }

    /// Resets the time zone to that of the library's sessions.
    pub fn forget_time_zone(&mut self) {
        self.0.remove("time_zone");
    }

    /// Adds a mode to `sql_mode`.
    pub fn add_mode(&mut self, mode: &str) {
        let modes = self.0.entry(SQL_MODE.to_owned()).or_default();
        if !modes.is_empty() {
            modes.push(',');
        }
        modes.push_str(mode);
    }

    /// Sets the variables in `session`.
    pub fn set_in(&self, session: &mut Session) -> Result<()> {
        let (mut pieces, mut params) = (Vec::new(), Vec::new());
        for (name, assignment) in VARIABLES {
            let Some(value) = name.to_str().ok().and_then(|name| self.0.get(name)) else { continue };
            pieces.push(if pieces.is_empty() { "SET " } else { ", " });
            pieces.push(assignment);
            params.push(value.parse().map_or(Param::Text(value), Param::Number));
        }
        if pieces.is_empty() {
            return Ok(());
        }
        session.query_pieces(&pieces, &params).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_meaning_is_read_again_and_nothing_else_is() {
        let mut meaning = Meaning::from_json(r#"{"sql_mode":"PIPES_AS_CONCAT,STRICT_ALL_TABLES","autocommit":"0"}"#);
        assert!(meaning.has_mode("PIPES_AS_CONCAT") && !meaning.has_mode("PIPES"));
        meaning.drop_refusing_modes();
        meaning.add_mode("ANSI_QUOTES");
        assert_eq!(meaning.to_json(), r#"{"sql_mode":"PIPES_AS_CONCAT,ANSI_QUOTES"}"#);
        assert!(meaning.for_reading().has_mode(STRICT));
        assert_eq!(Meaning::from_json("nonsense"), Meaning::default());
    }
}
