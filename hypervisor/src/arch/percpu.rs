//! What each CPU has for itself, reached through GS while the hypervisor runs.
//!
//! In the guest, `KERNEL_GS_BASE` holds the address of this record and `GS_BASE` the guest's own
//! value; `swapgs` at entry and exit changes places. Guests can't execute `swapgs` (ring 3).

use super::gdt::HypervisorGdt;
use super::latency::Meter;
use crate::arch::layout;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use pinfold_validator::CpuSet;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};
use x86_64::structures::tss::TaskStateSegment;

/// Bytes of each of the stacks for double fault, NMI, machine check and debug exceptions.
const EXCEPTION_STACK: usize = 8192;

/// A stack of the interrupt stack table. Its topmost words hold the address of the CPU's
/// record, for handlers that can't trust GS (see `entry`).
#[repr(C, align(4096))]
pub struct ExceptionStack {
    /// Left unmapped: an overflow faults instead of writing over its neighbour.
    guard: [u8; 4096],
    bytes: UnsafeCell<[u8; EXCEPTION_STACK - 16]>,
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

/// Where the CPU pushes while the guest runs on a root without its register file. One frame
/// is ever on it, and below that of a faulting `iretq` with all general registers: 216 bytes.
#[repr(C, align(16))]
pub struct EntryStack([u8; 512]);

/// The record. Field order is known to `entry`'s assembly through the offsets below.
#[repr(C, align(4096))]
pub struct PerCpu {
    this: *const PerCpu,
    /// Stack pointer of the hypervisor while a guest runs.
    hypervisor_sp: UnsafeCell<u64>,
    /// One past the register file of the vCPU that runs: where the CPU pushes.
    registers_top: UnsafeCell<u64>,
    scratch: UnsafeCell<u64>,
    /// Physical address of the root that the hypervisor has loaded here, which is that of the vCPU
    /// it serves.
    hypervisor_root: UnsafeCell<u64>,
    /// Physical address of the root that guests run on here; 0 without page-table isolation.
    guest_root: UnsafeCell<u64>,
    /// The guest root is to be filled anew before the guest runs: see [`mark_guest_root_stale`].
    guest_root_stale: UnsafeCell<bool>,
    /// Number of the CPU, from 0 in the order in which they started.
    number: usize,
    /// Something may have changed for the vCPU that runs here: see [`take_resched`].
    need_resched: AtomicBool,
    /// Physical address of the GDT page.
    gdt_physical: u64,
    /// Task state segment: the stacks the CPU switches to.
    tss: UnsafeCell<TaskStateSegment>,
    entry_stack: UnsafeCell<EntryStack>,
    /// The hypervisor's page of the GDT.
    pub gdt: HypervisorGdt,
    stacks: [ExceptionStack; 4],
    /// How long this CPU keeps others waiting. Not on the first page, which guests' roots map.
    pub meter: Meter,
}

// SAFETY: the record is written only by its own CPU, with interrupts off; but for
// `need_resched` and `meter`, which are atomic.
unsafe impl Sync for PerCpu {}

/// Offset of the saved hypervisor stack pointer.
pub const HYPERVISOR_SP: usize = offset_of!(PerCpu, hypervisor_sp);
/// Offset of the top of the running vCPU's register file.
pub const REGISTERS_TOP: usize = offset_of!(PerCpu, registers_top);
/// Offset of a word that entry code may use.
pub const SCRATCH: usize = offset_of!(PerCpu, scratch);
/// Offset of the hypervisor's root.
pub const HYPERVISOR_ROOT: usize = offset_of!(PerCpu, hypervisor_root);
/// Offset of the guest's root.
pub const GUEST_ROOT: usize = offset_of!(PerCpu, guest_root);
const ENTRY_STACK_TOP: usize = offset_of!(PerCpu, entry_stack) + size_of::<EntryStack>();
/// Offset of what `iretq` pops off the entry stack: rip, cs, rflags, rsp, ss.
pub const ENTRY_FRAME: usize = ENTRY_STACK_TOP - 5 * 8;
const _: () = assert!(ENTRY_STACK_TOP.is_multiple_of(16));
const _: () = assert!(ENTRY_STACK_TOP <= 4096, "guests' roots map the record's first page");

impl PerCpu {
    /// Makes the zeroed record at [`layout::cpu_record`] the calling CPU's: fills in the
    /// stacks, GDT entries and GS. `physical_of` translates an address of the hypervisor's.
    ///
    /// # Safety
    /// Once per CPU, with interrupts off; nobody else has that number.
    pub unsafe fn install(number: usize, physical_of: fn(u64) -> Option<u64>) -> &'static PerCpu {
        let record = layout::cpu_record(number) as *mut PerCpu;
        // SAFETY: `paging::build` mapped zeroed memory there, which nobody else uses; zeros are a
        // valid record.
        let cpu = unsafe { &mut *record };
        cpu.this = record;
        cpu.number = number;
        cpu.tss = UnsafeCell::new(TaskStateSegment::new());
        cpu.gdt.fill();
        let gdt = physical_of(cpu.gdt.address().as_u64());
        cpu.gdt_physical = gdt.expect("the record is mapped");
        for (index, stack) in cpu.stacks.iter_mut().enumerate() {
            stack.percpu = record as u64;
            let top = VirtAddr::from_ptr(&raw const stack.percpu);
            cpu.tss.get_mut().interrupt_stack_table[index] = top;
        }
        // No I/O bitmap: a limit before its offset makes every port fault at CPL 3.
        let tss = VirtAddr::from_ptr(cpu.tss.get());
        cpu.gdt.describe_tss(tss);
        GsBase::write(VirtAddr::from_ptr(record));
        KernelGsBase::write(VirtAddr::zero());
        cpu
    }

