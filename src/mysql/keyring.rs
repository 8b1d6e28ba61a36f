//! The server's keyring: only keys that the library stored.
//!
//! Every key of a keyring has an owner, the "auth id". Ours is fixed and not an account (`user@host`). InnoDB's keys,
//! without an owner, and keys of accounts are therefore out of reach, and ours are for them.
//!
//! All functions take a [`Session`]: it proves that they run on a thread known to the server, and makes a shutdown wait
//! for the call.

use std::ffi::{c_char, c_void, CStr, CString};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::session::Session;
use crate::mysql::ffi::service::ServiceRef;
use crate::mysql::ffi::symbols::{KeyringReader, KeyringStatus, KeyringWriter};
use mysql_ml_base::error::{Error, Kind, Result};

/// The largest value, bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// The owner of the library's keys.
const OWNER: &CStr = c"mysql_ml";

/// The type of values that every keyring supports: plain bytes.
const VALUE_TYPE: &CStr = c"SECRET";

/// Buffer for the name of a type, bytes; names in use have less than ten.
const MAX_TYPE_BYTES: usize = 1024;

/// The name of the copy during a replacement. User-chosen names cannot contain `~`.
fn successor(name: &str) -> String {
    format!("{name}~new")
}

/// Whether the server has a working keyring.
pub fn available(_: &Session) -> bool {
    // SAFETY: the type is the layout of this service.
    let status = unsafe { ServiceRef::<KeyringStatus>::acquire(c"keyring_component_status") };
    // SAFETY: an acquired service; the function has no preconditions.
    status.is_some_and(|status| unsafe { (status.get().is_initialized)() } != 0)
}

/// An error if the server has no keyring.
pub fn require(session: &Session) -> Result<()> {
    match available(session) {
        true => Ok(()),
        false => Err(no_keyring()),
    }
}

fn no_keyring() -> Error {
    Error::new(
        Kind::Unsupported,
        "the server has no keyring; load a keyring component such as component_keyring_file, which is named in the manifest mysqld.my beside mysqld, and restart, or register a path env:VARIABLE or file:NAME, which need none",
    )
}

/// The value of the library's key `name`; `None` if it does not exist.
pub fn read(session: &Session, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
    require(session)?;
    // A replacement removes the old value after storing a copy of the new one under the other name. If both look
    // missing, read the first name again: the replacement may have finished in between.
    for name in [name, &successor(name), name] {
        if let Some(key) = Key::find(name)? {
            return key.value().map(Some);
        }
    }
    Ok(None)
}

/// Stores or replaces `value` under `name`. Readers find the old or the new value at any time, even after a crash
/// midway. Callers must serialise it.
pub fn replace(session: &Session, name: &str, value: &SecretString) -> Result<()> {
    require(session)?;
    let next = successor(name);
    if Key::exists(name)? {
        // A keyring cannot overwrite, so the old value is removed first; the copy replaces it meanwhile.
        remove_if_there(&next)?;
        store_one(&next, value)?;
        if let Err(error) = remove_one(name) {
            let _ = remove_one(&next); // if it stays, it is not read: the old value is there
            return Err(error);
        }
        if store_one(name, value).is_err() {
            return Ok(()); // the copy has the new value, and is read from now on
        }
    } else {
        store_one(name, value)?;
    }
    // A leftover copy is not read; the next change removes it.
    let _ = remove_if_there(&next);
    Ok(())
}

/// Removes the library's key `name`, if it exists.
pub fn remove(session: &Session, name: &str) -> Result<()> {
    require(session)?;
    remove_if_there(name)?;
    remove_if_there(&successor(name))
}

fn remove_if_there(name: &str) -> Result<()> {
    match Key::exists(name)? {
        true => remove_one(name),
        false => Ok(()),
    }
}

fn c_name(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| Error::internal("a key's name has a NUL"))
}

fn writer() -> Result<ServiceRef<KeyringWriter>> {
    // SAFETY: the type is the layout of this service.
    unsafe { ServiceRef::acquire(c"keyring_writer") }.ok_or_else(no_keyring)
}

