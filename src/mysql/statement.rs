//! The statement in progress: KILL, and its state in the processlist.

use std::cell::RefCell;
use std::ffi::{c_void, CStr, CString};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::mysql::ffi::service::ServiceRef;
use crate::mysql::ffi::symbols::{server_api, statement_api, SystemVariableReader};
use crate::mysql::performance_schema::Stage;
use mysql_ml_base::error::{cut, Error, Result, MAX_MESSAGE_BYTES};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::wait::Wait;

/// `KILL`, `max_execution_time` and shutdown, as the server reports them on the statement's own thread.
pub struct StatementInterrupt {
    // The server keeps the statement in a thread-local: the value must stay on its thread.
    _not_send: PhantomData<*const ()>,
    /// Shown from the first report on.
    progress: RefCell<Option<ProgressState>>,
    /// The present waits, the inner one last.
    waits: RefCell<Vec<ProcessState>>,
}

impl StatementInterrupt {
    /// The interrupt of the calling thread's statement.
    pub fn current() -> Self {
        StatementInterrupt { _not_send: PhantomData, progress: RefCell::new(None), waits: RefCell::default() }
    }
}

impl Interrupt for StatementInterrupt {
    fn check(&self) -> Result<()> {
        let Some(thd_killed) = statement_api().thd_killed else { return Ok(()) };
        // SAFETY: NULL means the calling thread's own statement; without one the server answers 0.
        match unsafe { thd_killed(std::ptr::null()) } {
            0 => Ok(()),
            // Also the number of a killed connection; only clients that are still connected receive it (X Protocol).
            ER_SERVER_SHUTDOWN if is_running() => Err(Error::interrupted(1317)),
            code => Err(Error::interrupted(u32::try_from(code).unwrap_or(1317))),
        }
    }

    fn progress(&self, text: &str) {
        self.progress.borrow_mut().get_or_insert_with(ProgressState::begin).show(text);
    }

    fn wait_began(&self, wait: Wait) {
        self.waits.borrow_mut().push(ProcessState::set(wait.state()));
    }

    fn wait_ended(&self) {
        drop(self.waits.borrow_mut().pop());
    }
}

const ER_SERVER_SHUTDOWN: std::ffi::c_int = 1053;

/// Whether the server is neither starting nor shutting down.
fn is_running() -> bool {
    // SAFETY: takes nothing and only reads a state of the server.
    server_api().is_ok_and(|api| unsafe { (api.srv_session_server_is_available)() } != 0)
}

/// The value of a variable of the session whose statement this thread executes; `None` outside of one.
pub fn session_variable(name: &CStr) -> Option<String> {
    let api = server_api().ok()?;
    // SAFETY: the type is the layout of this service.
    let service = unsafe { ServiceRef::<SystemVariableReader>::acquire(c"mysql_system_variable_reader") }?;
    let mut buffer = [0_u8; 4096];
    let mut value: *mut c_void = buffer.as_mut_ptr().cast();
    let mut length = buffer.len() - 1;
    // SAFETY: the calling thread's own session, texts that end with NUL, and a buffer with its length, which the
    // server fills or refuses to.
    let failed = unsafe {
        let thd = (api.thd_get_current_thd)();
        thd.is_null()
            || (service.get().get)(
                thd,
                c"SESSION".as_ptr(),
                c"mysql_server".as_ptr(),
                name.as_ptr(),
                &mut value,
                &mut length,
            ) != 0
    };
    if failed || !std::ptr::eq(value.cast::<u8>(), buffer.as_ptr()) {
        return None;
    }
    Some(String::from_utf8_lossy(buffer.get(..length)?).into_owned())
}

/// Bytes of a row and its packet besides one large value.
const BESIDE_A_VALUE: usize = 64;

/// The largest result for the session's client, bytes.
pub fn largest_result() -> usize {
    let packet = session_variable(c"max_allowed_packet").and_then(|value| value.parse::<usize>().ok());
    packet.map_or(usize::MAX, |packet| packet.saturating_sub(BESIDE_A_VALUE))
}

/// An error for a result that the client cannot receive.
pub fn check_result(bytes: usize) -> Result<()> {
    // The smallest value of the variable.
    if bytes <= 1024 - BESIDE_A_VALUE {
        return Ok(());
    }
    let largest = largest_result();
    if bytes <= largest {
        return Ok(());
    }
    Err(Error::result_too_large(&format!("the result has {bytes} bytes"), largest))
}

/// `Sql_condition::SL_NOTE`.
const SL_NOTE: std::ffi::c_int = 0;
/// `Sql_condition::SL_WARNING`.
const SL_WARNING: std::ffi::c_int = 1;

