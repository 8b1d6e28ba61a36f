//! Fuzz targets: pure functions of the library that read what strangers wrote.
//!
//! A target fails by a panic, an overflow, too much memory or too much time, and by a broken property that it asserts.
//! `cargo xtask fuzz NAME` runs one under libFuzzer; `cargo test -p fuzz` replays `corpus/` and some changes of it.

mod answers;
mod files;
mod requests;
mod statements;
mod vectors;

use std::time::Duration;

use rustix::time::{clock_gettime, ClockId};

/// A function that takes any bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    run: fn(&[u8]),
    /// The most bytes that it may allocate at a time, besides a thousand for each byte of the input.
    memory: u64,
}

/// All targets.
pub const TARGETS: [Target; 15] = [
    target("arguments", statements::arguments),
    target("statements", statements::statements),
    target("registrations", statements::registrations),
    target("settings", statements::settings),
    target("answers", answers::answers),
    target("tasks", answers::tasks),
    target("schemas", answers::schemas),
    target("redaction", answers::redaction),
    target("retry_after", answers::retry_after),
    target("templates", requests::templates),
    target("urls", requests::urls),
    target("chunks", requests::chunks),
    target("vectors", vectors::vectors),
    target("index", vectors::index),
    Target { memory: 256 << 20, ..target("models", files::models) },
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, memory: 16 << 20 }
}

/// Longer inputs reach nothing new.
const LONGEST: usize = 64 << 10;

/// The most processor time of an input. Builds without optimisation are slow.
const TIME: Duration = Duration::from_secs(5);

impl Target {
    /// Runs the target.
    ///
    /// # Panics
    ///
    /// It found a defect.
    pub fn run(&self, data: &[u8]) {
        if data.len() > LONGEST {
            return;
        }
        let began = processor_time();
        let allocated = allocation_counter::measure(|| (self.run)(data)).bytes_max;
        let took = processor_time().saturating_sub(began);
        let most = self.memory + 1000 * data.len() as u64;
        assert!(allocated <= most, "{} allocated {allocated} bytes, more than {most}", self.name);
        assert!(took <= TIME, "{} took {took:?}", self.name);
    }
}

/// The time that this thread was running.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The input's first byte, and the rest; 0 and nothing if it is empty.
fn first(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// The parts of an input before and behind its first NUL.
fn two_parts(data: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}
