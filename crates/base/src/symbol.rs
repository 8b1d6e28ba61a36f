//! Symbols of errors: a stable name for each kind, with its usual cause and the next step.
//!
//! docs/errors.md has this list. Messages may change with any version; symbols do not.

use crate::counters::Counter;
use crate::wait::terminated;

/// Declares the symbols: variant, name, name in the status variables, cause, next step.
macro_rules! symbols {
    ($($variant:ident $name:literal $lower:literal $cause:literal $next:literal;)*) => {
        /// The name of an error's kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Symbol {
            $(#[doc = $cause] $variant,)*
        }

        impl Symbol {
            /// All of them.
            pub const ALL: &[Symbol] = &[$(Symbol::$variant),*];

            /// The name, for example `ML_TIMEOUT`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Symbol::$variant => $name,)*
                }
            }

            /// The name with its NUL.
            pub fn c_name(self) -> &'static std::ffi::CStr {
                match self {
                    $(Symbol::$variant => terminated(concat!($name, "\0")),)*
                }
            }

            /// The usual cause.
            pub fn cause(self) -> &'static str {
                match self {
                    $(Symbol::$variant => $cause,)*
                }
            }

            /// The next step.
            pub fn next_step(self) -> &'static str {
                match self {
                    $(Symbol::$variant => $next,)*
                }
            }

            /// Errors and warnings that statements got.
            pub fn errors(self) -> &'static Counter {
                match self {
                    $(Symbol::$variant => {
                        static ERRORS: Counter = Counter::growing(
                            terminated(concat!("errors_", $lower, "\0")),
                            concat!("errors and warnings ", $name, " of statements"),
                        );
                        &ERRORS
                    })*
                }
            }

            /// Calls of models, and inputs of batches and jobs, that failed.
            pub fn failures(self) -> &'static Counter {
                match self {
                    $(Symbol::$variant => {
                        static FAILURES: Counter = Counter::growing(
                            terminated(concat!("failures_", $lower, "\0")),
                            concat!("failures ", $name, " of calls of models, and of inputs of batches and jobs"),
                        );
                        &FAILURES
                    })*
                }
            }
        }
    };
}

symbols! {
    Invalid "ML_INVALID" "invalid"
        "An argument, option, setting or registration has a value that is not accepted."
        "Correct what the message names.";
    NotFound "ML_NOT_FOUND" "not_found"
        "A model, secret, account, function, table or file does not exist."
        "Check the name, register or create it.";
    AlreadyExists "ML_ALREADY_EXISTS" "already_exists"
        "A model or secret of this name is registered."
        "Alter or drop it, or choose another name.";
    Denied "ML_DENIED" "denied"
        "The egress policy or a rule about secrets forbids it."
        "Allow the host in the settings, or use another one.";
    Connection "ML_CONNECTION" "connection"
        "The endpoint cannot be reached: name, connection, TLS or proxy."
        "Check the URL, the network of the server, `ca_file` and `proxy`.";
    Timeout "ML_TIMEOUT" "timeout"
        "The time of the call is up, tries and waits together."
        "Raise `timeout_ms`, or look at what `Mysql_ml_waiting_...` says calls wait for.";
    RateLimited "ML_RATE_LIMITED" "rate_limited"
        "The provider limits the rate (HTTP 429), or the model's budget is used up."
        "Send less at once, raise the quota or the budget, or try later.";
    KeyRefused "ML_KEY_REFUSED" "key_refused"
        "The provider refuses the key or account (HTTP 401, 403)."
        "Check the model's secret, its rights and the project.";
    ProviderNotFound "ML_PROVIDER_NOT_FOUND" "provider_not_found"
        "The endpoint does not know the path or the model (HTTP 404)."
        "Check the URL, the qualified name and the region.";
    ProviderRefused "ML_PROVIDER_REFUSED" "provider_refused"
        "The endpoint refuses the request (another HTTP 4xx), often because of its size or a parameter."
        "Read the provider's text in the message.";
    ProviderFailed "ML_PROVIDER_FAILED" "provider_failed"
        "The endpoint failed (HTTP 5xx) in every try."
        "See the provider's status page, or try later.";
    Response "ML_RESPONSE" "response"
        "The endpoint's answer cannot be read, or is not the answer that was asked for."
        "Check that URL, provider and model type belong together.";
    TooLarge "ML_TOO_LARGE" "too_large"
        "An argument, answer or result exceeds a bound."
        "Ask for less in a call, or raise the bound that the message names.";
    Busy "ML_BUSY" "busy"
        "Threads, sessions or a column are taken by other work."
        "Send less at once, or try later.";
    NoTurn "ML_NO_TURN" "no_turn"
        "Too many jobs were under way until this one's time was up."
        "Wait for one to end, or KILL one.";
    Memory "ML_MEMORY" "memory"
        "Calls hold the memory that `call_memory_mb` allows, or the system has no more."
        "Ask for less at once, try later, or raise the setting.";
    Interrupted "ML_INTERRUPTED" "interrupted"
        "KILL, `max_execution_time` or a shutdown ended the statement. The error is the server's own."
        "None, if it was meant.";
    Server "ML_SERVER" "server"
        "The server refused a statement of the library, for example for a missing privilege or a lock. The error is the server's own."
        "Look its number up in MySQL's manual.";
    Unsupported "ML_UNSUPPORTED" "unsupported"
        "The server or this build lacks something that is needed."
        "See the supported servers in the README, or use the build with local models.";
    Internal "ML_INTERNAL" "internal"
        "A defect of the library. The server is unharmed."
        "Report the message; the error log has the same line.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a table of symbols in docs/errors.md.
    fn documented() -> Vec<String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        let text = std::fs::read_to_string(path).unwrap();
        let begin = text.find("<!-- symbols -->").unwrap();
        let end = text.find("<!-- end of symbols -->").unwrap();
        text[begin..end].lines().skip(3).map(str::to_owned).collect()
    }

    #[test]
    fn the_documentation_lists_every_symbol_with_cause_and_next_step() {
        let rows: Vec<String> =
            Symbol::ALL.iter().map(|s| format!("| `{}` | {} | {} |", s.name(), s.cause(), s.next_step())).collect();
        assert_eq!(documented(), rows, "docs/errors.md; the right side is what it should have");
    }

    #[test]
    fn status_variables_have_the_symbols_names() {
        for symbol in Symbol::ALL {
            let lower = symbol.name().trim_start_matches("ML_").to_lowercase();
            assert_eq!(symbol.errors().text(), format!("errors_{lower}"));
            assert_eq!(symbol.failures().text(), format!("failures_{lower}"));
            assert_eq!(symbol.c_name().to_str(), Ok(symbol.name()));
        }
    }
}
