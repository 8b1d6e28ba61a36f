//! Settings: process-wide values in `mysql.cloudsql_ml_settings`, each with a built-in default.

use std::time::Duration;

use url::Url;

use crate::http::egress::Allowlist;
use crate::http::policy::NetworkPolicy;
use mysql_ml_base::error::{cut, Error, Result};

/// The accepted values of a setting.
enum Accepts {
    Number {
        min: u64,
        max: u64,
    },
    Allowlist,
    ProxyUrl,
    Path,
    /// A host, or a URL without a path.
    Host,
    /// A name that becomes part of a URL.
    Word,
}

/// One setting.
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// The built-in value.
    pub default: &'static str,
    accepts: Accepts,
}

/// All settings, in the order of the documentation.
pub const SETTINGS: [Setting; 17] = [
    Setting { name: "timeout_ms", default: "60000", accepts: Accepts::Number { min: 1, max: 3_600_000 } },
    Setting { name: "connect_timeout_ms", default: "10000", accepts: Accepts::Number { min: 1, max: 600_000 } },
    Setting { name: "max_retries", default: "2", accepts: Accepts::Number { min: 0, max: 10 } },
    Setting { name: "max_response_mb", default: "64", accepts: Accepts::Number { min: 1, max: 1024 } },
    Setting { name: "registry_ttl_ms", default: "1000", accepts: Accepts::Number { min: 0, max: 3_600_000 } },
    Setting { name: "cache_memory_mb", default: "64", accepts: Accepts::Number { min: 0, max: 65_536 } },
    Setting { name: "cache_disk_mb", default: "0", accepts: Accepts::Number { min: 0, max: 1_048_576 } },
    Setting { name: "call_memory_mb", default: "1024", accepts: Accepts::Number { min: 16, max: 1_048_576 } },
    Setting { name: "egress_allowlist", default: "", accepts: Accepts::Allowlist },
    Setting { name: "proxy", default: "", accepts: Accepts::ProxyUrl },
    Setting { name: "ca_file", default: "", accepts: Accepts::Path },
    Setting { name: "google_project", default: "", accepts: Accepts::Word },
    Setting { name: "google_location", default: "", accepts: Accepts::Word },
    Setting { name: "secret_ttl_ms", default: "300000", accepts: Accepts::Number { min: 0, max: 86_400_000 } },
    Setting { name: "local_memory_mb", default: "2048", accepts: Accepts::Number { min: 0, max: 1_048_576 } },
    Setting { name: "local_threads", default: "0", accepts: Accepts::Number { min: 0, max: 1024 } },
    Setting { name: "huggingface_host", default: "huggingface.co", accepts: Accepts::Host },
];

/// The current settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Time limit of a call, all tries together.
    pub timeout: Duration,
    /// How often a failed request is sent again.
    pub max_retries: u64,
    /// Age after which a registration is read again.
    pub registry_ttl: Duration,
    /// Bytes of the in-memory embedding cache; 0 turns it off.
    pub cache_memory: u64,
    /// Bytes of the embedding cache on disk; 0 turns it off.
    pub cache_disk: u64,
    /// The most bytes of all calls together, for arguments, answers, vectors and results.
    pub call_memory: u64,
    /// The network policy.
    pub network: NetworkPolicy,
    /// The Google Cloud project of models whose URL names none; empty: that of the credentials.
    pub google_project: String,
    /// The Google Cloud location of such models; empty: that of the machine, else us-central1.
    pub google_location: String,
    /// Age after which a value from Google Secret Manager is read again.
    pub secret_ttl: Duration,
    /// The most bytes of all local models together.
    pub local_memory: u64,
    /// Threads for local models; 0: half of the processors.
    pub local_threads: usize,
    /// The hub for model files: a host, or a URL without a path.
    pub huggingface_host: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            timeout: Duration::from_secs(60),
            max_retries: 2,
            registry_ttl: Duration::from_secs(1),
            cache_memory: 64 << 20,
            cache_disk: 0,
            call_memory: mysql_ml_base::memory::DEFAULT,
            network: NetworkPolicy::default(),
            google_project: String::new(),
            google_location: String::new(),
            secret_ttl: Duration::from_secs(300),
            local_memory: 2048 << 20,
            local_threads: 0,
            huggingface_host: "huggingface.co".into(),
        }
    }
}

