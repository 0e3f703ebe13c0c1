//! Control registers, and the MSRs of `syscall`: set once per CPU.

use super::entry::EntrySet;
use super::gdt::HYPERVISOR_CS;
use super::{cache, user_copy};
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::layout::FLAT_RING3_CS32;
use pinfold_emulate::control::CR4_EFFECTIVE;
use raw_cpuid::CpuId;
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::{LStar, Msr, SFMask, Star};
use x86_64::registers::rflags::RFlags;

/// CSTAR: entry point of `syscall` in 32-bit code (AMD APM vol. 2, 6.1.1).
const CSTAR: u32 = 0xc000_0083;
/// IA32_SYSENTER_CS (Intel SDM vol. 4, MSR 174H).
const SYSENTER_CS: u32 = 0x174;

/// Flags that `syscall` clears (IA32_FMASK, Intel SDM vol. 3, 5.8.8): all that a guest can set with
/// `popf` or `iret` except the arithmetic flags.
const FMASK: RFlags = RFlags::TRAP_FLAG
    .union(RFlags::INTERRUPT_FLAG)
    .union(RFlags::DIRECTION_FLAG)
    .union(RFlags::IOPL_LOW)
    .union(RFlags::IOPL_HIGH)
    .union(RFlags::NESTED_TASK)
    .union(RFlags::RESUME_FLAG)
    .union(RFlags::ALIGNMENT_CHECK)
    .union(RFlags::ID);

/// CR4 without the bits of a guest. Written by the boot CPU before any guest runs.
static HYPERVISOR_CR4: AtomicU64 = AtomicU64::new(0);

/// Optional protections that this CPU supports; [`set_up`] has enabled them.
#[derive(Clone, Copy, Debug)]
pub struct Protections {
    /// SMEP: ring 0 can't execute user pages.
    pub smep: bool,
    /// SMAP: ring 0 can't access user pages unless EFLAGS.AC is set.
    pub smap: bool,
    /// UMIP: ring 3 can't read the addresses of descriptor tables.
    pub umip: bool,
    /// Width of a physical address in bits.
    pub physical_bits: u8,
}

/// Sets the control registers of this CPU.
pub fn set_up() -> Protections {
    let cpuid = CpuId::new();
    let extended = cpuid.get_extended_feature_info();
    let smep = extended.as_ref().is_some_and(|f| f.has_smep());
    let smap = extended.as_ref().is_some_and(|f| f.has_smap());
    let umip = extended.as_ref().is_some_and(|f| f.has_umip());
    let physical_bits =
        cpuid.get_processor_capacity_feature_info().map_or(36, |c| c.physical_address_bits());

    // TS is clear: the FPU state of guests is switched eagerly. WP makes ring 0 respect read-only
    // pages, which copies to guests rely on.
    // SAFETY: paging and protection stay on; no code relies on the bits that change.
    unsafe {
        Cr0::write(
            Cr0Flags::PROTECTED_MODE_ENABLE
                | Cr0Flags::MONITOR_COPROCESSOR
                | Cr0Flags::EXTENSION_TYPE
                | Cr0Flags::NUMERIC_ERROR
                | Cr0Flags::WRITE_PROTECT
                | Cr0Flags::ALIGNMENT_MASK
                | Cr0Flags::PAGING,
        );
    }
    // PGE: the mappings of the hypervisor are global, those of guests never are.
    let mut cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
        | Cr4Flags::PAGE_GLOBAL
        | Cr4Flags::OSFXSR
        | Cr4Flags::OSXMMEXCPT_ENABLE
        | Cr4Flags::MACHINE_CHECK_EXCEPTION;
    cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, smep);
    cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, smap);
    cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, umip);
    // SAFETY: the CPU supports each bit; the pages of the hypervisor are supervisor pages.
    unsafe {
        Cr4::write(cr4);
        Efer::update(|efer| {
            efer.insert(EferFlags::NO_EXECUTE_ENABLE | EferFlags::SYSTEM_CALL_EXTENSIONS);
        });
    }
    // Only the boot CPU: one that starts late must not undo `disable_global_pages`.
    let _ = HYPERVISOR_CR4.compare_exchange(0, cr4.bits(), Ordering::Relaxed, Ordering::Relaxed);
    if smap {
        user_copy::enable_smap();
    }
    cache::set_up();
    set_up_system_calls(EntrySet::Direct);
    Protections { smep, smap, umip, physical_bits }
}

/// Clears CR4.PGE, now and in [`load_guest_cr4`]: with page-table isolation, a translation of the
/// hypervisor must not survive the switch to a guest root, which doesn't map it.
pub fn disable_global_pages() {
    HYPERVISOR_CR4.fetch_and(!Cr4Flags::PAGE_GLOBAL.bits(), Ordering::Relaxed);
    // SAFETY: no code relies on cached translations. Clearing the bit flushes all of them (Intel SDM
    // vol. 3, 4.10.4.1).
    unsafe { Cr4::update(|cr4| cr4.remove(Cr4Flags::PAGE_GLOBAL)) };
}

/// Loads CR4 for a vCPU whose virtual CR4 is `guest`. The value is made of the hypervisor's bits and
/// the guest's, never of what the register holds (XSA-293).
pub fn load_guest_cr4(guest: u64) {
    let own = HYPERVISOR_CR4.load(Ordering::Relaxed);
    let wanted = Cr4Flags::from_bits_retain(own | guest & CR4_EFFECTIVE);
    if Cr4::read() != wanted {
        // SAFETY: the hypervisor's bits stay as `set_up` chose them. The guest's are TSD and DE: TSD
        // doesn't affect ring 0, and DE only DR4 and DR5, which the hypervisor doesn't use.
        unsafe { Cr4::write(wanted) };
    }
}

/// Takes the interrupts that are pending, by enabling interrupts for one instruction. For the run
/// loop, which holds no lock there and then checks all that interrupts announce.
pub fn open_interrupt_window() {
    // SAFETY: the handler of an interrupt in ring 0 only acknowledges it. `sti` takes effect after
    // the next instruction (Intel SDM vol. 2, STI), hence the `nop`.
    unsafe { core::arch::asm!("sti", "nop", "cli", options(nomem, nostack)) };
}

/// Directs `syscall` to a set of entry code, and disables `sysenter`.
pub fn set_up_system_calls(entries: EntrySet) {
    // SAFETY: the selectors are flat segments of the hypervisor's page of the GDT, the entry points
    // are the stubs made for them. With a null code segment `sysenter` faults with #GP.
    unsafe {
        Star::write_raw(FLAT_RING3_CS32, HYPERVISOR_CS);
        Msr::new(CSTAR).write(entries.compat_syscall_entry());
        Msr::new(SYSENTER_CS).write(0);
    }
    LStar::write(VirtAddr::new(entries.syscall_entry()));
    SFMask::write(FMASK);
}
