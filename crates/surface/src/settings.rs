//! The table of settings.

/// A setting: a row of `mysql.cloudsql_ml_settings`, or its default.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// The value without a row.
    pub default: &'static str,
    /// The minimum and maximum of a number; `None`: a text.
    pub range: Option<(u64, u64)>,
}

/// The settings, one row each, in the order of error messages: `$then!` is called with all of them.
///
/// A row has documentation, the field of the library's `Settings`, the kind of the value, the setting's name and its
/// default. Numbers also have a range. The kind is a type in `Settings`' module, which reads and checks the value.
#[macro_export]
macro_rules! settings {
    ($then:ident) => {
        $then! {
            /// Time limit of a call, all tries together.
            timeout: Millis = timeout_ms, 60_000, 1..=3_600_000;
            /// The time one connection may take.
            network.connect_timeout: Millis = connect_timeout_ms, 10_000, 1..=600_000;
            /// How often a failed request is sent again.
            max_retries: Number = max_retries, 2, 0..=10;
            /// The largest response body, bytes.
            network.max_response: MebibytesInMemory = max_response_mb, 64, 1..=1024;
            /// Age after which a registration is read again.
            registry_ttl: Millis = registry_ttl_ms, 1000, 0..=3_600_000;
            /// Bytes of the in-memory embedding cache; 0 turns it off.
            cache_memory: Mebibytes = cache_memory_mb, 64, 0..=65_536;
            /// Bytes of the embedding cache on disk; 0 turns it off.
            cache_disk: Mebibytes = cache_disk_mb, 0, 0..=1_048_576;
            /// The most bytes of all calls together, for arguments, answers, vectors and results.
            call_memory: Mebibytes = call_memory_mb, 1024, 16..=1_048_576;
            /// Where requests may go.
            network.egress_allowlist: Hosts = egress_allowlist, "";
            /// A proxy for all but this machine; empty: the environment's.
            network.proxy: ProxyUrl = proxy, "";
            /// A PEM file of certificate authorities to trust besides the system's.
            network.ca_file: AbsolutePath = ca_file, "";
            /// The Google Cloud project of models whose URL names none; empty: that of the credentials.
            google_project: Word = google_project, "";
            /// The Google Cloud location of such models; empty: that of the machine, else us-central1.
            google_location: Word = google_location, "";
            /// Age after which a value from Google Secret Manager is read again.
            secret_ttl: Millis = secret_ttl_ms, 300_000, 0..=86_400_000;
            /// The most bytes of all local models together.
            local_memory: Mebibytes = local_memory_mb, 2048, 0..=1_048_576;
            /// Threads for local models; 0: half of the processors.
            local_threads: Threads = local_threads, 0, 0..=1024;
            /// The hub for model files: a host, or a URL without a path.
            huggingface_host: Host = huggingface_host, "huggingface.co";
            /// The model of AI functions that are given none; empty: they need one.
            default_llm: ModelId = default_llm, "";
            /// The model of `ai.embedding` and `ai.similarity` without one.
            default_embedding_model: ModelId = default_embedding_model, "";
            /// The model of `ai.rerank` without one.
            default_reranker: ModelId = default_reranker, "";
            /// The result of AI functions for a failed input: `error`, `null` or `detail`.
            on_error: Failing = on_error, "error";
        }
    };
}

macro_rules! rows {
    ($($(#[$doc:meta])* $($field:ident).+: $kind:ident = $name:ident, $default:literal $(, $min:literal..=$max:literal)?;)+) => {
        /// All settings.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            default: concat!($default),
            range: rows!(@range $($min, $max)?),
        }),+];
    };
    (@range) => { None };
    (@range $min:literal, $max:literal) => { Some(($min, $max)) };
}

settings!(rows);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_has_every_setting_with_its_default_and_range() {
        let text = include_str!("../../../docs/functions.md");
        for setting in SETTINGS {
            let row = match setting.range {
                Some((min, max)) => format!("| `{}` | {} | {min} to {max} |", setting.name, setting.default),
                None if setting.default.is_empty() => format!("| `{}` | empty |", setting.name),
                None => format!("| `{}` | `{}` |", setting.name, setting.default),
            };
            assert!(text.contains(&row), "docs/functions.md lacks: {row}");
        }
    }
}
