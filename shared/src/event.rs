//! Event channels, two-level ABI (`public/event_channel.h`, `public/xen.h`).

/// Ports of a 64-bit domain.
pub const PORTS: u32 = 4096;
/// Per-vCPU virtual interrupt: a timer fired.
pub const VIRQ_TIMER: u32 = 0;
/// Per-vCPU virtual interrupt: dump your state.
pub const VIRQ_DEBUG: u32 = 1;
