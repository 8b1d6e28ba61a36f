//! What the standard library does not do with files.

use std::ffi::CString;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Gives two files or directories each other's names, so that at no moment one of the names is missing. An error where the
/// file system cannot.
pub fn exchange(a: &Path, b: &Path) -> Result<()> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (Ok(a), Ok(b)) = (text(a), text(b)) else { return Err(ErrorKind::InvalidInput.into()) };
    // SAFETY: both are texts that end with a NUL and outlive the call, which only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            a.as_ptr(),
            libc::AT_FDCWD,
            b.as_ptr(),
            libc::c_long::from(libc::RENAME_EXCHANGE),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}
