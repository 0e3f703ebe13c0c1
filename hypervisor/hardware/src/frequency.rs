//! Frequencies of the TSC and of the APIC timer that CPUID or a hypervisor names.
//!
//! A frequency that is named is exact, and costs no time to measure. In a virtual machine a measurement
//! is bad as well: the virtual processor may be interrupted during it.
//!
//! | source                | names                                         | trusted                      |
//! |-----------------------|-----------------------------------------------|------------------------------|
//! | leaf 0x40000010       | TSC, and input clock of the APIC timer        | of KVM and of VMware         |
//! | KVM's clock           | TSC                                           | always                       |
//! | leaf 0x15, complete   | TSC; on a real machine also the APIC timer    | always                       |
//! | leaf 0x16             | TSC (base frequency, as the processor is sold)| if nothing can be measured   |
//!
//! A hypervisor may pass the processor's own leaves on and still scale the TSC, so its own word comes
//! first. The APIC timer of a virtual machine has a clock of its own (1 GHz in KVM and QEMU), whatever
//! leaf 0x15 says.
//!
//! Sources: Intel SDM vol. 2 (CPUID, leaves 15H and 16H) and vol. 3, 11.5.4 and 19.7.3; Linux,
//! `Documentation/virt/kvm/x86/` (leaf 0x40000010 is VMware's, and QEMU has it for KVM).

use crate::TscScale;
use core::ops::RangeInclusive;

/// Frequencies in kHz that a TSC can have: from 100 MHz to 20 GHz. Another one is a mistake.
const POSSIBLE_TSC_KHZ: RangeInclusive<u64> = 100_000..=20_000_000;
/// The same for the input clock of the APIC timer: from 1 MHz to 10 GHz.
const POSSIBLE_TIMER_KHZ: RangeInclusive<u64> = 1_000..=10_000_000;

/// Who named a frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The hypervisor's CPUID leaf 0x40000010.
    HypervisorLeaf,
    /// KVM's clock.
    KvmClock,
    /// CPUID leaf 0x15.
    CrystalLeaf,
    /// CPUID leaf 0x16.
    BaseLeaf,
}

impl Source {
    /// Its name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Source::HypervisorLeaf => "hypervisor_leaf",
            Source::KvmClock => "kvm_clock",
            Source::CrystalLeaf => "cpuid_0x15",
            Source::BaseLeaf => "cpuid_0x16",
        }
    }
}

/// What CPUID says about clocks. Leaves that the processor doesn't have are 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockLeaves {
    /// A hypervisor is present (leaf 1, ecx bit 31).
    pub virtual_machine: bool,
    /// Leaf 0x15: denominator (eax) and numerator (ebx) of the TSC's frequency as a multiple of the
    /// crystal's, and the crystal's frequency in Hz (ecx).
    pub crystal: [u32; 3],
    /// Leaf 0x16, eax: base frequency in MHz.
    pub base_mhz: u32,
    /// Leaf 0x40000010 of KVM or VMware: frequencies in kHz of the TSC (eax) and of the APIC timer's
    /// input clock (ebx).
    pub hypervisor: [u32; 2],
    /// The scale of KVM's clock.
    pub kvm_clock: Option<TscScale>,
}

impl ClockLeaves {
    /// Frequency of the TSC in kHz, if it is named exactly, and by whom.
    pub fn tsc_khz(&self) -> Option<(u64, Source)> {
        let named = [
            (Some(u64::from(self.hypervisor[0])), Source::HypervisorLeaf),
            (self.kvm_clock.map(TscScale::to_khz), Source::KvmClock),
            (self.tsc_by_crystal(), Source::CrystalLeaf),
        ];
        first_possible(named)
    }

    /// Frequency of the TSC in kHz by the base frequency, which is a round number: to be used only if
    /// there is nothing to measure the TSC with.
    pub fn approximate_tsc_khz(&self) -> Option<(u64, Source)> {
        first_possible([(Some(u64::from(self.base_mhz) * 1000), Source::BaseLeaf)])
    }

    /// Frequency in kHz of the APIC timer's input clock, before its divider.
    pub fn timer_khz(&self) -> Option<u64> {
        let crystal_is_bus = !self.virtual_machine && self.tsc_by_crystal().is_some();
        let crystal = if crystal_is_bus { self.crystal[2] / 1000 } else { 0 };
        [self.hypervisor[1], crystal]
            .into_iter()
            .map(u64::from)
            .find(|khz| POSSIBLE_TIMER_KHZ.contains(khz))
    }

    /// Leaf 0x15, if it is complete.
    fn tsc_by_crystal(&self) -> Option<u64> {
        let [denominator, numerator, hz] = self.crystal.map(u64::from);
        if hz == 0 || numerator == 0 {
            return None;
        }
        // Each has 32 bits, so the product has at most 64.
        (hz * numerator).checked_div(denominator).map(|hz| hz / 1000)
    }
}

/// The first frequency that a TSC can have.
fn first_possible<const N: usize>(named: [(Option<u64>, Source); N]) -> Option<(u64, Source)> {
    named.into_iter().find_map(|(khz, source)| {
        khz.filter(|khz| POSSIBLE_TSC_KHZ.contains(khz)).map(|khz| (khz, source))
    })
}
