//! `vcpu_op` and vCPU state (`public/vcpu.h`, `public/arch-x86/xen.h`,
//! `public/arch-x86/xen-x86_64.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// General-purpose registers (`struct cpu_user_regs`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are registers")]
pub struct CpuUserRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub error_code: u32,
    pub vector: u32,
    pub rip: u64,
    pub cs: u16,
    pub pad0: u16,
    pub saved_upcall_mask: u8,
    pub pad1: [u8; 3],
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u16,
    pub pad2: [u16; 3],
    pub es: u16,
    pub pad3: [u16; 3],
    pub ds: u16,
    pub pad4: [u16; 3],
    pub fs: u16,
    pub pad5: [u16; 3],
    pub gs: u16,
    pub pad6: [u16; 3],
}
assert_layout!(CpuUserRegs, size 200, rax @ 0x50, error_code @ 0x78, vector @ 0x7c, rip @ 0x80, cs @ 0x88,
    saved_upcall_mask @ 0x8c, rflags @ 0x90, rsp @ 0x98, ss @ 0xa0, es @ 0xa8, ds @ 0xb0,
    fs @ 0xb8, gs @ 0xc0);

/// `vcpu_op`: sets the initial state of a vCPU: [`VcpuGuestContext`].
pub const VCPUOP_INITIALISE: u64 = 0;
/// `vcpu_op`: brings a vCPU online.
pub const VCPUOP_UP: u64 = 1;
/// `vcpu_op`: takes a vCPU offline.
pub const VCPUOP_DOWN: u64 = 2;
/// `vcpu_op`: returns 1 if the vCPU is online, else 0.
pub const VCPUOP_IS_UP: u64 = 3;
/// `vcpu_op`: returns [`RunstateInfo`].
pub const VCPUOP_GET_RUNSTATE_INFO: u64 = 4;
/// `vcpu_op`: keeps a copy of [`RunstateInfo`] up to date at a guest address: [`RegisterArea`].
pub const VCPUOP_REGISTER_RUNSTATE_AREA: u64 = 5;
/// `vcpu_op`: starts the periodic timer: [`PeriodicTimer`].
pub const VCPUOP_SET_PERIODIC_TIMER: u64 = 6;
/// `vcpu_op`: stops the periodic timer. No argument.
pub const VCPUOP_STOP_PERIODIC_TIMER: u64 = 7;
/// `vcpu_op`: starts the one-shot timer: [`SingleshotTimer`].
pub const VCPUOP_SET_SINGLESHOT_TIMER: u64 = 8;
/// `vcpu_op`: stops the one-shot timer. No argument.
pub const VCPUOP_STOP_SINGLESHOT_TIMER: u64 = 9;
/// `vcpu_op`: moves the vCPU's `VcpuInfo` to a guest page: [`RegisterVcpuInfo`].
pub const VCPUOP_REGISTER_VCPU_INFO: u64 = 10;
/// `vcpu_op`: sends a non-maskable interrupt.
pub const VCPUOP_SEND_NMI: u64 = 11;
/// `vcpu_op`: returns the physical CPU of a pinned vCPU.
pub const VCPUOP_GET_PHYSID: u64 = 12;
/// `vcpu_op`: keeps a copy of the vCPU's clock up to date at a guest address: [`RegisterArea`].
pub const VCPUOP_REGISTER_TIME_AREA: u64 = 13;

/// [`RunstateInfo::state`]: runs on a CPU.
pub const RUNSTATE_RUNNING: u32 = 0;
/// [`RunstateInfo::state`]: waits for a CPU.
pub const RUNSTATE_RUNNABLE: u32 = 1;
/// [`RunstateInfo::state`]: waits for an event.
pub const RUNSTATE_BLOCKED: u32 = 2;
/// [`RunstateInfo::state`]: offline, or not runnable for another reason.
pub const RUNSTATE_OFFLINE: u32 = 3;
/// Set in [`RunstateInfo::state_entry_time`] while a copy is updated, if the guest enabled
/// [`VMASST_TYPE_RUNSTATE_UPDATE_FLAG`](crate::mmu::VMASST_TYPE_RUNSTATE_UPDATE_FLAG).
pub const RUNSTATE_UPDATE: u64 = 1 << 63;

/// State of a vCPU and the time that it spent in each state.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RunstateInfo {
    /// `RUNSTATE_*`.
    pub state: u32,
    /// Zero.
    pub pad: u32,
    /// System time at which the vCPU entered the state, in ns.
    pub state_entry_time: u64,
    /// Time spent in each state, in ns, indexed by `RUNSTATE_*`.
    pub time: [u64; 4],
}
assert_layout!(RunstateInfo, size 48, state_entry_time @ 8, time @ 16);

