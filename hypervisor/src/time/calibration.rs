//! Frequencies of the TSC and of the local APIC timer: as CPUID or KVM name them, and else measured.
#![expect(unsafe_code, reason = "reads the port of the power-management timer")]

use super::clock::tsc;
use super::kvm_clock::KvmClock;
use crate::arch::{apic, port};
use pinfold_hardware::frequency::ClockLeaves;
use raw_cpuid::{CpuId, Hypervisor};

/// Frequency of the ACPI power-management timer in Hz (ACPI 6.5, 4.8.3.3). It has at least 24 bits.
const PM_TIMER_HZ: u64 = 3_579_545;
const PM_TIMER_MASK: u32 = 0xff_ffff;
/// Duration of a measurement in microseconds.
const MICROSECONDS: u64 = 10_000;
/// Assumed frequency of the TSC if nothing names it and there is nothing to measure it with.
const DEFAULT_TSC_KHZ: u64 = 1_000_000;

/// What was found out.
pub struct Found {
    /// Frequency of the TSC in kHz.
    pub tsc_khz: u64,
    /// Who named the frequency of the TSC, or what it was measured with; for the log.
    pub by: &'static str,
    /// The TSC's frequency is constant, as the CPU or KVM says.
    pub invariant: bool,
    /// Frequency of the APIC timer in kHz, before its divider. `None` if the timer is in TSC-deadline
    /// mode, in which it doesn't matter.
    pub timer_khz: Option<u64>,
}

/// Finds out both frequencies. `pm_timer`: I/O port of the power-management timer, which the FADT names.
pub fn find(pm_timer: Option<u16>, kvm_clock: Option<KvmClock>) -> Found {
    let leaves = read_leaves(kvm_clock);
    let invariant = apic::is_tsc_invariant() || kvm_clock.is_some_and(|clock| clock.is_stable);
    let timer_is_needed = !apic::is_in_deadline_mode();
    let named = leaves.tsc_khz().map(|(khz, source)| (khz, source.name()));
    let named_timer = leaves.timer_khz().filter(|_| timer_is_needed);

    let (tsc_khz, by) = match (named, pm_timer) {
        (Some(named), _) => named,
        (None, Some(port)) => (measure_tsc_by_pm_timer(port), "acpi_timer"),
        (None, None) => leaves
            .approximate_tsc_khz()
            .map_or((DEFAULT_TSC_KHZ, "assumption"), |(khz, source)| (khz, source.name())),
    };
    let timer_khz =
        timer_is_needed.then(|| named_timer.unwrap_or_else(|| measure_timer_by_tsc(tsc_khz)));
    Found { tsc_khz, by, invariant, timer_khz }
}

/// Reads the leaves of CPUID about clocks.
fn read_leaves(kvm_clock: Option<KvmClock>) -> ClockLeaves {
    let cpuid = CpuId::new();
    let hypervisor = cpuid
        .get_hypervisor_info()
        .filter(|info| matches!(info.identify(), Hypervisor::KVM | Hypervisor::VMware));
    ClockLeaves {
        virtual_machine: cpuid.get_feature_info().is_some_and(|f| f.has_hypervisor()),
        crystal: cpuid
            .get_tsc_info()
            .map_or([0; 3], |i| [i.denominator(), i.numerator(), i.nominal_frequency()]),
        base_mhz: cpuid
            .get_processor_frequency_info()
            .map_or(0, |i| i.processor_base_frequency().into()),
        hypervisor: hypervisor.map_or([0; 2], |info| {
            [info.tsc_frequency(), info.apic_frequency()].map(|khz| khz.unwrap_or(0))
        }),
        kvm_clock: kvm_clock.map(|clock| clock.scale),
    }
}

/// Measures the TSC against the power-management timer. Returns its frequency in kHz.
fn measure_tsc_by_pm_timer(port: u16) -> u64 {
    // SAFETY: the FADT names the port as the timer's; reading it has no side effect.
    let read = || unsafe { port::read32(port) } & PM_TIMER_MASK;
    let wanted = (PM_TIMER_HZ * MICROSECONDS / 1_000_000) as u32;
    let (first_tsc, first) = read_with_tsc(read);
    while read().wrapping_sub(first) & PM_TIMER_MASK < wanted {}
    let (last_tsc, last) = read_with_tsc(read);
    let elapsed = u128::from((last.wrapping_sub(first) & PM_TIMER_MASK).max(1));
    let khz = u128::from(last_tsc - first_tsc) * u128::from(PM_TIMER_HZ) / elapsed / 1000;
    u64::try_from(khz).unwrap_or(u64::MAX).max(1)
}

/// Measures the APIC timer against the TSC. Returns its frequency in kHz.
fn measure_timer_by_tsc(tsc_khz: u64) -> u64 {
    let wanted = tsc_khz * MICROSECONDS / 1000;
    apic::start_measuring();
    let (first_tsc, first_ticks) = read_with_tsc(apic::measured_ticks);
    while tsc() - first_tsc < wanted {
        core::hint::spin_loop();
    }
    let (last_tsc, last_ticks) = read_with_tsc(apic::measured_ticks);
    apic::stop_measuring();
    let ticks = u128::from(last_ticks - first_ticks) * u128::from(tsc_khz);
    let khz = ticks / u128::from((last_tsc - first_tsc).max(1));
    u64::try_from(khz).unwrap_or(u64::MAX).max(1)
}

/// Reads a counter, and the TSC at the same time. In a virtual machine the former may take long, and the
/// virtual processor may be stopped in between: the fastest of some attempts counts.
fn read_with_tsc<T: Copy + Ord + Default>(read: impl Fn() -> T) -> (u64, T) {
    let attempts = core::array::from_fn::<_, 5, _>(|_| {
        let before = tsc();
        let count = read();
        (tsc() - before, before, count)
    });
    let (took, before, count) = attempts.into_iter().min().unwrap_or_default();
    (before + took / 2, count)
}
