//! Which timers of a vCPU are armed.

use crate::sync::Mutex;
use crate::time::timer_queue::TimerKind;

/// One timer of a vCPU, if it is armed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    /// CPU whose queue it is in.
    pub(super) cpu: usize,
    /// System time in ns.
    pub(super) deadline: u64,
    /// Nanoseconds until it fires again; 0: once.
    pub(super) period: u64,
}

/// The timers of a vCPU, by [`TimerKind`].
#[derive(Debug, Default)]
pub struct Timers(pub(super) Mutex<[Option<Armed>; TimerKind::ALL.len()]>);