    /// Offset in a record of the GDT page.
    pub const GDT_OFFSET: u64 = offset_of!(PerCpu, gdt) as u64;

    /// Offsets in a record of the guard pages below the exception stacks: nothing is mapped there.
    pub fn guard_pages() -> impl Iterator<Item = u64> {
        (0..4)
            .map(|index| (offset_of!(PerCpu, stacks) + index * size_of::<ExceptionStack>()) as u64)
    }

    /// Physical address of the GDT page.
    pub fn gdt_physical(&self) -> u64 {
        self.gdt_physical
    }

    /// Tells the CPU where to save the registers of the vCPU that runs next.
    ///
    /// # Safety
    /// `top` is 16-byte aligned and one past a register file that stays in place and is not
    /// touched while the vCPU runs.
    pub unsafe fn set_registers_top(&self, top: u64) {
        // SAFETY: only this CPU, with interrupts off, touches its record; the caller vouches
        // for `top`.
        unsafe {
            *self.registers_top.get() = top;
            // With isolation the CPU pushes to the entry stack, and the stub moves that.
            if *self.guest_root.get() == 0 {
                (*self.tss.get()).privilege_stack_table[0] = VirtAddr::new(top);
            }
        }
    }

    /// From now on guests run here on a root of their own, which maps of the hypervisor little more
    /// than this record.
    ///
    /// # Safety
    /// The root maps the first page, the GDT page and the exception stacks of this record, the code
    /// of [`super::entry::isolated_code`] and the page of the IDT; the hypervisor's root is
    /// `hypervisor_root`, and the stubs are the isolated ones before a guest runs.
    pub unsafe fn isolate(&self, guest_root: u64, hypervisor_root: u64) {
        let top = (&raw const *self).cast::<u8>().wrapping_add(ENTRY_STACK_TOP);
        // SAFETY: only this CPU, with interrupts off, touches its record.
        unsafe {
            *self.guest_root.get() = guest_root;
            *self.hypervisor_root.get() = hypervisor_root;
            *self.guest_root_stale.get() = true;
            (*self.tss.get()).privilege_stack_table[0] = VirtAddr::from_ptr(top);
        }
    }

    /// Physical address of the root that guests run on here, if it is another than the
    /// hypervisor's.
    pub fn guest_root(&self) -> Option<u64> {
        // SAFETY: as for `isolate`.
        let root = unsafe { *self.guest_root.get() };
        (root != 0).then_some(root)
    }

    /// Physical address of the root that the hypervisor has loaded here.
    pub fn hypervisor_root(&self) -> u64 {
        // SAFETY: as for `isolate`.
        unsafe { *self.hypervisor_root.get() }
    }

    /// Whether the guest root is to be filled anew; if so, the caller does it.
    pub fn take_guest_root_stale(&self) -> bool {
        // SAFETY: as for `isolate`.
        unsafe { self.guest_root_stale.get().replace(false) }
    }

    /// Forgets what earlier guests, or the hypervisor, left on the stacks that guests' roots map:
    /// the next guest must not find it there by speculation.
    pub fn scrub_entry_stacks(&self) {
        // SAFETY: as for `isolate`. None of these stacks is in use: the CPU runs on its normal
        // stack, and an exception on one of them is over when this goes on.
        unsafe {
            self.entry_stack.get().cast::<u8>().write_bytes(0, size_of::<EntryStack>());
            for stack in &self.stacks {
                stack.bytes.get().cast::<u8>().write_bytes(0, EXCEPTION_STACK - 16);
            }
        }
    }

    /// Offsets in a record of the pages that guests' roots map, all of them writable: all but the
    /// guard pages.
    pub fn pages_for_guests() -> impl Iterator<Item = u64> {
        let is_guard = |page: &u64| PerCpu::guard_pages().any(|guard| guard == *page);
        (0..size_of::<PerCpu>() as u64).step_by(4096).filter(move |page| !is_guard(page))
    }
}

/// The calling CPU's record.
pub fn this() -> &'static PerCpu {
    let this: *const PerCpu;
    // SAFETY: while the hypervisor runs GS points to the record, whose first field is its address;
    // records live for ever.
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, pure, readonly));
        &*this
    }
}

