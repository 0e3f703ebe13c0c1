//! Traps, callbacks and the frames they push (`public/xen.h`, `public/callback.h`,
//! `public/arch-x86/xen-x86_64.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One entry of `set_trap_table`; the list ends at address 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TrapInfo {
    /// Exception or `int` vector.
    pub vector: u8,
    /// Bits 0-1: lowest privilege that may use `int`; bit 2: events are masked on entry.
    pub flags: u8,
    /// Code selector; not used on 64 bit.
    pub cs: u16,
    /// Zero.
    pub pad: u32,
    /// Handler; 0 ends the list.
    pub address: u64,
}
assert_layout!(TrapInfo, size 16, vector @ 0, flags @ 1, cs @ 2, address @ 8);

/// [`TrapInfo::flags`]: privilege bits.
pub const TI_DPL: u8 = 3;
/// [`TrapInfo::flags`]: mask events on entry.
pub const TI_MASK_EVENTS: u8 = 4;

/// Callback type: events.
pub const CALLBACKTYPE_EVENT: u16 = 0;
/// Callback type: a selector could not be loaded.
pub const CALLBACKTYPE_FAILSAFE: u16 = 1;
/// Callback type: `syscall` in 64-bit user mode.
pub const CALLBACKTYPE_SYSCALL: u16 = 2;
/// Callback type: NMI.
pub const CALLBACKTYPE_NMI: u16 = 4;
/// Callback type: `sysenter` in user mode.
pub const CALLBACKTYPE_SYSENTER: u16 = 5;
/// Callback type: `syscall` in 32-bit user mode.
pub const CALLBACKTYPE_SYSCALL32: u16 = 7;

/// `callback_op`: set a callback ([`CallbackRegister`]).
pub const CALLBACKOP_REGISTER: u64 = 0;
/// `callback_op`: forget a callback ([`CallbackUnregister`]).
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
    /// Handler.
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

/// The words on the guest stack at `iret`, lowest address first.
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

/// [`IretFrame::flags`]: return as `sysret` would.
pub const VGCF_IN_SYSCALL: u64 = 1 << 8;

/// `set_segment_base`: FS.
pub const SEGBASE_FS: u64 = 0;
/// `set_segment_base`: the user's GS, parked while the guest kernel runs.
pub const SEGBASE_GS_USER: u64 = 1;
/// `set_segment_base`: the guest kernel's GS.
pub const SEGBASE_GS_KERNEL: u64 = 2;
/// `set_segment_base`: load the user's `gs` selector.
pub const SEGBASE_GS_USER_SEL: u64 = 3;
