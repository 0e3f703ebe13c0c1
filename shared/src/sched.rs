//! `sched_op` (`public/sched.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Let others run.
pub const SCHEDOP_YIELD: u64 = 0;
/// Unmask events and sleep until one is pending.
pub const SCHEDOP_BLOCK: u64 = 1;
/// End the domain: argument is [`Shutdown`].
pub const SCHEDOP_SHUTDOWN: u64 = 2;
/// Sleep until a port is pending or a time has come: argument is [`Poll`].
pub const SCHEDOP_POLL: u64 = 3;
/// End another domain.
pub const SCHEDOP_REMOTE_SHUTDOWN: u64 = 4;
/// Note why, without ending yet: argument is [`Shutdown`].
pub const SCHEDOP_SHUTDOWN_CODE: u64 = 5;
/// Arm, feed or stop a watchdog: argument is [`Watchdog`].
pub const SCHEDOP_WATCHDOG: u64 = 6;
/// Pin the vCPU to a CPU.
pub const SCHEDOP_PIN_OVERRIDE: u64 = 7;

/// Argument of shutdown.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Shutdown {
    /// `SHUTDOWN_*`.
    pub reason: u32,
}
assert_layout!(Shutdown, size 4);

/// Reason: all is done.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// Reason: start again.
pub const SHUTDOWN_REBOOT: u32 = 1;
/// Reason: save.
pub const SHUTDOWN_SUSPEND: u32 = 2;
/// Reason: the guest found itself broken.
pub const SHUTDOWN_CRASH: u32 = 3;
/// Reason: a watchdog was not fed.
pub const SHUTDOWN_WATCHDOG: u32 = 4;
/// Reason: start again, keeping memory.
pub const SHUTDOWN_SOFT_RESET: u32 = 5;

/// Argument of watchdog.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Watchdog {
    /// Number of the watchdog, from 1; 0: a new one, whose number is the result.
    pub id: u32,
    /// Seconds until the domain is shut down with [`SHUTDOWN_WATCHDOG`]; 0: stop it.
    pub timeout: u32,
}
assert_layout!(Watchdog, size 8, timeout @ 4);

/// Argument of poll.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Poll {
    /// Address of `u32` ports.
    pub ports: u64,
    /// How many.
    pub nr_ports: u32,
    /// Zero.
    pub pad: u32,
    /// Absolute system time in ns; 0: no limit.
    pub timeout: u64,
}
assert_layout!(Poll, size 24, nr_ports @ 8, timeout @ 16);
