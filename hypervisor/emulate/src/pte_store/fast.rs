//! The decoder of the most frequent encodings.
//!
//! The general decoder costs about 600 instructions, a third of what Xen spends on the whole fault.
//! Nearly all stores of a kernel to its page tables are in one of a handful of encodings, which this
//! module decodes in a tenth of that:
//!
//! ```text
//! [lock] [REX] opcode ModRM [SIB] [displacement] [immediate]
//! ```
//!
//! | opcode | instruction | | opcode | instruction |
//! |---|---|---|---|---|
//! | 89 | mov m, r | | 0F B1 | cmpxchg m, r |
//! | C6 /0, C7 /0 | mov m, imm | | 0F C1 | xadd m, r |
//! | 87 | xchg m, r | | 0F BA /5 /6 /7 | bts, btr, btc m, imm8 |
//! | 01 09 11 19 21 29 31 | add ... xor m, r | | 0F AB, B3, BB | bts, btr, btc m, r |
//! | 80, 81, 83 | add ... xor m, imm | | | |
//!
//! Operands have 4 or 8 bytes (1 for C6 and 80). Any other prefix, opcode or mode is left to the
//! general decoder, as are fewer than 15 bytes. A property test compares the two: whatever is
//! accepted here, the general decoder decodes to the same.

use super::decoded::{Operation, PteStore, Source, bit_string_offset};
use crate::decode::MAX_INSTRUCTION;
use crate::registers::{Gpr, RegisterOperand, Width};
use pinfold_abi::vcpu::CpuUserRegs;

const LOCK: u8 = 0xf0;
/// REX bits: 64-bit operand, and bit 3 of reg, index and base.
const REX_W: u8 = 8;
const REX_R: u8 = 4;
const REX_X: u8 = 2;
const REX_B: u8 = 1;

/// The kind of the second operand.
enum SourceKind {
    Register,
    /// One byte, sign-extended.
    Immediate8,
    /// Four bytes, sign-extended.
    Immediate32,
}

pub(super) fn decode(bytes: &[u8], regs: &CpuUserRegs) -> Option<PteStore> {
    let bytes: &[u8; MAX_INSTRUCTION] = bytes.first_chunk()?;
    let mut at = 0;
    let lock = bytes[0] == LOCK;
    at += usize::from(lock);
    let rex = if bytes[at] & 0xf0 == 0x40 { bytes[at] } else { 0 };
    at += usize::from(rex != 0);
    let two_bytes = bytes[at] == 0x0f;
    at += usize::from(two_bytes);
    let (opcode, modrm) = (bytes[at], bytes[at + 1]);
    at += 2;
    let reg = modrm >> 3 & 7;
    let mut width = if rex & REX_W != 0 { Width::B8 } else { Width::B4 };
    let (operation, source_kind) = if two_bytes {
        match opcode {
            0xb1 => (Operation::Cmpxchg, SourceKind::Register),
            0xc1 => (Operation::Xadd, SourceKind::Register),
            0xab => (Operation::Bts, SourceKind::Register),
            0xb3 => (Operation::Btr, SourceKind::Register),
            0xbb => (Operation::Btc, SourceKind::Register),
            0xba => match reg {
                5 => (Operation::Bts, SourceKind::Immediate8),
                6 => (Operation::Btr, SourceKind::Immediate8),
                7 => (Operation::Btc, SourceKind::Immediate8),
                _ => return None,
            },
            _ => return None,
        }
    } else {
        match opcode {
            0x89 if !lock => (Operation::Mov, SourceKind::Register),
            0x87 => (Operation::Xchg, SourceKind::Register),
            0x01 | 0x09 | 0x11 | 0x19 | 0x21 | 0x29 | 0x31 => {
                (arithmetic(opcode >> 3)?, SourceKind::Register)
            }
            0x81 => (arithmetic(reg)?, SourceKind::Immediate32),
            0x83 => (arithmetic(reg)?, SourceKind::Immediate8),
            0x80 => {
                width = Width::B1;
                (arithmetic(reg)?, SourceKind::Immediate8)
            }
            0xc7 if reg == 0 && !lock => (Operation::Mov, SourceKind::Immediate32),
            0xc6 if reg == 0 && !lock => {
                width = Width::B1;
                (Operation::Mov, SourceKind::Immediate8)
            }
            _ => return None,
        }
    };

    let (mode, rm) = (modrm >> 6, modrm & 7);
    let register = |number: u8, rex_bit: u8| {
        Gpr::new(number | if rex & rex_bit != 0 { 8 } else { 0 }).get(regs)
    };
    let mut address = 0u64;
    let mut displacement = mode;
    let mut rip_relative = false;
    match (mode, rm) {
        // A register operand: no store.
        (3, _) => return None,
        (_, 4) => {
            let sib = bytes[at];
            at += 1;
            // Index 4 means none; with REX.X it is r12.
            if sib >> 3 & 7 != 4 || rex & REX_X != 0 {
                address = register(sib >> 3 & 7, REX_X) << (sib >> 6);
            }
            if mode == 0 && sib & 7 == 5 {
                displacement = 2;
            } else {
                address = address.wrapping_add(register(sib & 7, REX_B));
            }
        }
        (0, 5) => {
            displacement = 2;
            rip_relative = true;
        }
        _ => address = register(rm, REX_B),
    }
    match displacement {
        1 => {
            address = address.wrapping_add(bytes[at] as i8 as u64);
            at += 1;
        }
        2 => {
            address = address.wrapping_add(sign_extended(bytes, at));
            at += 4;
        }
        _ => {}
    }
    let source = match source_kind {
        SourceKind::Register => Source::Register(RegisterOperand::low(
            Gpr::new(reg | if rex & REX_R != 0 { 8 } else { 0 }),
            width,
        )),
        SourceKind::Immediate8 => {
            at += 1;
            Source::Immediate(bytes[at - 1] as i8 as u64)
        }
        SourceKind::Immediate32 => {
            at += 4;
            Source::Immediate(sign_extended(bytes, at - 4))
        }
    };
    if rip_relative {
        address = address.wrapping_add(regs.rip).wrapping_add(at as u64);
    }
    if let (Operation::Bts | Operation::Btr | Operation::Btc, Source::Register(register)) =
        (operation, source)
    {
        address = address.wrapping_add(bit_string_offset(register.get(regs), width));
    }
    Some(PteStore { address, operation, source, width, len: at as u8 })
}

/// The operation by its number in opcodes (bits 3 to 5) and ModRM (reg). 7 is `cmp`, which stores
/// nothing.
const fn arithmetic(number: u8) -> Option<Operation> {
    Some(match number {
        0 => Operation::Add,
        1 => Operation::Or,
        2 => Operation::Adc,
        3 => Operation::Sbb,
        4 => Operation::And,
        5 => Operation::Sub,
        6 => Operation::Xor,
        _ => return None,
    })
}

/// Four bytes from `at` on, sign-extended. No supported encoding reaches the end of the array;
/// missing bytes would count as zero.
fn sign_extended(bytes: &[u8; MAX_INSTRUCTION], at: usize) -> u64 {
    let four = bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or_default();
    i32::from_le_bytes(four) as u64
}
