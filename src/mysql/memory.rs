//! Returning memory to the system.

/// Makes the allocator return free memory to the system, after something large was freed. Otherwise the C library, and
/// tcmalloc in Debian's server, keep a model's memory in the process.
pub fn give_back() {
    if let Some(release) = crate::mysql::ffi::symbols::tcmalloc_release() {
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
