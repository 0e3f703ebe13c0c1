//! How long this CPU keeps others waiting: measured, so that it can be held to a bound.
//!
//! The hypervisor runs with interrupts off. While it does, a CPU that asked this one for a
//! TLB flush waits until it services IPIs, and a vCPU or a timer that is due waits until it looks
//! at the scheduler. For each CPU there is the longest of
//!
//! * `ipi`: the time in the hypervisor without [`serviced_ipis`];
//! * `irq_off`: the time from an entry into the hypervisor to the return to a guest or to sleep;
//! * `sched`: the time in the hypervisor without [`checked_scheduler`].
//!
//! Times are of the TSC; under QEMU's `-icount shift=0` it counts instructions. A span begins with
//! [`begin`], and ends with [`end`] on the way back to the guest, which leads there because a span
//! that is measured calls for attention.
//!
//! What guests do most often is over so soon that a second reading of the TSC would show. So the time
//! of a hypercall or a fault is only noted ([`stamp`]), and measured if it turns out to be long
//! ([`measure`]): when an operation of the validator visited more than a few entries, or a list
//! looked at the clock, or by the call's nature. Not measured are hypercalls whose work is bounded by
//! a small constant, and not even noted exceptions that are handed straight to the guest. What
//! follows an exit (a call for attention, a change of vCPUs) begins a span by itself.

use super::percpu::{self, PerCpu, this};
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use pinfold_abi::hypercall::Hypercall;

/// What the hypervisor does: the number of a hypercall, or one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity(pub u32);

impl Activity {
    /// Choosing a vCPU, loading it, timers.
    pub const SCHEDULER: Activity = Activity(64);
    /// A page fault of a guest.
    pub const PAGE_FAULT: Activity = Activity(65);
    /// A general-protection fault of a guest: privileged instructions among them.
    pub const GENERAL_PROTECTION: Activity = Activity(66);
    /// An interrupt.
    pub const INTERRUPT: Activity = Activity(67);
    /// Taking a domain apart.
    pub const TEARDOWN: Activity = Activity(68);
    /// Searching mappings for a report.
    pub const REPORT: Activity = Activity(69);

    /// A hypercall.
    pub const fn hypercall(call: Hypercall) -> Activity {
        Activity(call as u32)
    }

    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Activity::SCHEDULER => "scheduler",
            Activity::PAGE_FAULT => "page_fault",
            Activity::GENERAL_PROTECTION => "general_protection",
            Activity::INTERRUPT => "interrupt",
            Activity::TEARDOWN => "teardown",
            Activity::REPORT => "report",
            Activity(number) => Hypercall::from_number(number.into()).map_or("?", Hypercall::name),
        }
    }
}

/// The longest time of one kind.
#[derive(Debug)]
struct Longest {
    ticks: AtomicU64,
    doing: AtomicU32,
}

impl Longest {
    #[inline]
    fn note(&self, ticks: u64, doing: u32) -> u64 {
        let longest = self.ticks.load(Relaxed);
        if ticks <= longest {
            return longest;
        }
        self.ticks.store(ticks, Relaxed);
        self.doing.store(doing, Relaxed);
        ticks
    }

    fn read(&self) -> (u64, Activity) {
        (self.ticks.load(Relaxed), Activity(self.doing.load(Relaxed)))
    }
}

