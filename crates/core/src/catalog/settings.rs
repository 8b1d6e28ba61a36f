//! Settings: process-wide values in `mysql.cloudsql_ml_settings`, each with a built-in default. The table of them is in
//! `crates/surface/src/settings.rs`; `kinds` reads and checks the values.

use surface::{Setting, SETTINGS};

use self::kinds::{
    AbsolutePath, Failing, Host, Hosts, Kind, Mebibytes, MebibytesInMemory, Millis, ModelId, Number, ProxyUrl, Threads,
    Word,
};
use crate::http::policy::NetworkPolicy;
use mysql_ml_base::error::{cut, Error, Result};

mod kinds;

/// Declares [`Settings`] of the rows. Those whose field begins with `network` are fields of its [`NetworkPolicy`].
macro_rules! declare {
    (@ [$($field:tt)*] [$($value:tt)*]) => {
        /// The current settings.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $($field)*
            /// The network policy.
            pub network: NetworkPolicy,
        }

        impl Settings {
            fn beside_the_network() -> Self {
                Settings { $($value)* network: NetworkPolicy::default() }
            }
        }
    };
    (@ $fields:tt $values:tt
        $(#[$doc:meta])* network.$field:ident: $kind:ident = $name:ident, $default:literal $(, $min:literal..=$max:literal)?;
        $($rest:tt)*
    ) => {
        declare!(@ $fields $values $($rest)*);
    };
    (@ [$($fields:tt)*] [$($values:tt)*]
        $(#[$doc:meta])* $field:ident: $kind:ident = $name:ident, $default:literal $(, $min:literal..=$max:literal)?;
        $($rest:tt)*
    ) => {
        declare!(@
            [$($fields)* $(#[$doc])* pub $field: <$kind as Kind>::Value,]
            [$($values)* $field: $kind::default($default),]
            $($rest)*
        );
    };
    ($(
        $(#[$doc:meta])*
        $($field:ident).+: $kind:ident = $name:ident, $default:literal $(, $min:literal..=$max:literal)?;
    )+) => {
        declare!(@ [] []
            $($(#[$doc])* $($field).+: $kind = $name, $default $(, $min..=$max)?;)+
        );

        impl Default for Settings {
            fn default() -> Self {
                let mut settings = Self::beside_the_network();
                $(settings.$($field).+ = $kind::default($default);)+
                settings
            }
        }

        impl Settings {
            /// Takes over a value of a setting; one that it does not accept is an error.
            fn set(&mut self, setting: &Setting, value: &str) -> Result<()> {
                match setting.name {
                    $(name if name == stringify!($name) => self.$($field).+ = $kind::read(setting, value)?,)+
                    name => return Err(Error::internal(format!("setting {name} has no place"))),
                }
                Ok(())
            }
        }
    };
}

surface::settings!(declare);

impl Settings {
    /// Builds the settings from the table's rows over the defaults.
    ///
    /// An unknown or invalid row is an error that names it. A policy that silently fell back to its default would be
    /// worse.
    pub fn from_rows<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut settings = Self::default();
        for (name, value) in rows {
            settings.set(known(name)?, value.trim())?;
        }
        Ok(settings)
    }
}

fn known(name: &str) -> Result<&'static Setting> {
    SETTINGS.iter().find(|s| s.name == name).ok_or_else(|| {
        Error::invalid(format!(
            "setting '{}' is not known; accepted: {}",
            cut(name, 60),
            SETTINGS.iter().map(|s| s.name).collect::<Vec<_>>().join(", ")
        ))
    })
}

/// Checks a setting's name and value.
pub fn check(name: &str, value: &str) -> Result<()> {
    Settings::default().set(known(name)?, value.trim())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn defaults_are_accepted_by_their_own_checks() {
        let all = SETTINGS.iter().map(|s| (s.name, s.default));
        assert_eq!(Settings::from_rows(all).unwrap(), Settings::default());
        assert_eq!(Settings::default().call_memory, mysql_ml_base::memory::DEFAULT);
        assert_eq!(Settings::default().network, NetworkPolicy::default());
    }

    #[test]
    fn rows_override_and_unknown_ones_are_errors() {
        let s = Settings::from_rows([("timeout_ms", "5")].into_iter()).unwrap();
        assert_eq!(s.timeout, Duration::from_millis(5));
        assert!(Settings::from_rows([("time_out", "5")].into_iter()).is_err());
        assert!(Settings::from_rows([("timeout_ms", "soon")].into_iter()).is_err());
    }
}
