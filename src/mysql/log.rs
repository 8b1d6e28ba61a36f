//! The server's error log.
//!
//! Messages may quote names chosen by accounts, while readers and parsers trust the log. A message is therefore one
//! bounded line without control characters, and no name can fill the log.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;

use crate::mysql::ffi::service::ServiceRef;
use crate::mysql::ffi::symbols::ErrorLog;
use mysql_ml_base::error::cut;

/// `ER_LOG_PRINTF_MSG`: a message of any text.
const ANY_TEXT: i32 = 11071;

/// Declares the subjects of lines: variant, symbol, meaning, next step.
macro_rules! subjects {
    ($($variant:ident $name:literal $meaning:literal $next:literal;)*) => {
        /// The subject of a line. Its symbol begins the line, and stays the same when texts change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Subject {
            $(#[doc = $meaning] $variant,)*
        }

        impl Subject {
            /// Symbols, meanings and next steps, for the documentation.
            pub const ALL: &[(&str, &str, &str)] = &[$(($name, $meaning, $next)),*];

            /// The symbol.
            pub fn symbol(self) -> &'static str {
                match self {
                    $(Subject::$variant => $name,)*
                }
            }
        }
    };
}

subjects! {
    DiskCache "ML_LOG_DISK_CACHE"
        "The cache on disk is off, full, damaged or rebuilt. Calls go on without it."
        "Look at the folder, the disk's room and `$.cache.disk.trouble` of `ml_status()`.";
    AutoEmbeddings "ML_LOG_AUTO_EMBEDDINGS"
        "Automatic embeddings of a table were removed, replaced or resumed."
        "Look at `ai.embedding_progress_view` or the table of configurations.";
    Internal "ML_INTERNAL"
        "A defect of the library ended a call with an error. The server is unharmed."
        "Report the line.";
}

const WARNING: i32 = 2;
const NOTE: i32 = 3;

/// The longest line, bytes.
const LONGEST: usize = 400;

/// Period in which one name gets one line, and all names together [`LINES`].
const PERIOD: Duration = Duration::from_secs(60);

/// The lines of all names together.
const LINES: usize = 30;

static WRITTEN: Lazy<Mutex<Written>> = Lazy::new(Mutex::default);

/// Lines written in the current period.
#[derive(Default)]
struct Written {
    names: HashMap<String, Instant>,
    left_out: usize,
}

impl Written {
    /// Whether a line about `name` may be written now: the number of lines omitted since the last one, or `None`.
    fn may(&mut self, name: &str, now: Instant) -> Option<usize> {
        self.names.retain(|_, at| now.saturating_duration_since(*at) < PERIOD);
        if self.names.len() >= LINES || self.names.contains_key(name) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.names.insert(cut(name, LONGEST).into_owned(), now);
        Some(std::mem::take(&mut self.left_out))
    }
}

/// The text as one bounded line. Characters that end lines or change the direction of text become spaces.
fn line(text: &str) -> String {
    let breaks = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let clean: String = cut(text, LONGEST).chars().map(|c| if breaks(c) { ' ' } else { c }).collect();
    clean
}

/// Writes a warning or a note about `name`: at most one a minute for a name, and `LINES` for all names. Only on threads
/// of statements: the log service exists while one runs.
pub fn write(subject: Subject, warning: bool, name: &str, text: &str) {
    let may = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).may(cut(name, LONGEST).as_ref(), Instant::now());
    let Some(left_out) = may else { return };
    let mut line = line(&format!("{}: {text}", subject.symbol()));
    if left_out > 0 {
        line.push_str(&format!(" (lines left out before this one: {left_out})"));
    }
    let Ok(message) = CString::new(line) else { return };
    // SAFETY: the type is the layout of this service.
    let Some(service) = (unsafe { ServiceRef::<ErrorLog>::acquire(c"mysql_simple_error_log") }) else {
        // Not a server, or one without the service: write to standard error.
        let kind = if warning { "Warning" } else { "Note" };
        eprintln!("[{kind}] [mysql_ml] {}", message.to_string_lossy());
        return;
    };
    let file: &CStr = c"mysql_ml";
    // SAFETY: an acquired service; all texts end with NUL and live as long as the call. The message of this number
    // has one placeholder, `%s`, for which the text is given: the text itself is not parsed for placeholders.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_the_subjects_of_lines() {
        let text = include_str!("../../docs/errors.md");
        for (symbol, meaning, next) in Subject::ALL {
            assert!(text.contains(&format!("| `{symbol}` | {meaning} | {next} |")), "{symbol}");
        }
    }

    #[test]
    fn a_line_is_one_line_and_bounded() {
        assert_eq!(line("a\nb\rc\0d\u{2028}e\u{202e}f\u{85}g\tü"), "a b c d e f g ü");
        let long = line(&"é\n".repeat(5000));
        assert!(long.len() <= LONGEST && !long.contains('\n'), "{}", long.len());
    }

    #[test]
    fn a_name_has_one_line_a_minute_and_all_names_a_bounded_number() {
        let (mut written, now) = (Written::default(), Instant::now());
        assert_eq!(written.may("a", now), Some(0));
        assert_eq!(written.may("a", now + Duration::from_secs(59)), None);
        assert_eq!(written.may("a", now + Duration::from_secs(60)), Some(1));
        let lines =
            (0..1000).filter(|i| written.may(&format!("n{i}"), now + Duration::from_secs(61)).is_some()).count();
        assert_eq!(lines, LINES - 1);
        assert!(written.names.len() <= LINES);
        assert_eq!(written.may("z", now + Duration::from_secs(200)), Some(1000 - LINES + 1));
    }
}
