//! A lock for vCPUs that take events: while it is held, events are kept out on the holder, so
//! that an event handler may take it too.

use super::event;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use lock_api::{GuardNoSend, RawMutex};

/// How often a waiting vCPU looks before it lets others run: the holder may be one that has no
/// CPU.
const PATIENCE: u32 = 200;

/// The lock itself.
#[derive(Debug)]
pub struct EventLock {
    taken: AtomicBool,
    /// Whether the holder could take events before. Written by the holder only.
    open: AtomicBool,
}

/// Something that one vCPU at a time may use.
pub type Mutex<T> = lock_api::Mutex<EventLock, T>;
/// The right to use it, for as long as this lives.
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, EventLock, T>;

// SAFETY: `taken` goes from false to true for one at a time, with an acquiring exchange, and back
// by its holder's releasing store.
unsafe impl RawMutex for EventLock {
    const INIT: EventLock =
        EventLock { taken: AtomicBool::new(false), open: AtomicBool::new(false) };
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        let mut tries = 0u32;
        while !self.try_lock() {
            tries += 1;
            if tries.is_multiple_of(PATIENCE) {
                // An unknown call would not help, but it would not harm either.
                let _ = crate::hypercall::sched::yield_now();
            }
            core::hint::spin_loop();
        }
    }

    fn try_lock(&self) -> bool {
        let open = event::mask();
        if self.taken.compare_exchange(false, true, Acquire, Relaxed).is_ok() {
            self.open.store(open, Relaxed);
            return true;
        }
        if open {
            event::unmask();
        }
        false
    }

    unsafe fn unlock(&self) {
        let open = self.open.load(Relaxed);
        self.taken.store(false, Release);
        if open {
            event::unmask();
        }
    }
}
