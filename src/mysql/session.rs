//! A session inside the server: no connection, no password, the server's own privilege checks.
//!
//! Must be used on a thread that [`super::sql`] prepared. Nothing here touches the caller's statement, its
//! transaction or its diagnostics.

use std::ffi::{c_char, c_int, c_uint, c_ulong, c_ulonglong, c_void, CStr, CString};

use mysql_common::value::convert::{from_value_opt, FromValue};
use mysql_common::value::Value;

use mysql_ml_base::account::Account;
use mysql_ml_base::counters;

use super::caller::{account_of, CallerContext};
use crate::mysql::ffi::symbols::{
    server_api, Charset, ComQueryData, CommandCallbacks, SecurityContext, ServerApi, SrvSession, COM_QUERY,
    CS_TEXT_REPRESENTATION,
};
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::memory::{self, Reservation};

/// The largest result set, bytes.
const MAX_RESULT_BYTES: usize = 256 << 20;

/// The statement that brings a session into a known state. A new session has the server's GLOBAL values, some of which
/// change the meaning or results of statements. None of these variables needs a privilege.
///
/// - Lock waits are short: nothing here may delay the waiting statement for long.
/// - The mode determines the meaning of literals.
/// - Variables that truncate, round, hide, refuse or stop early have their defaults, or no limit if the limit is the
///   user's.
const KNOWN_STATE: &str = "SET NAMES utf8mb4 COLLATE utf8mb4_0900_ai_ci, \
     SESSION autocommit = 1, SESSION completion_type = 'NO_CHAIN', \
     SESSION transaction_isolation = 'REPEATABLE-READ', SESSION transaction_read_only = 0, \
     SESSION lock_wait_timeout = 3, SESSION innodb_lock_wait_timeout = 3, SESSION max_execution_time = 0, \
     SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO', \
     SESSION sql_select_limit = 18446744073709551615, SESSION sql_safe_updates = 0, \
     SESSION sql_big_selects = 1, SESSION max_join_size = 18446744073709551615, \
     SESSION sql_auto_is_null = 0, SESSION sql_buffer_result = 0, \
     SESSION group_concat_max_len = 1048576, SESSION cte_max_recursion_depth = 1000, \
     SESSION sort_buffer_size = 262144, SESSION max_sort_length = 1024, \
     SESSION time_zone = '+00:00', SESSION lc_time_names = 'en_US', SESSION lc_messages = 'en_US', \
     SESSION default_week_format = 0, SESSION div_precision_increment = 4, \
     SESSION windowing_use_high_precision = 1, SESSION optimizer_switch = 'default', \
     SESSION information_schema_stats_expiry = 86400, \
     SESSION show_gipk_in_create_table_and_information_schema = 1, \
     SESSION terminology_use_previous = 'NONE', SESSION updatable_views_with_limit = 'YES', SESSION block_encryption_mode = 'aes-128-ecb', SESSION use_secondary_engine = 'ON'";
/// Overhead of a cell besides its bytes, with its part of the lists of rows.
const BESIDE_A_CELL: usize = 64;

/// The account of a session.
pub enum RunAs {
    /// The library's own locked account.
    Library,
    /// Another account, with its default roles.
    Account(Account),
    /// Another account, with all roles that were granted to it, as a caller has them.
    Owner(Account),
    /// The current user at the time of the copy.
    Caller(CallerContext),
}

/// A value for a `?` in a statement.
#[derive(Debug, Clone, Copy)]
pub enum Param<'a> {
    /// SQL NULL.
    Null,
    /// Text in utf8mb4.
    Text(&'a str),
    /// Bytes without a character set.
    Bytes(&'a [u8]),
    /// A backquoted identifier.
    Identifier(&'a str),
    /// Digits.
    Number(u64),
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(text: &'a str) -> Self {
        Param::Text(text)
    }
}

impl<'a> From<Option<&'a str>> for Param<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Param::Null, Param::Text)
    }
}

