//! `sched_op` (`public/sched.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Yields the CPU.
pub const SCHEDOP_YIELD: u64 = 0;
/// Unmasks events and blocks until one is pending.
pub const SCHEDOP_BLOCK: u64 = 1;
/// Shuts the domain down: [`Shutdown`].
pub const SCHEDOP_SHUTDOWN: u64 = 2;
/// Blocks until one of a list of ports is pending or a timeout expires: [`Poll`].
pub const SCHEDOP_POLL: u64 = 3;
/// Shuts another domain down. For the control domain.
pub const SCHEDOP_REMOTE_SHUTDOWN: u64 = 4;
/// Records a reason for a later shutdown: [`Shutdown`].
pub const SCHEDOP_SHUTDOWN_CODE: u64 = 5;
/// Starts, resets or stops a watchdog: [`Watchdog`].
pub const SCHEDOP_WATCHDOG: u64 = 6;
/// Pins the vCPU to a CPU temporarily. For the hardware domain.
pub const SCHEDOP_PIN_OVERRIDE: u64 = 7;

/// Argument of [`SCHEDOP_SHUTDOWN`] and [`SCHEDOP_SHUTDOWN_CODE`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Shutdown {
    /// `SHUTDOWN_*`.
    pub reason: u32,
}
assert_layout!(Shutdown, size 4);

/// Shutdown reason: power off.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// Shutdown reason: reboot.
pub const SHUTDOWN_REBOOT: u32 = 1;
/// Shutdown reason: suspend.
pub const SHUTDOWN_SUSPEND: u32 = 2;
/// Shutdown reason: the guest crashed.
pub const SHUTDOWN_CRASH: u32 = 3;
/// Shutdown reason: a watchdog expired.
pub const SHUTDOWN_WATCHDOG: u32 = 4;
/// Shutdown reason: reset of the domain that keeps its memory.
pub const SHUTDOWN_SOFT_RESET: u32 = 5;

/// Argument of [`SCHEDOP_WATCHDOG`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Watchdog {
    /// Number of a watchdog, from 1. 0 starts a new one; its number is the result.
    pub id: u32,
    /// Seconds until the domain is shut down with [`SHUTDOWN_WATCHDOG`]. 0 stops the watchdog.
    pub timeout: u32,
}
assert_layout!(Watchdog, size 8, timeout @ 4);

/// Argument of [`SCHEDOP_POLL`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Poll {
    /// Guest address of `u32` port numbers.
    pub ports: u64,
    /// Number of ports.
    pub nr_ports: u32,
    /// Zero.
    pub pad: u32,
    /// System time of the timeout in ns. 0: no timeout.
    pub timeout: u64,
}
assert_layout!(Poll, size 24, nr_ports @ 8, timeout @ 16);
