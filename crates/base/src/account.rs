//! MySQL accounts.

use std::fmt;

/// A MySQL account, as `user@host` in the grant tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// User name; empty for the anonymous user.
    pub user: String,
    /// Host pattern.
    pub host: String,
}

impl Account {
    /// The locked account that owns the library's tables and routines.
    pub fn library() -> Self {
        Account { user: "mysql_ml".into(), host: "localhost".into() }
    }

    /// Reads `user@host`; the host follows the last `@`.
    pub fn parse(text: &str) -> Option<Self> {
        let (user, host) = text.rsplit_once('@')?;
        (!host.is_empty()).then(|| Account { user: user.into(), host: host.into() })
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_as_the_grant_tables_write_them() {
        let a = Account::parse("odd@name@%").unwrap();
        assert_eq!((a.user.as_str(), a.host.as_str()), ("odd@name", "%"));
        assert_eq!(Account::parse("@localhost").unwrap().user, "");
        assert!(Account::parse("nohost").is_none());
    }
}