/// Argument of [`VCPUOP_REGISTER_RUNSTATE_AREA`] and [`VCPUOP_REGISTER_TIME_AREA`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RegisterArea {
    /// Guest virtual address of the copy.
    pub address: u64,
}
assert_layout!(RegisterArea, size 8);

/// Argument of [`VCPUOP_SET_PERIODIC_TIMER`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PeriodicTimer {
    /// Period in ns.
    pub period_ns: u64,
}
assert_layout!(PeriodicTimer, size 8);

/// Argument of [`VCPUOP_SET_SINGLESHOT_TIMER`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SingleshotTimer {
    /// System time at which the timer expires, in ns.
    pub timeout_abs_ns: u64,
    /// [`SINGLESHOT_FUTURE`].
    pub flags: u32,
    /// Zero.
    pub pad: u32,
}
assert_layout!(SingleshotTimer, size 16, flags @ 8);

/// [`SingleshotTimer::flags`]: -ETIME if the time has passed. Without it, such a timer expires at
/// once.
pub const SINGLESHOT_FUTURE: u32 = 1;

/// Argument of [`VCPUOP_REGISTER_VCPU_INFO`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RegisterVcpuInfo {
    /// Machine frame.
    pub mfn: u64,
    /// Offset in the frame in bytes. The structure must not cross the end of the frame.
    pub offset: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(RegisterVcpuInfo, size 16, offset @ 8);

/// Argument of [`VCPUOP_INITIALISE`]: initial state of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuGuestContext {
    /// FXSAVE area. Used with [`VGCF_I387_VALID`].
    pub fpu: [u8; 512],
    /// `VGCF_*`.
    pub flags: u64,
    /// General-purpose registers.
    pub user_regs: CpuUserRegs,
    /// Trap handlers by vector. Address 0: no handler.
    pub trap_ctxt: [crate::trap::TrapInfo; 256],
    /// Linear address of the LDT.
    pub ldt_base: u64,
    /// Number of LDT entries.
    pub ldt_ents: u64,
    /// Machine frames of the GDT.
    pub gdt_frames: [u64; 16],
    /// Number of GDT entries.
    pub gdt_ents: u64,
    /// Stack selector for entries from user mode.
    pub kernel_ss: u64,
    /// Stack pointer for entries from user mode.
    pub kernel_sp: u64,
    /// By index: 0: CR0, 1: CR3 of user mode, 3: CR3 of kernel mode, 4: CR4. Others are not used.
    pub ctrlreg: [u64; 8],
    /// Debug registers DR0 to DR7.
    pub debugreg: [u64; 8],
    /// Address of the event callback.
    pub event_callback_eip: u64,
    /// Address of the failsafe callback.
    pub failsafe_callback_eip: u64,
    /// Address of the `syscall` callback.
    pub syscall_callback_eip: u64,
    /// Enabled `vm_assist` types, one bit per `VMASST_TYPE_*`.
    pub vm_assist: u64,
    /// FS base.
    pub fs_base: u64,
    /// GS base of kernel mode.
    pub gs_base_kernel: u64,
    /// GS base of user mode.
    pub gs_base_user: u64,
}
assert_layout!(VcpuGuestContext, size 0x1430, flags @ 0x200, user_regs @ 0x208, trap_ctxt @ 0x2d0,
    ldt_base @ 0x12d0, ldt_ents @ 0x12d8, gdt_frames @ 0x12e0, gdt_ents @ 0x1360, kernel_ss @ 0x1368,
    kernel_sp @ 0x1370, ctrlreg @ 0x1378, debugreg @ 0x13b8, event_callback_eip @ 0x13f8,
    failsafe_callback_eip @ 0x1400, syscall_callback_eip @ 0x1408, vm_assist @ 0x1410,
    fs_base @ 0x1418, gs_base_kernel @ 0x1420, gs_base_user @ 0x1428);

/// [`VcpuGuestContext::flags`]: [`VcpuGuestContext::fpu`] is valid.
pub const VGCF_I387_VALID: u64 = 1 << 0;
/// [`VcpuGuestContext::flags`]: the vCPU starts in kernel mode.
pub const VGCF_IN_KERNEL: u64 = 1 << 2;
/// [`VcpuGuestContext::flags`]: the failsafe callback masks events.
pub const VGCF_FAILSAFE_DISABLES_EVENTS: u64 = 1 << 3;
/// [`VcpuGuestContext::flags`]: the `syscall` callback masks events.
pub const VGCF_SYSCALL_DISABLES_EVENTS: u64 = 1 << 4;
/// [`VcpuGuestContext::flags`]: the vCPU is online at once.
pub const VGCF_ONLINE: u64 = 1 << 5;
