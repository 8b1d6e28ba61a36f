//! Memory that is given back to the system.

/// Gives what the allocator keeps for later back to the system, after something large was freed. Without it the C library
/// and tcmalloc, with which Debian links the server, keep a model's memory as the process's own.
pub fn give_back() {
    if let Some(release) = crate::abi::symbols::tcmalloc_release() {
        // SAFETY: it takes nothing and locks itself.
        unsafe { release() };
        return;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes no pointer; the allocator locks itself.
    unsafe {
        libc::malloc_trim(0);
    }
}
