//! The statement in progress: whether it was stopped, and what it shows in the processlist.

use std::ffi::CStr;
use std::marker::PhantomData;

use crate::abi::symbols::statement_api;
use crate::error::{Error, Result};
use crate::threads::interrupt::Interrupt;

/// `KILL`, `max_execution_time` and shutdown, as the server tells them to the statement's own thread.
pub struct StatementInterrupt {
    // The server keeps the statement in a thread-local: the value must stay on its thread.
    _not_send: PhantomData<*const ()>,
}

impl StatementInterrupt {
    /// For the statement that the calling thread executes.
    pub fn current() -> Self {
        StatementInterrupt { _not_send: PhantomData }
    }
}

impl Interrupt for StatementInterrupt {
    fn check(&self) -> Result<()> {
        let Some(thd_killed) = statement_api().thd_killed else { return Ok(()) };
        // SAFETY: NULL means the calling thread's own statement; without one the server answers 0.
        match unsafe { thd_killed(std::ptr::null()) } {
            0 => Ok(()),
            code => Err(Error::interrupted(u32::try_from(code).unwrap_or(1317))),
        }
    }
}

/// Shows `state` in the processlist while it lives, then what was there before.
pub struct ProcessState {
    previous: *const std::ffi::c_char,
}

impl ProcessState {
    /// Sets the state of the calling thread's statement.
    pub fn set(state: &'static CStr) -> Self {
        ProcessState { previous: swap_state(state.as_ptr()) }
    }
}

impl Drop for ProcessState {
    fn drop(&mut self) {
        swap_state(self.previous);
    }
}

fn swap_state(state: *const std::ffi::c_char) -> *const std::ffi::c_char {
    let Some(set) = statement_api().set_thd_proc_info else { return std::ptr::null() };
    // SAFETY: a NULL THD means the current one; the text is static or the server's own earlier one; the place
    // strings are static.
    unsafe { set(std::ptr::null_mut(), state, c"mysql_ml".as_ptr(), c"mysql_ml".as_ptr(), 0) }
}
