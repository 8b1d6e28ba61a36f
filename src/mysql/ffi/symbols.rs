//! The symbols of mysqld that the library uses, looked up at run time.
//!
//! If they were linked, a server without one of them would refuse to load the library, and no test program could link
//! it. All are part of the plugin API: `service_srv_session.h`, `service_command.h`, `service_security_context.h`,
//! `plugin.h`. They are C++ functions, hence the mangled names, which the Itanium ABI makes the same on every Linux.

use std::ffi::{c_char, c_int, c_uint, c_ulong, c_ulonglong, c_void, CStr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;

use mysql_ml_base::error::{Error, Kind, Result};

/// An opaque type of the server.
macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[repr(C)]
        pub struct $name { _opaque: [u8; 0] }
    )*};
}

opaque! {
    /// `THD`: the state of one connection.
    Thd;
    /// `Security_context`: an account and its active roles.
    SecurityContext;
    /// `Srv_session`: a session without a client.
    SrvSession;
    /// `CHARSET_INFO`.
    Charset;
}

/// `MYSQL_LEX_CSTRING`.
#[repr(C)]
pub struct LexCString {
    /// Not necessarily NUL-terminated.
    pub str: *const c_char,
    /// Bytes.
    pub length: usize,
}

/// The part of `COM_DATA` that `COM_QUERY` uses (the union's other members are not larger than the padding).
#[repr(C)]
pub struct ComQueryData {
    /// The statement.
    pub query: *const c_char,
    /// Its bytes.
    pub length: c_uint,
    /// Query attributes: none.
    pub parameters: *mut c_void,
    /// Count of them.
    pub parameter_count: c_ulong,
    /// Room for the union's larger members, zero.
    pub padding: [u64; 8],
}

/// `st_command_service_cbs`: 20 callbacks in the header's order.
#[repr(C)]
#[allow(missing_docs)]
pub struct CommandCallbacks {
    pub start_result_metadata: unsafe extern "C" fn(*mut c_void, c_uint, c_uint, *const Charset) -> c_int,
    pub field_metadata: unsafe extern "C" fn(*mut c_void, *mut c_void, *const Charset) -> c_int,
    pub end_result_metadata: unsafe extern "C" fn(*mut c_void, c_uint, c_uint) -> c_int,
    pub start_row: unsafe extern "C" fn(*mut c_void) -> c_int,
    pub end_row: unsafe extern "C" fn(*mut c_void) -> c_int,
    pub abort_row: unsafe extern "C" fn(*mut c_void),
    pub get_client_capabilities: unsafe extern "C" fn(*mut c_void) -> c_ulong,
    pub get_null: unsafe extern "C" fn(*mut c_void) -> c_int,
    pub get_integer: unsafe extern "C" fn(*mut c_void, i64) -> c_int,
    pub get_longlong: unsafe extern "C" fn(*mut c_void, i64, c_uint) -> c_int,
    pub get_decimal: unsafe extern "C" fn(*mut c_void, *const c_void) -> c_int,
    pub get_double: unsafe extern "C" fn(*mut c_void, f64, u32) -> c_int,
    pub get_date: unsafe extern "C" fn(*mut c_void, *const c_void) -> c_int,
    pub get_time: unsafe extern "C" fn(*mut c_void, *const c_void, c_uint) -> c_int,
    pub get_datetime: unsafe extern "C" fn(*mut c_void, *const c_void, c_uint) -> c_int,
    pub get_string: unsafe extern "C" fn(*mut c_void, *const c_char, usize, *const Charset) -> c_int,
    pub handle_ok: unsafe extern "C" fn(*mut c_void, c_uint, c_uint, c_ulonglong, c_ulonglong, *const c_char),
    pub handle_error: unsafe extern "C" fn(*mut c_void, c_uint, *const c_char, *const c_char),
    pub shutdown: unsafe extern "C" fn(*mut c_void, c_int),
    pub connection_alive: unsafe extern "C" fn(*mut c_void) -> bool,
}

/// Called by the server when a session fails outside of a statement.
pub type SessionErrorCallback = unsafe extern "C" fn(*mut c_void, c_uint, *const c_char);

