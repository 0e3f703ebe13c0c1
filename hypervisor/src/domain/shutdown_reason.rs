//! Why a domain ends.

use pinfold_abi::sched;

/// Why a domain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// The guest shut down, with a reason of `public/sched.h`.
    Shutdown(u32),
    /// The hypervisor can't resume the guest, or ended it.
    Crash(&'static str),
}

/// Name of a shutdown reason of the ABI (`public/sched.h`), for the log.
pub fn reason_name(reason: u32) -> &'static str {
    match reason {
        sched::SHUTDOWN_POWEROFF => "poweroff",
        sched::SHUTDOWN_REBOOT => "reboot",
        sched::SHUTDOWN_SUSPEND => "suspend",
        sched::SHUTDOWN_CRASH => "crash",
        sched::SHUTDOWN_WATCHDOG => "watchdog",
        _ => "soft-reset",
    }
}