/// Replaces each `?` of `sql` by a parameter. Values become hexadecimal literals: nothing in them can end the
/// literal, and no user text can appear in an error message of the statement.
fn bind(sql: &str, params: &[Param<'_>]) -> Result<String> {
    let mut out = String::with_capacity(sql.len() + 64);
    let mut params = params.iter();
    for (i, piece) in sql.split('?').enumerate() {
        if i > 0 {
            match params.next() {
                None => return Err(Error::internal("a statement has more placeholders than values")),
                Some(Param::Null) => out.push_str("NULL"),
                Some(Param::Text("")) => out.push_str("_utf8mb4 ''"),
                Some(Param::Text(text)) => {
                    out.push_str("_utf8mb4 ");
                    out.push_str(&hex_literal(text.as_bytes()));
                }
                Some(Param::Bytes(bytes)) => {
                    out.push_str("_binary ");
                    out.push_str(&hex_literal(bytes));
                }
                Some(Param::Number(number)) => out.push_str(&number.to_string()),
                Some(Param::Identifier(name)) => {
                    out.push('`');
                    out.push_str(&name.replace('`', "``"));
                    out.push('`');
                }
            }
        }
        out.push_str(piece);
    }
    if params.next().is_some() {
        return Err(Error::internal("a statement has fewer placeholders than values"));
    }
    Ok(out)
}

/// Lower-case hexadecimal digits of bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or(b'0') as char;
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

/// Bytes as a hexadecimal literal, `x'00ff'`, which no byte can leave.
pub fn hex_literal(bytes: &[u8]) -> String {
    format!("x'{}'", hex(bytes))
}

/// The result of a statement.
#[derive(Debug, Default)]
pub struct ResultSet {
    /// The rows; a cell is `NULL` or bytes.
    pub rows: Vec<Row>,
    /// Rows changed.
    pub affected: u64,
    /// Number of warnings of the statement.
    pub warnings: u32,
    /// The reservation of the rows' memory.
    pub share: Reservation,
}

/// One row.
#[derive(Debug, Default)]
pub struct Row(Vec<Value>);

impl Row {
    /// Moves the bytes of the cell `i` out; they are missing afterwards. `None` for NULL.
    pub fn take_bytes(&mut self, i: usize) -> Result<Option<Vec<u8>>> {
        match self.0.get_mut(i).map(|value| std::mem::replace(value, Value::NULL)) {
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Value::NULL) => Ok(None),
            Some(_) => Err(Error::internal("a result column has an unexpected type")),
            None => Err(Error::internal("a result has fewer columns than read")),
        }
    }

    /// The cell `i` as `T`.
    pub fn get<T: FromValue>(&self, i: usize) -> Result<T> {
        let value = self.0.get(i).cloned().ok_or_else(|| Error::internal("a result has fewer columns than read"))?;
        from_value_opt(value).map_err(|_| Error::internal("a result column has an unexpected type"))
    }
}

/// An open session.
pub struct Session {
    api: &'static ServerApi,
    raw: *mut SrvSession,
    charset: *const Charset,
    own_context: *mut SecurityContext,
    failure: Box<SessionFailure>,
    // The server keeps pointers into these until the session is closed.
    _names: [CString; 3],
    _caller: Option<CallerContext>,
    _counted: counters::Held,
}

#[derive(Default)]
struct SessionFailure(Option<(u32, String)>);

impl Session {
    /// Opens a session with the rights of `run_as` and brings it into a known state. `announce` receives the connection
    /// id first, so that the session can be killed while it is being opened.
    pub(super) fn open(run_as: RunAs, announce: impl FnOnce(u32)) -> Result<Self> {
        let api = server_api()?;
        let mut failure = Box::<SessionFailure>::default();
        let context = std::ptr::from_mut(failure.as_mut()).cast::<c_void>();
        // SAFETY: the callback and its context outlive the session (both belong to the value made below).
        let raw = unsafe {
            match api.srv_session_open_internal {
                Some(open) => open(on_session_error, context, true),
                None => (api.srv_session_open)(on_session_error, context),
            }
        };
        if raw.is_null() {
            return Err(failure.error("the server did not open an internal session"));
        }
        let mut session = Session {
            api,
            raw,
            charset: std::ptr::null(),
            own_context: std::ptr::null_mut(),
            failure,
            _names: [CString::default(), CString::default(), CString::default()],
            _caller: None,
            _counted: counters::SESSIONS.hold(),
        };
        announce(session.id());
        session.enter(run_as)?;
        Ok(session)
    }

