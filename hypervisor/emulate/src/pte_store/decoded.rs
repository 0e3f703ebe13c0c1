//! A decoded store: its operation and operands.

use crate::registers::{Gpr, RegisterOperand, Width};
use core::fmt;
use pinfold_abi::vcpu::CpuUserRegs;

/// Why an instruction is not emulated. Its fault goes to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The bytes are no valid instruction, or end within one.
    Undecodable,
    /// The instruction is not one of the supported ones.
    Unsupported,
    /// The memory operand is not aligned to its width.
    Unaligned {
        /// Linear address of the operand.
        address: u64,
        /// Width of the operand in bytes.
        width: u8,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Undecodable => f.write_str("invalid or incomplete instruction"),
            StoreError::Unsupported => f.write_str("instruction is not emulated"),
            StoreError::Unaligned { address, width } => {
                write!(f, "operand of {width} bytes at {address:#x} is not aligned")
            }
        }
    }
}

/// The operation on the memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Mov,
    Xchg,
    Cmpxchg,
    Xadd,
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Inc,
    Dec,
    Not,
    Neg,
    /// The source is the number of the bit within the operand; as for `Btr` and `Btc`.
    Bts,
    Btr,
    Btc,
    /// One element of `stos`. With `repeat`, rip advances only after the last one.
    Stos {
        repeat: bool,
    },
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    None,
    Register(RegisterOperand),
    Immediate(u64),
}

impl Source {
    pub(super) fn get(self, regs: &CpuUserRegs) -> u64 {
        match self {
            Source::None => 0,
            Source::Register(register) => register.get(regs),
            Source::Immediate(value) => value,
        }
    }
}

/// A decoded store within one page-table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PteStore {
    pub(super) address: u64,
    pub(super) operation: Operation,
    pub(super) source: Source,
    pub(super) width: Width,
    pub(super) len: u8,
}

impl PteStore {
    pub(super) fn check_alignment(self) -> Result<PteStore, StoreError> {
        if self.address & (self.width.bytes() - 1) != 0 {
            return Err(StoreError::Unaligned { address: self.address, width: self.width as u8 });
        }
        Ok(self)
    }

    /// The linear address of the memory operand, which a page fault reports.
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// The linear address of the entry that the operand is in.
    pub const fn entry_address(&self) -> u64 {
        self.address & !7
    }

    /// The width of the memory operand.
    pub const fn width(&self) -> Width {
        self.width
    }

    /// Length of the instruction in bytes.
    pub const fn instruction_len(&self) -> u8 {
        self.len
    }

    /// Number of bits of the entry below the operand.
    pub(super) const fn shift(&self) -> u32 {
        (self.address as u32 & 7) * 8
    }
}

/// Bytes from the address of a bit string to the word of it that holds a bit: the bit number is
/// signed and may lie outside of the first word (Intel SDM vol. 2, "BT").
pub(super) const fn bit_string_offset(bit: u64, width: Width) -> u64 {
    let signed = match width {
        Width::B2 => bit as i16 as i64,
        Width::B4 => bit as i32 as i64,
        _ => bit as i64,
    };
    let bits = width.bits() as i64;
    (signed.div_euclid(bits) as u64).wrapping_mul(width.bytes())
}

/// al, ax, eax or rax.
pub(super) const fn accumulator(width: Width) -> RegisterOperand {
    RegisterOperand::low(Gpr::RAX, width)
}
