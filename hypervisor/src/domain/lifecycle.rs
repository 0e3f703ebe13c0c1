//! How a domain comes to its end: vCPUs that still have a state, and why it ends.

use super::shutdown_reason::ShutdownReason;
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::Once;

/// A domain's way to its end.
#[derive(Debug)]
pub struct Lifecycle {
    /// vCPUs that have a state.
    live_vcpus: AtomicUsize,
    /// The reason that the guest announced for its shutdown.
    announced: Once<u32>,
    /// Set once, when the domain is to end.
    shutdown: Once<ShutdownReason>,
}

impl Lifecycle {
    /// A domain that is about to get its first vCPU.
    pub const fn new() -> Lifecycle {
        Lifecycle { live_vcpus: AtomicUsize::new(1), announced: Once::new(), shutdown: Once::new() }
    }

    /// Counts a vCPU that got its first state.
    pub fn add_vcpu(&self) {
        self.live_vcpus.fetch_add(1, Ordering::AcqRel);
    }

    /// Uncounts a vCPU whose state is gone. True if it was the last one: nobody else touches what
    /// the vCPUs shared any more.
    #[must_use]
    pub fn remove_vcpu(&self) -> bool {
        // AcqRel: the one that removes the last one sees what the others did.
        self.live_vcpus.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Announces the reason of a shutdown to come, which counts then instead of the one that the
    /// shutdown names. The first announcement counts.
    pub fn announce(&self, reason: u32) {
        self.announced.call_once(|| reason);
    }

    /// The reason that was announced.
    pub fn announced(&self) -> Option<u32> {
        self.announced.get().copied()
    }

    /// Ends the domain; the first reason counts.
    pub(super) fn end(&self, reason: ShutdownReason) {
        self.shutdown.call_once(|| reason);
    }

    /// Whether the domain is ending.
    #[inline]
    pub fn is_ending(&self) -> bool {
        self.shutdown.is_completed()
    }

    /// Why the domain ends, if it does.
    pub fn shutdown_reason(&self) -> Option<ShutdownReason> {
        self.shutdown.get().copied()
    }
}