    fn enter(&mut self, run_as: RunAs) -> Result<()> {
        let mut all_roles = false;
        // SAFETY: a session's THD and its context live until the session is closed in Drop.
        unsafe {
            self.charset = (self.api.get_charset_by_name)(c"utf8mb4_0900_ai_ci".as_ptr(), 0);
            let thd = (self.api.srv_session_info_get_thd)(self.raw);
            let failed = thd.is_null() || (self.api.thd_get_security_context)(thd, &mut self.own_context) != 0;
            if failed || self.own_context.is_null() || self.charset.is_null() {
                self.own_context = std::ptr::null_mut();
                return Err(Error::internal("the server did not describe its internal session"));
            }
            match run_as {
                RunAs::Caller(caller) => {
                    all_roles = true;
                    let failed = (self.api.thd_set_security_context)(thd, caller.as_ptr()) != 0;
                    self._caller = Some(caller);
                    if failed {
                        return Err(Error::internal("the server did not take over the caller's privileges"));
                    }
                }
                RunAs::Library => self.become_account(Account::library(), "run install.sql")?,
                RunAs::Account(account) => self.become_account(
                    account,
                    "create it again, or let another account run ml_alter_model_registration",
                )?,
                RunAs::Owner(account) => {
                    all_roles = true;
                    self.become_account(account, "create it again, or drop what it configured")?;
                }
            }
        }
        self.run(KNOWN_STATE.as_bytes())?;
        if all_roles {
            // The server does not copy active roles and does not report them. The account may activate all granted
            // roles, so the session activates all.
            self.query("SET ROLE ALL", &[])?;
        }
        Ok(())
    }

    fn become_account(&mut self, account: Account, hint: &str) -> Result<()> {
        let c = |text: &str| {
            CString::new(text).map_err(|_| Error::invalid(format!("account {account} has an impossible name")))
        };
        // A pattern is looked up as if it were the host's name; a netmask matches by its address.
        let ip = account.host.split_once('/').map_or("", |(address, _)| address);
        self._names = [c(&account.user)?, c(&account.host)?, c(ip)?];
        let [user, host, ip] = &self._names;
        // SAFETY: the strings live as long as the session; the context is the session's own.
        let failed = unsafe {
            (self.api.security_context_lookup)(
                self.own_context,
                user.as_ptr(),
                host.as_ptr(),
                ip.as_ptr(),
                c"".as_ptr(),
            )
        };
        // A login matches the most specific host; the session must be exactly the given account.
        let matched = account_of(self.own_context)?;
        if failed != 0 || matched != account {
            return Err(Error::new(Kind::NotFound, format!("the account {account} does not exist; {hint}")));
        }
        Ok(())
    }

    /// The connection id, for `KILL QUERY`.
    pub fn id(&self) -> u32 {
        // SAFETY: the session is open.
        unsafe { (self.api.srv_session_info_get_session_id)(self.raw) }
    }

    /// Runs one statement with parameters for each `?` (see `bind`). Its text is a constant of the library, so no `?`
    /// of a user can become a placeholder.
    pub fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<ResultSet> {
        self.run(bind(sql, params)?.as_bytes())
    }

    /// The same for a statement in pieces.
    pub fn query_pieces(&mut self, pieces: &[&'static str], params: &[Param<'_>]) -> Result<ResultSet> {
        self.run(bind(&pieces.concat(), params)?.as_bytes())
    }

    /// Runs one statement without placeholders, made of users' names and expressions. It may contain arbitrary bytes in
    /// literals with the introducer `_binary`.
    pub fn run(&mut self, statement: &[u8]) -> Result<ResultSet> {
        self.run_into(statement, Collector::default())
    }

    /// The same, without its rows.
    pub fn run_without_rows(&mut self, statement: &[u8]) -> Result<()> {
        self.run_into(statement, Collector { discards: true, ..Collector::default() }).map(|_| ())
    }

