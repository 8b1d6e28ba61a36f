//! The performance schema: threads of the library by name, and stages of statements.
//!
//! Its services are part of the server's own program. Their functions are therefore read once, and no reference is held,
//! which would be reported at shutdown.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint, c_void, CStr, CString};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::mysql::ffi::service::ServiceRef;
use crate::mysql::ffi::symbols::{server_api, statement_api};

/// Category of the library's instruments: `thread/mysql_ml/http`, `stage/mysql_ml/waiting for a model`.
const CATEGORY: &CStr = c"mysql_ml";

/// The most bytes of a thread's name in the system, to which the server gives it too.
const MAX_SYSTEM_NAME: usize = 15;

/// The server adds no number to the name in the system.
const PSI_FLAG_NO_SEQNUM: c_uint = 1 << 11;

/// `PSI_thread_info_v5`.
#[repr(C)]
struct ThreadInfo {
    key: *mut c_uint,
    name: *const c_char,
    os_name: *const c_char,
    flags: c_uint,
    volatility: c_int,
    documentation: *const c_char,
}

/// A member of the service that is not used.
type Unused = *const c_void;

/// The service `psi_thread_v7` (`psi_thread_service.h`), members in the header's order up to the last one in use.
#[repr(C)]
struct ThreadService {
    /// (category, infos, their number)
    register_thread: unsafe extern "C" fn(*const c_char, *mut ThreadInfo, c_int),
    spawn_thread: Unused,
    /// (key, sequence number, identity, processlist id): NULL if threads are not instrumented
    new_thread: unsafe extern "C" fn(c_uint, c_uint, *const c_void, u64) -> *mut c_void,
    set_thread_id: Unused,
    get_current_thread_internal_id: Unused,
    get_thread_internal_id: Unused,
    get_thread_by_id: Unused,
    set_thread_thd: Unused,
    set_thread_os_id: unsafe extern "C" fn(*mut c_void),
    get_thread: Unused,
    set_thread_user: Unused,
    set_thread_account: Unused,
    set_thread_db: Unused,
    set_thread_command: Unused,
    set_connection_type: Unused,
    set_thread_start_time: Unused,
    set_thread_info: Unused,
    set_thread_secondary_engine: Unused,
    set_thread: unsafe extern "C" fn(*mut c_void),
    set_thread_peer_port: Unused,
    aggregate_thread_status: Unused,
    delete_current_thread: unsafe extern "C" fn(),
}

/// The functions in use.
#[derive(Clone, Copy)]
struct Threads {
    register_thread: unsafe extern "C" fn(*const c_char, *mut ThreadInfo, c_int),
    new_thread: unsafe extern "C" fn(c_uint, c_uint, *const c_void, u64) -> *mut c_void,
    set_thread_os_id: unsafe extern "C" fn(*mut c_void),
    set_thread: unsafe extern "C" fn(*mut c_void),
    delete_current_thread: unsafe extern "C" fn(),
}

fn threads() -> Option<Threads> {
    static THREADS: OnceLock<Option<Threads>> = OnceLock::new();
    *THREADS.get_or_init(|| {
        // SAFETY: the type is the layout of this service, which the version in its name fixes.
        let service = unsafe { ServiceRef::<ThreadService>::acquire(c"psi_thread_v7") }?;
        let service = service.get();
        Some(Threads {
            register_thread: service.register_thread,
            new_thread: service.new_thread,
            set_thread_os_id: service.set_thread_os_id,
            set_thread: service.set_thread,
            delete_current_thread: service.delete_current_thread,
        })
    })
}

thread_local! {
    /// Whether this thread is shown.
    static SHOWN: Cell<bool> = const { Cell::new(false) };
    /// The key of this thread's stage; 0: one of the server's.
    static STAGE: Cell<c_uint> = const { Cell::new(0) };
}

/// The key of a thread's name, registered at its first use; 0 if the performance schema is off.
fn thread_key(threads: Threads, name: &'static str) -> c_uint {
    static KEYS: Mutex<Option<HashMap<&'static str, c_uint>>> = Mutex::new(None);
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    *keys.get_or_insert_default().entry(name).or_insert_with(|| {
        let mut key = 0;
        let text = CString::new(name.trim_start_matches("mysql_ml-"));
        let system = CString::new(name.get(..MAX_SYSTEM_NAME).unwrap_or(name));
        let (Ok(text), Ok(system)) = (text, system) else { return 0 };
        // Names are constants of the library, so few are leaked.
        let text: &'static CStr = Box::leak(text.into_boxed_c_str());
        let system: &'static CStr = Box::leak(system.into_boxed_c_str());
        let mut info = ThreadInfo {
            key: &mut key,
            name: text.as_ptr(),
            os_name: system.as_ptr(),
            flags: PSI_FLAG_NO_SEQNUM,
            volatility: 0,
            documentation: c"a thread of mysql-ml".as_ptr(),
        };
        // SAFETY: one complete info; the server writes the key during the call and copies the texts.
        unsafe { (threads.register_thread)(CATEGORY.as_ptr(), &mut info, 1) };
        key
    })
}

