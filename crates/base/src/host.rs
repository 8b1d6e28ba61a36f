//! Functions of the process around the library. A MySQL server installs them; any other program has none.

use std::sync::OnceLock;

use crate::account::Account;

/// The functions of a host.
pub struct Host {
    /// The account whose rights count for the statement on the calling thread; `None` on a thread without a statement.
    pub current_account: fn() -> Option<Account>,
    /// Makes the allocator return freed memory to the system.
    pub release_free_memory: fn(),
    /// The bytes of the largest result that the client of the calling thread's statement can be sent.
    pub largest_result: fn() -> usize,
    /// Shows the calling thread, one of the library's, under a name.
    pub thread_begins: fn(&'static str),
    /// Undoes it at the thread's end.
    pub thread_ends: fn(),
}

static HOST: OnceLock<Host> = OnceLock::new();

/// Installs the host. The first one stays.
pub fn install(host: Host) {
    let _ = HOST.set(host);
}

/// Whether a host is installed.
pub fn is_installed() -> bool {
    HOST.get().is_some()
}

/// The account whose rights count for the statement on the calling thread.
pub fn current_account() -> Option<Account> {
    HOST.get().and_then(|host| (host.current_account)())
}

/// Returns freed memory from the allocator to the system, where the host can.
pub fn release_free_memory() {
    if let Some(host) = HOST.get() {
        (host.release_free_memory)();
    }
}

/// The bytes of the largest result that the client of the calling thread's statement can be sent.
pub fn largest_result() -> usize {
    HOST.get().map_or(usize::MAX, |host| (host.largest_result)())
}

/// Shows the calling thread, one of the library's, under a name.
pub fn thread_begins(name: &'static str) {
    if let Some(host) = HOST.get() {
        (host.thread_begins)(name);
    }
}

/// Undoes it at the thread's end.
pub fn thread_ends() {
    if let Some(host) = HOST.get() {
        (host.thread_ends)();
    }
}