    fn run_into(&mut self, statement: &[u8], mut collector: Collector) -> Result<ResultSet> {
        let length = c_uint::try_from(statement.len())
            .map_err(|_| Error::new(Kind::TooLarge, "a statement of more than 4 GiB cannot be run"))?;
        let data = ComQueryData {
            query: statement.as_ptr().cast::<c_char>(),
            length,
            parameters: std::ptr::null_mut(),
            parameter_count: 0,
            padding: [0; 8],
        };
        self.failure.0 = None;
        // SAFETY: all pointers live until the call returns; the callbacks take the collector as their context.
        let failed = unsafe {
            (self.api.command_service_run_command)(
                self.raw,
                COM_QUERY,
                &data,
                self.charset,
                &CALLBACKS,
                CS_TEXT_REPRESENTATION,
                std::ptr::from_mut(&mut collector).cast::<c_void>(),
            )
        };
        if let Some(error) = collector.no_memory {
            return Err(error);
        }
        if let Some((code, message)) = collector.error {
            return Err(Error::new(Kind::Server(code), message));
        }
        if collector.overflow {
            return Err(Error::new(Kind::TooLarge, "a result of an internal statement exceeds 256 MiB"));
        }
        if failed != 0 {
            return Err(self.failure.error("the server did not run an internal statement"));
        }
        let Collector { rows, affected, warnings, share, .. } = collector;
        Ok(ResultSet { rows, affected, warnings, share })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the session is open and this is its last use. Its own context is put back first, because
        // closing logs that context out and because the caller's copy is freed right after.
        unsafe {
            if self._caller.is_some() && !self.own_context.is_null() {
                let thd = (self.api.srv_session_info_get_thd)(self.raw);
                (self.api.thd_set_security_context)(thd, self.own_context);
            }
            (self.api.srv_session_close)(self.raw);
        }
    }
}

impl SessionFailure {
    fn error(&self, otherwise: &'static str) -> Error {
        match &self.0 {
            Some((code, message)) => Error::new(Kind::Server(*code), message.clone()),
            None => Error::new(Kind::Busy, otherwise),
        }
    }
}

unsafe extern "C" fn on_session_error(context: *mut c_void, code: c_uint, text: *const c_char) {
    if context.is_null() {
        return;
    }
    // SAFETY: the context is the SessionFailure that was passed to open, alive as long as the session.
    let failure = unsafe { &mut *context.cast::<SessionFailure>() };
    failure.0 = Some((code, c_text(text)));
}

fn c_text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the server passes NUL-terminated texts.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Collects the values from the callbacks.
#[derive(Default)]
struct Collector {
    /// Whether rows are not kept.
    discards: bool,
    rows: Vec<Row>,
    row: Vec<Value>,
    bytes: usize,
    overflow: bool,
    share: Reservation,
    no_memory: Option<Error>,
    affected: u64,
    warnings: u32,
    error: Option<(u32, String)>,
}

impl Collector {
    fn push(&mut self, value: Value) -> c_int {
        if self.discards {
            return 0;
        }
        if !matches!(value, Value::Bytes(_)) && !self.has_room(0) {
            return 1;
        }
        self.row.push(value);
        0
    }

    /// Reserves a cell of `bytes`; `false` if the result becomes too large.
    fn has_room(&mut self, bytes: usize) -> bool {
        let size = bytes.saturating_add(BESIDE_A_CELL);
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > MAX_RESULT_BYTES {
            self.overflow = true;
            return false;
        }
        if let Err(error) = self.share.spend(size, "rows that are read") {
            self.no_memory = Some(error);
            return false;
        }
        true
    }
}

/// # Safety
/// `context` must be the collector of the statement in progress.
unsafe fn collector<'a>(context: *mut c_void) -> &'a mut Collector {
    // SAFETY: run_command passes back the pointer from `query`, on the same thread, one callback at a time.
    unsafe { &mut *context.cast::<Collector>() }
}

