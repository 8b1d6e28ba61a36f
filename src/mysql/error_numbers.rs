//! Error numbers of MySQL, by the server's own names.

#![allow(missing_docs)]

use mysql_ml_base::error::{Error, Kind};

pub const ER_NO_DB: u32 = 1046;
pub const ER_BAD_DB: u32 = 1049;
pub const ER_SERVER_SHUTDOWN: u32 = 1053;
pub const ER_BAD_FIELD: u32 = 1054;
pub const ER_DUP_ENTRY: u32 = 1062;
pub const ER_CANT_DROP_FIELD: u32 = 1091;
pub const ER_UPDATE_TABLE_USED: u32 = 1093;
pub const ER_NO_SUCH_TABLE: u32 = 1146;
pub const ER_LOCK_WAIT_TIMEOUT: u32 = 1205;
pub const ER_WRONG_ARGUMENTS: u32 = 1210;
pub const ER_LOCK_DEADLOCK: u32 = 1213;
pub const ER_CUT_VALUE_GROUP_CONCAT: u32 = 1260;
pub const ER_QUERY_INTERRUPTED: u32 = 1317;
pub const ER_WRONG_OBJECT: u32 = 1347;
pub const ER_TRIGGER_EXISTS: u32 = 1359;
pub const ER_PROCACCESS_DENIED: u32 = 1370;
pub const ER_TRIGGER_NEEDS_SUPER: u32 = 1419;
pub const ER_EVENT_EXISTS: u32 = 1537;
pub const ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION: u32 = 1792;
pub const ER_MUST_CHANGE_PASSWORD: u32 = 1820;
pub const ER_QUERY_TIMEOUT: u32 = 3024;
pub const ER_LOCK_NOWAIT: u32 = 3572;

/// `--read-only` or another option forbids the statement.
pub const ER_OPTION_PREVENTS_STATEMENT: u32 = 1290;

/// Whether a statement failed because of a lock of another session.
pub fn is_locked(error: &Error) -> bool {
    matches!(error.kind(), Kind::Server(ER_LOCK_WAIT_TIMEOUT | ER_LOCK_NOWAIT | ER_LOCK_DEADLOCK))
}