fn store_one(name: &str, value: &SecretString) -> Result<()> {
    let bytes = value.expose_secret().as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_VALUE_BYTES {
        return Err(Error::invalid("a value for the keyring is empty or longer than 64 KiB; give the key"));
    }
    let (name, writer) = (c_name(name)?, writer()?);
    // SAFETY: NUL-terminated names, and a length that is that of the bytes. The component copies them.
    let failed = unsafe {
        (writer.get().store)(name.as_ptr(), OWNER.as_ptr(), bytes.as_ptr(), bytes.len(), VALUE_TYPE.as_ptr())
    };
    if failed != 0 {
        return Err(Error::new(
            Kind::Denied,
            format!(
                "the keyring did not store the value of {} bytes; see whether it is writable, keyring_operations is ON and the value is not too long for it (component_keyring_file: 16384 bytes)",
                bytes.len()
            ),
        ));
    }
    Ok(())
}

fn remove_one(name: &str) -> Result<()> {
    let (id, writer) = (c_name(name)?, writer()?);
    // SAFETY: NUL-terminated names.
    if unsafe { (writer.get().remove)(id.as_ptr(), OWNER.as_ptr()) } != 0 {
        return Err(Error::new(
            Kind::Denied,
            format!(
                "the keyring did not remove its key {name}; see whether it is writable and keyring_operations is ON"
            ),
        ));
    }
    Ok(())
}

/// A found key. The server locks its keyring against changes until it is dropped.
struct Key {
    object: *mut c_void,
    // After the object's own end in Drop.
    reader: ServiceRef<KeyringReader>,
}

impl Key {
    fn find(name: &str) -> Result<Option<Self>> {
        let name = c_name(name)?;
        // SAFETY: the type is the layout of this service.
        let reader: ServiceRef<KeyringReader> =
            unsafe { ServiceRef::acquire(c"keyring_reader_with_status") }.ok_or_else(no_keyring)?;
        let mut object: *mut c_void = std::ptr::null_mut();
        // SAFETY: NUL-terminated names and a place for the object, which Drop gives back.
        if unsafe { (reader.get().init)(name.as_ptr(), OWNER.as_ptr(), &mut object) } != 0 {
            return Err(unreadable());
        }
        Ok((!object.is_null()).then_some(Key { object, reader }))
    }

    fn exists(name: &str) -> Result<bool> {
        Key::find(name).map(|key| key.is_some())
    }

    fn value(&self) -> Result<Zeroizing<Vec<u8>>> {
        let (mut length, mut type_length) = (0_usize, 0_usize);
        // SAFETY: an object that was found, and places for two numbers.
        if unsafe { (self.reader.get().fetch_length)(self.object, &mut length, &mut type_length) } != 0 {
            return Err(unreadable());
        }
        if length > MAX_VALUE_BYTES || type_length > MAX_TYPE_BYTES {
            return Err(Error::new(
                Kind::TooLarge,
                format!("the keyring's value has {length} bytes, more than 64 KiB; store the key alone"),
            ));
        }
        // One byte more each: no buffer is empty, and the type's name is NUL-terminated.
        let mut value = Zeroizing::new(vec![0_u8; length + 1]);
        let mut value_type = vec![0_u8; type_length + 1];
        let (mut got, mut type_got) = (0_usize, 0_usize);
        // SAFETY: the object is still locked, and each buffer is handed over with its length.
        let failed = unsafe {
            (self.reader.get().fetch)(
                self.object,
                value.as_mut_ptr(),
                value.len(),
                &mut got,
                value_type.as_mut_ptr().cast::<c_char>(),
                value_type.len(),
                &mut type_got,
            )
        };
        if failed != 0 || got > length {
            return Err(unreadable());
        }
        value.truncate(got);
        Ok(value)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: the object was found with this reader and is given back once.
        unsafe { (self.reader.get().deinit)(self.object) };
    }
}

fn unreadable() -> Error {
    Error::new(Kind::NotFound, "the server's keyring cannot be read; see the error log and the keyring's configuration")
}
