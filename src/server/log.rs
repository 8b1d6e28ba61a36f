//! The server's error log.

use std::ffi::{CStr, CString};

use crate::abi::service::ServiceRef;
use crate::abi::symbols::ErrorLog;

/// `ER_LOG_PRINTF_MSG`: a message of any text.
const ANY_TEXT: i32 = 11071;

const WARNING: i32 = 2;
const NOTE: i32 = 3;

/// Writes a line, as a warning or a note. For the threads of statements: while one runs, the log is there.
pub fn write(warning: bool, text: &str) {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let Ok(message) = CString::new(line) else { return };
    // SAFETY: the type is the layout of this service.
    let Some(service) = (unsafe { ServiceRef::<ErrorLog>::acquire(c"mysql_simple_error_log") }) else {
        // Not a server, or one without the service: its standard error is the log, or beside it.
        eprintln!("[{}] [mysql_ml] {text}", if warning { "Warning" } else { "Note" });
        return;
    };
    let file: &CStr = c"mysql_ml";
    // SAFETY: an acquired service; all texts end with NUL and live as long as the call. The message of this number has
    // one placeholder, `%s`, for which the text is given: what is in the text is not looked at for more.
    unsafe {
        (service.get().emit)(
            c"mysql_ml".as_ptr(),
            file.as_ptr(),
            0,
            if warning { WARNING } else { NOTE },
            ANY_TEXT,
            message.as_ptr(),
        );
    }
}
