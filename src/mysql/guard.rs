//! The one place where a Rust result becomes a SQL result: errors are raised, panics are caught.
//!
//! A panic that left an `extern "C"` function would abort mysqld, so every entry point runs through here.

use std::ffi::CString;
use std::sync::Once;

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::host::{self, Host};
use mysql_ml_base::panics::catch;

use super::ffi::symbols::statement_api;
use crate::mysql::caller::current_account;
use crate::mysql::log::{self, Subject};
use crate::mysql::memory::give_back;
use crate::mysql::performance_schema;
use crate::mysql::statement::{largest_result, push_note};

/// Runs `f`. An error or a panic is raised on the statement in progress and returned as `Err` with its text.
pub fn entry<T>(function: &'static str, f: impl FnOnce() -> Result<T>) -> std::result::Result<T, String> {
    install_host();
    match catch(f) {
        Ok(value) => Ok(value),
        Err(error) => {
            let message = error.sql_message(function);
            raise(error.sql_code(), &message);
            name(function, &error);
            Err(message)
        }
    }
}

/// Installs this server as the host of the library, once.
fn install_host() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if statement_api().my_message.is_some() {
            host::install(Host {
                current_account: || current_account().ok(),
                release_free_memory: give_back,
                largest_result,
                thread_begins: performance_schema::thread_begins,
                thread_ends: performance_schema::thread_ends,
            });
        }
    });
}

/// Counts the error, and adds its symbol to the statement's conditions as a note. The server's own errors have numbers.
fn name(function: &str, error: &Error) {
    let symbol = error.symbol();
    symbol.errors().add(1);
    if error.kind() == Kind::Internal && statement_api().my_message.is_some() {
        log::write(Subject::Internal, true, function, &format!("{function}: {}", error.message()));
    }
    if !matches!(error.kind(), Kind::Interrupted(_) | Kind::Server(_)) {
        push_note(error.sql_code(), symbol.c_name());
    }
}

/// Raises an error on the statement that this thread is executing. Outside of a server nothing happens.
fn raise(code: u32, message: &str) {
    let Some(my_message) = statement_api().my_message else { return };
    let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
    // SAFETY: my_message copies the NUL-terminated text into the diagnostics area of the current statement.
    unsafe { my_message(code, text.as_ptr(), 0) };
}