impl Settings {
    /// Builds the settings from the table's rows over the defaults.
    ///
    /// An unknown or invalid row is an error that names it. A policy must not silently fall back to its default.
    pub fn from_rows<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut settings = Self::default();
        for (name, value) in rows {
            check(name, value)?;
            settings.set(name, value.trim())?;
        }
        Ok(settings)
    }

    /// Takes over a value that [`check`] accepted.
    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let number = || value.parse::<u64>().map_err(|_| Error::internal(format!("setting {name} has no number")));
        match name {
            "timeout_ms" => self.timeout = Duration::from_millis(number()?),
            "connect_timeout_ms" => self.network.connect_timeout = Duration::from_millis(number()?),
            "max_retries" => self.max_retries = number()?,
            "max_response_mb" => self.network.max_response = usize::try_from(number()? << 20).unwrap_or(usize::MAX),
            "registry_ttl_ms" => self.registry_ttl = Duration::from_millis(number()?),
            "cache_memory_mb" => self.cache_memory = number()? << 20,
            "call_memory_mb" => self.call_memory = number()? << 20,
            "cache_disk_mb" => self.cache_disk = number()? << 20,
            "egress_allowlist" => self.network.egress_allowlist = Allowlist::parse(value)?,
            "proxy" => self.network.proxy = value.to_owned(),
            "ca_file" => self.network.ca_file = value.to_owned(),
            "google_project" => self.google_project = value.to_owned(),
            "google_location" => self.google_location = value.to_owned(),
            "local_memory_mb" => self.local_memory = number()? << 20,
            "local_threads" => self.local_threads = usize::try_from(number()?).unwrap_or(usize::MAX),
            "huggingface_host" => self.huggingface_host = value.to_owned(),
            "secret_ttl_ms" => self.secret_ttl = Duration::from_millis(number()?),
            _ => return Err(Error::internal(format!("setting {name} has no place"))),
        }
        Ok(())
    }
}

/// Checks a setting's name and value.
pub fn check(name: &str, value: &str) -> Result<()> {
    let setting = SETTINGS.iter().find(|s| s.name == name).ok_or_else(|| {
        Error::invalid(format!(
            "setting '{}' is not known; accepted: {}",
            cut(name, 60),
            SETTINGS.iter().map(|s| s.name).collect::<Vec<_>>().join(", ")
        ))
    })?;
    let value = value.trim();
    match setting.accepts {
        Accepts::Number { min, max } => {
            let ok = value.parse::<u64>().is_ok_and(|n| (min..=max).contains(&n));
            if !ok {
                return Err(Error::invalid(format!(
                    "setting {name} is '{}'; it takes a whole number from {min} to {max}",
                    cut(value, 60)
                )));
            }
        }
        Accepts::Allowlist => {
            Allowlist::parse(value)?;
        }
        Accepts::ProxyUrl => {
            if !value.is_empty() {
                crate::http::proxy::check_setting(value)?;
            }
        }
        Accepts::Host => {
            let text = if value.contains("://") { value.to_owned() } else { format!("https://{value}") };
            let ok = Url::parse(&text).is_ok_and(|u| {
                u.host_str().is_some_and(|h| !h.is_empty())
                    && matches!(u.scheme(), "https" | "http")
                    && u.path() == "/"
                    && u.query().is_none()
                    && u.username().is_empty()
            });
            if !ok {
                return Err(Error::invalid(format!(
                    "setting {name} is '{}'; give a host such as huggingface.co, or https://host:port",
                    cut(value, 60)
                )));
            }
        }
        Accepts::Word => {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
            if value.len() > 100 || !value.chars().all(plain) {
                return Err(Error::invalid(format!("setting {name} is '{}'; give a plain name", cut(value, 60))));
            }
        }
        Accepts::Path => {
            if !value.is_empty() && !value.starts_with('/') {
                return Err(Error::invalid(format!("setting {name} is '{}'; give an absolute path", cut(value, 60))));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_accepted_by_their_own_checks() {
        let all = SETTINGS.iter().map(|s| (s.name, s.default));
        assert_eq!(Settings::from_rows(all).unwrap(), Settings::default());
    }

    #[test]
    fn rows_override_and_unknown_ones_are_errors() {
        let s = Settings::from_rows([("timeout_ms", "5")].into_iter()).unwrap();
        assert_eq!(s.timeout, Duration::from_millis(5));
        assert!(Settings::from_rows([("time_out", "5")].into_iter()).is_err());
        assert!(Settings::from_rows([("timeout_ms", "soon")].into_iter()).is_err());
    }
}
