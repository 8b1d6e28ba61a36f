//! A child process that ends with this one.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Time limit of a process's end after the request to end.
const GRACE: Duration = Duration::from_secs(10);

/// Interval of checks while waiting for a process's end.
const POLL: Duration = Duration::from_millis(5);

/// A running child; dropping it ends it.
#[derive(Debug)]
pub(super) struct Process {
    child: Mutex<Child>,
    pid: u32,
}

impl Process {
    /// Starts a command that the kernel kills when this process ends in any way.
    pub(super) fn spawn(mut command: Command) -> anyhow::Result<Process> {
        let parent = std::process::id();
        // An own process group keeps the terminal's Ctrl-C away; the owner ends the process.
        command.process_group(0);
        let die_with_parent = move || {
            // SAFETY: prctl with these arguments only sets a flag of the calling process, and getppid
            // reads one; both may be called between fork and exec.
            let (set, actual_parent) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
            if set == -1 {
                return Err(io::Error::last_os_error());
            }
            // If the parent ended before the flag was set, the signal will never come.
            if u32::try_from(actual_parent) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        };
        // SAFETY: the closure allocates nothing, takes no lock and touches no memory but its own.
        unsafe { command.pre_exec(die_with_parent) };
        let program = command.get_program().to_owned();
        let child =
            spawn_from_lasting_thread(command).with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Process { pid: child.id(), child: Mutex::new(child) })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The exit status, if the process has ended.
    pub(super) fn exited(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // An error would mean that the process is not our child, which cannot be.
        child.try_wait().ok().flatten()
    }

    /// Waits at most `limit` for the end of the process.
    pub(super) fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.exited();
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            thread::sleep(POLL);
        }
    }

    /// Sends SIGTERM.
    pub(super) fn terminate(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(pid) = libc::pid_t::try_from(self.pid) else {
            return;
        };
        // Once it was waited for, the number may belong to another process.
        if matches!(child.try_wait(), Ok(None)) {
            // SAFETY: kill touches no memory of this process.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
    }

    /// Kills the process and waits for its end.
    pub(super) fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Both fail only if the process has ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.terminate();
        if self.wait(GRACE).is_none() {
            self.kill();
        }
    }
}

/// A command, and the channel for the result of its start.
type Job = (Command, Sender<io::Result<Child>>);

/// Starts a command from a thread that lives as long as this process.
///
/// The kernel sends the signal when the forking *thread* ends. Tests run on short-lived threads, and several of them
/// may share a server.
fn spawn_from_lasting_thread(command: Command) -> anyhow::Result<Child> {
    static SPAWNER: OnceLock<io::Result<Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        let serve = move || {
            for (mut command, answer) in queue {
                // If this fails, the receiver is gone.
                let _ = answer.send(command.spawn());
            }
        };
        thread::Builder::new().name("spawner".to_owned()).spawn(serve).map(|_| jobs)
    });
    let jobs = match spawner {
        Ok(jobs) => jobs,
        Err(error) => anyhow::bail!("cannot start a thread: {error}"),
    };
    let (answer, child) = mpsc::channel();
    jobs.send((command, answer)).ok().context("the thread that starts processes has ended")?;
    Ok(child.recv().context("the thread that starts processes has ended")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeping() -> anyhow::Result<Process> {
        let mut command = Command::new("sleep");
        command.arg("60");
        Process::spawn(command)
    }

    #[test]
    fn outlives_the_thread_that_started_it() -> anyhow::Result<()> {
        let process = thread::spawn(sleeping).join().map_err(|_| anyhow::anyhow!("panicked"))??;
        assert!(process.wait(Duration::from_millis(100)).is_none());
        process.kill();
        assert!(process.exited().is_some());
        Ok(())
    }

    #[test]
    fn ends_when_dropped() -> anyhow::Result<()> {
        let process = sleeping()?;
        let entry = format!("/proc/{}", process.pid());
        assert!(std::path::Path::new(&entry).exists());
        drop(process);
        assert!(!std::path::Path::new(&entry).exists());
        Ok(())
    }

    #[test]
    fn a_missing_program_is_reported() {
        let error = Process::spawn(Command::new("/nonexistent/program"));
        assert!(error.is_err_and(|error| error.to_string().contains("/nonexistent/program")));
    }
}
