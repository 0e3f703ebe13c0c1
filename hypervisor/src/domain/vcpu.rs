//! A virtual processor's state.

use super::DomainRef;
use crate::arch::entry::RegisterFile;
use crate::arch::fpu::FpuState;
use crate::hypercall::Args;
use crate::memory::direct_map;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU8, AtomicU64};
use pinfold_abi::layout::FIRST_RESERVED_GDT_PAGE;
use pinfold_abi::record::Who;
use pinfold_abi::shared_info::{LEGACY_VCPUS, VcpuInfo};
use pinfold_emulate::debug::DebugRegisters;
use pinfold_validator::Mfn;

/// Which of the guest's two privilege levels runs; the processor sees ring 3 for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Guest kernel, on the kernel root.
    Kernel,
    /// Guest user, on the user root.
    User,
}

impl Mode {
    /// Name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Kernel => "kernel",
            Mode::User => "user",
        }
    }
}

/// Where an exception or event goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Handler {
    /// Address; 0: none.
    pub address: u64,
    /// Lowest privilege that may raise it by `int`: 0 nobody, 1 and 2 kernel, 3 all.
    pub dpl: u8,
    /// Events are masked on entry.
    pub masks_events: bool,
}

/// The callbacks that aren't exceptions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Callbacks {
    pub event: Handler,
    pub failsafe: Handler,
    pub syscall: Handler,
    pub syscall32: Handler,
}

/// Whether a vCPU can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It can.
    Runnable,
    /// It waits for an event.
    Blocked,
    /// It waits for an event or this system time in ns, if any.
    Polling(Option<u64>),
}

/// A virtual processor.
pub struct Vcpu {
    /// Registers, where entry and exit work on them.
    pub file: RegisterFile,
    /// The domain.
    pub domain: DomainRef,
    /// Number in the domain.
    pub id: u16,
    /// Kernel or user.
    pub mode: Mode,
    /// Can it run?
    pub state: RunState,
    /// L4 of the guest kernel; the vCPU holds a reference.
    pub kernel_root: Mfn,
    /// L4 of the guest's user mode, if set; the vCPU holds a reference.
    pub user_root: Option<Mfn>,
    /// FS base while not loaded.
    pub fs_base: u64,
    /// Live GS base while not loaded.
    pub gs_base: u64,
    /// GS base of the mode that doesn't run.
    pub parked_gs_base: u64,
    /// Stack for entries from user mode: ss, rsp.
    pub kernel_stack: (u16, u64),
    /// Exception handlers.
    pub traps: [Handler; 256],
    /// Other handlers.
    pub callbacks: Callbacks,
    /// The guest's CR0.TS.
    pub task_switched: bool,
    /// The guest's view of CR4.
    pub cr4: u64,
    /// Debug registers as the guest set them.
    pub debug: DebugRegisters,
    /// GDT frames; the vCPU holds a descriptor reference on each.
    pub gdt: ArrayVec<Mfn, FIRST_RESERVED_GDT_PAGE>,
    /// GDT entries.
    pub gdt_entries: u32,
    /// LDT: linear base and entries.
    pub ldt: (u64, u32),
    /// LDT pages mapped so far, by page; the vCPU holds a descriptor reference on each.
    pub ldt_pages: [Option<Mfn>; 16],
    /// The record in the shared page: [`Vcpu::info_of`].
    pub info: *const VcpuInfo,
    /// Arguments with which a suspended hypercall goes on.
    pub resume: Args,
    /// FPU state while not loaded.
    pub fpu: FpuState,
    /// Address of the last page fault, for reports.
    pub last_fault_address: u64,
}

impl Vcpu {
    /// Where a vCPU's record is in the direct map.
    ///
    /// # Panics
    /// If the shared page has no room for it.
    pub fn info_of(shared_info: Mfn, id: u16) -> *const VcpuInfo {
        assert!(usize::from(id) < LEGACY_VCPUS);
        direct_map::frame(shared_info).cast::<VcpuInfo>().wrapping_add(id.into())
    }

    /// Whom log records are about.
    pub fn who(&self) -> Who {
        Who::Vcpu(self.domain.id.get(), self.id)
    }

    /// The root that the processor must use.
    pub fn root(&self) -> Mfn {
        match (self.mode, self.user_root) {
            (Mode::User, Some(root)) => root,
            _ => self.kernel_root,
        }
    }

    fn info_field<T>(&self, offset: usize) -> &T {
        // SAFETY: the record lies in the shared frame, which lives as long as the domain; `T` is
        // an atomic of the field's size, as the callers below choose it; offsets are aligned.
        unsafe { &*self.info.byte_add(offset).cast::<T>() }
    }

    /// The event mask: the guest's interrupt flag, inverted. The guest may change it any time.
    pub fn upcall_mask(&self) -> &AtomicU8 {
        self.info_field(core::mem::offset_of!(VcpuInfo, evtchn_upcall_mask))
    }

    /// Non-zero: events wait.
    pub fn upcall_pending(&self) -> &AtomicU8 {
        self.info_field(core::mem::offset_of!(VcpuInfo, evtchn_upcall_pending))
    }

    /// Where the guest finds the address of its last page fault.
    pub fn info_cr2(&self) -> &AtomicU64 {
        self.info_field(core::mem::offset_of!(VcpuInfo, cr2))
    }
}
