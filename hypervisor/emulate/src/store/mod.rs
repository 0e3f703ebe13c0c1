//! A guest's plain store to a page-table entry, taken apart so that it can be validated.
//!
//! The guest kernel maps its page tables read-only, so a store to one faults. With the
//! `writable_pagetables` assist the hypervisor carries it out as an update:
//!
//! 1. [`PteStore::decode`] the instruction. [`PteStore::address`] must be the address that
//!    faulted, or the bytes are not the ones that did (another vCPU may have changed them).
//! 2. Read the entry at [`PteStore::entry_address`], and [`PteStore::plan`] the new value from it.
//! 3. Have it validated and compare-exchanged. If the entry has changed meanwhile (the CPU sets
//!    accessed and dirty bits), plan again from what is there now.
//! 4. [`Effects::commit`] the registers, flags and rip. After this the instruction has happened.
//!
//! Nothing is changed before step 4, so any number of tries and a refusal at any point leave the
//! guest as it was at the fault.
//!
//! What is understood: one memory operand of 1, 2, 4 or 8 bytes, aligned, so within one entry;
//! mov, movnti, xchg, cmpxchg, xadd, add, or, adc, sbb, and, sub, xor, inc, dec, not, neg, bts, btr,
//! btc, stos; with or without lock. Anything else is [`StoreError::Unsupported`].

mod fast;
mod general;
mod operation;

use crate::decode::SegmentBases;
use crate::registers::{Gpr, Part, Width};
use core::fmt;
pub use operation::{Effects, Planned};
use pinfold_abi::vcpu::CpuUserRegs;

/// Why an instruction is not carried out; its fault goes to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The bytes are no instruction, or end within one.
    Undecodable,
    /// An instruction that is not one of the supported forms.
    Unsupported,
    /// The operand is not aligned to its width.
    Unaligned {
        /// Its address.
        address: u64,
        /// Its bytes.
        width: u8,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Undecodable => f.write_str("the bytes are no instruction"),
            StoreError::Unsupported => f.write_str("the instruction is not one that is emulated"),
            StoreError::Unaligned { address, width } => {
                write!(f, "{width} bytes at {address:#x} are not aligned")
            }
        }
    }
}

/// What is done to the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
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
    /// The bit's number within the operand is in the source.
    Bts,
    Btr,
    Btc,
    /// One step of `stos`; with `rep` rip stays until rcx is used up.
    Stos {
        repeat: bool,
    },
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    None,
    Part(Part),
    Immediate(u64),
}

impl Source {
    fn get(self, regs: &CpuUserRegs) -> u64 {
        match self {
            Source::None => 0,
            Source::Part(part) => part.get(regs),
            Source::Immediate(value) => value,
        }
    }
}

/// A decoded store within one page-table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PteStore {
    address: u64,
    operation: Operation,
    source: Source,
    width: Width,
    len: u8,
}

impl PteStore {
    /// Decodes the instruction at `regs.rip` from its bytes: at most 15 are looked at, fewer may be
    /// given when the next page can't be read.
    pub fn decode(
        bytes: &[u8],
        regs: &CpuUserRegs,
        bases: SegmentBases,
    ) -> Result<PteStore, StoreError> {
        match fast::decode(bytes, regs) {
            Some(store) => store.checked(),
            None => PteStore::decode_general(bytes, regs, bases),
        }
    }

    /// The same without the short cut for the commonest forms.
    pub fn decode_general(
        bytes: &[u8],
        regs: &CpuUserRegs,
        bases: SegmentBases,
    ) -> Result<PteStore, StoreError> {
        general::decode(bytes, regs, bases)?.checked()
    }

    fn checked(self) -> Result<PteStore, StoreError> {
        if self.address & (self.width.bytes() - 1) != 0 {
            return Err(StoreError::Unaligned { address: self.address, width: self.width as u8 });
        }
        Ok(self)
    }

    /// The linear address of the operand's first byte: what a fault on it reports.
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// The linear address of the entry that the operand is in.
    pub const fn entry_address(&self) -> u64 {
        self.address & !7
    }

    /// Bytes of the operand.
    pub const fn width(&self) -> Width {
        self.width
    }

    /// Bytes of the instruction.
    pub const fn instruction_len(&self) -> u8 {
        self.len
    }

    /// Bits of the entry below the operand.
    const fn shift(&self) -> u32 {
        (self.address as u32 & 7) * 8
    }
}

/// The accumulator in the operand's width.
const fn accumulator(width: Width) -> Part {
    Part::low(Gpr::RAX, width)
}
