//! Data of each vCPU, found by the GS base of kernel mode.
//!
//! In ring 3 the hypervisor swaps GS bases between kernel and user mode, in the container the entry
//! code does: the kernel's is always loaded here. Code that changes it must not trap before it has
//! restored it.

use super::container::tables::CpuTables;
use super::upcall_buffer::UpcallBuffer;
use crate::hypercall::{Errno, address, call, check};
use crate::shared::VcpuRecord;
use crate::shared::ports::{PortSet, WORDS};
use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::trap::SEGBASE_GS_KERNEL;

/// The data of one vCPU.
#[derive(Debug)]
#[repr(C)]
pub struct PerCpu {
    /// Its own address, for [`this`].
    this: AtomicPtr<PerCpu>,
    /// Stack pointer to resume with when code under [`catch`](super::catch) traps; 0 otherwise.
    pub(super) landing: AtomicU64,
    /// Kernel stack pointer to return to when user mode exits.
    pub(super) kernel_rsp: AtomicU64,
    /// In the container: stack for system calls. Other entries have it from the TSS.
    pub(super) syscall_stack: AtomicU64,
    /// In the container: the user program's stack pointer during a system call.
    user_rsp: AtomicU64,
    id: AtomicU32,
    /// Nesting of event handlers.
    pub(super) depth: AtomicU32,
    /// The last trap that was caught.
    pub(super) caught: [AtomicU64; 6],
    /// The vCPU's record; null before the shared page is mapped.
    record: AtomicPtr<VcpuRecord>,
    /// The function that a secondary vCPU runs: a [`Main`](super::smp::Main), or null.
    pub(super) main: AtomicPtr<()>,
    /// Upcalls so far.
    pub(super) upcalls: AtomicU64,
    /// Ports whose events go to this vCPU.
    pub(super) ports: PortSet,
    /// Where the hypervisor lists the mappings that a pin met, or null.
    pub(super) aliases: AtomicPtr<UpcallBuffer>,
    /// In the container: the vCPU's descriptor tables; null before they are loaded.
    pub(super) tables: AtomicPtr<CpuTables>,
    /// For the kernel's use.
    pub scratch: [AtomicU64; 8],
}

/// Offsets for the assembly.
pub(super) const LANDING: usize = offset_of!(PerCpu, landing);
pub(super) const KERNEL_RSP: usize = offset_of!(PerCpu, kernel_rsp);
pub(super) const SYSCALL_STACK: usize = offset_of!(PerCpu, syscall_stack);
pub(super) const USER_RSP: usize = offset_of!(PerCpu, user_rsp);

static BOOT: PerCpu = PerCpu::new(0);

impl PerCpu {
    pub(super) const fn new(id: u32) -> PerCpu {
        PerCpu {
            this: AtomicPtr::new(core::ptr::null_mut()),
            landing: AtomicU64::new(0),
            kernel_rsp: AtomicU64::new(0),
            syscall_stack: AtomicU64::new(0),
            user_rsp: AtomicU64::new(0),
            id: AtomicU32::new(id),
            depth: AtomicU32::new(0),
            caught: [const { AtomicU64::new(0) }; 6],
            record: AtomicPtr::new(core::ptr::null_mut()),
            main: AtomicPtr::new(core::ptr::null_mut()),
            upcalls: AtomicU64::new(0),
            ports: [const { AtomicU64::new(0) }; WORDS],
            aliases: AtomicPtr::new(core::ptr::null_mut()),
            tables: AtomicPtr::new(core::ptr::null_mut()),
            scratch: [const { AtomicU64::new(0) }; 8],
        }
    }

    /// Prepares it for a vCPU. Returns the GS base that the vCPU must have.
    pub(super) fn prepare(&'static self) -> u64 {
        self.this.store(core::ptr::from_ref(self).cast_mut(), Relaxed);
        address(self)
    }

    /// The vCPU's number.
    pub fn id(&self) -> u32 {
        self.id.load(Relaxed)
    }

    /// The vCPU's record, once the shared page is mapped.
    pub fn record(&self) -> Option<&'static VcpuRecord> {
        let record = self.record.load(Relaxed);
        // SAFETY: null, or what `set_record` was promised.
        unsafe { record.cast_const().as_ref() }
    }

    /// Sets where the vCPU's record is.
    pub(super) fn set_record(&self, record: &'static VcpuRecord) {
        self.record.store(core::ptr::from_ref(record).cast_mut(), Relaxed);
    }

    /// Upcalls so far.
    pub fn upcalls(&self) -> u64 {
        self.upcalls.load(Relaxed)
    }
}

/// The data of the running vCPU.
pub fn this() -> &'static PerCpu {
    let this: *const PerCpu;
    // SAFETY: GS is based at a prepared `PerCpu` from the first instructions of Rust code on, on
    // every vCPU; its first word is its address, and it is never freed.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly, pure));
        &*this
    }
}

/// The data of the boot vCPU.
pub(super) fn boot() -> &'static PerCpu {
    &BOOT
}

/// Sets the GS base of the boot vCPU.
pub(super) fn init_boot() -> Result<(), Errno> {
    let args = [SEGBASE_GS_KERNEL, BOOT.prepare(), 0, 0, 0];
    // SAFETY: nothing has used GS until now.
    check(unsafe { call(Hypercall::SetSegmentBase as u64, args) }).map(drop)
}
