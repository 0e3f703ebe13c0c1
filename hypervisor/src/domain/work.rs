//! How much a vCPU made the hypervisor do since it last looked whether its time is up.
//!
//! Work is counted in page-table entries: what the validator's budgets count, and for the rest about
//! as many as cost the same. Each attempt at something long may visit [`ENTRIES`]; then it is
//! suspended, and made again. Lists are made of elements that may each be short or that long, so
//! they don't count elements: they look at the clock when enough entries have come together.

use crate::arch::{apic, ipi, latency, percpu};
use core::cell::Cell;
use pinfold_validator::{Budget, Cause, Refusal};

/// Entries that one attempt may visit.
pub const ENTRIES: u32 = 8192;
/// Entries after which a list looks at the clock.
pub const LOOK_AFTER: u32 = 2048;
/// Entries from which on an operation counts as long, and its time is measured.
const LONG: u32 = 128;
/// Suspensions in a row for a frame that others keep busy, before it counts as in use. Each lets
/// everybody else run; the biggest tree of tables is taken apart in fewer.
const MOST_RETRIES: u32 = 1 << 16;

/// What an element of a list costs besides what a budget counts, in entries.
pub mod cost {
    /// An element of no other kind: read, looked up, answered.
    pub const ELEMENT: u32 = 32;
    /// A call in a multicall.
    pub const CALL: u32 = 64;
    /// A page cleared or copied.
    pub const PAGE: u32 = 512;
    /// A record in the log.
    pub const RECORD: u32 = 512;
    /// A grant mapped, unmapped, copied.
    pub const GRANT: u32 = 256;
    /// A flush, of other processors too.
    pub const FLUSH: u32 = 256;
}

/// A vCPU's count.
#[derive(Debug, Default)]
pub struct Work {
    spent: Cell<u32>,
    retries: Cell<u32>,
    yields: Cell<bool>,
}

impl Work {
    /// Does something within the budget of one attempt, and counts what it used.
    #[inline(always)]
    pub fn attempt<T>(&self, run: impl FnOnce(&mut Budget) -> T) -> T {
        let mut budget = Budget::new(ENTRIES);
        let result = run(&mut budget);
        self.charge_used(&budget);
        result
    }

    /// The same, unless it is so little that the calls before and after don't matter.
    #[inline(always)]
    pub fn charge_if_long(&self, budget: &Budget) {
        if budget.left() <= (ENTRIES - LONG) as usize {
            self.charge_used(budget);
        }
    }

    /// What was counted since the last look.
    pub fn spent(&self) -> u32 {
        self.spent.get()
    }

    /// Counts what an attempt used of a budget of [`ENTRIES`]: as [`Work::attempt`] does, where a
    /// closure would have the arguments copied.
    #[inline(always)]
    pub fn charge_used(&self, budget: &Budget) {
        // It never grows.
        let used = ENTRIES.wrapping_sub(budget.left() as u32);
        self.charge(used);
        if used >= LONG {
            latency::measure_from_stamp();
        }
    }

    /// Counts what cost about as much as so many entries.
    #[inline(always)]
    pub fn charge(&self, entries: u32) {
        // It may come round, at worst to a look that is due a little later: only lists look, and what
        // they charge between two looks is far less.
        self.spent.set(self.spent.get().wrapping_add(entries));
    }

    /// Whether the vCPU's time is up: looks at the clock, if enough was done since the last time, and
    /// services IPIs. Whoever gets `true` suspends.
    #[inline(always)]
    pub fn is_time_up(&self) -> bool {
        self.spent.get() >= LOOK_AFTER && self.look()
    }

    /// Looks at the clock, and services IPIs: whether the vCPU's time is up.
    #[cold]
    #[inline(never)]
    pub fn look(&self) -> bool {
        self.spent.set(0);
        latency::measure_from_stamp();
        ipi::service_ipis();
        apic::timer_is_pending()
    }

    /// A frame could not be had: whether to suspend and try again, since it is only busy. Others
    /// can't make a vCPU retry for ever: in the end it is refused.
    pub fn may_retry(&self, refusal: &Refusal) -> bool {
        let retries = self.retries.get();
        let again = refusal.cause == Cause::Busy && retries < MOST_RETRIES;
        self.retries.set(if again { retries + 1 } else { 0 });
        again
    }

    /// The vCPU, which is loaded, is to yield before its guest goes on: what it executed is not done,
    /// and changed no register.
    #[cold]
    pub fn yield_before_retry(&self) {
        self.yields.set(true);
        percpu::set_need_resched();
    }

    /// Whether it is to yield.
    pub fn take_yield(&self) -> bool {
        self.yields.take()
    }

    /// What had to be tried again went through.
    pub fn succeeded(&self) {
        self.retries.set(0);
    }
}
