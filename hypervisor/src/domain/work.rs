//! Counts the work that the hypervisor does for a vCPU, so that long hypercalls are preempted.
//!
//! The unit is a page-table entry visited: what the validator's budgets count; other work counts as
//! the number of entries that would cost about the same. One attempt at an operation may visit
//! [`ENTRIES`]; then it is preempted and restarted. List calls have elements of very different
//! cost, so they don't count elements: they check the time after every [`ENTRIES_PER_TIME_CHECK`].

use crate::arch::{apic, ipi, latency, percpu};
use core::cell::Cell;
use pinfold_validator::{Budget, Cause, Refusal};

/// Entries that one attempt may visit.
pub const ENTRIES: u32 = 8192;
/// Entries after which a list call checks the time.
pub const ENTRIES_PER_TIME_CHECK: u32 = 2048;
/// Entries above which an operation's time is measured.
const LONG: u32 = 128;
/// Restarts in a row for a busy frame, before it counts as in use. All others run in between; the
/// biggest tree of tables is devalidated in fewer.
const MOST_RETRIES: u32 = 1 << 16;

/// Cost in entries of what no budget counts.
pub mod cost {
    /// An element of a list of any other kind.
    pub const ELEMENT: u32 = 32;
    /// A call in a multicall.
    pub const CALL: u32 = 64;
    /// A page cleared or copied.
    pub const PAGE: u32 = 512;
    /// A record in the log.
    pub const RECORD: u32 = 512;
    /// A grant mapped, unmapped, copied.
    pub const GRANT: u32 = 256;
    /// A TLB flush, of other CPUs too.
    pub const FLUSH: u32 = 256;
}

/// The work done for a vCPU since the last check of the time.
#[derive(Debug, Default)]
pub struct Work {
    spent: Cell<u32>,
    retries: Cell<u32>,
    yields: Cell<bool>,
}

impl Work {
    /// Runs an operation with the budget of one attempt, and counts what it used.
    #[inline(always)]
    pub fn attempt<T>(&self, run: impl FnOnce(&mut Budget) -> T) -> T {
        let mut budget = Budget::new(ENTRIES);
        let result = run(&mut budget);
        self.charge_used(&budget);
        result
    }

    /// Counts what was used of a budget of [`ENTRIES`], if it is enough to matter.
    #[inline(always)]
    pub fn charge_if_long(&self, budget: &Budget) {
        if budget.left() <= (ENTRIES - LONG) as usize {
            self.charge_used(budget);
        }
    }

    /// The count.
    pub fn spent(&self) -> u32 {
        self.spent.get()
    }

    /// Counts what was used of a budget of [`ENTRIES`], as [`Work::attempt`] does. For callers whose
    /// arguments a closure would copy.
    #[inline(always)]
    pub fn charge_used(&self, budget: &Budget) {
        // A budget never grows.
        let used = ENTRIES.wrapping_sub(budget.left() as u32);
        self.charge(used);
        if used >= LONG {
            latency::measure_from_stamp();
        }
    }

    /// Counts work that costs as much as so many entries.
    #[inline(always)]
    pub fn charge(&self, entries: u32) {
        // Wrapping makes a check late at worst; list calls charge far less between two checks.
        self.spent.set(self.spent.get().wrapping_add(entries));
    }

    /// Whether to preempt the call: checks the time if enough was done since the last check, and
    /// services IPIs.
    #[inline(always)]
    pub fn is_time_up(&self) -> bool {
        self.spent.get() >= ENTRIES_PER_TIME_CHECK && self.check_time()
    }

    /// Checks the time and services IPIs: whether to preempt the call.
    #[cold]
    #[inline(never)]
    pub fn check_time(&self) -> bool {
        self.spent.set(0);
        latency::measure_from_stamp();
        ipi::service_ipis();
        apic::timer_is_pending()
    }

    /// Whether to preempt a refused operation and try it again, since the frame is only busy. The
    /// number of tries in a row is bounded.
    pub fn may_retry(&self, refusal: &Refusal) -> bool {
        let retries = self.retries.get();
        let again = refusal.cause == Cause::Busy && retries < MOST_RETRIES;
        self.retries.set(if again { retries + 1 } else { 0 });
        again
    }

    /// Makes the loaded vCPU yield before its guest resumes: its instruction is not done, has changed
    /// no register, and is restarted.
    #[cold]
    pub fn yield_before_retry(&self) {
        self.yields.set(true);
        percpu::set_need_resched();
    }

    /// Takes the request to yield, if there is one.
    pub fn take_yield(&self) -> bool {
        self.yields.take()
    }

    /// The operation that was tried again succeeded.
    pub fn clear_retries(&self) {
        self.retries.set(0);
    }
}
