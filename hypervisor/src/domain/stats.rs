//! Counters of a domain, for `pinfold_op` `stats` and the log.

use core::sync::atomic::{AtomicU64, Ordering};

/// A counter that any CPU may increment; relaxed, so it orders nothing.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn bump(&self) {
        self.add(1);
    }

    /// Adds a number.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters, named as in [`pinfold_abi::pinfold::Stats`].
#[derive(Debug, Default)]
pub struct Stats {
    pub pins: Counter,
    pub unpins: Counter,
    pub pins_refused: Counter,
    pub aliases: Counter,
    pub entry_updates: Counter,
    pub updates_refused: Counter,
    pub emulated_stores: Counter,
    pub guest_flushes: Counter,
    pub type_flushes: Counter,
    pub shootdowns: Counter,
    pub shootdown_cleared: Counter,
    pub preemptions: Counter,
    pub upcalls: Counter,
    pub healed: Counter,
}
