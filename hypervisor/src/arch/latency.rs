//! Latency meter: the longest times for which each CPU kept others waiting.
//!
//! The hypervisor runs with interrupts disabled. Meanwhile a CPU that asked this one for a TLB flush
//! waits until it services IPIs, and a vCPU or a timer that is due waits until it checks the
//! scheduler. The meter of each CPU keeps the longest
//!
//! * `ipi`: time in the hypervisor without [`serviced_ipis`];
//! * `irq_off`: time from an entry into the hypervisor to the return to a guest, or to `hlt`;
//! * `sched`: time in the hypervisor without [`checked_scheduler`].
//!
//! Times are TSC ticks; under QEMU's `-icount shift=0` the TSC counts instructions.
//!
//! A measured time is a span. It begins with [`begin_span`] or [`measure_from_stamp`], and ends with
//! [`end_span`] before the guest resumes. (Beginning a span sets the need-resched flag, so that the
//! return path doesn't skip `end_span`.)
//!
//! Most exits are handled so fast that a second reading of the TSC would be noticeable. So an exit
//! only stores the TSC ([`stamp`]), and a handler that takes long begins a span at that time
//! ([`measure_from_stamp`]): an operation of the validator that has visited more than a few entries, a
//! list of operations that polls the timer, or a hypercall that is always long. Hypercalls with a
//! small constant bound are not measured, and exceptions that are bounced to the guest not even
//! stamped. The scheduler begins spans of its own.

use super::percpu::{self, PerCpu, this};
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use pinfold_abi::hypercall::Hypercall;

/// What the hypervisor is doing: the number of a hypercall, or one of the constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity(pub u32);

impl Activity {
    /// Choosing a vCPU, loading it, timers.
    pub const SCHEDULER: Activity = Activity(64);
    /// Handling a page fault of a guest.
    pub const PAGE_FAULT: Activity = Activity(65);
    /// Handling #GP of a guest, which includes the emulation of privileged instructions.
    pub const GENERAL_PROTECTION: Activity = Activity(66);
    /// Handling an interrupt.
    pub const INTERRUPT: Activity = Activity(67);
    /// Tearing down a domain.
    pub const TEARDOWN: Activity = Activity(68);
    /// Searching mappings for a report.
    pub const REPORT: Activity = Activity(69);

    /// Executing a hypercall.
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

/// The longest time of one kind, and the activity at its end.
#[derive(Debug)]
struct Longest {
    ticks: AtomicU64,
    activity: AtomicU32,
}

impl Longest {
    /// Adds a time. Returns the longest one.
    #[inline]
    fn note(&self, ticks: u64, activity: u32) -> u64 {
        let longest = self.ticks.load(Relaxed);
        if ticks <= longest {
            return longest;
        }
        self.ticks.store(ticks, Relaxed);
        self.activity.store(activity, Relaxed);
        ticks
    }