/// Shows the calling thread, one of the library's, in performance_schema.threads.
pub fn thread_begins(name: &'static str) {
    let Some(threads) = threads() else { return };
    let key = thread_key(threads, name);
    // SAFETY: a fresh thread of ours, which is not instrumented yet; a key that the server gave, or 0. The server
    // answers NULL where it keeps no instrumentation, which `set_thread` accepts.
    unsafe {
        let thread = (threads.new_thread)(key, 0, std::ptr::null(), 0);
        if thread.is_null() {
            return;
        }
        (threads.set_thread_os_id)(thread);
        (threads.set_thread)(thread);
    }
    SHOWN.set(true);
}

/// Undoes it at the thread's end. During a shutdown the performance schema may be gone, so the thread just ends.
pub fn thread_ends() {
    let (Some(threads), Ok(api), true) = (threads(), server_api(), SHOWN.replace(false)) else { return };
    // SAFETY: `thread_begins` instrumented this thread, and no session is attached to it any more.
    unsafe {
        if (api.srv_session_server_is_available)() != 0 {
            (threads.delete_current_thread)();
        }
    }
}

/// `PSI_stage_info_v1`.
#[repr(C)]
struct StageInfo {
    key: c_uint,
    name: *const c_char,
    flags: c_uint,
    documentation: *const c_char,
}

/// The service `psi_stage_v1` (`psi_stage_service.h`): its first members.
#[repr(C)]
struct StageService {
    /// (category, pointers to infos, their number)
    register_stage: unsafe extern "C" fn(*const c_char, *mut *mut StageInfo, c_int),
    /// (key, source file, line): the stage's progress, or NULL
    start_stage: unsafe extern "C" fn(c_uint, *const c_char, c_int) -> *mut c_void,
}

#[derive(Clone, Copy)]
struct Stages {
    register_stage: unsafe extern "C" fn(*const c_char, *mut *mut StageInfo, c_int),
    start_stage: unsafe extern "C" fn(c_uint, *const c_char, c_int) -> *mut c_void,
}

fn stages() -> Option<Stages> {
    static STAGES: OnceLock<Option<Stages>> = OnceLock::new();
    *STAGES.get_or_init(|| {
        // SAFETY: the type is the beginning of this service, which the version in its name fixes.
        let service = unsafe { ServiceRef::<StageService>::acquire(c"psi_stage_v1") }?;
        let service = service.get();
        Some(Stages { register_stage: service.register_stage, start_stage: service.start_stage })
    })
}

thread_local! {
    /// The keys of stages that this thread has used, by the address of their constant text.
    static KEYS: RefCell<HashMap<usize, c_uint>> = RefCell::default();
}

/// The key of a stage; 0 if the performance schema is off.
fn stage_key(stages: Stages, category: &'static CStr, name: &'static CStr) -> c_uint {
    KEYS.with_borrow_mut(|keys| {
        *keys.entry(name.as_ptr() as usize).or_insert_with(|| registered(stages, category, name))
    })
}

/// Registers a stage at its first use.
fn registered(stages: Stages, category: &'static CStr, name: &'static CStr) -> c_uint {
    static KEYS: Mutex<Option<HashMap<usize, c_uint>>> = Mutex::new(None);
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    *keys.get_or_insert_default().entry(name.as_ptr() as usize).or_insert_with(|| {
        // Texts that differ behind the colon are one stage: the server's room for stages is small.
        let text = name.to_str().unwrap_or_default();
        let text = text.split_once(": ").map_or(text, |(stage, _)| stage);
        let Ok(text) = CString::new(text) else { return 0 };
        // The server keeps pointers to the info and its texts.
        let text: &'static CStr = Box::leak(text.into_boxed_c_str());
        let documentation = c"a wait of mysql-ml".as_ptr();
        let info = Box::leak(Box::new(StageInfo { key: 0, name: text.as_ptr(), flags: 0, documentation }));
        let mut infos: [*mut StageInfo; 1] = [info];
        // SAFETY: one complete info, which lives for ever; the server writes its key during the call. A name that is
        // registered already gets its earlier key.
        unsafe {
            (stages.register_stage)(category.as_ptr(), infos.as_mut_ptr(), 1);
            (*infos[0]).key
        }
    })
}

/// A stage of the calling thread's statement, in performance_schema.threads and events_stages_current.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stage(c_uint);

impl Stage {
    /// Enters the stage of a state; returns the stage before.
    pub fn enter(state: &'static CStr) -> Stage {
        let before = Stage(STAGE.get());
        if let Some(stages) = stages() {
            start(stages, stage_key(stages, CATEGORY, state));
        }
        before
    }

    /// The present stage, if it is one of the library's.
    pub fn current() -> Stage {
        Stage(STAGE.get())
    }

    /// Enters it again, after the server itself has changed the state.
    pub fn resume(self) {
        if let (Some(stages), 1..) = (stages(), self.0) {
            start(stages, self.0);
        }
    }

    /// Enters it again. The server's own stage is then that of executing, because it does not say which one it was.
    pub fn enter_again(self) {
        let Some(stages) = stages() else { return };
        match self.0 {
            0 => {
                start(stages, stage_key(stages, c"sql", c"executing"));
                STAGE.set(0);
            }
            key => start(stages, key),
        }
    }
}

fn start(stages: Stages, key: c_uint) {
    // Threads without a statement have no stages.
    if key == 0 || statement_api().my_message.is_none() {
        return;
    }
    // SAFETY: a key that the server gave, on the thread of the statement; the texts are static.
    unsafe { (stages.start_stage)(key, c"mysql_ml".as_ptr(), 0) };
    STAGE.set(key);
}