/// Notes which root the hypervisor is about to load on this CPU.
#[inline]
pub fn set_hypervisor_root(physical: u64) {
    // SAFETY: while the hypervisor runs GS points to the record, and only this CPU, with
    // interrupts off, touches the field. An NMI in between loads either root: both map the
    // hypervisor, and what it leaves in the TLB the coming load of a root drops.
    unsafe {
        core::arch::asm!(
            "mov gs:[{offset}], {}",
            in(reg) physical,
            offset = const HYPERVISOR_ROOT,
            options(nostack, preserves_flags)
        );
    }
}

/// The guest root of this CPU is to be filled anew before the guest runs on. Without
/// isolation nobody looks.
#[inline]
pub fn mark_guest_root_stale() {
    // SAFETY: as for `set_hypervisor_root`.
    unsafe {
        core::arch::asm!(
            "mov byte ptr gs:[{offset}], 1",
            offset = const offset_of!(PerCpu, guest_root_stale),
            options(nostack, preserves_flags)
        );
    }
}

/// Where the vCPU that runs here left off.
///
/// Of meaning while the hypervisor serves that vCPU: an exit happened, and the register file of
/// [`PerCpu::set_registers_top`] is as the CPU left it, or as it is to be resumed.
pub fn interrupted_rip() -> u64 {
    /// The CPU pushes ss, rsp, rflags, cs, rip.
    const PUSHED: u64 = 5 * 8;
    // SAFETY: only this CPU, with interrupts off, touches its record.
    let top = unsafe { *this().registers_top.get() };
    if top == 0 {
        return 0;
    }
    // SAFETY: who set `top` vouched that a register file ends there, which lives while its vCPU
    // runs; a volatile read of a plain word, as of what the CPU writes by itself.
    unsafe { ((top - PUSHED) as *const u64).read_volatile() }
}

/// Number of the calling CPU.
#[inline]
pub fn cpu_number() -> usize {
    let number: usize;
    // SAFETY: while the hypervisor runs GS points to the record.
    unsafe {
        core::arch::asm!(
            "mov {}, gs:[{offset}]",
            out(reg) number,
            offset = const offset_of!(PerCpu, number),
            options(nostack, preserves_flags, pure, readonly)
        );
    }
    number
}

/// Whether somebody called for this CPU's attention since the last time. Whoever changes what
/// the way back to the guest depends on calls ([`super::ipi::kick`]), so that one byte tells on
/// every way back that all is as it was.
#[inline]
pub fn take_resched() -> bool {
    let need_resched = &this().need_resched;
    // Acquire: what was changed before the call is seen after it.
    need_resched.load(Ordering::Acquire) && need_resched.swap(false, Ordering::Acquire)
}

/// Has this CPU look for work before it returns to its guest.
#[inline]
pub fn set_need_resched() {
    // Release: pairs with the acquire in `take_resched`.
    this().need_resched.store(true, Ordering::Release);
}

/// Has another CPU look for work before it returns to its guest. The caller sends the IPI
/// ([`super::ipi::kick`]).
///
/// # Panics
/// If the CPU isn't online.
pub fn set_need_resched_on(cpu: usize) {
    // Release: pairs with the acquire in `take_resched`.
    record(cpu).need_resched.store(true, Ordering::Release);
}

/// The latency meter of a CPU.
///
/// # Panics
/// If the CPU isn't online.
pub fn meter_of(cpu: usize) -> &'static Meter {
    &record(cpu).meter
}

/// The record of a CPU: only its atomic fields may be used by others.
fn record(cpu: usize) -> &'static PerCpu {
    assert!(online().contains(cpu), "CPU {cpu} is not online");
    let record = layout::cpu_record(cpu) as *const PerCpu;
    // SAFETY: the CPU is online, so its record is mapped and installed (`set_online`); records are
    // never freed.
    unsafe { &*record }
}

/// CPUs that can take part, at most.
pub const MAX_CPUS: usize = CpuSet::CAPACITY;

/// Identifiers of the CPUs' interrupt controllers, by number.
static APIC_IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
/// CPUs that run.
static ONLINE: AtomicU64 = AtomicU64::new(0);

/// Adds a CPU to those that are online.
///
/// # Safety
/// The CPU has installed its record ([`PerCpu::install`]).
pub unsafe fn set_online(cpu: usize, apic_id: u32) {
    APIC_IDS[cpu].store(apic_id, Ordering::Relaxed);
    // Release: whoever finds the CPU in the set finds its APIC id and its record.
    ONLINE.fetch_or(1 << cpu, Ordering::Release);
}

/// CPUs that run.
pub fn online() -> CpuSet {
    CpuSet::from_bits(ONLINE.load(Ordering::Acquire))
}

/// Identifier of a CPU's interrupt controller.
pub fn apic_id(number: usize) -> u32 {
    APIC_IDS[number].load(Ordering::Relaxed)
}
