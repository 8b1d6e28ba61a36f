//! Status variables `Mysql_ml_...`, for SHOW GLOBAL STATUS and every exporter that reads it.
//!
//! A thread that starts when the server loads the library registers them once the server is up. They stay until the
//! server ends, as the library does: what they point to is static.

use std::ffi::{c_char, c_int, c_void, CStr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mysql_ml_base::{counters, panics, status};

use crate::mysql::ffi::service::ServiceRef;
use crate::mysql::ffi::symbols::{lookup, server_api};
use crate::mysql::sql::jobs_under_way;

/// `SHOW_VAR` (`status_variables_bits.h`).
#[repr(C)]
struct ShowVar {
    name: *const c_char,
    value: *mut c_void,
    kind: c_int,
    scope: c_int,
}

const SHOW_LONGLONG: c_int = 4;
const SHOW_ARRAY: c_int = 7;
const SHOW_FUNC: c_int = 8;
const SHOW_SCOPE_GLOBAL: c_int = 1;

/// The end of an array of variables.
const END: ShowVar = ShowVar { name: std::ptr::null(), value: std::ptr::null_mut(), kind: 0, scope: 0 };

/// The service `status_variable_registration` (`component_status_var_service.h`). Both return 0 for success.
#[repr(C)]
struct Registration {
    register_variable: unsafe extern "C" fn(*mut ShowVar) -> c_char,
    unregister_variable: unsafe extern "C" fn(*mut ShowVar) -> c_char,
}

/// The variables' names and places.
struct Variables(Vec<ShowVar>);
// SAFETY: names and values are static; values are atomic words, which the server only reads.
unsafe impl Send for Variables {}
// SAFETY: as above.
unsafe impl Sync for Variables {}

fn variables() -> &'static Variables {
    static VARIABLES: OnceLock<Variables> = OnceLock::new();
    VARIABLES.get_or_init(|| {
        let variable = |counter: &'static counters::Counter| ShowVar {
            name: counter.name.as_ptr(),
            value: counter.as_ptr().cast::<c_void>(),
            kind: SHOW_LONGLONG,
            scope: SHOW_SCOPE_GLOBAL,
        };
        Variables(status::all().map(variable).chain([END]).collect())
    })
}

/// Called by the server for each reading: brings the gauges up to date and hands the array over. The server puts the
/// name of the function's variable and `_` before the names.
///
/// # Safety
/// The server passes a variable that it owns, for this thread to write.
unsafe extern "C" fn show(_thd: *mut c_void, variable: *mut ShowVar, _buffer: *mut c_char) -> c_int {
    // A panic leaves gauges as they were.
    let _ = panics::catch(|| {
        counters::refresh();
        counters::JOBS.set(jobs_under_way() as u64);
        Ok(())
    });
    let array = variables().0.as_ptr();
    // SAFETY: the caller's promise; the array is static and ends with an empty entry.
    unsafe {
        (*variable).kind = SHOW_ARRAY;
        (*variable).scope = SHOW_SCOPE_GLOBAL;
        (*variable).value = array.cast_mut().cast::<c_void>();
    }
    0
}

/// Registers the variables, in place of those of another copy of the library.
fn register() {
    // SAFETY: the type is the layout of this service.
    let Some(service) = (unsafe { ServiceRef::<Registration>::acquire(c"status_variable_registration") }) else {
        return;
    };
    let name: &'static CStr = c"Mysql_ml";
    let mut variables =
        [ShowVar { name: name.as_ptr(), value: show as *mut c_void, kind: SHOW_FUNC, scope: SHOW_SCOPE_GLOBAL }, END];
    // SAFETY: an array that ends with an empty entry, which the server copies; the name and the function live as long
    // as the process, because the library is never unmapped.
    unsafe {
        (service.get().unregister_variable)(variables.as_mut_ptr());
        (service.get().register_variable)(variables.as_mut_ptr());
    }
}

/// The longest wait for a server that is starting.
const STARTS_WITHIN: Duration = Duration::from_secs(3600);

/// While it starts, the server has no lock for its list of variables.
fn register_when_up() {
    let Ok(api) = server_api() else { return };
    let end = Instant::now() + STARTS_WITHIN;
    // SAFETY: takes nothing and only reads a state of the server.
    while unsafe { (api.srv_session_server_is_available)() } == 0 {
        if Instant::now() >= end {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    register();
}

/// Runs when the library is loaded: with the first CREATE FUNCTION, or when the server starts and reads `mysql.func`. The
/// system's loader holds a lock, so the work is another thread's.
extern "C" fn loaded() {
    let _ = panics::catch(|| {
        if lookup("_Z31srv_session_server_is_availablev").is_some() {
            // Without a thread there are no status variables; everything else works.
            let work = || {
                let _ = panics::catch(|| {
                    register_when_up();
                    Ok(())
                });
            };
            let _ = std::thread::Builder::new().name("mysql_ml-status".into()).stack_size(256 << 10).spawn(work);
        }
        Ok(())
    });
}

// SAFETY: the section holds pointers to functions without arguments, which the loader calls once.
#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = loaded;
