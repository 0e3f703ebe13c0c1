//! Per-CPU data: a record for each CPU, addressed through GS while the hypervisor runs.
//!
//! While a guest runs, `KERNEL_GS_BASE` holds the address of the record and `GS_BASE` the guest's
//! value; entry and exit exchange them by `swapgs`, which ring 3 can't execute.

use super::apic::ProgrammedTimer;
use super::gdt::HypervisorGdt;
use super::latency::Meter;
use super::layout;
use super::walk_cache::{Epoch, Walk, WalkCache};
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_core::asid::{AsidSpace, Assigned, VcpuAsid};
use pinfold_validator::{CpuSet, Mfn};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};
use x86_64::structures::tss::TaskStateSegment;

/// Bytes of a stack of the interrupt stack table.
const EXCEPTION_STACK: usize = 2 * PAGE_SIZE as usize;

/// A stack of the interrupt stack table (IST). Above its top is the address of the CPU's record, for
/// handlers that can't rely on GS (see `entry`).
#[repr(C, align(4096))]
pub struct ExceptionStack {
    /// Guard page, not mapped: a stack overflow faults.
    guard: [u8; PAGE_SIZE as usize],
    bytes: UnsafeCell<[u8; EXCEPTION_STACK - 16]>,
    percpu: u64,
    pad: u64,
}

/// Index in the IST of the TSS, from 0. The field in a gate is one higher.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Ist {
    /// Double fault.
    DoubleFault = 0,
    /// NMI.
    Nmi = 1,
    /// Machine check.
    MachineCheck = 2,
    /// Debug exception: may occur between `syscall` and the change of stacks, delayed by `mov ss`.
    Debug = 3,
}

/// Ring-0 stack with page-table isolation, when the guest root doesn't map the register file. It holds
/// at most the frame for `iretq`, and below that the frame of a faulting `iretq` with all general
/// registers: 216 bytes.
#[repr(C, align(16))]
pub struct EntryStack([u8; 512]);

/// The record of a CPU. The assembly of `entry` knows it by the offsets below.
#[repr(C, align(4096))]
pub struct PerCpu {
    this: *const PerCpu,
    /// Stack pointer of the hypervisor while a guest runs.
    hypervisor_sp: UnsafeCell<u64>,
    /// End of the register file of the vCPU that runs: its ring-0 stack pointer.
    registers_top: UnsafeCell<u64>,
    /// A word for the entry code.
    scratch: UnsafeCell<u64>,
    /// Physical address of the root that is loaded while the hypervisor runs on this CPU: that of the
    /// loaded vCPU, or the idle root.
    hypervisor_root: UnsafeCell<u64>,
    /// Physical address of the CPU's guest root; 0 without page-table isolation.
    guest_root: UnsafeCell<u64>,
    /// The guest root must be copied again before the guest runs: see [`mark_guest_root_stale`].
    guest_root_stale: UnsafeCell<bool>,
    /// Number of the CPU. CPUs are numbered from 0 in the order in which they started.
    number: usize,
    /// Something may have changed that the vCPU running here depends on: see [`take_resched`].
    need_resched: AtomicBool,
    /// Root of the loaded vCPU if it is in a hardware container, by its physical address; else 0. Such
    /// a root doesn't map the hypervisor: its tables are walked in software.
    walked_root: UnsafeCell<u64>,
    /// Physical address of the page for [`super::svm::world::save_host`].
    host_area: UnsafeCell<u64>,
    /// Address space identifiers of guests in hardware containers.
    asids: UnsafeCell<AsidSpace>,
    /// Translations of the loaded vCPU, if it is in a hardware container.
    walks: UnsafeCell<WalkCache>,
    /// Number of entries to guests in hardware containers.
    guest_entries: UnsafeCell<u64>,
    /// Interrupts that were taken in ring 0, and not acted upon: see [`take_interrupts`].
    interrupts: UnsafeCell<u16>,
    /// Physical address of the GDT page.
    gdt_physical: u64,
    /// Task state segment: ring-0 stack and IST.
    tss: UnsafeCell<TaskStateSegment>,
    entry_stack: UnsafeCell<EntryStack>,
    /// The hypervisor's page of the GDT.
    pub gdt: HypervisorGdt,
    stacks: [ExceptionStack; 4],
    /// Latency measurements.
    pub meter: Meter,
    /// What the APIC timer is programmed for. Valid once the APIC is set up.
    pub timer: ProgrammedTimer,
}

