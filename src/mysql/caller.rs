//! The current user: inside a DEFINER stored program, its definer.

use std::ffi::{c_void, CStr, CString};

use mysql_ml_base::account::Account;

use super::statement::{session_variable, ProcessState};
use crate::mysql::ffi::symbols::{
    server_api, statement_api, LexCString, SecurityContext, ACL_FUNCTION, ACL_PROCEDURE, EXECUTE_ACL,
};
use mysql_ml_base::error::{Error, Result};

/// The security context of the calling thread's statement.
fn current_context() -> Result<*mut SecurityContext> {
    let api = server_api()?;
    let mut context: *mut SecurityContext = std::ptr::null_mut();
    // SAFETY: both functions take the calling thread's own THD and only write the out pointer.
    let failed = unsafe {
        let thd = api.thd_get_current_thd;
        let thd = thd();
        thd.is_null() || (api.thd_get_security_context)(thd, &mut context) != 0
    };
    if failed || context.is_null() {
        return Err(Error::internal("no statement on this thread"));
    }
    Ok(context)
}

/// The current user of the calling thread's statement.
pub fn current_account() -> Result<Account> {
    let context = current_context()?;
    account_of(context)
}

/// Whether the calling thread's session is in a transaction, begun explicitly or without autocommit. The library's
/// sessions do not see its changes.
pub fn in_transaction() -> bool {
    let (Ok(api), Some(active)) = (server_api(), statement_api().thd_in_active_multi_stmt_transaction) else {
        return false;
    };
    // SAFETY: takes the calling thread's own THD and only reads it.
    unsafe {
        let thd = (api.thd_get_current_thd)();
        !thd.is_null() && active(thd)
    }
}

/// Whether plain reads of the calling thread's transaction see one version of each row and lock nothing. They do not with
/// READ UNCOMMITTED, nor with SERIALIZABLE, nor in functions with a binary log of statements.
pub fn reads_are_consistent() -> bool {
    let (Ok(api), Some(isolation)) = (server_api(), statement_api().thd_get_trx_isolation) else { return false };
    // SAFETY: takes the calling thread's own THD and only reads it.
    logs_rows()
        && unsafe {
            let thd = (api.thd_get_current_thd)();
            !thd.is_null() && matches!(isolation(thd), 1 | 2)
        }
}

/// Whether the binary log has the rows of the calling thread's session, in place of its statements.
pub fn logs_rows() -> bool {
    session_variable(c"binlog_format").is_none_or(|format| format == "ROW")
}

/// The id of the connection whose statement this thread executes; `None` outside of one.
pub fn connection_id() -> Option<u64> {
    let (api, id_of) = (server_api().ok()?, statement_api().thd_get_thread_id?);
    // SAFETY: takes the calling thread's own THD and only reads it.
    unsafe {
        let thd = (api.thd_get_current_thd)();
        (!thd.is_null()).then(|| id_of(thd))
    }
}

/// The account of a security context.
pub(super) fn account_of(context: *mut SecurityContext) -> Result<Account> {
    Ok(Account { user: option(context, c"priv_user")?, host: option(context, c"priv_host")? })
}

fn option(context: *mut SecurityContext, name: &CStr) -> Result<String> {
    let api = server_api()?;
    let mut value = LexCString { str: std::ptr::null(), length: 0 };
    // SAFETY: the named options are MYSQL_LEX_CSTRINGs that point into the context, which outlives this call.
    unsafe {
        let failed =
            (api.security_context_get_option)(context, name.as_ptr(), std::ptr::from_mut(&mut value).cast::<c_void>());
        if failed != 0 {
            return Err(Error::internal("the server did not report the current account"));
        }
        if value.str.is_null() {
            return Ok(String::new());
        }
        let bytes = std::slice::from_raw_parts(value.str.cast::<u8>(), value.length);
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Whether the current user, with its active roles, may execute the routine `<schema>.<name>`. The server checks in
/// memory, raises no error and leaves the statement unchanged. `false` if it cannot be asked.
pub fn may_execute_now(schema: &CStr, name: &CStr, procedure: bool) -> bool {
    let (Ok(api), Some(check)) = (server_api(), statement_api().check_routine_access) else { return false };
    // SAFETY: takes no argument, and is NULL on a thread without a statement.
    let thd = unsafe { (api.thd_get_current_thd)() };
    if thd.is_null() {
        return false;
    }
    // The check changes the state in the processlist.
    let _state = ProcessState::brief(c"checking permissions");
    let kind = if procedure { ACL_PROCEDURE } else { ACL_FUNCTION };
    // SAFETY: the calling thread's own THD, and NUL-terminated names that outlive the call. The arguments suppress
    // the error.
    !unsafe { check(thd, EXECUTE_ACL, schema.as_ptr(), name.as_ptr(), kind, true) }
}

/// Whether the calling thread's session has a temporary table of this name. It hides a base table and is invisible to
/// other sessions.
pub fn has_temporary_table(schema: &str, table: &str) -> bool {
    let (Ok(api), Some(find)) = (server_api(), statement_api().find_temporary_table) else { return false };
    let (Ok(schema), Ok(table)) = (CString::new(schema), CString::new(table)) else { return false };
    // SAFETY: takes no argument, and is NULL on a thread without a statement.
    let thd = unsafe { (api.thd_get_current_thd)() };
    // SAFETY: the calling thread's own THD, and NUL-terminated names that outlive the call, which only looks.
    !thd.is_null() && !unsafe { find(thd, schema.as_ptr(), table.as_ptr()) }.is_null()
}

/// A copy of the current security context that another thread may use. It has no active roles.
pub struct CallerContext {
    context: *mut SecurityContext,
}

// SAFETY: the copy has one owner, so only one thread uses it at a time.
unsafe impl Send for CallerContext {}

impl CallerContext {
    /// Copies the calling thread's security context.
    pub fn copy_current() -> Result<Self> {
        let api = server_api()?;
        let current = current_context()?;
        let mut context: *mut SecurityContext = std::ptr::null_mut();
        // SAFETY: `current` is this thread's own context; the copy is freed in Drop.
        let failed = unsafe { (api.security_context_copy)(current, &mut context) };
        if failed != 0 || context.is_null() {
            return Err(Error::internal("the server could not copy the caller's privileges"));
        }
        Ok(CallerContext { context })
    }

    pub(super) fn as_ptr(&self) -> *mut SecurityContext {
        self.context
    }
}

impl Drop for CallerContext {
    fn drop(&mut self) {
        if let Ok(api) = server_api() {
            // SAFETY: made by security_context_copy and no longer set in any session: Session restores the
            // session's own context before it lets go of this one.
            unsafe { (api.security_context_destroy)(self.context) };
        }
    }
}
