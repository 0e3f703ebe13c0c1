//! Hypercall numbers and the multicall entry (`public/xen.h`).
//!
//! A guest kernel executes `syscall` with the number in `rax` and up to five arguments in
//! `rdi rsi rdx r10 r8`; the result comes back in `rax`. `rcx` and `r11` are lost to `syscall`.

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A hypercall's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of public/xen.h")]
pub enum Hypercall {
    SetTrapTable = 0,
    MmuUpdate = 1,
    SetGdt = 2,
    StackSwitch = 3,
    SetCallbacks = 4,
    FpuTaskswitch = 5,
    PlatformOp = 7,
    SetDebugreg = 8,
    GetDebugreg = 9,
    UpdateDescriptor = 10,
    MemoryOp = 12,
    Multicall = 13,
    UpdateVaMapping = 14,
    SetTimerOp = 15,
    XenVersion = 17,
    ConsoleIo = 18,
    GrantTableOp = 20,
    VmAssist = 21,
    UpdateVaMappingOtherdomain = 22,
    Iret = 23,
    VcpuOp = 24,
    SetSegmentBase = 25,
    MmuextOp = 26,
    NmiOp = 28,
    SchedOp = 29,
    CallbackOp = 30,
    EventChannelOp = 32,
    PhysdevOp = 33,
    PinfoldOp = 55,
}

impl Hypercall {
    /// Slots in the hypercall table and in the hypercall page's numbering.
    pub const SLOTS: u64 = 64;

    /// The name that `public/xen.h` gives it, in small letters.
    pub const fn name(self) -> &'static str {
        use Hypercall::*;
        match self {
            SetTrapTable => "set_trap_table",
            MmuUpdate => "mmu_update",
            SetGdt => "set_gdt",
            StackSwitch => "stack_switch",
            SetCallbacks => "set_callbacks",
            FpuTaskswitch => "fpu_taskswitch",
            PlatformOp => "platform_op",
            SetDebugreg => "set_debugreg",
            GetDebugreg => "get_debugreg",
            UpdateDescriptor => "update_descriptor",
            MemoryOp => "memory_op",
            Multicall => "multicall",
            UpdateVaMapping => "update_va_mapping",
            SetTimerOp => "set_timer_op",
            XenVersion => "xen_version",
            ConsoleIo => "console_io",
            GrantTableOp => "grant_table_op",
            VmAssist => "vm_assist",
            UpdateVaMappingOtherdomain => "update_va_mapping_otherdomain",
            Iret => "iret",
            VcpuOp => "vcpu_op",
            SetSegmentBase => "set_segment_base",
            MmuextOp => "mmuext_op",
            NmiOp => "nmi_op",
            SchedOp => "sched_op",
            CallbackOp => "callback_op",
            EventChannelOp => "event_channel_op",
            PhysdevOp => "physdev_op",
            PinfoldOp => "pinfold_op",
        }
    }

    /// The call of a number from `rax`, if this crate names it.
    pub const fn from_number(number: u64) -> Option<Hypercall> {
        use Hypercall::*;
        Some(match number {
            0 => SetTrapTable,
            1 => MmuUpdate,
            2 => SetGdt,
            3 => StackSwitch,
            4 => SetCallbacks,
            5 => FpuTaskswitch,
            7 => PlatformOp,
            8 => SetDebugreg,
            9 => GetDebugreg,
            10 => UpdateDescriptor,
            12 => MemoryOp,
            13 => Multicall,
            14 => UpdateVaMapping,
            15 => SetTimerOp,
            17 => XenVersion,
            18 => ConsoleIo,
            20 => GrantTableOp,
            21 => VmAssist,
            22 => UpdateVaMappingOtherdomain,
            23 => Iret,
            24 => VcpuOp,
            25 => SetSegmentBase,
            26 => MmuextOp,
            28 => NmiOp,
            29 => SchedOp,
            30 => CallbackOp,
            32 => EventChannelOp,
            33 => PhysdevOp,
            55 => PinfoldOp,
            _ => return None,
        })
    }
}

/// One call of a multicall list.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MulticallEntry {
    /// Hypercall number.
    pub op: u64,
    /// Out: the call's result.
    pub result: i64,
    /// Arguments; the sixth is never used.
    pub args: [u64; 6],
}
assert_layout!(MulticallEntry, size 64, op @ 0, result @ 8, args @ 16);

/// Bytes from one stub of the hypercall page to the next.
pub const PAGE_STUB_SIZE: usize = 32;

/// The bytes of a hypercall page: 64 stubs `push rcx; push r11; mov eax,n; syscall; pop r11;
/// pop rcx; ret`, the one of `iret` without a way back, `int3` between them.
pub fn fill_hypercall_page(page: &mut [u8; 4096]) {
    page.fill(0xcc);
    for (n, stub) in (0..64u8).zip(page.chunks_exact_mut(PAGE_STUB_SIZE)) {
        let call = [0x51, 0x41, 0x53, 0xb8, n, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3];
        let iret = [0x51, 0x41, 0x53, 0x50, 0xb8, n, 0, 0, 0, 0x0f, 0x05];
        if u32::from(n) == Hypercall::Iret as u32 {
            stub[..iret.len()].copy_from_slice(&iret);
        } else {
            stub[..call.len()].copy_from_slice(&call);
        }
    }
}
