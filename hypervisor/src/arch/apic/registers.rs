//! Access to the registers of the local APIC, in both modes.
//!
//! In xAPIC mode they are words in memory, each at a multiple of 16 bytes; in x2APIC mode MSRs
//! (Intel SDM vol. 3, 11.4.1 and 11.12.1). Apart from the interrupt command register they are the same.
//! In a virtual machine an access in memory costs an exit and the decoding of the instruction, one
//! to an MSR the exit at most.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use raw_cpuid::CpuId;
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

/// A register, by its offset in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Register {
    Id = 0x20,
    TaskPriority = 0x80,
    EndOfInterrupt = 0xb0,
    Spurious = 0xf0,
    TimerVector = 0x320,
    Lint0 = 0x350,
    Lint1 = 0x360,
    Error = 0x370,
    InitialCount = 0x380,
    CurrentCount = 0x390,
    Divide = 0x3e0,
}

/// Interrupt command register in memory, whose two halves are written one after the other. In x2APIC
/// mode it is one MSR.
const COMMAND_LOW: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;
/// Delivery status in the low half: the last command has not been sent yet.
const SEND_PENDING: u32 = 1 << 12;

/// MSR of the register at offset 0 (Intel SDM vol. 3, table 11-6).
const X2APIC_MSRS: u32 = 0x800;
/// MSR of the interrupt command register.
const COMMAND_MSR: u32 = 0x830;

/// Virtual address of the registers; 0 in x2APIC mode. Written once at boot.
static ADDRESS: AtomicU64 = AtomicU64::new(0);
/// A hypervisor emulates the APIC: it sends a command while it is written.
static EMULATED: AtomicBool = AtomicBool::new(false);

/// The registers of this CPU's APIC, in the mode that all CPUs use.
#[derive(Clone, Copy)]
pub(super) struct Registers {
    /// Virtual address; 0 in x2APIC mode.
    address: u64,
}

impl Registers {
    /// The registers of this CPU.
    #[inline]
    pub(super) fn of_this_cpu() -> Registers {
        Registers { address: ADDRESS.load(Ordering::Relaxed) }
    }

    /// Whether the APICs are in x2APIC mode.
    pub(super) fn is_x2apic(self) -> bool {
        self.address == 0
    }

    /// Reads a register.
    #[inline]
    pub(super) fn read(self, register: Register) -> u32 {
        // SAFETY: the register exists in both modes, and reading it has no side effect. `choose_mode`
        // has enabled the mode.
        unsafe {
            if self.is_x2apic() {
                Msr::new(X2APIC_MSRS + (register as u32 >> 4)).read() as u32
            } else {
                self.in_memory(register as u64).read_volatile()
            }
        }
    }

    /// Writes a register.
    #[inline]
    pub(super) fn write(self, register: Register, value: u32) {
        // SAFETY: as for `read`; the callers are in this module and write valid values.
        unsafe {
            if self.is_x2apic() {
                Msr::new(X2APIC_MSRS + (register as u32 >> 4)).write(value.into());
            } else {
                self.in_memory(register as u64).write_volatile(value);
            }
        }
    }

    /// Address of a register in xAPIC mode.
    fn in_memory(self, offset: u64) -> *mut u32 {
        (self.address + offset) as *mut u32
    }

    /// Writes the interrupt command register: sends an IPI to the CPU with this APIC id.
    pub(super) fn command(self, apic_id: u32, low: u32) {
        // Earlier stores must be visible to the CPU that takes the interrupt.
        order_before_msr();
        if self.is_x2apic() {
            // SAFETY: the MSR exists in x2APIC mode; the command is one of this module's.
            unsafe { Msr::new(COMMAND_MSR).write(u64::from(apic_id) << 32 | u64::from(low)) };
            return;
        }
        // SAFETY: both words exist in xAPIC mode; the write of the lower one sends the command.
        unsafe {
            while !EMULATED.load(Ordering::Relaxed)
                && self.in_memory(COMMAND_LOW).read_volatile() & SEND_PENDING != 0
            {
                core::hint::spin_loop();
            }
            self.in_memory(COMMAND_HIGH).write_volatile(apic_id << 24);
            self.in_memory(COMMAND_LOW).write_volatile(low);
        }
    }
}

/// Orders earlier accesses to memory before a write of an MSR of the APIC, which doesn't serialise
/// (Intel SDM vol. 3, 11.12.3 and 11.5.4.1).
pub(super) fn order_before_msr() {
    // SAFETY: fences change neither registers nor memory.
    unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) };
}

/// Chooses the mode for all CPUs and enables it on this one, the boot CPU.
///
/// x2APIC mode is used if the firmware has enabled it, if there are APIC ids that need it (`needed`),
/// and in a virtual machine, where it is faster. Elsewhere the mode stays as the firmware left it: on a
/// real machine, interrupts of devices are specified in x2APIC mode only with interrupt remapping
/// (Intel SDM vol. 3, 11.12.7).
///
/// # Safety
/// Once, on the boot CPU. The APIC's page is mapped at `address`, uncached, for good.
pub(super) unsafe fn choose_mode(address: u64, needed: bool) {
    let features = CpuId::new().get_feature_info();
    let is_virtual = features.as_ref().is_some_and(|f| f.has_hypervisor());
    let (_, flags) = ApicBase::read();
    let x2apic = flags.contains(ApicBaseFlags::X2APIC_ENABLE)
        || is_x2apic_supported() && (needed || is_virtual);
    EMULATED.store(is_virtual, Ordering::Relaxed);
    ADDRESS.store(if x2apic { 0 } else { address }, Ordering::Relaxed);
    enable_mode();
}

/// Whether the CPU has x2APIC mode.
pub fn is_x2apic_supported() -> bool {
    CpuId::new().get_feature_info().is_some_and(|f| f.has_x2apic())
}

/// Enables the mode that [`choose_mode`] chose on this CPU.
pub(super) fn enable_mode() {
    let (base, flags) = ApicBase::read();
    let enabled = flags | ApicBaseFlags::LAPIC_ENABLE;
    let x2apic = enabled | ApicBaseFlags::X2APIC_ENABLE;
    // SAFETY: the CPU supports the mode, as the boot CPU uses it or has found so. From disabled to
    // x2APIC mode the way leads through xAPIC mode (Intel SDM vol. 3, 11.12.5). In x2APIC mode nothing
    // accesses the registers in memory.
    unsafe {
        if flags != enabled && !flags.contains(ApicBaseFlags::X2APIC_ENABLE) {
            ApicBase::write(base, enabled);
        }
        if Registers::of_this_cpu().is_x2apic() && flags != x2apic {
            ApicBase::write(base, x2apic);
        }
    }
}