/// A CPU's part. Relaxed throughout: only its own CPU writes it, others read single
/// words for reports. Zeros are a valid record: nothing was measured.
#[derive(Debug)]
pub struct Meter {
    /// A span is measured.
    goes_on: AtomicBool,
    /// When it began.
    entered: AtomicU64,
    /// When a guest was left last: the low half.
    stamp: AtomicU32,
    /// When IPIs were serviced last, and when the scheduler was looked at. Of meaning if later than
    /// `entered`.
    serviced: AtomicU64,
    looked: AtomicU64,
    doing: AtomicU32,
    /// The smallest of the longest times: a span that isn't longer changes none of them.
    smallest: AtomicU64,
    ipi: Longest,
    irq_off: Longest,
    sched: Longest,
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: every 64-bit CPU has the counter, and ring 0 may always read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

impl Meter {
    #[cold]
    #[inline(never)]
    fn note(&self, now: u64) {
        let entered = self.entered.load(Relaxed);
        let doing = self.doing.load(Relaxed);
        let since = |moment: &AtomicU64| now.saturating_sub(moment.load(Relaxed).max(entered));
        let ipi = self.ipi.note(since(&self.serviced), doing);
        let sched = self.sched.note(since(&self.looked), doing);
        let irq_off = self.irq_off.note(now.saturating_sub(entered), doing);
        self.smallest.store(ipi.min(sched).min(irq_off), Relaxed);
    }
}

const STAMP: usize = offset_of!(PerCpu, meter) + offset_of!(Meter, stamp);
const DOING: usize = offset_of!(PerCpu, meter) + offset_of!(Meter, doing);

/// The CPU left a guest: notes when, in case it takes long.
#[inline(always)]
pub fn stamp() {
    // SAFETY: while the hypervisor runs GS points to the CPU's record, and the word is its
    // meter's, which only this CPU writes. No span goes on when a guest was just left.
    unsafe {
        core::arch::asm!(
            "rdtsc",
            "mov gs:[{stamp}], eax",
            stamp = const STAMP,
            out("eax") _,
            out("edx") _,
            options(nostack, preserves_flags)
        );
    }
}

/// The same, in the span that goes on.
pub fn set_activity(doing: Activity) {
    this().meter.doing.store(doing.0, Relaxed);
}

/// What was stamped is long: it is measured.
#[cold]
#[inline(never)]
pub fn measure_from_stamp() {
    let meter = &this().meter;
    if !meter.goes_on.load(Relaxed) {
        // The low half is enough: it is not a second ago.
        let now = now();
        let ago = (now as u32).wrapping_sub(meter.stamp.load(Relaxed));
        meter.entered.store(now.wrapping_sub(ago.into()), Relaxed);
        meter.goes_on.store(true, Relaxed);
        // The way back to the guest leads past `end`.
        percpu::set_need_resched();
    }
}

/// A span begins, unless one goes on; the CPU does this now. For the scheduler, on whose way
/// to a guest the span ends anyway.
pub fn begin_span(doing: Activity) {
    let meter = &this().meter;
    meter.doing.store(doing.0, Relaxed);
    if !meter.goes_on.load(Relaxed) {
        meter.entered.store(now(), Relaxed);
        meter.goes_on.store(true, Relaxed);
    }
}

/// What the CPU does now, in case it takes long.
#[inline(always)]
pub fn set_activity_const<const ACTIVITY: u32>() {
    // SAFETY: as for `stamp`.
    unsafe {
        core::arch::asm!(
            "mov dword ptr gs:[{doing}], {activity}",
            doing = const DOING,
            activity = const ACTIVITY,
            options(nostack, preserves_flags)
        );
    }
}

/// The span ends, if there is one: a guest goes on, or the CPU sleeps.
pub fn end_span() {
    let meter = &this().meter;
    if !meter.goes_on.load(Relaxed) {
        return;
    }
    let now = now();
    let entered = meter.entered.load(Relaxed);
    if now.wrapping_sub(entered) > meter.smallest.load(Relaxed) {
        meter.note(now);
    }
    meter.goes_on.store(false, Relaxed);
}

/// The CPU did what others asked of it.
#[inline]
pub fn serviced_ipis() {
    let meter = &this().meter;
    if meter.goes_on.load(Relaxed) {
        let entered = meter.entered.load(Relaxed);
        let now = now();
        let since = meter.serviced.load(Relaxed).max(entered);
        meter.ipi.note(now.saturating_sub(since), meter.doing.load(Relaxed));
        meter.serviced.store(now, Relaxed);
    }
}

/// The CPU looked whether its vCPU's time is up or a timer is due, and goes on only if not.
#[inline]
pub fn checked_scheduler() {
    let meter = &this().meter;
    if meter.goes_on.load(Relaxed) {
        let entered = meter.entered.load(Relaxed);
        let now = now();
        let since = meter.looked.load(Relaxed).max(entered);
        meter.sched.note(now.saturating_sub(since), meter.doing.load(Relaxed));
        meter.looked.store(now, Relaxed);
    }
}

/// Does something that is not measured: the machine stands still on purpose, as a diagnosis wants
/// it. A span that goes on ends before it, and another begins after.
pub fn exclude<T>(work: impl FnOnce() -> T) -> T {
    let meter = &this().meter;
    let was_measured = meter.goes_on.load(Relaxed);
    end_span();
    let result = work();
    if was_measured {
        stamp();
        measure_from_stamp();
    }
    result
}

/// The longest times of a CPU, in ticks of the TSC, and what it did then.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Without servicing IPIs.
    pub ipi: (u64, Activity),
    /// With interrupts off.
    pub irq_off: (u64, Activity),
    /// Without a look at the scheduler.
    pub sched: (u64, Activity),
}

/// The longest times of a CPU that has been set up.
pub fn longest_of(cpu: usize) -> Latency {
    let meter = percpu::meter_of(cpu);
    Latency { ipi: meter.ipi.read(), irq_off: meter.irq_off.read(), sched: meter.sched.read() }
}