/// Adds a warning to those of the statement that this thread executes. The server keeps `max_error_count` of them and
/// counts all.
pub fn push_warning(function: &str, error: &Error) {
    error.symbol().errors().add(1);
    push_warning_of(error.sql_code(), &error.sql_message(function));
}

/// The same with the number and text of a warning.
pub fn push_warning_of(code: u32, text: &str) {
    let Ok(text) = CString::new(cut(text, MAX_MESSAGE_BYTES).as_ref()) else { return };
    push(SL_WARNING, code, &text);
}

/// Adds a note.
pub fn push_note(code: u32, text: &CStr) {
    push(SL_NOTE, code, text);
}

fn push(severity: std::ffi::c_int, code: u32, text: &CStr) {
    let (Some(push_warning), Ok(api)) = (statement_api().push_warning, server_api()) else { return };
    // SAFETY: the calling thread's own THD, and a text that ends with NUL, which the server copies.
    unsafe {
        let thd = (api.thd_get_current_thd)();
        if !thd.is_null() {
            push_warning(thd, severity, code, text.as_ptr());
        }
    }
}

/// Sets the state in the processlist; restores the previous one on drop.
pub struct ProcessState {
    previous: (*const std::ffi::c_char, Stage),
}

impl ProcessState {
    /// Sets the state for a moment that is too short for a stage.
    pub fn brief(state: &'static CStr) -> Brief {
        Brief { previous: swap_state(state.as_ptr()) }
    }

    /// Sets the state of the calling thread's statement. The stage is the part of the state before a colon.
    pub fn set(state: &'static CStr) -> Self {
        ProcessState { previous: (swap_state(state.as_ptr()), Stage::enter(state)) }
    }
}

/// See [`ProcessState::brief`].
pub struct Brief {
    previous: *const std::ffi::c_char,
}

impl Drop for Brief {
    fn drop(&mut self) {
        swap_state(self.previous);
        Stage::current().resume();
    }
}

impl Drop for ProcessState {
    fn drop(&mut self) {
        swap_state(self.previous.0);
        self.previous.1.enter_again();
    }
}

/// The buffer of a changing state. It is never freed: another session may read it for its SHOW PROCESSLIST at any
/// moment. At worst it reads a mixture of the old and the new text.
type Slot = [AtomicU8; 96];

/// The stage of a statement whose state is its progress.
const WORKING: &CStr = c"working: progress";

/// Free slots.
static FREE: Mutex<Vec<&'static [Slot; 2]>> = Mutex::new(Vec::new());

/// Displays the statement's progress in the processlist, until it is dropped.
pub struct ProgressState {
    previous: (*const std::ffi::c_char, Stage),
    slots: &'static [Slot; 2],
    current: usize,
}

impl ProgressState {
    /// The progress of the calling thread's statement.
    pub fn begin() -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let slots = free
            .unwrap_or_else(|| Box::leak(Box::new(std::array::from_fn(|_| std::array::from_fn(|_| AtomicU8::new(0))))));
        let mut state = ProgressState { previous: (std::ptr::null(), Stage::default()), slots, current: 0 };
        state.previous = (state.swap("working"), Stage::enter(WORKING));
        state
    }

    /// Displays `text`, truncated to the buffer.
    pub fn show(&mut self, text: &str) {
        self.swap(text);
        Stage::enter(WORKING);
    }

    fn swap(&mut self, text: &str) -> *const std::ffi::c_char {
        // The other slot, so that the displayed text stays whole.
        self.current ^= 1;
        let Some(slot) = self.slots.get(self.current) else { return std::ptr::null() };
        let text = cut(text, slot.len() - 1);
        for (place, byte) in slot.iter().zip(text.bytes().filter(|b| *b != 0).chain(std::iter::repeat(0))) {
            place.store(byte, Ordering::Relaxed);
        }
        swap_state(slot.as_ptr().cast())
    }
}

impl Drop for ProgressState {
    fn drop(&mut self) {
        swap_state(self.previous.0);
        self.previous.1.enter_again();
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.slots);
    }
}

fn swap_state(state: *const std::ffi::c_char) -> *const std::ffi::c_char {
    let Some(set) = statement_api().set_thd_proc_info else { return std::ptr::null() };
    // SAFETY: a NULL THD means the current one; the text is static or the server's own earlier one; the place
    // strings are static.
    unsafe { set(std::ptr::null_mut(), state, c"mysql_ml".as_ptr(), c"mysql_ml".as_ptr(), 0) }
}
