//! What a statement may wait for, besides the answer of its model.

use std::ffi::CStr;

use crate::counters::Counter;

/// Declares the waits: variant, name in the status variables, state in the processlist.
macro_rules! waits {
    ($($variant:ident $name:literal $state:literal;)*) => {
        /// A wait of a statement.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Wait {
            $(#[doc = $name] $variant,)*
        }

        impl Wait {
            /// All of them.
            pub const ALL: &[Wait] = &[$(Wait::$variant),*];

            /// The state in the processlist.
            pub fn state(self) -> &'static CStr {
                match self {
                    $(Wait::$variant => $state,)*
                }
            }

            /// The number of statements that wait so.
            pub fn gauge(self) -> &'static Counter {
                match self {
                    $(Wait::$variant => {
                        static GAUGE: Counter = Counter::gauge(
                            terminated(concat!("waiting_", $name, "\0")),
                            concat!("statements in this wait: ", $name),
                        );
                        &GAUGE
                    })*
                }
            }
        }
    };
}

/// The C string of a text that ends with NUL.
pub(crate) const fn terminated(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    }
}

waits! {
    Permit "permit" c"waiting for a permit of the model's rate limit";
    Thread "thread" c"waiting for a thread of the library";
    Retry "retry" c"waiting to send a request again";
    SameRequest "same_request" c"waiting for a model asked by another session";
    Statement "statement" c"waiting for a statement of the library";
    UserFunction "user_function" c"waiting for a transform function";
    Keyring "keyring" c"waiting for the keyring";
    DiskCache "disk_cache" c"waiting for the cache on disk";
    ModelLoad "model_load" c"waiting for a model to be loaded";
    LocalModel "local_model" c"waiting for a model inside the server";
    Job "job" c"waiting for other jobs to end";
    Column "column" c"waiting for another job on the column";
}
