//! The one place where a Rust result becomes a SQL result: errors are raised, panics are caught.
//!
//! A panic that left an `extern "C"` function would abort mysqld, so every entry point runs through here.

use std::cell::RefCell;
use std::ffi::CString;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

use super::symbols::statement_api;
use crate::error::{Error, Result};

thread_local! {
    static PANIC_PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f`; an error or a panic is raised on the statement in progress and comes back as `Err` with the text
/// that was raised.
pub fn entry<T>(function: &'static str, f: impl FnOnce() -> Result<T>) -> std::result::Result<T, String> {
    match catch(f) {
        Ok(value) => Ok(value),
        Err(error) => {
            let message = error.sql_message(function);
            raise(error.sql_code(), &message);
            Err(message)
        }
    }
}

/// Runs `f`; a panic becomes an error of kind `Internal`. Also the outermost frame of our own threads.
pub fn catch<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    quiet_panics();
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result,
        Err(_payload) => {
            let place = PANIC_PLACE.with(|p| p.borrow_mut().take());
            Err(Error::internal(format!("panic at {}", place.as_deref().unwrap_or("an unknown place"))))
        }
    }
}

/// Raises an error on the statement that this thread is executing. Outside of a server nothing happens.
fn raise(code: u32, message: &str) {
    let Some(my_message) = statement_api().my_message else { return };
    let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
    // SAFETY: my_message copies the NUL-terminated text into the diagnostics area of the current statement.
    unsafe { my_message(code, text.as_ptr(), 0) };
}

/// Inside a server a panic's text must not go to the error log: it may quote user data. Only the place is kept.
/// The hook is this library's own: std is linked statically into it.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if statement_api().my_message.is_none() {
            return;
        }
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(|l| format!("{}:{}", l.file(), l.line()));
            PANIC_PLACE.with(|p| *p.borrow_mut() = place);
        }));
    });
}

/// In debug builds, panics where `MYSQL_ML_PANIC_IN` says (`init`, `call` or `request`): how the tests reach the
/// guards of every entry point and of the threads that send requests. Release builds hold nothing of it.
#[inline]
pub fn injected_panic(_stage: &str) {
    #[cfg(debug_assertions)]
    {
        static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        let wanted = WANTED.get_or_init(|| std::env::var("MYSQL_ML_PANIC_IN").ok());
        #[allow(clippy::panic)]
        if wanted.as_deref() == Some(_stage) {
            panic!("injected");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::panic)]
    fn a_panic_becomes_an_error() {
        let e = catch::<()>(|| panic!("boom")).unwrap_err();
        assert_eq!(e.kind(), crate::error::Kind::Internal);
    }
}