type OpenSession = unsafe extern "C" fn(SessionErrorCallback, *mut c_void) -> *mut SrvSession;
type OpenSessionInternal = unsafe extern "C" fn(SessionErrorCallback, *mut c_void, bool) -> *mut SrvSession;

/// Defines [`ServerApi`] and its loader from one list of members, symbols and types.
macro_rules! server_api {
    ($($(#[$doc:meta])* $field:ident = $symbol:literal: $ty:ty;)*) => {
        /// The server's functions for internal sessions. A value of this type has all of them.
        pub struct ServerApi {
            $($(#[$doc])* pub $field: $ty,)*
            /// `srv_session_open_internal`, if the server has it: opens a session even when `max_connections` is used
            /// up.
            pub srv_session_open_internal: Option<OpenSessionInternal>,
        }

        impl ServerApi {
            fn load() -> std::result::Result<Self, &'static str> {
                Ok(ServerApi {
                    $($field: {
                        let address = lookup($symbol).ok_or($symbol)?;
                        // SAFETY: the symbol's mangled name encodes its parameter types, which the type of
                        // the member repeats from the server's headers.
                        unsafe { std::mem::transmute::<*mut c_void, $ty>(address) }
                    },)*
                    srv_session_open_internal: lookup("_Z25srv_session_open_internalPFvPvjPKcES_b").map(|address| {
                        // SAFETY: as above.
                        unsafe { std::mem::transmute::<*mut c_void, OpenSessionInternal>(address) }
                    }),
                })
            }
        }
    };
}

server_api! {
    /// Prepares a thread of the library for sessions. The argument must live forever.
    srv_session_init_thread = "_Z23srv_session_init_threadPKv": unsafe extern "C" fn(*const c_void) -> c_int;
    /// Undoes it at the end of the thread.
    srv_session_deinit_thread = "_Z25srv_session_deinit_threadv": unsafe extern "C" fn();
    /// Whether the server is neither starting nor shutting down.
    srv_session_server_is_available = "_Z31srv_session_server_is_availablev": unsafe extern "C" fn() -> c_int;
    /// Opens a session; NULL on failure.
    srv_session_open = "_Z16srv_session_openPFvPvjPKcES_": OpenSession;
    /// Closes it.
    srv_session_close = "_Z17srv_session_closeP11Srv_session": unsafe extern "C" fn(*mut SrvSession) -> c_int;
    /// The session's THD.
    srv_session_info_get_thd = "_Z24srv_session_info_get_thdP11Srv_session":
        unsafe extern "C" fn(*mut SrvSession) -> *mut Thd;
    /// The session's connection id.
    srv_session_info_get_session_id = "_Z31srv_session_info_get_session_idP11Srv_session":
        unsafe extern "C" fn(*mut SrvSession) -> u32;
    /// The THD of the calling thread, or NULL.
    thd_get_current_thd = "_Z19thd_get_current_thdv": unsafe extern "C" fn() -> *mut Thd;
    /// The current security context of a THD: inside a DEFINER stored program that of its definer.
    thd_get_security_context = "_Z24thd_get_security_contextP3THDPP16Security_context":
        unsafe extern "C" fn(*mut Thd, *mut *mut SecurityContext) -> c_char;
    /// Sets the current security context.
    thd_set_security_context = "_Z24thd_set_security_contextP3THDP16Security_context":
        unsafe extern "C" fn(*mut Thd, *mut SecurityContext) -> c_char;
    /// A copy without active roles.
    security_context_copy = "_Z21security_context_copyP16Security_contextPS0_":
        unsafe extern "C" fn(*mut SecurityContext, *mut *mut SecurityContext) -> c_char;
    /// Frees a copy.
    security_context_destroy = "_Z24security_context_destroyP16Security_context":
        unsafe extern "C" fn(*mut SecurityContext) -> c_char;
    /// Looks an account up and activates its default roles. Keeps pointers to the strings.
    security_context_lookup = "_Z23security_context_lookupP16Security_contextPKcS2_S2_S2_":
        unsafe extern "C" fn(*mut SecurityContext, *const c_char, *const c_char, *const c_char, *const c_char) -> c_char;
    /// Reads `priv_user`, `priv_host` and others.
    security_context_get_option = "_Z27security_context_get_optionP16Security_contextPKcPv":
        unsafe extern "C" fn(*mut SecurityContext, *const c_char, *mut c_void) -> c_char;
    /// Runs a command in a session.
    command_service_run_command =
        "_Z27command_service_run_commandP11Srv_session19enum_server_commandPK8COM_DATAPK12CHARSET_INFOPK22st_command_service_cbs17cs_text_or_binaryPv":
        unsafe extern "C" fn(
            *mut SrvSession, c_int, *const ComQueryData, *const Charset, *const CommandCallbacks, c_int, *mut c_void,
        ) -> c_int;
    /// Finds a collation by name.
    get_charset_by_name = "_Z19get_charset_by_namePKci": unsafe extern "C" fn(*const c_char, c_int) -> *const Charset;
}

/// `EXECUTE_ACL`.
pub const EXECUTE_ACL: c_uint = 1 << 18;
/// `Acl_type::FUNCTION` and `Acl_type::PROCEDURE`.
pub const ACL_FUNCTION: c_int = 1;
/// See [`ACL_FUNCTION`].
pub const ACL_PROCEDURE: c_int = 2;

/// `COM_QUERY` of `enum_server_command`.
pub const COM_QUERY: c_int = 3;
/// `CS_TEXT_REPRESENTATION`.
pub const CS_TEXT_REPRESENTATION: c_int = 1;

/// The server's functions, or an error that names a missing one.
pub fn server_api() -> Result<&'static ServerApi> {
    static API: OnceLock<std::result::Result<ServerApi, &'static str>> = OnceLock::new();
    API.get_or_init(ServerApi::load).as_ref().map_err(|symbol| not_exported(symbol))
}

/// Set by [`run_without_server`].
static WITHOUT_SERVER: AtomicBool = AtomicBool::new(false);

/// For tests, which call entry points in a process without a server.
pub fn run_without_server() {
    WITHOUT_SERVER.store(true, Ordering::Relaxed);
}

/// An error if the server lacks a needed symbol. Without these, errors would be silent NULLs.
pub fn require_server() -> Result<()> {
    if WITHOUT_SERVER.load(Ordering::Relaxed) {
        return Ok(());
    }
    server_api()?;
    let api = statement_api();
    let needed = [
        ("my_message", api.my_message.is_some()),
        ("thd_killed", api.thd_killed.is_some()),
        ("mysql_plugin_registry_acquire", api.registry_acquire.is_some()),
        ("mysql_plugin_registry_release", api.registry_release.is_some()),
    ];
    match needed.iter().find(|(_, found)| !found) {
        None => Ok(()),
        Some((symbol, _)) => Err(not_exported(symbol)),
    }
}

/// The required server comes first: MariaDB displays some 80 bytes of an init error.
fn not_exported(symbol: &str) -> Error {
    Error::new(
        Kind::Unsupported,
        format!(
            "mysql-ml needs MySQL 9.7; this server does not export `{symbol}` (see the README for supported servers)"
        ),
    )
}

/// Functions on the statement in progress. Each may be missing outside a server.
pub struct StatementApi {
    /// `my_message(code, text, flags)`: raises an error on the current statement.
    pub my_message: Option<unsafe extern "C" fn(c_uint, *const c_char, c_int)>,
    /// `thd_killed(NULL)`: 0, or the error number of the current statement's KILL or timeout.
    pub thd_killed: Option<unsafe extern "C" fn(*const c_void) -> c_int>,
    /// `set_thd_proc_info`: the state column of `SHOW PROCESSLIST`. Keeps the pointer to the text.
    pub set_thd_proc_info:
        Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, *const c_char, c_uint) -> *const c_char>,
    /// `check_routine_access(thd, privileges, schema, routine, kind, no errors)`: true if the current user, with its
    /// active roles, lacks them. Absent in releases with other last parameters.
    pub check_routine_access:
        Option<unsafe extern "C" fn(*mut Thd, c_uint, *const c_char, *const c_char, c_int, bool) -> bool>,
    /// `thd_in_active_multi_stmt_transaction`.
    pub thd_in_active_multi_stmt_transaction: Option<unsafe extern "C" fn(*const Thd) -> bool>,
    /// `thd_get_trx_isolation(thd)`: 0 READ UNCOMMITTED, 1 READ COMMITTED, 2 REPEATABLE READ, 3 SERIALIZABLE.
    pub thd_get_trx_isolation: Option<unsafe extern "C" fn(*const Thd) -> c_int>,
    /// `find_temporary_table(thd, schema, table)`: a temporary table of the session, or NULL.
    pub find_temporary_table: Option<unsafe extern "C" fn(*mut Thd, *const c_char, *const c_char) -> *mut c_void>,
    /// `thd_get_thread_id(thd)`: the connection id.
    pub thd_get_thread_id: Option<unsafe extern "C" fn(*const Thd) -> std::ffi::c_ulong>,
    /// `push_warning(thd, severity, code, text)`: adds a condition to the statement's warnings.
    pub push_warning: Option<unsafe extern "C" fn(*mut Thd, c_int, c_uint, *const c_char)>,
    /// `mysql_plugin_registry_acquire`.
    pub registry_acquire: Option<unsafe extern "C" fn() -> *mut Registry>,
    /// `mysql_plugin_registry_release`.
    pub registry_release: Option<unsafe extern "C" fn(*mut Registry) -> c_int>,
}

/// `s_mysql_registry`: finds component services.
#[repr(C)]
#[allow(missing_docs)]
pub struct Registry {
    pub acquire: unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int,
    pub acquire_related: unsafe extern "C" fn(*const c_char, *mut c_void, *mut *mut c_void) -> c_int,
    pub release: unsafe extern "C" fn(*mut c_void) -> c_int,
}

/// The service `mysql_udf_metadata`: character sets of a loadable function's arguments and result.
#[repr(C)]
#[allow(missing_docs)]
pub struct UdfMetadata {
    pub argument_get: unsafe extern "C" fn(*mut c_void, *const c_char, c_uint, *mut *mut c_void) -> c_int,
    pub result_get: unsafe extern "C" fn(*mut c_void, *const c_char, *mut *mut c_void) -> c_int,
    pub argument_set: unsafe extern "C" fn(*mut c_void, *const c_char, c_uint, *mut c_void) -> c_int,
    pub result_set: unsafe extern "C" fn(*mut c_void, *const c_char, *mut c_void) -> c_int,
}

/// The service `keyring_component_status` (`keyring_metadata_query.h`): reports whether a keyring exists.
#[repr(C)]
#[allow(missing_docs)]
pub struct KeyringStatus {
    /// Not a status: non-zero if a keyring is loaded and working.
    pub is_initialized: unsafe extern "C" fn() -> c_int,
}

/// The service `keyring_reader_with_status` (`keyring_reader_with_status.h`), members in the header's order. All
/// return 0 for success. Between `init` and `deinit` the server holds its lock on the keyring.
#[repr(C)]
#[allow(missing_docs)]
pub struct KeyringReader {
    /// (data id, auth id, object): the object stays NULL if the key does not exist.
    pub init: unsafe extern "C" fn(*const c_char, *const c_char, *mut *mut c_void) -> c_int,
    pub deinit: unsafe extern "C" fn(*mut c_void) -> c_int,
    /// (object, bytes of the value, bytes of the type's name)
    pub fetch_length: unsafe extern "C" fn(*mut c_void, *mut usize, *mut usize) -> c_int,
    /// (object, buffer, its length, bytes written, and the same three for the type's name)
    pub fetch: unsafe extern "C" fn(*mut c_void, *mut u8, usize, *mut usize, *mut c_char, usize, *mut usize) -> c_int,
}

/// The service `keyring_writer` (`keyring_writer.h`). Both return 0 for success.
#[repr(C)]
#[allow(missing_docs)]
pub struct KeyringWriter {
    /// (data id, auth id, value, its length, type's name)
    pub store: unsafe extern "C" fn(*const c_char, *const c_char, *const u8, usize, *const c_char) -> c_int,
    /// (data id, auth id)
    pub remove: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
}

/// The service `mysql_simple_error_log` (`mysql_simple_error_log.h`).
#[repr(C)]
#[allow(missing_docs)]
pub struct ErrorLog {
    /// (component, file, line, severity, message number, arguments for the message's placeholders); 0 for success.
    pub emit: unsafe extern "C" fn(*const c_char, *const c_char, c_ulong, c_int, c_int, ...) -> c_char,
}

/// The service `mysql_system_variable_reader` (`mysql_system_variable.h`).
#[repr(C)]
#[allow(missing_docs)]
pub struct SystemVariableReader {
    /// (THD, "SESSION" or "GLOBAL", component, variable, buffer, its length and then that of the value); 0 for success.
    pub get: unsafe extern "C" fn(
        *mut Thd,
        *const c_char,
        *const c_char,
        *const c_char,
        *mut *mut c_void,
        *mut usize,
    ) -> c_int,
}

/// The statement-level functions; resolved once.
pub fn statement_api() -> &'static StatementApi {
    static API: OnceLock<StatementApi> = OnceLock::new();
    API.get_or_init(|| {
        // SAFETY: each type repeats the declaration of the symbol in the server's headers.
        unsafe {
            StatementApi {
                my_message: lookup("_Z10my_messagejPKci").map(|a| std::mem::transmute(a)),
                thd_killed: lookup("thd_killed").map(|a| std::mem::transmute(a)),
                set_thd_proc_info: lookup("set_thd_proc_info").map(|a| std::mem::transmute(a)),
                check_routine_access: lookup("_Z20check_routine_accessP3THDjPKcS2_8Acl_typeb")
                    .map(|a| std::mem::transmute(a)),
                thd_in_active_multi_stmt_transaction: lookup("_Z36thd_in_active_multi_stmt_transactionPK3THD")
                    .map(|a| std::mem::transmute(a)),
                thd_get_trx_isolation: lookup("_Z21thd_get_trx_isolationPK3THD").map(|a| std::mem::transmute(a)),
                find_temporary_table: lookup("_Z20find_temporary_tableP3THDPKcS2_").map(|a| std::mem::transmute(a)),
                thd_get_thread_id: lookup("thd_get_thread_id").map(|a| std::mem::transmute(a)),
                push_warning: lookup("_Z12push_warningP3THDN13Sql_condition19enum_severity_levelEjPKc")
                    .map(|a| std::mem::transmute(a)),
                registry_acquire: lookup("_Z29mysql_plugin_registry_acquirev").map(|a| std::mem::transmute(a)),
                registry_release: lookup("_Z29mysql_plugin_registry_releasePK16s_mysql_registry")
                    .map(|a| std::mem::transmute(a)),
            }
        }
    })
}

/// `MallocExtension_ReleaseFreeMemory` of tcmalloc (`gperftools/malloc_extension_c.h`), if the server is linked with
/// it.
pub fn tcmalloc_release() -> Option<unsafe extern "C" fn()> {
    let address = lookup("MallocExtension_ReleaseFreeMemory")?;
    // SAFETY: the type repeats the declaration of the symbol.
    Some(unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn()>(address) })
}

/// The address of a symbol of the server, or of a library that it is linked with.
pub fn lookup(symbol: &'static str) -> Option<*mut c_void> {
    let mut name = Vec::with_capacity(symbol.len() + 1);
    name.extend_from_slice(symbol.as_bytes());
    name.push(0);
    let name = CStr::from_bytes_with_nul(&name).ok()?;
    // SAFETY: the name is NUL-terminated; dlsym has no other requirement.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_no_server_gets_the_name_of_the_missing_symbol() {
        let error = server_api().err().unwrap();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.message().contains("`_Z23srv_session_init_threadPKv`"), "{error}");
        // Every function's init checks this first.
        assert_eq!(require_server().unwrap_err().message(), error.message());
    }
}
