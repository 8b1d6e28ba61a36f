//! A panic becomes an error.

use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

use crate::error::{Error, Result};
use crate::host;

thread_local! {
    static PANIC_PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic becomes an error of kind `Internal`. The outermost frame of every thread of the library.
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

/// Inside a server the panic's text must not reach the error log: it may quote user data. Only file and line are kept.
/// The hook is this library's own: std is linked statically into it.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    if !host::is_installed() {
        return;
    }
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(|l| format!("{}:{}", l.file(), l.line()));
            PANIC_PLACE.with(|p| *p.borrow_mut() = place);
        }));
    });
}

/// In debug builds, panics at the place that `MYSQL_ML_PANIC_IN` names (`init`, `call` or `request`). Tests thus reach
/// the guards of every entry point and of request threads. Empty in release builds.
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
