//! The one-shot timer of the local APIC.
//!
//! A deadline is a value of the TSC. If the CPU has the TSC-deadline mode and a TSC of constant
//! frequency, the timer gets the deadline as it is; otherwise it counts down at a frequency of its own.
//!
//! In a virtual machine each access to the timer is an exit, so a CPU remembers what its timer is
//! programmed for. It is not programmed again for a later deadline: it interrupts too early once,
//! and whoever handles that programs it again. Whether it has expired is a comparison with the TSC.

use super::super::percpu::this;
use super::super::{latency, vector};
use super::registers::{Register, Registers, order_before_msr};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use pinfold_hardware::TimerRatio;
use raw_cpuid::CpuId;
use x86_64::registers::model_specific::Msr;

/// IA32_TSC_DEADLINE (Intel SDM vol. 3, 11.5.4.1).
const TSC_DEADLINE: u32 = 0x6e0;
/// Mode in the timer's vector register: TSC deadline. 0 is one-shot.
const MODE_TSC_DEADLINE: u32 = 0b10 << 17;
/// Divide configuration: by 16.
const DIVIDE_BY_16: u32 = 0b0011;
/// What [`DIVIDE_BY_16`] divides by.
const DIVIDER: u64 = 16;

/// The timers are in TSC-deadline mode. Written once at boot.
static DEADLINE_MODE: AtomicBool = AtomicBool::new(false);
/// Ticks of the timer per tick of the TSC ([`TimerRatio`]).
static RATIO: AtomicU64 = AtomicU64::new(1 << 32);

/// Not programmed.
const NEVER: u64 = u64::MAX;

/// What the timer of a CPU is programmed for. Only its own CPU accesses it.
#[derive(Debug)]
pub struct ProgrammedTimer {
    /// The deadline, or [`NEVER`].
    deadline: AtomicU64,
    /// An interrupt was taken since, which may have been the timer's.
    uncertain: AtomicBool,
}

fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has a TSC, and ring 0 may always read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Whether the TSC has a constant frequency in all power states (AMD APM vol. 3, CPUID 0x80000007).
pub fn is_tsc_invariant() -> bool {
    CpuId::new().get_advanced_power_mgmt_info().is_some_and(|info| info.has_invariant_tsc())
}

/// Chooses the timers' mode.
pub(super) fn choose_mode() {
    let has_deadline = CpuId::new().get_feature_info().is_some_and(|f| f.has_tsc_deadline());
    DEADLINE_MODE.store(has_deadline && is_tsc_invariant(), Relaxed);
}

/// Whether the timers are in TSC-deadline mode, so that the frequency of their own doesn't matter.
pub fn is_in_deadline_mode() -> bool {
    DEADLINE_MODE.load(Relaxed)
}

/// Sets up the timer of this CPU, not programmed.
pub(super) fn set_up() {
    let registers = Registers::of_this_cpu();
    let mode = if is_in_deadline_mode() { MODE_TSC_DEADLINE } else { 0 };
    registers.write(Register::Divide, DIVIDE_BY_16);
    registers.write(Register::TimerVector, u32::from(vector::TIMER) | mode);
    // In xAPIC mode a write of the deadline could overtake that of the mode.
    order_before_msr();
    stop();
}

/// Stops the timer of this CPU.
fn stop() {
    if is_in_deadline_mode() {
        write_deadline(0);
    } else {
        Registers::of_this_cpu().write(Register::InitialCount, 0);
    }
    let timer = &this().timer;
    timer.deadline.store(NEVER, Relaxed);
    timer.uncertain.store(false, Relaxed);
}

fn write_deadline(deadline: u64) {
    // SAFETY: the CPU has the mode, and the interrupt has a handler.
    unsafe { Msr::new(TSC_DEADLINE).write(deadline) };
}

/// Starts the timer at its maximum count, to measure its frequency. Not in TSC-deadline mode.
pub fn start_measuring() {
    Registers::of_this_cpu().write(Register::InitialCount, u32::MAX);
}

/// Ticks of the timer's clock, before the divider, since [`start_measuring`].
pub fn measured_ticks() -> u64 {
    let count = Registers::of_this_cpu().read(Register::CurrentCount);
    u64::from(u32::MAX - count) * DIVIDER
}

/// Ends the measurement.
pub fn stop_measuring() {
    stop();
}

/// Sets the frequencies of the timer, before the divider, and of the TSC.
pub fn set_rates(timer_khz: u64, tsc_khz: u64) {
    // In the ratio's units a tick of the timer may be few ticks of the TSC, but never none.
    let ratio = TimerRatio::new(timer_khz, tsc_khz.saturating_mul(DIVIDER));
    RATIO.store(ratio.bits().max(1), Relaxed);
}

/// Makes this CPU's timer interrupt when its TSC reaches `deadline`, or earlier: if it is programmed for
/// an earlier time already, and if it can't count so far.
pub fn arm_timer(deadline: u64) {
    let deadline = deadline.min(NEVER - 1);
    let timer = &this().timer;
    if timer.deadline.load(Relaxed) <= deadline && !timer.uncertain.load(Relaxed) {
        return;
    }
    if is_in_deadline_mode() {
        // 0 would stop the timer; a deadline in the past interrupts at once.
        write_deadline(deadline.max(1));
    } else {
        let ticks = deadline.saturating_sub(tsc());
        let count = TimerRatio::from_bits(RATIO.load(Relaxed)).count(ticks);
        Registers::of_this_cpu().write(Register::InitialCount, count);
    }
    timer.deadline.store(deadline, Relaxed);
    timer.uncertain.store(false, Relaxed);
}

/// Whether the timer has expired, so that its interrupt is pending or about to be. Long operations,
/// which run with interrupts disabled, poll this to be preempted.
///
/// The interrupt request register has the answer too, but reading it is slow in a virtual machine.
pub fn timer_is_pending() -> bool {
    latency::checked_scheduler();
    this().timer.deadline.load(Relaxed) <= tsc()
}

/// Notes that this CPU has acknowledged an interrupt: if it was the timer's, the timer is not
/// programmed any more.
pub(super) fn note_interrupt() {
    let timer = &this().timer;
    if timer.deadline.load(Relaxed) <= tsc() {
        timer.deadline.store(NEVER, Relaxed);
        timer.uncertain.store(false, Relaxed);
    } else {
        // Probably another interrupt. But a timer whose frequency was measured may be early.
        timer.uncertain.store(true, Relaxed);
    }
}
