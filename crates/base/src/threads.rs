//! Threads of the library, which the host may show to administrators.

use std::io;

use crate::{counters, host};

/// Ends the thread's part in the host's lists, also after a panic.
struct Shown;

impl Drop for Shown {
    fn drop(&mut self) {
        host::thread_ends();
    }
}

/// Starts a thread. The system shows at most 15 bytes of its name; the host shows what follows `mysql_ml-`.
pub fn spawn(name: &'static str, stack: usize, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(stack)
        .spawn(move || {
            let _counted = counters::THREADS.hold();
            host::thread_begins(name);
            let _shown = Shown;
            work();
        })
        .map(drop)
}
