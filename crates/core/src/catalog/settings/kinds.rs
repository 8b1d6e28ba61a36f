//! The kinds of values that settings have: how each is read and checked.

use std::time::Duration;

use surface::Setting;
use url::Url;

use crate::catalog::model::check_id;
use crate::catalog::options::OnError;
use crate::http::egress::Allowlist;
use mysql_ml_base::error::{cut, Error, Result};

/// A kind of values.
pub trait Kind {
    /// As the library uses it.
    type Value;
    /// As a default is written in the table.
    type Default;

    /// The value of a default.
    fn default(default: Self::Default) -> Self::Value;

    /// Reads a value; an error that names the setting where it is not accepted.
    fn read(setting: &Setting, text: &str) -> Result<Self::Value>;
}

/// An error for a value that the setting does not accept.
fn refused(setting: &Setting, text: &str, advice: &str) -> Error {
    Error::invalid(format!("setting {} is '{}'; {advice}", setting.name, cut(text, 60)))
}

/// Declares kinds of numbers: the type of the value, and how a number becomes one.
macro_rules! numbers {
    ($($(#[$doc:meta])* $kind:ident: $value:ty = $convert:expr;)+) => {
        $(
            $(#[$doc])*
            pub struct $kind;

            impl Kind for $kind {
                type Value = $value;
                type Default = u64;

                fn default(default: u64) -> $value {
                    $convert(default)
                }

                fn read(setting: &Setting, text: &str) -> Result<$value> {
                    number(setting, text).map($convert)
                }
            }
        )+
    };
}

numbers! {
    /// A number.
    Number: u64 = |n| n;
    /// A number of threads.
    Threads: usize = |n| usize::try_from(n).unwrap_or(usize::MAX);
    /// A time in milliseconds.
    Millis: Duration = Duration::from_millis;
    /// Mebibytes, as bytes.
    Mebibytes: u64 = |n: u64| n << 20;
    /// Mebibytes of data in memory, as bytes.
    MebibytesInMemory: usize = |n: u64| usize::try_from(n << 20).unwrap_or(usize::MAX);
}

fn number(setting: &Setting, text: &str) -> Result<u64> {
    let (min, max) = setting.range.unwrap_or((0, u64::MAX));
    text.parse()
        .ok()
        .filter(|n| (min..=max).contains(n))
        .ok_or_else(|| refused(setting, text, &format!("it takes a whole number from {min} to {max}")))
}

/// Declares kinds of texts with their checks.
macro_rules! texts {
    ($($(#[$doc:meta])* $kind:ident = $check:expr;)+) => {
        $(
            $(#[$doc])*
            pub struct $kind;

            impl Kind for $kind {
                type Value = String;
                type Default = &'static str;

                fn default(default: &'static str) -> String {
                    default.to_owned()
                }

                fn read(setting: &Setting, text: &str) -> Result<String> {
                    let check: fn(&Setting, &str) -> Result<()> = $check;
                    check(setting, text).map(|()| text.to_owned())
                }
            }
        )+
    };
}

texts! {
    /// The URL of a proxy, or `none`.
    ProxyUrl = |_, text| if text.is_empty() { Ok(()) } else { crate::http::proxy::check_setting(text) };
    /// The absolute path of a file.
    AbsolutePath = |setting, text| match text.is_empty() || text.starts_with('/') {
        true => Ok(()),
        false => Err(refused(setting, text, "give an absolute path")),
    };
    /// A host, or a URL without a path.
    Host = |setting, text| {
        let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let ok = Url::parse(&url).is_ok_and(|u| {
            u.host_str().is_some_and(|h| !h.is_empty())
                && matches!(u.scheme(), "https" | "http")
                && u.path() == "/"
                && u.query().is_none()
                && u.username().is_empty()
        });
        match ok {
            true => Ok(()),
            false => Err(refused(setting, text, "give a host such as huggingface.co, or https://host:port")),
        }
    };
    /// A name that becomes part of a URL.
    Word = |setting, text| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        match text.len() <= 100 && text.chars().all(plain) {
            true => Ok(()),
            false => Err(refused(setting, text, "give a plain name")),
        }
    };
    /// The id of a model; empty: none. It need not be registered yet.
    ModelId = |setting, text| if text.is_empty() { Ok(()) } else { check_id(setting.name, text) };
}

/// The result for a failed input.
pub struct Failing;

impl Kind for Failing {
    type Value = OnError;
    type Default = &'static str;

    fn default(default: &'static str) -> OnError {
        OnError::parse(default).unwrap_or(OnError::Fail)
    }

    fn read(setting: &Setting, text: &str) -> Result<OnError> {
        OnError::parse(text).ok_or_else(|| refused(setting, text, "it takes error, null or detail"))
    }
}

/// A list of hosts; none by default.
pub struct Hosts;

impl Kind for Hosts {
    type Value = Allowlist;
    type Default = &'static str;

    fn default(_default: &'static str) -> Allowlist {
        Allowlist::default()
    }

    fn read(_setting: &Setting, text: &str) -> Result<Allowlist> {
        Allowlist::parse(text)
    }
}
