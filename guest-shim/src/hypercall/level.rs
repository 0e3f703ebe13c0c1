//! Where the kernel runs: in ring 3, or in ring 0 of the hardware container (`docs/container.md`).

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

/// Written by the entry code before any Rust code runs, from the RPL of CS; never after. On a host
/// it stays false.
pub(crate) static IN_CONTAINER: AtomicBool = AtomicBool::new(false);

/// Whether the kernel runs in ring 0, in the hardware container.
pub fn in_container() -> bool {
    IN_CONTAINER.load(Relaxed)
}
