//! Every supported form, by the full decoder.

use super::operation::COUNTER;
use super::{Operation, PteStore, Source, StoreError, accumulator};
use crate::decode::{
    SegmentBases, has_narrow_address, immediate, instruction, memory_operand, memory_width, part,
};
use crate::registers::Width;
use iced_x86::{Instruction, Mnemonic, OpKind};
use pinfold_abi::vcpu::CpuUserRegs;

pub(super) fn decode(
    bytes: &[u8],
    regs: &CpuUserRegs,
    bases: SegmentBases,
) -> Result<PteStore, StoreError> {
    let instruction = instruction(bytes, regs.rip).ok_or(StoreError::Undecodable)?;
    let operation = operation(&instruction).ok_or(StoreError::Unsupported)?;
    let width = memory_width(&instruction).ok_or(StoreError::Unsupported)?;
    let len = instruction.len() as u8;
    if let Operation::Stos { repeat } = operation {
        return string(&instruction, repeat, width, regs, bases);
    }
    if instruction.op0_kind() != OpKind::Memory {
        return Err(StoreError::Unsupported);
    }
    let source = source(&instruction).ok_or(StoreError::Unsupported)?;
    let mut address =
        memory_operand(&instruction, 0, regs, bases).ok_or(StoreError::Unsupported)?;
    if let (Operation::Bts | Operation::Btr | Operation::Btc, Source::Part(part)) =
        (operation, source)
    {
        // A bit number in a register is signed and reaches beyond the operand: it moves it.
        if has_narrow_address(&instruction) {
            return Err(StoreError::Unsupported);
        }
        address = address.wrapping_add(bit_string_offset(part.get(regs), width));
    }
    Ok(PteStore { address, operation, source, width, len })
}

/// Bytes from the operand to the word of it that holds a bit (Intel SDM vol. 2, "BT").
pub(super) const fn bit_string_offset(bit: u64, width: Width) -> u64 {
    let signed = match width {
        Width::B2 => bit as i16 as i64,
        Width::B4 => bit as i32 as i64,
        _ => bit as i64,
    };
    let bits = width.bits() as i64;
    (signed.div_euclid(bits) as u64).wrapping_mul(width.bytes())
}

fn operation(instruction: &Instruction) -> Option<Operation> {
    Some(match instruction.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movnti => Operation::Mov,
        Mnemonic::Xchg => Operation::Xchg,
        Mnemonic::Cmpxchg => Operation::Cmpxchg,
        Mnemonic::Xadd => Operation::Xadd,
        Mnemonic::Add => Operation::Add,
        Mnemonic::Or => Operation::Or,
        Mnemonic::Adc => Operation::Adc,
        Mnemonic::Sbb => Operation::Sbb,
        Mnemonic::And => Operation::And,
        Mnemonic::Sub => Operation::Sub,
        Mnemonic::Xor => Operation::Xor,
        Mnemonic::Inc => Operation::Inc,
        Mnemonic::Dec => Operation::Dec,
        Mnemonic::Not => Operation::Not,
        Mnemonic::Neg => Operation::Neg,
        Mnemonic::Bts => Operation::Bts,
        Mnemonic::Btr => Operation::Btr,
        Mnemonic::Btc => Operation::Btc,
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => Operation::Stos {
            repeat: instruction.has_rep_prefix() || instruction.has_repne_prefix(),
        },
        _ => return None,
    })
}

/// The second operand; a segment or control register (`mov [mem], ds`) is not one of ours.
fn source(instruction: &Instruction) -> Option<Source> {
    match instruction.op_count() {
        1 => Some(Source::None),
        2 => match instruction.op1_kind() {
            OpKind::Register => part(instruction.op1_register()).map(Source::Part),
            _ => immediate(instruction, 1).map(Source::Immediate),
        },
        _ => None,
    }
}

fn string(
    instruction: &Instruction,
    repeat: bool,
    width: Width,
    regs: &CpuUserRegs,
    bases: SegmentBases,
) -> Result<PteStore, StoreError> {
    // With 32-bit addresses edi and ecx count; nobody writes that in 64-bit code.
    if instruction.op0_kind() != OpKind::MemoryESRDI {
        return Err(StoreError::Unsupported);
    }
    // Zero steps store nothing, so they can't have faulted.
    if repeat && COUNTER.get(regs) == 0 {
        return Err(StoreError::Unsupported);
    }
    let address = memory_operand(instruction, 0, regs, bases).ok_or(StoreError::Unsupported)?;
    Ok(PteStore {
        address,
        operation: Operation::Stos { repeat },
        source: Source::Part(accumulator(width)),
        width,
        len: instruction.len() as u8,
    })
}