    fn read(&self) -> (u64, Activity) {
        (self.ticks.load(Relaxed), Activity(self.activity.load(Relaxed)))
    }
}

/// The meter of a CPU. All accesses are relaxed: only its own CPU writes it, and others read single
/// words for reports. All zeros is a valid meter that has measured nothing.
#[derive(Debug)]
pub struct Meter {
    /// Whether a span is being measured.
    in_span: AtomicBool,
    /// TSC at the beginning of the span.
    entered: AtomicU64,
    /// TSC at the last exit of a guest, low half.
    stamp: AtomicU32,
    /// TSC when IPIs were last serviced. Not valid if before `entered`.
    serviced: AtomicU64,
    /// TSC when the scheduler was last checked. Not valid if before `entered`.
    checked: AtomicU64,
    /// The current [`Activity`].
    activity: AtomicU32,
    /// The shortest of the three longest times: a span that isn't longer changes none of them.
    shortest: AtomicU64,
    ipi: Longest,
    irq_off: Longest,
    sched: Longest,
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: every x86-64 CPU has a TSC, and ring 0 may always read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

impl Meter {
    /// Adds a span that ends now.
    #[cold]
    #[inline(never)]
    fn note(&self, now: u64) {
        let entered = self.entered.load(Relaxed);
        let activity = self.activity.load(Relaxed);
        let since = |moment: &AtomicU64| now.saturating_sub(moment.load(Relaxed).max(entered));
        let ipi = self.ipi.note(since(&self.serviced), activity);
        let sched = self.sched.note(since(&self.checked), activity);
        let irq_off = self.irq_off.note(now.saturating_sub(entered), activity);
        self.shortest.store(ipi.min(sched).min(irq_off), Relaxed);
    }
}

const STAMP_OFFSET: usize = offset_of!(PerCpu, meter) + offset_of!(Meter, stamp);
const ACTIVITY_OFFSET: usize = offset_of!(PerCpu, meter) + offset_of!(Meter, activity);

/// Stores the time of a guest exit, from which [`measure_from_stamp`] can begin a span.
#[inline(always)]
pub fn stamp() {
    // SAFETY: while the hypervisor runs, GS points to the CPU's record. The word belongs to its meter,
    // which only this CPU writes.
    unsafe {
        core::arch::asm!(
            "rdtsc",
            "mov gs:[{stamp}], eax",
            stamp = const STAMP_OFFSET,
            out("eax") _,
            out("edx") _,
            options(nostack, preserves_flags)
        );
    }
}

/// Sets the current activity.
pub fn set_activity(activity: Activity) {
    this().meter.activity.store(activity.0, Relaxed);
}

/// Begins a span at the time of the last [`stamp`], unless a span is being measured.
#[cold]
#[inline(never)]
pub fn measure_from_stamp() {
    let meter = &this().meter;
    if !meter.in_span.load(Relaxed) {
        // The low half of the stamp suffices: the exit was less than 2^32 ticks ago.
        let now = now();
        let ago = (now as u32).wrapping_sub(meter.stamp.load(Relaxed));
        meter.entered.store(now.wrapping_sub(ago.into()), Relaxed);
        meter.in_span.store(true, Relaxed);
        // So that the return to the guest calls `end_span`.
        percpu::set_need_resched();
    }
}

/// Sets the current activity, and begins a span unless one is being measured. For callers that end the
/// span themselves before a guest resumes, such as the scheduler.
pub fn begin_span(activity: Activity) {
    let meter = &this().meter;
    meter.activity.store(activity.0, Relaxed);
    if !meter.in_span.load(Relaxed) {
        meter.entered.store(now(), Relaxed);
        meter.in_span.store(true, Relaxed);
    }
}

/// Sets the current activity by one instruction, on the fast path.
#[inline(always)]
pub fn set_activity_const<const ACTIVITY: u32>() {
    // SAFETY: as for `stamp`.
    unsafe {
        core::arch::asm!(
            "mov dword ptr gs:[{offset}], {activity}",
            offset = const ACTIVITY_OFFSET,
            activity = const ACTIVITY,
            options(nostack, preserves_flags)
        );
    }
}

/// Ends the span, if one is being measured: a guest resumes, or the CPU halts.
pub fn end_span() {
    let meter = &this().meter;
    if !meter.in_span.load(Relaxed) {
        return;
    }
    let now = now();
    let entered = meter.entered.load(Relaxed);
    if now.wrapping_sub(entered) > meter.shortest.load(Relaxed) {
        meter.note(now);
    }
    meter.in_span.store(false, Relaxed);
}

/// Notes that this CPU has serviced IPIs.
#[inline]
pub fn serviced_ipis() {
    let meter = &this().meter;
    if meter.in_span.load(Relaxed) {
        let entered = meter.entered.load(Relaxed);
        let now = now();
        let since = meter.serviced.load(Relaxed).max(entered);
        meter.ipi.note(now.saturating_sub(since), meter.activity.load(Relaxed));
        meter.serviced.store(now, Relaxed);
    }
}

/// Notes that this CPU has checked whether its time slice is over or a timer is due.
#[inline]
pub fn checked_scheduler() {
    let meter = &this().meter;
    if meter.in_span.load(Relaxed) {
        let entered = meter.entered.load(Relaxed);
        let now = now();
        let since = meter.checked.load(Relaxed).max(entered);
        meter.sched.note(now.saturating_sub(since), meter.activity.load(Relaxed));
        meter.checked.store(now, Relaxed);
    }
}

/// Runs `work` without measuring it, because it stops the machine on purpose for a diagnosis. A span
/// that is being measured ends before, and a new one begins after.
pub fn exclude<T>(work: impl FnOnce() -> T) -> T {
    let meter = &this().meter;
    let was_measured = meter.in_span.load(Relaxed);
    end_span();
    let result = work();
    if was_measured {
        stamp();
        measure_from_stamp();
    }
    result
}

/// The longest times of a CPU in TSC ticks, each with the activity at its end.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Without servicing IPIs.
    pub ipi: (u64, Activity),
    /// With interrupts disabled.
    pub irq_off: (u64, Activity),
    /// Without checking the scheduler.
    pub sched: (u64, Activity),
}

/// The longest times of a CPU, which is online.
pub fn longest_of(cpu: usize) -> Latency {
    let meter = percpu::meter_of(cpu);
    Latency { ipi: meter.ipi.read(), irq_off: meter.irq_off.read(), sched: meter.sched.read() }
}
