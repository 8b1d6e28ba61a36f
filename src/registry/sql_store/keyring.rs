//! Secrets in the server's keyring: registration and key change together.
//!
//! The value appears in no statement. It goes from the function's argument to the keyring in memory.

use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use surface::functions;

use super::{duplicate, no_such_secret, session_for, Param, ER_DUP_ENTRY};
use crate::mysql::caller::current_account;
use crate::mysql::keyring;
use crate::mysql::session::Session;
use crate::mysql::sql::{check_may_execute, As, SessionKind};
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_core::catalog::model::check_id;
use mysql_ml_core::catalog::secret::{check_new_id, keyring_name, SecretPath};
use mysql_ml_core::credentials;
use mysql_ml_core::http::leaked_key;

/// Wait for another change, which may wait for the keyring.
const TURN: Duration = Duration::from_secs(10);

/// Serialises changes of keys and of registrations that name them.
fn turn() -> Result<MutexGuard<'static, ()>> {
    static CHANGES: Mutex<()> = Mutex::new(());
    let end = Instant::now() + TURN;
    loop {
        match CHANGES.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(Kind::Busy, "another change of a secret waits for the keyring; try again later"))
            }
        }
    }
}

/// The path of a registered secret; `lock` keeps it until the end of the transaction.
fn stored_path(s: &mut Session, secret_id: &str, lock: bool) -> Result<Option<String>> {
    let lock = if lock { " FOR UPDATE" } else { "" };
    let pieces = ["SELECT secret_path FROM mysql.cloudsql_ml_secrets WHERE secret_id = ?", lock];
    let rows = s.query_pieces(&pieces, &[secret_id.into()])?;
    rows.rows.first().map(|row| row.get(0)).transpose()
}

/// A secret registered at `path`, read with a lock: no other transaction can register the path until this one ends. Key
/// names are case-sensitive, the column's collation is not.
fn user_of(s: &mut Session, path: &str) -> Result<Option<String>> {
    let rows = s.query(
        "SELECT secret_id FROM mysql.cloudsql_ml_secrets WHERE CAST(secret_path AS BINARY) = ? ORDER BY secret_id LIMIT 1 FOR SHARE",
        &[Param::Bytes(path.as_bytes())],
    )?;
    rows.rows.first().map(|row| row.get(0)).transpose()
}

/// Stores `value` in the keyring and registers it as `secret_id`.
pub fn create_secret(secret_id: &str, value: &str, interrupt: &dyn Interrupt) -> Result<()> {
    check_may_execute(functions::ml_create_secret, interrupt)?;
    check_new_id(secret_id)?;
    let value = credentials::value::given(value)?;
    let definer = current_account()?.to_string();
    let (id, name) = (secret_id.to_owned(), keyring_name(secret_id));
    session_for(SessionKind::Keyring, &As::Library, interrupt, move |s| {
        let _turn = turn()?;
        let exists = |e| duplicate(e, "secret", &id, "ml_alter_secret");
        if stored_path(s, &id, false)?.is_some() {
            return Err(exists(Error::new(Kind::Server(ER_DUP_ENTRY), "")));
        }
        let path = format!("keyring:{name}");
        if let Some(user) = user_of(s, &path)? {
            return Err(Error::new(
                Kind::AlreadyExists,
                format!("the path {path} is that of secret '{user}'; change its value with ml_alter_secret, or choose another id"),
            ));
        }
        // A key left from a dropped registration is replaced.
        keyring::replace(s, &name, &value)?;
        let inserted = s.query(
            "INSERT INTO mysql.cloudsql_ml_secrets (secret_id, secret_path, definer) VALUES (?, ?, ?)",
            &[id.as_str().into(), path.as_str().into(), definer.as_str().into()],
        );
        inserted.map(|_| ()).map_err(|error| match keyring::remove(s, &name) {
            Ok(()) => exists(error),
            Err(left) => {
                left.context(&format!("secret '{id}' was not registered ({}), and its key is left", error.message()))
            }
        })
    })
}

/// Replaces the value of a secret in the keyring. Writes no table, so it also works on a replica, which receives the
/// registration from its source but not the key.
pub fn alter_secret(secret_id: &str, value: &str, interrupt: &dyn Interrupt) -> Result<()> {
    check_may_execute(functions::ml_alter_secret, interrupt)?;
    check_id("secret_id", secret_id)?;
    let value = credentials::value::given(value)?;
    let id = secret_id.to_owned();
    session_for(SessionKind::Keyring, &As::Library, interrupt, move |s| {
        let _turn = turn()?;
        let path = stored_path(s, &id, false)?.ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!(
                    "secret '{}' is not registered; create it with CALL mysql.ml_create_secret(...)",
                    leaked_key::display(&id, 120)
                ),
            )
        })?;
        match SecretPath::parse(&path)? {
            SecretPath::Keyring(name) => keyring::replace(s, &name, &value),
            _ => Err(Error::invalid(format!(
                "secret '{id}' is not in the keyring but at {}; change it there, or drop it and create it with ml_create_secret",
                cut(&path, 120)
            ))),
        }
    })
}

/// Deletes a registration, and its key if no other registration names it.
pub fn drop_registration(s: &mut Session, secret_id: &str) -> Result<()> {
    let _turn = turn()?;
    // The key is removed before the COMMIT: if that fails, the registration stays too.
    s.query("START TRANSACTION", &[])?;
    let path = stored_path(s, secret_id, true)?.ok_or_else(|| no_such_secret(secret_id))?;
    s.query("DELETE FROM mysql.cloudsql_ml_secrets WHERE secret_id = ?", &[secret_id.into()])?;
    if let Ok(SecretPath::Keyring(name)) = SecretPath::parse(&path)
        && user_of(s, &path)?.is_none()
        && keyring::available(s)
    {
        keyring::remove(s, &name)?;
    }
    s.query("COMMIT", &[]).map(|_| ())
}
