//! A lock that masks events on the vCPU that holds it, so that event handlers may take it too.

use super::event;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use lock_api::{GuardNoSend, RawMutex};

/// Tries of a waiting vCPU before it yields its CPU: the holder may be a vCPU that waits for one.
const TRIES_BEFORE_YIELD: u32 = 200;

/// The lock itself.
#[derive(Debug)]
pub struct EventLock {
    taken: AtomicBool,
    /// Whether events were unmasked on the holder before. Written by the holder only.
    unmasked: AtomicBool,
}

/// A value that one vCPU at a time may use.
pub type Mutex<T> = lock_api::Mutex<EventLock, T>;
/// Access to the value of a [`Mutex`].
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, EventLock, T>;

// SAFETY: `taken` goes from false to true for one at a time, with an acquiring exchange, and back
// by its holder's releasing store.
unsafe impl RawMutex for EventLock {
    const INIT: EventLock =
        EventLock { taken: AtomicBool::new(false), unmasked: AtomicBool::new(false) };
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        let mut tries = 0u32;
        while !self.try_lock() {
            tries += 1;
            if tries.is_multiple_of(TRIES_BEFORE_YIELD) {
                // A refusal is harmless: the lock is tried again.
                let _ = crate::hypercall::sched::yield_now();
            }
            core::hint::spin_loop();
        }
    }

    fn try_lock(&self) -> bool {
        let unmasked = event::mask();
        if self.taken.compare_exchange(false, true, Acquire, Relaxed).is_ok() {
            self.unmasked.store(unmasked, Relaxed);
            return true;
        }
        if unmasked {
            event::unmask();
        }
        false
    }

    unsafe fn unlock(&self) {
        let unmasked = self.unmasked.load(Relaxed);
        self.taken.store(false, Release);
        if unmasked {
            event::unmask();
        }
    }
}
