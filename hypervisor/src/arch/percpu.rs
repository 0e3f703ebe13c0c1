//! What each processor has for itself, reached through GS while the hypervisor runs.
//!
//! In the guest, `KERNEL_GS_BASE` holds the address of this record and `GS_BASE` the guest's own
//! value; `swapgs` at entry and exit changes places. Guests can't execute `swapgs` (ring 3).

use super::gdt::HypervisorGdt;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};
use x86_64::structures::tss::TaskStateSegment;

/// Bytes of each of the stacks for double fault, NMI, machine check and debug exceptions.
const EXCEPTION_STACK: usize = 8192;

/// A stack of the interrupt stack table. Its topmost words hold the address of the processor's
/// record, for handlers that can't trust GS (see `entry`).
#[repr(C, align(4096))]
pub struct ExceptionStack {
    /// Left unmapped: an overflow faults instead of writing over its neighbour.
    guard: [u8; 4096],
    bytes: [u8; EXCEPTION_STACK - 16],
    percpu: u64,
    pad: u64,
}

/// Index in the interrupt stack table, as the IDT wants it less one.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Ist {
    /// Double fault.
    DoubleFault = 0,
    /// NMI.
    Nmi = 1,
    /// Machine check.
    MachineCheck = 2,
    /// Debug exception: may hit between `syscall` and the change of stacks (mov ss shadow).
    Debug = 3,
}

/// The record. Field order is known to `entry`'s assembly through the offsets below.
#[repr(C, align(4096))]
pub struct PerCpu {
    this: *const PerCpu,
    /// Stack pointer of the hypervisor while a guest runs.
    hypervisor_sp: UnsafeCell<u64>,
    /// One past the register file of the vCPU that runs: where the processor pushes.
    registers_top: UnsafeCell<u64>,
    scratch: UnsafeCell<u64>,
    /// Task state segment: the stacks the processor switches to.
    tss: UnsafeCell<TaskStateSegment>,
    /// The hypervisor's page of the GDT.
    pub gdt: HypervisorGdt,
    stacks: [ExceptionStack; 4],
}

// SAFETY: the record is written only by its own processor, with interrupts off.
unsafe impl Sync for PerCpu {}

/// Offset of the saved hypervisor stack pointer.
pub const HYPERVISOR_SP: usize = offset_of!(PerCpu, hypervisor_sp);
/// Offset of the top of the running vCPU's register file.
pub const REGISTERS_TOP: usize = offset_of!(PerCpu, registers_top);
/// Offset of a word that entry code may use.
pub const SCRATCH: usize = offset_of!(PerCpu, scratch);

impl PerCpu {
    /// A record that [`PerCpu::install`] must still complete.
    pub const fn new() -> PerCpu {
        const STACK: ExceptionStack = ExceptionStack {
            guard: [0; 4096],
            bytes: [0; EXCEPTION_STACK - 16],
            percpu: 0,
            pad: 0,
        };
        PerCpu {
            this: core::ptr::null(),
            hypervisor_sp: UnsafeCell::new(0),
            registers_top: UnsafeCell::new(0),
            scratch: UnsafeCell::new(0),
            tss: UnsafeCell::new(TaskStateSegment::new()),
            gdt: HypervisorGdt::new(),
            stacks: [STACK; 4],
        }
    }

    /// Makes this the record of the calling processor: fills in the stacks, GDT entries and GS.
    ///
    /// # Safety
    /// Once per processor, with interrupts off; `self` is of no other processor.
    pub unsafe fn install(&'static mut self) {
        let this: *mut PerCpu = self;
        self.this = this;
        for (index, stack) in self.stacks.iter_mut().enumerate() {
            stack.percpu = this as u64;
            let top = VirtAddr::from_ptr(&raw const stack.percpu);
            self.tss.get_mut().interrupt_stack_table[index] = top;
        }
        // No I/O bitmap: a limit before its offset makes every port fault at CPL 3.
        let tss = VirtAddr::from_ptr(self.tss.get());
        self.gdt.describe_tss(tss);
        GsBase::write(VirtAddr::from_ptr(this));
        KernelGsBase::write(VirtAddr::zero());
    }

    /// Addresses of the guard pages below the exception stacks; the caller unmaps them.
    pub fn guard_pages(&self) -> impl Iterator<Item = VirtAddr> + '_ {
        self.stacks.iter().map(|stack| VirtAddr::from_ptr(&raw const stack.guard))
    }

    /// Tells the processor where to save the registers of the vCPU that runs next.
    ///
    /// # Safety
    /// `top` is 16-byte aligned and one past a register file that stays in place and is not
    /// touched while the vCPU runs.
    pub unsafe fn set_registers_top(&self, top: u64) {
        // SAFETY: only this processor, with interrupts off, touches its record; the caller vouches
        // for `top`.
        unsafe {
            *self.registers_top.get() = top;
            (*self.tss.get()).privilege_stack_table[0] = VirtAddr::new(top);
        }
    }
}

/// The calling processor's record.
pub fn this() -> &'static PerCpu {
    let this: *const PerCpu;
    // SAFETY: while the hypervisor runs GS points to the record, whose first field is its address;
    // records live for ever.
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly));
        &*this
    }
}

/// Number of the calling processor in sets of processors. One processor runs so far.
pub fn cpu_number() -> usize {
    0
}
