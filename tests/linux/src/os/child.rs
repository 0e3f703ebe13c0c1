//! Child processes that go on with the parent's memory.

use rustix::process::{Pid, WaitOptions, waitpid};
use std::io::Error;

/// Forks a child that runs `child` and exits with the status that it returns.
///
/// Only what is safe after a fork of a process with threads may be done in it: no allocation.
pub(crate) fn fork(child: impl FnOnce() -> u8) -> Result<Pid, String> {
    // SAFETY: the child runs only `child`, which keeps the rule above, and exits without running
    // destructors or exit handlers.
    match unsafe { libc::fork() } {
        // SAFETY: it only ends the process.
        0 => unsafe { libc::_exit(child().into()) },
        pid => Pid::from_raw(pid.max(0)).ok_or_else(|| format!("fork: {}", Error::last_os_error())),
    }
}

/// Waits for a child to end. Returns its exit status, or an error that names the signal that
/// killed it.
pub(crate) fn wait(child: Pid) -> Result<u8, String> {
    let wait = || waitpid(Some(child), WaitOptions::empty());
    let ended = rustix::io::retry_on_intr(wait).map_err(|error| format!("waitpid: {error}"))?;
    let (_, status) = ended.ok_or("waitpid: no child has ended")?;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => Ok(status as u8),
        (None, signal) => Err(format!("killed by signal {}", signal.unwrap_or(0))),
    }
}