// SAFETY: only its own CPU accesses the fields of a record, with interrupts disabled, except
// `need_resched`, `meter` and `timer`, which are atomic.
unsafe impl Sync for PerCpu {}

/// Offset of the saved hypervisor stack pointer.
pub const HYPERVISOR_SP: usize = offset_of!(PerCpu, hypervisor_sp);
/// Offset of the top of the running vCPU's register file.
pub const REGISTERS_TOP: usize = offset_of!(PerCpu, registers_top);
/// Offset of the word for the entry code.
pub const SCRATCH: usize = offset_of!(PerCpu, scratch);
/// Offset of the hypervisor's root.
pub const HYPERVISOR_ROOT: usize = offset_of!(PerCpu, hypervisor_root);
/// Offset of the guest's root.
pub const GUEST_ROOT: usize = offset_of!(PerCpu, guest_root);
const ENTRY_STACK_TOP: usize = offset_of!(PerCpu, entry_stack) + size_of::<EntryStack>();
/// Offset of the frame that `iretq` pops from the entry stack: rip, cs, rflags, rsp, ss.
pub const ENTRY_FRAME: usize = ENTRY_STACK_TOP - 5 * 8;
const _: () = assert!(ENTRY_STACK_TOP.is_multiple_of(16));
const _: () = assert!(ENTRY_STACK_TOP <= PAGE_SIZE as usize, "on the record's first page");

