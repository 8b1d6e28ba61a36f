//! `mysql_ml_so_create_function(name)`, called by install.sql.

use std::time::{Duration, Instant};

use super::command::command;
use crate::mysql::sql::{with_session, As, SessionKind};
use mysql_ml_base::error::{Error, Kind, Result};

/// `ER_NATIVE_FCT_NAME_COLLISION`, without and with IF NOT EXISTS.
const NATIVE: [u32; 2] = [1585, 4101];
const TIMEOUT: Duration = Duration::from_secs(30);

fn create(name: &str) -> Result<String> {
    if name.is_empty() || name.len() > 64 || !name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_') {
        return Err(Error::invalid("argument name is not the name of a function of this library"));
    }
    Ok(format!("CREATE FUNCTION IF NOT EXISTS {name} RETURNS REAL SONAME 'mysql_ml.so'"))
}

command! {
    /// `mysql_ml_so_create_function(name)`: creates this library's function `name` (RETURNS REAL) as the caller.
    /// Returns `created`, or `native` if the server has a built-in function of that name. The server finds such a
    /// name while parsing, so a script cannot continue after the error.
    CreateFunction = mysql_ml_so_create_function, |v, interrupt| {
        let statement = create(v.required(0)?)?;
        let until = Instant::now() + TIMEOUT;
        let created = with_session(&As::Caller, SessionKind::LibraryStatement, interrupt, until, move |session| {
            session.run(statement.as_bytes())?;
            Ok(())
        });
        match created {
            Ok(()) => Ok("created".to_owned()),
            Err(e) if matches!(e.kind(), Kind::Server(code) if NATIVE.contains(&code)) => Ok("native".to_owned()),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_name_and_no_statement() {
        assert!(create("distance").unwrap().contains(" distance "));
        for name in ["", "a b", "a`b", "A", "a;b", "é", &"a".repeat(65)] {
            assert!(create(name).is_err(), "{name}");
        }
    }
}
