//! General registers by number and by part, over the ABI's register file.

use core::mem::offset_of;
use pinfold_abi::vcpu::CpuUserRegs;

/// RFLAGS: carry.
pub const CF: u64 = 1 << 0;
/// RFLAGS: parity of the low byte.
pub const PF: u64 = 1 << 2;
/// RFLAGS: carry out of bit 3.
pub const AF: u64 = 1 << 4;
/// RFLAGS: zero.
pub const ZF: u64 = 1 << 6;
/// RFLAGS: sign.
pub const SF: u64 = 1 << 7;
/// RFLAGS: single step.
pub const TF: u64 = 1 << 8;
/// RFLAGS: strings go down.
pub const DF: u64 = 1 << 10;
/// RFLAGS: overflow.
pub const OF: u64 = 1 << 11;
/// RFLAGS: the next instruction breakpoint is passed over. The CPU sets it in the image that a
/// fault saves, and clears it when an instruction completes.
pub const RF: u64 = 1 << 16;
/// The six that arithmetic sets.
pub const STATUS_FLAGS: u64 = CF | PF | AF | ZF | SF | OF;

/// A general register, by the number that instructions give it: 0 is rax, 4 is rsp, 15 is r15.
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

    /// The register of a number's low four bits.
    pub const fn new(number: u8) -> Gpr {
        Gpr(number & 15)
    }

    /// Its number, 0 to 15.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its value.
    pub fn get(self, regs: &CpuUserRegs) -> u64 {
        let words: &Words = zerocopy::transmute_ref!(regs);
        words[PLACES[usize::from(self.0 & 15)]]
    }

    /// Changes its value.
    pub fn set(self, regs: &mut CpuUserRegs, value: u64) {
        let words: &mut Words = zerocopy::transmute_mut!(regs);
        words[PLACES[usize::from(self.0 & 15)]] = value;
    }
}

/// The register file seen as words: a table look-up is cheaper than sixteen branches, and this is
/// done several times for every trapped store.
type Words = [u64; size_of::<CpuUserRegs>() / 8];

/// Where in the register file the registers are, by number.
const PLACES: [usize; 16] = [
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

/// How much of a register or of memory an instruction works on.
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
    /// Of a number of bytes.
    pub const fn from_bytes(bytes: usize) -> Option<Width> {
        match bytes {
            1 => Some(Width::B1),
            2 => Some(Width::B2),
            4 => Some(Width::B4),
            8 => Some(Width::B8),
            _ => None,
        }
    }

    /// Its bytes.
    pub const fn bytes(self) -> u64 {
        self as u64
    }

    /// Its bits.
    pub const fn bits(self) -> u32 {
        self as u32 * 8
    }

    /// All its bits set.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// Its highest bit set.
    pub const fn sign(self) -> u64 {
        1 << (self.bits() - 1)
    }
}

/// A register, or the part of one, that an instruction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Which register.
    pub gpr: Gpr,
    /// How much of it.
    pub width: Width,
    /// The second-lowest byte (ah, ch, dh, bh) and not the lowest.
    pub high: bool,
}

impl Part {
    /// The low part of a register.
    pub const fn low(gpr: Gpr, width: Width) -> Part {
        Part { gpr, width, high: false }
    }

    /// Its value, zero-extended.
    pub fn get(self, regs: &CpuUserRegs) -> u64 {
        let value = self.gpr.get(regs);
        if self.high { value >> 8 & 0xff } else { value & self.width.mask() }
    }

    /// Changes it as the CPU does: four bytes clear the upper half, one and two leave the rest.
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

/// Moves past an instruction that has been carried out.
pub(crate) fn complete(regs: &mut CpuUserRegs, len: u8) {
    regs.rip = regs.rip.wrapping_add(len.into());
    regs.rflags &= !RF;
}