impl PerCpu {
    /// Initialises the record of this CPU, which gets the number `number`, and points GS to it.
    /// `physical_of` translates a virtual address of the hypervisor.
    ///
    /// # Safety
    /// Once per CPU, with interrupts disabled, and with a number that no other CPU has.
    pub unsafe fn install(number: usize, physical_of: fn(u64) -> Option<u64>) -> &'static PerCpu {
        let record = layout::cpu_record(number) as *mut PerCpu;
        // SAFETY: `paging::build` mapped zeroed memory there, and nothing else refers to it; zeros are
        // a valid record.
        let cpu = unsafe { &mut *record };
        cpu.this = record;
        cpu.number = number;
        cpu.tss = UnsafeCell::new(TaskStateSegment::new());
        cpu.walks = UnsafeCell::new(WalkCache::new());
        // Until `set_up_containers`, no guest has one.
        cpu.asids = UnsafeCell::new(AsidSpace::new(number, 2).expect("one is left for guests"));
        cpu.gdt.fill();
        let gdt = physical_of(cpu.gdt.address().as_u64());
        cpu.gdt_physical = gdt.expect("the record is mapped");
        for (index, stack) in cpu.stacks.iter_mut().enumerate() {
            stack.percpu = record as u64;
            let top = VirtAddr::from_ptr(&raw const stack.percpu);
            cpu.tss.get_mut().interrupt_stack_table[index] = top;
        }
        // The offset of the I/O bitmap is beyond the limit: every port access at CPL 3 faults.
        let tss = VirtAddr::from_ptr(cpu.tss.get());
        cpu.gdt.write_tss_descriptor(tss);
        GsBase::write(VirtAddr::from_ptr(record));
        KernelGsBase::write(VirtAddr::zero());
        cpu
    }

    /// Offset of the GDT page in a record.
    pub const GDT_OFFSET: u64 = offset_of!(PerCpu, gdt) as u64;

    /// Offsets in a record of the guard pages below the IST stacks, which are not mapped.
    pub fn guard_pages() -> impl Iterator<Item = u64> {
        (0..4)
            .map(|index| (offset_of!(PerCpu, stacks) + index * size_of::<ExceptionStack>()) as u64)
    }

    /// Physical address of the GDT page.
    pub fn gdt_physical(&self) -> u64 {
        self.gdt_physical
    }

    /// Sets where an exit saves the registers of the vCPU that runs next: below `top`.
    ///
    /// # Safety
    /// `top` is [`super::entry::RegisterFile::top`] of a register file that is not moved, freed or
    /// accessed while the vCPU runs.
    pub unsafe fn set_registers_top(&self, top: u64) {
        // SAFETY: only this CPU accesses its record, with interrupts disabled; the caller ensures
        // that `top` is right.
        unsafe {
            *self.registers_top.get() = top;
            // With isolation the ring-0 stack is the entry stack, and the stub moves the frame.
            if *self.guest_root.get() == 0 {
                (*self.tss.get()).privilege_stack_table[0] = VirtAddr::new(top);
            }
        }
    }

    /// Enables page-table isolation on this CPU: guests run on `guest_root`, the hypervisor on
    /// `hypervisor_root` until the next load of a root.
    ///
    /// # Safety
    /// `guest_root` maps [`PerCpu::pages_for_guests`] of this record, the code of
    /// [`super::entry::isolated_code`] and the page of the IDT; `hypervisor_root` is loaded; and the
    /// IDT and entry points of [`super::entry::EntrySet::Isolated`] are loaded before a guest runs.
    pub unsafe fn isolate(&self, guest_root: u64, hypervisor_root: u64) {
        let top = (&raw const *self).cast::<u8>().wrapping_add(ENTRY_STACK_TOP);
        // SAFETY: only this CPU accesses its record, with interrupts disabled.
        unsafe {
            *self.guest_root.get() = guest_root;
            *self.hypervisor_root.get() = hypervisor_root;
            *self.guest_root_stale.get() = true;
            (*self.tss.get()).privilege_stack_table[0] = VirtAddr::from_ptr(top);
        }
    }

    /// Physical address of the CPU's guest root; `None` without page-table isolation.
    pub fn guest_root(&self) -> Option<u64> {
        // SAFETY: as for `isolate`.
        let root = unsafe { *self.guest_root.get() };
        (root != 0).then_some(root)
    }

    /// Physical address of the root that is loaded while the hypervisor runs on this CPU.
    pub fn hypervisor_root(&self) -> u64 {
        // SAFETY: as for `isolate`.
        unsafe { *self.hypervisor_root.get() }
    }

    /// Whether the guest root must be copied again. Resets the mark: the caller makes the copy.
    pub fn take_guest_root_stale(&self) -> bool {
        // SAFETY: as for `isolate`.
        unsafe { self.guest_root_stale.get().replace(false) }
    }

    /// Prepares this CPU for guests in hardware containers: how many ASIDs it supports, and the physical
    /// address of the page where it keeps the host's state. To be called before it runs a vCPU.
    ///
    /// # Panics
    /// If there is no ASID for guests.
    pub fn set_up_containers(&self, supported_asids: u32, host_area: u64) {
        let asids = AsidSpace::new(self.number, supported_asids);
        // SAFETY: as for `isolate`.
        unsafe {
            *self.asids.get() = asids.expect("SVM has ASIDs for guests");
            *self.host_area.get() = host_area;
        }
    }

    /// Physical address of the page where this CPU keeps the host's state while a guest runs.
    #[inline]
    pub fn host_area(&self) -> u64 {
        // SAFETY: as for `isolate`.
        unsafe { *self.host_area.get() }
    }

    /// Gives a vCPU an ASID under which this CPU has no outdated translations, for the entry that
    /// follows.
    #[inline]
    pub fn assign_asid(&self, vcpu: &mut VcpuAsid) -> Assigned {
        // SAFETY: as for `isolate`.
        unsafe {
            let entries = self.guest_entries.get();
            *entries = (*entries).wrapping_add(1);
            (*self.asids.get()).assign(vcpu)
        }
    }

    /// Notes that the guest was entered with the ASID that was assigned last.
    pub fn record_guest_entry(&self) {
        // SAFETY: as for `isolate`.
        unsafe { (*self.asids.get()).record_entry() };
    }

    /// The ASID of a vCPU, if this CPU may have translations under it.
    #[inline]
    pub fn current_asid(&self, vcpu: &VcpuAsid) -> Option<u32> {
        // SAFETY: as for `isolate`.
        unsafe { (*self.asids.get()).current(vcpu) }
    }

    /// The frame of a page of the loaded vCPU, if its translation is kept.
    #[inline]
    pub fn find_walk(&self, page: u64, writes: bool) -> Option<*mut u8> {
        // SAFETY: as for `isolate`.
        unsafe { (*self.walks.get()).find(page, writes, self.walk_epoch()) }
    }

    /// The time for which translations are kept.
    #[inline]
    fn walk_epoch(&self) -> Epoch {
        // SAFETY: as for `isolate`.
        unsafe {
            let generation = (*self.asids.get()).generation();
            Epoch { generation, entry: *self.guest_entries.get() }
        }
    }

    /// Keeps a translation of the loaded vCPU until the next flush, or entry to the guest.
    pub fn keep_walk(&self, walk: Walk) {
        // SAFETY: as for `isolate`.
        unsafe { (*self.walks.get()).keep(walk, self.walk_epoch()) };
    }

    /// Drops the kept translation of a page.
    pub fn forget_walk(&self, page: u64) {
        // SAFETY: as for `isolate`.
        unsafe { (*self.walks.get()).forget(page) };
    }

    /// Sets the root of the loaded vCPU, if it is in a hardware container.
    #[inline]
    pub fn set_walked_root(&self, root: Option<Mfn>) {
        // SAFETY: as for `isolate`.
        unsafe { *self.walked_root.get() = root.map_or(0, Mfn::address) };
    }

    /// Clears the stacks that the guest root maps, so that the next guest can't read by speculation
    /// what exits of another one left there.
    pub fn scrub_entry_stacks(&self) {
        // SAFETY: as for `isolate`. None of these stacks is in use: this code runs on the CPU's
        // normal stack, and the handler of an exception returns before this code continues.
        unsafe {
            self.entry_stack.get().cast::<u8>().write_bytes(0, size_of::<EntryStack>());
            for stack in &self.stacks {
                stack.bytes.get().cast::<u8>().write_bytes(0, EXCEPTION_STACK - 16);
            }
        }
    }

    /// Offsets in a record of the pages that the guest root maps, writable: all but the guard pages.
    pub fn pages_for_guests() -> impl Iterator<Item = u64> {
        let is_guard = |page: &u64| PerCpu::guard_pages().any(|guard| guard == *page);
        (0..size_of::<PerCpu>() as u64)
            .step_by(PAGE_SIZE as usize)
            .filter(move |page| !is_guard(page))
    }
}