unsafe extern "C" fn start_result(_: *mut c_void, _: c_uint, _: c_uint, _: *const Charset) -> c_int {
    0
}
unsafe extern "C" fn field_metadata(_: *mut c_void, _: *mut c_void, _: *const Charset) -> c_int {
    0
}
unsafe extern "C" fn end_result(_: *mut c_void, _: c_uint, _: c_uint) -> c_int {
    0
}
unsafe extern "C" fn start_row(context: *mut c_void) -> c_int {
    // SAFETY: see `collector`; so too in the callbacks below.
    unsafe { collector(context) }.row.clear();
    0
}
unsafe extern "C" fn end_row(context: *mut c_void) -> c_int {
    // SAFETY: see `collector`.
    let collector = unsafe { collector(context) };
    if collector.discards {
        return 0;
    }
    let row = std::mem::take(&mut collector.row);
    collector.rows.push(Row(row));
    0
}
unsafe extern "C" fn abort_row(context: *mut c_void) {
    // SAFETY: see `collector`.
    unsafe { collector(context) }.row.clear();
}
unsafe extern "C" fn capabilities(_: *mut c_void) -> c_ulong {
    const CLIENT_PROTOCOL_41: c_ulong = 1 << 9;
    const CLIENT_MULTI_RESULTS: c_ulong = 1 << 17;
    CLIENT_PROTOCOL_41 | CLIENT_MULTI_RESULTS
}
unsafe extern "C" fn get_null(context: *mut c_void) -> c_int {
    // SAFETY: see `collector`.
    unsafe { collector(context) }.push(Value::NULL)
}
unsafe extern "C" fn get_integer(context: *mut c_void, value: i64) -> c_int {
    // SAFETY: see `collector`.
    unsafe { collector(context) }.push(Value::Int(value))
}
unsafe extern "C" fn get_longlong(context: *mut c_void, value: i64, unsigned: c_uint) -> c_int {
    let value = if unsigned == 0 { Value::Int(value) } else { Value::UInt(value.cast_unsigned()) };
    // SAFETY: see `collector`.
    unsafe { collector(context) }.push(value)
}
unsafe extern "C" fn get_double(context: *mut c_void, value: f64, _: u32) -> c_int {
    // SAFETY: see `collector`.
    unsafe { collector(context) }.push(Value::Double(value))
}
// With the text representation the server turns decimals and dates into strings; these are never called.
unsafe extern "C" fn get_decimal(_: *mut c_void, _: *const c_void) -> c_int {
    1
}
unsafe extern "C" fn get_date(_: *mut c_void, _: *const c_void) -> c_int {
    1
}
unsafe extern "C" fn get_time(_: *mut c_void, _: *const c_void, _: c_uint) -> c_int {
    1
}
unsafe extern "C" fn get_string(context: *mut c_void, data: *const c_char, length: usize, _: *const Charset) -> c_int {
    // SAFETY: the server passes `length` bytes; see `collector`.
    unsafe {
        let bytes = if data.is_null() { &[] } else { std::slice::from_raw_parts(data.cast::<u8>(), length) };
        let collector = collector(context);
        if collector.discards {
            return 0;
        }
        if !collector.has_room(length) {
            return 1;
        }
        match memory::copied(bytes, "rows that are read") {
            Ok(bytes) => collector.push(Value::Bytes(bytes)),
            Err(error) => {
                collector.no_memory = Some(error);
                1
            }
        }
    }
}
unsafe extern "C" fn handle_ok(
    context: *mut c_void,
    _: c_uint,
    warnings: c_uint,
    affected: c_ulonglong,
    _: c_ulonglong,
    _: *const c_char,
) {
    // SAFETY: see `collector`.
    let collector = unsafe { collector(context) };
    (collector.affected, collector.warnings) = (affected, warnings);
}
unsafe extern "C" fn handle_error(context: *mut c_void, code: c_uint, text: *const c_char, _: *const c_char) {
    // SAFETY: see `collector`.
    unsafe { collector(context) }.error = Some((code, c_text(text)));
}
unsafe extern "C" fn shutdown(_: *mut c_void, _: c_int) {}
unsafe extern "C" fn connection_alive(_: *mut c_void) -> bool {
    true
}

static CALLBACKS: CommandCallbacks = CommandCallbacks {
    start_result_metadata: start_result,
    field_metadata,
    end_result_metadata: end_result,
    start_row,
    end_row,
    abort_row,
    get_client_capabilities: capabilities,
    get_null,
    get_integer,
    get_longlong,
    get_decimal,
    get_double,
    get_date,
    get_time,
    get_datetime: get_time,
    get_string,
    handle_ok,
    handle_error,
    shutdown,
    connection_alive,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_literals_that_nothing_can_leave() {
        let sql = bind(
            "SELECT ?, ?, ?, ?, ?",
            &["'; --é".into(), Param::Null, Param::Bytes(&[0, 255]), Param::Identifier("a`b"), Param::Number(7)],
        );
        assert_eq!(sql.unwrap(), "SELECT _utf8mb4 x'273b202d2dc3a9', NULL, _binary x'00ff', `a``b`, 7");
    }

    #[test]
    fn placeholders_and_values_must_match() {
        assert!(bind("SELECT ?", &[]).is_err());
        assert!(bind("SELECT 1", &[Param::Null]).is_err());
    }
}
