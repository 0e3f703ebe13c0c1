//! Flags that the parts of the driver share.

use core::sync::atomic::AtomicBool;

/// The port's interrupt is routed to a CPU.
pub(super) static INTERRUPTS: AtomicBool = AtomicBool::new(false);
/// No interrupt tells when output can go on: a console is used.
pub(super) static POLLED: AtomicBool = AtomicBool::new(false);
/// The port is considered stuck.
pub(super) static STUCK: AtomicBool = AtomicBool::new(false);
/// Guests that wait for space in the buffer can continue.
pub(super) static SPACE_FREED: AtomicBool = AtomicBool::new(false);
/// A CPU panics: the others must not use the port.
pub(super) static PANICKING: AtomicBool = AtomicBool::new(false);