/// The record of this CPU.
pub fn this() -> &'static PerCpu {
    let this: *const PerCpu;
    // SAFETY: while the hypervisor runs, GS points to the record, whose first field is its address.
    // Records are never freed.
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, pure, readonly));
        &*this
    }
}

/// Records the root that the hypervisor is about to load on this CPU.
///
/// # Safety
/// The root maps the hypervisor, and the caller loads it next.
#[inline]
pub unsafe fn set_hypervisor_root(physical: u64) {
    // SAFETY: while the hypervisor runs, GS points to the record, and only this CPU accesses the
    // field. An NMI before CR3 is loaded loads the new root, and restores the old one: both map the
    // hypervisor, and the load of CR3 that follows flushes what the NMI handler left in the TLB.
    unsafe {
        core::arch::asm!(
            "mov gs:[{offset}], {}",
            in(reg) physical,
            offset = const HYPERVISOR_ROOT,
            options(nostack, preserves_flags)
        );
    }
}

/// Marks the guest root of this CPU as out of date: it is copied again before the guest resumes.
/// Without page-table isolation the mark has no effect.
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

/// The saved rip of the vCPU that runs on this CPU, or 0 if none has run yet. Only meaningful while the
/// hypervisor handles an exit of that vCPU.
pub fn interrupted_rip() -> u64 {
    /// The CPU pushes ss, rsp, rflags, cs, rip.
    const PUSHED: u64 = 5 * 8;
    // SAFETY: only this CPU accesses its record, with interrupts disabled.
    let top = unsafe { *this().registers_top.get() };
    if top == 0 {
        return 0;
    }
    // SAFETY: a register file ends at `top`, as the caller of `set_registers_top` ensured. The read is
    // volatile because the CPU writes there.
    unsafe { ((top - PUSHED) as *const u64).read_volatile() }
}

