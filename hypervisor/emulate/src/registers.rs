//! General registers by number and by part, in the register file of the ABI.

use core::mem::offset_of;
use pinfold_abi::vcpu::CpuUserRegs;
use x86_64::registers::rflags::RFlags;

/// The six flags that arithmetic sets.
pub const STATUS_FLAGS: RFlags = RFlags::CARRY_FLAG
    .union(RFlags::PARITY_FLAG)
    .union(RFlags::AUXILIARY_CARRY_FLAG)
    .union(RFlags::ZERO_FLAG)
    .union(RFlags::SIGN_FLAG)
    .union(RFlags::OVERFLOW_FLAG);

/// A general register, by its number in instructions: 0 is rax, 4 is rsp, 15 is r15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gpr(u8);

impl Gpr {
    /// rax
    pub const RAX: Gpr = Gpr(0);
    /// rcx
    pub const RCX: Gpr = Gpr(1);
    /// rdx
    pub const RDX: Gpr = Gpr(2);
    /// rbx
    pub const RBX: Gpr = Gpr(3);
    /// rsp
    pub const RSP: Gpr = Gpr(4);
    /// rsi
    pub const RSI: Gpr = Gpr(6);
    /// rdi
    pub const RDI: Gpr = Gpr(7);

    /// The register with a number; only the low four bits count.
    pub const fn new(number: u8) -> Gpr {
        Gpr(number & 15)
    }

    /// The number, 0 to 15.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The register's value.
    pub fn get(self, regs: &CpuUserRegs) -> u64 {
        let words: &Words = zerocopy::transmute_ref!(regs);
        words[WORD_INDEX[usize::from(self.0 & 15)]]
    }

    /// Sets the register's value.
    pub fn set(self, regs: &mut CpuUserRegs, value: u64) {
        let words: &mut Words = zerocopy::transmute_mut!(regs);
        words[WORD_INDEX[usize::from(self.0 & 15)]] = value;
    }
}

/// The register file as words. Indexing it is cheaper than sixteen branches, and it is done several
/// times for each emulated store.
type Words = [u64; size_of::<CpuUserRegs>() / 8];

/// Index in the register file of the register with each number.
const WORD_INDEX: [usize; 16] = [
    offset_of!(CpuUserRegs, rax) / 8,
    offset_of!(CpuUserRegs, rcx) / 8,
    offset_of!(CpuUserRegs, rdx) / 8,
    offset_of!(CpuUserRegs, rbx) / 8,
    offset_of!(CpuUserRegs, rsp) / 8,
    offset_of!(CpuUserRegs, rbp) / 8,
    offset_of!(CpuUserRegs, rsi) / 8,
    offset_of!(CpuUserRegs, rdi) / 8,
    offset_of!(CpuUserRegs, r8) / 8,
    offset_of!(CpuUserRegs, r9) / 8,
    offset_of!(CpuUserRegs, r10) / 8,
    offset_of!(CpuUserRegs, r11) / 8,
    offset_of!(CpuUserRegs, r12) / 8,
    offset_of!(CpuUserRegs, r13) / 8,
    offset_of!(CpuUserRegs, r14) / 8,
    offset_of!(CpuUserRegs, r15) / 8,
];

/// The width of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Width {
    /// 1 byte
    B1 = 1,
    /// 2 bytes
    B2 = 2,
    /// 4 bytes
    B4 = 4,
    /// 8 bytes
    B8 = 8,
}

impl Width {
    /// The width of `bytes` bytes, if there is one.
    pub const fn from_bytes(bytes: usize) -> Option<Width> {
        match bytes {
            1 => Some(Width::B1),
            2 => Some(Width::B2),
            4 => Some(Width::B4),
            8 => Some(Width::B8),
            _ => None,
        }
    }

    /// Number of bytes.
    pub const fn bytes(self) -> u64 {
        self as u64
    }

    /// Number of bits.
    pub const fn bits(self) -> u32 {
        self as u32 * 8
    }

    /// A value with all bits of the width set.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// A value with the highest bit of the width set.
    pub const fn sign(self) -> u64 {
        1 << (self.bits() - 1)
    }
}

/// A register operand: a general register or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegisterOperand {
    /// The register.
    pub gpr: Gpr,
    /// The width of the part.
    pub width: Width,
    /// The part is the second-lowest byte (ah, ch, dh, bh), not the lowest.
    pub high: bool,
}

impl RegisterOperand {
    /// The low `width` of a register.
    pub const fn low(gpr: Gpr, width: Width) -> RegisterOperand {
        RegisterOperand { gpr, width, high: false }
    }

    /// The value, zero-extended.
    pub fn get(self, regs: &CpuUserRegs) -> u64 {
        let value = self.gpr.get(regs);
        if self.high { value >> 8 & 0xff } else { value & self.width.mask() }
    }

    /// Sets the value as the CPU does: a write of 4 bytes clears the upper half of the register, one of
    /// 1 or 2 bytes keeps the rest.
    pub fn set(self, regs: &mut CpuUserRegs, value: u64) {
        let value = value & self.width.mask();
        let whole = self.gpr.get(regs);
        let merged = match (self.width, self.high) {
            (Width::B8 | Width::B4, _) => value,
            (_, true) => whole & !0xff00 | (value & 0xff) << 8,
            (width, false) => whole & !width.mask() | value,
        };
        self.gpr.set(regs, merged);
    }
}

/// Advances rip past a completed instruction and clears RF, as the CPU does.
pub(crate) fn advance_rip(regs: &mut CpuUserRegs, len: u8) {
    regs.rip = regs.rip.wrapping_add(len.into());
    regs.rflags &= !RFlags::RESUME_FLAG.bits();
}
