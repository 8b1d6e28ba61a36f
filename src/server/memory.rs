//! Memory that is given back to the system.

/// Gives what the allocator keeps for later back to the system, after something large was freed. Without it the C library
/// of Linux keeps much of a model's memory as the process's own.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes no pointer; the allocator locks itself. Of another allocator that replaces the C library's this
    // trims a heap that is not in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