/// The lowest vector of the hypervisor's interrupts: the others are 15 at most above it.
const FIRST_INTERRUPT: u8 = 0xf0;

/// Notes an interrupt that was taken in ring 0. The caller acknowledges it.
pub fn note_interrupt(vector: u8) {
    let bit = 1 << (vector & 0xf);
    // SAFETY: as for `isolate`: interrupts are disabled in the handler of an interrupt.
    unsafe { *this().interrupts.get() |= bit };
}

/// Takes the interrupts that were noted, by vector.
pub fn take_interrupts() -> impl Iterator<Item = u8> {
    // SAFETY: as for `isolate`.
    let mut taken = unsafe { this().interrupts.get().replace(0) };
    core::iter::from_fn(move || {
        let bit = taken.trailing_zeros();
        taken &= taken.wrapping_sub(1);
        (bit < u16::BITS).then(|| FIRST_INTERRUPT + bit as u8)
    })
}

/// Retires all ASIDs of this CPU: no guest runs under one again before it is flushed. That is how
/// translations of guests in hardware containers are flushed. It is [`AsidSpace::flush_all`], written by
/// hand because it is on the path of every load of a root.
#[inline]
pub fn retire_asids() {
    // SAFETY: as for `set_hypervisor_root`.
    unsafe {
        core::arch::asm!(
            "inc qword ptr gs:[{offset}]",
            offset = const offset_of!(PerCpu, asids) + AsidSpace::GENERATION_OFFSET,
            options(nostack)
        );
    }
}

/// The root of the loaded vCPU, if it is in a hardware container.
#[inline]
pub fn walked_root() -> Option<Mfn> {
    let root: u64;
    // SAFETY: as for `cpu_number`. Not `pure`: the field changes.
    unsafe {
        core::arch::asm!(
            "mov {}, gs:[{offset}]",
            out(reg) root,
            offset = const offset_of!(PerCpu, walked_root),
            options(nostack, preserves_flags, readonly)
        );
    }
    (root != 0).then(|| Mfn::from_address(root))
}

/// Number of this CPU.
#[inline]
pub fn cpu_number() -> usize {
    let number: usize;
    // SAFETY: while the hypervisor runs, GS points to the record.
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

/// Returns and clears this CPU's need-resched flag, which is checked before each return to a guest.
///
/// Whoever changes something that a return to the guest depends on (an event, the end of the time
/// slice, a request to stop) sets the flag, by [`super::ipi::kick`] from another CPU. So in the
/// common case the return path checks one byte, and nothing else.
#[inline]
pub fn take_resched() -> bool {
    let need_resched = &this().need_resched;
    // Acquire: pairs with the release in `set_need_resched_on`; the change is visible.
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

/// Most CPUs that can be used.
pub const MAX_CPUS: usize = CpuSet::CAPACITY;

/// APIC ids of the CPUs, by number.
static APIC_IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
/// CPUs that are online, one bit each.
static ONLINE: AtomicU64 = AtomicU64::new(0);

/// Adds a CPU to those that are online.
///
/// # Safety
/// The CPU has installed its record ([`PerCpu::install`]).
pub unsafe fn set_online(cpu: usize, apic_id: u32) {
    APIC_IDS[cpu].store(apic_id, Ordering::Relaxed);
    // Release: pairs with the acquire in `online`; APIC id and record are visible.
    ONLINE.fetch_or(1 << cpu, Ordering::Release);
}

/// CPUs that are online.
pub fn online() -> CpuSet {
    CpuSet::from_bits(ONLINE.load(Ordering::Acquire))
}

/// APIC id of a CPU; 0 if it never was online.
pub fn apic_id(number: usize) -> u32 {
    APIC_IDS[number].load(Ordering::Relaxed)
}
