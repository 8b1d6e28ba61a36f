//! `mysql_ml_so_create_function(name)`, called by install.sql, and `mysql_ml_so_drop_procedure(name)`, called by uninstall.sql.

use std::time::{Duration, Instant};

use super::command::command;
use crate::mysql::sql::{with_session, As, SessionKind};
use mysql_ml_base::error::{Error, Kind, Result};

/// `ER_NATIVE_FCT_NAME_COLLISION`, without and with IF NOT EXISTS.
const NATIVE: [u32; 2] = [1585, 4101];
const TIMEOUT: Duration = Duration::from_secs(30);

fn checked(name: &str) -> Result<&str> {
    if name.is_empty() || name.len() > 64 || !name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_') {
        return Err(Error::invalid("argument name is not the name of a function of this library"));
    }
    Ok(name)
}

command! {
    /// `mysql_ml_so_create_function(name)`: creates this library's function `name` (RETURNS REAL) as the caller.
    /// Returns `created`, or `native` if the server has a built-in function of that name. The server finds such a
    /// name while parsing, so a script cannot continue after the error.
    CreateFunction = mysql_ml_so_create_function, |v, interrupt| {
        let name = checked(v.required(0)?)?;
        let statement = format!("CREATE FUNCTION IF NOT EXISTS {name} RETURNS REAL SONAME 'mysql_ml.so'");
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

command! {
    /// `mysql_ml_so_drop_procedure(name)`: drops the procedure `name` of schema `mysql` as the caller, if it is the
    /// library's. Returns `dropped` or `kept`. DROP PROCEDURE can be neither prepared nor written in a stored program.
    DropProcedure = mysql_ml_so_drop_procedure, |v, interrupt| {
        let name = checked(v.required(0)?)?.to_owned();
        let until = Instant::now() + TIMEOUT;
        with_session(&As::Caller, SessionKind::LibraryStatement, interrupt, until, move |session| {
            let own = session.query(
                "SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'mysql' AND ROUTINE_NAME = ? \
                 AND ROUTINE_TYPE = 'PROCEDURE' AND ROUTINE_COMMENT LIKE 'mysql-ml:%'",
                &[name.as_str().into()],
            )?;
            if own.rows.first().map_or(Ok(0), |row| row.get::<u64>(0))? == 0 {
                return Ok("kept".to_owned());
            }
            session.run(format!("DROP PROCEDURE mysql.{name}").as_bytes())?;
            Ok("dropped".to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_name_and_no_statement() {
        assert_eq!(checked("distance").unwrap(), "distance");
        for name in ["", "a b", "a`b", "A", "a;b", "é", &"a".repeat(65)] {
            assert!(checked(name).is_err(), "{name}");
        }
    }
}
