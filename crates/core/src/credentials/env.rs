//! `env:NAME`: a variable of mysqld's environment.

use secrecy::SecretString;

use super::value::usable;
use mysql_ml_base::error::{Error, Kind, Result};

/// Reads a variable whose name was checked at registration.
pub fn read(name: &str) -> Result<SecretString> {
    match std::env::var(name) {
        Ok(value) => usable(value, &format!("env:{name}")),
        Err(std::env::VarError::NotPresent) => Err(Error::new(
            Kind::NotFound,
            format!("the variable {name} is not set in the environment of mysqld; set it there (systemd: Environment= or EnvironmentFile=) and restart"),
        )),
        Err(std::env::VarError::NotUnicode(_)) => Err(Error::invalid(format!("the variable {name} is not valid UTF-8"))),
    }
}
