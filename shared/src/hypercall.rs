//! Hypercall numbers and the multicall entry (`public/xen.h`).
//!
//! A guest kernel executes `syscall` with the number in `rax` and up to five arguments in
//! `rdi`, `rsi`, `rdx`, `r10` and `r8`. The result is in `rax`. `syscall` overwrites `rcx`
//! and `r11`.

use crate::assert_layout;
use strum::IntoStaticStr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A hypercall number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[repr(u8)]
#[strum(serialize_all = "snake_case")]
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
    HvmOp = 34,
    PinfoldOp = 55,
}

impl Hypercall {
    /// Number of stubs in the hypercall page. All hypercall numbers are below it.
    pub const SLOTS: u64 = 64;

    /// The name in `public/xen.h` without `__HYPERVISOR_`, such as `mmu_update`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The hypercall with this number (`rax`), or `None` if it is not listed here.
    ///
    /// Written by hand: it is on the path of every hypercall, and a derived conversion from `u8`
    /// would check the range of the `u64` twice.
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
            34 => HvmOp,
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
    /// Out: the result of the hypercall.
    pub result: i64,
    /// Arguments. No hypercall uses the sixth.
    pub args: [u64; 6],
}
assert_layout!(MulticallEntry, size 64, op @ 0, result @ 8, args @ 16);

/// Size of a stub of the hypercall page, in bytes.
pub const PAGE_STUB_SIZE: usize = 32;

/// The instruction that makes a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallInstruction {
    /// `syscall`, for kernels in ring 3.
    Syscall,
    /// `vmmcall`, for kernels in the hardware container.
    Vmmcall,
}

impl CallInstruction {
    /// Bytes of the instruction.
    pub const fn bytes(self) -> u64 {
        match self {
            CallInstruction::Syscall => 2,
            CallInstruction::Vmmcall => 3,
        }
    }
}

/// Writes the hypercall page: 64 stubs, filled up with `int3`.
///
/// A stub is `push rcx; push r11; mov eax,n; syscall; pop r11; pop rcx; ret`. The stub of `iret` also
/// pushes `rax`, as [`IretFrame`] demands, and does not return. With `vmmcall`, which changes no register
/// but `rax`, a stub is `mov eax,n; vmmcall; ret`.
///
/// [`IretFrame`]: crate::trap::IretFrame
pub fn fill_hypercall_page(page: &mut [u8; 4096], instruction: CallInstruction) {
    page.fill(0xcc);
    for (n, stub) in (0..64u8).zip(page.chunks_exact_mut(PAGE_STUB_SIZE)) {
        let call = [0x51, 0x41, 0x53, 0xb8, n, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3];
        let iret = [0x51, 0x41, 0x53, 0x50, 0xb8, n, 0, 0, 0, 0x0f, 0x05];
        let vmmcall = [0xb8, n, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3];
        let code = match instruction {
            CallInstruction::Vmmcall => &vmmcall[..],
            CallInstruction::Syscall if u32::from(n) == Hypercall::Iret as u32 => &iret,
            CallInstruction::Syscall => &call,
        };
        stub[..code.len()].copy_from_slice(code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_those_of_the_header() {
        let known = (0..=u64::from(u8::MAX)).filter_map(|number| {
            Hypercall::from_number(number).inspect(|&call| assert_eq!(call as u64, number))
        });
        assert_eq!(known.count(), 30);
        assert_eq!(Hypercall::FpuTaskswitch.name(), "fpu_taskswitch");
        assert_eq!(Hypercall::UpdateVaMappingOtherdomain.name(), "update_va_mapping_otherdomain");
    }
}
