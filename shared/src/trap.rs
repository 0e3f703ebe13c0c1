//! Trap handlers, callbacks, the `iret` frame and segment bases (`public/xen.h`,
//! `public/callback.h`, `public/arch-x86/xen.h`, `public/arch-x86/xen-x86_64.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entry of the list of `set_trap_table`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TrapInfo {
    /// Vector of the exception or `int` instruction.
    pub vector: u8,
    /// [`TI_DPL`]: highest ring number that may use `int`. [`TI_MASK_EVENTS`].
    pub flags: u8,
    /// Code selector. Not used for 64-bit guests.
    pub cs: u16,
    /// Zero.
    pub pad: u32,
    /// Address of the handler. 0 ends the list.
    pub address: u64,
}
assert_layout!(TrapInfo, size 16, vector @ 0, flags @ 1, cs @ 2, address @ 8);

/// [`TrapInfo::flags`]: mask of the descriptor privilege level.
pub const TI_DPL: u8 = 3;
/// [`TrapInfo::flags`]: events are masked on entry.
pub const TI_MASK_EVENTS: u8 = 4;

/// Callback type: an event is pending.
pub const CALLBACKTYPE_EVENT: u16 = 0;
/// Callback type: a segment selector of the guest could not be loaded.
pub const CALLBACKTYPE_FAILSAFE: u16 = 1;
/// Callback type: `syscall` in 64-bit user mode.
pub const CALLBACKTYPE_SYSCALL: u16 = 2;
/// Callback type: NMI.
pub const CALLBACKTYPE_NMI: u16 = 4;
/// Callback type: `sysenter` in user mode.
pub const CALLBACKTYPE_SYSENTER: u16 = 5;
/// Callback type: `syscall` in 32-bit user mode.
pub const CALLBACKTYPE_SYSCALL32: u16 = 7;

/// `callback_op`: registers a callback: [`CallbackRegister`].
pub const CALLBACKOP_REGISTER: u64 = 0;
/// `callback_op`: removes a callback: [`CallbackUnregister`].
pub const CALLBACKOP_UNREGISTER: u64 = 1;
/// [`CallbackRegister::flags`]: events are masked on entry.
pub const CALLBACKF_MASK_EVENTS: u16 = 1;

/// Argument of [`CALLBACKOP_REGISTER`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CallbackRegister {
    /// `CALLBACKTYPE_*`.
    pub kind: u16,
    /// [`CALLBACKF_MASK_EVENTS`].
    pub flags: u16,
    /// Zero.
    pub pad: u32,
    /// Address of the handler.
    pub address: u64,
}
assert_layout!(CallbackRegister, size 16, flags @ 2, address @ 8);

/// Argument of [`CALLBACKOP_UNREGISTER`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CallbackUnregister {
    /// `CALLBACKTYPE_*`.
    pub kind: u16,
    /// Zero.
    pub pad: u16,
}
assert_layout!(CallbackUnregister, size 4);

/// Frame on the guest stack for the hypercall `iret`, lowest address first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are registers")]
pub struct IretFrame {
    pub rax: u64,
    pub r11: u64,
    pub rcx: u64,
    /// `VGCF_*`.
    pub flags: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}
assert_layout!(IretFrame, size 72, flags @ 0x18, rip @ 0x20, ss @ 0x40);

/// [`IretFrame::flags`]: return by `sysret`, which leaves RIP in `rcx` and RFLAGS in `r11`.
pub const VGCF_IN_SYSCALL: u64 = 1 << 8;

/// `set_segment_base`: FS base.
pub const SEGBASE_FS: u64 = 0;
/// `set_segment_base`: GS base of user mode, inactive while the guest kernel runs.
pub const SEGBASE_GS_USER: u64 = 1;
/// `set_segment_base`: GS base of the guest kernel.
pub const SEGBASE_GS_KERNEL: u64 = 2;
/// `set_segment_base`: GS selector of user mode.
pub const SEGBASE_GS_USER_SEL: u64 = 3;
